//! A fuzz target of what an engine says; `tests/fuzz` says how it is run.

use serde_json::{Value, value::RawValue};
use zeroize::Zeroizing;

use crate::{
    lines::{self, Next},
    wire::{Said, question, read},
};

/// A line is never longer.
const MOST: usize = 4096;

/// Each line that is read, until there is none or the child would be ended.
fn lines_of(input: &[u8]) -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it takes nothing of the system");
    runtime.block_on(async {
        // Small parts, as a pipe gives them.
        let mut from = tokio::io::BufReader::with_capacity(7, input);
        let (mut line, mut all) = (Zeroizing::new(Vec::new()), Vec::new());
        while let Next::Line = lines::next(&mut from, &mut line, MOST).await.expect("memory can be read") {
            all.push(line.to_vec());
        }
        assert!(line.len() <= MOST, "more of a line is held than may be");
        all
    })
}

fn text(value: Option<&RawValue>) -> Option<&str> {
    value.map(RawValue::get)
}

#[test]
fn lines_of_json_rpc() {
    sealbridge_fuzz::target("json_rpc", |input| {
        let expected = input.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        let expected: Vec<_> = expected.take_while(|line| line.len() <= MOST).map(<[u8]>::to_vec).collect();
        assert_eq!(lines_of(input), expected);
        for line in expected {
            let Some(said) = read(&line) else { continue };
            // What has a number beyond what a `Value` holds is JSON all the same.
            let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
            match said {
                Said::Answer(id, result) => {
                    assert_eq!((value["id"].as_u64(), value["method"].is_null()), (Some(id), true));
                    // A number may be beyond what a `Value` holds, and stays as it is written.
                    assert!(std::str::from_utf8(&line).is_ok_and(|line| line.contains(result.get())));
                }
                Said::No(id, code, _) => {
                    assert_eq!((value["id"].as_u64(), value["error"]["code"].as_i64()), (Some(id), Some(code)))
                }
                Said::Notification(method, params) => {
                    assert_eq!(value["method"].as_str(), Some(method.as_str()));
                    let asked = question(7, &method, params).expect("it is JSON");
                    let (end, asked) = asked.split_last().expect("it ends with a line's end");
                    assert!(*end == b'\n' && !asked.contains(&b'\n'), "a question is one line");
                    let Some(Said::Notification(again, same)) = read(asked) else { panic!("what we ask can be read") };
                    assert_eq!((again, text(same)), (method, text(params)));
                }
            }
        }
    });
}
