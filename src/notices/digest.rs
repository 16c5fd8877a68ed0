//! What was gathered, as one message.

use sealbridge_contract::{Body, Kind, Message, RemoteId, SecretBytes, Target, inbox::StoreWrite};

use super::{
    Desk, Known, NotTaken, Told, Who,
    brought::{Author, Messages},
    keeping::{forget, kept},
    together::Together,
    wording,
};

/// Where it is kept of which incidents that go on a digest tells.
pub(super) const DIGESTS: &str = "digest/";

impl Author {
    /// The message that tells of all that was gathered under `key`, which is gathered no more. Of its incidents those that
    /// go on are told of alone from their next news on, and are named.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn digest(
        &self,
        desk: &Desk,
        key: String,
        together: &Together,
    ) -> Result<(Messages, Vec<String>), NotTaken> {
        let (mut writes, mut go_on, mut over) = (vec![StoreWrite::delete(key)], Vec::new(), 0);
        for key in together.incidents() {
            let Some(known) = self.known(desk, key).await? else { continue };
            if known.told != Told::Later || known.root != together.id {
                continue;
            }
            if known.firing() == 0 {
                over += 1;
                writes.extend(forget(key, &known));
            } else {
                go_on.push(key.clone());
                writes.push(StoreWrite::put(key, kept(&Known { told: Told::Together, ..known })));
            }
        }
        if !go_on.is_empty() {
            writes.push(tells_of(&together.id, &go_on));
        }
        let digest = together.as_digest((go_on.len(), over), None);
        let body = self.body(wording::digest(&self.together, &digest));
        let at = match together.may_be_said_before(desk.doubt()) {
            true => desk.dated(self.origin(), together.since),
            false => desk.clock().now(),
        };
        let message = Message::of(self.origin().author(), at, self.said(together.severity(), body));
        Ok((Messages { messages: vec![(together.id.clone(), message)], writes, ..Messages::default() }, go_on))
    }

    /// Somebody says that they look after what goes on of what a message told of several incidents, or no longer. `None`:
    /// nothing changes by it.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn acknowledged_together(
        &self,
        desk: &Desk,
        digest: &RemoteId,
        by: Who<'_>,
        (looks_after, proven): (bool, bool),
    ) -> Result<Option<Messages>, NotTaken> {
        let keys = desk.kept(&told_by(digest)).await?;
        let keys: Vec<String> = keys.and_then(|keys| serde_json::from_slice(keys.expose()).ok()).unwrap_or_default();
        let (mut all, mut elsewhere, now) = (Messages::default(), false, desk.clock().now());
        for key in keys {
            let Some(known) = self.known(desk, &key).await? else { continue };
            let is_escalated = known.escalated.as_ref() == Some(digest) || known.said.contains(digest);
            // What has a message of its own since is looked after by that.
            let is_told = is_escalated || known.told == Told::Together && known.root == *digest;
            if is_told && known.may_be_acknowledged(by, looks_after, proven) {
                let acknowledged = looks_after.then(|| by.acknowledges(now, proven));
                let made = self.as_it_is(desk, key, &Known { acknowledged, ..known });
                all.messages.extend(made.messages);
                all.writes.extend(made.writes);
                all.beside.extend(made.beside);
                elsewhere |= is_escalated;
            }
        }
        if all.writes.is_empty() {
            return Ok(None);
        }
        let by = by.name;
        let words = match (looks_after, proven) {
            (true, true) => format!("👀 {by} sees to what of this goes on"),
            (true, false) => format!("👀 {by} sees to what of this goes on, by a reaction, which servers can make up"),
            (false, _) => format!("{by} sees to this no longer"),
        };
        let message = Message::of(self.origin().author(), now, Kind::Notice(Body::plain(words)));
        let message = Message { thread: Some(Target::new(digest.clone())), ..message };
        match self.next().filter(|_| elsewhere) {
            Some(next) => all.beside.push((next.address().clone(), Desk::fresh_id(), message)),
            None => all.messages.push((Desk::fresh_id(), message)),
        }
        Ok(Some(all))
    }
}

/// Of which incidents a message tells.
pub(super) fn tells_of(message: &RemoteId, incidents: &[String]) -> StoreWrite {
    StoreWrite::put(told_by(message), SecretBytes::new(serde_json::to_vec(incidents).expect("texts")))
}

fn told_by(message: &RemoteId) -> String {
    format!("{DIGESTS}{}", message.as_str())
}
