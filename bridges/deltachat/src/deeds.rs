//! What is done to an earlier message: new words, a deletion, reactions.
//!
//! The engine sends each as a message that nobody sees. Some of these calls do not say which message that became, so it
//! is looked for among those with higher numbers than any that was there before; after a kill, too. Doing the same again
//! changes nothing for others, so a second one at worst costs a mail.

use sealbridge_child::CallError;
use sealbridge_contract::{
    DeliveryError, PersonId, Receipt, RemoteId, Slip, Target, Text,
    message::{Reaction, Tally},
};

use crate::{
    changes,
    core::{Core, lock},
    engine::{
        Engine,
        types::{Loaded, Message, SELF},
    },
    ids,
    outgoing::{asked, has_padlock, in_doubt, may_speak, not_written, taken},
    records::{self, Sent},
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
    let before = records::sent(&core.store, slip.delivery).await.map_err(not_written)?;
    if let Some(Sent { message: Some(message), deed: Some(deed), .. }) = &before {
        taken(&engine, slip, *message).await?;
        return Ok(Receipt { id: RemoteId::new(deed.as_str()) });
    }
    let there = match engine.message(about).await {
        Ok(message) => Some(message),
        Err(CallError::Refused { .. }) => None,
        Err(error) => return Err(asked(error)),
    };
    let after = before.as_ref().map_or_else(|| core.highest(), |sent| sent.after);
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
    before: Option<Sent>,
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
        let (told, deed) = self.next_edit(&original).await?;
        let earlier = match &self.before {
            Some(_) => self.unseen_edit(&words).await?,
            None => None,
        };
        let message = match earlier {
            Some(message) => message,
            None => {
                let same = original.text == words;
                if same && self.before.is_none() {
                    return Ok(Receipt { id: RemoteId::new(deed) });
                }
                // It was said to the engine and never sent: without a change it would not be sent now either.
                let words = if same { Text::joined(&[words.as_str(), WORD_JOINER]) } else { words };
                self.intend(&deed).await?;
                self.told(self.engine.edit(self.about, &words).await).await?;
                let edit = self.unseen_edit(&words).await?;
                edit.ok_or_else(|| DeliveryError::unknown("the engine has not sent it yet"))?
            }
        };
        let receipt = self.became(message, deed).await?;
        let edited = records::telling(self.about, &records::Told { edits: told.edits + 1, ..told });
        self.core.store.write(vec![edited]).await.map_err(not_written)?;
        Ok(receipt)
    }

    /// What is kept of a message of ours, and what its next edit is called. The same at every attempt.
    async fn next_edit(&self, original: &Message) -> Result<(records::Told, String), DeliveryError> {
        let kept = records::told(&self.core.store, self.about).await.map_err(not_written)?;
        let told = match kept {
            Some(told) => told,
            None => changes::own(self.core, self.engine, original).await.map_err(asked)?,
        };
        let before = self.before.as_ref().and_then(|sent| sent.deed.clone());
        let deed = before.unwrap_or_else(|| ids::edit(&told.id, told.edits + 1));
        Ok((told, deed))
    }

    async fn take_back(&self, there: Option<Message>) -> Result<Receipt, DeliveryError> {
        let deed = match (&self.before, &self.slip.about) {
            (Some(Sent { deed: Some(deed), .. }), _) => deed.clone(),
            (_, Some(about)) => ids::deletion(about.as_str()),
            _ => return Err(DeliveryError::give_up("it does not say what it is about")),
        };
        if let Some(message) = &there {
            if message.from_id != SELF || message.is_info {
                return Err(other_form("nobody deletes what others wrote"));
            }
            self.intend(&deed).await?;
            self.told(self.engine.take_back(self.about).await).await?;
        } else if self.before.is_none() {
            return Err(other_form("the message is not there any more"));
        }
        // Nothing but a deletion has these words and no place in the chat.
        match self.unseen(|message| message.text.as_str() == "🚮").await? {
            Some(message) => self.became(message, deed).await,
            // The engine deletes it only once the deletion is in its queue.
            None => Ok(Receipt { id: RemoteId::new(deed) }),
        }
    }

    async fn react(
        &self,
        there: Option<Message>,
        person: &PersonId,
        emoji: &[String],
    ) -> Result<Receipt, DeliveryError> {
        let original = there.ok_or_else(|| other_form("the message is not there any more"))?;
        let store = &self.core.store;
        let mut shown = records::shown(store, self.about).await.map_err(not_written)?;
        let (wanted, said) = show(&mut shown.tally, person, emoji);
        shown.at = self.core.clock.now().0;
        let mail = self.engine.mail_id(self.about).await.map_err(asked)?;
        let own = original.reactions.unwrap_or_default().reactions_by_contact.remove(&SELF.to_string());
        let deed = ids::reaction(&mail, &self.core.me, shown.changes + 1);
        let deed = self.before.as_ref().and_then(|sent| sent.deed.clone()).unwrap_or(deed);
        if own.unwrap_or_default().first() == wanted.as_ref() {
            // Somebody else elsewhere reacts with the same, or the last attempt came so far.
            store.write(vec![records::showing(self.about, &shown)]).await.map_err(not_written)?;
            return if said { Ok(Receipt { id: RemoteId::new(deed) }) } else { Err(other_form(ONE_EMOJI)) };
        }
        shown.changes += 1;
        self.intend(&deed).await?;
        let message = self.told(self.engine.react(self.about, wanted.as_deref()).await).await?;
        store.write(vec![records::showing(self.about, &shown)]).await.map_err(not_written)?;
        if said {
            return self.became(message, deed).await;
        }
        has_padlock(self.core, self.engine, self.slip, message).await?;
        Err(other_form(ONE_EMOJI))
    }

    /// Writes down what is about to be done, and looks at the chat once more.
    async fn intend(&self, deed: &str) -> Result<(), DeliveryError> {
        may_speak(self.core, self.engine, self.slip, self.chat).await?;
        let (at, deed) = (self.core.clock.now().0, Some(deed.to_owned()));
        let sent = Sent { at, after: self.after, message: None, deed };
        self.core.store.write(vec![records::intended(self.slip, &sent)]).await.map_err(not_written)
    }

    /// What the engine said. Where it did not say anything, it must not go on while somebody looks.
    async fn told<T>(&self, answer: Result<T, CallError>) -> Result<T, DeliveryError> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(CallError::Refused { .. }) => Err(other_form("the engine does not do that to this message")),
            Err(error) => {
                self.engine.child().stop().await;
                Err(in_doubt(error))
            }
        }
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
        let mut from = self.after;
        let visible = self.engine.chat_messages(self.chat).await.map_err(asked)?;
        for _ in 0..STRETCHES {
            let numbers: Vec<u32> = (from + 1..=from + STRETCH).collect();
            let mut loaded = self.engine.messages(&numbers).await.map_err(asked)?;
            let mut there = false;
            for number in numbers {
                let Some(Loaded::Message(message)) = loaded.remove(&number) else { continue };
                there = true;
                let ours = message.from_id == SELF && message.chat_id == self.chat && !visible.contains(&number);
                if ours && is_it(&message) {
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

    /// It became this message: that is written down, and a mail server must take it.
    async fn became(&self, message: u32, deed: String) -> Result<Receipt, DeliveryError> {
        lock(&self.engine.given).insert(message);
        has_padlock(self.core, self.engine, self.slip, message).await?;
        let (at, after) = (self.core.clock.now().0, self.after);
        let sent = Sent { at, after, message: Some(message), deed: Some(deed.clone()) };
        let written = self.core.store.write(vec![records::intended(self.slip, &sent)]).await;
        written.map_err(|_| DeliveryError::unknown("it was done, and the journal does not take a note of it"))?;
        self.core.reached(message);
        taken(self.engine, self.slip, message).await?;
        Ok(Receipt { id: RemoteId::new(deed) })
    }
}

const ONE_EMOJI: &str = "Delta Chat shows one emoji of an account on a message, and another is there";

/// What our account is to show on a message, now that a person elsewhere reacts with this and nothing else, and whether
/// that says it all. An account has one emoji on a message: it is shown for all who react with it, and what others react
/// with is said in words.
fn show(tally: &mut Tally, person: &PersonId, emoji: &[String]) -> (Option<String>, bool) {
    let before: Vec<String> = tally.of(person).map(str::to_owned).collect();
    let set = |tally: &mut Tally, emoji: &[String]| {
        let reaction = Reaction::new(Target::new(RemoteId::new("")), emoji.iter().map(String::as_str));
        tally.set(person, &reaction);
    };
    set(tally, &[]);
    let others = tally.union().first().map(|emoji| (*emoji).to_owned());
    let said = match (emoji, &others) {
        // What was said in words is taken back in words.
        ([], _) => !before.is_empty(),
        ([one], _) if !is_shown(one) => false,
        ([one], others) => others.as_ref().is_none_or(|other| other == one),
        _ => false,
    };
    let kept = |one: &&String| said || before.contains(*one);
    let own: Vec<String> = emoji.iter().filter(kept).cloned().collect();
    set(tally, &own);
    (own.into_iter().next().or(others), said)
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
            assert_eq!(show(&mut tally, person, &emoji), (shown.map(str::to_owned), *said), "step {at}");
        }
    }
}
