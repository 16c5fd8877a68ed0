//! Which conversations are linked, and under which rules. A snapshot in memory; changed whole.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sealbridge_contract::{
    AccountName, Address, AnyTransport, ConversationId, Destination, PeerKey, Rule, Timestamp, gate::Encryption,
};

use crate::store::{Link, LinkName};

/// By how much the clock of a network may be behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// The links, the accounts and the keys of far peers, as they are now.
#[derive(Debug, Default)]
pub struct Table {
    links: Vec<(Link, Rule)>,
    by_name: HashMap<LinkName, usize>,
    by_address: HashMap<Address, Vec<(usize, Timestamp)>>,
    accounts: HashMap<AccountName, Option<AnyTransport>>,
    peers: HashMap<Address, Arc<PeerKey>>,
    /// Where nothing is carried to, since somebody is there who was not approved, or of whom not everybody was told.
    frozen: Arc<HashSet<Address>>,
}

impl Table {
    /// A table of these links, each with its rule, and of all accounts in the config; one that does not run has no
    /// transport.
    #[must_use]
    pub fn new(
        links: Vec<(Link, Rule)>,
        accounts: HashMap<AccountName, Option<AnyTransport>>,
        peers: HashMap<Address, Arc<PeerKey>>,
    ) -> Self {
        let mut by_address: HashMap<Address, Vec<(usize, Timestamp)>> = HashMap::new();
        let mut by_name = HashMap::new();
        for (index, (link, _)) in links.iter().enumerate() {
            by_name.insert(link.name.clone(), index);
            for end in &link.ends {
                by_address.entry(end.at.clone()).or_default().push((index, end.since));
            }
        }
        Self { links, by_name, by_address, accounts, peers, frozen: Arc::default() }
    }

    /// Since when the conversation is linked, by its oldest link.
    #[must_use]
    pub fn linked_since(&self, at: &Address) -> Option<Timestamp> {
        self.by_address.get(at)?.iter().map(|(_, since)| *since).min()
    }

    /// The conversations that hear what was said at `from` at a moment: each with its link and rule. What was said
    /// before a conversation was linked does not reach it, though it may come late. One that is reached by two links is
    /// named once, by the first.
    pub fn listeners<'a>(
        &'a self,
        from: &'a Address,
        said_at: Timestamp,
    ) -> impl Iterator<Item = (&'a LinkName, &'a Address, Rule)> {
        let mut seen = HashSet::new();
        // A network's clock is not ours.
        let said_at = said_at.plus(CLOCKS_DIFFER);
        self.by_address
            .get(from)
            .into_iter()
            .flatten()
            .filter(move |(_, since)| *since <= said_at)
            .map(|(index, _)| &self.links[*index])
            .flat_map(move |(link, rule)| {
                let rule = Rule { paused: rule.paused || link.paused.is_some(), ..*rule };
                let heard = link.ends.iter().filter(move |end| end.since <= said_at);
                heard.map(move |end| (&link.name, &end.at, rule))
            })
            .filter(move |(_, to, _)| *to != from && seen.insert((*to).clone()))
    }

    /// The rule of a link.
    #[must_use]
    pub fn rule(&self, link: &LinkName) -> Option<Rule> {
        let (link, rule) = &self.links[*self.by_name.get(link)?];
        Some(Rule { paused: rule.paused || link.paused.is_some(), ..*rule })
    }

    /// Whether a link leads to a conversation.
    #[must_use]
    pub fn joins(&self, link: &LinkName, at: &Address) -> bool {
        let known = self.by_address.get(at).into_iter().flatten();
        known.into_iter().any(|(index, _)| self.by_name.get(link) == Some(index))
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().map(|(link, _)| link)
    }

    /// The conversations of an account that have a link over which typing and read receipts cross.
    #[must_use]
    pub fn signalling(&self, account: &AccountName) -> Vec<ConversationId> {
        let theirs = self.by_address.iter().filter(|(at, _)| at.account == *account);
        let asked = theirs.filter(|(_, links)| links.iter().any(|(index, _)| self.links[*index].1.signals));
        asked.map(|(at, _)| at.conversation.clone()).collect()
    }

    /// The account's transport, if it runs.
    #[must_use]
    pub fn transport(&self, account: &AccountName) -> Option<&AnyTransport> {
        self.accounts.get(account)?.as_ref()
    }

    /// Whether the config has such an account, running or not.
    #[must_use]
    pub fn knows(&self, account: &AccountName) -> bool {
        self.accounts.contains_key(account)
    }

    /// The key of the far peer at a carrier's conversation.
    #[must_use]
    pub fn peer(&self, at: &Address) -> Option<&Arc<PeerKey>> {
        self.peers.get(at)
    }

    /// The links of a conversation, each with its rule.
    pub fn links_of(&self, at: &Address) -> impl Iterator<Item = (&Link, &Rule)> {
        let known = self.by_address.get(at).into_iter().flatten();
        known.map(|(index, _)| &self.links[*index]).map(|(link, rule)| (link, rule))
    }

    /// What the gate must know of a conversation. `None`: the account does not run. Words of the bridge itself go also
    /// where nothing is carried to for a while: they say why.
    #[must_use]
    pub fn destination(&self, to: &Address, own_words: bool) -> Option<Destination<'_>> {
        Some(match self.transport(&to.account)? {
            AnyTransport::EndToEnd(t) => match t.encryption(&to.conversation) {
                Encryption::Pinned if !own_words && self.frozen.contains(to) => {
                    Destination::EndToEnd(Encryption::Frozen)
                }
                known => Destination::EndToEnd(known),
            },
            AnyTransport::OperatorRun(t) => Destination::OperatorRun(t.facts(&to.conversation)),
            AnyTransport::Carrier(_) => Destination::Carrier(self.peers.get(to).map(Arc::as_ref)),
        })
    }
}

