//! What the account keeps of messages: each deed under a name of its own, and nothing for ever.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use sealbridge_contract::{Fate, RemoteId, Slip};
use sealbridge_lab::delta::What;

use crate::{
    bridge::{Met, Running, SOON, met, until},
    trouble::edit,
};

/// Under the same id again and again, as the service does.
async fn insist_on_edit(running: &Running, of: &RemoteId, words: &str, slip: &Slip) -> Result<RemoteId> {
    let give_up = std::time::Instant::now() + SOON;
    loop {
        match edit(running, of, words, slip).await {
            Ok(receipt) => return Ok(receipt.id),
            Err(error) => {
                let hopeless = matches!(error.fate, Fate::GiveUp | Fate::OtherForm);
                ensure!(!hopeless && std::time::Instant::now() < give_up, "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_that_come_at_once_are_each_made_and_each_counted() -> Result<()> {
    let Some(Met { bridge, running, ann, .. }) = met().await? else { return Ok(()) };
    let said = running.insist("befroe", &running.slip(&bridge.group)).await?.id;
    ann.wait_for(|seen| seen.id == said.as_str(), SOON).await?;
    let all = ["one", "two", "three", "four"];
    let slips = all.map(|_| Slip { about: Some(said.clone()), ..running.slip(&bridge.group) });
    let make = |at: usize| insist_on_edit(&running, &said, all[at], &slips[at]);
    let names = tokio::try_join!(make(0), make(1), make(2), make(3))?;
    let names: BTreeSet<String> =
        [names.0, names.1, names.2, names.3].into_iter().map(|id| id.as_str().to_owned()).collect();
    let expected: BTreeSet<String> = (1..=all.len()).map(|count| format!("{} edit {count}", said.as_str())).collect();
    assert_eq!(names, expected);
    for words in all {
        let is = |deed: &sealbridge_lab::delta::Deed| {
            deed.what == What::Edit && deed.of == said.as_str() && deed.text == words
        };
        ann.wait_deed(is, SOON).await?;
    }
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_is_forgotten_at_the_start_and_once_a_day_from_then_on() -> Result<()> {
    const HOUR: i64 = 3_600_000;
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let each = ["sent:", "did:", "id:", "told:", "shown:"];
    let times = || bridge.intake.pruned().len() / each.len();
    // After how many hours somebody speaks, and how often it was done by then.
    for (hours, expected) in [(0, 1), (23, 1), (2, 2), (1, 2), (24, 3)] {
        bridge.clock.shift(hours * HOUR);
        // It is looked at before what came is fetched.
        for words in ["first", "second"] {
            let said = ann.send(chat, words).await?;
            running.accepted(&said.id).await?;
        }
        until("it is forgotten in time", || times() >= expected).await?;
        assert_eq!(bridge.intake.pruned(), each.repeat(expected), "after {hours} more hours");
    }
    running.stop().await
}
