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
use sealbridge_lab::{DeltaPerson, MailServer, mail::Relay};
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

/// At which questions an engine dies, one life after the other. `main` is before the first.
type Deaths = &'static [(&'static str, &'static str)];

/// Every step of a start, from the first instruction to the first messages that it gives out.
const DEATHS: [Deaths; 3] = [
    &[("main", "before"), ("get_system_info", "after"), ("is_configured", "before"), ("set_config", "after")],
    &[("misc_set_draft", "after"), ("get_chatlist_entries", "before"), ("start_io", "before"), ("start_io", "after")],
    &[
        ("get_connectivity", "after"),
        ("get_next_msgs", "after"),
        ("get_messages", "after"),
        ("markseen_msgs", "before"),
    ],
];

/// The engine of an account, which dies so.
fn dying(bridge: &Bridge, engine: &std::path::Path, deaths: Deaths) -> Result<std::path::PathBuf> {
    let folder = bridge.folder.path();
    for name in ["lives.txt", "died.txt"] {
        std::fs::write(folder.join(name), "")?;
    }
    std::fs::write(folder.join("deaths.json"), serde_json::to_vec(deaths)?)?;
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deltachat/dying.py");
    let program = folder.join("dying");
    std::fs::write(&program, format!("#!/bin/sh\nexec python3 -I {} {}\n", script.display(), engine.display()))?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(program)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_killed_at_each_step_of_its_start_loses_and_doubles_nothing() -> Result<()> {
    let Some(Met { mut bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    running.stop().await?;
    let engine = bridge.settings.engine.clone();
    let (mut said, mut sent) = (Vec::new(), Vec::new());
    for (round, deaths) in DEATHS.into_iter().enumerate() {
        bridge.settings.engine = dying(&bridge, &engine, deaths)?;
        // Both sides have something that waits for the start.
        for number in 0..2 {
            said.push(ann.send(chat, &format!("said {round} {number}")).await?.id);
        }
        let running = bridge.start_without_waiting().await?;
        let words = format!("sent {round}");
        let receipt = running.insist(&words, &running.slip(&bridge.group)).await?;
        for id in &said {
            running.accepted(id).await?;
        }
        let expected: String = deaths.iter().map(|(method, when)| format!("{method} {when}\n")).collect();
        let died = || std::fs::read_to_string(bridge.folder.path().join("died.txt")).unwrap_or_default();
        until("it died each time", || died() == expected).await.with_context(died)?;
        // Also what is said after the last death.
        said.push(ann.send(chat, &format!("said {round} at last")).await?.id);
        running.accepted(&said[said.len() - 1]).await?;
        running.stop().await?;
        sent.push((receipt.id.as_str().to_owned(), words));
    }
    let accepted: Vec<_> = bridge.said().into_iter().map(|one| one.id.as_str().to_owned()).collect();
    assert_eq!(accepted, said);
    let (last, _) = sent.last().context("something was sent")?;
    ann.wait_for(|seen| seen.id == *last, SOON).await?;
    let seen: Vec<_> = ann.messages().await?.into_iter().filter(|seen| seen.text.starts_with("sent")).collect();
    let seen: Vec<_> = seen.into_iter().map(|seen| (seen.id, seen.text)).collect();
    assert_eq!(seen, sent);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_was_taken_before_the_engine_knew_is_mailed_again_under_its_id_and_seen_once() -> Result<()> {
    if !sealbridge_lab::mail::available().await {
        return Ok(());
    }
    let server = MailServer::start().await?;
    let wire = Relay::before(server.smtps()).await?;
    let bridge = Arc::new(Bridge::on(&server.mailbox("bridge")?, server.imaps(), wire.port(), Arc::default()).await?);
    let running = Arc::new(bridge.start().await?);
    let ann = DeltaPerson::new_on(&server, "ann").await?;
    ann.join(&bridge.link).await?;
    // Whatever belongs to joining has passed.
    let before = running.insist("before", &running.slip(&bridge.group)).await?.id;
    ann.wait_for(|seen| seen.id == before.as_str(), SOON).await?;

    // The mail server hears all of a long mail and takes it; that it did does not come back.
    let words: String = (0..3_000_u32).map(|at| format!("{:08x} ", at.wrapping_mul(2_654_435_761))).collect();
    let mails = server.archive()?.len();
    wire.swallow_answers_after(8 * 1024);
    let (slip, delivering) = (running.slip(&bridge.group), Arc::clone(&running));
    let (long, known) = (words.clone(), slip.clone());
    let delivering = tokio::spawn(async move { delivering.insist(&long, &known).await });
    until("it is taken", || server.archive().is_ok_and(|archive| archive.len() > mails)).await?;
    let engine = bridge.engines().first().copied().and_then(Pid::from_raw).context("an engine runs")?;
    kill_process(engine, Signal::KILL)?;
    wire.answer();
    let id = delivering.await??.id;

    let mailed = || {
        let archive = server.archive().unwrap_or_default();
        archive.iter().filter(|mail| String::from_utf8_lossy(mail).contains(id.as_str())).count()
    };
    until("the engine's own retry has mailed it again", || mailed() == 2).await?;
    // What comes after it has passed it on the way.
    let after = running.insist("after", &running.slip(&bridge.group)).await?.id;
    ann.wait_for(|seen| seen.id == after.as_str(), SOON).await?;
    let seen = ann.messages().await?.into_iter().filter(|seen| !seen.own).map(|seen| seen.id);
    let seen: Vec<_> = seen.skip_while(|id| *id != before.as_str()).collect();
    assert_eq!(seen, [before.as_str(), id.as_str(), after.as_str()]);
    assert_eq!(running.insist(&words, &slip).await?.id, id, "the delivery is another message now");
    assert_eq!(mailed(), 2, "it was mailed once more");
    Arc::into_inner(running).context("nobody else has it")?.stop().await
}
