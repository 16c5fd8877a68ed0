//! What a source brings, made into messages: words by its template, files through the spool, and one message for each
//! incident, which is edited as it goes on.

use std::sync::Arc;

use sealbridge_contract::{
    Body, Kind, Media, Message, RemoteId, SecretBytes, Spool, Target,
    inbox::StoreWrite,
    message::{Edit, FileName, Form, MediaType, Sort},
};
use serde_json::Value;

use super::{
    Alert, Attachment, Desk, Incident, Known, NotTaken, Notice, Origin, Severity, Step, Told, Who,
    calling::Calls,
    desk::Said,
    escalation::{Escalation, after_line},
    fold::Repeat,
    gather::Gathering,
    keeping::{INCIDENTS, forget, kept, of_pointer, pointer, points},
    together::is_together,
    wording::{self, Course, Template, Worded, Words},
};

/// A reply to so many of the last things that were said of an incident is a reply to it.
const MOST_SAID: usize = 30;

/// Messages that are to be taken, and what is to be remembered with them.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// With the name of each. The first is what the notice is called by.
    pub(super) messages: Vec<(RemoteId, Message)>,
    /// What is to be remembered.
    pub(super) writes: Vec<StoreWrite>,
    /// What is said elsewhere with them.
    pub(super) beside: Vec<Said>,
    /// Their words, if these may come again or came again.
    pub(super) repeat: Option<Repeat>,
}

impl Messages {
    /// Both, these first.
    fn and(mut self, then: Self) -> Self {
        self.messages.extend(then.messages);
        self.writes.extend(then.writes);
        self.beside.extend(then.beside);
        self
    }
}

/// Makes messages of what one source brings.
#[derive(Debug)]
pub(super) struct Author {
    origin: Origin,
    template: Template,
    /// For incidents of our own making.
    ours: Template,
    /// For what is said together.
    pub(super) together: Template,
    /// Who is called. An edit calls nobody.
    calls: Calls,
    pub(super) escalation: Option<Escalation>,
}

impl Author {
    /// Who makes messages with this template.
    #[must_use]
    pub(super) fn new(origin: Origin, template: Template, calls: Calls, escalation: Option<Escalation>) -> Self {
        Self { origin, template, ours: Template::of_ours(), together: Template::of_digests(), calls, escalation }
    }

    /// Where they come from.
    #[must_use]
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Lets the source's template say how much a notice matters, and what it is called.
    pub(super) fn prepare(&self, notice: &mut Notice) {
        if let Err(trouble) = self.template.prepare(notice) {
            tracing::warn!(source = ?self.origin.address(), %trouble, "A template does not do its work.");
        }
    }

    /// The messages of a notice, unless it is held and gathered.
    ///
    /// # Errors
    /// [`NotTaken`]: a file can't be kept now, or the journal does not answer.
    pub(super) async fn messages(
        &self,
        desk: &Desk,
        spool: &Arc<dyn Spool>,
        notice: Notice,
        gathering: &mut Gathering<'_>,
    ) -> Result<Messages, NotTaken> {
        let mut made = match &notice.incident {
            Some(incident) => self.of_incident(desk, &notice.values, incident, gathering).await?,
            None => self.of_words(desk, &notice, gathering).await?,
        };
        for attachment in notice.attachments {
            let media = keep(&**spool, attachment).await?;
            let message = Message::of(self.origin.author(), desk.clock().now(), Kind::File(Box::new(media)));
            made.messages.push((Desk::fresh_id(), message));
        }
        Ok(made)
    }

    async fn of_words(
        &self,
        desk: &Desk,
        notice: &Notice,
        gathering: &mut Gathering<'_>,
    ) -> Result<Messages, NotTaken> {
        let body = self.body(wording::word(&self.template, notice));
        let repeat = self.repeat(desk, notice, &body, gathering).await?;
        let message = |kind| Message::of(self.origin.author(), desk.clock().now(), kind);
        if let Some((again, of)) = repeat.as_ref().and_then(|repeat| Some((repeat, repeat.of.clone()?))) {
            let changed = message(edit(of, self.form_of(notice), again.counted(&body)));
            return Ok(Messages { messages: vec![(Desk::fresh_id(), changed)], repeat, ..Messages::default() });
        }
        // One that was said together with others has no message that could be changed.
        let earlier = notice.instead_of.as_deref().filter(|earlier| !is_together(earlier));
        // A change calls nobody, and files can't be told of in a line.
        if earlier.is_none() && gathering.holds(notice.severity) && notice.attachments.is_empty() {
            gathering.take(notice.severity, body.plain.as_str(), None);
            return Ok(Messages::default());
        }
        let kind = match earlier {
            Some(earlier) => edit(RemoteId::new(earlier), self.form_of(notice), body),
            None => said(self.form_of(notice), self.calls.call(notice.severity, body)),
        };
        let id = repeat.as_ref().map_or_else(Desk::fresh_id, |repeat| repeat.root().clone());
        Ok(Messages { messages: vec![(id, message(kind))], repeat, ..Messages::default() })
    }

