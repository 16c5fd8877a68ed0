//! Real homeservers, people and faults on loopback, for demonstrations and tests.
//!
//! Everything started here dies with the process that started it, however that process ends, and
//! leaves no file behind outside the build directory.

pub mod alerts;
pub mod bridge;
pub mod backlog;
pub mod canaries;
pub mod chaos;
pub mod checker;
pub mod debian;
pub mod delta;
pub mod demo;
pub mod faketime;
pub mod family;
mod fresh;
pub mod http;
mod install;
pub mod keyring;
pub mod leash;
pub mod mail;
pub mod node;
pub mod outage;
pub mod paths;
pub mod person;
pub mod processes;
pub mod proxy;
pub mod receiver;
pub mod search;
pub mod senders;
pub mod servers;
pub mod skip;
pub mod small_disk;
pub mod synapse;
pub mod talk;
pub mod venv;

pub use delta::DeltaPerson;
pub use mail::MailServer;
pub use person::Person;
pub use proxy::Proxy;

pub use servers::Lab;
pub use synapse::Synapse;
