//! The steps: first the kind of the message, then the parts that it can cross without.

use super::{Loss, Manner};
use crate::{
    Ability, Body, Kind, Message, Slip, Text, Verb,
    message::{Absence, Caveats, Edit, Form, Media, Sort, Target},
};

/// A message that is being fitted. It is copied only if something about it changes.
pub(super) struct Fitting<'m, 'c> {
    original: &'m Message,
    changed: Option<Message>,
    slip: Slip,
    manner: &'c Manner<'c>,
    lost: Vec<Loss>,
}

impl<'m, 'c> Fitting<'m, 'c> {
    pub(super) fn new(original: &'m Message, slip: Slip, manner: &'c Manner<'c>) -> Self {
        Self { original, changed: None, slip, manner, lost: Vec::new() }
    }

    pub(super) fn done(self) -> (Option<Message>, Slip, Vec<Loss>) {
        (self.changed, self.slip, self.lost)
    }

    fn now(&self) -> &Message {
        self.changed.as_ref().unwrap_or(self.original)
    }

    fn change(&mut self) -> &mut Message {
        self.changed.get_or_insert_with(|| copy(self.original))
    }

    fn native(&self, verb: Verb) -> bool {
        self.manner.ability(verb).is_native()
    }

    /// Finds a kind that is carried. Each turn has a kind that is nearer to words than the one before.
    pub(super) fn kind(&mut self) -> Result<(), Loss> {
        self.leave_the_file_behind();
        let author = &self.now().author;
        if matches!(self.now().kind, Kind::Change(_)) && author.name.is_some() && !author.is_bridge() {
            let name = crate::names::told(&self.now().author);
            self.change().author.name = Some(name);
        }
        loop {
            let verb = Verb::of(self.now());
            match self.manner.ability(verb) {
                Ability::Drop => return Err(Loss::Dropped(verb)),
                Ability::Reject => return Err(Loss::Rejected(verb)),
                Ability::Degrade => {
                    self.lose(Loss::Degraded(verb));
                    let kind = self.nearer_to_words(verb).ok_or(Loss::Rejected(verb))?;
                    self.change().kind = kind;
                }
                Ability::Full | Ability::Within(_) | Ability::Partly(_) => match self.obstacle(verb) {
                    None => return Ok(()),
                    Some(obstacle) => {
                        self.lose(obstacle);
                        let kind = self.nearer_to_words(verb).ok_or(Loss::Rejected(verb))?;
                        self.change().kind = kind;
                    }
                },
            }
        }
    }

    fn lose(&mut self, loss: Loss) {
        if !self.lost.contains(&loss) {
            self.lost.push(loss);
        }
    }

    /// A file that can't cross is said in words, with why, so that nothing else of its message is lost. Where no files
    /// are carried at all, its form is as for every file.
    fn leave_the_file_behind(&mut self) {
        let (why, words) = match &self.now().kind {
            Kind::Absent(absent) => (absent.why, absent.in_words()),
            Kind::File(media) if self.native(Verb::of(self.now())) => match self.in_the_way_of(media) {
                Some(why) => (why, media.in_words_without(why)),
                None => return,
            },
            _ => return,
        };
        self.lose(Loss::NoFile(why));
        self.change().kind = Kind::Text(words);
    }

    fn in_the_way_of(&self, media: &Media) -> Option<Absence> {
        let Manner { without_file, read_there, .. } = self.manner;
        let most = self.most_file();
        match without_file {
            Some(why) => Some(*why),
            None if !read_there => Some(Absence::NotCarried),
            None => (media.size() > most).then_some(Absence::TooLarge { most: Some(most) }),
        }
    }

    fn most_file(&self) -> u64 {
        self.manner.abilities.most_file.min(self.manner.most_file)
    }

    /// The file is what was meant; readers make small pictures of their own.
    fn thumbnail(&mut self) {
        let most = self.most_file();
        let is_too_large = |media: &Media| media.thumbnail.as_ref().is_some_and(|small| small.content.size > most);
        if self.now().media().is_some_and(is_too_large)
            && let Kind::File(media) = &mut self.change().kind
        {
            media.thumbnail = None;
        }
    }

    /// What is in the way of this very message, though its kind is carried.
    fn obstacle(&self, verb: Verb) -> Option<Loss> {
        if let Some(why) = self.manner.refusal(verb) {
            return Some(Loss::ThisOne(verb, why.to_owned()));
        }
        match &self.now().kind {
            Kind::Reaction(reaction) if self.manner.abilities.reactions_in_clear && !reaction.is_standard() => {
                Some(Loss::ThisOne(verb, IN_CLEAR.to_owned()))
            }
            Kind::Edit(_) | Kind::Redaction(_) | Kind::Reaction(_) if self.slip.about.is_none() => {
                Some(Loss::Unknown(verb))
            }
            _ => None,
        }
    }

