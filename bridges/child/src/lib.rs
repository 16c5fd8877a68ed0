//! A network's own engine as a child process: JSON-RPC 2.0 over its standard input and output, one object a line.
//!
//! Some networks have an engine that nobody should write again, and that runs as a process of its own.
//! This crate starts such a process, speaks with it, and starts it again when it dies; it knows no network.
//!
//! - A request has an id and a time limit. Its future may be dropped at any await: the line goes out whole or not at all.
//! - What the child says without being asked comes out of [`Child::notification`], in order. None is dropped: when the
//!   queue is full the pipe is left to fill, so whoever takes notifications must not wait for an answer in between.
//! - A line that is too long, no JSON, or neither answer nor notification ends the child: what follows can't be trusted.
//! - No line of the child is ever traced, printed or put into an error. Of its standard error only the number of lines is told.
//! - A child never outlives its [`Child`]: it is killed by its id and reaped. If this whole process is killed, the
//!   child's standard input closes, on which every engine we use ends.

mod child;
mod error;
mod lines;
mod program;
mod stderr;
mod supervisor;
mod wire;
#[cfg(test)]
mod fuzz;

pub use child::{Child, Notification};
pub use error::{CallError, Ended, Refusal};
pub use program::{Limits, Program};
pub use supervisor::{GivenUp, Patience, Supervisor};
