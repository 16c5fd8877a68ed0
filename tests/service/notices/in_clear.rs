//! What is answered where not all is as it is meant to be: what a server that the operator runs reads in clear is not called
//! encrypted, and what arrived in part not arrived.

use std::{fs, os::unix::fs::PermissionsExt as _};

use sealbridge_contract::gate::Encryption;
use sealbridge_lab::http::request;
use sealbridge_loopback::Says;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{mistyped, requests::RAW, scene::Scene};

/// An endpoint that takes whatever is posted to it.
async fn endpoint() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut all, mut piece) = (Vec::new(), [0; 4096]);
                loop {
                    let text = String::from_utf8_lossy(&all).to_ascii_lowercase();
                    let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                    let length: Option<usize> = length.and_then(|length| length.trim().parse().ok());
                    let head = text.find("\r\n\r\n").map(|end| end + 4);
                    if head.zip(length).is_some_and(|(head, length)| all.len() >= head + length) {
                        break;
                    }
                    match stream.read(&mut piece).await {
                        Ok(read) if read > 0 => all.extend_from_slice(&piece[..read]),
                        _ => return,
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_that_an_endpoint_reads_in_clear_is_not_called_encrypted() {
    let port = endpoint().await;
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("ops");
    fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("it is written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("it is private");
    let sections = format!(
        "[accounts.hooks]\nnetwork = \"webhook\"\n[accounts.hooks.endpoints.ops]\nurl = \"http://127.0.0.1:{port}/in\"\n\
         operator_run = true\nsecret_file = {secret:?}\n\
         [sources.both]\nformat = \"raw\"\nto = [\"a/room\", \"hooks/ops\"]\n\
         [sources.room]\nformat = \"raw\"\nto = [\"a/room\"]\n"
    );
    let mut scene = Scene::set(&sections, Says::Encrypted).await;
    let answer = scene.post("/both", &[], "to both").await.json();
    assert_eq!((&answer["status"], &answer["encrypted"]), (&json!("arrived"), &json!(false)), "{answer}");
    assert_eq!(answer["event_ids"].as_array().map(Vec::len), Some(2), "{answer}");
    let heard = scene.heard();
    assert!(heard.len() == 1 && !answer["in_clear"].to_string().contains(heard[0].id.as_str()), "{answer} {heard:?}");
    assert_eq!(answer["in_clear"].as_array().map(Vec::len), Some(1), "{answer}");
    let answer = scene.post("/room", &[], "to the room").await.json();
    assert!(answer["encrypted"] == true && answer["in_clear"].is_null(), "{answer}");
    let sent = mistyped::send(&scene, "hooks", "ops").await.expect("it is posted");
    assert!(sent.lines[0]["encrypted"] == false && sent.words.contains("in clear"), "{sent:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_that_did_not_arrive_everywhere_is_no_plain_success_and_says_why() {
    let section = RAW.replace("[\"a/room\"]", "[\"a/room\", \"a/other\"]");
    let mut scene = Scene::set(&section, Says::Plain).await;
    scene.hub.set_encryption(&scene.room, Says::Encrypted);
    scene.sees(&scene.room, Encryption::Pinned).await;
    scene.sees(&scene.other, Encryption::Absent).await;
    let part = scene.post("/job", &[], "somewhere").await;
    // It is not to come again: where it arrived it would be said twice.
    assert_eq!((part.status, part.json()["status"].as_str()), (200, Some("partly arrived")), "{part:?}");
    assert!(part.json()["refused"][0].as_str().is_some_and(|why| why.contains("not encrypted")), "{part:?}");
    assert_eq!(part.json()["event_ids"].as_array().map(Vec::len), Some(1), "{part:?}");
    let url = format!("http://127.0.0.1:{}{}", scene.port, part.json()["delivery"].as_str().expect("where to look"));
    let look = request("GET", &url, &[], "").await.expect("it is answered");
    assert_eq!(look.json()["status"], "partly arrived", "{look:?}");
    scene.stop().await;
}
