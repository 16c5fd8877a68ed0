//! What of `m.relates_to` may stay in clear, where the protocol wants it: the target and the kind, nothing else.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::EncryptError;
use crate::engine::http::is_event;

const KINDS: [&str; 3] = ["m.replace", "m.thread", "m.reference"];

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relation: Option<Value>,
}

/// Refuses a content whose relation would put more than that in clear.
pub(super) fn check(content: &RawValue) -> Result<(), EncryptError> {
    if !content.get().trim_start().starts_with('{') {
        return Err(EncryptError::NotAnObject);
    }
    let content: Content = serde_json::from_str(content.get()).map_err(|_| EncryptError::NotAnObject)?;
    match content.relation {
        None => Ok(()),
        Some(Value::Object(relation)) if relation.iter().all(|(key, value)| is_clear(key, value)) => Ok(()),
        Some(_) => Err(EncryptError::Relation),
    }
}

/// Whether one entry of a relation may be in clear.
pub(in super::super) fn is_clear(key: &str, value: &Value) -> bool {
    match (key, value) {
        ("rel_type", Value::String(kind)) => KINDS.contains(&kind.as_str()),
        ("event_id", Value::String(event)) => is_event(event),
        ("is_falling_back", Value::Bool(_)) => true,
        ("m.in_reply_to", Value::Object(target)) => {
            target.iter().all(|(key, value)| key == "event_id" && is_clear(key, value))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(content: &str) -> Result<(), EncryptError> {
        check(&RawValue::from_string(content.to_owned()).expect("it is JSON"))
    }

    #[test]
    fn relation_carries_nothing_but_its_target_in_clear() {
        let good = [
            r#"{"body":"x"}"#,
            r#"{"m.relates_to":{"m.in_reply_to":{"event_id":"$a"}}}"#,
            r#"{"m.relates_to":{"rel_type":"m.thread","event_id":"$a","is_falling_back":true,"m.in_reply_to":{"event_id":"$b"}}}"#,
        ];
        let bad = [
            r#"{"m.relates_to":{"rel_type":"m.annotation","event_id":"$a","key":"canary"}}"#,
            r#"{"m.relates_to":{"rel_type":"canary","event_id":"$a"}}"#,
            r#"{"m.relates_to":{"rel_type":"m.replace","event_id":"canary"}}"#,
            r#"{"m.relates_to":{"rel_type":"m.replace","event_id":"$canary in words"}}"#,
            r#"{"m.relates_to":{"m.in_reply_to":{"event_id":"$a","body":"canary"}}}"#,
            r#"{"m.relates_to":{"m.in_reply_to":"canary"}}"#,
            r#"{"m.relates_to":{"event_id":{"canary":1}}}"#,
            r#"{"m.relates_to":"canary"}"#,
        ];
        for content in good {
            assert!(checked(content).is_ok(), "{content}");
        }
        for content in bad {
            assert!(matches!(checked(content), Err(EncryptError::Relation)), "{content}");
        }
        // A second key of the same name must not slip past the first.
        let twice = r#"{"m.relates_to":{"event_id":"$a"},"m.relates_to":{"key":"canary"}}"#;
        assert!(checked(twice).is_err());
        assert!(matches!(checked(r#"["m.relates_to"]"#), Err(EncryptError::NotAnObject)));
    }
}
