//! `cargo lab demo`: the main job, from nothing, before your eyes.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use sealbridge_lab::demo;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave it running at the end, and say how to log in with any Matrix client.
    #[arg(long)]
    keep: bool,
    /// Print one JSON object as the last line of standard output; the rest goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let outcome = demo::run(demo::Options { keep: self.keep, json: self.json }).await?;
        Ok(if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
