//! How much a notice matters, by its sender's word and by the operator's, and whose devices sound by it.

use sealbridge_contract::PersonId;
use sealbridge_loopback::{How, Says};

use super::{
    gathered::{alert, says},
    scene::Scene,
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A template, in a folder that goes away with the test.
fn template(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.toml");
    std::fs::write(&file, text).expect("it is written");
    (folder, format!("template = {file:?}\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_template_says_how_much_each_alert_of_an_incident_matters() {
    let (_folder, own) = template(
        "plain = \"{{ title }}: {% for alert in alerts %}{{ alert.severity }} {{ alert.name }}/{{ alert.instance }} {% endfor %}\"\n\
         severity = \"{% if alerts[0].instance == 'spare' %}low{% endif %}\"\n",
    );
    let section = format!("[sources.prom]\nformat = \"alertmanager\"\nto = [\"a/room\"]\nmention = [\"ben\"]\n{own}");
    let mut scene = Scene::set(&section, Says::Encrypted).await;
    let post = async |scene: &Scene, body: String| assert_eq!(scene.post("/prom", &[JSON], body).await.status, 200);
    post(&scene, alert("Disk", "critical", &["spare"], &[])).await;
    let spare = scene.hears("the spare", |heard| says(heard, "Disk: low Disk/spare")).await;
    assert!(spare.how == How::Notice && spare.more.calls.is_empty(), "{spare:?}");
    // Each has its own, and the worst counts.
    post(&scene, alert("Fan", "critical", &["spare", "main"], &[])).await;
    let both = scene.hears("both", |heard| says(heard, "Fan: ")).await;
    assert!(says(&both, "critical Fan/main low Fan/spare"), "{both:?}");
    assert_eq!((both.how, &both.more.calls), (How::Text, &vec![PersonId::new("ben")]), "{both:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ntfys_high_priorities_are_messages_and_its_usual_ones_notices() {
    let section = "[sources.ntfy]\nformat = \"ntfy\"\nto = [\"a/room\"]\nfold_for = \"1h\"\n";
    let mut scene = Scene::set(section, Says::Encrypted).await;
    for (priority, how) in [
        ("1", How::Notice),
        ("low", How::Notice),
        ("3", How::Notice),
        ("4", How::Text),
        ("high", How::Text),
        ("5", How::Text),
    ] {
        let words = format!("priority {priority}");
        assert_eq!(scene.post("/ntfy", &[("priority", priority)], words.clone()).await.status, 200);
        assert_eq!(scene.hears(&words, |heard| says(heard, &words)).await.how, how, "{priority}");
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_called_is_called_by_a_message_since_clients_pass_notices_over() {
    let job = "[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\nmention = [\"ben\"]\nmention_from = \"warning\"\n";
    let prom = job.replace("job", "prom").replace("raw", "alertmanager");
    let mut scene = Scene::set(&format!("{job}{prom}"), Says::Encrypted).await;
    for (severity, how, calls) in [("info", How::Notice, vec![]), ("warning", How::Text, vec![PersonId::new("ben")])] {
        let words = format!("of {severity}");
        assert_eq!(scene.post("/job", &[("x-severity", severity)], words.clone()).await.status, 200);
        let heard = scene.hears(&words, |heard| says(heard, &words)).await;
        assert_eq!((heard.how, &heard.more.calls), (how, &calls), "{heard:?}");
    }
    assert_eq!(scene.post("/prom", &[JSON], alert("Disk", "info", &["a"], &[])).await.status, 200);
    assert_eq!(scene.post("/prom", &[JSON], alert("Disk", "warning", &["b"], &[])).await.status, 200);
    let news = scene.hears("what began", |heard| heard.more.thread.is_some() && says(heard, "b is full")).await;
    assert_eq!((news.how, &news.more.calls), (How::Text, &vec![PersonId::new("ben")]), "{news:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_that_becomes_critical_in_an_incident_that_goes_on_calls_people() {
    let (_folder, own) = template(
        "plain = \"{{ title }}: {% for alert in alerts %}{{ alert.summary }} {% endfor %}\"\n\
         severity = \"{% if 'very' in alerts[0].summary %}critical{% else %}warning{% endif %}\"\n",
    );
    let section = format!("[sources.prom]\nformat = \"alertmanager\"\nto = [\"a/room\"]\nmention = [\"ben\"]\n{own}");
    let mut scene = Scene::set(&section, Says::Encrypted).await;
    let full = alert("Disk", "warning", &["a"], &[]);
    assert_eq!(scene.post("/prom", &[JSON], full.clone()).await.status, 200);
    let root = scene.hears("the warning", |heard| says(heard, "a is full")).await;
    assert!(root.how == How::Notice && root.more.calls.is_empty(), "{root:?}");
    let very = full.replace("is full", "is very full");
    assert_ne!(full, very);
    assert_eq!(scene.post("/prom", &[JSON], very).await.status, 200);
    let news = scene.hears("the news", |heard| heard.more.thread.is_some() && says(heard, "a is very full")).await;
    assert_eq!((news.how, &news.more.calls), (How::Text, &vec![PersonId::new("ben")]), "{news:?}");
    scene.stop().await;
}
