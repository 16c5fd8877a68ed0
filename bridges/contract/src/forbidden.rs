//! The forbidden acts, each beside a twin that differs in nothing but the act and compiles.
//!
//! **Printing a [`Cleartext`](crate::Cleartext)**: its `Debug` shows nothing, and it has no `Display`.
//! ```compile_fail,E0277
//! fn log(message: &sealbridge_contract::Cleartext) -> String { format!("{message}") }
//! ```
//! ```
//! fn log(message: &sealbridge_contract::DeliveryId) -> String { format!("{message}") }
//! ```
//!
//! **Serialising it**:
//! ```compile_fail,E0277
//! fn save(message: &sealbridge_contract::Cleartext) -> Option<String> { serde_json::to_string(message).ok() }
//! ```
//! ```
//! fn save(message: &sealbridge_contract::Sealed) -> Option<String> { serde_json::to_string(message).ok() }
//! ```
//!
//! **Reading it without the gate**:
//! ```compile_fail,E0616
//! fn read(message: &sealbridge_contract::Cleartext) -> &sealbridge_contract::Message { &message.0 }
//! ```
//! ```
//! fn read<'a>(message: &'a sealbridge_contract::Cleared<'_>) -> &'a sealbridge_contract::Message { message.message() }
//! ```
//!
//! **Cloning it**:
//! ```compile_fail,E0599
//! fn twice(message: sealbridge_contract::Cleartext) -> [sealbridge_contract::Cleartext; 2] { [message.clone(), message] }
//! ```
//! ```
//! fn twice(message: sealbridge_contract::Sealed) -> [sealbridge_contract::Sealed; 2] { [message.clone(), message] }
//! ```
//!
//! **Queueing a [`Cleared`](crate::Cleared)**: it borrows.
//! ```compile_fail,E0521
//! fn queue(q: &tokio::sync::mpsc::UnboundedSender<sealbridge_contract::Cleared<'static>>, m: sealbridge_contract::Cleared<'_>) { let _ = q.send(m); }
//! ```
//! ```
//! fn queue(q: &tokio::sync::mpsc::UnboundedSender<sealbridge_contract::Sealed>, m: sealbridge_contract::Sealed) { let _ = q.send(m); }
//! ```
//!
//! **Making a [`Cleared`](crate::Cleared) without the gate**:
//! ```compile_fail,E0451
//! fn pass(message: &sealbridge_contract::Message) -> sealbridge_contract::Cleared<'_> { sealbridge_contract::Cleared { message, album: None } }
//! ```
//! ```
//! fn pass(message: sealbridge_contract::Message) -> sealbridge_contract::Cleartext { sealbridge_contract::Cleartext::new(message) }
//! ```
//!
//! **Giving either to a [`Carrier`](crate::Carrier)**:
//! ```compile_fail,E0308
//! use sealbridge_contract::{Carrier, Cleartext, Slip};
//! async fn give(to: &dyn Carrier, message: &Cleartext, slip: &Slip) { let _ = to.carry(message, slip).await; }
//! ```
//! ```compile_fail,E0308
//! use sealbridge_contract::{Carrier, Cleared, Slip};
//! async fn give(to: &dyn Carrier, message: Cleared<'_>, slip: &Slip) { let _ = to.carry(&message, slip).await; }
//! ```
//! ```
//! use sealbridge_contract::{Carrier, Sealed, Slip};
//! async fn give(to: &dyn Carrier, message: &Sealed, slip: &Slip) { let _ = to.carry(message, slip).await; }
//! ```
//!
//! **Giving a [`Locked`](crate::Locked) to anyone**: no transport takes it, and it is neither serialised nor read.
//! ```compile_fail,E0308
//! use sealbridge_contract::{Carrier, Locked, Slip};
//! async fn give(to: &dyn Carrier, message: &Locked, slip: &Slip) { let _ = to.carry(message, slip).await; }
//! ```
//! ```compile_fail,E0277
//! fn save(message: &sealbridge_contract::Locked) -> Option<String> { serde_json::to_string(message).ok() }
//! ```
//! ```compile_fail,E0616
//! fn bytes(message: &sealbridge_contract::Locked) -> &[u8] { &message.0 }
//! ```
//! ```
//! fn bytes<'a>(vault: &sealbridge_contract::Vault, message: &'a sealbridge_contract::Locked) -> &'a [u8] { vault.to_row(message) }
//! ```
