//! Requests of sources: whose they are, whether they may be believed, what they say, and what they are answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, request::Parts};
use sealbridge_contract::{Address, Body, Clock, Kind, Message, Spool, Timestamp};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    Desk, Dialect, NotTaken, Notice, Posted, SourceName, Standing,
    answers::{DELIVERIES, Event, Outcome, answer},
    apart::are_told_apart,
    brought::Messages,
    desk::Named,
    dialects::{self, Refused},
    following::Following,
    gather::Gathering,
    keeping::forget,
    lookup::no_such_source,
    mail,
    server::{Admission, Answers, SMALL},
    source::Source,
    together::is_together,
};
use crate::{
    config::Config,
    metrics::{Meters, Requested},
    operator::Failure,
};

/// What a sender calls its request has at most so many characters.
const MOST_KEY: usize = 255;
/// When whoever is told to come again may do so.
const AGAIN: Duration = Duration::from_secs(5);

/// Takes requests.
pub struct Intake {
    pub(super) desk: Arc<Desk>,
    pub(super) spool: Arc<dyn Spool>,
    meters: Arc<Meters>,
    pub(super) sources: BTreeMap<SourceName, Source>,
    /// Where a server that the operator runs reads what is said.
    in_clear: BTreeSet<String>,
    within: Duration,
    /// Nothing that is kept is waited for any more.
    pub(super) stopping: CancellationToken,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Intake {
    /// Reads the secrets and templates of the sources that the config names.
    ///
    /// # Errors
    /// [`FailureKind::Config`]: one can't be read, or is none.
    pub fn new(config: &Config, desk: Arc<Desk>, spool: Arc<dyn Spool>, meters: Arc<Meters>) -> Result<Self, Failure> {
        let now = desk.clock().now();
        let open = |(name, section): (&SourceName, _)| {
            Source::open(name, section, &config.notices, now).map(|source| (name.clone(), source))
        };
        let sources = config.sources.iter().map(open).collect::<Result<_, Failure>>()?;
        are_told_apart(&sources)?;
        let within = config.notices.answer_within.0;
        let is_in_clear = |at: &&Address| {
            config.accounts.get(&at.account).is_some_and(|account| account.is_read_in_clear(&at.conversation))
        };
        let targets = config.sources.values().flat_map(|section| &section.to);
        let in_clear = targets.filter(is_in_clear).map(Address::to_string).collect();
        Ok(Self { desk, spool, meters, sources, in_clear, within, stopping: CancellationToken::new() })
    }

    /// The source of a request, and what stands behind its own path. A source has the path of its name; beside it stand
    /// the paths that senders have built in, at which a source is found by its secret, whatever the others are called.
    fn find<'a>(
        &'a self,
        path: &'a str,
        from: SocketAddr,
        posted: impl Fn(&'a str) -> Posted<'a>,
    ) -> Option<(&'a SourceName, &'a Source, &'a str)> {
        let inner = path.strip_prefix('/')?;
        let (first, rest) = inner.find('/').map_or((inner, ""), |at| inner.split_at(at));
        let built_in = match first {
            "webhook" => Some((Dialect::Hookshot, rest)),
            "message" if rest.is_empty() => Some((Dialect::Gotify, path)),
            "api" if rest.starts_with("/webhooks/") => Some((Dialect::Discord, &rest["/webhooks".len()..])),
            "services" => Some((Dialect::Slack, rest)),
            "ping" => Some((Dialect::Ping, rest)),
            _ => None,
        };
        let proven = |(dialect, rest)| {
            let mut of_dialect = self.sources.iter().filter(|(_, source)| source.dialect == dialect);
            let is_it = |source: &Source| source.has_secret() && source.prove(from.ip(), &posted(rest)).is_ok();
            of_dialect.find(|(_, source)| is_it(source)).map(|(name, source)| (name, source, rest))
        };
        let named = SourceName::parse(first).ok().and_then(|name| self.sources.get_key_value(&name));
        // ntfy's topics stand in the first place of a path, and a message as JSON has none.
        let last = built_in.unwrap_or((Dialect::Ntfy, path));
        built_in
            .and_then(&proven)
            .or_else(|| named.map(|(name, source)| (name, source, behind(source.dialect, path, rest))))
            .or_else(|| proven(last))
            .or_else(|| self.without_a_secret(last, from, &posted))
    }

    /// The first source without a secret that may be meant by a path that is nobody's name. A request that brings a secret of
    /// another's, or may be signed with one, is not for it, and neither is what is not published as ntfy's senders do.
    fn without_a_secret<'a>(
        &'a self,
        (dialect, path): (Dialect, &'a str),
        from: SocketAddr,
        posted: &impl Fn(&'a str) -> Posted<'a>,
    ) -> Option<(&'a SourceName, &'a Source, &'a str)> {
        let posted = posted(path);
        if dialect == Dialect::Ntfy && !dialects::is_published(&posted) {
            return None;
        }
        let is_anothers = |source: &Source| {
            source.has_secret() && (source.proves_by_the_body(&posted) || source.prove(from.ip(), &posted).is_ok())
        };
        if self.sources.values().any(is_anothers) {
            return None;
        }
        let is_it = |source: &Source| {
            source.dialect == dialect && !source.has_secret() && source.prove(from.ip(), &posted).is_ok()
        };
        let (name, source) = self.sources.iter().find(|(_, source)| is_it(source))?;
        Some((name, source, path))
    }

    async fn bring(&self, source: &Source, from: SocketAddr, posted: &Posted<'_>, at_once: bool) -> Outcome {
        let once = match source.prove(from.ip(), posted) {
            Ok(once) => once,
            Err(outcome) => return outcome,
        };
        match idempotency_key(posted.headers) {
            Ok(given) => self.take(source, posted, (given, once.as_deref()), at_once).await,
            Err(refused) => Outcome::Refused(refused),
        }
    }

    /// Takes what is proven: read, put into words, kept, and followed for a while.
    pub(super) async fn take(
        &self,
        source: &Source,
        posted: &Posted<'_>,
        (given, once): (Option<&str>, Option<&str>),
        at_once: bool,
    ) -> Outcome {
        let not_now = |why: &str| Outcome::NotNow { retry_after: AGAIN, why: why.to_owned() };
        // Whoever is not proven takes nothing from whoever is.
        if !source.may_ask(posted.at) {
            self.hears_only(source, posted).await;
            return Outcome::TooMany { retry_after: AGAIN };
        }
        let Some(_place) = source.place() else {
            self.hears_only(source, posted).await;
            return not_now("too many requests of this source are under way");
        };
        let reads = if posted.body.len() > SMALL { Some(source.reads().await) } else { None };
        let mut notices = match aside(posted, || dialects::read(source.dialect, posted)) {
            Ok(notices) => notices,
            Err(refused) => return Outcome::Refused(refused),
        };
        self.hears(source, &mut notices, posted.at).await;
        aside(posted, || notices.iter_mut().for_each(|notice| source.author.prepare(notice)));
        if notices.is_empty() {
            return Outcome::Silent;
        }
        if let Some(outcome) = self.changes_nothing(source, &notices).await {
            return outcome;
        }
        // What its sender names it is what all of the request is called by.
        let ids: Option<Vec<_>> = notices.iter().map(|notice| notice.id.clone()).collect();
        let name = given.map(str::to_owned).or_else(|| ids.map(|ids| ids.join("\n"))).filter(|name| !name.is_empty());
        let what = aside(posted, || what_it_is(source.dialect, posted, &notices));
        drop(reads);
        let named = Named { name: name.as_deref(), once, what: &what, ..Named::default() };
        // Before its files take room, too.
        if notices.iter().any(|notice| !notice.attachments.is_empty())
            && let Err(why) = self.desk.must_have_room(source.author.origin()).await
        {
            return of_not_taken(why);
        }
        let (mut following, is_held) = match self.keep(source, notices, named).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Outcome::Silent,
            Err(why) => return of_not_taken(why),
        };
        let id = following.id().to_owned();
        if at_once || is_held {
            return Outcome::Queued { id };
        }
        match self.desk.follow(&mut following, self.within, &self.stopping).await {
            // It came before, and waits to be said with others.
            Ok(standing) if standing == Standing::default() && is_together(&id) => Outcome::Queued { id },
            Ok(standing) => {
                if standing.is_final()
                    && standing.arrived.is_empty()
                    && let Err(error) = self.forget_unsaid(source, &following).await
                {
                    tracing::debug!(%error, "What began and is said nowhere is still known.");
                }
                let standing = self.as_changed(source, &following, standing).await;
                self.of_standing(id, standing)
            }
            Err(why) => of_not_taken(why),
        }
    }

    /// A source that is waited for is heard.
    async fn hears(&self, source: &Source, notices: &mut Vec<Notice>, at: Timestamp) {
        let is_back = source.vigil().is_some_and(|mut vigil| vigil.hear(notices, at));
        if is_back && let Err(error) = self.tell_of_silence(source, None).await {
            tracing::warn!(%error, "That a source is heard again is not said yet.");
        }
    }

    /// The same by a request that is not taken now: one that asks too often is not missing.
    async fn hears_only(&self, source: &Source, posted: &Posted<'_>) {
        if source.vigil().is_none() || posted.body.len() > SMALL {
            return;
        }
        if let Ok(mut notices) = aside(posted, || dialects::read(source.dialect, posted)) {
            self.hears(source, &mut notices, posted.at).await;
        }
    }

    fn of_standing(&self, id: String, standing: Standing) -> Outcome {
        let Standing { arrived, waits, refused } = standing;
        if !waits.is_empty() {
            return Outcome::Queued { id };
        }
        let mut refused = refused.into_values();
        if arrived.is_empty() {
            return Outcome::ByPolicy { why: refused.next().unwrap_or_else(|| "it goes nowhere".into()) };
        }
        let event = |(at, id): (String, String)| Event { id, encrypted: !self.in_clear.contains(&at) };
        Outcome::Arrived { id, events: arrived.into_iter().map(event).collect(), refused: refused.collect() }
    }

    /// Forgets what began with a message that is said nowhere, so that it begins anew when it is told of again.
    async fn forget_unsaid(&self, source: &Source, following: &Following) -> Result<(), NotTaken> {
        let mut turn = source.turn(&self.desk).await?;
        let (mut then, mut writes) = (turn.clone(), self.forget_repeats(following).await?);
        for id in following.ids() {
            let incident = source.author.incident(&self.desk, id).await?;
            if let Some((key, known)) = incident.filter(|(_, known)| known.root == *id) {
                writes.extend(forget(&key, &known));
                writes.push(then.waits(&source.name, &key, None));
            }
        }
        if !writes.is_empty() {
            self.desk.remember(writes).await?;
            *turn = then;
        }
        Ok(())
    }

    /// Commits what a request says: as messages, or gathered with others, which is said, too. `None`: there is nothing to say.
    async fn keep(
        &self,
        source: &Source,
        notices: Vec<Notice>,
        named: Named<'_>,
    ) -> Result<Option<(Following, bool)>, NotTaken> {
        let takes_turns = source.policy.takes_turns() || notices.iter().any(|notice| notice.incident.is_some());
        let mut turn = if takes_turns { Some(source.turn(&self.desk).await?) } else { None };
        let gathered = turn.as_deref().cloned().unwrap_or_default();
        let mut gathering = Gathering::new(&source.policy, gathered, self.clock().now()).of(notices.len());
        let mut all = Messages::default();
        for notice in notices {
            let made = source.author.messages(&self.desk, &self.spool, notice, &mut gathering).await?;
            all.messages.extend(made.messages);
            all.writes.extend(made.writes);
            all.beside.extend(made.beside);
            all.repeat = made.repeat;
        }
        all.writes.extend(gathering.writes(&source.name));
        if all.messages.is_empty() && gathering.held().is_none() {
            if !all.writes.is_empty() {
                self.desk.remember(all.writes).await?;
                turn.as_deref_mut().into_iter().for_each(|turn| turn.clone_from(gathering.gathered()));
            }
            return Ok(None);
        }
        let Messages { messages, writes, beside, repeat } = all;
        let named = Named { held: gathering.held(), repeat: repeat.as_ref(), ..named };
        let following = self.desk.take_with(source.author.origin(), messages, named, writes, beside).await?;
        fail::fail_point!("notices::after-keep");
        let is_held = gathering.held().is_some() && !following.is_again();
        if let Some(turn) = turn.as_deref_mut().filter(|_| !following.is_again()) {
            turn.clone_from(gathering.gathered());
        }
        Ok(Some((following, is_held)))
    }

    pub(super) fn count(&self, name: &SourceName, source: &Source, outcome: &Outcome) {
        self.meters.requested(name.as_str(), counted(outcome));
        if matches!(outcome, Outcome::Arrived { refused, .. } if !refused.is_empty()) {
            tracing::warn!(source = %name, "A notice did not arrive in all of its conversations: `sealbridge dead-letters list` says why.");
        }
        // Anybody can make these, as many as they like.
        if matches!(outcome, Outcome::NotProven | Outcome::Elsewhere) {
            if let Some(count) = source.complain(self.clock().now()) {
                tracing::warn!(source = %name, status = %outcome.status(source.dialect), count, "Requests were not proven.");
            }
        } else if !matches!(outcome, Outcome::Arrived { .. } | Outcome::Queued { .. } | Outcome::Silent) {
            let (status, why) = (outcome.status(source.dialect), outcome.why());
            tracing::warn!(source = %name, %status, ?why, "A request was not taken.");
        }
    }

    /// Takes what is mailed at an address of this machine, until `stop`.
    pub async fn take_mail(self: Arc<Self>, server: mail::Server, stop: tokio_util::sync::CancellationToken) {
        server.take_for(self, stop).await;
    }

    /// Commits what is told of an incident without anybody who waits for it.
    pub(super) async fn tell(&self, source: &Source, made: Messages) -> Result<(), NotTaken> {
        let Messages { messages, writes, beside, repeat: _ } = made;
        self.desk.take_with(source.author.origin(), messages, Named::default(), writes, beside).await.map(drop)
    }

    /// Says that a source is tried, where it is heard. `None`: there is no such source.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing was kept.
    pub async fn test(&self, name: &SourceName) -> Result<Option<Standing>, NotTaken> {
        let Some(source) = self.sources.get(name) else { return Ok(None) };
        let words = format!("This is a test of the source {name}, by its operator.");
        let message =
            Message::of(source.author.origin().author(), self.clock().now(), Kind::Notice(Body::plain(words)));
        let mut following = self
            .desk
            .take(source.author.origin(), vec![(Desk::fresh_id(), message)], Named::default(), Vec::new())
            .await?;
        self.desk.follow(&mut following, self.within, &self.stopping).await.map(Some)
    }

    /// The clock by which requests are dated.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.desk.clock()
    }
}

