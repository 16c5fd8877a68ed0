//! Programs post into encrypted rooms while the service is killed again and again. What a program was told is kept, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::{
    bridge::Binary,
    chaos::{self, Options, percentile},
    demo::{Scene, Stage},
    http::{free_port, request},
};

/// Rooms, each with a source of its own.
const ROOMS: usize = 8;
/// Programs that post at once. The last of them is `curl`, with its own way to try again.
const PROGRAMS: usize = 8;
/// Each of them rests so long between two requests, so that there are about twenty requests a second.
const PAUSE: Duration = Duration::from_millis(200);
/// How soon a program tries again that was not told anything, or to come later.
const AGAIN: Duration = Duration::from_millis(150);
/// So long after the last kill everything has to be there.
const PATIENCE: Duration = Duration::from_secs(120);
/// So long a named place may not be reached before the process is killed where it stands.
const NOT_REACHED: Duration = Duration::from_secs(4);

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// How often it was killed.
    pub kills: usize,
    /// Notices that programs were told to be there or to be kept.
    pub taken: usize,
    /// How many of these were told to be there.
    pub told_arrived: usize,
    /// Requests that got no answer, or were told to come again; each was made again under the same key.
    pub tried_again: usize,
    /// Notices in their rooms, each as a message, as a line of a digest, or counted in one.
    pub heard: usize,
    /// Digests.
    pub digests: usize,
    /// Of those heard, counted in a digest that had no more room for lines.
    pub counted: usize,
    /// Taken and never heard.
    pub lost: usize,
    /// Heard again.
    pub duplicated: usize,
    /// Events that somebody could not read at the end.
    pub undecryptable: usize,
    /// From the start of the process to the first answer that takes a notice, median.
    pub recovery_p50_ms: u64,
    /// The same, 95th percentile.
    pub recovery_p95_ms: u64,
}

impl Outcome {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        self.heard == self.taken
            && self.taken > 0
            && self.digests > 0
            && self.lost + self.duplicated + self.undecryptable == 0
    }
}

/// What the programs did.
#[derive(Debug, Default)]
struct Done {
    taken: Vec<(usize, String)>,
    arrived: usize,
}

