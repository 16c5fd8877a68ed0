//! Room keys that more than one device hands in as its own.
//!
//! A room key is signed by its maker with a key that belongs to it alone, and not by a device. So whoever in a room has
//! another's key can hand it in as theirs, and nothing in either tells who made it. The library keeps what comes first and
//! discards the rest: whoever is quick enough would have its maker's own words refused. Here every person's claim is kept,
//! the first where the library looks, the others beside it, and a message is read by whichever is of who sent it.
//!
//! Whoever has one login can make up device keys without a number, so claims are kept by person, each person's within a
//! bound, and nobody's takes room of another's. Whose one is, is the homeserver's word, as who sent a message is; what
//! their devices prove is looked at when a message is read.
//!
//! Nor does a key tell which room it is of, and the library keeps one under its name alone: what comes for another room
//! would take the place of what is there. So the first that comes settles of which room is what lies where the library
//! looks, and what comes for other rooms lies beside, each room's apart.
//!
//! That a key is withheld is said in clear, and the library keeps the last that anybody said of it. Here what each said is
//! kept, in a few letters, and of a message what its sender said counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use matrix_sdk_crypto::{
    olm::{InboundGroupSession, PickledInboundGroupSession, SenderData},
    store::{CryptoStore, CryptoStoreError},
    vodozemac::megolm::SessionOrdering,
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use sha2::{Digest as _, Sha256};
use tracing::warn;
use zeroize::Zeroizing;

/// So many claims of one person are kept beside the first. Those that prove more of their device go before others.
const MOST: usize = 8;

tokio::task_local! {
    /// Which claim beside the first this task reads with.
    static READ_WITH: Claim;
    /// This task takes in what is in the key backup.
    static IMPORTING: ();
}

/// A room key as one device handed it in, beside the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it lies.
    slot: String,
    /// The device's Curve25519 key, in unpadded base64.
    pub device_key: String,
}

/// Who sent messages under which device key. What cannot be opened names any key, so there may be more than one.
pub(super) type Senders = BTreeMap<String, BTreeSet<OwnedUserId>>;

/// Where the keys come from that are to be stored.
pub(super) enum Origin<'a> {
    Devices(&'a Senders),
    Backup,
    /// They were known, and something about them is known better.
    Known,
}

/// Runs a step that reads with a claim beside the first.
pub(in crate::engine) async fn reading_with<T>(claim: Claim, step: impl Future<Output = T>) -> T {
    READ_WITH.scope(claim, step).await
}

/// Runs the taking in of keys from the backup.
pub(in crate::engine) async fn importing<T>(step: impl Future<Output = T>) -> T {
    IMPORTING.scope((), step).await
}

pub(super) fn is_importing() -> bool {
    IMPORTING.try_with(|()| ()).is_ok()
}

/// Which claim beside the first this task reads with.
pub(super) fn asked_for() -> Option<Claim> {
    READ_WITH.try_with(Claim::clone).ok()
}

/// The name of what is kept beside a key. It tells neither the room nor the key nor the person.
fn name(of: &str, parts: [&str; 3]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
        digest.update([0]);
    }
    format!("{of}/{:x}", digest.finalize())
}

/// Where the claims of a person lie, or what came from the backup.
fn slot(room: &RoomId, session: &str, user: Option<&UserId>) -> String {
    name("claims", [room.as_str(), session, user.map_or("", UserId::as_str)])
}

fn maker(room: &RoomId, session: &str) -> String {
    name("first-claim", [room.as_str(), session, ""])
}

/// Of which room that is what lies where the library looks.
fn place(session: &str) -> String {
    name("place", [session, "", ""])
}

fn withheld(room: &RoomId, session: &str, by: &UserId) -> String {
    name("withheld", [room.as_str(), session, by.as_str()])
}

/// A code of the specification has fewer letters.
const LONGEST_CODE: usize = 64;

