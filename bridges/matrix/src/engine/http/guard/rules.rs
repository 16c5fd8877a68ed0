//! What may leave, and in what form. Pure: a request in, a verdict out.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, Method, Uri, header};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use sealbridge_contract::DeliveryId;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use url::Url;

use super::{
    addresses::{self, is_event, is_name},
    backup,
    home::{self, Home},
    keys,
    stop::Stop,
};
use crate::engine::{AGE, StandardEmoji, is_clear};

/// What the bridge says to a homeserver when it declines an invitation, and when it leaves a room. Nothing else is said.
pub(crate) const DECLINING: &str = "This bridge follows invitations of those its operator named only.";
pub(crate) const LEAVING: &str = "This room is not encrypted. The bridge joins encrypted rooms only.";
const REASONS: [&str; 2] = [DECLINING, LEAVING];

/// A device that an encrypted to-device message is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recipient {
    pub(super) user: OwnedUserId,
    pub(super) device: OwnedDeviceId,
    /// The curve25519 key that it is encrypted for, in base64.
    pub(super) key: String,
}

pub(super) type Judged<T = ()> = Result<T, Stop>;

/// Judges a request to our homeserver, and says who gets keys by it.
pub(super) fn judge(home: &Home, method: &Method, uri: &Uri, body: &[u8]) -> Judged<Vec<Recipient>> {
    let nobody = |judged: Judged| judged.map(|()| Vec::new());
    if method == Method::GET {
        return nobody(if body.is_empty() { addresses::read(home, uri) } else { Err(Stop::Body) });
    }
    let path = home::parts(home.asked(uri)?)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let is = |wanted: &Method| if method == wanted { Ok(()) } else { Err(Stop::UnknownRequest) };
    if !is_plain(uri.query()) {
        return Err(Stop::UnknownRequest);
    }
    let body = || object(body);
    match path.as_slice() {
        ["client", _, "sendToDevice", kind, name] if is_transaction(name) => {
            is(&Method::PUT)?;
            to_device(kind, &body()?)
        }
        ["client", _, "rooms", room, rest @ ..] if is_room(room) => nobody(in_room(home, method, rest, body()?)),
        ["client", _, "join", room] if is_room(room) => nobody(is(&Method::POST).and_then(|()| reason(&body()?, &[]))),
        ["client", _, "createRoom"] => nobody(is(&Method::POST).and_then(|()| new_room(&body()?))),
        ["client", _, "user", user, "account_data", kind] if home.is_ours(user) => {
            nobody(is(&Method::PUT).and_then(|()| account_data(kind, &body()?)))
        }
        ["client", _, "room_keys", "keys"] => nobody(is(&Method::PUT).and_then(|()| backup::keys(&body()?))),
        ["client", _, "room_keys", "version"] => nobody(is(&Method::POST).and_then(|()| backup::new(&body()?))),
        ["client", _, "keys", what @ ..] => nobody(is(&Method::POST).and_then(|()| keys::keys(what, &body()?))),
        ["client", _, what @ ("delete_devices" | "login" | "logout" | "refresh")]
        // On homeservers that only speak versions before these had a name of their own.
        | ["client", "unstable", "org.matrix.msc2918", what @ "refresh"] => {
            nobody(is(&Method::POST).and_then(|()| keys::login(what, &body()?)))
        }
        ["media", "unstable", "fi.mau.msc2246", "create"] | ["media", "v1", "create"] => {
            nobody(is(&Method::POST).and_then(|()| only(&body()?, &[], Stop::Body)))
        }
        _ => Err(Stop::UnknownRequest),
    }
}

/// Of what stands behind an address only these are known to say nothing.
fn is_plain(query: Option<&str>) -> bool {
    let is_fine = |(key, value): (Cow<'_, str>, Cow<'_, str>)| {
        ["version", "server_name", "via"].contains(&&*key) && keys::is_terse(&value)
    };
    query.is_none_or(|query| url::form_urlencoded::parse(query.as_bytes()).all(is_fine))
}

fn is_room(name: &str) -> bool {
    name.starts_with('!') && is_name(name)
}

/// What a request is called, by the library or by a delivery: it says nothing.
fn is_transaction(name: &str) -> bool {
    let is_random = name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let (delivery, step) = name.split_once('.').unwrap_or((name, "0"));
    let number = ["other", "back"].iter().find_map(|word| step.strip_prefix(word)).unwrap_or(step);
    let is_number = (1..=9).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    is_random || DeliveryId::parse(delivery).is_ok() && is_number
}

