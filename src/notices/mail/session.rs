//! One conversation by SMTP, without I/O: bytes in, what is to be done next out.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use smtp_proto::{
    AUTH_LOGIN, AUTH_PLAIN, Error, MailFrom, Request,
    request::receiver::{DataReceiver, DummyDataReceiver},
};
use zeroize::Zeroizing;

use super::reply::Reply;
use crate::notices::{SourceName, answers::Outcome};

/// The longest line of a command. RFC 5321 wants 512, and AUTH more.
const MOST_LINE: usize = 4096;
/// How long the line is that ends a mail: a dot, and its own end.
const END: usize = 3;
/// A mail goes to so many sources at most.
const MOST_RECIPIENTS: usize = 16;
/// After so many mistakes nothing more is heard.
const MOST_MISTAKES: u8 = 5;

/// The sources to which mail may be.
pub(in crate::notices) trait Sources: Send + Sync + 'static {
    /// The source of a name, if it takes mail, and whether it has a secret.
    fn named(&self, name: &str) -> Option<(&SourceName, bool)>;

    /// The sources that whoever shows this may write to.
    fn proven(&self, user: &[u8], password: &[u8]) -> Vec<SourceName>;

    /// Takes a mail for some of them, and says for each what became of it.
    fn mailed(&self, to: &[SourceName], mail: &[u8]) -> impl Future<Output = Vec<Outcome>> + Send;
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Step {
    /// Something is answered.
    Say(Reply),
    /// A mail is whole. What became of it is answered.
    Mail { to: Vec<SourceName>, mail: Vec<u8> },
    /// Something is answered, and nothing more is heard.
    Part(Reply),
}

/// What is being read.
enum Reading {
    Command,
    /// What AUTH PLAIN shows.
    Plain,
    /// The user, and then the password, of AUTH LOGIN.
    User,
    Password(Zeroizing<Vec<u8>>),
    Mail(DataReceiver, Vec<u8>),
    /// The rest of a mail that is too large.
    Rest(DummyDataReceiver),
}

/// One conversation.
pub(super) struct Session {
    most: usize,
    line: Zeroizing<Vec<u8>>,
    reading: Reading,
    greeted: bool,
    mistakes: u8,
    proven: Vec<SourceName>,
    has_sender: bool,
    to: Vec<SourceName>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mail::Session")
    }
}

