//! The register that the egress guard asks: who may have the key of a room.
//!
//! It reads the room's members, the account's book and the crypto store by itself. It shares no decision with
//! [`readers`](crate::readers), which chooses, so that a mistake there gives nobody a key.

use std::sync::{Arc, Weak};

use ruma::RoomId;
use sealbridge_contract::{
    PersonId,
    audience::{Book, Identity, Standing},
};

use crate::{
    core::{Core, conversation},
    engine::{Person, Register, Whom},
};

/// The register of one account. It does not keep the account alive.
pub(crate) struct Admissions(Weak<Core>);

impl Admissions {
    pub(crate) fn of(core: &Arc<Core>) -> Self {
        Self(Arc::downgrade(core))
    }
}

impl Register for Admissions {
    fn may_read(&self, room: &RoomId, person: &Person, whom: Whom) -> bool {
        let Some(core) = self.0.upgrade() else { return false };
        let is_in = core.rooms.look(room, |facts| {
            facts.is_joined() && facts.pin.is_some() && facts.people.joined.contains_key(&person.user)
        });
        is_in == Some(true) && (whom == Whom::Everybody || is_admitted(&core.book, room, person))
    }
}

/// Whether somebody was admitted to a room, and is who they were then.
fn is_admitted(book: &Book, room: &RoomId, person: &Person) -> bool {
    let (at, who) = (conversation(room), PersonId::new(person.user.as_str()));
    if person.violation {
        return false;
    }
    let now = person.master_key.as_ref().map(Identity::new);
    // People compared who they are now: the pin follows. What was compared once and replaced since is nobody any more.
    if person.verified && !now.as_ref().is_some_and(|now| book.is_left_behind(&who, now)) {
        return book.is_admitted(&at, who.as_str());
    }
    match book.standing(&at, &who, now.as_ref()) {
        Standing::Reads => true,
        // Devices that nobody signed read only where every device does, and then only of those who never signed any.
        Standing::NoIdentity => book.pinned(&who).is_some_and(|(pinned, _)| pinned.is_none()),
        Standing::New | Standing::Changed | Standing::Invited => false,
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, owned_user_id};
    use sealbridge_contract::{
        AccountName, Timestamp, audience::Admission, conformance::MemoryIntake, inbox::AccountStore,
    };

    use super::*;

    fn ann(identity: Option<&str>) -> Person {
        Person {
            user: owned_user_id!("@ann:example.org"),
            master_key: identity.map(str::to_owned),
            verified: false,
            violation: false,
            changed: false,
            stale: false,
            devices: Vec::new(),
        }
    }

    async fn book_with(identity: Option<&str>) -> Book {
        let account = AccountName::parse("home").expect("it is a name");
        let book = Book::load(&AccountStore::new(account, Arc::new(MemoryIntake::default()))).await;
        let book = book.expect("it is empty");
        let admitted = Admission { person: PersonId::new("@ann:example.org"), identity: identity.map(Identity::new) };
        let at = conversation(&owned_room_id!("!one:example.org"));
        book.begin(&at, &[admitted], Timestamp(1_000)).await.expect("it is written");
        book
    }

    #[tokio::test]
    async fn key_is_for_who_was_admitted_there_as_they_were_then() {
        let (one, two) = (owned_room_id!("!one:example.org"), owned_room_id!("!two:example.org"));
        let book = book_with(Some("A")).await;
        assert!(is_admitted(&book, &one, &ann(Some("A"))));
        assert!(!is_admitted(&book, &two, &ann(Some("A"))), "admitted elsewhere");
        assert!(!is_admitted(&book, &one, &ann(Some("X"))), "another identity");
        assert!(!is_admitted(&book, &one, &ann(None)), "an identity that is gone");
        assert!(!is_admitted(&book, &one, &Person { violation: true, ..ann(Some("A")) }), "no longer verified");
        let stranger = Person { user: owned_user_id!("@eve:example.org"), ..ann(Some("A")) };
        assert!(!is_admitted(&book, &one, &stranger), "somebody else");
        let compared = |identity| Person { verified: true, ..ann(Some(identity)) };
        assert!(is_admitted(&book, &one, &compared("X")), "the pin follows what was compared");
        assert!(!is_admitted(&book, &two, &compared("A")), "whom we know is new where nobody was told of them");
        let replaced = Admission { person: PersonId::new("@ann:example.org"), identity: Some(Identity::new("B")) };
        book.admit(&conversation(&one), &[replaced], Timestamp(2_000)).await.expect("it is written");
        assert!(is_admitted(&book, &one, &ann(Some("B"))));
        assert!(!is_admitted(&book, &one, &compared("A")), "what was compared before it was replaced");
    }

    #[tokio::test]
    async fn who_had_no_identity_gets_a_key_until_they_have_one() {
        let one = owned_room_id!("!one:example.org");
        let book = book_with(None).await;
        assert!(is_admitted(&book, &one, &ann(None)));
        assert!(!is_admitted(&book, &one, &ann(Some("A"))), "a reader whom nobody was told of");
    }
}
