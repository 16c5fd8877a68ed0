//! The transport on a real mail server, with people who have Delta Chat itself.

mod behind;
mod bridge;
mod conformance;
mod harness;
mod hostile;
mod keeping;
mod kills;
mod leftovers;
mod login;
mod openpgp;
mod ordered;
mod passed;
mod readers;
mod secrecy;
mod speech;
mod talk;
mod told;
mod trouble;
