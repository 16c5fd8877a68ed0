//! Who is heard at all, and how much is taken in of a request before that is known.

use std::time::{Duration, Instant};

use sealbridge_lab::http::request;
use sealbridge_loopback::Says;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    requests::{RAW, bearer, raw},
    scene::{SECRET, SOON, Scene, account},
    signed::signed,
};

const OPEN: &str = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\n";
const GUARDED: &str = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\nsecret_files = [SECRET]\n\
                       [sources.forge]\nformat = \"github\"\nto = [\"a/room\"]\nsecret_files = [SECRET]\n";

#[tokio::test(flavor = "multi_thread")]
async fn source_without_a_secret_is_no_open_door_to_a_page_whose_name_leads_to_this_machine() {
    let mut scene = Scene::set(OPEN, Says::Encrypted).await;
    let port = scene.port;
    let elsewhere = [
        "evil.example",
        "localhost.evil.example",
        "sealbridge",
        "192.168.1.5",
        "[2001:db8::1]",
        "127.0.0.1.evil.example",
        "0.0.0.0",
    ];
    for host in elsewhere.iter().flat_map(|host| [(*host).to_owned(), format!("{host}:{port}")]) {
        let answer = scene.post("/job", &[("host", &host)], "rebound").await;
        assert!(answer.status == 403 && answer.body.contains("a secret"), "{host} {answer:?}");
    }
    let here = ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]"];
    for host in here.iter().flat_map(|host| [(*host).to_owned(), format!("{host}:{port}")]) {
        assert_eq!(scene.post("/job", &[("host", &host)], "from here").await.status, 200, "{host}");
    }
    let old = raw(port, "POST /job HTTP/1.0\r\nContent-Length: 3\r\n\r\n", b"old", 1).await;
    assert!(old.contains(" 200 "), "{old}");
    let two = raw(
        port,
        "POST /job HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nContent-Length: 3\r\n\r\n",
        b"two",
        1,
    )
    .await;
    assert!(!two.contains(" 200 "), "{two}");
    assert_eq!(scene.heard().len(), 11, "{:?}", scene.heard());
    scene.stop().await;
}

