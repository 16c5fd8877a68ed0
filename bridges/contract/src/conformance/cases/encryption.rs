//! Nothing is said in clear, whatever a server says.

use super::{
    super::{Stop, Told, Words, stage::Stage},
    incoming::{all_hold, say_many},
};
use crate::{
    AnyTransport, Cleartext, ConversationId, Destination, Origin, Rule, SenderTrust, Verdict, gate::Encryption, judge,
};

pub(super) async fn unencrypted_conversation_is_never_spoken_to(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let conversation = stage.rig.peer.unencrypted_conversation().await?;
    // A message in the other conversation shows that whatever there is to know has arrived.
    let after = say_many(stage, 1).await?;
    stage.accepted(&after[0]).await?;
    let pinned = async |stage: &Stage<'_>| Ok(encryption(stage, &conversation) == Encryption::Pinned);
    stage.never("an unencrypted conversation is called pinned", pinned).await?;
    shut(stage, &conversation)?;
    stage.kill().await?;
    stage.start().await?;
    let pinned = async |stage: &Stage<'_>| Ok(encryption(stage, &conversation) == Encryption::Pinned);
    stage.never("an unencrypted conversation is called pinned after a restart", pinned).await?;
    shut(stage, &conversation)
}

pub(super) async fn conversation_that_stops_to_be_encrypted_is_violated_for_good(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let conversation = stage.rig.conversation.clone();
    stage.rig.peer.stop_encrypting().await?;
    let violated = async |stage: &Stage<'_>| Ok(encryption(stage, &conversation) == Encryption::Violated);
    stage.until("the conversation is violated", violated).await?;
    shut(stage, &conversation)?;
    stage.kill().await?;
    stage.start_without_waiting();
    let connected = async |stage: &Stage<'_>| Ok(stage.transport().common().health().connected);
    stage.until("it is connected", connected).await?;
    let open = async |stage: &Stage<'_>| Ok(encryption(stage, &conversation) != Encryption::Violated);
    stage.never("a restart forgets that the conversation is violated", open).await?;
    shut(stage, &conversation)
}

pub(super) async fn words_in_clear_do_not_cross(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let words = stage.words("in clear");
    let id = stage.rig.peer.say_in_clear(&words).await?;
    let after = say_many(stage, 1).await?;
    stage.accepted(&after[0]).await?;
    let crossed = |stage: &Stage<'_>| {
        stage.intake.accepted().iter().any(|message| message.id == id || message.words == Words(words.clone()))
    };
    stage.never("words in clear crossed", async |stage| Ok(crossed(stage))).await?;
    let (refused, told) = (stage.intake.refused(), stage.intake.incidents());
    let known = refused.iter().any(|(name, _)| *name == id) || !told.is_empty();
    all_hold(&[(known, "words in clear were left out, and nobody was told")])
}

pub(super) async fn servers_between_store_no_words(stage: &mut Stage<'_>) -> Told {
    // Asked first: whoever can't look is not made to talk.
    let before = stage.rig.peer.stored().await?;
    stage.start().await?;
    let words = stage.words("not for servers");
    stage.send(&words).await?;
    stage.heard_once(&words).await?;
    if stage.hears().is_ok() {
        let words = stage.words("nor this");
        let id = stage.says(&words).await?;
        stage.accepted(&id).await?;
    }
    let stored = stage.rig.peer.stored().await?;
    let size = |stored: &[Vec<u8>]| stored.iter().map(Vec::len).sum::<usize>();
    all_hold(&[(size(&stored) > size(&before), "nothing new is stored, so nothing was searched")])?;
    no_words(stage, &stored)
}

/// Searches what servers keep for the canary.
pub(super) fn no_words(stage: &Stage<'_>, stored: &[Vec<u8>]) -> Told {
    let found = stored.iter().any(|bytes| stage.canary.is_in(&String::from_utf8_lossy(bytes)));
    all_hold(&[(!found, "a server between stores the words")])
}

fn encryption(stage: &Stage<'_>, conversation: &ConversationId) -> Encryption {
    match stage.transport() {
        AnyTransport::EndToEnd(transport) => transport.encryption(conversation),
        AnyTransport::OperatorRun(_) | AnyTransport::Carrier(_) => Encryption::Absent,
    }
}

/// The gate makes nothing of a message to `conversation` that could be delivered.
fn shut(stage: &Stage<'_>, conversation: &ConversationId) -> Told {
    let message = Cleartext::new(stage.message(&stage.words("never")));
    let to = Destination::EndToEnd(encryption(stage, conversation));
    match judge(&message, Origin { sender: SenderTrust::Local, said: &message }, &to, &Rule::default()) {
        Verdict::Hold(_) | Verdict::Refuse(_) => Ok(()),
        Verdict::Speak(_) | Verdict::Seal(_) => Err(Stop::failed("the gate lets a message through")),
    }
}
