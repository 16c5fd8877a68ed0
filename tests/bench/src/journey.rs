//! The journey alone: desk, gate, dispatch and settle on the real journal, between two networks in memory.
//!
//! What is counted is a message that was said on one side, was heard on the other, and is settled on the disk.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use sealbridge::{
    config::{Config, FixedLink, Journal, Log, Service as ServiceSection},
    operator::host::Assembled,
    service::Service,
    store::LinkName,
    transports::AccountConfig,
};
use sealbridge_contract::{AccountName, Address, ConversationId, RootKey};
use sealbridge_lab::{demo::Stage, paths};
use sealbridge_loopback::{Heard, How, LoopbackHub, LoopbackPerson, Says};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, figures::median, progress, usage::Usage};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Messages in one round.
    pub messages: usize,
    /// Rounds of each case; the middle one is the figure.
    pub rounds: usize,
    /// What "many links" are.
    pub links: usize,
    /// How many settled rows a long-lived journal has.
    pub settled: usize,
}

/// Durable messages a second.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// What "many links" were.
    pub links: usize,
    /// How many settled rows the long-lived journal had.
    pub settled_rows: u64,
    /// One link, empty journal.
    pub one_link_per_s: f64,
    /// Many links, empty journal.
    pub many_links_per_s: f64,
    /// One link, long-lived journal.
    pub settled_one_link_per_s: f64,
    /// Many links, long-lived journal.
    pub settled_many_links_per_s: f64,
    /// CPU of the whole process, the networks in memory and the people on them included; one link, empty journal.
    pub cpu_ms_per_message: f64,
}

/// So many messages are on their way at once: as after a pause, when a network gives much in one answer.
const AHEAD: usize = 4096;
/// The settled rows come over so many links.
const FILLED_OVER: usize = 16;

/// Measures all four.
pub async fn run(stage: &Stage, options: Options) -> Result<Figures> {
    stage.heading("The journey alone, over networks in memory");
    let place = Place::new("one")?;
    let (one, cpu_ms_per_message) = place.rounds(stage, "one link, empty journal", 1, options).await?;
    let place = Place::new("many")?;
    let many_words = format!("{} links", options.links);
    let (many, _) = place.rounds(stage, &format!("{many_words}, empty journal"), options.links, options).await?;

    let place = Place::new("settled")?;
    let bar = progress::bar(options.settled, "settling rows");
    let open = place.open(FILLED_OVER).await?;
    let begun = Instant::now();
    open.carry(options.settled, |count| bar.set_position(count as u64)).await?;
    let rate = options.settled as f64 / begun.elapsed().as_secs_f64();
    open.close().await?;
    bar.finish_and_clear();
    stage.line(&format!("{} rows settled, at {rate:.0} a second", options.settled));
    let words = format!("{} settled rows", options.settled);
    let (settled_one, _) = place.rounds(stage, &format!("one link, {words}"), 1, options).await?;
    let (settled_many, _) = place.rounds(stage, &format!("{many_words}, {words}"), options.links, options).await?;
    let open = place.open(1).await?;
    let settled_rows = open.service.journal().counts().await?.settled;
    open.close().await?;
    Ok(Figures {
        links: options.links,
        settled_rows,
        one_link_per_s: one,
        many_links_per_s: many,
        settled_one_link_per_s: settled_one,
        settled_many_links_per_s: settled_many,
        cpu_ms_per_message,
    })
}

/// A journal on the disk, and the two networks that its accounts are on.
struct Place {
    folder: tempfile::TempDir,
    hubs: [LoopbackHub; 2],
    speaker: LoopbackPerson,
    listener: LoopbackPerson,
}

const ACCOUNTS: [&str; 2] = ["a", "b"];

impl Place {
    fn new(name: &str) -> Result<Self> {
        // The build directory is on a disk; a folder for temporary files may be in memory.
        let folder = tempfile::Builder::new().prefix("journey-").tempdir_in(paths::lab_dir()?)?;
        let hubs = ACCOUNTS.map(|account| LoopbackHub::fresh(&format!("bench-{name}-{account}")));
        let (speaker, listener) = (hubs[0].person("ann"), hubs[1].person("bob"));
        Ok(Self { folder, hubs, speaker, listener })
    }