/// Keeps that a person says of a key that they withhold it.
pub(in crate::engine) async fn keep_withheld<S: CryptoStore + ?Sized>(
    store: &S,
    room: &RoomId,
    session: &str,
    by: &UserId,
    code: &str,
) -> Result<(), CryptoStoreError> {
    let code = if code.len() <= LONGEST_CODE { code } else { "m.unknown" };
    store.set_custom_value(&withheld(room, session, by), code.as_bytes().to_vec()).await.map_err(Into::into)
}

/// Why a person withholds a key, if they said so of it.
pub(in crate::engine) async fn withheld_by<S: CryptoStore + ?Sized>(
    store: &S,
    room: &RoomId,
    session: &str,
    by: &UserId,
) -> Result<Option<String>, CryptoStoreError> {
    let code = store.get_custom_value(&withheld(room, session, by)).await.map_err(Into::into)?;
    Ok(code.and_then(|code| String::from_utf8(code).ok()))
}

/// Written once every key that lies where the library looks has its place: those of an earlier version had none.
const PLACES: &str = "places";

/// Gives every key its place that has none yet.
pub(in crate::engine) async fn settle_places<S: CryptoStore>(store: &S) -> Result<(), CryptoStoreError> {
    if store.get_custom_value(PLACES).await.map_err(Into::into)?.is_some() {
        return Ok(());
    }
    for session in store.get_inbound_group_sessions().await.map_err(Into::into)? {
        has_the_place(store, &session).await?;
    }
    store.set_custom_value(PLACES, Vec::new()).await.map_err(Into::into)
}

/// Whether a key is of the room whose key of that name lies where the library looks, or may be from now on.
async fn has_the_place<S: CryptoStore>(store: &S, session: &InboundGroupSession) -> Result<bool, CryptoStoreError> {
    let (place, room) = (place(session.session_id()), session.room_id().as_bytes());
    if let Some(kept) = store.get_custom_value(&place).await.map_err(Into::into)? {
        return Ok(kept == room);
    }
    // Before the key itself: should the process die in between, it comes again and has its place.
    store.set_custom_value(&place, room.to_vec()).await.map_err(Into::into)?;
    Ok(true)
}

/// The claims of a person beside the first, and what came from the backup beside it.
pub(in crate::engine) async fn beside<S: CryptoStore + ?Sized>(
    store: &S,
    room: &RoomId,
    session: &str,
    user: &UserId,
) -> Result<Vec<Claim>, CryptoStoreError> {
    let mut claims = Vec::new();
    for slot in [slot(room, session, Some(user)), slot(room, session, None)] {
        let kept = kept(store, &slot).await?;
        let claim = |key: &InboundGroupSession| Claim { slot: slot.clone(), device_key: key.sender_key().to_base64() };
        claims.extend(kept.iter().map(claim));
    }
    Ok(claims)
}

/// The key as it was handed in.
pub(in crate::engine) async fn key_of<S: CryptoStore + ?Sized>(
    store: &S,
    claim: &Claim,
) -> Result<Option<InboundGroupSession>, CryptoStoreError> {
    let mut kept = kept(store, &claim.slot).await?.into_iter();
    Ok(kept.find(|key| key.sender_key().to_base64() == claim.device_key))
}

/// Whether the first may be of this person, where nothing is known of the device that handed it in.
pub(in crate::engine) async fn first_may_be_of<S: CryptoStore + ?Sized>(
    store: &S,
    room: &RoomId,
    session: &str,
    user: &UserId,
) -> Result<bool, CryptoStoreError> {
    let Some(kept) = store.get_custom_value(&maker(room, session)).await.map_err(Into::into)? else { return Ok(true) };
    Ok(serde_json::from_slice::<BTreeSet<OwnedUserId>>(&kept)?.contains(user))
}

