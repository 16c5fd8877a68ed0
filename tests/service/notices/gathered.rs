//! Notices that are gathered and said as one message: those of a burst beyond its first, and those of quiet hours.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use sealbridge::{
    backup::Restored,
    operator::{Action, Actor, Host, Progress, perform},
};
use sealbridge_contract::{PersonId, Timestamp};
use sealbridge_lab::http::{Answered, request};
use sealbridge_loopback::{Heard, How, Says};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::scene::{SECRET, Scene};

const JOB: &str = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\n";
const ALERTS: &str = "[sources.prom]\nformat = \"alertmanager\"\nto = [\"a/room\"]\n";
const MINUTE: i64 = 60_000;

pub(super) fn says(heard: &Heard, words: &str) -> bool {
    heard.words.as_str().contains(words)
}

pub(super) fn shift(scene: &Scene, by: i64) {
    let sources = scene.running.as_ref().expect("it runs").host().sources().expect("sources are heard");
    sources.clock().shift(by);
}

/// Starts it anew as what was restored from a backup so many minutes from now, at which time it is.
pub(super) async fn restored_after(scene: &mut Scene, minutes: i64) {
    let host = host(scene);
    let at = Timestamp(host.clock().now().0 + minutes * MINUTE);
    Restored { taken: at, at }.keep(&*host.journal()).await.expect("it is kept");
    scene.stop().await;
    scene.start().await;
    shift(scene, (minutes + 1) * MINUTE);
}

/// Quiet hours that began an hour ago and go on for an hour.
fn quiet_now() -> String {
    quiet(-60, 60)
}

/// Quiet hours from so many minutes after now until so many.
pub(super) fn quiet(from: i64, until: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let now = i64::try_from(now.as_secs() / 60).expect("it is not that late");
    let at = |minutes: i64| format!("{:02}:{:02}", (now + minutes) / 60 % 24, (now + minutes) % 60);
    format!("quiet = \"{}-{}\"\n", at(from), at(until))
}

pub(super) fn host(scene: &Scene) -> Arc<dyn Host> {
    scene.running.as_ref().expect("it runs").host()
}

async fn look_up(scene: &Scene, id: &str) -> Value {
    let url = format!("http://127.0.0.1:{}/api/v1/deliveries/{id}", scene.port);
    request("GET", &url, &[], "").await.expect("it is answered").json()
}

fn id(answer: &Answered) -> String {
    answer.json()["id"].as_str().expect("a name").to_owned()
}