/// The id of a key of the secret storage, as clients make them.
fn is_key(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn is_user(name: &Value) -> bool {
    name.as_str().is_some_and(|name| UserId::parse(name).is_ok())
}

fn object(body: &[u8]) -> Judged<Map<String, Value>> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let Strict(body) = serde_json::from_slice(body).map_err(|_| Stop::Body)?;
    match body {
        Value::Object(body) => Ok(body),
        _ => Err(Stop::Body),
    }
}

/// JSON in which no key stands twice: whoever reads it after us may take the other.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON in which no key stands twice")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            all.push(value);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((key, Strict(value))) = map.next_entry::<String, Strict>()? {
            if all.insert(key, value).is_some() {
                return Err(de::Error::custom("a key stands twice"));
            }
        }
        Ok(all.into())
    }
}

fn in_room(home: &Home, method: &Method, rest: &[&str], body: Map<String, Value>) -> Judged {
    match (method, rest) {
        (&Method::PUT, ["send" | "redact", _, name]) if !is_transaction(name) => Err(Stop::UnknownRequest),
        (&Method::PUT, ["send", "m.room.encrypted", _]) => ciphertext(&body),
        (&Method::PUT, ["send", "m.reaction", _]) => reaction(&body),
        (&Method::PUT, ["send", ..]) => Err(Stop::Cleartext),
        (_, ["state", ..]) => Err(Stop::State),
        (&Method::PUT, ["redact", event, _]) if is_event(event) => reason(&body, &[]),
        (&Method::POST, ["leave"]) => reason(&body, &REASONS),
        (&Method::POST, ["join" | "forget"]) => reason(&body, &[]),
        (&Method::POST, ["invite"]) => {
            only(&body, &["user_id"], Stop::Reason)?;
            if body.values().all(is_user) { Ok(()) } else { Err(Stop::Body) }
        }
        (&Method::POST, ["receipt", "m.read" | "m.read.private", event]) if is_event(event) => {
            only(&body, &["thread_id"], Stop::Body)?;
            let is_thread = |of: &Value| of.as_str().is_some_and(|of| of == "main" || is_event(of));
            if body.values().all(is_thread) { Ok(()) } else { Err(Stop::Body) }
        }
        (&Method::PUT, ["typing", user]) if home.is_ours(user) => {
            only(&body, &["typing", "timeout"], Stop::Body)?;
            if body.values().all(|value| value.is_boolean() || value.is_number()) { Ok(()) } else { Err(Stop::Body) }
        }
        _ => Err(Stop::UnknownRequest),
    }
}

pub(super) fn only(body: &Map<String, Value>, keys: &[&str], stop: Stop) -> Judged {
    if body.keys().all(|key| keys.contains(&key.as_str())) { Ok(()) } else { Err(stop) }
}

fn reason(body: &Map<String, Value>, allowed: &[&str]) -> Judged {
    let is_said = |(key, value): (&String, &Value)| {
        key == "reason" && value.as_str().is_some_and(|reason| allowed.contains(&reason))
    };
    if body.iter().all(is_said) { Ok(()) } else { Err(Stop::Reason) }
}

/// Megolm ciphertext (client-server API, `m.megolm.v1.aes-sha2`) and what it is about, and nothing beside them.
fn ciphertext(body: &Map<String, Value>) -> Judged {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    // Every Megolm message begins with its version and its index, and ends with a MAC and a signature.
    let sealed =
        is_base64(body.get("ciphertext")) && text("ciphertext").starts_with("Aw") && text("ciphertext").len() > 96;
    if text("algorithm") != "m.megolm.v1.aes-sha2" || !sealed {
        return Err(Stop::Cleartext);
    }
    for (key, value) in body {
        match key.as_str() {
            "algorithm" | "ciphertext" => {}
            "session_id" | "sender_key" if is_base64(Some(value)) => {}
            "device_id" if value.as_str().is_some_and(|id| id.len() <= 255 && !id.contains(char::is_whitespace)) => {}
            "m.relates_to" => about(value)?,
            _ => return Err(Stop::Cleartext),
        }
    }
    Ok(())
}

fn about(relation: &Value) -> Judged {
    let relation = relation.as_object().ok_or(Stop::Relation)?;
    if relation.iter().all(|(key, value)| is_clear(key, value)) { Ok(()) } else { Err(Stop::Relation) }
}

fn reaction(body: &Map<String, Value>) -> Judged {
    let relation = match (body.len(), body.get("m.relates_to").and_then(Value::as_object)) {
        (1, Some(relation)) if relation.len() == 3 => relation,
        _ => return Err(Stop::Reaction),
    };
    let text = |key: &str| relation.get(key).and_then(Value::as_str).unwrap_or_default();
    let fine =
        text("rel_type") == "m.annotation" && is_event(text("event_id")) && StandardEmoji::new(text("key")).is_some();
    if fine { Ok(()) } else { Err(Stop::Reaction) }
}