impl Answers for Intake {
    async fn admit(&self, from: SocketAddr, head: &Parts) -> Admission {
        let path = head.uri.path();
        if let Some(id) = path.strip_prefix(DELIVERIES) {
            return Admission::Answered(self.look_up(id).await);
        }
        let posted = |path| as_posted(head, path, &[], self.clock().now());
        let Some((name, source, rest)) = self.find(path, from, posted) else {
            return Admission::Answered(no_such_source());
        };
        let posted = posted(rest);
        if source.proves_by_the_body(&posted) {
            return Admission::ByItsBody(name.clone());
        }
        match source.prove(from.ip(), &posted) {
            Ok(_) => Admission::Proven(name.clone()),
            Err(outcome) => {
                self.count(name, source, &outcome);
                Admission::Answered(answer(source.dialect, &posted, &outcome))
            }
        }
    }

    async fn answer(&self, from: SocketAddr, head: Parts, body: Bytes) -> Response<Vec<u8>> {
        let at = self.clock().now();
        let posted = |path| as_posted(&head, path, &body, at);
        let Some((name, source, rest)) = self.find(head.uri.path(), from, posted) else { return no_such_source() };
        let posted = posted(rest);
        let outcome = self.bring(source, from, &posted, wants_no_waiting(&head.headers)).await;
        self.count(name, source, &outcome);
        let is_own_topic = source.dialect == Dialect::Ntfy && rest.trim_matches('/').is_empty();
        let told =
            if is_own_topic && !names_a_topic(&body) { as_posted(&head, head.uri.path(), &body, at) } else { posted };
        aside(&told, || answer(source.dialect, &told, &outcome))
    }
}

