//! Several sources, and what an operator is told of them.

use std::time::Duration;

use sealbridge::{
    notices::SourceName,
    operator::{Action, Actor, Outcome, Place, Progress, perform},
};
use sealbridge_contract::RemoteId;
use sealbridge_loopback::{How, More, Saying, Says};

use super::scene::{SOON, Scene};

pub(super) fn source(name: &str, format: &str, lines: &str) -> String {
    format!("[sources.{name}]\nformat = \"{format}\"\nto = [\"a/room\"]\n{lines}")
}

async fn done(scene: &Scene, action: Action) -> Outcome {
    let host = scene.running.as_ref().expect("it runs").host();
    match perform(host, Actor::Local { uid: 0 }, action).next(None).await {
        Ok(Progress::Done(outcome)) => outcome,
        other => panic!("it is not done: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_is_told_of_a_source_that_it_is_one_and_of_nothing_that_is_wrong() {
    let mut scene =
        Scene::set(&source("job", "raw", "escalate_after = \"1h\"\nescalate_to = [\"a/other\"]\n"), Says::Encrypted)
            .await;
    assert_eq!(scene.post("/job", &[], "a word").await.status, 200);
    let doctor = done(&scene, Action::Doctor).await;
    let links: Vec<_> = doctor
        .lines
        .iter()
        .filter(|line| line["topic"].as_str().is_some_and(|topic| topic.starts_with("link ")))
        .collect();
    assert!(links.len() == 2 && links.iter().all(|line| line["state"] == "ok"), "{links:?}");

    let of = Place::Conversation(SourceName::parse("job").expect("a name").address());
    let audience = done(&scene, Action::Audience { of, from: None }).await;
    assert!(audience.words.contains("nobody reads") && !audience.words.contains("not open"), "{}", audience.words);
    let people = done(&scene, Action::ListTrust).await;
    assert!(!people.words.contains("notices/"), "{}", people.words);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reaction_goes_to_the_source_whose_message_it_is_about_and_nobody_is_told_of_the_others() {
    let three = ["one", "two", "three"].map(|name| source(name, "alertmanager", "")).concat();
    let mut scene = Scene::set(&three, Says::Encrypted).await;
    let json = [("content-type", "application/json")];
    let body = super::requests::alerts(&[("db-1", "firing")]);
    assert_eq!(scene.post("/two", &json, body).await.status, 200);
    let root = scene.hears("the alert", |heard| heard.words.as_str().contains("db-1")).await;
    // Ann reacts to it, to what she says herself, and takes the one back.
    let own = scene.ann.say(&scene.room, "what is it?");
    let reacts = |about: &RemoteId, emoji: &[&str]| {
        let emoji = emoji.iter().map(|emoji| (*emoji).into()).collect();
        let more = More { about: Some(about.clone()), emoji, ..More::default() };
        scene.ann.say_this(&scene.room, Saying::words("").how(How::Reaction).more(more));
    };
    reacts(&own, &["👀"]);
    reacts(&root.id, &["✅"]);
    scene.hears("who sees to it", |heard| heard.how == How::Edit && heard.words.as_str().contains("sees to it")).await;
    reacts(&root.id, &[]);
    scene
        .hears("that nobody does", |heard| heard.how == How::Edit && !heard.words.as_str().contains("sees to it"))
        .await;
    let host = scene.running.as_ref().expect("it runs").host();
    let begun = tokio::time::Instant::now();
    while host.journal().counts().await.expect("the journal answers").queued > 0 {
        assert!(begun.elapsed() < SOON, "something waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told: Vec<_> =
        scene.ann.heard().into_iter().filter(|heard| heard.words.as_str().contains("Over the link")).collect();
    assert!(told.is_empty(), "{told:?}");
    scene.stop().await;
}
