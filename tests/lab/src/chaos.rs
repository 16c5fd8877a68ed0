//! The service is killed again and again while people talk, and a checker that sees only what they see judges.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    bridge::Binary,
    demo::{Scene, Setting, Stage},
    talk::{PATIENCE, Talk, judge, missing, settle},
};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Kills in all, half of them at random moments, half at the named places in turn.
    pub kills: usize,
    /// Between two messages of a person.
    pub pause: Duration,
}

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// How often it was killed.
    pub kills: usize,
    /// At how many different named places.
    pub places: usize,
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
    /// From the start of the process to the first message that crossed, median.
    pub recovery_p50_ms: u64,
    /// The same, 95th percentile.
    pub recovery_p95_ms: u64,
}

impl Outcome {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        self.delivered == self.sent && self.lost + self.duplicated + self.reordered + self.undecryptable == 0
    }
}

/// So long a named place may not be reached before the process is killed where it stands.
const NOT_REACHED: Duration = Duration::from_secs(10);

/// Kills it `options.kills` times. `binary` has failpoints.
pub async fn run(binary: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    let places = places(binary).await?;
    // Keys are shared anew every few messages, so that each kill may fall into it.
    let setting = Setting { rotate_after: Some(7), ..Setting::default() };
    let mut scene = Scene::set_with(binary, stage, setting).await?;
    scene.bridge.stop().await?;
    stage.heading(&format!("{} kills while two people talk", options.kills));
    let talk = Talk::start(&scene, options.pause);
    let mut recoveries = Vec::new();
    let mut reached = std::collections::BTreeSet::new();
    for turn in 0..options.kills {
        let named = (turn % 2 == 0).then(|| places[turn / 2 % places.len()].as_str());
        let heard = heard_in_all(&scene);
        match named {
            Some(place) => {
                scene.bridge.set_env("FAILPOINT_KILL_AT", &format!("{place}={}", 1 + turn / 2 / places.len() % 3))
            }
            None => scene.bridge.unset_env("FAILPOINT_KILL_AT"),
        }
        if named == Some("matrix::invite-joined") {
            scene.people[0].create_encrypted_room(&format!("chaos {turn}"), &[&scene.bots[0]]).await?;
        }
        let start = Instant::now();
        scene.bridge.spawn().await?;
        match named {
            Some(place) => match scene.bridge.wait_exit(NOT_REACHED).await {
                Ok(code) => {
                    ensure!(code == -9, "{place}: ended with {code}\n{}", scene.bridge.tail());
                    reached.insert(place.to_owned());
                }
                Err(_) => scene.bridge.kill().await?,
            },
            None => {
                // Some are killed before anything crossed, some after: both must be survived.
                let alive = Duration::from_millis(200 + (turn as u64 * 397) % 1800);
                if turn % 4 == 1 {
                    tokio::time::sleep(alive).await;
                } else {
                    recoveries.push(first_heard(&scene, heard, start).await);
                }
                scene.bridge.kill().await?;
            }
        }
        if turn % 10 == 9 {
            stage.line(&format!("{} kills, {} messages said", turn + 1, talk.said()));
        }
    }
    let said = talk.stop().await?;
    scene.bridge.unset_env("FAILPOINT_KILL_AT");
    let heard = heard_in_all(&scene);
    let outstanding = judge(&scene, &said).lost > 0;
    let start = Instant::now();
    scene.bridge.spawn().await?;
    // When all was heard already, nothing comes, and waiting for it says nothing of recovery.
    if outstanding {
        recoveries.push(first_heard(&scene, heard, start).await);
    }
    let tally = settle(&scene, &said).await;
    if tally.lost > 0 {
        stage.line(&format!("still missing: {}", missing(&scene, &said)));
        let status = scene.bridge.cli(&["status"]).await?;
        stage.line(&format!("the service says: {} {}", status.stdout.trim(), status.stderr.trim()));
    }
    scene.close().await?;
    let undecryptable = scene.people.iter().map(|person| person.undecryptable().len()).sum();
    if tally.lost + tally.duplicated + tally.reordered + undecryptable > 0 {
        let kept = crate::paths::lab_dir()?.join("chaos-failed.log");
        std::fs::copy(scene.bridge.log(), &kept)?;
        stage.line(&format!("its log is kept in {}, and ends with:\n{}", kept.display(), scene.bridge.tail()));
    }
    recoveries.sort_unstable();
    Ok(Outcome {
        kills: options.kills,
        places: reached.len(),
        sent: tally.sent,
        delivered: tally.delivered,
        lost: tally.lost,
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        undecryptable,
        recovery_p50_ms: percentile(&recoveries, 50),
        recovery_p95_ms: percentile(&recoveries, 95),
    })
}

/// The named places of a binary with failpoints.
pub async fn places(binary: &Binary) -> Result<Vec<String>> {
    let output = tokio::process::Command::new(binary.path()).env("FAILPOINT_LIST", "1").output().await?;
    let places: Vec<_> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    ensure!(places.iter().all(|place| place.contains("::")) && !places.is_empty(), "This binary has no failpoints");
    Ok(places)
}

fn heard_in_all(scene: &Scene) -> usize {
    [0, 1].iter().map(|side| scene.people[*side].messages_in(&scene.rooms[*side]).len()).sum()
}

/// Milliseconds until somebody heard something; all of our patience if nobody did, so that it shows in the figures.
async fn first_heard(scene: &Scene, before: usize, start: Instant) -> u64 {
    while start.elapsed() < PATIENCE && heard_in_all(scene) <= before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The value below which `percent` of the sorted values lie.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}
