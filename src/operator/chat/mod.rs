//! Commands that people say in a conversation: `!seal help` and the like.
//!
//! What was said is in the journal already, taken in with the batch that brought it. Each is answered once, where it was
//! said, as an encrypted notice in reply to it, and notices are never obeyed, so that no two bridges talk to each other.
//! A change is written down as begun before it is made: should the process die in between, it is not made again, and
//! whoever asked is told to look.

mod comparing;
mod manners;
mod permit;
mod words;

#[cfg(test)]
mod fuzz;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use sealbridge_contract::{Address, Cleartext, Message, PersonId, Target, gate::Encryption};
use tokio_util::sync::CancellationToken;

use self::{
    comparing::Comparisons,
    manners::{Manners, hour},
    permit::{Asker, Place, may, may_ask},
    words::{Ask, Scene, WORDS, Word},
};
use super::{Action, Actor, Failure, Host, Progress, actions, admin, audit, perform, plain};
use crate::{
    flow::commands::is_stale,
    store::{Command, Doubt, JournalError, Said},
};

/// As many are taken up at once.
const AT_ONCE: usize = 16;
/// How long to wait where the journal has no room.
const PAUSE: Duration = Duration::from_secs(1);
/// How often, and how far apart, it is looked for what is known of a conversation.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(100);
/// A longer answer is cut, in bytes.
const LONGEST: usize = 4000;
/// What is said to what somebody began and nobody knows the end of.
const RESTARTED: &str =
    "The bridge was restarted while it did this, so it is not known how far that came. Look at `!seal status`.";

/// Answers what people say to the bridge.
pub struct Chat {
    host: Arc<dyn Host>,
    manners: Manners,
    comparisons: Comparisons,
}

/// What is said to a command.
#[derive(Debug, Default)]
struct Reply {
    words: String,
    /// It is said once for this topic.
    once: Option<String>,
    /// What was looked at for it, and nothing changed; and why it could not be.
    looked: Option<(Action, Option<Failure>)>,
}

impl Reply {
    fn plain(words: impl Into<String>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chat")
    }
}

