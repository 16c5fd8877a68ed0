//! What is told of all that can happen in a chat, and what is meant to be left out.

use anyhow::Result;
use sealbridge_contract::{
    RemoteId,
    conformance::{Accepted, How},
    inbox::StoreWrite,
};
use serde_json::{Value, json};

use crate::{
    bridge::{Bridge, Met, context, met, set_up, until},
    ordered::{asked, bridge, order},
    trouble::store,
};

/// What the engine says about a chat, as if a person had done it.
fn info(of: &str) -> Value {
    json!({ "isInfo": true, "systemMessageType": of, "text": "the engine's words" })
}

/// Everything that is carried, once the last one crossed.
async fn carried(bridge: &Bridge, messages: &Value, last: &str) -> Result<Vec<Accepted>> {
    order(bridge, &json!({ "messages": messages }))?;
    let running = bridge.start().await?;
    until("the last one crosses", || bridge.intake.accepted().iter().any(|one| one.id.as_str() == last)).await?;
    running.stop().await?;
    Ok(bridge.intake.accepted())
}

/// The names of it.
async fn told(bridge: &Bridge, messages: &Value, last: &str) -> Result<Vec<String>> {
    let carried = carried(bridge, messages, last).await?;
    Ok(carried.into_iter().map(|one| one.id.as_str().to_owned()).collect())
}

#[tokio::test]
async fn what_people_did_in_a_chat_is_told_and_only_the_engines_own_chatter_is_left_out() -> Result<()> {
    let told_of = ["GroupDescriptionChanged", "MessagePinned", "Unknown", "SomethingOfALaterEngine"];
    let left_out = ["ChatE2ee", "SecurejoinMessage", "SecurejoinWait", "MultiDeviceSync"];
    let all: Vec<_> = told_of.into_iter().chain(left_out).collect();
    let messages = all.iter().zip(1..).map(|(of, number)| (number.to_string(), info(of)));
    let mut messages: serde_json::Map<_, _> = messages.collect();
    messages.insert("9".to_owned(), json!({}));
    let bridge = bridge().await?;
    let carried = carried(&bridge, &messages.into(), "9@ann.test").await?;
    let words = |one: &Accepted| one.told.as_ref().map_or(String::new(), |told| told.0.clone());
    let told: Vec<_> = carried.iter().map(|one| (one.id.as_str().to_owned(), words(one))).collect();
    let expected = [
        ("1@ann.test", "a new description of the conversation"),
        ("2@ann.test", "a pinned message"),
        ("3@ann.test", "something"),
        ("4@ann.test", "something"),
        ("9@ann.test", ""),
    ];
    assert_eq!(told, expected.map(|(name, words)| (name.to_owned(), words.to_owned())));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn description_pin_and_live_location_of_a_real_group_are_told() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let said = ann.send(chat, "to be pinned").await?;
    running.accepted(&said.id).await?;
    ann.rpc("set_chat_description", json!([chat, "who we are"])).await?;
    ann.rpc("set_pinned_message_state", json!([said.number, true])).await?;
    ann.rpc("send_locations_to_chat", json!([chat, 600])).await?;
    ann.rpc("set_chat_name", json!([chat, "The Hill"])).await?;
    let told = |words: &str| {
        let is_it = |one: &Accepted| one.told.as_ref().is_some_and(|told| told.0 == words);
        bridge.intake.accepted().iter().filter(|one| is_it(one)).count()
    };
    for words in [
        "a new description of the conversation",
        "a pinned message",
        "a live location",
        "named the conversation “The Hill”",
    ] {
        until(words, || told(words) == 1).await?;
    }
    running.stop().await
}

#[tokio::test]
async fn first_person_over_the_bound_of_those_who_react_is_told_of_once() -> Result<()> {
    let bridge = bridge().await?;
    let by = |count: u32| {
        let all: serde_json::Map<_, _> = (20..20 + count).map(|one| (one.to_string(), json!(["👍"]))).collect();
        json!({ "reactions": { "reactionsByContact": all } })
    };
    let incidents = || bridge.intake.incidents().into_iter().filter(|one| one.topic.starts_with("reactions-over"));
    for (emoji, count, expected) in [("👍", 512, 0), ("🎉", 513, 1), ("😀", 515, 1)] {
        // Both are looked at together.
        let other = json!({ "reactions": { "reactionsByContact": { "20": [emoji] } } });
        order(&bridge, &json!({ "messages": { "1": by(count), "2": other } }))?;
        let running = bridge.start().await?;
        let about = Some(RemoteId::new("2@ann.test"));
        let all = || bridge.intake.accepted().into_iter().filter(|one| one.details.about == about);
        until("the other message's is told", || all().any(|one| one.details.emoji == [emoji])).await?;
        running.stop().await?;
        assert_eq!(incidents().count(), expected, "{count}");
    }
    let incident = incidents().next().expect("there is one");
    assert_eq!(incident.conversation, Some(bridge.group.clone()));
    assert!(incident.words.contains("512"), "{}", incident.words);
    Ok(())
}

