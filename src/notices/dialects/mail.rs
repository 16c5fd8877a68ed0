//! Mail, as cron, appliances and old programs send it: RFC 5322 with MIME.

use mail_parser::{Address, Header, HeaderName, HeaderValue, Message, MessageParser, MimeHeaders as _, PartType};
use sealbridge_contract::SecretBytes;
use serde_json::json;

use super::{
    MOST_ATTACHMENTS, Refused, fields,
    saying::{Saying, Words},
};
use crate::notices::{Attachment, Notice, Severity};

/// Reads a mail, whole as it was handed over. One without any header that mails have is words, as some appliances send it.
///
/// # Errors
/// [`Refused`].
pub fn read(mail: &[u8]) -> Result<Vec<Notice>, Refused> {
    let is_of_mail = |header: &Header<'_>| !matches!(header.name, HeaderName::Other(_));
    let parsed = MessageParser::default().parse(mail);
    let Some(message) = parsed.filter(|message| message.headers().iter().any(is_of_mail)) else {
        return bare(mail);
    };
    let mut saying = Saying { title: fields::one_line(message.subject().unwrap_or_default()), ..Saying::default() };
    saying.author = from(&message);
    saying.say(words(&message));
    let files = files(&message)?;
    if saying.is_empty() && files.is_empty() {
        return Err(Refused::Senseless("the mail says nothing"));
    }
    saying.body = json!({ "subject": saying.title, "from": saying.author, "text": saying.text });
    let severity = severity(&message);
    let id = message.message_id().map(str::to_owned);
    Ok(vec![Notice { id, ..saying.notice_with(severity, files) }])
}

/// Words without anything around them.
fn bare(mail: &[u8]) -> Result<Vec<Notice>, Refused> {
    let words = String::from_utf8_lossy(mail);
    if words.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) {
        return Err(Refused::Unreadable("this is no mail"));
    }
    let mut saying = Saying::default();
    saying.say(Words::plain(words.trim()));
    if saying.is_empty() {
        return Err(Refused::Senseless("the mail says nothing"));
    }
    saying.body = json!({ "subject": "", "from": "", "text": saying.text });
    Ok(vec![saying.notice(Severity::Info)])
}

fn from(message: &Message<'_>) -> String {
    let first = message.from().and_then(Address::first);
    let named = first.and_then(|from| from.name().or_else(|| from.address()));
    fields::one_line(named.unwrap_or_default())
}

/// The plain words, or those of its HTML if there are no others.
fn words(message: &Message<'_>) -> Words {
    let plain = message.text_bodies().find_map(|part| match &part.body {
        PartType::Text(text) if !text.trim().is_empty() => Some(text.trim_end()),
        _ => None,
    });
    if let Some(plain) = plain {
        return Words::plain(plain);
    }
    let html = message.html_bodies().find_map(|part| match &part.body {
        PartType::Html(html) => Some(html),
        _ => None,
    });
    html.map(|html| Words::html(html)).unwrap_or_default()
}

fn files(message: &Message<'_>) -> Result<Vec<Attachment>, Refused> {
    let mut files = Vec::new();
    for part in message.attachments() {
        if files.len() == MOST_ATTACHMENTS {
            return Err(Refused::TooMuch("more than 16 files with one notice"));
        }
        let content = match &part.body {
            PartType::Message(inner) => inner.raw_message().to_vec(),
            _ => part.contents().to_vec(),
        };
        let mime = part.content_type().map(|kind| match kind.subtype() {
            Some(subtype) => format!("{}/{subtype}", kind.ctype()),
            None => kind.ctype().to_owned(),
        });
        let name = fields::one_line(part.attachment_name().unwrap_or("file"));
        files.push(Attachment { name, mime, content: SecretBytes::new(content) });
    }
    Ok(files)
}

/// As the sender's program marks it.
fn severity(message: &Message<'_>) -> Severity {
    let header = |name: &'static str| {
        let value = message.header(name).and_then(HeaderValue::as_text).unwrap_or_default();
        value.trim().to_ascii_lowercase()
    };
    let importance = [header("Importance"), header("Priority")];
    match header("X-Priority").as_bytes().first() {
        Some(b'1' | b'2') => Severity::Warning,
        Some(b'4' | b'5') => Severity::Low,
        _ if importance.iter().any(|word| word == "high" || word == "urgent") => Severity::Warning,
        _ if importance.iter().any(|word| word == "low" || word == "non-urgent") => Severity::Low,
        _ => Severity::Info,
    }
}