impl Chat {
    /// Of this service.
    #[must_use]
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { host, manners: Manners::default(), comparisons: Comparisons::default() }
    }

    /// Answers until `stop`.
    ///
    /// # Errors
    /// [`JournalError`]: the journal failed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), JournalError> {
        let journal = self.host.journal();
        while !stop.is_cancelled() {
            self.answer_all(&stop).await?;
            tokio::select! {
                () = journal.commanded() => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Answers everything that waits.
    ///
    /// # Errors
    /// [`JournalError`]: the journal failed.
    pub async fn answer_all(&mut self, stop: &CancellationToken) -> Result<(), JournalError> {
        loop {
            let waiting = self.host.journal().commands(AT_ONCE).await?;
            if waiting.is_empty() {
                return Ok(());
            }
            for command in waiting {
                if stop.is_cancelled() {
                    return Ok(());
                }
                self.answer(command, stop).await?;
            }
        }
    }

    async fn answer(&mut self, command: Command, stop: &CancellationToken) -> Result<(), JournalError> {
        let reply = match self.reply(&command).await {
            // Nothing was begun.
            Err(JournalError::Full) => {
                tokio::time::sleep(PAUSE).await;
                return Ok(());
            }
            reply => reply?,
        };
        let now = self.host.clock().now();
        let is_admin = self.asker(&command.at, &command.said).is_admin;
        let speaks = !reply.words.is_empty() && self.manners.may_answer(&command.at, is_admin, now);
        loop {
            let answer = speaks.then(|| notice(&command, &reply.words, now));
            match self.host.journal().finish(command.number, answer, reply.once.as_deref()).await {
                Ok(true) => {
                    self.manners.answered(&command.at, is_admin, now);
                    if let Some((looked, failure)) = reply.looked.filter(|_| speaks) {
                        self.write(&actor(&command), &looked, failure.as_ref());
                    }
                    return Ok(());
                }
                // What is done with was answered, and what is said once an hour costs nothing the next time.
                Ok(false) | Err(JournalError::NoSuch(_)) => return Ok(()),
                // What was done stays done, and is not done again because its answer has no room yet.
                Err(JournalError::Full) if !stop.is_cancelled() => tokio::time::sleep(PAUSE).await,
                Err(JournalError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// What is said to a command, once what it asks for is done or refused.
    async fn reply(&mut self, command: &Command) -> Result<Reply, JournalError> {
        let Command { at, said, since, begun, .. } = command;
        if *begun {
            self.refused(command, None, "restarted");
            return Ok(Reply::plain(RESTARTED));
        }
        let stale = is_stale(*since, self.host.clock().now()).then_some(Doubt::Late);
        if let Some(doubt) = said.doubt.or(stale) {
            self.refused(command, None, &format!("{doubt:?}"));
            return Ok(self.once(said, &format!("{doubt:?}"), format!("That was not done: {doubt}.")));
        }
        let place = self.place(at, &said.by).await?;
        let asker = self.asker(at, said);
        let operator = &self.host.config().operator;
        if let Err(why) = may_ask(asker, &place, operator.level) {
            self.refused(command, words::find(said.words.as_str()).ok(), &format!("{why:?}"));
            return Ok(self.once(said, &format!("{why:?}"), why.to_string()));
        }
        let word = match words::find(said.words.as_str()) {
            Ok(word) => word,
            Err(words) => return Ok(Reply::plain(words)),
        };
        if let Err(why) = may(asker, &place, word) {
            self.refused(command, Some(word), &format!("{why:?}"));
            return Ok(self.once(said, &format!("{why:?} {}", word.name), why.to_string()));
        }
        let (by, reply_to, is_admin) = (&said.by, said.reply_to.as_ref(), asker.is_admin);
        let scene = Scene { at, by, reply_to, place: &place, is_admin };
        match word.read(&scene, said.words.as_str()) {
            Err(words) => Ok(Reply::plain(format!("{words} {} {}.", word.usage(), word.does))),
            Ok(Ask::Help) => Ok(Reply::plain(self.help(asker, &place, command))),
            Ok(Ask::Compare(action)) => self.compare(command, action).await,
            Ok(Ask::Judge(verdict)) => Ok(match self.comparisons.judge(at, &said.by, &verdict) {
                Ok(()) => Reply::default(),
                Err(words) => Reply::plain(words),
            }),
            Ok(Ask::Instead(action, words)) => {
                let failure = Failure::refused("not in a conversation");
                self.write(&actor(command), &action, Some(&failure));
                Ok(Reply::plain(words))
            }
            Ok(Ask::Do(asked)) => {
                let looked = asked.first().filter(|_| !asked.iter().any(Action::is_change)).cloned();
                let (words, failure) = self.perform(command, &place, asked).await?;
                Ok(Reply { words, looked: looked.map(|looked| (looked, failure)), ..Reply::default() })
            }
        }
    }

    /// Begins a comparison with somebody else, whose steps are said in this chat.
    async fn compare(&mut self, command: &Command, action: Action) -> Result<Reply, JournalError> {
        let Command { at, said, number, .. } = command;
        if !self.host.config().operator.knows(&at.account, &said.by, said.identity.as_deref()) {
            let failure = Failure::refused("the admin is known by their id alone");
            self.write(&actor(command), &action, Some(&failure));
            return Ok(Reply::plain(
                "You are known here by your id alone, so your homeserver could show you emoji of its own. Write your key into \
                 the config (`!seal help` shows it), or run `sealbridge verify` on the bridge's host.",
            ));
        }
        self.host.journal().begin(*number).await?;
        let host = Arc::clone(&self.host);
        Ok(match self.comparisons.begin(host, at, &said.by, action) {
            Ok(()) => Reply::plain("What comes of it is said here."),
            Err(words) => Reply::plain(words),
        })
    }

    async fn perform(
        &self,
        command: &Command,
        place: &Place,
        asked: Vec<Action>,
    ) -> Result<(String, Option<Failure>), JournalError> {
        if asked.iter().any(Action::is_change) {
            self.host.journal().begin(command.number).await?;
        }
        let (mut words, mut failed) = (String::new(), None);
        for action in asked {
            let is_before_others = action.is_change() && *place != Place::Direct;
            let mut performance = perform(Arc::clone(&self.host), actor(command), action);
            // What a step breaks at must not break at every start again.
            let step = AssertUnwindSafe(performance.next(None)).catch_unwind().await;
            match step.unwrap_or_else(|_| Err(Failure::other(actions::BROKE))) {
                // What follows may name other conversations.
                Ok(Progress::Done(outcome)) if is_before_others => {
                    words.extend([outcome.words.lines().next().unwrap_or_default(), "\n"]);
                }
                Ok(Progress::Done(outcome)) => words.push_str(&outcome.words),
                Ok(Progress::Step(_)) => {
                    words.push_str("That takes more than one step, which is not done in a chat.\n")
                }
                Err(failure) => {
                    words.push_str(&format!("That was not done: {failure}.\n"));
                    failed.get_or_insert(failure);
                }
            }
        }
        Ok((words, failed))
    }

    /// Where it was said, for whoever said it.
    async fn place(&self, at: &Address, by: &PersonId) -> Result<Place, JournalError> {
        let journal = self.host.journal();
        let links = journal.links().await?;
        let here = links.into_iter().filter(|link| link.ends.iter().any(|end| end.at == *at));
        let here: Vec<_> = here.map(|link| link.name).collect();
        if !here.is_empty() {
            return Ok(Place::Linked(here));
        }
        let is_admin_room = admin::room(&*journal).await?.as_ref() == Some(at);
        Ok(if is_admin_room || self.is_alone_with_us(at, by).await { Place::Direct } else { Place::Elsewhere })
    }

    /// Whether a conversation is encrypted and has one person beside us in it, who is the one who asks: whoever asked and
    /// went does not hear the answer, and whoever stayed would. What a batch says of a conversation is known
    /// a moment after it was committed.
    async fn is_alone_with_us(&self, at: &Address, by: &PersonId) -> bool {
        for _ in 0..LOOKS {
            let transport = actions::open_transport(&*self.host, &at.account);
            let infos = transport.map(|transport| transport.common().conversations()).unwrap_or_default();
            match infos.into_iter().find(|info| info.id == at.conversation) {
                Some(info) if info.encryption != Encryption::Unknown => {
                    let is_here = || async {
                        let transport = actions::open_transport(&*self.host, &at.account)?;
                        let roll = transport.common().roll(&at.conversation).await.ok()??;
                        Some(roll.0.iter().any(|person| person.id == *by))
                    };
                    let is_pair = info.encryption == Encryption::Pinned && info.members == 2;
                    return is_pair && is_here().await == Some(true);
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
        false
    }

    fn asker(&self, at: &Address, said: &Said) -> Asker {
        let is_admin = self.host.config().operator.obeys(&at.account, &said.by, said.identity.as_deref());
        let transport = actions::open_transport(&*self.host, &at.account);
        let level = transport.and_then(|transport| transport.common().standing(&at.conversation, &said.by));
        Asker { is_admin, level }
    }

    fn help(&self, asker: Asker, place: &Place, command: &Command) -> String {
        let allowed = WORDS.iter().filter(|word| may(asker, place, word).is_ok());
        let mut words: String = allowed.map(|word| format!("{} {}\n", word.usage(), word.does)).collect();
        let Command { at, said, .. } = command;
        let known_by_name = self.host.config().operator.named(&at.account, &said.by).find(|(_, who)| who.key.is_none());
        if let (Some((name, _)), Some(key), Place::Direct) = (known_by_name, &said.identity, place) {
            words.push_str(&format!(
                "You are known by your id alone, so your homeserver could speak for you. The key of your identity, as it is \
                 seen here, is {key}. If that is yours, write it into [operator.admins.{name}]: key = \"{key}\"\n"
            ));
        }
        words
    }

    /// Said to one person once an hour.
    fn once(&self, said: &Said, why: &str, words: String) -> Reply {
        let topic = format!("command {why} {} {}", said.by.as_str(), hour(self.host.clock().now()));
        Reply { words, once: Some(topic), looked: None }
    }

    /// Writes down that something was refused.
    fn refused(&mut self, command: &Command, word: Option<&Word>, why: &str) {
        let now = self.host.clock().now();
        if self.manners.may_write(&command.at, now) {
            let word = word.map(|word| word.name);
            audit::write_refused(&self.host.config().service.state, now, &actor(command), word, why);
        }
    }

    fn write(&self, actor: &Actor, action: &Action, failure: Option<&Failure>) {
        audit::write(
            &self.host.config().service.state,
            self.host.clock().now(),
            actor,
            action,
            failure.map_or(Ok(None), Err),
        );
    }
}

fn actor(command: &Command) -> Actor {
    Actor::Person { person: command.said.by.clone(), at: command.at.clone() }
}

/// The answer to a command.
fn notice(command: &Command, words: &str, now: sealbridge_contract::Timestamp) -> Cleartext {
    let shown = plain::lines(words.trim_end());
    let mut cut = shown.len().min(LONGEST);
    while !shown.is_char_boundary(cut) {
        cut -= 1;
    }
    let words = if cut < shown.len() { format!("{}\n…", &shown[..cut]) } else { shown.into_owned() };
    let reply_to = Some(Target::new(command.id.clone()));
    Cleartext::new(Message { reply_to, ..Message::notice(now, &words) })
}
