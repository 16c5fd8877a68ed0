//! The same words of a source again: one message, which says how often they came.

use std::sync::Arc;

use sealbridge_contract::gate::Encryption;
use sealbridge_lab::http::Answered;
use sealbridge_loopback::{Fault, Heard, How, Says};

use super::{
    gathered::{host, quiet, says, shift},
    scene::{Scene, account},
};

const JOB: &str = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\nfold_for = \"1h\"\n";
const MINUTE: i64 = 60_000;
const CRITICAL: (&str, &str) = ("x-severity", "critical");

fn event(answer: &Answered) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["event_ids"][0].as_str().expect("an event").to_owned()
}

/// Messages of their own, and edits.
fn parts(scene: &Scene) -> (Vec<Arc<Heard>>, Vec<Arc<Heard>>) {
    scene.heard().into_iter().partition(|heard| heard.how != How::Edit)
}

#[tokio::test(flavor = "multi_thread")]
async fn same_words_again_edit_their_message_which_counts_each_request_once_over_a_restart() {
    let mut scene = Scene::set(JOB, Says::Encrypted).await;
    let post = async |scene: &Scene, key: &str, words: &str| {
        event(&scene.post("/job", &[CRITICAL, ("idempotency-key", key)], words.to_owned()).await)
    };
    let first = post(&scene, "1", "the backup failed").await;
    assert_eq!(post(&scene, "2", "the backup failed").await, first, "its message is told of");
    scene.stop().await;
    scene.start().await;
    assert_eq!(post(&scene, "2", "the backup failed").await, first, "it is the same request");
    assert_eq!(post(&scene, "3", "the backup failed").await, first);
    let last = scene.hears("the count", |heard| says(heard, "🔁 ×3, last at 20")).await;
    assert!(says(&last, "the backup failed") && last.how == How::Edit, "{last:?}");
    assert_eq!(last.more.about.as_ref().map(|about| about.as_str()), Some(first.as_str()));
    // Other words, and the same of another severity, are others.
    assert_ne!(post(&scene, "4", "the backup went well").await, first);
    assert_ne!(event(&scene.post("/job", &[], "the backup failed").await), first);
    let (own, edits) = parts(&scene);
    assert_eq!((own.len(), edits.len()), (3, 2), "{:?}", scene.heard());
    assert!(own[0].how == How::Text && !says(&own[0], "🔁"), "{own:?}");
    // After the time they are said anew, and counted anew.
    shift(&scene, 61 * MINUTE);
    let anew = post(&scene, "5", "the backup failed").await;
    assert_ne!(anew, first);
    assert_eq!(post(&scene, "6", "the backup failed").await, anew);
    scene.hears("the new count", |heard| says(heard, "🔁 ×2")).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_wait_are_said_once_with_how_often_they_came() {
    let mut scene = Scene::set(JOB, Says::Encrypted).await;
    scene.hub.faults(&account()).next_in(&scene.room, Fault::Unreachable, 1_000_000);
    for number in 0..5 {
        let answer = scene.post("/job", &[CRITICAL, ("prefer", "respond-async")], "the house is on fire").await;
        assert_eq!(answer.status, 202, "{number}: {answer:?}");
    }
    // Of two at once the one that the other replaces is counted by that, so it is kept, too.
    let [one, two] = [(); 2].map(|()| scene.post("/job", &[CRITICAL], "the house is on fire"));
    let (one, two) = tokio::join!(one, two);
    assert_eq!((one.status, two.status), (202, 202), "{one:?} {two:?}");
    scene.hub.faults(&account()).clear();
    scene.hears("the count", |heard| says(heard, "🔁 ×7")).await;
    let (own, edits) = parts(&scene);
    assert!(own.len() == 1 && !edits.is_empty(), "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_could_be_said_nowhere_are_said_once_they_can() {
    let mut scene = Scene::waiting(JOB, Says::Encrypted, "30s").await;
    // Nothing of the bridge's own waits any more, so that what waits is the notice.
    assert_eq!(scene.post("/job", &[], "before").await.status, 200);
    // It is kept, and taken back when its conversation is lost while it waits.
    scene.hub.faults(&account()).next_in(&scene.room, Fault::Unreachable, 1_000_000);
    let (answer, ()) = tokio::join!(scene.post("/job", &[CRITICAL], "the house is on fire"), async {
        super::kept::on_its_way(&scene, true).await;
        scene.hub.kick(&account(), &scene.room);
    });
    assert!([409, 503].contains(&answer.status), "{answer:?}");
    super::kept::back(&scene);
    scene.sees(&scene.room, Encryption::Pinned).await;
    let again = scene.post("/job", &[CRITICAL], "the house is on fire").await;
    let heard = scene.hears("them", |heard| says(heard, "on fire")).await;
    assert!(heard.how == How::Text && !says(&heard, "🔁") && event(&again) == heard.id.as_str(), "{heard:?} {again:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_whose_first_message_came_nowhere_after_its_sender_was_answered_are_no_edit_of_it() {
    let mut scene = Scene::set(JOB, Says::Encrypted).await;
    // Nothing of the bridge's own waits any more, so that what is refused is the notice.
    assert_eq!(scene.post("/job", &[], "before").await.status, 200);
    scene.hub.faults(&account()).next_in(&scene.room, Fault::Refuse, 1);
    let answer = scene.post("/job", &[CRITICAL, ("prefer", "respond-async")], "the house is on fire").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let host = host(&scene);
    while host.journal().dead_letters(0, 10).await.expect("the journal answers").is_empty() {
        tokio::task::yield_now().await;
    }
    let again = scene.post("/job", &[CRITICAL], "the house is on fire").await;
    let heard = scene.hears("them", |heard| says(heard, "on fire")).await;
    assert!(heard.how == How::Text && !says(&heard, "🔁") && event(&again) == heard.id.as_str(), "{heard:?} {again:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_again_are_counted_in_their_message_in_a_burst_and_in_quiet_hours_too() {
    let mut scene = Scene::set(&format!("{JOB}burst = 2\n{}", quiet(60, 120)), Says::Encrypted).await;
    let post = async |scene: &Scene, words: &str| scene.post("/job", &[], words.to_owned()).await.status;
    assert_eq!(post(&scene, "the backup failed").await, 200);
    assert_eq!(post(&scene, "the backup failed").await, 200);
    assert_eq!(post(&scene, "another").await, 200, "an edit is no part of a burst");
    assert_eq!((post(&scene, "one more").await, post(&scene, "one more").await), (202, 202));
    // Hours are written to the minute, so they may begin a minute sooner than they seem to.
    shift(&scene, 57 * MINUTE);
    scene.hears("the digest", |heard| says(heard, "2 notices")).await;
    assert_eq!(post(&scene, "said in the evening").await, 200);
    shift(&scene, 4 * MINUTE);
    assert_eq!(post(&scene, "said in the evening").await, 200, "an edit calls nobody");
    scene.hears("the count", |heard| says(heard, "said in the evening") && says(heard, "🔁 ×2")).await;
    assert_eq!(post(&scene, "news of the night").await, 202);
    assert_eq!(post(&scene, "another").await, 202, "its hour is over");
    scene.stop().await;
}
