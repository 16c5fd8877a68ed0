//! An engine, a disk or a spool in trouble: nothing is taken for a deletion, nobody waits for ever.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_child::{Child, Program};
use sealbridge_contract::{
    AccountName, Author, Body, Cleartext, Clock, DeliveryError, Destination, Fatal, Fate, Found, Intake, Kind, Message,
    Origin, PersonId, Receipt, RemoteId, Rule, SenderTrust, Slip, Target, Verdict,
    conformance::How,
    inbox::{AccountStore, StoreWrite},
    judge,
    message::{Edit, Form, Reaction},
};
use sealbridge_lab::{
    DeltaPerson, MailServer,
    delta::{Attachment, Saying, What},
};
use serde_json::Value;

use crate::{
    bridge::{Bridge, Met, Running, SOON, account, met, until},
    leftovers::look,
};

fn file<'a>(name: &'a str, content: &'a [u8]) -> Saying<'a> {
    Saying { text: "look", file: Some(Attachment { view: "File", name, content, plays: None }), ..Saying::default() }
}

pub(crate) fn store(bridge: &Bridge) -> AccountStore {
    let intake: std::sync::Arc<dyn Intake> = std::sync::Arc::<_>::clone(&bridge.intake) as _;
    let name: AccountName = account();
    AccountStore::new(name, intake)
}

