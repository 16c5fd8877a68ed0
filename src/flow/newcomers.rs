//! What becomes of people who come to a linked conversation, and what is said of them. Pure.

use std::fmt::Write as _;

use sealbridge_contract::{
    Address, DeliveryId, PersonId,
    audience::{Admission, Audience, Member, Standing},
    gate::NewMembers,
    names,
};
use serde::{Deserialize, Serialize};

/// So many newcomers are named one by one.
const NAMED: usize = 5;

/// What is to be done about the newcomers of a conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There are none.
    Settled,
    /// Everybody is told, and then they are admitted.
    Tell {
        /// Nothing is said there until then, since they would get it.
        freeze: bool,
    },
    /// The operator approves them, or does not; nothing is said there until then.
    Ask,
    /// Only the operator can let anybody in; the others go on without them.
    Exclude,
}

/// Judges by what the transport shows of a conversation.
pub(super) fn judge(audience: &Audience, rules: &[NewMembers], is_admin: bool) -> Verdict {
    match audience.standing(Standing::New).next() {
        None => Verdict::Settled,
        // What the operator is told is for nobody that a server lets in.
        Some(_) if is_admin && audience.chooses => Verdict::Exclude,
        Some(_) if is_admin || rules.contains(&NewMembers::Freeze) => Verdict::Ask,
        Some(_) => Verdict::Tell { freeze: !audience.chooses },
    }
}

/// Whether this is the one whom the admin room is for, who went and came back: with the identity that was pinned, since a
/// homeserver can make up one for somebody who had none.
pub(super) fn is_the_operator(member: &Member, operator: Option<&PersonId>) -> bool {
    Some(&member.person) == operator && member.as_pinned
}

/// What is said of newcomers: in their own conversation, and elsewhere.
pub(super) fn announced(newcomers: &[&Member], whereabouts: &str, here: bool) -> String {
    let who = listed(newcomers);
    let they = if newcomers.len() == 1 { "They" } else { "All of them" };
    match here {
        true => format!("Now here: {who}. {they} can read what the bridge brings from this message on."),
        false => format!("Now in {whereabouts}: {who}. {they} can read what is said here from this message on."),
    }
}

/// Names people with what is known of them.
pub(super) fn listed(people: &[&Member]) -> String {
    let mut words = String::new();
    for (place, member) in people.iter().take(NAMED).enumerate() {
        let comma = if place == 0 { "" } else { "; " };
        let _ = write!(words, "{comma}{}", named(member));
    }
    if people.len() > NAMED {
        let _ = write!(words, "; and {} more", people.len() - NAMED);
    }
    words
}

fn named(member: &Member) -> String {
    let id = names::id(member.person.as_str());
    let name = member.name.as_deref().map(names::inside).filter(|name| !name.is_empty() && *name != id);
    // What they call themselves comes last: what is known of them is said before anything that they chose.
    let name = name.map(|name| format!(", who calls themselves “{name}”")).unwrap_or_default();
    format!("{id} ({}){name}", member.proof.words())
}

/// What is being told of newcomers: under a name of its own, so that the same people are told of once while they wait, and
/// again when they come at another time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Telling {
    name: String,
    /// The operator is asked, and nobody is let in by it.
    pub(super) asks: bool,
    people: Vec<Admission>,
}

impl Telling {
    pub(super) fn of(newcomers: &[&Member], asks: bool) -> Self {
        let people = newcomers.iter().map(|member| Admission::from(*member)).collect();
        Self { name: DeliveryId::random().to_string(), asks, people }
    }

    /// Whether it tells of somebody, by the identity that they have now.
    pub(super) fn names(&self, member: &Member) -> bool {
        self.people.contains(&Admission::from(member))
    }

