//! An account's book of people: whose identity is pinned, and who of each conversation was admitted. Kept in the account's
//! store, sealed; read from memory.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::{Admission, Identity, Standing};
use crate::{
    ConversationId, NotAccepted, PersonId, Timestamp,
    inbox::{AccountStore, StoreWrite},
};

const PIN: &str = "pin/";
const ADMITTED: &str = "admitted/";
const VOUCHED: &str = "vouched/";
const LEFT: &str = "left-behind/";
/// So many of one person's are kept, the latest.
const MOST_LEFT: usize = 100;

/// Whose identity is pinned, and who may read where.
#[derive(Debug)]
pub struct Book {
    store: AccountStore,
    pages: RwLock<Pages>,
    /// Held while pages are written, so that no two changes pass each other.
    writing: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Pages {
    pins: HashMap<PersonId, Pin>,
    admitted: HashMap<ConversationId, Admitted>,
    /// Whose identity the network itself vouched for, and which.
    vouched: HashMap<PersonId, Identity>,
    /// Identities that were pinned for somebody and are not any more, the oldest first.
    left: HashMap<PersonId, Vec<Identity>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pin {
    person: PersonId,
    identity: Option<Identity>,
    since: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Admitted {
    turn: u64,
    /// With the identity that each was admitted with: an admission is for one conversation and one identity.
    people: BTreeMap<PersonId, Option<Identity>>,
}

impl Pages {
    /// With which identity somebody was admitted to a conversation.
    fn admitted(&self, conversation: &ConversationId, person: &str) -> Option<&Option<Identity>> {
        self.admitted.get(conversation)?.people.get(person)
    }

    fn pinned(&self, person: &str) -> Option<&Option<Identity>> {
        self.pins.get(person).map(|pin| &pin.identity)
    }

    /// What somebody leaves behind with a new pin, if that changes.
    fn leaving(&self, pin: &Pin) -> Option<Vec<Identity>> {
        let before = self.left.get(&pin.person);
        let mut left = before.cloned().unwrap_or_default();
        left.retain(|left| pin.identity.as_ref() != Some(left));
        let pinned = self.pinned(pin.person.as_str()).cloned().flatten();
        if let Some(pinned) = pinned.filter(|pinned| pin.identity.as_ref() != Some(pinned) && !left.contains(pinned)) {
            left.push(pinned);
            left.drain(..left.len().saturating_sub(MOST_LEFT));
        }
        (before.map(Vec::as_slice).unwrap_or_default() != left).then_some(left)
    }

    fn is_another(&self, conversation: &ConversationId, person: &PersonId) -> bool {
        let (then, now) = (self.admitted(conversation, person.as_str()), self.pinned(person.as_str()));
        matches!((then, now), (Some(Some(then)), Some(Some(now))) if then != now)
    }
}

impl Book {
    /// Reads what was kept. What can't be read is an error, never a book that knows nobody: that would pin anew whoever
    /// is there now.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub async fn load(store: &AccountStore) -> Result<Self, NotAccepted> {
        let mut pages = Pages::default();
        for (_, value) in store.read_all(PIN).await? {
            let pin: Pin = serde_json::from_slice(value.expose()).map_err(|_| NotAccepted::Failed)?;
            pages.pins.insert(pin.person.clone(), pin);
        }
        for (key, value) in store.read_all(ADMITTED).await? {
            let admitted = serde_json::from_slice(value.expose()).map_err(|_| NotAccepted::Failed)?;
            let conversation = key.strip_prefix(ADMITTED).unwrap_or_default();
            pages.admitted.insert(ConversationId::new(conversation), admitted);
        }
        for (_, value) in store.read_all(VOUCHED).await? {
            let (person, identity) = serde_json::from_slice(value.expose()).map_err(|_| NotAccepted::Failed)?;
            pages.vouched.insert(person, identity);
        }
        for (_, value) in store.read_all(LEFT).await? {
            let (person, left) = serde_json::from_slice(value.expose()).map_err(|_| NotAccepted::Failed)?;
            pages.left.insert(person, left);
        }
        Ok(Self { store: store.clone(), pages: RwLock::new(pages), writing: Mutex::default() })
    }

    /// Whether anybody was ever admitted to a conversation.
    #[must_use]
    pub fn is_begun(&self, conversation: &ConversationId) -> bool {
        self.read().admitted.contains_key(conversation)
    }

    /// Which readership of the conversation it is.
    #[must_use]
    pub fn turn(&self, conversation: &ConversationId) -> u64 {
        self.read().admitted.get(conversation).map_or(0, |admitted| admitted.turn)
    }

    /// The identity that was pinned for somebody, and when. The inner `None`: they had none.
    #[must_use]
    pub fn pinned(&self, person: &PersonId) -> Option<(Option<Identity>, Timestamp)> {
        self.read().pins.get(person).map(|pin| (pin.identity.clone(), pin.since))
    }

    /// Remembers that an identity is somebody's by more than their server's word, such as an invitation that they
    /// followed.
    ///
    /// # Errors
    /// [`NotAccepted`]: it was not written.
    pub async fn vouch(&self, person: &PersonId, identity: &Identity) -> Result<(), NotAccepted> {
        let _turn = self.writing.lock().await;
        if self.is_vouched(person, identity) {
            return Ok(());
        }
        let key = hashed(VOUCHED, person);
        self.store.write(vec![StoreWrite::put(key, json(&(person, identity)))]).await?;
        self.pages.write().unwrap_or_else(PoisonError::into_inner).vouched.insert(person.clone(), identity.clone());
        Ok(())
    }

    /// Whether that was said of this identity.
    #[must_use]
    pub fn is_vouched(&self, person: &PersonId, identity: &Identity) -> bool {
        self.read().vouched.get(person) == Some(identity)
    }

    /// Whether an identity was somebody's until another one was admitted or compared in its place. Whatever vouches for it
    /// is from before that.
    #[must_use]
    pub fn is_left_behind(&self, person: &PersonId, identity: &Identity) -> bool {
        self.read().left.get(person).is_some_and(|left| left.contains(identity))
    }

    /// Everybody whose identity is pinned.
    #[must_use]
    pub fn people(&self) -> Vec<PersonId> {
        self.read().pins.keys().cloned().collect()
    }

    /// Whether somebody's identity is another than the one that was pinned.
    #[must_use]
    pub fn contradicts(&self, person: &PersonId, identity: Option<&Identity>) -> bool {
        let pages = self.read();
        let pinned = pages.pins.get(person).and_then(|pin| pin.identity.as_ref());
        matches!((pinned, identity), (Some(pinned), Some(now)) if pinned != now)
    }

    /// Whether somebody was admitted to a conversation with the identity that is pinned, whatever their identity is now.
    #[must_use]
    pub fn is_admitted(&self, conversation: &ConversationId, person: &str) -> bool {
        let pages = self.read();
        let admitted = pages.admitted(conversation, person);
        admitted.is_some() && admitted == pages.pinned(person)
    }

    /// Whether somebody was admitted to a conversation with another identity than the one that is pinned by now: somebody
    /// let them in elsewhere, and nobody here.
    #[must_use]
    pub fn is_another(&self, conversation: &ConversationId, person: &PersonId) -> bool {
        self.read().is_another(conversation, person)
    }

    /// All those of a conversation.
    #[must_use]
    pub fn others(&self, conversation: &ConversationId) -> Vec<PersonId> {
        let pages = self.read();
        let people = pages.admitted.get(conversation).into_iter().flat_map(|admitted| admitted.people.keys());
        people.filter(|person| pages.is_another(conversation, person)).cloned().collect()
    }

    /// How many are admitted to a conversation.
    #[must_use]
    pub fn count(&self, conversation: &ConversationId) -> usize {
        self.read().admitted.get(conversation).map_or(0, |admitted| admitted.people.len())
    }

    /// How somebody stands who is in a conversation and has this identity.
    #[must_use]
    pub fn standing(&self, conversation: &ConversationId, person: &PersonId, identity: Option<&Identity>) -> Standing {
        let pages = self.read();
        let Some(pinned) = pages.pinned(person.as_str()) else { return Standing::New };
        let admitted = pages.admitted(conversation, person.as_str());
        match (pinned, identity) {
            (Some(pinned), Some(now)) if pinned != now => return Standing::Changed,
            // Who had no identity, and was admitted so, is a reader that nobody was told of.
            (None, Some(_)) => return Standing::New,
            _ => {}
        }
        match (admitted, pinned) {
            // Another identity was let in elsewhere, which says nothing here.
            (Some(Some(then)), Some(now)) if then != now => Standing::Changed,
            (Some(then), now) if then == now => identity.map_or(Standing::NoIdentity, |_| Standing::Reads),
            _ => Standing::New,
        }
    }

    /// Begins a conversation with those who are in it, unless that was done. Of somebody who is known from elsewhere the
    /// pin stands, whatever their identity is now.
    ///
    /// # Errors
    /// [`NotAccepted`]: nobody was admitted.
    pub async fn begin(
        &self,
        conversation: &ConversationId,
        people: &[Admission],
        now: Timestamp,
    ) -> Result<(), NotAccepted> {
        let _turn = self.writing.lock().await;
        if self.is_begun(conversation) {
            return Ok(());
        }
        self.write(conversation, people, now, false).await
    }

    /// Admits people to a conversation, and pins them as they are: whoever decided that has seen what they were before.
    ///
    /// # Errors
    /// [`NotAccepted`]: nobody was admitted.
    pub async fn admit(
        &self,
        conversation: &ConversationId,
        people: &[Admission],
        now: Timestamp,
    ) -> Result<(), NotAccepted> {
        let _turn = self.writing.lock().await;
        self.write(conversation, people, now, true).await
    }

    async fn write(
        &self,
        conversation: &ConversationId,
        people: &[Admission],
        now: Timestamp,
        replaces_pins: bool,
    ) -> Result<(), NotAccepted> {
        let (mut admitted, mut pins, mut writes) = (Admitted::default(), Vec::new(), Vec::new());
        let mut left = Vec::new();
        {
            let pages = self.read();
            if let Some(before) = pages.admitted.get(conversation) {
                admitted.clone_from(before);
            }
            for Admission { person, identity } in people {
                let known = pages.pins.get(person);
                let stands = known.filter(|pin| pin.identity == *identity || !replaces_pins);
                if stands.is_none() {
                    let pin = Pin { person: person.clone(), identity: identity.clone(), since: now };
                    left.extend(pages.leaving(&pin).map(|left| (person.clone(), left)));
                    pins.push(pin);
                }
                let admitted_with = stands.map_or(identity, |pin| &pin.identity);
                admitted.people.insert(person.clone(), admitted_with.clone());
            }
        }
        admitted.turn += 1;
        writes.push(page(conversation, &admitted));
        writes.extend(pins.iter().map(|pin| StoreWrite::put(hashed(PIN, &pin.person), json(pin))));
        writes.extend(left.iter().map(left_behind));
        self.store.write(writes).await?;
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.left.extend(left);
        pages.admitted.insert(conversation.clone(), admitted);
        pages.pins.extend(pins.into_iter().map(|pin| (pin.person.clone(), pin)));
        Ok(())
    }

    /// Pins somebody anew, wherever they are: people compared their identities.
    ///
    /// # Errors
    /// [`NotAccepted`]: the pin stays as it was.
    pub async fn pin_anew(&self, who: &Admission, now: Timestamp) -> Result<(), NotAccepted> {
        let _turn = self.writing.lock().await;
        let pin = Pin { person: who.person.clone(), identity: who.identity.clone(), since: now };
        let mut writes = vec![StoreWrite::put(hashed(PIN, &pin.person), json(&pin))];
        let left = self.read().leaving(&pin).map(|left| (pin.person.clone(), left));
        writes.extend(left.iter().map(left_behind));
        // Whoever was admitted without an identity is told of all the same.
        let changed = self.changed(&who.person, |admitted| {
            if let (Some(then), Some(now)) = (admitted.people.get_mut(&who.person), &who.identity)
                && then.is_some()
            {
                *then = Some(now.clone());
            }
        });
        writes.extend(changed.iter().map(|(at, admitted)| page(at, admitted)));
        self.store.write(writes).await?;
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.pins.insert(pin.person.clone(), pin);
        pages.admitted.extend(changed);
        pages.left.extend(left);
        Ok(())
    }

    /// The admissions of every conversation in which a change makes another of them, as they are then.
    fn changed(&self, person: &PersonId, change: impl Fn(&mut Admitted)) -> Vec<(ConversationId, Admitted)> {
        let pages = self.read();
        let theirs = pages.admitted.iter().filter(|(_, admitted)| admitted.people.contains_key(person));
        let changed = theirs.filter_map(|(at, before)| {
            let mut admitted = before.clone();
            change(&mut admitted);
            (admitted != *before).then(|| (at.clone(), admitted))
        });
        changed.collect()
    }

    /// Those of a conversation who are not in it any more are new when they come back.
    ///
    /// # Errors
    /// [`NotAccepted`]: nothing was changed.
    pub async fn keep_only(
        &self,
        conversation: &ConversationId,
        present: impl Fn(&PersonId) -> bool + Send,
    ) -> Result<(), NotAccepted> {
        let _turn = self.writing.lock().await;
        let Some(mut admitted) = self.read().admitted.get(conversation).cloned() else { return Ok(()) };
        let before = admitted.people.len();
        admitted.people.retain(|person, _| present(person));
        if admitted.people.len() == before {
            return Ok(());
        }
        self.store.write(vec![page(conversation, &admitted)]).await?;
        self.pages.write().unwrap_or_else(PoisonError::into_inner).admitted.insert(conversation.clone(), admitted);
        Ok(())
    }

    /// Forgets somebody: they are new wherever they are. False: nobody is known by that name.
    ///
    /// # Errors
    /// [`NotAccepted`]: nothing was changed.
    pub async fn forget(&self, person: &PersonId) -> Result<bool, NotAccepted> {
        let _turn = self.writing.lock().await;
        if !self.read().pins.contains_key(person) {
            return Ok(false);
        }
        // A pin that comes back must not bring the admissions back.
        let changed = self.changed(person, |admitted| drop(admitted.people.remove(person)));
        let mut writes = vec![StoreWrite::delete(hashed(PIN, person))];
        writes.extend(changed.iter().map(|(at, admitted)| page(at, admitted)));
        self.store.write(writes).await?;
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.pins.remove(person);
        pages.admitted.extend(changed);
        Ok(true)
    }

    fn read(&self) -> RwLockReadGuard<'_, Pages> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys of the store lie in clear, so they don't name people.
fn hashed(prefix: &str, person: &PersonId) -> String {
    let digest = Sha256::digest(person.as_str().as_bytes());
    digest.iter().take(16).fold(prefix.to_owned(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    })
}

fn page(at: &ConversationId, admitted: &Admitted) -> StoreWrite {
    StoreWrite::put(format!("{ADMITTED}{}", at.as_str()), json(admitted))
}

fn left_behind(left: &(PersonId, Vec<Identity>)) -> StoreWrite {
    StoreWrite::put(hashed(LEFT, &left.0), json(left))
}

fn json(page: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(page).expect("names, keys and numbers serialise")
}

#[cfg(test)]
mod tests;
