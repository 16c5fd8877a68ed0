//! Every kind of message between people of two networks, on real servers, as the person at the far end sees it.

use anyhow::{Context as _, Result};
use sealbridge_contract::conformance::{Details, How, Overheard, Sample, Say};
use sealbridge_lab::bridge::Binary;
use serde_json::json;

use crate::phones::{Family, Said, Who};

const PICTURE: &[u8] = include_bytes!("../../bridges/contract/src/conformance/cases/picture.png");

fn binary() -> Binary {
    Binary::at(env!("CARGO_BIN_EXE_sealbridge"))
}

fn sample(how: How) -> Option<Sample> {
    let (name, mime, picture) = match how {
        How::Image => ("cat.png", "image/png", true),
        How::Sticker => ("hello.png", "image/png", true),
        How::Video => ("film.mp4", "video/mp4", false),
        How::Audio => ("song.mp3", "audio/mpeg", false),
        How::Voice => ("voice.ogg", "audio/ogg", false),
        How::File => ("paper.pdf", "application/pdf", false),
        _ => return None,
    };
    let more = (0..50_000_u32).map(|at| (at % 251) as u8 ^ how as u8);
    let content = if picture { PICTURE } else { &[] }.iter().copied().chain(more).collect();
    let dimensions = Some((30, 40));
    Some(Sample { name: name.into(), mime: mime.into(), content, dimensions, ..Sample::default() })
}

fn ending(name: &str) -> String {
    name.rsplit('.').next().unwrap_or_default().to_owned()
}

fn say(how: How, words: &str) -> Say {
    let mut details = Details { file: sample(how), ..Details::default() };
    if how == How::Location {
        details.place = Some("geo:52.5163,13.3777".to_owned());
    }
    if how == How::Poll {
        details.answers = vec!["with milk".to_owned(), "without".to_owned()];
    }
    Say { how, words: words.to_owned(), details, ..Say::default() }
}

