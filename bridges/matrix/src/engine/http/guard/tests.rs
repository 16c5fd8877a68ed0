use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde_json::{Value, json};
use url::Url;

use super::{
    home::{self, Home},
    rules,
    stop::Stop,
};

const BASE: &str = "https://example.org/some/path/_matrix/client/v3";
/// What the library calls a request.
const TXN: &str = "0123456789abcdef0123456789abcdef";
const ROOM: &str = "/rooms/%21r%3Aexample.org";

/// Of the account `@a:x`, whose homeserver has a path in its address.
fn here() -> Home {
    let home = Home::new(&Url::parse("https://example.org/some/path/").expect("it is an address"));
    home.is_of(ruma::user_id!("@a:x"));
    home
}

fn judge(method: &Method, uri: &Uri, body: &[u8]) -> Result<Vec<rules::Recipient>, Stop> {
    rules::judge(&here(), method, uri, body)
}

fn judge_upload(method: &Method, url: &Url, headers: &HeaderMap) -> Result<(), Stop> {
    rules::judge_upload(&here(), method, url, headers)
}

fn judged(method: &Method, path: &str, body: &Value) -> Result<usize, Stop> {
    let uri: Uri = format!("{BASE}{path}").parse().expect("it is an address");
    judge(method, &uri, body.to_string().as_bytes()).map(|recipients| recipients.len())
}

fn check(method: &Method, path: &str, cases: &[(Value, Result<usize, Stop>)]) {
    for (body, expected) in cases {
        assert_eq!(judged(method, path, body), *expected, "{method} {path} {body}");
    }
}

fn megolm(with: Value) -> Value {
    let ciphertext = format!("AwgAEp{}", "Ab0+/".repeat(30));
    let mut body = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": ciphertext, "session_id": "abc" });
    if let (Value::Object(body), Value::Object(with)) = (&mut body, with) {
        body.extend(with);
    }
    body
}

#[test]
fn room_event_leaves_as_ciphertext_and_nothing_beside_it() {
    let path = format!("{ROOM}/send/m.room.encrypted/{TXN}");
    check(
        &Method::PUT,
        &path,
        &[
            (megolm(json!({})), Ok(0)),
            (megolm(json!({ "sender_key": "abc", "device_id": "DEVICE" })), Ok(0)),
            (
                megolm(json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": "$a", "is_falling_back": true,
            "m.in_reply_to": { "event_id": "$b" } } })),
                Ok(0),
            ),
            (json!({ "msgtype": "m.text", "body": "canary" }), Err(Stop::Cleartext)),
            (json!({ "algorithm": "m.megolm.v1.aes-sha2", "body": "canary" }), Err(Stop::Cleartext)),
            (megolm(json!({ "body": "canary" })), Err(Stop::Cleartext)),
            (megolm(json!({ "ciphertext": "onlyacanary" })), Err(Stop::Cleartext)),
            (megolm(json!({ "device_id": "a canary in words" })), Err(Stop::Cleartext)),
            (megolm(json!({ "ciphertext": "a canary in words" })), Err(Stop::Cleartext)),
            (megolm(json!({ "ciphertext": { "canary": 1 } })), Err(Stop::Cleartext)),
            (megolm(json!({ "algorithm": "m.olm.v1.curve25519-aes-sha2" })), Err(Stop::Cleartext)),
            (
                megolm(json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": "$a", "key": "canary" } })),
                Err(Stop::Relation),
            ),
            (
                megolm(json!({ "m.relates_to": { "m.in_reply_to": { "event_id": "$a", "body": "canary" } } })),
                Err(Stop::Relation),
            ),
            (json!(["canary"]), Err(Stop::Body)),
        ],
    );
    for kind in ["m.room.message", "m.sticker", "m.room.encrypte", "m.room.encrypted%2Fx", "m.room%2Emessage"] {
        let path = format!("{ROOM}/send/{kind}/{TXN}");
        assert_eq!(judged(&Method::PUT, &path, &megolm(json!({}))), Err(Stop::Cleartext), "{kind}");
    }
}

