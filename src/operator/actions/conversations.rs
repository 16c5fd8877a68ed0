//! The conversations that accounts can reach.

use sealbridge_contract::{AccountName, Address, gate::Encryption};
use serde::Serialize;

use super::{Outcome, to_line, transport_of};
use crate::operator::{Failure, Host};

#[derive(Serialize)]
struct ConversationLine {
    at: String,
    account: AccountName,
    id: String,
    name: Option<String>,
    encryption: Encryption,
    members: usize,
    links: Vec<String>,
}

pub(super) async fn list(host: &dyn Host, only: Option<&AccountName>) -> Result<Outcome, Failure> {
    if let Some(name) = only {
        transport_of(host, name)?;
    }
    let links = host.journal().links().await?;
    let mut words = String::new();
    let mut lines = Vec::new();
    for account in host.accounts().into_iter().filter(|account| only.is_none_or(|name| account.name == *name)) {
        let infos = account.transport.map(|transport| transport.common().conversations()).unwrap_or_default();
        for info in infos {
            let at = Address { account: account.name.clone(), conversation: info.id };
            let linked = links.iter().filter(|link| link.ends.iter().any(|end| end.at == at));
            let line = ConversationLine {
                at: at.to_string(),
                account: at.account.clone(),
                id: at.conversation.as_str().to_owned(),
                name: info.name,
                encryption: info.encryption,
                members: info.members,
                links: linked.map(|link| link.name.to_string()).collect(),
            };
            let name = line.name.as_ref().map_or(String::new(), |name| format!("  {name:?}"));
            let encrypted = if line.encryption == Encryption::Pinned { "encrypted" } else { "not usable now" };
            let linked =
                if line.links.is_empty() { "not linked".into() } else { format!("in {}", line.links.join(", ")) };
            words.push_str(&format!("{}{name}  {encrypted}, {} members, {linked}\n", line.at, line.members));
            lines.push(to_line(&line));
        }
    }
    if lines.is_empty() {
        words.push_str("No conversations yet. Invite an account of ours to an encrypted one.\n");
    }
    Ok(Outcome::new(words, lines))
}
