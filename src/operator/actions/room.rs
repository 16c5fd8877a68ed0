//! What is asked about one link, or about one message of a conversation: nothing else of the service is shown.

use std::collections::HashSet;

use sealbridge_contract::{Address, PersonId, RemoteId, Timestamp};
use serde::Serialize;

use super::{Outcome, letters, links, to_line};
use crate::{
    config::Period,
    flow::LaneState,
    operator::{Failure, FailureKind, Host, plain::field},
    store::{DeadLetter, Fact, Link, LinkName},
};

#[derive(Serialize)]
struct LinkState<'a> {
    name: &'a LinkName,
    paused: &'a Option<String>,
    ends: Vec<&'static str>,
    queued: u64,
    dead_letters: Vec<i64>,
}

/// How one link is doing, without saying what its conversations are called.
pub(super) async fn show_link(host: &dyn Host, name: &LinkName) -> Result<Outcome, Failure> {
    let link = links::find(host, name).await?;
    let reports = host.journal().lane_reports().await?;
    let of_link = |at: &Address| link.ends.iter().any(|end| end.at == *at);
    let waiting: Vec<_> = reports.into_iter().filter(|report| of_link(&report.at)).collect();
    let dead = letters::all(&*host.journal()).await?.into_iter().filter(|letter| is_of(letter, &link));
    let state = LinkState {
        name,
        paused: &link.paused,
        ends: link.ends.iter().map(|end| links::encryption_of(host, &end.at)).collect(),
        queued: waiting.iter().map(|report| report.queued).sum(),
        dead_letters: dead.map(|letter| letter.number).collect(),
    };
    let mut words = match &link.paused {
        None => format!("The link `{name}` is on.\n"),
        Some(why) => format!("The link `{name}` is off: {}.\n", field(why)),
    };
    words.push_str(&format!("It joins {} conversations: {}.\n", state.ends.len(), state.ends.join("; ")));
    if state.queued > 0 {
        let since = waiting.iter().map(|report| report.since).min().unwrap_or_default();
        words.push_str(&format!("{} messages wait, the first for {}", state.queued, age(host, since)));
        let mut lanes = host.lanes();
        let why = waiting.iter().find_map(|report| match lanes.remove(&report.at) {
            Some(LaneState::Waits(hold)) => Some(hold.to_string()),
            _ => report.cause.clone(),
        });
        words.push_str(&why.map_or(".\n".into(), |why| format!(": {}.\n", field(&why))));
    }
    match state.dead_letters.as_slice() {
        [] => {}
        numbers => words.push_str(&format!("Dead letters: {}.\n", shown(numbers))),
    }
    Ok(Outcome::one(words, &state))
}

/// As many numbers are named.
const NAMED: usize = 20;

fn shown(numbers: &[i64]) -> String {
    let named: Vec<_> = numbers.iter().take(NAMED).map(ToString::to_string).collect();
    let more = numbers.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

fn is_of(letter: &DeadLetter, link: &Link) -> bool {
    let is_end = |at: &Option<Address>| at.as_ref().is_some_and(|at| link.ends.iter().any(|end| end.at == *at));
    is_end(&letter.from) && (letter.to.is_none() || is_end(&letter.to))
}

fn age(host: &dyn Host, since: Timestamp) -> Period {
    Period(std::time::Duration::from_secs(host.clock().now().since(since).as_secs()))
}

/// What became of a message. `by`: only if this person wrote it. `brief`: without saying what the other conversations
/// are called.
pub(super) async fn why(
    host: &dyn Host,
    at: &Address,
    message: &RemoteId,
    by: Option<&PersonId>,
    brief: bool,
) -> Result<Outcome, Failure> {
    let journal = host.journal();
    if let Some(by) = by
        && !journal.wrote(by, at, message).await?
    {
        return Err(Failure::refused("it is not known as a message of yours"));
    }
    let facts = journal.why(at, message).await?;
    if facts.is_empty() {
        return Err(Failure::usage("nothing is known of such a message: perhaps it is too old, or was never to cross"));
    }
    let words: String = facts.iter().map(|fact| describe(host, at, fact, !brief)).collect();
    let line = |fact: &Fact| to_line(&if brief { Fact { to: None, ..fact.clone() } } else { fact.clone() });
    Ok(Outcome::new(words, facts.iter().map(line).collect()))
}

fn describe(host: &dyn Host, at: &Address, fact: &Fact, places: bool) -> String {
    let to = match &fact.to {
        Some(to) if to == at => "here".to_owned(),
        Some(to) if places => field(&to.to_string()).into_owned(),
        Some(_) => "the other side".to_owned(),
        None => "nowhere yet".to_owned(),
    };
    let what = match fact.state {
        "delivered" => format!("Delivered: {to}"),
        "queued" => format!("Waits: {to}"),
        "held" => format!("Held: {to}"),
        "dead" => format!("Dead letter {}: {to}", fact.number.map_or("?".to_owned(), |number| number.to_string())),
        "echo" => "Not carried: it is our own and came back".to_owned(),
        "dropped" => format!("Not carried: {to}"),
        other => format!("Not carried yet ({other}): {to}"),
    };
    let link = fact.link.as_ref().map_or(String::new(), |link| format!(" by the link `{link}`"));
    let reason = fact.reason.as_ref().map_or(String::new(), |reason| format!(": {}", field(reason)));
    format!("{what}{link}, {} ago{reason}.\n", age(host, fact.at))
}

/// Tries a dead letter again that came from a conversation, or was to go there.
pub(super) async fn retry_here(host: &dyn Host, at: &Address, number: i64) -> Result<Outcome, Failure> {
    let journal = host.journal();
    let here = [&letters::find(&*journal, number).await.ok()]
        .into_iter()
        .flatten()
        .any(|letter| letter.from.as_ref() == Some(at) || letter.to.as_ref() == Some(at));
    if !here {
        return Err(Failure::refused(format!("there is no dead letter {number} of this conversation")));
    }
    letters::retry(&*journal, number).await
}

/// Tries every dead letter of a message again.
pub(super) async fn retry_message(host: &dyn Host, at: &Address, message: &RemoteId) -> Result<Outcome, Failure> {
    let facts = host.journal().why(at, message).await?;
    let numbers: HashSet<i64> = facts.iter().filter_map(|fact| fact.number).collect();
    if numbers.is_empty() {
        return Err(Failure::new(FailureKind::Refused, "no dead letter is left of that message"));
    }
    let mut outcome = Outcome::new(String::new(), Vec::new());
    for number in numbers {
        let one = letters::retry(&*host.journal(), number).await?;
        outcome.words.push_str(&one.words);
        outcome.lines.extend(one.lines);
    }
    Ok(outcome)
}
