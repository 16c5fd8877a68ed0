//! How a delivery stands, for whoever has its name.

use http::{HeaderValue, Response, StatusCode, header};
use sealbridge_contract::{RemoteId, Timestamp};

use super::{
    Intake, Notice, Standing,
    answers::Outcome,
    dialects::{self, Refused},
    intake::of_not_taken,
    source::Source,
    together::is_together,
};
use crate::store::REPLACED;

/// Why a change is refused.
const NO_MESSAGE: &str = "no message of this name was said, or it is too long ago";

impl Intake {
    /// How a delivery stands.
    pub(super) async fn look_up(&self, id: &str) -> Response<Vec<u8>> {
        for source in self.sources.values() {
            match self.desk.standing(source.author.origin(), &RemoteId::new(id)).await {
                Ok(Some(standing)) => return told(id, &standing),
                Ok(None) if is_together(id) => match source.turn(&self.desk).await.map(|turn| turn.due_of(id)) {
                    Ok(Some(due)) => return waits(id, due),
                    Ok(None) => {}
                    Err(_) => return not_now(),
                },
                Ok(None) => {}
                Err(_) => return not_now(),
            }
        }
        match self.waits_without_source(id).await {
            Ok(true) => json(
                StatusCode::OK,
                &serde_json::json!({
                    "id": id, "status": "queued", "event_ids": [],
                    "why": ["it is gathered with others of a source that the config has no more, and waits until it has"],
                }),
            ),
            Ok(false) => {
                json(StatusCode::NOT_FOUND, &serde_json::json!({ "error": "nothing is known of such a delivery" }))
            }
            Err(_) => not_now(),
        }
    }

    /// What is answered to the change of a message that was never said, or that is not known any more.
    pub(super) async fn changes_nothing(&self, source: &Source, notices: &[Notice]) -> Option<Outcome> {
        // One that was said together with others has no message of its own, and the change has.
        let changed = notices.iter().filter_map(|notice| notice.instead_of.as_deref()).filter(|id| !is_together(id));
        for id in changed {
            match self.desk.standing(source.author.origin(), &RemoteId::new(id)).await {
                Ok(Some(_)) => {}
                Ok(None) => return Some(Outcome::Refused(Refused::NotHere(NO_MESSAGE))),
                Err(why) => return Some(of_not_taken(why)),
            }
        }
        None
    }
}

/// How a delivery stands, without naming a conversation: whoever has its name may ask.
fn told(id: &str, standing: &Standing) -> Response<Vec<u8>> {
    let is_replaced = standing.waits.values().all(|why| why == REPLACED);
    let state = match () {
        // What it said is said by that, which has another name.
        () if !standing.waits.is_empty() && is_replaced => "replaced",
        () if !standing.waits.is_empty() => "queued",
        () if !standing.arrived.is_empty() && !standing.refused.is_empty() => "partly arrived",
        () if !standing.arrived.is_empty() => "arrived",
        () => "refused",
    };
    let whys: Vec<_> = standing.waits.values().chain(standing.refused.values()).collect();
    let events: Vec<_> = standing.arrived.values().collect();
    json(StatusCode::OK, &serde_json::json!({ "id": id, "status": state, "event_ids": events, "why": whys }))
}

/// What is gathered with others.
fn waits(id: &str, due: Timestamp) -> Response<Vec<u8>> {
    let due = dialects::moment::shown(due.0).unwrap_or_default();
    let why = [format!("it is gathered with others, and said at {due}")];
    json(StatusCode::OK, &serde_json::json!({ "id": id, "status": "queued", "event_ids": [], "why": why }))
}

fn not_now() -> Response<Vec<u8>> {
    json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "error": "not now" }))
}

/// That a path is nobody's.
pub(super) fn no_such_source() -> Response<Vec<u8>> {
    json(StatusCode::NOT_FOUND, &serde_json::json!({ "error": "there is no such source" }))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Vec<u8>> {
    let mut response = Response::new(value.to_string().into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_that_a_newer_one_replaced_does_not_wait_for_ever() {
        let waits = |whys: &[(&str, &str)]| {
            let waits = whys.iter().map(|(at, why)| ((*at).to_owned(), (*why).to_owned())).collect();
            let told = told("id", &Standing { waits, ..Standing::default() });
            serde_json::from_slice::<serde_json::Value>(told.body()).expect("it is JSON")["status"].clone()
        };
        assert_eq!(waits(&[("a", REPLACED)]), "replaced");
        assert_eq!(waits(&[("a", REPLACED), ("b", "its network is away")]), "queued");
    }
}
