//! What people say crosses whole.

use super::{
    super::{
        Say, Stop, Told,
        stage::{Stage, neutral},
    },
    incoming::all_hold,
    kinds::about,
};
use crate::{DeliveryId, Fate, Slip, Trail, trail::MarkKey};

/// Bodies that break things, each after words that tell it apart.
fn hard(stage: &Stage<'_>) -> Vec<(&'static str, String, String)> {
    let most = stage.transport().common().abilities().most_bytes;
    let long = |bytes: usize| "0123456789abcde ".repeat(bytes / 16);
    let bodies: [(&str, String); 11] = [
        ("as long as the network takes", long(most.min(60_000).saturating_sub(256))),
        ("NUL", "before\0after".to_owned()),
        ("control characters", "bell\u{7} escape\u{1b}[31m delete\u{7f}".to_owned()),
        ("turned direction", "\u{202e}gnp.exe\u{202c} and \u{2066}isolated\u{2069}".to_owned()),
        ("right to left", "שלום עולם — مرحبا بالعالم".to_owned()),
        ("emoji", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪".to_owned()),
        ("combining characters", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞".to_owned()),
        ("lines", "one\ntwo\n\n  three\tfour".to_owned()),
        ("markup", "<b>not bold</b> &amp; *not* _this_ `either` <script>alert(1)</script>".to_owned()),
        ("quotes and slashes", r#"{"type":"m.room.message"} \n \u0000 "'`%s%n${x}"#.to_owned()),
        ("like a command", "/me is not an emote, @room nobody is called, !help".to_owned()),
    ];
    let say = |(what, body)| {
        let start = stage.words("hard");
        (what, format!("{start} {body}"), start)
    };
    bodies.into_iter().map(say).collect()
}

pub(super) async fn hard_words_go_out_whole(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    for (what, words, start) in hard(stage) {
        stage.send(&words).await.map_err(|stop| about(what, stop))?;
        let heard = stage.heard_once(&start).await.map_err(|stop| about(what, stop))?;
        let whole = match heard.author {
            Some(_) => neutral(&heard.words) == neutral(&words),
            // With the author's name in front.
            None => neutral(&heard.words).ends_with(&neutral(&words)),
        };
        all_hold(&[(whole, "the words are others")]).map_err(|stop| about(what, stop))?;
        if !heard.words.ends_with(&words) {
            stage.remark(format!("{what}: characters are neutralised"));
        }
    }
    Ok(())
}

pub(super) async fn hard_words_come_in_whole(stage: &mut Stage<'_>) -> Told {
    stage.hears()?;
    stage.start().await?;
    let mut tried = 0;
    for (what, words, _) in hard(stage) {
        let id = match stage.says(&words).await {
            Ok(id) => id,
            Err(Stop::NotApplicable(why)) => {
                stage.remark(format!("{what}: not said: {why}"));
                continue;
            }
            Err(stop) => return Err(about(what, stop)),
        };
        tried += 1;
        let message = stage.accepted(&id).await.map_err(|stop| about(what, stop))?;
        let whole = neutral(&message.words.0) == neutral(&words);
        all_hold(&[(whole, "the words are others")]).map_err(|stop| about(what, stop))?;
        if message.words.0 != words {
            stage.remark(format!("{what}: characters are neutralised"));
        }
    }
    if tried == 0 { Err(Stop::failed("nothing was tried")) } else { Ok(()) }
}

pub(super) async fn too_long_is_refused_and_never_cut(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let most = stage.transport().common().abilities().most_bytes;
    let start = stage.words("too long");
    let words = format!("{start} {}", "x".repeat(most));
    match stage.attempt(stage.message(&words), &stage.slip()).await? {
        Ok(_) => {
            let heard = stage.heard_once(&start).await?;
            all_hold(&[(heard.words.ends_with(&words), "it was cut in silence")])?;
            stage.remark("it crossed whole all the same");
        }
        Err(error) => {
            let told = matches!(error.fate, Fate::TooLong { .. });
            all_hold(&[(told, "it is refused with another fate than that it is too long")])?;
            stage.unheard(&start).await?;
        }
    }
    Ok(())
}

pub(super) async fn trail_goes_out_and_comes_in(stage: &mut Stage<'_>) -> Told {
    if !stage.transport().common().abilities().carries_marks {
        return Err(Stop::cannot("the datasheet says that messages have no place for marks"));
    }
    stage.start().await?;
    let key = MarkKey::new(super::super::random_key());
    let trail = (0..2).fold(Trail::default(), |trail, _| trail.with(key.mark(DeliveryId::random())));
    let words = stage.words("carried by others before");
    let slip = Slip { trail: trail.clone(), ..stage.slip() };
    let mut message = stage.message(&words);
    message.trail = trail.clone();
    stage.deliver(message, &slip).await?;
    let heard = stage.heard_once(&words).await?;
    all_hold(&[(heard.trail == trail, "the marks did not go out")])?;
    let words = stage.words("carried back");
    let id = stage.rig.peer.say(Say { words, trail: heard.trail, ..Say::default() }).await?;
    let message = stage.accepted(&id).await?;
    let ours = message.trail.marks().iter().all(|mark| key.made(mark));
    all_hold(&[(message.trail == trail && ours, "the marks did not come in")])
}
