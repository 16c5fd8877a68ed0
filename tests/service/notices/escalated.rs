//! Incidents that nobody looks after: somebody else is told.

use std::sync::Arc;

use sealbridge_contract::{PersonId, RemoteId};
use sealbridge_loopback::{Heard, How, LoopbackPerson, More, Saying, Says};
use serde_json::json;

use super::{
    gathered::{alert, quiet, says, shift},
    scene::Scene,
};

const ALERTS: &str = "[sources.prom]\nformat = \"alertmanager\"\nto = [\"a/room\"]\nescalate_after = \"15m\"\n";
const MINUTE: i64 = 60_000;
const HEAD: &str = "Nobody said within 15 min";

async fn post(scene: &Scene, group: &str, severity: &str, firing: &[&str], over: &[&str]) {
    let body = alert(group, severity, firing, over);
    let answer = scene.post("/prom", &[("content-type", "application/json")], body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn begins(scene: &Scene, group: &str, severity: &str) -> Arc<Heard> {
    post(scene, group, severity, &["a"], &[]).await;
    scene.hears(group, |heard| heard.how != How::Edit && says(heard, group) && !says(heard, HEAD)).await
}

/// With no emoji: Ann takes her reaction back.
fn reacts(scene: &Scene, to: &Heard, emoji: &[&str]) {
    does(&scene.ann, to, emoji);
}

fn does(who: &LoopbackPerson, to: &Heard, emoji: &[&str]) {
    let emoji = emoji.iter().map(|emoji| (*emoji).into()).collect();
    let more = More { about: Some(to.id.clone()), emoji, ..More::default() };
    who.say_this(&to.conversation, Saying::words("").how(How::Reaction).more(more));
}

async fn is_seen(scene: &Scene, of: &RemoteId, words: &str) -> Arc<Heard> {
    let is = |heard: &Heard| heard.how == How::Edit && heard.more.about.as_ref() == Some(of) && says(heard, words);
    scene.hears(words, is).await
}

/// Of which incidents somebody else was told, in the order in which that was said.
fn escalated(scene: &Scene, groups: &[&'static str]) -> Vec<&'static str> {
    let told = scene.heard().into_iter().filter(|heard| heard.how == How::Text && says(heard, HEAD));
    told.filter_map(|heard| groups.iter().find(|group| says(&heard, group)).copied()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_is_told_once_of_what_nobody_looks_after_and_of_its_end() {
    let lines = "escalate_to = [\"a/other\"]\nescalate_mention = [\"ben\"]\n";
    let mut scene = Scene::set(&format!("{ALERTS}{lines}"), Says::Encrypted).await;
    begins(&scene, "Fan", "warning").await;
    let lamp = begins(&scene, "Lamp", "critical").await;
    reacts(&scene, &lamp, &["✅"]);
    is_seen(&scene, &lamp.id, "sees to it").await;
    begins(&scene, "Brief", "critical").await;
    post(&scene, "Brief", "critical", &[], &["a"]).await;
    let disk = begins(&scene, "Disk", "critical").await;
    // What is to be told later outlives a restart, and being told of it again is no reason to wait longer.
    scene.stop().await;
    scene.start().await;
    shift(&scene, 10 * MINUTE);
    post(&scene, "Disk", "critical", &["a"], &[]).await;
    begins(&scene, "Last", "critical").await;
    shift(&scene, 6 * MINUTE);
    let told = scene.hears("that nobody looks after it", |heard| says(heard, HEAD) && says(heard, "Disk")).await;
    assert!(told.conversation == scene.other && disk.conversation == scene.room, "{told:?}");
    assert!(told.how == How::Text && says(&told, "goes on since 20") && says(&told, "a is full"), "{told:?}");
    assert_eq!(told.more.calls, [PersonId::new("ben")]);

    // Whoever reacts there looks after it, and is seen to here.
    reacts(&scene, &told, &["👀"]);
    is_seen(&scene, &disk.id, "sees to it").await;
    is_seen(&scene, &told.id, "sees to it").await;
    // Whoever takes their word back looks after it no longer.
    reacts(&scene, &lamp, &[]);
    shift(&scene, 15 * MINUTE);
    scene.hears("of the other", |heard| says(heard, HEAD) && says(heard, "Last")).await;
    scene.hears("of the one that was let go", |heard| says(heard, HEAD) && says(heard, "Lamp")).await;

    post(&scene, "Disk", "critical", &[], &["a"]).await;
    is_seen(&scene, &told.id, "Resolved").await;
    let news = |heard: &Heard| heard.more.thread.as_ref() == Some(&told.id) && says(heard, "Resolved");
    assert_eq!(scene.hears("the end there", news).await.conversation, scene.other);
    let mut all = escalated(&scene, &["Fan", "Lamp", "Brief", "Disk", "Last"]);
    all.sort_unstable();
    assert_eq!(all, ["Disk", "Lamp", "Last"], "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_after_somebody_else_was_told_is_told_to_them_too_below_the_first() {
    let lines = "escalate_to = [\"a/other\"]\nescalate_mention = [\"ben\"]\n";
    let mut scene = Scene::set(&format!("{ALERTS}{lines}"), Says::Encrypted).await;
    begins(&scene, "Disk", "critical").await;
    shift(&scene, 16 * MINUTE);
    let told = scene.hears("that nobody looks after it", |heard| says(heard, HEAD)).await;
    reacts(&scene, &told, &["✅"]);
    is_seen(&scene, &told.id, "sees to it").await;
    // What nobody saw when they said so.
    post(&scene, "Disk", "critical", &["a", "b"], &[]).await;
    let still = is_seen(&scene, &told.id, "b is full").await;
    assert!(says(&still, HEAD), "what was said is still there: {still:?}");
    shift(&scene, 16 * MINUTE);
    let more = |heard: &Heard| says(heard, HEAD) && says(heard, "b is full") && heard.how == How::Text;
    let more = scene.hears("that nobody looks after the other", more).await;
    assert_eq!((more.more.thread.as_ref(), &more.more.calls), (Some(&told.id), &vec![PersonId::new("ben")]));
    assert_eq!(more.conversation, scene.other);
    post(&scene, "Disk", "critical", &[], &["a", "b"]).await;
    is_seen(&scene, &told.id, "Resolved").await;
    // What is said of an outbreak that is over says nothing of the next one of its name.
    post(&scene, "Disk", "critical", &["a"], &[]).await;
    let lamp = begins(&scene, "Lamp", "critical").await;
    for message in [&more, &told, &lamp] {
        reacts(&scene, message, &["✅"]);
    }
    is_seen(&scene, &lamp.id, "sees to it").await;
    shift(&scene, 16 * MINUTE);
    let earlier = [&told.id, &more.id];
    let anew = |heard: &Heard| heard.how == How::Text && says(heard, HEAD) && !earlier.contains(&&heard.id);
    let anew = scene.hears("that nobody looks after the next", anew).await;
    assert!(says(&anew, "Disk") && anew.more.thread.is_none(), "{anew:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_in_many_at_once_is_told_once_more_and_the_message_of_each_goes_on() {
    let mut scene = Scene::set(&format!("{ALERTS}escalate_to = [\"a/other\"]\n"), Says::Encrypted).await;
    let groups: Vec<_> = (0..6).map(|number| format!("Disk{number}")).collect();
    let mut told = Vec::new();
    for some in groups.chunks(3) {
        for group in some {
            begins(&scene, group, "critical").await;
        }
        shift(&scene, 16 * MINUTE);
        for group in some {
            told.push(scene.hears(group, |heard| says(heard, HEAD) && says(heard, group)).await);
        }
    }
    for group in &groups {
        post(&scene, group, "critical", &["a", "b"], &[]).await;
    }
    shift(&scene, 16 * MINUTE);
    let all = scene.hears("that nobody looks after the others", |heard| says(heard, "6 incidents")).await;
    // That they go on is no news, and each goes on where it was told of first.
    for group in &groups {
        post(&scene, group, "critical", &["a", "b"], &[]).await;
    }
    begins(&scene, "Last", "critical").await;
    shift(&scene, 16 * MINUTE);
    scene.hears("the last", |heard| says(heard, HEAD) && says(heard, "Last")).await;
    assert_eq!(scene.heard().iter().filter(|heard| heard.how == How::Text && says(heard, HEAD)).count(), 8);
    // Whoever looks after all of them there is seen where each was told of.
    reacts(&scene, &all, &["✅"]);
    for told in &told {
        is_seen(&scene, &told.id, "sees to it").await;
    }
    let seen = |heard: &Heard| heard.more.thread.as_ref() == Some(&all.id) && says(heard, "sees to what");
    assert_eq!(scene.hears("that somebody does", seen).await.conversation, scene.other);
    for (group, told) in groups.iter().zip(&told) {
        post(&scene, group, "critical", &[], &["a", "b"]).await;
        is_seen(&scene, &told.id, "Resolved").await;
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn next_person_is_called_in_the_thread_where_no_other_conversation_is_named() {
    let mut scene = Scene::set(&format!("{ALERTS}escalate_mention = [\"ben\"]\n"), Says::Encrypted).await;
    let disk = begins(&scene, "Disk", "critical").await;
    assert!(disk.more.calls.is_empty(), "{disk:?}");
    shift(&scene, 15 * MINUTE);
    let told = scene.hears("that nobody looks after it", |heard| says(heard, HEAD)).await;
    assert_eq!((told.more.thread.as_ref(), &told.more.calls), (Some(&disk.id), &vec![PersonId::new("ben")]));
    reacts(&scene, &told, &["✅"]);
    is_seen(&scene, &disk.id, "sees to it").await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_after_a_digest_looks_after_what_goes_on_of_it() {
    let lines = "escalate_to = [\"a/other\"]\nburst = 0\n";
    let mut scene = Scene::set(&format!("{ALERTS}{lines}"), Says::Encrypted).await;
    for group in ["Disk", "Fan", "Lamp"] {
        let body = alert(group, "critical", &["a"], &[]);
        assert_eq!(scene.post("/prom", &[("content-type", "application/json")], body).await.status, 202);
    }
    shift(&scene, MINUTE);
    let digest = scene.hears("the digest", |heard| says(heard, "3 notices")).await;
    reacts(&scene, &digest, &["✅"]);
    let seen = |heard: &Heard| heard.more.thread.as_ref() == Some(&digest.id) && says(heard, "ann sees to what");
    scene.hears("that Ann looks after it", seen).await;
    // Of what changes nobody has seen that yet, and nobody could before the next digest.
    for (number, group, firing) in [(1, "Lamp", &["a", "b"][..]), (2, "Last", &["a"])] {
        let body = alert(group, "critical", firing, &[]);
        assert_eq!(scene.post("/prom", &[("content-type", "application/json")], body).await.status, 202);
        shift(&scene, MINUTE);
        let digests = || scene.heard().iter().filter(|heard| says(heard, "1 notice gathered")).count();
        scene.hears("the next digest", |heard| says(heard, "1 notice gathered") && digests() == number).await;
        shift(&scene, 15 * MINUTE);
        scene.hears(group, |heard| says(heard, HEAD) && says(heard, group)).await;
    }
    assert_eq!(escalated(&scene, &["Disk", "Fan", "Lamp", "Last"]), ["Lamp", "Last"], "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_incidents_at_once_somebody_else_is_told_by_one_message_which_can_be_acknowledged() {
    let mut scene = Scene::set(&format!("{ALERTS}escalate_to = [\"a/other\"]\n"), Says::Encrypted).await;
    let mut roots = Vec::new();
    for number in 0..8 {
        roots.push(begins(&scene, &format!("Disk{number}"), "critical").await);
    }
    shift(&scene, 15 * MINUTE);
    let told = scene.hears("that nobody looks after them", |heard| says(heard, HEAD)).await;
    assert!(told.conversation == scene.other && told.how == How::Text && says(&told, "8 incidents"), "{told:?}");
    for number in 0..8 {
        assert!(says(&told, &format!("🔴 Critical: Disk{number}")), "{told:?}");
    }
    reacts(&scene, &told, &["✅"]);
    let seen = |heard: &Heard| heard.more.thread.as_ref() == Some(&told.id) && says(heard, "ann sees to what");
    assert_eq!(scene.hears("that Ann looks after them", seen).await.conversation, scene.other);
    for root in &roots {
        is_seen(&scene, &root.id, "ann sees to it").await;
    }
    post(&scene, "Disk3", "critical", &[], &["a"]).await;
    let news = |heard: &Heard| heard.more.thread.as_ref() == Some(&told.id) && says(heard, "Resolved");
    assert_eq!(scene.hears("the end there", news).await.conversation, scene.other);
    let of_it = |heard: &Heard| heard.how == How::Edit && heard.more.about.as_ref() == Some(&told.id);
    assert!(!scene.heard().iter().any(|heard| of_it(heard)), "it tells of the others, too");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_in_quiet_hours_of_what_can_wait() {
    let lines = format!("escalate_to = [\"a/other\"]\nescalate_from = \"warning\"\n{}", quiet(10, 70));
    let mut scene = Scene::set(&format!("{ALERTS}{lines}"), Says::Encrypted).await;
    begins(&scene, "Fan", "warning").await;
    begins(&scene, "Disk", "critical").await;
    shift(&scene, 16 * MINUTE);
    scene.hears("of what is critical", |heard| says(heard, HEAD) && says(heard, "Disk")).await;
    begins(&scene, "Last", "critical").await;
    shift(&scene, 16 * MINUTE);
    scene.hears("of what is critical", |heard| says(heard, HEAD) && says(heard, "Last")).await;
    assert_eq!(escalated(&scene, &["Fan", "Disk", "Last"]), ["Disk", "Last"], "{:?}", scene.heard());
    shift(&scene, 40 * MINUTE);
    scene.hears("of what was held", |heard| says(heard, HEAD) && says(heard, "Fan")).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_told_before_anybody_could_look_after_it() {
    let lines = "escalate_to = [\"a/other\"]\n";
    // What is overdue of the second is told of after what is overdue of the first.
    let second = ALERTS.replace("prom", "zed");
    let sections = format!("{ALERTS}{lines}burst = 0\ngather_for = \"30m\"\n{second}{lines}");
    let mut scene = Scene::set(&sections, Says::Encrypted).await;
    for (source, group, status) in [("/prom", "Fan", 202), ("/zed", "Disk", 200)] {
        let body = alert(group, "critical", &["a"], &[]);
        assert_eq!(scene.post(source, &[("content-type", "application/json")], body).await.status, status);
    }
    shift(&scene, 16 * MINUTE);
    scene.hears("of what was told", |heard| says(heard, HEAD) && says(heard, "Disk")).await;
    assert_eq!(escalated(&scene, &["Fan", "Disk"]), ["Disk"], "{:?}", scene.heard());
    shift(&scene, 14 * MINUTE);
    scene.hears("the digest", |heard| says(heard, "1 notice gathered")).await;
    shift(&scene, 15 * MINUTE);
    scene.hears("of what was held", |heard| says(heard, HEAD) && says(heard, "Fan")).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_command_is_wanted_no_reaction_keeps_an_escalation_away() {
    let lines = "escalate_to = [\"a/other\"]\nacknowledge = \"command\"\n[operator.admins.ann]\naccount = \"a\"\nperson = \"ANN\"\n";
    let mut scene = Scene::set(&format!("{ALERTS}{lines}"), Says::Encrypted).await;
    let (disk, fan) = (begins(&scene, "Disk", "critical").await, begins(&scene, "Fan", "critical").await);
    reacts(&scene, &disk, &["✅"]);
    scene.ann.say_this(&scene.room, Saying::words("!seal ack").reply_to(fan.id.clone()));
    let seen = is_seen(&scene, &fan.id, "sees to it").await;
    assert!(!says(&seen, "make up"), "{seen:?}");
    shift(&scene, 15 * MINUTE);
    scene.hears("that nobody looks after it", |heard| says(heard, HEAD) && says(heard, "Disk")).await;
    begins(&scene, "Last", "critical").await;
    shift(&scene, 15 * MINUTE);
    scene.hears("the last", |heard| says(heard, HEAD) && says(heard, "Last")).await;
    assert_eq!(escalated(&scene, &["Disk", "Fan", "Last"]), ["Disk", "Last"], "{:?}", scene.heard());
    assert!(!scene.heard().iter().any(|heard| heard.how == How::Edit && says(heard, "Disk") && says(heard, "sees to")));
    scene.stop().await;
}

/// What Uptime Kuma posts of a monitor that is down so many minutes after ten.
fn down(minute: i64, is_news: bool) -> String {
    let time = format!("2026-11-30 10:{minute:02}:00.000");
    json!({
        "heartbeat": { "monitorID": 7, "status": 0, "time": time, "msg": "timeout", "important": is_news },
        "monitor": { "id": 7, "name": "Shop", "url": "https://shop.example" }, "msg": "[Shop] [Down] timeout",
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn monitor_of_which_it_is_told_again_that_it_is_down_is_one_outage_that_somebody_looks_after() {
    let section = ALERTS.replace("prom", "kuma").replace("alertmanager", "uptime-kuma");
    let mut scene = Scene::set(&format!("{section}escalate_mention = [\"ben\"]\n"), Says::Encrypted).await;
    let tell = async |scene: &Scene, minute: i64, is_news: bool| {
        let answer = scene.post("/kuma", &[("content-type", "application/json")], down(minute, is_news)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    tell(&scene, 0, true).await;
    let root = scene.hears("that it is down", |heard| heard.how == How::Text && says(heard, "Down: Shop")).await;
    reacts(&scene, &root, &["✅"]);
    is_seen(&scene, &root.id, "sees to it").await;
    // "Resend Notification if Down X times": each is a beat of its own, and no other outage.
    for (minute, times) in [(5, "Told again, 1×"), (10, "Told again, 2×")] {
        shift(&scene, 5 * MINUTE);
        tell(&scene, minute, false).await;
        let again = is_seen(&scene, &root.id, times).await;
        assert!(says(&again, "sees to it") && says(&again, "Since 2026-11-30 10:00 UTC"), "{again:?}");
    }
    // Being told of it again puts nobody off who is to be told when nobody looks after it.
    reacts(&scene, &root, &[]);
    for minute in [15, 20, 25] {
        shift(&scene, 5 * MINUTE);
        tell(&scene, minute, false).await;
    }
    let told = scene.hears("that nobody looks after it", |heard| says(heard, HEAD)).await;
    assert_eq!((told.more.thread.as_ref(), &told.more.calls), (Some(&root.id), &vec![PersonId::new("ben")]));
    assert!(!scene.heard().iter().any(|heard| says(heard, "Up: Shop")), "{:?}", scene.heard());
    let roots = |scene: &Scene| {
        let all = scene.heard().into_iter().filter(|heard| heard.how == How::Text && heard.more.thread.is_none());
        all.count()
    };
    assert_eq!(roots(&scene), 1, "{:?}", scene.heard());
    // That it came up and went down again, of which the end was not heard, is another.
    shift(&scene, 5 * MINUTE);
    tell(&scene, 50, true).await;
    is_seen(&scene, &root.id, "Up: Shop").await;
    assert_eq!(roots(&scene), 2, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_their_word_back_under_another_name_looks_after_it_no_longer_and_nobody_does_it_for_them() {
    let mut scene = Scene::set(&format!("{ALERTS}escalate_mention = [\"ben\"]\n"), Says::Encrypted).await;
    let disk = begins(&scene, "Disk", "critical").await;
    reacts(&scene, &disk, &["✅"]);
    is_seen(&scene, &disk.id, "ann sees to it").await;
    // Somebody else who calls themselves so takes back what says nothing; what comes after it shows that it was taken.
    let other = scene.hub.person("carl");
    other.join(&scene.room);
    does(&other.called("ann"), &disk, &["🎉"]);
    does(&other.called("ann"), &disk, &[]);
    let edits = |scene: &Scene| scene.heard().iter().filter(|heard| heard.how == How::Edit).count();
    let fan = begins(&scene, "Fan", "warning").await;
    does(&other, &fan, &["✅"]);
    is_seen(&scene, &fan.id, "carl sees to it").await;
    assert_eq!(edits(&scene), 2, "{:?}", scene.heard());

    does(&scene.ann.called("Ann, who is away"), &disk, &[]);
    let no_more = |heard: &Heard| {
        heard.how == How::Edit && heard.more.about.as_ref() == Some(&disk.id) && !says(heard, "sees to it")
    };
    scene.hears("that nobody does", no_more).await;
    shift(&scene, 16 * MINUTE);
    let told = scene.hears("that nobody looks after it", |heard| says(heard, HEAD)).await;
    assert!(says(&told, "Disk"), "{told:?}");
    scene.stop().await;
}