impl Session {
    /// A new one. A mail may have `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            line: Zeroizing::default(),
            reading: Reading::Command,
            greeted: false,
            mistakes: 0,
            proven: Vec::new(),
            has_sender: false,
            to: Vec::new(),
        }
    }

    /// How many bytes of a mail are in memory. `None`: none is being read.
    pub(super) fn holds(&self) -> Option<usize> {
        match &self.reading {
            Reading::Mail(_, mail) => Some(mail.len()),
            Reading::Rest(_) => Some(0),
            _ => None,
        }
    }

    /// Hears bytes, and takes them away from `bytes`, until something is to be done. `None`: all were heard.
    pub(super) fn hear(&mut self, bytes: &mut &[u8], sources: &impl Sources) -> Option<Step> {
        match &mut self.reading {
            Reading::Mail(receiver, mail) => {
                let mut rest = bytes.iter();
                let is_whole = receiver.ingest(&mut rest, mail);
                *bytes = rest.as_slice();
                // The line that ends it is among the bytes until it is known to be that.
                if mail.len() > if is_whole { self.most } else { self.most + END } {
                    let receiver = DummyDataReceiver::new_data(receiver);
                    self.reading = Reading::Rest(receiver);
                    return is_whole.then(|| self.refuse_as_too_large());
                }
                if !is_whole {
                    return None;
                }
                let mail = std::mem::take(mail);
                let to = std::mem::take(&mut self.to);
                self.begin_anew();
                Some(Step::Mail { to, mail })
            }
            Reading::Rest(receiver) => {
                let mut rest = bytes.iter();
                let is_whole = receiver.ingest(&mut rest);
                *bytes = rest.as_slice();
                is_whole.then(|| self.refuse_as_too_large())
            }
            _ => self.hear_line(bytes, sources),
        }
    }

    fn hear_line(&mut self, bytes: &mut &[u8], sources: &impl Sources) -> Option<Step> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let (line, rest) = bytes.split_at(end);
        *bytes = rest;
        if self.line.len() + line.len() > MOST_LINE {
            // Where the line ends is not known, so neither is what is a command.
            return Some(Step::Part(Reply::not_understood("The line is too long")));
        }
        self.line.extend_from_slice(line);
        if self.line.last() != Some(&b'\n') {
            return None;
        }
        let line = std::mem::take(&mut self.line);
        let step = match std::mem::replace(&mut self.reading, Reading::Command) {
            Reading::Plain => self.show(&line, sources),
            Reading::User => match decoded(&line) {
                Some(user) => {
                    self.reading = Reading::Password(user);
                    Step::Say(Reply::go_on("UGFzc3dvcmQ6"))
                }
                None => self.mistaken(Reply::parameter("This is no base64")),
            },
            Reading::Password(user) => match decoded(&line) {
                Some(password) => self.prove(&user, &password, sources),
                None => self.mistaken(Reply::parameter("This is no base64")),
            },
            _ => self.command(&line, sources),
        };
        Some(step)
    }

    fn command(&mut self, line: &[u8], sources: &impl Sources) -> Step {
        let line = as_it_should_be(line);
        let request = match Request::parse(&mut line.iter()) {
            Ok(request) => request,
            // A browser of this machine can be led to post to any port of it: whoever does not begin as SMTP does is not
            // heard to the end.
            Err(Error::UnknownCommand) if !self.greeted => {
                return Step::Part(Reply::not_understood("This is SMTP"));
            }
            Err(error) => return self.mistaken(of_error(&error)),
        };
        match request {
            Request::Ehlo { .. } => self.greet(Reply::ehlo(self.most)),
            Request::Helo { .. } => self.greet(Reply::helo()),
            Request::Quit => Step::Part(Reply::farewell()),
            Request::Noop { .. } => Step::Say(Reply::well()),
            Request::Help { .. } => Step::Say(Reply::help()),
            _ if !self.greeted => self.mistaken(Reply::out_of_order("Say EHLO first")),
            Request::Rset => {
                self.begin_anew();
                Step::Say(Reply::well())
            }
            Request::Auth { .. } if self.has_sender => self.mistaken(Reply::out_of_order("A mail has begun")),
            Request::Auth { mechanism: AUTH_PLAIN, initial_response } if initial_response.is_empty() => {
                self.reading = Reading::Plain;
                Step::Say(Reply::go_on(""))
            }
            Request::Auth { mechanism: AUTH_PLAIN, initial_response } => {
                self.show(initial_response.as_bytes(), sources)
            }
            Request::Auth { mechanism: AUTH_LOGIN, initial_response } if initial_response.is_empty() => {
                self.reading = Reading::User;
                Step::Say(Reply::go_on("VXNlcm5hbWU6"))
            }
            Request::Auth { mechanism: AUTH_LOGIN, initial_response } => match decoded(initial_response.as_bytes()) {
                Some(user) => {
                    self.reading = Reading::Password(user);
                    Step::Say(Reply::go_on("UGFzc3dvcmQ6"))
                }
                None => self.mistaken(Reply::parameter("This is no base64")),
            },
            Request::Auth { .. } => self.mistaken(Reply::parameter("PLAIN and LOGIN are understood")),
            Request::Mail { .. } if self.has_sender => self.mistaken(Reply::out_of_order("A mail has begun already")),
            Request::Mail { from: MailFrom { size, .. } } if size > self.most => {
                self.mistaken(Reply::too_large(self.most))
            }
            Request::Mail { .. } => {
                self.has_sender = true;
                Step::Say(Reply::well())
            }
            Request::Rcpt { .. } if !self.has_sender => self.mistaken(Reply::out_of_order("Say MAIL first")),
            Request::Rcpt { to } => self.recipient(&to.address, sources),
            Request::Data if self.to.is_empty() => self.mistaken(Reply::out_of_order("Nobody is to get it")),
            Request::Data => {
                self.reading = Reading::Mail(after_a_line(), Vec::new());
                Step::Say(Reply::say_it())
            }
            Request::Vrfy { .. } => Step::Say(Reply::not_verified()),
            _ => self.mistaken(Reply::not_offered()),
        }
    }

    fn greet(&mut self, reply: Reply) -> Step {
        self.begin_anew();
        self.greeted = true;
        Step::Say(reply)
    }

    fn begin_anew(&mut self) {
        (self.reading, self.has_sender) = (Reading::Command, false);
        self.to.clear();
    }

    fn recipient(&mut self, address: &str, sources: &impl Sources) -> Step {
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        let name = local.split_once('+').map_or(local, |(name, _)| name).to_ascii_lowercase();
        let Some((name, has_secret)) = sources.named(&name) else {
            return self.mistaken(Reply::no_such_source());
        };
        if has_secret && !self.proven.contains(name) {
            return self.mistaken(Reply::secret_wanted());
        }
        if self.to.contains(name) {
            return Step::Say(Reply::well());
        }
        if self.to.len() == MOST_RECIPIENTS {
            return Step::Say(Reply::too_many_recipients());
        }
        self.to.push(name.clone());
        Step::Say(Reply::well())
    }

    /// AUTH PLAIN (RFC 4616): whom for, NUL, user, NUL, password.
    fn show(&mut self, packed: &[u8], sources: &impl Sources) -> Step {
        let Some(shown) = decoded(packed) else { return self.mistaken(Reply::parameter("This is no base64")) };
        let parts: Vec<_> = shown.split(|byte| *byte == 0).collect();
        let &[_, user, password] = parts.as_slice() else {
            return self.mistaken(Reply::parameter("This is not what PLAIN wants"));
        };
        self.prove(user, password, sources)
    }

    fn prove(&mut self, user: &[u8], password: &[u8], sources: &impl Sources) -> Step {
        self.proven = sources.proven(user, password);
        if self.proven.is_empty() { self.mistaken(Reply::not_proven()) } else { Step::Say(Reply::proven()) }
    }

    fn refuse_as_too_large(&mut self) -> Step {
        self.begin_anew();
        self.mistaken(Reply::too_large(self.most))
    }

    /// Whoever makes many mistakes tries something.
    fn mistaken(&mut self, reply: Reply) -> Step {
        self.mistakes += 1;
        if self.mistakes < MOST_MISTAKES { Step::Say(reply) } else { Step::Part(Reply::enough()) }
    }
}

