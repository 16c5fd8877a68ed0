//! Servers start, end, and leave nothing behind.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, test_kill_process};
use sealbridge_lab::person::{Options, Person};
use sealbridge_lab::search::Search;
use sealbridge_lab::synapse::{self, Synapse};
use sealbridge_lab::{Lab, servers};
use serde_json::json;

use super::{Pair, SOON};

async fn wait_gone(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("A process id")?;
    let give_up = Instant::now() + SOON;
    while test_kill_process(pid).is_ok() {
        anyhow::ensure!(Instant::now() < give_up, "process {pid:?} still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn two_servers_start_and_leave_no_process_and_no_file() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let lab = Lab::pair().await?;
    let mut pids = Vec::new();
    let mut dirs = Vec::new();
    for server in [&lab.a, &lab.b] {
        let (status, answer) = server.request("GET", "/_matrix/client/versions", None, None).await?;
        assert_eq!(status, 200);
        assert!(answer["versions"].is_array());
        pids.push(server.pid().context("It runs")?);
        pids.push(server.keeper_pid());
        dirs.push(server.data_dir().to_owned());
    }
    lab.a.stop().await?;
    assert_eq!(lab.a.pid(), None);
    // The other one is dropped while it runs.
    drop(lab);
    for pid in pids {
        wait_gone(pid).await?;
    }
    for dir in dirs {
        assert!(!dir.exists(), "{} is left", dir.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_lab_leaves_no_server_and_no_file() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let mut lab =
        Command::new(env!("CARGO_BIN_EXE_lab")).arg("up").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let printed = BufReader::new(lab.stdout.take().context("Its stdout")?);
    let mut addresses = Vec::new();
    let mut dirs = Vec::new();
    for line in printed.lines() {
        let line = line?;
        match line.trim().split_once(char::is_whitespace) {
            Some(("address", address)) => addresses.push(address.trim().to_owned()),
            Some(("data", dir)) => dirs.push(PathBuf::from(dir.trim())),
            Some(("Ctrl-C", _)) => break,
            _ => {}
        }
    }
    assert_eq!((addresses.len(), dirs.len()), (2, 2));
    assert!(dirs.iter().all(|dir| dir.join("homeserver.db").exists()));
    lab.kill()?;
    lab.wait()?;
    let give_up = Instant::now() + SOON;
    while dirs.iter().any(|dir| dir.exists()) {
        anyhow::ensure!(Instant::now() < give_up, "{dirs:?} are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for address in addresses {
        let address = address.trim_start_matches("http://");
        assert!(std::net::TcpStream::connect(address).is_err());
    }
    Ok(())
}

#[tokio::test]
async fn stock_rate_limits_hold_until_a_user_is_exempt() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let options = synapse::Options { stock_rate_limits: true, ..synapse::Options::default() };
    let server = Synapse::start("alpha.test", options).await?;
    let alice = Person::new_on(&server, "alice").await?;
    let room = alice.create_plain_room("limits", &[]).await?;
    let say = async |number: u32| {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{number}");
        let content = json!({ "msgtype": "m.text", "body": "x" });
        alice.http("PUT", &path, Some(content)).await
    };
    let mut throttled = None;
    for number in 0..20 {
        let (status, answer) = say(number).await?;
        if status == 429 {
            throttled = answer["retry_after_ms"].as_u64();
            break;
        }
    }
    assert!(throttled.is_some());
    server.exempt_from_limits(alice.user_id()).await?;
    for number in 20..40 {
        assert_eq!(say(number).await?.0, 200);
    }
    Ok(())
}

#[tokio::test]
async fn the_search_finds_what_is_plain_and_nothing_of_what_is_encrypted() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let lab = Lab::pair().await?;
    let Pair { alice, bob, room } = Pair::meet(&lab, Options::default()).await?;
    let secret = "canary-hidden-5f0e9b";
    let control = "canary-control-77ad12";
    alice.send(&room, secret).await?;
    let sealed = format!("a file with {secret} inside");
    alice.send_file(&room, "notes", "text/plain", sealed.as_bytes()).await?;
    let opened = bob.wait_for(|it| it.msgtype == "m.file", SOON).await?;
    assert_eq!(bob.download(&opened.content).await?, sealed.as_bytes());
    let plain_room = alice.create_plain_room("plain", &[]).await?;
    alice.send(&plain_room, control).await?;
    // What it still holds in memory gets to the disk.
    lab.a.stop().await?;
    let search = Search::new(&[secret, control])?;
    let hits = search.paths(&[lab.a.data_dir(), lab.b.data_dir()])?;
    assert!(hits.iter().any(|hit| hit.canary == 1), "{hits:?}");
    assert!(hits.iter().all(|hit| hit.canary == 1), "{hits:?}");
    Ok(())
}
