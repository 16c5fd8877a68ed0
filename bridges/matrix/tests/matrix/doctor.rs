//! What the doctor says of an account, with each fault made on a real homeserver or on the way to it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sealbridge_contract::{Transport as _, transport::Finding};
use sealbridge_lab::{
    Lab, Person, Proxy,
    proxy::{Fault, Rule},
};
use serde_json::{Value, json};

use crate::bot::{Bot, Running, SOON};

async fn findings(running: &Running, topic: &str) -> Vec<Finding> {
    let mut findings = sealbridge_contract::Transport::doctor(&*running.matrix).await;
    findings.retain(|finding| finding.topic == topic);
    findings
}

/// Waits until the doctor says so.
async fn says(running: &Running, topic: &str, words: &str) -> Result<Finding> {
    let asking = async {
        loop {
            let found = findings(running, topic).await.into_iter().find(|finding| finding.words.contains(words));
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let said = tokio::time::timeout(SOON, asking).await;
    let all = sealbridge_contract::Transport::doctor(&*running.matrix).await;
    said.with_context(|| format!("{topic}: {words:?} is not said; {all:?}"))
}

async fn set() -> Result<Option<(Bot, Running, Proxy, &'static Lab)>> {
    let Some(lab) = Lab::shared().await? else { return Ok(None) };
    let proxy = Proxy::before(lab.a.url()).await?;
    // What failed is tried again after an answer, and an answer that says nothing takes as long as this.
    let bot = Bot::new(&lab.a, proxy.url(), json!({ "sync_timeout": "1s" })).await?;
    let running = bot.start().await?;
    crate::bot::until(|| running.matrix.health().connected.then_some(())).await?;
    Ok(Some((bot, running, proxy, lab)))
}

#[tokio::test]
async fn account_in_order_has_nothing_found() -> Result<()> {
    let Some((_bot, running, _proxy, _)) = set().await? else { return Ok(()) };
    let all = sealbridge_contract::Transport::doctor(&*running.matrix).await;
    assert!(all.is_empty(), "{all:?}");
    running.stop().await
}

#[tokio::test]
async fn key_backup_that_another_client_replaced_or_deleted_is_found() -> Result<()> {
    let Some((bot, running, _proxy, lab)) = set().await? else { return Ok(()) };
    let login = json!({
        "type": "m.login.password", "identifier": { "type": "m.id.user", "user": bot.user.localpart },
        "password": bot.user.password,
    });
    let login = lab.a.call("POST", "/_matrix/client/v3/login", None, Some(login)).await?;
    let token = login["access_token"].as_str().context("It logs in")?;
    let path = "/_matrix/client/v3/room_keys/version";
    let ours = lab.a.call("GET", path, Some(token), None).await?["version"].as_str().context("It has one")?.to_owned();
    let other = json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08", "signatures": {} },
    });
    let other =
        lab.a.call("POST", path, Some(token), Some(other)).await?["version"].as_str().context("made")?.to_owned();
    says(&running, "backup", "Another client replaced the key backup").await?;
    for version in [&other, &ours] {
        lab.a.call("DELETE", &format!("{path}/{version}"), Some(token), None).await?;
    }
    says(&running, "backup", "The key backup was deleted").await?;
    running.stop().await
}

#[tokio::test]
async fn homeserver_without_our_devices_keys_or_signature_is_found() -> Result<()> {
    let Some((bot, running, proxy, _)) = set().await? else { return Ok(()) };
    let me = bot.user.id.clone();
    let of_device = move |change: fn(&mut Value)| {
        let path = format!("/device_keys/{me}");
        Fault::rewrite(move |answer| {
            if let Some(devices) = answer.pointer_mut(&path) {
                change(devices);
            }
        })
    };
    let gone = proxy.add(Rule::new("POST", "/keys/query", of_device(|devices| *devices = json!({})))?);
    let found = says(&running, "keys", "has no keys of the bridge's device").await?;
    assert!(found.grave);
    gone.remove();
    assert!(findings(&running, "keys").await.is_empty());

    let unsigned = of_device(|devices| {
        for device in devices.as_object_mut().into_iter().flat_map(|devices| devices.values_mut()) {
            let signatures = device.pointer_mut("/signatures").and_then(Value::as_object_mut);
            for keys in signatures.into_iter().flat_map(|signatures| signatures.values_mut()) {
                // Its own, which is called after the device, is left; that of the identity, called after a key, is not.
                if let Some(keys) = keys.as_object_mut() {
                    keys.retain(|name, _| name.len() < 20);
                }
            }
        }
    });
    let unsigned = proxy.add(Rule::new("POST", "/keys/query", unsigned)?);
    let found = says(&running, "device", "not cross-signed").await?;
    assert!(found.grave);
    unsigned.remove();
    Ok(())
}

#[tokio::test]
async fn one_time_keys_that_ran_out_and_can_not_be_renewed_are_found() -> Result<()> {
    let Some((bot, running, proxy, lab)) = set().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let refused = proxy.add(Rule::new("POST", "/keys/upload", Fault::Fail(500))?);
    let query = json!({ "device_keys": { &bot.user.id: [] } });
    let (_, answer) = bob.http("POST", "/_matrix/client/v3/keys/query", Some(query)).await?;
    let device = answer["device_keys"][&bot.user.id].as_object().and_then(|all| all.keys().next().cloned());
    let device = device.context("It has a device")?;
    // As somebody does who wants nobody else to have any.
    let claim = json!({ "one_time_keys": { &bot.user.id: { &device: "signed_curve25519" } } });
    for _ in 0..200 {
        let (_, answer) = bob.http("POST", "/_matrix/client/v3/keys/claim", Some(claim.clone())).await?;
        let key = answer["one_time_keys"][&bot.user.id][&device].as_object().and_then(|keys| keys.values().next());
        if key.is_none_or(|key| key["fallback"] == true) {
            break;
        }
    }
    says(&running, "keys", "has no one-time key of the bridge left").await?;
    refused.remove();
    let renewed = async {
        while !findings(&running, "keys").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, renewed).await.context("They are renewed by themselves")?;
    running.stop().await
}

#[tokio::test]
async fn clock_that_is_off_is_found() -> Result<()> {
    let Some((bot, running, _proxy, _)) = set().await? else { return Ok(()) };
    assert!(findings(&running, "clock").await.is_empty());
    for (moved, words) in [(600_000, "ahead of"), (-1_200_000, "behind")] {
        bot.clock.shift(moved);
        let found = says(&running, "clock", words).await?;
        assert!(!found.grave);
    }
    bot.clock.shift(600_000);
    assert!(findings(&running, "clock").await.is_empty());
    running.stop().await
}
