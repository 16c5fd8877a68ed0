//! Keys that more than one device hands in as its own.

use matrix_sdk_crypto::vodozemac::olm::{Account as OlmAccount, OlmMessage, SessionConfig};

use super::{
    super::claims::{first_may_be_of, importing, keep_withheld, withheld_by},
    *,
};

/// The room key that somebody speaks with, as it stands.
async fn spoken_with(owner: &Device) -> Outcome<Value> {
    let config = SqliteStoreConfig::new(owner.folder.path()).key(Some(&[7; 32]));
    let store = SqliteCryptoStore::open_with_config(&config).await?;
    store.load_account().await?;
    let key = store.get_outbound_group_session(room()).await?.ok_or("no key yet")?;
    Ok(json!({
        "algorithm": "m.megolm.v1.aes-sha2", "room_id": room(), "session_id": key.session_id(),
        "session_key": key.session_key().await.to_base64(),
    }))
}

/// It, as another hands it in as theirs.
async fn handed_in(owner: &Device, by: &Device, to: &Device) -> Outcome<Raw<AnyToDeviceEvent>> {
    handed_in_for(room(), owner, by, to).await
}

/// The same, as the key of that room.
async fn handed_in_for(room: &RoomId, owner: &Device, by: &Device, to: &Device) -> Outcome<Raw<AnyToDeviceEvent>> {
    let mut content = spoken_with(owner).await?;
    content["room_id"] = room.as_str().into();
    let device = by.machine.get_device(&to.user, &to.device, None).await?.ok_or("they don't know the device")?;
    let sealed = device.encrypt_event_raw("m.room_key", &content, CollectStrategy::AllDevices).await?;
    let event = json!({ "type": "m.room.encrypted", "sender": by.user, "content": sealed });
    Ok(Raw::from_json(to_raw_value(&event)?))
}

/// What is thought of a message's sender with the first key that was handed in, and with each of theirs.
async fn judged(bob: &Device, event: &Value) -> Outcome<Vec<String>> {
    let session = event["content"]["session_id"].as_str().ok_or("no session")?;
    let sender = UserId::parse(event["sender"].as_str().ok_or("no sender")?)?;
    let settings = DecryptionSettings { sender_device_trust_requirement: TrustRequirement::Untrusted };
    let event = Raw::from_json(to_raw_value(event)?);
    let theirs = beside(&**bob.machine.store(), room(), session, &sender).await?;
    let mut heard = Vec::new();
    for claim in std::iter::once(None).chain(theirs.into_iter().map(Some)) {
        let reading = bob.machine.decrypt_room_event(&event, room(), &settings);
        let read = match claim {
            Some(claim) => reading_with(claim, reading).await?,
            None => reading.await?,
        };
        heard.push(format!("{:?}", read.encryption_info.verification_state));
    }
    Ok(heard)
}

#[tokio::test]
async fn key_that_another_handed_in_first_is_kept_from_its_owner_too_wherever_the_process_died() -> Outcome {
    let mut died = 0;
    for writes in 0.. {
        let mut scene = scene().await?;
        let mallory = scene.joined_by(user_id!("@mallory:x")).await?;
        // The second key, as it stands after its first message.
        let stolen = handed_in(&scene.alice, &mallory, &scene.bob).await?;
        scene.bob.take(&[stolen]).await?;
        scene.bob.restart(Fate::dies_after(writes)).await?;
        let _ = scene.bob.take(&scene.messages).await;
        let dead = scene.bob.fate.has_died();
        scene.bob.restart(Fate::default()).await?;
        scene.bob.take(&scene.messages).await?;
        let states = judged(&scene.bob, &scene.alice.says("third").await?).await?;
        assert_eq!(states.len(), 2, "died after {writes} writes: {states:?}");
        assert!(states[0].contains("MismatchedSender") && !states[1].contains("MismatchedSender"), "{states:?}");
        if !dead {
            break;
        }
        died += 1;
    }
    assert!(died >= 2, "the process died {died} times");
    Ok(())
}

#[tokio::test]
async fn key_that_is_handed_in_as_that_of_another_room_takes_nobodys_place() -> Outcome {
    for comes_first in [true, false] {
        let mut scene = scene().await?;
        let mallory = scene.joined_by(user_id!("@mallory:x")).await?;
        let stolen = handed_in_for(room_id!("!other:x"), &scene.alice, &mallory, &scene.bob).await?;
        if comes_first {
            scene.bob.take(std::slice::from_ref(&stolen)).await?;
        }
        scene.bob.take(&scene.messages).await?;
        scene.bob.take(&[stolen]).await?;
        let third = scene.alice.says("third").await?;
        let session = third["content"]["session_id"].as_str().ok_or("no session")?.to_owned();
        let store = scene.bob.machine.store();
        let is_there = store.get_inbound_group_session(room(), &session).await?.is_some();
        let beside = beside(&**store, room(), &session, &scene.alice.user).await?;
        assert_eq!((is_there, beside.len()), if comes_first { (false, 1) } else { (true, 0) });
        let settings = DecryptionSettings { sender_device_trust_requirement: TrustRequirement::Untrusted };
        let event = Raw::from_json(to_raw_value(&third)?);
        let reading = scene.bob.machine.decrypt_room_event(&event, room(), &settings);
        match beside.into_iter().next() {
            Some(claim) => reading_with(claim, reading).await?,
            None => reading.await?,
        };
    }
    Ok(())
}