/// Kills it `options.kills` times, half of them at random moments and half at the named places in turn. `binary` has
/// failpoints.
pub async fn run(binary: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    let places: Vec<_> =
        chaos::places(binary).await?.into_iter().filter(|place| !place.starts_with("matrix::")).collect();
    let mut scene = Scene::set(binary, stage).await?;
    let ann = Arc::clone(&scene.people[0]);
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        rooms.push(ann.create_encrypted_room(&format!("Alerts {number}"), &[&scene.bots[0]]).await?);
    }
    for room in &rooms {
        scene.bridge.wait_conversation(&format!("a/{room}"), Duration::from_secs(30)).await?;
    }
    scene.bridge.stop().await?;
    let port = free_port()?;
    let mut config = fs::OpenOptions::new().append(true).open(scene.bridge.config())?;
    write!(config, "\n[notices]\nlisten = \"127.0.0.1:{port}\"\nanswer_within = \"2s\"\n")?;
    for (number, room) in rooms.iter().enumerate() {
        write!(config, "[sources.room{number}]\nformat = \"raw\"\nto = [\"a/{room}\"]\nmost_per_minute = 100000\n")?;
        // In every other room most of them are told of in digests, which have a line for each.
        if number % 2 == 0 {
            write!(config, "burst = 1\ngather_for = \"2s\"\n")?;
        }
    }
    drop(config);
    scene.bridge.start().await?;

    stage.heading(&format!("{} kills while {PROGRAMS} programs post into {ROOMS} encrypted rooms", options.kills));
    let (stop, again, first) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let programs: Vec<_> = (0..PROGRAMS)
        .map(|program| {
            let (stop, again, first, run) =
                (Arc::clone(&stop), Arc::clone(&again), Arc::clone(&first), scene.run.clone());
            tokio::spawn(async move { post(program, port, &run, &stop, &again, &first).await })
        })
        .collect();
    let mut recoveries = Vec::new();
    for turn in 0..options.kills {
        if turn % 2 == 0 {
            let place = &places[turn / 2 % places.len()];
            scene.bridge.stop().await?;
            scene.bridge.set_env("FAILPOINT_KILL_AT", &format!("{place}={}", 3 + turn / 2 % 5));
            scene.bridge.spawn().await?;
            // What is never come to is killed where it stands.
            let _ = scene.bridge.wait_exit(NOT_REACHED).await;
        } else {
            tokio::time::sleep(options.pause * u32::try_from(1 + turn % 5).unwrap_or(1)).await;
        }
        scene.bridge.kill().await?;
        scene.bridge.unset_env("FAILPOINT_KILL_AT");
        let (before, begun) = (first.load(Ordering::Relaxed), Instant::now());
        scene.bridge.spawn().await?;
        while first.load(Ordering::Relaxed) == before {
            ensure!(begun.elapsed() < PATIENCE, "nothing is taken any more\n{}", scene.bridge.tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        recoveries.push(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        if (turn + 1) % 10 == 0 {
            stage.line(&format!("{} kills", turn + 1));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = Done::default();
    for program in programs {
        let done = program.await??;
        all.taken.extend(done.taken);
        all.arrived += done.arrived;
    }

    // Everything that was taken is there before long.
    let wanted: BTreeSet<_> = all.taken.iter().map(|(room, tag)| (rooms[*room].clone(), tag.clone())).collect();
    let tags_of = |body: &str| {
        body.split_whitespace().filter(|word| word.starts_with("notice-")).map(str::to_owned).collect::<Vec<_>>()
    };
    let count = || {
        let mut count: BTreeMap<(String, String), usize> = BTreeMap::new();
        for message in ann.messages().iter().filter(|message| rooms.contains(&message.room) && message.encrypted) {
            for tag in tags_of(&message.body) {
                *count.entry((message.room.clone(), tag)).or_default() += 1;
            }
        }
        count
    };
    // A digest names so many, and counts the rest.
    let counted = || {
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for message in ann.messages().iter().filter(|message| rooms.contains(&message.room) && message.encrypted) {
            *counted.entry(message.room.clone()).or_default() += without_a_line(&message.body);
        }
        counted
    };
    // How many of each room are named nowhere, and how many its digests count without a name.
    let unnamed = || {
        let (heard, counted) = (count(), counted());
        let of = |room: &String| {
            let unnamed = wanted.iter().filter(|one| one.0 == *room && !heard.contains_key(*one)).count();
            (unnamed, counted.get(room).copied().unwrap_or_default())
        };
        rooms.iter().map(of).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while unnamed().iter().any(|(unnamed, counted)| unnamed > counted) && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (heard, unnamed) = (count(), unnamed());
    let lost = unnamed.iter().map(|(unnamed, counted)| unnamed.saturating_sub(*counted)).sum();
    let too_many: usize = unnamed.iter().map(|(unnamed, counted)| counted.saturating_sub(*unnamed)).sum();
    if lost > 0 {
        let unheard: Vec<_> = wanted.iter().filter(|one| !heard.contains_key(*one)).take(40).collect();
        stage.line(&format!("never heard: {unheard:?}"));
        for command in [&["status"][..], &["dead-letters", "list"]] {
            stage.line(&scene.bridge.cli(command).await?.stdout);
        }
    }
    recoveries.sort_unstable();
    let outcome = Outcome {
        kills: options.kills,
        taken: wanted.len(),
        told_arrived: all.arrived,
        tried_again: again.load(Ordering::Relaxed),
        heard: wanted.len() - lost,
        lost,
        counted: unnamed.iter().map(|(_, counted)| counted).sum(),
        digests: ann.messages().iter().filter(|message| message.encrypted && tags_of(&message.body).len() > 1).count(),
        duplicated: too_many
            + heard.values().map(|count| count - 1).sum::<usize>()
            + heard.keys().filter(|one| !wanted.contains(*one)).count(),
        undecryptable: ann.undecryptable().len(),
        recovery_p50_ms: percentile(&recoveries, 50),
        recovery_p95_ms: percentile(&recoveries, 95),
    };
    Ok(outcome)
}

/// How many notices a digest counts of which it has no line.
fn without_a_line(body: &str) -> usize {
    let more = |line: &str| line.trim().strip_prefix("and ")?.strip_suffix(" more")?.parse::<usize>().ok();
    body.lines().filter_map(more).sum()
}

/// One program: it posts, and posts the same again until it is told that it was taken.
async fn post(
    program: usize,
    port: u16,
    run: &str,
    stop: &AtomicBool,
    again: &AtomicUsize,
    first: &AtomicUsize,
) -> Result<Done> {
    let mut done = Done::default();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let room = (program + number) % ROOMS;
        let tag = format!("notice-{run}-{program}-{number}");
        let url = format!("http://127.0.0.1:{port}/room{room}");
        let status = loop {
            let status = if program + 1 == PROGRAMS { curl(&url, &tag).await? } else { client(&url, &tag).await };
            match status {
                Some(status @ (200 | 202)) => break status,
                // It did not answer, or said to come again.
                None | Some(503) => {
                    again.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                }
                Some(other) => anyhow::bail!("{url} answers {other}"),
            }
        };
        first.fetch_add(1, Ordering::Relaxed);
        done.arrived += usize::from(status == 200);
        done.taken.push((room, tag));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(done)
}

async fn client(url: &str, tag: &str) -> Option<u16> {
    request("POST", url, &[("idempotency-key", tag)], tag.to_owned()).await.ok().map(|answer| answer.status)
}

async fn curl(url: &str, tag: &str) -> Result<Option<u16>> {
    let header = format!("Idempotency-Key: {tag}");
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}", "-H", &header, "-d", tag, url])
        .output()
        .await
        .context("Run curl")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|status| *status != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_that_a_digest_only_counts_are_found_as_rooms_see_them() {
        let body = "room6: 🗂\u{fe0f} 27 notices gathered since 2026-11-30 12:18 UTC: 🔵 27 Info\n  - notice-a-2-28\n  \
                    - notice-a-4-26\n  and 25 more";
        assert_eq!((without_a_line(body), without_a_line("and so on\n - and 3 more or less")), (25, 0));
    }
}
