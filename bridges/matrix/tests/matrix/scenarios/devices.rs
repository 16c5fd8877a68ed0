//! Devices that come and go, and what does not change a key.

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::audience::Member;
use sealbridge_lab::{Lab, Person, person::Options};
use serde_json::json;

use super::{admits, hears, key_of, sees, tells};
use crate::{
    bot::{Running, SOON},
    losses::Scene,
};

async fn sees_devices(running: &Running, room: &str, of: &Person, count: usize) -> Result<()> {
    let all = |members: &[Member]| {
        let member = members.iter().find(|member| member.person.as_str() == of.user_id())?;
        let read = member.devices.iter().filter(|device| device.withheld.is_none()).count();
        (read == count && member.devices.len() == count).then_some(())
    };
    sees(running, room, "as many devices", all).await
}

async fn logs_out(person: &Person) -> Result<()> {
    let (status, _) = person.http("POST", "/_matrix/client/v3/logout", Some(json!({}))).await?;
    ensure!(status == 200, "{status}");
    Ok(())
}

#[tokio::test]
async fn new_device_reads_from_its_login_on_and_the_key_is_replaced_only_when_one_logs_out() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let user = lab.a.register_unique("bob").await?;
    let bob = Person::log_in(lab.a.url(), &user, Options::default()).await?;
    let Scene { bob, bot, mut running, room, proxy: _proxy } = Scene::with(lab, bob, json!({})).await?;
    let first = tells(&running, &room, "the first", &bob).await?;
    let key = key_of(&bob, &room, &first).await?;
    // He calls himself something else.
    let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id());
    let (status, _) = bob.http("PUT", &path, Some(json!({ "displayname": "Robert" }))).await?;
    ensure!(status == 200, "{status}");
    let renamed = |members: &[Member]| members.iter().any(|it| it.name.as_deref() == Some("Robert")).then_some(());
    sees(&running, &room, "his new name", renamed).await?;
    let second = tells(&running, &room, "under another name", &bob).await?;
    assert_eq!(key_of(&bob, &room, &second).await?, key);
    // The bridge dies and comes back.
    running.kill().await;
    running = bot.start().await?;
    let third = tells(&running, &room, "after a death", &bob).await?;
    assert_eq!(key_of(&bob, &room, &third).await?, key);
    // He has a second device, which his identity has signed.
    let recovery_key = Some(bob.recovery_key().context("He has one")?.to_owned());
    let second = Person::log_in(lab.a.url(), &user, Options { recovery_key, ..Options::default() }).await?;
    sees_devices(&running, &room, &bob, 2).await?;
    let both = tells(&running, &room, "to both devices", &bob).await?;
    assert_eq!(key_of(&bob, &room, &both).await?, key, "a device more does not replace it");
    hears(&second, "to both devices").await?;
    for event in [&first, &third] {
        let read = second.try_read(&room, event).await?;
        ensure!(read.is_err() && bob.try_read(&room, event).await?.is_ok(), "{read:?}");
    }

    logs_out(&second).await?;
    sees_devices(&running, &room, &bob, 1).await?;
    let last = tells(&running, &room, "to one device", &bob).await?;
    assert_ne!(key_of(&bob, &room, &last).await?, key);
    running.stop().await
}

#[tokio::test]
async fn who_changes_the_device_between_invitation_and_join_reads_on_the_new_one() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let user = lab.a.register_unique("carol").await?;
    let old = Person::log_in(lab.a.url(), &user, Options::default()).await?;
    tells(&running, &room, "before she came", &bob).await?;
    bob.invite(&room, old.user_id()).await?;
    old.wait_invite(&room, SOON).await?;
    let recovery_key = Some(old.recovery_key().context("She has one")?.to_owned());
    logs_out(&old).await?;
    let carol = Person::log_in(lab.a.url(), &user, Options { recovery_key, ..Options::default() }).await?;
    carol.join(&room).await?;
    admits(&running, &room, &carol).await?;
    tells(&running, &room, "to her new device", &carol).await?;
    carol.send(&room, "from the new device").await?;
    bot.hears("from the new device").await?;
    running.stop().await
}
