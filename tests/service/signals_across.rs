//! Who writes and who has read what, through the running service on real servers: as the person at the far end sees it
//! on Matrix, and not at all on Delta Chat, as the table of kinds says.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{RemoteId, conformance::Say};
use sealbridge_lab::{Lab, MailServer, person::Received};
use serde_json::{Value, json};

use crate::{
    phones::PATIENCE,
    trio::{Named, Setting, Trio, Whom, said},
};

/// Delivered, and read by nobody.
const DELIVERED: u64 = 26;

/// A path of somebody's room, percent-encoded.
fn path(room: &str, rest: &str) -> String {
    let encoded = |text: &str| text.replace('!', "%21").replace('$', "%24");
    format!("/_matrix/client/v3/rooms/{}/{}", encoded(room), encoded(rest))
}

async fn writes(trio: &Trio, who: Whom, typing: bool) -> Result<()> {
    let (person, room) = trio.seat(who).context("they are on Matrix")?;
    let body = json!({ "typing": typing, "timeout": 30_000 });
    let (status, _) = person.http("PUT", &path(room, &format!("typing/{}", person.user_id())), Some(body)).await?;
    ensure!(status == 200, "it can't be said that {who:?} writes: {status}");
    Ok(())
}

async fn reads(trio: &Trio, who: Whom, up_to: &RemoteId) -> Result<()> {
    let (person, room) = trio.seat(who).context("they are on Matrix")?;
    let rest = format!("receipt/m.read/{}", up_to.as_str());
    let (status, _) = person.http("POST", &path(room, &rest), Some(json!({}))).await?;
    ensure!(status == 200, "it can't be said what {who:?} has read: {status}");
    Ok(())
}

/// What somebody's homeserver told of this sort, as it came.
fn told(trio: &Trio, who: Whom, kind: &str) -> Vec<Value> {
    let Some((person, room)) = trio.seat(who) else { return Vec::new() };
    let of_kind = |one| match one {
        Received::Ephemeral(event) if event.kind == kind && event.room == room => Some(event.content),
        _ => None,
    };
    person.received().into_iter().filter_map(of_kind).collect()
}

fn bot(trio: &Trio, who: Whom) -> &str {
    &trio.bots[usize::from(who == Whom::Bob)]
}

/// Whether the bridge writes in somebody's room, by what was told last.
fn is_writing(trio: &Trio, who: Whom) -> bool {
    let last = told(trio, who, "m.typing").pop();
    let names = last.and_then(|last| last["user_ids"].as_array().cloned()).unwrap_or_default();
    names.iter().any(|name| name == bot(trio, who))
}

/// Whether the bridge has read a message in somebody's room.
fn has_read(trio: &Trio, who: Whom, message: &RemoteId) -> bool {
    told(trio, who, "m.receipt").iter().any(|told| told[message.as_str()]["m.read"].get(bot(trio, who)).is_some())
}

async fn until(trio: &Trio, what: &str, is: impl Fn() -> bool) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !is() {
        ensure!(Instant::now() < give_up, "waited in vain until {what}\n{}", trio.bridge.tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_and_who_has_read_is_seen_at_the_other_homeserver_and_never_on_delta_chat() -> Result<()> {
    let Some(mail) = MailServer::shared().await? else { return Ok(()) };
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let setting = Setting { link: Some("signals = true"), ..Setting::default() };
    let mut trio = Trio::on([&lab.a, &lab.b], mail, &setting).await?;
    for person in [&trio.ann, &trio.bob] {
        person.call("watch", json!({})).await?;
    }
    for round in ["before", "after"] {
        let mut words: Vec<Named> = Vec::new();
        for who in Whom::ALL {
            words.push(said(&trio, who, &format!("{who:?} {round}")).await?);
        }
        let [anns, bobs, bens] = words.as_slice() else { anyhow::bail!("three said something") };
        for (who, far, theirs, own) in [(Whom::Ann, Whom::Bob, bobs, anns), (Whom::Bob, Whom::Ann, anns, bobs)] {
            ensure!(!is_writing(&trio, far) && !has_read(&trio, far, theirs.to(far)), "{far:?} sees too much");
            writes(&trio, who, true).await?;
            until(&trio, "the far end sees somebody write", || is_writing(&trio, far)).await?;
            writes(&trio, who, false).await?;
            until(&trio, "the far end sees nobody write", || !is_writing(&trio, far)).await?;
            // Of what was said at the far end, and of what came to both from Delta Chat.
            reads(&trio, who, theirs.to(who)).await?;
            until(&trio, "the far end sees its words read", || has_read(&trio, far, theirs.to(far))).await?;
            if who == Whom::Ann {
                ensure!(!has_read(&trio, who, own.to(who)), "{who:?} sees read what nobody has read yet");
                reads(&trio, who, bens.to(who)).await?;
                until(&trio, "the far end sees the words of a third read", || has_read(&trio, far, bens.to(far)))
                    .await?;
            }
        }

        // Ben is told of nothing of that; and what he reads nobody else is told of.
        let number = |id: &RemoteId| {
            let id = id.clone();
            let messages = trio.ben.messages();
            async move {
                let seen = messages.await?.into_iter().find(|seen| seen.id == id.as_str());
                anyhow::Ok(seen.context("Ben has it")?.number)
            }
        };
        let unread = said(&trio, Whom::Ann, &format!("for Ben {round}")).await?;
        trio.ben.rpc("markseen_msgs", json!([[number(unread.to(Whom::Ben)).await?]])).await?;
        let own = number(bens.to(Whom::Ben)).await?;
        said(&trio, Whom::Ben, &format!("done {round}")).await?;
        let state = trio.ben.rpc("get_message", json!([own])).await?["state"].take();
        ensure!(state == DELIVERED, "Ben's message is in the state {state}");
        for (who, name) in [(Whom::Ann, unread.to(Whom::Ann)), (Whom::Bob, unread.to(Whom::Bob))] {
            ensure!(!has_read(&trio, who, name), "{who:?} sees that Ben has read");
        }
        trio.says(Whom::Ann, Say { words: format!("end {round}"), ..Say::default() }).await?;
        let heard = trio.hears(Whom::Ben, "the end", |heard| heard.words == format!("end {round}")).await?;
        // The bridge's own words about itself are nobody's.
        let mut all = trio.heard(Whom::Ben).await?;
        all.retain(|heard| heard.author.is_some());
        ensure!(all.last().is_some_and(|last| last.id == heard.id), "Ben hears something else");
        let expected = if round == "before" { 4 } else { 8 };
        ensure!(all.len() == expected, "{} of {all:?}", all.len());
        if round == "before" {
            trio.bridge.kill().await?;
            trio.bridge.start().await?;
        }
    }
    trio.bridge.stop().await
}