    fn nearer_to_words(&mut self, verb: Verb) -> Option<Kind> {
        let about = self.now().about().is_some().then(|| self.slip.about.take()).flatten();
        if self.native(Verb::Reply) {
            // Who can't be changed can be answered.
            self.slip.reply_to = self.slip.reply_to.take().or(about.clone());
        }
        let named = about.is_some();
        let message = self.now();
        Some(match &message.kind {
            Kind::Emote(body) => Kind::Text(body.after("* ")),
            Kind::Notice(body) => Kind::Text(body.copy()),
            Kind::Edit(edit) => said(edit.form, edit.body.after(if named { "[edited] " } else { EDIT_OF_UNKNOWN })),
            Kind::Redaction(of) => self.statement(&format!("deleted {}", self.earlier(of, named))),
            Kind::Reaction(reaction) => {
                let to = self.earlier(&reaction.to, named);
                let emoji = reaction.all.iter().map(|text| crate::names::one_line(text.as_str(), text.len()));
                let emoji = emoji.collect::<Vec<_>>().join(" ");
                self.statement(&if emoji.is_empty() {
                    format!("took back all reactions to {to}")
                } else {
                    format!("reacted {emoji} to {to}")
                })
            }
            Kind::File(media) => match verb {
                Verb::File => Kind::Text(line_about(media)),
                Verb::Sticker => as_sort(media, Sort::Image),
                Verb::Voice => as_sort(media, Sort::Audio),
                _ => as_sort(media, Sort::File),
            },
            Kind::Location(location) => {
                let uri = location.uri();
                let words = location.description.as_ref().map_or("", Text::as_str);
                let pieces = ["📍 ", words, if words.is_empty() { "" } else { " " }, uri.as_str()];
                Kind::Text(Body::plain(Text::joined(&pieces)))
            }
            Kind::Poll(poll) => Kind::Text(Body::plain(poll.readable())),
            Kind::Change(change) => self.statement(change.readable(&message.author).as_str()),
            Kind::Unsupported { what } => self.statement(&format!("[{what}, which this bridge does not carry]")),
            Kind::Absent(absent) => Kind::Text(absent.in_words()),
            Kind::Text(_) => return None,
        })
    }

    /// What an earlier message is called in a sentence.
    fn earlier(&self, target: &Target, named: bool) -> String {
        match &target.quote {
            Some(quote) => format!("“{}”", quote.words.as_str()),
            None if named && self.native(Verb::Reply) => "this message".to_owned(),
            None if named => "an earlier message".to_owned(),
            None => "a message that is not known here".to_owned(),
        }
    }

    /// Words about what somebody did. They follow the name.
    fn statement(&self, words: &str) -> Kind {
        let body = Body::plain(words);
        if self.native(Verb::Notice) { Kind::Notice(body) } else { Kind::Text(body) }
    }

    /// Leaves out, or puts into words, the parts that are not carried.
    pub(super) fn parts(&mut self) {
        self.form_of_an_edit();
        self.thumbnail();
        self.thread();
        self.reply();
        let body = self.now().body();
        let (formatted, calls) = body.map_or((false, false), |body| (body.html.is_some(), !body.mentions.is_empty()));
        if formatted && !self.native(Verb::Formatting) {
            self.lose_part(Verb::Formatting);
            self.change_body(|body| body.html = None);
        }
        if calls && !self.native(Verb::Mention) {
            self.lose_part(Verb::Mention);
            self.change_body(|body| body.mentions.clear());
        }
        self.caveats();
        self.name();
        // Nobody is told of this one: the message says as much without it.
        if self.now().portrait.is_some() && !self.native(Verb::Portrait) {
            self.change().portrait = None;
        }
    }

    /// New words take the form in which the first ones crossed.
    fn form_of_an_edit(&mut self) {
        let Kind::Edit(edit) = &self.now().kind else { return };
        let (verb, before) = match edit.form {
            Form::Text => return,
            Form::Emote => (Verb::Emote, "* "),
            Form::Notice => (Verb::Notice, ""),
        };
        if self.native(verb) {
            return;
        }
        self.lose_part(verb);
        if let Kind::Edit(edit) = &mut self.change().kind {
            edit.form = Form::Text;
            edit.body = edit.body.after(before);
        }
    }

    fn lose_part(&mut self, verb: Verb) {
        let degrades = self.manner.ability(verb) == Ability::Degrade;
        self.lose(if degrades { Loss::Degraded(verb) } else { Loss::Dropped(verb) });
    }

    fn thread(&mut self) {
        if self.now().thread.is_none() || self.native(Verb::Thread) && self.slip.thread.is_some() {
            return;
        }
        let root = self.slip.thread.take();
        if !self.native(Verb::Thread) {
            self.lose_part(Verb::Thread);
        }
        if self.manner.ability(Verb::Thread) != Ability::Drop {
            self.slip.reply_to = self.slip.reply_to.take().or(root);
        }
    }

