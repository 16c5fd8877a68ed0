//! What rooms are shown.

use sealbridge_contract::Timestamp;
use serde_json::json;

use super::{
    Course, Digest, FILTERS, Faulty, MOST_HTML, MOST_PLAIN, Template, Words, change, digest, own::MOST_TEMPLATE, root,
    word,
};
use crate::notices::{
    Acknowledged, Dialect, Notice, Severity,
    fixture::{self, Request},
};

fn shown(words: &Words) -> String {
    let html = words.html.as_deref().unwrap_or("(none)");
    format!("{}\n\n---- html ----\n{html}\n", words.plain)
}

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/notices/shown"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

#[test]
fn digest_counts_and_calls_nobody_and_is_nobodys_html() {
    let lines = vec![("@room <b>disk</b> https://matrix.to/#/@ann:example.org", 1), ("⚠️ Warning: fan", 3)];
    let counts = vec![(Severity::Warning, 3), (Severity::Info, 9)];
    let told = Digest { counts, lines, more: 8, since: Timestamp(1_795_997_280_000), go_on: 2, over: 1, head: None };
    let worded = digest(&Template::of_digests(), &told);
    assert_eq!(worded.trouble, None);
    let plain = "🗂️ 12 notices gathered since 2026-11-30 00:08 UTC: ⚠️ 3 Warning, 🔵 9 Info\nOf what began, 2 still on and 1 over\n\
                 - room <b>disk</b> https://matrix.to #/@ann:example.org\n- ⚠️ Warning: fan (3×)\nand 8 more";
    assert_eq!(worded.words.plain, plain);
    let html = "<p>🗂️ <strong>12 notices</strong> gathered since 2026-11-30 00:08 UTC: ⚠️ 3 <font data-mx-color=\"#b35900\">Warning</font>, \
                🔵 9 <font data-mx-color=\"#1f6feb\">Info</font><br>Of what began, 2 still on and 1 over</p>\n<ul><li>room \
                &lt;b&gt;disk&lt;/b&gt; https://matrix.to #/@ann:example.org</li><li>⚠️ Warning: fan (3×)</li></ul>\n<p>and 8 more</p>";
    assert_eq!(worded.words.html.as_deref(), Some(html));
}

#[test]
fn every_captured_request_is_shown_as_it_was_approved() {
    settings().bind(|| {
        for (name, dialect, request) in fixture::all() {
            let template = Template::of(dialect);
            let notices = request.read(dialect).unwrap_or_else(|refused| panic!("{name}: {refused}"));
            let mut all = String::new();
            for notice in &notices {
                let worded = word(&template, notice);
                assert_eq!(worded.trouble, None, "{name}");
                assert_eq!(template.check(notice), Vec::<String>::new(), "{name}");
                all.push_str(&shown(&worded.words));
                for file in &notice.attachments {
                    all.push_str(&format!("\n---- file {} ----\n", file.name));
                }
            }
            insta::assert_snapshot!(name, if all.is_empty() { "(nothing)".to_owned() } else { all });
        }
    });
}

fn incident(name: &str, dialect: Dialect) -> Notice {
    fixture::named(name).one(dialect)
}

fn course(notice: &Notice) -> Course<'_> {
    let alerts = &notice.incident.as_ref().expect("an incident").alerts;
    Course { values: &notice.values, alerts, acknowledged: None, silenced_until: None }
}

#[test]
fn incident_is_shown_as_it_goes_on_and_each_change_in_reply() {
    let template = Template::of(Dialect::Alertmanager);
    let notice = incident("alertmanager-changed", Dialect::Alertmanager);
    let changed: Vec<_> = course(&notice).alerts.iter().filter(|alert| !alert.firing).collect();
    let reply = change(&template, &course(&notice), &changed).words;
    assert!(reply.plain.starts_with("✅ Resolved: The disk of db-2:9100 is full, after "), "{}", reply.plain);
    assert!(reply.plain.ends_with("1 of 2 go on."), "{}", reply.plain);
    assert!(
        reply
            .html
            .is_some_and(|html| html.contains("<font data-mx-color=\"#1a7f37\"><strong>Resolved</strong></font>"))
    );

    let at = Timestamp(1_795_997_280_000);
    let mut who = Acknowledged { by: "Ann <b>".into(), id: None, at, proven: true };
    let proven = root(&template, &Course { acknowledged: Some(&who), ..course(&notice) }).words.plain;
    assert!(proven.ends_with("sees to it since 2026-11-30 00:08 UTC"), "{proven}");
    who.proven = false;
    let acknowledged = Course { acknowledged: Some(&who), silenced_until: Some(at), ..course(&notice) };
    let words = root(&template, &acknowledged).words;
    assert!(words.plain.contains("UTC, by a reaction, which servers can make up\n"), "{}", words.plain);
    assert!(words.plain.contains("👀 Ann <b> sees to it since 2026-11-30 00:08 UTC"), "{}", words.plain);
    assert!(words.plain.contains("🔕 Silenced until 2026-11-30 00:08 UTC"), "{}", words.plain);
    assert!(words.html.is_some_and(|html| html.contains("Ann &lt;b&gt;")));
}

