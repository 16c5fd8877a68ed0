//! From the engine's form to ours.

use std::time::Duration;

use sealbridge_contract::{
    Arrived, Author, Body, Cleartext, Kind, Message, PersonId, RemoteId, SenderTrust, Spooled, Text, Timestamp, Trail,
    inbox::Incoming,
    message::{Absence, Absent, Change, Dimensions, FileName, Location, Media, MediaType, Sort, Target},
    names,
};

use super::page;
use crate::{engine::types, files};

/// A message, with what had to be asked about it.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) message: types::Message,
    pub(crate) id: RemoteId,
    /// Who wrote it, as their key proves it.
    pub(crate) author: Option<PersonId>,
    /// What they are called, if somebody else is named as its sender.
    pub(crate) name: Option<Text>,
    /// Whether its chat is one where everything is encrypted.
    pub(crate) encrypted: bool,
    /// The message that it answers.
    pub(crate) answers: Option<Target>,
    /// All of its words, if the message itself has only the first of them.
    pub(crate) whole: Option<Text>,
    pub(crate) about: About,
}

/// What a message is beside its words.
#[derive(Debug)]
pub(crate) enum About {
    /// Nothing else.
    Words,
    /// What the engine says about the chat.
    Change(Change),
    /// Something else that somebody did in the chat: one of [`Kind::UNSUPPORTED`].
    NotCarried(&'static str),
    /// A place, by latitude and longitude.
    Place(f64, f64),
    /// A file in the spool.
    File(Spooled),
    /// A file that never will be there, and why.
    NoFile(Absence),
}

/// Why a message is refused that came in clear into a conversation that is encrypted.
pub(crate) const IN_CLEAR: &str = "it came without end-to-end encryption into an encrypted chat";

/// What a message is to the inbox.
pub(crate) fn arrived(read: Read) -> Arrived {
    let Read { mut message, id, author, name, encrypted, answers, whole, about } = read;
    let nobody = || PersonId::new(format!("contact {}", message.from_id));
    let refused = |id, sender, reason: &str| Arrived::Refused { id, sender, reason: reason.to_owned() };
    if !encrypted {
        return refused(id, author.unwrap_or_else(nobody), "the chat is not encrypted");
    }
    if !message.show_padlock {
        return refused(id, author.unwrap_or_else(nobody), IN_CLEAR);
    }
    let Some(author) = author else {
        return refused(id, nobody(), "nobody can tell whose key signed it");
    };
    let words = whole.unwrap_or_else(|| std::mem::replace(&mut message.text, "".into()));
    let kind = match about {
        About::NoFile(why) => Kind::Absent(Box::new(absent(&message, words, why))),
        About::File(content) => Kind::File(Box::new(media(&message, words, content))),
        About::Change(change) => Kind::Change(change),
        About::NotCarried(what) => Kind::Unsupported { what },
        About::Place(latitude, longitude) => {
            let description = Some(words).filter(|words| !words.is_empty());
            match Location::new(latitude, longitude, description) {
                Some(place) => Kind::Location(place),
                None => Kind::Unsupported { what: "a location" },
            }
        }
        About::Words => match message.view_type.as_str() {
            // Its sender says that it is a machine, which no bot may answer.
            "Text" if message.is_bot => Kind::Notice(Body::plain(words)),
            "Text" => Kind::Text(Body::plain(words)),
            "Call" => Kind::Unsupported { what: "a call" },
            _ => Kind::Unsupported { what: "something" },
        },
    };
    // Where an account speaks for somebody else, its picture is not theirs.
    let speaks_for_itself = name.is_none() && message.override_sender_name.is_none();
    let portrait = speaks_for_itself.then(|| files::picture_id(&message.sender)).flatten();
    let name = name.or_else(|| name_of(message.override_sender_name.as_ref(), &message.sender));
    let author = Author { id: author, name };
    let sent_at = Timestamp(message.timestamp.saturating_mul(1000));
    let mut told = Message::of(author, sent_at, kind);
    told.reply_to = answers;
    told.trail = Trail::default().for_another(!speaks_for_itself);
    told.portrait = portrait;
    Arrived::Message(incoming(id, told))
}

/// What somebody did to an earlier message, of which the engine tells only that it is so now.
pub(crate) fn telling(id: RemoteId, author: Author, now: Timestamp, kind: Kind) -> Arrived {
    Arrived::Message(incoming(id, Message::of(author, now, kind)))
}

fn incoming(id: RemoteId, message: Message) -> Incoming {
    // Who wrote it is named by the fingerprint of their key.
    Incoming { id, message: Cleartext::new(message), trust: SenderTrust::Proven, identity: None, once: None }
}

/// What somebody is called: as they call themselves, or as we do. Where a message has another name, its sender says on
/// whose account.
pub(crate) fn name_of(said: Option<&Text>, contact: &types::Contact) -> Option<Text> {
    let own = if contact.auth_name.is_empty() { &contact.display_name } else { &contact.auth_name };
    let own = names::own(own.as_str());
    let name = match said {
        Some(said) => names::via(said.as_str(), &own),
        None => own,
    };
    Some(name).filter(|name| !name.is_empty()).map(Text::from)
}

/// What somebody did in a chat, by the engine's word for it. `None`: it says nothing that people did.
pub(crate) fn not_carried(of: &str) -> Option<&'static str> {
    Some(match of {
        "GroupDescriptionChanged" => "a new description of the conversation",
        "LocationStreamingEnabled" => "a live location",
        "WebxdcInfoMessage" => "news of an app",
        "CallAccepted" => "the beginning of a call",
        "CallEnded" => "the end of a call",
        "MessagePinned" => "a pinned message",
        "MessageUnpinned" => "a message that is not pinned any more",
        // That the chat is encrypted, and the steps until it is.
        "AutocryptSetupMessage" | "ChatE2ee" | "ChatProtectionEnabled" | "ChatProtectionDisabled" => return None,
        "SecurejoinMessage" | "SecurejoinWait" | "SecurejoinWaitTimeout" => return None,
        // What the devices of one person, and apps on different ones, say to each other.
        "MultiDeviceSync" | "IrohNodeAddr" | "WebxdcStatusUpdate" => return None,
        // Each place of a live location, which was told of when it began.
        "LocationOnly" => return None,
        _ => "something",
    })
}

