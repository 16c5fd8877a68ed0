use zeroize::Zeroizing;

use super::*;
use crate::{
    Author, Body, ConversationId, Deduplication, DeliveryId, Kind, PersonId, RemoteId, Text, Timestamp,
    message::{
        Absence, Absent, Caveats, Change, Edit, FileName, Form, Location, Media, MediaType, Mention, Poll, Quote,
        Reaction, Sort, Target, Thumbnail,
    },
    spool::{SpoolId, Spooled},
};

const NOTHING_BUT_WORDS: &[(Verb, Ability)] = &[(Verb::Text, Ability::Full)];
const EVERYTHING: &[(Verb, Ability)] = &[
    (Verb::Text, Ability::Full),
    (Verb::Formatting, Ability::Full),
    (Verb::Emote, Ability::Full),
    (Verb::Notice, Ability::Full),
    (Verb::Mention, Ability::Full),
    (Verb::Reply, Ability::Full),
    (Verb::Thread, Ability::Full),
    (Verb::Edit, Ability::Full),
    (Verb::Redaction, Ability::Full),
    (Verb::Reaction, Ability::Full),
    (Verb::Image, Ability::Full),
    (Verb::File, Ability::Full),
];

fn sheet(verbs: &'static [(Verb, Ability)]) -> Abilities {
    let deduplication = Deduplication::Never;
    let most_file = 1000;
    Abilities {
        network: "test",
        verbs,
        deduplication,
        finds: false,
        carries_marks: true,
        most_bytes: 1000,
        most_file,
        reactions_in_clear: true,
    }
}

fn target(quote: Option<&str>) -> Target {
    Target { quote: quote.map(|words| Box::new(Quote::new(Some("Ben"), words))), ..Target::new(RemoteId::new("$here")) }
}

fn said(kind: Kind) -> Message {
    Message::of(Author { id: PersonId::new("@ann:x"), name: Some("Ann".into()) }, Timestamp(0), kind)
}

fn file(sort: Sort, size: u64) -> Kind {
    let spooled = Spooled::new(SpoolId::random(), size, [0; 32], None);
    Kind::File(Box::new(Media::new(sort, FileName::new("cat.png"), MediaType::new("image/png"), spooled)))
}

fn slip(about: Option<&str>) -> Slip {
    let slip = Slip::new(ConversationId::new("c"), DeliveryId::random(), Timestamp(0));
    Slip { about: about.map(RemoteId::new), ..slip }
}

fn manner<'a>(abilities: &'a Abilities, tags: &'a Tags) -> Manner<'a> {
    let (reactions, most_file, without_file) = (Reactions::Native, 900, None);
    Manner { abilities, reactions, most_file, without_file, tags, namesake: false, read_there: true, cannot: &[] }
}

/// What becomes of it, as one line: the kind, its words, what it answers, what was lost.
fn check(message: Message, slip: Slip, abilities: &Abilities, reactions: Reactions, expected: &str) {
    let tags = Tags::new(Zeroizing::new([0; 32]));
    let message = Cleartext::new(message);
    let manner = Manner { reactions, ..manner(abilities, &tags) };
    let line = match adapt(&message, slip, &manner) {
        Adapted::LeftOut(loss) => format!("left out: {loss}"),
        Adapted::Rejected(loss) => format!("rejected: {loss}"),
        Adapted::Crosses(crossing) => {
            let message = &crossing.message().0;
            let words = message.body().map_or("", |body| body.plain.as_str());
            let answers = crossing.slip.reply_to.as_ref().map_or("", |id| id.as_str());
            let lost: Vec<_> = crossing.lost.iter().map(|loss| loss.topic()).collect();
            format!("{:?} | {words} | {answers} | {}", Verb::of(message), lost.join(" "))
        }
    };
    assert_eq!(line, expected);
}

