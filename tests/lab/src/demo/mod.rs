//! The main job, shown: two encrypted rooms on two homeservers that do not federate, bridged by the real service.

mod scene;
mod show;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

pub use scene::{Scene, Setting, invited};
pub use show::Stage;

use crate::{
    bridge::{Binary, Build},
    checker::{self, Heard, Tag, Tally},
    person::Person,
    search::Search,
};

/// How to show it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Leave everything running at the end, and say how to look at it.
    pub keep: bool,
    /// One JSON object as the last line of standard output; everything else goes to standard error.
    pub json: bool,
}

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
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
    /// Events that somebody could not read.
    pub undecryptable: usize,
    /// Places where words of the encrypted rooms were found in clear.
    pub canary_hits: usize,
    /// Places where words of an unencrypted room were found in clear: the search works.
    pub control_hits: usize,
    /// How long it took, with the service already built.
    pub seconds: f64,
}

impl Outcome {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        self.delivered == self.sent
            && self.lost + self.duplicated + self.reordered + self.undecryptable + self.canary_hits == 0
            && self.control_hits > 0
    }

    /// The same in words.
    pub fn sentence(&self) -> &'static str {
        if self.is_clean() { "Everything arrived, and nothing leaked" } else { "NOT as promised" }
    }
}

/// In how many places words were found in clear.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) canaries: usize,
    /// A sentence that was said in clear: the search works.
    pub(crate) controls: usize,
}

/// Looks for words that must not be found, and for a sentence that must be, and shows what came of it.
pub(crate) fn look_for(
    stage: &Stage,
    canaries: &[String],
    control: &str,
    places: &[PathBuf],
    where_to: &str,
) -> Result<Found> {
    let hits = Search::new(canaries)?.paths(places)?;
    let controls = Search::new(&[control])?.paths(places)?.len();
    for hit in hits.iter().take(10) {
        stage.line(&format!("FOUND IN CLEAR: {} in {} ({})", canaries[hit.canary], hit.file.display(), hit.encoding));
    }
    stage.line(&format!(
        "{} strings looked for in {where_to}: {} found. One sentence that was said in clear: found in {controls} \
         places, so the search works.",
        canaries.len(),
        hits.len()
    ));
    Ok(Found { canaries: hits.len(), controls })
}

/// Seconds, to a tenth.
pub(crate) fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// Single messages in turn, then this many at once from each side.
const TURNS: usize = 6;
const BURST: usize = 20;

/// Builds the service, and shows it.
pub async fn run(options: Options) -> Result<Outcome> {
    let stage = Stage::new(options.json);
    stage.heading("Building the service");
    let binary = tokio::task::spawn_blocking(|| Binary::build(Build::Usual)).await??;
    run_with(&binary, &stage, options).await
}

/// Shows it with this binary.
pub async fn run_with(binary: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    let start = Instant::now();
    let scene = Scene::set(binary, stage).await?;

    stage.heading("Two people talk across the bridge");
    let mut said = Said::default();
    for turn in 0..TURNS {
        let (speaker, listener) = if turn % 2 == 0 { (0, 1) } else { (1, 0) };
        let tag = said.next(&scene.run, speaker);
        let words = format!("{} {}", scene::LINES[turn % scene::LINES.len()], tag.text());
        let event = scene.people[speaker].send(&scene.rooms[speaker], &words).await?;
        let heard = scene.hear(listener, &tag).await?;
        scene.transcript(stage, speaker, &event, &words, listener, &heard).await?;
    }
    stage.line(&format!("… and {BURST} more from each side, at once"));
    let burst: Vec<_> =
        (0..BURST).flat_map(|_| [0, 1]).map(|speaker| (speaker, said.next(&scene.run, speaker))).collect();
    let sending = burst
        .iter()
        .map(|(speaker, tag)| scene.people[*speaker].send(&scene.rooms[*speaker], &format!("burst {}", tag.text())));
    futures_util::future::try_join_all(sending).await?;
    for (speaker, tag) in burst.iter().rev().take(2) {
        scene.hear(1 - speaker, tag).await?;
    }

    let tally: Tally = [0, 1]
        .into_iter()
        .map(|speaker| {
            checker::judge(&said.tags[speaker], &heard_by(&scene.people[1 - speaker], &scene.rooms[1 - speaker]))
        })
        .sum();
    let undecryptable = scene.people.iter().map(|person| person.undecryptable().len()).sum();

    stage.heading("Looking for their words in clear");
    let control = scene.say_in_clear().await?;
    if !options.keep {
        scene.close().await?;
    }
    let canaries: Vec<_> = said.tags.iter().flatten().map(Tag::text).collect();
    let where_to = "databases, media, logs and the service's folder";
    let found = look_for(stage, &canaries, &control, &scene.places(), where_to)?;
    let outcome = Outcome {
        sent: tally.sent,
        delivered: tally.delivered,
        lost: tally.lost,
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        undecryptable,
        canary_hits: found.canaries,
        control_hits: found.controls,
        seconds: tenths(start.elapsed()),
    };
    stage.report(outcome.sentence(), &outcome)?;
    if options.keep {
        scene.keep(stage).await?;
    }
    Ok(outcome)
}

/// What a person heard from others in a room, for the checker.
pub fn heard_by(person: &Person, room: &str) -> Vec<Heard> {
    let heard = person.messages_in(room).into_iter();
    heard.map(|message| Heard { late: message.body.contains("[late]"), text: message.body }).collect()
}

/// Who said what so far.
#[derive(Debug, Default)]
struct Said {
    tags: [Vec<Tag>; 2],
}

impl Said {
    fn next(&mut self, run: &str, speaker: usize) -> Tag {
        let tag = Tag { run: run.to_owned(), sender: speaker, number: self.tags[speaker].len() };
        self.tags[speaker].push(tag.clone());
        tag
    }
}
