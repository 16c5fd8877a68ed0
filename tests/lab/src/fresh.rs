//! Ports and secrets that nobody else has.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;

use anyhow::{Result, anyhow, bail};

/// A port below the range that outgoing connections take, so that a server finds it free again after
/// a restart.
pub(crate) fn free_port() -> Result<u16> {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    for _ in 0..200 {
        let port = 20_000 + u16::from_le_bytes(random::<2>()?) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if taken.get_or_insert_default().insert(port) {
            return Ok(port);
        }
    }
    bail!("No free port on 127.0.0.1")
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("Read random bytes: {error}"))?;
    Ok(bytes)
}

pub(crate) fn random_hex<const N: usize>() -> Result<String> {
    random::<N>().map(|bytes| hex(&bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
