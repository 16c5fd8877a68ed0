//! People and programs say, show and send everything over three networks while things fail, and then every place is searched for it.
//!
//! Everything that we claim to protect begins with one word of this run, the stem, so that one search finds whatever is
//! there in clear. What Matrix shows its servers by its nature has words of its own, and must be found exactly there. So
//! must the service's keys, tokens and passwords where they belong, and nowhere else.

mod control;
mod faults;
mod keys;
mod lines;
mod places;
mod programs;
mod stand;
mod talk;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    bridge::Binary,
    demo::Stage,
    fresh::random_hex,
    search::{Canary, Search},
};
use control::Form;
use keys::{Key, Keys};
use stand::Stand;
use talk::Talk;

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Messages at the least, of all people and kinds together.
    pub messages: usize,
    /// Between two messages of a person.
    pub pause: Duration,
    /// Faults at the least.
    pub faults: usize,
}

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// Messages said, and reactions and changes made.
    pub messages: usize,
    /// Of so many kinds, those of each network counted apart.
    pub kinds: usize,
    /// Different words that must not be found.
    pub canaries: usize,
    /// Keys, tokens and passwords that may be where they belong alone.
    pub keys: usize,
    /// What was to be heard at the other ends, each end counted once.
    pub crossings: usize,
    /// Of these, never heard.
    pub missing: usize,
    /// What was done to the service, the homeservers' lines and the mail servers'.
    pub faults: usize,
    /// Of these, kills of the service.
    pub kills: usize,
    /// Requests that were struck by a fault before a homeserver.
    pub struck: u32,
    /// Where was searched.
    pub places: usize,
    /// Bytes that were searched there.
    pub bytes: u64,
    /// Words and keys found where they may not be read: each one, place and form once.
    pub hits: usize,
    /// Words that Matrix shows its servers and that were not found, or elsewhere, and keys that were not found where they
    /// belong.
    pub misplaced: usize,
    /// Forms of a text and of a key in places, each laid there and looked for by the same search.
    pub controls: usize,
    /// Of these, not found.
    pub blind: usize,
    /// How long it took, with the service already built.
    pub seconds: f64,
}

impl Outcome {
    /// Whether everything is as promised, and was looked for where it would have been found.
    pub fn is_clean(&self) -> bool {
        self.hits + self.misplaced + self.blind + self.missing == 0 && self.controls > 0 && self.crossings > 0
    }

    /// The same in words.
    pub fn sentence(&self) -> &'static str {
        if self.is_clean() { "Nothing is in clear, and the search sees everywhere" } else { "NOT as promised" }
    }
}

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Words {
    /// With this everything begins that must not be found.
    stem: String,
    /// What the people on each homeserver are called there, and their rooms.
    shown: [String; 2],
    forms: Vec<Form>,
}

/// Where people are, in degrees: nothing can be put before a number.
pub(crate) const SPOTS: [[&str; 2]; 3] =
    [["47.3819246", "8.5162738"], ["35.6895163", "139.6917248"], ["33.8651439", "151.2099107"]];
/// What is reacted with: one emoji of Unicode's list of some fifteen bytes, so that chance makes none of them.
pub(crate) const REACTION: &str = "👩🏽‍🚒";

/// What a word is to the search, by its position in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    Secret(usize),
    Key(Key),
    Shown(usize),
    Reaction,
    Control(usize),
}

impl Words {
    fn fresh() -> Result<Self> {
        let word = |what: &str| Ok::<_, anyhow::Error>(format!("{what}{}", random_hex::<5>()?));
        let forms = control::forms(&format!("Känari-NN \"{}\" <cd>", random_hex::<5>()?))?;
        Ok(Self { stem: word("kanari")?, shown: [word("hier")?, word("dort")?], forms })
    }

