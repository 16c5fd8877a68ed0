//! What changes about a conversation. Told as an encrypted notice; never written where a server can read it.

use std::time::Duration;

use super::Author;
use crate::Text;

/// Something about the conversation changed; the message's author did it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// Somebody joined, or was added.
    Joined(Author),
    /// Somebody left, or was removed.
    Left(Author),
    /// The conversation has another name.
    Renamed(Text),
    /// The conversation has another picture.
    Picture,
    /// Messages disappear after this long, or no longer.
    Timer(Option<Duration>),
}

impl Change {
    /// What `by` did, as it reads after their name.
    #[must_use]
    pub(crate) fn readable(&self, by: &Author) -> Text {
        let other = |who: &Author| (who.id != by.id).then(|| crate::names::told(who));
        match self {
            Self::Joined(who) => match other(who) {
                Some(name) => Text::joined(&["added ", name.as_str(), " to the conversation"]),
                None => "joined the conversation".into(),
            },
            Self::Left(who) => match other(who) {
                Some(name) => Text::joined(&["removed ", name.as_str(), " from the conversation"]),
                None => "left the conversation".into(),
            },
            Self::Renamed(name) => {
                let name = crate::names::inside(name.as_str());
                Text::joined(&["named the conversation “", &name, "”"])
            }
            Self::Picture => "changed the picture of the conversation".into(),
            Self::Timer(Some(after)) => format!("set messages to disappear after {}", readable(*after)).into(),
            Self::Timer(None) => "set messages not to disappear any more".into(),
        }
    }

    pub(crate) fn copy(&self) -> Self {
        match self {
            Self::Joined(who) => Self::Joined(who.copy()),
            Self::Left(who) => Self::Left(who.copy()),
            Self::Renamed(name) => Self::Renamed(name.copy()),
            Self::Picture => Self::Picture,
            Self::Timer(after) => Self::Timer(*after),
        }
    }
}

fn readable(long: Duration) -> String {
    let seconds = long.as_secs();
    let units = [(7 * 86_400, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "second"));
    let count = seconds / unit;
    if count == 1 { format!("{count} {name}") } else { format!("{count} {name}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PersonId;

    #[test]
    fn change_can_be_read_after_the_name_of_who_did_it() {
        let ann = || Author { id: PersonId::new("@ann:x"), name: Some("Ann".into()) };
        let ben = || Author { id: PersonId::new("@ben:x"), name: Some("Ben\u{202e}".into()) };
        let forger = || Author { id: PersonId::new("@eve:x"), name: Some("Ben” (verified). It is “Ben".into()) };
        let cases = [
            (Change::Joined(ann()), "joined the conversation"),
            (Change::Joined(ben()), "added Ben to the conversation"),
            (Change::Left(ben()), "removed Ben from the conversation"),
            (Change::Renamed("The\nHill".into()), "named the conversation “The Hill”"),
            (
                Change::Renamed("Hill” and added @eve:x (verified) to “it".into()),
                "named the conversation “Hill and added @eve:x verified to it”",
            ),
            (Change::Joined(forger()), "added Ben verified . It is Ben to the conversation"),
            (Change::Timer(Some(Duration::from_secs(7200))), "set messages to disappear after 2 hours"),
            (Change::Timer(None), "set messages not to disappear any more"),
        ];
        for (change, words) in cases {
            assert_eq!(change.readable(&ann()).as_str(), words);
        }
    }
}
