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
        if let Some(at) = too_deep(text) {
            return Err((Position::of(text, at), "nested deeper than any config is".to_owned()));
        }
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

/// How many parts a key has at most, and how deep brackets are nested.
const DEEPEST: usize = 8;

/// Where keys or brackets are nested so deep that who reads them could run out of stack. Texts and comments are passed
/// over.
pub(in crate::config) fn too_deep(text: &str) -> Option<usize> {
    let (mut parts, mut brackets) = (0_usize, 0_usize);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        let mut length = c.len_utf8();
        match c {
            '.' => parts += 1,
            '{' | '[' => (parts, brackets) = (0, brackets + 1),
            '}' | ']' => (parts, brackets) = (0, brackets.saturating_sub(1)),
            '=' | ',' | '\n' => parts = 0,
            '#' => length = rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => length = quoted(rest, c),
            _ => {}
        }
        if parts > DEEPEST || brackets > DEEPEST {
            return Some(at);
        }
        rest = &rest[length..];
    }
    None
}

/// How long a quoted text is that begins here.
fn quoted(rest: &str, quote: char) -> usize {
    let three = [quote; 3].iter().collect::<String>();
    let long = rest.starts_with(&three);
    let end = if long { three.as_str() } else { &three[..1] };
    let mut at = end.len();
    while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
        if left.starts_with(end) {
            return at + end.len();
        }
        if !long && left.starts_with('\n') {
            return at;
        }
        let escaped = quote == '"' && left.starts_with('\\');
        at += left.chars().take(1 + usize::from(escaped)).map(char::len_utf8).sum::<usize>();
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nested_too_deep_is_told_with_its_place_and_texts_are_passed_over() {
        let deep = format!("ok = 1\na{} = 1", ".a".repeat(20_000));
        let (position, words) = Document::parse(&deep).expect_err("it is too deep");
        assert_eq!((position.line, words.as_str()), (2, "nested deeper than any config is"));
        assert!(too_deep(&format!("a = {}1{}", "[".repeat(9), "]".repeat(9))).is_some());
        let dots = ".".repeat(50);
        for fine in [
            format!("a = \"{dots}\\\"{dots}\" # {dots}\nb.c.d.e = '{dots}'\n"),
            format!("a = \"\"\"{dots}\n\" {dots}\"\"\"\nb = \'\'\'{dots}\n\'\'\'"),
            "[a.b]\nc = [1.5, 2.5]\nd = { e.f = 1, g = [\"ä\"] }\n".repeat(50),
            "a = \"not ended\nb = 1".to_owned(),
        ] {
            assert_eq!(too_deep(&fine), None, "{fine}");
        }
    }
}
