//! Commands that people say in conversations: a service in this process between two networks in memory, with an admin, a
//! moderator and a stranger in the room.

use std::{sync::Arc, time::Duration};

use sealbridge::{
    flow::commands,
    store::{Journal, Limits, Link, Routed, Router, Said, sqlite::SqliteJournal},
};
use sealbridge_contract::{
    AccountName, Address, Arrival, Arrived, Batch, Cleartext, Clock, ConversationId, DeliveryId, Message, RemoteId,
    RootKey, SenderTrust, Timestamp, Trail, Vault,
    inbox::{Incoming, Parcel},
    message::Sort,
    trail::Mark,
};
use sealbridge_loopback::{Fault, Heard, How, LoopbackHub, LoopbackPerson, More, Saying, Says, SentFile};
use serde_json::Value;

use crate::running::{ROOT, Running};

const SOON: Duration = Duration::from_secs(20);

/// Ann, who is an admin, Mia, who moderates, and Eve in one room; Ben in the other; and a service between them.
struct Scene {
    folder: tempfile::TempDir,
    hubs: [LoopbackHub; 2],
    ann: LoopbackPerson,
    mia: LoopbackPerson,
    eve: LoopbackPerson,
    ben: LoopbackPerson,
    room: ConversationId,
    link: &'static str,
    running: Option<Running>,
}

const FIXED: &str = "[links.both]\nends = [\"a/room\", \"b/room\"]\n";

impl Scene {
    async fn set(link: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hubs = [LoopbackHub::fresh("ours"), LoopbackHub::fresh("theirs")];
        let room = ConversationId::new("room");
        let person = |hub: &LoopbackHub, name: &str| {
            let person = hub.person(name);
            person.join(&hub.conversation("room", Says::Encrypted));
            person
        };
        let [ann, mia, eve] = ["ann", "mia", "eve"].map(|name| person(&hubs[0], name));
        let ben = person(&hubs[1], "ben");
        hubs[0].raise(mia.id(), &room, 50);
        hubs[0].raise(eve.id(), &room, 49);
        let mut scene = Self { folder, hubs, ann, mia, eve, ben, room, link, running: None };
        for (hub, name) in scene.hubs.iter().zip(["a", "b"]) {
            hub.join(&account(name), &scene.room);
        }
        scene.start().await;
        scene
    }

    fn text(&self) -> String {
        let section = |name: &str, hub: &LoopbackHub| {
            format!("[accounts.{name}]\nnetwork = \"loopback\"\nhub = \"{}\"\nconversations = [\"room\"]\n", hub.name())
        };
        format!(
            "[service]\nstate = {:?}\n{}{}{}[operator.admins.ann]\naccount = \"a\"\nperson = {:?}\n",
            self.folder.path(),
            section("a", &self.hubs[0]),
            section("b", &self.hubs[1]),
            self.link,
            self.ann.id().as_str(),
        )
    }

    async fn start(&mut self) {
        self.running = Some(Running::start(&self.text()).await);
    }

    async fn stop(&mut self) {
        self.running.take().expect("it runs").stop().await;
    }

    /// A conversation of these people with the account `a`, which nothing is carried from.
    async fn chat(&self, name: &str, people: &[&LoopbackPerson]) -> ConversationId {
        let chat = self.hubs[0].conversation(name, Says::Encrypted);
        for person in people {
            person.join(&chat);
        }
        self.hubs[0].join(&account("a"), &chat);
        chat
    }

    /// What is answered to a message.
    async fn answer(&self, to: &RemoteId) -> String {
        let heard = hears(&self.ann, "an answer", |heard| heard.reply_to.as_ref() == Some(to)).await;
        assert_eq!(heard.how, How::Notice, "what a bridge says, no bridge obeys");
        assert!(heard.author.is_none());
        heard.words.as_str().to_owned()
    }

    async fn asks(&self, who: &LoopbackPerson, words: &str) -> String {
        self.answer(&who.say(&self.room, words)).await
    }