/// Does what may take long with a large body, while others go on with what this thread would do otherwise.
fn aside<T>(posted: &Posted<'_>, work: impl FnOnce() -> T) -> T {
    let is_of_many = || Handle::try_current().is_ok_and(|here| here.runtime_flavor() == RuntimeFlavor::MultiThread);
    if posted.body.len() > SMALL && is_of_many() { block_in_place(work) } else { work() }
}

/// What stands behind the name of a source. To ntfy that is a topic, too, at which it may be asked with a word behind it.
fn behind<'a>(dialect: Dialect, path: &'a str, rest: &'a str) -> &'a str {
    let is_asked = matches!(rest.trim_end_matches('/'), "/publish" | "/send" | "/trigger");
    if dialect == Dialect::Ntfy && is_asked { path } else { rest }
}

/// Whether a message of ntfy's is JSON, which says itself to which topic it is.
fn names_a_topic(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{")
}

fn as_posted<'a>(head: &'a Parts, path: &'a str, body: &'a [u8], at: Timestamp) -> Posted<'a> {
    Posted { method: &head.method, path, query: head.uri.query(), headers: &head.headers, body, at }
}

/// What a request is, so that another one of the same name is seen: what was read of it, since some senders put their words
/// into headers and addresses, and its body. Of a mail not that: whoever passes it on writes lines of their own above it, and
/// others when they try again.
fn what_it_is(dialect: Dialect, posted: &Posted<'_>, notices: &[Notice]) -> Zeroizing<Vec<u8>> {
    let mut what = Zeroizing::new(Vec::new());
    let mut add = |part: &[u8]| {
        what.extend_from_slice(&(part.len() as u64).to_le_bytes());
        what.extend_from_slice(part);
    };
    if dialect != Dialect::Mail {
        add(posted.body);
    }
    for notice in notices {
        add(notice.values.to_string().as_bytes());
        add(&[notice.severity as u8]);
        add(notice.instead_of.as_deref().unwrap_or_default().as_bytes());
        for file in &notice.attachments {
            add(file.name.as_bytes());
            add(file.content.expose());
        }
    }
    what
}

