//! Messages about messages, files and signals on their whole way: a service in this process between two networks in
//! memory.

use std::{sync::Arc, time::Duration};

use sealbridge_contract::{AccountName, ConversationId, RemoteId, Signal, message::Sort};
use sealbridge_loopback::{Fault, Heard, How, LoopbackHub, LoopbackPerson, More, Saying, Says, SentFile};

use crate::running::Running;

const SOON: Duration = Duration::from_secs(20);

/// Ann on one network, Ben on the other, and a service between them that can be stopped and started again.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
    pub(crate) hubs: [LoopbackHub; 2],
    pub(crate) ann: LoopbackPerson,
    pub(crate) ben: LoopbackPerson,
    pub(crate) room: ConversationId,
    link: String,
    datasheet: &'static str,
    running: Option<Running>,
}

impl Scene {
    pub(crate) async fn set(link: &str, datasheet: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hubs = [LoopbackHub::fresh("ours"), LoopbackHub::fresh("theirs")];
        let person = |hub: &LoopbackHub, name: &str| {
            let room = hub.conversation("room", Says::Encrypted);
            let person = hub.person(name);
            person.join(&room);
            person
        };
        let (ann, ben) = (person(&hubs[0], "ann"), person(&hubs[1], "ben"));
        let room = ConversationId::new("room");
        let mut scene = Self { folder, hubs, ann, ben, room, link: link.to_owned(), datasheet, running: None };
        for (hub, name) in scene.hubs.iter().zip(["a", "b"]) {
            hub.join(&AccountName::parse(name).expect("a name"), &scene.room);
        }
        scene.start().await;
        scene
    }

    async fn start(&mut self) {
        let account = |name: &str, hub: &LoopbackHub, extra: &str| {
            format!(
                "[accounts.{name}]\nnetwork = \"loopback\"\nhub = \"{}\"\nconversations = [\"room\"]\n{extra}\n",
                hub.name()
            )
        };
        let theirs = format!("datasheet = \"{}\"", self.datasheet);
        let text = format!(
            "[service]\nstate = {:?}\n{}{}[links.both]\nends = [\"a/room\", \"b/room\"]\n{}\n",
            self.folder.path(),
            account("a", &self.hubs[0], ""),
            account("b", &self.hubs[1], &theirs),
            self.link,
        );
        self.running = Some(Running::start(&text).await);
    }

