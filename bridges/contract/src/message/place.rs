//! Places and polls.

use crate::Text;

/// A place.
#[derive(Debug)]
pub struct Location {
    at: Text,
    /// What is there, in words.
    pub description: Option<Text>,
}

/// A question with answers to choose from. Votes are not carried.
#[derive(Debug)]
pub struct Poll {
    /// The question.
    pub question: Text,
    /// The answers.
    pub answers: Vec<Text>,
}

impl Location {
    /// A place by its latitude and longitude in degrees. `None` if there is no such place.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64, description: Option<Text>) -> Option<Self> {
        let there = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        there.then(|| Self { at: format!("{latitude},{longitude}").into(), description })
    }

    /// A place by its `geo:` address (RFC 5870); altitude and parameters are left out. `None` if it is not one.
    #[must_use]
    pub fn from_uri(uri: &str, description: Option<Text>) -> Option<Self> {
        let mut numbers = uri.strip_prefix("geo:")?.split(';').next()?.split(',');
        let mut number = || numbers.next()?.trim().parse().ok();
        Self::new(number()?, number()?, description)
    }

    /// Latitude and longitude in degrees.
    #[must_use]
    pub fn degrees(&self) -> (f64, f64) {
        let (latitude, longitude) = self.at.as_str().split_once(',').unwrap_or_default();
        (latitude.parse().unwrap_or_default(), longitude.parse().unwrap_or_default())
    }

    /// Its `geo:` address.
    #[must_use]
    pub fn uri(&self) -> Text {
        Text::joined(&["geo:", self.at.as_str()])
    }

    pub(crate) fn copy(&self) -> Self {
        Self { at: self.at.copy(), description: self.description.as_ref().map(Text::copy) }
    }
}

impl Poll {
    /// As many answers at most; the others are left out.
    pub const MOST: usize = 20;

    /// The question and its numbered answers, one a line.
    #[must_use]
    pub fn readable(&self) -> Text {
        let mut lines = vec![format!("📊 {}", self.question.as_str())];
        let answers = (1..).zip(&self.answers).take(Self::MOST);
        lines.extend(answers.map(|(number, answer)| format!("{number}. {}", answer.as_str())));
        let readable = Text::joined(&[&lines.join("\n")]);
        lines.iter_mut().for_each(zeroize::Zeroize::zeroize);
        readable
    }

    pub(crate) fn copy(&self) -> Self {
        Self { question: self.question.copy(), answers: self.answers.iter().map(Text::copy).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_read_from_its_address_and_nonsense_is_no_place() {
        let place = Location::from_uri("geo:52.5163,13.3777,40;u=35", None).expect("it is a place");
        assert_eq!(place.degrees(), (52.5163, 13.3777));
        assert_eq!(place.uri().as_str(), "geo:52.5163,13.3777");
        for nonsense in ["geo:", "geo:1", "geo:91,0", "geo:0,181", "geo:NaN,0", "geo:inf,0", "https://x", "geo:a,b"] {
            assert!(Location::from_uri(nonsense, None).is_none(), "{nonsense}");
        }
    }

    #[test]
    fn poll_can_be_read() {
        let poll = Poll { question: "Tea?".into(), answers: vec!["Yes".into(), "No".into()] };
        assert_eq!(poll.readable().as_str(), "📊 Tea?\n1. Yes\n2. No");
    }
}
