//! A file's description.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Words;
use crate::{
    Body,
    message::{Absence, Absent, Dimensions, FileName, Media, MediaType, Sort, Thumbnail, Waveform},
    spool::{SpoolId, Spooled},
};

#[derive(Serialize, Deserialize)]
pub(super) struct WireFile<'a> {
    #[serde(rename = "s")]
    sort: WireSort,
    #[serde(rename = "n", borrow)]
    name: Words<'a>,
    #[serde(rename = "t", borrow)]
    mime: Words<'a>,
    #[serde(rename = "c")]
    content: WireSpooled,
    #[serde(rename = "d", skip_serializing_if = "Option::is_none", default)]
    dimensions: Option<(u32, u32)>,
    #[serde(rename = "l", skip_serializing_if = "Option::is_none", default)]
    milliseconds: Option<u64>,
    #[serde(rename = "w", skip_serializing_if = "Option::is_none", default)]
    waveform: Option<Vec<u16>>,
    #[serde(rename = "th", borrow, skip_serializing_if = "Option::is_none", default)]
    thumbnail: Option<WireThumbnail<'a>>,
}

/// One that stays behind: its name and type, and why.
#[derive(Serialize, Deserialize)]
pub(super) struct WireAbsent<'a>(#[serde(borrow)] Words<'a>, #[serde(borrow)] Words<'a>, Absence);

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireSort {
    Image,
    Video,
    Audio,
    Voice,
    File,
    Sticker,
}

#[derive(Serialize, Deserialize)]
struct WireSpooled(String, u64, [u8; 32]);

#[derive(Serialize, Deserialize)]
struct WireThumbnail<'a>(#[serde(borrow)] Words<'a>, Option<(u32, u32)>, WireSpooled);

impl<'a> WireFile<'a> {
    pub(super) fn of(media: &'a Media) -> Self {
        let pair = |dimensions: Dimensions| (dimensions.width, dimensions.height);
        let thumbnail = |thumbnail: &'a Thumbnail| {
            let content = WireSpooled::of(&thumbnail.content);
            WireThumbnail(thumbnail.mime.as_str().into(), thumbnail.dimensions.map(pair), content)
        };
        Self {
            sort: match media.sort {
                Sort::Image => WireSort::Image,
                Sort::Video => WireSort::Video,
                Sort::Audio => WireSort::Audio,
                Sort::Voice => WireSort::Voice,
                Sort::File => WireSort::File,
                Sort::Sticker => WireSort::Sticker,
            },
            name: media.name.as_str().into(),
            mime: media.mime.as_str().into(),
            content: WireSpooled::of(&media.content),
            dimensions: media.dimensions.map(pair),
            milliseconds: media.duration.map(|long| u64::try_from(long.as_millis()).unwrap_or(u64::MAX)),
            waveform: media.waveform.as_ref().map(|waveform| waveform.values().to_vec()),
            thumbnail: media.thumbnail.as_ref().map(thumbnail),
        }
    }

    pub(super) fn into_media(self, caption: Option<Body>) -> Option<Media> {
        let dimensions = |(width, height)| Dimensions { width, height };
        let thumbnail = match self.thumbnail {
            Some(WireThumbnail(mime, size, content)) => {
                let content = content.into_spooled()?;
                Some(Thumbnail { mime: MediaType::new(&mime), dimensions: size.map(dimensions), content })
            }
            None => None,
        };
        Some(Media {
            sort: match self.sort {
                WireSort::Image => Sort::Image,
                WireSort::Video => Sort::Video,
                WireSort::Audio => Sort::Audio,
                WireSort::Voice => Sort::Voice,
                WireSort::File => Sort::File,
                WireSort::Sticker => Sort::Sticker,
            },
            name: FileName::new(&self.name),
            mime: MediaType::new(&self.mime),
            dimensions: self.dimensions.map(dimensions),
            duration: self.milliseconds.map(Duration::from_millis),
            waveform: self.waveform.map(|values| Waveform::new(&values)),
            thumbnail,
            caption,
            content: self.content.into_spooled()?,
        })
    }
}

impl<'a> WireAbsent<'a> {
    pub(super) fn of(absent: &'a Absent) -> Self {
        Self(absent.name.as_str().into(), absent.mime.as_str().into(), absent.why)
    }

    pub(super) fn into_absent(self, caption: Option<Body>) -> Absent {
        Absent { name: FileName::new(&self.0), mime: MediaType::new(&self.1), caption, why: self.2 }
    }
}

impl WireSpooled {
    fn of(spooled: &Spooled) -> Self {
        Self(spooled.id.to_string(), spooled.size, spooled.sha256)
    }

    fn into_spooled(self) -> Option<Spooled> {
        Some(Spooled::new(SpoolId::parse(&self.0).ok()?, self.1, self.2, None))
    }
}
