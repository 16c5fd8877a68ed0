//! The process is killed in every named place and at random, and a checker that knows nothing of it judges what people
//! heard. Over loopback transports, whose other ends live in this process and so survive each kill.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::AccountName;
use sealbridge_lab::{
    bridge::{Binary, Bridge, Plan},
    checker::{self, Heard, Tag, Tally},
};
use sealbridge_loopback::DiskPeer;

const PATIENCE: Duration = Duration::from_secs(60);

/// Two people, one on each side, and how many messages each said.
struct Talk {
    peers: [DiskPeer; 2],
    run: String,
    said: [usize; 2],
}

impl Talk {
    fn new(network: &Path) -> Result<Self> {
        let peer = |name| -> Result<DiskPeer> { Ok(DiskPeer::open(network, &AccountName::parse(name)?)?) };
        Ok(Self { peers: [peer("a")?, peer("b")?], run: "recovery".into(), said: [0, 0] })
    }

    fn say(&mut self, count: usize) -> Result<()> {
        for side in [0, 1] {
            for _ in 0..count {
                let tag = Tag { run: self.run.clone(), sender: side, number: self.said[side] };
                self.peers[side].say("room", ["ann", "bob"][side], &tag.text())?;
                self.said[side] += 1;
            }
        }
        Ok(())
    }

    fn tally(&self) -> Result<Tally> {
        let mut whole = Tally::default();
        for side in [0, 1] {
            let tag = |number| Tag { run: self.run.clone(), sender: side, number };
            let said: Vec<_> = (0..self.said[side]).map(tag).collect();
            let heard = self.peers[1 - side].heard()?.into_iter();
            let heard: Vec<_> = heard.map(|line| Heard { late: false, text: line.words }).collect();
            whole = whole + checker::judge(&said, &heard);
        }
        Ok(whole)
    }

    async fn all_heard(&self) -> Result<Tally> {
        let start = tokio::time::Instant::now();
        loop {
            let tally = self.tally()?;
            if tally.lost == 0 || start.elapsed() > PATIENCE {
                return Ok(tally);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn stage() -> Result<(Bridge, Talk, tempfile::TempDir)> {
    let network = tempfile::tempdir()?;
    let account = |name: &str| {
        format!(
            "\n[accounts.{name}]\nnetwork = \"loopback\"\ndirectory = {:?}\n\
             i_know_this_is_not_encrypted_on_disk = true\nconversations = [\"room\"]\n",
            network.path()
        )
    };
    let link = "\n[links.both]\nends = [\"a/room\", \"b/room\"]\n";
    let extra = format!("{}{}{link}", account("a"), account("b"));
    let plan = Plan { extra, ..Plan::default() };
    let bridge = Bridge::set_up(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &plan).await?;
    let talk = Talk::new(network.path())?;
    Ok((bridge, talk, network))
}

fn assert_clean(tally: Tally, bridge: &Bridge) -> Result<()> {
    let clean = Tally { sent: tally.sent, delivered: tally.sent, ..Tally::default() };
    ensure!(tally == clean, "{tally:?}\n{}", bridge.tail());
    Ok(())
}

#[tokio::test]
async fn killed_in_every_named_place_nothing_is_lost_doubled_or_reordered() -> Result<()> {
    let (mut bridge, mut talk, _network) = stage().await?;
    for place in sealbridge::flow::FAILPOINTS {
        for nth in [1, 4] {
            bridge.set_env("FAILPOINT_KILL_AT", &format!("{place}={nth}"));
            talk.say(6)?;
            bridge.spawn().await?;
            let code = bridge.wait_exit(PATIENCE).await.with_context(|| format!("{place} was never reached"))?;
            ensure!(code == -9, "{place}: ended with {code} instead of being killed\n{}", bridge.tail());
        }
    }
    bridge.unset_env("FAILPOINT_KILL_AT");
    talk.say(3)?;
    bridge.spawn().await?;
    let tally = talk.all_heard().await?;
    assert_clean(tally, &bridge)?;
    bridge.stop().await
}

#[tokio::test]
async fn killed_at_random_nothing_is_lost_doubled_or_reordered() -> Result<()> {
    let (mut bridge, mut talk, _network) = stage().await?;
    for turn in 0..20_u64 {
        talk.say(10)?;
        bridge.spawn().await?;
        // The moments of the kills need not be the same in each run: each is one that must be survived.
        tokio::time::sleep(Duration::from_millis(40 + turn * 17 % 160)).await;
        bridge.kill().await?;
    }
    bridge.spawn().await?;
    let tally = talk.all_heard().await?;
    assert_clean(tally, &bridge)?;
    bridge.stop().await
}

#[tokio::test]
async fn second_process_on_the_same_journal_is_refused() -> Result<()> {
    let (mut bridge, mut talk, _network) = stage().await?;
    talk.say(1)?;
    bridge.spawn().await?;
    talk.all_heard().await?;
    let second = bridge.cli(&["run"]).await?;
    ensure!(second.code == 75, "{second:?}");
    ensure!(second.stderr.contains("another Sealbridge") || second.stdout.contains("another Sealbridge"), "{second:?}");
    bridge.stop().await
}
