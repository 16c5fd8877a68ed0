//! At which paths sources are found.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use sealbridge::{config, operator::FailureKind, service::Service};
use sealbridge_contract::RootKey;
use sealbridge_lab::http::request;
use sealbridge_loopback::Says;
use tokio_util::sync::CancellationToken;

use super::{
    requests::bearer,
    scene::{SECRET, Scene},
    several::source,
};
use crate::running::ROOT;

#[tokio::test(flavor = "multi_thread")]
async fn path_that_senders_have_built_in_is_taken_by_no_source_of_that_name() {
    let sections = [
        source("ping", "ping", "secret_files = [OLD]\n"),
        source("backup", "ping", "secret_files = [SECRET]\n"),
        source("webhook", "raw", ""),
        source("hook", "hookshot", "secret_files = [SECRET]\n"),
    ];
    let mut scene = Scene::set(&sections.concat(), Says::Encrypted).await;
    assert_eq!(scene.post(&format!("/ping/{SECRET}/fail"), &[], "the disk is full").await.status, 200);
    let heard = scene.hears("the failure", |heard| heard.words.as_str().contains("the disk is full")).await;
    assert_eq!(heard.author.as_ref().map(|name| name.as_str()), Some("backup"));
    assert_eq!(scene.post("/ping/the%20one%20before/1", &[], "").await.status, 200);
    scene.hears("its own", |heard| heard.author.as_ref().is_some_and(|name| name.as_str() == "ping")).await;
    assert_eq!(scene.post("/ping/another", &[], "").await.status, 401);

    assert_eq!(scene.post(&format!("/webhook/{SECRET}"), &[("content-type", "text/plain")], "built").await.status, 200);
    let heard = scene.hears("the build", |heard| heard.words.as_str().contains("built")).await;
    assert_eq!(heard.author.as_ref().map(|name| name.as_str()), Some("hook"));
    assert_eq!(scene.post("/webhook", &[], "by its name").await.status, 200);
    let heard = scene.hears("the other", |heard| heard.words.as_str().contains("by its name")).await;
    assert_eq!(heard.author.as_ref().map(|name| name.as_str()), Some("webhook"));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_of_ntfys_is_a_topic_of_its_own_name() {
    let mut scene = Scene::set(&source("alerts", "ntfy", ""), Says::Encrypted).await;
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", scene.port);
    for (method, path, body, words, topic) in [
        ("POST", "/alerts", "by its name", "by its name", "alerts"),
        ("PUT", "/alerts/", "put there", "put there", "alerts"),
        ("GET", "/alerts/publish?message=asked", "", "asked", "alerts"),
        ("GET", "/alerts/trigger", "", "triggered", "alerts"),
        ("POST", "/alerts/send", "sent", "sent", "alerts"),
        ("GET", "/alerts/disk/publish?message=of+a+topic", "", "of a topic", "disk"),
        ("POST", "/alerts/disk", "of another", "of another", "disk"),
        ("POST", "/alerts", r#"{"topic":"json","message":"as JSON"}"#, "as JSON", "json"),
    ] {
        let answer = request(method, &url(path), &[], body).await.expect("it is answered");
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        assert_eq!(answer.json()["topic"], topic, "{path} {answer:?}");
        scene.hears(words, |heard| heard.words.as_str().contains(words)).await;
    }
    assert_eq!(request("GET", &url("/alerts"), &[], "").await.expect("it is answered").status, 405);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_source_without_a_secret_takes_what_is_published_to_a_topic_and_nothing_that_is_anothers() {
    let sections = [
        source("alerts", "ntfy", ""),
        source("prom", "alertmanager", "secret_files = [SECRET]\n"),
        source("forge", "github", "secret_files = [OLD]\n"),
    ];
    let mut scene = Scene::set(&sections.concat(), Says::Encrypted).await;
    let bearer = bearer(SECRET);
    let json = ("content-type", "application/json");
    let long = format!("/{}", "x".repeat(65));
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)]);
    let misled: [Case<'_>; 8] = [
        ("/prometheus", &[("authorization", &bearer), json]),
        ("/prometheus", &[("authorization", &bearer)]),
        ("/prometheus", &[json]),
        ("/forges", &[("x-hub-signature-256", "sha256=00")]),
        ("/v2/alerts/more", &[]),
        ("/a.b", &[]),
        ("/index%2ephp", &[]),
        (&long, &[]),
    ];
    for (path, headers) in misled {
        let answer = scene.post(path, headers, r#"{"text":"a secret"}"#).await;
        assert_eq!(answer.status, 404, "{path} {headers:?} {answer:?}");
    }
    for (path, body) in
        [("/disk-1_A", "a word"), ("/", r#"{"topic":"disk","message":"a word"}"#), ("/disk/send", "a word")]
    {
        let answer = scene.post(path, &[], body).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
    }
    assert_eq!(scene.heard().len(), 3, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_that_one_secret_would_find_at_one_path_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["one", "two", "three"] {
        let file = folder.path().join(name);
        fs::write(&file, if name == "three" { "another" } else { "battery" }).expect("it is written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is private");
    }
    let run = async |format: &str, other: &str, secret: &str| {
        let secret_of = |secret: &str| format!("secret_files = [{:?}]\n", folder.path().join(secret));
        let text = format!(
            "[service]\nstate = {:?}\n[accounts.a]\nnetwork = \"loopback\"\nhub = \"refused\"\nconversations = [\"room\"]\n{}{}",
            folder.path().join("state"),
            source("builds", format, &secret_of("one")),
            source("deploys", other, &secret_of(secret)),
        );
        let config = config::load_text(Path::new("test.toml"), &text).expect("the config is sound");
        let service = Service::open(Arc::new(config), RootKey::new(ROOT)).await.expect("the journal opens");
        let stop = CancellationToken::new();
        stop.cancel();
        let ran = service.run(tokio::sync::oneshot::channel().0, stop).await;
        service.close().await;
        ran
    };
    let refused = run("hookshot", "hookshot", "two").await.expect_err("one of them would never be heard");
    assert_eq!(refused.kind, FailureKind::Config);
    assert!(["builds", "deploys", "/webhook/"].iter().all(|part| refused.words.contains(part)), "{refused:?}");
    assert!(!refused.words.contains("battery"), "{refused:?}");
    // Other secrets, other paths, and sources that have no path but their own.
    for (format, other, secret) in
        [("hookshot", "hookshot", "three"), ("hookshot", "slack", "two"), ("raw", "raw", "two")]
    {
        assert!(run(format, other, secret).await.is_ok(), "{format} {other} {secret}");
    }
}
