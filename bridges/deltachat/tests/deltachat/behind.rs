//! Files that never come, and files that nobody takes, on an engine that follows orders.

use anyhow::{Result, ensure};
use sealbridge_contract::{
    Fate, Kind, Media,
    message::{Absence, FileName, MediaType, Sort},
};
use serde_json::{Value, json};

use crate::{
    bridge::{Bridge, Running, until},
    ordered::{asked, bridge, order},
    trouble::deliver,
};

const FOUR_DAYS: i64 = 4 * 24 * 60 * 60 * 1000;

#[tokio::test]
async fn message_whose_rest_never_comes_crosses_without_its_file_after_three_days() -> Result<()> {
    let bridge = bridge().await?;
    let half = json!({ "downloadState": "Failure", "viewType": "File", "fileName": "x.bin", "text": "look" });
    order(&bridge, &json!({ "messages": { "1": half } }))?;
    let running = bridge.start().await?;
    until("it waits", || bridge.intake.still_waiting() == 1).await?;
    running.stop().await?;
    ensure!(bridge.intake.accepted().is_empty(), "it crosses too soon");
    bridge.clock.shift(FOUR_DAYS);
    let running = bridge.start().await?;
    until("it crosses", || bridge.intake.accepted().len() == 1).await?;
    let said = bridge.intake.accepted().remove(0);
    assert_eq!((said.absence, said.words.0.as_str()), (Some(Absence::NotFetched), "look"));
    ensure!(said.details.file.is_none() && bridge.intake.refused().is_empty(), "it is refused, or has a file");
    running.stop().await
}

/// Delivers a file as often as it is to be tried again, and then its words in its place.
async fn stays_behind(bridge: &Bridge, running: &Running, orders: &Value, why: Absence) -> Result<()> {
    order(bridge, orders)?;
    let slip = running.slip(&bridge.group);
    let content = bridge.intake.spool().put(b"content");
    let mut tries = 0;
    loop {
        tries += 1;
        let (name, mime) = (FileName::new("x.bin"), MediaType::new("a/b"));
        let media = Media::new(Sort::File, name, mime, content.clone());
        match deliver(running, Kind::File(Box::new(media)), &slip).await {
            Err(error) if error.fate == Fate::WithoutFile(why) => break,
            other => ensure!(other.is_err() && tries < 20, "{other:?}"),
        }
    }
    order(bridge, &json!({}))?;
    running.deliver("its words", &slip).await?;
    Ok(())
}

#[tokio::test]
async fn file_that_the_engine_or_the_mail_server_refuses_stays_behind_and_words_take_its_place() -> Result<()> {
    let bridge = bridge().await?;
    let running = bridge.start().await?;
    stays_behind(&bridge, &running, &json!({ "refuse": { "send_msg": -1 } }), Absence::Refused).await?;
    for (error, why) in [
        ("552 5.3.4 Message size exceeds fixed limit", Absence::TooLarge { most: None }),
        ("552 the message exceeds the maximum Size", Absence::TooLarge { most: None }),
        ("554 5.7.1 Rejected", Absence::Refused),
        ("", Absence::Refused),
    ] {
        let failed = json!({ "sent": { "state": 24, "error": error } });
        let deleted = asked(&bridge, "delete_messages");
        stays_behind(&bridge, &running, &failed, why).await?;
        assert_eq!(asked(&bridge, "delete_messages"), deleted + 1, "what was refused is taken out");
    }
    running.stop().await
}
