//! Who is called by what a source says, by the operator's word: words of a sender call nobody. Pure.

use sealbridge_contract::{Body, PersonId, html::escape, message::Mention};

use super::Severity;
use crate::config;

/// Who is called, and by what.
#[derive(Debug)]
pub(super) struct Calls {
    whom: Vec<String>,
    from: Severity,
}

impl Calls {
    /// As the config says of a source.
    pub(super) fn of(section: &config::Source) -> Self {
        Self { whom: section.mention.clone(), from: section.mention_from }
    }

    /// The same words, with those below them who are called if it matters so much.
    pub(super) fn call(&self, severity: Severity, body: Body) -> Body {
        if self.are_made_by(severity) { call(&self.whom, body) } else { body }
    }

    /// Whether anybody is called by what matters so much.
    pub(super) fn are_made_by(&self, severity: Severity) -> bool {
        severity >= self.from && !self.whom.is_empty()
    }
}

/// The same words, with these below them, who are called. Clients show the formatted form as people.
pub(super) fn call(whom: &[String], mut body: Body) -> Body {
    if whom.is_empty() {
        return body;
    }
    let mut plain = format!("{}\n", body.plain.as_str());
    let mut shown = Vec::new();
    for (number, name) in whom.iter().enumerate() {
        if number > 0 {
            plain.push(' ');
        }
        let start = plain.len();
        plain.push_str(name);
        let mention = Mention { person: PersonId::new(name), at: Some(start..plain.len()) };
        let name = escape(name);
        let link = format!("<a href=\"https://matrix.to/#/{name}\">{name}</a>");
        shown.push(if mention.is_everybody() { name } else { link });
        body.mentions.push(mention);
    }
    let before = body.html.map_or_else(|| escape(body.plain.as_str()), |html| html.as_str().to_owned());
    body.html = Some(format!("{before}<p>{}</p>", shown.join(" ")).into());
    body.plain = plain.into();
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(whom: &[&str]) -> Calls {
        Calls { whom: whom.iter().map(|name| (*name).to_owned()).collect(), from: Severity::Warning }
    }

    #[test]
    fn those_whom_the_operator_named_are_called_by_what_matters_and_by_nothing_else() {
        let calls = calls(&["@ann:example.org", "@room"]);
        for severity in [Severity::Low, Severity::Info] {
            let body = calls.call(severity, Body::plain("a <b> @ben:example.org"));
            assert!(body.mentions.is_empty() && body.plain.as_str() == "a <b> @ben:example.org" && body.html.is_none());
        }
        for severity in [Severity::Warning, Severity::Critical] {
            let body = calls.call(severity, Body::plain("a <b>"));
            let called: Vec<_> = body.mentions.iter().map(|one| (one.person.as_str(), body.stretch(one))).collect();
            assert_eq!(called, [("@ann:example.org", Some("@ann:example.org")), ("@room", Some("@room"))]);
            assert_eq!(body.plain.as_str(), "a <b>\n@ann:example.org @room");
            let html = "a &lt;b&gt;<p><a href=\"https://matrix.to/#/@ann:example.org\">@ann:example.org</a> @room</p>";
            assert_eq!(body.html.as_ref().map(|html| html.as_str()), Some(html));
            assert_eq!(sealbridge_contract::html::harmless(html).as_deref(), Some(html), "it is shown as it is");
        }
    }

    #[test]
    fn where_nobody_is_named_nobody_is_called() {
        let body = calls(&[]).call(Severity::Critical, Body { html: Some("<b>a</b>".into()), ..Body::plain("a") });
        assert!(body.mentions.is_empty() && body.plain.as_str() == "a");
    }
}
