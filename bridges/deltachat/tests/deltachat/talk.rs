//! Words both ways, in a group and between two.

use anyhow::Result;
use sealbridge_contract::{PersonId, RemoteId, Slip, conformance::Words};
use sealbridge_lab::{DeltaPerson, MailServer};

use crate::bridge::{Bridge, SOON};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_cross_both_ways_in_a_group_under_everybodys_own_name() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let (ann, ben) = tokio::try_join!(DeltaPerson::new_on(server, "ann"), DeltaPerson::new_on(server, "ben"))?;
    let (anns, bens) = tokio::try_join!(ann.join(&bridge.link), ben.join(&bridge.link))?;

    let slip = running.slip(&bridge.group);
    let receipt = running.insist("good morning", &slip).await?;
    for person in [&ann, &ben] {
        let seen = person.wait_for(|seen| seen.text == "good morning", SOON).await?;
        assert_eq!(seen.name.as_deref(), Some("Ann of Elsewhere"));
        assert_eq!(seen.id, receipt.id.as_str(), "both ids are kept");
        assert!(seen.padlock && seen.bot);
    }
    let answer = ben.send_with(bens, "good evening", Some(receipt.id.as_str()), None).await?;
    let accepted = running.accepted(&answer.id).await?;
    assert_eq!(accepted.words, Words("good evening".to_owned()));
    assert_eq!(accepted.author, PersonId::new(ben.fingerprint()), "who wrote it rests on the key");
    assert_eq!((accepted.name.as_deref(), accepted.conversation), (Some("ben"), bridge.group.clone()));
    assert_eq!(accepted.reply_to, Some(receipt.id.clone()));

    let said = ann.send(anns, "a question").await?;
    running.accepted(&said.id).await?;
    let slip = Slip { reply_to: Some(RemoteId::new(said.id.as_str())), ..running.slip(&bridge.group) };
    running.insist("an answer", &slip).await?;
    let seen = ben.wait_for(|seen| seen.text == "an answer", SOON).await?;
    assert_eq!(seen.answers.as_deref(), Some(said.id.as_str()));
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_cross_both_ways_between_two_after_the_bridge_was_scanned() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let mut joining =
        running.transport.comparison(None, sealbridge_contract::Screen::Words).expect("there is such a flow");
    joining.next(None).await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    let chat = ann.join(&bridge.own_link).await?;
    let sealbridge_contract::Step::Done(words) = joining.next(None).await? else { panic!("somebody joined") };
    assert!(words.contains(ann.fingerprint()), "{words}");

    let direct = running.transport.open_direct(&PersonId::new(ann.fingerprint())).await?;
    running.insist("just you and me", &running.slip(&direct)).await?;
    ann.wait_for(|seen| seen.text == "just you and me" && seen.chat == chat && seen.padlock, SOON).await?;
    let said = ann.send(chat, "and nobody else").await?;
    assert_eq!(running.accepted(&said.id).await?.conversation, direct);
    let stranger = PersonId::new("0".repeat(40));
    assert!(running.transport.open_direct(&stranger).await.is_err(), "nobody is written to whose key is not known");
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn existing_group_is_joined_when_a_member_adds_the_bridge() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    ann.join(&bridge.own_link).await?;
    let (group, _) = ann.group("Old friends").await?;
    let contact = contact_of(&ann, &bridge).await?;
    ann.rpc("add_contact_to_chat", serde_json::json!([group, contact])).await?;
    let said = ann.send(group, "welcome").await?;
    let accepted = running.accepted(&said.id).await?;
    let listed = running.transport.conversations();
    let info = listed.iter().find(|info| info.id == accepted.conversation).expect("it is listed");
    assert_eq!((info.name.as_deref(), info.members), (Some("Old friends"), 2));
    running.insist("thank you", &running.slip(&accepted.conversation)).await?;
    ann.wait_for(|seen| seen.text == "thank you" && seen.chat == group, SOON).await?;
    running.stop().await
}

/// The number that the bridge has among a person's contacts.
async fn contact_of(person: &DeltaPerson, bridge: &Bridge) -> Result<u64> {
    let all = person.rpc("get_contact_ids", serde_json::json!([0, null])).await?;
    for contact in all.as_array().into_iter().flatten() {
        let known = person.rpc("get_contact", serde_json::json!([contact])).await?;
        if known["address"].as_str() == bridge.settings.address.as_deref() {
            return Ok(contact.as_u64().unwrap_or_default());
        }
    }
    anyhow::bail!("the bridge is no contact")
}
