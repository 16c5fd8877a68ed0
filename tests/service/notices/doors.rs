//! Who is heard at all, and how much is taken in of a request before that is known.

use sealbridge_loopback::Says;

use super::{requests::raw, scene::Scene};

const OPEN: &str = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn source_without_a_secret_is_no_open_door_to_a_page_whose_name_leads_to_this_machine() {
    let mut scene = Scene::set(OPEN, Says::Encrypted).await;
    let port = scene.port;
    let elsewhere = [
        "evil.example",
        "localhost.evil.example",
        "sealbridge",
        "192.168.1.5",
        "[2001:db8::1]",
        "127.0.0.1.evil.example",
        "0.0.0.0",
    ];
    for host in elsewhere.iter().flat_map(|host| [(*host).to_owned(), format!("{host}:{port}")]) {
        let answer = scene.post("/job", &[("host", &host)], "rebound").await;
        assert!(answer.status == 403 && answer.body.contains("a secret"), "{host} {answer:?}");
    }
    let here = ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]"];
    for host in here.iter().flat_map(|host| [(*host).to_owned(), format!("{host}:{port}")]) {
        assert_eq!(scene.post("/job", &[("host", &host)], "from here").await.status, 200, "{host}");
    }
    let old = raw(port, "POST /job HTTP/1.0\r\nContent-Length: 3\r\n\r\n", b"old", 1).await;
    assert!(old.contains(" 200 "), "{old}");
    let two = raw(
        port,
        "POST /job HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nContent-Length: 3\r\n\r\n",
        b"two",
        1,
    )
    .await;
    assert!(!two.contains(" 200 "), "{two}");
    assert_eq!(scene.heard().len(), 11, "{:?}", scene.heard());
    scene.stop().await;
}
