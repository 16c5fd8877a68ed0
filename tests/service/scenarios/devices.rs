//! Devices that come and go, and what does not change a key.

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{Lab, Person, person::Options};
use serde_json::{Value, json};

use super::{
    SOON,
    stand::{Stand, Wish},
};

/// Waits until so many devices of somebody are known, and get keys.
async fn sees_devices(stand: &Stand, of: &Person, count: usize) -> Result<()> {
    let all = |member: Option<&Value>| {
        let devices = member?["devices"].as_array()?;
        (devices.len() == count && devices.iter().all(|device| device["withheld"].is_null())).then_some(())
    };
    stand.sees(of.user_id(), "as many devices", all).await
}

async fn logs_out(person: &Person) -> Result<()> {
    let (status, _) = person.http("POST", "/_matrix/client/v3/logout", Some(json!({}))).await?;
    ensure!(status == 200, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_device_reads_from_its_login_on_and_the_key_is_replaced_only_when_one_logs_out() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let user = lab.a.register_unique("bob").await?;
    let bob = Person::log_in(lab.a.url(), &user, Options::default()).await?;
    let mut stand = Stand::set(lab, bob, Wish::default()).await?;
    let first = stand.tells("the first", &stand.bob).await?;
    let key = stand.key_of(&first).await?;
    // He calls himself something else.
    let path = format!("/_matrix/client/v3/profile/{}/displayname", stand.bob.user_id());
    let (status, _) = stand.bob.http("PUT", &path, Some(json!({ "displayname": "Robert" }))).await?;
    ensure!(status == 200, "{status}");
    let renamed = |member: Option<&Value>| (member?["name"] == "Robert").then_some(());
    stand.sees(stand.bob.user_id(), "his new name", renamed).await?;
    let renamed = stand.tells("under another name", &stand.bob).await?;
    ensure!(stand.key_of(&renamed).await? == key, "a new name replaces it");
    stand.dies_and_comes_back().await?;
    let third = stand.tells("after a death", &stand.bob).await?;
    ensure!(stand.key_of(&third).await? == key, "a death replaces it");
    // He has a second device, which his identity has signed.
    let recovery_key = Some(stand.bob.recovery_key().context("He has one")?.to_owned());
    let second = Person::log_in(lab.a.url(), &user, Options { recovery_key, ..Options::default() }).await?;
    sees_devices(&stand, &stand.bob, 2).await?;
    let both = stand.tells("to both devices", &stand.bob).await?;
    ensure!(stand.key_of(&both).await? == key, "a device more replaces it");
    stand.is_heard("to both devices", &second).await?;
    for event in [&first, &third] {
        let read = second.try_read(&stand.far, event).await?;
        ensure!(read.is_err() && stand.bob.try_read(&stand.far, event).await?.is_ok(), "{read:?}");
    }

    logs_out(&second).await?;
    sees_devices(&stand, &stand.bob, 1).await?;
    let last = stand.tells("to one device", &stand.bob).await?;
    ensure!(stand.key_of(&last).await? != key, "it lives on though a device is gone");
    stand.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_the_device_between_invitation_and_join_reads_on_the_new_one() -> Result<()> {
    let Some((lab, stand)) = Stand::usual().await? else { return Ok(()) };
    let user = lab.a.register_unique("carol").await?;
    let old = Person::log_in(lab.a.url(), &user, Options::default()).await?;
    stand.tells("before she came", &stand.bob).await?;
    stand.bob.invite(&stand.far, old.user_id()).await?;
    old.wait_invite(&stand.far, SOON).await?;
    let recovery_key = Some(old.recovery_key().context("She has one")?.to_owned());
    logs_out(&old).await?;
    let carol = Person::log_in(lab.a.url(), &user, Options { recovery_key, ..Options::default() }).await?;
    carol.join(&stand.far).await?;
    stand.stands(&carol, "reads").await?;
    stand.tells("to her new device", &carol).await?;
    carol.send(&stand.far, "from the new device").await?;
    stand.hears("from the new device").await?;
    stand.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn device_that_somebody_calls_in_words_keeps_nobody_from_reading() -> Result<()> {
    let Some((lab, stand)) = Stand::usual().await? else { return Ok(()) };
    let user = lab.a.register_unique("carol").await?;
    let signed = Options { device_id: Some("my first phone".to_owned()), ..Options::default() };
    let carol = Person::log_in(lab.a.url(), &user, signed).await?;
    let unsigned =
        Options { device_id: Some("my other phone".to_owned()), without_cross_signing: true, ..Options::default() };
    let _other = Person::log_in(lab.a.url(), &user, unsigned).await?;
    stand.comes(&carol).await?;
    stand.stands(&carol, "reads").await?;
    stand.tells("after somebody came", &stand.bob).await?;
    stand.is_heard("after somebody came", &carol).await?;
    stand.close().await
}