#[test]
fn nothing_hides_behind_a_key_that_stands_twice_or_in_the_address() {
    let uri = |rest: &str| format!("{BASE}{ROOM}{rest}").parse::<Uri>().expect("it is an address");
    let good = megolm(json!({})).to_string();
    let twice = good.replacen("{", r#"{"ciphertext":"canary","#, 1);
    let event = format!("/send/m.room.encrypted/{TXN}");
    let put = |rest: &str, body: &str| judge(&Method::PUT, &uri(rest), body.as_bytes()).map(|all| all.len());
    assert_eq!(put(&event, &good), Ok(0));
    assert_eq!(put(&event, &twice), Err(Stop::Body));
    assert_eq!(put(&format!("{event}?note=canary"), &good), Err(Stop::UnknownRequest));
}

#[test]
fn older_homeservers_are_asked_at_their_own_addresses() {
    let post = |path: &str| {
        let uri: Uri = format!("https://example.org/some/path/_matrix{path}").parse().expect("it is an address");
        judge(&Method::POST, &uri, b"").map(|all| all.len())
    };
    assert_eq!(post("/media/unstable/fi.mau.msc2246/create"), Ok(0));
    assert_eq!(post("/client/unstable/org.matrix.msc2918/refresh"), Ok(0));
    assert_eq!(post("/client/unstable/org.example.collect"), Err(Stop::UnknownRequest));
}

#[test]
fn reaction_says_nothing_but_an_emoji_and_a_deletion_nothing_at_all() {
    let annotation =
        |key: &str| json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": "$a", "key": key } });
    let mut with_words = annotation("👍");
    with_words["body"] = json!("canary");
    check(
        &Method::PUT,
        &format!("{ROOM}/send/m.reaction/{TXN}"),
        &[
            (annotation("👍"), Ok(0)),
            (annotation("canary"), Err(Stop::Reaction)),
            (with_words, Err(Stop::Reaction)),
            (json!({}), Err(Stop::Reaction)),
        ],
    );
    check(
        &Method::PUT,
        &format!("{ROOM}/redact/%24e/{TXN}"),
        &[(json!({}), Ok(0)), (json!({ "reason": "canary" }), Err(Stop::Reason))],
    );
    check(
        &Method::POST,
        &format!("{ROOM}/leave"),
        &[
            (json!({}), Ok(0)),
            (json!({ "reason": super::LEAVING }), Ok(0)),
            (json!({ "reason": "canary" }), Err(Stop::Reason)),
        ],
    );
}

#[test]
fn state_is_not_written_and_a_new_room_is_encrypted_from_its_first_event() {
    for state in ["/state/m.room.encryption", "/state/m.room.name/", "/state/m.room.power_levels"] {
        assert_eq!(judged(&Method::PUT, &format!("{ROOM}{state}"), &json!({})), Err(Stop::State));
    }
    let encryption = |algorithm: &str| json!([{ "type": "m.room.encryption", "state_key": "", "content": { "algorithm": algorithm } }]);
    let room = |state: Value| json!({ "preset": "trusted_private_chat", "is_direct": true, "initial_state": state });
    let mut named = room(encryption("m.megolm.v1.aes-sha2"));
    named["name"] = json!("canary");
    check(
        &Method::POST,
        "/createRoom",
        &[
            (room(encryption("m.megolm.v1.aes-sha2")), Ok(0)),
            (room(encryption("none")), Err(Stop::OpenRoom)),
            (room(json!([])), Err(Stop::OpenRoom)),
            (json!({ "is_direct": true }), Err(Stop::OpenRoom)),
            (named, Err(Stop::OpenRoom)),
        ],
    );
}

#[test]
fn message_for_a_device_is_encrypted_for_the_one_key_that_is_checked() {
    let olm = |ciphertext: Value| json!({ "algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": ciphertext });
    let sealed = || json!({ "type": 0, "body": "AwogICAg" });
    let to = |device: &str, content: Value| json!({ "messages": { "@a:example.org": { device: content } } });
    let mut talkative = olm(json!({ "key": sealed() }));
    talkative["session_key"] = json!("canary");
    check(
        &Method::PUT,
        &format!("/sendToDevice/m.room.encrypted/{TXN}"),
        &[
            (to("D", olm(json!({ "key": sealed() }))), Ok(1)),
            (to("*", olm(json!({ "key": sealed() }))), Err(Stop::UnknownRecipient)),
            (to("D", olm(json!({ "key": sealed(), "other": sealed() }))), Err(Stop::ClearToDevice)),
            (to("D", olm(json!({}))), Err(Stop::ClearToDevice)),
            (to("D", olm(json!({ "key": { "type": 0, "body": "a canary in words" } }))), Err(Stop::ClearToDevice)),
            (to("D", talkative), Err(Stop::ClearToDevice)),
            (
                to("D", json!({ "algorithm": "m.megolm.v1.aes-sha2", "session_key": "canary" })),
                Err(Stop::ClearToDevice),
            ),
        ],
    );
    for kind in ["m.room_key", "m.forwarded_room_key", "m.secret.send", "m.dummy"] {
        let path = format!("/sendToDevice/{kind}/{TXN}");
        assert_eq!(judged(&Method::PUT, &path, &to("D", json!({}))), Err(Stop::ClearToDevice), "{kind}");
    }
    check(
        &Method::PUT,
        &format!("/sendToDevice/m.room_key.withheld/{TXN}"),
        &[
            (to("D", json!({ "algorithm": "m.megolm.v1.aes-sha2", "code": "m.unverified", "room_id": "!r:x" })), Ok(0)),
            (to("D", json!({ "session_key": "canary" })), Err(Stop::ClearToDevice)),
            (to("D", json!({ "code": "canary" })), Err(Stop::ClearToDevice)),
            (to("D", json!({ "code": "m.no_olm", "reason": "Unable to establish a secure channel." })), Ok(0)),
            (to("D", json!({ "code": "m.no_olm", "reason": "canary" })), Err(Stop::ClearToDevice)),
            (to("D", json!({ "code": "m.no_olm", "room_id": "a canary" })), Err(Stop::ClearToDevice)),
            (to("D", json!({ "code": "m.no_olm", "session_id": { "canary": 1 } })), Err(Stop::ClearToDevice)),
        ],
    );
    check(
        &Method::PUT,
        &format!("/sendToDevice/m.key.verification.start/{TXN}"),
        &[
            (to("D", json!({ "from_device": "A", "method": "m.sas.v1", "hashes": ["sha256"] })), Ok(0)),
            (to("D", json!({ "from_device": "A", "session_key": "canary" })), Err(Stop::ClearToDevice)),
            (to("D", json!({ "key": "long ".repeat(60) })), Err(Stop::ClearToDevice)),
        ],
    );
}

#[test]
fn secrets_lie_at_the_homeserver_as_ciphertext_alone() {
    let sealed = |with: Value| json!({ "encrypted": { "id": with } });
    let good = || json!({ "iv": "AA==", "ciphertext": "AA==", "mac": "AA==" });
    check(
        &Method::PUT,
        "/user/%40a%3Ax/account_data/m.cross_signing.master",
        &[
            (sealed(good()), Ok(0)),
            (json!({ "key": "canary" }), Err(Stop::ClearSecret)),
            (
                sealed(json!({ "iv": "AA==", "ciphertext": "AA==", "mac": "AA==", "key": "canary" })),
                Err(Stop::ClearSecret),
            ),
        ],
    );
    assert_eq!(judged(&Method::PUT, "/user/%40a%3Ax/account_data/canary", &json!({})), Err(Stop::UnknownRequest));
    let backup = |session: Value| json!({ "rooms": { "!r:x": { "sessions": { "id": { "session_data": session } } } } });
    check(
        &Method::PUT,
        "/room_keys/keys",
        &[
            (backup(json!({ "ephemeral": "AA", "ciphertext": "AA", "mac": "AA" })), Ok(0)),
            (backup(json!({ "session_key": "canary" })), Err(Stop::ClearSecret)),
        ],
    );
}

#[test]
fn request_that_the_bridge_never_makes_does_not_leave() {
    for (method, path) in [
        (Method::PUT, "/profile/%40a%3Ax/displayname"),
        (Method::POST, "/rooms/%21r%3Ax/upgrade"),
        (Method::POST, "/rooms/%21r%3Ax/report/%24e"),
        (Method::PUT, "/directory/room/%23a%3Ax"),
        (Method::POST, "/search"),
        (Method::POST, "/user_directory/search"),
        (Method::PUT, "/pushrules/global/room/x"),
        (Method::POST, "/pushers/set"),
        (Method::DELETE, "/room_keys/version/1"),
    ] {
        assert_eq!(judged(&method, path, &json!({})), Err(Stop::UnknownRequest), "{method} {path}");
    }
    let words = "the%20words";
    for (method, path, body) in [
        (Method::PUT, format!("/rooms/%21r%3Ax/redact/%24{words}/{TXN}"), json!({})),
        (Method::PUT, format!("/rooms/%21r%3Ax/redact/%24e/{words}"), json!({})),
        (Method::POST, format!("/rooms/%21r%3Ax/receipt/m.read/%24{words}"), json!({})),
        (Method::POST, "/user/%40a%3Ax/filter".to_owned(), json!({ "room": { "rooms": ["the words"] } })),
    ] {
        assert_eq!(judged(&method, &path, &body), Err(Stop::UnknownRequest), "{method} {path}");
    }
    for (body, verdict) in [
        (json!({ "@b:x": ["!r:x"] }), Ok(0)),
        (json!({ "@b:x": ["the words"] }), Err(Stop::Body)),
        (json!({ "the words": ["!r:x"] }), Err(Stop::Body)),
        (json!({ "@b:x": "the words" }), Err(Stop::Body)),
    ] {
        assert_eq!(judged(&Method::PUT, "/user/%40a%3Ax/account_data/m.direct", &body), verdict, "{body}");
    }
    let elsewhere: Uri = "https://example.org/collect".parse().expect("it is an address");
    assert_eq!(judge(&Method::POST, &elsewhere, b"{}"), Err(Stop::UnknownRequest));
    assert_eq!(judge(&Method::GET, &elsewhere, b"canary"), Err(Stop::Body));
}

#[test]
fn file_is_uploaded_without_a_name_or_a_type() {
    let url = |rest: &str| {
        Url::parse(&format!("https://example.org/some/path/_matrix/media/v3/upload{rest}")).expect("it is one")
    };
    let opaque = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
    let picture = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("image/png"))]);
    assert_eq!(judge_upload(&Method::POST, &url(""), &opaque), Ok(()));
    assert_eq!(judge_upload(&Method::PUT, &url("/example.org/id"), &opaque), Ok(()));
    assert_eq!(judge_upload(&Method::POST, &url("?filename=canary"), &opaque), Err(Stop::Media));
    assert_eq!(judge_upload(&Method::POST, &url(""), &picture), Err(Stop::Media));
    assert_eq!(judge_upload(&Method::POST, &url(""), &HeaderMap::new()), Err(Stop::Media));
}

