//! `cargo lab outage`: a homeserver goes away and comes back; nothing may be lost, and memory may not grow meanwhile.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use sealbridge_lab::{
    bridge::{Binary, Build},
    demo::Stage,
    outage,
};

#[derive(Debug, Args)]
pub(crate) struct Outage {
    /// How long homeserver B is stopped.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How often it is killed after that.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Print one JSON object as the last line of standard output; the rest goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Outage {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let stage = Stage::new(self.json);
        stage.heading("Building the service");
        let binary = tokio::task::spawn_blocking(|| Binary::build(Build::Usual)).await??;
        let (down, pause) = (Duration::from_secs(self.seconds), Duration::from_millis(50));
        let outcome = outage::run(&binary, &stage, outage::Options { down, kills: self.kills, pause }).await?;
        stage.report(
            if outcome.is_clean() { "Everything arrived, in order, in bounded memory" } else { "NOT as promised" },
            &outcome,
        )?;
        Ok(if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