/// A direct chat: encrypted from its first event on, with no name and nothing else that a homeserver could read.
fn new_room(body: &Map<String, Value>) -> Judged {
    only(body, &["preset", "is_direct", "invite", "initial_state"], Stop::OpenRoom)?;
    if !matches!(body.get("preset").map(Value::as_str), None | Some(Some("private_chat" | "trusted_private_chat"))) {
        return Err(Stop::OpenRoom);
    }
    let guests = body.get("invite").map_or(Some(&[][..]), |guests| guests.as_array().map(Vec::as_slice));
    if !guests.is_some_and(|guests| guests.iter().all(is_user)) || !body.get("is_direct").is_none_or(Value::is_boolean)
    {
        return Err(Stop::OpenRoom);
    }
    let state = body.get("initial_state").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match state {
        [event]
            if only_keys(event, &["type", "state_key", "content"])
                && event["type"] == "m.room.encryption"
                && event["state_key"] == ""
                && event["content"]["algorithm"] == "m.megolm.v1.aes-sha2" =>
        {
            let numbers = |(key, value): (&String, &Value)| key == "algorithm" || value.is_number();
            let content = event["content"].as_object();
            if content.is_some_and(|content| content.iter().all(numbers)) { Ok(()) } else { Err(Stop::OpenRoom) }
        }
        _ => Err(Stop::OpenRoom),
    }
}

