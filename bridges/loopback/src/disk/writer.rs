//! The only writer of what was heard: many deliveries share one sync.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use sealbridge_contract::{Clock, Deduplication, DeliveryError, DeliveryId, RemoteId, Text, Timestamp};
use tokio::sync::oneshot;

use super::{
    lines::{HeardLine, more_of},
    read_lines,
};
use crate::hub::{Bytes, Cargo, Content, Put, lock};

/// As many deliveries share one sync at most.
const GROUP: usize = 256;

type Taken = HashMap<DeliveryId, (RemoteId, Timestamp)>;

pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
    taken: Arc<Mutex<Taken>>,
}

struct Order {
    put: Put,
    answer: oneshot::Sender<Result<RemoteId, DeliveryError>>,
}

impl Writer {
    /// Reads what was heard before, cuts off a line that a kill left unfinished, and starts to write.
    pub(super) fn start(file: File, remembers: Deduplication) -> io::Result<Self> {
        let (mut taken, mut length) = (Taken::new(), 0);
        loop {
            let next = read_lines(&file, length, GROUP, &mut |line: HeardLine| {
                if let Ok(delivery) = DeliveryId::parse(&line.delivery) {
                    taken.entry(delivery).or_insert((RemoteId::new(line.id), Timestamp(line.at)));
                }
            })?;
            if next == length {
                break;
            }
            length = next;
        }
        file.set_len(length)?;
        let taken = Arc::new(Mutex::new(taken));
        let (orders, receiver) = mpsc::channel();
        let desk = Desk { file, length, remembers, taken: Arc::clone(&taken), clock: Clock::system() };
        std::thread::Builder::new().name("loopback-disk".to_owned()).spawn(move || desk.work(&receiver))?;
        Ok(Self { orders, taken })
    }

    pub(super) fn find(&self, delivery: DeliveryId) -> Option<RemoteId> {
        lock(&self.taken).get(&delivery).map(|(id, _)| id.clone())
    }

    pub(super) async fn append(&self, put: Put) -> Result<RemoteId, DeliveryError> {
        let gone = || DeliveryError::unknown("the writer of the file is gone");
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order { put, answer }).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

struct Desk {
    file: File,
    length: u64,
    remembers: Deduplication,
    taken: Arc<Mutex<Taken>>,
    clock: Clock,
}

impl Desk {
    fn work(mut self, orders: &mpsc::Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let group = [first].into_iter().chain(orders.try_iter().take(GROUP - 1));
            let (mut bytes, mut answers, mut new) = (Vec::new(), Vec::new(), Taken::new());
            for Order { put, answer } in group {
                let id = self.admit(put, &mut new, &mut bytes);
                answers.push((answer, id));
            }
            let written = self.write(&bytes);
            if written.is_ok() {
                lock(&self.taken).extend(new);
            }
            for (answer, id) in answers {
                let failed = |error: &io::Error| DeliveryError::retry(format!("the file was not written: {error}"));
                // Whoever asked may have stopped waiting; what is written stays written.
                let _ = answer.send(written.as_ref().map(|()| id).map_err(failed));
            }
        }
    }

    fn admit(&self, put: Put, new: &mut Taken, bytes: &mut Vec<u8>) -> RemoteId {
        let now = self.clock.now();
        let before = lock(&self.taken).get(&put.delivery).or_else(|| new.get(&put.delivery)).cloned();
        let remembered = |since: Timestamp| match self.remembers {
            Deduplication::Never => false,
            Deduplication::For(long) => now.since(since) <= long,
            Deduplication::Always => true,
        };
        let id = match before {
            Some((id, since)) if remembered(since) => return id,
            Some(_) => RemoteId::new(format!("{}.{}", put.delivery, self.length + bytes.len() as u64)),
            None => RemoteId::new(put.delivery.to_string()),
        };
        new.entry(put.delivery).or_insert((id.clone(), now));
        let line = line(put, &id, now);
        serde_json::to_writer(&mut *bytes, &line).expect("it has only texts and numbers");
        bytes.push(b'\n');
        id
    }

    /// Appends whole lines, or leaves the file as it was.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        match &written {
            Ok(()) => self.length += bytes.len() as u64,
            Err(_) => self.cut_back(),
        }
        written
    }

    fn cut_back(&self) {
        // A half-written line would be glued to the next one, so nothing is written until it is gone.
        while self.file.set_len(self.length).is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn line(put: Put, id: &RemoteId, at: Timestamp) -> HeardLine {
    let (content, parcel) = match put.cargo {
        Cargo::Words(content) => (content, None),
        Cargo::Parcel(Bytes(bytes)) => (Content::default(), Some(bytes)),
    };
    let own = |text: &Text| text.as_str().to_owned();
    HeardLine {
        delivery: put.delivery.to_string(),
        id: id.as_str().to_owned(),
        conversation: put.conversation.as_str().to_owned(),
        author: content.name.as_ref().map(own),
        words: own(&content.plain),
        html: content.html.as_ref().map(own),
        how: content.how.name(),
        reply_to: content.reply_to.as_ref().map(|id| id.as_str().to_owned()),
        more: more_of(&content.more),
        marks: content.trail.to_texts(),
        at: at.0,
        parcel,
    }
}