#[test]
fn every_kind_crosses_as_words_where_there_are_only_words() {
    let edit = || Kind::Edit(Box::new(Edit { of: target(None), form: Form::Text, body: Body::plain("new") }));
    let reaction = |emoji: &[&str]| Kind::Reaction(Reaction::new(target(Some("old\nwords")), emoji.iter().copied()));
    let cases = [
        (Kind::Text(Body::plain("hi")), "Text | hi |  | "),
        (Kind::Emote(Body::plain("waves")), "Text | * waves |  | Emote/degraded"),
        (Kind::Notice(Body::plain("beep")), "Text | beep |  | Notice/degraded"),
        (edit(), "Text | [edited] new |  | Edit/degraded"),
        (Kind::Redaction(target(None)), "Text | deleted an earlier message |  | Redaction/degraded"),
        (reaction(&["👍", "hm\n!"]), "Text | reacted 👍 hm ! to “old words” |  | Reaction/degraded"),
        (reaction(&[]), "Text | took back all reactions to “old words” |  | Reaction/degraded"),
        (
            file(Sort::Sticker, 1536),
            "Text | 📎 cat.png (image/png, 1.5 KiB) |  | Sticker/degraded Image/degraded File/degraded",
        ),
        (
            file(Sort::Voice, 10),
            "Text | 📎 cat.png (image/png, 10 bytes) |  | Voice/degraded Audio/degraded File/degraded",
        ),
        (
            Kind::Location(Location::new(1.0, 2.5, Some("Here".into())).expect("a place")),
            "Text | 📍 Here geo:1,2.5 |  | Location/degraded",
        ),
        (
            Kind::Poll(Poll { question: "Tea?".into(), answers: vec!["Yes".into()] }),
            "Text | 📊 Tea?\n1. Yes |  | Poll/degraded",
        ),
        (
            Kind::Change(Change::Renamed("Hill".into())),
            "Text | named the conversation “Hill” |  | NameAndPicture/degraded",
        ),
        (Kind::Unsupported { what: "a call" }, "Text | [a call, which this bridge does not carry] |  | Other/degraded"),
    ];
    for (kind, expected) in cases {
        check(said(kind), slip(Some("there")), &sheet(NOTHING_BUT_WORDS), Reactions::Native, expected);
    }
}

#[test]
fn what_can_be_carried_is_left_as_it_is() {
    let cases = [
        (
            Kind::Edit(Box::new(Edit { of: target(None), form: Form::Text, body: Body::plain("new") })),
            "Edit | new |  | ",
        ),
        (Kind::Redaction(target(None)), "Redaction |  |  | "),
        (Kind::Reaction(Reaction::new(target(None), ["👍"])), "Reaction |  |  | "),
        (file(Sort::Image, 900), "Image |  |  | "),
        // The next better thing.
        (file(Sort::Sticker, 900), "Image |  |  | Sticker/degraded"),
        (file(Sort::Video, 900), "File |  |  | Video/degraded"),
        (
            Kind::Change(Change::Picture),
            "Notice | changed the picture of the conversation |  | NameAndPicture/degraded",
        ),
    ];
    for (kind, expected) in cases {
        check(said(kind), slip(Some("there")), &sheet(EVERYTHING), Reactions::Native, expected);
    }
}

#[test]
fn new_words_take_the_form_in_which_the_first_ones_crossed() {
    const WORDS_AND_EDITS: &[(Verb, Ability)] = &[(Verb::Text, Ability::Full), (Verb::Edit, Ability::Full)];
    let edit = |form| said(Kind::Edit(Box::new(Edit { of: target(None), form, body: Body::plain("dances") })));
    let cases = [
        (WORDS_AND_EDITS, Form::Text, "Edit | dances |  | "),
        (WORDS_AND_EDITS, Form::Emote, "Edit | * dances |  | Emote/degraded"),
        (WORDS_AND_EDITS, Form::Notice, "Edit | dances |  | Notice/degraded"),
        (EVERYTHING, Form::Emote, "Edit | dances |  | "),
        (EVERYTHING, Form::Notice, "Edit | dances |  | "),
        (NOTHING_BUT_WORDS, Form::Emote, "Text | * [edited] dances |  | Edit/degraded Emote/degraded"),
    ];
    for (verbs, form, expected) in cases {
        check(edit(form), slip(Some("there")), &sheet(verbs), Reactions::Native, expected);
    }
}

#[test]
fn what_is_not_known_there_is_said_and_not_guessed() {
    let edit = Kind::Edit(Box::new(Edit { of: target(None), form: Form::Emote, body: Body::plain("new") }));
    let cases = [
        (edit, "Emote | [edit of a message that is not known here] new |  | Edit/unknown"),
        (Kind::Redaction(target(None)), "Notice | deleted a message that is not known here |  | Redaction/unknown"),
        (
            Kind::Reaction(Reaction::new(target(None), ["👍"])),
            "Notice | reacted 👍 to a message that is not known here |  | Reaction/unknown",
        ),
    ];
    for (kind, expected) in cases {
        check(said(kind), slip(None), &sheet(EVERYTHING), Reactions::Native, expected);
    }
}