/// What becomes of a kind at the other side: its form, and the words around those that were said.
fn becomes(how: How, to: Who) -> (How, &'static str, &'static str) {
    match (how, to) {
        (How::Emote, Who::Ben) => (How::Text, "* ", ""),
        (How::Notice, Who::Ben) => (How::Text, "", ""),
        (How::Location, Who::Ben) => (How::Text, "📍 ", " geo:52.5163,13.3777"),
        (How::Poll, Who::Ben) => (How::Text, "📊 ", "\n1. with milk\n2. without"),
        // Matrix clients show a sticker without words, so those go before or after it.
        (how, _) => (how, "", ""),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_crosses_between_matrix_and_delta_chat_as_the_table_says() -> Result<()> {
    let Some(family) = Family::set(&binary()).await? else { return Ok(()) };
    let about_others = [How::Edit, How::Redaction, How::Reaction];
    for who in [Who::Ann, Who::Ben] {
        for how in How::ALL.iter().copied().filter(|how| !about_others.contains(how)) {
            if who == Who::Ben && matches!(how, How::Emote | How::Poll) {
                continue;
            }
            let words = format!("{how:?} of {who:?}");
            family.says(who, say(how, &words)).await.with_context(|| words.clone())?;
            let heard = family.hears(who.other(), &words, |heard| heard.words.contains(&words)).await?;
            let (form, before, after) = becomes(how, who.other());
            assert_eq!((heard.how, &heard.words), (form, &format!("{before}{words}{after}")), "{words}");
            let named = heard.author.as_deref().is_some_and(|name| {
                name.to_lowercase().starts_with(match who {
                    Who::Ann => "ann",
                    Who::Ben => "ben",
                })
            });
            assert!(named, "{words} is told under the name {:?}", heard.author);
            let (sent, file) = (sample(how), heard.details.file);
            if let Some(sent) = sent {
                let file = file.with_context(|| format!("{words}: the file is gone"))?;
                assert!(file.content == sent.content, "{words}: the content is another");
                // Delta Chat names by itself what is only looked at or listened to, and every voice message.
                let renamed = how == How::Voice || who == Who::Ben && how != How::File;
                let name = |name: &str| if renamed { ending(name) } else { name.to_owned() };
                assert_eq!((name(&file.name), file.mime), (name(&sent.name), sent.mime), "{words}");
            }
        }
    }
    family.bridge.stop().await
}

/// Messages to which something is done in one round by one of the two. They are said before the first.
struct Doomed {
    /// Of theirs, to be deleted.
    gone: Said,
    /// Of the other's, to get a reaction that is taken back.
    liked: Said,
}

async fn doomed(family: &Family, who: Who, round: &str) -> Result<Doomed> {
    let gone = family.said(who, &format!("to be deleted {round} by {who:?}")).await?;
    let liked = family.said(who.other(), &format!("to be liked {round} by {who:?}")).await?;
    Ok(Doomed { gone, liked })
}

fn about(of: &Said, who: Who) -> Details {
    Details { about: Some(of.to(who).clone()), ..Details::default() }
}

async fn edited(family: &Family, who: Who, own: &Said, round: &str) -> Result<()> {
    let words = format!("edited {round} by {who:?}");
    let edit = Say { how: How::Edit, words: words.clone(), details: about(own, who), ..Say::default() };
    family.says(who, edit).await?;
    let is = |heard: &Overheard| heard.how == How::Edit && heard.words.ends_with(&words);
    let heard = family.hears(who.other(), &words, is).await?;
    assert_eq!(heard.details.about.as_ref(), Some(own.to(who.other())), "{words}");
    Ok(())
}

async fn reacted(family: &Family, who: Who, of: &Said, round: &str) -> Result<()> {
    let (far, emoji) = (who.other(), if round == "before" { "👍" } else { "🎉" });
    let details = Details { emoji: vec![emoji.to_owned()], ..about(of, who) };
    family.says(who, Say { how: How::Reaction, details, ..Say::default() }).await?;
    let is = |heard: &Overheard| {
        let here = heard.details.about.as_ref() == Some(of.to(far));
        let shown = heard.how == How::Reaction && here && heard.details.emoji.iter().any(|one| one == emoji);
        // Ann has two now, and the bridge's account shows one.
        let answers = heard.reply_to.as_ref() == Some(of.to(far));
        let told = far == Who::Ben && round == "after" && answers && heard.words.contains(emoji);
        shown || told
    };
    family.hears(far, &format!("the {emoji} of {who:?}"), is).await.map(drop)
}

async fn answered(family: &Family, who: Who, of: &Said, round: &str) -> Result<()> {
    let words = format!("answer {round} of {who:?} to {}", of.to(who).as_str());
    let reply_to = Some(of.to(who).clone());
    family.says(who, Say { words: words.clone(), reply_to, ..Say::default() }).await?;
    let heard = family.hears(who.other(), &words, |heard| heard.words.ends_with(&words)).await?;
    assert_eq!(heard.reply_to.as_ref(), Some(of.to(who.other())), "{words}");
    Ok(())
}

/// Reacts, and takes it back.
async fn reacted_and_thought_again(family: &Family, who: Who, of: &Said) -> Result<()> {
    let far = who.other();
    let react = |emoji: &[&str]| {
        let emoji = emoji.iter().map(|emoji| (*emoji).to_owned()).collect();
        Say { how: How::Reaction, details: Details { emoji, ..about(of, who) }, ..Say::default() }
    };
    let shows = |heard: &Overheard, emoji: &[&str]| {
        heard.how == How::Reaction && heard.details.about.as_ref() == Some(of.to(far)) && heard.details.emoji == emoji
    };
    let reaction = family.says(who, react(&["😀"])).await?;
    family.hears(far, "a reaction", |heard| shows(heard, &["😀"])).await?;
    match who {
        Who::Ann => drop(family.ann.redact(&family.room, reaction.as_str()).await?),
        Who::Ben => drop(family.says(who, react(&[])).await?),
    }
    family.hears(far, "that it is taken back", |heard| shows(heard, &[])).await.map(drop)
}

async fn deleted(family: &Family, who: Who, own: &Said) -> Result<()> {
    let far = who.other();
    family.says(who, Say { how: How::Redaction, details: about(own, who), ..Say::default() }).await?;
    let is = |heard: &Overheard| heard.how == How::Redaction && heard.details.about.as_ref() == Some(own.to(far));
    family.hears(far, "the deletion", is).await.map(drop)
}

/// Who runs the room deletes what somebody else wrote. On Delta Chat nobody can, so it is said.
async fn deleted_of_anothers(family: &Family, bens: &Said) -> Result<()> {
    family.ann.redact(&family.room, bens.to_ann.as_str()).await?;
    let is = |heard: &Overheard| heard.words == "deleted this message" && heard.reply_to.as_ref() == Some(&bens.to_ben);
    family.hears(Who::Ben, "that it was deleted", is).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_message_of_either_side_crosses_before_and_after_a_restart() -> Result<()> {
    let Some(mut family) = Family::set(&binary()).await? else { return Ok(()) };
    let anns = family.said(Who::Ann, "from ann").await?;
    let bens = family.said(Who::Ben, "from ben").await?;
    let mut all = Vec::new();
    for (round, who) in [("before", Who::Ann), ("before", Who::Ben), ("after", Who::Ann), ("after", Who::Ben)] {
        all.push((round, who, doomed(&family, who, round).await?));
    }
    for (round, who, doomed) in all {
        if (round, who) == ("after", Who::Ann) {
            family.bridge.kill().await?;
            family.bridge.start().await?;
        }
        let (own, others) = if who == Who::Ann { (&anns, &bens) } else { (&bens, &anns) };
        edited(&family, who, own, round).await?;
        for of in [own, others] {
            reacted(&family, who, of, round).await?;
            answered(&family, who, of, round).await?;
        }
        reacted_and_thought_again(&family, who, &doomed.liked).await?;
        deleted(&family, who, &doomed.gone).await?;
        if who == Who::Ann {
            deleted_of_anothers(&family, &doomed.liked).await?;
        }
    }
    family.bridge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn name_that_a_phone_gives_a_message_stands_on_matrix_beside_the_accounts_own() -> Result<()> {
    let Some(family) = Family::set(&binary()).await? else { return Ok(()) };
    family.ben.send_with(family.chat, "it is me", None, Some("ann")).await?;
    let heard = family.hears(Who::Ann, "it", |heard| heard.words == "it is me").await?;
    assert_eq!(heard.author.as_deref(), Some("ann (via ben)"));
    family.bridge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_timer_and_description_that_a_group_got_meanwhile_is_told_on_matrix_as_it_was() -> Result<()> {
    let Some(mut family) = Family::set(&binary()).await? else { return Ok(()) };
    family.said(Who::Ben, "before").await?;
    family.bridge.stop().await?;
    for name in ["Hill", "Dale"] {
        family.ben.rpc("set_chat_name", json!([family.chat, name])).await?;
    }
    for seconds in [86_400, 604_800] {
        family.ben.rpc("set_chat_ephemeral_timer", json!([family.chat, seconds])).await?;
    }
    family.ben.rpc("set_chat_description", json!([family.chat, "who we are"])).await?;
    family.bridge.start().await?;
    for words in [
        "named the conversation “Hill”",
        "named the conversation “Dale”",
        "set messages to disappear after 1 day",
        "set messages to disappear after 1 week",
        "[a new description of the conversation, which this bridge does not carry]",
    ] {
        family.hears(Who::Ann, words, |heard| heard.words.ends_with(words)).await?;
    }
    family.bridge.stop().await
}
