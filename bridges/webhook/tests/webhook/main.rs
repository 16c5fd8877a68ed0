//! Outgoing webhooks: that both kinds keep the promises of the contract, and that nothing leads them elsewhere.

mod conformance;
mod harness;
mod receiver;
mod way;
