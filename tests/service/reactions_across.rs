//! A flood of reactions through the running service on real servers, and what each far end has of it.

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{
    RemoteId,
    conformance::{Details, How, Overheard, Say},
    message::Reaction,
};
use sealbridge_lab::{Lab, MailServer, person::Received};
use serde_json::json;

use crate::trio::{Setting, Trio, Whom, said};

/// So many are taken back, the first ones first.
const TAKEN_BACK: usize = 5;

/// More than what of one person is carried.
fn emoji() -> Vec<String> {
    (0..30).filter_map(|at| char::from_u32(0x1f600 + at)).map(String::from).collect()
}

async fn ann_reacts(trio: &Trio, to: &RemoteId, emoji: &str) -> Result<String> {
    let relation = json!({ "rel_type": "m.annotation", "event_id": to.as_str(), "key": emoji });
    trio.ann.send_raw_plain(&trio.rooms[0], "m.reaction", json!({ "m.relates_to": relation })).await
}

/// What the bridge reacted with in Bob's room, in its order, whatever became of it since.
fn shown_to_bob(trio: &Trio, on: &RemoteId) -> Vec<String> {
    let of_the_bridge = |one| match one {
        Received::Event(event) if event.kind == "m.reaction" && event.sender == trio.bots[1] => {
            let relation = &event.content["m.relates_to"];
            (relation["event_id"] == on.as_str()).then(|| relation["key"].as_str().unwrap_or_default().to_owned())
        }
        _ => None,
    };
    trio.bob.received().into_iter().filter_map(of_the_bridge).collect()
}

/// What stands under a message now.
fn under<'a>(heard: &'a [Overheard], message: &RemoteId) -> Option<&'a [String]> {
    let is = |one: &&Overheard| one.how == How::Reaction && one.details.about.as_ref() == Some(message);
    heard.iter().rfind(is).map(|one| one.details.emoji.as_slice())
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_reactions_ends_as_the_table_says_and_keeps_nothing_else_from_crossing() -> Result<()> {
    let Some(mail) = MailServer::shared().await? else { return Ok(()) };
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut trio = Trio::on([&lab.a, &lab.b], mail, &Setting::default()).await?;
    let liked = said(&trio, Whom::Ann, "liked by everybody").await?;
    let other = said(&trio, Whom::Ann, "liked by Bob").await?;
    let all = emoji();
    let mut events = Vec::new();
    for one in &all[..10] {
        events.push(ann_reacts(&trio, liked.to(Whom::Ann), one).await?);
    }
    // In the middle of it the bridge dies, and it comes back to the rest in one piece.
    trio.bridge.kill().await?;
    for one in &all[10..] {
        events.push(ann_reacts(&trio, liked.to(Whom::Ann), one).await?);
    }
    for event in &events[..TAKEN_BACK] {
        trio.ann.redact(&trio.rooms[0], event).await?;
    }
    trio.says(Whom::Ann, Say { words: "after the flood".to_owned(), ..Say::default() }).await?;
    let about = Details { about: Some(other.to(Whom::Bob).clone()), emoji: vec!["👍".into()], ..Details::default() };
    trio.says(Whom::Bob, Say { how: How::Reaction, details: about, ..Say::default() }).await?;
    trio.bridge.start().await?;

    for who in Whom::Ann.others() {
        trio.hears(who, "what was said after it", |heard| heard.words == "after the flood").await?;
    }
    // The first of them are carried, and as many of the others as there is room for when some are taken back.
    let standing = &all[TAKEN_BACK..];
    let heard = trio.heard(Whom::Bob).await?;
    let there = under(&heard, liked.to(Whom::Bob)).context("nothing is left")?;
    let left: Vec<_> = standing.iter().filter(|one| there.contains(one)).cloned().collect();
    ensure!(left.len() == there.len() && left.len() <= Reaction::MOST, "too many are left, or others: {there:?}");
    let first = &all[TAKEN_BACK..Reaction::MOST];
    ensure!(left.starts_with(first), "one of the first is missing: {there:?}");
    let shown = shown_to_bob(&trio, liked.to(Whom::Bob));
    let mut rest = all.iter();
    ensure!(shown.iter().all(|one| rest.any(|known| known == one)), "in another order, or twice: {shown:?}");

    // One account shows one emoji on Delta Chat, and the rest is said, as it is at last.
    let heard = trio.heard(Whom::Ben).await?;
    let words = format!("reacted {} to this message", left.join(" "));
    let at = |words: &str| heard.iter().position(|heard| heard.words == words);
    let last = at(&words).with_context(|| format!("nobody says {words:?}"))?;
    assert_eq!(heard[last].reply_to.as_ref(), Some(liked.to(Whom::Ben)));
    ensure!(last < at("after the flood").context("it was heard")?, "out of order");
    let said: Vec<_> = heard.iter().filter(|heard| heard.words.starts_with("reacted ")).collect();
    ensure!(said.len() <= all.len() + TAKEN_BACK, "{} are told of {}", said.len(), all.len() + TAKEN_BACK);
    ensure!(said.last().is_some_and(|last| last.words == words), "something else is told last");
    let shown = under(&heard, liked.to(Whom::Ben)).unwrap_or_default();
    ensure!(shown.iter().all(|one| left.contains(one)), "what was taken back is still shown: {shown:?}");

    // What somebody else thinks of another message is lost in none of it.
    let is = |heard: &Overheard| heard.how == How::Reaction && heard.details.emoji == ["👍"];
    let heard = trio.hears(Whom::Ann, "what Bob thinks", is).await?;
    assert_eq!(heard.details.about.as_ref(), Some(other.to(Whom::Ann)));
    trio.hears(Whom::Ben, "what Bob thinks", |heard| {
        is(heard) && heard.details.about.as_ref() == Some(other.to(Whom::Ben))
    })
    .await?;
    trio.bridge.stop().await
}
