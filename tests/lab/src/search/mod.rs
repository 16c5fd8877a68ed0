//! Looks for texts that must not be there: canaries, in every form that a server may store.
//!
//! Finding nothing is evidence and no proof, so whoever searches also looks for something that has
//! to be found. A database may break a text of thousands of bytes into pages: keep canaries short.

mod encodings;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use encodings::Needle;

/// What one compressed stream may unpack to; the rest of it is not looked at.
const UNPACKED_LIMIT: u64 = 64 << 20;
/// Compressed streams within compressed streams.
const DEPTH: u32 = 2;

/// A canary that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    pub file: PathBuf,
    /// The position in the list of canaries. The text itself is not repeated.
    pub canary: usize,
    pub encoding: String,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub enum Canary<'a> {
    /// What somebody wrote. At least eight characters that chance does not bring together.
    Text(&'a str),
    /// A key.
    Bytes(&'a [u8]),
}

/// Searches for a fixed list of canaries.
#[derive(Debug)]
pub struct Search {
    needles: Vec<(usize, Needle)>,
    automaton: AhoCorasick,
}

impl Search {
    /// A canary should have at least eight characters that chance does not bring together.
    pub fn new<S: AsRef<str>>(canaries: &[S]) -> Result<Self> {
        Self::of(&canaries.iter().map(|canary| Canary::Text(canary.as_ref())).collect::<Vec<_>>())
    }

    /// For texts and keys.
    pub fn of(canaries: &[Canary<'_>]) -> Result<Self> {
        let needles: Vec<_> = canaries
            .iter()
            .enumerate()
            .flat_map(|(number, canary)| {
                let needles = match canary {
                    Canary::Text(text) => encodings::needles(text),
                    Canary::Bytes(key) => encodings::needles_of_bytes(key),
                };
                needles.into_iter().map(move |needle| (number, needle))
            })
            .collect();
        let automaton =
            AhoCorasick::new(needles.iter().map(|(_, needle)| &needle.bytes)).context("Prepare the search")?;
        Ok(Self { needles, automaton })
    }

    /// Every canary in these files and directories, names of files included. What vanishes while
    /// it is searched is passed over; what can't be read is an error.
    pub fn paths<P: AsRef<Path>>(&self, paths: &[P]) -> Result<Vec<Hit>> {
        let mut hits = Vec::new();
        for path in paths {
            self.path(path.as_ref(), &mut hits)?;
        }
        hits.sort();
        hits.dedup();
        Ok(hits)
    }

    /// Every canary in these bytes: its position in the list and its form.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        self.look(bytes, "", DEPTH, &mut found);
        found.sort();
        found.dedup();
        found
    }

    fn path(&self, path: &Path, hits: &mut Vec<Hit>) -> Result<()> {
        let kind = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("Look at {}", path.display())),
        };
        let name = path.file_name().unwrap_or_default();
        for (canary, encoding) in self.bytes(name.as_encoded_bytes()) {
            hits.push(Hit { file: path.to_owned(), canary, encoding: format!("file name, {encoding}") });
        }
        if kind.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("List {}", path.display()))?;
            for entry in entries {
                self.path(&entry?.path(), hits)?;
            }
        } else if kind.is_file() {
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => {
                    return Err(error).with_context(|| format!("Read {}", path.display()));
                }
            };
            for (canary, encoding) in self.bytes(&bytes) {
                hits.push(Hit { file: path.to_owned(), canary, encoding });
            }
        }
        Ok(())
    }

    fn look(&self, bytes: &[u8], within: &str, depth: u32, found: &mut Vec<(usize, String)>) {
        self.scan(bytes, within, found);
        if let Some(joined) = without_soft_breaks(bytes) {
            self.scan(&joined, within, found);
        }
        if depth == 0 {
            return;
        }
        for (at, _) in bytes.iter().enumerate() {
            let rest = &bytes[at..];
            if let Some((kind, unpacked)) = unpack(rest) {
                self.look(&unpacked, &format!("{within}{kind}, "), depth - 1, found);
            }
        }
        for at in bare_streams(bytes) {
            let mut unpacked = Vec::new();
            let _ = DeflateDecoder::new(&bytes[at..]).take(UNPACKED_LIMIT).read_to_end(&mut unpacked);
            if !unpacked.is_empty() {
                self.look(&unpacked, &format!("{within}deflate, "), depth - 1, found);
            }
        }
    }

    fn scan(&self, bytes: &[u8], within: &str, found: &mut Vec<(usize, String)>) {
        for one in self.automaton.find_overlapping_iter(bytes) {
            let (canary, needle) = &self.needles[one.pattern().as_usize()];
            let hit = (*canary, format!("{within}{}", needle.encoding));
            if !found.contains(&hit) {
                found.push(hit);
            }
        }
    }
}

/// Quoted-printable breaks long lines anywhere with `=` and a line end.
fn without_soft_breaks(bytes: &[u8]) -> Option<Vec<u8>> {
    let breaks = |at: usize| match (bytes.get(at), bytes.get(at + 1), bytes.get(at + 2)) {
        (Some(b'='), Some(b'\r'), Some(b'\n')) => 3,
        (Some(b'='), Some(b'\n'), _) => 2,
        _ => 0,
    };
    let first = (0..bytes.len()).find(|at| breaks(*at) > 0)?;
    let mut joined = bytes[..first].to_vec();
    let mut at = first;
    while at < bytes.len() {
        match breaks(at) {
            0 => {
                joined.push(bytes[at]);
                at += 1;
            }
            length => at += length,
        }
    }
    Some(joined)
}

/// Where a stream of deflate without a head of its own may begin. Nothing marks one, so it is tried where it is usual:
/// at the start, behind the blank line that ends a head, and in each entry of a zip archive.
fn bare_streams(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    for at in 0..bytes.len() {
        match &bytes[at..] {
            [b'\r', b'\n', b'\r', b'\n', ..] => starts.push(at + 4),
            [b'\n', b'\n', ..] => starts.push(at + 2),
            [b'P', b'K', 3, 4, head @ ..] if head.len() >= 26 && head[4] == 8 => {
                let length = |from: usize| usize::from(u16::from_le_bytes([head[from], head[from + 1]]));
                starts.push(at + 30 + length(22) + length(24));
            }
            _ => {}
        }
    }
    starts.retain(|at| *at < bytes.len());
    starts
}

/// What a compressed stream at the start of these bytes holds, as far as it can be unpacked.
fn unpack(bytes: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    let mut unpacked = Vec::new();
    // A stream that breaks off still gives what came before.
    let kind = match bytes {
        [0x1f, 0x8b, 0x08, ..] => {
            let _ = MultiGzDecoder::new(bytes).take(UNPACKED_LIMIT).read_to_end(&mut unpacked);
            "gzip"
        }
        // Method 8 with a window, and a header that is a multiple of 31.
        [first, second, ..]
            if first & 0x0f == 8 && first >> 4 <= 7 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0 =>
        {
            let _ = ZlibDecoder::new(bytes).take(UNPACKED_LIMIT).read_to_end(&mut unpacked);
            "zlib"
        }
        _ => return None,
    };
    (!unpacked.is_empty()).then_some((kind, unpacked))
}
