//! Deletions: each takes back one event, if its sender may.

use ruma::{UserId, api::client::state::get_state_event_for_key};
use sealbridge_contract::{Kind, Target, inbox::Resolution};
use serde_json::Value;

use super::{Later, Work, refused};
use crate::{
    engine::{Class, HttpError, HttpErrorKind},
    event::Envelope,
    prune::REACTED,
};

impl Work<'_> {
    /// A deletion takes back the one event that it names: a message, or a reaction.
    pub(super) async fn redaction(&self) -> Result<Resolution, Later> {
        let Some(of) = self.opened.redacts() else { return Ok(refused("it does not say what it deletes")) };
        if let Some(kept) = self.core.store.read(&format!("{REACTED}{}", of.as_str())).await? {
            return self.reaction_back(&of, &kept).await;
        }
        let Some(raw) = self.event(&of).await? else { return Ok(Resolution::NotForUs) };
        let Ok(original) = Envelope::read(&raw) else { return Ok(Resolution::NotForUs) };
        if !matches!(original.kind.as_str(), "m.room.encrypted" | "m.reaction") {
            // Nothing of another kind crosses.
            return Ok(Resolution::NotForUs);
        }
        if !self.may_redact(&original.sender).await? {
            return Ok(refused("its sender may not delete messages of others"));
        }
        if original.kind == "m.reaction" {
            self.not_to_come(&of).await?;
            return Ok(Resolution::NotForUs);
        }
        Ok(self.readable(Some(self.reader().telling(Kind::Redaction(Target::new(of))))))
    }

    /// Whether the sender may delete what `author` wrote.
    pub(super) async fn may_redact(&self, author: &UserId) -> Result<bool, Later> {
        let sender = self.opened.sender();
        if author == sender {
            return Ok(true);
        }
        let request =
            get_state_event_for_key::v3::Request::new(self.room.clone(), "m.room.power_levels".into(), String::new());
        let levels: Value = match self.core.http.send(request, Class::Short).await {
            Ok(answer) => serde_json::from_str(answer.event_or_content.get()).unwrap_or_default(),
            Err(HttpError { kind: HttpErrorKind::Client { .. } }) => Value::Null,
            Err(error) => return Err(error.into()),
        };
        if power_of(&levels, sender) {
            return Ok(true);
        }
        // In newer rooms those who made them stand above all levels.
        let mut request =
            get_state_event_for_key::v3::Request::new(self.room.clone(), "m.room.create".into(), String::new());
        request.format = get_state_event_for_key::v3::StateEventFormat::Event;
        let create: Value = match self.core.http.send(request, Class::Short).await {
            Ok(answer) => serde_json::from_str(answer.event_or_content.get()).unwrap_or_default(),
            Err(HttpError { kind: HttpErrorKind::Client { .. } }) => Value::Null,
            Err(error) => return Err(error.into()),
        };
        Ok(made_it(&create, sender))
    }
}

/// Whether a person has the power to delete what others wrote.
fn power_of(levels: &Value, person: &UserId) -> bool {
    let level = |value: Option<&Value>, otherwise: i64| value.and_then(Value::as_i64).unwrap_or(otherwise);
    let theirs = levels.get("users").and_then(|users| users.get(person.as_str()));
    level(theirs, level(levels.get("users_default"), 0)) >= level(levels.get("redact"), 50)
}

fn made_it(create: &Value, person: &UserId) -> bool {
    let content = create.get("content").unwrap_or(&Value::Null);
    let version = content.get("room_version").and_then(Value::as_str).and_then(|version| version.parse::<u32>().ok());
    let others = content.get("additional_creators").and_then(Value::as_array);
    let made = create.get("sender").and_then(Value::as_str) == Some(person.as_str());
    version.is_some_and(|version| version >= 12)
        && (made || others.is_some_and(|others| others.iter().any(|one| one.as_str() == Some(person.as_str()))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn power_to_delete_is_what_the_room_says() {
        let ann = UserId::parse("@ann:x").expect("it is a user id");
        for (levels, may) in [
            (json!({}), false),
            (json!({"users": {"@ann:x": 50}}), true),
            (json!({"users": {"@ann:x": 50}, "redact": 100}), false),
            (json!({"users_default": 60}), true),
            (json!({"users": {"@ann:x": "100"}}), false),
            (json!(null), false),
        ] {
            assert_eq!(power_of(&levels, &ann), may, "{levels}");
        }
        assert!(made_it(&json!({"sender": "@ann:x", "content": {"room_version": "12"}}), &ann));
        assert!(!made_it(&json!({"sender": "@ann:x", "content": {"room_version": "11"}}), &ann));
    }
}
