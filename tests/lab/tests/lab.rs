//! The lab keeps its own promises.

use std::time::Duration;

use anyhow::Result;
use sealbridge_lab::Lab;
use sealbridge_lab::person::Person;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn two_people_talk_in_an_encrypted_room() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let (alice, bob) = tokio::try_join!(
        Person::new_on(&lab.a, "alice"),
        Person::new_on(&lab.a, "bob")
    )?;
    let room = alice
        .create_encrypted_room("talk", &[bob.user_id()])
        .await?;
    bob.wait_invite(&room, SOON).await?;
    bob.join(&room).await?;
    alice
        .wait_member(&room, bob.user_id(), "join", SOON)
        .await?;
    alice.send(&room, "hello bob").await?;
    let heard = bob
        .wait_for(|message| message.body == "hello bob", SOON)
        .await?;
    assert!(heard.encrypted && heard.verified, "{heard:?}");
    Ok(())
}