#[test]
fn reactions_follow_the_link_and_never_say_words_in_clear() {
    let reaction = |emoji: &str| said(Kind::Reaction(Reaction::new(target(None), [emoji])));
    let everything = sheet(EVERYTHING);
    let as_words = "Notice | reacted 👍 to this message | there | Reaction/degraded";
    check(reaction("👍"), slip(Some("there")), &everything, Reactions::Text, as_words);
    check(reaction("👍"), slip(Some("there")), &everything, Reactions::Off, "left out: Reactions do not cross");
    let why = "a server would read it, so only emoji of Unicode's own list are reactions there";
    let secret = format!("Notice | reacted secret to this message | there | Reaction/this-one/{why}");
    check(reaction("secret"), slip(Some("there")), &everything, Reactions::Native, &secret);
    let secret = "Notice | reacted secret to this message | there | Reaction/degraded";
    check(reaction("secret"), slip(Some("there")), &everything, Reactions::Text, secret);
}

#[test]
fn parts_are_left_out_or_put_into_words() {
    let mentions = vec![Mention { person: PersonId::new("@ben:x"), at: Some(0..3) }];
    let body = || Body { html: Some("<b>Ben</b>".into()), mentions: mentions.clone(), ..Body::plain("Ben") };
    let words =
        || Message { reply_to: Some(target(Some("old"))), thread: Some(target(None)), ..said(Kind::Text(body())) };
    let named = || Slip { reply_to: Some(RemoteId::new("a")), thread: Some(RemoteId::new("t")), ..slip(None) };
    let only_words = sheet(NOTHING_BUT_WORDS);
    let quoted = "Text | > Ben: old\n\nBen |  | Thread/degraded Reply/degraded Formatting/degraded Mention/degraded";
    check(words(), named(), &only_words, Reactions::Native, quoted);
    check(words(), named(), &sheet(EVERYTHING), Reactions::Native, "Text | Ben | a | ");
    check(words(), slip(None), &sheet(EVERYTHING), Reactions::Native, "Text | > Ben: old\n\nBen |  | ");
    let thread = Slip { thread: Some(RemoteId::new("t")), ..slip(None) };
    let replies =
        sheet(&[(Verb::Text, Ability::Full), (Verb::Reply, Ability::Full), (Verb::Formatting, Ability::Drop)]);
    let alone = Message { reply_to: None, ..words() };
    let answered = "Text | Ben | t | Thread/degraded Formatting/dropped Mention/degraded";
    check(alone, thread, &replies, Reactions::Native, answered);
}

#[test]
fn file_that_can_not_cross_is_said_in_words_with_the_reason() {
    let all = || sheet(EVERYTHING);
    let line = "Text | 📎 cat.png (image/png, 901 bytes) did not cross: it is larger than 900 bytes, the most that is \
                taken |  | file/too-large";
    check(said(file(Sort::Image, 901)), slip(None), &all(), Reactions::Native, line);
    check(said(file(Sort::Image, 900)), slip(None), &all(), Reactions::Native, "Image |  |  | ");
    let small = Abilities { most_file: 0, ..all() };
    let line = "Text | 📎 cat.png (image/png, 1 bytes) did not cross: no files are carried there |  | file/too-large";
    check(said(file(Sort::Image, 1)), slip(None), &small, Reactions::Native, line);
    // What came without its file keeps what was said with it.
    let absent = |caption| {
        let (name, mime, why) = (FileName::new("cat.png"), MediaType::new("image/png"), Absence::NotAsSaid);
        Kind::Absent(Box::new(Absent { name, mime, caption, why }))
    };
    let line = "Text | 📎 cat.png (image/png) did not cross: it is not what its sender said, since its hash is another";
    for (caption, end) in [(None, ""), (Some(Body::plain("look")), "\nlook")] {
        let line = format!("{line}{end} |  | file/not-as-said");
        check(said(absent(caption)), slip(None), &sheet(NOTHING_BUT_WORDS), Reactions::Native, &line);
    }
}

#[test]
fn file_is_judged_without_its_small_picture_which_is_left_out_where_it_is_too_large() {
    let (tags, abilities) = (Tags::new(Zeroizing::new([0; 32])), sheet(EVERYTHING));
    for (file, small, kept) in [(900, 900, Some(true)), (900, 901, Some(false)), (1, 901, Some(false)), (901, 1, None)]
    {
        let spooled = |size| Spooled::new(SpoolId::random(), size, [0; 32], None);
        let mime = || MediaType::new("image/png");
        let media = Media::new(Sort::Image, FileName::new("cat.png"), mime(), spooled(file));
        let thumbnail = Some(Thumbnail { mime: mime(), dimensions: None, content: spooled(small) });
        let message = Cleartext::new(said(Kind::File(Box::new(Media { thumbnail, ..media }))));
        let Adapted::Crosses(crossing) = adapt(&message, slip(None), &manner(&abilities, &tags)) else {
            panic!("its words cross");
        };
        let media = crossing.message().0.media();
        assert_eq!(media.map(|media| media.thumbnail.is_some()), kept, "{file} with {small}");
        assert_eq!(crossing.lost.is_empty(), kept.is_some(), "nobody is told of a small picture");
    }
}

