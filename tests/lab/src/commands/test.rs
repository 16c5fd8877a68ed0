//! `cargo lab test`: the whole check, and one line at its end that says how it went.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use sealbridge_lab::{paths, skip};

use super::{fuzz, say};

const TEST_RESULT: &str = "test result: ";

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Fail if a test was skipped, unless for want of files from outside.
    #[arg(long)]
    deny_skips: bool,
    /// Handed to the test binaries: a part of a test's name, or options of theirs.
    #[arg(last = true)]
    filter: Vec<String>,
}

struct Step {
    name: &'static str,
    tally: Tally,
    took: Duration,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u32,
    failed: u32,
    skips: BTreeSet<String>,
}

impl Test {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let fmt = ["fmt", "--all", "--check"];
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        let mut tests: Vec<&str> = ["test", "--workspace", "--no-fail-fast"].into();
        tests.extend(["--features", "sealbridge/failpoints", "--"]);
        tests.extend(self.filter.iter().map(String::as_str));

        let steps = [
            step("formatting", &fmt, |status, _| Tally::of_one(status))?,
            step("lints", &clippy, |status, _| Tally::of_one(status))?,
            step("tests", &tests, Tally::of_tests)?,
        ];
        Ok(report(&steps, self.deny_skips))
    }
}

/// Runs cargo, shows what it prints as it comes, and counts.
fn step(name: &'static str, arguments: &[&str], count: impl Fn(bool, &str) -> Tally) -> Result<Step> {
    say(&format!("\n== {name}: cargo {}", arguments.join(" ")));
    let start = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(arguments)
        .env(fuzz::SEED, "1")
        .current_dir(paths::workspace_root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("Run cargo")?;
    let mut output = child.stdout.take().context("cargo has no stdout")?;
    let mut printed = Vec::new();
    let mut part = [0; 8192];
    loop {
        let length = output.read(&mut part).context("Read what cargo prints")?;
        if length == 0 {
            break;
        }
        printed.extend_from_slice(&part[..length]);
        let mut out = std::io::stdout().lock();
        out.write_all(&part[..length])?;
        out.flush()?;
    }
    let status = child.wait().context("Wait for cargo")?;
    Ok(Step { name, tally: count(status.success(), &String::from_utf8_lossy(&printed)), took: start.elapsed() })
}

impl Tally {
    fn of_one(passed: bool) -> Self {
        Self { passed: u32::from(passed), failed: u32::from(!passed), skips: BTreeSet::new() }
    }

    /// Sums up every test binary. A test that says it is skipped has passed in libtest's eyes.
    fn of_tests(success: bool, printed: &str) -> Self {
        let mut tally = Self::default();
        for line in printed.lines() {
            if let Some((_, counts)) = line.split_once(TEST_RESULT) {
                tally.passed += number_before(counts, " passed");
                tally.failed += number_before(counts, " failed");
            } else if let Some((_, skip)) = line.split_once(skip::MARK) {
                tally.skips.insert(skip.trim().to_owned());
            } else if let Some(test) = line.strip_suffix(" ... ignored") {
                // An ignored test was never among the passed.
                let test = test.strip_prefix("test ").unwrap_or(test);
                tally.skips.insert(format!("{test}: ignored"));
                tally.passed += 1;
            }
        }
        let skipped = u32::try_from(tally.skips.len()).unwrap_or(u32::MAX);
        tally.passed = tally.passed.saturating_sub(skipped);
        if !success && tally.failed == 0 {
            // Nothing compiled, or a test binary died before it could count.
            tally.failed = 1;
        }
        tally
    }
}

fn number_before(counts: &str, word: &str) -> u32 {
    let before = counts.split_once(word).map_or("", |(before, _)| before);
    let number = before.rsplit([' ', '.']).next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

fn report(steps: &[Step], deny_skips: bool) -> ExitCode {
    let mut passed = 0;
    let mut failed = 0;
    let mut skipped = 0;
    let mut denied = false;
    say(&format!("\n{:<12}{:>8}{:>8}{:>9}{:>9}", "step", "passed", "failed", "skipped", "seconds"));
    for Step { name, tally, took } in steps {
        let skips = tally.skips.len();
        say(&format!("{name:<12}{:>8}{:>8}{skips:>9}{:>9.1}", tally.passed, tally.failed, took.as_secs_f64()));
        passed += tally.passed;
        failed += tally.failed;
        skipped += skips;
    }
    for skip in steps.iter().flat_map(|step| &step.tally.skips) {
        let excused = is_excused(skip);
        denied |= deny_skips && !excused;
        let verdict = if deny_skips && !excused { "not accepted" } else { "skipped" };
        say(&format!("{verdict}: {skip}"));
    }
    let mut line = format!("{passed} passed, {failed} failed");
    if skipped > 0 {
        line.push_str(&format!(", {skipped} skipped"));
    }
    say(&line);
    if failed > 0 || denied { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether a line of a skip, `test: reason`, gives the one reason that is always accepted.
fn is_excused(skip: &str) -> bool {
    skip.split_once(": ").is_some_and(|(_, reason)| reason.starts_with(skip::PAYLOADS_MISSING))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(success: bool, printed: &str, passed: u32, failed: u32, skips: &[&str]) {
        let skips = skips.iter().map(|skip| (*skip).to_owned()).collect();
        let expected = Tally { passed, failed, skips };
        assert_eq!(Tally::of_tests(success, printed), expected, "{printed}");
    }

    #[test]
    fn every_test_binary_is_summed_up_and_skips_are_no_passes() {
        let ok = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let bad = "test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured\n";
        check(true, ok, 3, 0, &[]);
        check(false, &format!("{ok}noise\n{bad}"), 15, 2, &[]);
        check(false, "error: could not compile\n", 0, 1, &[]);
        check(false, ok, 3, 1, &[]);
        let skip = "SKIPPED: a::b: no network\n";
        check(true, &format!("{skip}{ok}{skip}"), 2, 0, &["a::b: no network"]);
        let inline = format!("test a::b ... {skip}ok\n{ok}");
        check(true, &inline, 2, 0, &["a::b: no network"]);
        let ignored = "test c ... ignored\ntest result: ok. 1 passed; 0 failed; 1 ignored\n";
        check(true, ignored, 1, 0, &["c: ignored"]);
    }

    #[test]
    fn only_missing_payloads_excuse_a_skip() {
        assert!(is_excused(&format!("a::b: {}: x", skip::PAYLOADS_MISSING)));
        assert!(!is_excused("a::b: no network"));
    }
}
