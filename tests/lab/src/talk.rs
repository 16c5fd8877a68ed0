//! Two people who talk while something happens, and what came of what they said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    checker::{self, Tag, Tally},
    demo::{Scene, heard_by},
};

/// Patience for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// So long is listened for what may be doubled, once all was heard.
const LINGER: Duration = Duration::from_secs(2);

/// Two people who talk without end.
#[derive(Debug)]
pub struct Talk {
    stop: Arc<AtomicBool>,
    said: Arc<[AtomicUsize; 2]>,
    tasks: Vec<tokio::task::JoinHandle<Result<Vec<Tag>>>>,
}

impl Talk {
    /// Lets them begin.
    pub fn start(scene: &Scene, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let said = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let tasks = [0, 1].map(|side| {
            let (stop, said, run) = (Arc::clone(&stop), Arc::clone(&said), scene.run.clone());
            let (person, room) = (Arc::clone(&scene.people[side]), scene.rooms[side].clone());
            tokio::spawn(async move {
                let mut tags = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let tag = Tag { run: run.clone(), sender: side, number: tags.len() };
                    person.send(&room, &tag.text()).await.context("Say something")?;
                    tags.push(tag);
                    said[side].fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(pause).await;
                }
                Ok(tags)
            })
        });
        Self { stop, said, tasks: tasks.into() }
    }

    /// How much both said so far.
    pub fn said(&self) -> usize {
        self.said.iter().map(|said| said.load(Ordering::Relaxed)).sum()
    }

    /// How much one said so far.
    pub fn said_by(&self, speaker: usize) -> usize {
        self.said[speaker].load(Ordering::Relaxed)
    }

    /// Lets each finish the sentence, and says what they said.
    pub async fn stop(self) -> Result<[Vec<Tag>; 2]> {
        self.stop.store(true, Ordering::Relaxed);
        let mut said = Vec::new();
        for task in self.tasks {
            said.push(task.await??);
        }
        <[Vec<Tag>; 2]>::try_from(said).ok().context("There are two people")
    }
}

/// How many messages of this run by `speaker` were heard at the other side.
pub fn heard(scene: &Scene, speaker: usize) -> usize {
    let heard = heard_by(&scene.people[1 - speaker], &scene.rooms[1 - speaker]);
    heard.iter().filter(|one| Tag::find(&scene.run, &one.text).is_some_and(|tag| tag.sender == speaker)).count()
}

/// Waits until all that was said was heard, or until nothing has come for a while.
pub async fn settle(scene: &Scene, said: &[Vec<Tag>; 2]) -> Tally {
    let mut last = (0, Instant::now());
    loop {
        let tally = judge(scene, said);
        if tally.delivered != last.0 {
            last = (tally.delivered, Instant::now());
        }
        if tally.lost == 0 {
            // What is doubled comes after the first.
            tokio::time::sleep(LINGER).await;
            return judge(scene, said);
        }
        if last.1.elapsed() > PATIENCE {
            return tally;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Judges both directions.
pub fn judge(scene: &Scene, said: &[Vec<Tag>; 2]) -> Tally {
    let one = |speaker: usize| {
        checker::judge(&said[speaker], &heard_by(&scene.people[1 - speaker], &scene.rooms[1 - speaker]))
    };
    one(0) + one(1)
}

/// The numbers of what was never heard, each side's in ranges.
pub fn missing(scene: &Scene, said: &[Vec<Tag>; 2]) -> String {
    let mut words = String::new();
    for speaker in [0, 1] {
        let heard = heard_by(&scene.people[1 - speaker], &scene.rooms[1 - speaker]);
        let heard: Vec<_> = heard.iter().filter_map(|one| Tag::find(&scene.run, &one.text)).collect();
        let lost = said[speaker].iter().filter(|tag| !heard.contains(tag)).map(|tag| tag.number);
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for number in lost {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        words += &format!("of {} by {speaker}: {ranges:?}; ", said[speaker].len());
    }
    words
}
