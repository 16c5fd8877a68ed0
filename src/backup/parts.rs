//! What is in a backup: parts, one after the other, each with a head that says what it is and how long.

use std::io::{self, Read, Write};

use sealbridge_contract::{AccountName, SpoolId, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A head is no longer, whatever a file says.
const LONGEST_HEAD: u32 = 4096;

/// One part.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub(super) enum Part {
    /// The first: when what it holds was so, and which version made it.
    About { taken: Timestamp, version: String },
    /// The config file's text.
    Config,
    /// What opens the journal.
    Key,
    /// The journal's file.
    Journal,
    /// A file of the spool, as it is there: sealed under a key of its own.
    File { id: SpoolIdText },
    /// What an account's engine keeps itself.
    Export { account: AccountName },
    /// The last: nothing is missing.
    End,
}

/// A spool file's name, checked when it is read: it becomes part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct SpoolIdText(pub(super) SpoolId);

impl TryFrom<String> for SpoolIdText {
    type Error = sealbridge_contract::ids::BadName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        SpoolId::parse(&text).map(Self)
    }
}

impl From<SpoolIdText> for String {
    fn from(id: SpoolIdText) -> Self {
        id.0.to_string()
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(flatten)]
    part: Part,
    size: u64,
}

/// Writes a part of a known length.
pub(super) fn write(to: &mut impl Write, part: Part, size: u64, from: impl Read) -> io::Result<()> {
    let head = serde_json::to_vec(&Head { part, size })?;
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&head)?;
    let written = io::copy(&mut from.take(size), to)?;
    if written == size { Ok(()) } else { Err(io::Error::other("a file became shorter while it was read")) }
}

/// The next part, and what it holds, which is to be read to its end before the next part is.
pub(super) fn read<R: Read>(from: &mut R) -> io::Result<(Part, io::Take<&mut R>)> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST_HEAD {
        return Err(unknown());
    }
    let mut head = vec![0; length as usize];
    from.read_exact(&mut head)?;
    let Head { part, size } = serde_json::from_slice(&head).map_err(|_| unknown())?;
    Ok((part, from.take(size)))
}

/// All of a small part.
pub(super) fn whole(mut from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    const MOST: u64 = 4 << 20;
    let mut bytes = Zeroizing::new(Vec::new());
    from.by_ref().take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// It opened, so it is as it was made; this version does not know what that is.
fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "it has a part that this version does not know")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_in_order_and_one_that_is_not_known_is_refused() {
        let mut all = Vec::new();
        let about = || Part::About { taken: Timestamp(5), version: "0.1.0".into() };
        let file = || Part::File { id: SpoolIdText(SpoolId::random()) };
        write(&mut all, about(), 0, io::empty()).expect("memory takes it");
        write(&mut all, file(), 3, &b"abc"[..]).expect("memory takes it");
        write(&mut all, Part::End, 0, io::empty()).expect("memory takes it");
        let mut from = all.as_slice();
        assert_eq!(read(&mut from).expect("it is one").0, about());
        let (part, content) = read(&mut from).expect("it is one");
        assert!(matches!(part, Part::File { .. }));
        assert_eq!(whole(content).expect("memory gives it").as_slice(), b"abc");
        assert_eq!(read(&mut from).expect("it is one").0, Part::End);

        for head in [r#"{"part":"secret","size":0}"#, r#"{"part":"file","id":"../../x","size":0}"#] {
            let bytes = [&u32::try_from(head.len()).expect("it is short").to_le_bytes()[..], head.as_bytes()].concat();
            let refused = read(&mut bytes.as_slice()).map(|(part, _)| part).expect_err("nobody knows it");
            assert_eq!(refused.kind(), io::ErrorKind::Unsupported, "{head}");
        }
        assert!(write(&mut Vec::new(), Part::Journal, 4, &b"abc"[..]).is_err(), "it became shorter");
    }
}
