//! What senders call their notices: remembered for a day, so that the same one twice is said once, and with a bound, so
//! that who gives a name to each of very many takes nobody else's.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sealbridge_contract::{NotAccepted, RemoteId, inbox::Keep};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{
    Desk, NotTaken, Origin,
    digest::DIGESTS,
    fold::{self, REPEATS},
    keeping::{INCIDENTS, ROOTS},
};

/// For how long the same name is the same notice.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// As many names are remembered at most, of all sources. Of more those with the most of them lose their oldest.
const MOST_REMEMBERED: usize = 200_000;
/// So many different words are known that came and may come again, of all sources; of more as of names.
const MOST_REPEATS: usize = 20_000;
/// For how long, and of how many digests, it is known of which incidents they told.
const DIGESTS_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
const MOST_DIGESTS: usize = 10_000;
/// So many incidents are kept, of all sources together and of more as of names, and so long after they were told of last.
const MOST_INCIDENTS: usize = 5_000;
const INCIDENTS_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// Where names are kept in the account's own store, those of each source together.
const NAMES: &str = "name/";
/// So many characters of a digest tell sources apart there. Two that are taken for one have one bound, and nothing else.
const SOURCE: usize = 8;

/// What a sender gave a name to.
#[derive(Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) ids: Vec<RemoteId>,
    /// A digest of all of it, under a key.
    pub(super) what: String,
    /// The message of the same words that it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) changes: Option<RemoteId>,
}

impl Desk {
    /// Waits until nobody else takes, or takes back, what has one of these names.
    pub(super) async fn name_turns(&self, keys: impl Iterator<Item = &String>) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let shards: BTreeSet<_> = keys.map(|key| self.shard(key)).collect();
        let mut turns = Vec::new();
        // In one order, so that no two wait for each other.
        for shard in shards {
            turns.push(self.naming[shard].lock().await);
        }
        turns
    }

    /// What a name was given to.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: the journal does not say now.
    pub(super) async fn remembered(&self, key: &str) -> Result<Option<Remembered>, NotTaken> {
        let known = self.kept(key).await?;
        // What can't be read names nothing any more.
        Ok(known.and_then(|known| serde_json::from_slice(known.expose()).ok()))
    }

    /// Where it is kept, for as long as names are, that something was told under this name.
    pub(super) fn name_key(&self, sort: &str, origin: &Origin, name: &str) -> String {
        self.key_of_source(NAMES, sort, origin, name.as_bytes())
    }

    /// A key below `prefix` for something of a source, beside the source's others.
    pub(super) fn key_of_source(&self, prefix: &str, about: &str, origin: &Origin, what: &[u8]) -> String {
        let source = self.digest("source", origin, b"");
        format!("{prefix}{}/{}", &source[..SOURCE], self.digest(about, origin, what))
    }

    fn shard(&self, key: &str) -> usize {
        key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % self.naming.len()
    }

    /// A digest that nobody can make without our key, so that what is kept says nothing of what was sent.
    pub(super) fn digest(&self, about: &str, origin: &Origin, what: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice()).expect("HMAC takes a key of any length");
        for part in [about, origin.address().conversation.as_str()] {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        mac.update(what);
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// Forgets what is too old or too much.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub async fn prune(&self) -> Result<(), NotAccepted> {
        self.forget(DIGESTS, Keep { most: MOST_DIGESTS, within: DIGESTS_FOR }).await?;
        // What nobody told of for so long is told of as new when it is told of again.
        self.prune_of_each(INCIDENTS, Keep { most: MOST_INCIDENTS, within: INCIDENTS_FOR }).await?;
        self.forget(ROOTS, Keep { most: MOST_REMEMBERED, within: INCIDENTS_FOR }).await?;
        self.prune_of_each(REPEATS, Keep { most: MOST_REPEATS, within: fold::LONGEST }).await?;
        self.prune_of_each(NAMES, Keep { most: MOST_REMEMBERED, within: REMEMBERED }).await
    }

    /// Keeps so many of all sources together, and of each what others leave.
    async fn prune_of_each(&self, prefix: &str, keep: Keep) -> Result<(), NotAccepted> {
        // What an earlier version did not keep by source grows old.
        self.forget(prefix, Keep { most: usize::MAX, ..keep }).await?;
        let sources = self.journal.tally(&self.account, prefix).await.map_err(|_| NotAccepted::Failed)?;
        let most = share_of_each(sources.iter().map(|(_, count)| *count).collect(), keep.most);
        for (source, _) in sources {
            self.forget(&format!("{prefix}{source}/"), Keep { most, ..keep }).await?;
        }
        Ok(())
    }

    /// All of it, a bounded number in each commit: what comes in a minute may be more than one commit forgets.
    async fn forget(&self, prefix: &str, keep: Keep) -> Result<(), NotAccepted> {
        while self.intake.prune(&self.account, prefix, keep).await? > 0 {}
        Ok(())
    }
}

