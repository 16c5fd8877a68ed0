//! A hundred encrypted rooms: memory, cold start, and the first message in each.

mod replay;
mod watch;

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use ruma::OwnedRoomId;
use sealbridge_lab::{
    Lab, Proxy,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    checker::Tag,
    demo::Stage,
};
use serde::Serialize;

use self::{replay::Requests, watch::Watch};
use crate::{course, figures::median, person::Person, usage::Usage};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Rooms, half of them at each end.
    pub rooms: usize,
    /// Cold starts.
    pub starts: usize,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Encrypted rooms, half of them at each end.
    pub rooms: usize,
    /// Memory after a message in each of them.
    pub rss_mib: f64,
    /// Memory after the last cold start.
    pub rss_started_mib: f64,
    /// From the start of the process until a message is heard that was said while it was down: median.
    pub cold_start_ms: f64,
    /// The longest of them.
    pub cold_start_max_ms: f64,
    /// From the start of the process until a first message was heard in every room.
    pub first_messages_s: f64,
    /// The same requests by themselves.
    pub same_requests_s: f64,
    /// The one over the other.
    pub first_messages_ratio: f64,
    /// The longest time in which no request was under way and the process used no CPU.
    pub longest_idle_ms: f64,
    /// The requests that it took.
    pub requests: Requests,
}

/// Measures all of it, on people and accounts of its own.
pub async fn run(lab: &Lab, binary: &Binary, stage: &Stage, options: Options) -> Result<Figures> {
    stage.heading(&format!("{} encrypted rooms", options.rooms));
    let (near, far) = tokio::try_join!(Person::new(&lab.a, "near"), Person::new(&lab.b, "far"))?;
    let people = [&near, &far];
    let proxies = [Proxy::before(lab.a.url()).await?, Proxy::before(lab.b.url()).await?];
    let (mut a, mut b) = tokio::try_join!(AccountPlan::on(&lab.a, "a"), AccountPlan::on(&lab.b, "b"))?;
    a.homeserver = proxies[0].url().to_owned();
    b.homeserver = proxies[1].url().to_owned();
    let plan = Plan { accounts: vec![a, b], ..Plan::default() };
    let carriers = course::carriers(&plan)?;
    let mut bridge = Bridge::set_up(binary, &plan).await?;
    bridge.start().await?;
    let links = course::rooms(people, &carriers, options.rooms / 2).await?;
    course::joined(people, &carriers, &links).await?;
    course::known(&bridge, &links).await?;
    bridge.stop().await?;

    link(&bridge, &links).await?;
    let tags = [first(&near, &links, 0).await?, first(&far, &links, 1).await?];
    proxies.iter().for_each(Proxy::record);
    let begun = Instant::now();
    bridge.spawn().await?;
    let watch = Watch::start(course::pid(&bridge)?, proxies.each_ref().map(Proxy::pending_watch));
    let mut last = begun;
    for (tags, listener) in tags.iter().zip([&far, &near]) {
        for tag in tags {
            last = last.max(listener.hears(tag).await?.at);
        }
    }
    let longest_idle_ms = watch.longest_idle_ms().await?;
    let first_messages_s = last.duration_since(begun).as_secs_f64();
    let rss_mib = course::until_quiet(course::pid(&bridge)?).await?.rss_mib;
    let recorded = proxies.each_ref().map(Proxy::take_seen);
    let requests = Requests::of(&recorded);
    stage.line(&format!("a first message in every room after {first_messages_s:.2} s, {requests}"));

    let (starts, rss_started_mib) = cold_starts(&mut bridge, people, &links, options.starts).await?;
    bridge.stop().await?;
    drop((near, far));
    let same_requests_s = replay::by_themselves(lab, &recorded, options.rooms / 2).await?;
    stage.line(&format!("the same requests by themselves: {same_requests_s:.2} s"));
    Ok(Figures {
        rooms: options.rooms,
        rss_mib,
        rss_started_mib,
        cold_start_ms: median(&starts),
        cold_start_max_ms: starts.iter().copied().fold(0.0, f64::max),
        first_messages_s,
        same_requests_s,
        first_messages_ratio: first_messages_s / same_requests_s,
        longest_idle_ms,
        requests,
    })
}

const RUN: &str = "hundred0";

/// Links the rooms in the config, while the bridge is down, and lets it take note of them.
async fn link(bridge: &Bridge, links: &[[OwnedRoomId; 2]]) -> Result<()> {
    let mut config = std::fs::read_to_string(bridge.config())?;
    for (number, [there, here]) in links.iter().enumerate() {
        config.push_str(&format!("\n[links.bench-{number}]\nends = [\"a/{there}\", \"b/{here}\"]\n"));
    }
    std::fs::write(bridge.config(), config)?;
    bridge.cli(&["links", "list"]).await?.ok()?;
    Ok(())
}

/// Says the first message in each room of one side.
async fn first(person: &Person, links: &[[OwnedRoomId; 2]], side: usize) -> Result<Vec<Tag>> {
    let mut tags = Vec::new();
    let mut said = Vec::new();
    for (number, link) in links.iter().enumerate() {
        let tag = Tag { run: RUN.to_owned(), sender: side, number };
        said.push(person.account.encrypt(&link[side], &tag.text()).await?);
        tags.push(tag);
    }
    try_join_all(said.iter().map(|content| person.account.put(content))).await?;
    Ok(tags)
}

/// Kills it, says something while it is down, and starts it again.
async fn cold_starts(
    bridge: &mut Bridge,
    people: [&Person; 2],
    links: &[[OwnedRoomId; 2]],
    starts: usize,
) -> Result<(Vec<f64>, f64)> {
    let mut took = Vec::new();
    for start in 0..starts {
        bridge.kill().await?;
        let link = &links[start * 7 % links.len()];
        let tag = Tag { run: RUN.to_owned(), sender: 2, number: start };
        let content = people[0].account.encrypt(&link[0], &tag.text()).await?;
        people[0].account.put(&content).await?;
        let begun = Instant::now();
        bridge.spawn().await?;
        took.push(people[1].hears(&tag).await?.at.duration_since(begun).as_secs_f64() * 1000.0);
    }
    let rss_mib = Usage::of(course::pid(bridge)?).context("It runs after its start")?.rss_mib;
    ensure!(took.iter().all(|took| *took > 0.0), "Something was heard before it was carried");
    Ok((took, rss_mib))
}
