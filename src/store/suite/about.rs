//! Messages about messages, and files.

use sealbridge_contract::{
    Author, Body, Kind, Media, Message, PersonId, RemoteId, SpoolId, Spooled, Target,
    gate::Hold,
    inbox::{Arrived, Filling},
    message::{Edit, FileName, Form, MediaType, Quote, Reaction, Sort},
};

use super::kit::*;
use crate::store::{FirstVerdict, Journal};

fn of(sender: &str, name: &str, kind: Kind) -> Arrived {
    let author = Author { id: PersonId::new(sender), name: None };
    Arrived::Message(incoming(name, Message::of(author, START, kind)))
}

pub(super) fn deletion(name: &str, target: &str) -> Arrived {
    of("@ann", name, Kind::Redaction(Target::new(id(target))))
}

fn edit(sender: &str, name: &str, target: &str) -> Arrived {
    let of_what = Target::new(id(target));
    of(sender, name, Kind::Edit(Box::new(Edit { of: of_what, form: Form::Text, body: Body::plain(name) })))
}

fn reaction(sender: &str, name: &str, target: &str) -> Arrived {
    of(sender, name, Kind::Reaction(Reaction::new(Target::new(id(target)), ["👍"])))
}

async fn state(pair: &Pair<'_>, name: &str) -> Vec<(&'static str, Option<String>)> {
    let facts = pair.journal.why(&pair.a, &id(name)).await.expect("the journal reads");
    facts.into_iter().map(|fact| (fact.state, fact.reason)).collect()
}

async fn nothing_is_kept(journal: &dyn Journal, beside: u64) {
    let counts = journal.counts().await.expect("the journal reads");
    assert_eq!((counts.queued, counts.held, counts.dead, counts.unreadable), (beside, 0, 0, 0));
}

pub(crate) async fn deletion_erases_what_is_queued_held_dead_waiting_or_unreadable(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Hold(Hold::Paused))]);
    pair.arrive(vec![said("@ann", "$held")]).await;
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Enqueue)]);
    pair.arrive(vec![said("@ann", "$dead")]).await;
    let dead = pair.only().await.number;
    pair.journal.bury(dead, "refused").await.expect("it is pending");
    pair.arrive(vec![
        said("@ann", "$queued"),
        edit("@ann", "$edit", "$queued"),
        unreadable("@ben", "$unreadable", true),
        said("@ben", "$waiting"),
    ])
    .await;
    let before = pair.journal.erasures();
    for target in ["$held", "$dead", "$queued", "$unreadable", "$waiting", "$stranger"] {
        pair.arrive(vec![deletion(&format!("delete {target}"), target)]).await;
    }
    assert!(pair.journal.erasures() > before, "whoever holds some of it in memory looks again");
    for target in ["$held", "$dead", "$queued", "$edit", "$waiting"] {
        let dropped = |(state, reason): &(&str, Option<String>)| {
            *state == "dropped" && reason.as_deref() == Some("deleted where it was written")
        };
        let facts = state(&pair, target).await;
        assert!(!facts.is_empty() && facts.iter().all(dropped), "{target}: {facts:?}");
    }
    nothing_is_kept(pair.journal.as_ref(), 5).await;
    let pair = pair.reopen();
    assert_eq!(pair.head().await.len(), 5, "deletions of what may have gone somewhere go on");
    assert!(pair.head().await.iter().all(|pending| pending.about.is_none() && pending.message.takes_back().is_some()));
}

pub(crate) async fn quotation_of_what_was_deleted_on_its_way_does_not_bring_its_words(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let quoting = |name: &str, of: &str| {
        let mut message = message("@ben", name);
        let quote = Quote { author: None, words: "secret".into() };
        message.reply_to = Some(Target { quote: Some(Box::new(quote)), ..Target::new(id(of)) });
        Arrived::Message(incoming(name, message))
    };
    pair.arrive(vec![said("@ann", "$secret"), quoting("$answer", "$secret"), quoting("$other", "$elsewhere")]).await;
    let quotes =
        async |pair: &Pair| -> Vec<bool> { pair.head().await.iter().map(|one| one.message.quotes()).collect() };
    pair.arrive(vec![deletion("$deletion", "$secret")]).await;
    assert_eq!(quotes(&pair).await, [false, true, false], "the answer, the other one, the deletion");
    let pair = pair.reopen();
    assert_eq!(quotes(&pair).await, [false, true, false]);
}

