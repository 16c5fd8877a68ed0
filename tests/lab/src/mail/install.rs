//! Debian's mail server, installed once if it is not there.

use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use crate::debian;
pub(super) use crate::debian::run;

const PACKAGES: [&str; 4] = ["postfix", "dovecot-core", "dovecot-imapd", "dovecot-lmtpd"];
const BINARIES: [&str; 4] =
    ["/usr/lib/postfix/sbin/master", "/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp"];

/// Installs what is missing. Blocks, for a minute at worst.
pub(super) fn ready() -> Result<()> {
    // A failure is kept too, or every test of a process would try for itself.
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    match READY.get_or_init(|| install().map_err(|error| format!("{error:#}"))) {
        Ok(()) => Ok(()),
        Err(error) => bail!("Install the mail server: {error}"),
    }
}

fn install() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    ensure!(root, "Postfix and Dovecot need root, who starts them and gives each its own user");
    debian::ready(&PACKAGES, &BINARIES)
}

/// A user's number.
pub(super) fn id(what: &str, user: &str) -> Result<u32> {
    debian::output("id", &[what, user])?.trim().parse().with_context(|| format!("Read the number of {user}"))
}
