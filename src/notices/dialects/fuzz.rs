//! Whole requests, of any sender, in every dialect.

use std::sync::LazyLock;

use super::{MOST_ATTACHMENTS, MOST_NOTICES};
use crate::notices::{
    Dialect,
    fixture::Request,
    wording::{self, MOST_HTML, MOST_PLAIN, Template},
};

static TEMPLATES: LazyLock<Vec<(Dialect, Template)>> =
    LazyLock::new(|| Dialect::ALL.iter().map(|(dialect, _)| (*dialect, Template::of(*dialect))).collect());

#[test]
fn requests_of_every_dialect() {
    sealbridge_fuzz::target("notices", |input| {
        let Some(request) = Request::parse(input) else { return };
        for (dialect, template) in TEMPLATES.iter() {
            let Ok(notices) = request.read(*dialect) else { continue };
            assert!(notices.len() <= MOST_NOTICES);
            for notice in &notices {
                assert!(notice.attachments.len() <= MOST_ATTACHMENTS);
                assert!(notice.id.as_deref().is_none_or(|id| id.bytes().all(|byte| byte.is_ascii_graphic())));
                let worded = wording::word(template, notice);
                assert_eq!(worded.trouble, None, "our own template fails");
                let words = worded.words;
                assert!(!words.plain.is_empty() && words.plain.len() <= MOST_PLAIN);
                assert!(words.html.as_ref().is_none_or(|html| html.len() <= MOST_HTML));
                let Some(html) = words.html else { continue };
                let again = sealbridge_contract::html::harmless(&html);
                assert_eq!(again.as_deref(), Some(html.as_str()), "something is left that is not harmless");
            }
        }
    });
}
