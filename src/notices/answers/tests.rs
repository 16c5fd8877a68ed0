//! What senders are told.

use std::time::Duration;

use http::Response;
use serde_json::{Value, json};

use super::{DELIVERIES, Event, Outcome, answer, heeds_429};
use crate::notices::{Dialect, dialects::Refused, fixture::Request};

fn arrived() -> Outcome {
    Outcome::Arrived {
        id: "d-1".to_owned(),
        events: vec![Event { id: "$e".to_owned(), encrypted: true }],
        refused: vec![],
    }
}

fn queued() -> Outcome {
    Outcome::Queued { id: "d-1".to_owned() }
}

fn not_now() -> Outcome {
    Outcome::NotNow { retry_after: Duration::from_millis(1500), why: "the journal is full".to_owned() }
}

fn told(dialect: Dialect, request: &Request, outcome: &Outcome) -> (u16, Response<Vec<u8>>, Value) {
    let response = answer(dialect, &request.posted(), outcome);
    let value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), response, value)
}

#[test]
fn answer_says_where_it_is_read_in_clear_and_what_was_refused_and_never_has_it_come_again() {
    let request = Request::new("POST", "/job", "x");
    let (mut events, id) = (vec![Event { id: "$e".to_owned(), encrypted: true }], "d-1".to_owned());
    events.push(Event { id: "7".to_owned(), encrypted: false });
    let outcome = Outcome::Arrived { id, events, refused: vec!["its link was removed".to_owned()] };
    let (status, response, value) = told(Dialect::Raw, &request, &outcome);
    assert_eq!(status, 200);
    assert_eq!(response.headers()["sealbridge-delivery"], "d-1; partly arrived");
    let expected = json!({
        "id": "d-1", "status": "partly arrived", "encrypted": false, "in_clear": ["7"], "event_ids": ["$e", "7"],
        "refused": ["its link was removed"], "delivery": "/api/v1/deliveries/d-1",
    });
    assert_eq!(value, expected);
    let (_, response, _) = told(Dialect::Slack, &request, &outcome);
    assert_eq!((response.status().as_u16(), response.body().as_slice()), (200, b"ok".as_slice()));
}

#[test]
fn answer_says_what_is_so() {
    let request = Request::json("", "{}");
    for dialect in
        [Dialect::Alertmanager, Dialect::Grafana, Dialect::Hookshot, Dialect::Github, Dialect::Apprise, Dialect::Raw]
    {
        let (status, _, value) = told(dialect, &request, &arrived());
        assert_eq!(status, 200);
        assert_eq!(value, json!({ "id": "d-1", "status": "arrived", "encrypted": true, "event_ids": ["$e"] }));
        let (status, response, value) = told(dialect, &request, &queued());
        assert_eq!((status, value["status"].as_str()), (202, Some("queued")));
        assert_eq!(response.headers()["location"], format!("{DELIVERIES}d-1"));
        assert_eq!(told(dialect, &request, &Outcome::Silent).0, 200);
        for (outcome, status) in [
            (Outcome::NotProven, 401),
            (Outcome::Elsewhere, 403),
            (Outcome::ByPolicy { why: "x".to_owned() }, 409),
            (Outcome::Conflict, 409),
            (Outcome::Refused(Refused::TooMuch("x")), 413),
            (not_now(), 503),
        ] {
            assert_eq!(told(dialect, &request, &outcome).0, status, "{outcome:?}");
        }
    }
}

#[test]
fn passing_trouble_is_never_told_as_a_fault_of_the_sender() {
    let request = Request::json("", "{}");
    let many = Outcome::TooMany { retry_after: Duration::from_secs(7) };
    for (dialect, _) in Dialect::ALL {
        let (status, response, _) = told(*dialect, &request, &not_now());
        assert_eq!((status, &response.headers()["retry-after"]), (503, &"2".parse().expect("a value")), "{dialect}");
        let (status, response, _) = told(*dialect, &request, &many);
        assert_eq!(status, if heeds_429(*dialect) { 429 } else { 503 }, "{dialect}");
        assert_eq!(response.headers()["retry-after"], "7", "{dialect}");
    }
    // It drops what is answered with anything but 2xx and 5xx.
    assert!(!heeds_429(Dialect::Alertmanager) && !heeds_429(Dialect::Grafana));
    assert!(heeds_429(Dialect::StandardWebhooks));
}

