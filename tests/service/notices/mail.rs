//! What programs of this machine mail.

use std::net::Ipv4Addr;

use sealbridge_loopback::Says;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::scene::{Scene, account};

const MAIL: &str =
    "[sources.nas]\nformat = \"mail\"\nto = [\"a/room\"]\n[sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\n";

/// Says each of these and hears an answer to each. Says all of them in one piece if `at_once`.
async fn talk(scene: &Scene, all: &[String], at_once: bool) -> Vec<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.mail)).await.expect("it listens");
    let mut stream = BufReader::new(stream);
    let mut answers = vec![answer(&mut stream).await];
    if at_once {
        stream.write_all(all.concat().as_bytes()).await.expect("it hears");
    }
    for one in all {
        if !at_once {
            stream.write_all(one.as_bytes()).await.expect("it hears");
        }
        answers.push(answer(&mut stream).await);
    }
    answers
}

/// The last line of an answer.
async fn answer(stream: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.expect("it answers") == 0 {
            return String::new();
        }
        if line.as_bytes().get(3) == Some(&b' ') {
            return line.trim_end().to_owned();
        }
    }
}

/// What is said to hand over a mail. The last answer is what became of it.
fn handing(to: &str, mail: &str) -> Vec<String> {
    let lines = ["EHLO nas\r\n", "MAIL FROM:<root@nas>\r\n", &format!("RCPT TO:<{to}>\r\n"), "DATA\r\n"];
    lines.into_iter().map(str::to_owned).chain([format!("{}\r\n.\r\n", mail.replace('\n', "\r\n"))]).collect()
}

async fn hand_over(scene: &Scene, to: &str, mail: &str) -> String {
    talk(scene, &handing(to, mail), false).await.pop().expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_there_when_it_is_answered_and_one_that_is_tried_again_is_said_once() {
    let mut scene = Scene::set(MAIL, Says::Encrypted).await;
    let mail = "Message-ID: <1@nas>\nSubject: Cron\n\nthe disk is full";
    let told = hand_over(&scene, "nas@nas.local", mail).await;
    assert!(told.starts_with("250 2.0.0 Arrived, encrypted: "), "{told}");
    assert!(scene.heard().len() == 1 && scene.heard()[0].words.as_str().contains("the disk is full"));
    // Whoever passes it on writes lines above it, and others the next time.
    let again = hand_over(&scene, "nas@nas.local", &format!("Received: by somebody\n{mail}")).await;
    assert_eq!(again, told);
    assert_eq!(scene.heard().len(), 1);
    let other = hand_over(&scene, "nas@nas.local", &format!("{mail}, too")).await;
    assert!(other.starts_with("550 "), "{other}");
    // In one piece, as programs do that need not wait.
    let all = handing("nas@nas.local", "Subject: At once\n\nwords");
    let told = talk(&scene, &all, true).await;
    assert!(told.last().is_some_and(|told| told.starts_with("250 2.0.0 Arrived")), "{told:?}");
    assert_eq!(scene.heard().len(), 2);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_may_not_be_said_or_is_none_is_refused_with_the_reason() {
    let mut scene = Scene::set(MAIL, Says::Encrypted).await;
    let refused = [("nas@x", "not a mail at all".repeat(5000), "552"), ("nas@x", "Subject:\n\n".to_owned(), "554")];
    for (to, mail, code) in refused {
        let told = hand_over(&scene, to, &mail).await;
        assert!(told.starts_with(code), "{code}: {told}");
    }
    for nobody in ["job@x", "who@x", "notices@x"] {
        let told = talk(&scene, &handing(nobody, "Subject: x\n\nx")[..3], false).await;
        assert!(told[3].starts_with("550 5.1.1"), "{told:?}");
    }
    assert!(scene.heard().is_empty());
    scene.stop().await;

    let mut scene = Scene::set(MAIL, Says::Plain).await;
    let told = hand_over(&scene, "nas@x", "Subject: zq7\n\nzq7words").await;
    assert!(told.starts_with("550 5.7.1") && !told.contains("zq7"), "{told}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_to_be_tried_again_while_nothing_can_be_kept() {
    let sections = format!("{MAIL}[journal]\nmost_payload = \"4KiB\"\n");
    let mut scene = Scene::set(&sections, Says::Encrypted).await;
    scene.hub.faults(&account()).set_reachable(false);
    let mut told = Vec::new();
    while told.iter().all(|told: &String| told.starts_with("250 2.0.0 Kept")) {
        assert!(told.len() < 50, "it never is full");
        told.push(hand_over(&scene, "nas@x", &format!("Subject: number {}\n\n{}", told.len(), "x".repeat(500))).await);
    }
    let full = told.pop().expect("it is told");
    assert!(full.starts_with("451 4.3.0") && !told.is_empty(), "{full}");
    scene.hub.faults(&account()).set_reachable(true);
    scene
        .hears("the last that was kept", |heard| heard.words.as_str().contains(&format!("number {}", told.len() - 1)))
        .await;
    assert_eq!(scene.heard().len(), told.len());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_an_appliance_that_writes_neither_brackets_nor_headers_is_said() {
    let mut scene = Scene::set(MAIL, Says::Encrypted).await;
    for (number, envelope) in [
        ["MAIL FROM:root", "RCPT TO:nas"],
        ["mail from: root@ups SIZE=20", "rcpt to: nas@localhost"],
        ["MAIL FROM:<root>", "RCPT TO:<NAS+cron>"],
        ["MAIL FROM:<>", "RCPT TO:<nas> "],
    ]
    .into_iter()
    .enumerate()
    {
        // What is no header of a mail, though it has a colon, is words.
        let words =
            ["the disk is full", "Error: disk 7\nis full", "\nempty: no\n\nline", "PATH=/bin: not found"][number];
        let mail = format!("{words} {number}").replace('\n', "\r\n");
        let begin = ["EHLO nas\r\n".to_owned()];
        let lines = envelope.iter().map(|line| format!("{line}\r\n"));
        let all: Vec<_> =
            begin.into_iter().chain(lines).chain(["DATA\r\n".into(), format!("{mail}\r\n.\r\n")]).collect();
        let told = talk(&scene, &all, false).await;
        assert!(told.last().is_some_and(|told| told.starts_with("250 2.0.0 Arrived")), "{envelope:?}: {told:?}");
        let wanted = format!("{} {number}", words.trim());
        scene.hears(&wanted, |heard| heard.words.as_str() == wanted).await;
    }
    scene.stop().await;
}
