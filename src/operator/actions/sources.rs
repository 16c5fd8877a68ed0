//! What is done with sources: an alert that somebody replies to is silenced where it comes from, and a source is tried.

use std::time::Duration;

use sealbridge_contract::{Address, RemoteId};

use super::Outcome;
use crate::{
    config::Period,
    notices::{NotTaken, Origin, Silenced, SourceName},
    operator::{Failure, FailureKind, Host, plain::field},
};

/// So much is shown of what was silenced, in characters.
const MOST_SHOWN: usize = 2_000;

/// Silences the alert that a message of a conversation is about.
pub(super) async fn silence(
    host: &dyn Host,
    at: &Address,
    message: &RemoteId,
    long: Duration,
    by: &str,
) -> Result<Outcome, Failure> {
    let intake = host.sources().ok_or_else(|| Failure::refused("no source is heard here"))?;
    for (name, origin) in here(host, at) {
        let Some(about) = host.journal().called(at, message, origin.address()).await? else { continue };
        return match intake.silence(name, &about, long, by).await {
            Ok(Silenced::Yes(of)) => {
                // On one line, since before others no more is said than that.
                let of = of.join("; ");
                let shown: String = of.chars().take(MOST_SHOWN).collect();
                let more = if shown.len() < of.len() { "…" } else { "" };
                let words = format!("Silenced for {}: {}{more}", Period(long), field(&shown));
                let line = serde_json::json!({ "silenced": true, "source": name, "for_ms": long.as_millis() });
                Ok(Outcome::new(words, vec![line]))
            }
            Ok(Silenced::NoApi) => {
                let words = format!("no Alertmanager is named for this source: set `api` in [sources.{name}]");
                Err(Failure::refused(words))
            }
            Ok(Silenced::TooMuch) => Err(Failure::refused(
                "more goes on there than can be silenced from here without silencing other things too: silence it in \
                 Alertmanager",
            )),
            Ok(Silenced::NoAlert) => Err(Failure::usage("nothing goes on there that could be silenced")),
            Ok(Silenced::Refused(why)) => Err(Failure::new(FailureKind::Unreachable, why)),
            Err(why) => Err(Failure::new(FailureKind::Temporary, why.to_string())),
        };
    }
    Err(Failure::usage("that message is no alert; say it as a reply to one"))
}

/// Somebody looks after the alert that a message of a conversation is about.
pub(super) async fn acknowledge(
    host: &dyn Host,
    at: &Address,
    message: &RemoteId,
    by: &str,
) -> Result<Outcome, Failure> {
    let intake = host.sources().ok_or_else(|| Failure::refused("no source is heard here"))?;
    for (name, origin) in here(host, at) {
        let Some(about) = host.journal().called(at, message, origin.address()).await? else { continue };
        return match intake.acknowledge(name, &about, by).await {
            Ok(true) => {
                let line = serde_json::json!({ "acknowledged": true, "source": name });
                Ok(Outcome::new("You look after it.".to_owned(), vec![line]))
            }
            Ok(false) => Err(Failure::usage("nothing goes on there")),
            Err(why) => Err(Failure::new(FailureKind::Temporary, why.to_string())),
        };
    }
    Err(Failure::usage("that message is no alert; say it as a reply to one"))
}

/// The sources that speak in a conversation, and from where what they say there comes.
fn here<'a>(host: &'a dyn Host, at: &'a Address) -> impl Iterator<Item = (&'a SourceName, Origin)> {
    let speaking = host.config().sources.iter().filter(|(_, source)| source.speaks_in(at));
    speaking.map(|(name, source)| {
        let is_next = source.escalate_to.contains(at);
        (name, if is_next { Origin::next(name, None) } else { Origin::source(name, None) })
    })
}

/// Says a word in a source's conversations, as if it had brought it.
pub(super) async fn test_source(host: &dyn Host, name: &SourceName) -> Result<Outcome, Failure> {
    let intake = host.sources().ok_or_else(|| Failure::refused("no source is heard here"))?;
    let standing = intake.test(name).await.map_err(|why| match why {
        NotTaken::NotNow(why) => Failure::new(FailureKind::Temporary, format!("not said, and nothing was kept: {why}")),
        why => Failure::refused(format!("not said: {why}")),
    })?;
    let Some(standing) = standing else {
        let words = "if it is in the config, start the service anew, which reads that when it starts";
        return Err(Failure::usage(format!("the running service has no source `{name}`: {words}")));
    };
    let line = serde_json::json!({ "source": name, "standing": standing });
    if let Some((at, why)) = standing.refused.iter().next() {
        return Err(Failure::refused(format!("not said in {at}: {why}")));
    }
    if let Some((at, why)) = standing.waits.iter().next() {
        return Err(Failure::new(FailureKind::Kept, format!("it is kept, and waits at {at}: {why}")));
    }
    let places: Vec<_> = standing.arrived.keys().map(String::as_str).collect();
    Ok(Outcome::new(format!("Said in {}.", places.join(", ")), vec![line]))
}
