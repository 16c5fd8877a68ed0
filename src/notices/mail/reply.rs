//! What whoever speaks SMTP is answered: a code, and one that says more (RFC 3463).

use smtp_proto::Response;

use crate::notices::{SourceName, answers::Outcome, dialects::Refused};

/// How we call ourselves. It says nothing of the machine.
const HOST: &str = "localhost";

/// One answer, as it goes over the wire. All of its words are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply(Vec<u8>);

impl Reply {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn new(code: u16, [class, subject, detail]: [u8; 3], words: &str) -> Self {
        let mut bytes = Vec::new();
        // A line end within it would begin another answer.
        let words = words.replace(['\r', '\n'], " ");
        Response::new(code, class, subject, detail, words).write(&mut bytes).expect("a list of bytes takes everything");
        Self(bytes)
    }

    fn plain(words: &str) -> Self {
        Self(format!("{words}\r\n").into_bytes())
    }

    pub(super) fn welcome() -> Self {
        Self::plain(&format!("220 {HOST} ESMTP Sealbridge"))
    }

    pub(super) fn helo() -> Self {
        Self::plain(&format!("250 {HOST}"))
    }

    /// What is offered. There is no TLS, since nobody but this machine is heard.
    pub(super) fn ehlo(most: usize) -> Self {
        let offered = [HOST, "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES", "AUTH PLAIN LOGIN"];
        let lines: String = offered.iter().map(|one| format!("250-{one}\r\n")).collect();
        Self::plain(&format!("{lines}250 SIZE {most}"))
    }

    pub(super) fn well() -> Self {
        Self::new(250, [2, 0, 0], "OK")
    }

    pub(super) fn farewell() -> Self {
        Self::new(221, [2, 0, 0], "Goodbye")
    }

    /// Something is asked for in AUTH; `prompt` in base64.
    pub(super) fn go_on(prompt: &str) -> Self {
        Self::plain(&format!("334 {prompt}"))
    }

    pub(super) fn proven() -> Self {
        Self::new(235, [2, 7, 0], "Proven")
    }

    pub(super) fn not_proven() -> Self {
        Self::new(535, [5, 7, 8], "No source has this secret")
    }

    pub(super) fn secret_wanted() -> Self {
        Self::new(530, [5, 7, 0], "This source has a secret: it is the password")
    }

    pub(super) fn no_such_source() -> Self {
        Self::new(550, [5, 1, 1], "No source of the format mail has this name")
    }

    pub(super) fn too_many_recipients() -> Self {
        Self::new(452, [4, 5, 3], "Too many recipients at once")
    }

    pub(super) fn too_large(most: usize) -> Self {
        Self::new(552, [5, 3, 4], &format!("A mail may have {most} bytes"))
    }

    pub(super) fn say_it() -> Self {
        Self::plain("354 End with a dot on a line of its own")
    }

    pub(super) fn out_of_order(words: &str) -> Self {
        Self::new(503, [5, 5, 1], words)
    }

    pub(super) fn not_understood(words: &str) -> Self {
        Self::new(500, [5, 5, 2], words)
    }

    pub(super) fn not_offered() -> Self {
        Self::new(502, [5, 5, 1], "Not offered here")
    }

    pub(super) fn parameter(words: &str) -> Self {
        Self::new(501, [5, 5, 4], words)
    }

    pub(super) fn not_verified() -> Self {
        Self::new(252, [2, 5, 0], "Mail it, and see")
    }

    pub(super) fn help() -> Self {
        Self::new(214, [2, 0, 0], "Mail to SOURCE@anything; a source's secret is the password")
    }

    pub(super) fn enough() -> Self {
        Self::new(421, [4, 7, 0], "Too many mistakes")
    }

    pub(super) fn closing() -> Self {
        Self::new(421, [4, 3, 2], "The service stops")
    }

    pub(super) fn too_slow() -> Self {
        Self::new(421, [4, 4, 2], "Nothing was heard for too long")
    }