#[tokio::test]
async fn what_is_done_to_a_message_from_before_the_link_is_told_of_who_did_it_now() -> Result<()> {
    let bridge = bridge().await?;
    // Two had reacted by then.
    store(&bridge).write(vec![StoreWrite::put("cursor", "1".as_bytes().to_vec())]).await?;
    let liked = |by: &[u32]| {
        let all: serde_json::Map<_, _> = by.iter().map(|one| (one.to_string(), json!(["👍"]))).collect();
        json!({ "reactions": { "reactionsByContact": all }, "text": "before", "isEdited": false })
    };
    let events = json!([{ "kind": "ReactionsChanged", "chatId": 10, "msgId": 1, "contactId": 23 }]);
    order(&bridge, &json!({ "messages": { "1": liked(&[21, 22, 23]) }, "events": events }))?;
    let running = bridge.start().await?;
    let reactions = || bridge.intake.accepted().into_iter().filter(|one| one.how == Some(How::Reaction));
    until("it is told", || reactions().count() == 1).await?;
    running.stop().await?;
    let about = Some(RemoteId::new("1@ann.test"));
    assert!(reactions().all(|one| one.details.about == about && one.details.emoji == ["👍"]));

    let events = json!([{ "kind": "MsgsChanged", "chatId": 10, "msgId": 1 }]);
    let mut edited = liked(&[21, 22, 23]);
    edited["isEdited"] = json!(true);
    edited["text"] = json!("after");
    order(&bridge, &json!({ "messages": { "1": edited }, "events": events }))?;
    let running = bridge.start().await?;
    let edits = || bridge.intake.accepted().into_iter().filter(|one| one.how == Some(How::Edit));
    until("the edit is told", || edits().count() == 1).await?;
    running.stop().await?;
    assert!(edits().all(|one| one.details.about == about && one.words.0 == "after"));
    assert_eq!(reactions().count(), 1, "what was so before is no news");
    Ok(())
}

#[tokio::test]
async fn page_that_goes_on_with_other_words_than_are_shown_is_not_carried() -> Result<()> {
    let page = |words: &str| format!("<html><body>\n{words}\n</body></html>");
    for (shown, page, carried) in [
        ("It begins so [...]", page("It begins so<br/>\nand goes on."), "It begins so\nand goes on."),
        ("It begins so [...]", page("It begins otherwise."), "It begins so [...]"),
        ("[...]", page("Whatever somebody likes."), "[...]"),
    ] {
        let bridge = bridge().await?;
        let message = json!({ "text": shown, "hasHtml": true });
        order(&bridge, &json!({ "messages": { "1": message }, "page": page }))?;
        let running = bridge.start().await?;
        let said = running.accepted("1@ann.test").await?;
        running.stop().await?;
        assert_eq!(said.words.0, carried);
    }
    Ok(())
}

#[tokio::test]
async fn group_of_a_stranger_is_not_taken_for_ours_by_its_name() -> Result<()> {
    let mut bridge = bridge().await?;
    // The engine has one of this name, which others made.
    bridge.settings.groups = vec!["Family".to_owned()];
    for _ in 0..2 {
        let context = context(bridge.folder.path(), &bridge.intake);
        let shown = set_up(context, bridge.settings.clone(), "not asked for").await?;
        let last = shown.words.last().map(String::as_str).unwrap_or_default();
        assert!(last.starts_with("In links it is called 11-"), "{last}");
    }
    assert_eq!(asked(&bridge, "create_group_chat"), 1, "the one that was made is found again");
    Ok(())
}

#[tokio::test]
async fn same_name_and_same_timer_are_told_once_where_the_engine_does_not_say_which_it_was() -> Result<()> {
    let named = info("GroupNameChanged");
    let timer = info("EphemeralTimerChanged");
    let bridge = bridge().await?;
    let all = json!({ "1": named, "2": named, "3": timer, "4": timer, "5": {} });
    assert_eq!(told(&bridge, &all, "5@ann.test").await?, ["1@ann.test", "3@ann.test", "5@ann.test"]);
    Ok(())
}

#[tokio::test]
async fn each_of_several_names_and_timers_is_told_where_the_engine_says_which_it_was() -> Result<()> {
    let mut named = info("GroupNameChanged");
    named["text"] = json!("Group name changed from \"Family\" to \"Hill\" by ann.");
    let mut timer = info("EphemeralTimerChanged");
    timer["text"] = json!("Message deletion timer is set to 1 hour by ann.");
    let bridge = bridge().await?;
    let all =
        json!({ "1": named, "2": info("GroupNameChanged"), "3": timer, "4": info("EphemeralTimerChanged"), "5": {} });
    let names: Vec<_> = (1..=5).map(|number| format!("{number}@ann.test")).collect();
    assert_eq!(told(&bridge, &all, "5@ann.test").await?, names);
    Ok(())
}