impl types::Message {
    /// What its file is to its readers, if it has one.
    pub(crate) fn sort(&self) -> Option<Sort> {
        Some(match self.view_type.as_str() {
            "Image" | "Gif" => Sort::Image,
            "Video" => Sort::Video,
            "Audio" => Sort::Audio,
            "Voice" => Sort::Voice,
            "Sticker" => Sort::Sticker,
            "File" | "Vcard" | "Webxdc" => Sort::File,
            _ => return None,
        })
    }
}

fn media(message: &types::Message, words: Text, content: Spooled) -> Media {
    let (name, mime) = named(message);
    let side = |side: i64| u32::try_from(side).ok().filter(|side| *side > 0);
    let dimensions = side(message.dimensions_width).zip(side(message.dimensions_height));
    let duration = u64::try_from(message.duration).ok().filter(|long| *long > 0).map(Duration::from_millis);
    let mut media = Media::new(message.sort().unwrap_or(Sort::File), name, mime, content);
    media.dimensions = dimensions.map(|(width, height)| Dimensions { width, height });
    media.duration = duration;
    media.caption = (!words.is_empty()).then(|| Body::plain(words));
    media
}

/// A file that stays behind.
fn absent(message: &types::Message, words: Text, why: Absence) -> Absent {
    let (name, mime) = named(message);
    Absent { name, mime, caption: (!words.is_empty()).then(|| Body::plain(words)), why }
}

fn named(message: &types::Message) -> (FileName, MediaType) {
    let name = FileName::new(message.file_name.as_ref().map_or("", Text::as_str));
    (name, MediaType::new(message.file_mime.as_deref().unwrap_or_default()))
}

/// Whether the engine shows only the first words of a message.
pub(crate) fn is_cut(message: &types::Message) -> bool {
    message.has_html && message.text.as_str().ends_with(page::CUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_people_did_has_words_and_what_is_not_known_has_too() {
        let told = [
            ("GroupDescriptionChanged", "a new description of the conversation"),
            ("LocationStreamingEnabled", "a live location"),
            ("WebxdcInfoMessage", "news of an app"),
            ("CallAccepted", "the beginning of a call"),
            ("CallEnded", "the end of a call"),
            ("MessagePinned", "a pinned message"),
            ("MessageUnpinned", "a message that is not pinned any more"),
            ("InvalidUnencryptedMail", "something"),
            ("Unknown", "something"),
            ("SomethingOfALaterEngine", "something"),
        ];
        for (of, what) in told {
            assert_eq!(not_carried(of), Some(what), "{of}");
            assert!(Kind::UNSUPPORTED.contains(&what), "{what} is not in the list, and lost in the journal");
        }
        let left_out = [
            "AutocryptSetupMessage",
            "ChatE2ee",
            "ChatProtectionDisabled",
            "ChatProtectionEnabled",
            "IrohNodeAddr",
            "LocationOnly",
            "MultiDeviceSync",
            "SecurejoinMessage",
            "SecurejoinWait",
            "SecurejoinWaitTimeout",
            "WebxdcStatusUpdate",
        ];
        assert!(left_out.into_iter().all(|of| not_carried(of).is_none()));
    }
}
