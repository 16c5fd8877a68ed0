//! Whether the service does what it is there for.

use crate::operator::Host;

/// Why it does not, a sentence for each thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady(pub Vec<String>);

/// Whether every account hears its network and the journal takes what comes. An account runs only with a device that is
/// cross-signed, so one that runs has one.
///
/// # Errors
/// [`NotReady`]: what is missing.
pub async fn ready(host: &dyn Host) -> Result<(), NotReady> {
    let mut missing = Vec::new();
    let open = host.accounts();
    for name in host.config().accounts.keys() {
        match open.iter().find(|account| account.name == *name) {
            None => missing.push(format!("the account {name} is not open")),
            Some(account) => match &account.transport {
                None => missing.push(format!("the account {name} stopped")),
                Some(transport) if !transport.common().health().connected => {
                    missing.push(format!("the account {name} does not hear its network"));
                }
                Some(_) => {}
            },
        }
    }
    if host.config().accounts.is_empty() {
        missing.push("there is no account".into());
    }
    if let Some(trouble) = host.trouble() {
        missing.push(trouble);
    }
    // That it answers says that the journal is there; that it takes what comes, `trouble` says.
    if host.journal().counts().await.is_err() {
        missing.push("the journal does not answer".into());
    }
    if missing.is_empty() { Ok(()) } else { Err(NotReady(missing)) }
}
