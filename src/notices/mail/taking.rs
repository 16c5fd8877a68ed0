//! What mail is for whom, and who may mail.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, header};
use sealbridge_contract::Timestamp;
use zeroize::Zeroizing;

use super::Sources;
use crate::notices::{
    Dialect, Intake, NotTaken, Posted, SourceName, answers::Outcome, intake::of_not_taken, source::Source,
};

impl Sources for Intake {
    fn named(&self, name: &str) -> Option<(&SourceName, bool)> {
        let name = SourceName::parse(name).ok()?;
        let (name, source) = self.sources.get_key_value(&name)?;
        (source.dialect == Dialect::Mail).then(|| (name, source.has_secret()))
    }

    fn proven(&self, user: &[u8], password: &[u8]) -> Vec<SourceName> {
        // As `Authorization: Basic` has it, so that there is one way in which a secret is looked at.
        let shown = Zeroizing::new(STANDARD.encode([user, b":", password].concat()));
        let Ok(shown) = HeaderValue::from_str(&format!("Basic {}", *shown)) else { return Vec::new() };
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, shown)]);
        let posted = as_posted(&headers, b"", self.clock().now());
        let mails = self.sources.iter().filter(|(_, source)| source.dialect == Dialect::Mail && source.has_secret());
        let proven = |source: &Source| source.prove(IpAddr::from([127, 0, 0, 1]), &posted).is_ok();
        mails.filter(|(_, source)| proven(source)).map(|(name, _)| name.clone()).collect()
    }

    async fn mailed(&self, to: &[SourceName], mail: &[u8]) -> Vec<Outcome> {
        let headers = HeaderMap::new();
        let all: Vec<_> = to.iter().filter_map(|name| self.sources.get(name).map(|source| (name, source))).collect();
        // Nobody gets it while somebody can't, since whoever mails it mails it to all of them again.
        for (_, source) in &all {
            if let Err(why @ NotTaken::NotNow(_)) = self.desk.may_be_taken(source.author.origin()) {
                return vec![of_not_taken(why); all.len()];
            }
        }
        let mut outcomes = Vec::new();
        for (name, source) in all {
            let outcome = self.take(source, &as_posted(&headers, mail, self.clock().now()), (None, None), false).await;
            self.count(name, source, &outcome);
            outcomes.push(outcome);
        }
        outcomes
    }
}

/// A mail as if it were posted.
fn as_posted<'a>(headers: &'a HeaderMap, mail: &'a [u8], at: Timestamp) -> Posted<'a> {
    Posted { method: &Method::POST, path: "", query: None, headers, body: mail, at }
}
