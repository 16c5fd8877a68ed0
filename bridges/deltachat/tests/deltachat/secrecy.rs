//! What the mail server sees.

use anyhow::{Context as _, Result};
use sealbridge_contract::gate::Encryption;
use sealbridge_lab::{DeltaPerson, MailServer, mail::is_encrypted, search::Search};

use crate::bridge::{Bridge, InGroup, SOON, own_key, until};

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
    let Some(InGroup { server, bridge, running, ann, chat, address, group }) = InGroup::set().await? else {
        return Ok(());
    };
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

/// The mail with this id as it passed, in lines that end as they do in Unix.
fn passed(server: &MailServer, id: &str) -> Result<String> {
    let mails = server.archive()?.into_iter().map(|mail| String::from_utf8_lossy(&mail).replace("\r\n", "\n"));
    mails.into_iter().find(|mail| mail.contains(id)).with_context(|| format!("{id} never passed"))
}

/// A header of a mail, with its further lines.
fn header(mail: &str, name: &str) -> Result<String> {
    let head = mail.split("\n\n").next().unwrap_or_default();
    let at = head.find(&format!("\n{name}: ")).with_context(|| format!("It has no {name}"))?;
    let value = &head[at + name.len() + 3..];
    let end = value.match_indices('\n').find(|(at, _)| !value[at + 1..].starts_with([' ', '\t']));
    Ok(value[..end.map_or(value.len(), |(at, _)| at)].to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_in_clear_beside_an_encrypted_part_never_cross() -> Result<()> {
    let Some(InGroup { server, bridge, running, ann, chat, address, group }) = InGroup::set().await? else {
        return Ok(());
    };
    let said = ann.send(chat, "true words").await?;
    running.accepted(&said.id).await?;
    let true_mail = passed(server, &said.id)?;
    let kind = header(&true_mail, "Content-Type")?;
    let (_, sealed) = true_mail.split_once("\n\n").context("It has a body")?;
    let part = format!("Content-Type: {kind}\n\n{sealed}\n");
    let clear = |of: &str| format!("Content-Type: text/{of}; charset=utf-8\n\n<b>mixed words in clear</b>\n");
    let mixed = [[clear("plain"), part.clone()], [part.clone(), clear("html")], [clear("html"), part]];
    for (number, parts) in mixed.iter().enumerate() {
        for outer in ["mixed", "alternative", "related"] {
            let mail = format!(
                "From: <{from}>\nTo: <{address}>\nSubject: [...]\nMessage-ID: <{outer}{number}@localhost>\nChat-Version: 1.0\n\
                 Chat-Group-ID: {group}\nMIME-Version: 1.0\nContent-Type: multipart/{outer}; boundary=\"zqmix\"\n\n\
                 --zqmix\n{}\n--zqmix\n{}\n--zqmix--\n",
                parts[0],
                parts[1],
                from = ann.address(),
            );
            server.inject(&address, &mail).await?;
        }
    }
    let last = ann.send(chat, "the last true words").await?;
    running.accepted(&last.id).await?;
    let crossed = format!("{:?}", bridge.said());
    assert!(!crossed.contains("mixed words"), "{crossed}");
    assert_eq!(bridge.said().len(), 2, "more than the true words crossed: {crossed}");
    assert_eq!(running.transport.encryption(&bridge.group), Encryption::Pinned);
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autocrypt_header_that_asks_for_less_or_brings_another_key_changes_nothing() -> Result<()> {
    let Some(InGroup { server, bridge, running, ann, chat, address, group: _ }) = InGroup::set().await? else {
        return Ok(());
    };
    let eve = DeltaPerson::new_on(server, "eve").await?;
    let said = ann.send(chat, "true words").await?;
    running.accepted(&said.id).await?;
    let armoured = own_key(&eve, "PUBLIC").await?;
    let lines =
        armoured.lines().skip_while(|line| !line.is_empty()).skip(1).take_while(|line| !line.starts_with(['=', '-']));
    let key = lines.collect::<Vec<_>>().join("\n ");
    for (number, wish) in ["prefer-encrypt=nopreference; ", "prefer-encrypt=reset; ", ""].iter().enumerate() {
        let mail = format!(
            "From: <{from}>\nTo: <{address}>\nSubject: hello\nMessage-ID: <autocrypt{number}@localhost>\nChat-Version: 1.0\n\
             Autocrypt: addr={from}; {wish}keydata={key}\nContent-Type: text/plain; charset=utf-8\n\nforged words\n",
            from = ann.address(),
        );
        server.inject(&address, &mail).await?;
    }
    // The same around words of hers that are encrypted, as her provider could add it.
    let sealed = passed(server, &said.id)?;
    let said_id = said.id.trim_matches(['<', '>']);
    let around = format!("Autocrypt: addr={}; prefer-encrypt=reset; keydata={key}\n{sealed}", ann.address());
    server.inject(&address, &around.replace(said_id, "autocrypt-around@localhost")).await?;
    let more = ann.send(chat, "more true words").await?;
    running.accepted(&more.id).await?;
    assert_eq!(bridge.said().len(), 2, "more than the true words crossed");
    running.insist("for ann alone", &running.slip(&bridge.group)).await?;
    ann.wait_for(|seen| seen.text == "for ann alone", SOON).await?;
    let clear = server
        .archive()?
        .into_iter()
        .filter(|mail| String::from_utf8_lossy(mail).contains(&format!("From: <{address}>")) && !is_encrypted(mail));
    assert_eq!(clear.count(), 0, "the bridge sent mail in clear");
    assert_eq!(running.transport.encryption(&bridge.group), Encryption::Pinned);
    running.stop().await
}
