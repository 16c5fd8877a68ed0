//! The files that are sent each way.

use super::super::{How, Sample};
use crate::{Verb, message::Sort};

/// What a file of this kind is to its readers.
pub(super) fn sort_of(verb: Verb) -> Option<Sort> {
    Some(match verb {
        Verb::Image => Sort::Image,
        Verb::Video => Sort::Video,
        Verb::Audio => Sort::Audio,
        Verb::Voice => Sort::Voice,
        Verb::File => Sort::File,
        Verb::Sticker => Sort::Sticker,
        _ => return None,
    })
}

/// What a file of this kind is called, and its type.
pub(super) fn called(verb: Verb) -> (&'static str, &'static str) {
    match verb {
        Verb::Image => ("a picture.png", "image/png"),
        Verb::Sticker => ("a sticker.png", "image/png"),
        Verb::Video => ("a film.mp4", "video/mp4"),
        Verb::Audio => ("a song.mp3", "audio/mpeg"),
        Verb::Voice => ("a voice.ogg", "audio/ogg"),
        _ => ("a paper.pdf", "application/pdf"),
    }
}

/// A picture of 30 by 40 pixels, which can be seen through.
const PICTURE: &[u8] = include_bytes!("picture.png");

/// Long enough to have several pieces, and another for each kind. What is to be a picture is one: some networks look.
pub(super) fn content(verb: Verb) -> Vec<u8> {
    let picture = if matches!(verb, Verb::Image | Verb::Sticker) { PICTURE } else { &[] };
    let more = (0..70_001_u32).map(|at| (at % 251) as u8 ^ verb as u8);
    picture.iter().copied().chain(more).collect()
}

/// What a peer sends of a kind, if that is a file.
pub(super) fn sample(how: How) -> Option<Sample> {
    let verb = Verb::ALL.iter().copied().find(|verb| how.sort().is_some() && sort_of(*verb) == how.sort())?;
    Some(Sample {
        name: called(verb).0.to_owned(),
        mime: called(verb).1.to_owned(),
        content: content(verb),
        dimensions: Some((30, 40)),
        ..Sample::default()
    })
}
