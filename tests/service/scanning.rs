//! The operator shows a code at the terminal, and a client of another library is shown what a camera sees there.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sealbridge_lab::{
    Person,
    bridge::{Binary, Terminal},
    demo::{Scene, Setting, Stage},
    node,
    person::{Kind, Options, Received, Verification},
    servers,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::scanned::{Surface, scan_bytes};

const SOON: Duration = Duration::from_secs(60);
/// Light letters on dark, whatever the theme.
const ON: &str = "\u{1b}[38;5;231;48;5;16m";
const OFF: &str = "\u{1b}[0m";
/// So many bytes at the end of a code are its secret.
const SECRET: usize = 16;

/// The usual scene, and Nina with matrix-js-sdk in its first room. `None`: one of the two can't be had here.
async fn with_nina(options: Options) -> Result<Option<(Scene, Person)>> {
    if !servers::available().await || !node::available().await {
        return Ok(None);
    }
    let without_cross_signing = options.without_cross_signing;
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let scene = Scene::set_with(&binary, &Stage::new(true), Setting::default()).await?;
    let nina = Person::new_with(&scene.lab.a, "nina", Options { kind: Kind::Js, ..options }).await?;
    scene.people[0].invite(&scene.rooms[0], nina.user_id()).await?;
    nina.join(&scene.rooms[0]).await?;
    let give_up = Instant::now() + SOON;
    loop {
        let known = scene.bridge.cli(&["trust", "show", nina.user_id()]).await?;
        // An identity is pinned when somebody is let in.
        if known.code == 0 && (without_cross_signing || !known.json()?["since"].is_null()) {
            break;
        }
        ensure!(Instant::now() < give_up, "the bridge does not know her: {known:?}\n{}", scene.bridge.tail());
        sleep(Duration::from_millis(50)).await;
    }
    Ok(Some((scene, nina)))
}

fn scans() -> Options {
    Options { scans: true, ..Options::default() }
}

/// Waits for a step of a comparison that is none of these.
async fn step(person: &Person, wanted: &str, but: &[&str]) -> Result<Verification> {
    let pick = |one: &Received| match one {
        Received::Verification(seen) if seen.step == wanted && !but.contains(&seen.flow.as_str()) => Some(seen.clone()),
        _ => None,
    };
    person.wait_event(pick, SOON).await.with_context(|| format!("No step {wanted}"))
}

/// The bytes of the code on the screen. It has to be the right way round, and to fit.
fn code_on(shown: &str) -> Result<Vec<u8>> {
    let rows = shown.lines().filter_map(|line| line.trim_end().strip_prefix(ON)?.strip_suffix(OFF));
    let rows: Vec<_> = rows.collect();
    ensure!(rows.iter().all(|row| row.chars().count() <= 80), "a row is too long:\n{shown}");
    scan_bytes(&rows.join("\n"), Surface::Dark).with_context(|| format!("no code can be read:\n{shown}"))
}

fn shows_a_code(shown: &str) -> bool {
    shown.contains(['█', '▀', '▄'])
}

/// The operator asks her device; she accepts, and the terminal shows a code.
async fn code_for(scene: &Scene, nina: &Person, but: &[&str]) -> Result<(Terminal, Verification, Vec<u8>)> {
    let whom = format!("{}/{}", nina.user_id(), nina.device_id());
    let mut terminal = scene.bridge.terminal(&["verify", "a", &whom]).await?;
    let asked = step(nina, "requested", but).await?;
    nina.verify_accept(&asked.flow).await?;
    let code = code_on(&terminal.wait_for("emoji there", SOON).await?)?;
    Ok((terminal, asked, code))
}

