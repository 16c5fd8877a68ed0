//! The far bridge of a carrier: seals what the peer says, and opens what we sent it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::harness::{How, Overheard, Say};
use crate::{
    Author, Body, Cleartext, ConversationId, DeliveryId, Destination, Kind, Message, Origin, PeerKey, PersonId,
    RemoteId, Rule, SenderTrust, Slip, Text, Timestamp, Trail, Verdict, judge, message::Caveats,
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
        let body = Body { plain: say.words.into(), html: say.html.map(Text::new) };
        let message = Message {
            author: Author { id: author.clone(), name: name.map(Text::new) },
            sent_at: at,
            kind: match say.how {
                How::Text => Kind::Text(body),
                How::Emote => Kind::Emote(body),
                How::Notice => Kind::Notice(body),
            },
            reply_to: None,
            trail: Trail::default(),
            caveats: Caveats::default(),
        };
        let (message, to) = (Cleartext::new(message), Destination::Carrier(Some(&self.key)));
        let rule = Rule { most_hops: Trail::LONGEST + 1, most_bytes: usize::MAX, ..Rule::default() };
        let Verdict::Seal(sealing) = judge(&message, Origin { sender: SenderTrust::Local }, &to, &rule) else {
            unreachable!("a carrier whose peer's key is known is sealed for");
        };
        let slip = Slip {
            to: ConversationId::new(""),
            delivery,
            attempt: 0,
            enqueued_at: at,
            trail: say.trail,
            reply_to: say.reply_to,
        };
        sealing.seal(&slip).as_bytes().to_vec()
    }

    /// Opens what we sent it.
    #[must_use]
    pub fn open(&self, id: RemoteId, bytes: &[u8]) -> Option<Overheard> {
        let (delivery, message) = self.key.open(&crate::Sealed::received(bytes.to_vec()))?;
        let Message { author, kind, reply_to, trail, .. } = message.0;
        let (how, body) = match kind {
            Kind::Text(body) => (How::Text, body),
            Kind::Emote(body) => (How::Emote, body),
            Kind::Notice(body) => (How::Notice, body),
            Kind::Unsupported { .. } => return None,
        };
        let own = |text: Text| text.as_str().to_owned();
        Some(Overheard {
            id,
            delivery: Some(delivery),
            author: author.name.map(own),
            words: own(body.plain),
            html: body.html.map(own),
            how,
            reply_to: reply_to.map(|reply| reply.id),
            trail,
        })
    }
}
