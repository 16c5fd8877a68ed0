//! Requests that are signed, as they come over the wire.

use sealbridge_loopback::Says;
use serde_json::json;

use super::{
    requests::{alerts, bearer},
    scene::{SECRET, Scene},
};

/// The signature of GitHub's webhooks.
pub(super) fn signed(body: &str) -> String {
    use hmac::Mac as _;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_request_that_somebody_copied_is_said_once_whatever_name_stands_beside_it() {
    let section = "[sources.forge]\nformat = \"github\"\nto = [\"a/room\"]\nsecret_files = [SECRET]\n";
    let mut scene = Scene::set(section, Says::Encrypted).await;
    let body = json!({
        "action": "opened", "sender": { "login": "ann" }, "repository": { "full_name": "a/b", "html_url": "https://x.example/a/b" },
        "issue": { "number": 7, "title": "It breaks", "html_url": "https://x.example/a/b/7", "body": "badly", "user": { "login": "ann" } },
    });
    let body = body.to_string();
    let signature = signed(&body);
    let post = async |scene: &Scene, name: &str, signature: &str| {
        let headers = [
            ("x-github-event", "issues"),
            ("x-github-delivery", name),
            ("x-hub-signature-256", signature),
            ("content-type", "application/json"),
        ];
        scene.post("/forge", &headers, body.clone()).await
    };
    let first = post(&scene, "one", &signature).await;
    assert_eq!(first.status, 200, "{first:?}");
    // The name is not signed; also after a restart.
    scene.stop().await;
    scene.start().await;
    let digits = signature.trim_start_matches("sha256=");
    let written = [signature.clone(), format!("sha256={}", digits.to_ascii_uppercase()), format!("sha256= {digits} ")];
    for (number, signature) in written.iter().enumerate() {
        let again = post(&scene, &format!("another {number}"), signature).await;
        assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]), "{signature}: {again:?}");
    }
    for wrong in ["", "sha256=", "sha256=00", &signed("other"), &signature[..70]] {
        assert_eq!(post(&scene, "third", wrong).await.status, 401, "{wrong}");
    }
    assert_eq!(scene.heard().len(), 1, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grafana_signs_where_the_config_says_and_with_its_time_nothing_else_is_taken() {
    let section = "[sources.graf]\nformat = \"grafana\"\nto = [\"a/room\"]\nsecret_files = [SECRET]\n\
                   signature_header = \"X-Mine\"\ntimestamp_header = \"X-Mine-Time\"\n";
    let mut scene = Scene::set(section, Says::Encrypted).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970").as_secs();
    let body = alerts(&[("db-1", "firing")]);
    let sign = |time: u64| signed(&format!("{time}:{body}")).trim_start_matches("sha256=").to_owned();
    let (time, fresh) = (now.to_string(), sign(now));
    let (long_ago, old) = ((now - 600).to_string(), sign(now - 600));
    let (bearer, json) = (bearer(SECRET), ("content-type", "application/json"));
    let untimed = signed(&body).trim_start_matches("sha256=").to_owned();
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);
    let requests: [Case<'_>; 6] = [
        ("in the usual place", &[("x-grafana-alerting-signature", &fresh), ("x-mine-time", &time)], 401),
        ("without a time", &[("x-mine", &untimed)], 401),
        ("with another time", &[("x-mine", &fresh), ("x-mine-time", &long_ago)], 401),
        ("long ago", &[("x-mine", &old), ("x-mine-time", &long_ago)], 401),
        ("with the secret alone", &[("authorization", &bearer)], 401),
        ("as the config says", &[("x-mine", &fresh), ("x-mine-time", &time)], 200),
    ];
    for (what, headers, status) in requests {
        let headers: Vec<_> = headers.iter().copied().chain([json]).collect();
        let answer = scene.post("/graf", &headers, body.clone()).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    assert_eq!(scene.heard().len(), 1, "{:?}", scene.heard());
    scene.stop().await;
}

/// The signature of Standard Webhooks, which GitLab's signing tokens make, too.
fn standard(id: &str, time: &str, body: &str) -> String {
    use base64::Engine as _;
    use hmac::Mac as _;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
    mac.update(format!("{id}.{time}.{body}").as_bytes());
    format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_request_under_the_name_of_another_is_refused_and_one_that_comes_again_is_said_once() {
    let section = "[sources.std]\nformat = \"standard-webhooks\"\nto = [\"a/room\"]\nsecret_files = [SECRET]\n\
                   [sources.lab]\nformat = \"gitlab\"\nto = [\"a/room\"]\nsecret_files = [SECRET]\n";
    let mut scene = Scene::set(section, Says::Encrypted).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970").as_secs();
    let post = async |path: &str, id: &str, time: u64, words: &str, key: &str| {
        let body = match path {
            "/std" => json!({ "type": "a.b", "data": { "text": words } }),
            _ => json!({ "object_kind": "issue", "object_attributes": { "title": words, "iid": 1, "action": "open" } }),
        };
        let (body, time) = (body.to_string(), time.to_string());
        let signature = standard(id, &time, &body);
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", &time),
            ("webhook-signature", &signature),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        // Without a key the last of them is left out.
        let headers = &headers[..if key.is_empty() { 4 } else { 5 }];
        scene.post(path, headers, body).await
    };
    for path in ["/std", "/lab"] {
        // What is kept of a name and what is kept of a signature are in no order that is the same for all.
        for number in 0..12 {
            let id = format!("msg_{number}");
            let first = post(path, &id, now, "one", "").await;
            assert_eq!(first.status, 200, "{path} {id}: {first:?}");
            let another = post(path, &id, now, "another", "").await;
            assert_eq!(another.status, 409, "{path} {id}: {another:?}");
            // As its sender tries again, with the time of then, and as somebody who copied it.
            for (time, key) in [(now + 1, ""), (now, "of-the-copy")] {
                let again = post(path, &id, time, "one", key).await;
                assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]), "{path} {id}: {again:?}");
            }
        }
    }
    assert_eq!(scene.heard().len(), 24, "{:?}", scene.heard());
    // Another name beside it makes it no part of the first.
    let first = post("/std", "msg_x", now, "one more", "first").await;
    let other = post("/std", "msg_x", now, "and one more", "second").await;
    assert_eq!((first.status, other.status), (200, 200), "{first:?} {other:?}");
    scene.hears("the second", |heard| heard.words.as_str().contains("and one more")).await;
    scene.stop().await;
}
