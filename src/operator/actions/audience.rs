//! Who can read: by link, and by person over all accounts.

use std::{collections::BTreeMap, time::Duration};

use sealbridge_contract::{
    AccountName, Address, DeliveryError, PersonId, Timestamp,
    audience::{Admission, Audience, Device, Identity, Member, Proof, Standing},
};
use serde::Serialize;

use super::{Outcome, Place, links, to_line, transport_of};
use crate::{
    notices,
    operator::{Failure, Host, plain::field},
    store::LinkName,
};

#[derive(Serialize)]
struct MemberLine {
    link: Option<String>,
    at: String,
    person: String,
    name: Option<String>,
    standing: Standing,
    proof: Proof,
    identity: Option<Identity>,
    pinned: Option<Identity>,
    since: Option<Timestamp>,
    devices: Vec<Device>,
}

impl MemberLine {
    fn of(link: Option<&LinkName>, at: &Address, member: Member) -> Self {
        Self {
            link: link.map(ToString::to_string),
            at: at.to_string(),
            person: member.person.as_str().to_owned(),
            name: member.name,
            standing: member.standing,
            proof: member.proof,
            identity: member.identity,
            pinned: member.pinned,
            since: member.since,
            devices: member.devices,
        }
    }
}

/// So many people of a conversation are shown in a chat.
const SHOWN: usize = 50;

/// The conversations that are meant, with the link that they are named by.
async fn ends(host: &dyn Host, of: &Place) -> Result<(Option<LinkName>, Vec<Address>), Failure> {
    Ok(match of {
        Place::Link(name) => {
            let link = links::find(host, name).await?;
            (Some(link.name), link.ends.into_iter().map(|end| end.at).collect())
        }
        Place::Conversation(at) => (None, vec![at.clone()]),
    })
}

/// Everybody who can read what crosses, in each of the conversations.
pub(super) async fn show(host: &dyn Host, of: &Place, from: Option<&Address>) -> Result<Outcome, Failure> {
    let (name, ends) = ends(host, of).await?;
    let mut words = match from {
        Some(_) => format!(
            "What crosses is read by these people, and on the host of the operator who runs the bridge: {}.\n",
            field(&host_name())
        ),
        None => format!(
            "What crosses {} is read by the people below, and on the host where the bridge runs: {}.\n",
            field(&of.to_string()),
            field(&host_name())
        ),
    };
    let mut lines = vec![serde_json::json!({ "of": of.to_string(), "host": host_name() })];
    for at in &ends {
        if notices::is_source(at) {
            let what = match (notices::is_operator(at), from) {
                (_, Some(_)) => "What programs and the operator bring",
                (true, None) => "What `sealbridge send` brings",
                (false, None) => "A source of yours: what programs bring",
            };
            words.push_str(&format!("{}\n  {what}; nobody reads there\n", title(at, from)));
            continue;
        }
        let account = host.accounts().into_iter().find(|account| account.name == at.account);
        let Some(transport) = account.and_then(|account| account.transport) else {
            words.push_str(&format!("{}\n  its account is not open; `sealbridge status` says why\n", title(at, from)));
            continue;
        };
        let here = transport.common().conversations().into_iter().find(|info| info.id == at.conversation);
        let name_of = here.and_then(|info| info.name).filter(|_| from.is_none());
        let name_of = name_of.map_or(String::new(), |name| format!("  {name:?}"));
        words.push_str(&format!("{}{name_of}\n", title(at, from)));
        match transport.common().audience(&at.conversation).await {
            Ok(Some(audience)) => {
                if audience.open {
                    words
                        .push_str("  its history is open: anybody can see who writes here and when, though not what\n");
                    lines.push(serde_json::json!({ "link": name, "at": at.to_string(), "open": true }));
                }
                let more = audience.members.len().saturating_sub(SHOWN).min(from.map_or(0, |_| usize::MAX));
                for (place, member) in audience.members.into_iter().enumerate() {
                    if place < SHOWN || from.is_none() {
                        describe(&mut words, &member, host.clock().now(), from.is_none());
                    }
                    lines.push(to_line(&MemberLine::of(name.as_ref(), at, member)));
                }
                if more > 0 {
                    words.push_str(&format!("  and {more} more\n"));
                }
            }
            Ok(None) => {
                words.push_str("  who reads here can't be said: we are not in it, or its network does not tell\n")
            }
            Err(error) => words.push_str(&format!("  who reads here can't be said now: {error}\n")),
        }
    }
    Ok(Outcome::new(words, lines))
}

