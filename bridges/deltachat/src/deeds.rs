//! What is done to an earlier message: new words, a deletion, reactions.
//!
//! The engine sends each as a message that nobody sees. Some of these calls do not say which message that became, so it
//! is looked for among those with higher numbers than any that was there before; after a kill, too. Doing the same again
//! changes nothing for others, so a second one at worst costs a mail.

use std::collections::HashSet;

use sealbridge_child::CallError;
use sealbridge_contract::{
    DeliveryError, Fate, PersonId, Receipt, RemoteId, Slip, Target, Text,
    message::{Reaction, Tally},
};

use crate::{
    core::{Core, lock},
    engine::{
        Engine,
        types::{Loaded, Message, SELF},
    },
    ids,
    outgoing::{REFUSALS, asked, has_padlock, in_doubt, may_speak, not_written},
    queue::taken,
    records::{self, Done, Show, Shown},
};

/// What is to be done.
pub(crate) enum Deed {
    /// These are its words now.
    Edit(Text),
    TakeBack,
    /// A person elsewhere reacts with this and nothing else.
    React(PersonId, Vec<String>),
}

/// How many numbers are looked at at once for a message that nobody sees, and how often.
const STRETCH: u32 = 64;
const STRETCHES: u32 = 16;
/// Shows nothing, and makes words others than they were.
const WORD_JOINER: &str = "\u{2060}";

/// Does it, and waits until a mail server took it.
pub(crate) async fn attempt(core: &Core, about: u32, deed: Deed, slip: &Slip) -> Result<Receipt, DeliveryError> {
    let engine = core.engine()?;
    let chat = ids::chat(&slip.to, &core.me).ok_or_else(|| DeliveryError::give_up("this account has no such chat"))?;
    // It was refused once, and handed in as words.
    if records::sent(&core.store, slip.delivery).await.map_err(not_written)?.is_some() {
        return Err(other_form("it is said in words already"));
    }
    let before = records::done(&core.store, slip.delivery).await.map_err(not_written)?;
    if let Some(Done { message: Some(message), deed, .. }) = &before {
        has_padlock(core, &engine, slip, *message).await?;
        taken(core, &engine, slip, chat, *message).await?;
        return Ok(Receipt { id: RemoteId::new(deed.as_str()) });
    }
    let there = match engine.look(about).await.map_err(asked)? {
        Loaded::There(message) => Some(*message),
        Loaded::Gone => None,
        Loaded::Withheld => return Err(DeliveryError::retry("the engine can't give out what it is about just now")),
    };
    let after = before.as_ref().map_or_else(|| core.highest(), |done| done.after);
    let work = Work { core, engine: &engine, slip, chat, about, before, after };
    match deed {
        Deed::Edit(words) => work.edit(there, words).await,
        Deed::TakeBack => work.take_back(there).await,
        Deed::React(person, emoji) => work.react(there, &person, &emoji).await,
    }
}

struct Work<'a> {
    core: &'a Core,
    engine: &'a Engine,
    slip: &'a Slip,
    chat: u32,
    /// The earlier message.
    about: u32,
    /// An attempt before this one.
    before: Option<Done>,
    /// Every message that it can become has a higher number.
    after: u32,
}

fn other_form(cause: &str) -> DeliveryError {
    DeliveryError::other_form(cause)
}