    /// What is said for the first time, of so much weight.
    pub(super) fn said(&self, severity: Severity, body: Body) -> Kind {
        said(self.form(severity, severity), self.calls.call(severity, body))
    }

    /// A person is to act, or is called: it is said as people say things, so that their devices sound. Everything else is a
    /// notice, which clients pass over, whoever is called by it.
    fn form(&self, severity: Severity, news: Severity) -> Form {
        let is_heard = severity == Severity::Critical || self.calls.are_made_by(news);
        if is_heard { Form::Text } else { Form::Notice }
    }

    fn form_of(&self, notice: &Notice) -> Form {
        if notice.aloud { Form::Text } else { self.form(notice.severity, notice.severity) }
    }

    pub(super) fn body(&self, worded: Worded) -> Body {
        if let Some(trouble) = worded.trouble {
            tracing::warn!(source = ?self.origin.address(), %trouble, "A template failed, and a summary is said.");
        }
        let Words { plain, html } = worded.words;
        Body { html: html.map(Into::into), ..Body::plain(plain) }
    }

    pub(super) fn template_for(&self, known: &Known) -> &Template {
        if known.ours { &self.ours } else { &self.template }
    }

    async fn of_incident(
        &self,
        desk: &Desk,
        values: &Value,
        incident: &Incident,
        gathering: &mut Gathering<'_>,
    ) -> Result<Messages, NotTaken> {
        let key = desk.key_of_source(INCIDENTS, "incident", &self.origin, incident.group.as_bytes());
        let fresh = Desk::fresh_id();
        let before = self.known(desk, &key).await?;
        let end = incident.end().map(|end| desk.name_key("end", &self.origin, &end));
        if let (None, Some(end)) = (&before, &end)
            && desk.kept(end).await?.is_some()
        {
            // Its sender was told nothing when it told of the end, and tells of it again.
            return Ok(Messages::default());
        }
        if let Some(unheard) = before.as_ref().filter(|known| known.ended_unheard(incident)) {
            let closing = self.over_unheard(desk, unheard);
            gathering.leave(&key);
            gathering.waits_no_more(&key);
            let begun = self.of_step(desk, (key, None), values, incident, fresh, gathering);
            return begun.map(|made| closing.and(made));
        }
        let mut made = self.of_step(desk, (key, before), values, incident, fresh, gathering)?;
        made.writes.extend(end.map(|end| StoreWrite::put(end, SecretBytes::new(Vec::new()))));
        Ok(made)
    }

    /// What is said of an incident of which nobody heard that it was over, before another of its name begins.
    fn over_unheard(&self, desk: &Desk, unheard: &Known) -> Messages {
        let over = unheard.clone().over();
        let own = self.origin.address();
        let edit = (unheard.told == Told::Alone)
            .then(|| (own.clone(), Desk::fresh_id(), self.edited(desk, &over, &over.root)));
        let beside = edit.into_iter().chain(self.beside(desk, &over, &Step::Repeats)).collect();
        let writes = over.messages().map(|id| StoreWrite::delete(pointer(id))).collect();
        Messages { writes, beside, ..Messages::default() }
    }

