//! Keys go to whom they should.

use std::time::Instant;

use anyhow::Result;
use sealbridge_lab::Lab;
use sealbridge_lab::person::{Kind, Options, Person, Received};
use serde_json::json;

use super::{Pair, SOON};

#[tokio::test]
async fn a_withheld_key_makes_messages_late() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let Pair { alice, bob, room } = Pair::meet(lab, Options::default()).await?;
    alice.send(&room, "before").await?;
    alice.withhold(&room, &[bob.user_id()], true).await?;
    alice.send(&room, "kept back").await?;
    let unread = bob
        .wait_event(
            |one| match one {
                Received::Undecryptable(event) => Some(event.clone()),
                _ => None,
            },
            SOON,
        )
        .await?;
    assert_eq!(unread.withheld.as_deref(), Some("m.unavailable"));
    assert_eq!(bob.undecryptable().len(), 1);

    assert_eq!(alice.share_key(&room).await?, 1);
    let late = bob.wait_for(|it| it.body == "kept back", SOON).await?;
    assert!(late.late && late.encrypted);
    assert!(bob.undecryptable().is_empty());
    alice.send(&room, "after").await?;
    let after = bob.wait_for(|it| it.body == "after", SOON).await?;
    assert!(!after.late);
    Ok(())
}

#[tokio::test]
async fn who_came_by_nio_is_not_cross_signed() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let options = Options { kind: Kind::Nio, ..Options::default() };
    let Pair { alice, bob, room } = Pair::meet(lab, options).await?;
    alice.send(&room, "to nio").await?;
    let heard = bob.wait_for(|it| it.body == "to nio", SOON).await?;
    assert!(heard.encrypted && !heard.verified);
    bob.send(&room, "from nio").await?;
    let heard = alice.wait_for(|it| it.body == "from nio", SOON).await?;
    assert!(heard.encrypted && !heard.verified, "{heard:?}");
    let query = json!({ "device_keys": { bob.user_id(): [] } });
    let (status, keys) = alice.http("POST", "/_matrix/client/v3/keys/query", Some(query)).await?;
    assert_eq!(status, 200);
    assert!(keys["device_keys"][bob.user_id()][bob.device_id()].is_object());
    assert!(keys["master_keys"][bob.user_id()].is_null());
    assert!(keys["master_keys"][alice.user_id()].is_null(), "not asked for");
    Ok(())
}

#[tokio::test]
async fn two_people_verify_each_other_by_emoji_in_a_room_and_to_device() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    for in_room in [false, true] {
        let Pair { alice, bob, room } = Pair::meet(lab, Options::default()).await?;
        let room = in_room.then_some(room.as_str());
        let flow = alice.verify_request(bob.user_id(), None, room).await?;
        let asked = bob.wait_verification(alice.user_id(), "requested", SOON).await?;
        assert_eq!((&asked.flow, asked.room.as_deref()), (&flow, room));
        bob.verify_accept(&flow).await?;
        alice.wait_verification(bob.user_id(), "ready", SOON).await?;
        bob.verify_begin(&flow).await?;
        let (hers, his) = tokio::try_join!(
            alice.wait_verification(bob.user_id(), "emoji", SOON),
            bob.wait_verification(alice.user_id(), "emoji", SOON)
        )?;
        assert_eq!(hers.emoji.len(), 7);
        assert_eq!(hers.emoji, his.emoji);
        bob.verify_confirm(&flow).await?;
        alice.verify_confirm(&flow).await?;
        alice.wait_verification(bob.user_id(), "done", SOON).await?;
        bob.wait_verification(alice.user_id(), "done", SOON).await?;

        // Alice's user-signing key now stands under Bob's master key, for Alice to see.
        let query = json!({ "device_keys": { bob.user_id(): [] } });
        let (_, keys) = alice.http("POST", "/_matrix/client/v3/keys/query", Some(query)).await?;
        let signatures = &keys["master_keys"][bob.user_id()]["signatures"];
        assert!(signatures[alice.user_id()].is_object(), "{signatures}");
    }
    Ok(())
}

#[tokio::test]
async fn strict_people_share_with_cross_signed_devices_only() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let strict = Options { only_cross_signed: true, ..Options::default() };
    let unsigned = Options { without_cross_signing: true, ..Options::default() };
    let (carol, dave) =
        tokio::try_join!(Person::new_with(&lab.b, "carol", strict), Person::new_with(&lab.b, "dave", unsigned))?;
    let room = carol.create_encrypted_room("strict", &[dave.user_id()]).await?;
    dave.wait_invite(&room, SOON).await?;
    dave.join(&room).await?;
    carol.send(&room, "not for dave").await?;
    let code = dave
        .wait_event(
            |one| match one {
                Received::Withheld(withheld) => withheld.code.clone(),
                _ => None,
            },
            SOON,
        )
        .await?;
    assert_eq!(code, "m.unverified");
    dave.cross_sign().await?;
    let give_up = Instant::now() + SOON;
    while carol.devices(dave.user_id()).await?[0].1 != "cross-signed-tofu" {
        anyhow::ensure!(Instant::now() < give_up, "carol does not see it");
    }
    carol.new_session(&room).await?;
    carol.send(&room, "for dave").await?;
    dave.wait_for(|it| it.body == "for dave", SOON).await?;
    Ok(())
}
