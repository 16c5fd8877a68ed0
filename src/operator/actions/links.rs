//! Links: which conversations are carried to each other.

use sealbridge_contract::{Address, gate::Encryption, transport::ConversationInfo};
use serde::Serialize;

use super::{
    Outcome,
    conversations::{IN_CLEAR, is_operators},
    open_transport, to_line, transport_of,
};
use crate::{
    config::nearest,
    notices,
    operator::{Failure, Host, admin, plain::field},
    store::{Link, LinkEnd, LinkName, Tripped},
};

/// Why a link is paused when the operator paused it.
const BY_OPERATOR: &str = "paused by the operator";

#[derive(Serialize)]
struct LinkLine<'a> {
    name: &'a LinkName,
    ends: Vec<EndLine>,
    paused: &'a Option<String>,
    fixed: bool,
}

#[derive(Serialize)]
struct EndLine {
    at: String,
    since: i64,
    name: Option<String>,
    encryption: Option<Encryption>,
    operator_run: bool,
}

pub(super) async fn list(host: &dyn Host) -> Result<Outcome, Failure> {
    let links = host.journal().links().await?;
    let mut words = String::new();
    for link in &links {
        words.push_str(&describe(host, link));
    }
    if links.is_empty() {
        words.push_str("No links yet. Make one: sealbridge links add NAME ACCOUNT/CONVERSATION ACCOUNT/CONVERSATION\n");
    }
    Ok(Outcome::new(words, links.iter().map(|link| line(host, link)).collect()))
}

pub(super) async fn add(host: &dyn Host, name: &LinkName, ends: &[Address]) -> Result<Outcome, Failure> {
    LinkName::chosen(name.as_str()).map_err(Failure::usage)?;
    if ends.len() < 2 {
        return Err(Failure::usage("a link has two ends or more"));
    }
    let journal = host.journal();
    if journal.links().await?.iter().any(|link| link.name == *name) {
        return Err(Failure::usage(format!("there is a link `{name}` already")));
    }
    for (index, end) in ends.iter().enumerate() {
        if ends[..index].contains(end) {
            return Err(Failure::usage(format!("{end} is named twice")));
        }
        must_not_be_the_admin_room(host, end).await?;
        must_be_encrypted(host, end)?;
    }
    must_join_anew(host, name, ends).await?;
    let since = host.clock().now();
    let ends = ends.iter().map(|at| LinkEnd { at: at.clone(), since }).collect();
    put(host, Link { name: name.clone(), ends, paused: None, fixed: false, tripped: None }, "is made").await
}

pub(super) async fn remove(host: &dyn Host, name: &LinkName) -> Result<Outcome, Failure> {
    let link = find(host, name).await?;
    if link.fixed {
        return Err(Failure::refused(format!(
            "the link `{name}` is declared in the config: take it out there and start the service anew, or pause it"
        )));
    }
    host.journal().remove_link(name).await?;
    host.links_changed().await?;
    let words = format!("The link `{name}` is removed. What it still had to deliver is kept as dead letters.\n");
    Ok(Outcome::one(words, &serde_json::json!({ "name": name, "removed": true })))
}

pub(super) async fn replace(
    host: &dyn Host,
    name: &LinkName,
    old: &Address,
    new: &Address,
) -> Result<Outcome, Failure> {
    let link = find(host, name).await?;
    if link.fixed {
        return Err(Failure::refused(format!(
            "the link `{name}` is declared in the config: write {new} there in the place of {old}, and start the service \
             anew"
        )));
    }
    if link.ends.iter().any(|end| end.at == *new) {
        return Err(Failure::usage(format!("{new} is in the link `{name}` already")));
    }
    if !link.ends.iter().any(|end| end.at == *old) {
        return Err(Failure::usage(format!("{old} is not in the link `{name}`")));
    }
    must_not_be_the_admin_room(host, new).await?;
    must_be_encrypted(host, new)?;
    let ends = link.ends.iter().map(|end| if end.at == *old { new } else { &end.at }).cloned().collect::<Vec<_>>();
    must_join_anew(host, name, &ends).await?;
    let end = LinkEnd { at: new.clone(), since: host.clock().now() };
    let moved = host.journal().replace_end(name, old, end).await?;
    host.links_changed().await?;
    let mut outcome = told(host, &find(host, name).await?, "is changed");
    if moved > 0 {
        outcome.words.push_str(&format!("{moved} deliveries that were on their way to {old} go to {new} now.\n"));
    }
    Ok(with_count(outcome, "moved", moved))
}

pub(super) async fn pause(host: &dyn Host, name: &LinkName) -> Result<Outcome, Failure> {
    let mut link = find(host, name).await?;
    link.paused.get_or_insert_with(|| BY_OPERATOR.to_owned());
    // Who pauses it wants it to stay so.
    link.tripped = link.tripped.map(|tripped| Tripped { resume_at: None, ..tripped });
    put(host, link, "is paused: what comes in is held").await
}

pub(super) async fn resume(host: &dyn Host, name: &LinkName) -> Result<Outcome, Failure> {
    find(host, name).await?;
    let released = host.journal().resume(name).await?;
    host.links_changed().await?;
    let mut outcome = told(host, &find(host, name).await?, "goes on");
    if released > 0 {
        outcome.words.push_str(&format!("{released} held deliveries are on their way again.\n"));
    }
    Ok(with_count(outcome, "released", released))
}

fn with_count(mut outcome: Outcome, what: &str, count: usize) -> Outcome {
    if let Some(line) = outcome.lines.first_mut() {
        line[what] = count.into();
    }
    outcome
}

async fn put(host: &dyn Host, link: Link, what: &str) -> Result<Outcome, Failure> {
    host.journal().put_link(link.clone()).await?;
    host.links_changed().await?;
    Ok(told(host, &link, what))
}

