//! Sealbridge: joins end-to-end encrypted conversations across networks.

pub mod flow;
pub mod store;
