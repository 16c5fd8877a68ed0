//! Real senders with the secret of their source, each shown or signed with in that sender's own way, into a real encrypted
//! room. By a wrong one nothing is said.

use std::{collections::BTreeMap, fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge::notices::Dialect;
use sealbridge_lab::{
    alerts::{self, Alertmanager},
    bridge::Binary,
    demo::{Scene, Stage},
    http::free_port,
    senders::spoken,
    servers,
};

use super::senders::{approved, hear};

const PATIENCE: Duration = Duration::from_secs(30);
/// Each has a way of its own: in the password of an address, in a path, a query, a header, or in a signature.
const SENDERS: [&str; 17] = [
    "apprise-json",
    "apprise-xml",
    "apprise-form",
    "apprise-hookshot",
    "apprise-ntfy",
    "apprise-gotify",
    "apprise-slack",
    "apprise-discord",
    "slack-sdk-text",
    "discord-webhook-content",
    "standard-webhooks",
    "cloudevents-binary",
    "curl-ntfy-words",
    "curl-ntfy-address",
    "curl-gotify-form",
    "curl-raw-words",
    "curl-ping-failed",
];
const ALERTMANAGER: &str = "prometheus";

/// A secret for each of them, of its own and in letters that all take; the wrong ones differ in the last.
fn secrets(last: char) -> BTreeMap<String, String> {
    let secret = |(number, name): (usize, &&str)| {
        let sort = if *name == "standard-webhooks" { "whsec_" } else { "" };
        ((*name).to_owned(), format!("{sort}CorrectHorseBattery{number:04}{last}"))
    };
    SENDERS.iter().chain([&ALERTMANAGER]).enumerate().map(secret).collect()
}

/// Adds a source with a secret for each of them, all of one room.
async fn add_sources(scene: &mut Scene, port: u16, secrets: &BTreeMap<String, String>) -> Result<()> {
    scene.bridge.stop().await?;
    let mut sections = format!("\n[notices]\nlisten = \"127.0.0.1:{port}\"\n");
    for (name, secret) in secrets {
        let path = scene.bridge.folder().join(format!("{name}.secret"));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(secret.as_bytes())?;
        let format = match name.as_str() {
            ALERTMANAGER => "alertmanager",
            name => spoken(name, Dialect::ALL.iter().map(|(_, name)| *name)).context("It speaks something")?,
        };
        let room = &scene.rooms[0];
        sections.push_str(&format!(
            "[sources.{name}]\nformat = {format:?}\nto = [\"a/{room}\"]\nsecret_files = [{path:?}]\n"
        ));
    }
    let mut config = fs::OpenOptions::new().append(true).open(scene.bridge.config())?;
    config.write_all(sections.as_bytes())?;
    scene.bridge.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn real_senders_are_heard_by_their_secrets_and_say_nothing_by_wrong_ones() -> Result<()> {
    if !(servers::available().await && alerts::available().await) {
        return Ok(());
    }
    let Some(senders) = super::senders::ready().await? else { return Ok(()) };
    let mut scene = Scene::set(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true)).await?;
    let port = free_port()?;
    let url = format!("http://127.0.0.1:{port}");
    let (good, wrong) = (secrets('A'), secrets('B'));
    add_sources(&mut scene, port, &good).await?;

    // The wrong ones first: what was said by them would be there before what is said by the good ones.
    for (secrets, is_good) in [(&wrong, false), (&good, true)] {
        let (by, to, mut with) = (senders.clone(), url.clone(), secrets.clone());
        with.remove(ALERTMANAGER);
        let each = tokio::task::spawn_blocking(move || by.each_with(&to, &with)).await??;
        ensure!(each.len() == SENDERS.len(), "{each:?}");
        for (name, is_taken) in each {
            ensure!(
                is_taken == is_good,
                "{name}: taken {is_taken}, by a good secret {is_good}\n{}",
                scene.bridge.tail()
            );
        }
    }
    let ann = &scene.people[0];
    let webhook = format!("{url}/{ALERTMANAGER}");
    let refused = Alertmanager::start(&webhook, &wrong[ALERTMANAGER]).await?;
    refused.fire("WrongSecret", "db-1", "said by a wrong secret").await?;
    let begun = tokio::time::Instant::now();
    while refused.failures().await? == 0 {
        ensure!(begun.elapsed() < PATIENCE, "it is not refused: {}", refused.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let alertmanager = Alertmanager::start(&webhook, &good[ALERTMANAGER]).await?;
    alertmanager.fire("GoodSecret", "db-1", "said by a good secret").await?;
    ann.wait_for(|message| message.body.contains("GoodSecret"), PATIENCE).await.with_context(|| alertmanager.log())?;

    let mut odd = Vec::new();
    for name in SENDERS {
        let wanted = approved(name, name)?;
        let heard = hear(ann, &scene.rooms[0], name, &wanted).await;
        if heard != wanted {
            odd.push(format!("{name}: {heard:#?}\nin the place of {wanted:#?}"));
        }
    }
    ensure!(odd.is_empty(), "{}", odd.join("\n"));
    let here = ann.messages_in(&scene.rooms[0]);
    ensure!(here.iter().all(|message| message.own || message.encrypted && message.verified), "not all is encrypted");
    ensure!(here.iter().all(|message| !message.body.contains("WrongSecret")), "it is said by a wrong secret");
    let shown = |secret: &String| here.iter().any(|message| message.content.to_string().contains(secret.as_str()));
    ensure!(!good.values().any(shown), "a secret is shown");
    let log = scene.bridge.log_text();
    ensure!(!good.values().chain(wrong.values()).any(|secret| log.contains(secret.as_str())), "a secret is logged");
    scene.close().await
}
