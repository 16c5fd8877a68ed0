//! What the person before the terminal sees.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

/// Where it is shown: on standard output, or on standard error when that is kept for JSON.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    json: bool,
    colour: bool,
}

impl Stage {
    /// A stage that leaves standard output to JSON, if wanted.
    pub fn new(json: bool) -> Self {
        let terminal = if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        Self { json, colour: terminal && std::env::var_os("NO_COLOR").is_none() }
    }

    fn say(self, text: &str) {
        // With nobody left to read it there is nobody to tell.
        let _ = if self.json {
            writeln!(std::io::stderr().lock(), "{text}")
        } else {
            writeln!(std::io::stdout().lock(), "{text}")
        };
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Begins a part.
    pub fn heading(self, text: &str) {
        self.say(&format!("\n{}", self.paint("1", &format!("── {text}"))));
    }

    /// Says one thing.
    pub fn line(self, text: &str) {
        self.say(&format!("   {text}"));
    }

    /// Shows one message: who said it, what both homeservers have of it, who heard what.
    pub fn exchange(self, speaker: &str, words: &str, here: &Value, there: &Value, listener: &str, heard: &str) {
        self.say(&format!("\n   {} says     {words}", self.paint("36", speaker)));
        self.say(&format!("   {}", self.paint("2", &format!("its server stores    {}", stored(here)))));
        self.say(&format!("   {}", self.paint("2", &format!("the other one stores {}", stored(there)))));
        self.say(&format!("   {} hears    {heard}", self.paint("32", listener)));
    }

    /// Shows how it ended: a sentence, and the figures.
    pub fn report(self, sentence: &str, figures: &impl Serialize) -> Result<()> {
        self.heading(sentence);
        let figures = serde_json::to_value(figures)?;
        let parts = figures.as_object().into_iter().flatten().map(|(name, value)| format!("{name} {value}"));
        self.line(&parts.collect::<Vec<_>>().join(", "));
        self.object(&figures)
    }

    /// Ends with an object for scripts, if one is wanted.
    pub fn object(self, figures: &impl Serialize) -> Result<()> {
        if self.json {
            writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(figures)?)?;
        }
        Ok(())
    }
}

/// A stored event in short.
fn stored(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap_or("?");
    let ciphertext = event["content"]["ciphertext"].as_str().unwrap_or("(nothing)");
    let head: String = ciphertext.chars().take(60).collect();
    format!("{kind} {head}…")
}

/// Eight random hexadecimal digits.
pub(super) fn random_word() -> Result<String> {
    let mut bytes = [0_u8; 4];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("No randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