/// Where a mail is from or to, in brackets and with a host, though some appliances write neither.
fn as_it_should_be(line: &[u8]) -> Cow<'_, [u8]> {
    let begins = |verb: &&[u8]| line.get(..verb.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(verb));
    let Some(verb) = [&b"MAIL FROM:"[..], b"RCPT TO:"].into_iter().find(begins) else { return Cow::Borrowed(line) };
    let said = line[verb.len()..].trim_ascii_start();
    let (address, rest) = match said.strip_prefix(b"<") {
        Some(inside) => {
            let end = inside.iter().position(|byte| *byte == b'>').unwrap_or(inside.len());
            (&inside[..end], inside.get(end + 1..).unwrap_or_default())
        }
        None => said.split_at(said.iter().position(u8::is_ascii_whitespace).unwrap_or(said.len())),
    };
    // What is written with more than letters is for the parser, and so is a bounce, which is from nobody.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"@.+-_".contains(byte);
    if address.is_empty() || !address.iter().all(is_plain) {
        return Cow::Borrowed(line);
    }
    let host: &[u8] = if address.contains(&b'@') { b"" } else { b"@localhost" };
    Cow::Owned([verb, b"<", address, host, b">", rest].concat())
}

/// A mail of nothing but its end begins with that end, which counts only behind a line.
fn after_a_line() -> DataReceiver {
    let mut receiver = DataReceiver::new();
    receiver.ingest(&mut b"\r\n".iter(), &mut Vec::new());
    receiver
}

