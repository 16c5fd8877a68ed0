//! `sealbridge send` to where nothing may be said.

use std::sync::Arc;

use sealbridge::{
    notices::LINKS,
    operator::{
        Action, Actor, Failure, FailureKind, Outcome, Progress,
        actions::{Content, Sending, content},
        perform,
    },
};
use sealbridge_contract::{AccountName, Address, ConversationId, gate::Encryption};
use sealbridge_loopback::Says;

use super::scene::Scene;

pub(super) async fn send(scene: &Scene, account: &str, to: &str) -> Result<Outcome, Failure> {
    let account = AccountName::parse(account).expect("a name");
    let host = scene.running.as_ref().expect("it runs").host();
    let to = Address { account, conversation: ConversationId::new(to) };
    let sending = Sending { to, reply_to: None, thread: None, edit: None, within_ms: 20_000 };
    let mut performance = perform(Arc::clone(&host), Actor::Local { uid: 0 }, Action::Send(sending));
    let said = Content {
        words: Some("a word".to_owned()),
        markup: sealbridge::notices::markup::Markup::Plain,
        notice: false,
        key: None,
        files: Vec::new(),
    };
    performance.next(None).await?;
    match performance.next(Some(content(&said))).await? {
        Progress::Done(outcome) => Ok(outcome),
        Progress::Step(step) => panic!("nothing more is to be asked: {step:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn send_to_a_mistyped_or_unencrypted_conversation_is_refused_and_leaves_nothing_behind() {
    let mut scene = Scene::set("", Says::Plain).await;
    scene.hub.set_encryption(&scene.other, Says::Encrypted);
    scene.sees(&scene.room, Encryption::Absent).await;
    scene.sees(&scene.other, Encryption::Pinned).await;
    let host = scene.running.as_ref().expect("it runs").host();
    let before = host.journal().counts().await.expect("the journal answers").queued;
    for (to, kind, part) in [
        ("roon", FailureKind::Refused, "invite"),
        ("#room", FailureKind::Usage, "by its id"),
        (scene.room.as_str(), FailureKind::Refused, "not encrypted"),
    ] {
        let refused = send(&scene, "a", to).await.expect_err("nothing may be said there");
        assert!(refused.kind == kind && refused.words.contains(part), "{to}: {refused:?}");
    }
    let links = host.journal().links().await.expect("the journal answers");
    assert!(!links.iter().any(|link| link.name.as_str().starts_with(LINKS)), "{links:?}");
    assert_eq!(host.journal().counts().await.expect("the journal answers").queued, before);
    let done = send(&scene, "a", scene.other.as_str()).await.expect("it is said");
    assert_eq!(done.lines[0]["encrypted"], true, "{done:?}");
    scene.stop().await;
}