#[test]
fn file_that_its_transport_refuses_or_nobody_seals_is_said_in_words() {
    let (tags, abilities) = (Tags::new(Zeroizing::new([0; 32])), sheet(EVERYTHING));
    let message = Cleartext::new(said(file(Sort::Voice, 1)));
    let voices = Abilities { verbs: &[(Verb::Text, Ability::Full), (Verb::Voice, Ability::Full)], ..abilities };
    for (without_file, read_there, why) in
        [(Some(Absence::Refused), true, Absence::Refused), (None, false, Absence::NotCarried)]
    {
        let manner = Manner { without_file, read_there, ..manner(&voices, &tags) };
        let Adapted::Crosses(crossing) = adapt(&message, slip(None), &manner) else { panic!("its words cross") };
        assert_eq!((crossing.message().verb(), crossing.lost.as_slice()), (Verb::Text, &[Loss::NoFile(why)][..]));
    }
}

#[test]
fn message_of_a_kind_that_is_refused_is_refused_with_the_reason() {
    let refuses = sheet(&[(Verb::Text, Ability::Full), (Verb::Image, Ability::Reject)]);
    check(said(file(Sort::Image, 1)), slip(None), &refuses, Reactions::Native, "rejected: Images do not cross");
    let nothing = sheet(&[]);
    check(said(Kind::Text(Body::plain("x"))), slip(None), &nothing, Reactions::Native, "rejected: Words do not cross");
}

#[test]
fn how_a_message_came_is_said_in_words_where_people_read_it() {
    let (tags, abilities) = (Tags::new(Zeroizing::new([0; 32])), sheet(EVERYTHING));
    let caveats = Caveats { late: true, sender_not_proven: true };
    let edit = Edit { of: target(None), form: Form::Text, body: Body::plain("new") };
    let place = || Location::new(1.0, 2.0, Some("Here".into())).expect("a place");
    let cases = [
        (Kind::Text(Body { html: Some("<b>hi</b>".into()), ..Body::plain("hi") }), "hi"),
        (Kind::Edit(Box::new(edit)), "new"),
        (Kind::Location(place()), "📍 Here geo:1,2"),
        (Kind::Unsupported { what: "a call" }, "[a call, which this bridge does not carry]"),
        (file(Sort::Image, 1), ""),
    ];
    for (kind, words) in cases {
        let is_file = matches!(kind, Kind::File(_));
        let message = Cleartext::new(Message { caveats, ..said(kind) });
        // A file goes only where people read it.
        for read_there in [true, false].into_iter().filter(|read_there| *read_there || !is_file) {
            let manner = Manner { read_there, ..manner(&abilities, &tags) };
            let Adapted::Crosses(crossing) = adapt(&message, slip(Some("there")), &manner) else {
                panic!("it crosses");
            };
            let crosses = &crossing.message().0;
            let body = crosses.body();
            let expected = if read_there { format!("[late] [sender not proven] {words}") } else { words.to_owned() };
            assert_eq!(body.map_or("", |body| body.plain.as_str()), expected.trim_end());
            if let Some(html) = body.and_then(|body| body.html.as_ref()) {
                assert_eq!(html.as_str().starts_with("[late] "), read_there);
            }
            assert_eq!(crosses.caveats, caveats, "the gate still sees them");
        }
    }
}

#[test]
fn picture_of_the_author_goes_where_it_is_shown_and_nobody_is_told_where_it_is_not() {
    let tags = Tags::new(Zeroizing::new([0; 32]));
    let portrait = crate::PictureId::new("a picture");
    for (verbs, shown) in [(EVERYTHING, false), (&[(Verb::Text, Ability::Full), (Verb::Portrait, Ability::Full)], true)]
    {
        let abilities = sheet(verbs);
        let message = Cleartext::new(Message { portrait: portrait.clone(), ..said(Kind::Text(Body::plain("hi"))) });
        let manner = manner(&abilities, &tags);
        let Adapted::Crosses(crossing) = adapt(&message, slip(None), &manner) else { panic!("words cross") };
        assert_eq!(crossing.message().0.portrait, portrait.clone().filter(|_| shown));
        assert!(crossing.lost.is_empty());
    }
}

