//! Fuzz targets: what parses what others wrote is handed inputs that nobody wrote, and a property is checked on each.
//!
//! A target is a test whose path has `fuzz` in it, beside what it tests. In a usual test run it takes every file of its
//! corpus and a second of made-up inputs; `cargo lab fuzz` gives it ten minutes. The engine is bolero's own, which draws
//! at random and makes a finding smaller: it does not watch which code an input reaches, so inputs are made of the
//! corpus and of words of the language that is parsed. What was found is put into the corpus as a file.

mod mix;

use std::{
    fs,
    io::Write as _,
    panic::RefUnwindSafe,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use mix::Mix;

/// What a line starts with that tells `cargo lab fuzz` what a target did.
pub const MARK: &str = "FUZZED: ";

/// The variable by which `cargo lab fuzz` gives each target its time. It is bolero's own.
pub const TIME: &str = "BOLERO_RANDOM_TEST_TIME_MS";

/// The variable by which `cargo lab test` gives each target the same inputs every time, so that a run that was green stays
/// so until the code changes. New ones are for `cargo lab fuzz` to find. It is bolero's own.
pub const SEED: &str = "BOLERO_RANDOM_SEED";

/// How long an input may be.
const LONGEST: usize = 72 * 1024;

/// Runs a target: every file of `corpus/NAME`, then inputs that are made of them and of the words of its language, until
/// the time is over. The words stand in `words/NAME`, one a line; `¶` in one stands for a line's end.
///
/// # Panics
/// If `check` does, with the input and the way to try it again.
pub fn target(name: &str, check: impl Fn(&[u8]) + RefUnwindSafe) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "there is nothing in the corpus of {name}");
    let (runs, start) = (AtomicU64::new(0), Instant::now());
    for (path, input) in &corpus {
        let failed = std::panic::catch_unwind(|| check(input)).is_err();
        assert!(!failed, "{} is a finding", path.display());
        runs.fetch_add(1, Ordering::Relaxed);
    }
    let mix = Mix { seeds: corpus.into_iter().map(|(_, input)| input).collect(), words: words(name) };
    bolero::check!(name = name).with_generator(mix).with_shrink_time(Duration::from_secs(10)).for_each(|input| {
        runs.fetch_add(1, Ordering::Relaxed);
        check(&input.0);
    });
    report(name, runs.into_inner(), start.elapsed());
}

/// The same for what takes text alone: what is no UTF-8 is made some.
pub fn text_target(name: &str, check: impl Fn(&str) + RefUnwindSafe) {
    target(name, |input| check(&String::from_utf8_lossy(input)));
}

fn place(of: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of).join(name)
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = place("corpus", name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be read to its end").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

fn words(name: &str) -> Vec<Vec<u8>> {
    let words = String::from_utf8(read(&place("words", name))).expect("words are text");
    words.lines().map(|word| word.replace('¶', "\n").into_bytes()).collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn report(name: &str, runs: u64, took: Duration) {
    if std::env::var_os(TIME).is_none() {
        return;
    }
    // Past libtest's capture, which would swallow the line of a test that passes. With nobody left to read it there is
    // nobody to tell.
    let _ = writeln!(std::io::stdout().lock(), "{MARK}{name} {runs} {}", took.as_secs());
}