pub(super) fn alert(group: &str, severity: &str, firing: &[&str], over: &[&str]) -> String {
    let alert = |name: &&str, status: &str| {
        json!({
            "status": status, "fingerprint": name, "labels": { "alertname": group, "instance": name, "severity": severity },
            "annotations": { "summary": format!("{name} is full") },
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
        })
    };
    let all: Vec<_> = firing
        .iter()
        .map(|name| alert(name, "firing"))
        .chain(over.iter().map(|name| alert(name, "resolved")))
        .collect();
    let body = json!({
        "version": "4", "groupKey": format!("{{}}:{{alertname={group:?}}}"), "truncatedAlerts": 0, "receiver": "room",
        "status": if firing.is_empty() { "resolved" } else { "firing" }, "groupLabels": { "alertname": group },
        "commonLabels": { "alertname": group }, "commonAnnotations": {}, "externalURL": "http://alerts.example", "alerts": all,
    });
    body.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_becomes_its_first_messages_and_one_digest_that_counts_the_rest() {
    let mut scene = Scene::set(&format!("{JOB}burst = 10\n"), Says::Encrypted).await;
    let mut kept = Vec::new();
    for number in 0..50 {
        let key = format!("key {number}");
        let answer = scene.post("/job", &[("idempotency-key", &key)], format!("notice <b>{number}</b>")).await;
        assert_eq!(answer.status, if number < 10 { 200 } else { 202 }, "{number}: {answer:?}");
        if number >= 10 {
            kept.push((key, id(&answer), format!("notice <b>{number}</b>")));
        }
    }
    let digest = kept[0].1.clone();
    assert!(kept.iter().all(|(_, id, _)| *id == digest), "{kept:?}");
    assert_eq!(look_up(&scene, &digest).await["status"], "queued");
    // One that comes again is the same, and counted once; another under its name is not taken.
    let again =
        async |scene: &Scene, body: &str| scene.post("/job", &[("idempotency-key", &kept[7].0)], body.to_owned()).await;
    let answer = again(&scene, &kept[7].2).await;
    assert!(answer.status == 202 && id(&answer) == digest, "{answer:?}");
    assert_eq!(again(&scene, "another").await.status, 409);
    assert_eq!(scene.heard().len(), 10, "{:?}", scene.heard());

    shift(&scene, MINUTE);
    let heard = scene.hears("the digest", |heard| says(heard, "40 notices")).await;
    assert!(heard.how == How::Notice && says(&heard, "🔵 40 Info") && says(&heard, "notice <b>10</b>"), "{heard:?}");
    assert!(says(&heard, "and 15 more"), "{heard:?}");
    let html = heard.html.as_ref().expect("it is formatted").as_str();
    assert!(html.contains("notice &lt;b&gt;10&lt;/b&gt;") && !html.contains("<b>10"), "{html}");
    let known = look_up(&scene, &digest).await;
    assert_eq!(
        (known["status"].as_str(), &known["event_ids"]),
        (Some("arrived"), &json!([heard.id.as_str()])),
        "{known}"
    );
    let answer = again(&scene, &kept[7].2).await;
    assert_eq!((answer.status, answer.json()["event_ids"][0].as_str()), (200, Some(heard.id.as_str())), "{answer:?}");
    assert_eq!(scene.post("/job", &[], "after it").await.status, 200);
    assert_eq!(scene.heard().len(), 12, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gathered_outlives_a_restart_and_is_said_where_the_config_gathers_no_more() {
    let mut scene =
        Scene::set(&format!("{JOB}burst = 0\ngather_for = \"2s\"\nmention = [\"ben\"]\n"), Says::Encrypted).await;
    for number in 0..3 {
        assert_eq!(scene.post("/job", &[("x-severity", "critical")], format!("canary-{number}")).await.status, 202);
    }
    scene.stop().await;
    for file in std::fs::read_dir(scene.state()).expect("a folder").map(|file| file.expect("a file").path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(7).any(|part| part == b"canary-"), "{}", file.display());
    }
    scene.forget("burst = 0\ngather_for = \"2s\"\n");
    scene.start().await;
    let heard = scene.hears("the digest", |heard| says(heard, "3 notices")).await;
    assert!(heard.how == How::Text && says(&heard, "🔴 3 Critical"), "a person is to act: {heard:?}");
    assert_eq!(heard.more.calls, [PersonId::new("ben")]);
    assert_eq!(scene.post("/job", &[], "after it").await.status, 200);
    assert_eq!(scene.heard().len(), 2, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_hold_what_can_wait_and_let_pass_what_is_critical_a_change_or_a_file() {
    let discord = JOB.replace("job", "chat").replace("raw", "discord") + "secret_files = [SECRET]\n";
    let quiet = quiet_now();
    let mut scene = Scene::set(&format!("{JOB}{quiet}{discord}{quiet}"), Says::Encrypted).await;
    for severity in ["low", "info", "warning"] {
        assert_eq!(scene.post("/job", &[("x-severity", severity)], format!("a {severity} word")).await.status, 202);
    }
    assert_eq!(scene.post("/job", &[("x-severity", "critical")], "the house is on fire").await.status, 200);
    assert_eq!(scene.post("/job", &[("x-filename", "photo.bin")], vec![0xff, 0xfe]).await.status, 200);
    // Discord's senders are told a name by which they may change their message, which is none of its own here.
    let path = format!("/chat/api/webhooks/1/{SECRET}");
    let json = [("content-type", "application/json")];
    let first = scene.post(&format!("{path}?wait=true"), &json, r#"{"content":"the build began"}"#).await;
    assert!(first.status == 200 && id(&first).starts_with("together-"), "{first:?}");
    let url = format!("http://127.0.0.1:{}{path}/messages/{}", scene.port, id(&first));
    let changed = request("PATCH", &url, &json, r#"{"content":"the build ended"}"#).await.expect("it is answered");
    assert_eq!(changed.status, 200, "{changed:?}");
    let heard = scene.heard();
    assert!(!heard.iter().any(|heard| says(heard, " word") || says(heard, "build")), "{heard:?}");

    shift(&scene, 61 * MINUTE);
    let digest = scene.hears("the digest", |heard| says(heard, "3 notices")).await;
    assert!(says(&digest, "⚠️ 1 Warning, 🔵 1 Info, ⚪ 1 Low") && !says(&digest, "fire"), "{digest:?}");
    let builds = scene.hears("the other", |heard| says(heard, "2 notices")).await;
    assert!(says(&builds, "the build began") && says(&builds, "the build ended"), "{builds:?}");
    // The digest was not changed, and what comes now as a change of it is said for itself.
    let changed = request("PATCH", &url, &json, r#"{"content":"it was a success"}"#).await.expect("it is answered");
    assert_eq!(changed.status, 200, "{changed:?}");
    let last = scene.hears("the last word", |heard| says(heard, "success")).await;
    assert_eq!(last.how, How::Notice, "{last:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sender_is_answered_in_its_own_dialect_and_told_of_no_event_that_is_not_there() {
    let source = |name: &str| JOB.replace("job", name).replace("raw", name) + "secret_files = [SECRET]\nburst = 0\n";
    let sections = ["slack", "ntfy", "gotify", "discord"].map(source).concat();
    let mut scene = Scene::set(&sections, Says::Encrypted).await;
    let (json, bearer) = (("content-type", "application/json"), format!("Bearer {SECRET}"));
    let posts = [
        (format!("/services/T0/B0/{SECRET}"), r#"{"text":"one"}"#, 200),
        ("/ntfy/topic".to_owned(), "two", 200),
        (format!("/message?token={SECRET}"), r#"{"message":"three"}"#, 200),
        (format!("/api/webhooks/1/{SECRET}"), r#"{"content":"four"}"#, 204),
    ];
    for (path, body, status) in &posts {
        let answer = scene.post(path, &[json, ("authorization", &bearer)], *body).await;
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
        let delivery = answer.header("sealbridge-delivery").expect("where to look").to_owned();
        assert!(delivery.starts_with("together-") && delivery.ends_with("queued"), "{delivery}");
        match path.as_str() {
            "/ntfy/topic" => assert_eq!(format!("{}; queued", id(&answer)), delivery),
            path if path.starts_with("/services") => assert_eq!(answer.body, "ok"),
            _ => {}
        }
    }
    assert!(scene.heard().is_empty(), "{:?}", scene.heard());
    shift(&scene, MINUTE);
    for words in ["one", "two", "three", "four"] {
        scene.hears(words, |heard| says(heard, "1 notice gathered") && says(heard, words)).await;
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_that_began_while_they_were_held_are_counted_and_told_of_alone_from_their_next_news_on() {
    let mut scene = Scene::set(&format!("{ALERTS}{}", quiet_now()), Says::Encrypted).await;
    let json = [("content-type", "application/json")];
    let post = async |scene: &Scene, body: String| scene.post("/prom", &json, body).await.status;
    for group in ["Disk", "Fan", "Lamp"] {
        assert_eq!(post(&scene, alert(group, "warning", &["a"], &[])).await, 202);
    }
    // Told again, it is one line; one ends, one becomes urgent and is told of at once.
    assert_eq!(post(&scene, alert("Disk", "warning", &["a"], &[])).await, 202);
    assert_eq!(post(&scene, alert("Fan", "warning", &[], &["a"])).await, 202);
    assert_eq!(post(&scene, alert("Lamp", "critical", &["a", "b"], &[])).await, 200);
    let lamp = scene.hears("what became urgent", |heard| says(heard, "Lamp")).await;
    assert!(lamp.how == How::Text && scene.heard().len() == 1, "{:?}", scene.heard());
    // Its end can wait, and is seen in its message.
    assert_eq!(post(&scene, alert("Lamp", "critical", &[], &["a", "b"])).await, 200);
    let end = scene.hears("its end", |heard| heard.how == How::Edit && says(heard, "Resolved")).await;
    assert!(end.more.about.as_ref() == Some(&lamp.id) && scene.heard().len() == 2, "{:?}", scene.heard());

    shift(&scene, 61 * MINUTE);
    let digest = scene.hears("the digest", |heard| says(heard, "5 notices")).await;
    assert!(says(&digest, "1 still on and 1 over") && says(&digest, "✅ Resolved: Fan"), "{digest:?}");
    assert!(says(&digest, "⚠️ Warning: Disk (2×)"), "{digest:?}");
    // What was told of with others has nothing to be changed; told again, nothing is said.
    assert_eq!(post(&scene, alert("Disk", "warning", &["a"], &[])).await, 200);
    assert_eq!(post(&scene, alert("Disk", "warning", &["a", "b"], &[])).await, 200);
    let disk = scene.hears("news of it", |heard| heard.how != How::Edit && says(heard, "2 firing")).await;
    assert_eq!(post(&scene, alert("Disk", "warning", &[], &["a", "b"])).await, 200);
    let over = |heard: &Heard| {
        heard.how == How::Edit && heard.more.about.as_ref() == Some(&disk.id) && says(heard, "Resolved")
    };
    scene.hears("that it is over", over).await;
    // What is over begins as another.
    assert_eq!(post(&scene, alert("Fan", "warning", &["a"], &[])).await, 200);
    scene.hears("the next", |heard| heard.how != How::Edit && says(heard, "Fan") && says(heard, "Warning: Fan")).await;
    let edits = scene.heard().into_iter().filter(|heard| heard.more.about.as_ref() == Some(&digest.id)).count();
    assert_eq!(edits, 0, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_gathered_for_where_nothing_may_be_said() {
    let mut scene = Scene::set(&format!("{JOB}burst = 0\ngather_for = \"1s\"\n"), Says::Plain).await;
    let answer = scene.post("/job", &[], "a secret").await;
    assert_eq!(answer.status, 409, "{answer:?}");
    scene.stop().await;
    // What was gathered for a conversation that is encrypted no more is not said there, either.
    let mut scene = Scene::set(&format!("{JOB}burst = 0\ngather_for = \"1s\"\n"), Says::Encrypted).await;
    assert_eq!(scene.post("/job", &[], "another").await.status, 202);
    let host = scene.running.as_ref().expect("it runs").host();
    scene.hub.set_encryption(&scene.room, Says::Plain);
    let begun = tokio::time::Instant::now();
    while host.journal().counts().await.expect("the journal answers").queued == 0 {
        assert!(begun.elapsed() < super::scene::SOON, "it never becomes a message");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(scene.heard().is_empty(), "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_wait_for_the_answer_is_counted_once_all_the_same() {
    const MANY: usize = 60;
    let mut scene = Scene::set(&format!("{JOB}burst = 0\ngather_for = \"30m\"\n"), Says::Encrypted).await;
    let mut first = None;
    for number in 0..MANY {
        let (key, words) = (format!("key {number}"), format!("notice {number}"));
        let head = format!(
            "POST /job HTTP/1.1\r\nhost: localhost\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n",
            words.len()
        );
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.port)).await.expect("it listens");
        stream.write_all(format!("{head}\r\n{words}").as_bytes()).await.expect("it hears");
        drop(stream);
        // It comes again, as of whoever does not know what became of it.
        let answer = scene.post("/job", &[("idempotency-key", &key)], words).await;
        assert_eq!(answer.status, 202, "{number}: {answer:?}");
        assert_eq!(*first.get_or_insert_with(|| id(&answer)), id(&answer));
    }
    shift(&scene, 30 * MINUTE);
    let digest = scene.hears("the digest", |heard| says(heard, "gathered")).await;
    assert!(says(&digest, &format!("{MANY} notices gathered")), "{digest:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backup_had_gathered_is_not_said_by_itself_and_takes_nothing_new_with_it() {
    let mut scene = Scene::set(&format!("{JOB}burst = 0\ngather_for = \"5m\"\n"), Says::Encrypted).await;
    assert_eq!(scene.post("/job", &[], "before the backup").await.status, 202);
    restored_after(&mut scene, 10).await;
    assert_eq!(scene.post("/job", &[], "since then").await.status, 202);
    shift(&scene, 5 * MINUTE);
    let digest = scene.hears("the digest", |heard| says(heard, "gathered")).await;
    assert!(says(&digest, "since then") && !says(&digest, "before the backup"), "{digest:?}");
    assert_eq!(scene.heard().len(), 1, "{:?}", scene.heard());
    let letters = host(&scene).journal().dead_letters(0, 10).await.expect("the journal answers");
    let reasons: Vec<_> = letters.iter().map(|letter| (letter.reason.as_str(), letter.kept)).collect();
    assert_eq!(reasons, [("it was said before a backup was restored, and may have been carried already", true)]);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_of_a_source_that_is_gone_is_told_of_and_said_once_it_is_back() {
    let job = format!("{JOB}burst = 0\ngather_for = \"1s\"\n");
    let mut scene = Scene::set(&job, Says::Encrypted).await;
    let found = async |scene: &Scene| match perform(host(scene), Actor::Init, Action::Doctor).next(None).await {
        Ok(Progress::Done(done)) => done.lines.into_iter().find(|line| line["topic"] == "source job"),
        other => panic!("the doctor says {other:?}"),
    };
    let answer = scene.post("/job", &[], "is it there?").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    scene.forget(&job);
    scene.stop().await;
    scene.start().await;
    let told = found(&scene).await.expect("it is told of");
    assert!(told["state"] == "warn" && told["words"].as_str().is_some_and(|words| words.contains("waits")), "{told}");
    let standing = look_up(&scene, &id(&answer)).await;
    assert!(standing["status"] == "queued" && standing["why"][0].as_str().is_some_and(|why| why.contains("no more")));
    assert!(scene.heard().is_empty(), "{:?}", scene.heard());
    scene.recall(&job);
    scene.stop().await;
    scene.start().await;
    assert!(says(&*scene.hears("the digest", |heard| says(heard, "gathered")).await, "is it there?"));
    assert_eq!(found(&scene).await, None);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_that_begins_in_a_known_incident_during_a_burst_is_counted_in_the_digest_and_calls() {
    let mut scene = Scene::set(&format!("{ALERTS}burst = 2\nmention = [\"ben\"]\n"), Says::Encrypted).await;
    let post = async |scene: &Scene, body: String| {
        scene.post("/prom", &[("content-type", "application/json")], body).await.status
    };
    assert_eq!(post(&scene, alert("Disk", "critical", &["a"], &[])).await, 200);
    assert_eq!(post(&scene, alert("Web", "critical", &["x"], &[])).await, 200);
    // The burst is over its bound, and nothing is gathered yet.
    assert_eq!(post(&scene, alert("Disk", "critical", &["a", "b", "c"], &[])).await, 202);
    assert_eq!(post(&scene, alert("Web", "critical", &["x", "y"], &[])).await, 202);
    // What ends there is seen in its message alone.
    assert_eq!(post(&scene, alert("Web", "critical", &["y"], &["x"])).await, 200);
    shift(&scene, MINUTE);
    let digest = scene.hears("the digest", |heard| says(heard, "2 notices gathered")).await;
    assert!(says(&digest, "🔴 2 Critical") && says(&digest, "y is full") && !says(&digest, "x is full"), "{digest:?}");
    assert!(says(&digest, "b is full (and 1 more)") || says(&digest, "c is full (and 1 more)"), "{digest:?}");
    assert_eq!((digest.how, &digest.more.calls), (How::Text, &vec![PersonId::new("ben")]), "{digest:?}");
    scene.hears("all of it", |heard| heard.how == How::Edit && says(heard, "Disk – 3 firing")).await;
    // What is held by night is counted, too.
    scene.stop().await;
    let mut scene = Scene::set(&format!("{ALERTS}{}", quiet(1, 61)), Says::Encrypted).await;
    assert_eq!(post(&scene, alert("Fan", "warning", &["a"], &[])).await, 200);
    shift(&scene, 2 * MINUTE);
    assert_eq!(post(&scene, alert("Fan", "warning", &["a", "b"], &[])).await, 202);
    shift(&scene, 60 * MINUTE);
    let digest = scene.hears("the digest", |heard| says(heard, "1 notice gathered")).await;
    assert!(says(&digest, "⚠️ Warning: b is full"), "{digest:?}");
    scene.stop().await;
}