async fn kept<S: CryptoStore + ?Sized>(store: &S, slot: &str) -> Result<Vec<InboundGroupSession>, CryptoStoreError> {
    let Some(kept) = store.get_custom_value(slot).await.map_err(Into::into)? else { return Ok(Vec::new()) };
    let kept: Vec<PickledInboundGroupSession> = serde_json::from_slice(&Zeroizing::new(kept))?;
    kept.into_iter().map(|one| InboundGroupSession::from_pickle(one).map_err(Into::into)).collect()
}

async fn keep<S: CryptoStore>(store: &S, slot: &str, claims: &[InboundGroupSession]) -> Result<(), CryptoStoreError> {
    let mut pickles = Vec::with_capacity(claims.len());
    for claim in claims {
        pickles.push(claim.pickle().await);
    }
    store.set_custom_value(slot, serde_json::to_vec(&pickles)?).await.map_err(Into::into)
}

/// The first claims of keys that are looked at, and whether they are to be stored.
type Firsts = HashMap<(OwnedRoomId, String), (Option<InboundGroupSession>, bool)>;

/// Sorts keys that are to be stored. What lies beside others is stored here, and the rest given back. What is no better
/// than what is known is left out.
pub(super) async fn sort<S: CryptoStore>(
    store: &S,
    incoming: Vec<InboundGroupSession>,
    origin: Origin<'_>,
) -> Result<Vec<InboundGroupSession>, CryptoStoreError> {
    let mut firsts = Firsts::new();
    for session in incoming {
        if !has_the_place(store, &session).await? {
            for slot in slots(&session, &origin) {
                lay_beside(store, &slot, session.clone(), &origin).await?;
            }
            continue;
        }
        let at = (session.room_id().to_owned(), session.session_id().to_owned());
        if !firsts.contains_key(&at) {
            let first = store.get_inbound_group_session(&at.0, &at.1).await.map_err(Into::into)?;
            firsts.insert(at.clone(), (first, false));
        }
        let Some((first, is_new)) = firsts.get_mut(&at) else { continue };
        match first {
            None => {
                // The device may never be known: then this alone says whose key it is.
                if let (Origin::Devices(senders), None) = (&origin, owner(&session.sender_data)) {
                    let users = senders.get(&session.sender_key().to_base64()).cloned().unwrap_or_default();
                    let (name, users) = (maker(&at.0, &at.1), serde_json::to_vec(&users)?);
                    store.set_custom_value(&name, users).await.map_err(Into::into)?;
                }
                (*first, *is_new) = (Some(session), true);
            }
            Some(known) if known.sender_key() == session.sender_key() => {
                if let Some(better) = better(known, session, &origin).await? {
                    (*first, *is_new) = (Some(better), true);
                }
            }
            Some(_) => {
                for slot in slots(&session, &origin) {
                    lay_beside(store, &slot, session.clone(), &origin).await?;
                }
            }
        }
    }
    let firsts = firsts.into_values().filter(|(_, is_new)| *is_new);
    Ok(firsts.filter_map(|(first, _)| first).collect())
}

/// Where a claim beside the first is to lie: with whoever may be its device's owner.
fn slots(session: &InboundGroupSession, origin: &Origin<'_>) -> Vec<String> {
    let slot = |user| slot(session.room_id(), session.session_id(), user);
    match (origin, asked_for(), owner(&session.sender_data)) {
        (Origin::Backup, ..) => vec![slot(None)],
        (Origin::Known, Some(claim), _) => vec![claim.slot],
        (Origin::Known, None, user) | (Origin::Devices(_), _, user @ Some(_)) => {
            user.map(|user| slot(Some(user))).into_iter().collect()
        }
        (Origin::Devices(senders), _, None) => {
            let users = senders.get(&session.sender_key().to_base64()).into_iter().flatten();
            users.map(|user| slot(Some(user))).collect()
        }
    }
}

/// Whose the device is that handed a key in, if it is known.
fn owner(data: &SenderData) -> Option<&UserId> {
    match data {
        SenderData::UnknownDevice { .. } => None,
        SenderData::DeviceInfo { device_keys, .. } => Some(&device_keys.user_id),
        SenderData::VerificationViolation(known)
        | SenderData::SenderUnverified(known)
        | SenderData::SenderVerified(known) => Some(&known.user_id),
    }
}

