//! What can't be meant of what is said of notices.

use sealbridge_contract::{AccountName, Address, PersonId, message::Mention};

use super::Loading;
use crate::{
    config::{Commander, Config, Conversation, Notices, Size, Source},
    notices::{Dialect, Severity, fold, silence},
};

impl Loading<'_> {
    pub(super) fn check_notices(&mut self, config: &Config) {
        let Notices { listen, listen_mail, most_body, .. } = &config.notices;
        if listen_mail.is_some_and(|at| !at.ip().is_loopback()) {
            let words = "mail is taken from this machine alone, since it comes without TLS: name a loopback address";
            self.problem("notices.listen_mail", words.into());
        }
        for (key, at) in [("listen", listen), ("listen_mail", listen_mail)] {
            if at.is_some_and(|at| at.port() == 0) {
                self.problem(
                    &format!("notices.{key}"),
                    "nobody would know the port: name one, as 127.0.0.1:9480".into(),
                );
            }
        }
        if listen.is_some() && listen == listen_mail {
            self.problem("notices.listen_mail", "this is the address of `listen`: mail has one of its own".into());
        }
        if !(Notices::LEAST_BODY..=Notices::MOST_BODY).contains(&most_body.0) {
            let [least, most] = [Notices::LEAST_BODY, Notices::MOST_BODY].map(Size);
            self.problem("notices.most_body", format!("from {least} to {most}"));
        }
        for (at, place) in &config.notices.conversations {
            let speaks = config.sources.values().any(|source| source.speaks_in(at));
            let found = those([
                (!speaks, "", "no source speaks there"),
                (place.quiet_below == Severity::Low, ".quiet_below", NOTHING_LESS),
            ]);
            for (key, words) in found {
                self.problem(&format!("notices.conversations.{at}{key}"), words.into());
            }
        }
        for (name, source) in &config.sources {
            for (key, words) in wrong_in(source, config) {
                self.problem(&format!("sources.{name}.{key}"), words);
            }
        }
    }
}

/// A key of a source, and what is wrong with it.
type Wrong = (String, String);

fn wrong_in(source: &Source, config: &Config) -> Vec<Wrong> {
    let found = [
        of_its_requests(source, config),
        of_its_sender(source),
        of_its_conversations(source, config),
        of_its_gathering(source),
        of_whom_it_calls(source, config),
        of_its_escalation(source),
    ];
    let words = |(key, words): (String, &str)| (key, words.to_owned());
    let mut all: Vec<_> = found.into_iter().flatten().map(words).collect();
    if let Some(Err(why)) = source.api.as_deref().map(silence::address) {
        all.push(("api".to_owned(), why));
    }
    all
}

