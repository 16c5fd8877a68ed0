//! Templates that anybody wrote, over what anybody sent.

use serde_json::json;

use super::{MOST_HTML, MOST_PLAIN, Template, calm, word};
use crate::notices::{Alert, Incident, Notice, Severity};

fn notice() -> Notice {
    let values = json!({
        "title": "<script>alert(1)</script>",
        "text": "\"><img src=x onerror=alert(1)> disk\n@room https://matrix.to/#/@a:b",
        "html": "<b onclick=x>b</b><iframe></iframe><a href=\"https://matrix.to/#/@a:b\">pill</a>",
        "tags": ["<svg>", "&lt;b&gt;"],
        "body": { "n": 1.5, "list": [1, null, "<i>"] },
    });
    Notice::new(values, Severity::Info)
}

/// The same, as something that goes on.
fn incident() -> Notice {
    let alert = Alert { fingerprint: "a".into(), firing: true, severity: Severity::Warning, values: notice().values };
    Notice { incident: Some(Incident { alerts: vec![alert], ..Incident::default() }), ..notice() }
}

#[test]
fn templates_of_anybody() {
    sealbridge_fuzz::text_target("templates", |input| {
        let Ok(template) = Template::parse(input) else { return };
        let mut notice = notice();
        let _ = template.prepare(&mut notice);
        let _ = template.prepare(&mut incident());
        let _ = template.check(&notice);
        let words = word(&template, &notice).words;
        assert!(!words.plain.is_empty() && words.plain.len() <= MOST_PLAIN);
        assert_eq!(calm::plain(&words.plain), words.plain, "somebody is called");
        let Some(html) = words.html else { return };
        assert!(html.len() <= MOST_HTML);
        assert_eq!(sealbridge_contract::html::harmless(&html).as_deref(), Some(html.as_str()));
        assert!(!html.contains("matrix.to/#/@a:b\""), "somebody is shown as called");
    });
}
