//! Several sources, and what an operator is told of them.

use sealbridge::{
    notices::SourceName,
    operator::{Action, Actor, Outcome, Place, Progress, perform},
};
use sealbridge_loopback::Says;

use super::scene::Scene;

fn source(name: &str, format: &str, lines: &str) -> String {
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
