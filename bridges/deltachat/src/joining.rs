//! Comparing identities: on Delta Chat somebody scans our invitation, and both sides have the other's key for good.

use std::sync::Arc;

use async_trait::async_trait;
use sealbridge_contract::{Answer, Flow, FlowError, Step};
use tokio::sync::broadcast;

use crate::{core::Core, invite};

/// Shows the invitation to ourselves, and waits until somebody has followed one of ours.
pub(crate) struct Joining {
    core: Arc<Core>,
    joined: Option<broadcast::Receiver<u32>>,
}

impl Joining {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, joined: None }
    }
}

#[async_trait]
impl Flow for Joining {
    async fn next(&mut self, _answer: Option<Answer>) -> Result<Step, FlowError> {
        let engine = self.core.engine().map_err(|error| FlowError::Unreachable(error.cause))?;
        let failed = |error: sealbridge_child::CallError| FlowError::Failed(error.to_string());
        let Some(joined) = &mut self.joined else {
            // From here on nobody who joins is missed.
            self.joined = Some(self.core.joined.subscribe());
            let link = engine.invitation(None).await.map_err(failed)?;
            return Ok(Step::Invitation(invite::invitation(invite::OURSELVES, link)));
        };
        let contact = loop {
            match joined.recv().await {
                Ok(contact) => break contact,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(FlowError::Cancelled("the account stopped".to_owned()));
                }
            }
        };
        match self.core.person(&engine, contact).await.map_err(failed)? {
            Some(person) => Ok(Step::Done(format!("Joined: the key {}.", person.as_str()))),
            None => Err(FlowError::Failed("somebody joined, and nobody can tell with which key".to_owned())),
        }
    }
}
