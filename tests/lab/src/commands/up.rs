//! `cargo lab up`: just the servers.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use sealbridge_lab::Lab;
use sealbridge_lab::synapse::Options;

use super::say;

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Keep Synapse's own rate limits.
    #[arg(long)]
    stock_rate_limits: bool,
    /// Leave the servers' data behind.
    #[arg(long)]
    keep: bool,
}

impl Up {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let options = Options { stock_rate_limits: self.stock_rate_limits, keep_data: self.keep, ..Options::default() };
        let lab = Lab::pair_with(options.clone(), options).await?;
        for server in [&lab.a, &lab.b] {
            let user = server.register("alice", "alice-on-loopback").await?;
            say(&format!(
                "{}\n  address      {}\n  data         {}\n  a user       {} with password {}\n  \
                 another one  {}",
                server.server_name(),
                server.url(),
                server.data_dir().display(),
                user.id,
                user.password,
                server.register_command()?,
            ));
        }
        say("Ctrl-C ends both.");
        tokio::signal::ctrl_c().await.context("Wait for Ctrl-C")?;
        lab.stop().await?;
        Ok(ExitCode::SUCCESS)
    }
}