/// What its sender calls a request. One that could be taken for another's is none.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(first) = given.next() else { return Ok(None) };
    let key = first.to_str().ok().filter(|key| !key.trim().is_empty() && key.len() <= MOST_KEY);
    let fits = key.filter(|_| given.next().is_none());
    fits.map(Some).ok_or(Refused::Unreadable("the Idempotency-Key is to be one, of up to 255 characters of ASCII"))
}

/// `Prefer: respond-async` (RFC 7240).
fn wants_no_waiting(headers: &HeaderMap) -> bool {
    let mut preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    preferences.any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("respond-async")))
}

pub(super) fn of_not_taken(why: NotTaken) -> Outcome {
    match why {
        NotTaken::NotNow(why) => Outcome::NotNow { retry_after: AGAIN, why },
        NotTaken::ByPolicy(why) => Outcome::ByPolicy { why },
        NotTaken::Conflict => Outcome::Conflict,
    }
}

fn counted(outcome: &Outcome) -> Requested {
    match outcome {
        Outcome::Arrived { .. } => Requested::Arrived,
        Outcome::Queued { .. } => Requested::Kept,
        Outcome::Silent => Requested::Silent,
        Outcome::NotProven | Outcome::Elsewhere => Requested::NotProven,
        Outcome::Refused(_) | Outcome::ByPolicy { .. } | Outcome::Conflict => Requested::Refused,
        Outcome::TooMany { .. } | Outcome::NotNow { .. } => Requested::NotNow,
    }
}
