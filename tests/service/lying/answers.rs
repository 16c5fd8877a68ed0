//! Answers that are none: of any size, without an end, or from somewhere else.

use anyhow::{Result, ensure};
use sealbridge_lab::{
    bridge::{AccountPlan, Binary, Bridge, Plan},
    proxy::{Fault, Proxy, Rule},
};
use serde_json::json;

use super::{ALICE, BOB, SHORT_POLLS, Stage, strikes};

const TEN_MEGABYTES: usize = 10 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_ten_megabytes_without_an_end_or_that_lead_elsewhere_lose_and_show_nothing() -> Result<()> {
    let Some(mut stage) = Stage::set(SHORT_POLLS).await? else { return Ok(()) };
    let large = || {
        Fault::rewrite(|answer| {
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("padding".into(), "x".repeat(TEN_MEGABYTES).into());
            }
        })
    };
    let received = stage.liar().add(Rule::new("GET", "/sync", large())?);
    stage.crosses(ALICE).await?;
    strikes(&received).await?;
    received.remove();
    // More than such an answer may have: what was sent is in doubt, and is looked for.
    let sent = stage.liar().add(Rule::new("PUT", "/send/m.room.encrypted", large())?.times(1));
    let words = stage.says(BOB).await?;
    stage.hears(ALICE, &words).await?;
    strikes(&sent).await?;
    stage.crosses(BOB).await?;
    ensure!(stage.has_heard(ALICE, &words) == 1, "it was heard {} times", stage.has_heard(ALICE, &words));
    stage.nothing_is_readable("answers of 10 MB")?;

    let received = stage.liar().add(Rule::new("GET", "/sync", Fault::Endless)?);
    strikes(&received).await?;
    let waiting = stage.says(ALICE).await?;
    stage.status_says("nothing was received").await?;
    received.remove();
    stage.hears(BOB, &waiting).await?;
    let sent = stage.liar().add(Rule::new("PUT", "/send/m.room.encrypted", Fault::Endless)?.times(1));
    let words = stage.says(BOB).await?;
    stage.hears(ALICE, &words).await?;
    strikes(&sent).await?;
    stage.crosses(BOB).await?;
    ensure!(stage.has_heard(ALICE, &words) == 1, "it was heard {} times", stage.has_heard(ALICE, &words));
    stage.nothing_is_readable("answers without an end")?;

    // Everything leads to somebody else, who would gladly answer.
    let elsewhere = Proxy::before(stage.scene.lab.a.url()).await?;
    elsewhere.record();
    let to = format!("{}/_matrix/client/v3/sync", elsewhere.url());
    let leads = stage.liar().add(Rule::new("*", "/_matrix/", Fault::Redirect { to })?);
    stage.begins().await?;
    let waiting = [stage.says(ALICE).await?, stage.says(BOB).await?];
    strikes(&leads).await?;
    stage.status_says("nothing was received").await?;
    leads.remove();
    stage.hears(BOB, &waiting[0]).await?;
    stage.hears(ALICE, &waiting[1]).await?;
    ensure!(elsewhere.take_seen().is_empty(), "somebody else was asked");
    stage.nothing_is_readable("redirects")?;
    stage.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn login_that_names_another_homeserver_is_not_followed_there() -> Result<()> {
    let Some(lab) = sealbridge_lab::Lab::shared().await? else { return Ok(()) };
    let (liar, elsewhere) = tokio::try_join!(Proxy::before(lab.a.url()), Proxy::before(lab.a.url()))?;
    elsewhere.record();
    let named = json!({ "m.homeserver": { "base_url": elsewhere.url() } });
    let file = liar.add(Rule::new("*", "/.well-known/", Fault::Redirect { to: elsewhere.url().to_owned() })?);
    let login = Fault::rewrite(move |answer| {
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("well_known".into(), named.clone());
        }
    });
    let login = liar.add(Rule::new("POST", "/login", login)?);
    let account = AccountPlan { homeserver: liar.url().to_owned(), ..AccountPlan::on(&lab.a, "a").await? };
    let plan = Plan { accounts: vec![account], ..Plan::default() };
    let mut bridge = Bridge::set_up(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &plan).await?;
    strikes(&login).await?;
    bridge.start().await?;
    ensure!(elsewhere.take_seen().is_empty(), "it went where the login led");
    ensure!(file.struck() == 0, "an address was given, and another is asked for all the same");
    bridge.stop().await
}
