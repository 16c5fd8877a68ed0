//! What stands beside a file: how large it is to the eye, how long it plays, how loud it is when, and a small picture of
//! it. Each crosses as the table of kinds says, as the person at the far end sees it; what nobody knows is not said.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::conformance::{Details, How, Sample, Say};
use sealbridge_lab::{Person, delta::Seen};
use serde_json::{Value, json};

use crate::{
    parts_across::{Upstairs, family},
    phones::{Family, PATIENCE, Who},
};

/// A picture of 30 by 40 pixels.
const PICTURE: &[u8] = include_bytes!("../../bridges/contract/src/conformance/cases/picture.png");
const VOICE: &str = "org.matrix.msc3245.voice";
const AUDIO: &str = "org.matrix.msc1767.audio";

/// A file that somebody on Matrix sends, and what must be told of it.
struct Sent {
    words: &'static str,
    msgtype: &'static str,
    name: &'static str,
    mime: &'static str,
    info: Value,
    more: Value,
    /// Whether it has a small picture.
    small: bool,
}

fn sent() -> Vec<Sent> {
    let sent = |words, msgtype, name, mime, info| {
        let small = matches!(msgtype, "m.image" | "m.video");
        Sent { words, msgtype, name, mime, info, more: json!({}), small }
    };
    let audio = |duration: u64, waveform: &[u16]| json!({ "duration": duration, "waveform": waveform });
    vec![
        sent("a picture", "m.image", "cat.png", "image/png", json!({ "w": 30, "h": 40 })),
        sent("a film", "m.video", "film.mp4", "video/mp4", json!({ "w": 320, "h": 240, "duration": 5000 })),
        Sent {
            more: json!({ AUDIO: audio(61_000, &[1, 2, 3]) }),
            ..sent("a song", "m.audio", "song.mp3", "audio/mpeg", json!({ "duration": 61_000 }))
        },
        Sent {
            more: json!({ VOICE: {}, AUDIO: audio(2500, &[0, 512, 1024]) }),
            ..sent("a voice", "m.audio", "voice.ogg", "audio/ogg", json!({ "duration": 2500 }))
        },
        // Nobody knows how long these play; some programs say nought then, and others nothing.
        Sent {
            more: json!({ VOICE: {} }),
            ..sent("a voice unmeasured", "m.audio", "voice.ogg", "audio/ogg", json!({}))
        },
        Sent {
            small: false,
            ..sent("a film unmeasured", "m.video", "film.mp4", "video/mp4", json!({ "w": 0, "h": 0, "duration": 0 }))
        },
    ]
}

impl Sent {
    async fn by(&self, family: &Family) -> Result<()> {
        let mut extra = self.more.clone();
        extra["body"] = json!(self.words);
        let mut info = self.info.clone();
        if self.small {
            info["thumbnail_info"] = json!({ "mimetype": "image/png", "w": 30, "h": 40 });
        }
        let file = json!({
            "room": family.room, "name": self.name, "mimetype": self.mime, "msgtype": self.msgtype,
            "data": STANDARD.encode(PICTURE), "info": info, "extra": extra,
            "thumbnail": self.small.then(|| STANDARD.encode(PICTURE)),
        });
        family.ann.call("send_file", file).await.map(drop)
    }

    /// What a program on Matrix is to be told of it, but for the small picture.
    fn told(&self) -> Value {
        let known = |of: &Value, key: &str| of.get(key).filter(|value| **value != json!(0)).cloned();
        let info = &self.info;
        json!({
            "w": known(info, "w"), "h": known(info, "h"), "duration": known(info, "duration"),
            "audio": self.more.get(AUDIO), "voice": self.more.get(VOICE),
        })
    }
}

/// What a program on Matrix is told of a file, but for the small picture. What is not there at all is null.
fn told(content: &Value) -> Value {
    let info = &content["info"];
    json!({
        "w": info.get("w"), "h": info.get("h"), "duration": info.get("duration"), "audio": content.get(AUDIO),
        "voice": content.get(VOICE),
    })
}