type Found = Vec<(String, &'static str)>;

/// Those of these that are so.
fn those<const N: usize>(all: [(bool, &str, &'static str); N]) -> Found {
    all.into_iter().filter(|(is_so, ..)| *is_so).map(|(_, key, words)| (key.to_owned(), words)).collect()
}

fn of_its_requests(source: &Source, config: &Config) -> Found {
    let is_far = config.notices.listen.is_some_and(|at| !at.ip().is_loopback());
    let is_blank = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    those([
        (source.to.is_empty(), "to", "a source is said in one conversation or more"),
        (source.secret_files.len() > Source::MOST_SECRETS, "secret_files", "2 secrets are valid at once, and no more"),
        (
            source.secret_files.is_empty() && is_far,
            "secret_files",
            "a source without a secret is taken from this machine alone: name a secret, or let `notices.listen` be a \
             loopback address",
        ),
        (is_blank(&source.name), "name", "it is empty: give a name, or leave it out for the source's own"),
        (source.most_per_minute == 0, "most_per_minute", "more than nothing"),
        (is_blank(&source.expect_alert), "expect_alert", "it is empty: name an alert, or leave it out"),
        (
            source.expect_alert.is_some() && source.expect_every.is_none(),
            "expect_alert",
            "say with `expect_every` how long it may be away",
        ),
        (source.expect_every.is_some_and(|every| every.0.as_secs() == 0), "expect_every", "a second or longer"),
    ])
}

fn of_its_sender(source: &Source) -> Found {
    let is_no_header =
        |name: &Option<String>| name.as_ref().is_some_and(|name| http::HeaderName::try_from(name).is_err());
    let is_grafana = source.format == Dialect::Grafana;
    let header = "a header's name has letters, digits and - alone, such as \"X-Signature\"";
    let no_grafana = "this is for Grafana, whose signature can be in any header: sources of other formats have theirs";
    those([
        (
            source.api.is_some() && source.format != Dialect::Alertmanager,
            "api",
            "silences are asked of an Alertmanager: this is for the format \"alertmanager\" alone",
        ),
        (is_no_header(&source.signature_header), "signature_header", header),
        (is_no_header(&source.timestamp_header), "timestamp_header", header),
        (source.signature_header.is_some() && !is_grafana, "signature_header", no_grafana),
        (source.timestamp_header.is_some() && !is_grafana, "timestamp_header", no_grafana),
    ])
}

const NOTHING_LESS: &str = "nothing matters less than that: name \"info\", \"warning\" or \"critical\"";

/// A source says and holds the same in all of its conversations, so these have the same quiet hours.
fn of_its_conversations(source: &Source, config: &Config) -> Found {
    let hours = |at: &Address| config.notices.conversations.get(at).map(Conversation::window);
    let differ = |all: &[Address]| all.iter().any(|at| hours(at) != hours(&all[0]));
    let words = "these conversations have different quiet hours (`notices.conversations`), and a source says the same in \
                 all of its conversations: make a source for each";
    those([(differ(&source.to), "to", words), (differ(&source.escalate_to), "escalate_to", words)])
}

fn of_its_gathering(source: &Source) -> Found {
    let no_hours = source.quiet.is_none();
    let takes = (1..=86_400).contains(&source.gather_for.0.as_secs());
    those([
        (!takes, "gather_for", "from a second to a day"),
        (
            source.fold_for.is_some_and(|long| !(1..=fold::LONGEST.as_secs()).contains(&long.0.as_secs())),
            "fold_for",
            "from a second to a day",
        ),
        (
            source.fold_for.is_some() && source.format == Dialect::Discord,
            "fold_for",
            "senders of this format change their messages by name, so each is one of its own",
        ),
        (
            takes && source.burst.is_none() && source.gather_for != Source::GATHERS_FOR,
            "gather_for",
            "say with `burst` how many are said one by one before the rest is gathered",
        ),
        (source.quiet_below == Severity::Low, "quiet_below", NOTHING_LESS),
        (source.quiet_zone.is_some() && no_hours, "quiet_zone", "say with `quiet` from when until when"),
        (
            ![Severity::Critical, Severity::Low].contains(&source.quiet_below) && no_hours,
            "quiet_below",
            "say with `quiet` from when until when",
        ),
    ])
}

fn of_whom_it_calls(source: &Source, config: &Config) -> Found {
    let mut found = Vec::new();
    for (key, people) in [("mention", &source.mention), ("escalate_mention", &source.escalate_mention)] {
        for (index, _) in people.iter().enumerate().filter(|(_, person)| !may_be_called(person, source, config)) {
            let words = "who is called is a person there, as \"@name:server\", or everybody, \"@room\"";
            found.push((format!("{key}[{index}]"), words));
        }
    }
    let is_idle = source.mention.is_empty() && source.mention_from != Severity::Critical;
    found.extend(those([(is_idle, "mention_from", "say with `mention` who is called")]));
    found
}

/// Of these the first matters: the others would follow from it.
fn of_its_escalation(source: &Source) -> Found {
    let is_to = !(source.escalate_to.is_empty() && source.escalate_mention.is_empty());
    let (after, partner) =
        (source.escalate_after, if source.escalate_to.is_empty() { "escalate_mention" } else { "escalate_to" });
    let is_said_there = source.to.iter().any(|to| source.escalate_to.contains(to));
    let all = those([
        (after.is_some_and(|after| after.0.as_secs() == 0), "escalate_after", "a second or longer"),
        (
            after.is_some() && !is_to,
            "escalate_after",
            "say with `escalate_to` where, or with `escalate_mention` to whom",
        ),
        (after.is_none() && is_to, partner, "say with `escalate_after` how long nobody may look after it"),
        (
            is_said_there,
            "escalate_to",
            "it is said there already: name people with `escalate_mention`, or another conversation",
        ),
        (
            after.is_none() && source.escalate_from != Severity::Critical,
            "escalate_from",
            "say with `escalate_after` how long nobody may look after it",
        ),
    ]);
    all.into_iter().take(1).collect()
}

/// Whether somebody could be called where a source speaks.
fn may_be_called(person: &str, source: &Source, config: &Config) -> bool {
    let is_one = |account: &AccountName| {
        let who = Commander { account: account.clone(), person: PersonId::new(person), key: None };
        config.accounts.get(account).is_some_and(|account| account.check_commander(&who).is_ok())
    };
    person == Mention::EVERYBODY || source.to.iter().chain(&source.escalate_to).any(|to| is_one(&to.account))
}
