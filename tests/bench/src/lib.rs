//! What the bridge costs: next to a bare relay of the same engine, to the homeserver and to another implementation.

mod account;
pub mod compare;
mod course;
pub mod deltachat;
pub mod echo;
mod figures;
pub mod hundred;
pub mod journey;
pub mod notices;
pub mod outcome;
mod person;
mod progress;
pub mod relay;
mod usage;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use sealbridge_lab::{Lab, bridge::Binary, demo::Stage};

pub use outcome::Outcome;

use self::person::Person;

/// Patience for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The bridge and the bare relay.
    pub compare: compare::Options,
    /// mautrix-python.
    pub echo: echo::Options,
    /// Many rooms.
    pub hundred: hundred::Options,
    /// The journey alone.
    pub journey: journey::Options,
    /// Delta Chat.
    pub deltachat: deltachat::Options,
    /// Programs that post.
    pub notices: notices::Options,
}

impl Options {
    /// Enough for figures.
    pub const FULL: Self = Self {
        compare: compare::Options { rooms: 16, samples: 300, turns: 7, messages: 240 },
        echo: echo::Options { rooms: 16, turns: 3, messages: 160, samples: 50 },
        hundred: hundred::Options { rooms: 100, starts: 9 },
        journey: journey::Options { messages: 20_000, rounds: 5, links: 1000, settled: 1_000_000 },
        deltachat: deltachat::Options { samples: 100 },
        notices: notices::Options { requests: 20_000, at_once: 1000, sources: 50, samples: 200 },
    };

    /// Enough to see that everything works.
    pub const SHORT: Self = Self {
        compare: compare::Options { rooms: 2, samples: 2, turns: 1, messages: 8 },
        echo: echo::Options { rooms: 2, turns: 1, messages: 4, samples: 2 },
        hundred: hundred::Options { rooms: 4, starts: 1 },
        journey: journey::Options { messages: 60, rounds: 1, links: 3, settled: 300 },
        deltachat: deltachat::Options { samples: 2 },
        notices: notices::Options { requests: 60, at_once: 20, sources: 4, samples: 3 },
    };
}

/// One part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The journey over networks in memory.
    Journey,
    /// The bridge next to the bare relay.
    Compare,
    /// mautrix-python.
    Echo,
    /// Many rooms.
    Hundred,
    /// The bridge next to a Delta Chat client. Not among everything: it needs a mail server.
    Deltachat,
    /// Programs that post. Not among everything, either.
    Notifications,
}

/// Two homeservers and a person on each.
struct Scene {
    lab: Lab,
    near: Person,
    far: Person,
}

impl Scene {
    async fn set(stage: &Stage) -> Result<Self> {
        stage.heading("Starting two homeservers");
        let lab = Lab::pair().await?;
        let (near, far) = tokio::try_join!(Person::new(&lab.a, "near"), Person::new(&lab.b, "far"))?;
        Ok(Self { lab, near, far })
    }
}

/// Measures everything. `service` is the bridge.
pub async fn run(service: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    // First, while nothing else runs here.
    let journey = journey::run(stage, options.journey).await?;
    let Scene { lab, near, far } = Scene::set(stage).await?;
    let both = compare::run(&lab, [&near, &far], service, stage, options.compare).await?;
    let echo = echo::run(&lab, &near, stage, options.echo).await?;
    drop((near, far));
    let hundred = hundred::run(&lab, service, stage, options.hundred).await?;
    lab.stop().await?;
    Ok(Outcome::of(both, echo, hundred, journey))
}

/// Measures one part, and shows its figures.
pub async fn run_part(part: Part, service: &Binary, stage: &Stage, options: Options) -> Result<()> {
    let done = "Measured";
    match part {
        Part::Journey => return stage.report(done, &journey::run(stage, options.journey).await?),
        Part::Deltachat => {
            let outcome = deltachat::run(service, stage, options.deltachat).await?;
            outcome.show(stage);
            return stage.object(&outcome);
        }
        Part::Notifications => return stage.object(&notices::run(service, stage, options.notices).await?),
        _ => {}
    }
    let Scene { lab, near, far } = Scene::set(stage).await?;
    match part {
        Part::Journey | Part::Deltachat | Part::Notifications => Ok(()),
        Part::Compare => stage.report(done, &compare::run(&lab, [&near, &far], service, stage, options.compare).await?),
        Part::Echo => stage.report(done, &echo::run(&lab, &near, stage, options.echo).await?),
        Part::Hundred => stage.report(done, &hundred::run(&lab, service, stage, options.hundred).await?),
    }
}
