//! Who is let in, and who is not.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::HeaderName;
use sealbridge_contract::{SecretBytes, Timestamp};

use super::{NotProven, Proven, Rules, Secret, check, mac, needs_the_body, path_secret};
use crate::notices::{
    Dialect, Posted,
    fixture::{self, Request},
};

const BODY: &str = r#"{"text":"x"}"#;

fn secrets(all: &[&str]) -> Vec<Secret> {
    all.iter().map(|secret| SecretBytes::from(secret.as_bytes())).collect()
}

fn asked(dialect: Dialect, request: &Request, all: &[&str]) -> Result<Proven, NotProven> {
    check(dialect, &request.posted(), &secrets(all), &Rules::default())
}

/// Whether it is let in with its secret alone, as the first of two and as the second, and with no other.
#[track_caller]
fn proven(dialect: Dialect, request: &Request, secret: &str) {
    for all in [&[secret][..], &[secret, "other"], &["other", secret]] {
        assert!(asked(dialect, request, all).is_ok(), "{dialect} with {all:?}");
    }
    for all in [&["other"][..], &["other", "another"], &[""], &[]] {
        assert_eq!(asked(dialect, request, all), Err(NotProven), "{dialect} with {all:?}");
    }
    // Before its body is there it is known whether that is needed.
    let head = Posted { body: &[], ..request.posted() };
    let by_head = check(dialect, &head, &secrets(&[secret]), &Rules::default()).is_ok();
    assert_eq!(by_head, !needs_the_body(dialect, &head, &Rules::default()), "{dialect}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signed(key: &str, parts: &[&str]) -> String {
    hex(&mac(key.as_bytes(), &parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>()))
}

#[test]
fn secret_is_taken_where_each_dialects_senders_show_it() {
    let request = || Request::json("", BODY);
    let basic = format!("Basic {}", STANDARD.encode("user:s3cret"));
    for dialect in
        [Dialect::Alertmanager, Dialect::Grafana, Dialect::Ntfy, Dialect::Apprise, Dialect::Raw, Dialect::Mail]
    {
        proven(dialect, &request().with("authorization", "Bearer s3cret"), "s3cret");
        proven(dialect, &request().with("authorization", &basic), "s3cret");
        proven(dialect, &request().with("authorization", &basic), "user:s3cret");
        proven(dialect, &Request::json("?x=1&token=s3cret", BODY), "s3cret");
    }
    let auth = URL_SAFE_NO_PAD.encode("Bearer tk_1");
    proven(Dialect::Ntfy, &Request::json(&format!("/topic?auth={auth}"), BODY), "tk_1");
    proven(Dialect::Gotify, &request().with("x-gotify-key", "s3cret"), "s3cret");
    proven(Dialect::Gitlab, &request().with("x-gitlab-token", "s3cret"), "s3cret");
    for (dialect, path) in [
        (Dialect::Hookshot, "/webhook/s3cret"),
        (Dialect::Slack, "/services/T0/B0/s3cret"),
        (Dialect::Discord, "/api/webhooks/1/s3cret"),
        (Dialect::Discord, "/api/webhooks/1/s3cret/slack"),
        (Dialect::Discord, "/api/webhooks/1/s3cret/messages/2"),
        (Dialect::UptimeKuma, "/s3cret"),
        (Dialect::Raw, "/s3%63ret"),
    ] {
        proven(dialect, &Request::json(path, BODY), "s3cret");
    }
    assert_eq!(path_secret(Dialect::Hookshot, "/"), None);
}

#[test]
fn secret_shown_elsewhere_is_none() {
    for (dialect, request) in [
        (Dialect::Alertmanager, Request::json("/s3cret", BODY)),
        (Dialect::Gotify, Request::json("", BODY).with("x-gitlab-token", "s3cret")),
        (Dialect::Alertmanager, Request::json("?auth=s3cret", BODY)),
        (Dialect::Github, Request::json("?token=s3cret", BODY).with("authorization", "Bearer s3cret")),
        (Dialect::StandardWebhooks, Request::json("?token=s3cret", BODY)),
        (Dialect::Raw, Request::json("", r#"{"token":"s3cret"}"#)),
        (Dialect::Raw, Request::json("", BODY).with("authorization", "s3cret")),
        (Dialect::Raw, Request::json("?token=s3cre", BODY)),
        (Dialect::Raw, Request::json("?token=s3cretx", BODY)),
    ] {
        assert_eq!(asked(dialect, &request, &["s3cret"]), Err(NotProven), "{dialect}");
    }
}

#[test]
fn signature_of_a_forge_counts_for_this_body_alone() {
    let good = signed("s3cret", &[BODY]);
    for (dialect, header, value) in [
        (Dialect::Github, "x-hub-signature-256", format!("sha256={good}")),
        (Dialect::Gitea, "x-gitea-signature", good.clone()),
        (Dialect::Gitea, "x-forgejo-signature", good.clone()),
        (Dialect::Grafana, "x-grafana-alerting-signature", good.clone()),
    ] {
        let request = Request::json("", BODY).with(header, &value);
        proven(dialect, &request, "s3cret");
        let other = Request::json("", r#"{"text":"y"}"#).with(header, &value);
        assert_eq!(asked(dialect, &other, &["s3cret"]), Err(NotProven), "another body");
        // A wrong signature is not made good by a secret that is shown.
        let both = Request::json("?token=s3cret", BODY).with(header, &value.replace(&good, &"0".repeat(64)));
        assert_eq!(asked(dialect, &both, &["s3cret"]), Err(NotProven), "a wrong signature beside a secret");
    }
}

#[test]
fn missing_short_and_wrong_signatures_are_refused_alike() {
    let good = signed("s3cret", &[BODY]);
    let wrong = [
        String::new(),
        "sha256=".to_owned(),
        format!("sha256={}", &good[..62]),
        format!("sha256={good}00"),
        format!("sha256={}", "0".repeat(64)),
        format!("sha1={good}"),
        good.clone(),
        format!("sha256={}", good.replace(|c: char| c.is_ascii_digit(), "g")),
        format!("sha256=+{}", &good[1..]),
        format!("sha256={}", signed("", &[BODY])),
    ];
    for value in wrong {
        let request = Request::json("", BODY).with("x-hub-signature-256", &value);
        for all in [&["s3cret"][..], &["s3cret", ""], &[""]] {
            assert_eq!(asked(Dialect::Github, &request, all), Err(NotProven), "{value:?}");
        }
    }
    let none = Request::json("", BODY);
    assert_eq!(asked(Dialect::Github, &none, &["s3cret"]), Err(NotProven));
    let sha1 = Request::json("", BODY).with("x-hub-signature", &format!("sha1={good}"));
    assert_eq!(asked(Dialect::Github, &sha1, &["s3cret"]), Err(NotProven));
    assert_eq!(NotProven.to_string(), "the secret or the signature is missing or wrong");
}

/// Moves a request to when it was signed, by its own word.
fn when_signed(mut request: Request) -> Request {
    let seconds =
        request.posted().headers["webhook-timestamp"].to_str().expect("digits").parse::<i64>().expect("a number");
    request.at = Timestamp(seconds * 1000);
    request
}

#[test]
fn real_senders_signature_is_good_for_five_minutes() {
    let key = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let request = when_signed(fixture::named("standard-webhooks"));
    proven(Dialect::StandardWebhooks, &request, key);
    for (away, good) in [(-301, false), (-300, true), (0, true), (300, true), (301, false), (86_400, false)] {
        let mut request = request.clone();
        request.at = Timestamp(request.at.0 + away * 1000);
        assert_eq!(asked(Dialect::StandardWebhooks, &request, &[key]).is_ok(), good, "{away} s");
    }
    let moved = request.clone().with("webhook-timestamp", "1795997281");
    assert_eq!(asked(Dialect::StandardWebhooks, &moved, &[key]), Err(NotProven), "a time that was not signed");
    let renamed = request.clone().with("webhook-id", "msg_other");
    assert_eq!(asked(Dialect::StandardWebhooks, &renamed, &[key]), Err(NotProven), "a name that was not signed");
    for header in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert_eq!(
            asked(Dialect::StandardWebhooks, &request.clone().without(header), &[key]),
            Err(NotProven),
            "{header}"
        );
    }
}

#[test]
fn replay_within_the_window_is_known_by_its_name() {
    let key = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let request = when_signed(fixture::named("standard-webhooks"));
    let first = asked(Dialect::StandardWebhooks, &request, &[key]).expect("it is proven");
    let mut again = request.clone();
    again.at = Timestamp(request.at.0 + 60_000);
    assert_eq!(asked(Dialect::StandardWebhooks, &again, &[key]), Ok(first.clone()));
    assert!(first.once.is_some());
    // A forge signs its body alone; what is not signed, like the name of the delivery, makes it no other request.
    let forged = |delivery: &str| {
        let signature = format!("sha256={}", signed("s3cret", &[BODY]));
        let request =
            Request::json("", BODY).with("x-hub-signature-256", &signature).with("x-github-delivery", delivery);
        asked(Dialect::Github, &request, &["s3cret"]).expect("it is proven").once
    };
    assert_eq!(forged("1"), forged("2"));
    assert!(forged("1").is_some());
    let shown = Request::json("?token=s3cret", BODY);
    assert_eq!(asked(Dialect::Raw, &shown, &["s3cret"]), Ok(Proven { once: None }));
}

#[test]
fn known_vector_and_several_signatures_are_verified() {
    let body = r#"{"email":"test@example.com","username":"test_user"}"#;
    let mut request = Request::json("", body)
        .with("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk")
        .with("webhook-timestamp", "1649367553")
        .with("webhook-signature", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    request.at = Timestamp(1_649_367_553_000);
    let key = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    proven(Dialect::StandardWebhooks, &request, key);
    let wrong = "v1,R3PTzyfHASBKHH98a7yexTwaJ4yNIcGhFQc1yuN+BPU=";
    let right = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
    for (given, good) in [
        (format!("{wrong} {right}"), true),
        (format!("v1a,x {right}"), true),
        (wrong.to_owned(), false),
        (format!("v2{}", &right[2..]), false),
        (format!("{}{right}", format!("{wrong} ").repeat(10)), false),
    ] {
        let request = request.clone().with("webhook-signature", &given);
        assert_eq!(asked(Dialect::StandardWebhooks, &request, &[key]).is_ok(), good, "{given}");
    }
    // GitLab's signing tokens are the same, and are not got around by leaving the other header.
    proven(Dialect::Gitlab, &request, key);
    let forged = request.clone().with("webhook-signature", wrong).with("x-gitlab-token", key);
    assert_eq!(asked(Dialect::Gitlab, &forged, &[key]), Err(NotProven));
}

#[test]
fn grafanas_time_is_signed_with_the_body_where_it_is_asked_for() {
    let time = "1795997280";
    let rules = Rules { timestamp: Some(HeaderName::from_static("x-time")), ..Rules::default() };
    let request = Request::json("", BODY)
        .with("x-time", time)
        .with("x-grafana-alerting-signature", &signed("s3cret", &[time, ":", BODY]));
    let with =
        |request: &Request, rules: &Rules| check(Dialect::Grafana, &request.posted(), &secrets(&["s3cret"]), rules);
    assert!(with(&request, &rules).is_ok());
    let mut late = request.clone();
    late.at = Timestamp(late.at.0 + 301_000);
    assert_eq!(with(&late, &rules), Err(NotProven));
    let wider = Rules { window: Duration::from_secs(600), ..rules.clone() };
    assert!(with(&late, &wider).is_ok());
    let untimed = Request::json("", BODY).with("x-grafana-alerting-signature", &signed("s3cret", &[BODY]));
    assert_eq!(with(&untimed, &rules), Err(NotProven), "the time is missing");
    let shown = Request::json("?token=s3cret", BODY);
    assert_eq!(with(&shown, &rules), Err(NotProven), "a time is asked for");
    let elsewhere = Rules { signature: HeaderName::from_static("x-mine"), ..Rules::default() };
    let renamed = Request::json("", BODY).with("x-mine", &signed("s3cret", &[BODY]));
    assert!(with(&renamed, &elsewhere).is_ok());
}
