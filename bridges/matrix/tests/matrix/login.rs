//! Logging in: what is refused, and what goes on after a break.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use sealbridge_contract::{
    AccountName, Fatal, FlowError, Intake,
    conformance::MemoryIntake,
    inbox::{AccountStore, StoreWrite},
};
use sealbridge_lab::{
    Lab, Person, Proxy,
    proxy::{Fault, Rule},
};
use sealbridge_matrix::{Matrix, is_set_up};
use serde_json::json;

use crate::bot::{Bot, SOON, until};

fn refusal(error: &anyhow::Error) -> Option<&FlowError> {
    error.downcast_ref::<FlowError>()
}

#[tokio::test]
async fn wrong_password_is_refused_and_nothing_is_kept() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut bot = Bot::new(&lab.a, lab.a.url(), json!({})).await?;
    assert!(is_set_up(&bot.context().store).await?);
    bot.on_a_new_machine()?;
    let error = bot.set_up(&[("password", "wrong")]).await.expect_err("it is wrong");
    assert!(matches!(refusal(&error), Some(FlowError::Refused(_))), "{error:?}");
    assert!(!is_set_up(&bot.context().store).await?);
    let fatal = Matrix::connect(bot.context(), bot.settings.clone()).await.expect_err("nobody logged in");
    assert!(matches!(fatal, Fatal::Auth(_)));
    Ok(())
}

#[tokio::test]
async fn unreachable_homeserver_is_told_as_such() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut bot = Bot::new(&lab.a, lab.a.url(), json!({})).await?;
    bot.on_a_new_machine()?;
    bot.settings.homeserver = Some("http://127.0.0.1:1".into());
    let error = bot.set_up(&[]).await.expect_err("nobody listens there");
    assert!(matches!(refusal(&error), Some(FlowError::Unreachable(_))), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn token_of_a_device_with_foreign_keys_is_refused() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let mut bot = Bot::new(&lab.a, lab.a.url(), json!({})).await?;
    bot.on_a_new_machine()?;
    bot.settings.user = Some(bob.user_id().to_owned());
    let answers = [("password", ""), ("token", bob.access_token())];
    let error = bot.set_up(&answers).await.expect_err("the device is in use");
    assert!(matches!(refusal(&error), Some(FlowError::Policy(_))), "{error:?}");
    assert!(!is_set_up(&bot.context().store).await?);
    Ok(())
}

#[tokio::test]
async fn identity_moves_to_a_new_machine_with_its_recovery_key() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let mut bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let key = bot.recovery_key.clone().expect("a new identity shows its recovery key");
    bot.on_a_new_machine()?;
    let error = bot.set_up(&[("recovery_key", "EsTc wrong")]).await.expect_err("it is wrong");
    assert!(matches!(refusal(&error), Some(FlowError::Refused(_))), "{error:?}");
    bot.set_up(&[("recovery_key", &key)]).await?;
    let running = bot.start().await?;
    let room = bob.create_encrypted_room("talk", &[&bot.user.id]).await?;
    running.joins(&room, 2).await?;
    running.says(&room, "from the new machine").await?;
    let read = bob.wait_for(|it| it.body == "Ann: from the new machine", SOON).await?;
    assert!(read.verified, "the new device is signed");
    running.stop().await
}

#[tokio::test]
async fn login_that_broke_off_goes_on_where_it_was() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let proxy = Proxy::before(lab.a.url()).await?;
    let mut bot = Bot::new(&lab.a, proxy.url(), json!({})).await?;
    bot.on_a_new_machine()?;
    bot.user = lab.a.register_unique("bridge").await?;
    bot.settings.user = Some(bot.user.id.clone());
    let broken = proxy.add(Rule::new("PUT", "/account_data/", Fault::Fail(500))?);
    let error = bot.set_up(&[]).await.expect_err("the homeserver fails");
    assert!(matches!(refusal(&error), Some(FlowError::Unreachable(_))), "{error:?}");
    broken.remove();
    proxy.record();
    bot.set_up(&[("password", "not asked for again")]).await?;
    assert!(bot.recovery_key.is_some());
    let logins = proxy.take_seen().into_iter().filter(|seen| seen.method == "POST" && seen.path.ends_with("/login"));
    assert_eq!(logins.count(), 0);
    bot.start().await?.stop().await
}

