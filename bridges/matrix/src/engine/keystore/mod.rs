//! The crypto store, so that a new Olm session is stored together with what was read through it.
//!
//! # Why
//! When a sync answer is taken in, the library (matrix-sdk-crypto 0.18, `olm/account.rs`) stores each new inbound Olm
//! session at once, and the room key that came through it only at the end of the answer. A process that dies in between
//! is given the same message again, and can't read it: the session says that it was read before. Here the new session
//! is held back, in the task that takes the answer in and in no other, until the write at the end. What other tasks
//! store meanwhile is stored at once, as they count on.
//!
//! # What may be in which order
//! "Stored" is a commit of the crypto store; the process may die between any two steps, and a step may fail.
//!
//! Coming in, one answer at a time (`Inner::olm` is held):
//! 1. Devices that changed are marked for a query. Alone: queried once more than needed.
//! 2. In one commit: Olm sessions, room keys, the hashes of the messages read. Before it: everything is read again.
//!    After it: a message that comes again is known by its hash, and its key is there.
//! 3. The account, without the one-time keys that were used. Before it: a used key stays until it is pushed out; nobody
//!    is given it a second time. It may never come before step 2, for a session can't be made again without its key.
//! 4. The journal's commit, which moves the sync token. Before it: the same answer comes again.
//!
//! When a step fails while the process lives, what the library has moved on in memory is put back to what is stored
//! ([`take_in`]); a second try would otherwise find every message read already, and lose its key in silence.
//!
//! Going out:
//! - A room key. Its messages, the Olm sessions that made them and the outbound session that remembers them are stored
//!   in one commit, before the first is sent. Died before sending, or before the answer was noted: they are sent again
//!   under their own transaction ids, and who gets one twice knows it by its index. No ratchet goes back: what was
//!   used is stored before it leaves, and a failed store throws the key away.
//! - An event. The outbound session is stored at its next index before the ciphertext is given to anybody; it is sent
//!   after its key's messages were answered. An index is never used twice; one may be used by no event.
//! - One-time keys. Made and stored with the account in step 3, sent later. Died before the answer was noted: the same
//!   keys are sent again, which the server takes as the same.
//! - Claimed keys. The session they make is stored before anything is encrypted with it. Died before: a key is spent.
//! - Devices. "Must be queried" is stored with step 1, hence before the token that brought it moves. It is taken back
//!   after the devices of the answer are stored, and not if another change came while the query was out. Members are
//!   tracked after the journal's commit, at every start, and before every key that is shared.
//!
//! Inner::olm is also held by everything else that reads an entry of this store and writes it back changed: sharing,
//! the answers to queries and claims, keys from the backup, and decrypting (which notes what is known of a sender).

mod claims;
mod delegate;
mod feeding;

use std::{collections::HashMap, mem, sync::Mutex};

use matrix_sdk_crypto::{
    Account, DeviceData, GossipRequest, SecretInfo, Session, UserIdentityData,
    olm::{
        Curve25519PublicKey, InboundGroupSession, OlmMessageHash, OutboundGroupSession, PrivateCrossSigningIdentity,
        SenderDataType,
    },
    store::{
        CryptoStore, CryptoStoreError,
        types::{
            BackupKeys, Changes, DehydratedDeviceKey, PendingChanges, RoomKeyCounts, RoomKeyWithheldEntry,
            RoomPendingKeyBundleDetails, RoomSettings, StoredRoomKeyBundleData, TrackedUser,
        },
    },
};
use ruma::{DeviceId, OwnedDeviceId, RoomId, TransactionId, UserId, events::secret::request::SecretName};
use zeroize::Zeroizing;

pub use self::claims::Claim;
use self::claims::{Origin, Senders};
pub(super) use self::{
    claims::{beside, first_may_be_of, importing, keep_withheld, key_of, reading_with, settle_places, withheld_by},
    feeding::{Memory, take_in},
};

tokio::task_local! {
    /// The new sessions of the answer that this task takes in.
    static HELD: Mutex<Held>;
}

#[derive(Debug, Default)]
struct Held {
    sessions: Vec<Session>,
    /// There was at least one.
    any: bool,
    /// The keys of devices that sent what no session opens, and what was not opened before either.
    unopened: Vec<String>,
    /// Who sent the messages under which device key.
    senders: Senders,
}

/// Holds new Olm sessions back while an answer is taken in.
#[derive(Debug)]
pub(super) struct KeyStore<S> {
    inner: S,
}

