//! Reactions: Matrix tells each by itself, and what is handed in is the whole set of a person.

use ruma::OwnedUserId;
use sealbridge_contract::{
    Kind, PersonId, RemoteId, SecretBytes, Target,
    inbox::{Resolution, StoreWrite},
    message::{Tally, is_standard},
};
use serde_json::json;

use super::{Later, Work, refused};
use crate::{
    prune::{REACTED, TAKEN_BACK, TALLY},
    rooms::Appearance,
    translate,
};

impl Work<'_> {
    /// A reaction adds to what its sender reacts with.
    pub(super) async fn reaction(&self) -> Result<Resolution, Later> {
        let Some((of, emoji)) = translate::annotated(self.opened.content()) else {
            return Ok(refused("the reaction is malformed"));
        };
        if !is_standard(emoji) {
            return Ok(refused("it reacts with something that is no emoji of Unicode's own list"));
        }
        let id = self.opened.id();
        if self.core.store.read(&format!("{TAKEN_BACK}{}", id.as_str())).await?.is_some() {
            return Ok(Resolution::NotForUs);
        }
        let mut tally = self.tally(&of).await?;
        let person = PersonId::new(self.opened.sender().as_str());
        // Seen once before and not committed, it changes nothing and is told all the same.
        tally.add(&person, emoji, Some(id));
        // One of too many is not kept, and so can't be taken back.
        if tally.has(id) {
            let whose = json!([of.as_str(), person.as_str()]).to_string().into_bytes();
            let writes = vec![
                StoreWrite::put(format!("{TALLY}{}", of.as_str()), tally.to_bytes()),
                StoreWrite::put(format!("{REACTED}{}", id.as_str()), whose),
            ];
            self.core.store.write(writes).await?;
        }
        let reaction = tally.reaction(&person, Target::new(of));
        Ok(self.readable(Some(self.reader().telling(Kind::Reaction(reaction)))))
    }

    async fn tally(&self, of: &RemoteId) -> Result<Tally, Later> {
        let kept = self.core.store.read(&format!("{TALLY}{}", of.as_str())).await?;
        Ok(kept.map(|kept| Tally::from_bytes(&kept)).unwrap_or_default())
    }

    /// Remembers that a reaction was taken back that was not seen yet: it may lie in a stretch that is still missing, and
    /// be shown there as it was.
    pub(super) async fn not_to_come(&self, reaction: &RemoteId) -> Result<(), Later> {
        let write = StoreWrite::put(format!("{TAKEN_BACK}{}", reaction.as_str()), b"1".as_slice());
        Ok(self.core.store.write(vec![write]).await?)
    }

    pub(super) async fn reaction_back(&self, reaction: &RemoteId, kept: &SecretBytes) -> Result<Resolution, Later> {
        let kept: Option<(String, OwnedUserId)> = serde_json::from_slice(kept.expose()).ok();
        let Some((target, user)) = kept else { return Ok(Resolution::NotForUs) };
        let (target, person) = (RemoteId::new(target), PersonId::new(user.as_str()));
        let mut tally = self.tally(&target).await?;
        // Taken out once before and not committed, it is told all the same.
        tally.remove(reaction);
        if !self.may_redact(&user).await? {
            return Ok(refused("its sender may not take back reactions of others"));
        }
        let key = format!("{TALLY}{}", target.as_str());
        let write = if tally.is_empty() { StoreWrite::delete(key) } else { StoreWrite::put(key, tally.to_bytes()) };
        self.core.store.write(vec![write]).await?;
        let left = Kind::Reaction(tally.reaction(&person, Target::new(target)));
        // It is the one who reacted who reacts less now, whoever saw to that.
        let nobody = Appearance::default();
        let looks = if user == self.opened.sender() { &self.looks } else { &nobody };
        let whose = translate::Reader { sender: &user, looks, ..self.reader() };
        Ok(self.readable(Some(whose.telling(left))))
    }
}
