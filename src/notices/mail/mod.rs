//! Mail, as cron, appliances and old programs hand it over: SMTP (RFC 5321) on this machine, without TLS.
//!
//! A source whose format is `mail` is the part before the `@` of its address, whatever stands behind it. Nothing is passed
//! on as mail and nobody is written back to: whoever hands a mail over is told at once what became of it.

mod reply;
mod server;
mod session;
mod taking;

pub use server::Server;
pub(super) use session::Sources;

#[cfg(test)]
mod fuzz;
