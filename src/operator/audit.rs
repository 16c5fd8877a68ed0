//! Who changed what, and when: a line for every change, and for whatever somebody in a conversation had answered, in a
//! file that only grows and holds no words of a message.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::Path,
};

use rustix::{fs::OFlags, process::geteuid};
use sealbridge_contract::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Action, Actor, Failure, FailureKind};

/// The file's name in the state folder.
const FILE: &str = "audit.jsonl";

#[derive(Serialize)]
struct Line<'a, T> {
    at: Timestamp,
    by: &'a Actor,
    #[serde(flatten)]
    action: T,
    outcome: Outcome,
    /// What it found out to be done with, such as the identity of whoever was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'a Value>,
}

/// How far an action is. Of one that was cut short by the end of the process the last line says that it began.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Begun(&'static str),
    /// It came to its end, or why it did not.
    Ended(Option<FailureKind>),
}

const BEGUN: Outcome = Outcome::Begun("begun");

impl Outcome {
    fn of(failure: Option<&Failure>) -> Self {
        Self::Ended(failure.map(|failure| failure.kind))
    }
}

/// An action of the closed list. What it is done with stands apart, since some of that has a place and a person, too.
#[derive(Serialize)]
struct Done {
    action: &'static str,
    with: Map<String, Value>,
}

impl Done {
    fn of(action: &Action, hides: bool) -> Self {
        let with = match serde_json::to_value(action) {
            Ok(Value::Object(mut with)) if !hides => {
                with.remove("action");
                with
            }
            _ => Map::new(),
        };
        Self { action: action.name(), with }
    }
}

/// What somebody said in a conversation and that came to no action.
#[derive(Serialize)]
#[serde(tag = "action", rename = "command")]
struct Refused<'a> {
    /// The first of their words, if it is one that is understood.
    word: Option<&'static str>,
    why: &'a str,
}

/// A command that does its work beside the service, or before there is one.
#[derive(Serialize)]
struct Command {
    action: &'static str,
}

/// Writes that a change begins: what can't be written down is not done.
///
/// # Errors
/// [`FailureKind::Temporary`], with what to do about it.
pub(super) fn begin(state: &Path, at: Timestamp, by: &Actor, action: &Action) -> Result<(), Failure> {
    // What was typed in a conversation may be anything, until it is done.
    let is_typed = matches!(by, Actor::Person { .. });
    put(state, &Line { at, by, action: Done::of(action, is_typed), outcome: BEGUN, found: None })
        .map_err(|error| failed(state, &error))
}

/// The same of a command that does its work beside the service.
///
/// # Errors
/// As [`begin`].
pub(super) fn begin_command(state: &Path, at: Timestamp, by: &Actor, action: &'static str) -> Result<(), Failure> {
    put(state, &Line { at, by, action: Command { action }, outcome: BEGUN, found: None })
        .map_err(|error| failed(state, &error))
}

fn failed(state: &Path, error: &io::Error) -> Failure {
    let file = state.join(FILE);
    let words = format!("{} can't be written, and no change is made that is not in it: {error}", file.display());
    Failure::new(FailureKind::Temporary, words)
}

/// Writes the line of one action, whether it was done, with what it found out, or not.
pub(super) fn write(state: &Path, at: Timestamp, by: &Actor, action: &Action, done: Result<Option<&Value>, &Failure>) {
    let (found, failure) = (done.ok().flatten(), done.err());
    // What was typed in a conversation and could not be done may be anything.
    let is_typed = failure.is_some() && matches!(by, Actor::Person { .. });
    let line = Line { at, by, action: Done::of(action, is_typed), outcome: Outcome::of(failure), found };
    tracing::info!(target: "sealbridge::audit", by = %by, action = action.name(), done = failure.is_none(), "Action.");
    log_failed(put(state, &line));
}

/// Writes that an action ended before it had come to an end: whoever asked for it went away. How far it came is not known.
pub(super) fn write_left(state: &Path, at: Timestamp, by: &Actor, action: &Action) {
    let left = Failure::new(FailureKind::Other, "whoever asked went away");
    write(state, at, by, action, Err(&left));
}

