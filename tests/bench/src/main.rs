//! `sealbridge-bench`: what `cargo lab bench` builds optimised and runs.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use sealbridge_bench::{Options, Part, relay};
use sealbridge_lab::{bridge::Binary, demo::Stage};

/// Measures the bridge.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure everything, or one part.
    Measure {
        /// The service's binary.
        #[arg(long)]
        service: PathBuf,
        /// Print one JSON object as the last line of standard output; the rest goes to standard error.
        #[arg(long)]
        json: bool,
        /// Only so much as shows that everything works; the figures mean nothing.
        #[arg(long)]
        short: bool,
        /// Only this part.
        #[arg(long)]
        only: Option<Part>,
    },
    /// The bare relay that the bridge is compared with.
    #[command(name = relay::COMMAND, hide = true)]
    BareRelay,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::BareRelay => relay::run().await,
        Command::Measure { service, json, short, only } => measure(service, json, short, only).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nobody left to read it there is nobody to tell.
            let _ = writeln!(std::io::stderr().lock(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(service: PathBuf, json: bool, short: bool, only: Option<Part>) -> Result<()> {
    let stage = Stage::new(json);
    let options = if short { Options::SHORT } else { Options::FULL };
    let service = Binary::at(service);
    if let Some(part) = only {
        return sealbridge_bench::run_part(part, &service, &stage, options).await;
    }
    let outcome = sealbridge_bench::run(&service, &stage, options).await?;
    outcome.show(&stage);
    stage.object(&outcome)
}
