//! A child's standard error: emptied, counted, and never repeated.

use std::time::Duration;

use tokio::{
    io::BufReader,
    process::ChildStderr,
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use crate::lines::{self, Next};

/// How often the count is told.
const EVERY: Duration = Duration::from_secs(1);
/// What is looked at of a line to find its level.
const MOST: usize = 64 << 10;

/// How many lines of which level.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    errors: u64,
    warnings: u64,
    others: u64,
}

/// Reads until the end, so that the child never waits for a full pipe.
pub(crate) async fn drain(stderr: ChildStderr, pid: u32) {
    let mut from = BufReader::new(stderr);
    let mut line = Zeroizing::new(Vec::new());
    let mut count = Count::default();
    let mut tell_at = Instant::now() + EVERY;
    loop {
        let told = timeout_at(tell_at, lines::next(&mut from, &mut line, MOST)).await;
        let over = match told {
            Ok(Ok(Next::Line)) => {
                count.add(&line);
                false
            }
            // The rest of such a line counts as lines of its own.
            Ok(Ok(Next::TooLong)) => {
                use tokio::io::AsyncBufReadExt as _;
                let had = from.buffer().len();
                from.consume(had);
                count.others += 1;
                false
            }
            Ok(Ok(Next::End) | Err(_)) => true,
            Err(_) => false,
        };
        if over || Instant::now() >= tell_at {
            count.tell(pid);
            tell_at = Instant::now() + EVERY;
        }
        if over {
            return;
        }
    }
}

impl Count {
    fn add(&mut self, line: &[u8]) {
        let has = |word: &[u8]| line.windows(word.len()).any(|window| window == word);
        if has(b"ERROR") || has(b"panicked") {
            self.errors += 1;
        } else if has(b"WARN") {
            self.warnings += 1;
        } else {
            self.others += 1;
        }
    }

    fn tell(&mut self, pid: u32) {
        let Self { errors, warnings, others } = std::mem::take(self);
        if errors + warnings + others > 0 {
            tracing::debug!(pid, errors, warnings, others, "Lines on the engine's standard error.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_their_level() {
        let mut count = Count::default();
        for line in ["2026 ERROR engine: x", "thread 'main' panicked at", "WARN y", "INFO z", ""] {
            count.add(line.as_bytes());
        }
        assert_eq!(count, Count { errors: 2, warnings: 1, others: 2 });
    }
}
