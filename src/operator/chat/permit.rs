//! Who may ask for what, and where. Pure: facts in, verdict out.

use super::words::{Needs, Word};
use crate::store::LinkName;

/// Whoever asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// The config names them, and they are proven to be who it means.
    pub(super) is_admin: bool,
    /// How much they may do in the conversation, if its network has such a thing.
    pub(super) level: Option<i64>,
}

/// Where something is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a conversation of these links.
    Linked(Vec<LinkName>),
    /// In an encrypted conversation with the asker alone, or in the admin room.
    Direct,
    /// Anywhere else.
    Elsewhere,
}

/// Why it is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "Only the operator's admins may tell this bridge what to do, and those who moderate the room may ask it `!seal status`."
    )]
    Stranger,
    #[error("Only the operator's admins may do that.")]
    NoAdmin,
    #[error("That is answered in a direct encrypted chat with the bridge, not before others.")]
    NotHere,
    #[error("This conversation is not linked, and it is no direct encrypted chat of the two of us: say it in one.")]
    NotLinked,
}

/// Whether somebody may be answered at all.
pub(super) fn may_ask(asker: Asker, place: &Place, wanted: i64) -> Result<(), Refused> {
    match (asker.is_admin, place) {
        (true, Place::Elsewhere) => Err(Refused::NotLinked),
        (true, Place::Linked(_) | Place::Direct) => Ok(()),
        (false, Place::Linked(_)) if asker.level.is_some_and(|level| level >= wanted) => Ok(()),
        (false, _) => Err(Refused::Stranger),
    }
}

/// Whether somebody who may be answered may ask for this.
pub(super) fn may(asker: Asker, place: &Place, word: &Word) -> Result<(), Refused> {
    match (word.needs, place) {
        (Needs::Admin | Needs::AdminAlone, _) if !asker.is_admin => Err(Refused::NoAdmin),
        (Needs::AdminAlone, Place::Linked(_)) => Err(Refused::NotHere),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::words::WORDS, *};

    fn linked() -> Place {
        Place::Linked(vec![LinkName::parse("l").expect("it is a name")])
    }

    fn asker() -> impl Strategy<Value = Asker> {
        (any::<bool>(), any::<Option<i64>>()).prop_map(|(is_admin, level)| Asker { is_admin, level })
    }

    fn place() -> impl Strategy<Value = Place> {
        prop_oneof![Just(linked()), Just(Place::Direct), Just(Place::Elsewhere)]
    }

    fn allowed(asker: Asker, place: &Place, word: &Word) -> bool {
        may_ask(asker, place, 50).and_then(|()| may(asker, place, word)).is_ok()
    }

    proptest! {
        #[test]
        fn who_is_no_admin_gets_only_what_changes_nothing_and_only_where_they_have_the_level(
            asker in asker(), place in place(), word in proptest::sample::select(WORDS)
        ) {
            if allowed(asker, &place, &word) && !asker.is_admin {
                prop_assert!(["help", "status", "audience", "why"].contains(&word.name));
                prop_assert!(asker.level.is_some_and(|level| level >= 50) && place == linked());
            }
        }

        #[test]
        fn nothing_is_done_where_it_is_neither_linked_nor_a_direct_chat(
            asker in asker(), word in proptest::sample::select(WORDS)
        ) {
            prop_assert!(!allowed(asker, &Place::Elsewhere, &word));
        }
    }

    #[test]
    fn admin_gets_everything_and_a_link_is_made_before_nobody_else() {
        let admin = Asker { is_admin: true, level: None };
        for word in WORDS {
            assert!(allowed(admin, &Place::Direct, word), "{}", word.name);
            assert_eq!(allowed(admin, &linked(), word), !["link", "yes", "no"].contains(&word.name), "{}", word.name);
        }
    }

    #[test]
    fn level_counts_from_the_one_that_the_config_names() {
        let may = |level| may_ask(Asker { is_admin: false, level }, &linked(), 50).is_ok();
        assert_eq!([Some(49), Some(50), Some(i64::MAX), None].map(may), [false, true, true, false]);
    }
}