#[test]
fn slack_says_ok_and_nothing_else() {
    let request = Request::json("/services/T/B/x", r#"{"text":"x"}"#);
    for outcome in [arrived(), queued()] {
        let (status, response, _) = told(Dialect::Slack, &request, &outcome);
        assert_eq!((status, response.body().as_slice()), (200, &b"ok"[..]));
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    }
    let (status, response, _) = told(Dialect::Slack, &request, &not_now());
    assert_eq!((status, response.body().as_slice()), (503, &b"the journal is full"[..]));
    let slack = Request::json("/api/webhooks/1/x/slack", "{}");
    assert_eq!(told(Dialect::Discord, &slack, &arrived()).1.body(), b"ok");
}

#[test]
fn discord_gives_its_message_only_when_it_is_asked_to_wait() {
    let request = |query: &str| Request::json(&format!("/api/webhooks/1/x{query}"), r#"{"content":"hi"}"#);
    let (status, response, _) = told(Dialect::Discord, &request(""), &arrived());
    assert_eq!((status, response.body().len()), (204, 0));
    for wait in ["?wait=true", "?wait=True", "?thread_id=1&wait=1"] {
        let (status, _, value) = told(Dialect::Discord, &request(wait), &arrived());
        assert_eq!((status, value["id"].as_str(), value["content"].as_str()), (200, Some("d-1"), Some("hi")), "{wait}");
    }
    let change = Request::new("PATCH", "/api/webhooks/1/x/messages/d-0", r#"{"content":"ho"}"#);
    let (status, _, value) = told(Dialect::Discord, &change, &arrived());
    assert_eq!((status, value["id"].as_str(), value["content"].as_str()), (200, Some("d-0"), Some("ho")));
    let many = Outcome::TooMany { retry_after: Duration::from_millis(2500) };
    let (status, _, value) = told(Dialect::Discord, &request(""), &many);
    assert_eq!((status, value["retry_after"].as_f64()), (429, Some(2.5)));
}

#[test]
fn ntfy_and_gotify_repeat_the_message_with_an_id() {
    let request = Request::new("POST", "/alerts?prio=high", "Disk \"full\"").with("title", "T").with("tags", "a,b");
    for outcome in [arrived(), queued()] {
        let (status, _, value) = told(Dialect::Ntfy, &request, &outcome);
        assert_eq!(status, 200);
        let expected = json!({
            "id": "d-1", "time": 1_795_997_280, "event": "message", "topic": "alerts",
            "message": "Disk \"full\"", "title": "T", "priority": 4, "tags": ["a", "b"],
        });
        assert_eq!(value, expected);
    }
    let (status, _, value) = told(Dialect::Ntfy, &request, &Outcome::NotProven);
    assert_eq!((status, value["http"].as_u64(), value["code"].as_u64()), (401, Some(401), Some(40101)));
    let gotify = Request::json("/message", r#"{"message":"m","priority":5}"#);
    let (status, _, value) = told(Dialect::Gotify, &gotify, &arrived());
    assert_eq!((status, value["message"].as_str(), value["priority"].as_i64()), (200, Some("m"), Some(5)));
    assert!(value["id"].is_u64());
    let (status, _, value) = told(Dialect::Gotify, &gotify, &Outcome::Refused(Refused::NotHere("nothing")));
    assert_eq!(
        (status, value["errorCode"].as_u64(), value["errorDescription"].as_str()),
        (404, Some(404), Some("nothing"))
    );
}

#[test]
fn nothing_that_a_sender_wrote_becomes_a_header_of_the_answer() {
    let hostile = "x\r\nSet-Cookie: a=b";
    let request =
        Request::new("POST", "/a%0d%0aSet-Cookie:%20a=b?title=x%0d%0aSet-Cookie:%20a=b", "m").with("message", "x: y");
    let outcomes = [
        arrived(),
        queued(),
        Outcome::Queued { id: hostile.to_owned() },
        Outcome::Refused(Refused::Method("POST or PUT")),
        not_now(),
        Outcome::NotProven,
        Outcome::Elsewhere,
    ];
    let known = ["content-type", "location", "retry-after", "allow", "www-authenticate", "sealbridge-delivery"];
    for (dialect, _) in Dialect::ALL {
        for outcome in &outcomes {
            let response = answer(*dialect, &request.posted(), outcome);
            for (name, value) in response.headers() {
                assert!(known.contains(&name.as_str()), "{dialect}: {name}");
                assert!(!value.to_str().expect("ASCII").contains("Cookie"), "{dialect}: {name}");
            }
        }
    }
    let refused = answer(Dialect::Raw, &request.posted(), &Outcome::Refused(Refused::Method("POST or PUT")));
    assert_eq!((refused.status().as_u16(), &refused.headers()["allow"]), (405, &"POST, PUT".parse().expect("a value")));
}
