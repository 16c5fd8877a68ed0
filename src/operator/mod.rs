//! What the operator sees and does: one closed list of actions, and the surfaces that parse into it.
//!
//! A surface decides nothing. Permission, audit and the words of an answer are made here, once for all of them.

pub mod actions;
pub mod admin;
mod audit;
pub mod chat;
pub mod cli;
pub mod control;
mod ending;
mod failure;
pub mod host;
pub mod logging;
mod output;
mod plain;

pub use actions::{Action, Actor, Outcome, Performance, Place, Progress, perform};
pub use failure::{Failure, FailureKind};
pub use host::{Account, Assembled, Host, Open};

/// The named place here where a test kills the process: a change is made, and that it is has not been written down.
pub const FAILPOINTS: &[&str] = &["audit::before-end"];
