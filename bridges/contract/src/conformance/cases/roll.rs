//! Who is in a conversation, and under which name.

use std::sync::Arc;

use super::{
    super::{Told, stage::Stage},
    incoming::all_hold,
};
use crate::{Text, conformance::Stop};

pub(super) async fn people_of_a_conversation_are_known_by_their_names(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let id = stage.says(&stage.words("so that the peer is known")).await?;
    stage.accepted(&id).await?;
    let (peer, name) = (stage.rig.peer.id(), stage.rig.peer.name());
    let roll = || async {
        let roll = stage.transport().common().roll(&stage.rig.conversation).await;
        roll.map_err(|error| Stop::failed(error.to_string()))?
            .ok_or_else(|| Stop::cannot("the network does not say who is there"))
    };
    let (first, again) = (roll().await?, roll().await?);
    let shown = first.0.iter().find(|author| author.id == peer);
    let called = shown.is_some_and(|author| author.name.as_ref().map(Text::as_str) == name.as_deref());
    let strangers = roll_of_nobody(stage).await;
    all_hold(&[
        (shown.is_some(), "the peer is not there"),
        (name.is_none() || called, "the peer is there under another name"),
        (first.0.len() > 1, "we are not there ourselves"),
        (Arc::ptr_eq(&first, &again), "it is read again although nothing is another"),
        (strangers, "there are people in a conversation that is none"),
    ])
}

async fn roll_of_nobody(stage: &Stage<'_>) -> bool {
    match stage.transport().common().roll(&crate::ConversationId::new("nowhere")).await {
        Ok(Some(roll)) => roll.0.is_empty(),
        Ok(None) | Err(_) => true,
    }
}
