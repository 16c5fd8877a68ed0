//! The people's side of a folder: for the process that drives a test, and for the one that judges it.

use std::{
    fmt,
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use sealbridge_contract::{AccountName, Clock, DeliveryId, RemoteId};

use super::{HeardLine, SaidLine, open_files, read_lines};

/// Says things to one account, and reads what it brought.
pub struct DiskPeer {
    said: File,
    heard: File,
    clock: Clock,
    prefix: DeliveryId,
    count: u64,
}

impl DiskPeer {
    /// Opens the files of `account`, or makes them. One peer for each account writes; any number may read.
    ///
    /// # Errors
    /// If the folder can't be used.
    pub fn open(directory: &Path, account: &AccountName) -> io::Result<Self> {
        let (said, heard) = open_files(directory, account)?;
        let clock = Clock::system();
        Ok(Self { said, heard, clock, prefix: DeliveryId::random(), count: 0 })
    }

    /// Says words, and returns once they are on disk.
    ///
    /// # Errors
    /// If they could not be written.
    pub fn say(&mut self, conversation: &str, sender: &str, words: &str) -> io::Result<RemoteId> {
        self.count += 1;
        let id = format!("{}/{}", self.prefix, self.count);
        let at = self.clock.now().0;
        let name = Some(sender.split('@').next().unwrap_or(sender).to_owned());
        self.write(&[SaidLine { at, name, ..SaidLine::words(&id, conversation, sender, words) }])?;
        Ok(RemoteId::new(id))
    }

    /// Says all of these, and returns once they are on disk.
    ///
    /// # Errors
    /// If they could not be written.
    pub fn write(&mut self, lines: &[SaidLine]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
        }
        self.said.write_all(&bytes)?;
        self.said.sync_data()
    }

    /// Everything that was said, oldest first.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn said(&self) -> io::Result<Vec<SaidLine>> {
        all(&self.said)
    }

    /// Everything that was heard, oldest first.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn heard(&self) -> io::Result<Vec<HeardLine>> {
        all(&self.heard)
    }
}

fn all<T: serde::de::DeserializeOwned>(file: &File) -> io::Result<Vec<T>> {
    let (mut lines, mut start) = (Vec::new(), 0);
    loop {
        let end = read_lines(file, start, usize::MAX, &mut |line| lines.push(line))?;
        if end == start {
            return Ok(lines);
        }
        start = end;
    }
}

impl fmt::Debug for DiskPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskPeer")
    }
}
