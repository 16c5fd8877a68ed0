//! CloudEvents 1.0 over HTTP: structured, binary, or several as a batch.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use sealbridge_contract::SecretBytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    MOST_NOTICES, Refused, fields, raw,
    request::{self, Sort},
    saying::{Saying, Words},
    standard,
};
use crate::notices::{Attachment, Notice, Posted, Severity};

/// Reads one, or several.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only(posted, &[Method::POST, Method::PUT], "POST or PUT")?;
    let kind = request::media_type(posted);
    if kind.starts_with("application/cloudevents") && !kind.ends_with("json") {
        return Err(Refused::Type("events are read as JSON"));
    }
    if posted.headers.contains_key("ce-specversion") && !kind.starts_with("application/cloudevents") {
        return Ok(vec![binary(posted)?]);
    }
    match request::json(posted)? {
        Value::Array(events) if events.len() > MOST_NOTICES => {
            Err(Refused::TooMuch("more than 100 events in one batch"))
        }
        Value::Array(events) => events.into_iter().map(structured).collect(),
        event => Ok(vec![structured(event)?]),
    }
}

/// What an event has with it, as it is read.
enum Data {
    Json(Value),
    Text(String),
    File(Vec<u8>),
    Nothing,
}

fn structured(mut event: Value) -> Result<Notice, Refused> {
    let Some(object) = event.as_object_mut() else { return Err(Refused::Senseless("an event is no JSON object")) };
    let data = match (object.remove("data"), object.remove("data_base64")) {
        (Some(Value::String(text)), _) => Data::Text(text),
        (Some(data), _) if standard::says_something(&data) => Data::Json(data),
        (_, Some(Value::String(packed))) => {
            let bytes =
                STANDARD.decode(packed).map_err(|_| Refused::Senseless("an event's data_base64 is no base64"))?;
            let kind = fields::text(&event, "datacontenttype");
            of_bytes(bytes, &kind)
        }
        _ => Data::Nothing,
    };
    notice(event, data)
}

fn binary(posted: &Posted<'_>) -> Result<Notice, Refused> {
    let attribute = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let name = name.as_str().strip_prefix("ce-")?;
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        Some((name.to_owned(), Value::String(percent_decoded(&value))))
    };
    let mut event: Map<_, _> = posted.headers.iter().filter_map(attribute).collect();
    let kind = request::media_type(posted);
    if !kind.is_empty() {
        event.insert("datacontenttype".to_owned(), Value::String(kind.clone()));
    }
    let data = match request::sort(posted) {
        _ if posted.body.is_empty() => Data::Nothing,
        Sort::Json => Data::Json(request::json(posted)?),
        _ => of_bytes(posted.body.to_vec(), &kind),
    };
    notice(Value::Object(event), data)
}

fn of_bytes(bytes: Vec<u8>, kind: &str) -> Data {
    let is_binary = kind.starts_with("image/") || kind.starts_with("audio/") || kind.starts_with("video/");
    match String::from_utf8(bytes) {
        Ok(text) if !is_binary => match serde_json::from_str(&text) {
            Ok(value) if kind.ends_with("json") => Data::Json(value),
            _ => Data::Text(text),
        },
        Ok(text) => Data::File(text.into_bytes()),
        Err(error) => Data::File(error.into_bytes()),
    }
}

/// Attributes in headers are written with percent signs for what is not ASCII.
fn percent_decoded(value: &str) -> String {
    let key = value.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(key.as_bytes()).next().map(|(key, _)| key.into_owned()).unwrap_or_default()
}

fn notice(event: Value, data: Data) -> Result<Notice, Refused> {
    let required = ["specversion", "id", "source", "type"].map(|key| fields::line(&event, key));
    let [version, id, source, kind] = &required;
    if !version.starts_with("1.") {
        return Err(Refused::Senseless("an event is none of CloudEvents 1.0"));
    }
    if id.is_empty() || source.is_empty() || kind.is_empty() {
        return Err(Refused::Senseless("an event lacks its id, its source or its type"));
    }
    let mut files = Vec::new();
    let mut body = json!({ "event": event });
    let mut saying = match data {
        Data::Json(value) => {
            let saying = raw::anything(value.clone());
            body["data"] = value;
            saying
        }
        Data::Text(text) => {
            let mut saying = Saying::default();
            saying.say(Words::plain(&text));
            saying
        }
        Data::File(content) => {
            let mime = Some(fields::line(&event, "datacontenttype")).filter(|mime| !mime.is_empty());
            files.push(Attachment { name: "data".to_owned(), mime, content: SecretBytes::new(content) });
            Saying::default()
        }
        Data::Nothing => Saying::default(),
    };
    saying.title = standard::titled(kind, &saying);
    saying.field("Subject", fields::line(&event, "subject"));
    saying.field("From", source.clone());
    kind.clone_into(&mut saying.event);
    let severity = raw::named(&fields::text(&body, "data.severity")).unwrap_or(Severity::Info);
    saying.body = body;
    // An event is named by both.
    let name = Sha256::new().chain_update(source.len().to_be_bytes()).chain_update(source).chain_update(id).finalize();
    let name = name[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Notice { id: Some(name), ..saying.notice_with(severity, files) })
}
