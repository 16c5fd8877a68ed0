//! A folder that stands for the server, so that a service can be killed and another process can judge.
//!
//! `said-<account>.jsonl` is appended to by whoever plays the people, `heard-<account>.jsonl` by the transport, and
//! `opened-<account>.jsonl` with each direct conversation; each line is synced before it is answered. The account's cursor is a length of each file. A last line without its end
//! is not there yet, or never will be. It holds words in clear and is for tests.

mod lines;
mod peer;
mod writer;

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, ConversationId, DeliveryError, DeliveryId, PersonId, PictureId, RemoteId, Signal, Timestamp,
    inbox::Echo,
};

use crate::{
    config::Settings,
    hub::{Cursor, Event, Item, Page, Polled, Put, Says, Server, What, lock},
};

pub use lines::{HeardLine, SaidLine};
pub use peer::DiskPeer;
use writer::Writer;

/// How often a file is looked at while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(3);
const CHUNK: usize = 256 * 1024;

/// The server, as one account sees it.
pub(crate) struct Disk {
    account: AccountName,
    said: File,
    heard: File,
    opened: Arc<File>,
    writer: Writer,
    joins: Mutex<Joins>,
}

/// Joins that the transport has not learnt yet. Told again at each start.
#[derive(Default)]
struct Joins {
    events: Vec<Arc<Event>>,
    told: usize,
}

impl Disk {
    pub(crate) async fn open(directory: &Path, account: &AccountName, settings: &Settings) -> io::Result<Self> {
        let (directory, account) = (directory.to_owned(), account.clone());
        let (remembers, conversations) = (settings.remembers(), settings.conversations.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let (said, heard) = open_files(&directory, &account)?;
            let opened = open_file(&directory, "opened", &account)?;
            let writer = Writer::start(heard.try_clone()?, remembers)?;
            let direct = read_all(&opened)?;
            let names = conversations.iter().chain(&direct);
            let events = names.map(|name| joined(&ConversationId::new(name.as_str()))).collect();
            let joins = Mutex::new(Joins { events, told: 0 });
            Ok(Self { account, said, heard, opened: Arc::new(opened), writer, joins })
        });
        opened.await.map_err(io::Error::other)?
    }

    fn look(&self, cursor: Cursor, most: usize) -> io::Result<Polled> {
        let mut polled = Polled { cursor, ..Polled::default() };
        {
            let mut joins = lock(&self.joins);
            joins.told = joins.events.len();
            polled.items = joins.events.iter().map(|event| Item::Event(Arc::clone(event))).collect();
        }
        polled.cursor.said = read_lines(&self.said, cursor.said, most, &mut |line: SaidLine| {
            polled.items.push(Item::Event(Arc::new(line.into_event())));
        })?;
        polled.cursor.echoes = read_lines(&self.heard, cursor.echoes, most, &mut |line: HeardLine| {
            let Ok(delivery) = DeliveryId::parse(&line.delivery) else { return };
            let (conversation, id) = (ConversationId::new(line.conversation), RemoteId::new(line.id));
            polled.echoes.push(Echo { conversation, delivery, id });
        })?;
        Ok(polled)
    }
}

fn joined(conversation: &ConversationId) -> Arc<Event> {
    Arc::new(Event {
        id: RemoteId::new(format!("join/{}", conversation.as_str())),
        conversation: conversation.clone(),
        sender: PersonId::new("server@disk"),
        at: Timestamp(0),
        what: What::Joined(Says::Encrypted),
    })
}

fn open_files(directory: &Path, account: &AccountName) -> io::Result<(File, File)> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    Ok((open_file(directory, "said", account)?, open_file(directory, "heard", account)?))
}

