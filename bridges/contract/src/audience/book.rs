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

    /// Those who were admitted to a conversation with another identity than the one that is pinned by now: somebody let
    /// them in elsewhere, and nobody here.
    #[must_use]
    pub fn others(&self, conversation: &ConversationId) -> Vec<PersonId> {
        let pages = self.read();
        let Some(admitted) = pages.admitted.get(conversation) else { return Vec::new() };
        let is_other = |(person, admitted): &(&PersonId, &Option<Identity>)| matches!((admitted, pages.pinned(person.as_str())), (Some(then), Some(Some(now))) if then != now);
        admitted.people.iter().filter(is_other).map(|(person, _)| person.clone()).collect()
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
        self.write(conversation, people, now, |_| false).await
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
        self.write(conversation, people, now, |_| true).await
    }

    async fn write(
        &self,
        conversation: &ConversationId,
        people: &[Admission],
        now: Timestamp,
        replaces: impl Fn(&Pin) -> bool + Send + Sync,
    ) -> Result<(), NotAccepted> {
        let (mut admitted, mut pins, mut writes) = (Admitted::default(), Vec::new(), Vec::new());
        {
            let pages = self.read();
            if let Some(before) = pages.admitted.get(conversation) {
                admitted.clone_from(before);
            }
            for Admission { person, identity } in people {
                let known = pages.pins.get(person);
                let stands = known.filter(|pin| pin.identity == *identity || !replaces(pin));
                if stands.is_none() {
                    pins.push(Pin { person: person.clone(), identity: identity.clone(), since: now });
                }
                let admitted_with = stands.map_or(identity, |pin| &pin.identity);
                admitted.people.insert(person.clone(), admitted_with.clone());
            }
        }
        admitted.turn += 1;
        writes.push(page(conversation, &admitted));
        writes.extend(pins.iter().map(|pin| StoreWrite::put(hashed(PIN, &pin.person), json(pin))));
        self.store.write(writes).await?;
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
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
        Ok(())
    }

    /// The admissions of every conversation to which somebody was admitted, as they are to be.
    fn changed(&self, person: &PersonId, change: impl Fn(&mut Admitted)) -> Vec<(ConversationId, Admitted)> {
        let pages = self.read();
        let theirs = pages.admitted.iter().filter(|(_, admitted)| admitted.people.contains_key(person));
        theirs
            .map(|(at, admitted)| {
                let mut admitted = admitted.clone();
                change(&mut admitted);
                (at.clone(), admitted)
            })
            .collect()
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

fn json(page: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(page).expect("names, keys and numbers serialise")
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use async_trait::async_trait;

    use super::*;
    use crate::{
        AccountName,
        audience::Standing::{Changed, New, NoIdentity, Reads},
        inbox::{Batch, Filling, Intake, Keep, OpenGap, Parcel, Resolution, Waiting, WaitingFor},
        text::SecretBytes,
    };

    const NOW: Timestamp = Timestamp(1_000);

    /// An account's store, and nothing else of the journey.
    #[derive(Default)]
    struct StoreOnly(Mutex<BTreeMap<String, Vec<u8>>>);

    #[async_trait]
    impl Intake for StoreOnly {
        async fn read(&self, _: &AccountName, key: &str) -> Result<Option<SecretBytes>, NotAccepted> {
            Ok(self.0.lock().expect("it is whole").get(key).map(|value| SecretBytes::new(value.clone())))
        }

        async fn read_all(&self, _: &AccountName, prefix: &str) -> Result<Vec<(String, SecretBytes)>, NotAccepted> {
            let all = self.0.lock().expect("it is whole");
            let under = all.iter().filter(|(key, _)| key.starts_with(prefix));
            Ok(under.map(|(key, value)| (key.clone(), SecretBytes::new(value.clone()))).collect())
        }

        async fn write(&self, _: &AccountName, writes: Vec<StoreWrite>) -> Result<(), NotAccepted> {
            let mut all = self.0.lock().expect("it is whole");
            for StoreWrite { key, value } in writes {
                match value {
                    Some(value) => drop(all.insert(key, value.expose().to_vec())),
                    None => drop(all.remove(&key)),
                }
            }
            Ok(())
        }

        async fn accept(&self, _: &AccountName, _: Batch) -> Result<(), NotAccepted> {
            Err(NotAccepted::Failed)
        }

        async fn accept_sealed(&self, _: &AccountName, _: Vec<Parcel>, _: Vec<StoreWrite>) -> Result<(), NotAccepted> {
            Err(NotAccepted::Failed)
        }

        async fn open_gaps(&self, _: &AccountName) -> Result<Vec<OpenGap>, NotAccepted> {
            Err(NotAccepted::Failed)
        }

        async fn fill(&self, _: &AccountName, _: Filling) -> Result<(), NotAccepted> {
            Err(NotAccepted::Failed)
        }

        async fn waiting(&self, _: &AccountName, _: WaitingFor, _: i64, _: usize) -> Result<Vec<Waiting>, NotAccepted> {
            Err(NotAccepted::Failed)
        }

        async fn resolve(&self, _: &AccountName, _: i64, _: Resolution) -> Result<(), NotAccepted> {
            Err(NotAccepted::Failed)
        }

        async fn prune(&self, _: &AccountName, _: &str, _: Keep) -> Result<usize, NotAccepted> {
            Err(NotAccepted::Failed)
        }
    }

    fn store() -> AccountStore {
        AccountStore::new(AccountName::parse("home").expect("it is a name"), Arc::new(StoreOnly::default()))
    }

    fn who(person: &str, identity: Option<&str>) -> Admission {
        Admission { person: PersonId::new(person), identity: identity.map(Identity::new) }
    }

    fn stands(book: &Book, at: &str, person: &str, identity: Option<&str>) -> Standing {
        let identity = identity.map(Identity::new);
        book.standing(&ConversationId::new(at), &PersonId::new(person), identity.as_ref())
    }

    #[tokio::test]
    async fn whoever_was_there_at_first_reads_and_whoever_comes_later_is_new_also_after_a_restart() {
        let (store, room) = (store(), ConversationId::new("room"));
        let book = Book::load(&store).await.expect("it is empty");
        assert!(!book.is_begun(&room));
        book.begin(&room, &[who("ann", Some("A")), who("bob", None)], NOW).await.expect("it is written");
        // The second beginning is none.
        book.begin(&room, &[who("eve", Some("E"))], NOW).await.expect("it was begun");
        for book in [&book, &Book::load(&store).await.expect("it was kept")] {
            assert!(book.is_begun(&room));
            assert_eq!(stands(book, "room", "ann", Some("A")), Reads);
            assert_eq!(stands(book, "room", "ann", None), NoIdentity);
            assert_eq!(stands(book, "room", "bob", None), NoIdentity);
            assert_eq!(stands(book, "room", "bob", Some("B")), New, "nobody was told of a reader");
            assert_eq!(stands(book, "room", "eve", Some("E")), New);
            assert_eq!(stands(book, "elsewhere", "ann", Some("A")), New, "each conversation by itself");
        }
    }

    #[tokio::test]
    async fn another_identity_is_a_changed_one_everywhere_until_somebody_admits_it() {
        let (store, [one, two]) = (store(), ["one", "two"].map(ConversationId::new));
        let book = Book::load(&store).await.expect("it is empty");
        book.begin(&one, &[who("ann", Some("A"))], NOW).await.expect("it is written");
        // What was pinned in one conversation stands in the other, whatever the server says now.
        book.begin(&two, &[who("ann", Some("X"))], NOW).await.expect("it is written");
        for at in ["one", "two"] {
            assert_eq!(stands(&book, at, "ann", Some("X")), Changed);
            assert_eq!(stands(&book, at, "ann", Some("A")), Reads);
        }
        assert!(book.contradicts(&PersonId::new("ann"), Some(&Identity::new("X"))));
        assert!(!book.contradicts(&PersonId::new("ann"), None));
        let turn = book.turn(&one);
        book.admit(&one, &[who("ann", Some("X"))], Timestamp(2_000)).await.expect("it is written");
        assert_eq!(book.turn(&one), turn + 1);
        let book = Book::load(&store).await.expect("it was kept");
        assert_eq!(stands(&book, "one", "ann", Some("X")), Reads);
        assert_eq!(stands(&book, "one", "ann", Some("A")), Changed);
        let pinned = book.pinned(&PersonId::new("ann"));
        assert_eq!(pinned, Some((Some(Identity::new("X")), Timestamp(2_000))));
    }

    #[tokio::test]
    async fn who_left_or_was_forgotten_is_new() {
        let (store, room) = (store(), ConversationId::new("room"));
        let book = Book::load(&store).await.expect("it is empty");
        book.begin(&room, &[who("ann", Some("A")), who("bob", Some("B"))], NOW).await.expect("it is written");
        book.keep_only(&room, |person| person.as_str() == "ann").await.expect("it is written");
        book.vouch(&PersonId::new("ann"), &Identity::new("A")).await.expect("it is written");
        assert!(book.forget(&PersonId::new("ann")).await.expect("it is written"));
        assert!(!book.forget(&PersonId::new("ann")).await.expect("nobody is known"));
        for book in [&book, &Book::load(&store).await.expect("it was kept")] {
            assert_eq!(stands(book, "room", "ann", Some("A")), New);
            assert_eq!(stands(book, "room", "ann", Some("X")), New, "what was pinned is forgotten");
            assert!(book.is_vouched(&PersonId::new("ann"), &Identity::new("A")), "what was seen was seen");
            assert!(!book.is_vouched(&PersonId::new("ann"), &Identity::new("X")));
            assert_eq!(stands(book, "room", "bob", Some("B")), New);
            assert_eq!(stands(book, "room", "bob", Some("X")), Changed, "who left keeps their pin");
        }
    }

    #[tokio::test]
    async fn admission_is_for_one_conversation_and_one_identity() {
        let (store, [one, two]) = (store(), ["one", "two"].map(ConversationId::new));
        let book = Book::load(&store).await.expect("it is empty");
        for at in [&one, &two] {
            book.begin(at, &[who("ann", None), who("bob", Some("B"))], NOW).await.expect("it is written");
        }
        // An identity appears. Whoever lets it in in one conversation says nothing about the other.
        book.admit(&one, &[who("ann", Some("A"))], NOW).await.expect("it is written");
        // Another identity is approved in one of them.
        book.admit(&one, &[who("bob", Some("X"))], NOW).await.expect("it is written");
        for book in [&book, &Book::load(&store).await.expect("it was kept")] {
            assert_eq!(stands(book, "one", "ann", Some("A")), Reads);
            assert_eq!(stands(book, "two", "ann", Some("A")), New);
            assert!(book.is_admitted(&one, "ann") && !book.is_admitted(&two, "ann"));
            assert_eq!(stands(book, "one", "bob", Some("X")), Reads);
            assert_eq!(stands(book, "two", "bob", Some("X")), Changed);
            assert!(book.is_admitted(&one, "bob") && !book.is_admitted(&two, "bob"));
            assert_eq!((book.others(&one), book.others(&two)), (vec![], vec![PersonId::new("bob")]));
        }
        // Comparing it is about the person, wherever they are; who had no identity is told of all the same.
        book.pin_anew(&who("bob", Some("Y")), NOW).await.expect("it is written");
        assert_eq!((stands(&book, "one", "bob", Some("Y")), stands(&book, "two", "bob", Some("Y"))), (Reads, Reads));
        book.pin_anew(&who("ann", Some("A")), NOW).await.expect("it is written");
        assert_eq!(stands(&book, "two", "ann", Some("A")), New);
    }

    #[tokio::test]
    async fn who_was_forgotten_is_new_everywhere_also_once_they_are_pinned_again() {
        let (store, [one, two]) = (store(), ["one", "two"].map(ConversationId::new));
        let book = Book::load(&store).await.expect("it is empty");
        book.begin(&one, &[who("ann", Some("A"))], NOW).await.expect("it is written");
        assert!(book.forget(&PersonId::new("ann")).await.expect("it is written"));
        book.begin(&two, &[who("ann", Some("A"))], NOW).await.expect("it is written");
        for book in [&book, &Book::load(&store).await.expect("it was kept")] {
            assert_eq!((stands(book, "one", "ann", Some("A")), stands(book, "two", "ann", Some("A"))), (New, Reads));
            assert!(!book.is_admitted(&one, "ann"));
        }
    }

    #[tokio::test]
    async fn page_that_cant_be_read_is_no_empty_book() {
        let store = store();
        store.write(vec![StoreWrite::put(format!("{PIN}00"), b"{".to_vec())]).await.expect("it is written");
        assert!(Book::load(&store).await.is_err());
    }

    #[test]
    fn store_key_names_nobody() {
        assert!(!hashed(PIN, &PersonId::new("@ann:example.org")).contains("ann"));
    }
}
