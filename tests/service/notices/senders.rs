//! Every sender into a real encrypted room: the program itself where there is one, and otherwise what it was captured
//! sending. Whoever reads the room has a client that shares no code with ours.

use std::{
    collections::BTreeMap, fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sealbridge::notices::Dialect;
use sealbridge_lab::{
    bridge::Binary,
    demo::{Scene, Stage},
    http::{free_port, request},
    person::{Message, Person},
    senders::{Senders, spoken},
    servers,
    skip::skip,
};

const PATIENCE: Duration = Duration::from_secs(3);
/// What `senders.py` signs Standard Webhooks with.
const SIGNING: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const PASSWORD: &str = "the password of whoever mails";

/// What a room is shown of one sender.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Words, plain and as HTML, first what is said first.
    said: Vec<(String, Option<String>)>,
    files: Vec<String>,
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/notices")
}

/// All that were captured, by name.
fn captured() -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(fixtures())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "http") {
            let name = path.file_stem().context("A file has a name")?.to_string_lossy().into_owned();
            all.insert(name, fs::read(&path)?);
        }
    }
    Ok(all)
}

/// What was approved for a sender's words, as they stand in a room under the sender's name.
pub(super) fn approved(captured: &str, name: &str) -> Result<Shown> {
    let text = fs::read_to_string(fixtures().join(format!("shown/{captured}.snap")))?;
    let text = text.splitn(3, "---\n").nth(2).context("A snapshot has a head")?.trim_end();
    let (mut shown, mut plain) = (Shown::default(), String::new());
    let is_one = text.matches("---- html ----").count() == 1;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(file) = line.strip_prefix("---- file ").and_then(|rest| rest.strip_suffix(" ----")) {
            shown.files.push(file.to_owned());
        } else if line == "---- html ----" {
            let mut html = String::new();
            // Where there are several, the next one's words begin at once.
            while let Some(line) = lines.next_if(|line| !line.is_empty() && (is_one || line.starts_with('<'))) {
                html = if html.is_empty() { line.to_owned() } else { format!("{html}\n{line}") };
            }
            let html = (html != "(none)").then_some(html);
            shown.said.push((std::mem::take(&mut plain).trim_end().to_owned(), html));
        } else if line != "(nothing)" {
            plain = format!("{plain}{line}\n");
        }
    }
    for (plain, html) in &mut shown.said {
        // Where there is no HTML, the name still stands out.
        let words = plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\n', "<br>");
        let words = html.take().unwrap_or(words);
        *html = Some(format!("<strong data-mx-profile-fallback>{name}: </strong>{words}"));
        // Further lines stand apart, so that none looks like the first line of somebody else.
        *plain = format!("{name}: {}", plain.replace('\n', "\n  "));
    }
    Ok(shown)
}

/// What was heard of a sender. What was changed is as it is now.
fn heard_of(messages: &[Message], name: &str) -> Shown {
    let mut shown = Shown::default();
    for message in messages {
        let content = &message.content;
        let replaces = content["m.relates_to"]["rel_type"] == "m.replace";
        let content = if replaces { &content["m.new_content"] } else { content };
        if content["com.beeper.per_message_profile"]["displayname"] != name {
            continue;
        }
        if replaces {
            shown.said.pop();
        }
        match content["msgtype"].as_str() {
            Some("m.text" | "m.notice") => {
                let text = |key: &str| content[key].as_str().map(str::to_owned);
                shown.said.push((text("body").unwrap_or_default(), text("formatted_body")));
            }
            _ => shown.files.push(content["filename"].as_str().or(content["body"].as_str()).unwrap_or("?").to_owned()),
        }
    }
    shown
}

