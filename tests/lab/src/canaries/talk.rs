//! What people say, show and send: every kind in turn, each with words that nothing else has.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Options, REACTION, SPOTS, Words, programs::Programs, stand::Stand};
use crate::{
    DeltaPerson, Person,
    delta::{Attachment, Saying},
    person::Text,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Words,
    Formatted,
    Link,
    Emote,
    Answer,
    Edit,
    Deleted,
    File,
    Picture,
    Voice,
    Sticker,
    Place,
    Poll,
    Reaction,
    /// The room or group gets another name.
    Renaming,
    /// A command to the bridge that it does not know.
    Command,
    /// A program posts words.
    Posted,
    /// A program posts a file.
    PostedFile,
    /// A program mails.
    Mailed,
    /// An alert begins.
    Fired,
    /// An alert of which nobody knows is over.
    Resolved,
    /// Somebody posts who shows a wrong secret.
    Unproven,
    /// A program posts what can't be read.
    Unread,
}

use Kind::*;

const ON_MATRIX: [Kind; 15] = [
    Words, Formatted, Link, Emote, Answer, Edit, Deleted, File, Picture, Voice, Sticker, Place, Poll, Reaction, Command,
];
/// Delta Chat has no formatting, polls and emotes.
const ON_THE_PHONE: [Kind; 10] = [Words, Link, Answer, Edit, Deleted, File, Picture, Place, Reaction, Renaming];
/// What programs have to say is said in the first room.
const FROM_PROGRAMS: [Kind; 7] = [Posted, PostedFile, Mailed, Fired, Resolved, Unproven, Unread];

const FACE: &[u8] = include_bytes!("../../../../bridges/contract/src/conformance/face.png");

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) messages: usize,
    pub(super) kinds: usize,
    pub(super) canaries: usize,
    pub(super) marks: Vec<Mark>,
}

/// Words that must be heard.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) words: String,
    /// At which ends.
    pub(super) at: Vec<usize>,
}

/// Three people who talk, and programs that speak among them.
#[derive(Debug)]
pub(super) struct Talk {
    said: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Result<Said>>>,
}

impl Talk {
    pub(super) fn start(stand: &Stand, words: &Words, options: Options) -> Self {
        let said = Arc::new(AtomicUsize::new(0));
        let each = options.messages.div_ceil(4);
        let mut tasks = Vec::new();
        for end in [0, 1] {
            let (person, room) = (Arc::clone(&stand.people[end]), stand.rooms[end].clone());
            let speaker = OnMatrix { person, room, last: String::new(), reacted: String::new() };
            tasks.push(tokio::spawn(speak(Speaker::Matrix(speaker), end, words, each, options.pause, &said)));
        }
        let speaker = OnThePhone { phone: Arc::clone(&stand.phone), chat: stand.chat, last: String::new() };
        tasks.push(tokio::spawn(speak(Speaker::Phone(speaker), 2, words, each, options.pause, &said)));
        let programs = Speaker::Programs(Arc::clone(&stand.programs));
        tasks.push(tokio::spawn(speak(programs, PROGRAMS, words, each, options.pause, &said)));
        Self { said, tasks }
    }

    pub(super) fn said(&self) -> usize {
        self.said.load(Ordering::Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
    }

    pub(super) async fn end(self) -> Result<Said> {
        let mut all = Said::default();
        for task in self.tasks {
            let one = task.await??;
            all.messages += one.messages;
            all.kinds += one.kinds;
            all.canaries += one.canaries;
            all.marks.extend(one.marks);
        }
        Ok(all)
    }
}

/// Behind the three ends of the link.
const PROGRAMS: usize = 3;

enum Speaker {
    Matrix(OnMatrix),
    Phone(OnThePhone),
    Programs(Arc<Programs>),
}

/// The words of one message. Each part has its own.
pub(super) struct Canaries {
    lead: String,
    made: usize,
}

impl Canaries {
    pub(super) fn new(stem: &str, end: usize, number: usize) -> Self {
        Self { lead: format!("{stem}x{end}x{number}x"), made: 0 }
    }

    pub(super) fn next(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{}{what}", self.lead)
    }

