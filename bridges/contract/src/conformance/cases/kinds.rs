//! Every kind of message, both ways.

use super::{
    super::{
        Accepted, Details, How, Overheard, Say, Stop, Told, Words,
        faces::{FACE, face},
        stage::Stage,
    },
    incoming::all_hold,
    samples::{called, content, sample, sort_of},
};
use crate::{
    Ability, Body, Fate, Kind, Media, Message, RemoteId, Slip, Target, Verb,
    message::{Change, Dimensions, Edit, FileName, Form, Location, MediaType, Mention, Poll, Quote, Reaction, Sort},
};

/// One verb, played to the peer.
struct Play {
    message: Message,
    slip: Slip,
    words: String,
}

pub(super) async fn every_verb_is_carried_as_declared(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    for verb in Verb::ALL.iter().copied().filter(|verb| !matches!(verb, Verb::Typing | Verb::Receipt)) {
        let ability = stage.ability(verb);
        let told = try_verb(stage, verb, ability).await;
        told.map_err(|stop| about(&format!("{verb:?}, declared {ability:?}"), stop))?;
        stage.remark(format!("{verb:?}: {ability:?}"));
    }
    Ok(())
}

async fn try_verb(stage: &mut Stage<'_>, verb: Verb, ability: Ability) -> Told {
    let Play { message, slip, words } = play(stage, verb).await?;
    let before = stage.rig.peer.heard().await?.len();
    let whole = !verb.is_part();
    if ability == Ability::Reject || ability == Ability::Drop && whole {
        let fate = stage.fails(message, &slip).await?;
        all_hold(&[(fate == Fate::GiveUp, "it is refused with another fate than giving up")])?;
        return stage.unheard(&words).await;
    }
    let (emoji, file) = (emoji_of(&message), message.media().is_some());
    let receipt = stage.deliver(message, &slip).await?;
    let more = async |stage: &Stage<'_>| Ok(stage.rig.peer.heard().await?.len() > before);
    stage.until("the peer hears it", more).await?;
    let twice = async |stage: &Stage<'_>| Ok(stage.rig.peer.heard().await?.len() > before + 1);
    stage.never("the peer hears it twice", twice).await?;
    let heard = stage.rig.peer.heard().await?.pop().ok_or_else(|| Stop::failed("what the peer heard is gone"))?;
    all_hold(&[(heard.id == receipt.id, "the receipt has another name than the network")])?;
    if ability.is_native() || ability == Ability::Drop && !whole {
        return all_hold(&as_meant(verb, ability, &heard, &slip, &words, &emoji));
    }
    let says = heard.words.contains(&words) || matches!(verb, Verb::Redaction | Verb::Membership | Verb::Other);
    // Degraded to the next better kind, a file may still be one.
    all_hold(&[
        (
            says || file && heard.details.file.is_some() || !heard.words.is_empty() && words.is_empty(),
            "nothing is said",
        ),
        (heard.words.contains(&words) || !file || heard.details.file.is_some(), "the caption is lost"),
    ])
}

fn emoji_of(message: &Message) -> Vec<String> {
    match &message.kind {
        Kind::Reaction(reaction) => reaction.all.iter().map(|emoji| emoji.as_str().to_owned()).collect(),
        _ => Vec::new(),
    }
}