#[test]
fn age_of_the_stores_leaves_as_a_number_and_nothing_beside_it() {
    check(
        &Method::PUT,
        "/user/%40a%3Ax/account_data/io.github.sealbridge.age.DEVICE",
        &[
            (json!({ "count": 5, "word": "00ff", "tag": "0123456789abcdef" }), Ok(0)),
            (json!({ "count": 5, "word": "canary", "tag": "00" }), Err(Stop::ClearSecret)),
            (json!({ "count": "canary", "word": "00", "tag": "00" }), Err(Stop::ClearSecret)),
            (json!({ "count": 5, "word": "00", "tag": "0".repeat(65) }), Err(Stop::ClearSecret)),
            (json!({ "count": 5, "word": "00", "tag": "00", "canary": 1 }), Err(Stop::ClearSecret)),
        ],
    );
}

#[test]
fn keys_and_logins_have_no_room_for_words() {
    let post = |path: &str, cases: &[(Value, Result<usize, Stop>)]| check(&Method::POST, path, cases);
    let stopped = || Err(Stop::Body);
    let key = json!({ "signed_curve25519:A": { "key": "abc", "signatures": { "@a:x": { "ed25519:D": "def" } } } });
    post(
        "/keys/upload",
        &[
            (json!({ "one_time_keys": key, "fallback_keys": {} }), Ok(0)),
            (json!({ "device_keys": { "user_id": "@a:x", "algorithms": ["m.olm.v1.curve25519-aes-sha2"] } }), Ok(0)),
            (json!({ "one_time_keys": { "signed_curve25519:A": { "key": "a canary" } } }), stopped()),
            (json!({ "one_time_keys": { "a canary": "abc" } }), stopped()),
            (json!({ "device_keys": { "unsigned": { "device_display_name": "a canary in words" } } }), stopped()),
            (json!({ "canary": "abc" }), stopped()),
            (json!({ "one_time_keys": "x".repeat(5_000) }), stopped()),
        ],
    );
    let users = |user: &str| json!({ "device_keys": { user: [] }, "timeout": 1000 });
    post(
        "/keys/query",
        &[
            (users("@a:x"), Ok(0)),
            (users("@name of former days:x"), Ok(0)),
            (users("a canary"), stopped()),
            (json!({ "device_keys": {}, "note": "canary" }), stopped()),
        ],
    );
    post(
        "/keys/claim",
        &[
            (json!({ "one_time_keys": { "@a:x": { "D": "signed_curve25519" } } }), Ok(0)),
            // Whoever calls a device so must not keep others from getting keys.
            (json!({ "one_time_keys": { "@a:x": { "a name with gaps": "signed_curve25519" } }, "timeout": 1 }), Ok(0)),
            (json!({ "one_time_keys": { "@a:x": { "n".repeat(5_000): "signed_curve25519" } } }), Ok(0)),
            (json!({ "one_time_keys": { "@a:x": { "D": "a canary" } } }), stopped()),
            (json!({ "one_time_keys": { "a canary": { "D": "signed_curve25519" } } }), stopped()),
            (json!({ "one_time_keys": {}, "note": "canary" }), stopped()),
        ],
    );
    let proof = json!({ "type": "m.login.password", "password": "with a gap", "identifier": { "user": "@a:x" } });
    post(
        "/keys/device_signing/upload",
        &[
            (json!({ "master_key": { "usage": ["master"] }, "auth": proof }), Ok(0)),
            (json!({ "master_key": { "usage": ["a canary"] } }), stopped()),
            (json!({ "auth": { "type": "m.login.password", "note": "canary" } }), stopped()),
        ],
    );
    post(
        "/keys/signatures/upload",
        &[
            (json!({ "@a:x": { "D": { "keys": { "ed25519:D": "abc" } } } }), Ok(0)),
            (json!({ "canary": { "D": {} } }), Err(Stop::UnknownRequest)),
            (json!({ "@a:x": { "D": { "note": "a canary" } } }), stopped()),
            (
                json!({ "@a:x": { "D E": { "device_id": "D E", "unsigned": { "device_display_name": "made with curl" } } } }),
                Ok(0),
            ),
        ],
    );
    post("/keys/canary", &[(json!({}), Err(Stop::UnknownRequest))]);
    let login = |with: (&str, &str)| json!({ "type": "m.login.password", "password": "with a gap", with.0: with.1 });
    post(
        "/login",
        &[
            (login(("initial_device_display_name", "Sealbridge")), Ok(0)),
            (login(("initial_device_display_name", "canary")), stopped()),
            (login(("device_id", "a canary")), stopped()),
            (login(("canary", "abc")), stopped()),
        ],
    );
    post("/logout", &[(json!({}), Ok(0)), (json!({ "canary": 1 }), stopped())]);
    post(
        "/refresh",
        &[(json!({ "refresh_token": "abc" }), Ok(0)), (json!({ "refresh_token": "a canary" }), stopped())],
    );
}

