//! Another bridge that joins the same conversations and knows nothing of our marks, played over folders.

use std::time::Duration;

use anyhow::{Result, ensure};
use sealbridge_lab::bridge::Bridge;
use sealbridge_loopback::DiskPeer;

use super::recovery::{PATIENCE, stage};

/// Carries from b to a, with a name in front.
struct OtherBridge {
    carried: usize,
}

impl OtherBridge {
    fn carry(&mut self, [a, b]: &mut [DiskPeer; 2]) -> Result<()> {
        let heard = b.heard()?;
        // What the bridge itself says is a notice, and no bridge carries that.
        for line in heard[self.carried..].iter().filter(|line| line.how.is_none()) {
            a.say("room", "@otherbridge", &format!("Ann: {}", line.words))?;
        }
        self.carried = heard.len();
        Ok(())
    }
}

async fn links_paused(bridge: &Bridge) -> Result<bool> {
    Ok(bridge.status().await?["links_paused"] == 1)
}

#[tokio::test]
async fn loop_of_two_bridges_is_broken_goes_on_after_a_rest_and_then_waits_for_somebody() -> Result<()> {
    let (mut bridge, mut talk, _network) = stage().await?;
    let clock = tempfile::NamedTempFile::new()?;
    std::fs::write(clock.path(), "0")?;
    bridge.set_env("FAILPOINT_CLOCK_FILE", &clock.path().to_string_lossy());
    bridge.start().await?;
    let mut other = OtherBridge { carried: 0 };
    talk.peers[0].say("room", "@ann", "hello")?;
    let mut passed = 0;
    for (rest, by_itself) in [(61, true), (601, true), (100_000, false)] {
        let start = tokio::time::Instant::now();
        while !links_paused(&bridge).await? {
            ensure!(start.elapsed() < PATIENCE, "the loop goes on\n{}", bridge.tail());
            other.carry(&mut talk.peers)?;
        }
        let list = bridge.cli(&["links", "list"]).await?.ok()?.json()?;
        let why = list["paused"].as_str().unwrap_or_default();
        ensure!(why.contains("circuit breaker") && why.contains("\"@otherbridge\" in a/room"), "{list}");
        passed += rest * 1000;
        std::fs::write(clock.path(), passed.to_string())?;
        let start = tokio::time::Instant::now();
        while by_itself && links_paused(&bridge).await? {
            ensure!(start.elapsed() < PATIENCE, "it rests for ever\n{}", bridge.tail());
        }
        ensure!(by_itself || links_paused(&bridge).await?, "somebody must see to it");
    }
    // The other bridge is gone. Nothing was lost meanwhile.
    talk.peers[0].say("room", "@ann", "are you there?")?;
    bridge.cli(&["links", "resume", "both"]).await?.ok()?;
    let start = tokio::time::Instant::now();
    let heard = || -> Result<Vec<_>> {
        let lines = talk.peers[1].heard()?.into_iter().filter(|line| line.how.is_none());
        Ok(lines.map(|line| line.words).collect())
    };
    let said: Vec<_> = talk.peers[0].said()?.into_iter().map(|line| line.words).collect();
    while heard()?.len() < said.len() {
        ensure!(start.elapsed() < PATIENCE, "something is lost\n{}", bridge.tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(heard()? == said, "in order, each once");
    bridge.stop().await
}
