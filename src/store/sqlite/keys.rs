//! What binds a row to its place: associated data for what is locked, tags for what is in clear.

use hmac::{Hmac, Mac};
use sealbridge_contract::{AccountName, Address, ConversationId, DeliveryId, PersonId, SenderTrust, Vault, Verb};
use sha2::{Digest, Sha256};

use crate::store::LinkEnd;

/// The vault, and the key of the tags.
pub(super) struct Keys {
    pub(super) vault: Vault,
    rows: Hmac<Sha256>,
}

impl Keys {
    pub(super) fn new(vault: Vault) -> Self {
        let key = vault.key_for("journal row v1");
        let rows = Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
        Self { vault, rows }
    }

    /// Tells this root key from others; tells nothing else.
    pub(super) fn fingerprint(&self) -> [u8; 16] {
        self.tag(&Place::of("fingerprint"))
    }

    /// A tag on what stands in clear in a row: a changed byte there is as bad as one in the ciphertext.
    pub(super) fn tag(&self, place: &Place) -> [u8; 16] {
        let mut mac = self.rows.clone();
        mac.update(&place.0);
        half(mac.finalize().into_bytes().into())
    }

    /// Eight bytes that stand for a sender, and tell nobody else who that is.
    pub(super) fn sender(&self, account: &AccountName, sender: &PersonId) -> i64 {
        let tag = self.tag(&Place::of("sender").with(account.as_str().as_bytes()).with(sender.as_str().as_bytes()));
        i64::from_le_bytes(tag[..8].try_into().expect("eight bytes are eight bytes"))
    }

    /// Whether a tag is ours and fits.
    pub(super) fn fits(&self, place: &Place, tag: &[u8]) -> bool {
        let mut mac = self.rows.clone();
        mac.update(&place.0);
        tag.len() == 16 && mac.verify_truncated_left(tag).is_ok()
    }
}

/// Where something is locked: table, row and conversation, each part with its length, so that no two places are alike.
pub(super) struct Place(Vec<u8>);

impl Place {
    fn of(table: &str) -> Self {
        Self(Vec::with_capacity(160)).with(table.as_bytes())
    }

    fn with(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part);
        self
    }

    fn at(self, address: &Address) -> Self {
        self.with(address.account.as_str().as_bytes()).with(address.conversation.as_str().as_bytes())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// How often something was committed, in the journal's own words.
    pub(super) fn commits(number: u64) -> Self {
        Self::of("commits").with(&number.to_le_bytes())
    }

    /// The same outside of it.
    pub(super) fn count(number: u64) -> Self {
        Self::of("count").with(&number.to_le_bytes())
    }

    pub(super) fn key_check() -> Self {
        Self::of("key_check")
    }

    pub(super) fn conversation(id: i64, account: &str, name: &str) -> Self {
        Self::of("conversation").with(&id.to_le_bytes()).with(account.as_bytes()).with(name.as_bytes())
    }

    pub(super) fn link(name: &str) -> Self {
        Self::of("link").with(name.as_bytes())
    }

    pub(super) fn link_end(link: &str, end: &LinkEnd) -> Self {
        Self::of("link_end").with(link.as_bytes()).at(&end.at).with(&end.since.0.to_le_bytes())
    }

    /// A received message. Its trust is part of the place: nobody makes an unproven sender a proven one.
    pub(super) fn message(at: &Address, remote: &str, trust: SenderTrust) -> Self {
        Self::of("received").at(at).with(remote.as_bytes()).with(&[trust_to_row(trust) as u8])
    }

    pub(super) fn raw(at: &Address, remote: &str) -> Self {
        Self::of("unreadable").at(at).with(remote.as_bytes())
    }

    pub(super) fn words(to: &Address, delivery: DeliveryId) -> Self {
        Self::of("words").at(to).with(delivery.as_bytes())
    }

    pub(super) fn command(at: &Address, remote: &str) -> Self {
        Self::of("command").at(at).with(remote.as_bytes())
    }

    pub(super) fn gap(conversation: &Address, low: i64) -> Self {
        Self::of("gap").at(conversation).with(&low.to_le_bytes())
    }

    pub(super) fn entry(account: &str, key: &str) -> Self {
        Self::of("entry").with(account.as_bytes()).with(key.as_bytes())
    }

    /// Who wrote a message.
    pub(super) fn author(conversation: &Address, author: &PersonId) -> Self {
        Self::of("author").at(conversation).with(author.as_str().as_bytes())
    }

    /// What a delivery's row says in clear about which words go where.
    pub(super) fn delivery(
        number: i64,
        id: &[u8],
        to: &Address,
        link: Option<&str>,
        from: Option<(&Address, &str)>,
    ) -> Self {
        let place = Self::of("delivery").with(&number.to_le_bytes()).with(id).at(to);
        let place = match link {
            Some(name) => place.with(b"link").with(name.as_bytes()),
            None => place.with(b"none"),
        };
        match from {
            Some((from, remote)) => place.at(from).with(remote.as_bytes()),
            None => place,
        }
    }
}

