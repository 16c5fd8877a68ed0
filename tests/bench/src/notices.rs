//! What programs bring: how many requests a second the intake takes durably, a thousand at once, one that floods, and how
//! much longer a notice takes to a homeserver than a bare encrypted send.

use std::{
    fs,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, stream};
use sealbridge::{config, operator::host::Assembled, service::Service};
use sealbridge_contract::{AccountName, RootKey};
use sealbridge_lab::{
    Lab, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    demo::Stage,
    http::{Poster, free_port},
    paths,
};
use sealbridge_loopback::{LoopbackHub, Says};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    PATIENCE,
    account::Account,
    figures::{median, percentile},
    outcome::{Target, show_targets},
    usage::Usage,
};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Requests that are taken one after the other and side by side, for the rate.
    pub requests: usize,
    /// Requests at once.
    pub at_once: usize,
    /// Sources that make them.
    pub sources: usize,
    /// Notices and bare sends, one at a time, in turns.
    pub samples: usize,
}

/// What was measured. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Requests a second that were answered with 202, each after its durable commit. Those who post are in the same process.
    pub durable_per_s: f64,
    /// Of those at once, how many were taken.
    pub at_once_taken: usize,
    /// And how many were told to come again.
    pub at_once_not_now: usize,
    /// Until all of them were answered.
    pub at_once_ms: f64,
    /// Memory of the process before them, those who post included.
    pub rss_before_mib: f64,
    /// And after.
    pub rss_after_mib: f64,
    /// How long a calm source's requests took, median, while nobody else posted.
    pub calm_p50_ms: f64,
    /// The same while another one floods.
    pub beside_flood_p50_ms: f64,
    /// From a request to its answer 200, median.
    pub notice_p50_ms: f64,
    /// The same, 95th percentile.
    pub notice_p95_ms: f64,
    /// A bare encrypted send of the same engine to the same homeserver, median.
    pub bare_p50_ms: f64,
    /// The same, 95th percentile.
    pub bare_p95_ms: f64,
    /// What is wanted, and whether it is so.
    pub targets: Vec<Target>,
}

/// Measures all of it.
pub async fn run(service: &Binary, stage: &Stage, options: Options) -> Result<Figures> {
    stage.heading("The intake alone, over a network in memory");
    let alone = Alone::open(options.sources).await?;
    let durable_per_s = alone.rate(options.requests).await?;
    stage.line(&format!("{durable_per_s:.0} durable requests a second"));
    let rss_before_mib = Usage::own()?.rss_mib;
    let (at_once_taken, at_once_not_now, took) = alone.at_once(options).await?;
    let rss_after_mib = Usage::own()?.rss_mib;
    stage.line(&format!(
        "{} at once from {} sources: {at_once_taken} taken, {at_once_not_now} told to come again, in {:.0} ms; memory {rss_before_mib:.0} MiB before, {rss_after_mib:.0} MiB after",
        options.at_once, options.sources, took.as_secs_f64() * 1000.0,
    ));
    let calm_p50_ms = alone.calm(options.samples).await?;
    let beside_flood_p50_ms = alone.beside_flood(options.samples).await?;
    stage.line(&format!("a calm source: {calm_p50_ms:.1} ms, and {beside_flood_p50_ms:.1} ms while another floods"));
    alone.close().await?;

    let (notices, bare) = over_a_homeserver(service, stage, options.samples).await?;
    let figures = |all: &[f64]| (median(all), percentile(all, 95));
    let ((notice_p50_ms, notice_p95_ms), (bare_p50_ms, bare_p95_ms)) = (figures(&notices), figures(&bare));
    stage.line(&format!("a notice: {notice_p50_ms:.1} ms (p95 {notice_p95_ms:.1}); a bare encrypted send: {bare_p50_ms:.1} ms (p95 {bare_p95_ms:.1})"));
    let targets = vec![
        Target::at_least("intake alone, durable requests a second", durable_per_s, 2000.0),
        Target::at_least(
            "a thousand at once: answered with 202 or 503",
            (at_once_taken + at_once_not_now) as f64,
            options.at_once as f64,
        ),
        Target::at_most("beside a flood, over alone, ms", beside_flood_p50_ms - calm_p50_ms, 20.0),
        Target::at_most("a notice, over a bare encrypted send, ms", notice_p50_ms - bare_p50_ms, 20.0),
    ];
    show_targets(stage, &targets);
    Ok(Figures {
        durable_per_s,
        at_once_taken,
        at_once_not_now,
        at_once_ms: took.as_secs_f64() * 1000.0,
        rss_before_mib,
        rss_after_mib,
        calm_p50_ms,
        beside_flood_p50_ms,
        notice_p50_ms,
        notice_p95_ms,
        bare_p50_ms,
        bare_p95_ms,
        targets,
    })
}

