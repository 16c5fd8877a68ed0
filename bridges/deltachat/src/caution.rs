//! Messages that an engine does not give out: such a one is asked for alone, and after a while not any more.
//!
//! One answer can end an engine, when it is longer than is read or of a form that nobody knows. Whoever wrote that
//! message must not keep all others from crossing, so what was asked for last is remembered beyond the engine's life.

use std::collections::HashMap;

use sealbridge_child::{CallError, Ended};

/// How many messages are asked for at once.
const TOGETHER: usize = 64;
/// How often one that fails alone is asked for.
const TRIES: u32 = 3;

/// Which messages were asked for, and which failed how often.
#[derive(Debug, Default)]
pub(crate) struct Caution {
    asked: Vec<u32>,
    suspects: HashMap<u32, u32>,
}

impl Caution {
    /// How many of these, from the first on, may be asked for together.
    pub(crate) fn together(&self, numbers: &[u32]) -> usize {
        let trusted = numbers.iter().take(TOGETHER).take_while(|number| !self.suspects.contains_key(number));
        trusted.count().max(1)
    }

    /// From now on until they are answered, the engine's end is on account of these.
    pub(crate) fn asks(&mut self, numbers: &[u32]) {
        self.asked = numbers.to_vec();
    }

    /// All that was asked has an answer, and these are as they should be.
    pub(crate) fn answered(&mut self, sound: &[u32]) {
        self.asked.clear();
        self.suspects.retain(|number, _| !sound.contains(number));
    }

    /// One failed by itself.
    pub(crate) fn failed(&mut self, number: u32) {
        *self.suspects.entry(number).or_default() += 1;
    }

    /// The session with the engine ended, by its answers or by something else.
    pub(crate) fn ended(&mut self, error: &CallError) {
        let asked = std::mem::take(&mut self.asked);
        let by_an_answer = match error {
            CallError::Refused { .. } | CallError::Late { .. } | CallError::Form { .. } => true,
            CallError::Ended(why) => matches!(why, Ended::LineTooLong | Ended::Garbage),
            CallError::Question { .. } => false,
        };
        match asked.as_slice() {
            _ if !by_an_answer => {}
            [one] => self.failed(*one),
            many => many.iter().for_each(|number| _ = self.suspects.entry(*number).or_default()),
        }
    }

    /// Whether one failed so often that it is not asked for any more.
    pub(crate) fn is_hopeless(&self, number: u32) -> bool {
        self.suspects.get(&number).is_some_and(|failures| *failures >= TRIES)
    }

    /// Whether even what the engine says about one fails.
    pub(crate) fn is_unspeakable(&self, number: u32) -> bool {
        self.suspects.get(&number).is_some_and(|failures| *failures > TRIES)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TOO_LONG: CallError = CallError::Ended(Ended::LineTooLong);

    #[test]
    fn one_that_ends_engines_is_found_among_many_and_given_up_alone() {
        let mut caution = Caution::default();
        let numbers: Vec<u32> = (1..=100).collect();
        let mut next = 0;
        let mut given_up = Vec::new();
        for _ in 0..200 {
            let Some(numbers) = numbers.get(next..).filter(|left| !left.is_empty()) else { break };
            let asked = &numbers[..caution.together(numbers)];
            if asked.len() == 1 && caution.is_hopeless(asked[0]) {
                given_up.push(asked[0]);
            } else {
                caution.asks(asked);
                if asked.contains(&40) {
                    caution.ended(&TOO_LONG);
                    continue;
                }
            }
            caution.answered(asked);
            next += asked.len();
        }
        assert_eq!((next, given_up), (100, vec![40]));
        assert_eq!(caution.together(&numbers), 64, "nobody is under suspicion any more");
    }

    #[test]
    fn kills_are_on_nobodys_account() {
        let mut caution = Caution::default();
        let late = CallError::Late { method: "get_messages", within: Duration::from_secs(60) };
        for (error, theirs) in
            [(CallError::Ended(Ended::Signal(9)), false), (CallError::Ended(Ended::Stopped), false), (late, true)]
        {
            for _ in 0..TRIES {
                caution.asks(&[7]);
                caution.ended(&error);
            }
            assert_eq!(caution.is_hopeless(7), theirs, "{error}");
        }
        caution.answered(&[7]);
        caution.ended(&TOO_LONG);
        assert!(!caution.is_hopeless(7), "nothing was asked");
    }
}
