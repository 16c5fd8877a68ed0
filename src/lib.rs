//! Sealbridge: joins end-to-end encrypted conversations across networks.
//!
//! In reading order: the journey, the journal, the config, what the operator sees, the list of networks, and the
//! service that puts them together.

pub mod backup;
pub mod config;
pub mod confine;
pub mod flow;
pub mod metrics;
pub mod notices;
pub mod operator;
pub mod service;
pub mod spool;
pub mod store;
#[cfg(feature = "failpoints")]
pub mod testing;
pub mod transports;
