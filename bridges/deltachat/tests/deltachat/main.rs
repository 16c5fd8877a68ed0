//! The transport on a real mail server, with people who have Delta Chat itself.

mod bridge;
mod conformance;
mod harness;
mod kills;
mod login;
mod secrecy;
mod talk;
