//! Files that can't cross, on real servers: a homeserver and a mail server that take no large ones, senders whose files
//! are not what they say, and accounts that take no more. What is said with them crosses, and each sender is told why,
//! once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::{
    RemoteId,
    conformance::{Details, How, Overheard, Sample, Say},
};
use sealbridge_lab::{
    Lab, MailServer, Synapse, mail,
    proxy::{Fault, Proxy, Rule},
    synapse::Options,
};
use serde_json::{Value, json};

use crate::phones::matrix;
use crate::trio::{Setting, Trio, Whom};

/// What the small servers take, in bytes.
const SMALL: usize = 300_000;
const TOO_LARGE: &str = "it is larger than what the far server takes";

fn file(words: &str, size: usize) -> Say {
    // Nothing that could be compressed.
    let mut state = size as u64 | 1;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let content = (0..size).map(byte).collect();
    let file = Sample { name: "x.bin".into(), mime: "application/x-y".into(), content, ..Sample::default() };
    let details = Details { file: Some(file), ..Details::default() };
    Say { how: How::File, words: words.to_owned(), details, ..Say::default() }
}

/// What somebody was told of this message of theirs, since its file stayed behind.
async fn told(trio: &Trio, who: Whom, of: &RemoteId) -> Result<Vec<String>> {
    let heard = trio.heard(who).await?.into_iter();
    let about = heard.filter(|heard| heard.reply_to.as_ref() == Some(of) && heard.words.contains("did not cross"));
    Ok(about.map(|heard| heard.words).collect())
}

async fn is_told(trio: &Trio, who: Whom, of: &RemoteId, why: &str) -> Result<()> {
    let is = |heard: &Overheard| heard.reply_to.as_ref() == Some(of) && heard.words.contains(why);
    trio.hears(who, &format!("that {why}"), is).await.map(drop)
}

/// Somebody hears what was said with a file, and why it is not there.
async fn hears_the_words(trio: &Trio, who: Whom, words: &str, why: &str) -> Result<()> {
    let heard = trio.hears(who, words, |heard| heard.words.ends_with(words)).await?;
    ensure!(heard.how == How::Text && heard.details.file.is_none(), "{who:?} hears {heard:?}");
    ensure!(heard.words.starts_with("📎 x.bin") && heard.words.contains(why), "{who:?} hears {:?}", heard.words);
    Ok(())
}

async fn hears_the_file(trio: &Trio, who: Whom, words: &str, content: &[u8]) -> Result<()> {
    let heard = trio.hears(who, words, |heard| heard.words.ends_with(words)).await?;
    ensure!(heard.details.file.is_some_and(|file| file.content == content), "{who:?} gets no file, or another");
    Ok(())
}

/// Kills the bridge, starts it again, and waits until everything before is done with.
async fn start_again(trio: &mut Trio, words: &str) -> Result<()> {
    trio.bridge.kill().await?;
    trio.bridge.unset_env("FAILPOINT_KILL_AT");
    trio.bridge.start().await?;
    trio.says(Whom::Ann, Say { words: words.to_owned(), ..Say::default() }).await?;
    for who in Whom::Ann.others() {
        trio.hears(who, words, |heard| heard.words.ends_with(words)).await?;
    }
    Ok(())
}

