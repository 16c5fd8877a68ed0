//! How long looks took: counted, not kept.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Each doubling of the time is so many steps, so a time is known to a quarter of its size.
const STEPS: u64 = 4;
const COUNTS: usize = 64 * STEPS as usize;

/// How many looks took how long.
pub(super) struct Times([AtomicU64; COUNTS]);

impl Default for Times {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Times {
    pub(super) fn note(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0[step(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time within which so many of a hundred looks were done, rounded up to its step. Nothing, if none was.
    pub(super) fn within(&self, percent: u64) -> Duration {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() * percent).div_ceil(100);
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            seen >= wanted && seen > 0
        });
        found.map_or(Duration::ZERO, |step| Duration::from_nanos(end(step)))
    }
}

/// Which step a time is in: its highest bit, and the two below it.
fn step(nanos: u64) -> usize {
    let nanos = nanos.max(STEPS);
    let octave = u64::from(nanos.ilog2());
    let within = (nanos >> (octave - 2)) % STEPS;
    usize::try_from(octave * STEPS + within).unwrap_or(COUNTS - 1)
}

/// The longest time of a step.
fn end(step: usize) -> u64 {
    let (octave, within) = (step as u64 / STEPS, step as u64 % STEPS);
    let size = 1_u64 << octave.saturating_sub(2);
    (STEPS + within).saturating_mul(size).saturating_add(size - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_a_step_that_ends_at_most_a_quarter_later() {
        let mut last = 0;
        for nanos in (4..2_000).chain((10..60).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 3])) {
            let end = end(step(nanos));
            assert!(end >= nanos && end <= nanos + nanos / 4, "{nanos}: {end}");
            assert!(step(nanos) >= last || nanos < 2_000, "{nanos}");
            last = step(nanos);
        }
    }

    #[test]
    fn so_many_of_a_hundred_were_done_within_a_time() {
        let times = Times::default();
        assert_eq!(times.within(95), Duration::ZERO);
        for micros in 1..=100 {
            times.note(Duration::from_micros(micros));
        }
        for (percent, micros) in [(50, 50), (95, 95), (100, 100)] {
            let within = times.within(percent);
            let exact = Duration::from_micros(micros);
            assert!(within >= exact && within <= exact + exact / 4, "{percent}: {within:?}");
        }
    }
}
