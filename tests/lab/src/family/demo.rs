//! A chat between a Matrix room and phones with Delta Chat, shown.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{Family, PATIENCE};
use crate::{
    bridge::Binary,
    checker::Tag,
    demo::{Options, Outcome, Stage, look_for, tenths},
    mail::is_encrypted,
};

/// What they say to each other.
const LINES: &[&str] = &[
    "Hello you two, are your phones awake?",
    "Yes! Is this really the old group?",
    "The same one, and my room on Matrix.",
    "Who can read it on the way?",
    "The two mail hosts and the homeserver see noise.",
    "Then tell grandma. 🔒",
];
/// Single messages in turn, then this many at once from each side.
const BURST: usize = 10;

/// Shows it with this binary.
pub async fn run(binary: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    let start = Instant::now();
    let family = Family::set(binary, stage, None).await?;
    let tag = |sender, number| Tag { run: family.run.clone(), sender, number };

    stage.heading("They talk across both networks");
    let mut said = [Vec::new(), Vec::new()];
    for (turn, line) in LINES.iter().enumerate() {
        let tag = tag(turn % 2, said[turn % 2].len());
        one(&family, stage, turn % 2, &tag, &format!("{line} {}", tag.text())).await?;
        said[turn % 2].push(tag);
    }
    stage.line(&format!("… and {BURST} more from each side, at once"));
    for _ in 0..BURST {
        for side in [0, 1] {
            let tag = tag(side, said[side].len());
            say(&family, side, &format!("burst {}", tag.text())).await?;
            said[side].push(tag);
        }
    }
    let [to_phones, to_matrix] = settle(&family, &said).await?;
    let tally = to_phones + to_matrix;

    stage.heading("Looking for their words in clear");
    let encrypted = family.mail.archive()?;
    let plain = encrypted.iter().filter(|mail| !is_encrypted(mail)).count();
    stage.line(&format!("{} mails passed, {plain} of them not encrypted", encrypted.len()));
    let control = say_in_clear(&family).await?;
    if !options.keep {
        family.close().await?;
    }
    let mut canaries: Vec<_> = said.iter().flatten().map(Tag::text).collect();
    canaries.push(family.group.clone());
    let where_to = "mailboxes, archive, queue, databases, media, logs and the service's folder, but for the engine's own and the config";
    let found = look_for(stage, &canaries, &control, &family.places()?, where_to)?;
    let outcome = Outcome {
        sent: tally.sent,
        delivered: tally.delivered,
        lost: tally.lost,
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        undecryptable: family.ann.undecryptable().len(),
        canary_hits: found.canaries + plain,
        control_hits: found.controls,
        seconds: tenths(start.elapsed()),
    };
    stage.report(outcome.sentence(), &outcome)?;
    if options.keep {
        keep(&family, stage).await?;
    }
    Ok(outcome)
}

/// Says something on Matrix, or on the first phone.
async fn say(family: &Family, side: usize, words: &str) -> Result<()> {
    match side {
        0 => family.ann.send(&family.room, words).await.map(drop),
        _ => family.phones[0].0.send(family.phones[0].1, words).await.map(drop),
    }
}

/// One message, and what everybody has of it.
async fn one(family: &Family, stage: &Stage, side: usize, tag: &Tag, words: &str) -> Result<()> {
    let before = family.mail.archive()?.len();
    say(family, side, words).await?;
    let text = tag.text();
    let (speaker, heard) = if side == 0 {
        let mut heard = Vec::new();
        for (phone, chat) in &family.phones {
            let seen = phone.wait_for(|seen| seen.text.contains(&text), PATIENCE).await?;
            ensure!(seen.chat == *chat && seen.padlock, "it came without a padlock, or elsewhere");
            heard.push(format!("{} sees, from {}: {}", phone.name(), seen.name.unwrap_or(seen.sender), seen.text));
        }
        (family.ann.user_id().to_owned(), heard)
    } else {
        let message = family.ann.wait_for(|message| message.body.contains(&text), PATIENCE).await;
        let message = message.with_context(|| format!("The end of the bridge's log:\n{}", family.bridge.tail()))?;
        (family.phones[0].0.name().to_owned(), vec![format!("{} hears: {}", family.ann.user_id(), message.body)])
    };
    stage.line("");
    stage.line(&format!("{speaker} says: {words}"));
    if let Some(mail) = family.mail.archive()?.get(before) {
        stage.line(&format!("  the mail server has {}", gist(mail)));
    }
    for line in heard {
        stage.line(&line);
    }
    Ok(())
}

/// What a mail says of itself, and the beginning of what it holds.
fn gist(mail: &[u8]) -> String {
    let mail = String::from_utf8_lossy(mail);
    let header = |name: &str| mail.lines().find(|line| line.starts_with(name)).unwrap_or("no such line");
    let armoured = mail.split("-----BEGIN PGP MESSAGE-----").nth(1).unwrap_or_default();
    let head: String = armoured.trim_start().chars().take(40).collect();
    format!("{} · {} · {head}…", header("Subject:"), header("Content-Type:"))
}

async fn settle(family: &Family, said: &[Vec<Tag>; 2]) -> Result<[crate::checker::Tally; 2]> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let tallies = family.judge(said).await?;
        if tallies.iter().all(|tally| tally.lost == 0) || Instant::now() > give_up {
            return Ok(tallies);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Says a sentence where nothing is encrypted, on both servers, for the positive control of the search.
async fn say_in_clear(family: &Family) -> Result<String> {
    let control = format!("control{}", crate::fresh::random_hex::<4>()?);
    let room = family.ann.create_plain_room("plain", &[]).await?;
    family.ann.send(&room, &control).await?;
    let to = family.phones[1].0.address();
    let mail = format!("From: <stranger@localhost>\nTo: <{to}>\nSubject: hello\n\n{control}\n");
    family.mail.inject(to, &mail).await?;
    Ok(control)
}

async fn keep(family: &Family, stage: &Stage) -> Result<()> {
    stage.heading("Still running");
    let password = crate::fresh::random_hex::<8>()?;
    let visitor = family.server.register("visitor", &password).await?;
    family.ann.invite(&family.room, &visitor.id).await?;
    stage.line(&format!("homeserver {}  user {}  password {password}", family.server.url(), visitor.id));
    stage.line(&format!("sealbridge --config {} status", family.bridge.config().display()));
    stage.line("Ctrl-C ends it.");
    tokio::signal::ctrl_c().await?;
    family.close().await
}
