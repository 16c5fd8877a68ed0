//! The lab keeps its own promises.

mod mail;
mod people;
mod servers;
mod trust;

use std::time::Duration;

use anyhow::Result;
use sealbridge_lab::Lab;
use sealbridge_lab::person::{Options, Person};

const SOON: Duration = Duration::from_secs(60);

/// Two people in one encrypted room on server A.
struct Pair {
    alice: Person,
    bob: Person,
    room: String,
}

impl Pair {
    async fn meet(lab: &Lab, options: Options) -> Result<Self> {
        let (alice, bob) = tokio::try_join!(Person::new_on(&lab.a, "alice"), Person::new_with(&lab.a, "bob", options))?;
        let room = alice.create_encrypted_room("talk", &[bob.user_id()]).await?;
        bob.wait_invite(&room, SOON).await?;
        bob.join(&room).await?;
        alice.wait_member(&room, bob.user_id(), "join", SOON).await?;
        Ok(Self { alice, bob, room })
    }
}