fn open_file(directory: &Path, what: &str, account: &AccountName) -> io::Result<File> {
    let path = directory.join(format!("{what}-{account}.jsonl"));
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// The names of all direct conversations. Cuts off a line that a kill left unfinished.
fn read_all(opened: &File) -> io::Result<Vec<String>> {
    let (mut names, mut length) = (Vec::new(), 0);
    loop {
        let next = read_lines(opened, length, usize::MAX, &mut |name| names.push(name))?;
        if next == length {
            opened.set_len(length)?;
            return Ok(names);
        }
        length = next;
    }
}

/// Reads at most `most` whole lines from `start` on, and says where they end.
fn read_lines<T: serde::de::DeserializeOwned>(
    file: &File,
    start: u64,
    most: usize,
    take: &mut dyn FnMut(T),
) -> io::Result<u64> {
    if file.metadata()?.len() <= start {
        return Ok(start);
    }
    let mut bytes = vec![0; CHUNK];
    let mut filled = 0;
    loop {
        let read = file.read_at(&mut bytes[filled..], start + filled as u64)?;
        filled += read;
        // A line longer than a chunk is read whole before anything is made of it.
        if read == 0 || bytes[..filled].contains(&b'\n') {
            break;
        }
        if filled == bytes.len() {
            bytes.resize(2 * filled, 0);
        }
    }
    let mut end = 0;
    for line in bytes[..filled].split_inclusive(|byte| *byte == b'\n').take(most) {
        if line.last() != Some(&b'\n') {
            break;
        }
        let parsed = serde_json::from_slice(line).map_err(|error| {
            // The error of the parser may quote the line, so only its place is told.
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line is not of its form at column {}", error.column()),
            )
        });
        take(parsed?);
        end += line.len();
    }
    Ok(start + end as u64)
}

#[async_trait]
impl Server for Disk {
    async fn poll(&self, cursor: Cursor, most: usize, wait: bool) -> io::Result<Polled> {
        loop {
            let polled = self.look(cursor, most)?;
            if !wait || !polled.items.is_empty() || !polled.echoes.is_empty() {
                return Ok(polled);
            }
            // Another process writes the file, and nothing tells us when.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn acknowledge(&self, _cursor: Cursor) {
        let Joins { events, told } = &mut *lock(&self.joins);
        events.drain(..std::mem::take(told));
    }

    fn read_back(&self, _conversation: &ConversationId, _from: u64, _until: u64, _most: usize) -> Page {
        // A file leaves nothing out, so there are no gaps.
        Page { events: Vec::new(), next: None }
    }

    fn gap_closed(&self, _conversation: &ConversationId, _from: u64, _until: u64) {}

    async fn put(&self, put: Put) -> Result<RemoteId, DeliveryError> {
        self.writer.append(put).await
    }

    async fn find(&self, delivery: DeliveryId) -> Result<Option<RemoteId>, DeliveryError> {
        Ok(self.writer.find(delivery))
    }

    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError> {
        let name = format!("direct:{}:{}", self.account, with.as_str());
        let (opened, line) = (Arc::clone(&self.opened), format!("{}\n", serde_json::json!(name)));
        let written = tokio::task::spawn_blocking(move || {
            (&*opened).write_all(line.as_bytes())?;
            opened.sync_data()
        });
        let failed = |error: io::Error| DeliveryError::retry(format!("the folder takes nothing: {error}"));
        written.await.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
        let conversation = ConversationId::new(name);
        lock(&self.joins).events.push(joined(&conversation));
        Ok(conversation)
    }

    fn about(&self, conversation: &ConversationId) -> (Option<String>, usize) {
        (Some(conversation.as_str().to_owned()), 2)
    }

    fn picture(&self, _of: &PictureId) -> Option<Vec<u8>> {
        None
    }

    fn knows(&self, _person: &PersonId) -> bool {
        // A file has nobody behind it whose device could be compared.
        false
    }

    async fn asked_to_compare(&self) -> PersonId {
        std::future::pending().await
    }

    fn compared(&self, _with: &PersonId) {}

    fn signal(&self, _conversation: &ConversationId, _signal: &Signal) {}

    fn identity(&self) -> PersonId {
        PersonId::new(format!("{}@disk", self.account))
    }
}
