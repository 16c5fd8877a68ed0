//! What may be encrypted with a key that everybody in a room gets: the steps of a comparison.

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Content {
    msgtype: Option<String>,
}

/// Whether it is a step of a comparison (client-server API, key verification framework).
pub(super) fn is_step(event_type: &str, content: &RawValue) -> bool {
    if event_type != "m.room.message" {
        return event_type.starts_with("m.key.verification.");
    }
    let content = serde_json::from_str::<Content>(content.get());
    content.is_ok_and(|content| content.msgtype.as_deref() == Some("m.key.verification.request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_people_are_no_step_of_a_comparison() {
        let is =
            |kind: &str, content: &str| is_step(kind, &RawValue::from_string(content.to_owned()).expect("it is JSON"));
        assert!(is("m.key.verification.ready", "{}"));
        assert!(is("m.room.message", r#"{"msgtype":"m.key.verification.request","body":"x"}"#));
        assert!(!is("m.room.message", r#"{"msgtype":"m.text","body":"x"}"#));
        assert!(!is("m.room.message", r#"{"body":"x"}"#));
        assert!(!is("m.room.message", r#"{"msgtype":"m.text","msgtype":"m.key.verification.request"}"#));
        assert!(!is("m.reaction", "{}"));
    }
}
