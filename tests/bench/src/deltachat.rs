//! The bridge's messages next to those of a Delta Chat client, over the same mail server, to the same phones, in turns.
//!
//! Each speaks in a group of its own with the same two phones in it, so that each mail goes to as many.
//! Dovecot's source has it gather what comes for half a second before it wakes a client that waits, which makes any ratio
//! look better. So what the bridge adds is shown in milliseconds, too.

use std::{sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    DeltaPerson,
    bridge::Binary,
    checker::{self, Tag, Tally},
    delta::Seen,
    demo::Stage,
    family::{Family, heard_on},
};
use serde::Serialize;

use crate::{
    PATIENCE,
    compare::in_turn,
    course::{until_quiet, words},
    figures::{median, percentile},
    outcome::{Target, show_targets},
    progress,
};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Messages one at a time, by each.
    pub samples: usize,
}

/// How long a way takes to a phone's screen.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Way {
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
}

/// What was measured. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    /// From the bridge's durable commit.
    pub bridge: Way,
    /// From a second client's call of its engine.
    pub client: Way,
    /// From before the one on Matrix encrypts and sends.
    pub whole: Way,
    /// The bridge's median over the client's.
    pub ratio_p50: f64,
    /// The bridge's 95th percentile over the client's.
    pub ratio_p95: f64,
    /// The bridge's median less the client's.
    pub added_p50_ms: f64,
    /// The bridge's 95th percentile less the client's.
    pub added_p95_ms: f64,
    /// Messages by each; each was seen once and in order on both phones.
    pub samples: usize,
}

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What was measured.
    pub deltachat: Figures,
    /// What the project wants of itself.
    pub targets: Vec<Target>,
}

impl Outcome {
    fn of(deltachat: Figures) -> Self {
        let Figures { ratio_p50, ratio_p95, .. } = deltachat;
        let targets = vec![
            Target::at_most("to a phone's screen, bridge over client, median", ratio_p50, 1.2),
            Target::at_most("to a phone's screen, bridge over client, p95", ratio_p95, 1.2),
        ];
        Self { deltachat, targets }
    }

    /// Shows the figures.
    pub fn show(&self, stage: &Stage) {
        let Figures { bridge, client, whole, samples, .. } = self.deltachat;
        stage.heading(&format!("To a phone's screen, {samples} messages each"));
        let line = |what: &str, p50: String, p95: String| stage.line(&format!("{what:<40}{p50:>10}{p95:>10}"));
        line("", "p50 ms".to_owned(), "p95 ms".to_owned());
        for (what, way) in [
            ("from the bridge's durable commit", bridge),
            ("from a second Delta Chat client", client),
            ("the whole way from Matrix", whole),
        ] {
            line(what, format!("{:.1}", way.p50_ms), format!("{:.1}", way.p95_ms));
        }
        let Figures { ratio_p50, ratio_p95, added_p50_ms, added_p95_ms, .. } = self.deltachat;
        line("bridge over client", format!("{ratio_p50:.3}"), format!("{ratio_p95:.3}"));
        line("bridge less client, ms", format!("{added_p50_ms:.1}"), format!("{added_p95_ms:.1}"));
        show_targets(stage, &self.targets);
    }
}

/// Measures both.
pub(crate) async fn run(binary: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    let family = Family::set(binary, stage, None).await?;
    let ways = [Speaker::bridge(&family), Speaker::client(&family).await?];
    stage.heading("The bridge and a second Delta Chat client, in turns");
    let mut said = [Vec::new(), Vec::new()];
    let bar = progress::bar(options.samples, "one at a time");
    // The first of each brings keys and connections to where they belong, and is not counted.
    for turn in 0..=options.samples {
        for which in in_turn(turn) {
            said[which].push(ways[which].one(&family, turn).await?);
        }
        bar.set_position(turn as u64);
    }
    bar.finish_and_clear();
    for (speaker, said) in ways.iter().zip(&said) {
        speaker.check(&family, said.len()).await?;
    }
    family.close().await?;
    // One delivery of each message, and no other, so the first is the first. Until the service has stopped, the
    // journal is its alone.
    let committed = family.bridge.committed("family")?;
    let [bridged, by_client] = said;
    ensure!(committed.len() == bridged.len(), "{} deliveries of {} messages", committed.len(), bridged.len());
    let from_commit = committed.iter().zip(&bridged).map(|(commit, one)| one.begun_at(seconds(*commit)));
    let from_commit: Vec<_> = from_commit.collect::<Result<_>>()?;
    let ways = [from_commit, by_client, bridged].map(|hops| of(&hops));
    Ok(Outcome::of(figures(ways, options.samples)))
}

