//! The journey of a message, one step a file.
//!
//! ```text
//! transport → desk (accept, durable) ─▶ journal ─▶ route + gate (in the same commit) ─▶ outbox
//!                                                                                         │
//! transport ◀── attempt (gate again, deliver) ◀──────────── dispatch (one lane a conversation)
//!      └──▶ receipt → settle, postpone, hold or bury ─▶ journal
//! ```
//! A step that decides does no I/O; a step that does I/O decides nothing. Nothing is acknowledged to a network before
//! it is committed, and nothing is erased before it is confirmed.

pub mod attempt;
pub mod audience;
pub mod breaker;
pub mod commands;
pub mod cooldown;
pub mod desk;
pub mod dispatch;
pub mod fullness;
pub mod namesakes;
mod newcomers;
pub mod obituaries;
pub mod outcomes;
mod rest;
pub mod route;
pub mod signals;
pub mod table;
mod telling;
pub mod upkeep;

pub use attempt::Outcome;
pub use desk::Desk;
pub use dispatch::{Dispatch, LaneState};
pub use outcomes::Outcomes;
pub use route::JourneyRouter;
pub use table::{Table, TableHandle};
pub use upkeep::Upkeep;

/// Every named place of the journey where the recovery suite kills the process.
pub const FAILPOINTS: &[&str] = &[
    "journal::before-commit",
    "journal::after-commit",
    "flow::before-deliver",
    "flow::after-deliver",
    "flow::after-settle",
];
