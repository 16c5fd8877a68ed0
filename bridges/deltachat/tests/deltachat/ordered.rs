//! An engine that is ordered into trouble: what a real one does seldom, or not when a test wants it to.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sealbridge_contract::{
    ConversationId, DeliveryError, Fatal, Fate, NotAccepted, RemoteId, Slip,
    conformance::{How, MemoryIntake},
    gate::Encryption,
    inbox::StoreWrite,
};
use sealbridge_deltachat::Settings;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    bridge::{Bridge, context, set_up, until},
    trouble::{edit, store},
};

/// The fingerprint that the engine says is ours.
const OURS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const WITHHELD: &str = "the engine has it and can't give it out";

/// An engine that follows orders which lie in the folder.
pub(crate) fn engine(folder: &Path) -> Result<PathBuf> {
    let engine = folder.join("engine");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deltachat/engine.py");
    std::fs::write(&engine, format!("#!/bin/sh\nexec python3 -I {}\n", script.display()))?;
    std::fs::set_permissions(&engine, std::fs::Permissions::from_mode(0o700))?;
    Ok(engine)
}

/// An account on such an engine.
pub(crate) async fn bridge() -> Result<Bridge> {
    let folder = TempDir::new()?;
    let engine = engine(folder.path())?;
    let address = "bridge@a.test".to_owned();
    let settings = Settings { address: Some(address.clone()), engine, ..Settings::default() };
    let group = ConversationId::new(format!("10-{}", OURS[..12].to_lowercase()));
    let intake: Arc<MemoryIntake> = Arc::default();
    let (link, own_link, clock) = Default::default();
    let bridge = Bridge { settings, folder, intake, clock, link, own_link, group };
    let identity = json!({ "address": address, "fingerprint": OURS });
    store(&bridge).write(vec![StoreWrite::put("identity", identity.to_string().into_bytes())]).await?;
    Ok(bridge)
}

pub(crate) fn order(bridge: &Bridge, orders: &Value) -> Result<()> {
    // In one step, since the engine may read it this very moment.
    let (new, orders_at) = (bridge.folder.path().join("orders.new"), bridge.folder.path().join("orders.json"));
    std::fs::write(&new, orders.to_string())?;
    Ok(std::fs::rename(new, orders_at)?)
}

/// How often a method was asked for.
pub(crate) fn asked(bridge: &Bridge, method: &str) -> usize {
    let asked = std::fs::read_to_string(bridge.folder.path().join("asked.txt")).unwrap_or_default();
    asked.lines().filter(|line| *line == method).count()
}

