//! What one source can't deliver, or says in great number, takes the room of nobody else.

use sealbridge::operator::{Action, Actor, Progress, perform};
use sealbridge_contract::{Address, ConversationId};
use sealbridge_lab::http::request;
use sealbridge_loopback::{Fault, Says};
use serde_json::Value;

use super::{
    gathered::{host, says},
    scene::{Scene, account},
};

const SOURCES: &str = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\nmost_per_minute = 100000\n\
                       [sources.calm]\nformat = \"raw\"\nto = [\"a/other\"]\n\
                       [journal]\nmost_payload = \"1MiB\"\nmost_files = \"1MiB\"\n";
const KEPT: (&str, &str) = ("prefer", "respond-async");

/// The network takes nothing for this conversation.
fn cut_off(scene: &Scene, conversation: &ConversationId) {
    scene.hub.faults(&account()).next_in(conversation, Fault::Unreachable, 1_000_000);
}

async fn ask(scene: &Scene, action: Action) -> Vec<Value> {
    match perform(host(scene), Actor::Init, action).next(None).await {
        Ok(Progress::Done(done)) => done.lines,
        other => panic!("{other:?}"),
    }
}

/// Posts so many of these at most, until one is not taken. Says how many were.
async fn flood(scene: &Scene, most: usize, headers: &[(&str, &str)], body: impl Fn(usize) -> Vec<u8>) -> usize {
    for number in 0..most {
        let answer = scene.post("/job", headers, body(number)).await;
        match answer.status {
            202 => {}
            503 => {
                assert_eq!(answer.header("retry-after"), Some("5"), "{answer:?}");
                assert!(answer.body.contains("wait already, as many as may"), "{answer:?}");
                return number;
            }
            _ => panic!("{number}: {answer:?}"),
        }
    }
    panic!("it is never told to come later");
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_floods_a_conversation_out_of_reach_is_told_to_come_later_and_others_go_on() {
    let mut scene = Scene::set(SOURCES, Says::Encrypted).await;
    cut_off(&scene, &scene.room);
    let taken = flood(&scene, 500, &[KEPT], |number| format!("{number:04} {}", "x".repeat(4000)).into_bytes()).await;
    assert!((32..200).contains(&taken), "{taken} were taken");
    // Nothing was lost of what was taken, nothing more is, and nobody else is kept from anything.
    assert_eq!(scene.post("/job", &[], "one more").await.status, 503);
    assert_eq!(scene.post("/calm", &[], "all is well").await.status, 200);
    scene.hears("the other source", |heard| says(heard, "all is well")).await;
    let found = ask(&scene, Action::Doctor).await;
    let of_job = found.iter().find(|line| line["topic"] == "source job").expect("it is told of");
    assert!(of_job["state"] == "bad" && of_job["words"].as_str().is_some_and(|words| words.contains("messages wait")));
    assert!(!found.iter().any(|line| line["topic"] == "source calm"), "{found:?}");
    let status = ask(&scene, Action::Status).await.remove(0);
    let of_job = |line: &&Value| line["source"] == "job";
    let line = status["sources"].as_array().and_then(|lines| lines.iter().find(of_job)).expect("it is told of");
    assert!(line["share_taken"] == true && line["waiting"] == taken, "{line}");

    scene.hub.faults(&account()).clear();
    scene.hears("the last that was taken", |heard| says(heard, &format!("{:04} ", taken - 1))).await;
    let room = Address { account: account(), conversation: scene.room.clone() };
    for number in 0..taken {
        let heard = scene.heard().iter().filter(|heard| says(heard, &format!("{number:04} "))).count();
        assert_eq!(heard, 1, "{number} in {room}");
    }
    assert_eq!(scene.post("/job", &[], "at last").await.status, 200);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cant_be_delivered_leave_room_for_those_of_others() {
    let mut scene = Scene::set(SOURCES, Says::Encrypted).await;
    cut_off(&scene, &scene.room);
    let file = [("x-filename", "photo.bin"), KEPT];
    let taken = flood(&scene, 100, &file, |_| vec![0xff; 9000]).await;
    // A quarter of the room that there is for files.
    assert!((29..=30).contains(&taken), "{taken} were taken");
    let url = format!("http://127.0.0.1:{}/calm", scene.port);
    let answer = request("POST", &url, &file[..1], vec![0xfe; 60_000]).await.expect("it is answered");
    assert_eq!(answer.status, 200, "{answer:?}");
    scene.stop().await;
}