    fn all(&self) -> Vec<(Word, Canary<'_>)> {
        let spots = SPOTS.iter().flatten().copied();
        let secrets = std::iter::once(self.stem.as_str()).chain(spots).enumerate();
        let shown = self.shown.iter().enumerate().map(|(side, word)| (Word::Shown(side), word.as_str()));
        let controls = self.forms.iter().enumerate().map(|(number, form)| (Word::Control(number), form.canary()));
        secrets
            .map(|(number, word)| (Word::Secret(number), word))
            .chain(shown)
            .chain([(Word::Reaction, REACTION)])
            .map(|(word, text)| (word, Canary::Text(text)))
            .chain(controls)
            .collect()
    }
}

/// One search for everything, so that what is found of the controls is found by what finds nothing else.
#[derive(Debug)]
pub(crate) struct Eyes {
    words: Vec<Word>,
    search: Search,
}

impl Eyes {
    fn new(words: &Words, keys: &Keys) -> Result<Self> {
        let keys = keys.all().map(|(key, canary)| (Word::Key(key), canary));
        let (kinds, canaries): (Vec<_>, Vec<_>) = words.all().into_iter().chain(keys).unzip();
        Ok(Self { words: kinds, search: Search::of(&canaries)? })
    }

    /// Each word that is there, with its file and its form.
    fn look<P: AsRef<std::path::Path>>(&self, paths: &[P]) -> Result<Vec<(Word, String)>> {
        let hits = self.search.paths(paths)?.into_iter();
        Ok(hits.map(|hit| (self.words[hit.canary], format!("{} ({})", hit.file.display(), hit.encoding))).collect())
    }
}

/// Sets everything up, lets them talk, and searches.
pub async fn run(binary: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    let start = Instant::now();
    let words = Words::fresh()?;
    let mut stand = Stand::set(binary, stage, &words).await?;
    stand.ensure_no_core_dumps()?;
    let mut outcome = Outcome::default();

    stage.heading(&format!("{} messages while things fail", options.messages));
    let talk = Talk::start(&stand, &words, options);
    while !talk.is_over() || outcome.faults < options.faults {
        outcome.struck += faults::strike(&mut stand, outcome.faults).await?;
        outcome.kills += usize::from(faults::is_kill(outcome.faults));
        outcome.faults += 1;
        if outcome.faults % 10 == 0 {
            stage.line(&format!("{} faults, {} messages said", outcome.faults, talk.said()));
        }
    }
    let mut said = talk.end().await?;
    outcome.messages = said.messages;
    outcome.kinds = said.kinds;
    outcome.canaries = said.canaries;
    said.marks.extend(stand.operator_acts(&words).await?);
    outcome.crossings = said.marks.iter().map(|mark| mark.at.len()).sum();
    outcome.missing = stand.missing(&said.marks, stage).await?;
    stand.note_what_it_says(&[&["status"], &["doctor"], &["dead-letters", "list"]]).await?;

    stage.heading("Looking everywhere");
    stand.fill_the_queue(&words).await?;
    let keys = Keys::of(&stand)?;
    outcome.keys = keys.len();
    let eyes = Eyes::new(&words, &keys)?;
    // While everything runs, for the logs that databases write ahead, and again when all of it is on disk.
    let [hits, misplaced] = places::search(&eyes, &stand.places(false)?, stage)?;
    ensure!(stand.writes_ahead()?, "No database had a log written ahead while it was searched");
    stand.programs.ensure_used()?;
    ensure!(stand.mail.queued()? > 0, "The mail server's queue was empty while it was searched");
    stand.close().await?;
    let places = stand.places(true)?;
    let [more, misplaced_too] = places::search(&eyes, &places, stage)?;
    outcome.hits = hits + more;
    outcome.misplaced = misplaced + misplaced_too;
    outcome.places = places.len();
    outcome.bytes = places::bytes(&places)?;
    stage.line(&format!("{} places, {} MiB", outcome.places, outcome.bytes >> 20));

    stage.heading("Laying a text into each place in every form, and looking for it");
    [outcome.controls, outcome.blind] = control::run(&eyes, &words, &stand, stage).await?;
    outcome.seconds = (start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    Ok(outcome)
}
