//! What is said in clear before TLS begins: RFC 9051 section 6.2.1 for IMAP, RFC 3207 for SMTP.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::Trouble;
use crate::engine::servers::Purpose;

/// The longest line that is read, and how many an answer may have.
const LINE: u64 = 2048;
const LINES: usize = 64;

type Talk<'a> = BufReader<&'a mut TcpStream>;

/// Talks until TLS is to begin.
pub(super) async fn starttls(stream: &mut TcpStream, purpose: Purpose) -> Result<(), Trouble> {
    let mut talk = BufReader::new(stream);
    match purpose {
        Purpose::Reading => imap(&mut talk).await?,
        Purpose::Sending => smtp(&mut talk).await?,
    }
    // Nothing may come before the handshake: it could be somebody else's.
    if talk.buffer().is_empty() { Ok(()) } else { Err(Trouble::NoTls) }
}

async fn imap(talk: &mut Talk<'_>) -> Result<(), Trouble> {
    if !line(talk).await?.starts_with("* OK") {
        return Err(Trouble::NoMailServer);
    }
    say(talk, "a STARTTLS\r\n").await?;
    for _ in 0..LINES {
        let line = line(talk).await?;
        if let Some(answer) = line.strip_prefix("a ") {
            return if answer.starts_with("OK") { Ok(()) } else { Err(Trouble::NoStarttls) };
        }
    }
    Err(Trouble::NoMailServer)
}

async fn smtp(talk: &mut Talk<'_>) -> Result<(), Trouble> {
    let greets = reply(talk).await?.starts_with("220");
    if !greets {
        return Err(Trouble::NoMailServer);
    }
    say(talk, "EHLO localhost\r\n").await?;
    reply(talk).await?;
    say(talk, "STARTTLS\r\n").await?;
    if reply(talk).await?.starts_with("220") { Ok(()) } else { Err(Trouble::NoStarttls) }
}

/// The last line of an answer: all before it have a dash after their number.
async fn reply(talk: &mut Talk<'_>) -> Result<String, Trouble> {
    for _ in 0..LINES {
        let line = line(talk).await?;
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line);
        }
    }
    Err(Trouble::NoMailServer)
}

async fn say(talk: &mut Talk<'_>, line: &str) -> Result<(), Trouble> {
    talk.get_mut().write_all(line.as_bytes()).await.map_err(|_| Trouble::NoMailServer)
}

async fn line(talk: &mut Talk<'_>) -> Result<String, Trouble> {
    let mut line = Vec::new();
    let read = talk.take(LINE).read_until(b'\n', &mut line).await;
    match read {
        Ok(_) if line.ends_with(b"\n") => Ok(String::from_utf8_lossy(&line).into_owned()),
        _ => Err(Trouble::NoMailServer),
    }
}