#[test]
fn words_find_no_place_where_names_and_numbers_belong() {
    let put = |path: &str, body: Value| judged(&Method::PUT, path, &body);
    let post = |path: &str, body: Value| judged(&Method::POST, path, &body);
    let words = "a%20canary";
    for (path, good, bad) in [
        ("/rooms/%21r%3Ax/invite", json!({ "user_id": "@a:x" }), json!({ "user_id": "a canary" })),
        ("/rooms/%21r%3Ax/receipt/m.read/%24e", json!({ "thread_id": "main" }), json!({ "thread_id": "a canary" })),
        ("/createRoom", open_to(json!({})), open_to(json!({ "invite": ["a canary"] }))),
        ("/createRoom", open_to(json!({ "is_direct": true })), open_to(json!({ "is_direct": "a canary" }))),
        ("/room_keys/version", backup("abc"), backup("a canary")),
    ] {
        assert_eq!(post(path, good), Ok(0), "{path}");
        assert!(post(path, bad).is_err(), "{path}");
    }
    let typing = json!({ "typing": true, "timeout": 1 });
    assert_eq!(put("/rooms/%21r%3Ax/typing/%40a%3Ax", typing.clone()), Ok(0));
    assert!(put(&format!("/rooms/%21r%3Ax/typing/{words}"), typing).is_err());
    assert!(put("/rooms/%21r%3Ax/typing/%40a%3Ax", json!({ "typing": "a canary" })).is_err());
    assert_eq!(post("/join/%21r%3Ax?via=x", json!({})), Ok(0));
    for path in [format!("/join/{words}"), format!("/join/%21r%3Ax?via={words}"), format!("/rooms/{words}/leave")] {
        assert!(post(&path, json!({})).is_err(), "{path}");
    }
    let data = |kind: &str, body: Value| put(&format!("/user/%40a%3Ax/account_data/{kind}"), body);
    assert_eq!(data("m.secret_storage.default_key", json!({ "key": "abc" })), Ok(0));
    assert!(data("m.secret_storage.default_key", json!({ "key": "a canary" })).is_err());
    let how =
        |salt: &str| json!({ "passphrase": { "algorithm": "m.pbkdf2", "iterations": 1, "salt": salt, "bits": 256 } });
    assert_eq!(data("m.secret_storage.key.abc", how("abc")), Ok(0));
    assert!(data("m.secret_storage.key.abc", how("a canary")).is_err());
    assert!(data("m.secret_storage.key.abc", json!({ "passphrase": { "words": "canary" } })).is_err());
    let to = |kind: &str, content: Value| {
        put(&format!("/sendToDevice/{kind}/{TXN}"), json!({ "messages": { "@a:x": { "D": content } } }))
    };
    assert_eq!(to("m.secret.request", json!({ "action": "request", "name": "m.megolm_backup.v1" })), Ok(0));
    assert!(to("m.secret.request", json!({ "name": "a canary" })).is_err());
    assert!(to("m.room_key_request", json!({ "body": { "room_id": "a canary" } })).is_err());
    assert_eq!(to("m.key.verification.cancel", json!({ "code": "m.user", "reason": "In words." })), Ok(0));
    assert!(to("m.key.verification.cancel", json!({ "code": "a canary" })).is_err());
    assert!(to("m.key.verification.canary", json!({})).is_err());
}