    /// Runs the service with so many links, and waits until it has said what it says at the start.
    async fn open(&self, links: usize) -> Result<Open<'_>> {
        let rooms: Vec<_> = (0..links).map(|room| format!("room-{room}")).collect();
        for room in &rooms {
            let [there, here] = self.hubs.each_ref().map(|hub| hub.conversation(room, Says::Encrypted));
            self.speaker.join(&there);
            self.listener.join(&here);
        }
        let service = Service::open(Arc::new(self.config(&rooms)?), RootKey::new([7; 32])).await?;
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (service, stop) = (Arc::clone(&service), stop.clone());
            async move { service.run(tokio::sync::oneshot::channel().0, stop).await }
        });
        let rooms: Vec<_> = rooms.into_iter().map(ConversationId::new).collect();
        let open = Open { place: self, service, stop, running, rooms };
        open.settled().await?;
        Ok(open)
    }

    fn config(&self, rooms: &[String]) -> Result<Config> {
        let name = |name: &str| AccountName::parse(name).map_err(anyhow::Error::msg);
        let mut accounts = std::collections::BTreeMap::new();
        for (account, hub) in ACCOUNTS.iter().zip(&self.hubs) {
            let settings = sealbridge_loopback::Settings { conversations: rooms.to_vec(), ..hub.settings() };
            accounts.insert(name(account)?, AccountConfig::Loopback(settings));
        }
        let links = rooms.iter().map(|room| {
            let end = |account: &str| -> Result<Address> {
                Ok(Address { account: name(account)?, conversation: ConversationId::new(room.as_str()) })
            };
            let link: FixedLink = serde_json::from_value(serde_json::json!({
                "ends": ACCOUNTS.map(|account| end(account).map(|end| end.to_string())).into_iter().collect::<Result<Vec<_>>>()?,
            }))?;
            Ok((LinkName::parse(room).map_err(anyhow::Error::msg)?, link))
        });
        Ok(Config {
            service: ServiceSection { state: self.folder.path().to_owned(), ..ServiceSection::default() },
            admin: None,
            operator: Default::default(),
            accounts,
            links: links.collect::<Result<_>>()?,
            notices: Default::default(),
            sources: Default::default(),
            health: Default::default(),
            metrics: Default::default(),
            journal: Journal::default(),
            log: Log::default(),
        })
    }

    /// The middle of some rounds in messages a second, and CPU a message.
    async fn rounds(&self, stage: &Stage, what: &str, links: usize, options: Options) -> Result<(f64, f64)> {
        let open = self.open(links).await?;
        // Each lane and its keys once, so that it is carrying that is measured.
        open.carry(links, |_| {}).await?;
        let before = Usage::own()?;
        let mut rates = Vec::new();
        for _ in 0..options.rounds {
            let begun = Instant::now();
            open.carry(options.messages, |_| {}).await?;
            rates.push(options.messages as f64 / begun.elapsed().as_secs_f64());
        }
        let cpu = Usage::own()?.cpu_ms_per_message(&before, options.messages * options.rounds);
        open.close().await?;
        let rate = median(&rates);
        stage.line(&format!("{what}: {rate:.0} durable messages a second, {:.0} µs of CPU each", cpu * 1000.0));
        Ok((rate, cpu))
    }
}

/// The service while it runs.
struct Open<'a> {
    place: &'a Place,
    service: Arc<dyn Assembled>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), sealbridge::operator::Failure>>,
    rooms: Vec<ConversationId>,
}

impl Open<'_> {
    /// Says so many messages and waits until each was heard once, in the order of its room, and is settled.
    async fn carry(&self, messages: usize, mut progress: impl FnMut(usize)) -> Result<()> {
        let Place { speaker, listener, .. } = self.place;
        let rooms = self.rooms.len();
        let (mut said, mut heard) = (0, 0);
        let mut next: std::collections::HashMap<&ConversationId, usize> = self.rooms.iter().zip(0..).collect();
        while heard < messages {
            while said < messages && said - heard < AHEAD {
                speaker.say(&self.rooms[said % rooms], &words(said));
                said += 1;
            }
            let came = listener.hears(1, PATIENCE).await.len();
            ensure!(came > 0, "Nothing is heard any more, {heard} of {messages} were");
            for message in listener.take_heard().iter().filter(|message| message.how == How::Text) {
                let next = next.get_mut(&message.conversation).context("It was said elsewhere")?;
                ensure!(number(message)? == *next, "{:?} came instead of {next}", number(message));
                *next += rooms;
                heard += 1;
            }
            progress(heard);
        }
        self.settled().await
    }

    /// Waits until nothing is in the outbox.
    async fn settled(&self) -> Result<()> {
        let begun = Instant::now();
        while self.service.journal().counts().await?.queued > 0 {
            ensure!(begun.elapsed() < PATIENCE, "What was delivered is never settled");
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn close(self) -> Result<()> {
        self.stop.cancel();
        self.running.await??;
        self.service.close().await;
        Ok(())
    }
}

/// About as long as what people say; no two the same.
fn words(number: usize) -> String {
    format!("{number} {}", "words of somebody ".repeat(8))
}

fn number(heard: &Heard) -> Result<usize> {
    let words = heard.words.as_str();
    words.split(' ').next().and_then(|number| number.parse().ok()).with_context(|| format!("Not ours: {words}"))
}
