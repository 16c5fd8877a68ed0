//! The real senders, run.

use std::collections::BTreeMap;

use sealbridge_lab::{senders::Senders, skip::skip};

use super::{Template, word};
use crate::notices::{
    Dialect,
    fixture::{self, Request},
};

/// What a room is shown of a request, without the moments and times in it.
fn shown(dialect: Dialect, request: &Request) -> Vec<String> {
    let notices = request.read(dialect).unwrap_or_else(|refused| panic!("{dialect}: {refused}"));
    let timeless = |words: String| {
        let is_time = |line: &&str| ["Since ", "After "].iter().any(|start| line.contains(start));
        words.replace("<br>", "\n").lines().filter(|line| !is_time(line)).collect::<Vec<_>>().join("\n")
    };
    let words = notices.iter().flat_map(|notice| {
        let words = word(&Template::of(dialect), notice).words;
        let files = notice.attachments.iter().map(|file| format!("{} {}", file.name, file.content.expose().len()));
        [words.plain, words.html.unwrap_or_default()].into_iter().chain(files)
    });
    words.map(timeless).collect()
}

#[test]
fn real_senders_are_shown_as_those_that_were_captured() {
    let senders = match Senders::ready() {
        Ok(senders) => senders,
        Err(error) => return skip(&format!("there are no senders: {error:#}")),
    };
    let folder = tempfile::tempdir().expect("a folder");
    senders.capture(folder.path()).expect("each of them sends");
    let captured: BTreeMap<_, _> = fixture::all().into_iter().map(|(name, _, request)| (name, request)).collect();
    let now = fixture::all_of(folder.path());
    assert!(now.len() >= 35, "{} senders", now.len());
    for (name, dialect, request) in now {
        let before = captured.get(&name).unwrap_or_else(|| panic!("{name} was not captured"));
        assert_eq!(shown(dialect, &request), shown(dialect, before), "{name}");
    }
}
