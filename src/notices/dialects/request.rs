//! The parts of a request, whichever dialect it speaks.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::{Method, header::CONTENT_TYPE};
use sealbridge_contract::SecretBytes;
use serde_json::{Map, Value};

use super::{MOST_ATTACHMENTS, MOST_TREE, Refused};
use crate::notices::{Attachment, Posted};

/// A form has at most so many fields.
const MOST_FIELDS: usize = 500;

/// Names with values, in the order in which they came.
pub(super) type Fields = Vec<(String, String)>;

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Json,
    Form,
    Multipart,
    Xml,
    Html,
    Markdown,
    Text,
    /// It says something else.
    Other,
    /// It says nothing.
    Unsaid,
}

/// The type of the body without its parameters, in lower case. Empty if it says none.
pub(super) fn media_type(posted: &Posted<'_>) -> String {
    let value = posted.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What the body says it is.
pub(super) fn sort(posted: &Posted<'_>) -> Sort {
    match media_type(posted).as_str() {
        "" => Sort::Unsaid,
        "application/x-www-form-urlencoded" => Sort::Form,
        "multipart/form-data" => Sort::Multipart,
        "text/html" | "application/xhtml+xml" => Sort::Html,
        "text/markdown" | "text/x-markdown" => Sort::Markdown,
        "application/json" | "text/json" => Sort::Json,
        "application/xml" | "text/xml" => Sort::Xml,
        other if other.ends_with("+json") => Sort::Json,
        other if other.ends_with("+xml") => Sort::Xml,
        other if other.starts_with("text/") => Sort::Text,
        _ => Sort::Other,
    }
}

/// Sees to it that only this way of asking gets further.
pub(super) fn only(posted: &Posted<'_>, methods: &[Method], named: &'static str) -> Result<(), Refused> {
    if methods.contains(posted.method) { Ok(()) } else { Err(Refused::Method(named)) }
}

/// Only `POST`, as nearly every webhook is sent.
pub(super) fn only_post(posted: &Posted<'_>) -> Result<(), Refused> {
    only(posted, &[Method::POST], "POST")
}

/// A header's words. What is no UTF-8 in them is shown as such.
pub(super) fn header<'a>(posted: &'a Posted<'_>, name: &str) -> Option<Cow<'a, str>> {
    posted.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// What stands behind the `?`, decoded.
pub(super) fn query(posted: &Posted<'_>) -> Fields {
    pairs(posted.query.unwrap_or_default().as_bytes())
}

/// The path in its parts, decoded, without empty ones.
pub(super) fn path(posted: &Posted<'_>) -> Vec<String> {
    let parts = posted.path.split('/').filter(|part| !part.is_empty());
    parts.map(percent_decoded).collect()
}

fn percent_decoded(part: &str) -> String {
    // As the only key of a form. In a path these three mean themselves.
    let key = part.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let (decoded, _) = url::form_urlencoded::parse(key.as_bytes()).next().unwrap_or_default();
    decoded.into_owned()
}

/// The body as a tree of JSON. Of a key that is there twice the last one counts, as everywhere in this service.
pub(super) fn json(posted: &Posted<'_>) -> Result<Value, Refused> {
    if posted.body.len() > MOST_TREE {
        return Err(Refused::TooMuch("the body is longer than 4 MiB"));
    }
    json_of(posted.body)
}

/// Any JSON into what it is to be.
pub(super) fn json_of<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Refused::Senseless("the JSON lacks what this format needs"),
        _ => Refused::NoJson { line: error.line(), column: error.column() },
    })
}

/// The body as a JSON object, whether or not it says that it is JSON.
pub(super) fn json_object(posted: &Posted<'_>) -> Result<Value, Refused> {
    let said = sort(posted);
    let value = json(posted).map_err(|refused| match (refused, said) {
        // `curl -d` says that everything is a form, so only what is no JSON is taken at its word.
        (Refused::NoJson { .. }, Sort::Json | Sort::Unsaid) | (Refused::TooMuch(_), _) => refused,
        _ => Refused::Type("this format is JSON, and the body is something else"),
    })?;
    if value.is_object() { Ok(value) } else { Err(Refused::Senseless("the JSON is no object")) }
}

/// The body as text.
pub(super) fn text<'a>(posted: &'a Posted<'_>) -> Result<&'a str, Refused> {
    std::str::from_utf8(posted.body).map_err(|_| Refused::Unreadable("the body is no UTF-8"))
}

/// The body as a form.
pub(super) fn form(posted: &Posted<'_>) -> Result<Fields, Refused> {
    form_of(posted.body)
}

/// Any form.
pub(super) fn form_of(bytes: &[u8]) -> Result<Fields, Refused> {
    if bytes.len() > MOST_TREE {
        return Err(Refused::TooMuch("the body is longer than 4 MiB"));
    }
    let fields = pairs(bytes);
    if fields.len() > MOST_FIELDS {
        return Err(Refused::TooMuch("the form has more than 500 fields"));
    }
    Ok(fields)
}

fn pairs(bytes: &[u8]) -> Fields {
    let pairs = url::form_urlencoded::parse(bytes).take(MOST_FIELDS + 1);
    pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

/// Fields as a JSON object. Of a key that is there twice the last one counts.
pub(super) fn object(fields: Fields) -> Value {
    Value::Object(fields.into_iter().map(|(key, value)| (key, Value::String(value))).collect::<Map<_, _>>())
}

/// A form in parts: its fields, and its files.
pub(super) fn multipart(posted: &Posted<'_>) -> Result<(Fields, Vec<Attachment>), Refused> {
    let unreadable = Refused::Unreadable("the form in parts can't be read");
    let kind = header(posted, "content-type").unwrap_or_default();
    let boundary = multer::parse_boundary(&*kind).map_err(|_| Refused::Unreadable("the form names no boundary"))?;
    let body = Bytes::copy_from_slice(posted.body);
    let whole = stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    // All of it is here, so nothing is ever waited for.
    let read = read_parts(multer::Multipart::new(whole, boundary)).now_or_never();
    read.unwrap_or(Err(unreadable))
}

async fn read_parts(mut parts: multer::Multipart<'_>) -> Result<(Fields, Vec<Attachment>), Refused> {
    let unreadable = |_| Refused::Unreadable("the form in parts can't be read");
    let (mut fields, mut files, mut text) = (Vec::new(), Vec::new(), 0);
    while let Some(part) = parts.next_field().await.map_err(unreadable)? {
        let name = part.name().unwrap_or_default().to_owned();
        let file = part.file_name().map(str::to_owned);
        let mime = part.content_type().map(|mime| mime.essence_str().to_owned());
        let content = part.bytes().await.map_err(unreadable)?;
        if let Some(file) = file {
            files.push(Attachment { name: file, mime, content: SecretBytes::new(content.to_vec()) });
        } else {
            text += content.len();
            fields.push((name, String::from_utf8_lossy(&content).into_owned()));
        }
        if files.len() > MOST_ATTACHMENTS {
            return Err(Refused::TooMuch("more than 16 files with one notice"));
        }
        if fields.len() > MOST_FIELDS || text > MOST_TREE {
            return Err(Refused::TooMuch("the form is too large"));
        }
    }
    Ok((fields, files))
}
