//! Delta Chat people who mean harm, or send too much.

use std::time::{Duration, Instant};

use anyhow::Result;
use sealbridge_contract::{
    RemoteId,
    conformance::How,
    message::{Absence, Reaction},
};
use sealbridge_lab::{
    DeltaPerson, MailServer,
    delta::{Attachment, Saying},
};
use serde_json::json;

use crate::bridge::{Bridge, Met, met, until};

fn file<'a>(text: &'a str, name: &'a str, content: &'a [u8]) -> Saying<'a> {
    Saying { text, file: Some(Attachment { view: "File", name, content, plays: None }), ..Saying::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_of_a_file_leads_nowhere_and_has_one_line() -> Result<()> {
    let Some(Met { bridge: _bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    for name in ["../../x.txt", "a\nb\r.txt", "\u{202e}txt.exe", "..", "/etc/passwd"] {
        let said = ann.say(chat, file("look", name, b"harmless")).await?;
        let accepted = running.accepted(&said.id).await?;
        let file = accepted.details.file.expect("the file crossed");
        let hostile = |c: char| c.is_control() || matches!(c, '/' | '\\' | '\u{202a}'..='\u{202e}');
        assert!(!file.name.contains(hostile) && !file.name.starts_with('.'), "{name:?} is called {:?}", file.name);
        assert_eq!(file.content, b"harmless", "{name:?}");
    }
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_that_an_account_gives_a_message_never_passes_for_the_accounts_own() -> Result<()> {
    let Some(Met { bridge: _bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let spoken = ann.send_with(chat, "it is me", None, Some("Boss")).await?;
    let accepted = running.accepted(&spoken.id).await?;
    assert_eq!(accepted.name.as_deref(), Some("Boss (via ann)"));
    ann.edit(&spoken.id, "it is me, really").await?;
    let edited = running.accepted(&format!("{} edit 1", spoken.id)).await?;
    assert_eq!(edited.name.as_deref(), Some("Boss (via ann)"), "by an edit");
    // Nor does an account's own name look as if somebody else's were told by it.
    ann.rpc("set_config", serde_json::json!(["displayname", "Boss (via ann"])).await?;
    let own = ann.send(chat, "nobody else").await?;
    assert_eq!(running.accepted(&own.id).await?.name.as_deref(), Some("Boss via ann"));
    ann.edit(&own.id, "nobody else, really").await?;
    let edited = running.accepted(&format!("{} edit 1", own.id)).await?;
    assert_eq!(edited.name.as_deref(), Some("Boss via ann"), "by an edit");
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_over_the_limit_stays_behind_by_what_is_counted_and_the_next_one_crosses() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let mut bridge = Bridge::new(server).await?;
    bridge.settings.most_file_mib = 1;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    let chat = ann.join(&bridge.link).await?;
    let large = vec![7; (1 << 20) + 1];
    let behind = ann.say(chat, file("too large", "large.bin", &large)).await?;
    let taken = ann.say(chat, file("just right", "large.bin", &large[1..])).await?;
    let accepted = running.accepted(&taken.id).await?;
    assert!(accepted.details.file.is_some_and(|file| file.content == large[1..]));
    let behind = running.accepted(&behind.id).await?;
    assert_eq!(behind.absence, Some(Absence::TooLarge { most: Some(1 << 20) }));
    assert!(behind.details.file.is_none() && behind.words.0 == "too large");
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_reactions_ends_in_what_is_shown_last() -> Result<()> {
    let Some(Met { bridge: _bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let said = ann.send(chat, "liked too much").await?;
    running.accepted(&said.id).await?;
    let all: Vec<String> = (0..30).filter_map(|at| char::from_u32(0x1f600 + at)).map(String::from).collect();
    for emoji in &all {
        ann.react(&said.id, &[emoji]).await?;
    }
    ann.react(&said.id, &["👍"]).await?;
    let sets = || {
        let accepted = running.intake.accepted().into_iter();
        accepted.filter(|one| one.how == Some(How::Reaction)).collect::<Vec<_>>()
    };
    let last = || sets().last().is_some_and(|one| one.details.emoji == ["👍"]);
    until("the last one is told", last).await?;
    let sets = sets();
    assert!(sets.len() <= all.len() + 1, "{} are told of {}", sets.len(), all.len() + 1);
    let about = RemoteId::new(said.id.as_str());
    assert!(sets.iter().all(|one| one.details.about.as_ref() == Some(&about)));
    assert!(sets.iter().all(|one| one.details.emoji.len() <= Reaction::MOST));
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_is_longer_than_is_read_is_refused_alone_and_the_others_cross() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let before = ann.send(chat, "before").await?;
    let endless = ann.send(chat, &"endless ".repeat(9 << 20)).await?;
    let after = ann.send(chat, "after").await?;
    running.accepted(&before.id).await?;
    running.accepted(&after.id).await?;
    let refused = running.intake.refused();
    let reason = refused.iter().find(|(id, _)| id.as_str() == endless.id).map(|(_, reason)| reason.as_str());
    assert_eq!(reason, Some("the engine has it and can't give it out"), "{refused:?}");
    let words: Vec<_> = bridge.said().into_iter().map(|one| one.words.0).collect();
    assert_eq!(words, ["before", "after"]);
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_id_that_comes_again_with_other_words_is_the_first_message_and_no_other() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let address = bridge.settings.address.clone().unwrap_or_default();
    let said = ann.send(chat, "the first words").await?;
    running.accepted(&said.id).await?;
    // Who comes now has not had it, so they see what is in it the next time.
    let ben = DeltaPerson::new_on(server, "ben").await?;
    ben.join(&bridge.link).await?;
    let give_up = Instant::now() + Duration::from_secs(60);
    while ann.rpc("get_chat_contacts", json!([chat])).await?.as_array().is_none_or(|all| all.len() < 3) {
        anyhow::ensure!(Instant::now() < give_up, "she does not hear of him");
    }
    let laid = || server.laid_into(&address).is_ok_and(|ids| ids.iter().filter(|id| **id == said.id).count() == 2);
    // Her own client delivers it once more, whole and signed, with something else in it.
    ann.send_again_as(&said, "other words").await?;
    assert_eq!(ben.hears("other words", Duration::from_secs(60)).await?.id, said.id);
    until("it lies in the mailbox twice", laid).await?;
    // And a mail server lays the second into it under an id of its own.
    until("both are in the archive", || mails(server, &said.id).len() == 2).await?;
    let both = mails(server, &said.id);
    let [_, second] = &both[..] else { anyhow::bail!("{} have this id", both.len()) };
    server.inject(&address, &second.replace(&said.id, "another-id@localhost")).await?;
    let after = ann.send(chat, "after that").await?;
    running.accepted(&after.id).await?;
    let words: Vec<_> = bridge.said().into_iter().map(|one| one.words.0).collect();
    assert_eq!(words, ["the first words", "after that"]);
    assert!(running.intake.refused().is_empty(), "{:?}", running.intake.refused());
    running.stop().await
}

/// Every mail of this id that passed, oldest first.
fn mails(server: &MailServer, id: &str) -> Vec<String> {
    let all = server.archive().unwrap_or_default().into_iter();
    let all = all.map(|mail| String::from_utf8_lossy(&mail).into_owned());
    all.filter(|mail| mail.lines().take_while(|line| !line.is_empty()).any(|line| line.contains(id))).collect()
}
