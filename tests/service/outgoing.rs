//! Outgoing webhooks on their whole way: a service in this process between a network in memory and an endpoint that
//! verifies with a library of somebody else's.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use sealbridge::{
    operator::{Action, Actor, Host, Outcome, Place, Progress, perform},
    store::LinkName,
};
use sealbridge_contract::{AccountName, Address, ConversationId, RemoteId, message::Sort};
use sealbridge_lab::{
    receiver::{self, AgeKey, Posted, Receiver},
    search::Search,
    skip,
};
use sealbridge_loopback::{Heard, How, LoopbackHub, LoopbackPerson, More, Saying, Says, SentFile};
use serde_json::Value;

use crate::running::Running;

const SOON: Duration = Duration::from_secs(20);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The one before, or the one after it.
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Ann in a room that is linked with an endpoint of the operator's and with one of somebody else's, and in another that
/// is linked with one that moved.
struct Scene {
    folder: tempfile::TempDir,
    hub: LoopbackHub,
    ann: LoopbackPerson,
    room: ConversationId,
    away: ConversationId,
    quiet: ConversationId,
    receiver: Receiver,
    key: AgeKey,
    running: Running,
}

impl Scene {
    /// `None` where what verifies and opens can't be had; then the test is skipped, and says so.
    async fn set() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        for (file, secret) in [(&secret, SECRET), (&folder.path().join("other"), OTHER)] {
            fs::write(file, format!("{secret}\n")).expect("it is written");
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("it is private");
        }
        if let Err(error) = tokio::task::spawn_blocking(receiver::ready).await.expect("it ends") {
            skip::skip(&format!("{error:#}"));
            return None;
        }
        let key = AgeKey::make(folder.path().join("key")).expect("age makes a key");
        let receiver = Receiver::start(folder.path(), &secret).await.expect("it comes up");
        let hub = LoopbackHub::fresh("ours");
        let [room, away, quiet] = ["room", "away", "quiet"].map(|name| hub.conversation(name, Says::Encrypted));
        let ann = hub.person("ann");
        for conversation in [&room, &away, &quiet] {
            ann.join(conversation);
            hub.join(&account(), conversation);
        }
        let running = Running::start(&config(folder.path(), &hub, &secret, receiver.port, &key.public)).await;
        let scene = Self { folder, hub, ann, room, away, quiet, receiver, key, running };
        // Whoever was told that the rooms are bridged is heard from then on.
        let begun = tokio::time::Instant::now();
        let told = |heard: &Heard| heard.words.as_str().contains("is bridged");
        while scene.ann.heard().iter().filter(|heard| told(heard)).count() < 3 {
            assert!(begun.elapsed() < SOON, "nobody is told");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(scene)
    }

    /// What was posted to an endpoint, first what came first, repetitions left out; what is encrypted is opened.
    fn posted(&self, endpoint: &str) -> Vec<(Posted, Value)> {
        let mut seen = Vec::new();
        for posted in self.receiver.posted() {
            assert!(posted.good, "a signature is not good: {posted:?}");
            let sealed = posted.document["age"].as_str().map(str::to_owned);
            let to_vault = sealed.is_some();
            let is_there = seen.iter().any(|(other, _): &(Posted, Value)| other.id == posted.id);
            if is_there || to_vault != (endpoint == "vault") || posted.path != "/hook" {
                continue;
            }
            let document = match sealed {
                None => posted.document.clone(),
                Some(sealed) => {
                    let plain = self.key.open(&sealed).expect("age opens it");
                    serde_json::from_slice(&plain).expect("it is JSON")
                }
            };
            assert_eq!((&document["endpoint"], document["id"].as_str()), (&endpoint.into(), Some(&*posted.id)));
            seen.push((posted, document));
        }
        seen
    }

