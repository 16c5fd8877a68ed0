//! Homeserver B is stopped in mid-traffic, and then killed again and again; a checker that sees only what people see
//! judges, and the memory of the service is watched.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    bridge::{Binary, Bridge},
    demo::{Scene, Stage},
    talk::{self, Talk},
};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long B is stopped.
    pub down: Duration,
    /// How often it is killed after that.
    pub kills: usize,
    /// Between two messages of a person.
    pub pause: Duration,
}

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// How long B was stopped.
    pub seconds_down: u64,
    /// How often it was killed.
    pub kills: usize,
    /// Messages said, both ways.
    pub sent: usize,
    /// Heard on the other side.
    pub delivered: usize,
    /// Said and never heard.
    pub lost: usize,
    /// Heard again.
    pub duplicated: usize,
    /// Heard after a later one of the same sender.
    pub reordered: usize,
    /// Events that somebody could not read at the end.
    pub undecryptable: usize,
    /// Messages said and not heard yet when B came back from its stop.
    pub waiting: usize,
    /// From then until the first of them was heard.
    pub first_again_ms: u64,
    /// Memory of the service before, in MiB.
    pub rss_before_mib: f64,
    /// At the most.
    pub rss_max_mib: f64,
}

/// What waits is in the journal, so memory may not grow with it.
const MAY_GROW_MIB: f64 = 24.0;

impl Outcome {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        self.delivered == self.sent
            && self.lost + self.duplicated + self.reordered + self.undecryptable == 0
            && self.rss_max_mib <= self.rss_before_mib + MAY_GROW_MIB
    }
}

/// Stops B for `options.down`, then kills it `options.kills` times.
pub async fn run(binary: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    let scene = Scene::set(binary, stage).await?;
    let talk = Talk::start(&scene, options.pause);
    // The first message of each direction makes keys and sessions, which stay in memory.
    while [0, 1].iter().any(|side| talk::heard(&scene, *side) < 5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut memory = Memory::of(&scene.bridge)?;

    stage.heading(&format!("Homeserver B is stopped for {} s while both talk", options.down.as_secs()));
    scene.lab.b.stop().await?;
    memory.watch(&scene.bridge, options.down).await?;
    let heard = talk::heard(&scene, 0);
    let waiting = talk.said_by(0).saturating_sub(heard);
    let start = Instant::now();
    scene.lab.b.restart().await?;
    while start.elapsed() < talk::PATIENCE && talk::heard(&scene, 0) == heard {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let first_again_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    stage.line(&format!("{waiting} messages waited for it; the first crossed {first_again_ms} ms after its start"));

    stage.heading(&format!("Homeserver B is killed {} times", options.kills));
    for turn in 0..options.kills {
        memory.watch(&scene.bridge, Duration::from_millis(300 + (turn as u64 * 397) % 1500)).await?;
        scene.lab.b.kill().await?;
        scene.lab.b.restart().await?;
    }
    let said = talk.stop().await?;
    let tally = talk::settle(&scene, &said).await;
    memory.look(&scene.bridge)?;
    if tally.lost > 0 {
        stage.line(&format!("still missing: {}", talk::missing(&scene, &said)));
        let status = scene.bridge.cli(&["status"]).await?;
        stage.line(&format!("the service says: {} {}", status.stdout.trim(), status.stderr.trim()));
        stage.line(&format!("the end of its log:\n{}", scene.bridge.tail()));
    }
    scene.close().await?;
    Ok(Outcome {
        seconds_down: options.down.as_secs(),
        kills: options.kills,
        sent: tally.sent,
        delivered: tally.delivered,
        lost: tally.lost,
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        undecryptable: scene.people.iter().map(|person| person.undecryptable().len()).sum(),
        waiting,
        first_again_ms,
        rss_before_mib: memory.before,
        rss_max_mib: memory.most,
    })
}

/// Resident memory of the service, in MiB.
struct Memory {
    before: f64,
    most: f64,
}

impl Memory {
    fn of(bridge: &Bridge) -> Result<Self> {
        let before = rss_mib(bridge)?;
        Ok(Self { before, most: before })
    }

    fn look(&mut self, bridge: &Bridge) -> Result<()> {
        self.most = self.most.max(rss_mib(bridge)?);
        Ok(())
    }

    async fn watch(&mut self, bridge: &Bridge, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look(bridge)?;
            tokio::time::sleep(Duration::from_millis(200).min(end.saturating_duration_since(Instant::now()))).await;
        }
        Ok(())
    }
}

fn rss_mib(bridge: &Bridge) -> Result<f64> {
    let pid = bridge.pid().context("The service runs all the while")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("The kernel tells memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok((kib / 102.4).round() / 10.0)
}
