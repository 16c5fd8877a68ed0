//! The sections of the config, a file each.

mod admin;
mod journal;
mod links;
mod listeners;
mod log;
mod notices;
mod operator;
mod service;

pub use admin::Admin;
pub use journal::Journal;
pub use links::{FixedLink, parse_address};
pub use listeners::Listener;
pub use log::{Format, Level, Log};
pub use notices::{Acknowledging, Conversation, Notices, Source};
pub use operator::{Commander, Operator};
pub use service::Service;
