//! What is wrong with a config, and where. Never holds a value of it: one may be a secret in the wrong place.

use std::{fmt, path::PathBuf};

/// Everything that is wrong with a config, so that one run shows it all.
#[derive(Debug, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// What, and what to do.
    pub words: String,
}

/// Where something in the config comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file; the position counts from 1, in characters.
    File {
        /// Which.
        path: PathBuf,
        /// Line and column, if it is about a certain place.
        position: Option<Position>,
    },
    /// An environment variable.
    Variable(String),
}

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Position {
    /// The position of byte `at` of `text`.
    #[must_use]
    pub fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_starts = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_starts..].chars().count() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, position: Some(at) } => write!(f, "{}:{}:{}", path.display(), at.line, at.column),
            Self::File { path, position: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.words)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n" };
            write!(f, "{between}{problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\nüü = 2\n";
        for (at, line, column) in [(0, 1, 1), (4, 1, 5), (6, 2, 1), (11, 2, 4), (999, 3, 1)] {
            assert_eq!(Position::of(text, at), Position { line, column }, "byte {at}");
        }
    }
}
