//! Many messages are written while the service is down: more than a homeserver gives in one answer, so the service
//! must read each room backwards until it meets what it knows.

use std::time::Instant;

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use crate::{
    bridge::Binary,
    checker::Tag,
    demo::{Scene, Stage},
    talk,
};

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Messages said while it was down.
    pub sent: usize,
    /// Heard on the other side.
    pub delivered: usize,
    /// Said and never heard.
    pub lost: usize,
    /// Heard again.
    pub duplicated: usize,
    /// Heard after a later one of the same sender.
    pub reordered: usize,
    /// From the start of the service until the last one was heard.
    pub seconds: f64,
    /// Crossed in each second, both ways together.
    pub messages_per_s: f64,
}

impl Outcome {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        self.delivered == self.sent && self.lost + self.duplicated + self.reordered == 0
    }
}

/// Lets `messages` wait, half from each side.
pub async fn run(binary: &Binary, stage: &Stage, messages: usize) -> Result<Outcome> {
    let mut scene = Scene::set(binary, stage).await?;
    // One message each way first, so that both sides have each other's keys and a place in the rooms' history.
    let mut said = [Vec::new(), Vec::new()];
    for side in [0, 1] {
        let tag = Tag { run: scene.run.clone(), sender: side, number: 0 };
        scene.people[side].send(&scene.rooms[side], &tag.text()).await?;
        scene.hear(1 - side, &tag).await?;
        said[side].push(tag);
    }
    scene.bridge.stop().await?;

    stage.heading(&format!("{messages} messages while the service is down"));
    let counts = [messages / 2, messages - messages / 2];
    for side in [0, 1] {
        let run = scene.run.clone();
        said[side].extend((1..=counts[side]).map(|number| Tag { run: run.clone(), sender: side, number }));
    }
    let write = |side: usize| {
        let (person, room, tags) = (&scene.people[side], &scene.rooms[side], &said[side][1..]);
        // A person's client sends in the order of the calls, so some may be under way at once.
        stream::iter(tags).map(|tag| person.send(room, &tag.text())).buffered(16).try_for_each(|_| async { Ok(()) })
    };
    let start = Instant::now();
    tokio::try_join!(write(0), write(1))?;
    stage.line(&format!("written in {:.0} s", start.elapsed().as_secs_f64()));

    let start = Instant::now();
    scene.bridge.spawn().await?;
    let tally = talk::settle(&scene, &said).await;
    let seconds = start.elapsed().as_secs_f64();
    scene.close().await?;
    if tally.lost > 0 {
        stage.line(&format!("the end of the service's log:\n{}", scene.bridge.tail()));
    }
    let (sent, delivered) = (tally.sent - 2, tally.delivered.saturating_sub(2));
    Ok(Outcome {
        sent,
        delivered,
        lost: tally.lost,
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        seconds: (seconds * 10.0).round() / 10.0,
        messages_per_s: (delivered as f64 / seconds * 10.0).round() / 10.0,
    })
}