/// Writes the line of a command that does its work beside the service.
///
/// # Errors
/// The file can't be written. What was done is done all the same.
pub(super) fn write_command(
    state: &Path,
    at: Timestamp,
    by: &Actor,
    action: &'static str,
    failure: Option<&Failure>,
) -> io::Result<()> {
    put(state, &Line { at, by, action: Command { action }, outcome: Outcome::of(failure), found: None })
}

/// Writes that something was refused which somebody said in a conversation.
pub(super) fn write_refused(state: &Path, at: Timestamp, by: &Actor, word: Option<&'static str>, why: &str) {
    let line = Line {
        at,
        by,
        action: Refused { word, why },
        outcome: Outcome::Ended(Some(FailureKind::Refused)),
        found: None,
    };
    tracing::info!(target: "sealbridge::audit", by = %by, word, why, "Refused.");
    log_failed(put(state, &line));
}

fn log_failed(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::error!(%error, "The audit line can't be written.");
    }
}

/// Whether there is one.
pub(super) fn is_begun(state: &Path) -> bool {
    state.join(FILE).symlink_metadata().is_ok()
}

fn put<T: Serialize>(state: &Path, line: &Line<'_, T>) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line).expect("an action is texts and numbers");
    bytes.push(b'\n');
    // One write, so that lines of two tasks don't mix.
    open(state)?.write_all(&bytes)
}

fn open(state: &Path) -> io::Result<File> {
    let path = state.join(FILE);
    // The folder may be another user's than ours: whatever they laid there in its place is not written to.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600).custom_flags(flags);
    let file = match options.clone().create_new(true).open(&path) {
        Ok(file) => {
            // The service must be able to go on in what we began.
            let folder = state.metadata()?;
            if file.metadata()?.uid() != folder.uid() {
                fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
            }
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(&path)?,
        Err(error) => return Err(error),
    };
    let (meta, folder) = (file.metadata()?, state.metadata()?);
    let is_theirs = || meta.uid() == folder.uid() && meta.nlink() == 1;
    if !meta.is_file() || folder.uid() != geteuid().as_raw() && !is_theirs() {
        return Err(io::Error::other("what stands in its place is no file of the service's"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{AccountName, Address, ConversationId, PersonId, RemoteId};

    use super::*;

    #[test]
    fn line_says_when_and_who_even_of_what_has_a_place_and_a_person_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let account = AccountName::parse("a").expect("it is a name");
        let at = Address { account, conversation: ConversationId::new("!room") };
        let by = Actor::Person { person: PersonId::new("@ann"), at: at.clone() };
        let message = RemoteId::new("$alert");
        let action = Action::Silence { at, message, for_ms: 1_000, by: PersonId::new("@eve") };
        write(folder.path(), Timestamp(42), &by, &action, Ok(None));
        let text = std::fs::read_to_string(folder.path().join(FILE)).expect("it is written");
        assert_eq!(text.matches("\"by\":{\"person\"").count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!((&line["at"], &line["by"]["person"]["person"]), (&42.into(), &"@ann".into()), "{text}");
        assert_eq!((&line["action"], &line["with"]["by"]), (&"silence".into(), &"@eve".into()), "{text}");
    }

    #[test]
    fn what_stands_in_its_place_is_neither_written_to_nor_given_away() {
        let (state, others) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let secret = others.path().join("secret");
        let by = Actor::Local { uid: 0 };
        let written = || write_command(state.path(), Timestamp(42), &by, "rotate_key", None);
        let place = state.path().join(FILE);
        std::fs::write(&secret, "mine\n").expect("it is written");
        std::os::unix::fs::symlink(&secret, &place).expect("it is made");
        assert!(written().is_err());
        assert_eq!(std::fs::read_to_string(&secret).expect("it is there"), "mine\n");
        std::fs::remove_file(&place).expect("it is taken away");
        std::fs::create_dir(&place).expect("it is made");
        assert!(written().is_err());
        std::fs::remove_dir(&place).expect("it is taken away");
        assert!(written().is_ok() && written().is_ok());
        assert_eq!(std::fs::read_to_string(&place).expect("it is there").lines().count(), 2);
    }
}
