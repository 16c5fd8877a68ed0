//! mautrix-python's echo, as a measure of what another implementation uses for a message received and one sent.

use anyhow::{Result, ensure};
use ruma::OwnedUserId;
use sealbridge_lab::{
    Lab,
    checker::Tally,
    demo::Stage,
    person::{Kind, Options as Login, Person as Client},
};
use serde::Serialize;

use crate::{course::Course, figures::median, person::Person};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Rooms.
    pub rooms: usize,
    /// Turns of many messages at once.
    pub turns: usize,
    /// Messages in a turn.
    pub messages: usize,
    /// Messages one at a time.
    pub samples: usize,
}

/// What it cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    /// Said and said back, many at once.
    pub messages_per_s: f64,
    /// Of its process, while many come at once.
    pub cpu_ms_per_message: f64,
    /// Of its process, while they come one at a time.
    pub single_cpu_ms_per_message: f64,
    /// Of its process, after all of it.
    pub rss_mib: f64,
}

/// Lets it say back what `near` says.
pub(crate) async fn run(lab: &Lab, near: &Person, stage: &Stage, options: Options) -> Result<Figures> {
    stage.heading("mautrix-python says back what it reads");
    let client = Client::new_with(&lab.a, "echo", Login { kind: Kind::Echo, ..Login::default() }).await?;
    let user = OwnedUserId::try_from(client.user_id())?;
    let mut links = Vec::new();
    for _ in 0..options.rooms {
        let room = near.account.create_room(Some(&user)).await?;
        client.join(room.as_str()).await?;
        near.account.wait_member(&room, &user).await?;
        links.push([room.clone(), room]);
    }
    let mut course = Course::new("mautrix0", links, client.pid());
    course.warm_up(near, near).await?;
    let before = course.usage()?;
    for turn in 0..options.samples {
        course.one(near, near, turn % options.rooms).await?;
    }
    let single_cpu_ms_per_message = course.usage()?.cpu_ms_per_message(&before, options.samples);
    let (mut per_s, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..options.turns {
        let turn = course.many(near, near, options.messages).await?;
        per_s.push(turn.messages_per_s);
        cpu.push(turn.cpu_ms_per_message);
    }
    let tally = course.tally(near);
    let clean = Tally { sent: tally.sent, delivered: tally.sent, ..Tally::default() };
    ensure!(tally == clean, "Not all came back once and in order: {tally:?}");
    let figures = Figures {
        messages_per_s: median(&per_s),
        cpu_ms_per_message: median(&cpu),
        single_cpu_ms_per_message,
        rss_mib: course.usage()?.rss_mib,
    };
    stage.line(&format!(
        "{:.1} messages a second, {:.2} ms of CPU each; one by one {:.2} ms",
        figures.messages_per_s, figures.cpu_ms_per_message, figures.single_cpu_ms_per_message
    ));
    Ok(figures)
}