fn describe(words: &mut String, member: &Member, now: Timestamp, devices: bool) {
    let who = field(member.person.as_str());
    let name = member.name.as_ref().map_or(String::new(), |name| format!("  {name:?}"));
    let state = standing(member.standing);
    let since = member.since.map_or(String::new(), |since| format!(", known for {}", ago(now.since(since))));
    words.push_str(&format!("  {who}{name}  {state}; {}{since}\n", member.proof.words()));
    if let Some(identity) = &member.identity {
        words.push_str(&format!("    identity {}\n", grouped(identity)));
    }
    if let Some(pinned) = &member.pinned {
        words.push_str(&format!("    known until now by {}\n", grouped(pinned)));
    }
    for device in member.devices.iter().filter(|_| devices) {
        let reads = match (member.standing, &device.withheld) {
            (_, Some(why)) => format!("gets no keys: {why}"),
            (Standing::Reads, None) => "reads".to_owned(),
            _ => "gets no keys yet".to_owned(),
        };
        words.push_str(&format!("    device {}  {reads}\n", field(&device.id)));
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Reads => "reads",
        Standing::New => "NEW: reads nothing yet",
        Standing::Changed => "CHANGED IDENTITY: nothing is carried there",
        Standing::Invited => "only invited: reads nothing",
        Standing::NoIdentity => "has no identity: reads nothing",
    }
}

/// What a conversation is called, for somebody who asks from within one.
fn title(at: &Address, from: Option<&Address>) -> String {
    match from {
        None => field(&at.to_string()).into_owned(),
        Some(here) if here == at => "Here:".to_owned(),
        Some(_) => "In another conversation of the link:".to_owned(),
    }
}

/// A key in groups that can be compared.
fn grouped(identity: &Identity) -> String {
    let characters: Vec<char> = field(identity.as_str()).chars().collect();
    characters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// Lets people of a link read as they are now: newcomers, and those whose identity changed.
pub(super) async fn approve(
    host: &dyn Host,
    of: &Place,
    people: &[PersonId],
    key: Option<&Identity>,
    from: Option<&Address>,
) -> Result<Outcome, Failure> {
    if key.is_some() && people.len() != 1 {
        return Err(Failure::usage("a key is one person's; approve the others by themselves"));
    }
    let (_, ends) = ends(host, of).await?;
    let mut found: BTreeMap<Address, Vec<Admission>> = BTreeMap::new();
    for at in ends {
        let transport = transport_of(host, &at.account)?;
        let Some(audience) = transport.common().audience(&at.conversation).await? else { continue };
        let waiting = |member: &&Member| matches!(member.standing, Standing::New | Standing::Changed);
        let named = audience.members.iter().filter(waiting).filter(|member| people.contains(&member.person));
        let named: Vec<_> = named.map(Admission::from).collect();
        if !named.is_empty() {
            found.insert(at, named);
        }
    }
    let is_found = |who: &&PersonId| found.values().flatten().any(|admission| admission.person == **who);
    if let Some(missing) = people.iter().find(|who| !is_found(who)) {
        let who = field(missing.as_str()).into_owned();
        return Err(Failure::usage(format!(
            "{who} does not wait to be approved in {of}; `sealbridge audience {of}` shows who does"
        )));
    }
    if let Some(key) = key {
        is_theirs(key, found.values().flatten())?;
    }
    let mut words = String::new();
    for (at, admissions) in &found {
        transport_of(host, &at.account)?.common().admit(&at.conversation, admissions).await?;
        for admission in admissions {
            let key = admission.identity.as_ref().map_or("without an identity".to_owned(), grouped);
            let who = field(admission.person.as_str());
            words.push_str(&match from {
                None => format!("{who} reads in {} from now on: {key}\n", field(&at.to_string())),
                Some(_) => format!("{who} reads from now on: {key}\n"),
            });
        }
    }
    let admitted = found.iter().flat_map(|(at, admissions)| {
        let one = |admission: &Admission| {
            let (person, identity) = (&admission.person, &admission.identity);
            serde_json::json!({ "at": at.to_string(), "person": person, "identity": identity })
        };
        admissions.iter().map(one)
    });
    let admitted: serde_json::Value = admitted.collect();
    let line = serde_json::json!({ "of": of.to_string(), "approved": people, "admitted": admitted });
    Ok(Outcome { audited: Some(admitted), ..Outcome::one(words, &line) })
}

/// Whether everybody here has this identity, however its characters are grouped.
fn is_theirs<'a>(key: &Identity, mut admissions: impl Iterator<Item = &'a Admission>) -> Result<(), Failure> {
    let characters = |identity: &Identity| identity.as_str().split_whitespace().collect::<String>();
    let differs = |admission: &&Admission| admission.identity.as_ref().map(characters) != Some(characters(key));
    let Some(other) = admissions.find(differs) else { return Ok(()) };
    let now = other.identity.as_ref().map_or("they have none".to_owned(), |now| format!("it is {}", grouped(now)));
    Err(Failure::refused(format!(
        "the identity of {} is not the one that you named: {now}; nobody was approved",
        field(other.person.as_str())
    )))
}

