//! A link that the circuit breaker paused goes on by itself after a while: sooner the first time than the second, and
//! from the third time on only when somebody resumes it.

use std::time::Duration;

use sealbridge_contract::Timestamp;

use super::breaker::Loop;
use crate::{
    config::Period,
    store::{Link, Tripped},
};

/// How long a link rests, the first time and the second.
const RESTS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(600)];
const LONGEST: Duration = RESTS[1];
/// After so long a time of quiet it counts as the first time again.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// The link, paused for what was seen, and words for the operator.
#[must_use]
pub fn pause(link: Link, seen: &Loop, now: Timestamp) -> (Link, String) {
    let before = link.tripped.filter(|tripped| now.since(tripped.at) < FORGOTTEN).map_or(0, |tripped| tripped.times);
    let rest = usize::try_from(before).ok().and_then(|before| RESTS.get(before)).copied();
    let tripped = Tripped { times: before + 1, at: now, resume_at: rest.map(|rest| now.plus(rest)) };
    let name = &link.name;
    let then = match rest {
        Some(rest) => format!("It goes on by itself in {}.", Period(rest)),
        None => format!("It was so {} times: `sealbridge links resume {name}` lets it go on.", tripped.times),
    };
    let words = format!(
        "The link {name} is paused by its circuit breaker: {seen}, so another bridge must join these conversations. \
         Nothing is lost: what comes in is held. {then}"
    );
    let paused = Some(format!("circuit breaker: {seen}"));
    (Link { paused, tripped: Some(tripped), ..link }, words)
}

/// Whether a link's rest is over.
#[must_use]
pub fn is_over(link: &Link, now: Timestamp) -> bool {
    let resume_at = link.tripped.and_then(|tripped| tripped.resume_at);
    link.paused.is_some() && resume_at.is_some_and(|at| at.has_come(now, LONGEST))
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{AccountName, Address, ConversationId, PersonId};

    use super::*;
    use crate::store::LinkName;

    #[test]
    fn rests_grow_until_somebody_must_act_and_are_forgotten_after_a_day() {
        let at = Address { account: AccountName::parse("a").expect("a name"), conversation: ConversationId::new("r") };
        let seen = Loop { turns: 12, within: Duration::from_secs(3), by: PersonId::new("@bot"), at };
        let name = LinkName::parse("l").expect("a name");
        let mut link = Link { name, ends: vec![], paused: None, fixed: false, tripped: None };
        let mut now = Timestamp(0);
        let day = 24 * 3600;
        for (seconds, rest, words) in [
            (0, Some(60), "in 1m"),
            (600, Some(600), "in 10m"),
            (3600, None, "links resume l"),
            (day, Some(60), "in 1m"),
        ] {
            now = now.plus(Duration::from_secs(seconds));
            let (paused, told) = pause(link, &seen, now);
            assert!(told.contains(words) && told.contains("12 times in 3 s"), "{told}");
            let over = rest.map(|rest| now.plus(Duration::from_secs(rest)));
            assert_eq!(paused.tripped.and_then(|tripped| tripped.resume_at), over);
            assert!(!is_over(&paused, now));
            assert!(over.is_none_or(|over| is_over(&paused, over)));
            let yesterday = Timestamp(now.0 - 24 * 3_600_000);
            assert_eq!(is_over(&paused, yesterday), rest.is_some(), "a clock that is moved back makes no rest longer");
            link = Link { paused: None, ..paused };
            assert!(!is_over(&link, now.plus(Duration::from_secs(7 * day))), "it goes on already");
        }
    }
}