/// A service in this process, with sources that speak in conversations in memory.
struct Alone {
    _folder: tempfile::TempDir,
    service: Arc<dyn Assembled>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), sealbridge::operator::Failure>>,
    poster: Poster,
    base: String,
    sources: usize,
}

impl Alone {
    async fn open(sources: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("notices-").tempdir_in(paths::lab_dir()?)?;
        let hub = LoopbackHub::fresh("bench-notices");
        let account = AccountName::parse("a")?;
        let rooms: Vec<_> = (0..sources).map(|number| format!("room{number}")).collect();
        for room in &rooms {
            let conversation = hub.conversation(room, Says::Encrypted);
            hub.person("ann").join(&conversation);
            hub.join(&account, &conversation);
        }
        let port = free_port()?;
        let mut text = format!(
            "[service]\nstate = {:?}\n[notices]\nlisten = \"127.0.0.1:{port}\"\n[accounts.a]\nnetwork = \"loopback\"\nhub = \"{}\"\nconversations = {rooms:?}\n",
            folder.path().join("state"),
            hub.name(),
        );
        for number in 0..sources {
            text.push_str(&format!(
                "[sources.s{number}]\nformat = \"raw\"\nto = [\"a/room{number}\"]\nmost_per_minute = 100000000\n"
            ));
        }
        let config = config::load_text(&folder.path().join("bench.toml"), &text)?;
        let service = Service::open(Arc::new(config), RootKey::new([7; 32])).await?;
        let (stop, running) = (CancellationToken::new(), Arc::clone(&service));
        let token = stop.clone();
        let task = tokio::spawn(async move { running.run(tokio::sync::oneshot::channel().0, token).await });
        let alone = Self {
            _folder: folder,
            service,
            stop,
            task,
            poster: Poster::new()?,
            base: format!("http://127.0.0.1:{port}"),
            sources,
        };
        let begun = Instant::now();
        while !alone.post(sources - 1, "first", false).await.is_ok_and(|status| status == 200) {
            ensure!(begun.elapsed() < PATIENCE, "the service does not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(alone)
    }

    async fn post(&self, source: usize, words: &str, waits: bool) -> Result<u16> {
        let prefer: &[(&str, &str)] = if waits { &[] } else { &[("prefer", "respond-async")] };
        let status = self.poster.post(&format!("{}/s{source}", self.base), prefer, words.to_owned()).await?;
        // Both are kept for good; which it is depends on who is faster.
        Ok(if status == 202 && !waits { 200 } else { status })
    }

    async fn rate(&self, requests: usize) -> Result<f64> {
        let begun = Instant::now();
        let posts = stream::iter(0..requests)
            .map(|number| async move { self.post(number % self.sources, &format!("notice {number}"), false).await });
        let mut posts = posts.buffer_unordered(256);
        while let Some(status) = posts.next().await {
            let status = status?;
            ensure!(status == 200, "answered with {status}");
        }
        Ok(requests as f64 / begun.elapsed().as_secs_f64())
    }

    async fn at_once(&self, options: Options) -> Result<(usize, usize, Duration)> {
        let begun = Instant::now();
        let posts = (0..options.at_once)
            .map(|number| async move { self.post(number % self.sources, &format!("at once {number}"), true).await });
        let statuses = futures_util::future::join_all(posts).await;
        let count = |wanted: &[u16]| {
            statuses.iter().filter(|status| status.as_ref().is_ok_and(|status| wanted.contains(status))).count()
        };
        Ok((count(&[200, 202]), count(&[503]), begun.elapsed()))
    }

    /// Milliseconds that a source's requests take, median.
    async fn calm(&self, samples: usize) -> Result<f64> {
        let mut took = Vec::new();
        for number in 0..samples {
            let begun = Instant::now();
            let status = self.post(0, &format!("calm {number}"), true).await?;
            ensure!(status == 200, "answered with {status}");
            took.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(median(&took))
    }

    async fn beside_flood(&self, samples: usize) -> Result<f64> {
        let flood = async {
            let posts = stream::iter(0..)
                .map(|number: usize| async move { self.post(1, &format!("flood {number}"), true).await });
            posts.buffer_unordered(128).for_each(|_| async {}).await;
        };
        tokio::select! {
            () = flood => anyhow::bail!("a flood has no end"),
            calm = self.calm(samples) => calm,
        }
    }

    async fn close(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.context("The service ends")??;
        self.service.close().await;
        Ok(())
    }
}

/// Notices by the real service, and bare encrypted sends of the same engine, in turns, to one homeserver.
async fn over_a_homeserver(service: &Binary, stage: &Stage, samples: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    stage.heading("Over a real homeserver, one at a time");
    let lab = Lab::pair().await?;
    let listener = Person::new_on(&lab.a, "listener").await?;
    let account = AccountPlan::on(&lab.a, "a").await?;
    let bot = account.user.id.clone();
    let mut bridge =
        Bridge::set_up(service, &Plan { accounts: vec![account], admin: None, extra: String::new() }).await?;
    bridge.start().await?;
    let room = listener.create_encrypted_room("Alerts", &[&bot]).await?;
    bridge.wait_conversation(&format!("a/{room}"), PATIENCE).await?;
    bridge.stop().await?;
    let port = free_port()?;
    let mut config = fs::OpenOptions::new().append(true).open(bridge.config())?;
    write!(
        config,
        "\n[notices]\nlisten = \"127.0.0.1:{port}\"\n[sources.bench]\nformat = \"raw\"\nto = [\"a/{room}\"]\nmost_per_minute = 100000\n"
    )?;
    drop(config);
    bridge.start().await?;

    let user = lab.a.register_unique("bare").await?;
    let bare = Account::log_in(lab.a.url(), &user.id, &user.password).await?;
    let own = bare.create_room(Some(listener.user_id().try_into().context("A user id")?)).await?;
    listener.wait_invite(own.as_str(), PATIENCE).await?;
    listener.join(own.as_str()).await?;
    bare.wait_member(&own, listener.user_id().try_into().context("A user id")?).await?;

    let (poster, url) = (Poster::new()?, format!("http://127.0.0.1:{port}/bench"));
    let (mut notices, mut sends) = (Vec::new(), Vec::new());
    // The first of each shares keys, and says more of that than of what comes after.
    for number in 0..=samples {
        let begun = Instant::now();
        let status = poster.post(&url, &[], format!("notice {number}")).await?;
        let notice = begun.elapsed().as_secs_f64() * 1000.0;
        ensure!(status == 200, "answered with {status}\n{}", bridge.tail());
        let begun = Instant::now();
        let content = bare.encrypt(&own, &format!("send {number}")).await?;
        bare.put(&content).await?;
        let send = begun.elapsed().as_secs_f64() * 1000.0;
        if number > 0 {
            notices.push(notice);
            sends.push(send);
        }
    }
    bridge.stop().await?;
    lab.stop().await?;
    Ok((notices, sends))
}
