//! `cargo lab chaos`: kill it again and again; nothing may be lost, doubled or out of order.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use sealbridge_lab::{
    alerts,
    bridge::{Binary, Build},
    chaos,
    demo::Stage,
    family,
};

use super::Show;

#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// How often.
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// Talk with another network at the far end, and kill what it needs, too; or let programs post.
    #[arg(long, value_name = "WHAT")]
    with: Option<Show>,
    /// Print one JSON object as the last line of standard output; the rest goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Chaos {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let stage = Stage::new(self.json);
        stage.heading("Building the service with failpoints");
        let binary = tokio::task::spawn_blocking(|| Binary::build(Build::Failpoints)).await??;
        let options = chaos::Options { kills: self.kills, pause: Duration::from_millis(200) };
        let sentence = |clean| if clean { "Nothing lost, doubled or out of order" } else { "NOT as promised" };
        let clean = match self.with {
            None => {
                let outcome = chaos::run(&binary, &stage, options).await?;
                stage.report(sentence(outcome.is_clean()), &outcome)?;
                outcome.is_clean()
            }
            Some(Show::Notifications) => {
                let outcome = alerts::chaos::run(&binary, &stage, options).await?;
                stage.report(sentence(outcome.is_clean()), &outcome)?;
                outcome.is_clean()
            }
            Some(Show::Deltachat) => {
                let outcome = family::chaos::run(&binary, &stage, options).await?;
                stage.report(&outcome.sentence(), &outcome)?;
                outcome.is_clean()
            }
        };
        Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
