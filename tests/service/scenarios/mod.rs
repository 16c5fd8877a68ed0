//! The catalogue of `docs/encryption-scenarios.md`, tried with the running service: between its process and people with
//! mautrix-python.

mod devices;
mod faults;
mod federated;
mod membership;
mod process;
mod rotation;
mod running_out;
mod stand;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
