//! Who gets keys and who is read.

use std::time::Duration;

use sealbridge_matrix::engine::{
    DecryptError, Distrust, EncryptError, HttpErrorKind, PrepareError, Readers, RecoveryKey, SenderProof, Stop, Whom,
    Withholding,
};
use serde_json::{Value, json, value::RawValue};

use crate::{
    peer::{Peer, bodies},
    server::{Outcome, server},
};

fn rewritten(event: &RawValue, key: &str, value: &str) -> Outcome<Box<RawValue>> {
    let mut event: Value = serde_json::from_str(event.get())?;
    event[key] = json!(value);
    Ok(serde_json::value::to_raw_value(&event)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_device_gets_no_keys_and_is_not_read() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let mut mallory = Peer::unsigned(&server, "mallory").await?;
    mallory.settings.readers = Readers::AnyDevice;
    mallory.engine.set_readers(Readers::AnyDevice);
    mallory.trust.unsigned_devices = true;
    let room = alice.room_with(&[&mallory]).await?;
    let (_, audience) = alice.send(&room, "secret").await?;
    let withheld: Vec<_> = audience.withheld().map(|(user, _, why)| (user.to_owned(), why)).collect();
    assert_eq!(withheld, [(mallory.user(), Withholding::NoIdentity)]);
    let seen = mallory.sync_until(&room, 1).await?;
    let told = matches!(
        &seen[0].result,
        Err(DecryptError::MissingKey { withheld: Some(code), .. }) if code == "m.unverified"
    );
    assert!(told, "{:?}", seen[0].result);
    // What one says of a key that is another's does not count.
    let others = rewritten(&seen[0].event, "sender", mallory.user().as_str())?;
    let result = mallory.engine.decrypt(&room, &others, mallory.trust).await;
    assert!(matches!(&result, Err(DecryptError::MissingKey { withheld: None, .. })), "{result:?}");

    mallory.send(&room, "trust me").await?;
    let seen = alice.sync_until(&room, 2).await?;
    let event = &seen[1];
    let refused = matches!(&event.result, Err(DecryptError::NotTrusted { why: Distrust::UnsignedDevice, .. }));
    assert!(refused, "{:?}", event.result);
    alice.trust.unsigned_devices = true;
    let lenient = alice.engine.decrypt(&room, &event.event, alice.trust).await?;
    assert_eq!(lenient.proof, SenderProof::UnsignedDevice);

    // Once cross-signed, the same event opens under the strict rule, and keys flow.
    alice.trust.unsigned_devices = false;
    mallory.engine.bootstrap(Some(&mallory.password())).await?;
    alice.sync(&room).await?;
    let strict = alice.engine.decrypt(&room, &event.event, alice.trust).await?;
    assert_eq!(strict.proof, SenderProof::CrossSigned);
    alice.send(&room, "welcome").await?;
    assert_eq!(bodies(&mallory.sync_until(&room, 2).await?).last(), Some(&"welcome"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn spoofed_sender_is_refused_however_lenient_the_trust() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let carol = Peer::new(&server, "carol").await?;
    let room = alice.room_with(&[&bob, &carol]).await?;
    alice.send(&room, "I am alice").await?;
    bob.engine.track([&*carol.user()]).await?;
    let seen = bob.sync_until(&room, 1).await?;
    let forged = rewritten(&seen[0].event, "sender", carol.user().as_str())?;
    for (unsigned_devices, backup_keys) in [(false, false), (true, false), (true, true)] {
        bob.trust.unsigned_devices = unsigned_devices;
        bob.trust.backup_keys = backup_keys;
        let result = bob.engine.decrypt(&room, &forged, bob.trust).await;
        assert!(matches!(result, Err(DecryptError::SpoofedSender { .. })), "{result:?}");
    }
    let elsewhere = alice.room_with(&[&bob]).await?;
    let result = bob.engine.decrypt(&elsewhere, &seen[0].event, bob.trust).await;
    assert!(result.is_err(), "a ciphertext of another room is not read here");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_audience_gets_no_key() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    let members = alice.members(&room).await?;
    let mut lane = alice.engine.lane(&room).await;
    let refused = lane.prepare(&members, &alice.settings, |audience| {
        assert_eq!(audience.readers().count(), 1);
        false
    });
    let refused = refused.await.map(drop);
    assert!(matches!(refused, Err(PrepareError::Refused)), "{refused:?}");
    drop(lane);
    let answer = bob.ask(Duration::ZERO).await?;
    let (fed, _) = bob.take(&room, &answer).await?;
    assert!(fed.room_keys.is_empty() && fed.withheld.is_empty(), "nothing left");

    alice.send(&room, "approved").await?;
    assert_eq!(bodies(&bob.sync_until(&room, 1).await?), ["approved"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_a_room_leaves_only_for_those_whom_the_register_lets_read_whoever_chose_them() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let carol = Peer::new(&server, "carol").await?;
    let room = alice.room_with(&[&bob, &carol]).await?;
    let members = alice.members(&room).await?;
    alice.outsiders.are([carol.user()]);
    let mut lane = alice.engine.lane(&room).await;
    let stopped = lane.prepare(&members, &alice.settings, |_| true).await.map(drop);
    drop(lane);
    let is_stopped =
        matches!(&stopped, Err(PrepareError::Http(error)) if error.kind == HttpErrorKind::Stopped(Stop::Outsider));
    assert!(is_stopped, "{stopped:?}");
    assert_eq!(alice.engine.http().watch().stopped.get(&Stop::Outsider), Some(&1));
    let answer = bob.ask(Duration::ZERO).await?;
    let (fed, _) = bob.take(&room, &answer).await?;
    assert!(fed.room_keys.is_empty(), "the key left all the same");
    alice.outsiders.are([]);
    alice.send(&room, "to all").await?;
    assert_eq!(bodies(&bob.sync_until(&room, 1).await?), ["to all"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_steps_of_a_comparison_is_encrypted_with_a_key_that_everybody_gets() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    let members = alice.members(&room).await?;
    alice.settings.whom = Whom::Everybody;
    let mut lane = alice.engine.lane(&room).await;
    let ready = lane.prepare(&members, &alice.settings, |_| true).await?;
    let words = serde_json::value::to_raw_value(&json!({ "msgtype": "m.text", "body": "secret" }))?;
    let refused = ready.encrypt("m.room.message", &words).await.map(drop);
    assert!(matches!(refused, Err(EncryptError::ForEverybody)), "{refused:?}");
    let ready = lane.prepare(&members, &alice.settings, |_| true).await?;
    ready.encrypt("m.key.verification.cancel", &words).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn audience_that_is_refused_while_its_key_is_about_to_leave_gets_no_key() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    let members = alice.members(&room).await?;
    let mut lane = alice.engine.lane(&room).await;
    let mut looks = 0;
    let approve = |_: &sealbridge_matrix::engine::Audience| {
        looks += 1;
        looks == 1
    };
    let refused = lane.prepare(&members, &alice.settings, approve).await.map(drop);
    assert!(matches!(refused, Err(PrepareError::AudienceMoved)), "{refused:?}");
    let answer = bob.ask(Duration::ZERO).await?;
    let (fed, _) = bob.take(&room, &answer).await?;
    assert!(fed.room_keys.is_empty(), "the key left all the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn device_that_goes_or_changes_its_key_after_the_audience_was_approved_gets_no_key() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    for comes_back in [false, true] {
        let mut alice = Peer::new(&server, "alice").await?;
        alice.settings.readers = Readers::AnyDevice;
        alice.engine.set_readers(Readers::AnyDevice);
        let mut bob = Peer::new(&server, "bob").await?;
        let carol = Peer::new(&server, "carol").await?;
        let room = alice.room_with(&[&bob, &carol]).await?;
        let members = alice.members(&room).await?;
        alice.engine.track(members.iter().map(|member| &**member)).await?;
        alice.engine.read_devices().await?;
        alice.sync(&room).await?;
        bob.sync(&room).await?;
        let runtime = tokio::runtime::Handle::current();
        let happens = || -> Outcome {
            tokio::task::block_in_place(|| {
                runtime.block_on(async {
                    carol.log_out().await?;
                    alice.learns_devices_of(&carol.user()).await?;
                    if comes_back {
                        let device = carol.engine.device_id();
                        let again = Peer::log_in_as(&server, carol.same_account(), device).await?;
                        again.engine.flush().await;
                        alice.learns_devices_of(&carol.user()).await?;
                    }
                    Ok(())
                })
            })
        };
        let mut happened = Err("it was never approved".into());
        let mut lane = alice.engine.lane(&room).await;
        let approve = |audience: &sealbridge_matrix::engine::Audience| {
            assert_eq!(audience.readers().count(), 2, "Bob and Carol");
            happened = happens();
            true
        };
        let moved = lane.prepare(&members, &alice.settings, approve).await.map(drop);
        happened?;
        assert!(matches!(moved, Err(PrepareError::AudienceMoved)), "{moved:?}");
        drop(lane);
        let answer = bob.ask(Duration::ZERO).await?;
        let (fed, _) = bob.take(&room, &answer).await?;
        assert!(fed.room_keys.is_empty(), "the key left all the same");

        // The next message has a key of its own, for those who are there now.
        let (_, audience) = alice.send(&room, "to those who are there").await?;
        assert_eq!(audience.readers().count(), if comes_back { 2 } else { 1 });
        assert_eq!(bodies(&bob.sync_until(&room, 1).await?), ["to those who are there"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn device_whose_name_stands_for_all_gets_no_key_and_keeps_nobody_elses_from_leaving() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let account = server.account("eve").await?;
    let eve = Peer::log_in_as(&server, account, "*".into()).await?;
    let failed = eve.engine.flush().await.failed;
    assert!(failed.is_empty(), "{failed:?}");
    eve.engine.bootstrap(Some(&eve.password())).await?;
    let room = alice.room_with(&[&bob, &eve]).await?;
    // With her words there is a channel to her, over which the library would give her the key.
    eve.send(&room, "hello").await?;
    alice.sync_until(&room, 1).await?;
    let (_, audience) = alice.send(&room, "for bob").await?;
    let withheld: Vec<_> = audience.withheld().map(|(user, _, why)| (user.to_owned(), why)).collect();
    assert_eq!(withheld, [(eve.user(), Withholding::Everything)]);
    assert_eq!(bodies(&bob.sync_until(&room, 2).await?), ["hello", "for bob"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_devices_of_our_own_account_get_no_keys_from_us_though_our_identity_signed_them() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let key = RecoveryKey::generate();
    alice.engine.set_up_recovery(&key).await?;
    let mut second = Peer::log_in(&server, alice.same_account()).await?;
    second.engine.recover(&key.shown()).await?;
    let room = alice.room_with(&[&bob]).await?;
    // She knows the other device, and that her identity signed it.
    alice.sync(&room).await?;
    alice.engine.reread(&alice.user()).await?;
    let (_, audience) = alice.send(&room, "for bob alone").await?;
    let withheld: Vec<_> = audience.withheld().map(|(_, device, why)| (device.cross_signed, why)).collect();
    assert_eq!(withheld, [(true, Withholding::Ours)]);
    assert_eq!(bodies(&bob.sync_until(&room, 1).await?), ["for bob alone"]);
    let seen = second.sync_until(&room, 1).await?;
    assert!(matches!(seen[0].result, Err(DecryptError::MissingKey { .. })), "{:?}", seen[0].result);
    assert_eq!(alice.engine.own_state().await?.other_devices, 1);
    Ok(())
}
