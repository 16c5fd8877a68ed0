//! `cargo lab canaries`: say everything while things fail, and look everywhere for what is in clear.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use sealbridge_lab::{
    bridge::{Binary, Build},
    canaries,
    demo::Stage,
};

#[derive(Debug, Args)]
pub(crate) struct Canaries {
    /// How many messages at the least.
    #[arg(long, default_value_t = 1_050)]
    messages: usize,
    /// How many faults at the least.
    #[arg(long, default_value_t = 40)]
    faults: usize,
    /// Print one JSON object as the last line of standard output; the rest goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Canaries {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let stage = Stage::new(self.json);
        stage.heading("Building the service");
        let binary = tokio::task::spawn_blocking(|| Binary::build(Build::Usual)).await??;
        let options =
            canaries::Options { messages: self.messages, faults: self.faults, pause: Duration::from_millis(250) };
        let outcome = canaries::run(&binary, &stage, options).await?;
        stage.report(outcome.sentence(), &outcome)?;
        Ok(if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