/// The content that somebody on Matrix gets with these words beside a file.
async fn gets(person: &Person, words: &str) -> Result<Value> {
    let is = |content: &Value| {
        content["file"].is_object() && content["body"].as_str().is_some_and(|body| body.ends_with(words))
    };
    let heard = person.wait_for(|message| !message.own && is(&message.content), PATIENCE).await;
    let heard = heard.with_context(|| words.to_owned())?;
    ensure!(heard.encrypted, "{words} came in clear");
    Ok(heard.content)
}

/// What somebody on a phone is shown with these words beside a file.
async fn sees(family: &Family, words: &str) -> Result<Seen> {
    let is = |seen: &Seen| seen.text == words && seen.file.is_some() && seen.whole;
    family.ben.wait_for(is, PATIENCE).await.with_context(|| words.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_a_file_from_matrix_crosses_whole_to_matrix_and_as_the_table_says_to_delta_chat()
-> Result<()> {
    let Some((family, lab, _)) = family().await? else { return Ok(()) };
    let upstairs = Upstairs::beside(&family, lab).await?;
    for sent in sent() {
        let words = sent.words;
        sent.by(&family).await?;
        let content = gets(&upstairs.carol, words).await?;
        assert_eq!(told(&content), sent.told(), "{words}");
        let small = &content["info"]["thumbnail_file"];
        assert_eq!(small.is_object(), sent.small, "{words}: {small}");
        if sent.small {
            let info = &content["info"]["thumbnail_info"];
            assert_eq!((&info["w"], &info["h"], &info["mimetype"]), (&json!(30), &json!(40), &json!("image/png")));
            let small = upstairs.carol.download(&json!({ "file": small })).await?;
            assert!(small == PICTURE, "{words}: the small picture is another");
        }
        // The engine reads how large a picture is out of the picture, and takes nothing else.
        let seen = sees(&family, words).await?;
        let expected = if sent.msgtype == "m.image" { (30, 40, 0) } else { (0, 0, 0) };
        assert_eq!((seen.width, seen.height, seen.milliseconds), expected, "{words}");
    }
    family.ends().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_phone_knows_of_a_file_is_told_on_matrix_and_what_it_does_not_know_is_not_made_up() -> Result<()> {
    let Some((family, ..)) = family().await? else { return Ok(()) };
    let cases = [
        (How::Image, "cat.png", None, json!({ "w": 30, "h": 40 })),
        (How::Video, "film.mp4", Some(5000), json!({ "duration": 5000 })),
        (How::Audio, "song.mp3", Some(61_000), json!({ "duration": 61_000, "audio": { "duration": 61_000 } })),
        (How::Voice, "voice.ogg", Some(2500), json!({ "duration": 2500, "audio": { "duration": 2500 }, "voice": {} })),
        (How::Voice, "voice.ogg", None, json!({ "voice": {} })),
        (How::Video, "film.mp4", None, json!({})),
    ];
    for (how, name, milliseconds, known) in cases {
        let words = format!("{how:?} of {milliseconds:?}");
        let file = Sample { name: name.into(), content: PICTURE.to_vec(), milliseconds, ..Sample::default() };
        let details = Details { file: Some(file), ..Details::default() };
        family.says(Who::Ben, Say { how, words: words.clone(), details, ..Say::default() }).await?;
        let nothing = json!({ "w": null, "h": null, "duration": null, "audio": null, "voice": null });
        let mut expected = nothing.as_object().context("a map")?.clone();
        expected.extend(known.as_object().context("a map")?.clone());
        let content = gets(&family.ann, &words).await?;
        assert_eq!(told(&content), Value::Object(expected), "{words}");
        assert!(content["info"].get("thumbnail_file").is_none(), "{words}");
    }
    family.ends().await
}
