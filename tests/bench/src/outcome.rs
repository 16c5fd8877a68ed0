//! Everything that was measured: the object for scripts, and the table for people.

use sealbridge_lab::demo::Stage;
use serde::Serialize;

use crate::{compare, echo, hundred, journey};

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The bridge over real homeservers.
    pub bridge: compare::Figures,
    /// The same engine and lanes, nothing durable, no gate.
    pub bare: compare::Figures,
    /// The bridge's egress guard.
    pub egress_guard: compare::Guard,
    /// The near homeserver, with nobody behind it.
    pub homeserver: Homeserver,
    /// The journey alone.
    pub journey: journey::Figures,
    /// The bridge next to the bare relay.
    pub ratios: Ratios,
    /// mautrix-python.
    pub mautrix_echo: echo::Figures,
    /// A hundred rooms.
    pub hundred_rooms: hundred::Figures,
    /// What the project wants of itself.
    pub targets: Vec<Target>,
}

/// What a homeserver takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Homeserver {
    /// Plain sends.
    pub messages_per_s: f64,
}

/// The bridge next to the bare relay.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ratios {
    /// The bridge's over the bare relay's.
    pub throughput: f64,
    /// The bridge's over the bare relay's.
    pub cpu: f64,
    /// The bridge's less the bare relay's.
    pub added_p50_ms: f64,
    /// The bridge's less the bare relay's.
    pub added_p95_ms: f64,
}

impl Ratios {
    fn of(both: &compare::Both) -> Self {
        let compare::Both { bridge, bare, throughput, cpu, .. } = *both;
        Self { throughput, cpu, added_p50_ms: bridge.p50_ms - bare.p50_ms, added_p95_ms: bridge.p95_ms - bare.p95_ms }
    }
}

/// One thing that the project wants of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    /// What it is about.
    pub what: &'static str,
    /// What was measured.
    pub measured: f64,
    /// What is wanted.
    pub wanted: f64,
    /// Whether more is better than less.
    pub at_least: bool,
    /// Whether it is so.
    pub met: bool,
}

impl Target {
    pub(crate) fn at_least(what: &'static str, measured: f64, wanted: f64) -> Self {
        Self { what, measured, wanted, at_least: true, met: measured >= wanted }
    }

    pub(crate) fn at_most(what: &'static str, measured: f64, wanted: f64) -> Self {
        Self { what, measured, wanted, at_least: false, met: measured <= wanted }
    }
}

impl Outcome {
    /// Puts the parts together.
    pub fn of(
        both: compare::Both,
        mautrix_echo: echo::Figures,
        hundred_rooms: hundred::Figures,
        journey: journey::Figures,
    ) -> Self {
        let ratios = Ratios::of(&both);
        let compare::Both { bridge, bare, guard, homeserver_per_s, .. } = both;
        let settled = journey.settled_one_link_per_s.min(journey.settled_many_links_per_s) / journey.one_link_per_s;
        let targets = vec![
            Target::at_least("throughput, bridge over bare relay", ratios.throughput, 0.9),
            Target::at_most("added latency at the median, ms", ratios.added_p50_ms, 10.0),
            Target::at_most("added latency at p95, ms", ratios.added_p95_ms, 25.0),
            Target::at_most("CPU a message, bridge over bare relay", ratios.cpu, 1.3),
            Target::at_most("a look of the egress guard at p95, ms", guard.p95_ms, 2.0),
            Target::at_least("journey, durable messages a second", journey.one_link_per_s, 5000.0),
            Target::at_least("many links, over one link", journey.many_links_per_s / journey.one_link_per_s, 0.8),
            Target::at_least("many settled rows, over an empty journal", settled, 0.8),
            Target::at_most(
                "memory with a hundred rooms, MiB",
                hundred_rooms.rss_mib.max(hundred_rooms.rss_started_mib),
                80.0,
            ),
            Target::at_most("relaying after a cold start, ms", hundred_rooms.cold_start_ms, 1000.0),
            Target::at_most("longest idle time with first messages waiting, ms", hundred_rooms.longest_idle_ms, 1000.0),
            Target::at_most("first messages, over the same requests alone", hundred_rooms.first_messages_ratio, 2.5),
        ];
        let homeserver = Homeserver { messages_per_s: homeserver_per_s };
        Self { bridge, bare, egress_guard: guard, homeserver, journey, ratios, mautrix_echo, hundred_rooms, targets }
    }

    /// Shows the figures, with those of the others beside them.
    pub fn show(&self, stage: &Stage) {
        stage.heading("Over two real homeservers");
        let header = ["", "p50 ms", "p95 ms", "messages/s", "CPU ms each", "one by one", "MiB"];
        let [name, rest @ ..] = header;
        stage.line(&row(name, &rest.map(str::to_owned)));
        for (name, figures) in [("bridge", &self.bridge), ("bare relay", &self.bare)] {
            let compare::Figures { p50_ms, p95_ms, messages_per_s, cpu_ms_per_message, .. } = *figures;
            let (single, rss) = (figures.single_cpu_ms_per_message, figures.rss_mib);
            let figures = [p50_ms, p95_ms, messages_per_s, cpu_ms_per_message, single, rss];
            stage.line(&row(name, &figures.map(|figure| format!("{figure:.1}"))));
        }
        let echo = &self.mautrix_echo;
        let dash = || "-".to_owned();
        let figures = [echo.messages_per_s, echo.cpu_ms_per_message, echo.single_cpu_ms_per_message, echo.rss_mib];
        let [rate, cpu, single, rss] = figures.map(|figure| format!("{figure:.1}"));
        stage.line(&row("mautrix-python echo", &[dash(), dash(), rate, cpu, single, rss]));
        let alone = format!("{:.1}", self.homeserver.messages_per_s);
        stage.line(&row("homeserver alone", &[dash(), dash(), alone, dash(), dash(), dash()]));
        let compare::Guard { requests, p50_ms, p95_ms, longest_ms } = self.egress_guard;
        stage.line(&format!(
            "egress guard, a look at each of {requests} requests: p50 {p50_ms:.3} ms, p95 {p95_ms:.3} ms, longest {longest_ms:.1} ms"
        ));
        show_targets(stage, &self.targets);
    }
}

/// Says what is wanted, and whether it is so.
pub(crate) fn show_targets(stage: &Stage, targets: &[Target]) {
    stage.heading("What is wanted");
    for target in targets {
        let (word, met) = (if target.at_least { "at least" } else { "at most" }, if target.met { "yes" } else { "NO" });
        let Target { what, measured, wanted, .. } = target;
        stage.line(&format!("{what:<50} {measured:>9.2}   {word} {wanted:>7.2}   {met}"));
    }
}

fn row(name: &str, cells: &[String; 6]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>12}")).collect();
    format!("{name:<20}{}", cells.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_met_at_its_very_value_and_missed_beyond() {
        assert!(Target::at_least("x", 0.9, 0.9).met && !Target::at_least("x", 0.89, 0.9).met);
        assert!(Target::at_most("x", 10.0, 10.0).met && !Target::at_most("x", 10.1, 10.0).met);
    }
}
