//! The bridge next to a bare relay, over the same homeservers, with the same people, in turns.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use ruma::OwnedRoomId;
use sealbridge_lab::{
    Lab,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    checker::Tally,
    demo::Stage,
};
use serde::Serialize;

use crate::{
    course::{self, Course},
    figures::{median, percentile},
    person::Person,
    progress, relay,
};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Rooms at each end.
    pub rooms: usize,
    /// Messages one at a time, over each course.
    pub samples: usize,
    /// Turns of many messages at once.
    pub turns: usize,
    /// Messages in a turn.
    pub messages: usize,
}

/// What one course cost. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Figures {
    /// One way, one at a time, from before the sender's request to the listener's answer: median.
    pub p50_ms: f64,
    /// The same, 95th percentile.
    pub p95_ms: f64,
    /// Many at once.
    pub messages_per_s: f64,
    /// Of its own process, while many come at once.
    pub cpu_ms_per_message: f64,
    /// Of its own process, while they come one at a time.
    pub single_cpu_ms_per_message: f64,
    /// Of its own process, after all of it.
    pub rss_mib: f64,
    /// Messages said; each was heard once, in order.
    pub messages: usize,
}

/// What the bridge's egress guard cost. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Guard {
    /// Requests that it looked at, of both accounts.
    pub requests: u64,
    /// A look at one, of the account where it took longer: median.
    pub p50_ms: f64,
    /// The same, 95th percentile.
    pub p95_ms: f64,
    /// The longest look.
    pub longest_ms: f64,
}

/// Both of them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Both {
    /// The bridge.
    pub bridge: Figures,
    /// The bare relay.
    pub bare: Figures,
    /// The bridge's egress guard.
    pub guard: Guard,
    /// What the near homeserver takes with nobody behind it.
    pub homeserver_per_s: f64,
    /// The bridge's messages a second over the bare relay's, turn by turn; the middle one.
    pub throughput: f64,
    /// The bridge's CPU over the bare relay's, turn by turn; the middle one.
    pub cpu: f64,
}

#[derive(Default)]
struct Samples {
    latency_ms: Vec<f64>,
    per_s: Vec<f64>,
    cpu_ms: Vec<f64>,
    single_cpu_ms: f64,
}

/// Measures both, and the homeserver alone.
pub(crate) async fn run(
    lab: &Lab,
    people: [&Person; 2],
    binary: &Binary,
    stage: &Stage,
    options: Options,
) -> Result<Both> {
    let [near, far] = people;
    stage.heading(&format!("The bridge and a bare relay, {} rooms each", options.rooms));
    let (a, b) = tokio::try_join!(AccountPlan::on(&lab.a, "a"), AccountPlan::on(&lab.b, "b"))?;
    let plan = Plan { accounts: vec![a, b], ..Plan::default() };
    let mut bridge = Bridge::set_up(binary, &plan).await?;
    bridge.start().await?;
    let carriers = course::carriers(&plan)?;
    let links = course::rooms(people, &carriers, options.rooms).await?;
    course::joined(people, &carriers, &links).await?;
    course::known(&bridge, &links).await?;
    for (number, [there, here]) in links.iter().enumerate() {
        bridge.link(&format!("bench-{number}"), &[&format!("a/{there}"), &format!("b/{here}")]).await?;
    }
    let bridged = Course::new("bridged0", links, course::pid(&bridge)?);

    let users = relay::Users::register([&lab.a, &lab.b]).await?;
    let ids = users.ids()?;
    let links = course::rooms(people, &ids, options.rooms).await?;
    let relay = relay::Relay::start(&users, links.clone()).await?;
    course::joined(people, &ids, &links).await?;
    let bare = Course::new("bareway0", links, relay.pid()?);

    let mut courses = [bridged, bare];
    for course in &mut courses {
        course.warm_up(near, far).await?;
    }
    let mut samples = [Samples::default(), Samples::default()];
    let mut samples_alone = Vec::new();
    one_at_a_time(&mut courses, &mut samples, people, options).await?;
    let alone = Alone::new(near, options.rooms).await?;
    for turn in 0..options.turns {
        for which in in_turn(turn) {
            let one = courses[which].many(near, far, options.messages).await?;
            samples[which].per_s.push(one.messages_per_s);
            samples[which].cpu_ms.push(one.cpu_ms_per_message);
        }
        samples_alone.push(alone.many(near, options.messages).await?);
        let last = |values: &[f64]| values.last().copied().unwrap_or_default();
        let [bridge, bare] = samples.each_ref().map(|one| (last(&one.per_s), last(&one.cpu_ms)));
        stage.line(&format!(
            "turn {}: bridge {:.1} a second, {:.2} ms of CPU each; bare relay {:.1}, {:.2} ms; homeserver alone {:.1}",
            turn + 1,
            bridge.0,
            bridge.1,
            bare.0,
            bare.1,
            last(&samples_alone)
        ));
    }
    let [bridged, bare] = [0, 1].map(|which| figures(&courses[which], &samples[which], far));
    let (bridged, bare) = (bridged?, bare?);
    bridge.stop().await?;
    let guard = Guard::of_log(&bridge.log_text())?;
    drop(relay);
    let [over, under] = &samples;
    Ok(Both {
        bridge: bridged,
        bare,
        guard,
        homeserver_per_s: median(&samples_alone),
        throughput: median(&by_turns(&over.per_s, &under.per_s)),
        cpu: median(&by_turns(&over.cpu_ms, &under.cpu_ms)),
    })
}

