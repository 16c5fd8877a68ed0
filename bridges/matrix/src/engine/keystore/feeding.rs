//! Takes the crypto part of an answer in: all of it, or none of it.

use std::collections::BTreeSet;

use matrix_sdk_base::deserialized_responses::ProcessedToDeviceEvent;
use matrix_sdk_crypto::{
    DecryptionSettings, EncryptionSyncChanges, OlmMachine, TrustRequirement, store::types::RoomKeyInfo,
};
use ruma::{OwnedUserId, events::AnyToDeviceEvent, serde::Raw};
use serde::Deserialize;
use tracing::{error, warn};

use super::{
    super::{EngineError, SyncPart, error::contained},
    claims::Senders,
};

/// What was taken in.
#[derive(Debug, Default)]
pub(in crate::engine) struct Taken {
    pub(in crate::engine) events: Vec<ProcessedToDeviceEvent>,
    pub(in crate::engine) keys: Vec<RoomKeyInfo>,
    /// Somebody opened a new Olm session: keys they could not read are to be sent again.
    pub(in crate::engine) new_sessions: bool,
    /// Who sent what no Olm session opens, with the key of the device: the session between us is broken.
    pub(in crate::engine) broken: BTreeSet<(OwnedUserId, String)>,
    /// Messages at which the library panicked. They were left out.
    pub(in crate::engine) abandoned: usize,
}

/// What the library keeps of Olm sessions in memory, as against what is stored.
#[derive(Debug, Default)]
pub(in crate::engine) struct Memory {
    /// Messages may have been read in memory, and what they brought is not stored.
    ahead: bool,
}

impl Memory {
    /// Makes sure that memory and store say the same, before anything is made or read with a session.
    pub(in crate::engine) async fn agree(&mut self, machine: &OlmMachine) -> Result<(), EngineError> {
        if !self.ahead {
            return Ok(());
        }
        let own = machine.get_device(machine.user_id(), machine.device_id(), None).await?;
        let own = own.ok_or(EngineError::Store("it does not know our own device"))?;
        // The library forgets the sessions in memory when our own device is stored: they hold copies of it. The account
        // it forgets by itself when a step fails.
        contained(own.set_local_trust(own.local_trust_state())).await??;
        self.ahead = false;
        Ok(())
    }
}

/// Takes in one answer. On an error nothing was taken in, and the same may be tried again.
///
/// A message at which the library panics is left out, and the others are taken in.
pub(in crate::engine) async fn take_in(
    machine: &OlmMachine,
    memory: &mut Memory,
    part: &SyncPart,
) -> Result<Taken, EngineError> {
    match attempt(machine, memory, part, part.to_device.clone()).await {
        Err(EngineError::Panicked) if !part.to_device.is_empty() => {}
        taken => return taken,
    }
    let mut taken = attempt(machine, memory, part, Vec::new()).await?;
    for message in &part.to_device {
        match attempt(machine, memory, part, vec![message.clone()]).await {
            Ok(one) => {
                taken.events.extend(one.events);
                taken.keys.extend(one.keys);
                taken.new_sessions |= one.new_sessions;
                taken.broken.extend(one.broken);
            }
            Err(EngineError::Panicked) => {
                error!("A to-device message makes the cryptography library panic; it is left out.");
                taken.abandoned += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

async fn attempt(
    machine: &OlmMachine,
    memory: &mut Memory,
    part: &SyncPart,
    messages: Vec<Raw<AnyToDeviceEvent>>,
) -> Result<Taken, EngineError> {
    memory.agree(machine).await?;
    let mut sent_by = Senders::new();
    for sealed in messages.iter().filter_map(|message| serde_json::from_str::<Sealed>(message.json().get()).ok()) {
        sent_by.entry(sealed.content.sender_key).or_default().insert(sealed.sender);
    }
    let changes = EncryptionSyncChanges {
        to_device_events: messages,
        changed_devices: &part.device_lists,
        one_time_keys_counts: &part.one_time_keys,
        unused_fallback_keys: part.fallback_keys.as_deref(),
        next_batch_token: Some(part.next_batch.clone()),
    };
    // Room events are judged when they are decrypted. Here the Olm sessions must stay whole, whoever writes.
    let settings = DecryptionSettings { sender_device_trust_requirement: TrustRequirement::Untrusted };
    memory.ahead = true;
    match contained(super::in_one_commit(sent_by, machine.receive_sync_changes(changes, &settings))).await {
        Ok((Ok((events, keys)), noticed)) => {
            memory.ahead = false;
            let broken = senders(&events, &noticed.unopened);
            Ok(Taken { events, keys, new_sessions: noticed.new_sessions, broken, abandoned: 0 })
        }
        failed => {
            if let Err(error) = memory.agree(machine).await {
                warn!(%error, "Olm sessions could not be read anew; it is tried again before they are used.");
            }
            Err(failed?.0.map_err(EngineError::from).err().unwrap_or(EngineError::Panicked))
        }
    }
}

#[derive(Deserialize)]
struct Sealed {
    sender: OwnedUserId,
    content: SealedContent,
}

#[derive(Deserialize)]
struct SealedContent {
    sender_key: String,
}

/// Who sent the messages under these device keys that were not opened.
fn senders(events: &[ProcessedToDeviceEvent], unopened: &[String]) -> BTreeSet<(OwnedUserId, String)> {
    let sealed = events.iter().filter_map(|event| match event {
        ProcessedToDeviceEvent::UnableToDecrypt { encrypted_event, .. } => {
            serde_json::from_str::<Sealed>(encrypted_event.json().get()).ok()
        }
        _ => None,
    });
    let sealed = sealed.filter(|event| unopened.contains(&event.content.sender_key));
    sealed.map(|event| (event.sender, event.content.sender_key)).collect()
}
