//! What the mail server sees.

use anyhow::Result;
use sealbridge_contract::gate::Encryption;
use sealbridge_lab::{DeltaPerson, MailServer, mail::is_encrypted, search::Search};

use crate::bridge::{Bridge, SOON, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mail_is_encrypted_and_no_word_or_name_of_a_person_or_group_is_in_it() -> Result<()> {
    if !sealbridge_lab::mail::available().await {
        return Ok(());
    }
    let server = MailServer::start().await?;
    let bridge = Bridge::new(&server).await?;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(&server, "ann").await?;
    let chat = ann.join(&bridge.link).await?;
    running.insist("canary-outgoing-9281", &running.slip(&bridge.group)).await?;
    ann.wait_for(|seen| seen.text == "canary-outgoing-9281", SOON).await?;
    let said = ann.send(chat, "canary-incoming-1829").await?;
    running.accepted(&said.id).await?;
    running.stop().await?;

    let mails = server.archive()?;
    assert!(mails.len() >= 6, "only {} mails passed", mails.len());
    let plain = mails.iter().filter(|mail| !is_encrypted(mail)).count();
    assert_eq!(plain, 0, "of {} mails so many are not encrypted", mails.len());
    let canaries = ["canary-outgoing-9281", "canary-incoming-1829", "Ann of Elsewhere", crate::bridge::GROUP];
    let search = Search::new(&canaries)?;
    let hits = |mails: &[Vec<u8>]| mails.iter().map(|mail| search.bytes(mail).len()).sum::<usize>();
    assert_eq!(hits(&mails), 0, "words are in the archive");

    // The control: the same search finds each word in mail that is not encrypted, in both forms that mail has.
    let control = [
        canaries.join("\n").into_bytes(),
        b"Content-Transfer-Encoding: base64\n\nY2FuYXJ5LW91dGdvaW5nLTkyODE=".to_vec(),
    ];
    assert!(hits(&control[..1]) >= canaries.len());
    assert!(hits(&control[1..]) >= 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_in_clear_never_crosses_even_with_a_members_address_in_it() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    let chat = ann.join(&bridge.link).await?;
    let group = bridge.link.split('&').find_map(|part| part.strip_prefix("x=")).unwrap_or_default();
    let address = bridge.settings.address.clone().unwrap_or_default();
    let mail = format!(
        "From: <{from}>\nTo: <{address}>\nSubject: hello\nMessage-ID: <forged@localhost>\nChat-Version: 1.0\n\
         Chat-Group-ID: {group}\nChat-Group-Name: Family\nContent-Type: text/plain; charset=utf-8\n\nforged words\n",
        from = ann.address(),
    );
    server.inject(&address, &mail).await?;
    let said = ann.send(chat, "true words").await?;
    running.accepted(&said.id).await?;
    assert_eq!(bridge.said().len(), 1, "more than the true words crossed");
    assert_eq!(running.transport.encryption(&bridge.group), Encryption::Pinned);
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_that_is_not_encrypted_is_refused_even_if_the_engine_lets_it_be_made() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    // A person makes it with the same engine, on the same account, while the bridge is down.
    let plain = crate::harness::plain_group(&bridge).await?;
    let running = bridge.start().await?;
    until("it is known", || running.transport.encryption(&plain) != Encryption::Unknown).await?;
    assert_eq!(running.transport.encryption(&plain), Encryption::Absent);
    let error = running.deliver("never", &running.slip(&plain)).await.expect_err("the gate refuses");
    assert!(error.cause.contains("NotEncrypted"), "{error}");
    running.stop().await
}
