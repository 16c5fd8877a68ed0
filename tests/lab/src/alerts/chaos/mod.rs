//! Programs post into encrypted rooms while the service is killed again and again. What a program was told is kept, once.

mod alerting;
mod counting;
mod posting;

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

use self::{
    counting::{Heard, Wanted},
    posting::{Posting, SENDERS},
};
use super::Alertmanager;
use crate::{
    Person,
    bridge::{Binary, private},
    chaos::{self, Options, percentile},
    demo::{Scene, Stage},
    http::free_port,
};

/// Rooms, each with the sources of two programs.
const ROOMS: usize = 8;
/// The source of the real Alertmanager, and what it shows.
const ALERTMANAGER: &str = "alertmanager";
const SECRET: &str = "the-secret-of-the-chaos";
/// What `posting.py` signs Standard Webhooks with.
const SIGNING: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// So long nothing that is still to come may be heard of, until it is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// So long an Alertmanager has to have told nothing before it is believed to have told all.
const CALM: Duration = Duration::from_secs(3);
/// So long a named place may not be reached before the process is killed where it stands.
const NOT_REACHED: Duration = Duration::from_secs(4);

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// How often it was killed.
    pub kills: usize,
    /// Notices that programs were told to be there or to be kept, and alerts that a real Alertmanager was given.
    pub taken: usize,
    /// How many of these were told to be there.
    pub told_arrived: usize,
    /// Requests that got no answer, or were told to come again; each was made again, under the same key where its sender
    /// has one.
    pub tried_again: usize,
    /// Notices in their rooms, each as a message, as a line of a digest, or counted in one.
    pub heard: usize,
    /// Digests.
    pub digests: usize,
    /// Of those heard, counted in a digest that had no more room for lines.
    pub counted: usize,
    /// Taken and never heard.
    pub lost: usize,
    /// Heard again, or heard though nobody can have taken it.
    pub duplicated: usize,
    /// Events that somebody could not read at the end.
    pub undecryptable: usize,
    /// From the start of the process to the first answer that takes a notice, median.
    pub recovery_p50_ms: u64,
    /// The same, 95th percentile.
    pub recovery_p95_ms: u64,
    /// How many requests each program made.
    pub requests: BTreeMap<String, usize>,
}

impl Outcome {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        self.heard == self.taken
            && self.taken > 0
            && self.digests > 0
            && self.requests.len() == SENDERS.len() + 1
            && self.lost + self.duplicated + self.undecryptable == 0
    }
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
    let room_of: BTreeMap<&str, &String> =
        SENDERS.iter().map(|sender| sender.name).chain([ALERTMANAGER]).zip(rooms.iter().cycle()).collect();
    let (port, mail) = (free_port()?, free_port()?);
    write_config(&mut scene, (port, mail), &rooms).await?;

    let programs = SENDERS.len() + 1;
    stage.heading(&format!("{} kills while {programs} programs post into {ROOMS} encrypted rooms", options.kills));
    let url = format!("http://127.0.0.1:{port}");
    let alertmanager = Arc::new(Alertmanager::start(&format!("{url}/{ALERTMANAGER}"), SECRET).await?);
    let (stop, first) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let posting = Posting::start(&scene.run, &url, &format!("127.0.0.1:{mail}"), &first).await?;
    let alerts = {
        let (alertmanager, stop, run) = (Arc::clone(&alertmanager), Arc::clone(&stop), scene.run.clone());
        let there = (Arc::clone(&ann), room_of[ALERTMANAGER].clone());
        tokio::spawn(async move { alerting::give(&alertmanager, &run, there, &stop).await })
    };
    until_taken(&scene, &posting, &first, 0).await?;
    let mut recoveries = kill(&mut scene, stage, (options, &places), &posting, &first).await?;
    stop.store(true, Ordering::Relaxed);
    let given = alerts.await??;
    let mut told = posting.stop().await?;

    let at = |(sender, tag): &(String, String)| (room_of[sender.as_str()].clone(), tag.clone());
    let given = given.into_iter().map(|tag| (ALERTMANAGER.to_owned(), tag));
    let silent: Vec<_> =
        SENDERS.iter().filter(|sender| told.taken.iter().all(|one| one.0 != sender.name)).map(|s| s.name).collect();
    ensure!(silent.is_empty(), "of {silent:?} nothing is ever taken");
    told.taken.extend(given);
    let wanted = Wanted { taken: told.taken.iter().map(at).collect(), perhaps: told.perhaps.iter().map(at).collect() };
    let heard = until_calm(&ann, &rooms, &alertmanager, &wanted).await?;
    let count = heard.judge(&wanted);
    // It does not repeat by itself what is refused for good.
    if let Some(line) = alertmanager.log().lines().find(|line| line.contains("unexpected status code 4")) {
        stage.line(&format!("Alertmanager was refused: {line}"));
    }
    if count.lost + count.duplicated > 0 {
        say_what_is_wrong(&scene, stage, &heard, &wanted).await?;
    }
    told.requests.insert(ALERTMANAGER.to_owned(), alertmanager.requests().await?);
    recoveries.sort_unstable();
    Ok(Outcome {
        kills: options.kills,
        taken: wanted.taken.len(),
        told_arrived: told.arrived,
        tried_again: told.again,
        heard: count.heard,
        lost: count.lost,
        counted: count.counted,
        digests: count.digests,
        duplicated: count.duplicated,
        undecryptable: ann.undecryptable().len(),
        recovery_p50_ms: percentile(&recoveries, 50),
        recovery_p95_ms: percentile(&recoveries, 95),
        requests: told.requests,
    })
}

