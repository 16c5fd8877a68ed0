//! Quiet hours of a conversation: every source that speaks there is held, and none that speaks elsewhere.

use sealbridge_loopback::{Heard, How, Says};

use super::{
    gathered::{alert, quiet, says, shift},
    mistyped::send,
    scene::Scene,
};

const MINUTE: i64 = 60_000;
const JSON: (&str, &str) = ("content-type", "application/json");

/// Sources in a room that is quiet for an hour more, and one in another.
fn sources(lines: &str) -> String {
    let source = |name: &str, to: &str| format!("[sources.{name}]\nformat = \"raw\"\nto = [\"a/{to}\"]\n");
    let prom = "[sources.prom]\nformat = \"alertmanager\"\nto = [\"a/other\"]\n";
    let hours = format!("[notices.conversations.\"a/room\"]\n{}{lines}", quiet(-60, 60));
    format!("{}{}{}{prom}{hours}", source("job", "room"), source("cron", "room"), source("elsewhere", "other"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_is_held_in_the_quiet_hours_of_a_conversation_but_for_what_is_critical() {
    let mut scene = Scene::set(&sources(""), Says::Encrypted).await;
    for name in ["/job", "/cron"] {
        assert_eq!(scene.post(name, &[("x-severity", "warning")], format!("of {name}")).await.status, 202);
    }
    assert_eq!(scene.post("/job", &[("x-severity", "critical")], "the house is on fire").await.status, 200);
    assert_eq!(scene.post("/elsewhere", &[], "it is day here").await.status, 200);
    // The operator's own words are said at once.
    send(&scene, "a", "room").await.expect("it is said");
    let heard = scene.ann.heard();
    assert!(heard.iter().any(|heard| says(heard, "a word")) && heard.iter().any(|heard| says(heard, "fire")));
    assert!(!heard.iter().any(|heard| says(heard, "of /")), "{heard:?}");
    // What is held outlives the service, and is said once the hours are over, of each source once.
    scene.stop().await;
    scene.start().await;
    shift(&scene, 61 * MINUTE);
    for name in ["/job", "/cron"] {
        let is_its = |heard: &Heard| says(heard, "1 notice") && says(heard, &format!("of {name}"));
        scene.hears("a digest", is_its).await;
        assert_eq!(scene.heard().iter().filter(|heard| is_its(heard)).count(), 1);
    }
    assert_eq!(scene.post("/cron", &[], "by day").await.status, 200);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warning_passes_where_the_conversation_lets_it_and_the_sources_own_hours_hold_all_the_same() {
    let sections = sources("quiet_below = \"warning\"\n");
    let own = format!("to = [\"a/room\"]\n{}", quiet(-60, 120));
    let mut scene = Scene::set(&sections.replacen("to = [\"a/room\"]\n", &own, 1), Says::Encrypted).await;
    let warning = [("x-severity", "warning")];
    assert_eq!(scene.post("/cron", &warning, "it passes").await.status, 200);
    assert_eq!(scene.post("/cron", &[], "it is held").await.status, 202);
    assert_eq!(scene.post("/job", &warning, "its own hours hold it").await.status, 202);
    shift(&scene, 61 * MINUTE);
    scene.hears("the digest of the one", |heard| says(heard, "it is held")).await;
    assert!(!scene.heard().iter().any(|heard| says(heard, "its own hours")), "{:?}", scene.heard());
    shift(&scene, 60 * MINUTE);
    scene.hears("the digest of the other", |heard| says(heard, "its own hours")).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_is_told_at_the_end_of_the_quiet_hours_of_where_that_is_said() {
    let escalates = "escalate_after = \"5m\"\nescalate_from = \"warning\"\nescalate_to = [\"a/room\"]\n";
    let sections = sources("").replace("\"alertmanager\"\n", &format!("\"alertmanager\"\n{escalates}"));
    let mut scene = Scene::set(&sections, Says::Encrypted).await;
    assert_eq!(scene.post("/prom", &[JSON], alert("Disk", "warning", &["a"], &[])).await.status, 200);
    assert_eq!(scene.post("/prom", &[JSON], alert("Fire", "critical", &["a"], &[])).await.status, 200);
    shift(&scene, 6 * MINUTE);
    let told = |heard: &Heard, what: &str| says(heard, "🔺") && says(heard, what) && heard.how != How::Edit;
    scene.hears("what is critical", |heard| told(heard, "Fire")).await;
    assert!(!scene.heard().iter().any(|heard| told(heard, "Disk")), "{:?}", scene.heard());
    // By night its end is seen in its message, and nothing is said beside that.
    let before = scene.heard().len();
    assert_eq!(scene.post("/prom", &[JSON], alert("Fire", "critical", &[], &["a"])).await.status, 200);
    scene
        .hears("its end", |heard| heard.how == How::Edit && says(heard, "Resolved") && heard.conversation == scene.room)
        .await;
    let more: Vec<_> = scene.heard().into_iter().skip(before).collect();
    let is_news = |heard: &Heard| heard.how != How::Edit && heard.conversation == scene.room;
    assert!(!more.iter().any(|heard| is_news(heard)), "{more:?}");
    shift(&scene, 60 * MINUTE);
    scene.hears("what waited", |heard| told(heard, "Disk")).await;
    scene.stop().await;
}
