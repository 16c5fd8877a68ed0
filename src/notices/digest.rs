//! What was gathered, as one message.

use sealbridge_contract::{Body, Kind, Message, RemoteId, SecretBytes, Target, inbox::StoreWrite};

use super::{
    Acknowledged, Desk, Known, NotTaken, Told,
    brought::{Author, Messages, forget, kept},
    together::Together,
    wording::{self, Digest},
};

/// Where it is kept of which incidents that go on a digest tells.
pub(super) const DIGESTS: &str = "digest/";

impl Author {
    /// The message that tells of all that was gathered under `key`, which is gathered no more. Of its incidents those that
    /// go on are told of alone from their next news on.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn digest(&self, desk: &Desk, key: String, together: &Together) -> Result<Messages, NotTaken> {
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
                go_on.push(key);
                writes.push(StoreWrite::put(key, kept(&Known { told: Told::Together, ..known })));
            }
        }
        if !go_on.is_empty() {
            let keys = serde_json::to_vec(&go_on).expect("texts");
            writes.push(StoreWrite::put(told_by(&together.id), SecretBytes::new(keys)));
        }
        let (now, go_on) = (desk.clock().now(), go_on.len());
        let lines: Vec<_> = together.lines().iter().map(|line| (line.text.as_str(), line.times)).collect();
        let (counts, since) = (together.counts(), together.since);
        let digest = Digest { counts: &counts, lines: &lines, more: together.more(), since, go_on, over };
        let body = self.body(wording::digest(&self.together, &digest));
        let message = Message::of(self.origin().author(), now, self.said(together.severity(), body));
        Ok(Messages { messages: vec![(together.id.clone(), message)], writes, ..Messages::default() })
    }
    /// Somebody says that they look after what goes on of a digest, or no longer. `None`: nothing changes by it.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn acknowledged_together(
        &self,
        desk: &Desk,
        digest: &RemoteId,
        by: &str,
        (looks_after, proven): (bool, bool),
    ) -> Result<Option<Messages>, NotTaken> {
        let keys = desk.kept(&told_by(digest)).await?;
        let keys: Vec<String> = keys.and_then(|keys| serde_json::from_slice(keys.expose()).ok()).unwrap_or_default();
        let (mut writes, now) = (Vec::new(), desk.clock().now());
        for key in keys {
            let known = self.known(desk, &key).await?;
            // What has a message of its own since is looked after by that.
            let Some(known) = known.filter(|known| known.told == Told::Together && known.root == *digest) else {
                continue;
            };
            if known.may_be_acknowledged(by, looks_after, proven) {
                let acknowledged = looks_after.then(|| Acknowledged { by: by.to_owned(), at: now, proven });
                writes.push(StoreWrite::put(key, kept(&Known { acknowledged, ..known })));
            }
        }
        if writes.is_empty() {
            return Ok(None);
        }
        let words = match (looks_after, proven) {
            (true, true) => format!("👀 {by} sees to what of this goes on"),
            (true, false) => format!("👀 {by} sees to what of this goes on, by a reaction, which servers can make up"),
            (false, _) => format!("{by} sees to this no longer"),
        };
        let message = Message::of(self.origin().author(), now, Kind::Notice(Body::plain(words)));
        let message = Message { thread: Some(Target::new(digest.clone())), ..message };
        Ok(Some(Messages { messages: vec![(Desk::fresh_id(), message)], writes, ..Messages::default() }))
    }
}

fn told_by(digest: &RemoteId) -> String {
    format!("{DIGESTS}{}", digest.as_str())
}
