//! Sealbridge: joins end-to-end encrypted conversations across networks.

pub mod config;
pub mod flow;
pub mod operator;
pub mod store;
pub mod transports;
