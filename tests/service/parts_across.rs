//! What goes with words, and what changes about a conversation, between people of two networks on real servers: each as
//! the table of kinds says, and as the person at the far end sees it.

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{
    PersonId, RemoteId,
    conformance::{How, Overheard, Say},
};
use sealbridge_lab::{
    DeltaPerson, Lab, MailServer, Person,
    bridge::Binary,
    person::{Received, Text},
};
use serde_json::{Value, json};

use crate::phones::{Family, PATIENCE, Setting, Who, on_matrix};

const PICTURE: &[u8] = include_bytes!("../../bridges/contract/src/conformance/cases/picture.png");

pub(crate) async fn family() -> Result<Option<(Family, &'static Lab, &'static MailServer)>> {
    let Some(mail) = MailServer::shared().await? else { return Ok(None) };
    let Some(lab) = Lab::shared().await? else { return Ok(None) };
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    Ok(Some((Family::on(&binary, mail, &lab.a, &Setting::default()).await?, lab, mail)))
}

/// Somebody in another Matrix room, to which Ann's room is linked, too.
pub(crate) struct Upstairs {
    pub(crate) carol: Person,
}

impl Upstairs {
    pub(crate) async fn beside(family: &Family, lab: &Lab) -> Result<Self> {
        let carol = Person::new_on(&lab.a, "carol").await?;
        let room = carol.create_encrypted_room("upstairs", &[&family.bot]).await?;
        carol.wait_member(&room, &family.bot, "join", PATIENCE).await?;
        let [here, there] = [format!("work/{}", family.room), format!("work/{room}")];
        family.bridge.wait_conversation(&there, PATIENCE).await?;
        family.bridge.link("upstairs", &[&here, &there]).await?;
        Ok(Self { carol })
    }

    async fn hears(&self, words: &str) -> Result<Overheard> {
        let heard = self.carol.wait_for(|message| message.body.contains(words), PATIENCE).await?;
        on_matrix(vec![Received::Message(heard)]).pop().context("it can be read")
    }
}

/// What somebody hears with these words in it.
async fn hears(family: &Family, who: Who, words: &str) -> Result<Overheard> {
    family.hears(who, words, |heard| heard.words.contains(words)).await
}

fn shown(heard: &Overheard) -> (How, &str) {
    (heard.how, &heard.words)
}

