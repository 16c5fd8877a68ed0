//! From the gate to the network.
//!
//! The engine has a queue of its own and gives each message its mail id, under which every other Delta Chat shows it
//! once, however often it is mailed. So a delivery must become one message of the engine and no second one: what is
//! about to be handed in is written down first, and whatever happened then, the message is looked for before another
//! is made. A message that the engine has and does not mail, since it was killed between the two, is handed in again.

use std::{sync::Arc, time::Duration};

use sealbridge_child::CallError;
use sealbridge_contract::{
    Cleared, ConversationId, DeliveryError, Fate, Found, Invitation, NotAccepted, Receipt, RemoteId, Slip,
    gate::Encryption, message::Absence,
};
use tokio::time::Instant;

use crate::{
    core::Core,
    deeds::{self, Deed},
    engine::{
        Engine,
        types::{IDLE, Outgoing, SELF, state},
    },
    files::{self, HandedOver, Leaving},
    ids, invite,
    queue::{goes_by_itself, is_left_over, taken, there},
    readers,
    records::{self, Done, Sent},
    translate::{self, Written},
};

/// How long an answer waits for what it answers.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// After how many refusals of the engine's a delivery is given up.
pub(crate) const REFUSALS: u32 = 6;

/// Hands in, and waits until a mail server took it.
pub(crate) async fn deliver(core: &Arc<Core>, message: &Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
    // The gate asked a moment ago. What was learnt since then must still stop it.
    if core.encryption(&slip.to) != Encryption::Pinned {
        return Err(not_encrypted());
    }
    let answers = match &slip.reply_to {
        Some(id) => known(core, id).await?,
        None => None,
    };
    let task = match translate::written(message.message(), answers, core.abilities)? {
        Written::Said(outgoing, media) => {
            let file = match media {
                Some(media) => Some(files::open(core.spool.as_ref(), message, media).await?),
                None => None,
            };
            Task::Say(outgoing, file)
        }
        Written::Edit(words) => Task::Do(about(core, slip).await?, Deed::Edit(words)),
        Written::TakeBack => Task::Do(about(core, slip).await?, Deed::TakeBack),
        Written::React(reaction) => {
            let emoji = reaction.all.iter().map(|emoji| emoji.as_str().to_owned()).collect();
            Task::Do(about(core, slip).await?, Deed::React(message.message().author.id.clone(), emoji))
        }
    };
    // On a task of its own: if the one who waits goes away in the middle, it still comes to an end that is written
    // down, and the lane shows the next attempt that it has.
    let lane = core.lane(&slip.to);
    let (core, slip) = (Arc::clone(core), slip.clone());
    let attempt = tokio::spawn(async move {
        let _turn = lane.lock().await;
        match task {
            Task::Say(outgoing, file) => attempt(&core, outgoing, file, &slip).await,
            Task::Do(about, deed) => deeds::attempt(&core, about, deed, &slip).await,
        }
    });
    attempt.await.unwrap_or_else(|_| Err(DeliveryError::unknown("the attempt broke off")))
}

/// What is to be done.
enum Task {
    Say(Outgoing, Option<Leaving>),
    /// Something to an earlier message.
    Do(u32, Deed),
}

/// The earlier message that something is done to.
async fn about(core: &Core, slip: &Slip) -> Result<u32, DeliveryError> {
    let id = slip.about.as_ref().ok_or_else(|| DeliveryError::give_up("it does not say what it is about"))?;
    known(core, id).await?.ok_or_else(|| DeliveryError::other_form("what it is about is not known here any more"))
}