/// What must be so where it is carried as it was meant, or where a part is left out.
fn as_meant(
    verb: Verb,
    ability: Ability,
    heard: &Overheard,
    slip: &Slip,
    words: &str,
    emoji: &[String],
) -> Vec<(bool, &'static str)> {
    let (native, limited) = (ability.is_native(), matches!(ability, Ability::Within(_) | Ability::Partly(_)));
    let how = |how: How| (heard.how == how, "it is something else");
    let names = (heard.details.about == slip.about, "it is about another message");
    let said = (heard.words.ends_with(words), "the words are others");
    let bold = heard.html.as_ref().is_some_and(|html| html.contains("strong") || html.contains("<b>"));
    let html = if bold == native {
        (true, "")
    } else if native {
        (false, "it is not bold")
    } else {
        (false, "it is bold all the same")
    };
    match verb {
        Verb::Text | Verb::Membership | Verb::NameAndPicture | Verb::Timer | Verb::Other => vec![how(How::Text), said],
        Verb::Emote => vec![how(How::Emote), said],
        Verb::Notice => vec![how(How::Notice), said],
        Verb::Formatting => vec![html, said],
        Verb::Mention => vec![(native || heard.details.calls.is_empty(), "somebody is called all the same"), said],
        Verb::Reply if native => vec![(heard.reply_to == slip.reply_to, "it answers something else"), said],
        Verb::Reply => vec![(heard.reply_to.is_none(), "it is an answer all the same"), said],
        Verb::Thread if native => vec![(heard.details.thread == slip.thread, "it is in another thread"), said],
        Verb::Thread => vec![(heard.details.thread.is_none(), "it is in a thread all the same"), said],
        Verb::Edit => vec![how(How::Edit), names, said],
        Verb::Redaction => vec![how(How::Redaction), names],
        Verb::Reaction => vec![how(How::Reaction), names, (heard.details.emoji == emoji, "the emoji are others")],
        Verb::Location => {
            let there = heard.details.place.as_deref() == Some(PLACE);
            vec![how(How::Location), said, (there, "it is another place")]
        }
        Verb::Poll => {
            let same = heard.details.answers == ANSWERS;
            vec![how(How::Poll), said, (same, "the answers are others")]
        }
        Verb::Image | Verb::Video | Verb::Audio | Verb::Voice | Verb::File | Verb::Sticker => {
            let sample = heard.details.file.clone().unwrap_or_default();
            let (name, mime) = called(verb);
            let ending = name.rsplit_once('.').map(|(_, ending)| ending);
            // A network may name what is only looked at by itself, if it says so.
            let named = sample.name == name || limited && sample.name.rsplit_once('.').map(|(_, e)| e) == ending;
            vec![
                (Some(heard.how) == sort_of(verb).map(How::of_sort), "it is something else"),
                said,
                (sample.content == content(verb), "the content is another"),
                (named, "the name is another"),
                (sample.mime == mime, "the type is another"),
            ]
        }
        Verb::Portrait => {
            let shown = heard.details.portrait.as_deref();
            let right = shown == native.then_some(FACE);
            vec![(right, "its author looks another way"), said]
        }
        Verb::Typing | Verb::Receipt => Vec::new(),
    }
}

const PLACE: &str = "geo:52.5163,13.3777";
const ANSWERS: [&str; 2] = ["with milk", "without"];

async fn play(stage: &mut Stage<'_>, verb: Verb) -> Told<Play> {
    let mut words = stage.words("a verb");
    let body = || Body::plain(words.as_str());
    let (mut slip, text) = (stage.slip(), stage.message(&words));
    let here = |id: &RemoteId| Target::new(id.clone());
    let mut message = Message { kind: Kind::Text(body()), ..text };
    match verb {
        Verb::Text | Verb::Typing | Verb::Receipt => {}
        Verb::Portrait => message.portrait = face(),
        Verb::Formatting => {
            let html = Some(format!("<strong>{words}</strong>").into());
            message.kind = Kind::Text(Body { html, ..body() });
        }
        Verb::Emote => message.kind = Kind::Emote(body()),
        Verb::Notice => message.kind = Kind::Notice(body()),
        Verb::Mention => {
            let mentions = vec![Mention { person: stage.rig.peer.id(), at: Some(0..4) }];
            message.kind = Kind::Text(Body { mentions, ..body() });
        }
        Verb::Reply | Verb::Thread => {
            let question = stage.words("a question");
            let id = stage.was_said(&question).await?;
            if verb == Verb::Reply {
                message.reply_to = Some(here(&id));
                slip.reply_to = Some(id);
            } else {
                message.thread = Some(here(&id));
                slip.thread = Some(id);
            }
        }
        Verb::Edit | Verb::Redaction => {
            let changed = stage.words("to be changed");
            let (_, receipt) = stage.send(&changed).await?;
            // Else it would be taken for what is said next.
            stage.heard_once(&changed).await?;
            let of = here(&receipt.id);
            slip.about = Some(receipt.id);
            message.kind = match verb {
                Verb::Edit => Kind::Edit(Box::new(Edit { of, form: Form::Text, body: body() })),
                _ => Kind::Redaction(of),
            };
        }
        Verb::Reaction => {
            let id = stage.was_said(&stage.words("to be liked")).await?;
            // Where it can't be a reaction, the words tell it apart.
            let both = !matches!(stage.ability(verb), Ability::Within(_));
            let emoji = if both { &["👍", "🎉"][..] } else { &["👍"] };
            let quote = Some(Box::new(Quote { author: None, words: words.as_str().into() }));
            message.kind = Kind::Reaction(Reaction::new(Target { quote, ..here(&id) }, emoji.iter().copied()));
            slip.about = Some(id);
        }
        Verb::Location => {
            let place = Location::from_uri(PLACE, Some(words.as_str().into()));
            message.kind = Kind::Location(place.ok_or_else(|| Stop::failed("there is such a place"))?);
        }
        Verb::Poll => {
            let answers = ANSWERS.into_iter().map(Into::into).collect();
            message.kind = Kind::Poll(Poll { question: words.as_str().into(), answers });
        }
        Verb::Timer => {
            message.kind = Kind::Change(Change::Timer(Some(std::time::Duration::from_secs(60))));
            words = "1 minute".to_owned();
        }
        Verb::Membership => message.kind = Kind::Change(Change::Left(message.author.copy())),
        Verb::NameAndPicture => message.kind = Kind::Change(Change::Renamed(words.as_str().into())),
        Verb::Other => message.kind = Kind::Unsupported { what: "a call" },
        Verb::Image | Verb::Video | Verb::Audio | Verb::Voice | Verb::File | Verb::Sticker => {
            let content = stage.intake.spool().put(&content(verb));
            let sort = sort_of(verb).unwrap_or(Sort::File);
            let media = Media {
                dimensions: Some(Dimensions { width: 30, height: 40 }),
                caption: Some(body()),
                ..Media::new(sort, FileName::new(called(verb).0), MediaType::new(called(verb).1), content)
            };
            message.kind = Kind::File(Box::new(media));
        }
    }
    Ok(Play { message, slip, words })
}