impl Guard {
    /// Each account says it when it ends.
    fn of_log(log: &str) -> Result<Self> {
        let mut guard = Self::default();
        for line in log.lines().filter(|line| line.contains("The egress guard looked.")) {
            let figure = |name: &str| {
                let figure = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
                figure.and_then(|figure| figure.parse::<f64>().ok()).with_context(|| format!("{line} says no {name}"))
            };
            guard.requests += figure("requests")? as u64;
            guard.p50_ms = guard.p50_ms.max(figure("median_us")? / 1000.0);
            guard.p95_ms = guard.p95_ms.max(figure("p95_us")? / 1000.0);
            guard.longest_ms = guard.longest_ms.max(figure("longest_us")? / 1000.0);
        }
        ensure!(guard.requests > 0, "The egress guard looked at nothing");
        Ok(guard)
    }
}

/// The machine is not the same from one turn to the next, but nearly so within one.
fn by_turns(over: &[f64], under: &[f64]) -> Vec<f64> {
    over.iter().zip(under).map(|(over, under)| over / under).collect()
}

/// Who goes first changes, so that neither always has the machine as the other left it.
pub(crate) fn in_turn(turn: usize) -> [usize; 2] {
    if turn.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

async fn one_at_a_time(
    courses: &mut [Course; 2],
    samples: &mut [Samples; 2],
    people: [&Person; 2],
    options: Options,
) -> Result<()> {
    let before = [courses[0].usage()?, courses[1].usage()?];
    let bar = progress::bar(options.samples, "one at a time");
    for turn in 0..options.samples {
        for which in in_turn(turn) {
            let took = courses[which].one(people[0], people[1], turn % options.rooms).await?;
            samples[which].latency_ms.push(took);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for which in [0, 1] {
        samples[which].single_cpu_ms = courses[which].usage()?.cpu_ms_per_message(&before[which], options.samples);
    }
    Ok(())
}

fn figures(course: &Course, samples: &Samples, far: &Person) -> Result<Figures> {
    let tally = course.tally(far);
    let clean = Tally { sent: tally.sent, delivered: tally.sent, ..Tally::default() };
    ensure!(tally == clean, "Not all arrived once and in order: {tally:?}");
    Ok(Figures {
        p50_ms: median(&samples.latency_ms),
        p95_ms: percentile(&samples.latency_ms, 95),
        messages_per_s: median(&samples.per_s),
        cpu_ms_per_message: median(&samples.cpu_ms),
        single_cpu_ms_per_message: samples.single_cpu_ms,
        rss_mib: course.usage()?.rss_mib,
        messages: tally.sent,
    })
}

/// Rooms that nobody carries from.
struct Alone(Vec<OwnedRoomId>);

impl Alone {
    async fn new(near: &Person, count: usize) -> Result<Self> {
        let mut rooms = Vec::new();
        for _ in 0..count {
            let room = near.account.create_room(None).await?;
            near.account.wait_member(&room, near.account.me()).await?;
            rooms.push(room);
        }
        Ok(Self(rooms))
    }

    /// As many at once as over a course; says how many a second the homeserver takes.
    async fn many(&self, near: &Person, messages: usize) -> Result<f64> {
        let mut contents = vec![Vec::new(); self.0.len()];
        for number in 0..messages {
            let room = number % self.0.len();
            let words = "plainly sent, and as long as what is said across, more or less, to the letter";
            contents[room].push(near.account.encrypt(&self.0[room], words).await?);
        }
        let begun = Instant::now();
        course::speak(near, contents).await?;
        Ok(messages as f64 / begun.elapsed().as_secs_f64())
    }
}
