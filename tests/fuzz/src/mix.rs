//! Inputs made of a corpus and of the words of a language.

use std::{fmt, ops::Bound, ops::Range};

use bolero::{Driver, ValueGenerator};

use crate::LONGEST;

/// An input. A finding is printed so that it can be put into the corpus with `printf '%b'`.
pub(crate) struct Input(pub(crate) Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// What inputs are made of.
pub(crate) struct Mix {
    pub(crate) seeds: Vec<Vec<u8>>,
    pub(crate) words: Vec<Vec<u8>>,
}

/// What is more to a parser than most, with gaps in between.
const ODD: &str = "\0 \n \r \t \" ' \\ < > & ; : / { } [ ] , = - 1e999 -1 0 9007199254740993 18446744073709551616 null true \
                   \u{85} \u{a0} \u{ad} \u{200b} \u{200d} \u{202e} \u{2028} \u{2066} \u{feff} \u{fffd} \u{e0001} \u{fe0f} \
                   ä я ا 👍 \\u0000 \\ud800 %2e ../";

impl ValueGenerator for Mix {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        let mut input = match below(driver, 8)? {
            0 => noise(driver, 256)?,
            1 | 2 => self.sentence(driver)?,
            3 => {
                let mut first = self.seed(driver)?;
                let at = upto(driver, first.len())?;
                first.truncate(at);
                let second = self.seed(driver)?;
                let from = upto(driver, second.len())?;
                first.extend_from_slice(&second[from..]);
                first
            }
            _ => self.seed(driver)?,
        };
        for _ in 0..below(driver, 6)? {
            self.change(driver, &mut input)?;
        }
        input.truncate(LONGEST);
        Some(Input(input))
    }
}

impl Mix {
    fn seed<D: Driver>(&self, driver: &mut D) -> Option<Vec<u8>> {
        let at = below(driver, self.seeds.len())?;
        Some(self.seeds[at].clone())
    }

    fn sentence<D: Driver>(&self, driver: &mut D) -> Option<Vec<u8>> {
        let mut input = Vec::new();
        for _ in 0..below(driver, 40)? {
            let word = self.word(driver)?;
            input.extend_from_slice(&word);
        }
        Some(input)
    }

    fn word<D: Driver>(&self, driver: &mut D) -> Option<Vec<u8>> {
        Some(match below(driver, 4)? {
            0 | 1 if !self.words.is_empty() => self.words[below(driver, self.words.len())?].clone(),
            2 => {
                let character = driver.gen_char(Bound::Unbounded, Bound::Unbounded)?;
                character.encode_utf8(&mut [0; 4]).as_bytes().to_vec()
            }
            _ => {
                let odd: Vec<&str> = ODD.split(' ').collect();
                odd[below(driver, odd.len())?].into()
            }
        })
    }

    fn change<D: Driver>(&self, driver: &mut D, input: &mut Vec<u8>) -> Option<()> {
        let range = piece(driver, input.len())?;
        match below(driver, 8)? {
            0 => drop(input.drain(range)),
            1 => {
                if let Some(byte) = input.get_mut(range.start) {
                    *byte ^= 1 << below(driver, 8)?;
                }
            }
            2 => {
                if let Some(byte) = input.get_mut(range.start) {
                    *byte = driver.gen_u8(Bound::Unbounded, Bound::Unbounded)?;
                }
            }
            3 | 4 => {
                let word = self.word(driver)?;
                input.splice(range.start..range.start, word);
            }
            5 => {
                let word = self.word(driver)?;
                input.splice(range, word);
            }
            // A piece again and again: depth and length are found so.
            6 => {
                let times = 1 << below(driver, 12)?;
                let again = input[range.clone()].repeat(times);
                if input.len() + again.len() <= LONGEST {
                    input.splice(range.end..range.end, again);
                }
            }
            _ => input.truncate(range.start),
        }
        Some(())
    }
}

/// A piece of so many bytes, most often a short one.
fn piece<D: Driver>(driver: &mut D, length: usize) -> Option<Range<usize>> {
    let start = upto(driver, length)?;
    let longest = length - start;
    let most = if driver.gen_bool(Some(0.8))? { longest.min(24) } else { longest };
    Some(start..start + upto(driver, most)?)
}

fn noise<D: Driver>(driver: &mut D, most: usize) -> Option<Vec<u8>> {
    let length = below(driver, most)?;
    (0..length).map(|_| driver.gen_u8(Bound::Unbounded, Bound::Unbounded)).collect()
}

/// A number below `count`, which is more than nought.
fn below<D: Driver>(driver: &mut D, count: usize) -> Option<usize> {
    driver.gen_usize(Bound::Included(&0), Bound::Excluded(&count))
}

fn upto<D: Driver>(driver: &mut D, most: usize) -> Option<usize> {
    driver.gen_usize(Bound::Included(&0), Bound::Included(&most))
}
