//! From the gate to the network.

use sealbridge_contract::{Cleared, DeliveryError, Receipt, Slip, gate::Encryption};

use crate::{core::Core, files, hub::Cargo, translate};

/// Encrypts and delivers.
pub(crate) async fn deliver(core: &Core, message: &Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
    // The gate asked a moment ago. What a server said since then must still stop it.
    if core.encryption(&slip.to) != Encryption::Pinned {
        return Err(DeliveryError::retry("the conversation is not known to be encrypted any more"));
    }
    let mut content = translate::outgoing(message.message(), slip, &core.abilities)?;
    content.more.file = files::bring(core, message).await?;
    if let Some(portrait) = message.portrait() {
        content.more.portrait = portrait.look_up().await.map(|picture| picture.content().expose().to_vec());
    }
    core.send(slip, Cargo::Words(content)).await
}
