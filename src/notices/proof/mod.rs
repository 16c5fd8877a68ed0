//! Whether a request is from whom a source expects: it shows a secret, or is signed with one.
//!
//! Nothing is compared in a time that tells of the secret, both secrets are tried whatever the first says, and what was
//! wrong is told nowhere. Without a secret nothing is proven.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, Mac as _};
use http::{HeaderName, header::AUTHORIZATION};
use sealbridge_contract::SecretBytes;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::{Dialect, Posted, dialects::ping};

/// A request was proven by nothing. Why is told to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret or the signature is missing or wrong")]
pub struct NotProven;

/// A request that was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// A name that a signature gives this request and no other, so that whoever copied it says nothing new with it. The
    /// caller remembers it for at least [`Rules::window`] and takes the same one once. `None`: it showed a secret, by
    /// which it could have said anything.
    pub once: Option<String>,
}

/// What a source's secrets are.
pub type Secret = SecretBytes;

/// How proofs are read.
#[derive(Clone, Debug)]
pub struct Rules {
    /// A signature with a time is good for so long, and for as long before it, if clocks differ.
    pub window: Duration,
    /// Where Grafana puts its signature. It can be told another place.
    pub signature: HeaderName,
    /// Where Grafana puts the time that it signed, if it was told one. A request without it is not taken then.
    pub timestamp: Option<HeaderName>,
}

impl Default for Rules {
    fn default() -> Self {
        let signature = HeaderName::from_static("x-grafana-alerting-signature");
        Self { window: Duration::from_secs(300), signature, timestamp: None }
    }
}

/// Looks for a proof in a request, by one of at most two secrets.
///
/// # Errors
/// [`NotProven`].
pub fn check(dialect: Dialect, posted: &Posted<'_>, secrets: &[Secret], rules: &Rules) -> Result<Proven, NotProven> {
    // By what was signed and not by how that is written: hexadecimal has capitals, too.
    let signed = |signature: [u8; 32]| Proven { once: Some(digest(&signature)) };
    match dialect {
        Dialect::Github => {
            let given = header(posted, "x-hub-signature-256").ok_or(NotProven)?;
            let hex = given.strip_prefix("sha256=").ok_or(NotProven)?;
            hmac_of(secrets, hex, &[posted.body]).map(signed)
        }
        Dialect::Gitea => match GITEA.iter().find_map(|name| header(posted, name)) {
            Some(hex) => hmac_of(secrets, hex, &[posted.body]).map(signed),
            None => shown(dialect, posted, secrets),
        },
        Dialect::Grafana => match (posted.headers.get(&rules.signature), &rules.timestamp) {
            (Some(_), _) | (_, Some(_)) => grafana(posted, secrets, rules),
            (None, None) => shown(dialect, posted, secrets),
        },
        Dialect::StandardWebhooks => standard(posted, secrets, rules),
        Dialect::Gitlab if posted.headers.contains_key("webhook-signature") => standard(posted, secrets, rules),
        _ => shown(dialect, posted, secrets),
    }
}

/// Where Forgejo, Gitea and Gogs put their signatures.
const GITEA: [&str; 3] = ["x-forgejo-signature", "x-gitea-signature", "x-gogs-signature"];

/// Whether only the body can tell if a request is proven: it has a signature. Otherwise [`check`] needs none of the body.
#[must_use]
pub fn needs_the_body(dialect: Dialect, posted: &Posted<'_>, rules: &Rules) -> bool {
    let has = |name: &&str| posted.headers.contains_key(*name);
    match dialect {
        Dialect::Github => has(&"x-hub-signature-256"),
        Dialect::Gitea => GITEA.iter().any(has),
        Dialect::Grafana => posted.headers.contains_key(&rules.signature),
        Dialect::StandardWebhooks | Dialect::Gitlab => has(&"webhook-signature"),
        _ => false,
    }
}

fn header<'a>(posted: &'a Posted<'_>, name: &str) -> Option<&'a str> {
    posted.headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether one of the secrets is shown, in one of the places where a dialect's senders show it.
fn shown(dialect: Dialect, posted: &Posted<'_>, secrets: &[Secret]) -> Result<Proven, NotProven> {
    let mut found = Choice::from(0);
    for candidate in candidates(dialect, posted) {
        for secret in secrets {
            found |= same(candidate.as_bytes(), secret);
        }
    }
    if found.into() { Ok(Proven { once: None }) } else { Err(NotProven) }
}

/// Everything in a request that may be a secret.
fn candidates(dialect: Dialect, posted: &Posted<'_>) -> Vec<Zeroizing<String>> {
    let mut candidates = Vec::new();
    let mut add = |words: &str| candidates.push(Zeroizing::new(words.to_owned()));
    let query = || url::form_urlencoded::parse(posted.query.unwrap_or_default().as_bytes());
    if let Some(value) = posted.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        authorization(value, &mut add);
    }
    query().filter(|(key, _)| key == "token").for_each(|(_, value)| add(&value));
    match dialect {
        Dialect::Ntfy => {
            // What would stand in the header, in base64.
            for (_, packed) in query().filter(|(key, _)| key == "auth") {
                if let Ok(bytes) = URL_SAFE_NO_PAD.decode(packed.trim_end_matches('=')).map(Zeroizing::new) {
                    std::str::from_utf8(&bytes).into_iter().for_each(|value| authorization(value, &mut add));
                }
            }
        }
        Dialect::Gotify => header(posted, "x-gotify-key").into_iter().for_each(&mut add),
        Dialect::Gitlab => header(posted, "x-gitlab-token").into_iter().for_each(&mut add),
        Dialect::Hookshot | Dialect::Slack | Dialect::Discord | Dialect::Raw | Dialect::UptimeKuma | Dialect::Ping => {
            path_secret(dialect, posted.path).iter().for_each(|secret| add(secret));
        }
        _ => {}
    }
    candidates
}

