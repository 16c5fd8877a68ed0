//! What is read of requests, and what is refused.

use std::path::Path;

use serde_json::{Value, json};

use super::{MOST_NOTICES, MOST_TREE, Refused, mail};
use crate::notices::{
    Dialect, Notice, Severity,
    fixture::{self, Request},
};

#[track_caller]
fn refused(dialect: Dialect, request: &Request, status: u16) {
    match request.read(dialect) {
        Ok(_) => panic!("{dialect} takes it"),
        Err(refused) => {
            assert_eq!(refused.status().as_u16(), status, "{refused}");
            assert!(!refused.to_string().contains("secret-word"), "a word of the sender is in the reason");
        }
    }
}

fn text<'a>(notice: &'a Notice, key: &str) -> &'a str {
    notice.values.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn every_captured_request_is_read() {
    let silent = ["github-ping", "github-workflow-begun", "gitlab-pipeline-running"];
    for (name, dialect, request) in fixture::all() {
        let notices = request.read(dialect).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let expected = if name == "cloudevents-batch" { 2 } else { usize::from(!silent.contains(&name.as_str())) };
        assert_eq!(notices.len(), expected, "{name}");
    }
}

#[test]
fn every_payload_from_outside_is_read_or_refused_with_a_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/payloads");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        sealbridge_lab::skip::skip(sealbridge_lab::skip::PAYLOADS_MISSING);
        return;
    };
    let mut read = 0;
    for entry in entries {
        let path = entry.expect("a folder can be read to its end").path();
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let raw = ["azuredevops", "bitbucket", "dockerhub"].iter().any(|begin| name.starts_with(begin));
        let known = Dialect::ALL.iter().filter(|(_, known)| name.starts_with(known));
        let known = known.max_by_key(|(_, known)| known.len()).map(|(dialect, _)| *dialect);
        let dialect = if raw { Dialect::Raw } else { known.unwrap_or_else(|| panic!("{name} is in no dialect")) };
        let mut body = std::fs::read(&path).expect("it can be read");
        if name == "standard-webhooks-vector" {
            let vector: Value = serde_json::from_slice(&body).expect("JSON");
            body = vector["body"].as_str().expect("a body").as_bytes().to_vec();
        }
        let event = name.split('-').nth(1).unwrap_or_default();
        let mut request = Request::json("", body);
        if dialect == Dialect::Github {
            request = request.with("x-github-event", event);
        }
        if name.starts_with("cloudevents") {
            request = request.with("content-type", "application/cloudevents+json");
        }
        match request.read(dialect) {
            Ok(notices) => {
                let says = name != "github-ping";
                assert_eq!(!notices.is_empty(), says, "{name}");
            }
            // Its `data_base64` is a sentence of the specification's.
            Err(refused) => assert!(name == "cloudevents-batch" && refused.status() == 422, "{name}: {refused}"),
        }
        read += 1;
    }
    assert!(read >= 25, "{read} payloads");
}

#[test]
fn incident_has_the_state_of_each_alert_and_how_bad_it_is() {
    let notice = fixture::named("alertmanager-changed").one(Dialect::Alertmanager);
    assert_eq!(notice.values["body"]["version"], "4");
    assert!(notice.values["body"].get("alerts").is_none(), "they are kept twice");
    let incident = notice.incident.expect("an incident");
    assert_eq!(incident.group, "{}:{alertname=\"DiskFull\", cluster=\"prod\"}");
    let states: Vec<_> = incident.alerts.iter().map(|alert| (alert.firing, alert.severity)).collect();
    assert_eq!(states, [(true, Severity::Critical), (false, Severity::Warning)]);
    assert_eq!(notice.severity, Severity::Critical);
    let resolved = fixture::named("alertmanager-resolved").one(Dialect::Alertmanager).incident.expect("an incident");
    assert_eq!(resolved.group, incident.group);
    assert_eq!(resolved.alerts[0].fingerprint, incident.alerts[0].fingerprint);
}