impl Work<'_> {
    async fn edit(&self, there: Option<Message>, words: Text) -> Result<Receipt, DeliveryError> {
        let original = there.ok_or_else(|| other_form("the message is not there any more"))?;
        if original.from_id != SELF || original.is_info {
            return Err(other_form("nobody changes what others wrote"));
        }
        if original.text.is_empty() || original.has_html {
            return Err(other_form("Delta Chat changes neither a file without words nor very long words"));
        }
        let mut shown = records::shown(&self.core.store, self.about).await.map_err(not_written)?;
        let deed = match &self.before {
            Some(before) => before.deed.clone(),
            None => {
                shown.edits += 1;
                ids::edit(&self.engine.mail_id(self.about).await.map_err(asked)?, shown.edits)
            }
        };
        let earlier = match &self.before {
            Some(_) => self.unseen_edit(&words).await?,
            None => None,
        };
        if let (Some(message), Some(before)) = (earlier, &self.before) {
            return self.became(message, before.clone()).await;
        }
        let same = original.text == words;
        // It was said to the engine and never sent: without a change it would not be sent now either.
        let said_in_vain = same && self.before.is_some();
        let words = if said_in_vain { Text::joined(&[words.as_str(), WORD_JOINER]) } else { words };
        let done = self.intend(deed, None, Some(&shown)).await?;
        if same && !said_in_vain {
            return Ok(Receipt { id: RemoteId::new(done.deed) });
        }
        self.told(self.engine.edit(self.about, &words).await).await?;
        let edit = self.unseen_edit(&words).await?;
        let edit = edit.ok_or_else(|| DeliveryError::unknown("the engine has not sent it yet"))?;
        self.given_now(edit);
        self.became(edit, done).await
    }

    async fn take_back(&self, there: Option<Message>) -> Result<Receipt, DeliveryError> {
        let deed = match (&self.before, &self.slip.about) {
            (Some(before), _) => before.deed.clone(),
            (None, Some(about)) => ids::deletion(about.as_str()),
            (None, None) => return Err(DeliveryError::give_up("it does not say what it is about")),
        };
        // Nothing but a deletion has these words and no place in the chat.
        let is_it = |message: &Message| message.text.as_str() == "🚮";
        let mut from = self.after;
        let (done, now) = match (there, &self.before) {
            (Some(message), _) if message.from_id != SELF || message.is_info => {
                return Err(other_form("nobody deletes what others wrote"));
            }
            (Some(_), before) => {
                // A killed engine may have made one that it never mails. It is not taken for the one that is made now.
                if before.is_some() {
                    from = self.unseen_after(from, is_it).await?.unwrap_or(from);
                }
                let done = self.intend(deed, None, None).await?;
                self.told(self.engine.take_back(self.about).await).await?;
                (done, true)
            }
            (None, Some(before)) => (before.clone(), false),
            (None, None) => return Err(other_form("the message is not there any more")),
        };
        match self.unseen_after(from, is_it).await? {
            Some(message) => {
                if now {
                    self.given_now(message);
                }
                self.became(message, done).await
            }
            // The engine deletes it only once the deletion is in its queue.
            None => Ok(Receipt { id: RemoteId::new(done.deed) }),
        }
    }

    async fn react(
        &self,
        there: Option<Message>,
        person: &PersonId,
        emoji: &[String],
    ) -> Result<Receipt, DeliveryError> {
        let original = there.ok_or_else(|| other_form("the message is not there any more"))?;
        let mut shown = records::shown(&self.core.store, self.about).await.map_err(not_written)?;
        // What was decided once stands: by now it is written down that the person reacts so.
        let (deed, show) = match &self.before {
            Some(Done { deed, show: Some(show), .. }) => (deed.clone(), show.clone()),
            _ => {
                shown.changes += 1;
                let mail = self.engine.mail_id(self.about).await.map_err(asked)?;
                (ids::reaction(&mail, &self.core.me, shown.changes), decide(&mut shown.tally, person, emoji))
            }
        };
        let done = self.intend(deed, Some(show.clone()), Some(&shown)).await?;
        let own = original.reactions.unwrap_or_default().reactions_by_contact.remove(&SELF.to_string());
        let sent = match own.unwrap_or_default().first() == show.emoji.as_ref() {
            // Somebody else elsewhere reacts with the same, or the last attempt came so far.
            true => None,
            false => match self.told(self.engine.react(self.about, show.emoji.as_deref()).await).await {
                Err(error) if error.fate == Fate::OtherForm => {
                    // It is said in words, and taken back in words.
                    set(&mut shown.tally, person, &[]);
                    self.core.store.write(vec![records::showing(self.about, &shown)]).await.map_err(not_written)?;
                    return Err(error);
                }
                sent => Some(sent?),
            },
        };
        match sent {
            Some(message) if show.says_all => self.became(message, done).await,
            Some(message) => {
                has_padlock(self.core, self.engine, self.slip, message).await?;
                Err(other_form(ONE_EMOJI))
            }
            None if show.says_all => Ok(Receipt { id: RemoteId::new(done.deed) }),
            None => Err(other_form(ONE_EMOJI)),
        }
    }

    /// Writes down what is about to be done, and looks at the chat once more. Both in one commit, so that no attempt
    /// after a kill decides anew.
    async fn intend(&self, deed: String, show: Option<Show>, shown: Option<&Shown>) -> Result<Done, DeliveryError> {
        may_speak(self.core, self.engine, self.slip, self.chat).await?;
        let refused = self.before.as_ref().map_or(0, |before| before.refused);
        let (at, after) = (self.core.clock.now().0, self.after);
        let done = Done { at, after, message: None, refused, deed, show };
        let mut writes = vec![records::doing(self.slip, &done)];
        writes.extend(shown.map(|shown| records::showing(self.about, shown)));
        self.core.store.write(writes).await.map_err(not_written)?;
        Ok(done)
    }

    /// What the engine said. Where it did not say anything, it must not go on while somebody looks.
    async fn told<T>(&self, answer: Result<T, CallError>) -> Result<T, DeliveryError> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(CallError::Refused { .. }) => Err(self.refused().await?),
            Err(error) => {
                self.engine.child().stop().await;
                Err(in_doubt(error))
            }
        }
    }

    /// Why it was refused: the engine says the same of what it never does and of what it can't do just now.
    async fn refused(&self) -> Result<DeliveryError, DeliveryError> {
        may_speak(self.core, self.engine, self.slip, self.chat).await?;
        if matches!(self.engine.look(self.about).await.map_err(asked)?, Loaded::Gone) {
            return Ok(other_form("the message is not there any more"));
        }
        let intended = records::done(&self.core.store, self.slip.delivery).await.map_err(not_written)?;
        let Some(intended) = intended else { return Ok(DeliveryError::retry("nothing is known of it")) };
        let done = Done { refused: intended.refused + 1, ..intended };
        self.core.store.write(vec![records::doing(self.slip, &done)]).await.map_err(not_written)?;
        Ok(match done.refused < REFUSALS {
            true => DeliveryError::retry("the engine does not do that to this message now"),
            false => other_form("the engine does not do that to this message"),
        })
    }

    async fn unseen_edit(&self, words: &Text) -> Result<Option<u32>, DeliveryError> {
        let is_it = |message: &Message| {
            let quotes = message.quote.as_ref().and_then(|quote| quote.message_id);
            quotes == Some(self.about) && message.text.as_str().ends_with(words.as_str())
        };
        self.unseen(is_it).await
    }

    /// Looks for the message that it became. It has no place in the chat.
    async fn unseen(&self, is_it: impl Fn(&Message) -> bool) -> Result<Option<u32>, DeliveryError> {
        self.unseen_after(self.after, is_it).await
    }

    async fn unseen_after(
        &self,
        mut from: u32,
        is_it: impl Fn(&Message) -> bool,
    ) -> Result<Option<u32>, DeliveryError> {
        // Nothing that has a place is loaded: what a stranger wrote meanwhile could end the engine. Where it has one in
        // another chat, this is only asked when it may have done so.
        let mut visible = HashSet::new();
        let chats = if self.before.is_some() { self.engine.chats().await.map_err(asked)? } else { vec![self.chat] };
        for chat in chats {
            visible.extend(self.engine.chat_messages(chat).await.map_err(asked)?);
        }
        for _ in 0..STRETCHES {
            let (seen, numbers): (Vec<u32>, Vec<u32>) =
                (from + 1..=from + STRETCH).partition(|number| visible.contains(number));
            let mut loaded = self.engine.messages(&numbers).await.map_err(asked)?;
            let mut there = !seen.is_empty();
            for number in numbers {
                let Some(Loaded::There(message)) = loaded.remove(&number) else { continue };
                there = true;
                if message.from_id == SELF && message.chat_id == self.chat && is_it(&message) {
                    return Ok(Some(number));
                }
            }
            if !there {
                break;
            }
            from += STRETCH;
        }
        Ok(None)
    }

    /// This engine was told to do it, and mails it. What one before it was told it may never mail.
    fn given_now(&self, message: u32) {
        lock(&self.engine.given).insert(message);
    }

    /// It became this message: that is written down, and a mail server must take it.
    async fn became(&self, message: u32, done: Done) -> Result<Receipt, DeliveryError> {
        has_padlock(self.core, self.engine, self.slip, message).await?;
        let done = Done { message: Some(message), ..done };
        let written = self.core.store.write(vec![records::doing(self.slip, &done)]).await;
        written.map_err(|_| DeliveryError::unknown("it was done, and the journal does not take a note of it"))?;
        self.core.reached(message);
        taken(self.core, self.engine, self.slip, self.chat, message).await?;
        Ok(Receipt { id: RemoteId::new(done.deed) })
    }
}