/// She asks the bridge's device, once her client has heard of it.
async fn asks(nina: &Person, bot: &str) -> Result<()> {
    let give_up = Instant::now() + SOON;
    while let Err(error) = nina.verify_request(bot, None, None).await {
        ensure!(Instant::now() < give_up, "she can't ask: {error:#}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// How the bridge knows her.
async fn proof(scene: &Scene, nina: &Person) -> Result<String> {
    let line = scene.bridge.cli(&["trust", "show", nina.user_id()]).await?.ok()?.json()?;
    Ok(line["proof"].as_str().with_context(|| format!("no proof: {line}"))?.to_owned())
}

async fn nobody_is_verified(scene: &Scene, nina: &Person) -> Result<()> {
    ensure!(proof(scene, nina).await? == "cross_signed", "the bridge holds her verified");
    ensure!(!nina.holds_verified(&scene.bots[0]).await?, "she holds the bridge verified");
    Ok(())
}

async fn both_are_verified(scene: &Scene, nina: &Person) -> Result<()> {
    ensure!(proof(scene, nina).await? == "verified", "it was said before it was so");
    // Hers has still to come back from the homeserver.
    let give_up = Instant::now() + SOON;
    while !nina.holds_verified(&scene.bots[0]).await? {
        ensure!(Instant::now() < give_up, "she does not hold the bridge verified");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Whether a file below has these bytes, as they are or in base64.
fn is_kept(below: &Path, secret: &[u8]) -> Result<bool> {
    let encoded = STANDARD_NO_PAD.encode(secret);
    for entry in fs::read_dir(below)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let found = match () {
            () if kind.is_dir() => is_kept(&entry.path(), secret)?,
            () if kind.is_file() => {
                let bytes = fs::read(entry.path())?;
                [secret, encoded.as_bytes()].iter().any(|what| bytes.windows(what.len()).any(|window| window == *what))
            }
            () => false,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_the_terminal_shows_is_scanned_and_a_yes_verifies_both_and_nothing_keeps_its_secret() -> Result<()> {
    let Some((mut scene, nina)) = with_nina(scans()).await? else { return Ok(()) };
    scene.bridge.stop().await?;
    scene.bridge.set_env("SEALBRIDGE_LOG", "trace");
    scene.bridge.start().await?;
    let mut terminal = scene.bridge.terminal(&["verify", "a", nina.user_id()]).await?;
    let from_the_bridge = |one: &Received| match one {
        Received::Invite(invite) if invite.sender.as_ref() == Some(&scene.bots[0]) => Some(invite.room.clone()),
        _ => None,
    };
    let direct = nina.wait_event(from_the_bridge, SOON).await?;
    nina.join(&direct).await?;
    let asked = step(&nina, "requested", &[]).await?;
    ensure!(asked.room.as_ref() == Some(&direct), "{asked:?}");
    nina.verify_accept(&asked.flow).await?;

    let code = code_on(&terminal.wait_for("emoji there", SOON).await?)?;
    // Version 2 of the form, and the mode in which one person verifies another.
    ensure!(code.starts_with(b"MATRIX\x02\x00"), "{code:?}");
    nina.verify_scan(&asked.flow, &code).await?;
    terminal.wait_for("[yes/no]", SOON).await?;
    nobody_is_verified(&scene, &nina).await?;
    terminal.types("yes\n").await?;
    let (ended, shown) = terminal.ends(SOON).await?;
    ensure!(ended == 0 && shown.contains(&format!("{} is verified.", nina.user_id())), "{shown}");
    step(&nina, "done", &[]).await?;
    both_are_verified(&scene, &nina).await?;

    let (folder, secret) = (scene.bridge.folder(), &code[code.len() - SECRET..]);
    ensure!(!is_kept(folder, secret)?, "the secret is kept");
    let audit = fs::read_to_string(folder.join("state/audit.jsonl"))?;
    ensure!(audit.lines().any(|line| line.contains("\"verify\"") && line.contains("\"outcome\":null")), "{audit}");
    for control in [secret, STANDARD_NO_PAD.encode(secret).as_bytes()] {
        fs::write(folder.join("state/control"), [b"before ", control, b" after"].concat())?;
        ensure!(is_kept(folder, secret)?, "the search finds nothing");
    }
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn code_is_shown_to_whoever_asks_and_emoji_that_they_begin_instead_count() -> Result<()> {
    let Some((scene, nina)) = with_nina(scans()).await? else { return Ok(()) };
    let bot = &scene.bots[0];
    let mut terminal = scene.bridge.terminal(&["verify", "a"]).await?;
    asks(&nina, bot).await?;
    let ready = step(&nina, "ready", &[]).await?;
    let code = code_on(&terminal.wait_for("emoji there", SOON).await?)?;
    nina.verify_scan(&ready.flow, &code).await?;
    terminal.wait_for("[yes/no]", SOON).await?;
    nobody_is_verified(&scene, &nina).await?;
    terminal.types("yes\n").await?;
    let (ended, shown) = terminal.ends(SOON).await?;
    ensure!(ended == 0 && shown.contains("is verified."), "{shown}");
    both_are_verified(&scene, &nina).await?;

    let but = [ready.flow.as_str()];
    let (mut terminal, asked, _) = code_for(&scene, &nina, &but).await?;
    nina.verify_begin(&asked.flow).await?;
    let emoji = step(&nina, "emoji", &but).await?;
    let shown = terminal.wait_for("[yes/no]", SOON).await?.to_lowercase();
    ensure!(emoji.emoji.len() == 7 && emoji.emoji.iter().all(|name| shown.contains(&name.to_lowercase())), "{shown}");
    nina.verify_confirm(&asked.flow).await?;
    terminal.types("yes\n").await?;
    let (ended, shown) = terminal.ends(SOON).await?;
    ensure!(ended == 0 && shown.contains("is verified."), "{shown}");
    step(&nina, "done", &but).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_that_nobody_says_yes_to_verifies_nobody_and_the_other_side_is_told() -> Result<()> {
    let Some((scene, nina)) = with_nina(scans()).await? else { return Ok(()) };
    let mut flows = Vec::new();
    // No; another word; the end of what is typed; and the command is stopped.
    for typed in ["no\n", "well\n", "\u{4}", "\u{3}"] {
        let but: Vec<_> = flows.iter().map(String::as_str).collect();
        let (mut terminal, asked, code) = code_for(&scene, &nina, &but).await?;
        nina.verify_scan(&asked.flow, &code).await?;
        terminal.wait_for("[yes/no]", SOON).await?;
        terminal.types(typed).await?;
        let (ended, shown) = terminal.ends(SOON).await?;
        ensure!(ended != 0 && !shown.contains("is verified."), "{typed:?}: {ended} {shown}");
        let cancelled = step(&nina, "cancelled", &but).await?;
        ensure!(cancelled.reason.as_deref() == Some("m.user: they stopped it"), "{typed:?}: {cancelled:?}");
        nobody_is_verified(&scene, &nina).await?;
        flows.push(asked.flow);
    }
    // Nobody waits for the scan any more.
    let but: Vec<_> = flows.iter().map(String::as_str).collect();
    let (terminal, ..) = code_for(&scene, &nina, &but).await?;
    drop(terminal);
    let cancelled = step(&nina, "cancelled", &but).await?;
    ensure!(cancelled.reason.as_deref() == Some("m.user: they stopped it"), "{cancelled:?}");
    nobody_is_verified(&scene, &nina).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_another_time_or_with_another_key_or_secret_verifies_nobody() -> Result<()> {
    let Some((scene, nina)) = with_nina(scans()).await? else { return Ok(()) };
    let (mut terminal, first, of_before) = code_for(&scene, &nina, &[]).await?;
    terminal.types("\u{3}").await?;
    terminal.ends(SOON).await?;
    step(&nina, "cancelled", &[]).await?;

    let but = [first.flow.as_str()];
    let (terminal, asked, code) = code_for(&scene, &nina, &but).await?;
    ensure!(code.len() == of_before.len() && code[code.len() - SECRET..] != of_before[of_before.len() - SECRET..]);
    let with = |at: usize| {
        let mut changed = code.clone();
        changed[at] ^= 1;
        changed
    };
    // Her own client refuses what is not of this comparison, or has other keys in it: ours, or hers.
    for (what, wrong) in [
        ("of another time", of_before.clone()),
        ("our key", with(code.len() - SECRET - 64)),
        ("her key", with(code.len() - SECRET - 32)),
    ] {
        ensure!(nina.verify_scan(&asked.flow, &wrong).await.is_err(), "{what} is taken");
    }
    ensure!(!terminal.shown().contains("[yes/no]"), "{}", terminal.shown());

    // What is not the secret is refused here, and nobody is asked.
    nina.verify_scan(&asked.flow, &with(code.len() - 1)).await?;
    let (ended, shown) = terminal.ends(SOON).await?;
    ensure!(ended != 0 && shown.contains("is not the code"), "{ended} {shown}");
    ensure!(!shown.contains("[yes/no]"), "{shown}");
    let cancelled = step(&nina, "cancelled", &but).await?;
    ensure!(cancelled.reason.as_deref() == Some("m.key_mismatch: they stopped it"), "{cancelled:?}");
    nobody_is_verified(&scene, &nina).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_can_not_scan_and_whatever_reads_for_a_program_gets_emoji_and_no_code() -> Result<()> {
    let Some((scene, nina)) = with_nina(scans()).await? else { return Ok(()) };
    let alice = &scene.people[0];
    let whom = format!("{}/{}", alice.user_id(), alice.device_id());
    let mut terminal = scene.bridge.terminal(&["verify", "a", &whom]).await?;
    let asked = step(alice, "requested", &[]).await?;
    alice.verify_accept(&asked.flow).await?;
    step(alice, "emoji", &[]).await?;
    terminal.wait_for("[yes/no]", SOON).await?;
    alice.verify_confirm(&asked.flow).await?;
    terminal.types("yes\n").await?;
    let (ended, shown) = terminal.ends(SOON).await?;
    ensure!(ended == 0 && shown.contains("is verified.") && !shows_a_code(&shown), "{shown}");

    let whom = format!("{}/{}", nina.user_id(), nina.device_id());
    let verify = ["verify", "a", &whom];
    let agrees = async {
        let asked = step(&nina, "requested", &[]).await?;
        nina.verify_accept(&asked.flow).await?;
        step(&nina, "emoji", &[]).await?;
        nina.verify_confirm(&asked.flow).await
    };
    let (said, ()) = tokio::try_join!(scene.bridge.cli_typed(&verify, "yes\n"), agrees)?;
    let said = said.ok()?;
    ensure!(said.stdout.contains(r#""step":"compare""#) && !said.stdout.contains(r#""step":"code""#), "{said:?}");
    ensure!(!shows_a_code(&said.stdout) && !shows_a_code(&said.stderr), "{said:?}");
    both_are_verified(&scene, &nina).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_scans_and_has_no_identity_gets_emoji_and_no_code() -> Result<()> {
    let options = Options { without_cross_signing: true, ..scans() };
    let Some((scene, nina)) = with_nina(options).await? else { return Ok(()) };
    let mut terminal = scene.bridge.terminal(&["verify", "a"]).await?;
    asks(&nina, &scene.bots[0]).await?;
    let ready = step(&nina, "ready", &[]).await?;
    nina.verify_begin(&ready.flow).await?;
    step(&nina, "emoji", &[]).await?;
    let shown = terminal.wait_for("[yes/no]", SOON).await?;
    ensure!(!shows_a_code(&shown), "{shown}");
    nina.verify_cancel(&ready.flow).await?;
    terminal.types("yes\n").await?;
    let (ended, _) = terminal.ends(SOON).await?;
    ensure!(ended != 0);
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_that_is_replaced_between_the_scan_and_the_yes_is_not_verified() -> Result<()> {
    let Some((scene, nina)) = with_nina(scans()).await? else { return Ok(()) };
    let (mut terminal, asked, code) = code_for(&scene, &nina, &[]).await?;
    nina.verify_scan(&asked.flow, &code).await?;
    terminal.wait_for("[yes/no]", SOON).await?;
    nina.cross_sign().await.context("she makes a new identity")?;
    let give_up = Instant::now() + SOON;
    loop {
        let line = scene.bridge.cli(&["trust", "show", nina.user_id()]).await?.ok()?.json()?;
        if !line["pinned"].is_null() {
            break;
        }
        ensure!(Instant::now() < give_up, "the bridge sees no other identity: {line}");
        sleep(Duration::from_millis(50)).await;
    }
    terminal.types("yes\n").await?;
    let (ended, shown) = terminal.ends(SOON).await?;
    ensure!(ended != 0 && shown.contains("is another"), "{ended} {shown}");
    ensure!(proof(&scene, &nina).await? == "cross_signed", "the bridge holds her verified");
    scene.close().await
}

/// The library takes it for done as soon as the other side says so.
#[tokio::test(flavor = "multi_thread")]
async fn done_that_the_other_side_says_before_the_yes_verifies_nobody() -> Result<()> {
    let Some((scene, nina)) = with_nina(scans()).await? else { return Ok(()) };
    let [alice, bob] = &scene.people;
    let mut flows = Vec::new();
    for is_scanned in [false, true] {
        let but: Vec<_> = flows.iter().map(String::as_str).collect();
        let (mut terminal, asked, code) = code_for(&scene, &nina, &but).await?;
        if is_scanned {
            nina.verify_scan(&asked.flow, &code).await?;
            terminal.wait_for("[yes/no]", SOON).await?;
        }
        let path = format!("/_matrix/client/v3/sendToDevice/m.key.verification.done/early-{is_scanned}");
        let done = json!({ "messages": { &scene.bots[0]: { "*": { "transaction_id": asked.flow } } } });
        let (status, _) = nina.http("PUT", &path, Some(done)).await?;
        ensure!(status == 200, "{status}");
        // What is heard of later shows that the bridge has seen it.
        let words = format!("after {}", asked.flow);
        alice.send(&scene.rooms[0], &words).await?;
        bob.wait_for(|it| it.body.ends_with(&words), SOON).await?;
        terminal.types(if is_scanned { "yes\n" } else { "\u{3}" }).await?;
        let (ended, shown) = terminal.ends(SOON).await?;
        ensure!(ended != 0 && !shown.contains("is verified."), "{is_scanned}: {ended} {shown}");
        step(&nina, "cancelled", &but).await?;
        nobody_is_verified(&scene, &nina).await?;
        flows.push(asked.flow);
    }
    scene.close().await
}