    async fn stop(&mut self) {
        self.running.take().expect("it runs").stop().await;
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// What a person hears first that is so.
    pub(crate) async fn hears(person: &LoopbackPerson, what: &str, is: impl Fn(&Heard) -> bool) -> Arc<Heard> {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            if let Some(heard) = person.heard().into_iter().find(|heard| is(heard)) {
                return heard;
            }
            assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
            person.hears(person.heard().len() + 1, Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn ben_hears(&self, words: &str) -> Arc<Heard> {
        Self::hears(&self.ben, words, |heard| heard.words.as_str().contains(words)).await
    }

    pub(crate) async fn ann_hears(&self, words: &str) -> Arc<Heard> {
        Self::hears(&self.ann, words, |heard| heard.words.as_str().contains(words)).await
    }

    pub(crate) fn faults(&self) -> Arc<sealbridge_loopback::Faults> {
        self.hubs[1].faults(&AccountName::parse("b").expect("a name"))
    }

    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("spool")).map_or(0, Iterator::count)
    }
}

fn about(how: How, of: &RemoteId, words: &str, emoji: &[&str]) -> Saying {
    let emoji = emoji.iter().map(|emoji| (*emoji).to_owned()).collect();
    Saying::words(words).how(how).more(More { about: Some(of.clone()), emoji, ..More::default() })
}

pub(crate) fn file(content: &[u8]) -> Saying {
    let sent = SentFile {
        name: "../a.png".into(),
        mime: "image/png".into(),
        content: content.to_vec(),
        ..SentFile::default()
    };
    Saying::words("look").how(How::File(Sort::Image)).more(More { file: Some(Box::new(sent)), ..More::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relations_find_their_counterpart_on_messages_of_either_side_before_and_after_a_restart() {
    let mut scene = Scene::set("", "full").await;
    let anns = scene.ann.say(&scene.room, "from ann");
    let bens = scene.ben.say(&scene.room, "from ben");
    let (there, here) = (scene.ben_hears("from ann").await.id.clone(), scene.ann_hears("from ben").await.id.clone());
    for round in ["before", "after"] {
        // Ann edits her own; both react to each other's, from either side.
        scene.ann.say_this(&scene.room, about(How::Edit, &anns, &format!("edited {round}"), &[]));
        let edit = scene.ben_hears(&format!("edited {round}")).await;
        assert_eq!((edit.how, edit.more.about.as_ref()), (How::Edit, Some(&there)));
        for (sayer, hearer, of, expected) in [
            (&scene.ann, &scene.ben, &here, &bens),
            (&scene.ben, &scene.ann, &there, &anns),
            (&scene.ann, &scene.ben, &anns, &there),
        ] {
            let emoji = if round == "before" { "👍" } else { "🎉" };
            sayer.say_this(&scene.room, about(How::Reaction, of, "", &[emoji]));
            let is = |heard: &Heard| {
                heard.how == How::Reaction && heard.more.about.as_ref() == Some(expected) && heard.more.emoji == [emoji]
            };
            Scene::hears(hearer, "the reaction", is).await;
        }
        let answer = Saying::words(&format!("answer {round}")).reply_to(there.clone());
        scene.ben.say_this(&scene.room, answer);
        assert_eq!(scene.ann_hears(&format!("answer {round}")).await.reply_to.as_ref(), Some(&anns));
        if round == "before" {
            scene.restart().await;
        }
    }
    scene.ann.say_this(&scene.room, about(How::Redaction, &anns, "", &[]));
    let gone = Scene::hears(&scene.ben, "the deletion", |heard| heard.how == How::Redaction).await;
    assert_eq!(gone.more.about.as_ref(), Some(&there));
    scene.ben.say_this(&scene.room, about(How::Redaction, &there, "", &[]));
    let gone = Scene::hears(&scene.ann, "the deletion", |heard| heard.how == How::Redaction).await;
    assert_eq!(gone.more.about.as_ref(), Some(&anns));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_at_the_other_side_is_said_and_not_guessed() {
    let scene = Scene::set("", "full").await;
    let nowhere = RemoteId::new("nowhere");
    scene.ann.say_this(&scene.room, about(How::Edit, &nowhere, "new words", &[]));
    let edit = scene.ben_hears("new words").await;
    assert!(edit.words.as_str().contains("not known here") && edit.more.about.is_none() && edit.how == How::Text);
    scene.ann.say_this(&scene.room, about(How::Reaction, &nowhere, "", &["👍"]));
    scene.ben_hears("reacted 👍 to a message that is not known here").await;
    // And whoever said it can find out.
    scene.ann_hears("not known at the other side").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_erases_what_is_still_queued() {
    let scene = Scene::set("", "full").await;
    scene.ann.say(&scene.room, "first");
    scene.ben_hears("first").await;
    scene.faults().set_reachable(false);
    let secret = scene.ann.say(&scene.room, "secret");
    let kept = scene.ann.say(&scene.room, "kept");
    scene.ann.say_this(&scene.room, about(How::Edit, &secret, "secret edited", &[]));
    scene.ann.say_this(&scene.room, about(How::Redaction, &secret, "", &[]));
    scene.ann.say_this(&scene.room, about(How::Reaction, &kept, "", &["👍"]));
    // Ben's network is gone, so that all of it is in the journal once Ann's network has nothing more.
    let deadline = tokio::time::Instant::now() + SOON;
    while scene.hubs[0].waiting_for(&AccountName::parse("a").expect("a name")) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the journal takes it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.faults().set_reachable(true);
    Scene::hears(&scene.ben, "the reaction", |heard| heard.how == How::Reaction).await;
    assert!(!scene.ben.heard().iter().any(|heard| heard.words.as_str().contains("secret")));
    assert!(!scene.ben.heard().iter().any(|heard| heard.how == How::Redaction), "there is nothing to delete there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_of_what_the_network_left_out_still_takes_effect() {
    let mut scene = Scene::set("", "full").await;
    scene.ann.say(&scene.room, "first");
    scene.ben_hears("first").await;
    scene.stop().await;
    let secret = scene.ann.say(&scene.room, "secret");
    scene.ann.say(&scene.room, "kept");
    scene.ann.say_this(&scene.room, about(How::Redaction, &secret, "", &[]));
    scene.hubs[0].limit_answers(&AccountName::parse("a").expect("a name"), Some(1));
    scene.start().await;
    scene.ben_hears("kept").await;
    scene.ann.say(&scene.room, "afterwards");
    scene.ben_hears("afterwards").await;
    let heard = scene.ben.heard();
    assert!(!heard.iter().any(|heard| heard.words.as_str().contains("secret") || heard.how == How::Redaction));
    assert!(!heard.iter().any(|heard| heard.words.as_str().contains("deleted")), "there is nothing to tell of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_of_what_arrived_without_an_answer_deletes_it_there() {
    let scene = Scene::set("", "full").await;
    scene.ann.say(&scene.room, "first");
    scene.ben_hears("first").await;
    scene.faults().next(Fault::LoseAnswer, 1);
    let secret = scene.ann.say(&scene.room, "secret");
    let there = scene.ben_hears("secret").await.id.clone();
    scene.ann.say_this(&scene.room, about(How::Redaction, &secret, "", &[]));
    let gone = Scene::hears(&scene.ben, "the deletion", |heard| heard.how == How::Redaction).await;
    assert_eq!(gone.more.about.as_ref(), Some(&there));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reactions_follow_the_link() {
    let scene = Scene::set("reactions = \"text\"", "full").await;
    let anns = scene.ann.say(&scene.room, "from ann");
    let there = scene.ben_hears("from ann").await.id.clone();
    scene.ann.say_this(&scene.room, about(How::Reaction, &anns, "", &["👍"]));
    let heard = scene.ben_hears("reacted 👍").await;
    assert_eq!((heard.how, heard.reply_to.as_ref()), (How::Notice, Some(&there)));
    scene.ann_hears("Reactions do not cross as they are, but as encrypted words").await;
    let scene = Scene::set("reactions = \"off\"", "full").await;
    let anns = scene.ann.say(&scene.room, "from ann");
    scene.ann.say_this(&scene.room, about(How::Reaction, &anns, "", &["👍"]));
    scene.ann.say_this(&scene.room, about(How::Reaction, &anns, "", &["🎉"]));
    scene.ann.say(&scene.room, "afterwards");
    scene.ben_hears("afterwards").await;
    assert!(!scene.ben.heard().iter().any(|heard| heard.words.as_str().contains("👍") || heard.how == How::Reaction));
    scene.ann_hears("Reactions do not cross").await;
    let told = scene.ann.heard().iter().filter(|heard| heard.words.as_str().contains("Reactions do not")).count();
    assert_eq!(told, 1, "it is told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_crosses_whole_through_the_spool_and_leaves_nothing_behind() {
    let mut scene = Scene::set("most_file = \"1MiB\"", "full").await;
    let content: Vec<u8> = (0..900_000_u32).map(|at| (at % 251) as u8).collect();
    scene.ann.say_this(&scene.room, file(&content));
    let heard = Scene::hears(&scene.ben, "the file", |heard| heard.how == How::File(Sort::Image)).await;
    let got = heard.more.file.as_ref().expect("there is a file");
    assert!(got.content == content && got.name == "a.png" && heard.words.as_str() == "look");
    // One that waits outlives a restart, and one that is too large stays behind.
    scene.faults().set_reachable(false);
    scene.ann.say_this(&scene.room, file(&content[1..]));
    scene.ann.say_this(&scene.room, file(&vec![1; (1 << 20) + 1]));
    scene.restart().await;
    scene.faults().set_reachable(true);
    let is = |heard: &Heard| heard.more.file.as_ref().is_some_and(|file| file.content == content[1..]);
    Scene::hears(&scene.ben, "the second file", is).await;
    scene.ann_hears("A file did not cross").await;
    let deadline = tokio::time::Instant::now() + SOON;
    while scene.files() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "{} files are left", scene.files());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_cross_only_where_the_link_asks_for_them() {
    for (link, crosses) in [("signals = true", true), ("", false)] {
        let scene = Scene::set(link, "full").await;
        let anns = scene.ann.say(&scene.room, "from ann");
        let there = scene.ben_hears("from ann").await.id.clone();
        let ben = scene.ben.id().clone();
        scene.ben.signal(&scene.room, Signal::Read { person: ben.clone(), up_to: there });
        scene.ben.signal(&scene.room, Signal::Typing { person: ben.clone(), typing: true });
        scene.ben.say(&scene.room, "afterwards");
        scene.ann_hears("afterwards").await;
        let deadline = tokio::time::Instant::now() + if crosses { SOON } else { Duration::from_millis(200) };
        while scene.ann.signals().len() < 2 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let expected =
            [Signal::Read { person: ben.clone(), up_to: anns }, Signal::Typing { person: ben, typing: true }];
        assert_eq!(scene.ann.signals(), if crosses { expected.to_vec() } else { Vec::new() });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_of_one_name_are_told_apart() {
    let scene = Scene::set("", "full").await;
    let mallory = scene.hubs[0].person("аnn");
    mallory.join(&scene.room);
    scene.ann.say(&scene.room, "from the first");
    scene.ben_hears("from the first").await;
    mallory.say(&scene.room, "from the second");
    scene.ann.say(&scene.room, "from the first again");
    let name = async |words: &str| {
        let heard = scene.ben_hears(words).await;
        heard.author.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default()
    };
    let (first, second) = (name("from the first again").await, name("from the second").await);
    assert!(first.starts_with("ann (") && second.starts_with("аnn (") && first[4..] != second[5..], "{first} {second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_appear_with_their_own_picture_and_never_with_anything_else() {
    let face = include_bytes!("../../bridges/contract/src/conformance/face.png");
    let mut scene = Scene::set("", "full").await;
    scene.ann.say(&scene.room, "without");
    assert!(scene.ben_hears("without").await.more.portrait.is_none());
    scene.ann.has_picture(face.to_vec());
    scene.faults().set_reachable(false);
    scene.ann.say(&scene.room, "with");
    scene.restart().await;
    scene.faults().set_reachable(true);
    let shown = Scene::hears(&scene.ben, "her face", |heard| heard.words.as_str() == "with").await;
    assert_eq!(shown.more.portrait.as_deref(), Some(face.as_slice()));
    for (number, wrong) in
        [b"<script>".to_vec(), [face.as_slice(), &vec![0; 256 * 1024]].concat()].into_iter().enumerate()
    {
        scene.ann.has_picture(wrong);
        scene.ann.say(&scene.room, &format!("wrong {number}"));
        assert!(scene.ben_hears(&format!("wrong {number}")).await.more.portrait.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_of_a_name_is_told_apart_after_a_restart_too() {
    let mut scene = Scene::set("", "full").await;
    scene.ann.say(&scene.room, "from the first");
    assert_eq!(scene.ben_hears("from the first").await.author.as_ref().map(|name| name.as_str()), Some("ann"));
    scene.restart().await;
    let mallory = scene.hubs[0].person("аnn");
    mallory.join(&scene.room);
    mallory.say(&scene.room, "from the second");
    let second = scene.ben_hears("from the second").await;
    assert!(second.author.as_ref().is_some_and(|name| name.as_str().starts_with("аnn (")), "{:?}", second.author);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_is_carried_passes_for_somebody_who_sits_there_or_for_the_bridge() {
    let scene = Scene::set("", "full").await;
    let author = async |words: &str| {
        let heard = scene.ben_hears(words).await;
        heard.author.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default()
    };
    // Ben has said nothing, and the bridge is called `b` on his network.
    for name in ["Ben", "bеn", "B", "carol"] {
        let stranger = scene.hubs[0].person(name);
        stranger.join(&scene.room);
        stranger.say(&scene.room, &format!("as {name}."));
        let (shown, tagged) = (author(&format!("as {name}.")).await, name != "carol");
        assert_eq!(shown.starts_with(&format!("{name} (")), tagged, "{name} is shown as {shown}");
    }
    // Whoever comes later is not to be taken for them either.
    let carol = scene.hubs[1].person("Carol");
    carol.join(&scene.room);
    scene.hubs[0].person("carol").say(&scene.room, "carol again");
    assert!(author("carol again").await.starts_with("carol ("));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reaction_that_the_network_refuses_is_told_of_as_this_one_and_others_cross_as_they_are() {
    let scene = Scene::set("", "full").await;
    let anns = scene.ann.say(&scene.room, "from ann");
    let there = scene.ben_hears("from ann").await.id.clone();
    for emoji in ["😀", "🎉"] {
        scene.faults().next(Fault::RefuseForm, 1);
        scene.ann.say_this(&scene.room, about(How::Reaction, &anns, "", &[emoji]));
        scene.ben_hears(&format!("reacted {emoji}")).await;
    }
    let words = "Over the link both: One of the reactions did not cross as it is, but as encrypted words that name them: \
                 somebody else reacts with this one already.";
    scene.ann_hears(words).await;
    scene.ann.say_this(&scene.room, about(How::Reaction, &anns, "", &["👍"]));
    let is = |heard: &Heard| heard.how == How::Reaction && heard.more.about.as_ref() == Some(&there);
    Scene::hears(&scene.ben, "the reaction", is).await;
    let heard = scene.ann.heard();
    let told: Vec<_> = heard.iter().map(|heard| heard.words.as_str()).filter(|told| told.contains("cross")).collect();
    assert_eq!(told, [words], "each reason is told once, and nothing is said of others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_network_gets_everything_in_words_and_the_sender_is_told_once() {
    let scene = Scene::set("", "plain").await;
    let anns = scene.ann.say(&scene.room, "from ann");
    scene.ben_hears("from ann").await;
    scene.ann.say_this(&scene.room, about(How::Edit, &anns, "new words", &[]));
    scene.ben_hears("[edited] new words").await;
    scene.ann.say_this(&scene.room, file(b"content"));
    scene.ben_hears("📎 a.png (image/png, 7 bytes)\nlook").await;
    let poll = More { answers: vec!["yes".into(), "no".into()], ..More::default() };
    scene.ann.say_this(&scene.room, Saying::words("Tea?").how(How::Poll).more(poll));
    scene.ben_hears("1. yes\n2. no").await;
    scene.ann.say_this(&scene.room, Saying::words("").how(How::Joined));
    scene.ben_hears("joined the conversation").await;
    scene.ann_hears("Edits do not cross as they are, but as a new message, marked as an edit").await;
    scene.ann_hears("Images do not cross as they are").await;
}
