//! One source, as it runs: by what its requests are believed, how many it may make, and whose words they become.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header, uri::Authority};
use sealbridge_contract::{SecretBytes, Timestamp};
use tokio::sync::{MappedMutexGuard, MutexGuard, Semaphore, SemaphorePermit};
use url::Url;

use super::{
    Desk, Dialect, NotTaken, Origin, Posted, SourceName,
    answers::Outcome,
    brought::Author,
    calling::Calls,
    escalation::Escalation,
    gather::Gathered,
    policy::Policy,
    proof::{self, Rules},
    silence,
    together::Together,
    vigil::Vigil,
    wording::Template,
};
use crate::{
    config::{self, Acknowledging, secrets},
    operator::{Failure, FailureKind},
};

/// So many requests of one source are under way at once, so that one that floods does not delay the others.
const AT_ONCE: usize = 64;

/// How often it is said that requests of one source are not proven.
const COMPLAINS_EVERY: Duration = Duration::from_secs(60);

/// One source.
pub(super) struct Source {
    pub(super) dialect: Dialect,
    pub(super) author: Author,
    pub(super) api: Option<Url>,
    pub(super) policy: Policy,
    /// Whether a reaction says that somebody looks after an incident.
    pub(super) heeds_reactions: bool,
    pub(super) name: SourceName,
    /// Incidents are told one after the other, and so is what may be gathered. `None`: what is gathered was not read yet.
    turn: tokio::sync::Mutex<Option<Gathered>>,
    /// Whether it is heard as often as it is to be.
    vigil: Option<Mutex<Vigil>>,
    secrets: Vec<SecretBytes>,
    rules: Rules,
    room: Semaphore,
    /// Its large bodies are read one after the other.
    reads: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
    complaints: Mutex<Complaints>,
}

/// How many more requests a source may make now.
struct Pace {
    per_minute: u32,
    left: f64,
    at: Timestamp,
}

impl Pace {
    fn takes(&mut self, now: Timestamp) -> bool {
        let most = f64::from(self.per_minute);
        let gained = now.since(self.at).as_secs_f64() * most / 60.0;
        (self.left, self.at) = ((self.left + gained).min(most), now);
        let takes = self.left >= 1.0;
        if takes {
            self.left -= 1.0;
        }
        takes
    }
}

/// What is said of requests that are not proven: at most once in a while.
#[derive(Default)]
struct Complaints {
    said: Option<Timestamp>,
    unsaid: u64,
}