/// What is answered to a request of which nothing but the head has come.
async fn answered(port: u16, method: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.expect("it is taken");
    let mut answer = [0; 4096];
    let read = timeout(SOON, stream.read(&mut answer)).await.expect("it is answered before its body is there");
    String::from_utf8_lossy(&answer[..read.expect("it is read")]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_heard_is_told_before_their_body_is_read() {
    let mut scene = Scene::set(GUARDED, Says::Encrypted).await;
    let proven = format!("Authorization: {}\r\n", bearer(SECRET));
    let long = "Content-Length: 60000\r\n";
    let packed = format!("{proven}{long}Content-Encoding: gzip\r\n");
    let too_long = format!("{proven}Content-Length: 70000\r\n");
    for (method, path, headers, status) in [
        ("POST", "/nowhere", long, 404),
        ("POST", "/webhook/none", long, 404),
        ("POST", "/job", long, 401),
        ("POST", "/forge", long, 401),
        ("GET", "/api/v1/deliveries/none", long, 404),
        ("POST", "/job", &packed, 415),
        ("POST", "/job", &too_long, 413),
        ("POST", "/nowhere", &too_long, 404),
    ] {
        let answer = answered(scene.port, method, path, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {headers} {answer}");
    }
    let identity = [("authorization", bearer(SECRET)), ("content-encoding", "identity".to_owned())];
    let identity: Vec<_> = identity.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(scene.post("/job", &identity, "as it is").await.status, 200);
    // Whoever sends all of it first hears the answer too, and can go on.
    let body = "x".repeat(60_000);
    let head = |path: &str, more: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {length}\r\n\r\n")
    };
    let mut stream = TcpStream::connect(("127.0.0.1", scene.port)).await.expect("it listens");
    let all = format!(
        "{}{body}{}on",
        head("/nowhere", "", body.len()),
        head("/job", &format!("{proven}Connection: close\r\n"), 2)
    );
    stream.write_all(all.as_bytes()).await.expect("it is taken");
    let mut answers = String::new();
    timeout(SOON, stream.read_to_string(&mut answers)).await.expect("it ends").expect("it is read");
    assert!(answers.contains("HTTP/1.1 404 ") && answers.contains("HTTP/1.1 200 "), "{answers}");
    scene.stop().await;
}

/// Connections on which so much of a large body came, and no more.
async fn slow(port: u16, head: &str, number: usize, length: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..number {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        let head = format!("POST {head}Content-Length: 1000000\r\n\r\n");
        // It may be cut off, which is an answer too.
        let whole = [head.into_bytes(), vec![b'x'; length]].concat();
        let _ = timeout(SOON, stream.write_all(&whole)).await.expect("it is taken in, or cut off");
        held.push(stream);
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_whoever_is_not_proven_delay_nobody_who_is() {
    let mut scene = Scene::set_with("1MiB", GUARDED, Says::Encrypted).await;
    let mut held = Vec::new();
    let forged = format!("X-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    for (path, more) in [("/nowhere", ""), ("/job", ""), ("/forge", forged.as_str()), ("/api/v1/deliveries/x", "")] {
        let head = format!("{path} HTTP/1.1\r\nHost: localhost\r\n{more}");
        held.extend(slow(scene.port, &head, 20, 70_000).await);
    }
    let proof = bearer(SECRET);
    let proof = [("authorization", proof.as_str())];
    let post = scene.post("/job", &proof, vec![b'x'; 108_000]);
    let answer = timeout(SOON, post).await.expect("it waits for none of them");
    assert_eq!(answer.status, 200, "{answer:?}");
    // Nor one whose own signature only its body proves.
    let body = format!("{{\"zen\":\"{}\"}}", "x".repeat(108_000));
    let signature = signed(&body);
    let headers =
        [("x-github-event", "ping"), ("x-hub-signature-256", signature.as_str()), ("content-type", "application/json")];
    let answer = timeout(SOON, scene.post("/forge", &headers, body)).await.expect("it waits for none of them");
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(held);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_of_one_source_and_connections_of_one_address_shut_the_door_for_nobody() {
    let calm = GUARDED
        .replace("sources.job", "sources.calm")
        .replace("SECRET", "OLD")
        .replace("sources.forge", "sources.other");
    let mut scene = Scene::set_with("1MiB", &format!("{GUARDED}{calm}"), Says::Encrypted).await;
    let head = format!("/job HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n", bearer(SECRET));
    let mut held = slow(scene.port, &head, 12, 900_000).await;
    let proof = bearer("the one before");
    let post = async |scene: &Scene, length: usize| {
        let headers = [("authorization", proof.as_str())];
        let post = scene.post("/calm", &headers, vec![b'x'; length]);
        let answer = timeout(SOON, post).await.expect("it waits for none of them");
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    post(&scene, 108_000).await;
    held.extend(
        slow(scene.port, "/forge HTTP/1.1\r\nHost: localhost\r\nX-Hub-Signature-256: sha256=00\r\n", 1100, 10).await,
    );
    post(&scene, 5).await;
    drop(held);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn body_that_takes_long_to_be_read_delays_no_other_source() {
    let sections = format!("{OPEN}{}", OPEN.replace("job", "calm"));
    let mut scene = Scene::set_with("8MiB", &sections, Says::Encrypted).await;
    let keys: Vec<_> = (0..300_000).map(|number| format!("\"{number}\":1")).collect();
    let body = format!("{{\"text\":\"large\",{}}}", keys.join(","));
    let begun = Instant::now();
    let mut large = Box::pin(scene.post("/job", &[("content-type", "application/json")], body));
    let (mut longest, mut others) = (Duration::ZERO, 0);
    let answer = loop {
        let asked = Instant::now();
        let calm = scene.post("/calm", &[], format!("a word {others}"));
        let (calm, large) = tokio::join!(calm, async { futures_util::poll!(&mut large) });
        assert_eq!(calm.status, 200, "{calm:?}");
        (longest, others) = (longest.max(asked.elapsed()), others + 1);
        if let std::task::Poll::Ready(answer) = large {
            break answer;
        }
    };
    assert!(answer.status < 500, "{answer:?}");
    let took = begun.elapsed();
    assert!(longest < took / 2, "{longest:?} of {took:?}, {others} others");
    drop(large);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_floods_is_told_to_come_later() {
    let mut scene = Scene::set(&format!("{RAW}most_per_minute = 5\n"), Says::Encrypted).await;
    let mut statuses = Vec::new();
    for number in 0..8 {
        let answer = scene.post("/job", &[], format!("flood {number}")).await;
        if answer.status == 503 {
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 503, 503, 503]);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calm_source_is_heard_while_another_floods() {
    let sections = format!("{RAW}{}", RAW.replace("job", "calm"));
    let mut scene = Scene::waiting(&sections, Says::Encrypted, "30s").await;
    // What is said is kept, but nobody is reached, so that all of it is under way at once.
    scene.hub.faults(&account()).set_reachable(false);
    let flood: Vec<_> = (0..200)
        .map(|number| {
            let url = format!("http://127.0.0.1:{}/job", scene.port);
            tokio::spawn(
                async move { request("POST", &url, &[], format!("flood {number}")).await.expect("it is answered") },
            )
        })
        .collect();
    // All the places of the one that floods are taken.
    let begun = tokio::time::Instant::now();
    let now = [("prefer", "respond-async")];
    while scene.post("/job", &now, "one more").await.status != 503 {
        assert!(begun.elapsed() < SOON && !flood.iter().all(tokio::task::JoinHandle::is_finished), "it floods nothing");
    }
    let calm = scene.post("/calm", &now, "a word").await;
    assert_eq!(calm.status, 202, "{calm:?}");
    assert!(flood.iter().any(|one| !one.is_finished()), "the flood was over");
    scene.hub.faults(&account()).set_reachable(true);
    let mut refused = 0;
    for one in flood {
        let answer = one.await.expect("it ends");
        assert!([200, 202, 503].contains(&answer.status), "{answer:?}");
        refused += usize::from(answer.status == 503);
    }
    assert!(refused > 0, "nobody was told to come later");
    scene.stop().await;
}
