//! What an engine was handed and never mailed, since it was killed between the two.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sealbridge_contract::{Clock, Fate, Found, Kind, RemoteId, Slip, Target, gate::Encryption, inbox::StoreWrite};
use sealbridge_lab::delta::What;
use serde_json::{Value, json};

use crate::{
    bridge::{Bridge, Met, Running, SOON, met},
    harness::in_the_engine,
    trouble::{change_database, deliver, edit, store},
};

/// Takes everything out of the queue of an engine that does not run.
const NEVER_MAILED: &str = "DELETE FROM smtp2;";

/// Looks until it is certain.
pub(crate) async fn look(running: &Running, slip: &Slip) -> Result<Found> {
    let give_up = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match running.transport.find(slip).await {
            Ok(found) => return Ok(found),
            Err(error) if std::time::Instant::now() > give_up => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A message that an engine was handed and that it was killed over.
async fn left_over(bridge: &Bridge, running: Running, sql: &str) -> Result<(Slip, u32)> {
    let slip = running.slip(&bridge.group);
    running.stop().await?;
    let chat: u32 = bridge.group.as_str().split('-').next().context("a chat has a number")?.parse()?;
    let made = in_the_engine(bridge, "send_msg", |account| json!([account, chat, { "text": "left over" }])).await?;
    let number = u32::try_from(made.as_u64().context("it has a number")?)?;
    change_database(bridge, &sql.replace('?', &number.to_string()))?;
    let sent = json!({ "at": Clock::system().now().0, "after": number - 1, "message": null });
    let record = StoreWrite::put(format!("sent:{}", slip.delivery), sent.to_string().into_bytes());
    store(bridge).write(vec![record]).await?;
    Ok((slip, number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_a_killed_engine_never_mails_is_taken_out_when_it_is_looked_for() -> Result<()> {
    let Some(Met { bridge, running, ann, .. }) = met().await? else { return Ok(()) };
    let (slip, number) = left_over(&bridge, running, NEVER_MAILED).await?;
    let running = bridge.start().await?;
    assert_eq!(look(&running, &slip).await?, Found::NotThere);
    running.stop().await?;
    let loaded = in_the_engine(&bridge, "get_messages", |account| json!([account, [number]])).await?;
    assert_eq!(loaded[number.to_string()]["error"], json!("Message does not exist"), "{loaded}");

    // What lies in its queue goes by itself, and is there.
    let (slip, _) = left_over(&bridge, bridge.start().await?, "").await?;
    let running = bridge.start().await?;
    let Found::There(id) = look(&running, &slip).await? else { anyhow::bail!("it went, and is not found") };
    ann.wait_for(|seen| seen.id == id.as_str(), SOON).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_a_killed_engine_left_in_clear_is_never_handed_in_again() -> Result<()> {
    let Some(Met { bridge, running, .. }) = met().await? else { return Ok(()) };
    let (slip, _) =
        left_over(&bridge, running, &format!("{NEVER_MAILED} UPDATE msgs SET param = '' WHERE id = ?;")).await?;
    let running = bridge.start().await?;
    let error = running.deliver("left over", &slip).await.expect_err("it has no padlock");
    assert_eq!(error.fate, Fate::GiveUp, "{error}");
    assert_eq!(running.transport.encryption(&bridge.group), Encryption::Violated);
    running.stop().await
}

/// What the engine calls a message.
async fn number_of(bridge: &Bridge, said: &RemoteId) -> Result<u32> {
    let named = store(bridge).read(&format!("id:{}", said.as_str())).await?.context("it has a number")?;
    let named: Value = serde_json::from_slice(named.expose())?;
    Ok(u32::try_from(named["message"].as_u64().context("it has a number")?)?)
}

/// Something that an engine was told to do to a message of ours, and that it was killed over.
async fn half_done(
    bridge: &Bridge,
    running: Running,
    method: &'static str,
    said: &RemoteId,
    params: impl Fn(u32, u32) -> Value,
) -> Result<Slip> {
    let slip = Slip { about: Some(said.clone()), ..running.slip(&bridge.group) };
    running.stop().await?;
    let number = number_of(bridge, said).await?;
    in_the_engine(bridge, method, |account| params(account, number)).await?;
    change_database(bridge, NEVER_MAILED)?;
    let deed = format!("{} {method}", said.as_str());
    let at = Clock::system().now().0;
    let done = json!({ "at": at, "after": number, "message": null, "refused": 0, "deed": deed, "show": null });
    let record = StoreWrite::put(format!("did:{}", slip.delivery), done.to_string().into_bytes());
    store(bridge).write(vec![record]).await?;
    Ok(slip)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edit_or_deletion_that_a_killed_engine_never_mails_is_handed_in_again() -> Result<()> {
    let Some(Met { bridge, running, ann, .. }) = met().await? else { return Ok(()) };
    let said = running.insist("befroe", &running.slip(&bridge.group)).await?.id;
    ann.wait_for(|seen| seen.id == said.as_str(), SOON).await?;

    let words = |account, number| json!([account, number, "before"]);
    let slip = half_done(&bridge, running, "send_edit_request", &said, words).await?;
    let running = bridge.start().await?;
    edit(&running, &said, "before", &slip).await?;
    ann.wait_deed(|deed| deed.what == What::Edit && deed.of == said.as_str() && deed.text == "before", SOON).await?;

    let all = |account, number| json!([account, [number]]);
    let slip = half_done(&bridge, running, "delete_messages_for_all", &said, all).await?;
    let running = bridge.start().await?;
    deliver(&running, Kind::Redaction(Target::new(said.clone())), &slip).await?;
    ann.wait_deed(|deed| deed.what == What::Deletion && deed.of == said.as_str(), SOON).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_that_a_killed_engine_left_half_made_is_made_and_stops_nothing() -> Result<()> {
    // The engine makes the message that deletes, then puts it into its queue, then deletes here.
    const HALF_MADE: &str = "CREATE TEMP TABLE half AS SELECT * FROM msgs WHERE id = ?;
        UPDATE half SET id = (SELECT max(id) + 1 FROM msgs), txt = '🚮', txt_normalized = NULL, hidden = 1, state = 20,
            rfc724_mid = 'half-made@localhost';
        INSERT INTO msgs SELECT * FROM half;";
    let Some(Met { bridge, running, ann, .. }) = met().await? else { return Ok(()) };
    let said = running.insist("to be deleted", &running.slip(&bridge.group)).await?.id;
    ann.wait_for(|seen| seen.id == said.as_str(), SOON).await?;

    let nothing = |account, number| json!([account, number]);
    let slip = half_done(&bridge, running, "get_message", &said, nothing).await?;
    let number = number_of(&bridge, &said).await?;
    change_database(&bridge, &HALF_MADE.replace('?', &number.to_string()))?;
    let running = bridge.start().await?;
    deliver(&running, Kind::Redaction(Target::new(said.clone())), &slip).await?;
    ann.wait_deed(|deed| deed.what == What::Deletion && deed.of == said.as_str(), SOON).await?;
    let next = running.insist("and it goes on", &running.slip(&bridge.group)).await?.id;
    ann.wait_for(|seen| seen.id == next.as_str(), SOON).await?;
    running.stop().await
}
