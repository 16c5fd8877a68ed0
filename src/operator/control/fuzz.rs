//! A fuzz target of what comes over the control socket, from either end; `tests/fuzz` says how it is run.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{LONGEST, Reply, Request, read_frame, write_frame};
use crate::operator::Failure;

/// What is read is written, and read again as the same. Gives what is wrong with a frame that is not understood.
async fn check<T: Serialize + DeserializeOwned>(mut input: &[u8]) -> Option<Failure> {
    let frame = match read_frame::<T>(&mut input).await {
        Ok(frame) => frame?,
        Err(failure) => return Some(failure),
    };
    let meant = serde_json::to_value(&frame).expect("a frame is JSON");
    let mut line = Vec::new();
    write_frame(&mut line, frame).await.expect("memory can be written");
    assert!(
        line.iter().filter(|byte| **byte == b'\n').count() == 1
            && line.len() < usize::try_from(LONGEST).unwrap_or(usize::MAX)
    );
    let again =
        read_frame::<T>(&mut line.as_slice()).await.expect("what is written can be read").expect("it is a frame");
    // A fraction, or a number beyond 64 bits, is read as something near it; none is ever written by us.
    if !has_fraction(&meant) {
        assert_eq!(serde_json::to_value(&again).expect("a frame is JSON"), meant, "it is another frame");
    }
    None
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(all) => all.iter().any(has_fraction),
        Value::Object(all) => all.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

#[test]
fn frames() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it takes nothing of the system");
    let runtime = std::panic::AssertUnwindSafe(runtime);
    sealbridge_fuzz::target("control", |input| {
        for failure in [runtime.block_on(check::<Request>(input)), runtime.block_on(check::<Reply>(input))] {
            // It says nothing of what came.
            assert!(failure.is_none_or(|failure| failure.words.len() < 200));
        }
    });
}
