//! What Apprise posts with `json://`, `xml://` and `form://`, with files in it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use sealbridge_contract::SecretBytes;
use serde::Deserialize;
use serde_json::Value;

use super::{
    MOST_ATTACHMENTS, Refused, fields,
    request::{self, Sort},
    saying::{Saying, State, Words},
    xml,
};
use crate::notices::{Attachment, Notice, Posted, Severity};

/// Its JSON. It is not read as a tree, since there are files in it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    title: Option<String>,
    message: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    attachments: Vec<File>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    filename: Option<String>,
    base64: String,
    mimetype: Option<String>,
}

/// Reads one.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only(posted, &[Method::POST, Method::PUT], "POST or PUT")?;
    let is_json = posted.body.trim_ascii_start().starts_with(b"{");
    let (told, files) = match request::sort(posted) {
        Sort::Multipart => {
            let (fields, files) = request::multipart(posted)?;
            (Told::of_form(&request::object(fields)), files)
        }
        Sort::Form if !is_json => (Told::of_form(&request::object(request::form(posted)?)), Vec::new()),
        Sort::Xml => of_xml(&xml::read(request::text(posted)?)?)?,
        Sort::Json | Sort::Form | Sort::Text | Sort::Unsaid | Sort::Other if is_json => of_json(posted)?,
        Sort::Json => return Err(Refused::Senseless("the JSON is no object")),
        _ => return Err(Refused::Type("Apprise posts JSON, XML or a form")),
    };
    let (severity, state) = told.severity();
    let mut saying = Saying { title: told.title(), state, ..Saying::default() };
    saying.say(Words::plain(told.message.as_deref().unwrap_or_default()));
    if saying.is_empty() && files.is_empty() {
        return Err(Refused::Senseless("the request says nothing"));
    }
    Ok(vec![saying.notice_with(severity, files)])
}

impl Told {
    fn of_form(form: &Value) -> Self {
        let field = |key| Some(fields::text(form, key));
        Self { title: field("title"), message: field("message"), kind: field("type"), attachments: Vec::new() }
    }

    fn title(&self) -> String {
        fields::one_line(self.title.as_deref().unwrap_or_default())
    }

    fn severity(&self) -> (Severity, Option<State>) {
        match self.kind.as_deref().unwrap_or_default() {
            "success" => (Severity::Info, State::well("Success")),
            "warning" => (Severity::Warning, None),
            "failure" => (Severity::Critical, State::unwell("Failure")),
            _ => (Severity::Info, None),
        }
    }
}

fn of_json(posted: &Posted<'_>) -> Result<(Told, Vec<Attachment>), Refused> {
    let mut told: Told = request::json_of(posted.body)?;
    let files = std::mem::take(&mut told.attachments);
    if files.len() > MOST_ATTACHMENTS {
        return Err(Refused::TooMuch("more than 16 files with one notice"));
    }
    let files = files.into_iter().map(|file| attachment(file.filename, file.mimetype, &file.base64));
    Ok((told, files.collect::<Result<_, _>>()?))
}

fn of_xml(tree: &Value) -> Result<(Told, Vec<Attachment>), Refused> {
    let field = |keys: [&str; 2]| {
        let found = keys.iter().map(|key| fields::text(tree, key)).find(|words| !words.is_empty());
        Some(found.unwrap_or_default())
    };
    let told = Told {
        title: field(["Subject", "title"]),
        message: field(["Message", "message"]),
        kind: field(["MessageType", "type"]),
        attachments: Vec::new(),
    };
    let files = tree.get("Attachments").and_then(|files| files.get("Attachment"));
    let one = |file: &Value| {
        let content = file.get(xml::TEXT).or(Some(file)).and_then(Value::as_str).unwrap_or_default();
        let attribute = |key: &str| file.get(key).and_then(Value::as_str).map(str::to_owned);
        attachment(attribute("@filename"), attribute("@mimetype"), content)
    };
    let files = match files {
        Some(Value::Array(files)) => files.iter().take(MOST_ATTACHMENTS + 1).map(one).collect::<Result<_, _>>()?,
        Some(file) => vec![one(file)?],
        None => Vec::new(),
    };
    Ok((told, files))
}

fn attachment(name: Option<String>, mime: Option<String>, base64: &str) -> Result<Attachment, Refused> {
    let packed: String = base64.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let content = STANDARD.decode(packed).map_err(|_| Refused::Senseless("a file is no base64"))?;
    let name = fields::one_line(name.as_deref().unwrap_or("file"));
    Ok(Attachment { name, mime, content: SecretBytes::new(content) })
}
