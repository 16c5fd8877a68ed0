//! Questions, answers and notifications.

use std::time::Duration;

use sealbridge_child::{CallError, Child};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{SOON, program, start};

#[tokio::test]
async fn answers_out_of_order_reach_those_who_asked() {
    let (child, _folder) = start();
    let ask = |number: u32| {
        let child = child.clone();
        tokio::spawn(async move { child.call::<u32>("hold", number).await })
    };
    let asked: Vec<_> = (0..20).map(ask).collect();
    // Each has been read before this one: the child answers them newest first.
    child.call::<Value>("echo", [0]).await.expect("it answers");
    let mut left: Vec<_> = asked.into_iter().enumerate().collect();
    while left.iter().any(|(_, task)| !task.is_finished()) {
        child.call::<()>("release", ()).await.expect("it answers");
    }
    for (number, task) in left.drain(..) {
        let answer = task.await.expect("nobody panics").expect("it answers");
        assert_eq!(usize::try_from(answer).ok(), Some(number));
    }
}

#[tokio::test]
async fn no_is_told_apart_from_everything_else_and_its_words_are_not_shown() {
    let (child, _folder) = start();
    let error = child.call::<()>("refuse", ["secret words"]).await.expect_err("it refuses");
    let CallError::Refused { refusal, .. } = &error else { panic!("{error:?}") };
    assert_eq!((refusal.code, refusal.message()), (-7, "secret words"));
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    let error = child.call::<u32>("echo", ["secret words"]).await.expect_err("a text is no number");
    assert!(matches!(error, CallError::Form { method: "echo" }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    assert_eq!(child.call::<Value>("echo", ["still here"]).await.expect("it answers"), json!(["still here"]));
}

#[tokio::test]
async fn child_that_hangs_is_not_waited_for_and_its_late_answer_is_nobody_elses() {
    let (child, _folder) = start();
    let error = child.call_within::<()>(Duration::from_millis(50), "sleep", [0.5]).await.expect_err("it sleeps");
    assert!(matches!(error, CallError::Late { method: "sleep", .. }), "{error:?}");
    assert_eq!(child.call::<Value>("echo", [2]).await.expect("it is awake again"), json!([2]));
}

#[tokio::test]
async fn question_dropped_at_any_moment_leaves_no_half_line() {
    let (child, _folder) = start();
    let long = "x".repeat(40 << 10);
    for micros in (0..2_000).step_by(50) {
        let asked = child.call::<Value>("echo", [&long]);
        // Whether it was answered in time does not matter here.
        let _ = tokio::time::timeout(Duration::from_micros(micros), asked).await;
    }
    assert_eq!(child.call::<Value>("echo", [1]).await.expect("it still understands us"), json!([1]));
}

#[derive(Deserialize)]
struct Drop {
    number: u32,
}

#[tokio::test]
async fn flood_is_taken_whole_and_in_order_though_the_queue_is_short() {
    let (child, _folder) = start();
    let flooding = child.clone();
    let flooded = tokio::spawn(async move { flooding.call::<()>("flood", [5_000]).await });
    for expected in 0..5_000 {
        let notification = child.notification().await.expect("it floods");
        assert_eq!(notification.method, "drop");
        assert_eq!(notification.params::<Drop>().expect("it has a number").number, expected);
        assert!(!format!("{notification:?}").contains("number"));
    }
    flooded.await.expect("nobody panics").expect("its own answer comes after the flood");
}

#[tokio::test]
async fn full_standard_error_holds_up_nobody() {
    let (child, _folder) = start();
    child.call::<()>("complain", json!([20_000, "words ".repeat(20)])).await.expect("it complains and answers");
    child.call_within::<()>(SOON, "complain", json!([1, "x".repeat(1 << 20)])).await.expect("a huge line too");
}

#[tokio::test]
async fn child_sees_only_what_it_is_given_of_our_environment() {
    let folder = tempfile::TempDir::new().expect("a folder can be made");
    let child = Child::start(&program(&folder).variable("GIVEN", "yes")).expect("python3 runs");
    let seen: std::collections::BTreeMap<String, String> = child.call("environment", ()).await.expect("it answers");
    assert_eq!(seen.get("GIVEN").map(String::as_str), Some("yes"));
    // What cargo tells a test is among what others are not to see.
    let ours: Vec<_> = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("CARGO")).collect();
    assert!(!ours.is_empty(), "there is something that it could have seen");
    let leaked: Vec<_> = ours.iter().filter(|name| seen.contains_key(*name)).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}
