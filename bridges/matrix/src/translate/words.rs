//! Words: plain, formatted, with people called in them.

use ruma::UserId;
use sealbridge_contract::{
    Body, PersonId, RemoteId, Target, Text, html,
    message::{Form, Mention, Quote},
    names,
};
use serde_json::{Map, Value, json};

use crate::profile;

/// Before the address of a person in a link.
const PERSON: &str = "href=\"https://matrix.to/#/";

/// The words of a content, without fallbacks, and the name of whom they are said for.
pub(super) fn read(content: &Value, me: &UserId) -> (Body, Option<String>) {
    let text = |key: &str| content.get(key).and_then(Value::as_str);
    let formatted = text("format") == Some("org.matrix.custom.html");
    let mut plain = text("body").unwrap_or_default().to_owned();
    let mut html = text("formatted_body").filter(|_| formatted).map(str::to_owned);
    let profile = profile::strip(content, &mut plain, &mut html);
    if answered(content).is_some() {
        plain = without_quote(&plain).to_owned();
    }
    let html = html.as_deref().and_then(html::harmless);
    let mentions = mentions(content, &plain, html.as_deref().unwrap_or_default(), me);
    (Body { plain: plain.into(), html: html.map(Text::new), mentions }, profile)
}

/// Which way of saying words a `msgtype` is.
pub(super) fn form(content: &Value) -> Form {
    match content.get("msgtype").and_then(Value::as_str) {
        Some("m.emote") => Form::Emote,
        Some("m.notice") => Form::Notice,
        _ => Form::Text,
    }
}

fn mentions(content: &Value, plain: &str, html: &str, me: &UserId) -> Vec<Mention> {
    let named: Vec<(&str, String)> = links(html).collect();
    let said = content.get("m.mentions").and_then(|mentions| mentions.get("user_ids"));
    let called: Vec<&str> = match said.and_then(Value::as_array) {
        Some(users) => users.iter().filter_map(Value::as_str).collect(),
        // An older program has links alone.
        None if content.get("m.mentions").is_none() => named.iter().map(|(user, _)| *user).collect(),
        None => Vec::new(),
    };
    let mut mentions: Vec<Mention> = Vec::new();
    for user in called {
        let person = PersonId::new(user);
        let known = user == me || UserId::parse(user).is_err() || mentions.iter().any(|one| one.person == person);
        if known || mentions.len() >= Body::MOST_MENTIONS {
            continue;
        }
        let name = named.iter().find(|(linked, _)| *linked == user).map(|(_, name)| name.as_str());
        let name = name.filter(|name| !name.is_empty());
        let at = name.and_then(|name| plain.find(name).map(|start| start..start + name.len()));
        mentions.push(Mention { person, at });
    }
    mentions
}

/// The people whom cleaned HTML links to, and by which words.
fn links(html: &str) -> impl Iterator<Item = (&str, String)> {
    html.split(PERSON).skip(1).filter_map(|rest| {
        let (user, rest) = rest.split_once("\">")?;
        let (name, _) = rest.split_once("</a>")?;
        let name = name.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        user.starts_with('@').then_some((user, name))
    })
}

/// What a content answers.
pub(super) fn answered(content: &Value) -> Option<Target> {
    let relation = content.get("m.relates_to")?;
    // In a thread, clients name the last message for those that know no threads; nobody meant to answer it.
    if relation.get("is_falling_back").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let id = event_id(relation.get("m.in_reply_to")?)?;
    let body = content.get("body").and_then(Value::as_str).unwrap_or_default();
    Some(Target { quote: quote(body).map(Box::new), ..Target::new(id) })
}

/// The `event_id` in an object.
pub(super) fn event_id(object: &Value) -> Option<RemoteId> {
    let id = object.get("event_id")?.as_str()?;
    (id.len() <= 255 && !id.is_empty()).then(|| RemoteId::new(id))
}

/// The quotation that older clients put before an answer.
fn quote(body: &str) -> Option<Quote> {
    let quoted = body.lines().map_while(|line| line.strip_prefix("> "));
    let words = quoted.collect::<Vec<_>>().join(" ");
    let rest = words.strip_prefix('<')?;
    let (author, words) = rest.split_once("> ")?;
    let author = names::harmless(author);
    Some(Quote::new(Some(&author), words))
}

