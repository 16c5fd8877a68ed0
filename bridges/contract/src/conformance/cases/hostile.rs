//! Strangers who mean harm.

use super::{
    super::{Details, How, Sample, Say, Stop, Told, Words, stage::Stage},
    incoming::{all_hold, say_many},
    kinds::about,
};
use crate::{
    Author, Message, PersonId, Slip,
    message::{Absence, Reaction},
};

/// What no reader's program may ever be given.
const NEVER: &[&str] =
    &["<script", "<style", "<iframe", "<img", "<object", "javascript:", "onerror", "onclick", "mx-reply"];
/// Deeper words break readers' programs.
const DEEPEST: usize = 110;

pub(super) async fn hostile_formatting_is_harmless(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let deep = |tag: &str, levels: usize| {
        format!("{}x{}", format!("<{tag}>").repeat(levels), format!("</{tag}>").repeat(levels))
    };
    let bodies = [
        ("a script", "<script>alert(1)</script><b onclick=alert(1)>x</b>".to_owned()),
        ("a picture from elsewhere", r#"<img src="https://evil.example/x" onerror=alert(1)>x"#.to_owned()),
        ("a link that runs", r#"<a title=x href=" jAvAsCrIpT:alert(1)">x</a>"#.to_owned()),
        ("400 levels", deep("b", 400)),
        ("400 levels never closed", "<div>".repeat(400)),
        ("half a tag", "<b><i x".to_owned()),
        ("a quotation that nobody said", "<mx-reply>Ann: yes</mx-reply>x".to_owned()),
        ("frames and styles", "<iframe src=x></iframe><style>*{}</style><object data=x></object>y".to_owned()),
    ];
    for (what, html) in bodies {
        let words = stage.words("hostile");
        let id = stage.rig.peer.say(Say { words: words.clone(), html: Some(html), ..Say::default() }).await?;
        let accepted = stage.accepted(&id).await.map_err(|stop| about(what, stop))?;
        let html = accepted.html.map(|Words(html)| html).unwrap_or_default();
        let lower = html.to_lowercase();
        all_hold(&[
            (accepted.words == Words(words), "the plain words are others"),
            (!NEVER.iter().any(|never| lower.contains(never)), "something harmful is left"),
            (depth(&html) <= DEEPEST, "it is nested too deep"),
        ])
        .map_err(|stop| about(what, stop))?;
    }
    Ok(())
}

fn depth(html: &str) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    for tag in html.split('<').skip(1) {
        if tag.starts_with('/') {
            now = now.saturating_sub(1);
        } else if !tag.starts_with("br") && !tag.starts_with("hr") {
            now += 1;
            deepest = deepest.max(now);
        }
    }
    deepest
}

pub(super) async fn nobody_passes_for_somebody_else(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let names = [
        "Sealbridge",
        "S\u{0435}albridge",
        "@admin:example.org",
        "Ann\nBen",
        "\u{202e}nnA",
        "Ben: yes",
        "\u{200b}",
        "",
    ];
    for name in names {
        let words = stage.words("under a name");
        let author = Author { id: PersonId::new("mallory@elsewhere.example"), name: Some(name.into()) };
        let message = Message::text(author, stage.clock.now(), &words);
        stage.deliver(message, &stage.slip()).await?;
        let heard = stage.heard_once(&words).await?;
        let shown = heard.author.clone().unwrap_or_else(|| heard.words.replace(&words, ""));
        let tricks = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
        all_hold(&[
            (!shown.trim_end_matches([':', ' ']).contains(tricks), "its characters play tricks"),
            (!shown.starts_with('@') && !shown.contains(": "), "it looks like an address, or like what somebody says"),
            (!matches!(shown.trim(), "Sealbridge" | "S\u{0435}albridge"), "it looks like the bridge"),
            (!shown.is_empty(), "nobody is named"),
        ])
        .map_err(|stop| about(&format!("{name:?}"), stop))?;
    }
    Ok(())
}

pub(super) async fn flood_of_reactions_is_bounded(stage: &mut Stage<'_>) -> Told {
    stage.hears()?;
    stage.start().await?;
    let target = stage.says(&stage.words("liked too much")).await?;
    stage.accepted(&target).await?;
    let everything: Vec<String> = (0..100).filter_map(|at| char::from_u32(0x1f600 + at)).map(String::from).collect();
    for count in [1, 10, 100] {
        let emoji = everything[..count.min(everything.len())].to_vec();
        let details = Details { about: Some(target.clone()), emoji, ..Details::default() };
        stage.rig.peer.say(Say { how: How::Reaction, details, ..Say::default() }).await?;
    }
    // A message after it shows that whatever there was is done with.
    let after = say_many(stage, 1).await?;
    stage.accepted(&after[0]).await?;
    let sets = stage.intake.accepted().into_iter().filter(|accepted| accepted.how == Some(How::Reaction));
    let largest = sets.map(|accepted| accepted.details.emoji.len()).max();
    all_hold(&[
        (largest.is_some(), "no reaction came in"),
        (largest.is_none_or(|largest| largest <= Reaction::MOST), "a person reacts with too many emoji"),
    ])
}

pub(super) async fn file_that_is_not_what_its_sender_said_stays_behind_and_its_words_cross(
    stage: &mut Stage<'_>,
) -> Told {
    stage.start().await?;
    let sample = |wrong_hash| Sample {
        name: "../../x\n.png".to_owned(),
        mime: "image/png\r\nX: y".to_owned(),
        content: b"not what was said".to_vec(),
        wrong_hash,
        ..Sample::default()
    };
    let say = |words, wrong_hash| {
        let details = Details { file: Some(sample(wrong_hash)), ..Details::default() };
        Say { how: How::File, words, details, ..Say::default() }
    };
    let whole = stage.rig.peer.say(say(stage.words("a hostile name"), false)).await?;
    let accepted = stage.accepted(&whole).await?;
    let file = accepted.details.file.ok_or_else(|| Stop::failed("the file is gone"))?;
    all_hold(&[
        (!file.name.contains(['/', '\n', '\r']) && !file.name.starts_with('.'), "its name leads elsewhere"),
        (!file.mime.contains(['\r', '\n']), "its type has lines"),
    ])?;
    let words = stage.words("another hash");
    let wrong = stage.rig.peer.say(say(words.clone(), true)).await?;
    let accepted = stage.accepted(&wrong).await?;
    all_hold(&[
        (accepted.details.file.is_none(), "a file crossed that is not what its sender said"),
        (accepted.absence == Some(Absence::NotAsSaid), "nobody is told why it stays behind"),
        (accepted.words.0 == words, "what was said with it is lost"),
    ])
}

pub(super) async fn what_is_not_known_there_is_said_in_words(stage: &mut Stage<'_>) -> Told {
    use crate::{Kind, RemoteId, Target};
    stage.start().await?;
    let before = stage.rig.peer.heard().await?.len();
    let message = Message { kind: Kind::Redaction(Target::new(RemoteId::new("elsewhere"))), ..stage.message("") };
    // Nothing at the destination is named, since nothing there is known.
    stage.deliver(message, &Slip { about: None, ..stage.slip() }).await?;
    let more = async |stage: &Stage<'_>| Ok(stage.rig.peer.heard().await?.len() > before);
    stage.until("it is said", more).await?;
    let heard = stage.rig.peer.heard().await?.pop().ok_or_else(|| Stop::failed("what was heard is gone"))?;
    all_hold(&[
        (heard.words.contains("not known here"), "the reader is not told that it is not known"),
        (heard.details.about.is_none(), "something was guessed"),
    ])
}
