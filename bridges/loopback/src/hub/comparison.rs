//! Comparing identities with a person: the steps of a real one, with nothing behind the emoji.

use std::sync::Arc;

use async_trait::async_trait;
use sealbridge_contract::{Answer, DeliveryId, Flow, FlowError, PersonId, Step, steps::Emoji};

use super::Server;

pub(crate) struct Comparison {
    server: Arc<dyn Server>,
    with: Option<PersonId>,
    next: Next,
}

enum Next {
    Meet,
    Compare,
    Decide,
    Over,
}

impl Comparison {
    /// With a person, or with the next one who asks for it.
    pub(crate) fn new(server: Arc<dyn Server>, with: Option<&PersonId>) -> Self {
        Self { server, with: with.cloned(), next: Next::Meet }
    }

    async fn meet(&mut self) -> Result<Step, FlowError> {
        let (with, asks) = match self.with.take() {
            Some(person) if self.server.knows(&person) => (person, false),
            Some(person) => return Err(FlowError::Unreachable(format!("nobody is called {}", person.as_str()))),
            None => (self.server.asked_to_compare().await, true),
        };
        let words = format!("Comparing with {}.", with.as_str());
        (self.with, self.next) = (Some(with.clone()), Next::Compare);
        Ok(if asks { Step::Asks(with, words) } else { Step::Show(words) })
    }

    fn decide(&mut self, answer: Option<Answer>) -> Result<Step, FlowError> {
        match (answer, self.with.take()) {
            (Some(Answer::Yes), Some(with)) => {
                self.server.compared(&with);
                Ok(Step::Done(format!("{} is verified.", with.as_str())))
            }
            // Anything but a clear yes of a person is a no.
            _ => Err(FlowError::Cancelled("the emoji were not said to be the same".to_owned())),
        }
    }
}

#[async_trait]
impl Flow for Comparison {
    async fn next(&mut self, answer: Option<Answer>) -> Result<Step, FlowError> {
        match std::mem::replace(&mut self.next, Next::Over) {
            Next::Meet => {
                // Asked again if the future is dropped while nobody comes.
                self.next = Next::Meet;
                self.meet().await
            }
            Next::Compare => {
                self.next = Next::Decide;
                Ok(Step::Compare(emoji()))
            }
            Next::Decide => self.decide(answer),
            Next::Over => Err(FlowError::Cancelled("the comparison is over".to_owned())),
        }
    }
}

fn emoji() -> Vec<Emoji> {
    let random = DeliveryId::random();
    random.as_bytes()[..7].iter().map(|byte| EMOJI[usize::from(byte % 16)]).collect()
}

const EMOJI: [Emoji; 16] = [
    Emoji { symbol: "🐶", name: "Dog" },
    Emoji { symbol: "🐱", name: "Cat" },
    Emoji { symbol: "🦁", name: "Lion" },
    Emoji { symbol: "🐎", name: "Horse" },
    Emoji { symbol: "🦄", name: "Unicorn" },
    Emoji { symbol: "🐷", name: "Pig" },
    Emoji { symbol: "🐘", name: "Elephant" },
    Emoji { symbol: "🐰", name: "Rabbit" },
    Emoji { symbol: "🐼", name: "Panda" },
    Emoji { symbol: "🐓", name: "Rooster" },
    Emoji { symbol: "🐧", name: "Penguin" },
    Emoji { symbol: "🐢", name: "Turtle" },
    Emoji { symbol: "🐟", name: "Fish" },
    Emoji { symbol: "🐙", name: "Octopus" },
    Emoji { symbol: "🦋", name: "Butterfly" },
    Emoji { symbol: "🌷", name: "Flower" },
];
