//! The one place that writes to the terminal: data to stdout, words for people to stderr.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use sealbridge_contract::{Answer, Screen, Text};
use serde_json::Value;

use super::{Failure, Outcome, control::StepFrame, plain};

/// Words for a person are folded to so many columns on a terminal.
const COLUMNS: usize = 80;

/// How a command shows what it has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    /// With `json`, everything goes to stdout, one object a line.
    pub(super) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: !plain && io::stderr().is_terminal() }
    }

    /// Writes to stdout as it is. Whoever reads may have gone: then there is nobody to tell.
    pub(super) fn data(self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Writes bytes to stdout.
    pub(super) fn bytes(self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    fn line(self, value: &Value) {
        self.data(&format!("{}\n", plain::json(&value.to_string())));
    }

    /// Words for a person, between two codes of a colour.
    fn say(self, (on, text, off): (&str, &str, &str)) {
        let mut err = io::stderr().lock();
        let words = plain::lines(text);
        let words = if err.is_terminal() { plain::folded(&words, COLUMNS) } else { words };
        let _ = writeln!(err, "{on}{words}{off}");
    }

    /// Whether somebody looks at what is going on.
    pub(super) fn shows_bars(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Whether a secret can be shown to somebody, and goes into no program's hands and no file.
    pub(super) fn is_seen(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// What can be shown. A code has a secret in it, which no program and no file shall keep.
    pub(super) fn screen(self) -> Screen {
        if self.is_seen() { Screen::Scannable } else { Screen::Words }
    }

    /// A picture made of letters. Where there are colours it has its own, so that it is the right way round on every theme.
    fn picture(self, rows: &str) {
        let (on, off) = if self.colour { ("\u{1b}[38;5;231;48;5;16m", "\u{1b}[0m") } else { ("", "") };
        let mut err = io::stderr().lock();
        for row in plain::lines(rows).lines() {
            let _ = writeln!(err, "{on}{row}{off}");
        }
    }

    /// Shows how an action ended.
    pub(super) fn outcome(self, outcome: &Outcome) {
        if self.json {
            outcome.lines.iter().for_each(|line| self.line(line));
        } else {
            let words = plain::lines(&outcome.words);
            self.data(&if io::stdout().is_terminal() { plain::folded(&words, COLUMNS) } else { words });
            if !outcome.words.is_empty() && !outcome.words.ends_with('\n') {
                self.data("\n");
            }
        }
    }

    /// Shows a file's text: it is not folded, so that it can be taken as it is.
    pub(super) fn document(self, text: &str, line: &Value) {
        if self.json { self.line(line) } else { self.data(&plain::lines(text)) }
    }

    /// Says why something was not done.
    pub(super) fn failure(self, failure: &Failure) {
        if self.json {
            self.failure_line(failure);
        }
        let (on, off) = if self.colour { ("\u{1b}[31m", "\u{1b}[0m") } else { ("", "") };
        self.say((on, &format!("sealbridge: {}", failure.words), off));
    }

    /// The same for a program alone.
    pub(super) fn failure_line(self, failure: &Failure) {
        let exit = failure.kind.exit_code();
        let error = serde_json::json!({ "kind": failure.kind, "exit": exit, "words": failure.words });
        self.line(&serde_json::json!({ "error": error }));
    }

    /// Says what went wrong beside what was done.
    pub(super) fn remark(self, words: &str) {
        self.say(("", &format!("sealbridge: {words}"), ""));
    }

    /// Shows a step, without waiting for what a person says to it.
    pub(super) fn step(self, step: &StepFrame) {
        if self.json {
            return self.line(&serde_json::to_value(step).expect("a step is texts"));
        }
        let (dim, bold, off) = if self.colour { ("\u{1b}[2m", "\u{1b}[1m", "\u{1b}[0m") } else { ("", "", "") };
        match step {
            StepFrame::Show { words } | StepFrame::Done { words } => self.say(("", words, "")),
            StepFrame::Progress { words } => self.say((dim, words, off)),
            StepFrame::Ask { .. } | StepFrame::Confirm { .. } | StepFrame::Piece { .. } => {}
            StepFrame::Code { how, picture } => {
                self.picture(picture);
                self.say(("", how, ""));
            }
            StepFrame::Invitation { to, how, link, picture } => {
                self.picture(picture);
                self.say(("", &format!("Invitation to {to}. {how}"), ""));
                self.say((bold, link, off));
            }
            StepFrame::Secret { label, value } => {
                self.say(("", &format!("\n{label}\n"), ""));
                self.say((&format!("    {bold}"), value, &format!("{off}\n")));
            }
            StepFrame::Kept { label, file } => {
                let file = file.display();
                self.say(("", &format!("{label}. Nobody sees it here, so it is in {file}: move it elsewhere"), ""));
            }
            StepFrame::Compare { emoji } => {
                let row = |f: &dyn Fn(&super::control::EmojiFrame) -> String| emoji.iter().map(f).collect::<String>();
                self.say(("", &row(&|e| format!("  {}  {:<12}\n", e.symbol, e.name)), ""));
            }
        }
    }

    /// Shows a step and waits for what a person says to it.
    ///
    /// # Errors
    /// [`Failure`] if nobody is there to answer.
    pub(super) fn answer(self, step: &StepFrame) -> Result<Option<Answer>, Failure> {
        self.step(step);
        match step {
            StepFrame::Ask { label, secret, .. } => {
                let words = if self.json { read_line()? } else { self.ask(label, *secret)? };
                Ok(Some(Answer::Text(words)))
            }
            StepFrame::Compare { .. } => self.yes_or_no("Does the other side show the same, in the same order?"),
            StepFrame::Confirm { words } => self.yes_or_no(words),
            _ => Ok(None),
        }
    }

    fn yes_or_no(self, question: &str) -> Result<Option<Answer>, Failure> {
        if !self.json {
            self.prompt(&format!("{question} [yes/no] "));
        }
        match read_line()?.as_str().trim().to_lowercase().as_str() {
            "yes" | "y" => Ok(Some(Answer::Yes)),
            "no" | "n" => Ok(Some(Answer::No)),
            // Whatever else was typed, it was not a yes: nothing is confirmed by a slip.
            _ => Err(Failure::usage("the answer is yes or no; nothing was confirmed")),
        }
    }

    /// Asks a person. What is secret is not shown while it is typed.
    pub(super) fn ask(self, label: &str, secret: bool) -> Result<Text, Failure> {
        if secret && io::stdin().is_terminal() {
            self.prompt(&format!("{label}: "));
            let typed = rpassword::read_password().map_err(|error| nobody(&error))?;
            return Ok(Text::new(typed));
        }
        self.prompt(&format!("{label}: "));
        read_line()
    }

    fn prompt(self, text: &str) {
        let mut err = io::stderr().lock();
        let words = plain::lines(text.trim_end());
        let words = if err.is_terminal() { plain::folded(&words, COLUMNS) } else { words };
        let _ = write!(err, "{words} ").and_then(|()| err.flush());
    }
}

fn read_line() -> Result<Text, Failure> {
    let mut line = zeroize::Zeroizing::new(String::new());
    let read = io::stdin().lock().read_line(&mut line).map_err(|error| nobody(&error))?;
    if read == 0 {
        return Err(Failure::usage("an answer was expected on standard input, and there was none"));
    }
    Ok(Text::new(line.trim_end_matches(['\n', '\r'])))
}

fn nobody(error: &io::Error) -> Failure {
    Failure::usage(format!("no answer can be read: {error}"))
}