/// A file crosses whose small picture is too large for Bob's homeserver, and nobody is told of that.
async fn small_picture_is_left_out(trio: &Trio, words: &str) -> Result<()> {
    let noise = file("", 2 * SMALL).details.file.context("it has a file")?.content;
    let small = json!({ "thumbnail": STANDARD.encode(noise) });
    let sent = wrong_file(trio, words, &small).await?;
    let heard = trio.hears(Whom::Bob, words, |heard| heard.words == words).await?;
    ensure!(heard.details.file.is_some_and(|file| file.content == [7; 4000]), "Bob gets no file, or another");
    let received = trio.bob.received();
    let info = &matrix::content(&received, &heard.id).context("it has a content")?["info"];
    ensure!(info["size"] == 4000 && info.get("thumbnail_file").is_none(), "Bob gets {info}");
    assert_eq!(told(trio, Whom::Ann, &sent).await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_only_a_far_server_refuses_stays_behind_and_its_sender_is_told_once() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    if !mail::available().await {
        return Ok(());
    }
    let mail = MailServer::start().await?;
    let extra = json!({ "max_upload_size": SMALL.to_string() }).as_object().cloned().unwrap_or_default();
    let small = Synapse::start("small.test", Options { extra, ..Options::default() }).await?;
    let proxy = Proxy::before(small.url()).await?;
    let setting = Setting { before_b: Some(proxy.url()), ..Setting::default() };
    let mut trio = Trio::on([&lab.a, &small], &mail, &setting).await?;
    mail.set(&format!("message_size_limit = {SMALL}")).await?;

    // One homeserver says what it takes; the mail server says no when it has seen too much.
    let said = trio.says(Whom::Ann, file("one too large", 2 * SMALL)).await?;
    hears_the_words(&trio, Whom::Bob, "\none too large", "it is larger than 292.9 KiB").await?;
    hears_the_words(&trio, Whom::Ben, "\none too large", TOO_LARGE).await?;
    is_told(&trio, Whom::Ann, &said, "larger than 292.9 KiB, the most that is taken; a smaller one crosses").await?;
    is_told(&trio, Whom::Ann, &said, "larger than what the far server takes; a smaller one crosses").await?;
    // And a smaller one does.
    let fits = file("one that fits", SMALL / 3);
    let content = fits.details.file.as_ref().context("it has a file")?.content.clone();
    let fitting = trio.says(Whom::Ann, fits).await?;
    for who in Whom::Ann.others() {
        hears_the_file(&trio, who, "one that fits", &content).await?;
    }

    small_picture_is_left_out(&trio, "small picture too large").await?;

    // The homeserver does not say what it takes, and the bridge is killed once the words went.
    let silent = Fault::Answer { status: 404, body: json!({ "errcode": "M_UNRECOGNIZED", "error": "no" }) };
    proxy.add(Rule::new("GET", "/media/config", silent)?);
    trio.bridge.stop().await?;
    let again = trio.says(Whom::Ann, file("another too large", 2 * SMALL)).await?;
    trio.bridge.set_env("FAILPOINT_KILL_AT", "flow::after-deliver=1");
    trio.bridge.spawn().await?;
    trio.bridge.wait_exit(Duration::from_secs(60)).await?;
    start_again(&mut trio, "after a kill").await?;
    hears_the_words(&trio, Whom::Bob, "\nanother too large", TOO_LARGE).await?;
    hears_the_words(&trio, Whom::Ben, "\nanother too large", TOO_LARGE).await?;
    is_told(&trio, Whom::Ann, &again, TOO_LARGE).await?;
    small_picture_is_left_out(&trio, "small picture too large, and nobody says so").await?;
    start_again(&mut trio, "after another kill").await?;
    assert_eq!(told(&trio, Whom::Ann, &said).await?.len(), 2, "each reason is told once");
    assert_eq!(told(&trio, Whom::Ann, &again).await?.len(), 1, "one reason is told once, of whichever end");
    assert_eq!(told(&trio, Whom::Ann, &fitting).await?, [""; 0]);
    for who in Whom::Ann.others() {
        let heard = trio.heard(who).await?;
        let times = heard.iter().filter(|heard| heard.words.contains("another too large")).count();
        assert_eq!(times, 1, "{who:?} hears it once");
    }
    let letters = trio.bridge.cli(&["dead-letters", "list"]).await?.ok()?.stdout;
    ensure!(letters.trim().is_empty(), "nothing is left to be looked after: {letters}");
    trio.bridge.stop().await
}

/// Sends a file of Ann's with something wrong about it.
async fn wrong_file(trio: &Trio, words: &str, more: &Value) -> Result<RemoteId> {
    let mut file = json!({
        "room": trio.rooms[0], "name": "x.bin", "mimetype": "application/x-y", "data": STANDARD.encode(vec![7; 4000]),
        "extra": { "body": words },
    });
    if let (Some(file), Some(more)) = (file.as_object_mut(), more.as_object()) {
        file.extend(more.clone());
    }
    let sent = trio.ann.call("send_file", file).await?;
    Ok(RemoteId::new(sent["event_id"].as_str().context("it has a name")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_is_not_what_its_sender_says_or_too_much_for_the_account_is_told_of() -> Result<()> {
    let Some(mail) = MailServer::shared().await? else { return Ok(()) };
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let proxy = Proxy::before(lab.a.url()).await?;
    let setting = Setting { before_a: Some(proxy.url()), lines: "most_file_mib = 1", ..Setting::default() };
    let trio = Trio::on([&lab.a, &lab.b], mail, &setting).await?;

    let open = json!({ "msgtype": "m.file", "body": "in clear", "filename": "x.bin", "url": "mxc://alpha.test/abc" });
    let open = RemoteId::new(trio.ann.send_event(&trio.rooms[0], "m.room.message", open).await?);
    let claims = json!({ "info": { "size": 4_u64 << 30 } });
    let claims = wrong_file(&trio, "said to have 4 GiB", &claims).await?;
    let large = json!({ "data": STANDARD.encode(vec![7; 1_500_000]) });
    let large = wrong_file(&trio, "more than the account takes", &large).await?;
    let wrong = wrong_file(&trio, "another hash", &json!({ "wrong_hash": true })).await?;
    is_told(&trio, Whom::Ann, &wrong, "its hash is another; sent once more it may cross").await?;
    // What the homeserver has of it ends early, and by its own word that is all.
    let short = Fault::Answer { status: 200, body: json!({}) };
    let short = proxy.add(Rule::new("GET", "/media/download/", short)?.times(1));
    let cut = wrong_file(&trio, "ends early", &json!({})).await?;
    short.wait_struck(1, Duration::from_secs(60)).await?;
    is_told(&trio, Whom::Ann, &cut, "its hash is another").await?;
    let forbidden = Fault::Answer { status: 403, body: json!({ "errcode": "M_FORBIDDEN", "error": "no" }) };
    let forbidden = proxy.add(Rule::new("GET", "/media/download/", forbidden)?);
    let kept = wrong_file(&trio, "not given out", &json!({})).await?;
    is_told(&trio, Whom::Ann, &kept, "it can't be fetched; sent once more it may cross").await?;
    forbidden.remove();
    // One that breaks off is fetched again, and nobody is told.
    let cut_short = proxy.add(Rule::new("GET", "/media/download/", Fault::CutAnswer)?.times(1));
    let whole = wrong_file(&trio, "breaks off once", &json!({})).await?;
    cut_short.wait_struck(1, Duration::from_secs(60)).await?;

    for (id, words, why) in [
        (&open, "in clear", "it is not encrypted"),
        (&claims, "said to have 4 GiB", "it is larger than 1 MiB"),
        (&large, "more than the account takes", "it is larger than 1 MiB"),
        (&wrong, "another hash", "its hash is another"),
        (&cut, "ends early", "its hash is another"),
        (&kept, "not given out", "it can't be fetched"),
    ] {
        is_told(&trio, Whom::Ann, id, why).await?;
        for who in Whom::Ann.others() {
            hears_the_words(&trio, who, &format!("\n{words}"), why).await?;
        }
        assert_eq!(told(&trio, Whom::Ann, id).await?.len(), 1, "{words}: once, though two ends did not get it");
    }
    for who in Whom::Ann.others() {
        hears_the_file(&trio, who, "breaks off once", &[7; 4000]).await?;
    }
    assert_eq!(told(&trio, Whom::Ann, &whole).await?, [""; 0]);

    // From Delta Chat the account's own limit is all that can be in the way.
    let large = trio.says(Whom::Ben, file("too large for the account", 1_500_000)).await?;
    is_told(&trio, Whom::Ben, &large, "it is larger than 1 MiB, the most that is taken; a smaller one crosses").await?;
    for who in Whom::Ben.others() {
        hears_the_words(&trio, who, "\ntoo large for the account", "it is larger than 1 MiB").await?;
    }
    trio.bridge.stop().await
}
