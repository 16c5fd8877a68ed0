//! From the network to the inbox.

use std::time::Duration;

use super::super::{
    How, Say, Stop, Told, Words,
    stage::{Stage, Type},
};
use crate::{AnyTransport, Fatal, NotAccepted, RemoteId, Timestamp};

/// How far a network's clock may be from ours.
const CLOCK_SKEW: Duration = Duration::from_secs(10 * 60);

pub(super) async fn incoming_message_has_author_time_words_and_a_stable_name(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let before = stage.clock.now();
    let words = stage.words("good morning");
    let id = stage.says(&words).await?;
    let message = stage.accepted(&id).await?;
    let now = stage.clock.now();
    let in_time = (before.minus(CLOCK_SKEW)..=now.plus(CLOCK_SKEW)).contains(&message.sent_at);
    let checks = [
        (message.conversation == stage.rig.conversation, "the conversation is another"),
        (message.author == stage.rig.peer.id(), "the author is another"),
        (message.name == stage.rig.peer.name(), "the author's name is another"),
        (message.words == Words(words), "the words are others"),
        (message.how == Some(How::Text), "ordinary words became something else"),
        (message.reply_to.is_none(), "it answers something, and should not"),
        (in_time && message.sent_at != Timestamp(0), "the time is not that of writing"),
        (stage.intake.accepted().len() == 1, "one message became several"),
    ];
    all_hold(&checks)
}

pub(super) async fn full_journal_loses_nothing_and_keeps_order(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    stage.intake.be_full(3);
    let said = say_many(stage, 5).await?;
    arrive_in_order(stage, &said).await
}

pub(super) async fn unaccepted_message_comes_again_under_its_name(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    stage.intake.be_full(u32::MAX);
    let said = say_many(stage, 3).await?;
    stage.until("a message is offered", async |stage| Ok(!stage.intake.offered().is_empty())).await?;
    stage.kill().await?;
    if !stage.intake.accepted().is_empty() {
        return Err(Stop::failed("something was kept that was not accepted"));
    }
    stage.intake.be_full(0);
    stage.start().await?;
    arrive_in_order(stage, &said).await
}

pub(super) async fn accepted_message_does_not_come_again(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let said = say_many(stage, 3).await?;
    arrive_in_order(stage, &said).await?;
    stage.kill().await?;
    stage.start().await?;
    let next = say_many(stage, 1).await?;
    arrive_in_order(stage, &[said, next].concat()).await
}

pub(super) async fn many_messages_of_one_sender_keep_their_order(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    // While one is being accepted the others gather, so that there is an order within a batch too.
    stage.intake.be_slow(Duration::from_millis(20));
    let said = say_many(stage, 50).await?;
    arrive_in_order(stage, &said).await
}

pub(super) async fn stop_while_busy_is_prompt_and_loses_nothing(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    stage.intake.be_slow(Duration::from_millis(20));
    let said = say_many(stage, 25).await?;
    let first = said[0].clone();
    stage.until("the first message is offered", async |stage| Ok(stage.intake.offered().contains(&first))).await?;
    let took = stage.stop().await?;
    if took > Duration::from_secs(5) {
        return Err(Stop::failed(format!("it stopped only after {took:?}")));
    }
    stage.intake.be_slow(Duration::ZERO);
    stage.start().await?;
    arrive_in_order(stage, &said).await
}

pub(super) async fn journal_that_ends_ends_it(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    stage.intake.be_ending(Some(NotAccepted::Failed));
    let said = say_many(stage, 1).await?;
    match stage.ended().await? {
        Err(Fatal::Journal) => {}
        Err(_) => return Err(Stop::failed("the journal failed, and it blames something else")),
        Ok(()) => return Err(Stop::failed("the journal failed, and it ends as if nothing were wrong")),
    }
    stage.kill().await?;
    stage.intake.be_ending(Some(NotAccepted::Stopping));
    stage.start_without_waiting();
    if stage.ended().await?.is_err() {
        return Err(Stop::failed("the service stops, and it says that something is wrong"));
    }
    stage.kill().await?;
    stage.intake.be_ending(None);
    stage.start().await?;
    arrive_in_order(stage, &said).await
}

pub(super) async fn conversation_is_listed(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let listed = stage.transport().common().conversations();
    let Some(info) = listed.into_iter().find(|info| info.id == stage.rig.conversation) else {
        return Err(Stop::failed("the conversation is not in the list"));
    };
    let same = match stage.transport() {
        AnyTransport::EndToEnd(transport) => info.encryption == transport.encryption(&info.id),
        AnyTransport::OperatorRun(_) | AnyTransport::Carrier(_) => true,
    };
    let looked = tokio::time::timeout(stage.patience(), stage.transport().common().doctor()).await;
    let findings = looked.map_err(|_| Stop::failed("a closer look is not bounded in time"))?;
    for finding in findings {
        stage.canary.search("what a closer look found", &finding.words);
        stage.remark(format!("a closer look found: {}", finding.topic));
    }
    let heard = stage.transport().common().health().last_heard.is_some();
    all_hold(&[
        (info.members >= 2, "fewer than two are said to be in it"),
        (same, "the list says something else of its encryption than the gate is told"),
        (heard || stage.hears().is_err(), "it is connected and never heard anything"),
    ])
}