    /// What is posted first that is so.
    async fn gets(&self, endpoint: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some((_, found)) = self.posted(endpoint).into_iter().find(|(_, document)| is(document)) {
                return found;
            }
            let posted: Vec<_> = self.posted(endpoint).into_iter().map(|(_, document)| document).collect();
            let lanes = || self.running.host().lanes();
            assert!(begun.elapsed() < SOON, "{what} does not come: {posted:#?}, {:?}", lanes());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn says_about(&self, how: How, of: &RemoteId, words: &str, emoji: &[&str]) {
        self.says_in(&self.room, how, of, words, emoji);
    }

    fn says_in(&self, room: &ConversationId, how: How, of: &RemoteId, words: &str, emoji: &[&str]) {
        let emoji = emoji.iter().map(|emoji| (*emoji).to_owned()).collect();
        let more = More { about: Some(of.clone()), emoji, ..More::default() };
        self.ann.say_this(room, Saying::words(words).how(how).more(more));
    }

    async fn done(&self, action: Action) -> Outcome {
        let host: Arc<dyn Host> = self.running.host();
        match perform(host, Actor::Init, action).next(None).await.expect("it is done") {
            Progress::Done(outcome) => outcome,
            Progress::Step(step) => panic!("it has no steps: {step:?}"),
        }
    }
}

fn account() -> AccountName {
    AccountName::parse("a").expect("a name")
}

fn config(folder: &Path, hub: &LoopbackHub, secret: &Path, port: u16, key: &str) -> String {
    let signed = |at: &str, path: &str, secret: &Path, reader: &str| {
        format!("[accounts.{at}]\nurl = \"http://127.0.0.1:{port}{path}\"\nsecret_file = {secret:?}\n{reader}\n")
    };
    let endpoint = |at: &str, path: &str, reader: &str| signed(at, path, secret, reader);
    // The receiver knows one secret: of one endpoint it is the older of two, and of another the newer.
    let other = folder.join("other");
    let own = "operator_run = true";
    [
        format!("[service]\nstate = {:?}\n", folder.join("state")),
        format!(
            "[accounts.a]\nnetwork = \"loopback\"\nhub = {:?}\nconversations = [\"room\", \"away\", \"quiet\"]\n",
            hub.name()
        ),
        "[accounts.hooks]\nnetwork = \"webhook\"\n".to_owned(),
        endpoint("hooks.endpoints.ops", "/hook", &format!("next_secret_file = {other:?}\n{own}")),
        endpoint("hooks.endpoints.moved", "/moved", own),
        "[accounts.sealed]\nnetwork = \"webhook\"\n".to_owned(),
        signed(
            "sealed.endpoints.vault",
            "/hook",
            &other,
            &format!("next_secret_file = {secret:?}\nrecipients = [{key:?}]"),
        ),
        endpoint("hooks.endpoints.silent", "/silent", own),
        "[links.out]\nends = [\"a/room\", \"hooks/ops\", \"sealed/vault\"]\n".to_owned(),
        "[links.gone]\nends = [\"a/away\", \"hooks/moved\"]\n".to_owned(),
        "[links.quiet]\nends = [\"a/quiet\", \"hooks/silent\"]\n".to_owned(),
    ]
    .concat()
}

fn text<'v>(document: &'v Value, key: &str) -> &'v str {
    document[key].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_is_posted_signed_and_read_by_whom_the_config_names_alone() {
    let Some(scene) = Scene::set().await else { return };
    let words = "a canary in the first message";
    let first = scene.ann.say(&scene.room, words);
    for endpoint in ["ops", "vault"] {
        scene.gets(endpoint, "the message", |document| text(document, "text") == words).await;
    }
    scene.says_about(How::Edit, &first, "a canary in its edit", &[]);
    scene.says_about(How::Reaction, &first, "", &["👍"]);
    let file = SentFile {
        name: "canary-report.txt".into(),
        mime: "text/plain".into(),
        content: b"a canary in the file".to_vec(),
        ..SentFile::default()
    };
    let more = More { file: Some(Box::new(file)), ..More::default() };
    scene.ann.say_this(&scene.room, Saying::words("a canary beside it").how(How::File(Sort::File)).more(more));
    for endpoint in ["ops", "vault"] {
        // What is taken back is not posted any more, if it is not yet.
        scene.gets(endpoint, "the file", |document| text(document, "kind") == "file").await;
    }
    scene.says_about(How::Redaction, &first, "", &[]);
    for endpoint in ["ops", "vault"] {
        let said = scene.gets(endpoint, "the message", |document| text(document, "text") == words).await;
        let author = &said["author"];
        assert_eq!((text(&said, "kind"), text(author, "name"), text(author, "trust")), ("text", "ann", "network"));
        assert!(text(author, "id").starts_with("ann@"), "{author}");
        for (kind, key, expected) in [
            ("edit", "text", Value::from("a canary in its edit")),
            ("reaction", "emoji", Value::from(vec!["👍"])),
            ("redaction", "kind", Value::from("redaction")),
        ] {
            let got = scene.gets(endpoint, kind, |document| text(document, "kind") == kind).await;
            assert_eq!((&got["about"], &got[key]), (&said["id"], &expected), "{kind} is about what was said");
        }
        let got = scene.gets(endpoint, "the file", |document| text(document, "kind") == "file").await;
        assert_eq!((text(&got, "text"), text(&got["file"], "name")), ("a canary beside it", "canary-report.txt"));
        assert_eq!(text(&got["file"], "content"), "YSBjYW5hcnkgaW4gdGhlIGZpbGU=");
    }
    // On the wire to the endpoint with a recipient are none of these, however they are written; to the other all are.
    let canaries =
        [words, "a canary in its edit", "a canary beside it", "canary-report", "a canary in the file", "\"kind\""];
    let search = Search::new(&canaries).expect("canaries");
    let found = |endpoint: &str| -> Vec<usize> {
        let wire: Vec<u8> = scene.posted(endpoint).into_iter().flat_map(|(posted, _)| posted.wire).collect();
        search.bytes(&wire).into_iter().map(|(canary, _)| canary).collect()
    };
    let in_clear = found("ops");
    assert!((0..canaries.len()).all(|canary| in_clear.contains(&canary)), "what is there is not found: {in_clear:?}");
    assert_eq!(found("vault"), Vec::<usize>::new());
    // Whoever is in the room was told of the endpoint that reads, and whoever asks is told the truth.
    let told = scene.ann.heard();
    assert!(told.iter().any(|heard| heard.words.as_str().contains("a server that the bridge's operator runs")));
    let listed = scene.done(Action::ListConversations { account: None }).await.words;
    for line in [
        "hooks/ops  \"http://127.0.0.1:PORT\"  READ IN CLEAR by a server that the operator runs, 2 members, in out",
        "sealed/vault  \"http://127.0.0.1:PORT\"  encrypted, 2 members, in out",
    ] {
        let line = line.replace("PORT", &scene.receiver.port.to_string());
        assert!(listed.contains(&line), "{line} is not in\n{listed}");
    }
    let of = Place::Link(LinkName::parse("out").expect("a name"));
    let audience = scene.done(Action::Audience { of, from: None }).await.words;
    assert!(audience.contains("reads; in clear, as a server that the operator runs"), "{audience}");
    assert!(audience.contains(&scene.key.public) && audience.contains("a key that the config names"), "{audience}");
    let add = |name: &str, end: &str| {
        let at = |account: &str, end: &str| Address {
            account: AccountName::parse(account).expect("a name"),
            conversation: ConversationId::new(end),
        };
        Action::AddLink { name: LinkName::parse(name).expect("a name"), ends: vec![at("a", "away"), at("hooks", end)] }
    };
    let added = scene.done(add("more", "ops")).await.words;
    assert!(added.contains("hooks/ops  \"") && added.contains("READ IN CLEAR"), "{added}");
    let refused = perform(scene.running.host(), Actor::Init, add("none", "nowhere")).next(None).await;
    assert!(refused.is_err(), "the config names no such endpoint");
    let doctor = scene.done(Action::Doctor).await.words;
    assert!(doctor.contains("but for what you run and let read: hooks/ops"), "{doctor}");
    assert!(!listed.contains("/hook") && !audience.contains("/hook"), "a path may be as good as a password");
    scene.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_that_is_away_gets_all_of_it_later_and_one_that_leads_elsewhere_a_dead_letter() {
    let Some(scene) = Scene::set().await else { return };
    scene.ann.say(&scene.room, "before");
    scene.gets("ops", "what was said before", |document| text(document, "text") == "before").await;
    scene.receiver.go_away().await.expect("it goes away");
    for number in 0..3 {
        scene.ann.say(&scene.room, &format!("meanwhile {number}"));
    }
    let host = scene.running.host();
    let hooks = AccountName::parse("hooks").expect("a name");
    let ops = Address { account: hooks.clone(), conversation: ConversationId::new("ops") };
    let begun = tokio::time::Instant::now();
    // It was tried in vain, and waits to be tried again.
    while !host.lanes().contains_key(&ops) || scene.hub.waiting_for(&account()) > 0 {
        assert!(begun.elapsed() < SOON, "nothing waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.receiver.come_back().await.expect("it comes back");
    for endpoint in ["ops", "vault"] {
        scene.gets(endpoint, "the last", |document| text(document, "text") == "meanwhile 2").await;
        let all: Vec<_> = scene.posted(endpoint).into_iter().map(|(_, document)| document["text"].clone()).collect();
        let said: Vec<_> = all.iter().filter_map(Value::as_str).filter(|text| !text.contains("bridge")).collect();
        assert_eq!(said, ["before", "meanwhile 0", "meanwhile 1", "meanwhile 2"]);
    }
    // And where an answer leads elsewhere, nothing goes.
    scene.ann.say(&scene.away, "words that go nowhere");
    let begun = tokio::time::Instant::now();
    let letter = loop {
        let letters = host.journal().dead_letters(0, 10).await.expect("the journal reads");
        if let Some(letter) = letters.into_iter().find(|letter| letter.from.is_some()) {
            break letter;
        }
        assert!(begun.elapsed() < SOON, "nothing is given up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(letter.reason.contains("no redirection is followed"), "{}", letter.reason);
    assert!(!letter.reason.contains("go nowhere"));
    let moved = Address { account: hooks, conversation: ConversationId::new("moved") };
    assert_eq!(letter.to, Some(moved));
    let followed = |posted: &Posted| posted.path == "/hook" && posted.document["endpoint"] == "moved";
    assert!(!scene.receiver.posted().iter().any(followed), "it was followed");
    assert!(scene.receiver.posted().iter().any(|posted| posted.path == "/moved"), "it was asked");
    assert!(scene.folder.path().exists());
    scene.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_arrived_is_deleted_there_by_its_name() {
    let Some(scene) = Scene::set().await else { return };
    let said = scene.ann.say(&scene.quiet, "nobody says whether they have this");
    let is = |path: &str, key: &str, value: &str| {
        let posted = scene.receiver.posted();
        posted.into_iter().find(|posted| posted.path == path && text(&posted.document, key) == value)
    };
    let begun = tokio::time::Instant::now();
    while is("/silent", "text", "nobody says whether they have this").is_none() {
        assert!(begun.elapsed() < SOON, "it is not posted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.says_in(&scene.quiet, How::Redaction, &said, "", &[]);
    let deleted = loop {
        if let Some(deleted) = is("/silent", "kind", "redaction") {
            break deleted;
        }
        assert!(begun.elapsed() < SOON, "it is not deleted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let first = is("/silent", "text", "nobody says whether they have this").expect("it was posted");
    assert_eq!(text(&deleted.document, "about"), first.id);
    scene.running.stop().await;
}