#[tokio::test]
async fn what_one_says_of_a_key_that_is_withheld_is_no_words_of_another() -> Outcome {
    let scene = scene().await?;
    let store = &**scene.bob.machine.store();
    let (alice, mallory) = (&scene.alice.user, user_id!("@mallory:x"));
    keep_withheld(store, room(), "s", alice, "m.blacklisted").await?;
    keep_withheld(store, room(), "s", mallory, "m.unverified").await?;
    keep_withheld(store, room_id!("!other:x"), "s", alice, &"x".repeat(100_000)).await?;
    assert_eq!(withheld_by(store, room(), "s", alice).await?.as_deref(), Some("m.blacklisted"));
    assert_eq!(withheld_by(store, room_id!("!other:x"), "s", alice).await?.as_deref(), Some("m.unknown"));
    assert_eq!(withheld_by(store, room(), "t", alice).await?, None);
    Ok(())
}

#[tokio::test]
async fn key_that_is_handed_in_again_and_again_is_kept_once() -> Outcome {
    let mut scene = scene().await?;
    let mallory = scene.joined_by(user_id!("@mallory:x")).await?;
    // Both in one answer, hers last, and again in others.
    let stolen = handed_in(&scene.alice, &mallory, &scene.bob).await?;
    let again = handed_in(&scene.alice, &mallory, &scene.bob).await?;
    scene.messages.push(stolen);
    scene.bob.take(&scene.messages).await?;
    scene.bob.take(&[again]).await?;
    let mut third = scene.alice.says("third").await?;
    assert_eq!(judged(&scene.bob, &third).await?.len(), 1);
    third["sender"] = mallory.user.as_str().into();
    let states = judged(&scene.bob, &third).await?;
    assert!(states.len() == 2 && states[0].contains("MismatchedSender"), "{states:?}");
    Ok(scene.all_is_read().await?)
}

/// A room key as `user` hands it in under a device key that they made up.
async fn handed_in_by_nothing(scene: &Scene, user: &UserId, number: usize) -> Outcome<Raw<AnyToDeviceEvent>> {
    let (owner, to) = (&scene.alice, &scene.bob);
    let content = spoken_with(owner).await?;
    let (made_up, theirs) = (OlmAccount::new(), to.machine.identity_keys());
    let (_, one) = scene.his.one_time_keys.iter().nth(number).ok_or("no key left")?;
    let one: Value = serde_json::from_str(one.json().get())?;
    let one = Curve25519PublicKey::from_base64(one["key"].as_str().ok_or("no key")?)?;
    let mut session = made_up.create_outbound_session(SessionConfig::version_1(), theirs.curve25519, one)?;
    let words = json!({
        "type": "m.room_key", "content": content, "sender": user, "recipient": to.user,
        "recipient_keys": { "ed25519": theirs.ed25519.to_base64() },
        "keys": { "ed25519": made_up.ed25519_key().to_base64() },
    });
    let OlmMessage::PreKey(sealed) = session.encrypt(words.to_string())? else { return Err("not the first".into()) };
    let content = json!({
        "algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": made_up.curve25519_key().to_base64(),
        "ciphertext": { theirs.curve25519.to_base64(): { "type": 0, "body": sealed.to_base64() } },
    });
    let event = json!({ "type": "m.room.encrypted", "sender": user, "content": content });
    Ok(Raw::from_json(to_raw_value(&event)?))
}

#[tokio::test]
async fn whoever_makes_up_devices_without_number_takes_nobody_elses_place() -> Outcome {
    let mut scene = scene().await?;
    let mallory = user_id!("@mallory:x");
    for number in 1..20 {
        let stolen = handed_in_by_nothing(&scene, mallory, number).await?;
        scene.bob.take(&[stolen]).await?;
    }
    let third = scene.alice.says("third").await?;
    let session = third["content"]["session_id"].as_str().ok_or("no session")?.to_owned();
    let store = scene.bob.machine.store();
    assert!(!first_may_be_of(&**store, room(), &session, &scene.alice.user).await?, "it is somebody else's");
    assert!(first_may_be_of(&**store, room(), &session, mallory).await?);
    assert_eq!(beside(&**store, room(), &session, mallory).await?.len(), 8, "hers are within a bound");
    // One that can't be opened says that it is under Alice's key.
    let mut garbled: Value = serde_json::from_str(spoilt(&scene.messages[0])?.json().get())?;
    garbled["sender"] = mallory.as_str().into();
    let garbled = Raw::from_json(to_raw_value(&garbled)?);
    let messages = [std::slice::from_ref(&garbled), &*scene.messages, std::slice::from_ref(&garbled)].concat();
    scene.bob.take(&messages).await?;
    let states = judged(&scene.bob, &third).await?;
    assert!(states.len() == 2 && !states[1].contains("MissingDevice"), "{states:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_backup_has_of_a_key_is_kept_beside_what_somebody_else_handed_in() -> Outcome {
    let mut scene = scene().await?;
    let stolen = handed_in_by_nothing(&scene, user_id!("@mallory:x"), 1).await?;
    scene.bob.take(&[stolen]).await?;
    let (_, second) = &scene.events[1];
    let session = second["content"]["session_id"].as_str().ok_or("no session")?.to_owned();
    let hers = scene.alice.machine.store().export_room_keys(|one| one.session_id() == session).await?;
    let import = scene.bob.machine.store().import_room_keys(hers, Some("1"), |_, _| {});
    assert_eq!(importing(import).await?.imported_count, 1);
    assert_eq!(beside(&**scene.bob.machine.store(), room(), &session, &scene.alice.user).await?.len(), 1);
    Ok(())
}
