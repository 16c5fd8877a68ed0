//! Whatever a sender was told to be kept is kept, whoever else brings it, and however the service ends.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use sealbridge::operator::{Action, Actor, perform};
use sealbridge_contract::{Address, PersonId};
use sealbridge_lab::http::request;
use sealbridge_loopback::{Fault, Heard, How, Says};
use tokio::net::TcpListener;

use super::{
    gathered::{alert, host, quiet, restored_after, says},
    requests::alerts,
    scene::{SOON, Scene, account},
};

const JOB: &str = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\n";
const ALERTS: &str = "[sources.prom]\nformat = \"alertmanager\"\nto = [\"a/room\"]\n";
const JSON: (&str, &str) = ("content-type", "application/json");

/// Waits until something is on its way to the conversation, or nothing is.
pub(super) async fn on_its_way(scene: &Scene, expected: bool) {
    let (host, begun) = (host(scene), tokio::time::Instant::now());
    let room = Address { account: account(), conversation: scene.room.clone() };
    let is_queued = async || {
        let lanes = host.journal().lane_reports().await.expect("the journal answers");
        lanes.iter().any(|lane| lane.at == room && lane.queued > 0)
    };
    while is_queued().await != expected {
        assert!(begun.elapsed() < SOON, "it stays as it is");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The network takes nothing, and all that the bridge had to say there is said.
async fn out_of_reach(sections: &str) -> Scene {
    let scene = Scene::waiting(sections, Says::Encrypted, "30s").await;
    assert_eq!(scene.post("/job", &[], "before").await.status, 200);
    on_its_way(&scene, false).await;
    scene.hub.faults(&account()).next_in(&scene.room, Fault::Unreachable, 1_000_000);
    scene
}

/// The bridge is in the conversation again, and the network takes what it says.
pub(super) fn back(scene: &Scene) {
    scene.hub.join(&account(), &scene.room);
    scene.hub.faults(&account()).clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_that_came_again_meanwhile_is_taken_back_from_nobody() {
    let mut scene = out_of_reach(JOB).await;
    let key = ("idempotency-key", "one");
    let headers = [key];
    let first = scene.post("/job", &headers, "once and for all");
    let meanwhile = async {
        on_its_way(&scene, true).await;
        let again = scene.post("/job", &[key, ("prefer", "respond-async")], "once and for all").await;
        scene.hub.kick(&account(), &scene.room);
        again
    };
    let (first, again) = tokio::join!(first, meanwhile);
    assert_eq!((first.status, again.status), (202, 202), "{first:?} {again:?}");
    back(&scene);
    scene.hears("what was kept", |heard| says(heard, "once and for all")).await;
    assert_eq!(scene.heard().len(), 2, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incident_that_begins_where_nothing_may_be_said_is_kept_and_said_whole_once_it_may() {
    let mut scene = out_of_reach(&format!("{JOB}{ALERTS}")).await;
    let disk = || alert("Disk", "critical", &["a"], &[]);
    let headers = [JSON];
    let post = scene.post("/prom", &headers, disk());
    let meanwhile = async {
        on_its_way(&scene, true).await;
        scene.hub.kick(&account(), &scene.room);
    };
    let (first, ()) = tokio::join!(post, meanwhile);
    assert_eq!(first.status, 202, "{first:?}");
    back(&scene);
    let root = scene.hears("the incident", |heard| says(heard, "Disk")).await;
    assert!(root.how != How::Edit, "{root:?}");
    assert_eq!(scene.post("/prom", &[JSON], disk()).await.status, 200);
    let repeats = |heard: &Heard| heard.more.about.as_ref() == Some(&root.id);
    assert_eq!(scene.hears("that it was told again", repeats).await.how, How::Edit);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incident_whose_first_message_is_refused_begins_anew_when_it_is_told_of_again() {
    let mut scene = out_of_reach(&format!("{JOB}{ALERTS}")).await;
    scene.hub.faults(&account()).clear();
    scene.hub.faults(&account()).next_in(&scene.room, Fault::Refuse, 1);
    let disk = || alert("Disk", "critical", &["a"], &[]);
    assert_eq!(scene.post("/prom", &[JSON], disk()).await.status, 409);
    assert_eq!(scene.post("/prom", &[JSON], disk()).await.status, 200);
    let root = scene.hears("the incident", |heard| says(heard, "Disk")).await;
    assert!(root.how == How::Text && !says(&root, "Told again"), "{root:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orderly_end_tells_whoever_waits_that_their_notice_is_kept_and_it_is_said_once() {
    let mut scene = out_of_reach(JOB).await;
    let url = format!("http://127.0.0.1:{}/job", scene.port);
    let posted = tokio::spawn(async move { request("POST", &url, &[], "through the end").await });
    on_its_way(&scene, true).await;
    scene.stop().await;
    let answer = posted.await.expect("it is sent").unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(answer.status, 202, "{answer:?}");
    scene.hub.faults(&account()).clear();
    scene.start().await;
    scene.hears("what was kept", |heard| says(heard, "through the end")).await;
    assert_eq!(scene.heard().len(), 2, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn name_that_was_given_to_other_words_is_a_conflict_wherever_these_stand() {
    let sections = "[sources.topics]\nformat = \"ntfy\"\nto = [\"a/room\"]\n";
    let mut scene = Scene::set(&format!("{sections}{JOB}"), Says::Encrypted).await;
    let key = ("idempotency-key", "one");
    let get = async |scene: &Scene, query: &str| {
        let url = format!("http://127.0.0.1:{}/disk/publish?{query}", scene.port);
        request("GET", &url, &[key], "").await.expect("it is answered").status
    };
    let statuses = [get(&scene, "message=full").await, get(&scene, "message=empty").await];
    assert_eq!(statuses, [200, 409]);
    assert_eq!(get(&scene, "message=full").await, 200);
    let two = ("idempotency-key", "two");
    let titled = async |scene: &Scene, title| scene.post("/disk", &[two, ("title", title)], "same").await.status;
    assert_eq!(
        [titled(&scene, "Disk").await, titled(&scene, "Fan").await, titled(&scene, "Disk").await],
        [200, 409, 200]
    );
    let long = "x".repeat(256);
    for wrong in [&[("idempotency-key", "")][..], &[("idempotency-key", &long)], &[key, two]] {
        let answer = scene.post("/job", wrong, "whose?").await;
        assert!(answer.status == 400 && answer.body.contains("Idempotency-Key"), "{wrong:?}: {answer:?}");
    }
    assert_eq!(scene.heard().len(), 2, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_quiet_hours_hold_is_said_once_the_config_has_none_any_more() {
    let hours = quiet(-60, 300);
    let mut scene = Scene::set(&format!("{JOB}{hours}"), Says::Encrypted).await;
    assert_eq!(scene.post("/job", &[], "in the night").await.status, 202);
    scene.forget(&hours);
    scene.stop().await;
    scene.start().await;
    scene.hears("what was held", |heard| says(heard, "in the night")).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_of_silences_that_never_answers_keeps_nothing_from_being_said() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let api = silent.local_addr().expect("it has an address");
    let mut scene = Scene::set(&format!("{ALERTS}api = \"http://{api}\"\n"), Says::Encrypted).await;
    assert_eq!(scene.post("/prom", &[JSON], alert("Disk", "critical", &["a"], &[])).await.status, 200);
    let root = scene.hears("the incident", |heard| says(heard, "Disk")).await;
    let at = Address { account: account(), conversation: scene.room.clone() };
    let by = PersonId::new("ann");
    let action = Action::Silence { at, message: root.id.clone(), for_ms: 60_000, by };
    let host = host(&scene);
    let begun = tokio::time::Instant::now();
    let (asked, silences) = loop {
        let (host, action) = (Arc::clone(&host), action.clone());
        let mut silences = tokio::spawn(async move { perform(host, Actor::Init, action).next(None).await.map(drop) });
        tokio::select! {
            asked = silent.accept() => break (asked.expect("it is asked"), silences),
            // What it is called there is known a moment later.
            ended = &mut silences => assert!(begun.elapsed() < SOON, "nobody is asked: {ended:?}"),
        }
    };
    let answer = scene.post("/prom", &[JSON], alert("Fan", "critical", &["b"], &[])).await;
    assert!(answer.status == 200 && !silences.is_finished(), "{answer:?}");
    drop((asked, silent));
    assert!(silences.await.expect("it ends").is_err(), "nobody silenced it");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_nobody_looks_after_something_is_not_said_again_by_what_a_backup_brought() {
    let lines = "escalate_after = \"5m\"\nescalate_mention = [\"ben\"]\n";
    let mut scene = Scene::set(&format!("{ALERTS}{lines}"), Says::Encrypted).await;
    assert_eq!(scene.post("/prom", &[JSON], alert("Disk", "critical", &["a"], &[])).await.status, 200);
    restored_after(&mut scene, 10).await;
    let begun = tokio::time::Instant::now();
    let letters = async || host(&scene).journal().dead_letters(0, 10).await.expect("the journal answers");
    while letters().await.is_empty() {
        assert!(begun.elapsed() < SOON, "it is not put aside: {:?}", scene.heard());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(letters().await[0].reason.contains("before a backup was restored"), "{:?}", letters().await);
    assert!(!scene.heard().iter().any(|heard| says(heard, "Nobody said")), "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_an_incident_is_said_once_however_often_its_sender_tells_of_it() {
    let mut scene = Scene::set(ALERTS, Says::Encrypted).await;
    let over = |at: &str| alerts(&[("db-1", "resolved")]).replace("0001-01-01T00:00:00Z", at);
    let post = async |scene: &Scene, body: String| assert_eq!(scene.post("/prom", &[JSON], body).await.status, 200);
    post(&scene, alerts(&[("db-1", "firing")])).await;
    post(&scene, over("2026-01-01T01:00:00Z")).await;
    let said = scene.heard().len();
    // Whoever was told nothing, since the service was killed, tells of it again.
    scene.stop().await;
    scene.start().await;
    post(&scene, over("2026-01-01T01:00:00Z")).await;
    assert_eq!(scene.heard().len(), said, "{:?}", scene.heard());
    // One of which nobody knows is said, and once.
    post(&scene, over("2026-01-01T02:00:00Z")).await;
    post(&scene, over("2026-01-01T02:00:00Z")).await;
    assert_eq!(scene.heard().len(), said + 1, "{:?}", scene.heard());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn change_that_a_newer_one_replaces_while_it_waits_is_told_to_be_kept() {
    let mut scene = Scene::set(ALERTS, Says::Encrypted).await;
    let post = async |scene: &Scene, states: &[(&str, &str)]| scene.post("/prom", &[JSON], alerts(states)).await.status;
    assert_eq!(post(&scene, &[("db-1", "firing")]).await, 200);
    scene.hub.faults(&account()).next_in(&scene.room, Fault::Unreachable, 1_000_000);
    let repeats = [(); 3].map(|()| post(&scene, &[("db-1", "firing")]));
    assert_eq!(futures_util::future::join_all(repeats).await, [202, 202, 202]);
    scene.hub.faults(&account()).clear();
    let repeated = |heard: &Heard| heard.how == How::Edit && says(heard, "Told again, 3×");
    scene.hears("the last of them", repeated).await;
    scene.stop().await;
}
