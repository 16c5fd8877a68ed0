//! The conversations that accounts can reach.

use sealbridge_contract::{
    AccountName, Address, AnyTransport, ConversationId,
    gate::{Encryption, OperatorRunFacts},
};
use serde::Serialize;

use super::{Outcome, to_line, transport_of};
use crate::operator::{Failure, Host, admin, plain::field};

#[derive(Serialize)]
struct ConversationLine {
    at: String,
    account: AccountName,
    id: String,
    name: Option<String>,
    encryption: Encryption,
    operator_run: bool,
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
        let Some(transport) = account.transport else { continue };
        for info in transport.common().conversations() {
            let operator_run = is_operators(&transport, &info.id);
            let at = Address { account: account.name.clone(), conversation: info.id };
            let linked = links.iter().filter(|link| link.ends.iter().any(|end| end.at == at));
            let line = ConversationLine {
                at: at.to_string(),
                account: at.account.clone(),
                id: at.conversation.as_str().to_owned(),
                name: info.name,
                encryption: info.encryption,
                operator_run,
                members: info.members,
                links: linked.map(|link| link.name.to_string()).collect(),
            };
            let name = line.name.as_ref().map_or(String::new(), |name| format!("  {name:?}"));
            let encrypted = if operator_run { IN_CLEAR } else { encryption(line.encryption) };
            let linked =
                if line.links.is_empty() { "not linked".into() } else { format!("in {}", line.links.join(", ")) };
            words.push_str(&format!("{}{name}  {encrypted}, {} members, {linked}\n", field(&line.at), line.members));
            lines.push(to_line(&line));
        }
    }
    if lines.is_empty() {
        words.push_str("No conversations yet. Invite an account of ours to an encrypted one.\n");
    }
    Ok(Outcome::new(words, lines))
}

/// What is said of a server that the operator runs.
pub(super) const IN_CLEAR: &str = "READ IN CLEAR by a server that the operator runs";

/// Whether a conversation is one of a server that the operator runs and declared, which reads what is carried there.
pub(super) fn is_operators(transport: &AnyTransport, of: &ConversationId) -> bool {
    let AnyTransport::OperatorRun(transport) = transport else { return false };
    let OperatorRunFacts { declared, host_allowed, private_channel } = transport.facts(of);
    declared && host_allowed && private_channel
}

/// What is known of a conversation's encryption, in words.
fn encryption(state: Encryption) -> &'static str {
    match state {
        Encryption::Pinned => "encrypted",
        Encryption::Muted => "encrypted, but we may not speak there",
        Encryption::Frozen => "encrypted, but somebody is there who was not approved",
        Encryption::Absent => "NOT ENCRYPTED: can't be linked",
        Encryption::Violated => "HELD: was encrypted, and its server now says otherwise",
        Encryption::Replaced => "given up for another conversation",
        Encryption::Left => "we are not in it any more",
        Encryption::Unknown => "not known yet to be encrypted",
    }
}

/// Shows the invitation to a conversation, here and in the admin room.
pub(super) async fn invite(host: &dyn Host, at: &Address) -> Result<Outcome, Failure> {
    let transport = transport_of(host, &at.account)?;
    let none = || {
        let network = transport.common().abilities().network;
        Failure::refused(format!("{network} has no invitations that anybody may follow: invite people there yourself"))
    };
    let invitation = transport.common().invitation(&at.conversation).await?.ok_or_else(none)?;
    let now = host.clock().now();
    let message = admin::shown(&invitation, now);
    let journal = host.journal();
    let told = match admin::room(&*journal).await? {
        Some(room) => journal.say(&room, message, None).await?,
        None => false,
    };
    let (to, link, picture) = (field(&invitation.to), invitation.link.as_str(), invitation.picture.as_str());
    let mut words = format!("{picture}\nInvitation to {to}. {}\n{link}\n", invitation.how);
    if told {
        words.push_str("The admin room shows it, too.\n");
    }
    let line = serde_json::json!({ "at": at.to_string(), "to": invitation.to, "link": link, "in_admin_room": told });
    Ok(Outcome::one(words, &line))
}
