//! The fields, with names as short as they can be: each message on disk has them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{super::message::Caveats, VERSION};
use crate::{
    Author, Body, Kind, Message, PersonId, PictureId, RemoteId, Slip, Text, Timestamp, Trail,
    message::{Change, Edit, Form, Location, Mention, Poll, Quote, Reaction, Target},
};

mod file;

use file::{WireAbsent, WireFile};

type Words<'a> = Cow<'a, str>;

#[derive(Serialize, Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(rename = "v", default = "first", skip_serializing_if = "is_first")]
    version: u8,
    #[serde(rename = "a", borrow)]
    author: Words<'a>,
    #[serde(rename = "n", borrow, skip_serializing_if = "Option::is_none", default)]
    name: Option<Words<'a>>,
    #[serde(rename = "t")]
    sent_at: i64,
    #[serde(rename = "k")]
    kind: WireKind,
    #[serde(rename = "p", borrow, default)]
    plain: Words<'a>,
    #[serde(rename = "h", borrow, skip_serializing_if = "Option::is_none", default)]
    html: Option<Words<'a>>,
    #[serde(rename = "c", borrow, skip_serializing_if = "Vec::is_empty", default)]
    mentions: Vec<(Words<'a>, Option<(usize, usize)>)>,
    #[serde(rename = "r", borrow, skip_serializing_if = "Option::is_none", default)]
    reply_to: Option<Words<'a>>,
    #[serde(rename = "rq", borrow, skip_serializing_if = "Option::is_none", default)]
    reply_quote: Option<WireQuote<'a>>,
    #[serde(rename = "th", borrow, skip_serializing_if = "Option::is_none", default)]
    thread: Option<Words<'a>>,
    #[serde(rename = "o", borrow, skip_serializing_if = "Option::is_none", default)]
    about: Option<Words<'a>>,
    #[serde(rename = "oq", borrow, skip_serializing_if = "Option::is_none", default)]
    about_quote: Option<WireQuote<'a>>,
    /// An edit's form.
    #[serde(rename = "f", skip_serializing_if = "Option::is_none", default)]
    form: Option<WireKind>,
    /// Emoji of a reaction, answers of a poll.
    #[serde(rename = "w", borrow, skip_serializing_if = "Vec::is_empty", default)]
    several: Vec<Words<'a>>,
    #[serde(rename = "md", borrow, skip_serializing_if = "Option::is_none", default)]
    file: Option<Box<WireFile<'a>>>,
    #[serde(rename = "ab", borrow, skip_serializing_if = "Option::is_none", default)]
    absent: Option<WireAbsent<'a>>,
    #[serde(rename = "g", borrow, skip_serializing_if = "Option::is_none", default)]
    geo: Option<Words<'a>>,
    #[serde(rename = "ch", borrow, skip_serializing_if = "Option::is_none", default)]
    change: Option<WireChange<'a>>,
    #[serde(rename = "m", skip_serializing_if = "Vec::is_empty", default)]
    marks: Vec<String>,
    #[serde(rename = "fa", default, skip_serializing_if = "std::ops::Not::not")]
    for_another: bool,
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    sender_not_proven: bool,
    /// A reader of the first form loses nothing that the message says.
    #[serde(rename = "pi", borrow, skip_serializing_if = "Option::is_none", default)]
    portrait: Option<Words<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireKind {
    Text,
    Emote,
    Notice,
    Unsupported,
    Edit,
    Redaction,
    Reaction,
    File,
    Absent,
    Location,
    Poll,
    Change,
}

#[derive(Serialize, Deserialize)]
struct WireQuote<'a>(#[serde(borrow)] Option<Words<'a>>, #[serde(borrow)] Words<'a>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireChange<'a> {
    Joined(#[serde(borrow)] Words<'a>, #[serde(borrow)] Option<Words<'a>>),
    Left(#[serde(borrow)] Words<'a>, #[serde(borrow)] Option<Words<'a>>),
    Renamed(#[serde(borrow)] Words<'a>),
    Picture,
    Timer(Option<u64>),
}

fn first() -> u8 {
    1
}

// Serde hands in a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_first(version: &u8) -> bool {
    *version == 1
}

fn words(text: &Text) -> Words<'_> {
    text.as_str().into()
}

fn text(words: Words<'_>) -> Text {
    Text::new(words)
}

impl<'a> Wire<'a> {
    pub(super) fn of(message: &'a Message) -> Self {
        let author = &message.author;
        let mut wire = Self {
            version: 1,
            author: author.id.as_str().into(),
            name: author.name.as_ref().map(words),
            sent_at: message.sent_at.0,
            kind: WireKind::Text,
            plain: Words::default(),
            html: None,
            mentions: Vec::new(),
            reply_to: message.reply_to.as_ref().map(|target| target.id.as_str().into()),
            reply_quote: message.reply_to.as_ref().and_then(WireQuote::of),
            thread: message.thread.as_ref().map(|target| target.id.as_str().into()),
            about: message.about().map(|target| target.id.as_str().into()),
            about_quote: message.about().and_then(WireQuote::of),
            form: None,
            several: Vec::new(),
            file: None,
            absent: None,
            geo: None,
            change: None,
            marks: message.trail.to_texts(),
            for_another: message.trail.is_for_another(),
            late: message.caveats.late,
            sender_not_proven: message.caveats.sender_not_proven,
            portrait: message.portrait.as_ref().map(|picture| picture.as_str().into()),
        };
        if let Some(body) = message.body() {
            wire.put_body(body);
        }
        wire.put_kind(&message.kind);
        if !wire.is_of_the_first_form() {
            wire.version = VERSION;
        }
        wire
    }

    /// Whether a reader of the first form loses nothing.
    fn is_of_the_first_form(&self) -> bool {
        use WireKind::{Emote, Notice, Text, Unsupported};
        matches!(self.kind, Text | Emote | Notice | Unsupported)
            && self.mentions.is_empty()
            && self.thread.is_none()
            && self.reply_quote.is_none()
    }

    fn put_body(&mut self, body: &'a Body) {
        self.plain = words(&body.plain);
        self.html = body.html.as_ref().map(words);
        let mention = |m: &'a Mention| (m.person.as_str().into(), m.at.as_ref().map(|at| (at.start, at.end)));
        self.mentions = body.mentions.iter().take(Body::MOST_MENTIONS).map(mention).collect();
    }

    fn put_kind(&mut self, kind: &'a Kind) {
        self.kind = match kind {
            Kind::Text(_) => WireKind::Text,
            Kind::Emote(_) => WireKind::Emote,
            Kind::Notice(_) => WireKind::Notice,
            Kind::Unsupported { what } => {
                self.plain = (*what).into();
                WireKind::Unsupported
            }
            Kind::Edit(edit) => {
                self.form = Some(match edit.form {
                    Form::Text => WireKind::Text,
                    Form::Emote => WireKind::Emote,
                    Form::Notice => WireKind::Notice,
                });
                WireKind::Edit
            }
            Kind::Redaction(_) => WireKind::Redaction,
            Kind::Reaction(reaction) => {
                self.several = reaction.all.iter().map(words).collect();
                WireKind::Reaction
            }
            Kind::File(media) => {
                self.file = Some(Box::new(WireFile::of(media)));
                WireKind::File
            }
            Kind::Absent(absent) => {
                self.absent = Some(WireAbsent::of(absent));
                WireKind::Absent
            }
            Kind::Location(location) => {
                self.geo = Some(Words::Owned(location.uri().as_str().to_owned()));
                self.html = None;
                self.plain = location.description.as_ref().map(words).unwrap_or_default();
                WireKind::Location
            }
            Kind::Poll(poll) => {
                self.plain = words(&poll.question);
                self.several = poll.answers.iter().map(words).collect();
                WireKind::Poll
            }
            Kind::Change(change) => {
                self.change = Some(WireChange::of(change));
                WireKind::Change
            }
        };
    }

    /// Names what it is about as the slip does.
    pub(super) fn readdress(&mut self, slip: &'a Slip) {
        let name = |id: &'a Option<RemoteId>| id.as_ref().map(|id| id.as_str().into());
        self.marks = slip.trail.to_texts();
        (self.reply_to, self.thread, self.about) = (name(&slip.reply_to), name(&slip.thread), name(&slip.about));
        // Nobody there can look it up.
        self.portrait = None;
        if !self.is_of_the_first_form() {
            self.version = VERSION;
        }
    }

    pub(super) fn into_message(mut self) -> Option<Message> {
        if self.version > VERSION {
            return None;
        }
        let target = |id: Option<Words<'_>>, quote: Option<WireQuote<'_>>| {
            id.map(|id| Target { id: RemoteId::new(id), quote: quote.map(|quote| Box::new(quote.into_quote())) })
        };
        let reply_to = target(self.reply_to.take(), self.reply_quote.take());
        let thread = target(self.thread.take(), None);
        Some(Message {
            author: Author { id: PersonId::new(std::mem::take(&mut self.author)), name: self.name.take().map(text) },
            sent_at: Timestamp(self.sent_at),
            reply_to,
            thread,
            trail: Trail::from_texts(self.marks.iter().map(String::as_str)).for_another(self.for_another),
            caveats: Caveats { late: self.late, sender_not_proven: self.sender_not_proven },
            portrait: self.portrait.take().and_then(PictureId::new),
            kind: self.into_kind()?,
        })
    }

    fn into_kind(self) -> Option<Kind> {
        // A stretch that is none of these words calls nobody, and is not reckoned with.
        let sound = |at: &(usize, usize)| self.plain.get(at.0..at.1).is_some();
        let mentions = self.mentions.into_iter().take(Body::MOST_MENTIONS).map(|(person, at)| Mention {
            person: PersonId::new(person),
            at: at.filter(sound).map(|(start, end)| start..end),
        });
        let body = Body { mentions: mentions.collect(), plain: Text::default(), html: self.html.map(text) };
        let plain = text(self.plain);
        let about = || {
            let quote = self.about_quote.map(|quote| Box::new(quote.into_quote()));
            Some(Target { id: RemoteId::new(self.about?), quote })
        };
        Some(match self.kind {
            WireKind::Text => Kind::Text(Body { plain, ..body }),
            WireKind::Emote => Kind::Emote(Body { plain, ..body }),
            WireKind::Notice => Kind::Notice(Body { plain, ..body }),
            WireKind::Unsupported => {
                // A stored name must become one of our own.
                let what = Kind::UNSUPPORTED.iter().find(|known| **known == plain.as_str()).copied();
                Kind::Unsupported { what: what.unwrap_or("something") }
            }
            WireKind::Edit => {
                let form = match self.form? {
                    WireKind::Text => Form::Text,
                    WireKind::Emote => Form::Emote,
                    WireKind::Notice => Form::Notice,
                    _ => return None,
                };
                Kind::Edit(Box::new(Edit { of: about()?, form, body: Body { plain, ..body } }))
            }
            WireKind::Redaction => Kind::Redaction(about()?),
            WireKind::Reaction => {
                Kind::Reaction(Reaction::new(about()?, self.several.into_iter().map(Cow::into_owned)))
            }
            WireKind::File => {
                let captioned = !plain.is_empty() || body.html.is_some();
                Kind::File(Box::new(self.file?.into_media(captioned.then_some(Body { plain, ..body }))?))
            }
            WireKind::Absent => {
                let captioned = !plain.is_empty() || body.html.is_some();
                Kind::Absent(Box::new(self.absent?.into_absent(captioned.then_some(Body { plain, ..body }))))
            }
            WireKind::Location => {
                let description = (!plain.is_empty()).then_some(plain);
                Kind::Location(Location::from_uri(&self.geo?, description)?)
            }
            WireKind::Poll => {
                Kind::Poll(Poll { question: plain, answers: self.several.into_iter().map(text).collect() })
            }
            WireKind::Change => Kind::Change(self.change?.into_change()),
        })
    }
}

impl<'a> WireQuote<'a> {
    fn of(target: &'a Target) -> Option<Self> {
        target.quote.as_ref().map(|quote| Self(quote.author.as_ref().map(words), words(&quote.words)))
    }

    fn into_quote(self) -> Quote {
        Quote { author: self.0.map(text), words: text(self.1) }
    }
}

impl<'a> WireChange<'a> {
    fn of(change: &'a Change) -> Self {
        let who = |who: &'a Author| (who.id.as_str().into(), who.name.as_ref().map(words));
        match change {
            Change::Joined(person) => {
                let (id, name) = who(person);
                Self::Joined(id, name)
            }
            Change::Left(person) => {
                let (id, name) = who(person);
                Self::Left(id, name)
            }
            Change::Renamed(name) => Self::Renamed(words(name)),
            Change::Picture => Self::Picture,
            Change::Timer(after) => Self::Timer(after.map(|after| after.as_secs())),
        }
    }

    fn into_change(self) -> Change {
        let who = |id, name: Option<Words<'_>>| Author { id: PersonId::new(id), name: name.map(text) };
        match self {
            Self::Joined(id, name) => Change::Joined(who(id, name)),
            Self::Left(id, name) => Change::Left(who(id, name)),
            Self::Renamed(name) => Change::Renamed(text(name)),
            Self::Picture => Change::Picture,
            Self::Timer(after) => Change::Timer(after.map(std::time::Duration::from_secs)),
        }
    }
}