impl<S> KeyStore<S> {
    pub(super) fn over(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: CryptoStore> KeyStore<S> {
    /// What of these keys is stored where the library looks; what lies beside others is stored.
    async fn sorted(&self, keys: Vec<InboundGroupSession>) -> Result<Vec<InboundGroupSession>, CryptoStoreError> {
        if keys.is_empty() {
            return Ok(keys);
        }
        let senders = with_held(|held| held.senders.clone());
        let origin = match &senders {
            Some(senders) => Origin::Devices(senders),
            None if claims::is_importing() => Origin::Backup,
            None => Origin::Known,
        };
        claims::sort(&self.inner, keys, origin).await
    }
}

/// What the store saw of an answer that was taken in.
#[derive(Debug, Default)]
struct Noticed {
    new_sessions: bool,
    unopened: Vec<String>,
}

/// Runs the taking in of one answer: its sessions are stored with the write that ends it. `senders`: who sent the messages
/// in it under which device key.
async fn in_one_commit<T>(senders: Senders, step: impl Future<Output = T>) -> (T, Noticed) {
    let step = async {
        let done = step.await;
        let noticed = |held: &mut Held| Noticed { new_sessions: held.any, unopened: mem::take(&mut held.unopened) };
        (done, with_held(noticed).unwrap_or_default())
    };
    HELD.scope(Mutex::new(Held { senders, ..Held::default() }), step).await
}

/// `None`: this task takes no answer in.
fn with_held<T>(look: impl FnOnce(&mut Held) -> T) -> Option<T> {
    HELD.try_with(|held| look(&mut held.lock().unwrap_or_else(|lock| lock.into_inner()))).ok()
}

delegate::crypto_store_over! {
    impl for KeyStore {
        async fn save_changes(&self, mut changes: Changes) -> Result<(), CryptoStoreError> {
            // The write that ends an answer is the one with its token.
            let ends = changes.next_batch_token.is_some();
            let held_back = with_held(|held| {
                let new = !ends && !changes.sessions.is_empty();
                held.any |= new;
                held.sessions.append(&mut changes.sessions);
                if ends {
                    changes.sessions = mem::take(&mut held.sessions);
                }
                new
            });
            if held_back == Some(true) && changes.is_empty() {
                return Ok(());
            }
            let keys = mem::take(&mut changes.inbound_group_sessions);
            changes.inbound_group_sessions = self.sorted(keys).await?;
            // By the last that anybody said, the library would take a key for missing that is there in part. What each
            // said is kept elsewhere.
            changes.withheld_session_info.clear();
            self.inner.save_changes(changes).await.map_err(Into::into)
        }

        async fn save_pending_changes(&self, changes: PendingChanges) -> Result<(), CryptoStoreError> {
            self.inner.save_pending_changes(changes).await.map_err(Into::into)
        }

        async fn save_inbound_group_sessions(
            &self,
            sessions: Vec<InboundGroupSession>,
            version: Option<&str>,
        ) -> Result<(), CryptoStoreError> {
            let sessions = self.sorted(sessions).await?;
            self.inner.save_inbound_group_sessions(sessions, version).await.map_err(Into::into)
        }

        async fn get_inbound_group_session(
            &self,
            room: &RoomId,
            session: &str,
        ) -> Result<Option<InboundGroupSession>, CryptoStoreError> {
            // The library would compare a key that comes in with this one, and discard what another device hands in.
            // Which of them are kept is settled when they are stored.
            if with_held(|_| ()).is_some() || claims::is_importing() {
                return Ok(None);
            }
            match claims::asked_for() {
                None => self.inner.get_inbound_group_session(room, session).await.map_err(Into::into),
                Some(claim) => key_of(&self.inner, &claim).await,
            }
        }

        /// Of what anybody said the library keeps the last: here none of it counts, also of before.
        async fn get_withheld_info(
            &self,
            _room: &RoomId,
            _session: &str,
        ) -> Result<Option<RoomKeyWithheldEntry>, CryptoStoreError> {
            Ok(None)
        }

        async fn get_withheld_sessions_by_room_id(
            &self,
            _room: &RoomId,
        ) -> Result<Vec<RoomKeyWithheldEntry>, CryptoStoreError> {
            Ok(Vec::new())
        }

        async fn set_custom_value(&self, key: &str, value: Vec<u8>) -> Result<(), CryptoStoreError> {
            self.inner.set_custom_value(key, value).await.map_err(Into::into)
        }

        async fn get_sessions(&self, sender_key: &str) -> Result<Option<Vec<Session>>, CryptoStoreError> {
            let mut sessions = self.inner.get_sessions(sender_key).await.map_err(Into::into)?.unwrap_or_default();
            with_held(|held| {
                for session in held.sessions.iter().filter(|session| session.sender_key().to_base64() == sender_key) {
                    sessions.retain(|stored| stored.session_id() != session.session_id());
                    sessions.push(session.clone());
                }
            });
            Ok(Some(sessions))
        }

        async fn is_message_known(&self, hash: &OlmMessageHash) -> Result<bool, CryptoStoreError> {
            let known = self.inner.is_message_known(hash).await.map_err(Into::into)?;
            // The library asks when no session opened a message.
            if !known {
                with_held(|held| held.unopened.push(hash.sender_key.clone()));
            }
            Ok(known)
        }
    }
}

#[cfg(test)]
mod tests;
