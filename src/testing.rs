//! Handles of the recovery suite. Compiled with the feature `failpoints` alone, so no build for use has them.
//!
//! `FAILPOINT_KILL_AT=NAME=N` kills the process with `SIGKILL` when it comes to the failpoint NAME for the Nth time.
//! `FAILPOINT_MISLEAD=NAME,NAME` leads the Matrix engine to do what it must never do, each time.
//! With `age::soon` in it, it tells how old its stores are at once rather than after a minute.
//! `FAILPOINT_CLOCK_FILE=PATH` moves the clock by as many milliseconds as the file says, and follows it.

use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sealbridge_contract::Clock;

/// Every named place.
#[must_use]
pub fn places() -> Vec<&'static str> {
    crate::flow::FAILPOINTS.iter().chain(sealbridge_matrix::FAILPOINTS).copied().collect()
}

/// Arms the failpoint that the environment names. With `FAILPOINT_LIST` set it prints all names instead, and ends.
///
/// # Panics
/// If a variable is not as it must be: a suite that mistypes it would kill and mislead nothing, and pass.
pub fn arm() {
    if std::env::var_os("FAILPOINT_LIST").is_some() {
        let _ = writeln!(std::io::stdout().lock(), "{}", places().join("\n"));
        std::process::exit(0);
    }
    for name in std::env::var("FAILPOINT_MISLEAD").iter().flat_map(|names| names.split(',')) {
        let known = sealbridge_matrix::MISLEADING.contains(&name) || name == "age::soon";
        assert!(known, "{name} misleads nobody");
        fail::cfg(name, "return").expect("to return is a valid action");
    }
    let Ok(order) = std::env::var("FAILPOINT_KILL_AT") else { return };
    let (name, nth) = order.rsplit_once('=').expect("FAILPOINT_KILL_AT is NAME=N");
    let nth: u64 = nth.parse().expect("N of FAILPOINT_KILL_AT is a number");
    let passed = AtomicU64::new(0);
    fail::cfg_callback(name, move || {
        if passed.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            // SIGKILL runs no destructor and flushes no buffer: this is the crash, not a picture of it.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    })
    .expect("a callback is a valid action");
}

/// Moves `clock` as the file says that the environment names, for as long as the process lives.
pub fn follow_clock_file(clock: &Clock) {
    let Ok(path) = std::env::var("FAILPOINT_CLOCK_FILE") else { return };
    let clock = clock.clone();
    let mut moved: i64 = 0;
    let mut follow = move || {
        let wanted = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(moved);
        clock.shift(wanted - moved);
        moved = wanted;
    };
    follow();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(20));
            follow();
        }
    });
}
