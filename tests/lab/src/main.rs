//! `cargo lab`: real servers, demonstrations and the whole check.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{backlog, bench, canaries, chaos, demo, fuzz, outage, test, up};

/// Real servers and clients on loopback, for demonstrations and tests.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start two homeservers and keep them until Ctrl-C.
    Up(up::Up),
    /// Show the main job: two people on two homeservers talk through the bridge.
    Demo(demo::Demo),
    /// Kill the service again and again while people talk.
    Chaos(chaos::Chaos),
    /// Say everything over three networks while things fail, and look everywhere for what is in clear.
    Canaries(canaries::Canaries),
    /// Stop and kill a homeserver while people talk.
    Outage(outage::Outage),
    /// Let many messages wait while the service is down, and see them cross.
    Backlog(backlog::Backlog),
    /// Measure the bridge next to a bare relay, the homeserver and another implementation.
    Bench(bench::Bench),
    /// Hand inputs that nobody wrote to what parses what others wrote.
    Fuzz(fuzz::Fuzz),
    /// Check formatting and lints, and run every test.
    Test(test::Test),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up(up) => up.run().await,
        Command::Demo(demo) => demo.run().await,
        Command::Chaos(chaos) => chaos.run().await,
        Command::Canaries(canaries) => canaries.run().await,
        Command::Outage(outage) => outage.run().await,
        Command::Backlog(backlog) => backlog.run().await,
        Command::Bench(bench) => bench.run().await,
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Test(test) => test.run(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            commands::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