/// What a line has in base64. `*` breaks AUTH off, and is none.
fn decoded(line: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(line.trim_ascii()).ok().map(Zeroizing::new)
}

fn of_error(error: &Error) -> Reply {
    match error {
        Error::UnknownCommand => Reply::not_offered(),
        Error::UnsupportedParameter { .. } => Reply::parameter("A parameter is not offered"),
        Error::InvalidParameter { .. } => Reply::parameter("A parameter is wrong"),
        Error::InvalidSenderAddress | Error::InvalidRecipientAddress => Reply::parameter("This is no address"),
        _ => Reply::not_understood("This is not understood"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `nas` and `ups` take mail, the second for who shows its secret.
    pub(in crate::notices::mail) struct Two(SourceName, SourceName);

    impl Two {
        pub(in crate::notices::mail) fn new() -> Self {
            let name = |name| SourceName::parse(name).expect("a name");
            Self(name("nas"), name("ups"))
        }
    }

    impl Sources for Two {
        fn named(&self, name: &str) -> Option<(&SourceName, bool)> {
            match name {
                "nas" => Some((&self.0, false)),
                "ups" => Some((&self.1, true)),
                _ => None,
            }
        }

        fn proven(&self, _: &[u8], password: &[u8]) -> Vec<SourceName> {
            if password == b"secret" { vec![self.1.clone()] } else { Vec::new() }
        }

        async fn mailed(&self, to: &[SourceName], _: &[u8]) -> Vec<Outcome> {
            vec![Outcome::Silent; to.len()]
        }
    }

    /// Says all of it, `pace` bytes at a time, and writes down what is done: the first three letters of answers, mails.
    fn say(words: &[u8], pace: usize) -> Vec<String> {
        let (mut session, sources, mut done) = (Session::new(1000), Two::new(), Vec::new());
        for mut bytes in words.chunks(pace) {
            while !bytes.is_empty() {
                let code = |reply: &Reply| String::from_utf8_lossy(&reply.as_bytes()[..3]).into_owned();
                match session.hear(&mut bytes, &sources) {
                    None => {}
                    Some(Step::Say(reply)) => done.push(code(&reply)),
                    Some(Step::Mail { to, mail }) => done.push(format!(
                        "{}: {}",
                        to.iter().map(SourceName::as_str).collect::<Vec<_>>().join(","),
                        String::from_utf8_lossy(&mail)
                    )),
                    Some(Step::Part(reply)) => {
                        done.push(format!("{}.", code(&reply)));
                        return done;
                    }
                }
            }
        }
        done
    }

    /// The same however it is cut.
    #[track_caller]
    fn is_done(words: &str, wanted: &[&str]) {
        for pace in [1, 2, 3, 7, 4096] {
            assert_eq!(say(words.as_bytes(), pace), wanted, "{pace} bytes at a time");
        }
    }

    #[test]
    fn mail_is_handed_over_as_programs_do() {
        is_done(
            "EHLO nas\r\nMAIL FROM:<root@nas> BODY=8BITMIME SIZE=20\r\nRCPT TO:<NAS+cron@nas.local>\r\nDATA\r\n\
             Subject: a\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
            &["250", "250", "250", "354", "nas: Subject: a\r\n\r\n.dot\r\n", "221."],
        );
        is_done(
            "HELO nas\r\nMAIL FROM:<>\r\nRCPT TO:<nas@localhost>\r\nDATA\r\n.\r\nNOOP\r\n",
            &["250", "250", "250", "354", "nas: ", "250"],
        );
    }

    #[test]
    fn secret_is_asked_for_where_there_is_one() {
        let begin = "EHLO x\r\n";
        let mail = "MAIL FROM:<a@b.c>\r\nRCPT TO:<ups@b.c>\r\n";
        is_done(&format!("{begin}{mail}"), &["250", "250", "530"]);
        // "\0ups\0secret" and "\0ups\0wrong".
        is_done(&format!("{begin}AUTH PLAIN AHVwcwBzZWNyZXQ=\r\n{mail}"), &["250", "235", "250", "250"]);
        is_done(&format!("{begin}AUTH PLAIN\r\nAHVwcwBzZWNyZXQ=\r\n{mail}"), &["250", "334", "235", "250", "250"]);
        is_done(
            &format!("{begin}AUTH LOGIN\r\ndXBz\r\nc2VjcmV0\r\n{mail}"),
            &["250", "334", "334", "235", "250", "250"],
        );
        is_done(&format!("{begin}AUTH PLAIN AHVwcwB3cm9uZw==\r\n{mail}"), &["250", "535", "250", "530"]);
        is_done(&format!("{begin}AUTH LOGIN\r\n*\r\nAUTH CRAM-MD5\r\n"), &["250", "334", "501", "501"]);
    }

    #[test]
    fn end_of_a_mail_is_the_one_that_all_agree_on() {
        // Whoever takes a dot between bare line ends for the end reads another mail behind it, with a sender of its own.
        let smuggled = "x\n.\nMAIL FROM:<root@nas>\r\n.\nRCPT TO:<nas@x>\r\n\n.\r\nDATA\r\n";
        is_done(
            &format!("EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<nas@b.c>\r\nDATA\r\n{smuggled}.\r\n"),
            &["250", "250", "250", "354", &format!("nas: {}", smuggled.replace("\r\n.\nRCPT", "\r\n\nRCPT"))],
        );
    }

    #[test]
    fn what_a_browser_posts_is_no_mail() {
        is_done("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.c>\r\n", &["500."]);
    }

    #[test]
    fn what_is_too_large_is_refused_and_nothing_of_it_is_kept() {
        let begin = "EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<nas@b.c>\r\nDATA\r\n";
        let large = "x".repeat(2000);
        is_done(&format!("{begin}{large}\r\n.\r\nNOOP\r\n"), &["250", "250", "250", "354", "552", "250"]);
        is_done("EHLO x\r\nMAIL FROM:<a@b.c> SIZE=1001\r\n", &["250", "552"]);
        // To the byte, also while the line that ends it comes in pieces.
        for (length, taken) in [(998, true), (999, false)] {
            let words = "x".repeat(length);
            let last = if taken { format!("nas: {words}\r\n") } else { "552".to_owned() };
            is_done(&format!("{begin}{words}\r\n.\r\n"), &["250", "250", "250", "354", &last]);
        }
        is_done(&format!("EHLO {}", "x".repeat(MOST_LINE)), &["500."]);
    }

    #[test]
    fn nobody_is_heard_who_only_makes_mistakes() {
        is_done(
            "EHLO x\r\nDATA\r\nRCPT TO:<nas@b.c>\r\nMAIL FROM:<a@b.c>\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<who@b.c>\r\n\
             STARTTLS\r\nNOOP\r\n",
            &["250", "503", "503", "250", "503", "550", "421."],
        );
        is_done("MAIL FROM:<a@b.c>\r\nEHLO x\r\n", &["503", "250"]);
    }

    #[test]
    fn address_is_one_without_brackets_and_without_a_host_and_nothing_else_becomes_one() {
        for envelope in [
            "MAIL FROM:root\r\nRCPT TO:nas\r\n",
            "mail from: root@ups.local SIZE=20\r\nrcpt to:\tNAS+cron@localhost \r\n",
            "MAIL FROM:<root> BODY=8BITMIME\r\nRCPT TO: <nas>\r\n",
            "MAIL FROM:<>\r\nRCPT TO:<@relay.example:nas@localhost>\r\n",
        ] {
            is_done(&format!("EHLO x\r\n{envelope}DATA\r\n"), &["250", "250", "250", "354"]);
        }
        for no_address in ["", " ", "SIZE=20", "ro ot", "<ro ot>", "a>b", "<root", "roo\"t"] {
            let said = say(format!("EHLO x\r\nMAIL FROM:{no_address}\r\n").as_bytes(), 7);
            assert!(said[1].starts_with('5'), "{no_address:?}: {said:?}");
        }
        is_done("EHLO x\r\nMAIL FROM:root\r\nRCPT TO:ups\r\nRCPT TO:who\r\n", &["250", "250", "530", "550"]);
    }
}