/// `Bearer SECRET`, or `Basic` with the secret as password, or the whole of `user:password` as the secret.
fn authorization(value: &str, add: &mut impl FnMut(&str)) {
    let Some((scheme, given)) = value.trim().split_once(' ') else { return };
    let given = given.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        add(given);
    } else if scheme.eq_ignore_ascii_case("basic") {
        let unpadded = given.trim_end_matches('=');
        let Some(pair) = STANDARD_NO_PAD.decode(unpadded).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return;
        };
        let pair = Zeroizing::new(pair);
        add(&pair);
        if let Some((_, password)) = pair.split_once(':') {
            add(password);
        }
    }
}

/// The part of a path that is a secret in itself: `/webhook/SECRET`, `/services/T0/B0/SECRET`,
/// `/api/webhooks/1/SECRET/slack`, `/ping/SECRET/fail`, `/SECRET`. Decoded; whoever finds a source by it compares it as here.
#[must_use]
pub fn path_secret(dialect: Dialect, path: &str) -> Option<String> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let parts = match parts.as_slice() {
        [before @ .., "slack" | "github"] if dialect == Dialect::Discord => before,
        [before @ .., "messages", _] if dialect == Dialect::Discord => before,
        [before @ .., _] if dialect == Dialect::Ping && ping::told(path).is_some() => before,
        all => all,
    };
    let key = parts.last()?.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(key.as_bytes()).next().map(|(secret, _)| secret.into_owned())
}

/// Whether these are the same, in a time that tells neither where they differ nor how long the secret is.
fn same(given: &[u8], secret: &Secret) -> Choice {
    let here = !secret.expose().is_empty();
    Sha256::digest(given).ct_eq(&Sha256::digest(secret.expose())) & Choice::from(u8::from(here))
}

fn digest(of: &[u8]) -> String {
    Sha256::digest(of).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A signature that is given in hexadecimal, if it is one of these parts, by one of the secrets.
fn hmac_of(secrets: &[Secret], hex: &str, parts: &[&[u8]]) -> Result<[u8; 32], NotProven> {
    let given = unhex(hex.trim()).ok_or(NotProven)?;
    let found = secrets
        .iter()
        .filter(|secret| !secret.expose().is_empty())
        .fold(Choice::from(0), |found, secret| found | mac(secret.expose(), parts).ct_eq(&given));
    if found.into() { Ok(given) } else { Err(NotProven) }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn unhex(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn grafana(posted: &Posted<'_>, secrets: &[Secret], rules: &Rules) -> Result<Proven, NotProven> {
    let given = posted.headers.get(&rules.signature).and_then(|value| value.to_str().ok()).ok_or(NotProven)?;
    let time = match &rules.timestamp {
        Some(name) => Some(posted.headers.get(name).and_then(|value| value.to_str().ok()).ok_or(NotProven)?),
        None => None,
    };
    let given = match time {
        Some(time) => hmac_of(secrets, given, &[time.as_bytes(), b":", posted.body])?,
        None => hmac_of(secrets, given, &[posted.body])?,
    };
    if let Some(time) = time {
        in_window(time, posted, rules)?;
    }
    Ok(Proven { once: Some(digest(&given)) })
}

/// Whether a time, in seconds since 1970, is near enough to that of the request.
fn in_window(time: &str, posted: &Posted<'_>, rules: &Rules) -> Result<(), NotProven> {
    let seconds: i64 = time.trim().parse().map_err(|_| NotProven)?;
    let away = seconds.checked_mul(1000).map(|then| then.abs_diff(posted.at.0)).ok_or(NotProven)?;
    if u128::from(away) <= rules.window.as_millis() { Ok(()) } else { Err(NotProven) }
}

/// Standard Webhooks: `v1,BASE64` for each key of the sender's, over the id, the time and the body. GitLab's signing tokens
/// are the same.
fn standard(posted: &Posted<'_>, secrets: &[Secret], rules: &Rules) -> Result<Proven, NotProven> {
    let part = |name: &str| header(posted, name).filter(|value| !value.is_empty()).ok_or(NotProven);
    let (id, time, given) = (part("webhook-id")?, part("webhook-timestamp")?, part("webhook-signature")?);
    let mut found = Choice::from(0);
    for secret in secrets {
        let Some(key) = standard_key(secret) else { continue };
        let own = mac(&key, &[id.as_bytes(), b".", time.as_bytes(), b".", posted.body]);
        // A sender that changes its keys signs with each. More than a few is somebody who tries.
        for one in given.split(' ').filter_map(|one| one.strip_prefix("v1,")).take(10) {
            if let Ok(one) = STANDARD.decode(one) {
                found |= one.as_slice().ct_eq(&own);
            }
        }
    }
    if !bool::from(found) {
        return Err(NotProven);
    }
    in_window(time, posted, rules)?;
    // Its time is another when its sender tries again. Another body under the id is another request, to be looked at.
    Ok(Proven { once: Some(digest(&[id.as_bytes(), b".", posted.body].concat())) })
}

/// The key in `whsec_BASE64`; a secret that is written in another way is the key itself.
fn standard_key(secret: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = secret.expose();
    let key = match bytes.strip_prefix(b"whsec_") {
        Some(packed) => STANDARD.decode(packed).ok()?,
        None => bytes.to_vec(),
    };
    (!key.is_empty()).then(|| Zeroizing::new(key))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
