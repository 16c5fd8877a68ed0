//! What a chat was last said to be: its name, and the timer of its messages. Where the engine does not say what one was
//! changed to, it is told as it is now, and that only once for several changes.

use std::{collections::HashMap, sync::Mutex};

use crate::{core::lock, engine::types::Message};

/// So many are remembered; then all are forgotten, and one may be told once more.
const MOST: usize = 4096;

/// By chat and what of it.
#[derive(Debug, Default)]
pub(crate) struct LastTold(Mutex<HashMap<(u32, u8), Last>>);

#[derive(Debug)]
struct Last {
    /// The message that said it first.
    first: u32,
    /// What stands for it.
    value: [u8; 16],
}

impl LastTold {
    pub(crate) const NAME: u8 = 0;
    pub(crate) const TIMER: u8 = 1;

    /// Whether no earlier message said the same last. One that is read again says what it said before.
    pub(crate) fn is_new(&self, by: &Message, of: u8, value: [u8; 16]) -> bool {
        let mut all = lock(&self.0);
        if all.len() >= MOST {
            all.clear();
        }
        let key = (by.chat_id, of);
        if all.get(&key).is_some_and(|last| last.value == value && last.first < by.id) {
            return false;
        }
        all.insert(key, Last { first: by.id, value });
        true
    }
}
