//! Messages as they are written inside our own encryption, by this version, an older one, or a peer.

use zeroize::Zeroizing;

use crate::{
    Abilities, Ability, Adapted, Cleartext, ConversationId, Deduplication, DeliveryId, Manner, Slip, Timestamp, Verb,
    abilities::Reactions,
    adapt,
    names::Tags,
    wire::{decode, encode},
};

/// A network that carries plain words and nothing else.
const WORDS_ALONE: Abilities = Abilities {
    network: "words",
    verbs: &[(Verb::Text, Ability::Full)],
    deduplication: Deduplication::Never,
    finds: false,
    carries_marks: false,
    most_bytes: 1000,
    most_file: 0,
    reactions_in_clear: false,
};

#[test]
fn messages() {
    let tags = Tags::new(Zeroizing::new([7; 32]));
    let (abilities, reactions) = (&WORDS_ALONE, Reactions::Native);
    let (most_file, without_file) = (0, None);
    let (tags, namesake, read_there, cannot) = (&tags, true, true, &[][..]);
    let manner = Manner { abilities, reactions, most_file, without_file, tags, namesake, read_there, cannot };
    sealbridge_fuzz::target("messages", |input| {
        let Some(message) = decode(input) else { return };
        let written = encode(&message);
        let again = decode(written.expose()).expect("what we write we can read");
        assert!(encode(&again) == written, "it is another message after it was written and read");
        let slip = Slip::new(ConversationId::new("c"), DeliveryId::from_bytes([3; 16]), Timestamp(0));
        let message = Cleartext::new(message);
        if let Adapted::Crosses(crossing) = adapt(&message, slip, &manner) {
            let crosses = &crossing.message().0;
            assert_eq!(Verb::of(crosses), Verb::Text, "a network of words gets something else");
            let calls = crosses.body().into_iter().flat_map(|body| &body.mentions);
            assert_eq!(calls.count(), 0, "formatting, or people who are called, get where only words do");
        }
    });
}
