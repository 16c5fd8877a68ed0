//! `cargo lab demo`: the main job, from nothing, before your eyes.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use sealbridge_lab::{
    alerts,
    bridge::{Binary, Build},
    demo, family,
};

use super::Show;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Show it with another network at the far end, or something else.
    #[arg(long, value_name = "WHAT")]
    with: Option<Show>,
    /// Leave it running at the end, and say how to log in with any Matrix client.
    #[arg(long)]
    keep: bool,
    /// Print one JSON object as the last line of standard output; the rest goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let options = demo::Options { keep: self.keep, json: self.json };
        let outcome = match self.with {
            None => demo::run(options).await?,
            Some(Show::Notifications) => {
                let stage = demo::Stage::new(options.json);
                stage.heading("Building the service");
                let binary = tokio::task::spawn_blocking(|| Binary::build(Build::Usual)).await??;
                anyhow::ensure!(alerts::available().await, "there is no Alertmanager here");
                let outcome = alerts::demo::run(&binary, &stage).await?;
                return Ok(if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Some(Show::Deltachat) => {
                let stage = demo::Stage::new(options.json);
                stage.heading("Building the service");
                let binary = tokio::task::spawn_blocking(|| Binary::build(Build::Usual)).await??;
                family::demo::run(&binary, &stage, options).await?
            }
        };
        Ok(if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