    /// Words without a space that begin with a canary, many times, behind leads of every length.
    pub(super) fn content(&mut self) -> Vec<u8> {
        let canary = self.next("content");
        (0..40).map(|at| format!("{at} {canary}\n")).collect::<String>().into_bytes()
    }
}

fn speak(
    speaker: Speaker,
    end: usize,
    words: &Words,
    messages: usize,
    pause: Duration,
    count: &Arc<AtomicUsize>,
) -> impl Future<Output = Result<Said>> + Send + use<> {
    let (stem, count) = (words.stem.clone(), Arc::clone(count));
    async move {
        let mut speaker = speaker;
        let mut said = Said::default();
        let mut kinds = BTreeSet::new();
        for number in 0..messages {
            let mut canaries = Canaries::new(&stem, end, number);
            let (kind, mark) = match &mut speaker {
                Speaker::Matrix(one) => {
                    let kind = ON_MATRIX[number % ON_MATRIX.len()];
                    (kind, one.say(kind, end, &mut canaries).await)
                }
                Speaker::Phone(one) => {
                    let kind = ON_THE_PHONE[number % ON_THE_PHONE.len()];
                    (kind, one.say(kind, &mut canaries).await)
                }
                Speaker::Programs(programs) => {
                    let kind = FROM_PROGRAMS[number % FROM_PROGRAMS.len()];
                    (kind, programs.say(kind, &mut canaries).await)
                }
            };
            let at = if end == PROGRAMS { vec![0] } else { (0..PROGRAMS).filter(|other| *other != end).collect() };
            let mark = mark.with_context(|| format!("{kind:?} at end {end}"))?;
            said.marks.extend(mark.map(|words| Mark { words, at }));
            said.canaries += canaries.made;
            said.messages += 1;
            kinds.insert(kind);
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
        said.kinds = kinds.len();
        Ok(said)
    }
}

struct OnMatrix {
    person: Arc<Person>,
    room: String,
    /// The last plain words, which are answered and changed.
    last: String,
    /// What was reacted to: a homeserver takes each emoji once.
    reacted: String,
}

impl OnMatrix {
    /// Says it, and answers what has to be heard of it.
    async fn say(&mut self, kind: Kind, end: usize, canaries: &mut Canaries) -> Result<Option<String>> {
        let (person, room) = (&self.person, &self.room);
        let words = canaries.next("words");
        let text = Text { body: &words, ..Text::default() };
        match kind {
            Words => self.last = person.send_text(room, text).await?,
            Formatted => {
                let formatted = format!("{words} <b>{}</b>", canaries.next("bold"));
                person.send_text(room, Text { formatted: Some(&formatted), ..text }).await?;
            }
            Link => {
                let link = format!("{words} https://{}.example/{words}?q={words}", canaries.next("host"));
                person.send(room, &link).await?;
            }
            Emote => drop(person.send_text(room, Text { msgtype: Some("m.emote"), ..text }).await?),
            Answer => drop(person.send_text(room, Text { reply_to: Some(&self.last), ..text }).await?),
            Edit => {
                // What is changed has words of its own, which a phone shows no more.
                let first = person.send(room, &canaries.next("first")).await?;
                let content = json!({
                    "msgtype": "m.text", "body": format!("* {words}"), "m.mentions": {},
                    "m.new_content": { "msgtype": "m.text", "body": words, "m.mentions": {} },
                    "m.relates_to": { "rel_type": "m.replace", "event_id": first },
                });
                person.send_event(room, "m.room.message", content).await?;
            }
            Deleted => {
                let gone = person.send_text(room, text).await?;
                person.redact(room, &gone).await?;
                // Whoever deletes at once may be faster than the bridge.
                return Ok(None);
            }
            File => self.show("text/plain", "txt", json!({ "msgtype": "m.file" }), &words, canaries).await?,
            Picture => self.show("image/png", "png", json!({ "msgtype": "m.image" }), &words, canaries).await?,
            Voice => {
                let more = json!({ "msgtype": "m.audio", "voice": true });
                self.show("audio/ogg", "ogg", more, &words, canaries).await?;
            }
            Sticker => self.show("image/png", "png", json!({ "kind": "m.sticker" }), &words, canaries).await?,
            Place => {
                let [latitude, longitude] = SPOTS[end];
                let place = format!("geo:{latitude},{longitude}");
                let content = json!({
                    "msgtype": "m.location", "body": format!("{words} {place}"), "geo_uri": place,
                    "org.matrix.msc3488.location": { "uri": place, "description": words },
                });
                person.send_event(room, "m.room.message", content).await?;
            }
            Poll => {
                let text = |words: &str| json!({ "org.matrix.msc1767.text": words });
                let answers = ["yes", "no"].map(|answer| text(&canaries.next(answer)));
                let content = json!({
                    "org.matrix.msc3381.poll.start": { "question": text(&words), "answers": answers }
                });
                person.send_event(room, "org.matrix.msc3381.poll.start", content).await?;
            }
            Reaction => {
                canaries.made = 0;
                if self.reacted != self.last {
                    let relation = json!({ "rel_type": "m.annotation", "event_id": self.last, "key": REACTION });
                    person.send_raw_plain(room, "m.reaction", json!({ "m.relates_to": relation })).await?;
                    self.reacted.clone_from(&self.last);
                }
                return Ok(None);
            }
            Command => {
                // One that there is not, and others with words where a name should be.
                for command in ["", "why ", "approve ", "verify "] {
                    person.send(room, &format!("!seal {command}{words}")).await?;
                }
                return Ok(None);
            }
            other => bail!("Nobody says {other:?} on Matrix"),
        }
        Ok(Some(words))
    }

    async fn show(&self, mime: &str, ending: &str, more: Value, words: &str, canaries: &mut Canaries) -> Result<()> {
        let mut content = canaries.content();
        if ending == "png" {
            // Behind the picture's end, where whoever draws it does not look.
            content = [FACE, &content].concat();
        }
        let mut extra = json!({ "body": words });
        if more["voice"] == true {
            extra["org.matrix.msc3245.voice"] = json!({});
        }
        let file = json!({
            "room": self.room, "name": format!("{}.{ending}", canaries.next("file")), "mimetype": mime,
            "msgtype": more["msgtype"].as_str().unwrap_or("m.image"),
            "kind": more["kind"].as_str().unwrap_or("m.room.message"),
            "data": STANDARD.encode(&content), "extra": extra,
        });
        self.person.call("send_file", file).await.map(drop)
    }
}

struct OnThePhone {
    phone: Arc<DeltaPerson>,
    chat: u32,
    /// The mail id of the last plain words.
    last: String,
}

impl OnThePhone {
    async fn say(&mut self, kind: Kind, canaries: &mut Canaries) -> Result<Option<String>> {
        let (phone, chat) = (&self.phone, self.chat);
        let words = canaries.next("words");
        match kind {
            Link => {
                let link = format!("{words} https://{}.example/{words}?q={words}", canaries.next("host"));
                phone.send(chat, &link).await?;
            }
            Answer => drop(phone.send_with(chat, &words, Some(&self.last), None).await?),
            Edit => {
                let first = phone.send(chat, &canaries.next("first")).await?;
                phone.edit(&first.id, &words).await?;
            }
            Deleted => {
                let gone = phone.send(chat, &words).await?;
                phone.delete(&gone.id).await?;
                return Ok(None);
            }
            File => self.show("File", "txt", canaries.content(), &words, canaries).await?,
            Picture => {
                let content = [FACE, &canaries.content()].concat();
                self.show("Image", "png", content, &words, canaries).await?;
            }
            Place => {
                let [latitude, longitude] = SPOTS[2].map(str::parse::<f64>);
                let place = Some((latitude?, longitude?));
                phone.say(chat, Saying { text: &words, place, ..Saying::default() }).await?;
            }
            Reaction => {
                canaries.made = 0;
                phone.react(&self.last, &[REACTION]).await?;
                return Ok(None);
            }
            // The others are told of it in words. Of names that follow each other within seconds the bridge's engine may
            // pass one over, and says the one before twice.
            Renaming => {
                phone.rpc("set_chat_name", json!([chat, words])).await?;
                return Ok(None);
            }
            _ => self.last = phone.send(chat, &words).await?.id,
        }
        Ok(Some(words))
    }

    async fn show(
        &self,
        view: &str,
        ending: &str,
        content: Vec<u8>,
        words: &str,
        canaries: &mut Canaries,
    ) -> Result<()> {
        let name = format!("{}.{ending}", canaries.next("file"));
        let file = Some(Attachment { view, name: &name, content: &content, plays: None });
        self.phone.say(self.chat, Saying { text: words, file, ..Saying::default() }).await.map(drop)
    }
}
