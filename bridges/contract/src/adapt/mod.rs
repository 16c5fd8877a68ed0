//! The form in which a message can cross to a certain destination. Pure: facts in, form out.
//!
//! Done once, before the gate, so that a transport only ever gets what its datasheet says that it carries.

mod fitting;
#[cfg(test)]
mod tests;

use crate::{Abilities, Ability, Cleartext, Message, Slip, Verb, abilities::Reactions, message::Absence, names::Tags};

use self::fitting::Fitting;

/// To whom, and how.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    /// What the destination's transport can do.
    pub abilities: &'a Abilities,
    /// What the link does with reactions.
    pub reactions: Reactions,
    /// The most bytes of a file that the link lets through.
    pub most_file: u64,
    /// Why the file of this very message stays behind: see [`Fate::WithoutFile`](crate::Fate::WithoutFile).
    pub without_file: Option<Absence>,
    /// Makes the tags by which people of one name are told apart.
    pub tags: &'a Tags,
    /// Whether somebody else at the destination could be taken for the author.
    pub namesake: bool,
    /// Whether people read it there, and not another bridge that puts it into form by itself.
    pub read_there: bool,
    /// What the transport said that it can't carry of this very message, and why: see
    /// [`Fate::OtherForm`](crate::Fate::OtherForm).
    pub cannot: &'a [(Verb, String)],
}

/// What becomes of a message on its way to a destination.
#[derive(Debug)]
pub enum Adapted<'a> {
    /// It crosses in this form.
    Crosses(Box<Crossing<'a>>),
    /// It does not cross, and that is as the datasheet or the link says.
    LeftOut(Loss),
    /// It is refused.
    Rejected(Loss),
}

/// A message in the form in which it crosses.
#[derive(Debug)]
pub struct Crossing<'a> {
    form: Shape<'a>,
    /// The slip that goes with this form: what it answers or is about may have changed with it.
    pub slip: Slip,
    /// What its author meant and its readers do not get as it was meant.
    pub lost: Vec<Loss>,
}

#[derive(Debug)]
enum Shape<'a> {
    AsItIs(&'a Cleartext),
    Other(Cleartext),
}

impl Crossing<'_> {
    /// The message, for the gate.
    #[must_use]
    pub fn message(&self) -> &Cleartext {
        match &self.form {
            Shape::AsItIs(message) => message,
            Shape::Other(message) => message,
        }
    }
}

/// Something that is not carried as it was meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// It takes another form.
    Degraded(Verb),
    /// This one takes another form, for a reason of its own; others cross as they are.
    ThisOne(Verb, String),
    /// It is left out.
    Dropped(Verb),
    /// The message is refused.
    Rejected(Verb),
    /// Its file stays behind.
    NoFile(Absence),
    /// The whole message stays behind: it is longer than this, in bytes of what is sent, where that is known.
    TooLong(Option<u64>),
    /// What it is about is not known at the destination.
    Unknown(Verb),
}

impl Loss {
    /// A word for each kind of loss, so that it is told once: `reaction/degraded`.
    #[must_use]
    pub fn topic(&self) -> String {
        match self {
            Self::Degraded(verb) => format!("{verb:?}/degraded"),
            Self::ThisOne(verb, why) => format!("{verb:?}/this-one/{why}"),
            Self::Dropped(verb) => format!("{verb:?}/dropped"),
            Self::Rejected(verb) => format!("{verb:?}/rejected"),
            Self::NoFile(why) => format!("file/{}", why.name()),
            Self::TooLong(_) => "words/too-long".to_owned(),
            Self::Unknown(verb) => format!("{verb:?}/unknown"),
        }
    }
}

/// What the author can be told.
impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Degraded(verb) => match verb.degraded() {
                Some(how) => write!(f, "{} do not cross as they are, but as {how}", capital(verb.name())),
                None => write!(f, "{} do not cross as they are", capital(verb.name())),
            },
            Self::ThisOne(verb, why) => match verb.degraded() {
                Some(how) => write!(f, "One of the {} did not cross as it is, but as {how}: {why}", verb.name()),
                None => write!(f, "One of the {} did not cross as it is: {why}", verb.name()),
            },
            Self::Dropped(verb) | Self::Rejected(verb) => write!(f, "{} do not cross", capital(verb.name())),
            Self::NoFile(why) => write!(f, "A file did not cross: {why}; {}", why.remedy()),
            Self::TooLong(most) => {
                write!(f, "A message did not cross: {}; a shorter one crosses", longer_than(*most))
            }
            Self::Unknown(verb) => write!(
                f,
                "{} of messages that are not known at the other side cross as words that say so",
                capital(verb.name())
            ),
        }
    }
}

/// Puts a message into the form in which it can cross. The slip names what it answers and is about at the destination,
/// as far as that is known.
#[must_use]
pub fn adapt<'a>(message: &'a Cleartext, slip: Slip, manner: &Manner<'_>) -> Adapted<'a> {
    let mut fitting = Fitting::new(&message.0, slip, manner);
    if let Err(ended) = fitting.kind().map(|()| fitting.parts()) {
        return match ended {
            Loss::Dropped(_) => Adapted::LeftOut(ended),
            _ => Adapted::Rejected(ended),
        };
    }
    let (changed, slip, lost) = fitting.done();
    let form = changed.map_or(Shape::AsItIs(message), |message: Message| Shape::Other(Cleartext::new(message)));
    Adapted::Crosses(Box::new(Crossing { form, slip, lost }))
}

impl Manner<'_> {
    /// How well a verb is carried, by datasheet and link together.
    fn ability(&self, verb: Verb) -> Ability {
        let ability = self.abilities.of(verb);
        match (verb, self.reactions) {
            (Verb::Reaction, Reactions::Off) => Ability::Drop,
            (Verb::Reaction, Reactions::Text) if ability.is_native() => Ability::Degrade,
            _ => ability,
        }
    }

    /// Why this very message can't be what it is, though its kind is carried.
    fn refusal(&self, verb: Verb) -> Option<&str> {
        self.cannot.iter().find(|(refused, _)| *refused == verb).map(|(_, why)| why.as_str())
    }
}

/// What is said of a message that is longer than `most` bytes, as it is sent.
pub(crate) fn longer_than(most: Option<u64>) -> String {
    match most {
        Some(most) => format!("it is longer than {}, with everything that goes with its words", bytes(most)),
        None => "it is longer than what the far server takes".to_owned(),
    }
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A number of bytes, for people.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => {
            let tenths = count.saturating_mul(10) / unit;
            let (whole, tenth) = (tenths / 10, tenths % 10);
            if tenth == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") }
        }
        None => format!("{count} bytes"),
    }
}
