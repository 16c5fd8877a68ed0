//! What a book keeps, and what it forgets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use super::*;
use crate::{
    AccountName,
    audience::{
        Member, Proof,
        Standing::{Changed, New, NoIdentity, Reads},
    },
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
async fn identity_that_another_took_the_place_of_is_left_behind_until_it_is_admitted_or_compared_again() {
    let (store, room, ann) = (store(), ConversationId::new("room"), PersonId::new("ann"));
    let book = Book::load(&store).await.expect("it is empty");
    let left = |book: &Book| {
        ["A", "B", "C"].into_iter().filter(|key| book.is_left_behind(&ann, &Identity::new(*key))).collect::<String>()
    };
    book.begin(&room, &[who("ann", Some("A"))], NOW).await.expect("it is written");
    assert_eq!(left(&book), "");
    book.admit(&room, &[who("ann", Some("B"))], NOW).await.expect("it is written");
    book.admit(&room, &[who("ann", Some("B"))], NOW).await.expect("it is written");
    assert_eq!(left(&book), "A");
    book.pin_anew(&who("ann", Some("C")), NOW).await.expect("it is written");
    assert_eq!((left(&book), left(&Book::load(&store).await.expect("it was kept"))), ("AB".into(), "AB".into()));
    book.admit(&room, &[who("ann", Some("A"))], NOW).await.expect("it is written");
    assert_eq!(left(&book), "BC");
    book.pin_anew(&who("ann", Some("B")), NOW).await.expect("it is written");
    assert!(book.forget(&ann).await.expect("it is written"));
    assert_eq!(left(&Book::load(&store).await.expect("it was kept")), "AC", "who is forgotten is nobody else by that");
    assert!(!book.is_left_behind(&PersonId::new("eve"), &Identity::new("A")));
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
async fn identity_that_is_hidden_for_a_while_is_not_forgotten_and_another_one_after_it_is_changed() {
    let store = store();
    let book = Book::load(&store).await.expect("it can be read");
    book.begin(&ConversationId::new("room"), &[who("ann", Some("A"))], NOW).await.expect("it is written");
    // A new device of ours knows nobody, and the server says that she went and came without an identity.
    book.keep_only(&ConversationId::new("room"), |_| false).await.expect("it is written");
    assert_eq!(stands(&book, "room", "ann", None), New);
    let member = Member {
        person: PersonId::new("ann"),
        name: None,
        identity: None,
        pinned: Some(Identity::new("A")),
        as_pinned: false,
        proof: Proof::Unknown,
        since: Some(NOW),
        standing: New,
        devices: Vec::new(),
    };
    book.admit(&ConversationId::new("room"), &[Admission::unseen(&member)], NOW).await.expect("it is written");
    assert_eq!(stands(&book, "room", "ann", None), NoIdentity);
    assert_eq!(stands(&book, "room", "ann", Some("B")), Changed, "not appeared for the first time");
    assert_eq!(stands(&book, "room", "ann", Some("A")), Reads);
    assert!(book.contradicts(&PersonId::new("ann"), Some(&Identity::new("B"))));
    // Whoever has looked may say that they have none any more.
    book.admit(&ConversationId::new("room"), &[Admission::from(&member)], NOW).await.expect("it is written");
    assert_eq!(stands(&book, "room", "ann", Some("B")), New);
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
