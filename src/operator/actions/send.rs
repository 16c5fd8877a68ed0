//! `sealbridge send`: the operator's own words into a conversation, and how they fared.

use std::{sync::Arc, time::Duration};

use sealbridge_contract::{
    Address, Answer, Field, Kind, Media, Message, RemoteId, SecretBytes, Step, Target, Text,
    message::{Edit, FileName, Form},
    spool::{SpoolError, SpoolWriter},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Outcome, Progress, links, open_transport, transport_of};
use crate::{
    config::Period,
    notices::{Desk, Following, NotTaken, Origin, Standing, desk::Named, markup, media},
    operator::{Failure, FailureKind, Host},
    store::{Link, LinkEnd, LinkName},
};

/// As many files in one go.
pub const MOST_FILES: usize = 20;
/// How soon it is tried again where it can't be said yet.
const AGAIN: Duration = Duration::from_millis(100);
/// What is asked for first: a [`Content`], as JSON.
const CONTENT: &str = "content";

/// What is to be said and how, without a word of it: that is asked for in a step, so that no list of what was done has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// Where.
    pub to: Address,
    /// In answer to which message of the conversation.
    pub reply_to: Option<RemoteId>,
    /// In the thread that begins with which message of the conversation.
    pub thread: Option<RemoteId>,
    /// In the place of which message that was said so earlier.
    pub edit: Option<RemoteId>,
    /// How long it is waited for, in milliseconds.
    pub within_ms: u64,
}

/// What is to be said.
#[derive(Serialize, Deserialize)]
pub struct Content {
    /// The words. Without any there are files.
    pub words: Option<String>,
    /// How they are written.
    pub markup: markup::Markup,
    /// Whether they are a machine's.
    pub notice: bool,
    /// What they are called by whoever says them, so that the same twice is said once.
    pub key: Option<String>,
    /// The files, whose content comes in pieces.
    pub files: Vec<NamedFile>,
}

/// A file that is to be sent.
#[derive(Serialize, Deserialize)]
pub struct NamedFile {
    /// Its name.
    pub name: String,
    /// How many bytes it has.
    pub size: u64,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content(redacted)")
    }
}

impl std::fmt::Debug for NamedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NamedFile(redacted)")
    }
}

/// Somebody says something.
pub(super) struct Saying {
    by: Speaker,
    stage: Stage,
}

/// Who says what where.
struct Speaker {
    host: Arc<dyn Host>,
    sending: Sending,
}

enum Stage {
    Start,
    Content,
    Files { content: Content, files: Vec<Media>, writer: Box<dyn SpoolWriter> },
    Finished,
}

impl Saying {
    pub(super) fn new(host: Arc<dyn Host>, sending: Sending) -> Self {
        Self { by: Speaker { host, sending }, stage: Stage::Start }
    }

    pub(super) async fn next(&mut self, answer: Option<Answer>) -> Result<Progress, Failure> {
        match (std::mem::replace(&mut self.stage, Stage::Finished), answer) {
            (Stage::Start, _) => {
                self.by.check().await?;
                self.stage = Stage::Content;
                let label = "The message".to_owned();
                Ok(Progress::Step(Step::Ask(Field { name: CONTENT, label, secret: true })))
            }
            (Stage::Content, Some(Answer::Text(json))) => {
                let content: Content = serde_json::from_str(json.as_str())
                    .map_err(|_| Failure::usage("what is to be said is not understood"))?;
                if content.files.len() > MOST_FILES {
                    return Err(Failure::usage(format!("{MOST_FILES} files at once, and no more")));
                }
                self.go_on(content, Vec::new()).await
            }
            (Stage::Files { content, files, writer }, Some(Answer::Piece(piece))) => {
                self.take(content, files, writer, piece).await
            }
            _ => Err(Failure::usage("another answer was expected")),
        }
    }

    async fn take(
        &mut self,
        content: Content,
        mut files: Vec<Media>,
        mut writer: Box<dyn SpoolWriter>,
        piece: SecretBytes,
    ) -> Result<Progress, Failure> {
        if !piece.expose().is_empty() {
            writer.write(piece.expose()).await.map_err(not_kept)?;
            let number = files.len();
            self.stage = Stage::Files { content, files, writer };
            return Ok(Progress::Step(Step::Piece(number)));
        }
        let spooled = writer.finish(None).await.map_err(not_kept)?;
        let name = FileName::new(&content.files[files.len()].name);
        files.push(media(name, None, spooled));
        self.go_on(content, files).await
    }

    async fn go_on(&mut self, content: Content, files: Vec<Media>) -> Result<Progress, Failure> {
        if let Some(next) = content.files.get(files.len()) {
            let spool = self.by.host.spool().ok_or_else(no_service)?;
            let writer = spool.create(next.size).await.map_err(not_kept)?;
            let number = files.len();
            self.stage = Stage::Files { content, files, writer };
            return Ok(Progress::Step(Step::Piece(number)));
        }
        self.by.say(content, files).await.map(Progress::Done)
    }
}

