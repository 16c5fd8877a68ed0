//! What the engine's own words about a chat say of what it became. It says nowhere else what a name or a timer was
//! changed to at that time; its words are English unless it is told others, which we never do.

use std::time::Duration;

/// The name that a group got. `None` where the names in the words leave it open.
pub(crate) fn name_in(words: &str) -> Option<&str> {
    let rest = words.strip_prefix("Group name changed from \"")?.strip_suffix('.')?;
    let (_, rest) = once(rest, "\" to \"")?;
    let (name, _) = once(rest, "\" by ")?;
    Some(name)
}

/// The timer that a chat got; `Some(None)`: none any more.
pub(crate) fn timer_in(words: &str) -> Option<Option<Duration>> {
    if words.starts_with("Message deletion timer is disabled by ") {
        return Some(None);
    }
    let rest = words.strip_prefix("Message deletion timer is set to ")?;
    let (after, _) = rest.split_once(" by ")?;
    let (count, unit) = after.split_once(' ')?;
    let unit = match unit {
        "s" => 1.0,
        "minute" | "minutes" => 60.0,
        "hour" | "hours" => 3_600.0,
        "day" | "days" => 86_400.0,
        "week" | "weeks" => 604_800.0,
        "year" | "years" => 31_536_000.0,
        _ => return None,
    };
    let seconds = Duration::try_from_secs_f64(count.parse::<f64>().ok()? * unit).ok()?;
    Some(Some(Duration::from_secs(seconds.as_secs())).filter(|seconds| !seconds.is_zero()))
}

/// Both sides of what stands there exactly once.
fn once<'a>(words: &'a str, between: &str) -> Option<(&'a str, &'a str)> {
    let (before, after) = words.split_once(between)?;
    (!after.contains(between)).then_some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_taken_from_the_words_unless_somebodys_name_leaves_it_open() {
        let cases = [
            ("Group name changed from \"Family\" to \"Hill\" by ann.", Some("Hill")),
            ("Group name changed from \"\" to \"a. b\" by \"ann\".", Some("a. b")),
            ("Group name changed from \"A\" to \"B\" by x\" to \"Evil\" by y.", None),
            ("Group name changed from \"A\" to \"Evil\" by x\" by ann.", None),
            ("You changed group name from \"A\" to \"B\".", None),
            ("", None),
        ];
        for (words, name) in cases {
            assert_eq!(name_in(words), name, "{words}");
        }
    }

    #[test]
    fn timer_is_taken_from_the_words_whatever_somebody_is_called() {
        let seconds = |seconds| Some(Some(Duration::from_secs(seconds)));
        let cases = [
            ("Message deletion timer is disabled by ann.", Some(None)),
            ("Message deletion timer is set to 30 s by ann.", seconds(30)),
            ("Message deletion timer is set to 1.5 minutes by ann.", seconds(90)),
            ("Message deletion timer is set to 1 hour by 1 day by ann.", seconds(3_600)),
            ("Message deletion timer is set to 5 weeks by ann.", seconds(5 * 604_800)),
            ("Message deletion timer is set to 1 year by ann.", seconds(31_536_000)),
            ("Message deletion timer is set to -1 days by ann.", None),
            ("Message deletion timer is set to NaN s by ann.", None),
            ("Message deletion timer is set to 7 moons by ann.", None),
            ("a timer", None),
        ];
        for (words, timer) in cases {
            assert_eq!(timer_in(words), timer, "{words}");
        }
    }
}
