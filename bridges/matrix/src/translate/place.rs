//! Places and polls.

use sealbridge_contract::{
    Text,
    message::{Location, Poll},
};
use serde_json::{Map, Value, json};

const LOCATION: [&str; 2] = ["m.location", "org.matrix.msc3488.location"];
const POLL: [&str; 2] = ["m.poll", "org.matrix.msc3381.poll.start"];
const TEXT: [&str; 2] = ["m.text", "org.matrix.msc1767.text"];

/// The place that a content names, if it names one.
pub(super) fn location(content: &Value, words: &str) -> Option<Location> {
    let place = LOCATION.iter().find_map(|key| content.get(*key));
    let text = |object: &Value, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let uri = place.and_then(|place| text(place, "uri")).or_else(|| text(content, "geo_uri"))?;
    let description = match place {
        Some(place) => text(place, "description"),
        None => (!words.contains("geo:")).then(|| words.to_owned()),
    };
    Location::from_uri(&uri, description.filter(|words| !words.is_empty()).map(Text::new))
}

/// Writes a place into a content.
pub(super) fn write(content: &mut Map<String, Value>, location: &Location) {
    let uri = location.uri();
    let words = location.description.as_ref().map(Text::as_str);
    let body = words.map_or_else(|| uri.as_str().to_owned(), |words| format!("{words} {}", uri.as_str()));
    let mut place = json!({ "uri": uri.as_str() });
    if let Some(words) = words {
        place["description"] = words.into();
    }
    content.insert("msgtype".into(), "m.location".into());
    content.insert("body".into(), body.into());
    content.insert("geo_uri".into(), uri.as_str().into());
    content.insert(LOCATION[1].into(), place);
    content.insert("org.matrix.msc3488.asset".into(), json!({ "type": "m.pin" }));
}

/// The question and the answers of a poll.
pub(super) fn poll(content: &Value) -> Option<Poll> {
    let poll = POLL.iter().find_map(|key| content.get(*key))?;
    let question = text(poll.get("question")?)?;
    let answers = poll.get("answers")?.as_array()?.iter().filter_map(text).take(Poll::MOST).collect();
    Some(Poll { question, answers })
}

/// What is said of a poll that ends, with the words that its end has for those who see no polls.
pub(super) fn end_of_poll(content: &Value) -> Text {
    let words = text(content).or_else(|| content.get("body").and_then(Value::as_str).map(Text::new));
    let words = words.filter(|words| !words.is_empty());
    let colon = if words.is_some() { ": " } else { "" };
    Text::joined(&["📊 ended a poll", colon, words.as_ref().map_or("", Text::as_str)])
}

/// The place from which somebody begins to share where they are.
pub(super) fn live(content: &Value) -> Option<Location> {
    let mut place = location(content, "")?;
    let words = place.description.take().unwrap_or_default();
    let space = if words.is_empty() { "" } else { " " };
    place.description = Some(Text::joined(&[LIVE, space, words.as_str()]));
    Some(place)
}

/// What becomes of a live place.
const LIVE: &str = "[live place, carried once]";

/// A text by itself, or the first of several forms of it.
fn text(object: &Value) -> Option<Text> {
    let value = TEXT.iter().find_map(|key| object.get(*key))?;
    let text = value.as_str().or_else(|| value.get(0)?.get("body")?.as_str())?;
    Some(Text::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_read_in_the_old_and_the_new_form() {
        let new =
            json!({"geo_uri": "geo:1,2", "org.matrix.msc3488.location": {"uri": "geo:3,4;u=5", "description": "home"}});
        let place = location(&new, "home geo:3,4").expect("it is a place");
        assert_eq!((place.uri().as_str(), place.description.as_ref().map(Text::as_str)), ("geo:3,4", Some("home")));
        let old = json!({"geo_uri": "geo:1,2"});
        let place = location(&old, "The station").expect("it is a place");
        assert_eq!(place.description.as_ref().map(Text::as_str), Some("The station"));
        assert!(location(&json!({"geo_uri": "geo:100,200"}), "").is_none());
    }

    #[test]
    fn live_place_says_that_it_is_carried_once() {
        let content = json!({"org.matrix.msc3488.location": {"uri": "geo:3,4", "description": "on my way"}});
        let place = live(&content).expect("it is a place");
        assert_eq!(place.description.as_ref().map(Text::as_str), Some("[live place, carried once] on my way"));
    }

    #[test]
    fn poll_is_read_in_the_old_and_the_new_form() {
        let old = json!({"org.matrix.msc3381.poll.start": {"question": {"org.matrix.msc1767.text": "Tea?"},
            "answers": [{"id": "1", "org.matrix.msc1767.text": "Yes"}, 5]}});
        let new =
            json!({"m.poll": {"question": {"m.text": [{"body": "Tea?"}]}, "answers": [{"m.text": [{"body": "Yes"}]}]}});
        for content in [old, new] {
            let poll = poll(&content).expect("it is a poll");
            assert_eq!(poll.readable().as_str(), "📊 Tea?\n1. Yes");
        }
    }
}