impl Speaker {
    /// Whether it can be said at all, before its words are asked for.
    async fn check(&self) -> Result<(), Failure> {
        let to = &self.sending.to;
        let account = self.host.config().accounts.get(&to.account);
        if account.is_none() {
            return transport_of(&*self.host, &to.account).map(drop);
        }
        if to.conversation.as_str().starts_with('#') {
            return Err(Failure::usage(format!(
                "{to} is an alias, which can lead elsewhere tomorrow: name the conversation by its id, which \
                 `sealbridge conversations list` shows"
            )));
        }
        links::must_not_be_the_admin_room(&*self.host, to).await
    }

    /// Nothing is made, kept or announced for a conversation in which nothing may be said.
    async fn must_be_there(&self, until: Instant) -> Result<(), Failure> {
        let to = &self.sending.to;
        // A service that has just started knows nothing of its conversations yet.
        let has_heard = || {
            open_transport(&*self.host, &to.account).is_some_and(|open| {
                let health = open.common().health();
                health.connected && health.last_heard.is_some()
            })
        };
        loop {
            let knows = has_heard();
            match links::must_be_encrypted(&*self.host, to) {
                Ok(()) => return Ok(()),
                Err(why) if why.kind == FailureKind::Refused && knows => return Err(why.while_doing("not sent")),
                Err(_) if Instant::now() + AGAIN < until => tokio::time::sleep(AGAIN).await,
                Err(why) if why.kind == FailureKind::Refused => {
                    let words = format!("not sent, and nothing was kept: {}", why.words);
                    return Err(Failure::new(FailureKind::Temporary, words));
                }
                Err(why) => return Err(why.while_doing("not sent, and nothing was kept")),
            }
        }
    }

    async fn say(&self, content: Content, files: Vec<Media>) -> Result<Outcome, Failure> {
        let desk = self.host.notices().ok_or_else(no_service)?;
        let origin = Origin::operator(&self.sending.to);
        let until = Instant::now() + Duration::from_millis(self.sending.within_ms);
        self.must_be_there(until).await?;
        self.link(&origin).await?;
        let Sending { to: _, reply_to, thread, edit, within_ms: _ } = &self.sending;
        let what = serde_json::to_vec(&(&content, reply_to, thread, edit)).expect("texts and numbers");
        let hashes: Vec<u8> = files.iter().flat_map(|file| file.content.sha256).collect();
        let what = zeroize::Zeroizing::new([what.as_slice(), &hashes].concat());
        let named = Named { name: content.key.as_deref(), what: &what, ..Named::default() };
        // A service that has just started knows nothing of its conversations yet.
        while let Err(why) = desk.may_be_taken(&origin) {
            match why {
                NotTaken::NotNow(_) if Instant::now() + AGAIN < until => tokio::time::sleep(AGAIN).await,
                why => return Err(not_taken(why)),
            }
        }
        let messages = self.messages(&desk, &origin, &content, files).await?;
        if messages.is_empty() {
            return Err(Failure::usage("there is nothing to say: neither words nor a file"));
        }
        let mut following = desk.take(&origin, messages, named, Vec::new()).await.map_err(not_taken)?;
        let standing =
            desk.follow(&mut following, until - Instant::now(), &CancellationToken::new()).await.map_err(not_taken)?;
        self.outcome(&following, &standing).await
    }

    /// The link by which the words go, made with the first of them, so that everything that holds of a link holds of it:
    /// newcomers are told of, it can be paused, and `audience` shows it.
    async fn link(&self, origin: &Origin) -> Result<(), Failure> {
        let (from, to) = (origin.address(), &self.sending.to);
        let known = self.host.journal().links().await?;
        if known.iter().any(|link| link.ends.iter().any(|end| end.at == *from)) {
            return Ok(());
        }
        let free = (1..).map(|number| format!("{}send {number}", crate::notices::LINKS));
        let free = free.into_iter().find(|name| known.iter().all(|link| link.name.as_str() != name));
        let name = LinkName::parse(&free.expect("there are more numbers than links")).map_err(Failure::other)?;
        let since = self.host.clock().now();
        let ends = [from, to].map(|at| LinkEnd { at: at.clone(), since });
        let link = Link { name, ends: ends.into(), paused: None, fixed: false, tripped: None };
        self.host.journal().put_link(link).await?;
        Ok(self.host.links_changed().await?)
    }

