//! Words that are longer than what crosses, over networks in memory: whoever wrote them is told, in an answer.

use sealbridge_contract::RemoteId;

use crate::relations::Scene;

fn long(kibibytes: usize) -> String {
    "x".repeat(kibibytes << 10)
}

/// What Ann was told of what did not cross: which message of hers it answers, and the words.
fn told(scene: &Scene) -> Vec<(Option<RemoteId>, String)> {
    let heard = scene.ann.heard().into_iter().filter(|heard| heard.words.as_str().contains("did not cross"));
    heard.map(|heard| (heard.reply_to.clone(), heard.words.as_str().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_more_than_the_link_lets_through_is_told_how_much_that_is_in_an_answer() {
    let scene = Scene::set("most_bytes = \"1KiB\"", "full").await;
    let too_long = scene.ann.say(&scene.room, &long(2));
    let notice = "A message did not cross: it is longer than what crosses. The most is 1 KiB.";
    scene.ann_hears(notice).await;
    scene.ann.say(&scene.room, "afterwards");
    scene.ben_hears("afterwards").await;
    assert_eq!(told(&scene), [(Some(too_long), notice.to_owned())]);
    assert!(scene.ben.heard().iter().all(|heard| !heard.words.as_str().contains("xxx")), "nothing of it crosses");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_more_than_the_network_takes_is_told_once_in_an_answer_and_nothing_is_cut() {
    let mut scene = Scene::set("most_bytes = \"1MiB\"", "full").await;
    let too_long = scene.ann.say(&scene.room, &long(65));
    scene.ann_hears("Over the link both: A message did not cross: it is longer than 64 KiB").await;
    scene.restart().await;
    scene.ann.say(&scene.room, &format!("{} afterwards", long(60)));
    scene.ben_hears("afterwards").await;
    let told_of: Vec<_> = told(&scene).into_iter().map(|(about, _)| about).collect();
    assert_eq!(told_of, [Some(too_long)]);
    assert_eq!(scene.ben.heard().iter().filter(|heard| heard.words.as_str().contains("xxx")).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_with_words_that_are_too_long_is_told_a_few_times() {
    let scene = Scene::set("most_bytes = \"1MiB\"", "full").await;
    for _ in 0..30 {
        scene.ann.say(&scene.room, &long(65));
    }
    scene.ann.say(&scene.room, "afterwards");
    scene.ben_hears("afterwards").await;
    scene.ann_hears("More long messages of one person did not cross").await;
    // Ten minutes may end in between, and no more than once.
    let told = told(&scene).len();
    assert!((11..=22).contains(&told), "{told}");
}