fn open_to(with: Value) -> Value {
    let encryption =
        json!({ "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" } });
    let mut body = json!({ "preset": "private_chat", "initial_state": [encryption] });
    if let (Value::Object(body), Value::Object(with)) = (&mut body, with) {
        body.extend(with);
    }
    body
}

fn backup(key: &str) -> Value {
    json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": { "public_key": key } })
}

#[test]
fn what_a_request_is_called_has_the_form_that_the_library_and_deliveries_give_it() {
    let delivery = sealbridge_contract::DeliveryId::from_bytes([7; 16]);
    let words = ["the%20secret%20words", "secretwords", "1", &format!("{delivery}.canary"), &format!("{TXN}.words")];
    let names = [TXN.to_owned(), delivery.to_string(), format!("{delivery}.1"), format!("{delivery}.other0")];
    let names = names.into_iter().chain([format!("{delivery}.back12")]);
    for (kind, name) in
        names.map(|name| (Ok(0), name)).chain(words.map(|name| (Err(Stop::UnknownRequest), name.into())))
    {
        let nobody = json!({ "messages": {} });
        assert_eq!(judged(&Method::PUT, &format!("/sendToDevice/m.room.encrypted/{name}"), &nobody), kind, "{name}");
        let path = format!("{ROOM}/send/m.room.encrypted/{name}");
        assert_eq!(judged(&Method::PUT, &path, &megolm(json!({}))), kind, "{name}");
        assert_eq!(judged(&Method::PUT, &format!("{ROOM}/redact/%24e/{name}"), &json!({})), kind, "{name}");
    }
}

