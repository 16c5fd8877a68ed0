//! Whose device this is: bootstrap, recovery, backup, and the refusals.

use sealbridge_matrix::engine::{
    DecryptError, Engine, IdentityError, OpenError, RecoveryKey, SenderProof, StoreKey, adopt_token, discover,
};
use secrecy::SecretString;

use crate::{
    peer::{Peer, bodies},
    server::{Outcome, server},
};

#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_cross_signs_and_can_be_repeated() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::unsigned(&server, "alice").await?;
    let refused = alice.engine.require_cross_signed().await;
    assert!(matches!(refused, Err(IdentityError::NotCrossSigned)));
    alice.engine.bootstrap(Some(&alice.password())).await?;
    let first = alice.engine.own_state().await?;
    assert!(first.cross_signed && first.has_private_keys && !first.secret_storage);
    let alice = alice.restart().await?;
    alice.engine.require_cross_signed().await?;
    alice.engine.bootstrap(None).await?;
    assert_eq!(alice.engine.own_state().await?.master_key, first.master_key);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_key_makes_a_second_device_cross_signed() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let first = Peer::new(&server, "alice").await?;
    let key = RecoveryKey::generate();
    first.engine.set_up_recovery(&key).await?;
    first.engine.set_up_recovery(&key).await?;
    let state = first.engine.own_state().await?;
    assert!(state.secret_storage);
    assert_eq!(state.backup_version, state.server_backup_version);
    let other = first.engine.set_up_recovery(&RecoveryKey::generate()).await;
    assert!(matches!(other, Err(IdentityError::SecretStorageExists)), "{other:?}");

    let second = Peer::log_in(&server, first.same_account()).await?;
    let without = second.engine.bootstrap(Some(&second.password())).await;
    assert!(matches!(without, Err(IdentityError::NeedsRecoveryKey)), "{without:?}");
    for wrong in [RecoveryKey::generate().shown(), SecretString::from("not a key".to_owned())] {
        let refused = second.engine.recover(&wrong).await;
        assert!(matches!(refused, Err(IdentityError::WrongRecoveryKey)), "{refused:?}");
        assert!(second.engine.require_cross_signed().await.is_err());
    }
    second.engine.recover(&key.shown()).await?;
    let second_state = second.engine.own_state().await?;
    assert!(second_state.cross_signed);
    assert_eq!(second_state.master_key, state.master_key);
    assert_eq!(second_state.backup_version, state.backup_version);

    // Seen by somebody else, both devices carry the owner's signature.
    let bob = Peer::new(&server, "bob").await?;
    bob.engine.track([&*first.user()]).await?;
    bob.engine.flush().await;
    let person = bob.engine.person(&first.user()).await?;
    assert_eq!(person.devices.iter().filter(|device| device.cross_signed).count(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn key_from_backup_opens_but_proves_no_sender() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let bob = Peer::new(&server, "bob").await?;
    let mut first = Peer::new(&server, "alice").await?;
    let key = RecoveryKey::generate();
    first.engine.set_up_recovery(&key).await?;
    let room = bob.room_with(&[&first]).await?;
    bob.send(&room, "before").await?;
    let seen = first.sync_until(&room, 1).await?;
    assert_eq!(bodies(&seen), ["before"]);
    assert!(first.engine.flush().await.failed.is_empty());

    let mut second = Peer::log_in(&server, first.same_account()).await?;
    second.engine.recover(&key.shown()).await?;
    let result = second.engine.decrypt(&room, &seen[0].event, second.trust).await;
    let Err(DecryptError::MissingKey { position, .. }) = result else {
        return Err(format!("the key should be missing: {result:?}").into());
    };
    assert!(!second.engine.download_from_backup(&room, "no such session").await?);
    assert!(second.engine.download_from_backup(&room, &position.session_id).await?);
    let strict = second.engine.decrypt(&room, &seen[0].event, second.trust).await;
    assert!(matches!(strict, Err(DecryptError::NotTrusted { .. })), "{strict:?}");
    second.trust.backup_keys = true;
    let marked = second.engine.decrypt(&room, &seen[0].event, second.trust).await?;
    assert_eq!(marked.proof, SenderProof::NotProven);
    assert_eq!(marked.content["body"], "before");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_device_with_foreign_keys_is_refused() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let session = adopt_token(&discover(&server.url).await?, alice.session.tokens().access).await?;
    assert_eq!(session.device_id, alice.session.device_id);
    let folder = tempfile::tempdir()?;
    let opened = Engine::open(&session, session.http()?, folder.path(), &StoreKey::generate()?).await;
    assert!(matches!(opened, Err(OpenError::ForeignDevice)), "{opened:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn store_is_opened_by_one_process_with_the_right_key_for_its_own_device() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let second = Peer::new(&server, "bob").await?;
    let path = alice.folder.path().to_owned();
    let open = async |session: &sealbridge_matrix::engine::Session, key: StoreKey| -> Outcome<_> {
        Ok(Engine::open(session, session.http()?, &path, &key).await.map(drop))
    };
    let busy = open(&alice.session, StoreKey::generate()?).await?;
    assert!(matches!(busy, Err(OpenError::Busy)), "{busy:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path)?.permissions());
    assert_eq!(mode & 0o777, 0o700);

    let (session, key) = (alice.session.clone(), alice.store_key());
    drop(alice.engine);
    let wrong = open(&session, StoreKey::generate()?).await?;
    assert!(matches!(wrong, Err(OpenError::WrongKey)), "{wrong:?}");
    let other = open(&second.session, StoreKey::from_bytes(&key)).await?;
    assert!(matches!(other, Err(OpenError::OtherDevice)), "{other:?}");
    open(&session, StoreKey::from_bytes(&key)).await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_told_as_such() -> Outcome {
    use sealbridge_matrix::engine::{SessionError, log_in, new_device_id};
    let Some(server) = server().await else {
        return Ok(());
    };
    let account = server.account("alice").await?;
    let http = discover(&server.url).await?;
    let wrong = SecretString::from("wrong".to_owned());
    let refused = log_in(&http, &account.name, &wrong, &new_device_id()).await;
    assert!(matches!(refused, Err(SessionError::WrongPassword)), "{refused:?}");
    Ok(())
}