    async fn messages(
        &self,
        desk: &Desk,
        origin: &Origin,
        content: &Content,
        files: Vec<Media>,
    ) -> Result<Vec<(RemoteId, Message)>, Failure> {
        let now = desk.clock().now();
        let form = if content.notice { Form::Notice } else { Form::Text };
        let mut kinds = Vec::new();
        if let Some(words) = &content.words {
            let body = markup::body(words, content.markup);
            kinds.push(match (&self.sending.edit, form) {
                (Some(edited), form) => {
                    let of = Target::new(self.own(origin, edited).await?);
                    Kind::Edit(Box::new(Edit { of, form, body }))
                }
                (None, Form::Notice) => Kind::Notice(body),
                (None, _) => Kind::Text(body),
            });
        }
        kinds.extend(files.into_iter().map(|file| Kind::File(Box::new(file))));
        let target = |id: &RemoteId| Target::new(id.clone());
        let message = |kind| {
            let is_edit = matches!(kind, Kind::Edit(_));
            let message = Message::of(origin.author(), now, kind);
            let (reply_to, thread) = (self.sending.reply_to.as_ref(), self.sending.thread.as_ref());
            if is_edit {
                return message;
            }
            Message { reply_to: reply_to.map(target), thread: thread.map(target), ..message }
        };
        Ok(kinds.into_iter().map(|kind| (Desk::fresh_id(), message(kind))).collect())
    }

    /// What one of our own messages is called where it came from.
    async fn own(&self, origin: &Origin, edited: &RemoteId) -> Result<RemoteId, Failure> {
        let called = self.host.journal().called(&self.sending.to, edited, origin.address()).await?;
        called.ok_or_else(|| Failure::usage("that message was not said by `sealbridge send`, or it is too long ago"))
    }

    async fn outcome(&self, following: &Following, standing: &Standing) -> Result<Outcome, Failure> {
        let to = &self.sending.to;
        if let Some(why) = standing.refused.values().next() {
            return Err(Failure::refused(format!("it was not said: {why}; `sealbridge dead-letters list` shows it")));
        }
        if let Some(why) = standing.waits.values().next() {
            let within = Period(Duration::from_millis(self.sending.within_ms));
            return Err(Failure::new(
                FailureKind::Kept,
                format!(
                    "it is kept and goes on its way, but did not arrive within {within}: {why}. Don't send it again"
                ),
            ));
        }
        let event = standing.arrived.values().next().cloned().unwrap_or_default();
        let account = self.host.config().accounts.get(&to.account);
        let in_clear = account.is_some_and(|account| account.is_read_in_clear(&to.conversation));
        let unreached = self.unreached().await;
        let mut words = format!("{event}\n");
        if in_clear {
            words.push_str("Read in clear by a server that the operator runs.\n");
        }
        for (person, device, why) in &unreached {
            words.push_str(&format!("Not readable for {person} on {device}: {why}\n"));
        }
        let unreached: Vec<_> = unreached
            .into_iter()
            .map(|(person, device, why)| serde_json::json!({ "person": person, "device": device, "why": why }))
            .collect();
        let line = serde_json::json!({
            "to": to.to_string(),
            "event_id": event,
            "id": following.id(),
            "again": following.is_again(),
            "encrypted": !in_clear,
            "unreached": unreached,
        });
        Ok(Outcome::new(words, vec![line]))
    }

    /// Whose devices got no key, and why.
    async fn unreached(&self) -> Vec<(String, String, String)> {
        let to = &self.sending.to;
        let Ok(transport) = transport_of(&*self.host, &to.account) else { return Vec::new() };
        let Ok(Some(audience)) = transport.common().audience(&to.conversation).await else { return Vec::new() };
        let devices = audience.members.iter().flat_map(|member| {
            let withheld = member.devices.iter().filter_map(|device| Some((device, device.withheld.clone()?)));
            withheld.map(|(device, why)| (member.person.as_str().to_owned(), device.id.clone(), why))
        });
        devices.collect()
    }
}

fn no_service() -> Failure {
    Failure::new(FailureKind::Unreachable, "the service is not running: start it with `sealbridge run`")
}

fn not_kept(error: SpoolError) -> Failure {
    let kind = match error {
        SpoolError::Full => FailureKind::Temporary,
        SpoolError::TooLong { .. } => FailureKind::Refused,
        _ => FailureKind::Other,
    };
    Failure::new(kind, format!("the file can't be kept: {error}"))
}

fn not_taken(why: NotTaken) -> Failure {
    match why {
        NotTaken::NotNow(why) => Failure::new(FailureKind::Temporary, format!("not sent, and nothing was kept: {why}")),
        NotTaken::ByPolicy(why) => Failure::refused(format!("not sent: {why}")),
        why @ NotTaken::Conflict => Failure::refused(format!("not sent: {why}")),
    }
}

/// As the answer to the first step.
pub fn answer(content: &Content) -> Answer {
    Answer::Text(Text::new(serde_json::to_string(content).expect("texts and numbers")))
}
