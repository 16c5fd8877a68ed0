//! `[notices]` and `[sources.NAME]`: what is heard from programs, and where it is said.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use sealbridge_contract::{Address, Rule, gate::NewMembers};
use serde::{Deserialize, Serialize};

use super::links::{as_text, by_address};
use crate::{
    config::units::{Period, Size},
    notices::{
        Dialect, Severity,
        quiet::{Hours, Window, Zone},
    },
};

/// Where programs are heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Notices {
    /// The address at which requests are heard, without TLS: a loopback address, or one that only a reverse proxy of
    /// yours reaches. Without it none are.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The address at which mail is taken by SMTP, without TLS: a loopback address. Without it none is.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_mail: Option<SocketAddr>,
    /// How long a request waits for its notice to arrive. After that it is answered that it is kept and goes on its way.
    pub answer_within: Period,
    /// The largest request, and the largest mail.
    pub most_body: Size,
    /// What holds of a conversation, whichever source speaks there: `[notices.conversations."account/conversation"]`.
    #[schemars(with = "BTreeMap<String, Conversation>")]
    #[serde(with = "by_address", skip_serializing_if = "BTreeMap::is_empty")]
    pub conversations: BTreeMap<Address, Conversation>,
}

/// A conversation in which sources speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// Hours in which no source says anything there that matters less than `quiet_below`: it is gathered, and said at their
    /// end.
    pub quiet: Hours,
    /// By whose clock they are. By default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_zone: Option<Zone>,
    /// What matters as much is said in quiet hours, too. What is critical always is.
    #[serde(default = "critical")]
    #[schemars(with = "String")]
    pub quiet_below: Severity,
}

impl Notices {
    /// The quiet hours of conversations, each once.
    #[must_use]
    pub fn windows(&self, conversations: &[Address]) -> Vec<Window> {
        let mut all = Vec::new();
        for window in conversations.iter().filter_map(|at| self.conversations.get(at)).map(Conversation::window) {
            if !all.contains(&window) {
                all.push(window);
            }
        }
        all
    }
}

impl Conversation {
    /// Its quiet hours.
    #[must_use]
    pub fn window(&self) -> Window {
        Window { hours: self.quiet, zone: self.quiet_zone.clone().unwrap_or_default(), below: self.quiet_below }
    }
}

impl Notices {
    /// As small may the largest request be, in bytes.
    pub const LEAST_BODY: u64 = 1 << 10;
    /// As large may it be, since some of these are in memory at once.
    pub const MOST_BODY: u64 = 256 << 20;
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            listen: None,
            listen_mail: None,
            answer_within: Period(Duration::from_secs(10)),
            most_body: Size(16 << 20),
            conversations: BTreeMap::new(),
        }
    }
}

/// Somebody's program that brings notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// How it says what it says.
    pub format: Dialect,
    /// The conversations in which it is said: `account/conversation`.
    #[schemars(with = "Vec<String>")]
    #[serde(with = "as_text")]
    pub to: Vec<Address>,
    /// Files with its secret; two while the secret is being changed. Only their owner may read them. Without any, requests
    /// are taken from this machine alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_files: Vec<PathBuf>,
    /// Under which name its notices appear. By default the source's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A template of your own, in the place of the one for its format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// Where its Alertmanager is asked for silences, for `!seal silence`: over TLS, or on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// How long it may be silent. After that it is said that it is missing, and that it is heard again once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_every: Option<Period>,
    /// The alert by which alone it is heard, and which is never said: `Watchdog`, which fires always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_alert: Option<String>,
    /// The header in which Grafana puts its signature. By default `X-Grafana-Alerting-Signature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_header: Option<String>,
    /// The header in which Grafana puts the time that it signed. With it a request without a time is not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
    /// How many requests it may make in a minute. Beyond that it is told to come later.
    #[serde(default = "most_per_minute")]
    pub most_per_minute: u32,
    /// How many of its notices are said one by one within `gather_for`. What is more is gathered, and said as one message at
    /// the end of that time. Without it everything is said one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// The time in which a burst is counted, and for which the rest of it is gathered.
    #[serde(default = "gather_for")]
    pub gather_for: Period,
    /// For how long the same words are said once: when they come again, their message is edited, which says how often, and
    /// calls nobody. Without it they are said each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold_for: Option<Period>,
    /// Hours in which nothing is said that matters less than `quiet_below`: it is gathered, and said at their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Hours>,
    /// By whose clock they are. By default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_zone: Option<Zone>,
    /// What matters as much is said in quiet hours, too. What is critical always is.
    #[serde(default = "critical")]
    #[schemars(with = "String")]
    pub quiet_below: Severity,
    /// Who is called by what matters as much as `mention_from`: people of Matrix, or everybody, `@room`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mention: Vec<String>,
    /// From which severity on they are called.
    #[serde(default = "critical")]
    #[schemars(with = "String")]
    pub mention_from: Severity,
    /// How long an incident may go on without anybody who says that they look after it. After that somebody else is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_after: Option<Period>,
    /// The conversations in which that is told. Without any it is told in the incident's thread.
    #[schemars(with = "Vec<String>")]
    #[serde(default, with = "as_text", skip_serializing_if = "Vec::is_empty")]
    pub escalate_to: Vec<Address>,
    /// Who is called by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub escalate_mention: Vec<String>,
    /// From which severity on.
    #[serde(default = "critical")]
    #[schemars(with = "String")]
    pub escalate_from: Severity,
    /// How somebody says that they look after an incident.
    #[serde(default)]
    pub acknowledge: Acknowledging,
    /// What becomes of people who come to its conversations: as in a link.
    #[serde(default)]
    #[schemars(with = "String")]
    pub new_members: NewMembers,
}

/// How somebody says that they look after an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledging {
    /// By a reaction, or by a command. Servers can make up a reaction.
    #[default]
    Reaction,
    /// By an admin's command alone, `!seal ack`.
    Command,
}

fn most_per_minute() -> u32 {
    600
}

fn gather_for() -> Period {
    Source::GATHERS_FOR
}

fn critical() -> Severity {
    Severity::Critical
}

impl Source {
    /// As many secrets are valid at once, so that one can be changed without a gap.
    pub const MOST_SECRETS: usize = 2;
    /// The time in which a burst is counted by default.
    pub const GATHERS_FOR: Period = Period(Duration::from_secs(60));

    /// Whether it speaks in a conversation, if only when nobody looks after what it said.
    #[must_use]
    pub fn speaks_in(&self, at: &Address) -> bool {
        self.to.contains(at) || self.escalate_to.contains(at)
    }

    /// Its own quiet hours, which hold beside those of its conversations.
    #[must_use]
    pub fn window(&self) -> Option<Window> {
        let zone = || self.quiet_zone.clone().unwrap_or_default();
        self.quiet.map(|hours| Window { hours, zone: zone(), below: self.quiet_below })
    }

    /// What the gate is told of it.
    #[must_use]
    pub fn rule(&self, paused: bool) -> Rule {
        Rule { paused, new_members: self.new_members, ..Rule::default() }
    }
}
