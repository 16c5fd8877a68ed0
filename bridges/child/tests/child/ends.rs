//! How a child ends, and what those who wait for it learn.

use std::time::{Duration, Instant};

use sealbridge_child::{CallError, Child, Ended};
use serde_json::json;

use crate::{SOON, is_there, start};

/// Asks for what makes it end, and gives what the one who asked and everybody else learn.
async fn end(child: &Child, method: &'static str, params: serde_json::Value) -> Ended {
    let waiting = child.clone();
    let other = tokio::spawn(async move { waiting.call::<()>("hold", ()).await });
    let error = tokio::time::timeout(SOON, child.call::<()>(method, params)).await.expect("nobody waits for ever");
    let Err(CallError::Ended(why)) = error else { panic!("{method}: {error:?}") };
    let other = tokio::time::timeout(SOON, other).await.expect("nobody waits for ever").expect("nobody panics");
    assert!(matches!(other, Err(CallError::Ended(same)) if same == why), "{method}: {other:?}");
    assert!(matches!(child.notification().await, Err(same) if same == why));
    assert!(matches!(child.call::<()>("echo", ()).await, Err(CallError::Ended(same)) if same == why));
    assert!(!is_there(child.pid()), "{method}: it was not reaped");
    why
}

#[tokio::test]
async fn crash_in_mid_request_is_told_to_everybody_with_its_reason() {
    let cases = [
        ("exit", json!([3]), Ended::Exited(3)),
        ("kill", json!([]), Ended::Signal(9)),
        ("break_off", json!([]), Ended::Exited(0)),
    ];
    for (method, params, expected) in cases {
        let (child, _folder) = start();
        assert_eq!(end(&child, method, params).await, expected, "{method}");
    }
}

#[tokio::test]
async fn what_is_no_json_rpc_ends_the_child() {
    let lines = ["hello\n", "{}\n", "\n", "[1]\n", "{\"id\": \"x\"}\n", "\u{0}\u{1}\n", "{\"id\": 1, \"result\": 1\n"];
    for line in lines {
        let (child, _folder) = start();
        assert_eq!(end(&child, "raw", json!([line])).await, Ended::Garbage, "{line:?}");
    }
}

#[tokio::test]
async fn huge_line_ends_the_child_and_is_never_held() {
    let (child, _folder) = start();
    child.call::<()>("huge", [10]).await.expect_err("ten x are no JSON either");
    let (child, _folder) = start();
    assert_eq!(end(&child, "huge", json!([200 << 20])).await, Ended::LineTooLong);
}

#[tokio::test]
async fn child_that_closes_its_output_and_stays_is_killed() {
    let (child, _folder) = start();
    assert_eq!(end(&child, "close", json!([])).await, Ended::Closed);
}

#[tokio::test]
async fn dropped_child_is_killed_and_reaped() {
    let (child, _folder) = start();
    child.call::<serde_json::Value>("echo", [1]).await.expect("it runs");
    let pid = child.pid();
    drop(child);
    let deadline = Instant::now() + SOON;
    while is_there(pid) {
        assert!(Instant::now() < deadline, "it outlives its handle");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn stopped_child_is_gone_when_stop_returns() {
    let (child, _folder) = start();
    let other = child.clone();
    child.stop().await;
    assert!(!is_there(child.pid()));
    assert_eq!(other.ended().await, Ended::Stopped);
}
