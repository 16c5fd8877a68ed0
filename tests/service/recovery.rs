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

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Two people, one on each side, and how many messages each said.
pub(super) struct Talk {
    pub(super) peers: [DiskPeer; 2],
    run: String,
    said: [usize; 2],
}

impl Talk {
    pub(super) fn new(network: &Path) -> Result<Self> {
        let peer = |name| -> Result<DiskPeer> { Ok(DiskPeer::open(network, &AccountName::parse(name)?)?) };
        Ok(Self { peers: [peer("a")?, peer("b")?], run: "recovery".into(), said: [0, 0] })
    }

    pub(super) fn say(&mut self, count: usize) -> Result<()> {
        self.say_on(0, count)?;
        self.say_on(1, count)
    }

    fn say_on(&mut self, side: usize, count: usize) -> Result<()> {
        for _ in 0..count {
            let tag = Tag { run: self.run.clone(), sender: side, number: self.said[side] };
            self.peers[side].say("room", ["ann", "bob"][side], &tag.text())?;
            self.said[side] += 1;
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

    pub(super) async fn all_heard(&self) -> Result<Tally> {
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

pub(super) async fn stage() -> Result<(Bridge, Talk, tempfile::TempDir)> {
    stage_with("\n[links.both]\nends = [\"a/room\", \"b/room\"]\n").await
}

async fn stage_with(link: &str) -> Result<(Bridge, Talk, tempfile::TempDir)> {
    let network = tempfile::tempdir()?;
    let plan = plan(network.path(), link);
    let bridge = Bridge::set_up(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &plan).await?;
    let talk = Talk::new(network.path())?;
    Ok((bridge, talk, network))
}

/// Two accounts over a folder, and this link.
pub(super) fn plan(network: &Path, link: &str) -> Plan {
    let account = |name: &str| {
        format!(
            "\n[accounts.{name}]\nnetwork = \"loopback\"\ndirectory = {network:?}\n\
             i_know_this_is_not_encrypted_on_disk = true\nconversations = [\"room\", \"next\"]\n"
        )
    };
    Plan { extra: format!("{}{}{link}", account("a"), account("b")), ..Plan::default() }
}

async fn wait_held(bridge: &Bridge, count: u64) -> Result<()> {
    let start = tokio::time::Instant::now();
    while bridge.status().await?["journal"]["held"] != count {
        ensure!(start.elapsed() < PATIENCE, "{}", bridge.tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub(super) fn assert_clean(tally: Tally, bridge: &Bridge) -> Result<()> {
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
async fn killed_while_a_link_is_led_elsewhere_its_outbox_goes_there_whole_and_in_order() -> Result<()> {
    let (mut bridge, mut talk, _network) = stage_with("").await?;
    bridge.start().await?;
    bridge.link("moving", &["a/room", "b/room"]).await?;
    bridge.stop().await?;
    let (mut killed, mut ends) = (0, ["room", "next"]);
    for (turn, place) in ["journal::before-commit", "journal::after-commit"].into_iter().cycle().take(16).enumerate() {
        bridge.unset_env("FAILPOINT_KILL_AT");
        bridge.start().await?;
        bridge.cli(&["links", "pause", "moving"]).await?.ok()?;
        talk.say_on(0, 5)?;
        wait_held(&bridge, 5).await?;
        bridge.stop().await?;

        // The moment comes sometimes before the change, sometimes with it, and sometimes after it.
        bridge.set_env("FAILPOINT_KILL_AT", &format!("{place}={}", 1 + turn / 2));
        bridge.spawn().await?;
        let replace = ["links", "replace", "moving", &format!("b/{}", ends[0]), &format!("b/{}", ends[1])];
        while bridge.is_running() && bridge.cli(&replace).await?.code != 0 {}
        killed += usize::from(!bridge.is_running());
        bridge.stop().await?;
        bridge.unset_env("FAILPOINT_KILL_AT");
        bridge.start().await?;
        // It was done whole or not at all, so the same again is done, or is refused since it was.
        bridge.cli(&replace).await?;
        bridge.cli(&["links", "resume", "moving"]).await?.ok()?;
        let tally = talk.all_heard().await?;
        assert_clean(tally, &bridge)?;
        let last = talk.peers[1].heard()?.into_iter().rev().take(5).map(|line| line.conversation).collect::<Vec<_>>();
        ensure!(last.iter().all(|heard_in| heard_in == ends[1]), "turn {turn}: {last:?}");
        ends.reverse();
        bridge.stop().await?;
    }
    ensure!(killed > 4, "it was killed {killed} times");
    Ok(())
}

#[tokio::test]
async fn link_that_goes_on_while_people_talk_keeps_their_order() -> Result<()> {
    let (mut bridge, mut talk, _network) = stage().await?;
    bridge.start().await?;
    for _ in 0..8 {
        bridge.cli(&["links", "pause", "both"]).await?.ok()?;
        talk.say(10)?;
        let resume = bridge.cli(&["links", "resume", "both"]);
        tokio::pin!(resume);
        loop {
            tokio::select! {
                answer = &mut resume => { answer?.ok()?; break }
                () = tokio::time::sleep(Duration::from_millis(1)) => talk.say(1)?,
            };
        }
        talk.say(5)?;
        assert_clean(talk.all_heard().await?, &bridge)?;
    }
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
