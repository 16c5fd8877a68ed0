//! Identities that change while the bridge runs: its own, and a person's that was verified.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use matrix_sdk_crypto::OlmMachine;
use ruma::{UserId, encryption::CrossSigningKey};
use sealbridge_contract::{Answer, Fate, Screen, Transport as _};
use sealbridge_lab::{
    Lab, Proxy,
    proxy::{Active, Fault, Rule},
    servers,
    synapse::Options,
};
use serde_json::{Value, json};

use crate::{
    bot::{ann, slip, until},
    losses::Scene,
    verifying::{compare, confirms, step},
};

/// From now on the homeserver says that `user` has another identity, and that their devices changed. Gives the rule that
/// strikes when it is asked for them.
async fn replace_identity(proxy: &Proxy, user: &str) -> Result<Active> {
    let owner = UserId::parse(user)?;
    let machine = OlmMachine::new(&owner, "FORGED".into()).await;
    let keys = machine.bootstrap_cross_signing(false).await?.upload_signing_keys_req;
    let master = serde_json::to_value(keys.master_key.context("There is a master key")?.to_raw::<CrossSigningKey>())?;
    let signing =
        serde_json::to_value(keys.self_signing_key.context("There is a signing key")?.to_raw::<CrossSigningKey>())?;
    let own = serde_json::to_value(
        keys.user_signing_key.context("There is a key of their own")?.to_raw::<CrossSigningKey>(),
    )?;
    let theirs = user.to_owned();
    let forge = Fault::rewrite(move |answer| {
        for (kind, key) in [("master_keys", &master), ("self_signing_keys", &signing), ("user_signing_keys", &own)] {
            if let Some(keys) = answer.pointer_mut(&format!("/{kind}")).and_then(Value::as_object_mut)
                && let Some(known) = keys.get_mut(&theirs)
            {
                *known = key.clone();
            }
        }
    });
    let forging = proxy.add(Rule::new("POST", "/keys/query", forge)?);
    let theirs = user.to_owned();
    let changed = Fault::rewrite(move |answer| {
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("device_lists".to_owned(), json!({ "changed": [theirs], "left": [] }));
        }
    });
    proxy.add(Rule::new("GET", "/sync", changed)?);
    Ok(forging)
}

#[tokio::test]
async fn bridge_stops_when_its_own_identity_is_replaced() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    running.says(&room, "as ourselves").await?;
    bob.wait_for(|it| it.body == "Ann: as ourselves", crate::bot::SOON).await?;
    replace_identity(&proxy, &bot.user.id).await?;
    running.reconnects(&proxy).await?;
    let matrix = std::sync::Arc::clone(&running.matrix);
    let why = running.ended().await.err().ok_or_else(|| anyhow!("it went on"))?;
    assert!(why.to_string().contains("identity was changed"), "{why}");
    assert!(!matrix.health().connected);
    Ok(())
}

#[tokio::test]
async fn changed_identity_of_a_verified_person_stops_both_directions_and_is_told() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    bob.send(&room, "hello").await?;
    bot.hears("hello").await?;
    proxy.record();
    let ours = compare(running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?, Answer::Yes);
    bob.call("verify_request", json!({ "user": bot.user.id, "in_room": room })).await?;
    let ready = step(&bob, "ready").await?;
    bob.call("verify_begin", json!({ "flow": ready.flow })).await?;
    confirms(&bob).await?;
    let (_, ended) = tokio::time::timeout(crate::bot::SOON, ours).await??;
    ended?;
    // Our signature must have come back from the homeserver: only then the identity counts as verified.
    let (mut signed, mut read) = (false, false);
    let came_back = || {
        for seen in proxy.take_seen() {
            signed |= seen.path.contains("/keys/signatures/upload");
            read |= signed && seen.path.contains("/keys/query");
        }
        read.then_some(())
    };
    until(came_back).await?;
    running.says(&room, "read by then").await?;

    let forging = replace_identity(&proxy, bob.user_id()).await?;
    running.reconnects(&proxy).await?;
    forging.wait_struck(1, crate::bot::SOON).await?;
    // A key that came while the identity was verified still proves who has it; the next one does not.
    bob.new_session(&room).await?;
    bob.send(&room, "is it me?").await?;
    let told = bot.tells("not-trusted/").await?;
    assert!(told.contains(bob.user_id()), "{told}");
    let held = running.deliver(&slip(&room), ann(), "not for a stranger").await.expect_err("it is held");
    assert!(matches!(held.fate, Fate::Retry(_)), "{held}");
    bot.tells("identity-changed/").await?;
    assert_eq!(bot.heard(), ["hello"]);
    running.stop().await
}

#[tokio::test]
async fn sync_token_that_never_moves_is_said_and_nothing_comes_twice() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    // One that keeps answers for a while gives the same again to who asks with the same token, and nothing new with it.
    let mut options = Options::default();
    options.extra.insert("caches".into(), json!({ "sync_response_cache_duration": "0s" }));
    let lab = Lab::pair_with(options.clone(), options).await?;
    let Scene { bob, bot, running, room, proxy } = Scene::set(&lab, json!({})).await?;
    let first = Mutex::new(None);
    let stuck = Fault::rewrite(move |answer| {
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = answer.pointer_mut("/next_batch") {
            *token = first.get_or_insert_with(|| token.clone()).clone();
        }
    });
    let stuck = proxy.add(Rule::new("GET", "/sync", stuck)?);
    running.reconnects(&proxy).await?;
    bob.send(&room, "the last that moves it").await?;
    bot.hears("the last that moves it").await?;
    bob.send(&room, "again and again").await?;
    let stalls = || running.matrix.health().trouble.filter(|words| words.contains("does not move"));
    until(stalls).await?;
    bot.hears("again and again").await?;
    assert_eq!(bot.heard(), ["the last that moves it", "again and again"]);
    stuck.remove();
    bob.send(&room, "it moves").await?;
    bot.hears("it moves").await?;
    until(|| running.matrix.health().trouble.is_none().then_some(())).await?;
    running.stop().await
}