    fn of_step(
        &self,
        desk: &Desk,
        (key, before): (String, Option<Known>),
        values: &Value,
        incident: &Incident,
        fresh: RemoteId,
        gathering: &mut Gathering<'_>,
    ) -> Result<Messages, NotTaken> {
        let now = desk.clock().now();
        let told = before.as_ref().map(|known| known.told);
        let was_acknowledged = before.as_ref().is_some_and(|known| known.acknowledged.is_some());
        let (step, mut known) = Known::hear(before, incident, values, fresh.clone(), now);
        let news = known.news(&step);
        self.wait_for_somebody(&key, &known, was_acknowledged, gathering);
        match told {
            _ if step == Step::EndsUnknown && incident.only_if_known => return Ok(Messages::default()),
            None if gathering.holds(news) => return Ok(self.gather(desk, key, known, &step, gathering)),
            None | Some(Told::Alone) => {}
            // What is told again is no reason for a message of its own.
            Some(Told::Together) if step == Step::Repeats => {
                return Ok(Messages { writes: vec![StoreWrite::put(key, kept(&known))], ..Messages::default() });
            }
            Some(_) if gathering.holds_of(&key, news) => return Ok(self.gather(desk, key, known, &step, gathering)),
            Some(_) => {
                gathering.leave(&key);
                known = Known { root: fresh, told: Told::Alone, ..known };
            }
        }
        let alerts = known.course();
        let course = course(&known, &alerts);
        let (root, severity) = (known.root.clone(), known.severity());
        let template = self.template_for(&known);
        let words = self.body(wording::root(template, &course));
        let author = || self.origin.author();
        let (mut messages, mut said_of_it) = (Vec::new(), None);
        if told == Some(Told::Alone) {
            messages.push((
                Desk::fresh_id(),
                Message::of(author(), now, edit(root.clone(), self.form(severity, severity), words)),
            ));
        } else {
            let severity = if told.is_some() { news } else { severity };
            messages.push((root.clone(), Message::of(author(), now, self.said(severity, words))));
        }
        let (changed, severity) = match &step {
            Step::Changes { began, worsened, ended } => {
                (changed(&alerts, began.iter().chain(worsened).chain(ended)), severity)
            }
            Step::Ends { ended } => (changed(&alerts, ended.iter()), Severity::Info),
            Step::Begins | Step::Repeats | Step::EndsUnknown => (Vec::new(), severity),
        };
        // What is held is seen in its message all the same, which calls nobody, so what begins is gathered besides.
        if told == Some(Told::Alone) && !changed.is_empty() {
            if !gathering.holds(news) {
                let id = Desk::fresh_id();
                messages.push((id.clone(), self.news(desk, template, &course, &changed, &root, (severity, news))));
                said_of_it = Some(id);
            } else if let Some(begun) = self.begun(template, &course, &step) {
                gathering.take(news, &begun, None);
            }
        }
        let beside = self.beside(desk, &known, &step);
        let mut writes = Vec::new();
        match step {
            Step::EndsUnknown => {}
            Step::Ends { .. } => writes.extend(forget(&key, &known)),
            _ => {
                writes.extend(said_of_it.iter().chain([&known.root]).map(|id| points(id, &key)));
                writes.extend(said_of_it.and_then(|id| also_said(&mut known, id)));
                writes.push(StoreWrite::put(key, kept(&known)));
            }
        }
        Ok(Messages { messages, writes, beside, repeat: None })
    }

    /// The line of a digest for alerts that begin in an incident, or matter more than they did: the worst of them, and how many more there are.
    fn begun(&self, template: &Template, course: &Course<'_>, step: &Step) -> Option<String> {
        let Step::Changes { began, worsened, .. } = step else { return None };
        let began = changed(course.alerts, began.iter().chain(worsened));
        let worst = began.iter().max_by_key(|alert| alert.severity)?;
        let body = self.body(wording::change(template, course, &[worst]));
        let line = body.plain.as_str().lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Some(if began.len() == 1 { line.to_owned() } else { format!("{line} (and {} more)", began.len() - 1) })
    }

    /// Gathers what is told of an incident that has no message of its own.
    fn gather(&self, desk: &Desk, key: String, known: Known, step: &Step, gathering: &mut Gathering<'_>) -> Messages {
        let beside = self.beside(desk, &known, step);
        let alerts = known.course();
        let words = self.body(wording::root(self.template_for(&known), &course(&known, &alerts)));
        let is_known = *step != Step::EndsUnknown;
        let root = gathering.take(known.news(step), words.plain.as_str(), is_known.then_some(&key));
        let known = Known { root, told: Told::Later, ..known };
        let writes = is_known.then(|| StoreWrite::put(key, kept(&known))).into_iter().collect();
        Messages { writes, beside, ..Messages::default() }
    }

