//! Sources that are to be heard again and again.

use std::time::Duration;

use sealbridge_loopback::{Heard, How, More, Saying, Says};
use serde_json::json;

use super::{
    gathered::shift,
    scene::{SECRET, SOON, Scene},
};

const JOB: &str = "[sources.backup]\nformat = \"ping\"\nto = [\"a/room\"]\nsecret_files = [SECRET]\n";

fn says(heard: &Heard, word: &str) -> bool {
    heard.words.as_str().contains(word)
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_is_not_heard_is_missed_also_after_a_restart_and_told_of_once_it_is_back() {
    let mut scene = Scene::set(&format!("{JOB}expect_every = \"1s\"\n"), Says::Encrypted).await;
    let path = format!("/ping/{SECRET}");
    assert_eq!(scene.post(&path, &[], "").await.status, 200);
    let missed = scene.hears("that it is missing", |heard| says(heard, "Missing")).await;
    assert!(missed.how == How::Text && says(&missed, "more than 1 s"), "{missed:?}");
    // Whoever shows no secret is not heard.
    assert_eq!(scene.post("/ping/wrong", &[], "").await.status, 404);
    assert_eq!(scene.post("/backup", &[], "").await.status, 401);
    scene.stop().await;
    scene.start().await;
    let of_it = |heard: &Heard, word: &str| heard.more.about.as_ref() == Some(&missed.id) && says(heard, word);
    assert_eq!(scene.post(&path, &[], "").await.status, 200);
    let back = scene.hears("that it is back", |heard| heard.how == How::Edit && of_it(heard, "Heard again")).await;
    assert!(!says(&back, "Missing"), "{back:?}");
    // Missing once more it is said anew.
    scene
        .hears("that it is missing again", |heard| {
            heard.how == How::Text && says(heard, "Missing") && heard.id != missed.id
        })
        .await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_asks_too_often_is_heard_though_nothing_more_is_taken_of_it() {
    let mut scene = Scene::set(&format!("{JOB}expect_every = \"1s\"\nmost_per_minute = 1\n"), Says::Encrypted).await;
    let path = format!("/ping/{SECRET}");
    assert_eq!(scene.post(&path, &[], "").await.status, 200);
    let missed = scene.hears("that it is missing", |heard| says(heard, "Missing")).await;
    assert_eq!(scene.post(&path, &[], "").await.status, 503);
    let back = |heard: &Heard| heard.more.about.as_ref() == Some(&missed.id) && says(heard, "Heard again");
    scene.hears("that it is back", |heard| heard.how == How::Edit && back(heard)).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_fails_is_one_message_until_it_goes_well_and_one_that_goes_well_says_nothing() {
    let mut scene = Scene::set(JOB, Says::Encrypted).await;
    let ping = async |scene: &Scene, end: &str| {
        let answer = scene.post(&format!("/ping/{SECRET}{end}"), &[], "no room left").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    for end in ["", "/start", "/0", "/log"] {
        ping(&scene, end).await;
    }
    assert!(scene.heard().is_empty(), "{:?}", scene.heard());
    ping(&scene, "/3").await;
    let failed = scene.hears("that it failed", |heard| says(heard, "It ended with 3")).await;
    assert!(says(&failed, "Failed") && says(&failed, "no room left"), "{failed:?}");
    ping(&scene, "/fail").await;
    ping(&scene, "").await;
    let well = |heard: &Heard| heard.how == How::Edit && says(heard, "Well again");
    let well = scene.hears("that it is well", well).await;
    assert_eq!(well.more.about.as_ref(), Some(&failed.id));
    let roots = scene.heard().into_iter().filter(|heard| heard.how == How::Text && heard.more.thread.is_none()).count();
    assert_eq!(roots, 1, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_is_missing_stays_so_over_a_restart_and_so_does_who_looks_after_it() {
    let mut scene = Scene::set(&format!("{JOB}expect_every = \"1s\"\n"), Says::Encrypted).await;
    let missed = scene.hears("that it is missing", |heard| says(heard, "Missing")).await;
    let more = More { about: Some(missed.id.clone()), emoji: vec!["✅".into()], ..More::default() };
    scene.ann.say_this(&missed.conversation, Saying::words("").how(How::Reaction).more(more));
    let of_it = |heard: &Heard, word: &str| heard.more.about.as_ref() == Some(&missed.id) && says(heard, word);
    scene.hears("that Ann looks after it", |heard| of_it(heard, "sees to it")).await;
    scene.stop().await;
    scene.start().await;
    shift(&scene, 120_000);
    let again = scene.hears("that it is missing still", |heard| of_it(heard, "Told again, 1×")).await;
    assert!(says(&again, "Missing") && says(&again, "ann sees to it"), "{again:?}");
    assert!(!scene.heard().iter().any(|heard| says(heard, "Heard again")), "{:?}", scene.heard());
    let roots = scene.heard().into_iter().filter(|heard| heard.how == How::Text).count();
    assert_eq!(roots, 1, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_of_life_counts_in_whichever_group_it_comes_and_is_said_in_none() {
    let section = "[sources.prom]\nformat = \"alertmanager\"\nto = [\"a/room\"]\nexpect_every = \"2s\"\nexpect_alert = \"Watchdog\"\n";
    let mut scene = Scene::set(section, Says::Encrypted).await;
    let one = |name: &str| {
        json!({ "status": "firing", "fingerprint": name, "labels": { "alertname": name, "severity": "none" },
            "annotations": {}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z" })
    };
    let body = json!({ "version": "4", "groupKey": "{}:{}", "receiver": "room", "status": "firing", "groupLabels": {},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": [one("Watchdog"), one("Disk")] });
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let answer = scene.post("/prom", &[("content-type", "application/json")], body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let heard = scene.heard();
    assert!(!heard.iter().any(|heard| says(heard, "Missing") || says(heard, "Watchdog")), "{heard:?}");
    assert!(says(&heard[0], "Low: Disk") && !says(&heard[0], "firing"), "{heard:?}");
    // Where it is in none of them any more, the source is missing, whatever else it says.
    let begun = tokio::time::Instant::now();
    let body = body.to_string().replace("Watchdog", "Fan");
    while !scene.heard().iter().any(|heard| says(heard, "Missing")) {
        assert!(begun.elapsed() < SOON, "it is not missed: {:?}", scene.heard());
        scene.post("/prom", &[("content-type", "application/json")], body.clone()).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    scene.stop().await;
}
