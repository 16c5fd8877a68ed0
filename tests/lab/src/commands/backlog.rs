//! `cargo lab backlog`: what is written while the service is down crosses when it is back.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use sealbridge_lab::{
    backlog,
    bridge::{Binary, Build},
    demo::Stage,
};

#[derive(Debug, Args)]
pub(crate) struct Backlog {
    /// How many messages, half from each side.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Print one JSON object as the last line of standard output; the rest goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Backlog {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let stage = Stage::new(self.json);
        stage.heading("Building the service");
        let binary = tokio::task::spawn_blocking(|| Binary::build(Build::Usual)).await??;
        let outcome = backlog::run(&binary, &stage, self.messages).await?;
        stage.report(if outcome.is_clean() { "Everything crossed, in order" } else { "NOT as promised" }, &outcome)?;
        Ok(if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
