//! Silences in Alertmanager, by its own API (version 2): the one thing that goes from a room to a program.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use sealbridge_contract::Timestamp;
use serde_json::{Value, json};
use url::{Host, Url};

use super::Alert;

/// How long Alertmanager may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest silence, so that nothing is silenced for ever by a slip.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads the address of an Alertmanager: over TLS, or on this machine.
///
/// # Errors
/// In words for the operator.
pub fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("an address is written http://127.0.0.1:9093; {error}"))?;
    let here = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" if url.host().is_some() => Ok(url),
        "http" if here => Ok(url),
        "http" => Err("without TLS it must be on this machine: what is silenced is nobody else's business".into()),
        _ => Err("an address begins with https://, or with http:// on this machine".into()),
    }
}

/// The labels that all of these alerts have in common, which is what a silence of them is for.
#[must_use]
pub fn common_labels(alerts: &[Alert]) -> BTreeMap<String, String> {
    let labels = |alert: &Alert| -> BTreeMap<String, String> {
        let labels = alert.values.get("labels").and_then(Value::as_object);
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        labels.into_iter().flatten().filter_map(text).collect()
    };
    let mut firing = alerts.iter().filter(|alert| alert.firing).map(labels);
    let first = firing.next().unwrap_or_default();
    firing.fold(first, |mut common, labels| {
        common.retain(|key, value| labels.get(key) == Some(value));
        common
    })
}

/// Silences what has these labels. Follows no redirection, and speaks to nobody else.
///
/// # Errors
/// In words for whoever asked; never with a label in them.
pub async fn silence(
    api: &Url,
    labels: &BTreeMap<String, String>,
    (from, until): (Timestamp, Timestamp),
    by: &str,
) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(|_| "requests can't be made here".to_owned())?;
    let matcher =
        |(name, value): (&String, &String)| json!({ "name": name, "value": value, "isRegex": false, "isEqual": true });
    let body = json!({
        "matchers": labels.iter().map(matcher).collect::<Vec<_>>(),
        "startsAt": rfc3339(from),
        "endsAt": rfc3339(until),
        "createdBy": by,
        "comment": "Silenced from an encrypted room, by Sealbridge.",
    });
    let place = format!("{}/api/v2/silences", api.as_str().trim_end_matches('/'));
    let request = client.post(place).header("content-type", "application/json").body(body.to_string());
    let answer = request.send().await.map_err(|error| {
        if error.is_timeout() {
            "Alertmanager does not answer".to_owned()
        } else {
            "Alertmanager can't be reached".to_owned()
        }
    })?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("Alertmanager refuses it with the status {}", answer.status()))
    }
}

fn rfc3339(at: Timestamp) -> String {
    mail_parser::DateTime::from_timestamp(at.0.div_euclid(1000)).to_rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notices::Severity;

    #[test]
    fn alertmanager_is_spoken_to_over_tls_or_on_this_machine() {
        for good in ["http://127.0.0.1:9093", "http://[::1]:9093/am", "http://localhost:9093", "https://am.example"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://am.example",
            "http://10.0.0.1:9093",
            "ftp://127.0.0.1",
            "127.0.0.1:9093",
            "",
            "http://localhost.example",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn silence_is_for_what_all_that_goes_on_has_in_common() {
        let alert = |firing, labels: Value| Alert {
            fingerprint: String::new(),
            firing,
            severity: Severity::Info,
            values: json!({ "labels": labels }),
        };
        let alerts = [
            alert(true, json!({ "alertname": "Disk", "instance": "a", "job": "node" })),
            alert(true, json!({ "alertname": "Disk", "instance": "b", "job": "node" })),
            alert(false, json!({ "alertname": "Other" })),
        ];
        let common = common_labels(&alerts);
        assert_eq!(
            common.into_iter().collect::<Vec<_>>(),
            [("alertname".into(), "Disk".into()), ("job".into(), "node".into())]
        );
        assert!(common_labels(&alerts[2..]).is_empty(), "nothing goes on");
    }
}
