//! Looks for time in which a process waits for nothing that is on its way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use sealbridge_lab::proxy::PendingWatch;
use tokio::{sync::Notify, task::JoinHandle};

use crate::usage::Usage;

/// How closely it looks.
const LOOK: Duration = Duration::from_millis(5);

/// A look at a process and its requests, again and again.
pub(super) struct Watch {
    end: Arc<Notify>,
    looking: JoinHandle<Result<Duration>>,
}

impl Watch {
    pub(super) fn start(pid: u32, requests: [PendingWatch; 2]) -> Self {
        let end = Arc::new(Notify::new());
        let ended = Arc::clone(&end);
        let looking = tokio::spawn(async move {
            let (mut busy_at, mut longest) = (Instant::now(), Duration::ZERO);
            let mut last = (Usage::of(pid)?.cpu, requests.each_ref().map(PendingWatch::begun));
            loop {
                let over = tokio::time::timeout(LOOK, ended.notified()).await.is_ok();
                let now = (Usage::of(pid)?.cpu, requests.each_ref().map(PendingWatch::begun));
                let busy = now != last || requests.iter().any(|requests| requests.pending() > 0);
                longest = longest.max(busy_at.elapsed());
                if busy {
                    busy_at = Instant::now();
                }
                last = now;
                if over {
                    return Ok(longest);
                }
            }
        });
        Self { end, looking }
    }

    /// Ends it.
    pub(super) async fn longest_idle_ms(self) -> Result<f64> {
        self.end.notify_one();
        Ok(self.looking.await??.as_secs_f64() * 1000.0)
    }
}