impl Complaints {
    /// Of how many it is to be said now.
    fn of_one_more(&mut self, now: Timestamp) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.since(said) < COMPLAINS_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl Source {
    /// Reads its secrets and its template.
    ///
    /// # Errors
    /// [`FailureKind::Config`]: one can't be read, or is none.
    pub(super) fn open(
        name: &SourceName,
        section: &config::Source,
        notices: &config::Notices,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        Self::read(name, section, notices, now).map_err(|failure| failure.while_doing(&format!("[sources.{name}]")))
    }

    fn read(
        name: &SourceName,
        section: &config::Source,
        notices: &config::Notices,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let mut secrets = Vec::new();
        for file in &section.secret_files {
            let secret = secrets::read_file(file)?;
            if secret.is_empty() {
                return Err(Failure::new(FailureKind::Config, format!("{} is empty", file.display())));
            }
            secrets.push(SecretBytes::new(secret.as_bytes().to_vec()));
        }
        let template = match &section.template {
            None => Template::of(section.format),
            Some(file) => {
                let failed =
                    |why: String| Failure::new(FailureKind::Config, format!("the template {}: {why}", file.display()));
                let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
                Template::parse_for(section.format, &text).map_err(|error| failed(error.to_string()))?
            }
        };
        let wrong = |why: String| Failure::new(FailureKind::Config, format!("`api`: {why}"));
        let api = section.api.as_deref().map(silence::address).transpose().map_err(wrong)?;
        let vigil = section.expect_every.map(|every| Vigil::new(every.0, section.expect_alert.clone(), now));
        let escalation = Escalation::of(name, section, notices);
        let header_of = |named: &Option<String>, key: &str| {
            let wrong = |_| Failure::new(FailureKind::Config, format!("`{key}` is no header's name"));
            named.as_deref().map(HeaderName::try_from).transpose().map_err(wrong)
        };
        let usual = Rules::default();
        let signature = header_of(&section.signature_header, "signature_header")?.unwrap_or(usual.signature);
        let timestamp = header_of(&section.timestamp_header, "timestamp_header")?;
        let rules = Rules { signature, timestamp, ..Rules::default() };
        Ok(Self {
            dialect: section.format,
            vigil: vigil.map(Mutex::new),
            policy: Policy::of(section, notices),
            heeds_reactions: section.acknowledge == Acknowledging::Reaction,
            name: name.clone(),
            author: Author::new(
                Origin::source(name, section.name.as_deref()),
                template,
                Calls::of(section),
                escalation,
            ),
            secrets,
            rules,
            api,
            room: Semaphore::new(AT_ONCE),
            reads: tokio::sync::Mutex::default(),
            pace: Mutex::new(Pace {
                per_minute: section.most_per_minute,
                left: f64::from(section.most_per_minute),
                at: now,
            }),
            complaints: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Waits until nobody else tells anything of it, and says what is gathered of it.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn turn(&self, desk: &Desk) -> Result<MappedMutexGuard<'_, Gathered>, NotTaken> {
        let mut turn = self.turn.lock().await;
        if turn.is_none() {
            let [calm, middle, loud] = Gathered::keys(&self.name);
            let waits = desk.kept_before(&Gathered::waits_before(&self.name)).await?;
            let kept = [desk.kept(&calm).await?, desk.kept(&middle).await?, desk.kept(&loud).await?];
            let mut gathered = Gathered::kept(&self.name, kept, waits);
            // What came out of a backup may have been said since that was made, and nothing new is to share its fate.
            while let Some(old) = gathered.said_before(desk.doubt(), &self.name) {
                self.say_together(desk, &mut gathered, old).await?;
            }
            *turn = Some(gathered);
        }
        Ok(MutexGuard::map(turn, |gathered| gathered.get_or_insert_default()))
    }

    /// Says what was gathered under a key as one message.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing was kept, and it is gathered still.
    pub(super) async fn say_together(
        &self,
        desk: &Desk,
        gathered: &mut Gathered,
        (key, together): (String, Together),
    ) -> Result<(), NotTaken> {
        let (mut made, go_on) = self.author.digest(desk, key, &together).await?;
        let mut then = gathered.clone();
        then.said(&together.id);
        // Nobody could look after them before.
        let at = self.author.escalation.as_ref().map(|escalation| desk.clock().now().plus(escalation.after));
        for incident in go_on.iter().filter(|incident| at.is_some() && gathered.is_waiting(incident)) {
            made.writes.push(then.waits(&self.name, incident, at));
        }
        fail::fail_point!("notices::before-digest");
        desk.say(self.author.origin(), made.messages, made.writes).await?;
        fail::fail_point!("notices::after-digest");
        *gathered = then;
        Ok(())
    }

    /// Whether its requests show a secret, or are signed with one. Without any they are believed from this machine alone.
    pub(super) fn has_secret(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Whether a secret of the one is a secret of the other.
    pub(super) fn shares_a_secret_with(&self, other: &Self) -> bool {
        self.secrets.iter().any(|secret| other.secrets.iter().any(|theirs| theirs.expose() == secret.expose()))
    }

    /// Whether a request may be believed. What its proof has in it that no other has is said, so that it is taken once.
    ///
    /// # Errors
    /// [`Outcome::NotProven`], and without a secret [`Outcome::Elsewhere`].
    pub(super) fn prove(&self, from: IpAddr, posted: &Posted<'_>) -> Result<Option<String>, Outcome> {
        if !self.has_secret() {
            let headers = posted.headers;
            let here = from.to_canonical().is_loopback() && !came_through(headers) && !is_for_another(headers);
            return if here { Ok(None) } else { Err(Outcome::Elsewhere) };
        }
        let proven = proof::check(self.dialect, posted, &self.secrets, &self.rules);
        proven.map(|proven| proven.once).map_err(|proof::NotProven| Outcome::NotProven)
    }

    /// Whether [`Self::prove`] can't tell before the body is there.
    pub(super) fn proves_by_the_body(&self, posted: &Posted<'_>) -> bool {
        self.has_secret() && proof::needs_the_body(self.dialect, posted, &self.rules)
    }

    /// Whether it may make one more request now.
    pub(super) fn may_ask(&self, now: Timestamp) -> bool {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).takes(now)
    }

    /// Of how many requests that were not proven it is to be said now, with one more.
    pub(super) fn complain(&self, now: Timestamp) -> Option<u64> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).of_one_more(now)
    }

    /// What is known of how it is heard, if it is to be heard again and again.
    pub(super) fn vigil(&self) -> Option<std::sync::MutexGuard<'_, Vigil>> {
        self.vigil.as_ref().map(|vigil| vigil.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until no other large body of it is read, which can take long: then that takes time from nobody but itself.
    pub(super) async fn reads(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reads.lock().await
    }

    /// A place among its requests that are under way.
    pub(super) fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire().ok()
    }
}

/// Whether a request came through a proxy, or out of a browser: then it is not from a program of this machine, whatever its
/// address says.
fn came_through(headers: &HeaderMap) -> bool {
    const SIGNS: &[&str] = &[
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
        "via",
        "origin",
        "sec-fetch-site",
        "sec-fetch-mode",
    ];
    SIGNS.iter().any(|name| headers.contains_key(*name))
}

/// Whether a request is for another host than this machine, by its own word. A page of another's can have its name lead to
/// this machine, and what its browser asks then is from the page's own server, as far as the browser knows.
fn is_for_another(headers: &HeaderMap) -> bool {
    let is_ours = |host: &HeaderValue| host.to_str().is_ok_and(is_this_machine);
    headers.get_all(header::HOST).iter().any(|host| !is_ours(host))
}

fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_not_proven_are_told_of_once_a_minute_and_all_are_counted() {
        let mut complaints = Complaints::default();
        let told: Vec<_> = (0..150).filter_map(|second| complaints.of_one_more(Timestamp(second * 1000))).collect();
        assert_eq!(told, [1, 60, 60]);
    }
}
