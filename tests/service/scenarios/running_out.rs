//! One-time keys that are used up.

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Person,
    proxy::{Active, Fault, Proxy, Rule},
};
use serde_json::{Value, json};

use super::{
    SOON,
    stand::{Stand, until},
};

/// Takes every one-time key of a user's device, until the homeserver gives out the one that is for all.
async fn takes_all(taker: &Person, user: &str, device: &str) -> Result<String> {
    let wanted = json!({ "one_time_keys": { user: { device: "signed_curve25519" } } });
    for _ in 0..200 {
        let (_, answer) = taker.http("POST", "/_matrix/client/v3/keys/claim", Some(wanted.clone())).await?;
        let keys = answer["one_time_keys"][user][device].as_object().context("There is always one")?;
        let (id, key) = keys.iter().next().context("It has a name")?;
        if key["fallback"] == Value::Bool(true) {
            return Ok(id.clone());
        }
    }
    anyhow::bail!("it never runs out")
}

fn keeps_out_uploads(proxy: &Proxy) -> Result<Active> {
    Ok(proxy.add(Rule::new("POST", "/keys/upload", Fault::Fail(503))?))
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_key_serves_several_people_and_is_kept_for_a_week_once_it_was_used() -> Result<()> {
    let Some((lab, stand)) = Stand::usual().await? else { return Ok(()) };
    let taker = Person::new_on(&lab.a, "taker").await?;
    let devices = taker.devices(&stand.bot).await?;
    let (device, _) = devices.first().context("The bridge has a device")?;
    let refused = keeps_out_uploads(&stand.proxies[0])?;
    let used = takes_all(&taker, &stand.bot, device).await?;
    for name in ["carol", "dave"] {
        let person = Person::new_on(&lab.a, name).await?;
        stand.comes(&person).await?;
        stand.stands(&person, "reads").await?;
        let words = format!("{name} has no key but the last");
        person.send(&stand.far, &words).await?;
        stand.hears(&words).await?;
        stand.tells(&format!("heard, {name}"), &person).await?;
    }
    refused.wait_struck(1, SOON).await?;

    // The library replaces it once it is a week old, not once it was used: docs/encryption-scenarios.md says so.
    stand.asked("/keys/upload");
    refused.remove();
    let mut uploads = Vec::new();
    let refilled = || {
        uploads.extend(stand.asked("/keys/upload"));
        let keys = |upload: &Value| upload["one_time_keys"].as_object().map_or(0, serde_json::Map::len);
        (uploads.iter().map(keys).sum::<usize>() >= 50).then_some(())
    };
    until("it makes new one-time keys", refilled).await?;
    let replaced = |upload: &Value| upload["fallback_keys"].as_object().is_some_and(|keys| !keys.is_empty());
    ensure!(!uploads.iter().any(replaced), "the library replaces it at once now: change the docs");
    let refused = keeps_out_uploads(&stand.proxies[0])?;
    ensure!(takes_all(&taker, &stand.bot, device).await? == used, "another one is given out");
    refused.remove();
    stand.close().await
}
