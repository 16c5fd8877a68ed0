//! What is kept of incidents that go on, and of which incident a message is.

use sealbridge_contract::{RemoteId, SecretBytes, inbox::StoreWrite};
use serde::{Deserialize, Serialize};

use super::{Known, incidents::LONGEST_BRIEF};

/// Where incidents that go on are kept in the account's own store, and where it is written of which incident a message is.
pub(super) const INCIDENTS: &str = "incident/";
pub(super) const ROOTS: &str = "root/";
/// So much is kept of one, in bytes. Of more, what is told of it next is all that a template of one's own sees.
const MOST_KEPT: usize = 256 * 1024;
/// In so many characters each what its alerts are called is kept then, the first that fit.
const BRIEFER: [usize; 3] = [LONGEST_BRIEF, 20, 0];

/// Of which incident a message is.
#[derive(Serialize, Deserialize)]
struct Root {
    /// Its key in the store.
    incident: String,
}

/// Where it is written of which incident a message is.
pub(super) fn pointer(id: &RemoteId) -> String {
    format!("{ROOTS}{}", id.as_str())
}

/// The key of the incident, by what is written there. `None`: it can't be read.
pub(super) fn of_pointer(kept: &SecretBytes) -> Option<String> {
    serde_json::from_slice::<Root>(kept.expose()).ok().map(|root| root.incident)
}

/// That a message is of an incident.
pub(super) fn points(id: &RemoteId, incident: &str) -> StoreWrite {
    let root = serde_json::to_vec(&Root { incident: incident.to_owned() }).expect("a text");
    StoreWrite::put(pointer(id), SecretBytes::new(root))
}

/// Nothing is kept of an incident any more.
pub(super) fn forget(key: &str, known: &Known) -> Vec<StoreWrite> {
    let pointers = known.messages().map(|id| StoreWrite::delete(pointer(id)));
    pointers.chain([StoreWrite::delete(key)]).collect()
}

/// What is kept of an incident.
pub(super) fn kept(known: &Known) -> SecretBytes {
    let json = |known: &Known| serde_json::to_vec(known).expect("texts, numbers and lists");
    let known = known.to_keep();
    let mut bytes = json(&known);
    if bytes.len() > MOST_KEPT {
        let mut known = known.into_owned();
        for longest in BRIEFER {
            known = known.in_brief(longest);
            bytes = json(&known);
            if bytes.len() <= MOST_KEPT {
                break;
            }
        }
    }
    SecretBytes::new(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Alert, Incident, Severity},
        *,
    };

    #[test]
    fn what_is_kept_of_an_incident_is_bounded_whatever_its_sender_says_of_it() {
        let long = "x".repeat(MOST_KEPT);
        let alert = |number: usize| Alert {
            fingerprint: number.to_string(),
            firing: true,
            severity: Severity::Warning,
            values: json!({ "name": long, "labels": { "a": long } }),
        };
        let incident = Incident { group: "g".into(), alerts: (0..10).map(alert).collect(), ..Incident::default() };
        let (values, root) = (json!({ "title": long, "body": { "all": long } }), RemoteId::new("root"));
        let (_, known) = Known::hear(None, &incident, &values, root, sealbridge_contract::Timestamp(1));
        let bytes = kept(&known);
        assert!(bytes.expose().len() < 16 * 1024, "{}", bytes.expose().len());
        let again: Known = serde_json::from_slice(bytes.expose()).expect("it can be read");
        assert_eq!((again.firing(), again.root), (10, known.root));
        // Nor by many.
        let text = "\u{1}".repeat(200);
        let values = json!({ "name": text, "instance": text, "summary": text, "starts_at": text, "description": text });
        let alert = |number: usize| Alert { fingerprint: number.to_string(), values: values.clone(), ..alert(0) };
        let incident = Incident { group: "g".into(), alerts: (0..2000).map(alert).collect(), ..Incident::default() };
        let (_, known) =
            Known::hear(None, &incident, &json!({}), RemoteId::new("root"), sealbridge_contract::Timestamp(1));
        let bytes = kept(&known);
        assert!(bytes.expose().len() <= MOST_KEPT, "{}", bytes.expose().len());
        let again: Known = serde_json::from_slice(bytes.expose()).expect("it can be read");
        assert_eq!(again.firing(), 2000);
    }
}