pub(super) async fn gap_is_filled_in_order(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let before = say_many(stage, 2).await?;
    arrive_in_order(stage, &before).await?;
    stage.rig.peer.limit_answers(4).await?;
    stage.stop().await?;
    let behind = say_many(stage, 40).await?;
    stage.start_without_waiting();
    let said = [before, behind].concat();
    let count = said.len();
    stage.until("the gap is filled", async |stage| Ok(stage.intake.accepted().len() >= count)).await?;
    let (_, ever) = stage.intake.gaps();
    stage.remark(format!("{ever} gaps"));
    if ever == 0 {
        return Err(Stop::failed("there was no gap, so nothing was tried"));
    }
    stage.until("no gap is open", async |stage| Ok(stage.intake.gaps().0 == 0)).await?;
    arrive_in_order(stage, &said).await
}

pub(super) async fn late_key_is_waited_for_and_holds_up_nobody(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let (early, late) = (stage.words("after it"), stage.words("its key is late"));
    let waits = stage.rig.peer.say_without_key(&late).await?;
    stage.until("it waits for its key", async |stage| Ok(stage.intake.still_waiting() == 1)).await?;
    let other = stage.says(&early).await?;
    stage.accepted(&other).await?;
    // What waits must outlive a kill.
    stage.kill().await?;
    stage.start().await?;
    stage.rig.peer.share_key().await?;
    let message = stage.accepted(&waits).await?;
    stage.until("nothing waits", async |stage| Ok(stage.intake.still_waiting() == 0)).await?;
    let once = stage.intake.accepted().iter().filter(|message| message.id == waits).count() == 1;
    all_hold(&[(message.words == Words(late), "the words are others"), (once, "it was accepted twice")])
}

pub(super) async fn replay_is_refused(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let words = stage.words("only once");
    let id = stage.says(&words).await?;
    stage.accepted(&id).await?;
    let again = stage.rig.peer.replay(&id).await?;
    if again == id {
        return Err(Stop::failed("the harness replayed it under the same name, so nothing was tried"));
    }
    // A message after it shows that the replay was seen.
    let after = say_many(stage, 1).await?;
    stage.accepted(&after[0]).await?;
    let crossed = stage.intake.accepted().iter().filter(|message| message.words == Words(words.clone())).count();
    all_hold(&[(crossed == 1, "a replay crossed")])
}

pub(super) async fn own_message_is_an_echo_and_never_an_arrival(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let words = stage.words("from us");
    let (slip, receipt) = stage.send(&words).await?;
    stage.heard_once(&words).await?;
    let echoes =
        if stage.kind() == Type::Carrier { Err(Stop::cannot("a carrier has none")) } else { stage.rig.peer.echoes() };
    if echoes.is_ok() {
        let echoed = |stage: &Stage<'_>| stage.intake.echoes().into_iter().find(|echo| echo.delivery == slip.delivery);
        stage.until("it comes back as an echo", async |stage| Ok(echoed(stage).is_some())).await?;
        let echo = echoed(stage).ok_or_else(|| Stop::failed("an echo is gone"))?;
        let right = echo.id == receipt.id && echo.conversation == stage.rig.conversation;
        all_hold(&[(right, "the echo has another name or conversation than the receipt")])?;
    }
    // A message after it shows that whatever came back was seen.
    let after = say_many(stage, 1).await?;
    stage.accepted(&after[0]).await?;
    stage.kill().await?;
    stage.start().await?;
    let after = say_many(stage, 1).await?;
    stage.accepted(&after[0]).await?;
    let came = stage.intake.accepted().iter().any(|message| message.words == Words(words.clone()));
    all_hold(&[(!came, "our own message came in as somebody's")])?;
    match echoes {
        Err(Stop::NotApplicable(why)) => stage.remark(format!("no echo was waited for: {why}")),
        other => other?,
    }
    Ok(())
}

/// The peer says so many different things.
pub(super) async fn say_many(stage: &Stage<'_>, count: usize) -> Told<Vec<RemoteId>> {
    stage.hears()?;
    let mut said = Vec::with_capacity(count);
    for number in 0..count {
        let words = stage.words(&format!("number {number} of {count}"));
        said.push(stage.rig.peer.say(Say { words, ..Say::default() }).await?);
    }
    Ok(said)
}

/// Waits until exactly these were accepted, once and in this order.
pub(super) async fn arrive_in_order(stage: &mut Stage<'_>, said: &[RemoteId]) -> Told {
    stage.until("all are accepted", async |stage| Ok(stage.intake.accepted().len() >= said.len())).await?;
    let others = |stage: &Stage<'_>| stage.intake.accepted().len() > said.len();
    stage.never("more was accepted than was said", async |stage| Ok(others(stage))).await?;
    let arrived: Vec<_> = stage.intake.accepted().into_iter().map(|message| message.id).collect();
    let missing = said.iter().filter(|id| !arrived.contains(id)).count();
    if missing > 0 {
        return Err(Stop::failed(format!("{missing} of {} messages are missing, or have another name", said.len())));
    }
    all_hold(&[(arrived == said, "the order is another")])
}

pub(super) fn all_hold(checks: &[(bool, &str)]) -> Told {
    let broken: Vec<_> = checks.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
    if broken.is_empty() { Ok(()) } else { Err(Stop::failed(broken.join("; "))) }
}