#[tokio::test(flavor = "multi_thread")]
async fn formatting_and_mentions_cross_as_the_table_says() -> Result<()> {
    let Some((family, lab, _)) = family().await? else { return Ok(()) };
    let upstairs = Upstairs::beside(&family, lab).await?;
    let carol = upstairs.carol.user_id();

    // Full to Matrix, and without what is no formatting; the plain words alone to Delta Chat.
    let (body, html) = ("bold & <plain>", "<strong>bold</strong> &amp; &lt;plain&gt;");
    let formatted = format!("{html}<img src=\"https://evil.test/x\"><script>alert(1)</script>");
    let text = Text { body, formatted: Some(&formatted), ..Text::default() };
    family.ann.send_text(&family.room, text).await?;
    let heard = upstairs.hears(body).await?;
    assert_eq!((shown(&heard), heard.html.as_deref()), ((How::Text, body), Some(html)));
    assert_eq!(shown(&hears(&family, Who::Ben, "bold").await?), (How::Text, body));
    hears(&family, Who::Ann, "the plain words alone").await.context("Ann is told what became of it")?;
    // What looks like formatting on Delta Chat is words.
    let words = "<b>plain</b> & \"so\" <script>";
    family.says(Who::Ben, Say { words: words.to_owned(), ..Say::default() }).await?;
    let heard = hears(&family, Who::Ann, "plain</b>").await?;
    let escaped = "&lt;b&gt;plain&lt;/b&gt; &amp; &quot;so&quot; &lt;script&gt;";
    assert_eq!((shown(&heard), heard.html.as_deref()), ((How::Text, words), Some(escaped)));

    // Who is there is called on Matrix; on Delta Chat the name stays in the words.
    let link = format!("<a href=\"https://matrix.to/#/{carol}\">Carol</a>, tea?");
    let calls = json!({ "m.mentions": { "user_ids": [carol, "@nobody:alpha.test"], "room": true } });
    let text = Text { body: "Carol, tea?", formatted: Some(&link), extra: Some(calls), ..Text::default() };
    family.ann.send_text(&family.room, text).await?;
    let heard = upstairs.hears("Carol, tea?").await?;
    assert_eq!((shown(&heard), heard.html.as_deref()), ((How::Text, "Carol, tea?"), Some(link.as_str())));
    assert_eq!(heard.details.calls, [PersonId::new(carol)]);
    assert_eq!(shown(&hears(&family, Who::Ben, "tea?").await?), (How::Text, "Carol, tea?"));
    let words = format!("{}, coffee?", family.ann.user_id());
    family.says(Who::Ben, Say { words: words.clone(), ..Say::default() }).await?;
    let heard = hears(&family, Who::Ann, "coffee?").await?;
    assert_eq!((shown(&heard), heard.details.calls.as_slice()), ((How::Text, words.as_str()), [].as_slice()));
    family.ends().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_passes_for_somebody_who_is_there_on_either_network() -> Result<()> {
    let Some((family, ..)) = family().await? else { return Ok(()) };
    let shown =
        async |who: Who, words: &str| hears(&family, who, words).await.map(|heard| heard.author.unwrap_or_default());
    family.said(Who::Ann, "under her own name").await?;
    let own = shown(Who::Ben, "under her own name").await?;
    ensure!(!own.contains('('), "Ann is told apart from nobody: {own}");
    // Ben is in the group and has said nothing. A Cyrillic letter looks the same.
    for name in ["Ben", "bеn"] {
        let called = json!({ "membership": "join", "displayname": name });
        family.ann.send_state(&family.room, "m.room.member", family.ann.user_id(), called).await?;
        let words = format!("as {name}.");
        family.said(Who::Ann, &words).await?;
        let shown = shown(Who::Ben, &words).await?;
        ensure!(shown.starts_with(&format!("{name} (")), "{name} is shown as {shown}");
    }
    // Whom the bridge carries to Ann's room is neither Ann nor the bridge.
    let bot = family.bot.trim_start_matches('@').split(':').next().unwrap_or_default().to_owned();
    for name in ["bеn", bot.as_str()] {
        family.ben.rpc("set_config", json!(["displayname", name])).await?;
        let words = format!("from ben as {name}.");
        family.said(Who::Ben, &words).await?;
        let shown = shown(Who::Ann, &words).await?;
        ensure!(shown.starts_with(&format!("{name} (")), "{name} is shown as {shown}");
    }
    family.ends().await
}

#[tokio::test(flavor = "multi_thread")]
async fn thread_is_one_on_matrix_and_answers_its_beginning_on_delta_chat() -> Result<()> {
    let Some((mut family, lab, _)) = family().await? else { return Ok(()) };
    let upstairs = Upstairs::beside(&family, lab).await?;
    let bens = family.said(Who::Ben, "begun by ben").await?;
    let anns = family.said(Who::Ann, "begun by ann").await?;
    let upstairs_begun = upstairs.hears("begun by ann").await?.id;
    for round in ["before", "after"] {
        let words = format!("in the thread {round}");
        let first = in_thread(&family, &anns.to_ann, &words, None).await?;
        let heard = upstairs.hears(&words).await?;
        assert_eq!((heard.details.thread.as_ref(), heard.reply_to.as_ref()), (Some(&upstairs_begun), None), "{words}");
        let there = hears(&family, Who::Ben, &words).await?;
        assert_eq!((shown(&there), there.reply_to.as_ref()), ((How::Text, &*words), Some(&anns.to_ben)));
        // Who answers something in a thread means that, on both networks.
        let answer = format!("an answer {round}");
        in_thread(&family, &anns.to_ann, &answer, Some(&first)).await?;
        let again = upstairs.hears(&answer).await?;
        let relations = (again.details.thread.as_ref(), again.reply_to.as_ref());
        assert_eq!(relations, (Some(&upstairs_begun), Some(&heard.id)), "{answer}");
        assert_eq!(hears(&family, Who::Ben, &answer).await?.reply_to.as_ref(), Some(&there.id), "{answer}");
        // A thread that begins with what came from Delta Chat.
        let words = format!("about ben's {round}");
        in_thread(&family, &bens.to_ann, &words, None).await?;
        assert_eq!(hears(&family, Who::Ben, &words).await?.reply_to.as_ref(), Some(&bens.to_ben), "{words}");
        family.bridge.kill().await?;
        family.bridge.start().await?;
    }
    hears(&family, Who::Ann, "a reply to the message that began the thread").await.context("Ann is told")?;
    family.ends().await
}

/// Says it as clients do: whoever knows no threads sees an answer.
async fn in_thread(family: &Family, root: &RemoteId, words: &str, answers: Option<&RemoteId>) -> Result<RemoteId> {
    let relation = json!({
        "rel_type": "m.thread", "event_id": root.as_str(), "is_falling_back": answers.is_none(),
        "m.in_reply_to": { "event_id": answers.unwrap_or(root).as_str() },
    });
    let extra = Some(json!({ "m.relates_to": relation }));
    family.ann.send_text(&family.room, Text { body: words, extra, ..Text::default() }).await.map(RemoteId::new)
}

/// What a change of one side's conversation looks like at the other: a notice in the name of whoever did it.
async fn told(family: &Family, to: Who, by: &str, words: &str) -> Result<()> {
    let is =
        |heard: &Overheard| heard.words == words && heard.author.as_deref().is_some_and(|name| name.starts_with(by));
    let heard = family.hears(to, &format!("{by}: {words}"), is).await?;
    // Delta Chat has no notices.
    let how = if to == Who::Ann { How::Notice } else { How::Text };
    ensure!(heard.how == how, "{words}: it is a {:?}", heard.how);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_about_a_matrix_room_is_told_on_delta_chat_and_changes_nothing_there() -> Result<()> {
    let Some((family, lab, _)) = family().await? else { return Ok(()) };
    let Family { ann, ben, room, chat, .. } = &family;
    let dora = Person::new_on(&lab.a, "dora").await?;
    let before = group(ben, *chat).await?;
    ann.invite(room, dora.user_id()).await?;
    dora.join(room).await?;
    told(&family, Who::Ben, "dora", "joined the conversation").await?;
    ann.kick(room, dora.user_id()).await?;
    let name = dora.user_id().split([':', '@']).nth(1).unwrap_or_default().to_owned();
    told(&family, Who::Ben, "ann", &format!("removed {name} from the conversation")).await?;
    ann.invite(room, dora.user_id()).await?;
    dora.join(room).await?;
    dora.leave(room).await?;
    told(&family, Who::Ben, "dora", "left the conversation").await?;
    for (kind, content, words) in [
        ("m.room.name", json!({ "name": "The Hill" }), "named the conversation “The Hill”"),
        ("m.room.avatar", json!({ "url": "mxc://alpha.test/abc" }), "changed the picture of the conversation"),
        ("m.room.retention", json!({ "max_lifetime": 3_600_000 }), "set messages to disappear after 1 hour"),
        ("m.room.retention", json!({}), "set messages not to disappear any more"),
    ] {
        ann.send_state(room, kind, "", content).await?;
        told(&family, Who::Ben, "ann", words).await?;
    }
    ensure!(group(ben, *chat).await? == before, "the group itself was changed");
    family.ends_with_twice(&["joined the conversation"]).await
}

/// What the group is, in Ben's eyes, but for its messages.
async fn group(ben: &DeltaPerson, chat: u32) -> Result<[Value; 4]> {
    let timer = ben.rpc("get_chat_ephemeral_timer", json!([chat])).await?;
    let mut whole = ben.rpc("get_full_chat_by_id", json!([chat])).await?;
    Ok([timer, whole["name"].take(), whole["profileImage"].take(), whole["contactIds"].take()])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_about_a_delta_chat_group_is_told_on_matrix_and_changes_nothing_there() -> Result<()> {
    let Some((family, _, mail)) = family().await? else { return Ok(()) };
    let Family { ben, chat, .. } = &family;
    let dan = DeltaPerson::new_on(mail, "dan").await?;
    let before = room(&family).await?;
    let link = ben.rpc("get_chat_securejoin_qr_code", json!([chat])).await?;
    let dans = dan.join(link.as_str().context("a group has an invitation")?).await?;
    told(&family, Who::Ann, "ben", "added dan to the conversation").await?;
    dan.rpc("leave_group", json!([dans])).await?;
    told(&family, Who::Ann, "dan", "left the conversation").await?;
    let picture = tempfile::Builder::new().suffix(".png").tempfile()?;
    std::fs::write(picture.path(), PICTURE)?;
    for (method, value, words) in [
        ("set_chat_name", json!("The Valley"), "named the conversation “The Valley”"),
        ("set_chat_profile_image", json!(picture.path()), "changed the picture of the conversation"),
        ("set_chat_ephemeral_timer", json!(3600), "set messages to disappear after 1 hour"),
        ("set_chat_ephemeral_timer", json!(0), "set messages not to disappear any more"),
    ] {
        ben.rpc(method, json!([chat, value])).await?;
        told(&family, Who::Ann, "ben", words).await.context(method)?;
    }
    ensure!(room(&family).await? == before, "the room itself was changed");
    family.ends().await
}

/// What the room is, but for its messages. Nothing of it is encrypted, so nothing of the group may be in it.
async fn room(family: &Family) -> Result<Value> {
    let path = format!("/_matrix/client/v3/rooms/{}/state", family.room.replace('!', "%21"));
    let (status, mut state) = family.ann.http("GET", &path, None).await?;
    ensure!(status == 200, "the state can't be read: {status}");
    let all = state.as_array_mut().context("a list")?;
    all.sort_by_key(|event| event["event_id"].to_string());
    Ok(json!(all.iter().map(|event| &event["event_id"]).collect::<Vec<_>>()))
}