pub(super) async fn every_kind_that_people_say_comes_in(stage: &mut Stage<'_>) -> Told {
    stage.hears()?;
    stage.start().await?;
    for how in How::ALL {
        let told = comes_in(stage, *how).await;
        match told {
            Ok(()) => stage.remark(format!("{how:?}: comes in")),
            Err(Stop::NotApplicable(why)) => stage.remark(format!("{how:?}: not said: {why}")),
            Err(stop) => return Err(about(&format!("{how:?}"), stop)),
        }
    }
    Ok(())
}

async fn comes_in(stage: &mut Stage<'_>, how: How) -> Told {
    let say = said(stage, how).await?;
    let (words, details) = (say.words.clone(), say.details.clone());
    let id = stage.rig.peer.say(say).await?;
    let accepted = stage.accepted(&id).await?;
    let same = |accepted: &Accepted| {
        let (here, there) = (&accepted.details, &details);
        let file = match (&here.file, &there.file) {
            (Some(here), Some(there)) => (&here.content, &here.mime) == (&there.content, &there.mime),
            (None, None) => true,
            _ => false,
        };
        [
            (accepted.how == Some(how), "it became something else"),
            (accepted.words == Words(words.clone()), "the words are others"),
            (here.about == there.about, "it is about another message"),
            (here.emoji == there.emoji, "the emoji are others"),
            (here.answers == there.answers, "the answers are others"),
            (here.place == there.place, "it is another place"),
            (file, "the file is another"),
        ]
    };
    all_hold(&same(&accepted))
}

async fn said(stage: &mut Stage<'_>, how: How) -> Told<Say> {
    let mut details = Details::default();
    let mut words = stage.words("a kind");
    match how {
        How::Edit | How::Redaction => {
            // One's own.
            let id = stage.says(&stage.words("to be changed")).await?;
            stage.accepted(&id).await?;
            details.about = Some(id);
        }
        How::Reaction => {
            // One of ours: it is found under the name that the receipt has.
            let (_, receipt) = stage.send(&stage.words("to be liked")).await?;
            details.about = Some(receipt.id);
            details.emoji = vec!["👍".to_owned()];
        }
        How::Location => details.place = Some(PLACE.to_owned()),
        How::Poll => details.answers = ANSWERS.map(str::to_owned).to_vec(),
        how => details.file = sample(how),
    }
    if matches!(how, How::Redaction | How::Reaction) {
        words = String::new();
    }
    Ok(Say { how, words, details, ..Say::default() })
}

pub(super) fn about(what: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Failed(how) => Stop::Failed(format!("{what}: {how}")),
        Stop::NotApplicable(why) => Stop::NotApplicable(format!("{what}: {why}")),
    }
}
