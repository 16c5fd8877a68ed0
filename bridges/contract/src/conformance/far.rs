//! The far bridge of a carrier: seals what the peer says, and opens what we sent it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    Details, MemorySpool, details,
    harness::{How, Overheard, Say},
};
use crate::{
    Author, Body, Cleartext, ConversationId, DeliveryId, Destination, Kind, Message, Origin, PeerKey, PersonId,
    RemoteId, Rule, SenderTrust, Slip, Text, Timestamp, Trail, Verdict, judge,
    message::{Edit, Form, Location, Poll, Reaction, Target},
};

/// A far bridge, with the key that it shares with us.
#[derive(Clone, Debug)]
pub struct FarBridge {
    key: Arc<PeerKey>,
}

impl FarBridge {
    pub(super) fn new() -> Self {
        Self { key: Arc::new(PeerKey::new(&Zeroizing::new(*super::random_key()))) }
    }

    /// The key, as our side has it.
    #[must_use]
    pub fn key(&self) -> &PeerKey {
        &self.key
    }

    /// Seals what `author` says, as `delivery`.
    ///
    /// # Panics
    /// Never: a far bridge has its key, and no rule of it refuses.
    #[must_use]
    pub fn seal(
        &self,
        delivery: DeliveryId,
        author: &PersonId,
        name: Option<&str>,
        at: Timestamp,
        say: Say,
    ) -> Vec<u8> {
        let kind = kind_of(&say);
        let message = Message::of(Author { id: author.clone(), name: name.map(Text::new) }, at, kind);
        let (message, to) = (Cleartext::new(message), Destination::Carrier(Some(&self.key)));
        let rule = Rule { most_hops: Trail::LONGEST + 1, most_bytes: usize::MAX, ..Rule::default() };
        let Verdict::Seal(sealing) = judge(&message, Origin { sender: SenderTrust::Local, said: &message }, &to, &rule)
        else {
            unreachable!("a carrier whose peer's key is known is sealed for");
        };
        let Say { trail, reply_to, details, .. } = say;
        let Details { about, thread, .. } = details;
        let slip = Slip { trail, reply_to, about, thread, ..Slip::new(ConversationId::new(""), delivery, at) };
        sealing.seal(&slip).as_bytes().to_vec()
    }

    /// Opens what we sent it.
    #[must_use]
    pub fn open(&self, id: RemoteId, bytes: &[u8]) -> Option<Overheard> {
        let (delivery, message) = self.key.open(&crate::Sealed::received(bytes.to_vec()))?;
        let how = How::of(&message.0.kind)?;
        let details = Details::of(&message.0, &MemorySpool::default());
        let words = details::words(&message.0).to_owned();
        let html = message.0.body().and_then(|body| body.html.as_ref()).map(|html| html.as_str().to_owned());
        let Message { author, reply_to, trail, .. } = *message.0;
        Some(Overheard {
            id,
            delivery: Some(delivery),
            author: author.name.map(|name| name.as_str().to_owned()),
            words,
            html,
            how,
            reply_to: reply_to.map(|reply| reply.id),
            trail,
            details,
        })
    }
}

/// What somebody says, as a message. A sealed parcel carries no files, so there are none.
fn kind_of(say: &Say) -> Kind {
    let body = || Body { html: say.html.as_deref().map(Text::new), ..Body::plain(say.words.as_str()) };
    let about = || Target::new(say.details.about.clone().unwrap_or_else(|| RemoteId::new("")));
    let texts = |words: &[String]| words.iter().map(|words| Text::new(words.as_str())).collect();
    match say.how {
        How::Emote => Kind::Emote(body()),
        How::Notice => Kind::Notice(body()),
        How::Edit => Kind::Edit(Box::new(Edit { of: about(), form: Form::Text, body: body() })),
        How::Redaction => Kind::Redaction(about()),
        How::Reaction => Kind::Reaction(Reaction::new(about(), say.details.emoji.iter().cloned())),
        How::Poll => Kind::Poll(Poll { question: say.words.as_str().into(), answers: texts(&say.details.answers) }),
        How::Location => {
            let place = say.details.place.as_deref().unwrap_or_default();
            let place = Location::from_uri(place, Some(say.words.as_str().into()));
            place.map_or_else(|| Kind::Text(body()), Kind::Location)
        }
        _ => Kind::Text(body()),
    }
}