/// An earlier message's number. One that is still on its way is waited for; one that is not here is nobody's.
async fn known(core: &Core, id: &RemoteId) -> Result<Option<u32>, DeliveryError> {
    let deadline = Instant::now() + ON_ITS_WAY;
    loop {
        let known = records::message(&core.store, id).await.map_err(not_written)?;
        if known.is_some() || Instant::now() >= deadline {
            return Ok(known);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn attempt(
    core: &Core,
    mut outgoing: Outgoing,
    file: Option<Leaving>,
    slip: &Slip,
) -> Result<Receipt, DeliveryError> {
    let engine = core.engine()?;
    let chat = ids::chat(&slip.to, &core.me).ok_or_else(|| DeliveryError::give_up("this account has no such chat"))?;
    let before = records::sent(&core.store, slip.delivery).await.map_err(not_written)?;
    let refused = before.as_ref().map_or(0, |sent| sent.refused);
    if let Some(message) = look(core, &engine, slip, chat, before).await? {
        // Whoever handed it in may have died before it looked.
        has_padlock(core, &engine, slip, message).await?;
        return follow(core, &engine, slip, chat, message).await;
    }
    may_speak(core, &engine, slip, chat).await?;
    // It lies there until the engine has answered.
    let handed_over = match file {
        Some(file) => Some(file.hand_over(&core.folder).await?),
        None => None,
    };
    let has_file = handed_over.is_some();
    outgoing.file = handed_over.as_ref().map(HandedOver::path);
    let sent = Sent { at: core.clock.now().0, after: core.highest(), message: None, refused };
    core.store.write(vec![records::intended(slip, &sent)]).await.map_err(not_written)?;
    let handed_in = engine.send(chat, &outgoing).await;
    drop(handed_over);
    let message = match handed_in {
        Ok(message) => message,
        Err(CallError::Refused { .. }) => {
            // It says the same of what it never does and of what it can't do just now.
            may_speak(core, &engine, slip, chat).await?;
            let sent = Sent { refused: refused + 1, ..sent };
            core.store.write(vec![records::intended(slip, &sent)]).await.map_err(not_written)?;
            return Err(match sent.refused < REFUSALS {
                true => DeliveryError::retry("the engine does not send it now"),
                false if has_file => DeliveryError::without_file(Absence::Refused),
                false => DeliveryError::give_up("the engine does not send it"),
            });
        }
        Err(error) => {
            // Whether it sends it yet must not stay open while somebody looks.
            engine.child().stop().await;
            return Err(DeliveryError::unknown(error.to_string()));
        }
    };
    drop(outgoing);
    core.reached(message);
    has_padlock(core, &engine, slip, message).await?;
    let written = core.store.write(vec![records::intended(slip, &Sent { message: Some(message), ..sent })]).await;
    written.map_err(|_| DeliveryError::unknown("it was handed in, and the journal does not take a note of it"))?;
    follow(core, &engine, slip, chat, message).await
}

/// Whether the mail server can be reached, and the engine still says that we are in the chat and that it is encrypted.
pub(crate) async fn may_speak(core: &Core, engine: &Engine, slip: &Slip, chat: u32) -> Result<(), DeliveryError> {
    if !core.health().connected {
        return Err(DeliveryError::retry("the mail server can't be reached"));
    }
    let chat = engine.chat(chat).await.map_err(asked)?;
    if !chat.is_encrypted {
        core.store.write(vec![core.violated(&slip.to)]).await.map_err(not_written)?;
        return Err(not_encrypted());
    }
    match core.learn(&chat).await.map_err(not_written)?.now {
        Encryption::Pinned => readers::all_admitted(core, engine, slip, &chat).await,
        Encryption::Left => Err(DeliveryError::retry("we are not in the chat any more")),
        _ => Err(not_encrypted()),
    }
}

/// Looks at a message that was just handed in: the engine was told to encrypt, and must have.
pub(crate) async fn has_padlock(core: &Core, engine: &Engine, slip: &Slip, message: u32) -> Result<(), DeliveryError> {
    if there(engine, message).await?.show_padlock {
        return Ok(());
    }
    // Nothing waits for its turn: the queue is emptied of it, and nothing more is said there.
    let deleted = engine.delete(message).await;
    engine.child().stop().await;
    core.store.write(vec![core.violated(&slip.to)]).await.map_err(not_written)?;
    deleted.map_err(in_doubt)?;
    Err(DeliveryError::give_up("the engine did not encrypt it; it was taken back"))
}

/// The message that a delivery became, if it became one.
async fn look(
    core: &Core,
    engine: &Engine,
    slip: &Slip,
    chat: u32,
    sent: Option<Sent>,
) -> Result<Option<u32>, DeliveryError> {
    let Some(sent) = sent else { return Ok(None) };
    if let Some(message) = sent.message {
        return Ok(Some(message));
    }
    let taken = records::taken(&core.store, slip.delivery).await.map_err(not_written)?;
    // Deliveries to a chat go one at a time, so the oldest own message that no other delivery became is this one.
    for message in engine.chat_messages(chat).await.map_err(asked)? {
        if message <= sent.after || taken.contains(&message) {
            continue;
        }
        // What has a name was accepted or delivered before, and what was refused could end the engine.
        let id = RemoteId::new(engine.mail_id(message).await.map_err(asked)?);
        if records::message(&core.store, &id).await.map_err(not_written)? == Some(message) {
            continue;
        }
        let found = engine.message(message).await.map_err(asked)?;
        if found.from_id == SELF && !found.is_info {
            let known = Sent { message: Some(message), ..sent };
            core.store.write(vec![records::intended(slip, &known)]).await.map_err(not_written)?;
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// Waits until a mail server took a message, and gives its name.
async fn follow(core: &Core, engine: &Engine, slip: &Slip, chat: u32, message: u32) -> Result<Receipt, DeliveryError> {
    if let Err(error) = taken(core, engine, slip, chat, message).await {
        if let Fate::WithoutFile(_) = error.fate {
            // Another message takes its place.
            core.store.write(records::taken_out(slip.delivery).into()).await.map_err(not_written)?;
            // Nobody mails it any more, so it only takes room where it stays.
            if let Err(error) = engine.delete(message).await {
                tracing::debug!(%error, "A message that was refused is not taken out.");
            }
        }
        return Err(error);
    }
    let id = name(core, engine, message).await.map_err(|error| DeliveryError::unknown(error.cause))?;
    Ok(Receipt { id })
}

/// What a message is called. Written down, so that it is found by it.
async fn name(core: &Core, engine: &Engine, message: u32) -> Result<RemoteId, DeliveryError> {
    let id = RemoteId::new(engine.mail_id(message).await.map_err(asked)?);
    core.store.write(vec![records::named(&id, message)]).await.map_err(not_written)?;
    Ok(id)
}

/// Looks for a delivery in doubt.
pub(crate) async fn find(core: &Core, slip: &Slip) -> Result<Found, DeliveryError> {
    let engine = core.engine()?;
    if !core.health().connected {
        return Err(DeliveryError::retry("the mail server can't be reached"));
    }
    let lane = core.lane(&slip.to);
    let _turn = lane.lock().await;
    let Some(chat) = ids::chat(&slip.to, &core.me) else { return Ok(Found::NotThere) };
    let sent = records::sent(&core.store, slip.delivery).await.map_err(not_written)?;
    let done = records::done(&core.store, slip.delivery).await.map_err(not_written)?;
    let (message, deed) = match (look(core, &engine, slip, chat, sent).await?, done) {
        (Some(message), _) => (message, None),
        (None, Some(Done { message: Some(message), deed, .. })) => (message, Some(deed)),
        (None, _) => return Ok(Found::NotThere),
    };
    let now = goes_by_itself(&engine, message).await?;
    if now >= state::DELIVERED {
        let id = match deed {
            Some(deed) => RemoteId::new(deed),
            None => name(core, &engine, message).await?,
        };
        return Ok(Found::There(id));
    }
    if now == state::FAILED {
        return Ok(Found::NotThere);
    }
    // While the engine works, it may be mailing this very message.
    if is_left_over(&engine, message, now) && engine.connectivity().await.map_err(asked)? >= IDLE {
        // Whoever looks need not wait for what nobody mails: taken out, it certainly is not there.
        engine.delete(message).await.map_err(asked)?;
        core.store.write(records::taken_out(slip.delivery).into()).await.map_err(not_written)?;
        return Ok(Found::NotThere);
    }
    Err(DeliveryError::retry("the engine has it, and the mail server has not taken it yet"))
}

fn not_encrypted() -> DeliveryError {
    DeliveryError::retry("the chat is not known to be encrypted any more")
}

pub(crate) fn not_written(_: NotAccepted) -> DeliveryError {
    DeliveryError::retry("the journal does not take a note of it")
}

/// Nothing was handed in yet.
pub(crate) fn asked(error: CallError) -> DeliveryError {
    DeliveryError::retry(error.to_string())
}

/// It was handed in.
pub(crate) fn in_doubt(error: CallError) -> DeliveryError {
    DeliveryError::unknown(error.to_string())
}

/// Opens the chat with a person, by their fingerprint.
pub(crate) async fn open_direct(core: &Core, with: &str) -> Result<ConversationId, DeliveryError> {
    let engine = core.engine()?;
    let wanted: String = with.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
    for contact in engine.contacts().await.map_err(asked)? {
        let Some(person) = core.person(&engine, contact).await.map_err(asked)? else { continue };
        if person.as_str() != wanted {
            continue;
        }
        let chat = engine.chat_with(contact).await.map_err(asked)?;
        let chat = engine.chat(chat).await.map_err(asked)?;
        core.learn(&chat).await.map_err(not_written)?;
        return Ok(ids::conversation(chat.id, &core.me));
    }
    Err(DeliveryError::give_up("no contact has this fingerprint; let them join by an invitation first"))
}

/// The invitation to a group.
pub(crate) async fn invitation(core: &Core, to: &ConversationId) -> Result<Invitation, DeliveryError> {
    let engine = core.engine()?;
    let missing = || DeliveryError::give_up("this is no group of the account that is encrypted and that it is in");
    let number = ids::chat(to, &core.me).ok_or_else(missing)?;
    let chat = engine.chat(number).await.map_err(asked)?;
    if !chat.is_our_group() {
        return Err(missing());
    }
    let link = engine.invitation(Some(number)).await.map_err(asked)?;
    Ok(invite::invitation(format!("the group {:?}", chat.name.as_str()), link))
}