#[test]
fn nothing_leaves_but_to_our_homeservers_own_address_and_a_version_that_is_used() {
    let to = |method: &Method, address: &str| {
        judge(method, &address.parse().expect("it is an address"), b"").map(|recipients| recipients.len())
    };
    for address in [
        "https://example.org/some/path/_matrix/client/v3/logout",
        "https://example.org/some/path/_matrix/client/r0/logout",
    ] {
        assert_eq!(to(&Method::POST, address), Ok(0), "{address}");
    }
    for address in [
        "https://example.org/some/path/.well-known/matrix/client",
        "https://example.org/some/path/_matrix/client/versions",
        "https://example.org/some/path/_matrix/client/unstable/room_keys/version",
        "https://example.org/some/path/_matrix/client/unstable/org.matrix.msc3916/media/config",
    ] {
        assert_eq!(to(&Method::GET, address), Ok(0), "{address}");
    }
    for rest in ["_matrix/client/v3/logout", "_matrix/client/v3/joined_rooms", ".well-known/matrix/client"] {
        for base in [
            "https://example.org/",
            "https://example.org/any%20words/",
            "https://example.org/some/path/any%20words/",
            "https://example.org/some/pathandwords/",
            "https://example.org:444/some/path/",
            "https://canary.test/some/path/",
            "https://canary@example.org/some/path/",
            "http://example.org/some/path/",
        ] {
            let address = format!("{base}{rest}");
            let method = if rest.ends_with("logout") { Method::POST } else { Method::GET };
            assert_eq!(to(&method, &address), Err(Stop::UnknownRequest), "{address}");
        }
    }
    for version in ["ANY%20WORDS", "canary", "unstable", "v1", "v4", ""] {
        let at = |kind: &str, rest: &str| format!("https://example.org/some/path/_matrix/{kind}/{version}/{rest}");
        assert_eq!(to(&Method::POST, &at("client", "logout")), Err(Stop::UnknownRequest), "{version}");
        assert_eq!(to(&Method::GET, &at("client", "joined_rooms")), Err(Stop::UnknownRequest), "{version}");
        assert_eq!(to(&Method::GET, &at("media", "download/x/y")), Err(Stop::UnknownRequest), "{version}");
    }
    let opaque = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
    for address in [
        "https://example.org/any%20words/_matrix/media/v3/upload",
        "https://example.org/some/path/_matrix/media/canary/upload",
        "https://example.org/some/path/_matrix/media/v3/upload/example.org/any%20words",
    ] {
        let url = Url::parse(address).expect("it is an address");
        let method = if address.ends_with("upload") { Method::POST } else { Method::PUT };
        assert_eq!(judge_upload(&method, &url, &opaque), Err(Stop::UnknownRequest), "{address}");
    }
}

