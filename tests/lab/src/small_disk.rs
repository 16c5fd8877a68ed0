//! A disk that is soon full: a small file system in memory. Only root may mount one.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::skip::skip;

/// A small file system in a folder, gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    point: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many KiB at `point`, which is made if need be. `None` if that is not allowed here: the test that
    /// asked is counted as skipped.
    pub fn mount(point: &Path, kib: u64) -> Option<Self> {
        let mounted = fs::create_dir_all(point).and_then(|()| {
            let size = format!("size={kib}k,mode=700");
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(point).stderr(Stdio::null()).status()
        });
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self { point: point.to_owned() });
        }
        skip("only root may mount a disk that is soon full");
        None
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.point
    }

    /// Fills what room is left with a file.
    pub fn fill(&self) -> io::Result<()> {
        let mut ballast = fs::OpenOptions::new().create(true).append(true).open(self.ballast())?;
        loop {
            match ballast.write_all(&[1; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// From now on nothing can be written to it, or everything can again. Nobody may have a file open there to write it.
    pub fn may_only_be_read(&self, yes: bool) -> io::Result<()> {
        let how = if yes { "remount,ro" } else { "remount,rw" };
        let status = Command::new("mount").args(["-o", how]).arg(&self.point).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("{how}: {status}"))) }
    }

    /// Takes the file away.
    pub fn empty(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.point.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}
