//! What people do to earlier messages, while the service and the engine of Delta Chat are killed: each is done once at
//! the far end, to the message it was meant for.

use std::{
    collections::BTreeMap,
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::conformance::{Details, How, Overheard, Say};
use sealbridge_lab::{bridge::Binary, chaos, delta::What, processes};

use crate::phones::{Family, Said, Who};

const THUMB: &str = "👍";
/// So long the service may take to come to a place where it dies.
const NOT_REACHED: Duration = Duration::from_secs(8);
/// The service comes to some thirty commits from its start until all deeds of a round are done.
const COMMITS: usize = 30;
/// So long what overtook something on a mail server is waited for.
const SWAPPED: Duration = Duration::from_secs(15);
/// An engine that dies again and again is started again after five seconds at most.
const STARTED_AGAIN: Duration = Duration::from_secs(20);

fn binary() -> Binary {
    Binary::at(env!("CARGO_BIN_EXE_sealbridge"))
}

/// Messages of Ann's to which something is done, one of each kind.
struct Round {
    number: usize,
    edited: Said,
    deleted: Said,
    reacted: Said,
    /// Has a reaction, which is taken back.
    bare: Said,
    reaction: String,
}

/// Says the messages of so many rounds, and waits until Ben has them.
async fn prepare(family: &Family, rounds: usize) -> Result<Vec<Round>> {
    let mut own = Vec::new();
    for number in 1..=rounds {
        for what in ["edited", "deleted", "reacted", "bare"] {
            let words = format!("{what} {number}");
            own.push((family.says(Who::Ann, Say { words: words.clone(), ..Say::default() }).await?, words));
        }
    }
    let mut said = Vec::new();
    for (own, words) in own {
        let there = family.hears(Who::Ben, &words, |heard| heard.words == words).await?;
        said.push(Said { to_ann: own, to_ben: there.id });
    }
    let mut prepared = Vec::new();
    let mut said = said.into_iter();
    while let (Some(edited), Some(deleted), Some(reacted), Some(bare)) =
        (said.next(), said.next(), said.next(), said.next())
    {
        let reaction = family.says(Who::Ann, reaction(&bare)).await?.as_str().to_owned();
        prepared.push(Round { number: prepared.len() + 1, edited, deleted, reacted, bare, reaction });
    }
    for round in &prepared {
        let is = |heard: &Overheard| {
            heard.how == How::Reaction && heard.details.about.as_ref() == Some(round.bare.to(Who::Ben))
        };
        family.hears(Who::Ben, "the reaction that is to be taken back", is).await?;
    }
    Ok(prepared)
}

impl Round {
    fn words(&self) -> String {
        format!("new words {}", self.number)
    }

    async fn deeds(&self, family: &Family) -> Result<()> {
        let about = |said: &Said| Details { about: Some(said.to(Who::Ann).clone()), ..Details::default() };
        let edit = Say { how: How::Edit, words: self.words(), details: about(&self.edited), ..Say::default() };
        family.says(Who::Ann, edit).await?;
        let deletion = Say { how: How::Redaction, details: about(&self.deleted), ..Say::default() };
        family.says(Who::Ann, deletion).await?;
        family.says(Who::Ann, reaction(&self.reacted)).await?;
        family.ann.redact(&family.room, &self.reaction).await.map(drop)
    }
}

fn reaction(to: &Said) -> Say {
    let about = Some(to.to(Who::Ann).clone());
    let details = Details { about, emoji: vec![THUMB.to_owned()], ..Details::default() };
    Say { how: How::Reaction, details, ..Say::default() }
}

/// Everything that was done to messages, as Ben saw it, in its order.
type Done = BTreeMap<String, Vec<(What, String)>>;

async fn done(family: &Family) -> Result<Done> {
    let mut done = Done::new();
    for deed in family.ben.deeds().await?.into_iter().filter(|deed| !deed.own && deed.chat == family.chat) {
        let what = match deed.what {
            What::Edit => deed.text,
            What::Reaction => deed.emoji.concat(),
            What::Deletion => String::new(),
        };
        done.entry(deed.of).or_default().push((deed.what, what));
    }
    Ok(done)
}

/// What is done to the messages of a round, before its deeds and after them.
fn expected(round: &Round, by_now: bool) -> Vec<(String, Vec<(What, String)>)> {
    let of = |said: &Said, deeds: Vec<(What, String)>| (said.to(Who::Ben).as_str().to_owned(), deeds);
    let thumb = || (What::Reaction, THUMB.to_owned());
    if !by_now {
        return vec![of(&round.bare, vec![thumb()])];
    }
    vec![
        of(&round.edited, vec![(What::Edit, round.words())]),
        of(&round.deleted, vec![(What::Deletion, String::new())]),
        of(&round.reacted, vec![thumb()]),
        of(&round.bare, vec![thumb(), (What::Reaction, String::new())]),
    ]
}

/// The deeds of the first `by_now` rounds are done once each, and nothing else is.
async fn judge(family: &Family, rounds: &[Round], by_now: usize) -> Result<()> {
    // The lane keeps its order, so that what comes last leaves after all deeds.
    family.said(Who::Ann, &format!("the end of {by_now}")).await?;
    let all = rounds.iter().enumerate().flat_map(|(at, round)| expected(round, at < by_now));
    let expected: Done = all.collect();
    // Mail servers may swap what came within moments. What was done twice, or to another, stays so.
    let give_up = Instant::now() + SWAPPED;
    loop {
        let judged = compare(&expected, &done(family).await?);
        if judged.is_ok() || Instant::now() > give_up {
            judged?;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for seen in family.ben.ever_seen().await?.into_iter().filter(|seen| !seen.own && !seen.info) {
        let gone = rounds[..by_now].iter().any(|round| round.deleted.to(Who::Ben).as_str() == seen.id);
        ensure!(seen.gone == gone, "{:?} is gone: {}", seen.text, seen.gone);
    }
    Ok(())
}

fn compare(expected: &Done, done: &Done) -> Result<()> {
    for (of, deeds) in expected {
        ensure!(done.get(of) == Some(deeds), "{of}: {:?} was done, and {deeds:?} was meant", done.get(of));
    }
    ensure!(done.len() == expected.len(), "something was done to another message: {done:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deeds_are_done_once_wherever_the_service_is_killed_around_them() -> Result<()> {
    let Some(mut family) = Family::set(&binary()).await? else { return Ok(()) };
    // Else nothing would be killed, and the test would pass.
    chaos::places(&binary()).await?;
    let rounds = prepare(&family, COMMITS).await?;
    let mut kills = 0;
    // Before each of the commits of which the way of the deeds consists, one after the other.
    for (at, round) in rounds.iter().enumerate() {
        family.bridge.kill().await?;
        round.deeds(&family).await?;
        family.bridge.set_env("FAILPOINT_KILL_AT", &format!("journal::before-commit={}", at + 1));
        family.bridge.spawn().await?;
        let died = family.bridge.wait_exit(NOT_REACHED).await;
        family.bridge.kill().await?;
        family.bridge.unset_env("FAILPOINT_KILL_AT");
        family.bridge.spawn().await?;
        judge(&family, &rounds, at + 1).await.with_context(|| format!("killed before commit {}", at + 1))?;
        if let Ok(code) = died {
            ensure!(code == -9, "it ended with {code}\n{}", family.bridge.tail());
            kills += 1;
        }
    }
    ensure!(kills > COMMITS / 2, "it was killed at {kills} places alone");
    writeln!(std::io::stdout(), "{kills} kills of the service, {} deeds, each done once", 4 * rounds.len())?;
    family.bridge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn deeds_are_done_once_whenever_the_engine_is_killed_around_them() -> Result<()> {
    let Some(family) = Family::set(&binary()).await? else { return Ok(()) };
    let rounds = prepare(&family, 16).await?;
    let mut kills = 0_usize;
    for (round, age) in rounds.iter().zip((0..).step_by(40)) {
        round.deeds(&family).await?;
        // From the moment at which they are on their way to the one at which most are done.
        tokio::time::sleep(Duration::from_millis(age)).await;
        let give_up = Instant::now() + STARTED_AGAIN;
        while !family.engine()?.is_some_and(processes::kill) {
            ensure!(Instant::now() < give_up, "the engine is not started again\n{}", family.bridge.tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        kills += 1;
    }
    judge(&family, &rounds, rounds.len()).await.with_context(|| format!("after {kills} kills"))?;
    writeln!(std::io::stdout(), "{kills} kills of the engine, {} deeds, each done once", 4 * rounds.len())?;
    family.bridge.stop().await
}