/// Which of our rooms are direct chats, and secrets that are encrypted (client-server API, "Secret storage").
fn account_data(kind: &str, body: &Map<String, Value>) -> Judged {
    match kind {
        "m.direct" => {
            let is_room = |room: &Value| room.as_str().is_some_and(|room| room.starts_with('!') && is_name(room));
            let is_list = |rooms: &Value| rooms.as_array().is_some_and(|rooms| rooms.iter().all(is_room));
            let fine = body.iter().all(|(user, rooms)| user.starts_with('@') && is_name(user) && is_list(rooms));
            if fine { Ok(()) } else { Err(Stop::Body) }
        }
        // A number, and what no words fit into.
        _ if kind.strip_prefix(AGE).is_some_and(is_name) => {
            only(body, &["count", "word", "tag"], Stop::ClearSecret)?;
            let is_hex = |value: &Value| {
                value.as_str().is_some_and(|text| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            };
            let plain = body.iter().all(|(key, value)| if key == "count" { value.is_u64() } else { is_hex(value) });
            if plain { Ok(()) } else { Err(Stop::ClearSecret) }
        }
        "m.secret_storage.default_key" => {
            only(body, &["key"], Stop::ClearSecret)?;
            if body.values().all(keys::terse) { Ok(()) } else { Err(Stop::ClearSecret) }
        }
        _ if kind.strip_prefix("m.secret_storage.key.").is_some_and(is_key) => {
            only(body, &["name", "algorithm", "iv", "mac", "passphrase"], Stop::ClearSecret)?;
            // How a key is made of a passphrase, never the passphrase.
            let how = |how: &Value| only_keys(how, &["algorithm", "iterations", "salt", "bits"]);
            let fine = body.get("passphrase").is_none_or(how) && body.values().all(keys::terse);
            if fine { Ok(()) } else { Err(Stop::ClearSecret) }
        }
        "m.cross_signing.master"
        | "m.cross_signing.self_signing"
        | "m.cross_signing.user_signing"
        | "m.megolm_backup.v1" => {
            let sealed = body.len() == 1
                && body.get("encrypted").and_then(Value::as_object).is_some_and(|keys| {
                    keys.iter().all(|(key, sealed)| {
                        is_name(key)
                            && sealed.as_object().is_some_and(|sealed| {
                                // What other clients left under other keys is sent back as it is.
                                sealed.iter().all(|(key, value)| match key.as_str() {
                                    "iv" | "ciphertext" | "mac" | "ephemeral" => is_base64(Some(value)),
                                    "passthrough" => value.is_boolean(),
                                    _ => false,
                                })
                            })
                    })
                });
            if sealed { Ok(()) } else { Err(Stop::ClearSecret) }
        }
        _ => Err(Stop::UnknownRequest),
    }
}

/// What the steps of a verification consist of (client-server API, "Key verification framework").
const VERIFYING: [&str; 18] = [
    "from_device",
    "transaction_id",
    "methods",
    "method",
    "timestamp",
    "key_agreement_protocols",
    "hashes",
    "message_authentication_codes",
    "short_authentication_string",
    "key_agreement_protocol",
    "hash",
    "message_authentication_code",
    "commitment",
    "key",
    "keys",
    "mac",
    "code",
    "reason",
];

const STEPS: [&str; 8] = ["request", "ready", "start", "accept", "key", "mac", "done", "cancel"];

fn to_device(kind: &str, body: &Map<String, Value>) -> Judged<Vec<Recipient>> {
    let messages = body.get("messages").and_then(Value::as_object).ok_or(Stop::Body)?;
    let contents = || {
        messages.iter().flat_map(|(user, devices)| {
            devices.as_object().into_iter().flatten().map(move |(device, content)| (user, device, content))
        })
    };
    match kind {
        "m.room.encrypted" => contents().map(|(user, device, content)| sealed_for(user, device, content)).collect(),
        // It says why there is no key.
        "m.room_key.withheld" => all(contents(), keys::withheld),
        // Asks, and gives nothing.
        "m.secret.request" | "m.room_key_request" => {
            const SAID: [&str; 6] =
                ["action", "body", "name", "requesting_device_id", "request_id", "org.matrix.msgid"];
            all(contents(), |content| only_keys(content, &SAID) && keys::terse(content))
        }
        _ if kind.strip_prefix("m.key.verification.").is_some_and(|step| STEPS.contains(&step)) => {
            all(contents(), |content| {
                let text = |value: &Value| value.as_str().is_none_or(|text| text.len() <= 255);
                let flat = |value: &Value| match value {
                    Value::Array(values) => values.iter().all(text),
                    Value::Object(values) => values.values().all(text),
                    value => text(value),
                };
                // Why it was stopped is said in words of the library, and what it is called is the other side's choice.
                let fine = |(key, value): (&String, &Value)| {
                    flat(value) && (matches!(key.as_str(), "reason" | "transaction_id") || keys::terse(value))
                };
                only_keys(content, &VERIFYING) && content.as_object().is_some_and(|content| content.iter().all(fine))
            })
        }
        _ => Err(Stop::ClearToDevice),
    }
}

fn all<'a>(
    contents: impl Iterator<Item = (&'a String, &'a String, &'a Value)>,
    fine: impl Fn(&Value) -> bool,
) -> Judged<Vec<Recipient>> {
    for (_, _, content) in contents {
        if !fine(content) {
            return Err(Stop::ClearToDevice);
        }
    }
    Ok(Vec::new())
}

fn only_keys(content: &Value, keys: &[&str]) -> bool {
    content.as_object().is_some_and(|content| only(content, keys, Stop::Body).is_ok())
}

/// An Olm message (`m.olm.v1.curve25519-aes-sha2`): for one device, and encrypted for one key.
fn sealed_for(user: &str, device: &str, content: &Value) -> Judged<Recipient> {
    let content = content.as_object().ok_or(Stop::ClearToDevice)?;
    only(content, &["algorithm", "ciphertext", "sender_key", "org.matrix.msgid"], Stop::ClearToDevice)?;
    if content.get("algorithm").and_then(Value::as_str) != Some("m.olm.v1.curve25519-aes-sha2") {
        return Err(Stop::ClearToDevice);
    }
    let ciphertext = content.get("ciphertext").and_then(Value::as_object).ok_or(Stop::ClearToDevice)?;
    let mut keys = ciphertext.iter();
    let (Some((key, sealed)), None) = (keys.next(), keys.next()) else { return Err(Stop::ClearToDevice) };
    if !only_keys(sealed, &["type", "body"]) || !is_base64(sealed.get("body")) {
        return Err(Stop::ClearToDevice);
    }
    let user = UserId::parse(user).map_err(|_| Stop::UnknownRecipient)?;
    // A star would be every device that the homeserver names.
    if device.is_empty() || device == "*" {
        return Err(Stop::UnknownRecipient);
    }
    Ok(Recipient { user, device: <&DeviceId>::from(device).to_owned(), key: key.clone() })
}

/// What the protocol calls unpadded base64; words have gaps.
pub(super) fn is_base64(value: Option<&Value>) -> bool {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte))
}

/// Judges an upload: it has no name, and its type says nothing.
pub(super) fn judge_upload(home: &Home, method: &Method, url: &Url, headers: &HeaderMap) -> Judged {
    let path = home::parts(home.asked_of(url)?)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (method, path.as_slice()) {
        (&Method::POST, ["media", "v3", "upload"]) => {}
        (&Method::PUT, ["media", "v3", "upload", server, id]) if is_name(server) && is_name(id) => {}
        _ => return Err(Stop::UnknownRequest),
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let fine = url.query().is_none() && kind == Some("application/octet-stream");
    if fine { home::headers(headers) } else { Err(Stop::Media) }
}
