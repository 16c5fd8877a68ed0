//! The whole bench in its short form: what it counts is right, whatever the figures are.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{mail, servers};
use serde_json::Value;

async fn short(more: &[&str]) -> Result<Value> {
    let bench = tokio::process::Command::new(env!("CARGO_BIN_EXE_sealbridge-bench"))
        .args(["measure", "--short", "--json", "--service", env!("CARGO_BIN_EXE_bridge-under-test")])
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let (stdout, stderr) = (String::from_utf8_lossy(&bench.stdout), String::from_utf8_lossy(&bench.stderr));
    ensure!(bench.status.success(), "{stdout}\n{stderr}");
    Ok(serde_json::from_str(stdout.lines().last().context("It prints an object")?)?)
}

#[tokio::test]
async fn short_bench_counts_what_was_said_and_gives_every_figure() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let outcome = short(&[]).await?;
    for course in ["bridge", "bare"] {
        let figures = &outcome[course];
        // Two rooms once, two messages one at a time, a turn of eight.
        ensure!(figures["messages"] == 12, "{course}: {figures}");
        for name in ["p50_ms", "p95_ms", "messages_per_s", "rss_mib"] {
            ensure!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{course}, {name}: {figures}");
        }
        ensure!(figures["cpu_ms_per_message"].is_f64(), "{course}: {figures}");
    }
    let journey = &outcome["journey"];
    // Of each link, the bridge's two first words and one message; what is carried; and its rounds on it.
    ensure!(journey["settled_rows"].as_u64().is_some_and(|rows| rows >= 300 + 60 * 2), "{journey}");
    ensure!(outcome["homeserver"]["messages_per_s"].as_f64().is_some_and(|figure| figure > 0.0), "{outcome}");
    for name in ["throughput", "cpu", "added_p50_ms", "added_p95_ms"] {
        ensure!(outcome["ratios"].get(name).is_some_and(Value::is_number), "{name}: {}", outcome["ratios"]);
    }
    let guard = &outcome["egress_guard"];
    ensure!(guard["requests"].as_u64().is_some_and(|looks| looks > 24), "each message is one: {guard}");
    let [p50, p95, longest] = ["p50_ms", "p95_ms", "longest_ms"].map(|name| guard[name].as_f64().unwrap_or_default());
    ensure!(0.0 < p50 && p50 <= p95 && p95 <= longest * 1.25 + 0.001, "{guard}");
    let hundred = &outcome["hundred_rooms"];
    // In each of four rooms the bridge's own first words, and the first message; a key before them.
    ensure!(hundred["requests"]["send"] == 8 && hundred["requests"]["to_device"] == 4, "{hundred}");
    ensure!(hundred["longest_idle_ms"].is_f64() && hundred["cold_start_ms"].is_f64(), "{hundred}");
    ensure!(outcome["targets"].as_array().is_some_and(|targets| targets.len() == 12), "{outcome}");
    Ok(())
}

#[tokio::test]
async fn short_bench_with_delta_chat_sees_all_on_the_phones_and_gives_every_figure() -> Result<()> {
    if !(mail::available().await && servers::available().await) {
        return Ok(());
    }
    let outcome = short(&["--only", "deltachat"]).await?;
    let figures = &outcome["deltachat"];
    ensure!(figures["samples"] == 2, "{figures}");
    let figure = |way: &str, name: &str| figures[way][name].as_f64().context("It is a number");
    for name in ["p50_ms", "p95_ms"] {
        for way in ["bridge", "client"] {
            ensure!(figure(way, name)? > 0.0, "{way}, {name}: {figures}");
        }
        // The whole way has the way from the commit in it.
        ensure!(figure("whole", name)? > figure("bridge", name)?, "{name}: {figures}");
    }
    for name in ["ratio_p50", "ratio_p95", "added_p50_ms", "added_p95_ms"] {
        ensure!(figures[name].is_f64(), "{name}: {figures}");
    }
    ensure!(outcome["targets"].as_array().is_some_and(|targets| targets.len() == 2), "{outcome}");
    Ok(())
}
