//! Dead letters: messages that will not be delivered unless somebody says so. Their content is never shown.

use sealbridge_contract::Address;
use serde::Serialize;

use super::{Outcome, to_line};
use crate::{
    operator::{Failure, plain::field},
    store::{DeadLetter, Journal},
};

/// How many are read at a time.
const PAGE: usize = 500;

#[derive(Serialize)]
struct LetterLine<'a> {
    number: i64,
    name: &'a str,
    from: Option<String>,
    to: Option<String>,
    sender: &'a Option<String>,
    reason: &'a str,
    since: i64,
    kept: bool,
}

pub(super) async fn list(journal: &dyn Journal) -> Result<Outcome, Failure> {
    let letters = all(journal).await?;
    let mut words: String = letters.iter().map(describe).collect();
    if letters.is_empty() {
        words.push_str(NONE);
    }
    Ok(Outcome::new(words, letters.iter().map(line).collect()))
}

pub(super) async fn show(journal: &dyn Journal, number: i64) -> Result<Outcome, Failure> {
    let letter = find(journal, number).await?;
    let can = if letter.kept {
        "Its content is kept, locked. Try it again: sealbridge dead-letters retry N\n"
    } else {
        "Its content is gone, so it can't be tried again.\n"
    };
    Ok(Outcome::new(format!("{}{can}", describe(&letter)), vec![line(&letter)]))
}

pub(super) async fn retry(journal: &dyn Journal, number: i64) -> Result<Outcome, Failure> {
    let letter = find(journal, number).await?;
    if !letter.kept {
        return Err(Failure::refused(format!(
            "the content of dead letter {number} is gone, so it can't be tried again"
        )));
    }
    journal.retry(number).await?;
    let words = format!("Dead letter {number} is on its way again.\n");
    Ok(Outcome::one(words, &serde_json::json!({ "number": number, "retried": true })))
}

pub(super) async fn drop_one(journal: &dyn Journal, number: i64) -> Result<Outcome, Failure> {
    find(journal, number).await?;
    journal.drop_letter(number).await?;
    let words = format!("Dead letter {number} is erased for good.\n");
    Ok(Outcome::one(words, &serde_json::json!({ "number": number, "dropped": true })))
}

const NONE: &str = "There are no dead letters.\n";

pub(super) async fn retry_all(journal: &dyn Journal) -> Result<Outcome, Failure> {
    let (mut after, mut done, mut left) = (i64::MIN, 0, 0);
    loop {
        let swept = journal.retry_letters(after).await?;
        (done, left) = (done + swept.done, left + swept.left);
        let Some(go_on) = swept.go_on else { break };
        after = go_on;
    }
    let mut words = match (done, left) {
        (0, 0) => NONE.to_owned(),
        _ => format!("{done} dead letters are on their way again.\n"),
    };
    if left > 0 {
        words.push_str(&format!("{left} can't be tried again, since their content is gone.\n"));
    }
    Ok(Outcome::one(words, &serde_json::json!({ "retried": done, "content_gone": left })))
}

pub(super) async fn drop_all(journal: &dyn Journal) -> Result<Outcome, Failure> {
    let (mut after, mut done) = (i64::MIN, 0);
    loop {
        let swept = journal.drop_letters(after).await?;
        done += swept.done;
        let Some(go_on) = swept.go_on else { break };
        after = go_on;
    }
    let words = if done == 0 { NONE.to_owned() } else { format!("{done} dead letters are erased for good.\n") };
    Ok(Outcome::one(words, &serde_json::json!({ "dropped": done })))
}

pub(super) async fn all(journal: &dyn Journal) -> Result<Vec<DeadLetter>, Failure> {
    let mut letters: Vec<DeadLetter> = Vec::new();
    loop {
        let after = letters.last().map_or(i64::MIN, |letter| letter.number);
        let page = journal.dead_letters(after, PAGE).await?;
        let full = page.len() == PAGE;
        letters.extend(page);
        if !full {
            return Ok(letters);
        }
    }
}

pub(super) async fn find(journal: &dyn Journal, number: i64) -> Result<DeadLetter, Failure> {
    let page = journal.dead_letters(number.saturating_sub(1), 1).await?;
    let found = page.into_iter().find(|letter| letter.number == number);
    found.ok_or_else(|| {
        Failure::usage(format!("there is no dead letter {number}; `sealbridge dead-letters list` shows them"))
    })
}

fn line(letter: &DeadLetter) -> serde_json::Value {
    to_line(&LetterLine {
        number: letter.number,
        name: &letter.name,
        from: letter.from.as_ref().map(ToString::to_string),
        to: letter.to.as_ref().map(ToString::to_string),
        sender: &letter.sender,
        reason: &letter.reason,
        since: letter.since.0,
        kept: letter.kept,
    })
}

fn describe(letter: &DeadLetter) -> String {
    let place =
        |at: &Option<Address>, none: &str| at.as_ref().map_or(none.to_owned(), |at| field(&at.to_string()).into());
    let (from, to) = (place(&letter.from, "?"), place(&letter.to, "nowhere yet"));
    let sender = letter.sender.as_ref().map_or(String::new(), |sender| format!(" by {}", field(sender)));
    let kept = if letter.kept { "" } else { " (content gone)" };
    format!("{}  {from} -> {to}{sender}: {}{kept}\n", letter.number, field(&letter.reason))
}
