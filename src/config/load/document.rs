//! A TOML file with the position of every key, for messages.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problems::Position;

/// Every key of a TOML file, by its path, with its position.
#[derive(Debug, Default)]
pub(super) struct Document {
    keys: Vec<Key>,
    positions: BTreeMap<String, Position>,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// The sections it lies in, and itself.
    pub(super) path: Vec<String>,
    /// Where it is written.
    pub(super) position: Position,
    /// Its value, if that is text: only ever compared, never shown.
    pub(super) text: Option<String>,
}

impl Document {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// What is wrong with its syntax, and where. Never shows the line, which may hold a secret.
    pub(super) fn parse(text: &str) -> Result<Self, (Position, String)> {
        let table = DeTable::parse(text).map_err(|error| {
            let position = Position::of(text, error.span().map_or(0, |span| span.start));
            (position, format!("not TOML: {}", error.message()))
        })?;
        let mut document = Self::default();
        document.collect(text, &[], table.get_ref());
        Ok(document)
    }

    /// Its keys, sections before what lies in them.
    #[must_use]
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Leaves keys out.
    pub(super) fn forget(&mut self, paths: &[Vec<String>]) {
        self.keys.retain(|key| !paths.contains(&key.path));
    }

    /// The text at a path.
    #[must_use]
    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.keys.iter().find(|key| key.path == path)?.text.as_deref()
    }

    /// The position of a path such as `links.lounge.ends[1]`, or of the nearest section around it.
    #[must_use]
    pub(super) fn position(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.positions.get(path) {
                return Some(*position);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    fn collect(&mut self, text: &str, above: &[String], table: &DeTable<'_>) {
        // The table is in the order of names; messages are wanted in the order of the file.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let position = Position::of(text, name.span().start);
            let mut path = above.to_vec();
            path.push(name.get_ref().to_string());
            let joined = path.join(".");
            if let DeValue::Array(items) = value.get_ref() {
                for (index, item) in items.iter().enumerate() {
                    let at = Position::of(text, Spanned::span(item).start);
                    self.positions.insert(format!("{joined}[{index}]"), at);
                }
            }
            self.positions.insert(joined, position);
            self.keys.push(Key { path: path.clone(), position, text: value.get_ref().as_str().map(str::to_owned) });
            if let DeValue::Table(inner) = value.get_ref() {
                self.collect(text, &path, inner);
            }
        }
    }
}
