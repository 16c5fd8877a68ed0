//! Another time of day for a process that reads the machine's clock by itself, by Debian's libfaketime.

use std::{path::PathBuf, sync::OnceLock};

use anyhow::{Context as _, Result, anyhow};

use crate::{bridge::Bridge, debian, skip::skip};

/// The library that a process must load to have another time. `None` if it can't be installed here; the test is then
/// counted as skipped.
pub async fn library() -> Option<PathBuf> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let ready = tokio::task::spawn_blocking(|| {
        READY.get_or_init(|| {
            let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
            debian::ready(&["libfaketime"], &[&library]).map_err(|error| format!("{error:#}"))?;
            Ok(library.into())
        })
    });
    let found = ready.await.context("The installation panicked");
    match found.and_then(|ready| ready.as_ref().cloned().map_err(|error| anyhow!("{error}"))) {
        Ok(library) => Some(library),
        Err(error) => {
            skip(&format!("libfaketime: {error:#}"));
            None
        }
    }
}

impl Bridge {
    /// Whatever is run of the service from now on believes that it is so much later, as in `+8d`. How long things take
    /// stays as it is.
    pub fn live_later(&mut self, library: &std::path::Path, by: &str) {
        self.set_env("LD_PRELOAD", &library.to_string_lossy());
        self.set_env("FAKETIME", by);
        self.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}
