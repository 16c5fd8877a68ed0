//! Silences in Alertmanager, by its own API (version 2): the one thing that goes from a room to a program.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

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

/// Alerts of so many names are silenced at once.
const MOST_NAMES: usize = 20;
/// So many values of a label are named; of more, the label is left out.
const MOST_VALUES: usize = 50;
/// So long is a value shown.
const SHOWN: usize = 80;

/// What one silence is of: the labels that all of its alerts have, each with the values that it has among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matchers(BTreeMap<String, BTreeSet<String>>);

/// Why there is nothing to silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMatchers {
    /// Nothing goes on.
    NothingGoesOn,
    /// So much goes on that not all of it is known by its labels any more.
    TooMuch,
}

/// What is to be silenced so that these alerts are, and as little else as can be said: those of each name by themselves.
///
/// # Errors
/// [`NoMatchers`].
pub fn matchers(alerts: &[Alert]) -> Result<Vec<Matchers>, NoMatchers> {
    let mut names: BTreeMap<String, Vec<BTreeMap<String, String>>> = BTreeMap::new();
    for alert in alerts.iter().filter(|alert| alert.firing) {
        let labels = alert.values.get("labels").and_then(Value::as_object);
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let labels: BTreeMap<_, _> = labels.into_iter().flatten().filter_map(text).collect();
        // A silence without a label would be one of everything.
        if labels.is_empty() {
            return Err(NoMatchers::TooMuch);
        }
        names.entry(labels.get("alertname").cloned().unwrap_or_default()).or_default().push(labels);
    }
    match names.len() {
        0 => return Err(NoMatchers::NothingGoesOn),
        1..=MOST_NAMES => {}
        _ => return Err(NoMatchers::TooMuch),
    }
    let one = |alerts: Vec<BTreeMap<String, String>>| {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in alerts.iter().flatten() {
            all.entry(key.clone()).or_default().insert(value.clone());
        }
        all.retain(|key, values| values.len() <= MOST_VALUES && alerts.iter().all(|labels| labels.contains_key(key)));
        Matchers(all)
    };
    let all: Vec<_> = names.into_values().map(one).collect();
    if all.iter().any(|matchers| matchers.0.is_empty()) { Err(NoMatchers::TooMuch) } else { Ok(all) }
}

impl Matchers {
    /// In words, for whoever asked for the silence.
    #[must_use]
    pub fn words(&self) -> String {
        let short = |value: &String| {
            let cut: String = value.chars().take(SHOWN).collect();
            if cut.len() < value.len() { format!("{cut}…") } else { cut }
        };
        let label = |(key, values): (&String, &BTreeSet<String>)| {
            format!("{}={}", short(key), values.iter().map(short).collect::<Vec<_>>().join(" or "))
        };
        self.0.iter().map(label).collect::<Vec<_>>().join(", ")
    }

    fn to_json(&self) -> Value {
        let matcher = |(name, values): (&String, &BTreeSet<String>)| {
            let is_one = values.len() == 1;
            let value = match values.first().filter(|_| is_one) {
                Some(value) => value.clone(),
                None => values.iter().map(|value| literally(value)).collect::<Vec<_>>().join("|"),
            };
            json!({ "name": name, "value": value, "isRegex": !is_one, "isEqual": true })
        };
        self.0.iter().map(matcher).collect()
    }
}

/// A regular expression (RE2, anchored by Alertmanager) that matches this alone.
fn literally(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        if r"\.+*?()|[]{}^$".contains(c) {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

/// Silences what these match. Follows no redirection, and speaks to nobody else.
///
/// # Errors
/// In words for whoever asked; never with a label in them.
pub async fn silence(
    api: &Url,
    matchers: &Matchers,
    (from, until): (Timestamp, Timestamp),
    by: &str,
) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(|_| "requests can't be made here".to_owned())?;
    let body = json!({
        "matchers": matchers.to_json(),
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

    fn alert(firing: bool, labels: Value) -> Alert {
        let values = json!({ "labels": labels });
        Alert { fingerprint: String::new(), firing, severity: Severity::Info, values }
    }

    #[test]
    fn silence_is_of_what_goes_on_and_says_so() {
        let alerts = [
            alert(true, json!({ "alertname": "Disk", "instance": "db.1", "job": "node", "disk": "sda" })),
            alert(true, json!({ "alertname": "Disk", "instance": "db|2", "job": "node" })),
            alert(true, json!({ "alertname": "Web", "severity": "critical" })),
            alert(false, json!({ "alertname": "Other" })),
        ];
        let all = matchers(&alerts).expect("something goes on");
        let words: Vec<_> = all.iter().map(Matchers::words).collect();
        assert_eq!(words, ["alertname=Disk, instance=db.1 or db|2, job=node", "alertname=Web, severity=critical"]);
        let is = |name: &str, value: &str, is_regex: bool| json!({ "name": name, "value": value, "isRegex": is_regex, "isEqual": true });
        let disk =
            json!([is("alertname", "Disk", false), is("instance", r"db\.1|db\|2", true), is("job", "node", false)]);
        assert_eq!(all[0].to_json(), disk);
    }

    #[test]
    fn what_is_not_known_by_its_labels_is_not_silenced_with_everything_else() {
        assert_eq!(matchers(&[alert(false, json!({ "alertname": "Other" }))]), Err(NoMatchers::NothingGoesOn));
        let known = || alert(true, json!({ "alertname": "Disk" }));
        let brief = Alert { values: json!({ "name": "Disk" }), ..known() };
        assert_eq!(matchers(&[known(), brief]), Err(NoMatchers::TooMuch));
        let nothing_in_common = [alert(true, json!({ "a": "1" })), alert(true, json!({ "b": "1" }))];
        assert_eq!(matchers(&nothing_in_common), Err(NoMatchers::TooMuch));
        let name = |number: usize| alert(true, json!({ "alertname": format!("A{number}") }));
        assert_eq!(matchers(&(0..=MOST_NAMES).map(name).collect::<Vec<_>>()), Err(NoMatchers::TooMuch));
        let instance = |number: usize| alert(true, json!({ "alertname": "Disk", "instance": number.to_string() }));
        let many = matchers(&(0..=MOST_VALUES).map(instance).collect::<Vec<_>>()).expect("of one name");
        assert_eq!(many.iter().map(Matchers::words).collect::<Vec<_>>(), ["alertname=Disk"]);
    }
}
