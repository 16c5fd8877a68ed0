//! The engine killed while it starts, while it sends and while it receives: nothing is lost, and nothing appears twice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use sealbridge_contract::conformance::Words;
use sealbridge_lab::{DeltaPerson, MailServer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bridge::{Bridge, Met, SOON, met, until};

/// Kills the engine again and again, each time at another age, until it is told to stop; counts how often.
fn kill_again_and_again(bridge: &Arc<Bridge>, stop: &CancellationToken, killed: &Arc<AtomicU64>) -> JoinHandle<()> {
    let (bridge, stop, killed) = (Arc::clone(bridge), stop.clone(), Arc::clone(killed));
    tokio::spawn(async move {
        loop {
            // Also long enough now and then to get something done.
            let age = [100, 3_000, 600, 5_000, 1_500, 8_000]
                [usize::try_from(killed.load(Ordering::SeqCst) % 6).unwrap_or_default()];
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(age)) => {}
            }
            // Between two lives there is nobody to kill, and it may have ended this very moment.
            let pid = bridge.engines().first().copied().and_then(Pid::from_raw);
            let done = pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
            killed.fetch_add(u64::from(done), Ordering::SeqCst);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_killed_again_and_again_while_it_sends_loses_and_doubles_nothing() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Arc::new(Bridge::new(server).await?);
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    ann.join(&bridge.link).await?;
    let (stop, killed) = (CancellationToken::new(), Arc::default());
    let killing = kill_again_and_again(&bridge, &stop, &killed);
    let mut names = Vec::new();
    while killed.load(Ordering::SeqCst) < 8 {
        let slip = running.slip(&bridge.group);
        names.push(running.insist(&format!("killed {}", names.len()), &slip).await?.id);
    }
    stop.cancel();
    killing.await?;
    let (kills, sent) = (killed.load(Ordering::SeqCst), names.len());
    let last = running.insist("the end", &running.slip(&bridge.group)).await?;
    ann.wait_for(|seen| seen.id == last.id.as_str(), SOON).await?;
    let seen: Vec<_> = ann.messages().await?.into_iter().filter(|seen| seen.text.starts_with("killed")).collect();
    let texts: Vec<_> = seen.iter().map(|seen| seen.text.clone()).collect();
    let expected: Vec<_> = (0..sent).map(|number| format!("killed {number}")).collect();
    assert_eq!(texts, expected, "after {kills} kills");
    assert!(seen.iter().zip(&names).all(|(seen, name)| seen.id == name.as_str()), "a receipt names another message");
    // What the engine mails twice it mails under one id, which every client shows once.
    let mut mailed = HashMap::new();
    for mail in server.archive()? {
        let mail = String::from_utf8_lossy(&mail).into_owned();
        for name in &names {
            if mail.contains(name.as_str()) {
                *mailed.entry(name.as_str().to_owned()).or_insert(0) += 1;
            }
        }
    }
    let twice = mailed.values().filter(|count| **count > 1).count();
    writeln_to_stdout(&format!("{kills} kills, {sent} sent, {sent} seen, {twice} of them mailed more than once"));
    running.stop().await
}

/// A figure for whoever reads the output of a test that passed.
fn writeln_to_stdout(line: &str) {
    use std::io::Write as _;
    // With nobody left to read it there is nobody to tell.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_killed_again_and_again_while_it_receives_loses_and_doubles_nothing() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Arc::new(Bridge::new(server).await?);
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    let chat = ann.join(&bridge.link).await?;
    running.intake.be_slow(Duration::from_millis(30));
    let (stop, killed) = (CancellationToken::new(), Arc::default());
    let killing = kill_again_and_again(&bridge, &stop, &killed);
    let mut said = Vec::new();
    for number in 0..40 {
        said.push(ann.send(chat, &format!("said {number}")).await?.id);
    }
    // Some while it is killed, the rest in peace.
    let tried = || killed.load(Ordering::SeqCst) >= 2 && bridge.said().len() >= 10;
    until("it was killed twice, and some have crossed", tried).await?;
    stop.cancel();
    killing.await?;
    let kills = killed.load(Ordering::SeqCst);
    until("all have crossed", || bridge.said().len() >= said.len()).await?;
    let accepted: Vec<_> = bridge.said().into_iter().map(|one| one.id.as_str().to_owned()).collect();
    assert_eq!(accepted, said, "after {kills} kills");
    writeln_to_stdout(&format!("{kills} kills, 40 said, 40 accepted, in order"));
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_killed_between_the_commit_and_the_engines_own_note_carries_each_message_once() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let first = ann.send(chat, "first").await?;
    running.accepted(&first.id).await?;
    running.kill().await;
    // The engine's note is older than ours now, and newer: neither is to matter.
    for note in ["0", "4000000"] {
        crate::harness::in_the_engine(&bridge, "set_config", |account| {
            serde_json::json!([account, "last_msg_id", note])
        })
        .await
        .context("Write another note")?;
        let running = bridge.start().await?;
        let next = ann.send(chat, &format!("after {note}")).await?;
        running.accepted(&next.id).await?;
        running.kill().await;
    }
    let words: Vec<_> = bridge.said().into_iter().map(|one| one.words).collect();
    assert_eq!(words, ["first", "after 0", "after 4000000"].map(|words| Words(words.to_owned())));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_server_that_is_killed_in_mid_traffic_delays_and_loses_nothing() -> Result<()> {
    if !sealbridge_lab::mail::available().await {
        return Ok(());
    }
    let server = MailServer::start().await?;
    let bridge = Bridge::new(&server).await?;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(&server, "ann").await?;
    let chat = ann.join(&bridge.link).await?;
    let mut said = Vec::new();
    for number in 0..3 {
        said.push(ann.send(chat, &format!("said {number}")).await?.id);
        running.insist(&format!("sent {number}"), &running.slip(&bridge.group)).await?;
        server.kill().await?;
        said.push(ann.send(chat, &format!("said to nobody {number}")).await?.id);
        let slip = running.slip(&bridge.group);
        let words = format!("sent to nobody {number}");
        let during = running.deliver(&words, &slip);
        // It waits for a server that is not there, and is dropped in the middle.
        let early = tokio::time::timeout(Duration::from_secs(2), during).await;
        assert!(!matches!(early, Ok(Ok(_))), "nobody took it");
        server.restart().await?;
        ann.network_is_back().await?;
        running.insist(&words, &slip).await?;
    }
    for id in &said {
        running.accepted(id).await?;
    }
    assert_eq!(bridge.said().len(), said.len(), "something came twice");
    ann.wait_for(|seen| seen.text == "sent to nobody 2", SOON * 2).await?;
    let heard = ann.messages().await?.into_iter().filter(|seen| seen.text.starts_with("sent")).count();
    assert_eq!(heard, 6);
    running.stop().await
}