#[tokio::test]
async fn session_that_was_ended_elsewhere_ends_the_account_and_says_why() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let proxy = Proxy::before(lab.a.url()).await?;
    let bot = Bot::new(&lab.a, proxy.url(), json!({})).await?;
    let running = bot.start().await?;
    let body = json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "gone", "soft_logout": false });
    proxy.add(Rule::new("GET", "/sync", Fault::Answer { status: 401, body })?);
    running.reconnects(&proxy).await?;
    let error = running.ended().await.expect_err("the session is gone");
    assert!(matches!(error.downcast_ref::<Fatal>(), Some(Fatal::Auth(_))), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn login_that_the_homeserver_forgot_is_made_anew_and_nothing_else_is_forgotten() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let mut bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let running = bot.start().await?;
    let room = bob.create_encrypted_room("talk", &[&bot.user.id]).await?;
    running.joins(&room, 2).await?;
    bob.send(&room, "before").await?;
    bot.hears("before").await?;
    running.stop().await?;

    lab.a.log_out_everywhere(&bot.user).await?;
    let key = bot.recovery_key.take();
    let error = bot.start().await?.ended().await.expect_err("the session is gone");
    assert!(error.to_string().contains("`sealbridge init`"), "it says the way out: {error}");
    bot.set_up(&[]).await?;
    assert!(key.is_some() && bot.recovery_key.is_none(), "the identity stays, so there is no new recovery key");

    let running = bot.start().await?;
    bob.send(&room, "after").await?;
    bot.hears("after").await?;
    assert_eq!(bot.heard(), ["before", "after"], "each once");
    running.says(&room, "here again").await?;
    let read = bob.wait_for(|it| it.body == "Ann: here again", SOON).await?;
    assert!(read.verified, "the new device is signed");
    running.stop().await?;
    assert_eq!(
        bot.set_up(&[("password", "not asked for")]).await?,
        format!("{} is logged in, and its device is cross-signed.", bot.user.id)
    );
    Ok(())
}

/// The devices of somebody, as the homeserver shows them to others.
async fn devices(person: &Person, of: &str) -> Result<Vec<String>> {
    let body = json!({ "device_keys": { of: [] } });
    let (_, answer) = person.http("POST", "/_matrix/client/v3/keys/query", Some(body)).await?;
    Ok(answer["device_keys"][of].as_object().into_iter().flat_map(|devices| devices.keys().cloned()).collect())
}

#[tokio::test]
async fn device_of_a_backup_whose_tokens_are_stale_is_removed_by_the_password() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let proxy = Proxy::before(lab.a.url()).await?;
    let mut bot = Bot::new(&lab.a, proxy.url(), json!({})).await?;
    let before = devices(&bob, &bot.user.id).await?;
    assert_eq!(before.len(), 1);
    bot.context().store.write(sealbridge_matrix::restored()).await?;
    assert!(!is_set_up(&bot.context().store).await?);
    let body = json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "renewed since", "soft_logout": false });
    let stale = proxy.add(Rule::new("POST", "/logout", Fault::Answer { status: 401, body })?);
    let key = bot.recovery_key.take();
    bot.set_up(&[]).await?;
    assert!(stale.struck() > 0 && key.is_some() && bot.recovery_key.is_none());
    let after = devices(&bob, &bot.user.id).await?;
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    bot.start().await?.stop().await
}

#[tokio::test]
async fn another_homeserver_in_the_config_is_gone_to_and_loses_no_login() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut bot = Bot::new(&lab.a, lab.a.url(), json!({})).await?;
    // The same homeserver at another address.
    let proxy = Proxy::before(lab.a.url()).await?;
    bot.settings.homeserver = Some(proxy.url().to_owned());
    proxy.record();
    let running = bot.start().await?;
    until(|| (!proxy.take_seen().is_empty()).then_some(())).await?;
    running.stop().await?;
    // Another homeserver, which has never heard of the session.
    bot.settings.homeserver = Some(lab.b.url().to_owned());
    let error = bot.set_up(&[]).await.expect_err("it is another homeserver");
    assert!(matches!(refusal(&error), Some(FlowError::Refused(words)) if words.contains("homeserver")), "{error:?}");
    bot.settings.homeserver = Some(lab.a.url().to_owned());
    bot.start().await?.stop().await
}

/// The device whose session is kept.
async fn device(bot: &Bot) -> Result<Vec<u8>> {
    let kept = bot.context().store.read("device").await?;
    Ok(kept.context("It logged in")?.expose().to_vec())
}

#[tokio::test]
async fn device_that_is_called_lost_is_not_used_until_somebody_logs_in_anew() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut bot = Bot::new(&lab.a, lab.a.url(), json!({})).await?;
    let before = device(&bot).await?;
    bot.context().store.write(vec![StoreWrite::put("device-lost", b"1".as_slice())]).await?;
    let fatal = Matrix::connect(bot.context(), bot.settings.clone()).await.expect_err("its keys can't be used");
    assert!(matches!(&fatal, Fatal::Auth(words) if words.contains("sealbridge init")), "{fatal}");
    bot.set_up(&[]).await?;
    assert_ne!(device(&bot).await?, before);
    bot.connect().await.map(drop)
}

#[tokio::test]
async fn what_a_backup_says_of_a_device_goes_with_the_first_login() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let intake: Arc<MemoryIntake> = Arc::default();
    let shared: Arc<dyn Intake> = Arc::<MemoryIntake>::clone(&intake);
    // The config that the backup was restored with names an account that nobody had logged in to.
    let store = AccountStore::new(AccountName::parse("work").expect("a name"), shared);
    store.write(sealbridge_matrix::restored()).await?;
    let mut bot = Bot::with_intake(&lab.a, lab.a.url(), json!({}), intake).await?;
    let first = device(&bot).await?;
    bot.set_up(&[]).await?;
    assert_eq!(device(&bot).await?, first, "a later look at it logs nobody out");
    bot.connect().await.map(drop)
}
