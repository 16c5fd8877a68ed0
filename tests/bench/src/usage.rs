//! What a process has used, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// CPU time so far and memory now, of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// In user and system mode, by all its threads.
    pub(crate) cpu: Duration,
    /// Resident memory.
    pub(crate) rss_mib: f64,
}

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("Read a process's CPU time")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("Read a process's memory")?;
        let cpu = cpu(&stat, rustix::param::clock_ticks_per_second()).context("The kernel tells CPU time")?;
        let rss_mib = rss_mib(&status).context("The kernel tells memory")?;
        Ok(Self { cpu, rss_mib })
    }

    /// Of this process.
    pub(crate) fn own() -> Result<Self> {
        Self::of(std::process::id())
    }

    /// Milliseconds of CPU for each of `messages`, since `before`.
    pub(crate) fn cpu_ms_per_message(&self, before: &Self, messages: usize) -> f64 {
        self.cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0 / messages.max(1) as f64
    }
}

fn cpu(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    // The name before it may hold anything, brackets and blanks included.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64((user + system) as f64 / ticks_per_second.max(1) as f64))
}

fn rss_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lines_are_read_whatever_the_process_is_called() {
        let stat = "42 (a (strange) name) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 1000 1 1";
        assert_eq!(cpu(stat, 100), Some(Duration::from_secs(2)));
        assert_eq!(rss_mib("Name:\tx\nVmRSS:\t   2048 kB\n"), Some(2.0));
        assert_eq!(cpu("nonsense", 100), None);
    }

    #[test]
    fn own_usage_is_there() -> Result<()> {
        assert!(Usage::own()?.rss_mib > 1.0);
        Ok(())
    }
}