/// Adds a source for each program, and starts the service again.
async fn write_config(scene: &mut Scene, (port, mail): (u16, u16), rooms: &[String]) -> Result<()> {
    scene.bridge.stop().await?;
    let folder = scene.bridge.folder();
    let (signing, secret) = (folder.join("signing"), folder.join("secret"));
    private(&signing, SIGNING)?;
    private(&secret, SECRET)?;
    let mut config = fs::OpenOptions::new().append(true).open(scene.bridge.config())?;
    write!(
        config,
        "\n[notices]\nlisten = \"127.0.0.1:{port}\"\nlisten_mail = \"127.0.0.1:{mail}\"\nanswer_within = \"2s\"\n"
    )?;
    let sources = SENDERS.iter().map(|sender| (sender.name, sender.format)).chain([(ALERTMANAGER, ALERTMANAGER)]);
    for (number, (name, format)) in sources.enumerate() {
        let room = &rooms[number % rooms.len()];
        write!(config, "[sources.{name}]\nformat = {format:?}\nto = [\"a/{room}\"]\nmost_per_minute = 100000\n")?;
        match name {
            "standard-webhooks" => writeln!(config, "secret_files = [{signing:?}]")?,
            ALERTMANAGER => writeln!(config, "secret_files = [{secret:?}]")?,
            _ => {}
        }
        // In every other room most of them are told of in digests, and of one more than a digest has lines for.
        if number % 2 == 0 {
            let long = if name == "standard-webhooks" { "8s" } else { "2s" };
            write!(config, "burst = 1\ngather_for = {long:?}\n")?;
        }
    }
    drop(config);
    scene.bridge.start().await
}

/// Kills it, and says how long each time nothing was taken.
async fn kill(
    scene: &mut Scene,
    stage: &Stage,
    (options, places): (Options, &[String]),
    posting: &Posting,
    first: &AtomicUsize,
) -> Result<Vec<u64>> {
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
            // Some are killed while most is still on its way, some when much has arrived.
            tokio::time::sleep(options.pause * u32::try_from(1 + turn % 10).unwrap_or(1)).await;
        }
        scene.bridge.kill().await?;
        scene.bridge.unset_env("FAILPOINT_KILL_AT");
        let (before, begun) = (first.load(Ordering::Relaxed), Instant::now());
        scene.bridge.spawn().await?;
        until_taken(scene, posting, first, before).await?;
        recoveries.push(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        if (turn + 1) % 10 == 0 {
            stage.line(&format!("{} kills", turn + 1));
        }
    }
    Ok(recoveries)
}

/// Waits until more was taken than `before`.
async fn until_taken(scene: &Scene, posting: &Posting, first: &AtomicUsize, before: usize) -> Result<()> {
    let begun = Instant::now();
    while first.load(Ordering::Relaxed) == before {
        ensure!(begun.elapsed() < PATIENCE && !posting.is_over(), "nothing is taken any more\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Waits until all that is wanted is there and nothing more is told, or for as long as one can.
async fn until_calm(ann: &Person, rooms: &[String], alertmanager: &Alertmanager, wanted: &Wanted) -> Result<Heard> {
    let rooms: BTreeSet<_> = rooms.iter().map(String::as_str).collect();
    let (mut requests, mut since) = (alertmanager.requests().await?, Instant::now());
    let (mut said, mut progress) = (0, Instant::now());
    loop {
        let mut heard = Heard::default();
        let now = ann.messages().len();
        if now != said {
            (said, progress) = (now, Instant::now());
        }
        for message in ann.messages().iter().filter(|message| rooms.contains(message.room.as_str())) {
            // An edit, and what is said in a thread, is of what stands there already.
            let relates = message.content["m.relates_to"]["rel_type"].as_str();
            if message.encrypted && !matches!(relates, Some("m.replace" | "m.thread")) {
                heard.take(&message.room, &message.body);
            }
        }
        let now = alertmanager.requests().await?;
        if now != requests || heard.judge(wanted).lost > 0 {
            (requests, since) = (now, Instant::now());
        }
        if since.elapsed() > CALM || progress.elapsed() > PATIENCE {
            return Ok(heard);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn say_what_is_wrong(scene: &Scene, stage: &Stage, heard: &Heard, wanted: &Wanted) -> Result<()> {
    stage.line(&format!("never heard: {:?}", heard.not_named(&wanted.taken).take(40).collect::<Vec<_>>()));
    stage.line(&format!("too often: {:?}", heard.too_often(wanted).take(40).collect::<Vec<_>>()));
    for command in [&["status"][..], &["dead-letters", "list"]] {
        stage.line(&scene.bridge.cli(command).await?.stdout);
    }
    let kept = crate::paths::lab_dir()?.join("chaos-failed.log");
    fs::copy(scene.bridge.log(), &kept).context("Keep its log")?;
    stage.line(&format!("its log is kept in {}", kept.display()));
    Ok(())
}
