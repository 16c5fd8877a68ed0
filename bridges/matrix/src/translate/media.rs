//! What is told of a file beside its content.

use std::time::Duration;

use sealbridge_contract::{
    Body, Media, Spooled,
    message::{Absence, Absent, Dimensions, FileName, MediaType, Sort, Thumbnail, Waveform},
};
use serde_json::{Map, Value, json};

use crate::engine::Attachment;

/// The files of a content: where they lie, and what opens them.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) content: Attachment,
    pub(crate) thumbnail: Option<Attachment>,
    /// The size by the sender's word.
    pub(crate) claimed: Option<u64>,
}

/// The same, as they lie in the spool.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) content: Spooled,
    pub(crate) thumbnail: Option<Spooled>,
}

/// The same, as they were uploaded.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Brought {
    pub(crate) content: Attachment,
    pub(crate) thumbnail: Option<Attachment>,
}

/// What a content is, if it is a file.
pub(super) fn sort(kind: &str, content: &Value) -> Option<Sort> {
    if kind == "m.sticker" {
        return Some(Sort::Sticker);
    }
    let has = |key: &str| content.get(key).is_some();
    Some(match content.get("msgtype")?.as_str()? {
        "m.image" => Sort::Image,
        "m.video" => Sort::Video,
        "m.audio" if has("org.matrix.msc3245.voice") || has("org.matrix.msc3245.voice.v2") => Sort::Voice,
        "m.audio" => Sort::Audio,
        "m.file" => Sort::File,
        _ => return None,
    })
}

/// The files of a content. `Err`: they are not taken, and why.
pub(super) fn files(content: &Value) -> Result<Files, Absence> {
    let attachment = |value: &Value| serde_json::from_value::<Attachment>(value.clone()).ok();
    let Some(file) = content.get("file").filter(|file| file.is_object()) else {
        let is_open = content.get("url").is_some();
        return Err(if is_open { Absence::NotEncrypted } else { Absence::NotUnderstood });
    };
    let info = content.get("info").unwrap_or(&Value::Null);
    Ok(Files {
        content: attachment(file).ok_or(Absence::NotUnderstood)?,
        thumbnail: info.get("thumbnail_file").and_then(attachment),
        claimed: info.get("size").and_then(Value::as_u64),
    })
}

/// A file of this sort. `words` are what its `body` says.
pub(super) fn read(sort: Sort, content: &Value, words: Body, taken: &Taken) -> Media {
    let info = content.get("info").unwrap_or(&Value::Null);
    let (name, mime, caption) = named(content, words);
    let audio = content.get("org.matrix.msc1767.audio").unwrap_or(&Value::Null);
    let long = info.get("duration").and_then(Value::as_u64).or_else(|| audio.get("duration").and_then(Value::as_u64));
    let thumbnail = taken.thumbnail.clone().map(|content| {
        let info = info.get("thumbnail_info").unwrap_or(&Value::Null);
        let mime = MediaType::new(info.get("mimetype").and_then(Value::as_str).unwrap_or("image/jpeg"));
        Thumbnail { mime, dimensions: dimensions(info), content }
    });
    Media {
        dimensions: dimensions(info),
        duration: long.map(Duration::from_millis),
        waveform: audio.get("waveform").and_then(Value::as_array).map(|values| waveform(values)),
        thumbnail,
        caption,
        ..Media::new(sort, name, mime, taken.content.clone())
    }
}

/// A file that stays behind.
pub(super) fn absent(content: &Value, words: Body, why: Absence) -> Absent {
    let (name, mime, caption) = named(content, words);
    Absent { name, mime, caption, why }
}

fn named(content: &Value, words: Body) -> (FileName, MediaType, Option<Body>) {
    let body = words.plain.as_str();
    let name = content.get("filename").and_then(Value::as_str);
    // Where there is no file name the body is one.
    let file_name = FileName::new(name.unwrap_or(body));
    let caption = name.is_some_and(|name| name != body) && !body.is_empty();
    let mime = content.get("info").and_then(|info| info.get("mimetype")).and_then(Value::as_str);
    (file_name, MediaType::new(mime.unwrap_or_default()), caption.then_some(words))
}

fn waveform(values: &[Value]) -> Waveform {
    let loud = |value: &Value| value.as_u64().unwrap_or_default().min(Waveform::LOUDEST.into());
    let values: Vec<_> = values.iter().map(|value| u16::try_from(loud(value)).unwrap_or_default()).collect();
    Waveform::new(&values)
}

fn dimensions(info: &Value) -> Option<Dimensions> {
    let pixels = |key: &str| info.get(key)?.as_u64().and_then(|count| u32::try_from(count).ok());
    Some(Dimensions { width: pixels("w")?, height: pixels("h")? })
}

/// Writes what is told of a file into a content, and gives the type of its event.
pub(super) fn write(content: &mut Map<String, Value>, media: &Media, brought: &Brought) -> &'static str {
    let mut info = described(&media.mime, media.content.size, media.dimensions);
    let milliseconds = media.duration.map(|long| u64::try_from(long.as_millis()).unwrap_or(u64::MAX));
    if let Some(milliseconds) = milliseconds {
        info.insert("duration".into(), milliseconds.into());
    }
    if let (Some(thumbnail), Some(file)) = (&media.thumbnail, &brought.thumbnail) {
        let described = described(&thumbnail.mime, thumbnail.content.size, thumbnail.dimensions);
        info.insert("thumbnail_info".into(), described.into());
        info.insert("thumbnail_file".into(), json!(file));
    }
    if matches!(media.sort, Sort::Audio | Sort::Voice) {
        let waveform = media.waveform.as_ref().map(Waveform::values).unwrap_or_default();
        let audio = json!({ "duration": milliseconds.unwrap_or_default(), "waveform": waveform });
        content.insert("org.matrix.msc1767.audio".into(), audio);
    }
    if media.sort == Sort::Voice {
        content.insert("org.matrix.msc3245.voice".into(), json!({}));
    }
    let msgtype = match media.sort {
        Sort::Image => "m.image",
        Sort::Video => "m.video",
        Sort::Audio | Sort::Voice => "m.audio",
        Sort::File => "m.file",
        Sort::Sticker => "",
    };
    if media.sort != Sort::Sticker {
        content.insert("msgtype".into(), msgtype.into());
    }
    content.insert("filename".into(), media.name.as_str().into());
    content.insert("info".into(), info.into());
    content.insert("file".into(), json!(brought.content));
    if media.sort == Sort::Sticker { "m.sticker" } else { "m.room.message" }
}

fn described(mime: &MediaType, size: u64, dimensions: Option<Dimensions>) -> Map<String, Value> {
    let mut info = Map::new();
    info.insert("mimetype".into(), mime.as_str().into());
    info.insert("size".into(), size.into());
    if let Some(Dimensions { width, height }) = dimensions {
        info.insert("w".into(), width.into());
        info.insert("h".into(), height.into());
    }
    info
}
