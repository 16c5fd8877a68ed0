//! Where is looked, and what may be there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Eyes, Word, keys::Key};
use crate::demo::Stage;

/// What a place shows by the nature of its network. SECURITY.md says what: names of people and rooms to the homeserver
/// that has them, reactions to the homeservers of all rooms. And which of the service's keys belong there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shows {
    pub(super) names: Option<usize>,
    pub(super) reaction: bool,
    pub(super) keys: &'static [Key],
}

#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) paths: Vec<PathBuf>,
    shows: Shows,
}

impl Place {
    pub(super) fn new(name: &str, paths: Vec<PathBuf>, shows: Shows) -> Self {
        Self { name: name.to_owned(), paths, shows }
    }

    fn expected(&self) -> BTreeSet<Word> {
        let names = self.shows.names.map(Word::Shown);
        let keys = self.shows.keys.iter().copied().map(Word::Key);
        names.into_iter().chain(self.shows.reaction.then_some(Word::Reaction)).chain(keys).collect()
    }
}

/// How many words were found where they may not be, and how many that are shown are elsewhere than they should.
pub(super) fn search(eyes: &Eyes, places: &[Place], stage: &Stage) -> Result<[usize; 2]> {
    let [mut hits, mut misplaced] = [0, 0];
    for place in places {
        let (found, expected) = (eyes.look(&place.paths)?, place.expected());
        let is_secret = |word: &Word| matches!(word, Word::Secret(_) | Word::Key(_)) && !expected.contains(word);
        for (word, at) in found.iter().filter(|(word, _)| is_secret(word)) {
            hits += 1;
            if hits < 20 {
                stage.line(&format!("FOUND IN CLEAR: {word:?} in {}: {at}", place.name));
            }
        }
        let shown: BTreeSet<_> = found.iter().map(|(word, _)| *word).filter(|word| !is_secret(word)).collect();
        for word in shown.symmetric_difference(&expected) {
            misplaced += 1;
            let at = found.iter().find(|(found, _)| found == word).map_or("NOT THERE", |(_, at)| at);
            stage.line(&format!("NOT WHERE IT SHOULD BE: {word:?} in {}: {at}", place.name));
        }
    }
    Ok([hits, misplaced])
}

/// How much lies there.
pub(super) fn bytes(places: &[Place]) -> Result<u64> {
    let mut bytes = 0;
    for path in places.iter().flat_map(|place| &place.paths) {
        files(path, &mut |file| {
            bytes += file.metadata().map_or(0, |it| it.len());
            Ok(())
        })?;
    }
    Ok(bytes)
}

/// Every file at or below a path.
pub(super) fn files(path: &Path, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    let Ok(kind) = std::fs::symlink_metadata(path).map(|it| it.file_type()) else { return Ok(()) };
    if kind.is_dir() {
        for entry in std::fs::read_dir(path)? {
            files(&entry?.path(), each)?;
        }
    } else if kind.is_file() {
        each(path)?;
    }
    Ok(())
}