const ONE_EMOJI: &str = "Delta Chat shows one emoji of an account on a message, and another is there";

/// What our account is to show on a message, now that a person elsewhere reacts with this and nothing else, and whether
/// that says it all. An account has one emoji on a message: it is shown for all who react with it, and what others react
/// with is said in words.
fn decide(tally: &mut Tally, person: &PersonId, emoji: &[String]) -> Show {
    let before: Vec<String> = tally.of(person).map(str::to_owned).collect();
    set(tally, person, &[]);
    let others = tally.union().first().map(|emoji| (*emoji).to_owned());
    let says_all = match (emoji, &others) {
        // What was said in words is taken back in words.
        ([], _) => !before.is_empty(),
        ([one], _) if !is_shown(one) => false,
        ([one], others) => others.as_ref().is_none_or(|other| other == one),
        _ => false,
    };
    let kept = |one: &&String| says_all || before.contains(*one);
    let own: Vec<String> = emoji.iter().filter(kept).cloned().collect();
    set(tally, person, &own);
    Show { emoji: own.into_iter().next().or(others), says_all }
}

fn set(tally: &mut Tally, person: &PersonId, emoji: &[String]) {
    tally.set(person, &Reaction::new(Target::new(RemoteId::new("")), emoji.iter().map(String::as_str)));
}