    /// What became of a mail for all to whom it was. Of several the one that matters most is said: first what is to be
    /// tried again, since those who have it know it again.
    pub(super) fn of(to: &[SourceName], outcomes: &[Outcome]) -> Self {
        let rank = |outcome: &Outcome| match outcome {
            Outcome::NotNow { .. } | Outcome::TooMany { .. } => 2,
            Outcome::Arrived { .. } | Outcome::Queued { .. } | Outcome::Silent => 0,
            _ => 1,
        };
        let worst = to.iter().zip(outcomes).max_by_key(|(_, outcome)| rank(outcome));
        let Some((name, outcome)) = worst else { return Self::no_such_source() };
        let (code, status) = match outcome {
            Outcome::Arrived { .. } | Outcome::Queued { .. } | Outcome::Silent => (250, [2, 0, 0]),
            Outcome::NotNow { .. } => (451, [4, 3, 0]),
            Outcome::TooMany { .. } => (451, [4, 7, 0]),
            Outcome::Refused(Refused::TooMuch(_)) => (552, [5, 3, 4]),
            Outcome::Refused(_) => (554, [5, 6, 0]),
            Outcome::NotProven | Outcome::Elsewhere | Outcome::ByPolicy { .. } | Outcome::Conflict => (550, [5, 7, 1]),
        };
        let words = match outcome {
            Outcome::Arrived { id, refused, .. } if !refused.is_empty() => {
                format!("Arrived, but not everywhere: {id}: {}", refused.join("; "))
            }
            Outcome::Arrived { id, events, .. } if events.iter().all(|event| event.encrypted) => {
                format!("Arrived, encrypted: {id}")
            }
            Outcome::Arrived { id, .. } => format!("Arrived, read in clear by a server that the operator runs: {id}"),
            Outcome::Queued { id } => format!("Kept, and on its way: {id}"),
            Outcome::Silent => "It says nothing".to_owned(),
            other if to.len() > 1 => format!("{name}: {}", why(other)),
            other => why(other),
        };
        Self::new(code, status, &words)
    }
}

fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Conflict => "another mail had this Message-ID".to_owned(),
        other => other.why(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(all: &[&str]) -> Vec<SourceName> {
        all.iter().map(|name| SourceName::parse(name).expect("a name")).collect()
    }

    fn arrived() -> Outcome {
        let event = crate::notices::answers::Event { id: "$e".into(), encrypted: true };
        Outcome::Arrived { id: "d-1".into(), events: vec![event], refused: vec![] }
    }

    #[test]
    fn of_several_recipients_the_one_that_did_not_get_it_is_told_of() {
        let not_now = Outcome::NotNow { retry_after: Duration::from_secs(5), why: "the journal is full".into() };
        let by_policy = Outcome::ByPolicy { why: "the conversation is not encrypted".into() };
        let told = |outcomes: &[Outcome]| {
            let all = names(&["nas", "ups", "door"]);
            String::from_utf8(Reply::of(&all[..outcomes.len()], outcomes).0).expect("words")
        };
        assert_eq!(told(&[Outcome::Conflict]), "550 5.7.1 another mail had this Message-ID\r\n");
        assert_eq!(told(&[arrived(), arrived()]), "250 2.0.0 Arrived, encrypted: d-1\r\n");
        assert_eq!(told(&[arrived(), by_policy.clone()]), "550 5.7.1 ups: the conversation is not encrypted\r\n");
        assert_eq!(told(&[by_policy, not_now, arrived()]), "451 4.3.0 ups: the journal is full\r\n");
    }

    #[test]
    fn what_is_offered_is_said_in_words_of_ours() {
        let said = Reply::ehlo(1000).0;
        let said = std::str::from_utf8(&said).expect("words");
        assert_eq!(
            said,
            "250-localhost\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n\
             250-AUTH PLAIN LOGIN\r\n250 SIZE 1000\r\n"
        );
    }

    #[test]
    fn nothing_begins_an_answer_of_its_own() {
        let outcome = Outcome::ByPolicy { why: "a\r\n250 2.0.0 b".into() };
        assert_eq!(Reply::of(&names(&["nas"]), &[outcome]).0, b"550 5.7.1 a  250 2.0.0 b\r\n");
    }
}
