//! The Matrix transport.

pub mod engine;
