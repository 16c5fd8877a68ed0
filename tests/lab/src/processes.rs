//! What the kernel says of processes, by their ids.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

/// The child of a process whose program's name begins so, if there is one at this moment.
pub fn child_of(parent: u32, name: &str) -> Result<Option<u32>> {
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ended meanwhile is no child.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((before, after)) = stat.rsplit_once(')') else { continue };
        let its_parent = after.split_whitespace().nth(1).and_then(|parent| parent.parse::<u32>().ok());
        let its_name = before.split_once('(').map(|(_, name)| name);
        if its_parent == Some(parent) && its_name.is_some_and(|its| its.starts_with(name)) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// SIGKILL. False: it has ended already.
pub fn kill(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

/// From now on a process may open no file that it has not open already, nor a connection; or as many as this one may.
pub fn starve_of_files(pid: u32, starved: bool) -> Result<()> {
    let usual = getrlimit(Resource::Nofile);
    let most = if starved {
        let highest = std::fs::read_dir(format!("/proc/{pid}/fd"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        // A number that was given back in between is one that could be had again.
        Some(highest.max().context("It has files open")? + 1)
    } else {
        usual.current
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("A process has a number")?;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: most, maximum: usual.maximum })?;
    Ok(())
}

/// The most memory that a process has had so far, in bytes.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("Read a process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("The kernel tells it")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_is_found_by_its_name_measured_and_killed() -> Result<()> {
        let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
        let own = std::process::id();
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // Between its birth and its program's start it has our name, and at first none of its memory.
        while child_of(own, "sleep")? != Some(child.id()) || peak_memory(child.id())? <= 100_000 {
            anyhow::ensure!(std::time::Instant::now() < give_up, "the child is not found, or has no memory");
            std::thread::yield_now();
        }
        assert_eq!(child_of(own, "no such program")?, None);
        assert!(kill(child.id()));
        child.wait()?;
        assert!(!kill(child.id()));
        Ok(())
    }
}
