//! People whose homeserver is another one, which the bridge's own speaks with, and which is away for a while.

use std::time::Duration;

use anyhow::{Result, ensure};
use sealbridge_lab::{
    Lab, Person,
    proxy::{Fault, Rule},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    SOON,
    stand::{Stand, Wish, can_read},
};

/// Alice is on the bridge's homeserver, Bob on the other, and the room is his, so that the bridge comes to it over
/// federation. Its key is good for twenty messages.
async fn stand() -> Result<Option<(Lab, Stand, Person)>> {
    let Some(lab) = Lab::federated().await? else { return Ok(None) };
    let (alice, bob) = tokio::try_join!(Person::new_on(&lab.a, "alice"), Person::new_on(&lab.b, "bob"))?;
    let wish = Wish { rotate_after: Some(20), ..Wish::default() };
    let stand = Stand::set(&lab, bob, wish).await?;
    stand.comes(&alice).await?;
    stand.stands(&alice, "reads").await?;
    Ok(Some((lab, stand, alice)))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_federated_homeserver_are_heard_and_hear_also_what_was_said_while_it_was_away() -> Result<()> {
    let Some((lab, stand, alice)) = stand().await? else { return Ok(()) };
    let Stand { bob, far, .. } = &stand;
    bob.send(far, "from over there").await?;
    stand.hears("from over there").await?;
    stand.tells("to over there", bob).await?;
    let before = stand.is_heard("to over there", &alice).await?.event_id;
    let before = stand.key_of(&before).await?;

    // He has a channel to the bridge. A new key is made while his homeserver can't be reached.
    lab.b.stop().await?;
    let begun = Instant::now();
    let mut last = String::new();
    for number in 0..21 {
        last = stand.tells(&format!("while you are away {number}"), &alice).await?;
    }
    ensure!(begun.elapsed() < Duration::from_secs(30), "the others wait for him: {:?}", begun.elapsed());
    let last = alice.raw_event(far, &last).await?["content"]["session_id"].clone();
    ensure!(last.is_string() && last != *before, "the same key");
    lab.b.restart().await?;
    // What comes from a homeserver tells the others that it is back.
    bob.send(far, "what did I miss?").await?;
    stand.hears("what did I miss?").await?;
    stand.tells("welcome back", bob).await?;
    for number in 0..21 {
        stand.is_heard(&format!("while you are away {number}"), bob).await?;
    }
    stand.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomer_whose_homeserver_is_away_holds_up_nobody_and_reads_once_it_is_back() -> Result<()> {
    let Some((lab, stand, alice)) = stand().await? else { return Ok(()) };
    let Stand { bob, far, .. } = &stand;
    stand.tells("before he came", &alice).await?;
    let dave = Person::new_on(&lab.b, "dave").await?;
    // Nothing can be learnt of his devices before his homeserver goes.
    let unknown = stand.proxies[0].add(Rule::new("POST", "/keys/query", Fault::Fail(503))?);
    stand.comes(&dave).await?;
    alice.wait_member(far, dave.user_id(), "join", SOON).await?;
    let identity = |known: bool| move |member: Option<&Value>| (member?["identity"].is_null() != known).then_some(());
    lab.b.stop().await?;
    unknown.remove();
    stand.sees(dave.user_id(), "him, without an identity", identity(false)).await?;
    let begun = Instant::now();
    let missed = stand.tells("while he can't be reached", &alice).await?;
    ensure!(begun.elapsed() < Duration::from_secs(20), "the others wait for him: {:?}", begun.elapsed());

    lab.b.restart().await?;
    bob.send(far, "mine is back").await?;
    stand.hears("mine is back").await?;
    let give_up = Instant::now() + 2 * SOON;
    while let Err(error) = stand.sees(dave.user_id(), "his identity", identity(true)).await {
        ensure!(Instant::now() < give_up, "{error:#}");
    }
    stand.stands(&dave, "reads").await?;
    stand.tells("now that he is known", &dave).await?;
    ensure!(!can_read(&dave, far, &missed).await? && can_read(&alice, far, &missed).await?);
    stand.close().await
}
