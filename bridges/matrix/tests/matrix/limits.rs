//! One room's trouble is not another's, and a homeserver's limits are shared fairly.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use sealbridge_contract::Fate;
use sealbridge_lab::{
    Lab, Person, Proxy, Synapse,
    proxy::{Fault, Rule},
    servers,
    synapse::Options,
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::bot::{Bot, Running, SOON, ann, slip};

async fn rooms(bob: &Person, bot: &Bot, running: &Running, count: usize) -> Result<Vec<String>> {
    let mut rooms = Vec::new();
    for n in 0..count {
        rooms.push(bob.create_encrypted_room(&format!("room {n}"), &[&bot.user.id]).await?);
    }
    for room in &rooms {
        running.joins(room, 2).await?;
    }
    Ok(rooms)
}

#[tokio::test]
async fn request_that_hangs_in_one_room_does_not_slow_the_others() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let proxy = Proxy::before(lab.a.url()).await?;
    let bot = Bot::new(&lab.a, proxy.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let running = Arc::new(bot.start().await?);
    let rooms = rooms(&bob, &bot, &running, 3).await?;
    for room in &rooms {
        running.says(room, "first").await?;
    }
    let hanging = proxy.add(Rule::new("PUT", &regex_of(&rooms[0]), Fault::Hang)?);
    let stuck = {
        let (running, slip) = (Arc::clone(&running), slip(&rooms[0]));
        tokio::spawn(async move { running.deliver(&slip, ann(), "stuck").await })
    };
    hanging.wait_struck(1, SOON).await?;
    let began = Instant::now();
    for _ in 0..5 {
        for room in &rooms[1..] {
            running.deliver(&slip(room), ann(), "meanwhile").await?;
        }
    }
    assert!(began.elapsed() < Duration::from_secs(12), "ten sends took {:?}", began.elapsed());
    assert!(!stuck.is_finished());
    bob.send(&rooms[0], "and in").await?;
    bot.hears("and in").await?;
    hanging.remove();
    let fate = stuck.await?.map_err(|error| error.fate);
    assert!(matches!(fate, Err(Fate::Unknown)), "{fate:?}");
    Ok(())
}

fn regex_of(room: &str) -> String {
    format!("{}/send/", room.replace('!', r"\!").replace('.', r"\."))
}

/// Delivers as the flow does: again, when it is told to.
async fn insist(running: &Running, room: &str, words: &str) {
    let slip = slip(room);
    while let Err(error) = running.deliver(&slip, ann(), words).await {
        match error.fate {
            Fate::Retry(after) => tokio::time::sleep(after.unwrap_or_default()).await,
            fate => panic!("{fate:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn with_the_homeservers_own_limits_every_room_gets_its_share() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let mut limits = Options::default();
    limits.extra.insert("rc_message".into(), json!({ "per_second": 2, "burst_count": 3 }));
    let server = Synapse::start("gamma.test", limits).await?;
    let bob = Person::new_on(&server, "bob").await?;
    server.exempt_from_limits(bob.user_id()).await?;
    let bot = Bot::new(&server, server.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let running = Arc::new(bot.start().await?);
    let rooms = rooms(&bob, &bot, &running, 4).await?;
    // The first in each room shares its key, which takes one longer than another.
    for room in &rooms {
        insist(&running, room, "hello").await;
    }
    let mut lanes = JoinSet::new();
    for room in rooms.clone() {
        let running = Arc::clone(&running);
        lanes.spawn(async move {
            for n in 0..5 {
                insist(&running, &room, &format!("message {n}")).await;
            }
        });
    }
    tokio::time::timeout(Duration::from_secs(120), lanes.join_all()).await?;
    for room in &rooms {
        bob.wait_for(|it| it.room == *room && it.body == "Ann: message 4", SOON).await?;
    }
    let heard = bob.messages().into_iter().filter(|it| it.body.starts_with("Ann: message"));
    let order: Vec<String> = heard.map(|it| it.room).collect();
    assert_eq!(order.len(), 20);
    // No room is done before another has had its second message.
    for (at, room) in order.iter().enumerate() {
        let so_far = |of: &str| order[..=at].iter().filter(|one| *one == of).count();
        if so_far(room) == 5 {
            assert!(rooms.iter().all(|other| so_far(other) >= 2), "{order:?}");
        }
    }
    let findings = running.matrix.doctor().await;
    let seen = findings.iter().find(|finding| finding.topic == "rate-limit");
    assert!(seen.is_some_and(|finding| finding.words.contains("override_ratelimit")), "{findings:?}");
    Ok(())
}
