//! Saying what the layers found wrong: where it is, and never with the value, which may be a secret.

use config::ConfigError;

use super::{
    Loading,
    names::path_of,
    problems::{Place, Problem},
};

impl Loading<'_> {
    /// Finds the place of what the layers say is wrong. Never passes a value on: it may be a secret.
    pub(super) fn tell(&mut self, error: &ConfigError, above: &str) {
        let mut path = above.to_owned();
        let words = match error {
            ConfigError::Type { unexpected, expected, key, .. } => {
                extend(&mut path, key.as_deref());
                format!("expected {expected}, found {}", kind_of(&unexpected.to_string()))
            }
            ConfigError::NotFound(key) => {
                extend(&mut path, Some(key));
                format!("`{path}` is missing")
            }
            ConfigError::At { error, key, .. } => {
                extend(&mut path, key.as_deref());
                return self.tell(error, &path);
            }
            ConfigError::Message(words) => without_value(words),
            _ => "can't be read".into(),
        };
        self.problem(&path, words);
    }

    pub(super) fn problem(&mut self, path: &str, words: String) {
        let variable = self.variables.iter().find(|(name, _)| {
            let joined = path_of(name).join(".");
            path == joined || path.strip_prefix(&joined).is_some_and(|rest| rest.starts_with('['))
        });
        let at = match variable {
            Some((name, _)) => Place::Variable((*name).to_owned()),
            None => Place::File { path: self.sources.file.clone(), position: self.document.position(path) },
        };
        let leaf = path.rsplit('.').next().unwrap_or(path);
        let named = if words.contains(leaf) || leaf.is_empty() { words } else { format!("`{path}`: {words}") };
        self.problems.push(Problem { at, words: named });
    }
}

fn extend(path: &mut String, key: Option<&str>) {
    let Some(key) = key.filter(|key| !key.is_empty()) else { return };
    if !path.is_empty() && !key.starts_with('[') {
        path.push('.');
    }
    path.push_str(key);
}

/// What was found, by the first word of a description that goes on with the value itself.
fn kind_of(described: &str) -> &'static str {
    match described.split_whitespace().next() {
        Some("boolean") => "true or false",
        Some("string") => "text",
        Some("sequence") => "a list",
        Some("map") => "a section",
        Some("unit") | None => "nothing",
        Some(_) => "a number",
    }
}

/// Cuts the value out of messages of the form "invalid type: string "x", expected y", and of those about a word that is
/// none of a list, which name it in their midst.
fn without_value(words: &str) -> String {
    if words.starts_with("enum ") {
        return "is none of the words that it can be".into();
    }
    if !words.starts_with("invalid ") && !words.starts_with("unknown variant ") {
        return words.to_owned();
    }
    if words == "invalid socket address syntax" {
        return "expected an address and a port, as 127.0.0.1:9480".into();
    }
    match words.rsplit_once("expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => "has a value that does not fit".into(),
    }
}