    fn reply(&mut self) {
        let native = self.native(Verb::Reply);
        if native && self.slip.reply_to.is_some() {
            return;
        }
        let named = self.slip.reply_to.take().is_some();
        if !native && (named || self.now().reply_to.is_some()) {
            self.lose_part(Verb::Reply);
        }
        if self.manner.ability(Verb::Reply) == Ability::Drop {
            return;
        }
        let quote = self.now().reply_to.as_ref().and_then(|target| target.quote.as_ref());
        let Some(quote) = quote else { return };
        let author = quote.author.as_ref().map(|name| crate::names::harmless(name.as_str())).unwrap_or_default();
        let colon = if author.is_empty() { "" } else { ": " };
        let before = Text::joined(&["> ", &author, colon, quote.words.as_str(), "\n\n"]);
        self.change_body(|body| *body = body.after(before.as_str()));
    }

    fn change_body(&mut self, act: impl FnOnce(&mut Body)) {
        match &mut self.change().kind {
            Kind::Text(body) | Kind::Emote(body) | Kind::Notice(body) => act(body),
            Kind::Edit(edit) => act(&mut edit.body),
            Kind::File(media) => act(media.caption.get_or_insert_default()),
            _ => {}
        }
    }

    /// Says in words what a reader must be told about how it came.
    fn caveats(&mut self) {
        let Caveats { late, sender_not_proven } = self.now().caveats;
        if !self.manner.read_there {
            return;
        }
        let said = [(late, "[late] "), (sender_not_proven, "[sender not proven] ")];
        let said: String = said.iter().filter(|(so, _)| *so).map(|(_, words)| *words).collect();
        if !said.is_empty() {
            self.change_words(&said);
        }
    }

    /// Puts words before those that it has, whatever they are of.
    fn change_words(&mut self, before: &str) {
        match &mut self.change().kind {
            Kind::Location(location) => {
                let description = location.description.take().unwrap_or_default();
                location.description = Some(Text::joined(&[before, description.as_str()]));
            }
            Kind::Poll(poll) => poll.question = Text::joined(&[before, poll.question.as_str()]),
            Kind::File(media) if media.caption.is_none() => media.caption = Some(Body::plain(before.trim_end())),
            _ => self.change_body(|body| *body = body.after(before)),
        }
    }

    fn name(&mut self) {
        let author = &self.now().author;
        if author.is_bridge() {
            return;
        }
        let shown = self.manner.tags.shown(author, self.manner.namesake);
        if author.name.as_ref() != Some(&shown) {
            self.change().author.name = Some(shown);
        }
    }
}

/// Why something is no reaction that others may be.
const IN_CLEAR: &str = "a server would read it, so only emoji of Unicode's own list are reactions there";

const EDIT_OF_UNKNOWN: &str = "[edit of a message that is not known here] ";

fn said(form: Form, body: Body) -> Kind {
    match form {
        Form::Text => Kind::Text(body),
        Form::Emote => Kind::Emote(body),
        Form::Notice => Kind::Notice(body),
    }
}

fn as_sort(media: &Media, sort: Sort) -> Kind {
    Kind::File(Box::new(Media { sort, ..media.copy() }))
}

fn line_about(media: &Media) -> Body {
    let what = media.about();
    let caption = media.caption.as_ref();
    let before = Text::joined(&["📎 ", media.name.as_str(), &what, if caption.is_some() { "\n" } else { "" }]);
    caption.map_or_else(|| Body::plain(before.as_str()), |caption| caption.after(before.as_str()))
}

fn copy(message: &Message) -> Message {
    let kind = match &message.kind {
        Kind::Text(body) => Kind::Text(body.copy()),
        Kind::Emote(body) => Kind::Emote(body.copy()),
        Kind::Notice(body) => Kind::Notice(body.copy()),
        Kind::Edit(edit) => Kind::Edit(Box::new(Edit { of: edit.of.copy(), form: edit.form, body: edit.body.copy() })),
        Kind::Redaction(of) => Kind::Redaction(of.copy()),
        Kind::Reaction(reaction) => Kind::Reaction(crate::message::Reaction {
            to: reaction.to.copy(),
            all: reaction.all.iter().map(Text::copy).collect(),
        }),
        Kind::File(media) => Kind::File(Box::new(media.copy())),
        Kind::Absent(absent) => Kind::Absent(Box::new(absent.copy())),
        Kind::Location(location) => Kind::Location(location.copy()),
        Kind::Poll(poll) => Kind::Poll(poll.copy()),
        Kind::Change(change) => Kind::Change(change.copy()),
        Kind::Unsupported { what } => Kind::Unsupported { what },
    };
    Message {
        author: message.author.copy(),
        sent_at: message.sent_at,
        kind,
        reply_to: message.reply_to.as_ref().map(Target::copy),
        thread: message.thread.as_ref().map(Target::copy),
        trail: message.trail.clone(),
        caveats: message.caveats,
        portrait: message.portrait.clone(),
    }
}
