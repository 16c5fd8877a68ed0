//! Files: what is told of them. Their content stays in the spool and is never part of a message.

use std::time::Duration;

use super::Body;
use crate::{Text, spool::Spooled};

/// A picture, a recording or any other file.
#[derive(Debug)]
pub struct Media {
    /// What it is to its readers.
    pub sort: Sort,
    /// Its name.
    pub name: FileName,
    /// What is in it, by its sender's word.
    pub mime: MediaType,
    /// Width and height, if it is to be seen.
    pub dimensions: Option<Dimensions>,
    /// How long it plays.
    pub duration: Option<Duration>,
    /// How loud a voice message is over its time.
    pub waveform: Option<Waveform>,
    /// A small picture of it.
    pub thumbnail: Option<Thumbnail>,
    /// Words beside it.
    pub caption: Option<Body>,
    /// Its content, with its size and hash as the spool counted them.
    pub content: Spooled,
}

/// What a file is to its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Music or another recording.
    Audio,
    /// A voice message.
    Voice,
    /// A file to be kept.
    File,
    /// A sticker.
    Sticker,
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// From left to right.
    pub width: u32,
    /// From top to bottom.
    pub height: u32,
}

/// A small picture of a larger file.
#[derive(Debug)]
pub struct Thumbnail {
    /// What is in it.
    pub mime: MediaType,
    /// Width and height.
    pub dimensions: Option<Dimensions>,
    /// Its content.
    pub content: Spooled,
}

/// The name of a file, without anything that could lead elsewhere or look like something else.
#[derive(Debug, PartialEq, Eq)]
pub struct FileName(Text);

/// What is in a file: `image/png`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType(String);

/// How loud a voice message is over its time: at most [`Waveform::MOST`] values from 0 to [`Waveform::LOUDEST`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waveform(Vec<u16>);

impl FileName {
    /// A longer name is cut, and keeps its ending.
    const LONGEST: usize = 128;

    /// Makes a name harmless: no folders, no control or direction characters, none that file systems forbid, not too
    /// long.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let last = name.rsplit(['/', '\\']).find(|part| !part.trim_matches(['.', ' ']).is_empty()).unwrap_or_default();
        let safe = crate::names::one_line(last, last.len());
        let safe: String = safe.chars().map(|c| if r#"<>:"|?*"#.contains(c) { '_' } else { c }).collect();
        let safe = safe.trim_start_matches(['.', ' ']).trim_end_matches(['.', ' ']);
        let name = match safe {
            "" => "file".to_owned(),
            short if short.len() <= Self::LONGEST => short.to_owned(),
            long => {
                let ending = long.rsplit_once('.').map(|(_, ending)| ending).filter(|ending| ending.len() <= 16);
                let most = Self::LONGEST - ending.map_or(0, |ending| ending.len() + 1);
                let stem = long[..long.floor_char_boundary(most)].trim_end_matches(['.', ' ']);
                ending.map_or_else(|| stem.to_owned(), |ending| format!("{stem}.{ending}"))
            }
        };
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn as_text(&self) -> &Text {
        &self.0
    }

    pub(super) fn copy(&self) -> Self {
        Self(self.0.copy())
    }
}

impl MediaType {
    /// Takes a type; what is none becomes bytes of any kind.
    #[must_use]
    pub fn new(mime: &str) -> Self {
        let essence = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let token = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
            !part.is_empty() && part.len() <= 64 && part.chars().all(allowed)
        };
        let sound = essence.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub));
        Self(if sound { essence } else { "application/octet-stream".to_owned() })
    }

    /// The type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Waveform {
    /// As many values at most.
    pub const MOST: usize = 128;
    /// The largest value.
    pub const LOUDEST: u16 = 1024;

    /// Takes values; more than there may be are thinned out, and none is louder than the loudest.
    #[must_use]
    pub fn new(values: &[u16]) -> Self {
        let step = values.len().div_ceil(Self::MOST).max(1);
        Self(values.iter().step_by(step).map(|value| (*value).min(Self::LOUDEST)).collect())
    }

    /// The values.
    #[must_use]
    pub fn values(&self) -> &[u16] {
        &self.0
    }
}

impl Media {
    /// A file of which nothing more is known.
    #[must_use]
    pub fn new(sort: Sort, name: FileName, mime: MediaType, content: Spooled) -> Self {
        let (dimensions, duration, waveform, thumbnail, caption) = Default::default();
        Self { sort, name, mime, dimensions, duration, waveform, thumbnail, caption, content }
    }

    /// What lies in the spool for it.
    pub fn spooled(&self) -> impl Iterator<Item = &Spooled> {
        std::iter::once(&self.content).chain(self.thumbnail.as_ref().map(|thumbnail| &thumbnail.content))
    }

    /// Its bytes. Those of its thumbnail are none of the file's: one that is too large is left out.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.content.size
    }

    pub(crate) fn copy(&self) -> Self {
        let thumbnail = |thumbnail: &Thumbnail| Thumbnail {
            mime: thumbnail.mime.clone(),
            dimensions: thumbnail.dimensions,
            content: thumbnail.content.clone(),
        };
        Self {
            sort: self.sort,
            name: self.name.copy(),
            mime: self.mime.clone(),
            dimensions: self.dimensions,
            duration: self.duration,
            waveform: self.waveform.clone(),
            thumbnail: self.thumbnail.as_ref().map(thumbnail),
            caption: self.caption.as_ref().map(Body::copy),
            content: self.content.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_file_leads_nowhere_and_hides_nothing() {
        for (name, safe) in [
            ("cat.png", "cat.png"),
            ("../../x", "x"),
            ("..", "file"),
            ("/etc/passwd", "passwd"),
            (r"C:\Windows\evil.exe", "evil.exe"),
            ("a\nb\r.txt", "a b .txt"),
            ("\u{202e}gnp.exe", "gnp.exe"),
            (".bashrc", "bashrc"),
            ("folder/", "folder"),
            ("a<b>|c?.txt", "a_b__c_.txt"),
            ("", "file"),
            ("\0", "file"),
        ] {
            assert_eq!(FileName::new(name).as_str(), safe, "{name:?}");
        }
        let long = FileName::new(&format!("{}.tar.gz", "ä".repeat(400)));
        assert!(long.as_str().len() <= 128 && long.as_str().ends_with(".gz"), "{}", long.as_str());
        assert!(
            !FileName::new(&format!("{} y", "x".repeat(127))).as_str().ends_with(' '),
            "a cut leaves no gap at the end"
        );
    }

    #[test]
    fn type_that_is_none_is_bytes_of_any_kind() {
        for (mime, safe) in [
            ("image/PNG", "image/png"),
            ("text/plain; charset=utf-8", "text/plain"),
            ("image", "application/octet-stream"),
            ("a/b\r\nX: y", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(MediaType::new(mime).as_str(), safe, "{mime:?}");
        }
    }

    #[test]
    fn waveform_is_bounded() {
        let wave = Waveform::new(&vec![u16::MAX; 100_000]);
        assert!(wave.values().len() <= Waveform::MOST && wave.values().iter().all(|v| *v == Waveform::LOUDEST));
    }
}