/// Lets the engine fetch by itself until it has so many messages that nobody has asked for.
async fn fetched_alone(bridge: &Bridge, count: usize) -> Result<Vec<u32>> {
    let folder = bridge.folder.path();
    let program = Program::new(&bridge.settings.engine, folder).variable("DC_ACCOUNTS_PATH", folder.join("accounts"));
    let child = Child::start(&program)?;
    let accounts: Vec<u32> = child.call("get_all_account_ids", ()).await?;
    let account = *accounts.first().context("there is an account")?;
    child.call::<()>("start_io", (account,)).await?;
    let give_up = std::time::Instant::now() + SOON;
    loop {
        let next: Vec<u32> = child.call("get_next_msgs", (account,)).await?;
        if next.len() >= count {
            child.stop().await;
            return Ok(next);
        }
        ensure!(std::time::Instant::now() < give_up, "the engine has {} of {count}", next.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What lies in the engine's folder.
fn in_folder(bridge: &Bridge, is_it: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for account in std::fs::read_dir(bridge.folder.path().join("accounts"))? {
        let account = account?.path();
        for entry in account.is_dir().then(|| std::fs::read_dir(&account)).transpose()?.into_iter().flatten() {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(&is_it) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Takes away every file that the engine keeps.
fn lose_files(bridge: &Bridge) -> Result<()> {
    let mut lost = 0;
    for folder in in_folder(bridge, |name| name.ends_with("-blobs"))? {
        for entry in std::fs::read_dir(folder)? {
            std::fs::remove_file(entry?.path())?;
            lost += 1;
        }
    }
    ensure!(lost > 0, "the engine keeps no files");
    Ok(())
}

/// Changes the engine's database by hand, while no engine runs.
pub(crate) fn change_database(bridge: &Bridge, sql: &str) -> Result<()> {
    let databases = in_folder(bridge, |name| name == "dc.db")?;
    let database = databases.first().context("the engine has a database")?;
    const SCRIPT: &str = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\ndb.executescript(sys.argv[2])";
    let done = Command::new("python3").args(["-I", "-c", SCRIPT]).arg(database).arg(sql).status()?;
    ensure!(done.success(), "the database was not changed");
    Ok(())
}

fn message(kind: Kind) -> Cleartext {
    let author = Author { id: PersonId::new("@ann:elsewhere.test"), name: Some("Ann of Elsewhere".into()) };
    Cleartext::new(Message::of(author, Clock::system().now(), kind))
}

pub(crate) async fn deliver(running: &Running, kind: Kind, slip: &Slip) -> Result<Receipt, DeliveryError> {
    let message = message(kind);
    let to = Destination::EndToEnd(running.transport.encryption(&slip.to));
    match judge(&message, Origin { sender: SenderTrust::Proven, said: &message }, &to, &Rule::default()) {
        Verdict::Speak(cleared) => running.transport.deliver(cleared, slip).await,
        other => Err(DeliveryError::retry(format!("the gate says {other:?}"))),
    }
}

/// Gives a message of ours new words.
pub(crate) async fn edit(running: &Running, of: &RemoteId, words: &str, slip: &Slip) -> Result<Receipt, DeliveryError> {
    let edit = Edit { of: Target::new(of.clone()), form: Form::Text, body: Body::plain(words) };
    deliver(running, Kind::Edit(Box::new(edit)), slip).await
}

fn deletions(bridge: &Bridge) -> usize {
    bridge.intake.accepted().iter().filter(|one| one.how == Some(How::Redaction)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_the_engine_lost_is_told_as_no_deletion() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let said = ann.say(chat, file("a.bin", b"content")).await?;
    running.accepted(&said.id).await?;
    running.stop().await?;
    lose_files(&bridge)?;

    let running = bridge.start().await?;
    let next = ann.send(chat, "are you there?").await?;
    running.accepted(&next.id).await?;
    // What changed is told newest first, so the lost file was looked at before this.
    ann.react(&next.id, &["👍"]).await?;
    let liked = || bridge.intake.accepted().iter().any(|one| one.how == Some(How::Reaction));
    until("a change is told", liked).await?;
    assert_eq!(deletions(&bridge), 0);
    // What really was deleted is.
    ann.delete(&next.id).await?;
    until("the deletion is told", || deletions(&bridge) == 1).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_the_engine_cannot_load_becomes_a_dead_letter_and_the_next_one_crosses() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let first = ann.send(chat, "first").await?;
    running.accepted(&first.id).await?;
    running.stop().await?;
    let lost = ann.say(chat, file("a.bin", b"content")).await?;
    let next = ann.send(chat, "next").await?;
    fetched_alone(&bridge, 2).await?;
    lose_files(&bridge)?;

    let running = bridge.start().await?;
    running.accepted(&next.id).await?;
    let refused = running.intake.refused();
    let reason = refused.iter().find(|(id, _)| id.as_str() == lost.id).map(|(_, reason)| reason.as_str());
    assert_eq!(reason, Some("the engine has it and can't give it out"), "{refused:?}");
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_copy_of_the_engines_folder_stops_the_account_and_deletes_nothing() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let first = ann.send(chat, "before the copy").await?;
    running.accepted(&first.id).await?;
    running.stop().await?;
    let (accounts, copy) = (bridge.folder.path().join("accounts"), bridge.folder.path().join("copy"));
    ensure!(Command::new("cp").arg("-a").arg(&accounts).arg(&copy).status()?.success(), "it was not copied");

    let to_the_copy = async || -> Result<()> {
        ensure!(Command::new("cp").arg("-a").arg(&copy).arg(&accounts).status()?.success(), "it was not copied");
        let ended = bridge.start_without_waiting().await?.ended().await?;
        assert!(matches!(&ended, Fatal::Policy(words) if words.contains("older copy")), "{ended:?}");
        assert_eq!(deletions(&bridge), 0);
        Ok(())
    };
    // It knows nothing of what was said since, by us or by others.
    let running = bridge.start().await?;
    running.insist("said after the copy", &running.slip(&bridge.group)).await?;
    running.stop().await?;
    let newer = bridge.folder.path().join("newer");
    std::fs::rename(&accounts, &newer)?;
    to_the_copy().await?;
    std::fs::remove_dir_all(&accounts)?;
    std::fs::rename(&newer, &accounts)?;
    let running = bridge.start().await?;
    let later = ann.send(chat, "heard after the copy").await?;
    running.accepted(&later.id).await?;
    running.stop().await?;
    std::fs::remove_dir_all(&accounts)?;
    to_the_copy().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_came_together_wait_for_room_one_after_the_other() -> Result<()> {
    const SIZE: usize = 200_000;
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    running.stop().await?;
    let mut said = Vec::new();
    for number in 0..3 {
        said.push(ann.say(chat, file(&format!("{number}.bin"), &vec![number; SIZE])).await?);
    }
    fetched_alone(&bridge, 3).await?;
    bridge.intake.spool().has_room_for(SIZE + SIZE / 2);
    let running = bridge.start().await?;
    for said in &said {
        let accepted = running.accepted(&said.id).await?;
        assert!(accepted.details.file.is_some_and(|file| file.content.len() == SIZE));
        // It was delivered elsewhere.
        bridge.intake.spool().clear();
    }
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_elsewhere_hears_is_neither_fetched_nor_remembered() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let (ann, ben) = tokio::try_join!(DeltaPerson::new_on(server, "ann"), DeltaPerson::new_on(server, "ben"))?;
    let (chat, direct) = tokio::try_join!(ann.join(&bridge.link), ben.join(&bridge.own_link))?;
    let alone = running.transport.open_direct(&PersonId::new(ben.fingerprint())).await?;
    running.stop().await?;
    bridge.intake.unlink(&alone);
    let unheard = ben.say(direct, file("a.bin", b"nobody's")).await?;
    let heard = ann.send(chat, "heard").await?;
    let last = fetched_alone(&bridge, 2).await?.into_iter().max().unwrap_or_default();
    let running = bridge.start().await?;
    running.accepted(&heard.id).await?;
    let give_up = std::time::Instant::now() + SOON;
    while store(&bridge).read("cursor").await?.is_none_or(|at| at.expose() != last.to_string().as_bytes()) {
        ensure!(std::time::Instant::now() < give_up, "not both were seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bridge.intake.spool().count(), 0, "a file of nobody's was fetched");
    let all = store(&bridge).read_all("").await?;
    assert!(all.iter().any(|(key, _)| key.contains(&heard.id)));
    assert!(!all.iter().any(|(key, _)| key.contains(&unheard.id)), "it is remembered");
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_is_found_by_looking_can_be_deleted() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    ann.join(&bridge.link).await?;
    let slip = running.slip(&bridge.group);
    let said = running.insist("to be deleted", &slip).await?;
    ann.wait_for(|seen| seen.id == said.id.as_str(), SOON).await?;
    // It was killed before it wrote down what the message is called.
    store(&bridge).write(vec![StoreWrite::delete(format!("id:{}", said.id.as_str()))]).await?;
    assert_eq!(look(&running, &slip).await?, Found::There(said.id.clone()));
    let about = Slip { about: Some(said.id.clone()), ..running.slip(&bridge.group) };
    deliver(&running, Kind::Redaction(Target::new(said.id.clone())), &about).await?;
    ann.wait_deed(|deed| deed.what == What::Deletion && deed.of == said.id.as_str(), SOON).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_in_words_is_not_done_as_well() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    ann.join(&bridge.link).await?;
    let said = running.insist("befroe", &running.slip(&bridge.group)).await?;
    let slip = Slip { about: Some(said.id.clone()), ..running.slip(&bridge.group) };
    let words = running.insist("edited: before", &slip).await?;
    let error = edit(&running, &said.id, "before", &slip).await.expect_err("it was said in words");
    assert_eq!(error.fate, Fate::OtherForm, "{error}");
    assert_eq!(running.insist("edited: before", &slip).await?.id, words.id, "it is said once");
    running.stop().await
}

/// Makes the record of a delivery what it was before its end was written down.
async fn forget_the_end(bridge: &Bridge, slip: &Slip) -> Result<()> {
    let store = store(bridge);
    for (key, bytes) in store.read_all("").await? {
        if key.ends_with(&slip.delivery.to_string()) {
            let mut record: Value = serde_json::from_slice(bytes.expose())?;
            record["message"] = Value::Null;
            return Ok(store.write(vec![StoreWrite::put(key, record.to_string().into_bytes())]).await?);
        }
    }
    anyhow::bail!("there is no record of it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reaction_that_was_killed_before_its_end_is_not_said_in_words_as_well() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let said = ann.send(chat, "like this").await?;
    running.accepted(&said.id).await?;
    let target = || Target::new(RemoteId::new(said.id.as_str()));
    let mut names = Vec::new();
    for emoji in [&["👍"][..], &[], &["🎉"]] {
        let slip = Slip { about: Some(target().id), ..running.slip(&bridge.group) };
        let reaction = || Kind::Reaction(Reaction::new(target(), emoji.iter().copied()));
        let first = deliver(&running, reaction(), &slip).await?;
        forget_the_end(&bridge, &slip).await?;
        let again = deliver(&running, reaction(), &slip).await?;
        assert_eq!(first, again, "{emoji:?}");
        names.push(first.id);
    }
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
    running.stop().await
}
