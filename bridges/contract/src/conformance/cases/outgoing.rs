//! From the gate to the network.

use std::{future::Future as _, pin::pin, task::Poll};

use super::{
    super::{
        How, Stop, Told,
        stage::{Stage, neutral},
    },
    incoming::all_hold,
};
use crate::{Fate, Found, Message, Slip};

pub(super) async fn outgoing_message_is_heard_once_with_words_and_author(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let words = stage.words("good evening");
    let (slip, receipt) = stage.send(&words).await?;
    let heard = stage.heard_once(&words).await?;
    let named = match &heard.author {
        Some(author) => author == "Ann of Elsewhere",
        None => heard.words.contains("Ann of Elsewhere"),
    };
    all_hold(&[
        (named, "the author's name is not shown"),
        (heard.id == receipt.id, "the receipt has another name than the network"),
        (heard.delivery.is_none_or(|delivery| delivery == slip.delivery), "it is told as another delivery"),
        (heard.author.is_none() || heard.words == words, "the words are others"),
        (heard.how == How::Text, "ordinary words became something else"),
        (heard.reply_to.is_none(), "it answers something, and should not"),
    ])
}

pub(super) async fn outgoing_messages_keep_their_order(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let mut ids = Vec::new();
    for number in 0..20 {
        let words = stage.words(&format!("number {number}"));
        ids.push(stage.send(&words).await?.1.id);
    }
    let count = ids.len();
    stage.until("all are heard", async |stage| Ok(stage.rig.peer.heard().await?.len() >= count)).await?;
    let heard: Vec<_> = stage.rig.peer.heard().await?.into_iter().map(|heard| heard.id).collect();
    all_hold(&[(heard == ids, "the order is another, or something is heard twice")])
}

pub(super) async fn same_delivery_twice_is_heard_once(stage: &mut Stage<'_>) -> Told {
    if !stage.deduplicates() {
        return Err(Stop::cannot("the datasheet says that it is shown twice"));
    }
    stage.start().await?;
    let words = stage.words("twice");
    let slip = stage.slip();
    let first = stage.deliver(stage.message(&words), &slip).await?;
    let again = Slip { attempt: 1, ..slip.clone() };
    let second = stage.deliver(stage.message(&words), &again).await?;
    stage.heard_once(&words).await?;
    all_hold(&[(first == second, "the second receipt has another name")])?;
    // And once more after the transport forgot everything that it does not keep.
    stage.kill().await?;
    stage.start().await?;
    stage.deliver(stage.message(&words), &Slip { attempt: 2, ..slip }).await?;
    stage.heard_once(&words).await.map(drop)
}

pub(super) async fn delivery_dropped_midway_can_be_made_again(stage: &mut Stage<'_>) -> Told {
    if !stage.deduplicates() {
        return Err(Stop::cannot("the datasheet says that it is shown twice"));
    }
    stage.start().await?;
    // Dropped at the first await, at the second, and so on, until it gets to its end.
    for polls in 1..=64 {
        let words = stage.words("dropped");
        let slip = stage.slip();
        let ended = {
            let mut attempt = pin!(stage.attempt(stage.message(&words), &slip));
            let mut left = polls;
            std::future::poll_fn(|context| match attempt.as_mut().poll(context) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if left == 1 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            })
            .await
        };
        stage.deliver(stage.message(&words), &Slip { attempt: 1, ..slip }).await?;
        stage.heard_once(&words).await?;
        if let Some(answer) = ended {
            answer?.map_err(|_| Stop::failed("an undisturbed delivery failed"))?;
            stage.remark(format!("it waits {} times", polls - 1));
            break;
        }
    }
    Ok(())
}

pub(super) async fn delivery_in_doubt_is_found(stage: &mut Stage<'_>) -> Told {
    if !stage.transport().common().abilities().finds {
        return Err(Stop::cannot("the datasheet says that nothing can be looked for"));
    }
    stage.start().await?;
    let never_sent = stage.slip();
    all_hold(&[(stage.find(&never_sent).await? == Found::NotThere, "something is found that was never sent")])?;
    let words = stage.words("look for me");
    let (slip, receipt) = stage.send(&words).await?;
    stage.heard_once(&words).await?;
    let there = Found::There(receipt.id);
    all_hold(&[(stage.find(&slip).await? == there, "what was sent is not found")])?;
    stage.kill().await?;
    stage.start().await?;
    all_hold(&[(stage.find(&slip).await? == there, "what was sent is not found after a restart")])?;
    all_hold(&[(stage.find(&never_sent).await? == Found::NotThere, "something is found that was never sent")])
}

pub(super) async fn answer_crosses_as_an_answer(stage: &mut Stage<'_>) -> Told {
    stage.hears()?;
    stage.start().await?;
    let question = stage.words("a question of ours");
    let (_, receipt) = stage.send(&question).await?;
    stage.heard_once(&question).await?;
    let words = stage.words("an answer");
    let say = super::super::Say { words: words.clone(), reply_to: Some(receipt.id.clone()), ..Default::default() };
    let id = stage.rig.peer.say(say).await?;
    let message = stage.accepted(&id).await?;
    all_hold(&[
        (message.reply_to == Some(receipt.id), "the answer does not know what it answers"),
        (neutral(&message.words.0) == neutral(&words), "the words are others: is the quoted message still in them?"),
    ])
}

pub(super) async fn direct_conversation_is_opened_once(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let peer = stage.rig.peer.id();
    let first = match stage.transport().common().open_direct(&peer).await {
        Ok(first) => first,
        Err(error) if error.fate == Fate::GiveUp => return Err(Stop::cannot(error.cause)),
        Err(error) => return Err(Stop::failed(error.cause)),
    };
    let second = stage.transport().common().open_direct(&peer).await.map_err(|error| Stop::failed(error.cause))?;
    all_hold(&[(first == second, "it opens a second conversation with the same person")])?;
    stage.kill().await?;
    stage.start().await?;
    let words = stage.words("just you and me");
    stage.until("it can be spoken to", async |stage| Ok(speaks(stage, &first))).await?;
    let slip = Slip { to: first.clone(), ..stage.slip() };
    let message: Message = stage.message(&words);
    stage.deliver(message, &slip).await.map(drop)
}

fn speaks(stage: &Stage<'_>, conversation: &crate::ConversationId) -> bool {
    match stage.transport() {
        crate::AnyTransport::EndToEnd(t) => t.encryption(conversation) == crate::gate::Encryption::Pinned,
        _ => true,
    }
}