#[test]
fn what_lies_at_the_homeserver_is_our_own_accounts_and_called_by_no_words() {
    let sealed = || json!({ "encrypted": { "id": { "iv": "AA==", "ciphertext": "AA==", "mac": "AA==" } } });
    let put =
        |user: &str, kind: &str, body: &Value| judged(&Method::PUT, &format!("/user/{user}/account_data/{kind}"), body);
    for secret in ["master", "self_signing", "user_signing"] {
        assert_eq!(put("%40a%3Ax", &format!("m.cross_signing.{secret}"), &sealed()), Ok(0), "{secret}");
    }
    for user in ["any%20words", "%40b%3Ax", ""] {
        assert_eq!(put(user, "m.cross_signing.master", &sealed()), Err(Stop::UnknownRequest), "{user}");
        let typing = judged(&Method::PUT, &format!("{ROOM}/typing/{user}"), &json!({ "typing": true }));
        assert_eq!(typing, Err(Stop::UnknownRequest), "{user}");
    }
    assert_eq!(put("%40a%3Ax", "m.cross_signing.any%20words", &sealed()), Err(Stop::UnknownRequest));
    for key in ["any%20words", "any.words", "", &"a".repeat(65)] {
        let kind = format!("m.secret_storage.key.{key}");
        assert_eq!(put("%40a%3Ax", &kind, &json!({ "iv": "AA==" })), Err(Stop::UnknownRequest), "{key}");
    }
    assert_eq!(put("%40a%3Ax", "io.github.sealbridge.age.any%20words", &json!({})), Err(Stop::UnknownRequest));
    let named = json!({ "encrypted": { "any words": { "iv": "AA==", "ciphertext": "AA==", "mac": "AA==" } } });
    assert_eq!(put("%40a%3Ax", "m.cross_signing.master", &named), Err(Stop::ClearSecret));
    // Before it is known whose account it is, nothing says so.
    let nobody = Home::new(&Url::parse("https://example.org/some/path/").expect("it is an address"));
    let uri = format!("{BASE}/user/%40a%3Ax/account_data/m.direct").parse().expect("it is an address");
    assert_eq!(rules::judge(&nobody, &Method::PUT, &uri, b"{}"), Err(Stop::UnknownRequest));
}

