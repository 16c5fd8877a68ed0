//! JSON-RPC 2.0 as it stands on a line.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

#[derive(Serialize)]
struct Question<'a, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: P,
}

/// A line that asks. `None` if it can't be written as JSON.
pub(crate) fn question(id: u64, method: &str, params: impl Serialize) -> Option<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(1024));
    serde_json::to_writer(&mut *line, &Question { jsonrpc: "2.0", id, method, params }).ok()?;
    line.push(b'\n');
    Some(line)
}

#[derive(Deserialize)]
struct Line<'a> {
    id: Option<u64>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    // An `Option` alone would take `null`, which is an answer, for an answer that is not there.
    #[serde(borrow, default, deserialize_with = "there")]
    result: Option<&'a RawValue>,
    error: Option<Problem>,
}

fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct Problem {
    code: i64,
    #[serde(default)]
    message: String,
}

/// What a line of the child's is.
pub(crate) enum Said<'a> {
    Answer(u64, &'a RawValue),
    No(u64, i64, String),
    Notification(String, Option<&'a RawValue>),
}

/// Reads a line. `None` if it is no JSON-RPC.
pub(crate) fn read(line: &[u8]) -> Option<Said<'_>> {
    let Line { id, method, params, result, error } = serde_json::from_slice(line).ok()?;
    match (id, method) {
        (Some(id), None) => match error {
            Some(Problem { code, message }) => Some(Said::No(id, code, message)),
            None => result.map(|result| Said::Answer(id, result)),
        },
        // A question to us has an id too. Nobody answers it here, and no engine of ours asks.
        (_, Some(method)) => Some(Said::Notification(method, params)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_line_is_told_apart() {
        let answer = |line: &str| match read(line.as_bytes()) {
            Some(Said::Answer(id, value)) => format!("{id} {value}"),
            Some(Said::No(id, code, message)) => format!("{id} no {code} {message}"),
            Some(Said::Notification(method, params)) => format!("{method} {}", params.map_or("-", RawValue::get)),
            None => "garbage".to_owned(),
        };
        let cases = [
            (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, "1 null"),
            (r#"{"result":{"a":[1]},"id":7}"#, r#"7 {"a":[1]}"#),
            (r#"{"id":2,"error":{"code":-1,"message":"no"}}"#, "2 no -1 no"),
            (r#"{"method":"receive","params":{"x":1}}"#, r#"receive {"x":1}"#),
            (r#"{"method":"ping"}"#, "ping -"),
            (r#"{"id":2}"#, "garbage"),
            ("{}", "garbage"),
            ("[]", "garbage"),
            ("hello", "garbage"),
            (r#"{"id":2,"error":"no"}"#, "garbage"),
            (r#"{"id":-3,"result":1}"#, "garbage"),
            (r#"{"id":1,"result":1"#, "garbage"),
        ];
        for (line, expected) in cases {
            assert_eq!(answer(line), expected, "{line}");
        }
    }
}