/// The words of an answer without the quotation that older clients put before them.
fn without_quote(body: &str) -> &str {
    if !body.starts_with("> ") {
        return body;
    }
    let mut rest = body;
    while rest.starts_with("> ") || rest.starts_with(">\n") {
        match rest.split_once('\n') {
            Some((_, after)) => rest = after,
            None => return body,
        }
    }
    rest.strip_prefix('\n').unwrap_or(rest)
}

/// Writes words into a content.
pub(super) fn write(content: &mut Map<String, Value>, body: &Body, formatted: bool) {
    content.insert("body".into(), body.plain.as_str().into());
    let html = body.html.as_ref().filter(|_| formatted).and_then(|html| html::harmless(html.as_str()));
    if let Some(html) = html {
        content.insert("format".into(), "org.matrix.custom.html".into());
        content.insert("formatted_body".into(), html.into());
    }
}

/// Whom a message calls, of those who are in the room, or that it calls everybody. Present even if empty: without it,
/// clients look for names in the body and notify people.
pub(super) fn called(body: Option<&Body>, is_there: impl Fn(&UserId) -> bool) -> Value {
    let mentions = body.into_iter().flat_map(|body| &body.mentions);
    let users = mentions.filter_map(|mention| UserId::parse(mention.person.as_str()).ok());
    let users: Vec<_> = users.filter(|user| is_there(user)).take(Body::MOST_MENTIONS).collect();
    let mut called = Map::new();
    if !users.is_empty() {
        called.insert("user_ids".into(), json!(users));
    }
    if body.is_some_and(|body| body.mentions.iter().any(Mention::is_everybody)) {
        called.insert("room".into(), true.into());
    }
    called.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> ruma::OwnedUserId {
        UserId::parse("@bot:x").expect("it is a user id")
    }

    #[test]
    fn people_are_called_by_intent_and_found_in_the_words() {
        let link = r#"<a href="https://matrix.to/#/@ben:x">B &amp; n</a>"#;
        let content = json!({"body": "hi B & n", "format": "org.matrix.custom.html", "formatted_body": format!("hi {link}"),
            "m.mentions": {"user_ids": ["@ben:x", "@ben:x", "@bot:x", "nobody", "@room", 5], "room": true}});
        let (body, _) = read(&content, &me());
        assert_eq!(body.mentions, [Mention { person: PersonId::new("@ben:x"), at: Some(3..8) }]);
        let old = json!({"body": "hi B & n", "format": "org.matrix.custom.html", "formatted_body": link});
        assert_eq!(read(&old, &me()).0.mentions.len(), 1);
        let silent =
            json!({"body": "B & n", "format": "org.matrix.custom.html", "formatted_body": link, "m.mentions": {}});
        assert!(read(&silent, &me()).0.mentions.is_empty());
    }

    #[test]
    fn only_those_who_are_there_are_called() {
        let mention = |id: &str| Mention { person: PersonId::new(id), at: None };
        let body = Body { mentions: vec![mention("@a:x"), mention("@b:x"), mention("key:1234")], ..Body::plain("hi") };
        assert_eq!(called(Some(&body), |user| user == "@a:x"), json!({ "user_ids": ["@a:x"] }));
        assert_eq!(called(None, |_| true), json!({}));
        let body = Body { mentions: vec![mention(Mention::EVERYBODY), mention("@b:x")], ..Body::plain("hi") };
        assert_eq!(called(Some(&body), |_| true), json!({ "user_ids": ["@b:x"], "room": true }));
    }

    #[test]
    fn quotation_of_older_clients_is_told_apart_from_the_answer() {
        let content =
            json!({"body": "> <@b:x> one\n> two\n\nanswer", "m.relates_to": {"m.in_reply_to": {"event_id": "$e"}}});
        let (body, _) = read(&content, &me());
        assert_eq!(body.plain.as_str(), "answer");
        let quote = answered(&content).and_then(|target| target.quote).expect("there is one");
        assert_eq!(quote.words.as_str(), "one two");
        assert_eq!(quote.author.as_ref().map(Text::as_str), Some("b:x"));
    }
}