/// Whether the engine takes it for an emoji: it leaves out what is longer, and what has gaps.
fn is_shown(emoji: &str) -> bool {
    emoji.len() < 30 && !emoji.contains(|c: char| c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_emoji_is_shown_for_all_who_mean_it_and_the_rest_is_said() {
        let (ann, ben) = (PersonId::new("ann"), PersonId::new("ben"));
        let mut tally = Tally::default();
        let steps: &[(&PersonId, &[&str], Option<&str>, bool)] = &[
            (&ann, &["👍"], Some("👍"), true),
            (&ben, &["👍"], Some("👍"), true),
            (&ben, &["🎉"], Some("👍"), false),
            (&ben, &[], Some("👍"), false),
            (&ann, &["👍", "🎉"], Some("👍"), false),
            (&ann, &["🎉"], Some("🎉"), true),
            (&ann, &["❤", "😀"], None, false),
            (&ben, &["🎉"], Some("🎉"), true),
            (&ben, &[], None, true),
            (&ann, &["a shortcode"], None, false),
        ];
        for (at, (person, emoji, shown, said)) in steps.iter().enumerate() {
            let emoji: Vec<String> = emoji.iter().map(|emoji| (*emoji).to_owned()).collect();
            let expected = Show { emoji: shown.map(str::to_owned), says_all: *said };
            assert_eq!(decide(&mut tally, person, &emoji), expected, "step {at}");
        }
    }
}
