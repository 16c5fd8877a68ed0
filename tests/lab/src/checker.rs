//! Judges what was said against what was heard. Knows nothing of the service: it sees only what people see.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

/// Names one message, so that it is found again in what others hear and, should it leak, anywhere else.
///
/// Its text is alphanumeric, so that no encoding splits it: `cnr`, eight characters of the run, `s` and the sender's
/// number, `n` and the message's number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Of this run.
    pub run: String,
    /// Which of the senders.
    pub sender: usize,
    /// Which of the sender's messages, counted from 0.
    pub number: usize,
}

impl Tag {
    /// The tag's text, to be put into a message.
    pub fn text(&self) -> String {
        format!("cnr{}s{:02}n{:06}z", self.run, self.sender, self.number)
    }

    /// The first tag of `run` in a text.
    pub fn find(run: &str, text: &str) -> Option<Self> {
        let start = text.find(&format!("cnr{run}s"))?;
        let rest = &text[start + 3 + run.len() + 1..];
        let (sender, rest) = rest.split_once('n')?;
        let (number, _) = rest.split_once('z')?;
        Some(Self { run: run.to_owned(), sender: sender.parse().ok()?, number: number.parse().ok()? })
    }
}

/// One message that somebody heard, in the order in which they heard it.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Its text.
    pub text: String,
    /// Marked by the service as late: its place in the order does not count.
    pub late: bool,
}

/// What came of a number of messages on their way to one listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Said.
    pub sent: usize,
    /// Heard at least once.
    pub delivered: usize,
    /// Said and not heard.
    pub lost: usize,
    /// Heard again.
    pub duplicated: usize,
    /// Heard after a later one of the same sender, messages marked late aside.
    pub reordered: usize,
}

impl Tally {
    /// Whether everything was heard, once and in order.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered == 0
    }
}

impl std::ops::Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
        }
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), std::ops::Add::add)
    }
}

/// Judges what one listener heard of what `sent` says was meant for them.
pub fn judge(sent: &[Tag], heard: &[Heard]) -> Tally {
    let meant: HashSet<&Tag> = sent.iter().collect();
    let runs: HashSet<&str> = sent.iter().map(|tag| tag.run.as_str()).collect();
    let mut times: HashMap<Tag, usize> = HashMap::new();
    let mut last: BTreeMap<(String, usize), usize> = BTreeMap::new();
    let mut reordered = 0;
    for message in heard {
        let Some(tag) = runs.iter().find_map(|run| Tag::find(run, &message.text)) else { continue };
        if !meant.contains(&tag) {
            continue;
        }
        let seen = times.entry(tag.clone()).or_default();
        *seen += 1;
        if message.late || *seen > 1 {
            continue;
        }
        let last = last.entry((tag.run, tag.sender)).or_insert(tag.number);
        if tag.number < *last {
            reordered += 1;
        }
        *last = tag.number.max(*last);
    }
    let delivered = times.len();
    Tally {
        sent: meant.len(),
        delivered,
        lost: meant.len() - delivered,
        duplicated: times.values().map(|n| n - 1).sum(),
        reordered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(count: usize) -> Vec<Tag> {
        (0..count).map(|number| Tag { run: "abcdefgh".into(), sender: 1, number }).collect()
    }

    fn heard(numbers: &[usize]) -> Vec<Heard> {
        let tags = tags(100);
        let text = |n: &usize| format!("Ann: {} and words", tags[*n].text());
        numbers.iter().map(|n| Heard { text: text(n), late: false }).collect()
    }

    #[test]
    fn whole_conversation_in_order_is_clean() {
        let tally = judge(&tags(3), &heard(&[0, 1, 2]));
        assert_eq!(tally, Tally { sent: 3, delivered: 3, ..Tally::default() });
    }

    #[test]
    fn loss_doubling_and_disorder_are_each_counted() {
        let tally = judge(&tags(5), &heard(&[0, 2, 1, 1, 3]));
        assert_eq!(tally, Tally { sent: 5, delivered: 4, lost: 1, duplicated: 1, reordered: 1 });
    }

    #[test]
    fn late_message_is_not_disorder() {
        let mut heard = heard(&[1, 2, 0]);
        heard[2].late = true;
        assert_eq!(judge(&tags(3), &heard).reordered, 0);
    }

    #[test]
    fn strange_words_do_not_count() {
        let other = [Heard { text: "cnrzzzzzzzzs01n000000z".into(), late: false }];
        assert_eq!(judge(&tags(1), &other), Tally { sent: 1, lost: 1, ..Tally::default() });
    }
}