/// Waits for what was approved, and says what was heard. What was answered 200 is in the room; its reader has it a moment
/// later.
pub(super) async fn hear(person: &Person, room: &str, name: &str, approved: &Shown) -> Shown {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let heard = heard_of(&person.messages_in(room), name);
        if heard == *approved || tokio::time::Instant::now() > until {
            return heard;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Posts what was captured, to the source of its name.
async fn post(url: &str, name: &str, captured: &[u8]) -> Result<()> {
    let at = captured.windows(2).position(|pair| pair == b"\n\n").context("A request has a head")?;
    let (head, body) = (std::str::from_utf8(&captured[..at])?, &captured[at + 2..]);
    let mut lines = head.lines();
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).context("A request has a first line")?;
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let answer = request(method, &format!("{url}/{name}{}", target.trim_end_matches('/')), &headers, body).await?;
    ensure!(answer.status == 200, "{name}: {answer:?}");
    Ok(())
}

/// Adds a source for each of them, all of one room.
async fn add_sources(scene: &mut Scene, port: u16, mail: u16, names: impl Iterator<Item = &String>) -> Result<()> {
    scene.bridge.stop().await?;
    let secret = |name: &str, secret: &str| -> Result<PathBuf> {
        let path = scene.bridge.folder().join(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(secret.as_bytes())?;
        Ok(path)
    };
    let (signing, password) = (secret("signing", SIGNING)?, secret("password", PASSWORD)?);
    let mut sections = format!("\n[notices]\nlisten = \"127.0.0.1:{port}\"\nlisten_mail = \"127.0.0.1:{mail}\"\n");
    for name in names {
        let format = spoken(name, Dialect::ALL.iter().map(|(_, name)| *name)).context("It speaks something")?;
        sections.push_str(&format!("[sources.{name}]\nformat = \"{format}\"\nto = [\"a/{}\"]\n", scene.rooms[0]));
        match name.as_str() {
            "standard-webhooks" => sections.push_str(&format!("secret_files = [{signing:?}]\n")),
            "mail-python" => sections.push_str(&format!("secret_files = [{password:?}]\n")),
            _ => {}
        }
    }
    let mut config = fs::OpenOptions::new().append(true).open(scene.bridge.config())?;
    config.write_all(sections.as_bytes())?;
    scene.bridge.start().await
}

/// Has `smtplib` and curl hand mails over. Each is refused without what it needs.
fn mail(senders: &Senders, at: &str) -> Result<()> {
    let refused = senders.mail(at, "mail-python@nas.local", None).expect_err("nothing was shown");
    ensure!(format!("{refused:#}").contains("530"), "{refused:#}");
    let refused = senders.mail(at, "mail-python@nas.local", Some("a wrong one")).expect_err("it is wrong");
    ensure!(format!("{refused:#}").contains("535"), "{refused:#}");
    senders.mail(at, "mail-python@nas.local", Some(PASSWORD))?;
    let captured = fs::read(fixtures().join("mail-cron.http"))?;
    let begins = captured.windows(2).position(|pair| pair == b"\n\n").context("A request has a head")? + 2;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), &captured[begins..])?;
    let mut curl = std::process::Command::new("/usr/bin/curl");
    curl.args(["-sS", "--crlf", "--mail-from", "root@nas", "--mail-rcpt", "mail-cron+backup@nas", "--upload-file"]);
    let output = curl.arg(file.path()).arg(format!("smtp://{at}")).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The programs that send notices. Without them the test is skipped, and says so.
pub(super) async fn ready() -> Result<Option<Senders>> {
    Ok(match tokio::task::spawn_blocking(Senders::ready).await? {
        Ok(senders) => Some(senders),
        Err(error) => {
            skip(&format!("there are no senders: {error:#}"));
            None
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sender_is_heard_in_an_encrypted_room_as_it_was_approved() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let Some(senders) = ready().await? else { return Ok(()) };
    let mut scene = Scene::set(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true)).await?;
    let (port, mailed) = (free_port()?, free_port()?);
    let url = format!("http://127.0.0.1:{port}");
    let mut captured = captured()?;
    add_sources(&mut scene, port, mailed, captured.keys()).await?;

    let (by, to, at) = (senders.clone(), url.clone(), format!("127.0.0.1:{mailed}"));
    let taken = tokio::task::spawn_blocking(move || {
        mail(&by, &at)?;
        by.each(&to)
    });
    let mut live = vec!["mail-python".to_owned(), "mail-cron".to_owned()];
    for (name, is_taken) in taken.await?.with_context(|| scene.bridge.tail())? {
        ensure!(is_taken, "{name} was not taken:\n{}", scene.bridge.tail());
        live.push(name);
    }
    ensure!(live.len() > 30, "{live:?}");
    let all: Vec<_> = captured.keys().cloned().collect();
    captured.retain(|name, _| !live.contains(name));
    for (name, request) in &captured {
        post(&url, name, request).await?;
    }

    let ann = &scene.people[0];
    let mut wrong = Vec::new();
    for name in &all {
        let mut wanted = approved(name, name)?;
        // It takes no path for its server, so both of these find the same source.
        match name.as_str() {
            "apprise-ntfy-attached" => continue,
            "apprise-ntfy" => {
                let more = approved("apprise-ntfy-attached", name)?;
                wanted.said.extend(more.said);
                wanted.files.extend(more.files);
            }
            _ => {}
        }
        let heard = hear(ann, &scene.rooms[0], name, &wanted).await;
        if heard != wanted {
            wrong.push(format!("{name}: {heard:#?}\nin the place of {wanted:#?}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let here = ann.messages_in(&scene.rooms[0]);
    ensure!(
        here.iter().all(|message| message.encrypted && (message.own || message.verified)),
        "not all is encrypted and signed"
    );
    ensure!(ann.undecryptable().is_empty(), "{:?}", ann.undecryptable());
    scene.close().await
}