/// So many may each have that all of them together have no more than `most`: whoever has less than others loses nothing
/// before them.
fn share_of_each(mut counts: Vec<usize>, most: usize) -> usize {
    counts.sort_unstable();
    let (mut left, mut many) = (most, counts.len());
    for count in counts {
        if count > left / many {
            return left / many;
        }
        left -= count;
        many -= 1;
    }
    most
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sealbridge_contract::{
        Address, Cleartext, Clock, DeliveryId, RootKey, Rule, SecretBytes, SenderTrust, Timestamp, Vault,
        inbox::{Parcel, StoreWrite},
    };

    use super::*;
    use crate::{
        flow::{self, TableHandle},
        notices::SourceName,
        store::{Limits, Link, Routed, Router, SharedJournal, sqlite::SqliteJournal},
    };

    /// Nothing is carried anywhere.
    struct Nowhere;

    impl Router for Nowhere {
        fn linked_since(&self, _: &Address) -> Option<Timestamp> {
            None
        }
        fn route(&self, _: &Address, _: &RemoteId, _: &Cleartext, _: SenderTrust) -> Vec<Routed> {
            Vec::new()
        }
        fn open(&self, _: &Address, _: &Parcel) -> Option<(DeliveryId, Cleartext)> {
            None
        }
        fn links_are(&self, _: Vec<Link>) {}
    }

    fn desk(folder: &std::path::Path, clock: &Clock) -> Desk {
        let vault = Vault::new(RootKey::random());
        let journal = SqliteJournal::open(folder, vault, Arc::new(Nowhere), Limits::default(), clock.clone());
        let journal: SharedJournal = Arc::new(journal.expect("a new journal opens"));
        let (signals, _) = tokio::sync::mpsc::channel(1);
        let table = TableHandle::new(Arc::new(|_: &Link| Rule::default()));
        let intake = flow::Desk::new(journal.clone(), table.clone(), signals, Default::default(), clock.clone());
        let key = zeroize::Zeroizing::new([7; 32]);
        Desk::new(intake, journal, table, Arc::default(), key, Timestamp(0), clock.clone())
    }

    /// What a source calls something.
    async fn name(desk: &Desk, source: &str, names: std::ops::Range<usize>) {
        let known = Remembered { ids: Vec::new(), what: String::new(), changes: None };
        let known = serde_json::to_vec(&known).expect("texts");
        let write = |number| StoreWrite::put(key(desk, source, number), SecretBytes::new(known.clone()));
        desk.remember(names.map(write).collect()).await.expect("the journal writes");
    }

    fn key(desk: &Desk, source: &str, number: usize) -> String {
        let source = SourceName::parse(source).expect("a name");
        desk.name_key("name", &Origin::source(&source, None), &number.to_string())
    }

    /// How many of them are remembered.
    async fn known(desk: &Desk, source: &str, names: std::ops::Range<usize>) -> usize {
        let mut known = 0;
        for number in names {
            known += usize::from(desk.remembered(&key(desk, source, number)).await.expect("it reads").is_some());
        }
        known
    }

    #[tokio::test]
    async fn source_with_a_name_for_each_of_very_many_takes_no_names_of_others() {
        let (folder, clock) = (tempfile::tempdir().expect("a folder"), Clock::system());
        let desk = desk(folder.path(), &clock);
        name(&desk, "calm", 0..30).await;
        clock.shift(1000);
        for hundred in 0..20 {
            name(&desk, "job", hundred * 100..(hundred + 1) * 100).await;
            clock.shift(1000);
        }
        desk.prune_of_each(NAMES, Keep { most: 100, within: REMEMBERED }).await.expect("the journal writes");
        assert_eq!(known(&desk, "calm", 0..30).await, 30);
        assert_eq!((known(&desk, "job", 0..1930).await, known(&desk, "job", 1930..2000).await), (0, 70));
        clock.shift(REMEMBERED.as_millis().try_into().expect("a day"));
        desk.prune_of_each(NAMES, Keep { most: 100, within: REMEMBERED }).await.expect("the journal writes");
        assert_eq!(known(&desk, "calm", 0..30).await + known(&desk, "job", 0..2000).await, 0);
    }

    /// An incident of a source.
    async fn incident(desk: &Desk, source: &str, group: &str) -> String {
        let origin = Origin::source(&SourceName::parse(source).expect("a name"), None);
        let key = desk.key_of_source(INCIDENTS, "incident", &origin, group.as_bytes());
        desk.remember(vec![StoreWrite::put(&key, SecretBytes::new(vec![1]))]).await.expect("the journal writes");
        key
    }

    #[tokio::test]
    async fn source_with_very_many_incidents_takes_no_incident_of_others() {
        let (folder, clock) = (tempfile::tempdir().expect("a folder"), Clock::system());
        let desk = desk(folder.path(), &clock);
        let calm = incident(&desk, "calm", "disk").await;
        let early = incident(&desk, "job", "early").await;
        let old = StoreWrite::put(format!("{INCIDENTS}of-an-earlier-version"), SecretBytes::new(vec![1]));
        desk.remember(vec![old]).await.expect("the journal writes");
        clock.shift(1000);
        let origin = Origin::source(&SourceName::parse("job").expect("a name"), None);
        for thousand in 0..5 {
            let key = |number: u32| desk.key_of_source(INCIDENTS, "incident", &origin, &number.to_be_bytes());
            let write = |number| StoreWrite::put(key(number), SecretBytes::new(vec![1]));
            let all = (thousand * 1000..(thousand + 1) * 1000).map(write).collect();
            desk.remember(all).await.expect("the journal writes");
        }
        desk.prune().await.expect("the journal writes");
        assert!(desk.kept(&calm).await.expect("it reads").is_some());
        assert!(desk.kept(&early).await.expect("it reads").is_none());
        clock.shift(INCIDENTS_FOR.as_millis().try_into().expect("some days"));
        desk.prune().await.expect("the journal writes");
        let all = desk.journal.tally(&desk.account, INCIDENTS).await.expect("it reads");
        assert!(
            all.is_empty()
                && desk.kept(&format!("{INCIDENTS}of-an-earlier-version")).await.expect("it reads").is_none()
        );
    }

    #[test]
    fn whoever_has_less_than_others_loses_nothing_before_them() {
        let cases: &[(&[usize], usize, usize)] = &[
            (&[], 100, 100),
            (&[5, 20], 100, 100),
            (&[500], 100, 100),
            (&[500, 20], 100, 80),
            (&[20, 500, 30, 500], 100, 26),
            (&[500, 500, 500], 100, 33),
        ];
        for (counts, most, expected) in cases {
            assert_eq!(share_of_each(counts.to_vec(), *most), *expected, "{counts:?}");
        }
    }
}
