//! Long words between a Matrix room and a Delta Chat group, on real servers: they cross whole, or whoever wrote them is
//! told, once.

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{
    RemoteId,
    conformance::{Overheard, Say},
};
use sealbridge_lab::bridge::Binary;
use serde_json::json;

use crate::phones::{Family, Who};

/// Words of so many bytes, without anything that JSON writes longer.
fn long(start: &str, bytes: usize) -> String {
    format!("{start} {}", "long words ".repeat(bytes / 11))
}

fn say(words: &str) -> Say {
    Say { words: words.to_owned(), ..Say::default() }
}

/// What somebody was told of this message of theirs.
async fn told(family: &Family, who: Who, of: &RemoteId) -> Result<Vec<String>> {
    let heard = family.heard(who).await?.into_iter();
    let about = heard.filter(|heard| heard.reply_to.as_ref() == Some(of) && heard.words.contains("did not cross"));
    Ok(about.map(|heard| heard.words).collect())
}

async fn is_told(family: &Family, who: Who, of: &RemoteId, why: &str) -> Result<()> {
    let is = |heard: &Overheard| heard.reply_to.as_ref() == Some(of) && heard.words.contains(why);
    family.hears(who, &format!("that {why}"), is).await.map(drop)
}

/// All the words of a message that a phone shows the beginning of.
async fn whole(family: &Family, start: &str) -> Result<String> {
    family.hears(Who::Ben, start, |heard| heard.words.starts_with(start)).await?;
    let seen = family.ben.ever_seen().await?.into_iter().find(|seen| seen.text.starts_with(start));
    let number = seen.context("it was seen")?.number;
    let page = family.ben.rpc("get_message_html", json!([number])).await?;
    Ok(page.as_str().context("it has more than it shows")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_words_cross_whole_between_matrix_and_delta_chat_or_their_author_is_told_once() -> Result<()> {
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let Some(family) = Family::set(&binary).await? else { return Ok(()) };
    // What Matrix itself takes crosses.
    let words = long("33 from ann", 33_000);
    family.says(Who::Ann, say(&words)).await?;
    let page = whole(&family, "33 from ann").await?;
    assert_eq!(page.matches("long words").count(), words.matches("long words").count());
    for thousands in [50, 70] {
        let sent = family.says(Who::Ann, say(&long("more", thousands * 1000))).await;
        ensure!(sent.is_err(), "Ann's own homeserver takes {thousands} KB");
    }

    let words = long("33 from ben", 33_000);
    family.says(Who::Ben, say(&words)).await?;
    let heard = family.hears(Who::Ann, "33 from ben", |heard| heard.words.starts_with("33 from ben")).await?;
    assert_eq!(heard.words.trim_end(), words.trim_end());
    let fifty = family.says(Who::Ben, say(&long("50 from ben", 50_000))).await?;
    is_told(&family, Who::Ben, &fifty, "A message did not cross: it is longer than 43.9 KiB").await?;
    let seventy = family.says(Who::Ben, say(&long("70 from ben", 70_000))).await?;
    is_told(&family, Who::Ben, &seventy, "A message did not cross: it is longer than what crosses. The most is 64 KiB")
        .await?;
    family.said(Who::Ben, "afterwards").await?;
    family.said(Who::Ann, "and afterwards").await?;
    for of in [&fifty, &seventy] {
        assert_eq!(told(&family, Who::Ben, of).await?.len(), 1, "it is told once");
    }
    let heard = family.heard(Who::Ann).await?;
    for start in ["50 from ben", "70 from ben"] {
        assert!(heard.iter().all(|heard| !heard.words.starts_with(start)), "nothing is cut in silence");
    }
    family.bridge.stop().await
}
