//! The control socket and what goes over it, in this process: a host that plays, and a journal that is real.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use sealbridge::{
    config::{self, Config},
    flow::LaneState,
    operator::{
        Action, Actor, Failure, FailureKind,
        control::{self, Called, Server, StepFrame},
        host::{Account, Host},
        perform,
    },
    store::{JournalError, Limits, Link, Routed, Router, SharedJournal, sqlite::SqliteJournal},
};
use sealbridge_contract::{
    Abilities, AccountName, Address, Answer, AnyTransport, Carrier, Cleartext, Clock, ConversationId, Deduplication,
    DeliveryError, DeliveryId, Fatal, Field, Flow, FlowError, Found, PersonId, Receipt, RemoteId, RootKey, Screen,
    Sealed, SealedInbox, SenderTrust, Slip, Step, Text, Timestamp, Transport, Vault,
    inbox::Parcel,
    steps::{Code, Emoji},
    transport::{ConversationInfo, Finding, Health},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use tokio_util::sync::CancellationToken;

/// Everything is linked, and nothing is carried anywhere.
struct Nowhere;

impl Router for Nowhere {
    fn linked_since(&self, _from: &Address) -> Option<Timestamp> {
        Some(Timestamp(0))
    }
    fn route(&self, _from: &Address, _id: &RemoteId, _message: &Cleartext, _trust: SenderTrust) -> Vec<Routed> {
        Vec::new()
    }
    fn open(&self, _from: &Address, _parcel: &Parcel) -> Option<(DeliveryId, Cleartext)> {
        None
    }
    fn links_are(&self, _links: Vec<Link>) {}
}

const ABILITIES: Abilities = Abilities {
    network: "played",
    verbs: &[],
    deduplication: Deduplication::Never,
    finds: false,
    carries_marks: false,
    most_bytes: 1,
    most_file: 0,
    reactions_in_clear: false,
};
const DOG: Emoji = Emoji { symbol: "🐶", name: "Dog" };

/// A transport on which identities can be compared, and nothing else.
#[derive(Default)]
struct Played {
    flows_open: Arc<AtomicUsize>,
}

#[async_trait]
impl Transport for Played {
    fn abilities(&self) -> &Abilities {
        &ABILITIES
    }
    fn health(&self) -> Health {
        Health { connected: true, ..Health::default() }
    }
    fn conversations(&self) -> Vec<ConversationInfo> {
        Vec::new()
    }
    async fn find(&self, _slip: &Slip) -> Result<Found, DeliveryError> {
        Ok(Found::NotThere)
    }
    async fn open_direct(&self, _with: &PersonId) -> Result<ConversationId, DeliveryError> {
        Err(DeliveryError::give_up("not here"))
    }
    fn comparison(&self, with: Option<&PersonId>, screen: Screen) -> Option<Box<dyn Flow>> {
        self.flows_open.fetch_add(1, Ordering::SeqCst);
        let with = with.map(|person| person.as_str().to_owned());
        Some(Box::new(Script { at: 0, with, screen, open: Arc::clone(&self.flows_open) }))
    }
    async fn doctor(&self) -> Vec<Finding> {
        vec![Finding { grave: true, topic: "limits", words: "Ten a minute, and no more.".into() }]
    }
}

#[async_trait]
impl Carrier for Played {
    async fn run(&self, _inbox: SealedInbox, stop: CancellationToken) -> Result<(), Fatal> {
        stop.cancelled().await;
        Ok(())
    }
    async fn carry(&self, _parcel: &Sealed, _slip: &Slip) -> Result<Receipt, DeliveryError> {
        Err(DeliveryError::give_up("not here"))
    }
}

/// Shows, asks for a secret, shows one, and a code where that can be, asks about it, compares.
struct Script {
    at: usize,
    with: Option<String>,
    screen: Screen,
    open: Arc<AtomicUsize>,
}

#[async_trait]
impl Flow for Script {
    async fn next(&mut self, answer: Option<Answer>) -> Result<Step, FlowError> {
        self.at += 1;
        Ok(match (self.at, answer) {
            (1, None) => Step::Show(format!("with {}", self.with.as_deref().unwrap_or("whoever comes"))),
            (2, None) => Step::Ask(Field { name: "pin", label: "The pin".into(), secret: true }),
            (3, Some(Answer::Text(pin))) if pin.as_str() == "1234" => {
                Step::Secret { name: None, label: "A key".into(), value: Text::new("s3cret") }
            }
            (4, None) if self.screen == Screen::Scannable => {
                Step::Code(Code { how: "Scan it.", picture: Text::new("█▀▄") })
            }
            (5, None) => Step::Confirm("Did it work?".into()),
            (6, Some(Answer::Yes)) => Step::Compare(vec![DOG]),
            (7, Some(Answer::Yes)) => Step::Done("They match.".into()),
            (7, Some(Answer::No)) => return Err(FlowError::Cancelled("They do not match.".into())),
            _ => return Err(FlowError::BadAnswer("that was not asked".into())),
        })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) struct PlayedHost {
    config: Config,
    journal: SharedJournal,
    clock: Clock,
    transport: Arc<Played>,
    stopped: Mutex<Option<Failure>>,
    lanes: Mutex<BTreeMap<Address, LaneState>>,
    folder: TempDir,
}

impl PlayedHost {
    pub(super) fn new() -> Arc<Self> {
        let folder = TempDir::with_prefix_in("sb", "/tmp").expect("a temporary folder can be made");
        let text = "[service]\nstate = \".\"\n[accounts.a]\nnetwork = \"loopback\"\nhub = \"x\"\n";
        let config = config::load_text(&folder.path().join("sealbridge.toml"), text).expect("it is in order");
        let (vault, clock) = (Vault::new(RootKey::random()), Clock::system());
        let journal = SqliteJournal::open(folder.path(), vault, Arc::new(Nowhere), Limits::default(), clock.clone());
        let journal: SharedJournal = Arc::new(journal.expect("a new journal opens"));
        Arc::new(Self {
            config,
            journal,
            clock,
            transport: Arc::default(),
            stopped: Mutex::default(),
            lanes: Mutex::default(),
            folder,
        })
    }

    /// The account stops.
    pub(super) fn stop(&self, why: Failure) {
        *self.stopped.lock().expect("nobody panics while holding it") = Some(why);
    }

    /// A lane does this now.
    pub(super) fn set_lane(&self, at: &Address, state: LaneState) {
        self.lanes.lock().expect("nobody panics while holding it").insert(at.clone(), state);
    }

    pub(super) fn state(&self) -> &Path {
        self.folder.path()
    }

    fn socket(&self) -> PathBuf {
        self.config.control_path()
    }
}

#[async_trait]
impl Host for PlayedHost {
    fn config(&self) -> &Config {
        &self.config
    }
    fn journal(&self) -> SharedJournal {
        Arc::clone(&self.journal)
    }
    fn clock(&self) -> &Clock {
        &self.clock
    }
    fn started_at(&self) -> Timestamp {
        self.clock.now()
    }
    fn accounts(&self) -> Vec<Account> {
        let name = AccountName::parse("a").expect("it is a name");
        let stopped = self.stopped.lock().expect("nobody panics while holding it").clone();
        let transport = stopped.is_none().then(|| AnyTransport::Carrier(self.transport.clone()));
        vec![Account { name, transport, stopped }]
    }
    fn lanes(&self) -> BTreeMap<Address, LaneState> {
        self.lanes.lock().expect("nobody panics while holding it").clone()
    }
    fn trouble(&self) -> Option<String> {
        None
    }
    async fn export(&self, _: &AccountName) -> Result<Option<PathBuf>, Failure> {
        Ok(None)
    }
    async fn links_changed(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Serves the host while `work` goes on.
async fn serving<T>(host: &Arc<PlayedHost>, work: impl Future<Output = T>) -> T {
    let server = Server::bind(&host.socket()).await.expect("nobody else is here");
    let stop = CancellationToken::new();
    let host = Arc::clone(host) as Arc<dyn Host>;
    let working = async {
        let done = work.await;
        stop.cancel();
        done
    };
    tokio::join!(server.serve(host, stop.clone()), working).1
}

fn verify(person: Option<&str>) -> Action {
    Action::verify(AccountName::parse("a").expect("it is a name"), person.map(PersonId::new))
}

/// Compares, and answers the emoji with `verdict`. Gives the steps as they are shown.
async fn compare(host: &Arc<PlayedHost>, verdict: Answer) -> (Vec<String>, Result<Called, Failure>) {
    let mut shown = Vec::new();
    let mut verdict = Some(verdict);
    let answer = async |step: StepFrame| {
        shown.push(serde_json::to_string(&step).expect("a step is texts"));
        Ok(match step {
            StepFrame::Ask { .. } => Some(Answer::Text(Text::new("1234"))),
            StepFrame::Confirm { .. } => Some(Answer::Yes),
            StepFrame::Compare { .. } => verdict.take(),
            _ => None,
        })
    };
    let verify = verify(Some("@ann:x")).on(Screen::Scannable);
    let called = serving(host, control::call(&host.socket(), verify, answer)).await;
    (shown, called)
}

#[tokio::test]
async fn every_kind_of_step_goes_over_the_socket_and_back() {
    let host = PlayedHost::new();
    let (shown, called) = compare(&host, Answer::Yes).await;
    let expected = [
        r#"{"step":"progress","words":"Asking @ann:x to compare identities; their client shows the request."}"#,
        r#"{"step":"show","words":"with @ann:x"}"#,
        r#"{"step":"ask","name":"pin","label":"The pin","secret":true}"#,
        r#"{"step":"secret","label":"A key","value":"s3cret"}"#,
        r#"{"step":"code","how":"Scan it.","picture":"█▀▄"}"#,
        r#"{"step":"confirm","words":"Did it work?"}"#,
        r#"{"step":"compare","emoji":[{"symbol":"🐶","name":"Dog"}]}"#,
    ];
    assert_eq!(shown, expected);
    match called {
        Ok(Called::Done(outcome)) => assert_eq!(outcome.words, "They match."),
        other => panic!("{other:?}"),
    }
    let audit = std::fs::read_to_string(host.state().join("audit.jsonl")).expect("a comparison is a change");
    assert!(
        audit.contains("verify") && !audit.contains("1234") && !audit.contains("s3cret") && !audit.contains('█'),
        "{audit}"
    );
}

#[tokio::test]
async fn comparison_that_does_not_match_is_a_failure() {
    let host = PlayedHost::new();
    let (_, called) = compare(&host, Answer::No).await;
    assert_eq!(called.expect_err("they do not match").words, "They do not match.");
}

#[tokio::test]
async fn flow_ends_when_the_command_goes_away() {
    let host = PlayedHost::new();
    serving(&host, async {
        let mut stream = UnixStream::connect(host.socket()).await.expect("it is served");
        let request = format!("{{\"v\":1,\"perform\":{}}}\n", serde_json::to_string(&verify(None)).expect("texts"));
        stream.write_all(request.as_bytes()).await.expect("it is read");
        let mut seen = Vec::new();
        while !seen.windows(5).any(|window| window == b"\"ask\"") {
            assert!(stream.read_buf(&mut seen).await.expect("it answers") > 0);
        }
        assert_eq!(host.transport.flows_open.load(Ordering::SeqCst), 1);
        drop(stream);
        for _ in 0..1000 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            if host.transport.flows_open.load(Ordering::SeqCst) == 0 {
                return;
            }
        }
        panic!("the flow of a command that went away is still open");
    })
    .await;
}

async fn answer_to(host: &Arc<PlayedHost>, bytes: &[u8]) -> serde_json::Value {
    serving(host, async {
        let mut stream = UnixStream::connect(host.socket()).await.expect("it is served");
        stream.write_all(bytes).await.expect("it is read");
        stream.shutdown().await.expect("it can be half closed");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers");
        serde_json::from_slice(&answer).unwrap_or_default()
    })
    .await
}

#[tokio::test]
async fn frame_of_another_version_or_none_at_all_is_refused_in_words() {
    let host = PlayedHost::new();
    let cases: [(&[u8], &str); 6] = [
        (b"{\"v\":2,\"perform\":{\"action\":\"status\"}}\n", "speaks version 2 and this one 1"),
        (b"{\"v\":1,\"perform\":{\"action\":\"explode\"}}\n", "not understood"),
        (b"{\"perform\":{\"action\":\"status\"}}\n", "not understood"),
        (b"GET / HTTP/1.1\r\n\r\n", "not understood"),
        (b"{\"v\":1,\"answer\":\"yes\"}\n", "nothing was asked"),
        (b"{\"v\":1", "cut short"),
    ];
    for (bytes, words) in cases {
        let answer = answer_to(&host, bytes).await;
        assert_eq!((&answer["v"], &answer["failed"]["kind"]), (&1.into(), &"usage".into()), "{answer}");
        let said = answer["failed"]["words"].as_str().expect("it says why");
        assert!(said.contains(words), "{said}");
    }
    let answer = answer_to(&host, b"{\"v\":1,\"perform\":{\"action\":\"list_links\"}}\n").await;
    assert_eq!(answer["done"]["lines"], serde_json::json!([]), "{answer}");
}

#[tokio::test]
async fn socket_is_never_seen_with_another_mode_and_answers_its_own_user_only() {
    let host = PlayedHost::new();
    let server = Server::bind(&host.socket()).await.expect("nobody else is here");
    let mode = std::fs::metadata(host.socket()).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let refused = Server::bind(&host.socket()).await.expect_err("it is served already");
    assert_eq!(refused.kind, FailureKind::Temporary);
    drop(server);
    assert!(!host.socket().exists());
    for (peer, own, permitted) in [(0, 0, true), (1000, 1000, true), (1000, 0, false), (0, 1000, false)] {
        assert_eq!(control::permits(peer, own), permitted, "{peer} at {own}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_a_failure() {
    let host = PlayedHost::new();
    let silent = async |_: StepFrame| Ok(None);
    let called = control::call(&host.socket(), Action::Status, silent).await;
    assert!(matches!(called, Ok(Called::NotRunning)), "{called:?}");
    // A socket that a killed service left behind.
    drop(std::os::unix::net::UnixListener::bind(host.socket()).expect("the path is free"));
    let called = control::call(&host.socket(), Action::Status, silent).await;
    assert!(matches!(called, Ok(Called::NotRunning)), "{called:?}");
    let bound = Server::bind(&host.socket()).await;
    assert!(bound.is_ok(), "{bound:?}");
}

#[tokio::test]
async fn change_whose_asker_goes_away_is_made_to_its_end_and_written_down() {
    let host = PlayedHost::new();
    let mut asked = perform(Arc::clone(&host) as Arc<dyn Host>, Actor::Local { uid: 7 }, Action::RetryDeadLetters);
    {
        let mut next = Box::pin(asked.next(None));
        assert!(futures_util::poll!(&mut next).is_pending(), "it was begun, and is not done at once");
    }
    drop(asked);
    let begun = tokio::time::Instant::now();
    let line = loop {
        let audit = std::fs::read_to_string(host.state().join("audit.jsonl")).unwrap_or_default();
        if let Some(line) = audit.lines().find(|line| !line.contains("\"begun\"")) {
            break line.to_owned();
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "nothing is written");
        tokio::task::yield_now().await;
    };
    assert!(line.contains("\"retry_dead_letters\"") && line.contains("\"outcome\":null"), "{line}");
}
