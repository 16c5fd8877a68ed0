//! What was gathered, as one message.

use sealbridge_contract::{Message, inbox::StoreWrite};

use super::{
    Desk, Known, NotTaken, Told,
    brought::{Author, Messages, kept},
    together::Together,
    wording::{self, Digest},
};

impl Author {
    /// The message that tells of all that was gathered under `key`, which is gathered no more. Of its incidents those that
    /// go on are told of alone from their next news on.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn digest(&self, desk: &Desk, key: String, together: &Together) -> Result<Messages, NotTaken> {
        let (mut writes, mut go_on, mut over) = (vec![StoreWrite::delete(key)], 0, 0);
        for key in together.incidents() {
            let Some(known) = self.known(desk, key).await? else { continue };
            if known.told != Told::Later || known.root != together.id {
                continue;
            }
            if known.firing() == 0 {
                over += 1;
                writes.push(StoreWrite::delete(key));
            } else {
                go_on += 1;
                writes.push(StoreWrite::put(key, kept(&Known { told: Told::Together, ..known })));
            }
        }
        let now = desk.clock().now();
        let lines: Vec<_> = together.lines().iter().map(|line| (line.text.as_str(), line.times)).collect();
        let (counts, since) = (together.counts(), together.since);
        let digest = Digest { counts: &counts, lines: &lines, more: together.more(), since, go_on, over };
        let body = self.body(wording::digest(&self.together, &digest));
        let message = Message::of(self.origin().author(), now, self.said(together.severity(), body));
        Ok(Messages { messages: vec![(together.id.clone(), message)], writes })
    }
}