    /// What Ben heard of Ann's and Eve's and Mia's words, once `last` has come over.
    async fn crossed(&self, last: &str) -> Vec<String> {
        self.ann.say(&self.room, last);
        hears(&self.ben, last, |heard| heard.words.as_str() == last).await;
        let people = self.ben.heard().into_iter().filter(|heard| heard.author.is_some());
        people.map(|heard| heard.words.as_str().to_owned()).collect()
    }

    /// What came to an end, one way or the other.
    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
        lines.filter(|line| line["outcome"] != "begun").collect()
    }
}

async fn hears(person: &LoopbackPerson, what: &str, is: impl Fn(&Heard) -> bool) -> Arc<Heard> {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(heard) = person.heard().into_iter().find(|heard| is(heard)) {
            return heard;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        person.hears(person.heard().len() + 1, Duration::from_millis(100)).await;
    }
}

fn account(name: &str) -> AccountName {
    AccountName::parse(name).expect("it is a name")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_pauses_resumes_and_asks_in_the_room_and_nothing_of_it_crosses() {
    let scene = Scene::set(FIXED).await;
    let paused = scene.asks(&scene.ann, "!seal pause").await;
    assert!(paused.contains("`both` is paused") && !paused.contains("b/room"), "{paused}");
    scene.eve.say(&scene.room, "while it is paused");
    let status = scene.asks(&scene.ann, "!seal status").await;
    assert!(status.contains("off: paused by the operator") && !status.contains("b/room"), "{status}");
    let resumed = scene.asks(&scene.ann, "!seal resume").await;
    assert!(resumed.contains("goes on"), "{resumed}");
    assert!(scene.asks(&scene.ann, "!seal puase").await.contains("`!seal pause`"));
    assert!(scene.asks(&scene.ann, "!seal").await.contains("`!seal unlink [LINK]`"));
    let verify = scene.asks(&scene.ann, "!seal verify").await;
    assert!(verify.contains("sealbridge verify a ann@"), "{verify}");
    // What only looks like one is an ordinary word.
    scene.ann.say(&scene.room, "!sealed it is");
    scene.ann.say(&scene.room, "say !seal pause to it");
    let crossed = scene.crossed("the end").await;
    assert_eq!(crossed, ["while it is paused", "!sealed it is", "say !seal pause to it", "the end"]);
    let actions: Vec<_> = scene.audit().iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["pause_link", "show_link", "resume_link", "verify"]);
    let by = serde_json::json!({ "person": scene.ann.id(), "at": { "account": "a", "conversation": "room" } });
    assert!(scene.audit().iter().all(|line| line["by"]["person"] == by), "{:?}", scene.audit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stranger_is_refused_once_and_a_moderator_gets_what_changes_nothing() {
    let scene = Scene::set(FIXED).await;
    let first = scene.asks(&scene.eve, "!seal pause").await;
    assert!(first.contains("Only the operator's admins"), "{first}");
    let more: Vec<_> = (0..5).map(|_| scene.eve.say(&scene.room, "!seal pause")).collect();
    let status = scene.asks(&scene.mia, "!seal status").await;
    assert!(status.contains("`both` is on") && !status.contains("b/room"), "{status}");
    let refused = scene.asks(&scene.mia, "!seal pause").await;
    assert!(refused.contains("Only the operator's admins"), "{refused}");
    let odd = scene.asks(&scene.mia, "!seal why what-nobody-else-may-read").await;
    assert!(odd.contains("not known"), "{odd}");
    let help = scene.asks(&scene.mia, "!seal help").await;
    assert!(help.contains("!seal why") && !help.contains("unlink"), "{help}");
    assert_eq!(scene.crossed("still on").await, ["still on"]);
    let answered = |id: &RemoteId| scene.ann.heard().iter().any(|heard| heard.reply_to.as_ref() == Some(id));
    assert!(!more.iter().any(answered), "one answer an hour is enough");
    let audit = scene.audit();
    let (refused, looked): (Vec<_>, Vec<_>) = audit.iter().partition(|line| line["action"] == "command");
    assert_eq!(looked.iter().map(|line| line["action"].clone()).collect::<Vec<_>>(), ["show_link", "why"]);
    assert_eq!((&looked[1]["outcome"], &looked[1]["with"]), (&"refused".into(), &serde_json::json!({})), "{looked:?}");
    assert_eq!(looked[0]["by"]["person"]["person"], scene.mia.id().as_str(), "who was told is written down");
    let refusals: Vec<_> = refused.iter().map(|line| (line["word"].clone(), line["why"].clone())).collect();
    let stranger = (Value::from("pause"), Value::from("Stranger"));
    let mut expected = vec![stranger; 6];
    expected.push(("pause".into(), "NoAdmin".into()));
    assert_eq!(refusals, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_floods_the_bridge_with_commands_takes_nothing_from_an_admin() {
    let mut scene = Scene::set(FIXED).await;
    scene.stop().await;
    for number in 0..60 {
        scene.eve.say(&scene.room, &format!("!seal flood {number}"));
    }
    let pause = scene.ann.say(&scene.room, "!seal pause");
    scene.start().await;
    let paused = scene.answer(&pause).await;
    assert!(paused.contains("is paused"), "{paused}");
    // What is not said to Eve, since it was said within the hour, uses up no answers either.
    for number in 0..60 {
        let asked = scene.eve.say(&scene.room, &format!("!seal status {number}"));
        if number % 20 == 19 {
            let status = scene.asks(&scene.ann, "!seal status").await;
            assert!(status.contains("paused"), "after {asked:?}: {status}");
        }
    }
    // Whoever may ask leaves an admin's answers alone: with those of the two others these would be all that are given.
    for _ in 0..25 {
        scene.asks(&scene.mia, "!seal status").await;
    }
    let resumed = scene.asks(&scene.ann, "!seal resume").await;
    assert!(resumed.contains("both"), "{resumed}");
    let written = scene.audit().iter().filter(|line| line["action"] == "pause_link").count();
    assert!(written > 0, "{:?}", scene.audit());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_in_doubt_is_answered_and_never_done() {
    let scene = Scene::set(FIXED).await;
    let mark = Mark { delivery: DeliveryId::random(), tag: [7; 16] };
    let pause = || Saying::words("!seal pause");
    for (saying, why) in [
        (pause().trust(SenderTrust::Unsigned), "nobody can tell"),
        (pause().trust(SenderTrust::NotProven), ""),
        (pause().trail(Trail::default().with(mark)), "carried here for somebody else"),
        (pause().trail(Trail::default().for_another(true)), ""),
        (Saying::words("!seal pause\nresume"), "one short line"),
    ] {
        let id = scene.ann.say_this(&scene.room, saying);
        if !why.is_empty() {
            let answer = scene.answer(&id).await;
            assert!(answer.contains(why), "{answer}");
        }
    }
    assert_eq!(scene.crossed("still on").await, ["still on"]);
    let why: Vec<_> = scene.audit().iter().map(|line| line["why"].clone()).collect();
    assert_eq!(why, ["NotProven", "NotProven", "Relayed", "Relayed", "NotOneLine"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_of_its_own_is_no_command() {
    let scene = Scene::set(FIXED).await;
    let first = scene.ann.say(&scene.room, "first");
    let about = |emoji: &[&str]| {
        let emoji = emoji.iter().map(|emoji| (*emoji).to_owned()).collect();
        More { about: Some(first.clone()), emoji, ..More::default() }
    };
    let file = SentFile { name: "a.png".into(), mime: "image/png".into(), content: vec![1], ..SentFile::default() };
    let file = More { file: Some(Box::new(file)), ..More::default() };
    let pause = || Saying::words("!seal pause");
    let deeds = [
        pause().how(How::Notice),
        pause().how(How::Emote),
        pause().how(How::Edit).more(about(&[])),
        pause().how(How::File(Sort::Image)).more(file),
        Saying::words("").how(How::Reaction).more(about(&["!seal pause"])),
        Saying::words("!seal pause").in_clear(),
    ];
    for deed in deeds {
        scene.ann.say_this(&scene.room, deed);
    }
    scene.crossed("still on").await;
    assert_eq!(scene.audit(), Vec::<Value>::new());
    assert!(!scene.ann.heard().iter().any(|heard| heard.reply_to.is_some()), "nobody was answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_that_a_server_repeats_is_done_once_and_its_edit_neither_done_nor_carried() {
    let scene = Scene::set(FIXED).await;
    let said = scene.ann.say(&scene.room, "!seal pause");
    scene.answer(&said).await;
    assert!(scene.asks(&scene.ann, "!seal resume").await.contains("goes on"));
    scene.ann.replay(&said, &scene.room).expect("it was said just now");
    let more = More { about: Some(said.clone()), ..More::default() };
    scene.ann.say_this(&scene.room, Saying::words("!seal pause, please").how(How::Edit).more(more));
    assert_eq!(scene.crossed("still on").await, ["still on"]);
    assert_eq!(scene.audit().len(), 2, "{:?}", scene.audit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_is_made_and_taken_away_in_a_direct_chat_and_nowhere_else() {
    let scene = Scene::set("").await;
    let alone = scene.chat("alone", &[&scene.ann]).await;
    let three = scene.chat("three", &[&scene.ann, &scene.eve]).await;
    let eves = scene.chat("eves", &[&scene.eve]).await;
    let say = "!seal link new a/room b/room";
    scene.eve.say(&eves, "!seal status");
    let refused = scene.answer(&scene.ann.say(&three, say)).await;
    assert!(refused.contains("no direct encrypted chat"), "{refused}");
    let made = scene.answer(&scene.ann.say(&alone, say)).await;
    assert!(made.contains("`new` is made") && made.contains("b/room"), "{made}");
    assert_eq!(scene.crossed("it crosses").await, ["it crosses"]);
    let status = scene.answer(&scene.ann.say(&alone, "!seal status")).await;
    assert!(status.contains("links: 1"), "{status}");
    let here = scene.asks(&scene.ann, "!seal link more a/room b/other").await;
    assert!(here.contains("direct encrypted chat"), "{here}");
    let gone = scene.asks(&scene.ann, "!seal unlink").await;
    assert!(gone.contains("`new` is removed"), "{gone}");
    scene.ann.say(&scene.room, "not any more");
    let links = scene.answer(&scene.ann.say(&alone, "!seal status")).await;
    assert!(links.contains("links: 0"), "{links}");
    assert!(!scene.eve.heard().iter().any(|heard| heard.conversation == eves), "nobody answers a stranger there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_says_what_became_of_a_message_and_retry_sends_it_again() {
    let scene = Scene::set(FIXED).await;
    // The first words of the bridge itself have come over.
    scene.crossed("it runs").await;
    scene.hubs[1].faults(&account("b")).next(Fault::Refuse, 1);
    let refused = scene.mia.say(&scene.room, "a secret that is refused");
    let fine = scene.eve.say(&scene.room, "fine");
    hears(&scene.ben, "the later one", |heard| heard.words.as_str() == "fine").await;
    let ask = async |who: &LoopbackPerson, words: &str, about: &RemoteId| {
        scene.answer(&who.say_this(&scene.room, Saying::words(words).reply_to(about.clone()))).await
    };
    let own = ask(&scene.mia, "!seal why", &refused).await;
    assert!(own.contains("Dead letter") && own.contains("the other side") && !own.contains("b/room"), "{own}");
    assert!(!own.contains("secret"), "{own}");
    let others = ask(&scene.mia, "!seal why", &fine).await;
    assert!(others.contains("not known as a message of yours"), "{others}");
    let admins = ask(&scene.ann, "!seal why", &fine).await;
    assert!(admins.contains("Delivered: the other side by the link `both`"), "{admins}");
    let none = ask(&scene.ann, "!seal retry", &fine).await;
    assert!(none.contains("no dead letter is left"), "{none}");
    let strange = scene.asks(&scene.ann, "!seal retry 99999").await;
    assert!(strange.contains("there is no dead letter 99999"), "{strange}");
    let retried = ask(&scene.ann, "!seal retry", &refused).await;
    assert!(retried.contains("on its way again"), "{retried}");
    hears(&scene.ben, "what was refused", |heard| heard.words.as_str() == "a secret that is refused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_whose_key_comes_a_moment_late_is_done_in_a_room_and_in_a_direct_chat() {
    let scene = Scene::set(FIXED).await;
    let alone = scene.chat("alone", &[&scene.ann]).await;
    for place in [&alone, &scene.room] {
        let said = scene.ann.say_this(place, Saying::words("!seal status").needs_key("late"));
        let before = scene.ann.say(place, "!seal help");
        scene.answer(&before).await;
        scene.hubs[0].share_key(place, "late");
        let status = scene.answer(&said).await;
        assert!(status.contains("links: 1") || status.contains("`both` is on"), "{status}");
    }
}

/// Takes commands in as the service does, and carries nothing.
struct Taking(Clock);

impl Router for Taking {
    fn linked_since(&self, _from: &Address) -> Option<Timestamp> {
        Some(Timestamp(0))
    }
    fn route(&self, _from: &Address, _id: &RemoteId, _message: &Cleartext, _trust: SenderTrust) -> Vec<Routed> {
        Vec::new()
    }
    fn said_to_us(&self, _from: &Address, incoming: &Incoming, history: bool) -> Option<Said> {
        commands::hear(incoming, history, self.0.now())
    }
    fn open(&self, _from: &Address, _parcel: &Parcel) -> Option<(DeliveryId, Cleartext)> {
        None
    }
    fn links_are(&self, _links: Vec<Link>) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_that_a_crash_broke_off_is_not_done_again_and_its_asker_is_told() {
    let mut scene = Scene::set(FIXED).await;
    scene.crossed("it runs").await;
    scene.stop().await;
    // The process dies twice: once after it took a command in, once after it began to do one.
    let said = [scene.ann.say(&scene.room, "!seal pause"), scene.ann.say(&scene.room, "!seal status")];
    let clock = Clock::system();
    let (vault, router) = (Vault::new(RootKey::new(ROOT)), Arc::new(Taking(clock.clone())));
    let journal = SqliteJournal::open(scene.folder.path(), vault, router, Limits::default(), clock.clone());
    let journal = journal.expect("it opens");
    for (id, words) in said.iter().zip(["!seal pause", "!seal status"]) {
        let author = sealbridge_contract::Author { id: scene.ann.id().clone(), name: None };
        let message = Cleartext::new(Message::text(author, clock.now(), words));
        let (trust, identity, once) = (SenderTrust::Proven, None, None);
        let what = Arrived::Message(Incoming { id: id.clone(), message, trust, identity, once });
        let arrivals = vec![Arrival { conversation: scene.room.clone(), what }];
        journal.accept(&account("a"), Batch { arrivals, ..Batch::default() }).await.expect("there is room");
    }
    let waiting = journal.commands(10).await.expect("the journal reads");
    journal.begin(waiting[0].number).await.expect("it waits");
    journal.close().await;
    drop(journal);
    scene.start().await;
    let [pause, status] = &said;
    let told = scene.answer(pause).await;
    assert!(told.contains("restarted while it did this"), "{told}");
    let state = scene.answer(status).await;
    assert!(state.contains("`both` is on"), "it was not paused again: {state}");
    // The network brings both once more, since it was not told that they came.
    assert_eq!(scene.crossed("the end").await.last().map(String::as_str), Some("the end"));
    let answers = scene.ann.heard().iter().filter(|heard| heard.reply_to.is_some()).count();
    assert_eq!(answers, 2, "each is answered once");
}