pub(crate) async fn deletion_of_what_is_missing_still_takes_effect_when_that_comes(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![
        said("@ann", "$before"),
        gap("page 1"),
        deletion("$d1", "$1"),
        deletion("$d2", "$2"),
        said("@ann", "$after"),
    ])
    .await;
    let pair = pair.reopen();
    let open = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads").remove(0);
    // Newest first, and one of them can't even be read yet.
    let arrivals = vec![
        said("@ann", "$3"),
        edit("@ann", "$edit", "$1"),
        reaction("@ben", "$reaction", "$1"),
        unreadable("@ben", "$2", true),
        said("@ann", "$1"),
    ];
    let filling = Filling { gap: open.id, arrivals, next: None };
    pair.journal.fill(&pair.a.account, filling).await.expect("the gap is open");
    assert_eq!(pair.lane().await, ["$before", "$3", "$after"], "neither they nor their deletions cross");
    for name in ["$1", "$2", "$edit", "$reaction"] {
        assert_eq!(state(&pair, name).await, [("dropped", Some("deleted where it was written".to_owned()))], "{name}");
    }
    assert_eq!(pair.journal.counts().await.expect("the journal reads").unreadable, 0);
}

pub(crate) async fn edit_deletion_and_reaction_name_their_counterpart_in_both_directions(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$a1")]).await;
    pair.journal.settle(pair.only().await.number, &id("$b1")).await.expect("it is pending");
    let pair = pair.reopen();
    pair.arrive(vec![
        edit("@ann", "$edit", "$a1"),
        reaction("@ben", "$reaction", "$a1"),
        deletion("$deletion", "$a1"),
        reaction("@ben", "$unknown", "$never seen"),
    ])
    .await;
    let about: Vec<_> = pair.head().await.into_iter().map(|pending| pending.about).collect();
    // What was said of a message that is deleted is deleted too.
    assert_eq!(about, [Some(id("$b1")), None]);
    // Back: from where it was carried to.
    pair.journal.accept(&pair.b.account, batch(&pair.b, vec![reaction("@far", "$back", "$b1")])).await.expect("room");
    let back = pair.journal.head(&pair.a, 0, 10).await.expect("the journal reads").remove(0);
    assert_eq!(back.about, Some(id("$a1")));
    assert_eq!(pair.journal.called(&pair.b, &id("$b1"), &pair.a).await.expect("it reads"), Some(id("$a1")));
    assert_eq!(pair.journal.called(&pair.a, &id("$other"), &pair.b).await.expect("it reads"), None);
}

pub(crate) async fn message_about_one_in_the_same_answer_waits_for_it(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let threaded = {
        let author = Author { id: PersonId::new("@ben"), name: None };
        let message = Message { thread: Some(Target::new(id("$1"))), ..Message::text(author, START, "in a thread") };
        Arrived::Message(incoming("$thread", message))
    };
    pair.arrive(vec![said("@ann", "$1"), edit("@ann", "$2", "$1"), threaded]).await;
    let first = pair.only().await;
    assert!(!first.last, "who delivers it must look again");
    pair.journal.settle(first.number, &id("$b1")).await.expect("it is pending");
    let head = pair.head().await;
    assert_eq!((head[0].last, head[1].last), (false, true));
    assert_eq!((head[0].about.clone(), head[1].thread.clone()), (Some(id("$b1")), Some(id("$b1"))));
}