async fn lay_beside<S: CryptoStore>(
    store: &S,
    slot: &str,
    session: InboundGroupSession,
    origin: &Origin<'_>,
) -> Result<(), CryptoStoreError> {
    let mut claims = kept(store, slot).await?;
    match claims.iter().position(|claim| claim.sender_key() == session.sender_key()) {
        Some(at) => {
            let Some(better) = better(&claims[at], session, origin).await? else { return Ok(()) };
            claims[at] = better;
        }
        None => {
            if claims.len() >= MOST {
                let least = claims.iter().map(|claim| proof(&claim.sender_data)).enumerate().min_by_key(|(_, it)| *it);
                let gives_way = |proves: u8| proves == 0 || proves < proof(&session.sender_data);
                let Some((least, _)) = least.filter(|(_, proves)| gives_way(*proves)) else {
                    warn!("A room key is handed in by more devices of one person than are kept; one is left out.");
                    return Ok(());
                };
                claims.remove(least);
            }
            warn!("A room key is handed in by more than one device; a message is read with that of who sent it.");
            claims.push(session);
        }
    }
    keep(store, slot, &claims).await
}

/// What of two that the same device handed in is to be kept instead of the known one, as the library has it: the longer
/// reach of either, and the better proof of either.
async fn better(
    known: &InboundGroupSession,
    new: InboundGroupSession,
    origin: &Origin<'_>,
) -> Result<Option<InboundGroupSession>, CryptoStoreError> {
    if matches!(origin, Origin::Known) {
        return Ok(Some(new));
    }
    let proves_more = proof(&new.sender_data) > proof(&known.sender_data);
    let proves_less = proof(&new.sender_data) < proof(&known.sender_data);
    Ok(match new.compare_ratchet(known).await {
        SessionOrdering::Better if proves_less => {
            let merged = with_reach_of(known, &new).await?;
            merged.reset_backup_state();
            Some(merged)
        }
        SessionOrdering::Better => Some(new),
        SessionOrdering::Equal if proves_more => Some(new),
        SessionOrdering::Worse if proves_more => Some(with_reach_of(&new, known).await?),
        SessionOrdering::Equal | SessionOrdering::Worse | SessionOrdering::Unconnected => None,
    })
}

async fn with_reach_of(
    session: &InboundGroupSession,
    other: &InboundGroupSession,
) -> Result<InboundGroupSession, CryptoStoreError> {
    let pickle = PickledInboundGroupSession { pickle: other.pickle().await.pickle, ..session.pickle().await };
    Ok(InboundGroupSession::from_pickle(pickle)?)
}

