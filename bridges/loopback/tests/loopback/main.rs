//! The loopback network, and the conformance kit on it: that it passes, and that it fails where it must.

mod account;
mod broken;
mod catches;
mod conformance;
mod disk;
mod folders;
mod harness;
mod network;