#[test]
fn author_appears_under_a_harmless_name() {
    let (tags, abilities) = (Tags::new(Zeroizing::new([0; 32])), sheet(EVERYTHING));
    let name = |name: &str, namesake| {
        let author = Author { id: PersonId::new("@ann:x"), name: Some(name.into()) };
        let message = Cleartext::new(Message::text(author, Timestamp(0), "hi"));
        let manner = Manner { namesake, ..manner(&abilities, &tags) };
        match adapt(&message, slip(None), &manner) {
            Adapted::Crosses(crossing) => {
                crossing.message().0.author.name.as_ref().map(Text::as_str).unwrap_or_default().to_owned()
            }
            other => panic!("words cross: {other:?}"),
        }
    };
    let tag = tags.of(&PersonId::new("@ann:x"));
    assert_eq!(name("@An\u{202e}n\n", false), "Ann");
    assert_eq!(name("Ann", true), format!("Ann ({tag})"));
    assert_eq!(name("Sealbridge", false), format!("Sealbridge ({tag})"));
}

#[test]
fn every_loss_can_be_told_to_the_author() {
    for verb in Verb::ALL {
        assert!(Loss::Degraded(*verb).to_string().contains("cross"));
    }
    let whys = [
        Absence::TooLarge { most: Some(1) },
        Absence::TooLarge { most: Some(0) },
        Absence::TooLarge { most: None },
        Absence::NotCarried,
        Absence::Refused,
        Absence::NotAsSaid,
        Absence::NotEncrypted,
        Absence::NotUnderstood,
        Absence::NotFetched,
        Absence::Damaged,
    ];
    for why in whys {
        let told = Loss::NoFile(why).to_string();
        let [reason, remedy] = [why.to_string(), why.remedy().to_owned()];
        assert_eq!(told, format!("A file did not cross: {reason}; {remedy}"));
        assert!(remedy.contains("cross"), "{told}");
    }
    let told = Loss::TooLong(Some(45_000)).to_string();
    assert!(told.starts_with("A message did not cross: it is longer than 43.9 KiB"), "{told}");
    assert!(Loss::TooLong(None).to_string().ends_with("the far server takes; a shorter one crosses"));
    assert_eq!(bytes(100 << 20), "100 MiB");
    assert_eq!(bytes(1_500_000), "1.4 MiB");
}

#[test]
fn what_a_transport_can_not_say_of_one_message_crosses_in_the_next_form() {
    let tags = Tags::new(Zeroizing::new([0; 32]));
    let abilities = sheet(EVERYTHING);
    let message = Cleartext::new(said(Kind::Redaction(target(None))));
    let refused = [(Verb::Redaction, "it is another's".to_owned())];
    for (cannot, expected) in [(&[][..], Verb::Redaction), (&refused, Verb::Notice)] {
        let manner = Manner { cannot, ..manner(&abilities, &tags) };
        let Adapted::Crosses(crossing) = adapt(&message, slip(Some("there")), &manner) else { panic!("it crosses") };
        assert_eq!(crossing.message().verb(), expected);
        let lost: Vec<_> = crossing.lost.iter().map(Loss::to_string).collect();
        let said = "One of the deletions did not cross as it is, but as a notice that a message was deleted: it is \
                    another's";
        assert_eq!(lost, if cannot.is_empty() { vec![] } else { vec![said] }, "it is true of this one alone");
        let named = if cannot.is_empty() { &crossing.slip.about } else { &crossing.slip.reply_to };
        assert_eq!(named.as_ref().map(RemoteId::as_str), Some("there"));
    }
}

#[test]
fn who_joined_says_nothing_in_our_name_by_what_they_call_themselves() {
    let (abilities, tags) = (sheet(EVERYTHING), Tags::new(Zeroizing::new([0; 32])));
    let forger =
        || Author { id: PersonId::new("@eve:x"), name: Some("Bob” (verified by comparison). It is “Bob".into()) };
    let message = Cleartext::new(Message { author: forger(), ..said(Kind::Change(Change::Joined(forger()))) });
    let Adapted::Crosses(crossing) = adapt(&message, slip(None), &manner(&abilities, &tags)) else {
        panic!("it crosses")
    };
    let name = crossing.message().0.author.name.as_ref().map(Text::as_str).unwrap_or_default().to_owned();
    assert_eq!(name, "Bob verified by comparison . It is Bob");
    let said = Cleartext::new(Message { author: forger(), ..said(Kind::Text(Body::plain("hello"))) });
    let Adapted::Crosses(crossing) = adapt(&said, slip(None), &manner(&abilities, &tags)) else { panic!("it crosses") };
    let name = crossing.message().0.author.name.as_ref().map(Text::as_str).unwrap_or_default().to_owned();
    assert!(name.starts_with("Bob” (verified"), "what they say stays under their own name: {name}");
}
