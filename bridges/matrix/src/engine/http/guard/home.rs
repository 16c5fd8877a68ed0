//! Where requests go, and as whom: the one homeserver, under its own address, and the one account.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use ruma::{OwnedUserId, UserId};
use url::Url;

use super::{rules::Judged, stop::Stop};

/// The longest access token: a homeserver chooses it.
const LONGEST_TOKEN: usize = 4_096;

/// Whom the guard lets requests go to.
#[derive(Debug)]
pub(super) struct Home {
    scheme: String,
    authority: String,
    /// What stands before `/_matrix` in every address of it; empty, or a path without a slash at its end.
    base: String,
    account: OnceLock<OwnedUserId>,
}

impl Home {
    pub(super) fn new(homeserver: &Url) -> Self {
        Self {
            scheme: homeserver.scheme().to_owned(),
            authority: homeserver.authority().to_owned(),
            base: homeserver.path().trim_end_matches('/').to_owned(),
            account: OnceLock::new(),
        }
    }

    /// Says whose account it is. Until then nothing that names it passes.
    pub(super) fn is_of(&self, account: &UserId) {
        // The first stays: a client is one account's.
        let _ = self.account.set(account.to_owned());
    }

    pub(super) fn is_ours(&self, user: &str) -> bool {
        self.account.get().is_some_and(|account| account == user)
    }

    /// What an address asks of this homeserver, from the first slash of its own on.
    pub(super) fn asked<'a>(&self, uri: &'a Uri) -> Judged<&'a str> {
        let authority = uri.authority().map(|authority| authority.as_str());
        self.under(uri.scheme_str(), authority, uri.path())
    }

    /// The same of the address of an upload.
    pub(super) fn asked_of<'a>(&self, url: &'a Url) -> Judged<&'a str> {
        self.under(Some(url.scheme()), Some(url.authority()), url.path())
    }

    fn under<'a>(&self, scheme: Option<&str>, authority: Option<&str>, path: &'a str) -> Judged<&'a str> {
        let is_here = scheme == Some(&self.scheme) && authority == Some(&self.authority);
        let asked = path.strip_prefix(self.base.as_str()).filter(|asked| asked.starts_with('/'));
        asked.filter(|_| is_here).ok_or(Stop::UnknownRequest)
    }
}

/// The parts of a path after `/_matrix`. Decoded, so that nothing hides behind an escape.
pub(super) fn parts(asked: &str) -> Judged<Vec<String>> {
    let parts = asked.strip_prefix("/_matrix/").ok_or(Stop::UnknownRequest)?.split('/');
    let decoded = parts.map(|part| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
        decoded.map(|part| part.into_owned()).map_err(|_| Stop::UnknownRequest)
    });
    let parts: Vec<String> = decoded.collect::<Judged<_>>()?;
    let known: Vec<&str> = parts.iter().map(String::as_str).collect();
    if is_of_a_known_version(&known) { Ok(parts) } else { Err(Stop::UnknownRequest) }
}

/// The versions at which the bridge asks, and what it asks only homeservers that have no newer one.
fn is_of_a_known_version(parts: &[&str]) -> bool {
    matches!(
        parts,
        ["client", "versions"]
            | ["client", "v3" | "r0", ..]
            | ["client", "v1", "media", ..]
            | ["client", "unstable", "room_keys" | "keys", ..]
            | ["client", "unstable", "org.matrix.msc2918", "refresh"]
            | ["client", "unstable", "org.matrix.msc3916", "media", "config"]
            | ["media", "v3", ..]
            | ["media", "v1", "create"]
            | ["media", "unstable", "fi.mau.msc2246", "create"]
    )
}

/// Judges the headers that stand beside a body: of those that our clients set, each in its form.
pub(super) fn headers(headers: &HeaderMap) -> Judged {
    let is_fine = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().unwrap_or_default();
        match *name {
            header::AUTHORIZATION => value.strip_prefix("Bearer ").is_some_and(is_token),
            header::CONTENT_TYPE => ["application/json", "application/octet-stream"].contains(&value),
            header::CONTENT_LENGTH => value.parse::<u64>().is_ok(),
            _ => false,
        }
    };
    let once = headers.keys().all(|name| headers.get_all(name).iter().count() == 1);
    if once && headers.iter().all(is_fine) { Ok(()) } else { Err(Stop::Header) }
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= LONGEST_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic())
}