/// A person as all accounts know them.
#[derive(Serialize)]
struct PersonLine {
    account: AccountName,
    person: String,
    name: Option<String>,
    proof: Proof,
    identity: Option<Identity>,
    pinned: Option<Identity>,
    since: Option<Timestamp>,
    devices: Vec<Device>,
    conversations: Vec<String>,
}

/// Everybody in a linked conversation, with how we know them.
pub(super) async fn people(host: &dyn Host, only: Option<&PersonId>) -> Result<Outcome, Failure> {
    let mut known: BTreeMap<(AccountName, PersonId), PersonLine> = BTreeMap::new();
    let mut silent = Vec::new();
    for link in host.journal().links().await? {
        for end in link.ends.into_iter().filter(|end| !notices::is_source(&end.at)) {
            match audience_of(host, &end.at).await {
                Ok(Some(audience)) => take_in(&mut known, &end.at, audience),
                Ok(None) => {}
                Err(error) => silent.push(format!("{}: {}\n", field(&end.at.to_string()), error.cause)),
            }
        }
    }
    let wanted: Vec<_> =
        known.into_values().filter(|line| only.is_none_or(|who| who.as_str() == line.person)).collect();
    if let (Some(who), true) = (only, wanted.is_empty()) {
        let who = field(who.as_str()).into_owned();
        return Err(Failure::usage(format!("nobody in a linked conversation is called {who}")));
    }
    let mut words = String::new();
    for line in &wanted {
        let name = line.name.as_ref().map_or(String::new(), |name| format!("  {name:?}"));
        let since =
            line.since.map_or(String::new(), |since| format!(", known for {}", ago(host.clock().now().since(since))));
        let changed = if line.pinned.is_some() { "CHANGED IDENTITY; " } else { "" };
        let (account, person) = (&line.account, field(&line.person));
        words.push_str(&format!("{account}  {person}{name}  {changed}{}{since}\n", line.proof.words()));
        if only.is_some() {
            for (what, key) in [("identity", &line.identity), ("known until now by", &line.pinned)] {
                key.iter().for_each(|key| words.push_str(&format!("  {what} {}\n", grouped(key))));
            }
            for device in &line.devices {
                let state = device.withheld.as_ref().map_or(String::new(), |why| format!("  gets no keys: {why}"));
                words.push_str(&format!("  device {}{state}\n", field(&device.id)));
            }
            line.conversations.iter().for_each(|at| words.push_str(&format!("  in {}\n", field(at))));
        }
    }
    if wanted.is_empty() {
        words.push_str("Nobody is known yet: there is no link, or nobody else is in one.\n");
    }
    silent.iter().for_each(|line| words.push_str(line));
    Ok(Outcome::new(words, wanted.iter().map(to_line).collect()))
}

fn take_in(known: &mut BTreeMap<(AccountName, PersonId), PersonLine>, at: &Address, audience: Audience) {
    for member in audience.members {
        let line = known.entry((at.account.clone(), member.person.clone())).or_insert_with(|| PersonLine {
            account: at.account.clone(),
            person: member.person.as_str().to_owned(),
            name: member.name,
            proof: member.proof,
            identity: member.identity,
            pinned: member.pinned,
            since: member.since,
            devices: member.devices,
            conversations: Vec::new(),
        });
        line.conversations.push(at.to_string());
    }
}

async fn audience_of(host: &dyn Host, at: &Address) -> Result<Option<Audience>, DeliveryError> {
    let account = host.accounts().into_iter().find(|account| account.name == at.account);
    match account.and_then(|account| account.transport) {
        Some(transport) => transport.common().audience(&at.conversation).await,
        None => Err(DeliveryError::retry("its account is not open; `sealbridge status` says why")),
    }
}

/// Forgets whose identity was pinned.
pub(super) async fn forget(host: &dyn Host, account: &AccountName, person: &PersonId) -> Result<Outcome, Failure> {
    let who = field(person.as_str()).into_owned();
    if !transport_of(host, account)?.common().forget_person(person).await? {
        return Err(Failure::usage(format!("the account {account} knows nobody called {who}")));
    }
    let words = format!(
        "{who} is forgotten: they get nothing until everybody was told of them anew, or you approve them where the link \
         says so.\n"
    );
    Ok(Outcome::one(words, &serde_json::json!({ "account": account, "forgotten": person })))
}

/// How long something has been so, in the largest unit that says something.
fn ago(long: Duration) -> String {
    let seconds = long.as_secs();
    let units = [(24 * 3600, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds")];
    let (length, name) = units.into_iter().find(|(length, _)| seconds >= 2 * length).unwrap_or((1, "seconds"));
    format!("{} {name}", seconds / length)
}

/// What this host calls itself.
fn host_name() -> String {
    // Not read from a file: a confined service reaches none that says it.
    match rustix::system::uname().nodename().to_string_lossy().trim() {
        "" => "this host".to_owned(),
        name => name.to_owned(),
    }
}