#[test]
fn incident_that_is_over_is_green_and_says_so_in_words() {
    let template = Template::of(Dialect::Alertmanager);
    let notice = incident("alertmanager-resolved", Dialect::Alertmanager);
    let words = root(&template, &course(&notice)).words;
    assert!(words.plain.starts_with("✅ Resolved: DiskFull"), "{}", words.plain);
    assert!(words.html.is_some_and(|html| html.contains("data-mx-color=\"#1a7f37\"")));
    let kuma = incident("uptime-kuma-up", Dialect::UptimeKuma);
    assert!(root(&template, &course(&kuma)).words.plain.starts_with("✅ Up: shop"));
}

#[test]
fn severity_is_never_told_by_colour_alone() {
    for (name, dialect, request) in fixture::all() {
        for notice in request.read(dialect).unwrap_or_default() {
            let words = word(&Template::of(dialect), &notice).words;
            let html = words.html.unwrap_or_default();
            let colours = html.matches("<font data-mx-color").count();
            let marks: usize = ["🔴", "⚠️", "🔵", "⚪", "✅", "■"].iter().map(|mark| html.matches(mark).count()).sum();
            assert!(marks >= colours, "{name}: {html}");
            if notice.severity == Severity::Critical {
                assert!(words.plain.starts_with("🔴 "), "{name}: {}", words.plain);
            }
        }
    }
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap_or_else(|faulty| panic!("{faulty}"))
}

fn raw(body: &serde_json::Value) -> Notice {
    Request::json("", body.to_string()).one(Dialect::Raw)
}

#[test]
fn words_of_senders_are_escaped_and_call_nobody() {
    let hostile =
        "<script>alert(1)</script><b>x</b> @room <a href='https://matrix.to/#/@a:b'>pill</a> {{ 7 * 7 }} {% raw %}";
    let notice = raw(&json!({ "title": hostile, "message": hostile }));
    for template in [Template::of(Dialect::Raw), template("html = '<p><i>{{ title }}</i><br>{{ text|breaks }}</p>'")] {
        let words = word(&template, &notice).words;
        let html = words.html.expect("there is HTML");
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;x&lt;/b&gt; room"), "{html}");
        assert!(!html.contains("<b>x") && !html.contains("<script") && !html.contains("matrix.to/#/"), "{html}");
        assert!(html.contains("{{ 7 * 7 }}") && !words.plain.contains("@room"), "{html}");
    }
    // HTML and Markdown that senders may send are made harmless.
    let hookshot = fixture::named("hookshot-html").one(Dialect::Hookshot);
    let html = word(&Template::of(Dialect::Hookshot), &hookshot).words.html.expect("there is HTML");
    assert_eq!(html, "<b>Deploy</b> is <a>done</a>");
    let github = fixture::named("github-issue").one(Dialect::Github);
    let html = word(&Template::of(Dialect::Github), &github).words.html.expect("there is HTML");
    assert!(!html.contains("<img") && !html.contains("@room") && !html.contains("@everyone"), "{html}");
}

#[test]
fn template_reaches_nothing_but_the_notice() {
    let notice = raw(&json!({ "message": "m" }));
    for reach in [
        "env",
        "environment",
        "config",
        "self",
        "secrets",
        "request",
        "loop",
        "source",
        "text.__class__",
        "body.__init__",
    ] {
        let own = template(&format!("plain = 'seen:{{{{ {reach} }}}}'"));
        assert_eq!(word(&own, &notice).words.plain, "seen:", "{reach}");
    }
    for reach in [
        "{{ debug() }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{{ open('/etc/passwd') }}",
        "{{ text|attr_of }}",
    ] {
        let faulty = Template::parse(&format!("plain = \"{reach}\""));
        assert!(faulty.is_err(), "{reach}");
    }
    assert!(Template::parse("plain = '{{ text|safe }}'").is_err());
    assert!(Template::parse("html = '{%- autoescape false %}{{ text }}{% endautoescape %}'").is_err());
}

