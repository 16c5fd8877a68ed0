//! What the bridge costs: next to a bare relay of the same engine, to the homeserver and to another implementation.

mod account;
pub mod compare;
mod course;
pub mod echo;
mod figures;
pub mod hundred;
pub mod journey;
pub mod outcome;
mod person;
mod progress;
pub mod relay;
mod usage;

use std::time::Duration;

use anyhow::Result;
use sealbridge_lab::{Lab, bridge::Binary, demo::Stage};

pub use outcome::Outcome;

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
}

impl Options {
    /// Enough for figures.
    pub const FULL: Self = Self {
        compare: compare::Options { rooms: 16, samples: 300, turns: 3, messages: 480 },
        echo: echo::Options { rooms: 16, turns: 3, messages: 160 },
        hundred: hundred::Options { rooms: 100, starts: 9 },
        journey: journey::Options { messages: 20_000, rounds: 5, links: 1000, settled: 1_000_000 },
    };

    /// Enough to see that everything works.
    pub const SHORT: Self = Self {
        compare: compare::Options { rooms: 2, samples: 2, turns: 1, messages: 8 },
        echo: echo::Options { rooms: 2, turns: 1, messages: 4 },
        hundred: hundred::Options { rooms: 4, starts: 1 },
        journey: journey::Options { messages: 60, rounds: 1, links: 3, settled: 300 },
    };
}

/// Measures everything. `service` is the bridge.
pub async fn run(service: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    // First, while nothing else runs here.
    let journey = journey::run(stage, options.journey).await?;
    stage.heading("Starting two homeservers");
    let lab = Lab::pair().await?;
    let (near, far) = tokio::try_join!(person::Person::new(&lab.a, "near"), person::Person::new(&lab.b, "far"))?;
    let both = compare::run(&lab, [&near, &far], service, stage, options.compare).await?;
    let echo = echo::run(&lab, &near, stage, options.echo).await?;
    drop((near, far));
    let hundred = hundred::run(&lab, service, stage, options.hundred).await?;
    lab.stop().await?;
    Ok(Outcome::of(both, echo, hundred, journey))
}
