//! Changes of what was said earlier.

use sealbridge_lab::http::{Answered, request};
use sealbridge_loopback::{How, Says};

use super::{scene::Scene, several::source};

async fn patch(scene: &Scene, source: &str, id: &str, words: &str) -> Answered {
    let url = format!("http://127.0.0.1:{}/{source}/api/webhooks/1/x/messages/{id}", scene.port);
    let body = serde_json::json!({ "content": words }).to_string();
    request("PATCH", &url, &[("content-type", "application/json")], body).await.expect("it is answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_a_message_that_never_was_is_refused_as_discord_does_and_says_nothing() {
    let sections = [source("chat", "discord", ""), source("other", "discord", "")].concat();
    let mut scene = Scene::set(&sections, Says::Encrypted).await;
    let post = async |source: &str| {
        let json = [("content-type", "application/json")];
        let said = scene.post(&format!("/{source}/api/webhooks/1/x?wait=true"), &json, "{\"content\":\"one\"}").await;
        assert_eq!(said.status, 200, "{said:?}");
        said.json()["id"].as_str().expect("it has a name").to_owned()
    };
    let (own, anothers) = (post("chat").await, post("other").await);
    for unknown in ["123456789", &anothers] {
        let answer = patch(&scene, "chat", unknown, "two").await;
        assert_eq!((answer.status, &answer.json()["code"]), (404, &10008.into()), "{unknown}: {answer:?}");
    }
    assert_eq!(scene.heard().len(), 2, "{:?}", scene.heard());
    // What was said is known after a restart, too.
    scene.stop().await;
    scene.start().await;
    let answer = patch(&scene, "chat", &own, "three").await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &own.clone().into()), "{answer:?}");
    scene.hears("the change", |heard| heard.how == How::Edit && heard.words.as_str() == "three").await;
    assert_eq!(scene.heard().len(), 3, "{:?}", scene.heard());
    scene.stop().await;
}