    /// What is kept of an incident.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn known(&self, desk: &Desk, key: &str) -> Result<Option<Known>, NotTaken> {
        let kept = desk.kept(key).await?;
        Ok(kept.and_then(|kept| serde_json::from_slice(kept.expose()).ok()))
    }

    /// What changed, in the thread of the incident's message, so that whoever reads the room is called to it: an edit
    /// calls nobody.
    pub(super) fn news(
        &self,
        desk: &Desk,
        template: &Template,
        course: &Course<'_>,
        changed: &[&Alert],
        root: &RemoteId,
        (severity, news): (Severity, Severity),
    ) -> Message {
        let body = self.calls.call(news, self.body(wording::change(template, course, changed)));
        let form = self.form(severity, news);
        let message = Message::of(self.origin.author(), desk.clock().now(), said(form, body));
        Message { thread: Some(Target::new(root.clone())), ..message }
    }

    /// Somebody says that they look after an incident, or with `looks_after` false no longer. `None`: nothing changes by it.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn acknowledged(
        &self,
        desk: &Desk,
        about: &RemoteId,
        by: Who<'_>,
        (looks_after, proven): (bool, bool),
    ) -> Result<Option<Messages>, NotTaken> {
        if is_together(about.as_str()) {
            return self.acknowledged_together(desk, about, by, (looks_after, proven)).await;
        }
        let known = self.incident(desk, about).await?;
        let is_new = |known: &Known| known.may_be_acknowledged(by, looks_after, proven);
        let Some((key, known)) = known.filter(|(_, known)| is_new(known)) else { return Ok(None) };
        let now = desk.clock().now();
        let acknowledged = looks_after.then(|| by.acknowledges(now, proven));
        Ok(Some(self.as_it_is(desk, key, &Known { acknowledged, ..known })))
    }

    /// The incident that a message is about, and its key. `None`: none that goes on.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn incident(&self, desk: &Desk, about: &RemoteId) -> Result<Option<(String, Known)>, NotTaken> {
        let Some(key) = desk.kept(&pointer(about)).await?.as_ref().and_then(of_pointer) else { return Ok(None) };
        let known = self.known(desk, &key).await?;
        // What was said of an outbreak that is over is not about the next of its name.
        let is_about = |known: &Known| known.messages().any(|id| id == about);
        Ok(known.filter(is_about).map(|known| (key, known)))
    }

    /// The incident's message as it is to be now, and what is kept of it.
    #[must_use]
    pub(super) fn as_it_is(&self, desk: &Desk, key: String, known: &Known) -> Messages {
        let is_alone = known.told == Told::Alone;
        let messages = is_alone.then(|| (Desk::fresh_id(), self.edited(desk, known, &known.root)));
        let beside = self.beside(desk, known, &Step::Repeats);
        Messages {
            messages: messages.into_iter().collect(),
            writes: vec![StoreWrite::put(key, kept(known))],
            beside,
            repeat: None,
        }
    }

    /// The words of an incident as it is now, in the place of an earlier message of it.
    pub(super) fn edited(&self, desk: &Desk, known: &Known, earlier: &RemoteId) -> Message {
        self.edited_below(desk, known, earlier, None)
    }

    /// The same, below a line.
    pub(super) fn edited_below(&self, desk: &Desk, known: &Known, earlier: &RemoteId, line: Option<&str>) -> Message {
        let alerts = known.course();
        let words = self.body(wording::root(self.template_for(known), &course(known, &alerts)));
        let words = match line {
            Some(line) => after_line(line, &words),
            None => words,
        };
        Message::of(
            self.origin.author(),
            desk.clock().now(),
            edit(earlier.clone(), self.form(known.severity(), known.severity()), words),
        )
    }
}

/// Notes what was said of an incident beside its message. Gives what is to be written where of too much the first is
/// forgotten.
pub(super) fn also_said(known: &mut Known, id: RemoteId) -> Option<StoreWrite> {
    known.said.push(id);
    (known.said.len() > MOST_SAID).then(|| StoreWrite::delete(pointer(&known.said.remove(0))))
}

pub(super) fn course<'a>(known: &'a Known, alerts: &'a [Alert]) -> Course<'a> {
    let acknowledged = known.acknowledged.as_ref();
    Course { values: &known.values, alerts, acknowledged, silenced_until: known.silenced_until }
}

pub(super) fn changed<'a, 'n>(alerts: &'a [Alert], names: impl Iterator<Item = &'n String>) -> Vec<&'a Alert> {
    names.filter_map(|name| alerts.iter().find(|alert| alert.fingerprint == *name)).collect()
}

fn said(form: Form, body: Body) -> Kind {
    if form == Form::Text { Kind::Text(body) } else { Kind::Notice(body) }
}

fn edit(of: RemoteId, form: Form, body: Body) -> Kind {
    Kind::Edit(Box::new(Edit { of: Target::new(of), form, body }))
}

async fn keep(spool: &dyn Spool, attachment: Attachment) -> Result<Media, NotTaken> {
    let content = attachment.content.expose();
    let full = |error: sealbridge_contract::SpoolError| NotTaken::NotNow(format!("a file can't be kept: {error}"));
    let mut writer = spool.create(content.len() as u64).await.map_err(full)?;
    writer.write(content).await.map_err(full)?;
    let spooled = writer.finish(None).await.map_err(full)?;
    let name = FileName::new(&attachment.name);
    Ok(media(name, attachment.mime.as_deref(), spooled))
}

/// A file by its name, and its type if somebody said one.
pub(crate) fn media(name: FileName, mime: Option<&str>, spooled: sealbridge_contract::Spooled) -> Media {
    let guessed = || mime_guess::from_path(name.as_str()).first_or_octet_stream().essence_str().to_owned();
    let mime = MediaType::new(&mime.map_or_else(guessed, str::to_owned));
    let sort = match mime.as_str().split('/').next() {
        Some("image") => Sort::Image,
        Some("video") => Sort::Video,
        Some("audio") => Sort::Audio,
        _ => Sort::File,
    };
    Media::new(sort, name, mime, spooled)
}