    /// What it is said once under.
    pub(super) fn topic(&self, at: &Address) -> String {
        format!("newcomers/{at}/{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::audience::{Identity, Proof};

    use super::*;

    fn member(person: &str, standing: Standing) -> Member {
        Member {
            person: PersonId::new(person),
            name: Some("Ann\u{202e}".into()),
            identity: Some(Identity::new("key")),
            pinned: None,
            as_pinned: true,
            proof: Proof::CrossSigned,
            since: None,
            standing,
            devices: Vec::new(),
        }
    }

    #[test]
    fn operator_is_let_in_again_as_they_were_pinned_and_as_nobody_else() {
        let (anna, operator) = (member("@anna:x", Standing::New), PersonId::new("@anna:x"));
        assert!(is_the_operator(&anna, Some(&operator)));
        assert!(!is_the_operator(&Member { as_pinned: false, ..anna.clone() }, Some(&operator)), "made up since");
        assert!(!is_the_operator(&member("@eve:x", Standing::New), Some(&operator)));
        assert!(!is_the_operator(&anna, None));
    }

    fn audience(standings: &[Standing], chooses: bool) -> Audience {
        let members = standings.iter().enumerate().map(|(n, standing)| member(&format!("@p{n}:x"), *standing));
        Audience { members: members.collect(), turn: 1, chooses, open: false }
    }

    #[test]
    fn newcomers_are_told_of_or_asked_for_as_the_strictest_link_says() {
        use NewMembers::{Freeze, TellFirst};
        let (settled, new) = (audience(&[Standing::Reads, Standing::Invited], true), [Standing::Reads, Standing::New]);
        assert_eq!(judge(&settled, &[Freeze], false), Verdict::Settled);
        assert_eq!(judge(&audience(&new, true), &[TellFirst], false), Verdict::Tell { freeze: false });
        assert_eq!(judge(&audience(&new, false), &[TellFirst], false), Verdict::Tell { freeze: true });
        assert_eq!(judge(&audience(&new, true), &[TellFirst, Freeze], false), Verdict::Ask);
        assert_eq!(judge(&audience(&new, true), &[], true), Verdict::Exclude);
        assert_eq!(judge(&audience(&new, false), &[], true), Verdict::Ask);
        // Whose identity changed is the transport's to stop, and nobody's to admit by itself.
        assert_eq!(judge(&audience(&[Standing::Changed], true), &[TellFirst], false), Verdict::Settled);
    }

    #[test]
    fn who_is_told_of_is_named_harmlessly_and_a_crowd_by_its_number() {
        let crowd = audience(&[Standing::New; 8], true);
        let crowd: Vec<_> = crowd.members.iter().collect();
        let words = announced(&crowd[..1], "“Room”", false);
        assert_eq!(
            words,
            "Now in “Room”: @p0:x (cross-signed, not verified), who calls themselves “Ann”. They can read what is said \
             here from this message on."
        );
        let words = announced(&crowd, "“Room”", true);
        assert!(words.contains("@p4:x") && !words.contains("@p5:x") && words.contains("and 3 more"), "{words}");
    }

    #[test]
    fn how_somebody_is_known_is_said_by_nothing_that_they_call_themselves() {
        for quotes in ["“”", "\"\"", "„“", "«»", "❝❞", "＂＂", "ʺʺ"] {
            let [open, close] = quotes.chars().collect::<Vec<_>>()[..] else { unreachable!("there are two") };
            let name = format!("Bob{close} (verified by comparison). It is {open}Bob");
            let forger = Member { name: Some(name), ..member("@eve:x", Standing::New) };
            let words = announced(&[&forger], "“Room”", false);
            assert!(words.starts_with("Now in “Room”: @eve:x (cross-signed, not verified), who calls"), "{words}");
            let (_, after) = words.split_once("calls themselves “").expect("it says what they call themselves");
            let (name, rest) = after.split_once('”').expect("it ends");
            assert_eq!(name, "Bob verified by comparison . It is Bob");
            assert_eq!(rest, ". They can read what is said here from this message on.");
        }
        let odd = member("@eve:x (verified by comparison), “Eve”", Standing::New);
        let words = announced(&[&odd], "“Room”", true);
        assert!(words.starts_with("Now here: @eve:x__verified_by_comparison_,__Eve_ (cross-signed, not"), "{words}");
    }

    #[test]
    fn same_newcomers_are_told_once_and_others_or_the_same_at_another_time_again() {
        let (one, two) = (member("@a:x", Standing::New), member("@b:x", Standing::New));
        let changed = Member { identity: Some(Identity::new("other")), ..one.clone() };
        let telling = Telling::of(&[&one], false);
        assert!(telling.names(&one) && !telling.names(&two) && !telling.names(&changed));
        let bytes = serde_json::to_vec(&telling).expect("it serialises");
        assert_eq!(serde_json::from_slice::<Telling>(&bytes).expect("it is kept as it was"), telling);
        let at = Address {
            account: sealbridge_contract::AccountName::parse("home").expect("it is a name"),
            conversation: sealbridge_contract::ConversationId::new("!a"),
        };
        assert_ne!(telling.topic(&at), Telling::of(&[&one], false).topic(&at));
    }
}
