//! Files that can't cross, over networks in memory: what is said with them crosses, and whoever sent them is told why.

use sealbridge_contract::{RemoteId, message::Sort};
use sealbridge_loopback::{Fault, Heard, How, More, Saying, SentFile};

use crate::relations::{Scene, file};

/// What somebody was told of files that stayed behind: which message of theirs it answers, and the words.
fn told(scene: &Scene) -> Vec<(Option<RemoteId>, String)> {
    let heard = scene.ann.heard().into_iter().filter(|heard| heard.words.as_str().contains("did not cross"));
    heard.map(|heard| (heard.reply_to.clone(), heard.words.as_str().to_owned())).collect()
}

/// A file whose hash is another than was said.
fn false_file() -> Saying {
    let wrong = SentFile { name: "x.bin".into(), wrong_hash: Some([0; 32]), content: vec![7], ..SentFile::default() };
    let more = More { file: Some(Box::new(wrong)), ..More::default() };
    Saying::words("look").how(How::File(Sort::File)).more(more)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_keeps_a_file_behind_its_words_cross_and_its_sender_is_told_once() {
    let mut scene = Scene::set("most_file = \"1MiB\"", "full").await;
    let too_large = scene.ann.say_this(&scene.room, file(&vec![1; (1 << 20) + 1]));
    scene.ben_hears("📎 a.png (image/png, 1 MiB) did not cross: it is larger than 1 MiB").await;
    scene.faults().next(Fault::RefuseFile, 1);
    let refused = scene.ann.say_this(&scene.room, file(b"content"));
    scene.ben_hears("📎 a.png (image/png, 7 bytes) did not cross: the far server refuses it\nlook").await;
    // The answer is lost, and it is tried again, by another process at last.
    scene.faults().next(Fault::RefuseFile, 1);
    scene.faults().next(Fault::LoseAnswer, 1);
    scene.faults().next(Fault::Unreachable, 1);
    scene.faults().next(Fault::RefuseFile, 1);
    let twice = scene.ann.say_this(&scene.room, file(b"contents"));
    scene.ben_hears("8 bytes) did not cross").await;
    scene.restart().await;
    let wrong = scene.ann.say_this(&scene.room, false_file());
    let heard = scene.ben_hears("its hash is another").await;
    assert!(heard.words.as_str().ends_with("\nlook") && heard.how == How::Text && heard.more.file.is_none());
    scene.ann_hears("its hash is another; sent once more").await;
    scene.ann.say(&scene.room, "afterwards");
    scene.ben_hears("afterwards").await;
    let told = told(&scene);
    let about: Vec<_> = told.iter().map(|(about, _)| about.clone()).collect();
    assert_eq!(about, [too_large, refused, twice, wrong].map(Some), "{told:?}");
    let lines = scene.ben.heard().into_iter().filter(|heard| heard.words.as_str().contains("did not cross")).count();
    assert_eq!(lines, 4, "each is said once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_with_files_that_stay_behind_is_told_a_few_times_and_others_still_are() {
    let scene = Scene::set("", "full").await;
    for _ in 0..30 {
        scene.ann.say_this(&scene.room, false_file());
    }
    scene.ann.say(&scene.room, "afterwards");
    scene.ben_hears("afterwards").await;
    scene.ann_hears("More files of one person did not cross").await;
    let hub = &scene.hubs[0];
    let dora = hub.person("dora");
    dora.join(&scene.room);
    let doras = dora.say_this(&scene.room, false_file());
    let is = |heard: &Heard| heard.reply_to.as_ref() == Some(&doras) && heard.words.as_str().contains("did not cross");
    Scene::hears(&scene.ann, "that dora is told", is).await;
    // It is told before its words are sent.
    let doras = |heard: &Heard| heard.author.as_ref().is_some_and(|author| author.as_str() == "dora");
    Scene::hears(&scene.ben, "dora's words", doras).await;
    // Ten minutes may end in between, and no more than once.
    let told = told(&scene).len();
    assert!((12..=23).contains(&told), "{told}");
    let lines = scene.ben.heard().into_iter().filter(|heard| heard.words.as_str().contains("did not cross")).count();
    assert_eq!(lines, 31, "the words of each cross all the same");
}
