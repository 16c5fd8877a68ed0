//! Sealbridge: joins end-to-end encrypted conversations across networks.

pub mod store;