fn told(host: &dyn Host, link: &Link, what: &str) -> Outcome {
    let words = format!("The link `{}` {what}.\n{}", link.name, describe(host, link));
    Outcome::new(words, vec![line(host, link)])
}

pub(super) async fn find(host: &dyn Host, name: &LinkName) -> Result<Link, Failure> {
    let links = host.journal().links().await?;
    let names: Vec<_> = links.iter().map(|link| link.name.as_str().to_owned()).collect();
    links.into_iter().find(|link| link.name == *name).ok_or_else(|| {
        let meant = nearest(name.as_str(), &names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Failure::usage(format!("there is no link `{name}`{meant}"))
    })
}

/// A conversation may be linked only if we are in it and it is seen to be encrypted, or the operator runs its server.
pub(super) fn must_be_encrypted(host: &dyn Host, at: &Address) -> Result<(), Failure> {
    let transport = transport_of(host, &at.account)?;
    let Some(info) = info(host, at) else {
        let us = transport.common().health().identity.unwrap_or_else(|| format!("the account `{}`", at.account));
        return Err(Failure::refused(format!(
            "{at} is not a conversation that we are in: invite {us}; `sealbridge conversations list` shows where we are, and \
             by which ids"
        )));
    };
    match info.encryption {
        Encryption::Absent if is_operators(&transport, &at.conversation) => Ok(()),
        Encryption::Pinned | Encryption::Muted | Encryption::Frozen => Ok(()),
        Encryption::Absent => Err(Failure::refused(format!("{at} is not encrypted, so nothing is carried there"))),
        Encryption::Unknown => Err(Failure::new(
            crate::operator::FailureKind::Temporary,
            format!("whether {at} is encrypted is not known yet: try again in a moment"),
        )),
        Encryption::Violated => Err(Failure::refused(format!("{at} was encrypted, and its server now says otherwise"))),
        Encryption::Replaced => Err(Failure::refused(format!("{at} was given up for another conversation"))),
        Encryption::Left => Err(Failure::refused(format!("we are not in {at} any more: invite us again"))),
    }
}

/// What an operator says in the admin room is for the bridge alone.
pub(super) async fn must_not_be_the_admin_room(host: &dyn Host, at: &Address) -> Result<(), Failure> {
    if admin::room(&*host.journal()).await?.as_ref() == Some(at) {
        return Err(Failure::refused(format!("{at} is the admin room, and what is said there goes nowhere else")));
    }
    Ok(())
}

/// Two conversations that two links join would hear everything twice.
async fn must_join_anew(host: &dyn Host, name: &LinkName, ends: &[Address]) -> Result<(), Failure> {
    let links = host.journal().links().await?;
    let joins = |link: &&Link| link.ends.iter().filter(|end| ends.contains(&end.at)).count() > 1;
    match links.iter().filter(|link| link.name != *name).find(joins) {
        Some(link) => Err(Failure::refused(format!("the link `{}` joins two of these already", link.name))),
        None => Ok(()),
    }
}

fn info(host: &dyn Host, at: &Address) -> Option<ConversationInfo> {
    let transport = open_transport(host, &at.account)?;
    transport.common().conversations().into_iter().find(|info| info.id == at.conversation)
}

fn line(host: &dyn Host, link: &Link) -> serde_json::Value {
    let ends = link.ends.iter().map(|end| {
        let info = info(host, &end.at);
        let encryption = info.as_ref().map(|info| info.encryption);
        let (at, since, name) = (end.at.to_string(), end.since.0, info.and_then(|info| info.name));
        EndLine { at, since, name, encryption, operator_run: runs_it(host, &end.at) }
    });
    to_line(&LinkLine { name: &link.name, ends: ends.collect(), paused: &link.paused, fixed: link.fixed })
}

fn describe(host: &dyn Host, link: &Link) -> String {
    let fixed = if link.fixed { ", declared in the config" } else { "" };
    let state = link.paused.as_ref().map_or("on".to_owned(), |why| format!("off: {why}"));
    let mut words = format!("{} ({state}{fixed})\n", link.name);
    for end in &link.ends {
        let encryption = match notices::is_operator(&end.at) {
            true => "what `sealbridge send` says",
            false if notices::is_source(&end.at) => "a source of this service",
            false => encryption_of(host, &end.at),
        };
        let name = info(host, &end.at).and_then(|info| info.name).map_or(String::new(), |name| format!("  {name:?}"));
        words.push_str(&format!("  {}{name}  {encryption}\n", field(&end.at.to_string())));
    }
    words
}

fn runs_it(host: &dyn Host, at: &Address) -> bool {
    open_transport(host, &at.account).is_some_and(|transport| is_operators(&transport, &at.conversation))
}

/// What is known of a conversation's encryption, and so of what is carried there.
pub(super) fn encryption_of(host: &dyn Host, at: &Address) -> &'static str {
    match info(host, at).map(|info| info.encryption) {
        Some(Encryption::Absent) if runs_it(host, at) => IN_CLEAR,
        Some(Encryption::Pinned) => "encrypted",
        Some(Encryption::Absent) => "NOT ENCRYPTED: nothing is carried there",
        Some(Encryption::Violated) => "HELD: was encrypted, and its server now says otherwise",
        Some(Encryption::Replaced) => "HELD: replaced; say `sealbridge links replace` to follow",
        Some(Encryption::Muted) => "HELD: encrypted, and we may not speak there; let us send messages",
        Some(Encryption::Frozen) => "HELD: somebody is there who was not approved; `sealbridge audience` says who",
        Some(Encryption::Left) => "HELD: we are not in it any more; invite us again",
        Some(Encryption::Unknown) => "held until it is known whether it is encrypted",
        None => "held: not a conversation that we are in",
    }
}
