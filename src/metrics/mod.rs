//! What the service counts of itself, for machines: numbers, and names that the operator chose. Never a room, a person or
//! a word.

mod gauges;
mod listen;
mod meters;
mod ready;
pub mod watchdog;

pub use gauges::text;
pub use listen::{Listeners, bind};
pub use meters::{Meters, Requested};
pub use ready::{NotReady, ready};