#[test]
fn alert_without_a_fingerprint_has_one_of_its_labels_and_is_told_of_once() {
    let notice = fixture::named("alertmanager-without-fingerprint").one(Dialect::Alertmanager);
    let alerts = notice.incident.expect("an incident").alerts;
    assert_eq!(alerts.len(), 1, "the same one twice");
    let with = |labels: &str| {
        let body = format!("{{\"groupKey\":\"g\",\"alerts\":[{{\"status\":\"firing\",\"labels\":{labels}}}]}}");
        let notice = Request::json("", body).one(Dialect::Alertmanager);
        notice.incident.expect("an incident").alerts.remove(0).fingerprint
    };
    assert_eq!(with(r#"{"a":"1","b":"2"}"#), with(r#"{"b":"2","a":"1"}"#));
    assert_ne!(with(r#"{"a":"1","b":"2"}"#), with(r#"{"a":"12","b":""}"#));
    assert_ne!(with(r#"{"a":"b","c":"d"}"#), with(r#"{"a\"b\"c":"d"}"#));
}

#[test]
fn down_and_up_of_a_monitor_are_one_incident() {
    let of = |name: &str| fixture::named(name).one(Dialect::UptimeKuma).incident.expect("an incident");
    let (down, up) = (of("uptime-kuma-down"), of("uptime-kuma-up"));
    assert_eq!(down.group, up.group);
    assert_eq!(down.alerts[0].fingerprint, up.alerts[0].fingerprint);
    assert!(down.alerts[0].firing && !up.alerts[0].firing);
    assert!(fixture::named("uptime-kuma-test").one(Dialect::UptimeKuma).incident.is_none());
}

#[test]
fn ntfy_is_asked_in_json_in_headers_by_any_name_and_in_the_address() {
    let json = Request::json("/", r#"{"topic":"t","message":"m","title":"T"}"#).with("x-priority", "high");
    let notice = json.one(Dialect::Ntfy);
    assert_eq!((text(&notice, "title"), text(&notice, "text"), notice.severity), ("T", "m", Severity::Warning));
    for name in ["X-Title", "Title", "ti", "t"] {
        let notice = Request::new("POST", "/topic", "m").with(name, "T").one(Dialect::Ntfy);
        assert_eq!(text(&notice, "title"), "T", "{name}");
        let address = format!("/topic/send?{}=T%20x", name.to_lowercase());
        let notice = Request::new("GET", &address, "").with("m", "words").one(Dialect::Ntfy);
        assert_eq!((text(&notice, "title"), text(&notice, "text")), ("T x", "words"), "{name}");
    }
    let both = Request::json("/", r#"{"topic":"t","message":"m","priority":5}"#).with("p", "1").one(Dialect::Ntfy);
    assert_eq!(both.severity, Severity::Critical, "the JSON counts before headers");
    assert_eq!(text(&Request::new("GET", "/t/trigger", "").one(Dialect::Ntfy), "text"), "triggered");
    // A source's own address is a topic, too.
    assert_eq!(text(&Request::new("POST", "", "words").one(Dialect::Ntfy), "text"), "words");
}

#[test]
fn ntfys_json_has_no_words_that_are_taken_for_none() {
    for words in ["0", "false", "00", "no"] {
        let body = json!({ "topic": "t", "title": words, "message": words }).to_string();
        let notice = Request::json("/", body).one(Dialect::Ntfy);
        assert_eq!((text(&notice, "title"), text(&notice, "text")), (words, words));
    }
    // ntfy refuses a number there; what is said by it is said.
    assert_eq!(text(&Request::json("/", r#"{"topic":"t","message":0}"#).one(Dialect::Ntfy), "text"), "0");
    // To Go these are as good as nothing, and what a header says counts.
    let body = r#"{"topic":"t","message":"**m**","priority":0,"markdown":false,"call":""}"#;
    let notice = Request::json("/", body).with("p", "5").with("markdown", "yes").one(Dialect::Ntfy);
    assert_eq!(notice.severity, Severity::Critical);
    assert!(text(&notice, "html").contains("<strong>"), "{:?}", notice.values);
}

#[test]
fn ntfys_tags_become_emoji_and_its_bodies_files() {
    let notice = fixture::named("curl-ntfy-headers").one(Dialect::Ntfy);
    assert_eq!(text(&notice, "title"), "⚠️ 💀 Unauthorized access detected");
    assert_eq!(notice.values["tags"], json!(["front-door"]));
    assert_eq!(notice.values["links"][2], json!({ "label": "Look", "url": "https://nest.com/view" }));
    assert_eq!(text(&fixture::named("curl-ntfy-short-names").one(Dialect::Ntfy), "title"), "💾 Überwachung");
    let file = fixture::named("curl-ntfy-file").one(Dialect::Ntfy);
    assert_eq!((file.attachments[0].name.as_str(), text(&file, "text")), ("graph.png", "The graph"));
    assert!(file.attachments[0].content.expose().starts_with(b"\x89PNG"));
    let long = Request::new("PUT", "/t", "x".repeat(40_000)).one(Dialect::Ntfy);
    assert_eq!(long.attachments[0].name, "attachment.txt");
}

#[test]
fn what_ntfy_offers_and_we_do_not_is_refused_in_words() {
    for header in ["Delay", "At", "X-In", "Email", "X-Call", "Template"] {
        refused(Dialect::Ntfy, &Request::new("POST", "/t", "secret-word").with(header, "secret-word"), 422);
    }
    for path in ["/t/json", "/t/sse", "/t/ws", "/t/auth", "/v1/account", "/a/b/c"] {
        refused(Dialect::Ntfy, &Request::new("GET", path, ""), 404);
    }
    refused(Dialect::Ntfy, &Request::new("GET", "/t?up=1", ""), 405);
    refused(Dialect::Ntfy, &Request::new("POST", "/t?up=1", ""), 422);
    refused(Dialect::Ntfy, &Request::new("POST", "/t", "x").with("priority", "secret-word"), 400);
    refused(Dialect::Ntfy, &Request::json("/", r#"{"message":"secret-word"}"#), 400);
}

#[test]
fn line_breaks_of_a_header_stay_on_one_line() {
    let notice = fixture::named("curl-ntfy-address").one(Dialect::Ntfy);
    assert_eq!(text(&notice, "title"), "⚠️ 💀 A B");
    let title = Request::new("POST", "/t", "x").with("title", "=?UTF-8?B?YQ0KYjogYw==?=").one(Dialect::Ntfy);
    assert_eq!(text(&title, "title"), "a b: c");
    let raw = Request::new("POST", "", "x").with("content-type", "text/plain").with("title", "a\tb").one(Dialect::Raw);
    assert_eq!(text(&raw, "title"), "a b");
    // Nor does what becomes a name hold any.
    let github = Request::json("", r#"{"action":"x"}"#).with("x-github-event", "y").with("x-github-delivery", "a b");
    assert_eq!(github.one(Dialect::Github).id, None);
}

#[test]
fn deep_json_is_refused_and_of_a_key_twice_the_last_counts() {
    let deep = format!("{{\"text\":{}\"secret-word\"{}}}", "[".repeat(500), "]".repeat(500));
    for dialect in [Dialect::Hookshot, Dialect::Slack, Dialect::Raw, Dialect::Grafana, Dialect::Gitlab] {
        refused(dialect, &Request::json("", deep.clone()), 400);
    }
    refused(Dialect::Apprise, &Request::json("", deep.replace("text", "message")), 422);
    let twice = Request::json("", r#"{"text":"first","text":"last"}"#);
    assert_eq!(text(&twice.one(Dialect::Slack), "text"), "last");
    assert_eq!(text(&twice.one(Dialect::Hookshot), "text"), "last");
}

#[test]
fn what_is_too_much_is_refused() {
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(MOST_TREE));
    for dialect in [Dialect::Slack, Dialect::Gotify, Dialect::Alertmanager, Dialect::Github, Dialect::Raw] {
        refused(dialect, &Request::json("", long.clone()), 413);
    }
    let event = json!({ "specversion": "1.0", "id": "1", "source": "s", "type": "t" });
    let batch = |count: usize| Request::json("", json!(vec![event.clone(); count]).to_string());
    assert_eq!(batch(MOST_NOTICES).read(Dialect::Cloudevents).map(|all| all.len()), Ok(MOST_NOTICES));
    refused(Dialect::Cloudevents, &batch(MOST_NOTICES + 1), 413);
    let files = |count: usize| {
        let file = json!({ "filename": "a", "base64": "YQ==" });
        Request::json("", json!({ "message": "m", "attachments": vec![file; count] }).to_string())
    };
    assert_eq!(files(16).one(Dialect::Apprise).attachments.len(), 16);
    refused(Dialect::Apprise, &files(17), 413);
    refused(
        Dialect::Discord,
        &Request::json("", json!({ "embeds": vec![json!({ "title": "a" }); 11] }).to_string()),
        413,
    );
}

#[test]
fn what_is_of_another_form_is_refused_with_its_status() {
    let words = |body: &str| Request::new("POST", "", body);
    for (dialect, request, status) in [
        (Dialect::Alertmanager, Request::json("", "{\"secret-word"), 400),
        (Dialect::Alertmanager, Request::json("", "[]"), 422),
        (Dialect::Alertmanager, Request::json("", r#"{"alerts":[{"status":"secret-word","labels":{}}]}"#), 422),
        (Dialect::Alertmanager, words("secret-word").with("content-type", "text/xml"), 415),
        (Dialect::Grafana, Request::new("GET", "", ""), 405),
        (Dialect::Hookshot, words(""), 422),
        (Dialect::Slack, Request::json("", "{}"), 422),
        (Dialect::Slack, words("secret-word=1").with("content-type", "application/x-www-form-urlencoded"), 422),
        (Dialect::Discord, Request::json("/1/secret-word", r#"{"content":""}"#), 400),
        (Dialect::Discord, Request::new("DELETE", "/1/x/messages/2", ""), 405),
        (Dialect::Gotify, Request::json("/client", "{}"), 404),
        (Dialect::Gotify, Request::json("/message", r#"{"title":"secret-word"}"#), 400),
        (Dialect::Apprise, words("secret-word").with("content-type", "text/plain"), 415),
        (Dialect::Apprise, Request::json("", r#"{"message":"m","attachments":[{"base64":"secret-word!"}]}"#), 422),
        (Dialect::Apprise, Request::json("", r#"{"message":{"secret-word":1}}"#), 422),
        (Dialect::Apprise, words("<!DOCTYPE secret-word><a/>").with("content-type", "text/xml"), 400),
        (Dialect::Gitlab, Request::json("", "{}"), 422),
        (Dialect::Cloudevents, Request::json("", r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#), 422),
        (Dialect::Cloudevents, words("").with("content-type", "application/cloudevents+avro"), 415),
        (Dialect::UptimeKuma, Request::json("", r#"{"msg":""}"#), 422),
        (Dialect::StandardWebhooks, Request::json("", "{}"), 422),
        (Dialect::Raw, words(""), 422),
        (Dialect::Raw, words("a").with("content-type", "multipart/form-data; boundary=secret-word"), 400),
        (Dialect::Mail, words(" \r\n"), 422),
        (Dialect::Mail, words("\u{0}secret-word"), 400),
    ] {
        refused(dialect, &request, status);
    }
}

#[test]
fn files_come_in_whole_whichever_way_they_came() {
    for (name, dialect) in [
        ("apprise-json-attached", Dialect::Apprise),
        ("apprise-xml-attached", Dialect::Apprise),
        ("apprise-form-attached", Dialect::Apprise),
        ("apprise-ntfy-attached", Dialect::Ntfy),
        ("discord-webhook-file", Dialect::Discord),
        ("curl-raw-file", Dialect::Raw),
        ("mail-python", Dialect::Mail),
    ] {
        let notice = fixture::named(name).one(dialect);
        let [file] = notice.attachments.as_slice() else { panic!("{name}: {} files", notice.attachments.len()) };
        assert_eq!(file.name, "graph.png", "{name}");
        assert_eq!(file.content.expose().len(), 68, "{name}");
        assert!(file.content.expose().starts_with(b"\x89PNG"), "{name}");
        assert!(file.mime.as_deref().is_none_or(|mime| mime == "image/png"), "{name}");
    }
}

#[test]
fn a_discord_message_names_the_one_whose_place_it_takes() {
    let notice = fixture::named("discord-webhook-edit").one(Dialect::Discord);
    assert_eq!((notice.instead_of.as_deref(), text(&notice, "text")), (Some("1"), "Deploy is done"));
    assert_eq!(fixture::named("discord-webhook-content").one(Dialect::Discord).instead_of, None);
}

#[test]
fn what_people_wrote_in_a_forge_is_shown_in_part_and_without_its_templates_words() {
    let body = format!("<!-- fill this in -->\n**It** fails<!-- really -->\n\n{}<!-- open", "a line\n".repeat(1000));
    let issue = json!({ "action": "opened", "issue": { "number": 1, "title": "t", "body": body } });
    let notice = Request::json("", issue.to_string()).one(Dialect::Github);
    let shown = text(&notice, "text");
    assert!(shown.starts_with("**It** fails\n\na line\n") && shown.ends_with("a line\n\n…"), "{shown}");
    assert!(shown.chars().count() <= 1_510 && !shown.contains("<!--"));
    assert_eq!(notice.values["body"]["issue"]["body"], json!(body), "a template has all of it");
}

#[test]
fn json_of_many_values_is_shown_in_part() {
    let many = |count: usize| Request::json("", json!(vec![json!({ "a": 1 }); count]).to_string()).one(Dialect::Raw);
    assert_eq!(many(20).values["footer"], "");
    assert_eq!(many(50).values["footer"], "and 30 more values");
    let notice = many(100_000);
    assert_eq!(notice.values["footer"], "and many more values");
    assert_eq!(notice.values["fields"].as_array().map(Vec::len), Some(20));
}

#[test]
fn request_without_values_is_told_as_such_and_left_to_the_operators_template() {
    let notice = Request::json("", r#"{"state":"","code":null}"#).one(Dialect::Raw);
    assert_eq!(text(&notice, "footer"), "a request without values");
    assert_eq!(notice.values["body"], json!({ "state": "", "code": null }));
}

/// As `curl -d` posts it, whatever it is.
fn with_curl(body: &str) -> Request {
    Request::new("POST", "", body).with("content-type", "application/x-www-form-urlencoded")
}

#[test]
fn words_that_curl_calls_a_form_are_said_as_they_are() {
    for words in [
        "backup of db: exit=1 & retry in 5+5 min (100% full) & DATA LOST",
        "PATH=/usr/bin job failed",
        "exit=1\nDATA LOST",
        "exit=1&DATA-LOST",
        "a & b",
        "=1",
        "2+2=5",
        "https://ci.example/job?id=5&log=1",
        "Error:disk=full",
        "message=one & DATA LOST",
        "[{\"a\":\"b=c\"}]",
    ] {
        for dialect in [Dialect::Raw, Dialect::Hookshot] {
            assert_eq!(text(&with_curl(words).one(dialect), "text"), words, "{dialect}");
        }
    }
}

#[test]
fn forms_are_read_as_forms_and_no_key_of_theirs_is_lost() {
    for dialect in [Dialect::Raw, Dialect::Hookshot] {
        let fields = |body: &str| with_curl(body).one(dialect).values["fields"].clone();
        let field = |name: &str, value: &str| json!({ "name": name, "value": value, "html": "" });
        assert_eq!(fields("host=nas&load=3+%3C+4\n"), json!([field("host", "nas"), field("load", "3 < 4")]));
        assert_eq!(fields("disk_full=&host=nas"), json!([field("host", "nas"), field("disk_full", "")]));
        assert_eq!(fields("disk_full="), json!([field("disk_full", "")]));
        // Whoever types a form by hand writes blanks as they are, and what stands there is a plus.
        for (typed, said) in [("text=5+5 is 10%21", "5+5 is 10!"), ("text=done", "done"), ("text=a=b c", "a=b c")] {
            assert_eq!(text(&with_curl(typed).one(dialect), "text"), said, "{typed}");
        }
    }
    let notice = with_curl("title=The disk&message=it is full").one(Dialect::Raw);
    assert_eq!((text(&notice, "title"), text(&notice, "text")), ("The disk", "it is full"));
    let many = (0..30).map(|number| format!("key{number}=&")).collect::<String>() + "last=";
    let notice = with_curl(&many).one(Dialect::Raw);
    assert_eq!(
        (notice.values["fields"].as_array().map(Vec::len), text(&notice, "footer")),
        (Some(20), "and 11 more without a value")
    );
}

#[test]
fn senders_names_for_their_notices_are_kept() {
    for (name, dialect, id) in [
        ("github-push", Dialect::Github, "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("gitlab-push", Dialect::Gitlab, "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"),
        ("gitea-push", Dialect::Gitea, "f6266f16-1bf3-46a5-9ea4-602e06ead473"),
        ("standard-webhooks", Dialect::StandardWebhooks, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
        ("mail-python", Dialect::Mail, "20261130000800.1@nas.test"),
    ] {
        assert_eq!(fixture::named(name).one(dialect).id.as_deref(), Some(id), "{name}");
    }
    let batch = fixture::named("cloudevents-batch").read(Dialect::Cloudevents).expect("two events");
    assert!(batch[0].id.is_some() && batch[0].id != batch[1].id);
    // An event has the same name in whichever mode it came.
    let of = |name: &str| fixture::named(name).one(Dialect::Cloudevents).id;
    assert_eq!(of("cloudevents-binary"), of("cloudevents-structured"));
}

#[test]
fn what_a_mails_program_says_of_its_weight_is_heard() {
    let mail = |header: &str| {
        mail::read(format!("Subject: x\r\n{header}\r\n\r\nwords").as_bytes()).expect("a mail")[0].severity
    };
    assert_eq!(mail("X-Priority: 1 (Highest)"), Severity::Warning);
    assert_eq!(mail("Importance: High"), Severity::Warning);
    assert_eq!(mail("X-Priority: 5"), Severity::Low);
    assert_eq!(mail("X-Other: 1"), Severity::Info);
}

#[test]
fn reasons_of_refusals_are_words_of_ours_by_their_type() {
    // The compiler sees to it: a reason borrows for ever, which no word of a request does.
    fn is_static<T: 'static + Copy>(_: T) {}
    is_static(Refused::Unreadable("x"));
}
