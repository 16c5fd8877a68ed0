//! What programs post, heard in conversations in memory: a service in this process, and requests as they come over the
//! wire.

use std::{fs, sync::Arc, time::Duration};

use sealbridge::{
    flow::LaneState,
    metrics,
    notices::SourceName,
    operator::{Action, Actor, Progress, perform},
};
use sealbridge_contract::RemoteId;
use sealbridge_lab::http::request;
use sealbridge_loopback::{Heard, How, More, Saying, Says};
use serde_json::{Value, json};

use super::scene::{SECRET, SOON, Scene, account};

pub(super) const RAW: &str = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\n";
const GUARDED: &str =
    "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\nsecret_files = [SECRET, OLD]\nname = \"Nightly job\"\n";
const ALERTS: &str = "[sources.prom]\nformat = \"alertmanager\"\nto = [\"a/room\"]\n";

pub(super) fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_is_there_when_its_sender_is_told_so() {
    let mut scene = Scene::set(GUARDED, Says::Encrypted).await;
    let answer = scene.post("/job", &[("authorization", &bearer(SECRET))], "the disk is full").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let heard = scene.heard();
    assert!(heard.len() == 1 && heard[0].words.as_str().contains("the disk is full"), "{heard:?}");
    assert_eq!(heard[0].author.as_ref().map(|name| name.as_str()), Some("Nightly job"));
    assert_eq!(answer.json()["event_ids"], json!([heard[0].id.as_str()]));
    let id = answer.json()["id"].as_str().expect("a name").to_owned();
    let url = format!("http://127.0.0.1:{}/api/v1/deliveries/{id}", scene.port);
    let standing = request("GET", &url, &[], "").await.expect("it is answered");
    assert_eq!((standing.status, standing.json()["status"].as_str()), (200, Some("arrived")), "{standing:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_no_secret_is_not_heard_and_two_secrets_are_good_while_one_is_changed() {
    let mut scene = Scene::set(GUARDED, Says::Encrypted).await;
    let wrong: [&[(&str, &str)]; 4] = [
        &[],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer correct-horse")],
        &[("authorization", "Basic eDp5")],
    ];
    for headers in wrong {
        let answer = scene.post("/job", headers, "let me in").await;
        assert_eq!(answer.status, 401, "{headers:?} {answer:?}");
        assert!(!answer.body.contains("horse") && !answer.body.contains("let me in"), "{answer:?}");
    }
    for secret in [SECRET, "the one before"] {
        assert_eq!(scene.post("/job", &[("authorization", &bearer(secret))], format!("by {secret}")).await.status, 200);
    }
    assert_eq!(scene.heard().len(), 2);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_without_a_secret_hears_programs_of_this_machine_and_neither_proxies_nor_browsers() {
    let mut scene = Scene::set(RAW, Says::Encrypted).await;
    for header in [
        ("x-forwarded-for", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let answer = scene.post("/job", &[header], "from elsewhere").await;
        assert!(answer.status == 403 && answer.body.contains("a secret"), "{header:?} {answer:?}");
    }
    assert_eq!(scene.post("/job", &[], "from here").await.status, 200);
    assert_eq!(scene.post("/nobody", &[], "x").await.status, 404);
    assert_eq!(scene.post("/job", &[], vec![b'x'; 70_000]).await.status, 413);
    assert_eq!(scene.heard().len(), 1);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn same_name_is_said_once_and_not_given_to_something_else() {
    let mut scene = Scene::set(RAW, Says::Encrypted).await;
    let key = [("idempotency-key", "backup-7")];
    let first = scene.post("/job", &key, "backup 7 failed").await;
    assert_eq!(first.status, 200, "{first:?}");
    // Also after a restart.
    scene.stop().await;
    scene.start().await;
    let again = scene.post("/job", &key, "backup 7 failed").await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    assert_eq!(scene.post("/job", &key, "backup 8 failed").await.status, 409);
    assert_eq!(scene.heard().len(), 1);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_where_nothing_is_encrypted_and_the_sender_is_told() {
    let mut scene = Scene::set(RAW, Says::Plain).await;
    let answer = scene.post("/job", &[], "a secret").await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(answer.body.contains("not encrypted"), "{answer:?}");
    assert!(scene.heard().is_empty());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_that_takes_long_is_kept_and_can_be_looked_up() {
    let mut scene = Scene::set(RAW, Says::Encrypted).await;
    scene.hub.faults(&account()).set_reachable(false);
    let answer = scene.post("/job", &[], "for later").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let place = answer.header("location").expect("where to look").to_owned();
    let url = format!("http://127.0.0.1:{}{place}", scene.port);
    let look = || async { request("GET", &url, &[], "").await.expect("it is answered").json()["status"].clone() };
    assert_eq!(look().await, "queued");
    // Kept means kept.
    scene.stop().await;
    scene.hub.faults(&account()).set_reachable(true);
    scene.start().await;
    scene.hears("what was kept", |heard| heard.words.as_str().contains("for later")).await;
    let begun = tokio::time::Instant::now();
    while look().await != "arrived" {
        assert!(begun.elapsed() < SOON, "{}", look().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = scene.post("/job", &[("prefer", "respond-async")], "at once").await;
    assert_eq!(now.status, 202, "{now:?}");
    scene.hears("what was not waited for", |heard| heard.words.as_str().contains("at once")).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_journal_keeps_nothing_and_says_so() {
    let sections = format!("{RAW}[journal]\nmost_payload = \"1KiB\"\n");
    let mut scene = Scene::set(&sections, Says::Encrypted).await;
    scene.hub.faults(&account()).set_reachable(false);
    let mut taken = 0;
    let full = loop {
        let answer = scene.post("/job", &[("prefer", "respond-async")], format!("{taken} {}", "x".repeat(200))).await;
        match answer.status {
            202 => taken += 1,
            _ => break answer,
        }
        assert!(taken < 100, "it never is full");
    };
    assert_eq!(full.status, 503, "{full:?}");
    assert!(full.header("retry-after").is_some());
    scene.hub.faults(&account()).set_reachable(true);
    let begun = tokio::time::Instant::now();
    while scene.heard().len() < taken {
        assert!(begun.elapsed() < SOON, "{} of {taken}", scene.heard().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.stop().await;
}

pub(super) fn alerts(states: &[(&str, &str)]) -> String {
    let alert = |(name, status): &(&str, &str)| {
        json!({
            "status": status, "fingerprint": name,
            "labels": { "alertname": "Disk", "instance": name, "severity": "critical" },
            "annotations": { "summary": format!("{name} is full") },
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
        })
    };
    let firing = states.iter().any(|(_, status)| *status == "firing");
    let body = json!({
        "version": "4", "groupKey": "{}:{alertname=\"Disk\"}", "truncatedAlerts": 0, "receiver": "room",
        "status": if firing { "firing" } else { "resolved" },
        "groupLabels": { "alertname": "Disk" }, "commonLabels": { "alertname": "Disk" }, "commonAnnotations": {},
        "externalURL": "http://alerts.example", "alerts": states.iter().map(alert).collect::<Vec<Value>>(),
    });
    body.to_string()
}

/// The messages of an incident, and what was done to the first of them.
fn split(heard: &[Arc<Heard>]) -> (Vec<&Arc<Heard>>, Vec<&Arc<Heard>>) {
    heard.iter().partition(|heard| heard.how != How::Edit)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_incident_is_one_message_that_changes_and_what_changes_is_said_in_its_thread() {
    let mut scene = Scene::set(ALERTS, Says::Encrypted).await;
    let json = [("content-type", "application/json")];
    let post = async |scene: &Scene, states: &[(&str, &str)]| {
        let answer = scene.post("/prom", &json, alerts(states)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    post(&scene, &[("db-1", "firing"), ("db-2", "firing")]).await;
    let root = scene.hears("the alert", |heard| heard.words.as_str().contains("db-1")).await;
    assert!(root.words.as_str().contains("db-2") && root.how == How::Text, "a person is to act: {root:?}");

    // Told again, it is the same; the second alert's end is not lost, though the next request is silent of it.
    post(&scene, &[("db-1", "firing"), ("db-2", "firing")]).await;
    scene.stop().await;
    scene.start().await;
    post(&scene, &[("db-1", "firing"), ("db-2", "resolved")]).await;
    let heard = scene.heard();
    let (said, edits) = split(&heard);
    assert_eq!((said.len(), edits.len()), (2, 2), "{heard:?}");
    assert!(
        edits[0].words.as_str().contains("Told again, 1×") && !edits[1].words.as_str().contains("Told again"),
        "{edits:?}"
    );
    assert!(edits.iter().all(|edit| edit.more.about.as_ref() == Some(&root.id)), "{edits:?}");
    assert_eq!(said[1].more.thread.as_ref(), Some(&root.id), "{:?}", said[1]);
    assert!(said[1].words.as_str().contains("db-2") && !said[1].words.as_str().contains("db-1"), "{:?}", said[1]);

    // Ann says that she looks after it; it is said that servers could make that up.
    let more = More { about: Some(root.id.clone()), emoji: vec!["✅".into()], ..More::default() };
    scene.ann.say_this(&scene.room, Saying::words("").how(How::Reaction).more(more));
    let acknowledged = |heard: &Heard| heard.how == How::Edit && heard.words.as_str().contains("ann");
    scene.hears("that Ann looks after it", acknowledged).await;

    post(&scene, &[("db-1", "resolved")]).await;
    let end = scene.hears("the end", |heard| heard.how == How::Edit && heard.words.as_str().contains("Resolved")).await;
    assert!(end.html.as_ref().is_some_and(|html| html.as_str().contains("data-mx-color")), "{end:?}");
    // What begins after the end is another incident.
    post(&scene, &[("db-1", "firing")]).await;
    let roots = scene.heard().into_iter().filter(|heard| heard.how == How::Text && heard.more.thread.is_none()).count();
    assert_eq!(roots, 2, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outbreak_after_an_end_that_nobody_told_of_is_a_message_of_its_own_and_the_first_is_over() {
    let mut scene = Scene::set(ALERTS, Says::Encrypted).await;
    let json = [("content-type", "application/json")];
    let post = async |scene: &Scene, body: String| assert_eq!(scene.post("/prom", &json, body).await.status, 200);
    post(&scene, alerts(&[("db-1", "firing"), ("db-2", "resolved")])).await;
    let first = scene.hears("the alert", |heard| heard.words.as_str().contains("db-1")).await;
    // It was over while it was silenced, of which Alertmanager tells nobody.
    let again = || alerts(&[("db-1", "firing")]).replace("2026-01-01T00:00:00Z", "2026-01-03T07:00:00Z");
    post(&scene, again()).await;
    let is_root = |heard: &Heard| heard.how == How::Text && heard.more.thread.is_none() && heard.id != first.id;
    let second = scene.hears("the second outbreak", is_root).await;
    let is_over = |heard: &Heard| {
        heard.how == How::Edit
            && heard.more.about.as_ref() == Some(&first.id)
            && heard.words.as_str().contains("Resolved")
    };
    scene.hears("that the first is over", is_over).await;
    // What is told from then on is told of the second.
    post(&scene, again()).await;
    let repeated = |heard: &Heard| heard.how == How::Edit && heard.words.as_str().contains("Told again");
    assert_eq!(scene.hears("it told again", repeated).await.more.about.as_ref(), Some(&second.id));
    post(&scene, alerts(&[("db-1", "resolved")])).await;
    let end =
        |heard: &Heard| heard.more.about.as_ref() == Some(&second.id) && heard.words.as_str().contains("Resolved");
    scene.hears("the end", end).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_of_a_sender_calls_nobody_and_reaches_no_log_and_no_file_in_clear() {
    let mut scene = Scene::set(ALERTS, Says::Encrypted).await;
    let canary = "canary-7f3a @room <b onmouseover=x>";
    let body = alerts(&[(canary, "firing")]);
    assert_eq!(scene.post("/prom", &[("content-type", "application/json")], body).await.status, 200);
    let heard = scene.hears("the alert", |heard| heard.words.as_str().contains("canary-7f3a")).await;
    assert!(
        heard.more.calls.is_empty()
            && !heard.html.as_ref().is_some_and(|html| html.as_str().contains("<b onmouseover")),
        "{heard:?}"
    );
    scene.stop().await;
    for file in fs::read_dir(scene.state()).expect("a folder").map(|file| file.expect("a file").path()) {
        let bytes = fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(11).any(|part| part == b"canary-7f3a"), "{}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn id_that_is_none_is_known_to_nobody() {
    let mut scene = Scene::set(RAW, Says::Encrypted).await;
    for id in [RemoteId::new("x").as_str().to_owned(), "../../etc".into(), "a".repeat(5000)] {
        let url = format!("http://127.0.0.1:{}/api/v1/deliveries/{id}", scene.port);
        assert_eq!(request("GET", &url, &[], "").await.expect("it is answered").status, 404);
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_senders_have_built_in_find_their_source_by_its_secret() {
    let source = |name: &str, format: &str| {
        format!("[sources.{name}]\nformat = \"{format}\"\nto = [\"a/room\"]\nsecret_files = [SECRET]\n")
    };
    let sections: String =
        [("hook", "hookshot"), ("chat", "discord"), ("push", "gotify"), ("topics", "ntfy"), ("work", "slack")]
            .map(|(name, format)| source(name, format))
            .concat();
    let mut scene = Scene::set(&sections, Says::Encrypted).await;
    let json = ("content-type", "application/json");
    let bearer = bearer(SECRET);
    let posts = [
        ("hookshot", format!("/webhook/{SECRET}"), vec![json], r#"{"text":"by hookshot","username":"CI"}"#, 200, ""),
        ("discord", format!("/api/webhooks/1/{SECRET}"), vec![json], r#"{"content":"by discord"}"#, 204, ""),
        (
            "gotify",
            format!("/message?token={SECRET}"),
            vec![json],
            r#"{"message":"by gotify","title":"T","priority":8}"#,
            200,
            "appid",
        ),
        ("ntfy's topic", "/disk".into(), vec![("authorization", &bearer)], "by ntfy", 200, "\"event\":\"message\""),
        (
            "ntfy's JSON",
            "/".into(),
            vec![("authorization", &bearer), json],
            r#"{"topic":"disk","message":"by ntfy, JSON"}"#,
            200,
            "\"topic\":\"disk\"",
        ),
        ("slack", format!("/services/T0/B0/{SECRET}"), vec![json], r#"{"text":"by slack"}"#, 200, "ok"),
    ];
    for (what, path, headers, body, status, part) in &posts {
        let answer = scene.post(path, headers, *body).await;
        assert!(answer.status == *status && answer.body.contains(part), "{what}: {answer:?}");
        let wrong = scene
            .post(
                &path.replace(SECRET, "another"),
                &headers.iter().filter(|(name, _)| *name != "authorization").copied().collect::<Vec<_>>(),
                *body,
            )
            .await;
        assert!([401, 404].contains(&wrong.status), "{what}: {wrong:?}");
    }
    for words in ["by hookshot", "by discord", "by gotify", "by ntfy", "by ntfy, JSON", "by slack"] {
        scene.hears(words, |heard| heard.words.as_str().contains(words)).await;
    }
    assert_eq!(scene.heard().len(), posts.len(), "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_can_be_tried_and_what_is_counted_names_no_room_and_no_person() {
    let mut scene = Scene::set(GUARDED, Says::Encrypted).await;
    let host = scene.running.as_ref().expect("it runs").host();
    let action = |name: &str| Action::TestSource { name: SourceName::parse(name).expect("a name") };
    let done = perform(Arc::clone(&host), Actor::Local { uid: 0 }, action("job")).next(None).await;
    assert!(matches!(&done, Ok(Progress::Done(outcome)) if outcome.words.contains("a/room")), "{done:?}");
    scene.hears("the test", |heard| heard.words.as_str().contains("test of the source job")).await;
    let unknown = perform(Arc::clone(&host), Actor::Local { uid: 0 }, action("nobody")).next(None).await;
    assert!(unknown.is_err_and(|why| why.words.contains("start the service anew")));
    assert_eq!(scene.post("/job", &[], "without a secret").await.status, 401);

    assert_eq!(metrics::ready(&*host).await, Ok(()));
    let text = metrics::text(&*host).await.expect("the journal answers");
    for line in [
        "sealbridge_account_up{account=\"a\"} 1",
        "sealbridge_notice_requests_total{source=\"job\",outcome=\"not_proven\"} 1",
        "sealbridge_deliveries_total{account=\"a\",outcome=\"delivered\"}",
        "sealbridge_queue_depth 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("room") && !text.contains("ann"), "{text}");
    scene.hub.faults(&account()).set_reachable(false);
    let begun = tokio::time::Instant::now();
    while metrics::ready(&*host).await.is_ok() {
        assert!(begun.elapsed() < SOON, "it is ready though it hears nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.stop().await;
}

/// What is answered to bytes as they come over the wire; nothing if the connection is cut.
pub(super) async fn raw(port: u16, head: &str, body: &[u8], times: usize) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let (mut from, mut to) = stream.split();
    let writes = async {
        // Whoever does not read on cuts the connection, and that is an answer too.
        if to.write_all(head.as_bytes()).await.is_ok() {
            for _ in 0..times {
                if to.write_all(body).await.is_err() {
                    break;
                }
            }
        }
    };
    let mut answer = vec![0; 4096];
    let reads = async {
        let read = from.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    let ((), said) =
        tokio::time::timeout(SOON, async { tokio::join!(writes, reads) }).await.expect("it is answered in time");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn body_without_end_with_two_lengths_or_packed_fills_no_memory_and_says_nothing() {
    let mut scene = Scene::set(RAW, Says::Encrypted).await;
    let head = |more: &str| format!("POST /job HTTP/1.1\r\nHost: localhost\r\n{more}\r\n\r\n");
    // Of the 64 KiB that are taken, sixteen times as much comes, and would go on.
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let endless = raw(scene.port, &head("Transfer-Encoding: chunked"), chunk.as_bytes(), 256).await;
    assert!(endless.is_empty() || endless.contains(" 413 "), "{endless}");
    let two = raw(scene.port, &head("Content-Length: 5\r\nContent-Length: 6"), b"hello!", 1).await;
    assert!(two.contains(" 400 "), "{two}");
    let both =
        raw(scene.port, &head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 7"), b"0\r\n\r\n", 1)
            .await;
    assert!(!both.contains(" 200 "), "{both}");
    // Nothing is unpacked, so nothing grows.
    let packed = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 1, 0, 0];
    let answer =
        scene.post("/job", &[("content-encoding", "gzip"), ("content-type", "text/plain")], packed.to_vec()).await;
    assert!(answer.status == 415 && answer.body.contains("packed"), "{answer:?}");
    assert!(scene.heard().is_empty(), "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_that_waits_for_what_may_never_come_is_taken_back_and_its_sender_told() {
    let mut scene = Scene::set(RAW, Says::Encrypted).await;
    let host = scene.running.as_ref().expect("it runs").host();
    // Nothing of the bridge's own waits any more, so that what waits is the notice.
    assert_eq!(scene.post("/job", &[], "before").await.status, 200);
    scene.hub.faults(&account()).set_reachable(false);
    let turns = async {
        // Once its network did not take it, that comes back and says that nothing is encrypted any more.
        while host.lanes().values().all(|lane| *lane == LaneState::Busy) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        scene.hub.set_encryption(&scene.room, Says::Plain);
        scene.hub.faults(&account()).set_reachable(true);
    };
    let key = [("idempotency-key", "one")];
    let (answer, ()) = tokio::join!(scene.post("/job", &key, "not for everybody"), turns);
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(answer.body.contains("says otherwise"), "{answer:?}");
    // It may be brought again under its name, since nothing of it was kept.
    let again = scene.post("/job", &key, "in other words").await;
    assert!(again.status == 409 && again.body.contains("says otherwise"), "{again:?}");
    assert_eq!(scene.heard().len(), 1, "{:?}", scene.heard());
    scene.stop().await;
}
