//! What a network wants to know of an account before it can be logged in, as data: any surface can ask for it, and none
//! has to know the network.

/// What is asked of whoever adds an account.
#[derive(Clone, Copy, Debug)]
pub struct LoginSheet {
    /// The network's name in the config: `matrix`.
    pub network: &'static str,
    /// What an account of it is, in half a sentence.
    pub about: &'static str,
    /// The settings that are asked for, in this order. Everything else has a default.
    pub settings: &'static [Question],
    /// What the login flow may ask that is never a setting, by the names of an answers file.
    pub secrets: &'static [&'static str],
    /// How people are called there, if one can be written to before they have written to us: then the operator's room
    /// can be on this network.
    pub person: Option<Question>,
}

/// One thing that is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Its key in the account's section. `invites.from` lies in a section of its own.
    pub key: &'static str,
    /// In words for a person.
    pub label: &'static str,
    /// Whether there are several answers, separated by commas.
    pub many: bool,
    /// Whether it is asked only once it is known who the operator is.
    pub after_person: bool,
    /// What is proposed. Where nothing is, and nothing is answered, the key is left out if [`read`](Self::read) takes
    /// an empty answer.
    pub proposed: fn(&Known<'_>) -> String,
    /// Takes one answer and gives it the form of the config.
    ///
    /// # Errors
    /// Why it is none, in words that go on after "That is none:".
    pub read: fn(&str) -> Result<String, String>,
}

/// What is known when a question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The answers so far, by their keys.
    pub answers: &'a [(&'static str, String)],
    /// Who the operator is, if that is known.
    pub person: Option<&'a str>,
}

impl Known<'_> {
    /// An earlier answer.
    #[must_use]
    pub fn answer(&self, key: &str) -> Option<&str> {
        self.answers.iter().find(|(known, _)| *known == key).map(|(_, answer)| answer.as_str())
    }
}

/// Proposes nothing.
#[must_use]
pub fn nothing(_: &Known<'_>) -> String {
    String::new()
}