/// How much a key proves of its sender, as the library counts it.
fn proof(data: &SenderData) -> u8 {
    match data {
        SenderData::UnknownDevice { .. } => 0,
        SenderData::DeviceInfo { .. } => 1,
        SenderData::VerificationViolation(_) => 2,
        SenderData::SenderUnverified(_) => 3,
        SenderData::SenderVerified(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use matrix_sdk_crypto::{
        store::MemoryStore,
        vodozemac::{
            Curve25519PublicKey, Ed25519PublicKey, Ed25519SecretKey,
            megolm::{GroupSession, SessionConfig, SessionKey},
        },
    };
    use ruma::{device_id, room_id, user_id};

    use super::*;

    fn session(device: u8, signing: Ed25519PublicKey, key: &SessionKey, data: &SenderData) -> InboundGroupSession {
        session_of(room_id!("!r:x"), device, signing, key, data)
    }

    fn session_of(
        room: &RoomId,
        device: u8,
        signing: Ed25519PublicKey,
        key: &SessionKey,
        data: &SenderData,
    ) -> InboundGroupSession {
        let device = Curve25519PublicKey::from_bytes([device; 32]);
        let algorithm = "m.megolm.v1.aes-sha2".into();
        let made = InboundGroupSession::new(device, signing, room, key, data.clone(), None, algorithm, None, false);
        made.expect("the algorithm is known")
    }

    #[tokio::test]
    async fn persons_own_key_has_a_place_whatever_devices_that_prove_less_handed_in() {
        let (store, slot) = (MemoryStore::new(), "claims/of-alice");
        let key = GroupSession::new(SessionConfig::version_1()).session_key();
        let signing = Ed25519SecretKey::new().public_key();
        let less = SenderData::sender_verification_violation(user_id!("@a:x"), device_id!("A"), signing);
        let proven = SenderData::sender_unverified(user_id!("@a:x"), device_id!("A"), signing);
        let no_devices = Senders::new();
        let of_devices = || Origin::Devices(&no_devices);
        for device in 1..20 {
            let one = session(device, signing, &key, &less);
            lay_beside(&store, slot, one, &of_devices()).await.expect("it is stored");
        }
        lay_beside(&store, slot, session(20, signing, &key, &proven), &of_devices()).await.expect("it is stored");
        let claims = kept(&store, slot).await.expect("they were stored");
        assert_eq!(claims.len(), MOST);
        assert_eq!(claims.iter().filter(|claim| claim.sender_data == proven).count(), 1);
    }

    #[tokio::test]
    async fn key_that_an_earlier_version_stored_keeps_its_place() {
        let (store, key) = (MemoryStore::new(), GroupSession::new(SessionConfig::version_1()).session_key());
        let signing = Ed25519SecretKey::new().public_key();
        let data = SenderData::sender_unverified(user_id!("@a:x"), device_id!("A"), signing);
        let hers = session(1, signing, &key, &data);
        store.save_inbound_group_sessions(vec![hers.clone()], None).await.expect("it is stored");
        settle_places(&store).await.expect("it is stored");
        let elsewhere = session_of(room_id!("!other:x"), 2, signing, &key, &data);
        let (senders, incoming) = (Senders::new(), vec![elsewhere, hers]);
        let stored = sort(&store, incoming, Origin::Devices(&senders)).await.expect("it is stored");
        assert!(stored.is_empty(), "one takes no place, and the other has it: {}", stored.len());
        settle_places(&store).await.expect("it was done");
    }

    #[tokio::test]
    async fn of_two_that_one_device_handed_in_the_longer_reach_and_the_better_proof_are_kept() {
        let mut made = GroupSession::new(SessionConfig::version_1());
        let early = made.session_key();
        made.encrypt("x");
        let late = made.session_key();
        let stranger = GroupSession::new(SessionConfig::version_1()).session_key();
        let signing = Ed25519SecretKey::new().public_key();
        let session = |key: &_, data: &SenderData| session(7, signing, key, data);
        let proven = SenderData::sender_unverified(user_id!("@a:x"), device_id!("A"), signing);
        let unproven = SenderData::unknown();
        let of = [(&early, &unproven), (&early, &proven), (&late, &unproven), (&late, &proven)];
        for (known, new) in of.iter().flat_map(|known| of.iter().map(move |new| (*known, *new))) {
            let kept =
                better(&session(known.0, known.1), session(new.0, new.1), &Origin::Backup).await.expect("it is a key");
            let kept = kept.unwrap_or_else(|| session(known.0, known.1));
            let reaches_back = std::ptr::eq(known.0, &early) || std::ptr::eq(new.0, &early);
            let is_proven = [known.1, new.1].contains(&&proven);
            assert_eq!(kept.first_known_index() == 0, reaches_back);
            assert_eq!(kept.sender_data == proven, is_proven);
        }
        // Nothing but another key has another ratchet.
        let other = better(&session(&late, &unproven), session(&stranger, &proven), &Origin::Backup)
            .await
            .expect("it is a key");
        assert!(other.is_none());
    }
}
