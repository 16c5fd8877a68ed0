//! A homeserver's front that misbehaves on request, path by path.

use sealbridge_lab::proxy::{self, Rule};

use crate::server::{Outcome, Server};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Takes the request and never answers.
    Hang,
    /// Refuses with 503 and does not pass the request on.
    Unavailable,
    /// Passes the request on and drops the answer.
    LoseAnswer,
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    front: sealbridge_lab::Proxy,
}

impl Proxy {
    pub(crate) async fn before(server: &Server) -> Outcome<Self> {
        let front = sealbridge_lab::Proxy::before(&server.url).await?;
        Ok(Self { url: front.url().to_owned(), front })
    }

    /// From now on requests whose path holds `path` meet this fault.
    pub(crate) fn fail(&self, path: &'static str, fault: Fault) {
        let fault = match fault {
            Fault::Hang => proxy::Fault::Hang,
            Fault::Unavailable => proxy::Fault::Fail(503),
            Fault::LoseAnswer => proxy::Fault::DropAfter,
        };
        self.front.clear();
        self.front.add(Rule::new("*", path, fault).expect("the path is a valid pattern"));
    }

    pub(crate) fn heal(&self) {
        self.front.clear();
    }
}