#[tokio::test]
async fn message_that_ends_the_engine_is_refused_alone_wherever_it_stands() -> Result<()> {
    for (trouble, engines) in [("endless", 5), ("strange", 5), ("withheld", 1)] {
        let bridge = bridge().await?;
        order(&bridge, &json!({ "messages": { "1": {}, "2": {}, "3": trouble, "4": {}, "5": {} } }))?;
        let running = bridge.start().await?;
        until("the last one crosses", || bridge.said().len() == 4).await?;
        let names: Vec<_> = bridge.said().into_iter().map(|one| one.id.as_str().to_owned()).collect();
        assert_eq!(names, ["1@ann.test", "2@ann.test", "4@ann.test", "5@ann.test"], "{trouble}");
        let refused = (RemoteId::new("3@ann.test"), WITHHELD.to_owned());
        assert_eq!(bridge.intake.refused(), [refused], "{trouble}");
        let starts = asked(&bridge, "start_io");
        assert!(starts <= engines, "{trouble}: {starts} engines");
        running.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn engine_of_another_version_is_neither_set_up_nor_run_and_said_to_be_what_it_is() -> Result<()> {
    let needed = "2.65 or a later 2.x is needed";
    for (version, words) in [
        ("v2.64.9", "is version \"v2.64.9\", which lacks what is used"),
        ("v1.160.0", "is version \"v1.160.0\", which lacks what is used"),
        ("v3.0.0", "is version \"v3.0.0\", whose answers are not known"),
        ("soon\u{1b}[2J", "does not say its version"),
    ] {
        let bridge = bridge().await?;
        order(&bridge, &json!({ "version": version }))?;
        let expected = format!("the engine {} {words}; {needed}", bridge.settings.engine.display());
        let fatal = bridge.start_without_waiting().await?.ended().await?;
        assert!(matches!(&fatal, Fatal::Policy(words) if *words == expected), "{fatal:?}");
        let context = context(bridge.folder.path(), &bridge.intake);
        let error = set_up(context, bridge.settings.clone(), "not asked for").await.expect_err("it is not set up");
        assert!(error.to_string().contains(&expected), "{error:#}");
        assert_eq!(
            asked(&bridge, "set_config") + asked(&bridge, "start_io"),
            0,
            "{version}: something was done with it"
        );
    }
    let bridge = bridge().await?;
    order(&bridge, &json!({ "refuse": { "get_system_info": -1 } }))?;
    let fatal = bridge.start_without_waiting().await?.ended().await?;
    assert!(matches!(&fatal, Fatal::Policy(words) if words.contains("is no deltachat-rpc-server")), "{fatal:?}");
    Ok(())
}

#[tokio::test]
async fn engine_that_is_newer_than_what_was_tried_is_used_and_the_operator_is_told() -> Result<()> {
    let bridge = bridge().await?;
    order(&bridge, &json!({ "version": "v2.71.0" }))?;
    let expected = format!(
        "the engine {} is version \"v2.71.0\", newer than 2.65, with which this version of the bridge was tried",
        bridge.settings.engine.display()
    );
    let shown = set_up(context(bridge.folder.path(), &bridge.intake), bridge.settings.clone(), "not asked for").await?;
    assert!(shown.words.contains(&expected), "{:?}", shown.words);
    let running = bridge.start().await?;
    let findings = running.transport.doctor().await;
    let findings: Vec<_> = findings.iter().map(|finding| (finding.grave, finding.words.as_str())).collect();
    assert_eq!(findings, [(false, expected.as_str())]);
    running.stop().await?;
    order(&bridge, &json!({}))?;
    let running = bridge.start().await?;
    assert!(running.transport.doctor().await.is_empty(), "it is the one that was tried");
    running.stop().await
}

#[tokio::test]
async fn engine_that_would_talk_to_a_mail_server_in_clear_is_neither_set_up_nor_run() -> Result<()> {
    let bridge = bridge().await?;
    let servers = "1: ***@a.test imap:[mail.a.test:993:tls] smtp:[mail.a.test:25:plain] cert_strict";
    order(&bridge, &json!({ "servers": servers }))?;
    let expected =
        "the engine would talk to mail.a.test port 25 in clear (sending mail); name a server with TLS by `smtp`";
    let fatal = bridge.start_without_waiting().await?.ended().await?;
    assert!(matches!(&fatal, Fatal::Policy(words) if words == expected), "{fatal:?}");
    let context = context(bridge.folder.path(), &bridge.intake);
    let error = set_up(context, bridge.settings.clone(), "not asked for").await.expect_err("it is not set up");
    assert!(error.to_string().contains(expected), "{error:#}");
    assert_eq!(asked(&bridge, "start_io"), 0, "it was let speak");
    Ok(())
}

#[tokio::test]
async fn message_that_cannot_even_be_named_is_refused_all_the_same() -> Result<()> {
    let bridge = bridge().await?;
    order(&bridge, &json!({ "messages": { "1": {}, "2": {} }, "refuse": { "get_message_info_object": -1 } }))?;
    let running = bridge.start().await?;
    until("both are refused", || bridge.intake.refused().len() == 2).await?;
    let names: Vec<_> = bridge.intake.refused().into_iter().map(|(id, _)| id.as_str().to_owned()).collect();
    assert_eq!(names, ["message 1", "message 2"]);
    assert_eq!(asked(&bridge, "start_io"), 1, "a refusal ends no engine");
    running.stop().await
}

#[tokio::test]
async fn what_was_done_to_a_message_before_all_of_it_came_is_told_and_a_kill_loses_none_of_it() -> Result<()> {
    let liked = |bridge: &Bridge| bridge.intake.accepted().iter().any(|one| one.how == Some(How::Reaction));
    let waiting = async || -> Result<Bridge> {
        let bridge = bridge().await?;
        order(&bridge, &json!({ "messages": { "1": { "downloadState": "Available" } } }))?;
        let running = bridge.start().await?;
        until("it waits", || bridge.intake.still_waiting() == 1).await?;
        running.stop().await?;
        let whole = json!({ "reactions": { "reactionsByContact": { "20": ["👍"] } } });
        order(&bridge, &json!({ "messages": { "1": whole } }))?;
        Ok(bridge)
    };
    let bridge = waiting().await?;
    let running = bridge.start().await?;
    until("the reaction is told without a kill", || liked(&bridge)).await?;
    running.stop().await?;

    let bridge = waiting().await?;
    // The journal stops in the very moment in which it would be handed in.
    bridge.intake.be_ending(Some(NotAccepted::Stopping));
    let running = bridge.start_without_waiting().await?;
    let tries = Instant::now() + Duration::from_secs(20);
    while store(&bridge).read("told:0000000001").await?.is_none() {
        ensure!(Instant::now() < tries, "how it is was not written down before it was handed in");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.stop().await?;

    bridge.intake.be_ending(None);
    let running = bridge.start().await?;
    until("the reaction is told after it", || liked(&bridge)).await?;
    assert_eq!(bridge.said().first().map(|one| one.id.as_str().to_owned()).as_deref(), Some("1@ann.test"));
    running.stop().await
}

#[tokio::test]
async fn refusal_of_the_engines_is_final_only_when_it_says_so_again_and_again() -> Result<()> {
    let bridge = bridge().await?;
    order(&bridge, &json!({ "refuse": { "send_msg": 2 } }))?;
    let running = bridge.start().await?;
    let slip = running.slip(&bridge.group);
    for _ in 0..2 {
        let error = running.deliver("in the end", &slip).await.expect_err("it is refused");
        assert!(matches!(error.fate, Fate::Retry(_)), "{error}");
    }
    running.deliver("in the end", &slip).await?;

    order(&bridge, &json!({ "refuse": { "send_msg": -1 } }))?;
    let slip = running.slip(&bridge.group);
    let mut tries = 0;
    let end: DeliveryError = loop {
        tries += 1;
        match running.deliver("never", &slip).await {
            Err(error) if error.fate == Fate::GiveUp => break error,
            other => ensure!(other.is_err() && tries < 20, "{other:?}"),
        }
    };
    assert!(tries > 2, "after {tries}: {end}");

    // Nor is it where we were put out of the group: there the lane waits.
    order(&bridge, &json!({ "refuse": { "send_msg": -1 }, "chat": { "selfInGroup": false, "canSend": false } }))?;
    let error = running.deliver("later", &running.slip(&bridge.group)).await.expect_err("we are out");
    assert!(matches!(error.fate, Fate::Retry(_)), "{error}");
    assert_eq!(running.transport.encryption(&bridge.group), Encryption::Left);
    running.stop().await
}

#[tokio::test]
async fn edit_that_ends_the_engine_is_refused_once_and_holds_up_no_other_change() -> Result<()> {
    let bridge = bridge().await?;
    order(&bridge, &json!({ "messages": { "1": {}, "2": {} } }))?;
    let running = bridge.start().await?;
    until("both cross", || bridge.said().len() == 2).await?;
    running.stop().await?;
    let liked = json!({ "reactions": { "reactionsByContact": { "20": ["👍"] } } });
    order(&bridge, &json!({ "messages": { "1": liked, "2": "endless" } }))?;
    let running = bridge.start().await?;
    let told = || bridge.intake.accepted().iter().any(|one| one.how == Some(How::Reaction));
    until("the other change is told", told).await?;
    running.stop().await?;
    let refused = (RemoteId::new("2@ann.test edit 1"), WITHHELD.to_owned());
    assert_eq!(bridge.intake.refused(), [refused]);

    // From now on nobody asks for it.
    let before = asked(&bridge, "start_io");
    order(&bridge, &json!({ "messages": { "1": liked, "2": "endless", "3": {} } }))?;
    let running = bridge.start().await?;
    until("the next one crosses", || bridge.said().iter().any(|one| one.id.as_str() == "3@ann.test")).await?;
    order(&bridge, &json!({ "messages": { "1": {}, "2": "endless", "3": liked, "4": {} } }))?;
    running.stop().await?;
    let running = bridge.start().await?;
    let taken_back = || bridge.intake.accepted().iter().filter(|one| one.how == Some(How::Reaction)).count() == 3;
    until("what changed about others is told", taken_back).await?;
    running.stop().await?;
    assert_eq!(asked(&bridge, "start_io"), before + 2, "an engine ended");
    assert_eq!(bridge.intake.refused().len(), 1);
    Ok(())
}

#[tokio::test]
async fn deed_that_the_engine_refuses_again_and_again_is_said_in_words_once() -> Result<()> {
    let bridge = bridge().await?;
    // No method of this engine edits anything.
    order(&bridge, &json!({}))?;
    let running = bridge.start().await?;
    let said = running.insist("befroe", &running.slip(&bridge.group)).await?;
    let slip = Slip { about: Some(said.id.clone()), ..running.slip(&bridge.group) };
    let mut tries = 0;
    loop {
        tries += 1;
        match edit(&running, &said.id, "before", &slip).await {
            Err(error) if error.fate == Fate::OtherForm => break,
            other => ensure!(other.is_err() && tries < 20, "{other:?}"),
        }
    }
    ensure!(tries > 2, "it was final after {tries}");
    let words = running.deliver("edited: before", &slip).await?;
    // The next attempt begins with the same form again.
    let error = edit(&running, &said.id, "before", &slip).await.expect_err("it was said in words");
    assert_eq!(error.fate, Fate::OtherForm, "{error}");
    assert_eq!(running.deliver("edited: before", &slip).await?, words);
    assert_eq!(asked(&bridge, "send_msg"), 2);
    running.stop().await
}

#[tokio::test]
async fn batch_is_handed_in_early_when_its_files_have_taken_much_room() -> Result<()> {
    const MIB: u64 = 1 << 20;
    // How large three files are that came together, and in how many batches they are handed in.
    for (size, batches) in [(16 * MIB - 1, 1), (16 * MIB, 2), (32 * MIB, 3)] {
        let bridge = bridge().await?;
        let files = bridge.folder.path().join("files");
        std::fs::create_dir(&files)?;
        let came = [1, 2, 3].map(|number| {
            let file = files.join(format!("{number}.bin"));
            let written = std::fs::File::create(&file).and_then(|file| file.set_len(size));
            written.map(|()| (number.to_string(), json!({ "viewType": "File", "file": file })))
        });
        let came: std::io::Result<serde_json::Map<_, _>> = came.into_iter().collect();
        order(&bridge, &json!({ "messages": came? }))?;
        let running = bridge.start().await?;
        until("all of them cross", || bridge.said().len() == 3).await?;
        // It is told of each batch that this is done with.
        until("the engine is told of the last one", || asked(&bridge, "markseen_msgs") >= batches).await?;
        running.stop().await?;
        assert_eq!(asked(&bridge, "markseen_msgs"), batches, "files of {size} bytes");
        let sizes = bridge.said().into_iter().map(|one| one.details.file.map_or(0, |file| file.content.len() as u64));
        assert_eq!(sizes.collect::<Vec<_>>(), [size; 3]);
    }
    Ok(())
}

#[tokio::test]
async fn what_a_backup_had_of_the_engine_does_not_stay_once_the_engine_has_it() -> Result<()> {
    let bridge = bridge().await?;
    let file = bridge.folder.path().join("import.tar");
    std::fs::write(&file, "what people sent")?;
    // Until the engine has it, it stays.
    store(&bridge).write(vec![StoreWrite::put("import", b"1".as_slice())]).await?;
    let running = bridge.start().await?;
    until("the engine runs", || asked(&bridge, "start_io") > 0).await?;
    running.stop().await?;
    assert!(file.exists());
    store(&bridge).write(vec![StoreWrite::delete("import")]).await?;
    let running = bridge.start().await?;
    until("it is gone", || !file.exists()).await?;
    running.stop().await
}
