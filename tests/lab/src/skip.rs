//! How a test says that it could not run here.
//!
//! A skipping test prints one line that starts with `SKIPPED: ` and returns as if it had passed.
//! `cargo lab test` counts those lines, and takes them off the number of passed tests.

use std::io::Write;

/// What a skip line starts with.
pub const MARK: &str = "SKIPPED: ";

/// The one reason that `.ci/run` accepts. A reason that starts with it is about files from outside.
pub const PAYLOADS_MISSING: &str = "the payload folder is missing";

/// Says that the running test is skipped. Call it once a test, then return.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let reason = reason.replace(['\n', '\r'], " ");
    // Past libtest's capture, which would swallow the line of a test that passes.
    let mut out = std::io::stdout().lock();
    // With nobody left to read the line there is nobody to tell.
    let _ = writeln!(out, "{MARK}{test}: {reason}");
}
