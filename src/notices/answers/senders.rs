//! The real senders, and what they make of our answers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::request::Parts, response::Response};
use sealbridge_contract::Timestamp;
use sealbridge_lab::{senders::Senders, skip::skip};

use super::{Event, Outcome, answer};
use crate::notices::{Dialect, Posted, dialects, fixture};

/// What the server says to all that it can read.
type Says = Arc<Mutex<Outcome>>;

/// Reads a request to `/NAME/…` as in the dialect of the sender of this name, and answers it.
async fn hear(State(says): State<Says>, head: Parts, body: Bytes) -> Response {
    let path = head.uri.path();
    let inner = path.trim_start_matches('/');
    let (name, rest) = inner.find('/').map_or((inner, ""), |at| inner.split_at(at));
    // Those of ntfy that allow no path for their server come without a name.
    let (dialect, path) = fixture::spoken(name).map_or((Dialect::Ntfy, path), |dialect| (dialect, rest));
    let posted = Posted {
        method: &head.method,
        path,
        query: head.uri.query(),
        headers: &head.headers,
        body: &body,
        at: Timestamp(1_795_997_280_000),
    };
    let outcome = match dialects::read(dialect, &posted) {
        Ok(_) => says.lock().expect("nobody fails while they hold it").clone(),
        Err(refused) => Outcome::Refused(refused),
    };
    answer(dialect, &posted, &outcome).map(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_senders_take_our_answers_for_what_they_are() {
    let senders = match tokio::task::spawn_blocking(Senders::ready).await.expect("it ends") {
        Ok(senders) => senders,
        Err(error) => return skip(&format!("there are no senders: {error:#}")),
    };
    let taken = Outcome::Arrived {
        id: "d-1".to_owned(),
        events: vec![Event { id: "$e".to_owned(), encrypted: true }],
        refused: vec![],
    };
    let says: Says = Arc::new(Mutex::new(taken.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let app = Router::new().fallback(hear).with_state(says.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let not_now = Outcome::NotNow { retry_after: Duration::from_secs(1), why: "the journal is full".to_owned() };
    for (outcome, is_taken) in [(taken, true), (Outcome::Queued { id: "d-2".to_owned() }, true), (not_now, false)] {
        *says.lock().expect("nobody fails while they hold it") = outcome.clone();
        let (senders, url) = (senders.clone(), url.clone());
        let each = tokio::task::spawn_blocking(move || senders.each(&url)).await.expect("it ends");
        let each = each.expect("each of them sends");
        assert!(each.len() >= 30, "{} senders", each.len());
        let wrong: Vec<_> = each.iter().filter(|(_, took)| *took != is_taken).map(|(name, _)| name).collect();
        assert!(wrong.is_empty(), "{outcome:?} is misunderstood by {wrong:?}");
    }
    server.abort();
}