#[test]
fn backed_up_key_is_ciphertext_and_the_numbers_that_the_protocol_has() {
    let good = || {
        json!({ "first_message_index": 0, "forwarded_count": 1, "is_verified": false,
            "session_data": { "ephemeral": "AA", "ciphertext": "AA", "mac": "AA" } })
    };
    let put = |body: &Value| judged(&Method::PUT, "/room_keys/keys?version=1", body);
    let of = |room: &str, id: &str, session: &Value| json!({ "rooms": { room: { "sessions": { id: session } } } });
    assert_eq!(put(&of("!r:x", "c2Vzc2lvbg", &good())), Ok(0));
    assert_eq!(put(&of("a canary", "c2Vzc2lvbg", &good())), Err(Stop::ClearSecret));
    assert_eq!(put(&of("!r:x", "a canary", &good())), Err(Stop::ClearSecret));
    for (field, value) in [
        ("body", json!("canary")),
        ("first_message_index", json!("canary")),
        ("forwarded_count", json!({ "canary": 1 })),
        ("is_verified", json!("canary")),
        ("session_data", json!("canary")),
        ("session_data", json!({ "ephemeral": "AA", "ciphertext": "AA" })),
        ("session_data", json!({ "ephemeral": "AA", "ciphertext": "AA", "mac": "a canary" })),
        ("session_data", json!({ "ephemeral": "AA", "ciphertext": "AA", "mac": "AA", "signatures": "canary" })),
    ] {
        let mut session = good();
        session[field] = value;
        assert_eq!(put(&of("!r:x", "c2Vzc2lvbg", &session)), Err(Stop::ClearSecret), "{session}");
    }
    let mut beside = of("!r:x", "c2Vzc2lvbg", &good());
    beside["note"] = json!("canary");
    assert_eq!(put(&beside), Err(Stop::ClearSecret));
    let mut inside = of("!r:x", "c2Vzc2lvbg", &good());
    inside["rooms"]["!r:x"]["note"] = json!("canary");
    assert_eq!(put(&inside), Err(Stop::ClearSecret));
}

#[test]
fn header_that_our_clients_do_not_send_or_that_has_words_does_not_leave() {
    let with = |all: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_static(value));
        }
        home::headers(&headers)
    };
    assert_eq!(with(&[]), Ok(()));
    let ours = [("authorization", "Bearer syt_a-b.c"), ("content-type", "application/json"), ("content-length", "7")];
    assert_eq!(with(&ours), Ok(()));
    for header in [
        ("x-note", "canary"),
        ("cookie", "canary"),
        ("referer", "https://canary.test"),
        ("user-agent", "a canary"),
        ("content-disposition", "attachment; filename=canary"),
        ("content-type", "text/canary"),
        ("content-length", "canary"),
        ("authorization", "Bearer a canary"),
        ("authorization", "Basic canary"),
        ("authorization", "Bearer "),
    ] {
        assert_eq!(with(&[header]), Err(Stop::Header), "{header:?}");
    }
    assert_eq!(with(&[ours[0], ("authorization", "Bearer canary")]), Err(Stop::Header), "said twice");
    let url = Url::parse("https://example.org/some/path/_matrix/media/v3/upload").expect("it is an address");
    let mut opaque =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
    assert_eq!(judge_upload(&Method::POST, &url, &opaque), Ok(()));
    opaque.append("x-note", HeaderValue::from_static("canary"));
    assert_eq!(judge_upload(&Method::POST, &url, &opaque), Err(Stop::Header));
}

#[tokio::test]
async fn guard_judges_the_headers_of_every_request() {
    let guard = super::Guard::new(&Url::parse("https://example.org/some/path/").expect("it is an address"));
    let request = |note: Option<&str>| {
        let mut request = http::Request::post(format!("{BASE}/logout"));
        if let Some(note) = note {
            request = request.header("x-note", note);
        }
        request.body(Vec::new()).expect("it is a request")
    };
    assert!(guard.judge(&request(None)).await.is_ok());
    assert!(guard.judge(&request(Some("canary"))).await.is_err());
    assert_eq!(guard.watch().stopped, [(Stop::Header, 1)].into());
}