#[test]
fn notice_is_never_lost_by_a_template_and_the_reason_has_none_of_its_words() {
    let notice = raw(&json!({ "title": "secret-word", "message": "hello", "pin": 48_151_623 }));
    for (own, why) in [
        ("plain = '{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}'", "too much work"),
        ("plain = '{{ title + 1 }}'", "line 1"),
        ("plain = '{{ title|round }}'", "line 1"),
        // The library's own words would show the number.
        ("plain = '{{ body.pin // 0 }}'", "line 1"),
        ("plain = '{# nothing #}'", "says nothing"),
        ("html = '<script>{{ title }}</script>'", "says nothing"),
    ] {
        let worded = word(&template(own), &notice);
        assert_eq!(worded.words, Words { plain: "secret-word\nhello".to_owned(), html: None }, "{own}");
        let trouble = worded.trouble.unwrap_or_else(|| panic!("{own} is no trouble")).to_string();
        assert!(
            trouble.contains(why) && !["secret-word", "48151623"].iter().any(|word| trouble.contains(word)),
            "{trouble}"
        );
    }
}

#[test]
fn what_is_not_there_is_nothing_and_is_told_to_whoever_checks() {
    let notice = raw(&json!({ "message": "hello" }));
    let own = template("plain = '{{ text }}{{ nobody }}{{ body.no.such.thing }}{% if other %}x{% endif %}'");
    let worded = word(&own, &notice);
    assert_eq!((worded.words.plain.as_str(), worded.trouble), ("hello", None));
    let told = own.check(&notice).join("\n");
    for name in ["nobody", "body.no.such.thing", "other"] {
        assert!(told.contains(name), "{told}");
    }
    assert_eq!(template("plain = '{{ text }} {{ body.message|upper }}'").check(&notice), Vec::<String>::new());
}

#[test]
fn own_template_says_how_much_a_notice_matters_and_what_it_is_called() {
    let mut notice = raw(&json!({ "message": "disk full", "job": "j-1" }));
    let own = template(
        "plain = '{{ mark.word }}: {{ text }}'\nid = '{{ body.job }}'\n\
         severity = \"{% if 'disk' in text %}critical{% endif %}\"",
    );
    own.prepare(&mut notice).expect("it is one");
    assert_eq!((notice.severity, notice.id.as_deref()), (Severity::Critical, Some("j-1")));
    assert_eq!(word(&own, &notice).words.plain, "Critical: disk full");
    let wrong = template("plain = 'x'\nseverity = '{{ text }}'").prepare(&mut notice).expect_err("it is none");
    assert!(!wrong.to_string().contains("disk"), "{wrong}");
    assert_eq!(notice.severity, Severity::Critical, "it is as it was");
}

#[test]
fn own_template_weighs_each_alert_of_an_incident_and_where_it_fails_each_is_as_it_was_read() {
    let severities = |notice: &Notice| {
        let alerts = &notice.incident.as_ref().expect("an incident").alerts;
        alerts.iter().map(|alert| alert.severity).collect::<Vec<_>>()
    };
    let changed = || incident("alertmanager-changed", Dialect::Alertmanager);
    assert_eq!(severities(&changed()), [Severity::Critical, Severity::Warning]);
    for (severity, each) in [
        ("low", [Severity::Low, Severity::Low]),
        ("", [Severity::Critical, Severity::Warning]),
        ("{{ severity }}", [Severity::Critical, Severity::Warning]),
        ("{% if firing %}info{% endif %}", [Severity::Info, Severity::Warning]),
        ("{% if alerts|length == 1 and body.receiver %}low{% endif %}", [Severity::Low, Severity::Low]),
    ] {
        let mut notice = changed();
        template(&format!("plain = 'x'\nseverity = \"{severity}\"")).prepare(&mut notice).expect("it is one");
        assert_eq!(severities(&notice), each, "{severity}");
        assert_eq!(notice.severity, each[0], "the worst that goes on counts: {severity}");
    }
    let mut notice = changed();
    let wrong = template("plain = 'x'\nseverity = \"{% if firing %}low{% else %}odd{% endif %}\"");
    wrong.prepare(&mut notice).expect_err("it is none");
    assert_eq!(severities(&notice), [Severity::Critical, Severity::Warning]);
}

