//! What is inside the, played, ciphertext: their form to ours and back.

use std::time::Duration;

use sealbridge_contract::{
    Abilities, Author, Body, DeliveryError, Kind, Media, Message, PictureId, RemoteId, Slip, Target, Text, Verb, html,
    message::{
        Absence, Absent, Change, Dimensions, Edit, FileName, Form, Location, MediaType, Mention, Poll, Quote, Reaction,
        Sort, Thumbnail, Waveform,
    },
};
use sha2::{Digest as _, Sha256};

use crate::{
    files::Taken,
    hub::{Content, Event, How, More, SentFile},
};

/// A message of ours. `Err`: it is certain never to be one, and why.
pub(super) fn message(
    event: &Event,
    content: Content,
    file: Option<&Result<Taken, Absence>>,
) -> Result<Message, String> {
    let Content { how, plain, html, name, reply_to, trail, more } = content;
    let author = Author { id: event.sender.clone(), name };
    let quote = |id: RemoteId| {
        let quote = more.quote.as_deref().map(|words| Box::new(Quote::new(None, words)));
        Target { id, quote }
    };
    let about = || more.about.clone().map(quote).ok_or_else(|| "it does not say what it is about".to_owned());
    let mentions = more.calls.iter().map(|person| Mention { person: person.clone(), at: None }).collect();
    let html = html.and_then(|html| html::harmless(html.as_str())).map(Text::new);
    let kind = match how {
        How::Text => Kind::Text(Body { plain, html, mentions }),
        How::Emote => Kind::Emote(Body { plain, html, mentions }),
        How::Notice => Kind::Notice(Body { plain, html, mentions }),
        How::Edit => {
            let body = Body { plain, html, mentions };
            Kind::Edit(Box::new(Edit { of: about()?, form: Form::Text, body }))
        }
        How::Redaction => Kind::Redaction(about()?),
        How::Reaction => Kind::Reaction(Reaction::new(about()?, more.emoji.iter().cloned())),
        How::File(sort) => {
            let caption = (!plain.is_empty()).then_some(Body { plain, html, mentions });
            let (Some(sent), Some(taken)) = (more.file.as_deref(), file) else {
                return Err("there is no file in it".to_owned());
            };
            media(sort, sent, taken, caption)
        }
        How::Location => {
            let place = more.place.as_deref().unwrap_or_default();
            let description = (!plain.is_empty()).then_some(plain);
            Kind::Location(Location::from_uri(place, description).ok_or("it names no place on earth")?)
        }
        How::Poll => Kind::Poll(Poll {
            question: plain,
            answers: more.answers.iter().map(|answer| answer.as_str().into()).collect(),
        }),
        How::Joined => Kind::Change(Change::Joined(same(&author))),
        How::Left => Kind::Change(Change::Left(same(&author))),
        How::Renamed => Kind::Change(Change::Renamed(plain)),
        How::Timer => Kind::Change(Change::Timer(more.seconds.map(Duration::from_secs))),
        How::Unsupported(what) => Kind::Unsupported { what },
    };
    let (reply_to, thread) = (reply_to.map(quote), more.thread.clone().map(Target::new));
    let portrait = more.portrait.as_deref().and_then(picture_id);
    Ok(Message { reply_to, thread, trail, portrait, ..Message::of(author, event.at, kind) })
}

/// What a picture is called.
pub(crate) fn picture_id(picture: &[u8]) -> Option<PictureId> {
    PictureId::new(Sha256::digest(picture).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn same(author: &Author) -> Author {
    Author { id: author.id.clone(), name: author.name.as_ref().map(|name| name.as_str().into()) }
}

fn media(sort: Sort, sent: &SentFile, taken: &Result<Taken, Absence>, caption: Option<Body>) -> Kind {
    let (name, mime) = (FileName::new(&sent.name), MediaType::new(&sent.mime));
    let Taken { content, thumbnail } = match taken {
        Ok(taken) => taken.clone(),
        Err(why) => return Kind::Absent(Box::new(Absent { name, mime, caption, why: *why })),
    };
    let picture = |content| Thumbnail { mime: MediaType::new("image/png"), dimensions: None, content };
    Kind::File(Box::new(Media {
        dimensions: sent.dimensions.map(|(width, height)| Dimensions { width, height }),
        duration: sent.milliseconds.map(Duration::from_millis),
        waveform: (!sent.waveform.is_empty()).then(|| Waveform::new(&sent.waveform)),
        thumbnail: thumbnail.map(picture),
        caption,
        ..Media::new(sort, name, mime, content)
    }))
}

/// What the network is given for a message, but for the content of a file. What the datasheet does not say that the
/// network carries is refused.
pub(crate) fn outgoing(message: &Message, slip: &Slip, abilities: &Abilities) -> Result<Content, DeliveryError> {
    let carries = |verb| abilities.of(verb).is_native();
    let refused = || DeliveryError::give_up("the network does not carry this kind of message");
    if !carries(Verb::of(message)) {
        return Err(refused());
    }
    let mut more = More { about: slip.about.clone(), ..More::default() };
    more.thread = slip.thread.clone().filter(|_| carries(Verb::Thread));
    if message.about().is_some() && more.about.is_none() {
        return Err(DeliveryError::give_up("it does not say what it is about"));
    }
    let how = match &message.kind {
        Kind::Text(_) => How::Text,
        Kind::Emote(_) => How::Emote,
        Kind::Notice(_) => How::Notice,
        Kind::Edit(_) => How::Edit,
        Kind::Redaction(_) => How::Redaction,
        Kind::Reaction(reaction) => {
            more.emoji = reaction.all.iter().map(|emoji| emoji.as_str().to_owned()).collect();
            How::Reaction
        }
        Kind::File(media) => How::File(media.sort),
        Kind::Location(location) => {
            more.place = Some(location.uri().as_str().to_owned());
            How::Location
        }
        Kind::Poll(poll) => {
            more.answers = poll.answers.iter().map(|answer| answer.as_str().to_owned()).collect();
            How::Poll
        }
        _ => return Err(refused()),
    };
    let again = |text: &Text| Text::new(text.as_str());
    let body = message.body();
    if carries(Verb::Mention) {
        more.calls = body.into_iter().flat_map(|body| &body.mentions).map(|mention| mention.person.clone()).collect();
    }
    let plain = match &message.kind {
        Kind::Poll(poll) => again(&poll.question),
        Kind::Location(location) => location.description.as_ref().map(again).unwrap_or_default(),
        _ => body.map(|body| again(&body.plain)).unwrap_or_default(),
    };
    if plain.len() > abilities.most_bytes {
        return Err(DeliveryError::too_long(u64::try_from(abilities.most_bytes).ok()));
    }
    Ok(Content {
        how,
        plain,
        html: body.and_then(|body| body.html.as_ref()).filter(|_| carries(Verb::Formatting)).map(again),
        name: (!message.author.is_bridge()).then(|| shown(&message.author)),
        reply_to: slip.reply_to.clone().filter(|_| carries(Verb::Reply)),
        trail: slip.trail.clone(),
        more: Box::new(more),
    })
}

fn shown(author: &Author) -> Text {
    Text::new(author.name.as_ref().map_or(author.id.as_str(), Text::as_str))
}
