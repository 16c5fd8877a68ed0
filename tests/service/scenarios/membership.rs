//! Who comes and goes reads what is said while they are there, and nothing else.

use anyhow::{Result, ensure};
use sealbridge_lab::{
    Lab, Person,
    person::Received,
    proxy::{Fault, Rule},
};
use serde_json::json;

use super::{
    SOON,
    stand::{Stand, Wish, can_read, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn person_reads_what_was_said_while_they_were_admitted_however_much_the_room_shows() -> Result<()> {
    let Some((lab, stand)) = Stand::usual().await? else { return Ok(()) };
    let Stand { bob, far, .. } = &stand;
    bob.send_state(far, "m.room.join_rules", "", json!({ "join_rule": "public" })).await?;
    bob.send_state(far, "m.room.history_visibility", "", json!({ "history_visibility": "shared" })).await?;
    let carol = Person::new_on(&lab.a, "carol").await?;
    let before = stand.tells("before anybody came", bob).await?;
    // Ann can't be told of her for now, and says something all the same.
    let untold = stand.proxies[1].add(Rule::new("PUT", "/send/", Fault::Fail(503))?);
    carol.join(far).await?;
    stand.stands(&carol, "new").await?;
    let new = stand.tells("before anybody was told of her", bob).await?;
    untold.wait_struck(1, SOON).await?;
    untold.remove();
    stand.stands(&carol, "reads").await?;
    let here = stand.tells("to all who are here", &carol).await?;

    carol.leave(far).await?;
    stand.sees_gone(&carol).await?;
    let away = stand.tells("while she is away", bob).await?;
    bob.invite(far, carol.user_id()).await?;
    stand.stands(&carol, "invited").await?;
    let invited = stand.tells("while she is only invited", bob).await?;
    carol.join(far).await?;
    stand.stands(&carol, "reads").await?;
    let again = stand.tells("welcome back", &carol).await?;

    for (event, reads) in [(before, false), (new, false), (here, true), (away, false), (invited, false), (again, true)]
    {
        // The room shows her all of them.
        let read = carol.try_read(far, &event).await?;
        ensure!(read.is_ok() == reads, "{read:?}");
        ensure!(can_read(bob, far, &event).await?, "he was there all the time");
    }
    stand.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bridge_carries_what_is_said_from_its_own_join_on_and_nothing_of_when_it_was_away() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let mut stand = Stand::set_before_bobs(lab, bob, Wish::default()).await?;
    stand.bob.send(&stand.far, "before it was invited").await?;
    // It is invited, and has not joined yet.
    let joining = stand.proxies[0].add(Rule::new("POST", "/join", Fault::Hang)?);
    stand.bob.invite(&stand.far, &stand.bot).await?;
    joining.wait_struck(1, SOON).await?;
    let early = stand.bob.send(&stand.far, "between invitation and join").await?;
    joining.remove();
    stand.is_linked().await?;
    let Stand { bob, far, bot, .. } = &stand;
    let first = bob.send(far, "now that it is here").await?;
    stand.hears("now that it is here").await?;
    // His client gives keys to who is invited: what was said before could be read, and is not carried.
    ensure!(stand.key_of(&early).await? == stand.key_of(&first).await?);

    bob.kick(far, bot).await?;
    bob.wait_member(far, bot, "leave", SOON).await?;
    bob.send(far, "while it was away").await?;
    // The link is still there, and so what is said between the second invitation and the second join could be carried.
    let joining = stand.proxies[0].add(Rule::new("POST", "/join", Fault::Hang)?);
    bob.invite(far, bot).await?;
    joining.wait_struck(1, SOON).await?;
    bob.send(far, "while it was only invited again").await?;
    joining.remove();
    let joins = || {
        bob.received()
            .iter()
            .filter(
                |it| matches!(it, Received::Member(it) if it.user == *bot && it.membership.as_deref() == Some("join")),
            )
            .count()
    };
    until("it joins again", || (joins() == 2).then_some(())).await?;
    bob.send(far, "now that it is back").await?;
    stand.hears("now that it is back").await?;
    ensure!(stand.heard() == ["now that it is here", "now that it is back"], "{:?}", stand.heard());
    stand.waits_for_keys_of(0).await?;
    stand.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn room_key_is_replaced_when_somebody_goes_and_they_do_not_get_the_next() -> Result<()> {
    let Some((lab, stand)) = Stand::usual().await? else { return Ok(()) };
    let carol = Person::new_on(&lab.a, "carol").await?;
    stand.tells("between the two of us", &stand.bob).await?;
    stand.comes(&carol).await?;
    stand.stands(&carol, "reads").await?;
    let three = stand.tells("among the three of us", &stand.bob).await?;
    stand.is_heard("among the three of us", &carol).await?;
    carol.leave(&stand.far).await?;
    stand.sees_gone(&carol).await?;
    stand.asked("/sendToDevice");
    let two = stand.tells("between the two of us again", &stand.bob).await?;
    ensure!(stand.key_of(&three).await? != stand.key_of(&two).await?);
    let keys = stand.asked("/sendToDevice");
    let got = |who: &Person| keys.iter().any(|body| body["messages"][who.user_id()].is_object());
    ensure!(got(&stand.bob) && !got(&carol), "{keys:?}");
    stand.close().await
}