/// Eight bytes that stand for a message's name in a conversation, in an index. Whoever finds one compares the name too.
pub(super) fn name_key(conversation: i64, remote: &str) -> i64 {
    let digest = Sha256::new().chain_update(conversation.to_le_bytes()).chain_update(remote).finalize();
    i64::from_le_bytes(digest[..8].try_into().expect("eight bytes are eight bytes"))
}

/// Eight bytes that stand for what a message does to an earlier one, in an index.
pub(super) fn about_key(conversation: i64, verb: Verb, remote: &str) -> i64 {
    name_key(conversation, &format!("{verb:?} {remote}"))
}

/// Sixteen bytes that stand for a replay value of an account.
pub(super) fn once_key(account: &AccountName, kind: &str, value: &[u8]) -> [u8; 16] {
    let place = Place::of(kind).with(account.as_str().as_bytes()).with(value);
    half(Sha256::digest(&place.0).into())
}

/// Sixteen bytes that stand for a topic that is said once.
pub(super) fn topic_key(to: &Address, topic: &str) -> [u8; 16] {
    half(Sha256::digest(&Place::of("said").at(to).with(topic.as_bytes()).0).into())
}

fn half(digest: [u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&digest[..16]);
    out
}

pub(super) fn trust_to_row(trust: SenderTrust) -> i64 {
    match trust {
        SenderTrust::Local => 0,
        SenderTrust::Proven => 1,
        SenderTrust::Unsigned => 2,
        SenderTrust::NotProven => 3,
        SenderTrust::ServerSays => 4,
    }
}

const TRUSTS: [SenderTrust; 5] =
    [SenderTrust::Local, SenderTrust::Proven, SenderTrust::Unsigned, SenderTrust::NotProven, SenderTrust::ServerSays];

pub(super) fn trust_from_row(trust: i64) -> Option<SenderTrust> {
    TRUSTS.get(usize::try_from(trust).ok()?).copied()
}

/// An address from a row; `None` if a changed byte made it something that is none.
pub(super) fn address(account: &str, conversation: String) -> Option<Address> {
    let account = AccountName::parse(account).ok()?;
    Some(Address { account, conversation: ConversationId::new(conversation) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_place_do_not_flow_into_each_other() {
        assert_ne!(Place::entry("a", "bc").bytes(), Place::entry("ab", "c").bytes());
        assert_ne!(Place::entry("", "").bytes(), Place::link("").bytes());
    }

    #[test]
    fn trust_survives_its_row() {
        for trust in TRUSTS {
            assert_eq!(trust_from_row(trust_to_row(trust)), Some(trust));
        }
        assert_eq!(trust_from_row(5), None);
        assert_eq!(trust_from_row(-1), None);
    }
}
