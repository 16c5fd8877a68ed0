//! `cargo lab bench`: what the bridge costs, next to others.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use sealbridge_lab::{bridge::Binary, demo::Stage};

use super::Show;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Only so much as shows that everything works; the figures mean nothing.
    #[arg(long)]
    short: bool,
    /// Only this part: journey, compare, echo or hundred.
    #[arg(long)]
    only: Option<String>,
    /// Only the bridge next to a client of another network, from the bridge's commit and from the client's word to a phone's
    /// screen; or only what programs post.
    #[arg(long, value_name = "WHAT", conflicts_with = "only")]
    with: Option<Show>,
    /// Print one JSON object as the last line of standard output; the rest goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        Stage::new(self.json).heading("Building the service and the bench, optimised");
        let (service, bench) = tokio::task::spawn_blocking(Binary::build_optimised).await??;
        let mut measure = tokio::process::Command::new(bench.path());
        measure.arg("measure").arg("--service").arg(service.path());
        measure.args(self.short.then_some("--short")).args(self.json.then_some("--json"));
        let with = self.with.map(|with| with.name().to_owned());
        measure.args(self.only.or(with).iter().flat_map(|part| ["--only", part]));
        let status = measure.kill_on_drop(true).status().await.context("Run the bench")?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