fn figures(ways: [Way; 3], samples: usize) -> Figures {
    let [bridge, client, whole] = ways;
    Figures {
        bridge,
        client,
        whole,
        ratio_p50: bridge.p50_ms / client.p50_ms,
        ratio_p95: bridge.p95_ms / client.p95_ms,
        added_p50_ms: bridge.p50_ms - client.p50_ms,
        added_p95_ms: bridge.p95_ms - client.p95_ms,
        samples,
    }
}

/// From a departure to the far phone's screen, both in seconds since the epoch.
#[derive(Debug, Clone, Copy)]
struct Hop {
    from: f64,
    seen: f64,
}

impl Hop {
    /// The end of this hop, from a moment on that must lie in it.
    fn begun_at(self, from: f64) -> Result<Self> {
        ensure!(self.from < from && from < self.seen, "A message was committed at {from}, which is not in {self:?}");
        Ok(Self { from, ..self })
    }
}

fn of(hops: &[Hop]) -> Way {
    let took: Vec<_> = hops.iter().skip(1).map(|hop| (hop.seen - hop.from) * 1000.0).collect();
    Way { p50_ms: median(&took), p95_ms: percentile(&took, 95) }
}

fn seconds(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Who speaks to the phones.
struct Speaker {
    /// Tells the speakers apart.
    number: usize,
    /// The second client and its chat, unless it is the bridge.
    client: Option<(DeltaPerson, u32)>,
    /// On each phone.
    chats: [u32; 2],
}

impl Speaker {
    fn bridge(family: &Family) -> Self {
        Self { number: 0, client: None, chats: family.phones.each_ref().map(|(_, chat)| *chat) }
    }

    /// A person on an engine of their own, in a group with the phones.
    async fn client(family: &Family) -> Result<Self> {
        let person = DeltaPerson::new_on(&family.mail, "cat").await?;
        let (chat, link) = person.group(&format!("Friends {}", family.run)).await?;
        let [ben, eve] = family.phones.each_ref().map(|(phone, _)| Arc::clone(phone));
        let chats = [ben.join(&link).await?, eve.join(&link).await?];
        Ok(Self { number: 1, client: Some((person, chat)), chats })
    }

    /// One message, to the last of what it makes others do.
    async fn one(&self, family: &Family, number: usize) -> Result<Hop> {
        let tag = Tag { run: family.run.clone(), sender: self.number, number };
        let from = match &self.client {
            None => {
                let departure = seconds(SystemTime::now());
                family.ann.send(&family.room, &words(&tag)).await?;
                departure
            }
            Some((person, chat)) => person.send(*chat, &words(&tag)).await?.begun,
        };
        let text = tag.text();
        let [(ben, _), (eve, _)] = &family.phones;
        let tail = || format!("The end of the bridge's log:\n{}", family.bridge.tail());
        let (_, far) = tokio::try_join!(ben.hears(&text, PATIENCE), eve.hears(&text, PATIENCE)).with_context(tail)?;
        let Seen { chat, padlock, at, .. } = far;
        ensure!(chat == self.chats[1] && padlock, "{text} is seen in another chat, or without a padlock");
        // What one leaves behind is not to slow the next one down.
        until_quiet(family.bridge.pid().context("The bridge runs")?).await?;
        Ok(Hop { from, seen: at })
    }

    /// Fails unless both phones saw everything once and in order.
    async fn check(&self, family: &Family, said: usize) -> Result<()> {
        let tags: Vec<_> =
            (0..said).map(|number| Tag { run: family.run.clone(), sender: self.number, number }).collect();
        for ((phone, _), chat) in family.phones.iter().zip(self.chats) {
            let tally = checker::judge(&tags, &heard_on(phone, chat).await?);
            let clean = Tally { sent: said, delivered: said, ..Tally::default() };
            ensure!(tally == clean, "{} did not see all once and in order: {tally:?}", phone.name());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_hop_is_not_counted_and_the_ratio_is_the_bridges_over_the_clients() {
        let hops =
            |ms: &[f64]| ms.iter().map(|ms| Hop { from: 1000.0, seen: 1000.0 + ms / 1000.0 }).collect::<Vec<_>>();
        let ways = [&[900.0, 120.0][..], &[900.0, 100.0], &[900.0, 150.0]].map(|ms| of(&hops(ms)));
        let figures = figures(ways, 1);
        assert!(Hop { from: 1.0, seen: 2.0 }.begun_at(2.5).is_err());
        assert!((figures.ratio_p50 - 1.2).abs() < 1e-3 && (figures.whole.p95_ms - 150.0).abs() < 1e-3, "{figures:?}");
    }
}