pub(crate) async fn deletion_of_what_is_just_being_delivered_still_finds_it(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2")]).await;
    let under_way = pair.head().await;
    pair.arrive(vec![deletion("$d1", "$1"), deletion("$d2", "$2")]).await;
    // The first arrived all the same, and the answer comes late. Of the second nobody ever hears.
    pair.journal.settle(under_way[0].number, &id("$b1")).await.expect("what arrived is written down");
    let pair = pair.reopen();
    let head = pair.head().await;
    assert_eq!((head[0].about.clone(), head[0].erased), (Some(id("$b1")), None));
    assert_eq!(
        (head[1].about.clone(), head[1].erased),
        (None, Some((under_way[1].delivery, under_way[1].enqueued_at)))
    );
    pair.journal.leave_out(head[1].number, "it never crossed").await.expect("it is pending");
    pair.journal.settle(head[0].number, &id("$b2")).await.expect("it is pending");
    nothing_is_kept(pair.journal.as_ref(), 0).await;
    assert_eq!(pair.journal.counts().await.expect("it reads").payload_bytes, 0);
    assert_eq!(state(&pair, "$d2").await, [("dropped", Some("it never crossed".to_owned()))]);
}

pub(crate) async fn edit_of_somebody_elses_message_is_a_dead_letter(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1")]).await;
    pair.journal.settle(pair.only().await.number, &id("$b1")).await.expect("it is pending");
    let pair = pair.reopen();
    pair.arrive(vec![edit("@mallory", "$forged", "$1"), edit("@ann", "$own", "$1")]).await;
    assert_eq!(pair.lane().await, ["$own"]);
    // And nobody but us edits what we brought.
    pair.journal.accept(&pair.b.account, batch(&pair.b, vec![edit("@far", "$forged", "$b1")])).await.expect("room");
    assert!(pair.journal.head(&pair.a, 0, 10).await.expect("it reads").is_empty());
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["an edit of somebody else's message"; 2]);
}

pub(crate) async fn newer_reaction_or_edit_takes_the_place_of_a_queued_one(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1")]).await;
    pair.journal.settle(pair.only().await.number, &id("$b1")).await.expect("it is pending");
    for number in 0..500 {
        pair.arrive(vec![reaction("@ann", &format!("$r{number}"), "$1"), edit("@ann", &format!("$e{number}"), "$1")])
            .await;
    }
    pair.arrive(vec![reaction("@ben", "$ben", "$1")]).await;
    let names: Vec<_> = pair.head().await.into_iter().filter_map(|pending| pending.from).map(|(_, id)| id).collect();
    assert_eq!(names, [id("$r499"), id("$e499"), id("$ben")], "a flood is bounded, and nobody else's is touched");
}

pub(crate) async fn files_are_named_as_long_as_their_message_is_needed(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let file = |name: &str| {
        let spooled = Spooled::new(SpoolId::random(), 5, [0; 32], None);
        let media = Media::new(Sort::Image, FileName::new("x"), MediaType::new("image/png"), spooled.clone());
        (spooled.id, of("@ann", name, Kind::File(Box::new(media))))
    };
    let [(crosses, first), (deleted, second), (dead, third)] = [file("$1"), file("$2"), file("$3")];
    pair.arrive(vec![first, second, third]).await;
    let pair = pair.reopen();
    let files = async |pair: &Pair<'_>| pair.journal.files().await.expect("the journal reads");
    assert_eq!(files(&pair).await, [crosses, deleted, dead].into());
    let head = pair.head().await;
    pair.journal.settle(head[0].number, &RemoteId::new("$b1")).await.expect("it is pending");
    assert_eq!(files(&pair).await, [deleted, dead].into());
    pair.arrive(vec![deletion("$d", "$2")]).await;
    assert_eq!(files(&pair).await, [dead].into());
    pair.journal.bury(head[2].number, "refused").await.expect("it is pending");
    assert_eq!(files(&pair).await, [dead].into(), "a dead letter can be tried again");
    pair.journal.drop_letter(head[2].number).await.expect("it is a dead letter");
    assert!(files(&pair).await.is_empty());
}
