//! Every kind of message, as a person with Delta Chat says and hears it.

use std::time::{Duration, Instant};

use anyhow::Result;
use sealbridge_contract::{
    PersonId, RemoteId, Trail,
    conformance::{Details, How, Overheard, Sample, Say, Stop, Told},
};
use sealbridge_lab::{
    DeltaPerson,
    delta::{Attachment, Deed, Saying, Seen, What},
};

/// How long the person's own engine may take to show what they did.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn broken(error: impl Into<anyhow::Error>) -> Stop {
    Stop::failed(format!("{:#}", error.into()))
}

/// The name by which our account knows it.
pub(crate) async fn say(person: &DeltaPerson, chat: u32, say: Say) -> Told<RemoteId> {
    if say.words.contains('\0') {
        return Err(Stop::cannot("no Delta Chat sends NUL"));
    }
    if say.html.is_some() {
        return Err(Stop::cannot("no Delta Chat sends formatted words"));
    }
    let about = say.details.about.as_ref().map_or("", RemoteId::as_str);
    match say.how {
        How::Emote => return Err(Stop::cannot("Delta Chat has no emotes")),
        How::Poll => return Err(Stop::cannot("Delta Chat has no polls")),
        How::Edit => {
            person.edit(about, &say.words).await.map_err(broken)?;
            return named(person, about, What::Edit, |count| format!("{about} edit {count}")).await;
        }
        How::Reaction => {
            let emoji: Vec<_> = say.details.emoji.iter().map(String::as_str).collect();
            person.react(about, &emoji).await.map_err(broken)?;
            let by = person.fingerprint();
            return named(person, about, What::Reaction, |count| format!("{about} reaction {by} {count}")).await;
        }
        How::Redaction => {
            person.delete(about).await.map_err(broken)?;
            return Ok(RemoteId::new(format!("{about} deletion")));
        }
        _ => {}
    }
    let file = say.details.file.as_ref();
    if file.is_some_and(|file| file.wrong_hash) {
        return Err(Stop::cannot("a file is a part of its message, whose signature is checked as a whole"));
    }
    let view = view(say.how);
    let place = say.details.place.as_deref().and_then(|place| place.strip_prefix("geo:")?.split_once(','));
    let saying = Saying {
        text: &say.words,
        answers: say.reply_to.as_ref().map(RemoteId::as_str),
        file: file.map(|file| Attachment { view, name: &file.name, content: &file.content, plays: file.milliseconds }),
        place: place.and_then(|(latitude, longitude)| Some((latitude.parse().ok()?, longitude.parse().ok()?))),
        ..Saying::default()
    };
    let bot = say.how == How::Notice;
    if bot {
        person.be_a_bot(true).await.map_err(broken)?;
    }
    let sent = person.say(chat, saying).await;
    if bot {
        person.be_a_bot(false).await.map_err(broken)?;
    }
    sent.map(|sent| RemoteId::new(sent.id)).map_err(broken)
}

/// What the person's own last deed of this sort is called.
async fn named(person: &DeltaPerson, of: &str, what: What, name: impl Fn(u32) -> String) -> Told<RemoteId> {
    let give_up = Instant::now() + SOON;
    loop {
        let deeds = person.deeds().await.map_err(broken)?;
        let last = deeds.iter().rfind(|deed| deed.own && deed.what == what && deed.of == of);
        if let Some(last) = last {
            return Ok(RemoteId::new(name(last.count)));
        }
        if Instant::now() > give_up {
            return Err(Stop::failed("the person's own engine does not show what they did"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn view(how: How) -> &'static str {
    match how {
        How::Image => "Image",
        How::Video => "Video",
        How::Audio => "Audio",
        How::Voice => "Voice",
        How::Sticker => "Sticker",
        _ => "File",
    }
}

/// Everything that others said and did in a chat, in the order in which it was seen.
pub(crate) async fn heard(person: &DeltaPerson, chat: u32, bridge: &PersonId) -> Result<Vec<Overheard>> {
    let seen = person.ever_seen().await?;
    let seen =
        seen.into_iter().filter(|seen| !seen.own && !seen.info && seen.chat == chat && seen.padlock && seen.whole);
    let mut heard = Vec::new();
    for seen in seen {
        heard.push((seen.at, message(seen)?));
    }
    let deeds = person.deeds().await?.into_iter().filter(|deed| !deed.own && deed.chat == chat);
    heard.extend(deeds.map(|deed| (deed.at, done(deed, bridge))));
    heard.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    Ok(heard.into_iter().map(|(_, heard)| heard).collect())
}

fn message(seen: Seen) -> Result<Overheard> {
    let how = match seen.view.as_str() {
        "Image" | "Gif" => How::Image,
        "Video" => How::Video,
        "Audio" => How::Audio,
        "Voice" => How::Voice,
        "Sticker" => How::Sticker,
        "Text" => How::Text,
        _ => How::File,
    };
    // What was deleted has no file any more.
    let file = match (seen.file.as_ref().filter(|_| !seen.gone), how.sort()) {
        (Some(file), Some(_)) => Some(Sample {
            name: seen.file_name.unwrap_or_default(),
            mime: seen.mime.unwrap_or_default(),
            content: std::fs::read(file)?,
            dimensions: (seen.width > 0).then_some((seen.width, seen.height)),
            milliseconds: (seen.milliseconds > 0).then_some(seen.milliseconds),
            wrong_hash: false,
        }),
        _ => None,
    };
    Ok(Overheard {
        id: RemoteId::new(seen.id),
        delivery: None,
        author: seen.name,
        words: seen.text,
        html: None,
        how,
        reply_to: seen.answers.map(RemoteId::new),
        trail: Trail::default(),
        details: Details { file, ..Details::default() },
    })
}

fn done(deed: Deed, bridge: &PersonId) -> Overheard {
    let (of, count) = (&deed.of, deed.count);
    let (how, id) = match deed.what {
        What::Edit => (How::Edit, format!("{of} edit {count}")),
        What::Reaction => (How::Reaction, format!("{of} reaction {} {count}", bridge.as_str())),
        What::Deletion => (How::Redaction, format!("{of} deletion")),
    };
    let details = Details { about: Some(RemoteId::new(of.as_str())), emoji: deed.emoji, ..Details::default() };
    Overheard {
        id: RemoteId::new(id),
        delivery: None,
        author: None,
        words: deed.text,
        html: None,
        how,
        reply_to: None,
        trail: Trail::default(),
        details,
    }
}