/// Which rule a link has, by the config.
pub type Rules = dyn Fn(&Link) -> Rule + Send + Sync;

/// The table that is valid now. Cheap to clone; readers never wait for each other. The journal says which links there
/// are and the service which accounts run, each for itself, so that neither undoes what the other said.
#[derive(Clone)]
pub struct TableHandle {
    now: Arc<RwLock<Arc<Table>>>,
    rules: Arc<Rules>,
}

impl TableHandle {
    /// An empty table, for links with these rules.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { now: Arc::default(), rules }
    }

    /// The table as it is now.
    #[must_use]
    pub fn now(&self) -> Arc<Table> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts these links in the place of those that there were.
    pub fn links_are(&self, links: Vec<Link>) {
        let with_rules = links.into_iter().map(|link| {
            let rule = (self.rules)(&link);
            (link, rule)
        });
        let with_rules = with_rules.collect();
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let frozen = Arc::clone(&now.frozen);
        *now = Arc::new(Table { frozen, ..Table::new(with_rules, now.accounts.clone(), now.peers.clone()) });
    }

    /// Puts these accounts in the place of those that there were.
    pub fn accounts_are(&self, accounts: HashMap<AccountName, Option<AnyTransport>>) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let frozen = Arc::clone(&now.frozen);
        *now = Arc::new(Table { frozen, ..Table::new(now.links.clone(), accounts, now.peers.clone()) });
    }

    /// Nothing is carried to a conversation from now on, or again. True: that is new.
    pub fn freeze(&self, at: &Address, frozen: bool) -> bool {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if now.frozen.contains(at) == frozen {
            return false;
        }
        let mut set = HashSet::clone(&now.frozen);
        if frozen {
            set.insert(at.clone());
        } else {
            set.remove(at);
        }
        let table = Table::new(now.links.clone(), now.accounts.clone(), now.peers.clone());
        *now = Arc::new(Table { frozen: Arc::new(set), ..table });
        true
    }
}

impl std::fmt::Debug for TableHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TableHandle")
    }
}