#[test]
fn what_goes_on_has_no_name_by_which_its_end_would_be_taken_for_its_beginning() {
    let own = "plain = 'x'\nid = '{{ title }}'";
    for (dialect, name) in Dialect::ALL {
        let tells_of_incidents = ["alertmanager", "grafana", "uptime-kuma", "ping"].contains(name);
        let read = Template::parse_for(*dialect, own);
        assert_eq!(read.is_err(), tells_of_incidents, "{name}");
        assert!(read.err().is_none_or(|faulty| faulty.to_string().contains("`id`")));
    }
    let mut notice = incident("alertmanager-firing", Dialect::Alertmanager);
    template(own).prepare(&mut notice).expect("it is one");
    assert_eq!(notice.id, None);
}

#[test]
fn faults_of_a_template_are_told_with_their_place() {
    for (text, why) in [
        ("", "`plain`"),
        ("plain = 3", "invalid type"),
        ("plan = 'x'", "unknown field `plan`"),
        ("plain = '{{ text'", "plain:1"),
        ("plain = '''x\n{% for %}'''", "plain:2"),
        ("html = '{{ text|nosuch }}'", "nosuch"),
    ] {
        let faulty = Template::parse(text).expect_err(text).to_string();
        assert!(faulty.contains(why), "{text}: {faulty}");
    }
}

#[test]
fn template_that_writes_without_end_is_cut() {
    let own = template(
        "plain = '{% for i in range(4000) %}{{ \"ö\" * 100 }}{% endfor %}'\nhtml = '<b>{{ text|breaks }}</b>'",
    );
    let worded = word(&own, &raw(&json!({ "message": "&".repeat(40_000) })));
    assert_eq!(worded.trouble, None);
    assert!(worded.words.plain.starts_with("öö") && worded.words.plain.ends_with("(the rest is too long)"));
    assert_eq!(worded.words.html, None, "what is cut is no HTML");
}

#[test]
fn words_fit_into_an_event() {
    let many = "\"x\" <b>".repeat(5_000);
    let words = word(&Template::of(Dialect::Raw), &raw(&json!({ "title": many, "message": many }))).words;
    assert!(words.plain.len() <= MOST_PLAIN && words.plain.ends_with("(the rest is too long)"));
    assert!(words.html.is_none_or(|html| html.len() <= MOST_HTML));
    let alerts = fixture::named("alertmanager-many").one(Dialect::Alertmanager);
    let words = root(&Template::of(Dialect::Alertmanager), &course(&alerts)).words;
    assert!(
        words.plain.contains("and 25 more") && words.plain.contains("5 more alerts were left out"),
        "{}",
        words.plain
    );
    // The worst is not among those that are left out.
    assert!(words.plain.contains("web-17 is down"), "{}", words.plain);
}

#[test]
fn our_own_templates_can_be_begun_with_and_their_filters_are_on_the_page() {
    for (dialect, _) in Dialect::ALL {
        assert!(Template::parse(Template::text_of(*dialect)).is_ok(), "{dialect}");
    }
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/notices.md")).expect("the page is there");
    for (name, does) in FILTERS {
        assert!(page.contains(&format!("| `{name}` | {does} |")), "the page lacks {name}");
    }
    for (dialect, name) in Dialect::ALL {
        assert!(page.contains(&format!("`{name}`")), "the page lacks {dialect}");
    }
}

#[test]
fn template_as_deep_as_it_may_be_is_read_or_refused() {
    let notice = raw(&json!({ "message": "m" }));
    let as_long = |piece: &str| piece.repeat((MOST_TEMPLATE - 30) / piece.len());
    for expression in [
        format!("title{}", as_long("~a")),
        format!("title{}", as_long("|e")),
        format!("title{}", as_long(".a")),
        format!("{}1", as_long("-")),
        format!("{}1", as_long("(")),
        format!("1 {}", as_long("if 1 else 1 ")),
    ] {
        if let Ok(own) = Template::parse(&format!("plain = '{{{{ {expression} }}}}'")) {
            let _ = own.check(&notice);
            assert!(!word(&own, &notice).words.plain.is_empty());
        }
    }
    let longer = Template::parse(&format!("plain = '{}'", "x".repeat(MOST_TEMPLATE + 1)));
    assert!(matches!(longer, Err(Faulty::TooLong { field: "plain" })));
}
