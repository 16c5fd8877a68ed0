//! The words that are understood, in one table, and what each asks for. Pure.

use sealbridge_contract::{AccountName, Address, PersonId, RemoteId, audience::Identity};

use super::{comparing::Verdict, permit::Place};
use crate::{
    config::{Period, nearest, parse_address},
    notices::silence::LONGEST,
    operator::{Action, Place as Of},
    store::LinkName,
};

/// Whom a word needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// An admin, or whoever has the level for what changes nothing.
    Moderator,
    /// An admin.
    Admin,
    /// An admin, with nobody else there.
    AdminAlone,
}

/// A word that is understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    /// What may follow it.
    pub(super) follows: &'static str,
    /// What it does.
    pub(super) does: &'static str,
    pub(super) needs: Needs,
    reads: fn(&Scene<'_>, &[&str]) -> Result<Ask, String>,
}

const fn word(
    name: &'static str,
    follows: &'static str,
    does: &'static str,
    needs: Needs,
    reads: fn(&Scene<'_>, &[&str]) -> Result<Ask, String>,
) -> Word {
    Word { name, follows, does, needs, reads }
}

/// Every word. A new one is a line here.
pub(super) const WORDS: &[Word] = &[
    word("help", "", "says this", Needs::Moderator, |_, _| Ok(Ask::Help)),
    word("status", "", "how this link is doing; in a direct chat, everything", Needs::Moderator, status),
    word("why", "[EVENT]", "what became of the message that you reply to", Needs::Moderator, why),
    word(
        "retry",
        "[NUMBER]",
        "tries a dead letter again, or those of the message that you reply to",
        Needs::Admin,
        retry,
    ),
    word("silence", "TIME", "silences the alert that you reply to, such as `4h`", Needs::Admin, silence),
    word("ack", "", "says that you look after the alert that you reply to", Needs::Admin, ack),
    word("audience", "[LINK]", "everybody who can read this link", Needs::Moderator, audience),
    word("approve", "[LINK] PERSON [--key KEY]", "lets somebody who is new, or changed, read", Needs::Admin, approve),
    word("pause", "[LINK]", "holds what comes in", Needs::Admin, pause),
    word("resume", "[LINK]", "goes on, with what was held", Needs::Admin, resume),
    word("unlink", "[LINK]", "takes a link away", Needs::Admin, unlink),
    word("link", "NAME A/B C/D ...", "makes a link of conversations", Needs::AdminAlone, link),
    word("verify", "[PERSON]", "compares identities by emoji, with somebody else", Needs::Admin, verify),
    word("yes", "NUMBER", "the emoji with this number are the same", Needs::AdminAlone, yes),
    word("no", "", "the emoji are not the same", Needs::AdminAlone, |_, _| Ok(Ask::Judge(Verdict::No))),
];

/// What the asker's words are read against.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) at: &'a Address,
    pub(super) by: &'a PersonId,
    pub(super) reply_to: Option<&'a RemoteId>,
    pub(super) place: &'a Place,
    pub(super) is_admin: bool,
}

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// What can be asked for.
    Help,
    /// These, one after the other.
    Do(Vec<Action>),
    /// A comparison, which takes several steps.
    Compare(Action),
    /// What is to be said of emoji that are shown.
    Judge(Verdict),
    /// What is not done in a conversation, and what to do instead.
    Instead(Action, String),
}

impl Ask {
    fn one(action: Action) -> Self {
        Self::Do(vec![action])
    }
}

/// The word that somebody said. `Err`: it is none of ours; what to say.
pub(super) fn find(said: &str) -> Result<&'static Word, String> {
    let name = said.split_whitespace().next().unwrap_or("help").to_ascii_lowercase();
    WORDS.iter().find(|word| word.name == name).ok_or_else(|| {
        let names: Vec<_> = WORDS.iter().map(|word| word.name).collect();
        let meant = nearest(&name, &names).map_or(String::new(), |near| format!(" Did you mean `!seal {near}`?"));
        format!("There is no such command.{meant} `!seal help` says what there is.")
    })
}

impl Word {
    /// What somebody asks for with all that they said.
    pub(super) fn read(&self, scene: &Scene<'_>, said: &str) -> Result<Ask, String> {
        let arguments: Vec<_> = said.split_whitespace().skip(1).collect();
        (self.reads)(scene, &arguments)
    }

    /// How it is written.
    pub(super) fn usage(&self) -> String {
        format!("`!seal {}`", [self.name, self.follows].join(" ").trim())
    }
}

fn status(scene: &Scene<'_>, _: &[&str]) -> Result<Ask, String> {
    Ok(match scene.place {
        Place::Linked(links) => Ask::Do(links.iter().map(|name| Action::ShowLink { name: name.clone() }).collect()),
        Place::Direct | Place::Elsewhere => Ask::one(Action::Status),
    })
}

fn why(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let by = (!scene.is_admin).then(|| scene.by.clone());
    let (at, message) = match (arguments, scene.reply_to) {
        ([at, event], _) if *scene.place == Place::Direct => (parse_address(at)?, RemoteId::new(*event)),
        ([event], _) => (scene.at.clone(), RemoteId::new(*event)),
        ([], Some(message)) => (scene.at.clone(), message.clone()),
        _ if *scene.place == Place::Direct => return Err("Say `!seal why ACCOUNT/CONVERSATION EVENT`.".into()),
        _ => return Err("Say it as a reply to the message, or say `!seal why EVENT`.".into()),
    };
    let brief = matches!(scene.place, Place::Linked(_));
    Ok(Ask::one(Action::Why { at, message, by, brief }))
}

fn retry(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let at = || scene.at.clone();
    let number = |text: &str| text.parse::<i64>().map_err(|_| "A dead letter is named by its number.".to_owned());
    Ok(Ask::one(match (arguments, scene.reply_to, scene.place) {
        (["all"], _, Place::Direct) => Action::RetryDeadLetters,
        ([text], _, Place::Direct) => Action::RetryDeadLetter { number: number(text)? },
        ([text], ..) => Action::RetryHere { at: at(), number: number(text)? },
        ([], Some(message), _) => Action::RetryMessage { at: at(), message: message.clone() },
        _ => return Err("Say it as a reply to the message, or with the number of the dead letter.".into()),
    }))
}

fn silence(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let (Some(message), [long]) = (scene.reply_to, arguments) else {
        return Err("Say it as a reply to the alert, with how long: `!seal silence 4h`.".into());
    };
    let long = Period::parse(long).map(|period| period.0).filter(|long| !long.is_zero() && *long <= LONGEST);
    let long = long.ok_or("How long is written `30m`, `4h` or `2d`, up to 30 days.")?;
    let for_ms = u64::try_from(long.as_millis()).unwrap_or(u64::MAX);
    Ok(Ask::one(Action::Silence { at: scene.at.clone(), message: message.clone(), for_ms, by: scene.by.clone() }))
}

fn ack(scene: &Scene<'_>, _: &[&str]) -> Result<Ask, String> {
    let Some(message) = scene.reply_to else { return Err("Say it as a reply to the alert.".into()) };
    Ok(Ask::one(Action::Acknowledge { at: scene.at.clone(), message: message.clone(), by: scene.by.clone() }))
}

fn pause(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let name = meant(scene, arguments)?;
    Ok(then_shown(scene, Action::PauseLink { name: name.clone() }, name))
}

fn resume(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let name = meant(scene, arguments)?;
    Ok(then_shown(scene, Action::ResumeLink { name: name.clone() }, name))
}

fn unlink(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    Ok(Ask::one(Action::RemoveLink { name: meant(scene, arguments)? }))
}

fn audience(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let from = || Some(scene.at.clone());
    Ok(match (scene.place, arguments) {
        (Place::Linked(links), []) => {
            let links = links.iter().map(|name| Action::Audience { of: Of::Link(name.clone()), from: from() });
            Ask::Do(links.collect())
        }
        (Place::Linked(_), _) => Ask::one(Action::Audience { of: Of::Link(meant(scene, arguments)?), from: from() }),
        _ => Ask::one(Action::Audience { of: whichever(&meant(scene, arguments)?), from: None }),
    })
}

fn approve(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let at = arguments.iter().position(|argument| *argument == "--key");
    let (arguments, key) = arguments.split_at(at.unwrap_or(arguments.len()));
    let key = key.split_first().map(|(_, groups)| Identity::new(groups.concat()));
    let [link @ .., person] = arguments else { return Err("Say `!seal approve PERSON`.".into()) };
    let (name, people) = (meant(scene, link)?, vec![PersonId::new(*person)]);
    Ok(Ask::one(match scene.place {
        Place::Linked(_) => Action::Approve { of: Of::Link(name), people, key, from: Some(scene.at.clone()) },
        Place::Direct | Place::Elsewhere => Action::Approve { of: whichever(&name), people, key, from: None },
    }))
}

/// In a direct chat a conversation may be named in the place of a link.
fn whichever(name: &LinkName) -> Of {
    parse_address(name.as_str()).map_or_else(|_| Of::Link(name.clone()), Of::Conversation)
}

/// Before others a change is answered with how the link is doing, which names no other conversation.
fn then_shown(scene: &Scene<'_>, change: Action, name: LinkName) -> Ask {
    match scene.place {
        Place::Linked(_) => Ask::Do(vec![change, Action::ShowLink { name }]),
        Place::Direct | Place::Elsewhere => Ask::one(change),
    }
}

/// The link that is meant: the one of this conversation, or the one that is named.
fn meant(scene: &Scene<'_>, arguments: &[&str]) -> Result<LinkName, String> {
    let named = arguments.join(" ");
    match (scene.place, named.as_str()) {
        (Place::Linked(links), "") => match links.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err("This conversation is in several links: name the one that you mean.".into()),
        },
        (Place::Linked(links), named) => {
            let known = links.iter().find(|link| link.as_str() == named).cloned();
            known.ok_or_else(|| "That is no link of this conversation.".into())
        }
        (_, "") => Err("Name the link that you mean.".into()),
        (_, named) => LinkName::parse(named),
    }
}

fn link(_: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let [name, ends @ ..] = arguments else {
        return Err("Say `!seal link NAME ACCOUNT/CONVERSATION ACCOUNT/CONVERSATION`.".into());
    };
    let ends = ends.iter().map(|end| parse_address(end)).collect::<Result<Vec<_>, _>>()?;
    Ok(Ask::one(Action::AddLink { name: LinkName::parse(name)?, ends }))
}

fn verify(scene: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    let (account, person) = (&scene.at.account, scene.by);
    let others = match arguments {
        [] => None,
        ["--wait"] => Some((account.clone(), None)),
        [whom] => Some((account.clone(), Some(PersonId::new(*whom)))),
        [account, whom] => {
            Some((AccountName::parse(account).map_err(|error| error.to_string())?, Some(PersonId::new(*whom))))
        }
        _ => return Err("Say `!seal verify PERSON`, or `!seal verify ACCOUNT PERSON`.".into()),
    };
    // A device of their own is named behind a slash.
    let is_self = |whom: &PersonId| whom.as_str().split('/').next() == person.as_str().split('/').next();
    match others {
        Some((_, Some(whom))) if is_self(&whom) => {}
        Some(_) if *scene.place != Place::Direct => {
            return Err("That is done in a direct encrypted chat with the bridge, not before others.".into());
        }
        Some((account, person)) => return Ok(Ask::Compare(Action::verify(account, person))),
        None => {}
    }
    let words = format!(
        "Emoji that were shown in this chat would prove nothing: whoever sits in it could show you others. Run this on the \
         bridge's host, and compare what the terminal shows with what your client shows:\nsealbridge verify {account} \
         {}",
        person.as_str()
    );
    let action = Action::verify(account.clone(), Some(person.clone()));
    Ok(Ask::Instead(action, words))
}

fn yes(_: &Scene<'_>, arguments: &[&str]) -> Result<Ask, String> {
    match arguments {
        [number] => Ok(Ask::Judge(Verdict::Yes((*number).to_owned()))),
        _ => Err("Say it with the number that is shown with the emoji.".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sealbridge_contract::ConversationId;

    use super::*;

    fn at(text: &str) -> Address {
        parse_address(text).expect("it is an address")
    }

    fn name(name: &str) -> LinkName {
        LinkName::parse(name).expect("it is a name")
    }

    struct Setting {
        place: Place,
        is_admin: bool,
        reply_to: Option<RemoteId>,
    }

    fn ask(setting: &Setting, said: &str) -> Result<Ask, String> {
        let (at, by) = (at("a/!here"), PersonId::new("@ann:x"));
        let Setting { place, is_admin, reply_to } = setting;
        let scene = Scene { at: &at, by: &by, reply_to: reply_to.as_ref(), place, is_admin: *is_admin };
        find(said)?.read(&scene, said)
    }

    fn linked(links: &[&str]) -> Setting {
        Setting { place: Place::Linked(links.iter().map(|link| name(link)).collect()), is_admin: true, reply_to: None }
    }

    fn direct() -> Setting {
        Setting { place: Place::Direct, is_admin: true, reply_to: None }
    }

    #[test]
    fn in_a_linked_conversation_each_word_means_its_own_link_and_nothing_beyond() {
        let here = linked(&["l"]);
        let one = |action| Ok(Ask::one(action));
        let shown = |change| Ok(Ask::Do(vec![change, Action::ShowLink { name: name("l") }]));
        assert_eq!(ask(&here, "pause"), shown(Action::PauseLink { name: name("l") }));
        assert_eq!(ask(&here, "RESUME l"), shown(Action::ResumeLink { name: name("l") }));
        assert_eq!(ask(&here, "unlink"), one(Action::RemoveLink { name: name("l") }));
        assert_eq!(ask(&here, "status"), one(Action::ShowLink { name: name("l") }));
        assert_eq!(ask(&here, "retry 7"), one(Action::RetryHere { at: at("a/!here"), number: 7 }));
        assert!(ask(&here, "pause other").is_err() && ask(&here, "why b/!far $e").is_err());
        assert!(ask(&here, "retry all").is_err());
        let (of, from) = (Of::Link(name("l")), Some(at("a/!here")));
        assert_eq!(ask(&here, "audience"), one(Action::Audience { of: of.clone(), from: from.clone() }));
        let people = vec![PersonId::new("@eve:x")];
        assert_eq!(
            ask(&here, "approve @eve:x"),
            one(Action::Approve { of: of.clone(), people: people.clone(), key: None, from: from.clone() })
        );
        let key = Some(Identity::new("abcdEF+/"));
        assert_eq!(ask(&here, "approve @eve:x --key abcd EF+/"), one(Action::Approve { of, people, key, from }));
        assert!(ask(&here, "approve").is_err() && ask(&here, "approve other @eve:x").is_err());
        let two = linked(&["l", "m"]);
        assert!(ask(&two, "pause").is_err());
        assert_eq!(ask(&two, "unlink m"), one(Action::RemoveLink { name: name("m") }));
    }

    #[test]
    fn reply_names_the_message_and_who_is_no_admin_learns_of_their_own_alone() {
        let reply_to = Some(RemoteId::new("$e"));
        let mut here = Setting { reply_to, ..linked(&["l"]) };
        let (there, message) = (at("a/!here"), RemoteId::new("$e"));
        let why = |by| Ok(Ask::one(Action::Why { at: there.clone(), message: message.clone(), by, brief: true }));
        assert_eq!(ask(&here, "why"), why(None));
        assert_eq!(
            ask(&here, "retry"),
            Ok(Ask::one(Action::RetryMessage { at: there.clone(), message: message.clone() }))
        );
        here.is_admin = false;
        assert_eq!(ask(&here, "why"), why(Some(PersonId::new("@ann:x"))));
    }

    #[test]
    fn in_a_direct_chat_links_and_letters_are_named() {
        let one = |action| Ok(Ask::one(action));
        let (said, ends) = ("link new a/!x b/!y", vec![at("a/!x"), at("b/!y")]);
        assert_eq!(ask(&direct(), said), one(Action::AddLink { name: name("new"), ends }));
        assert_eq!(ask(&direct(), "unlink my link"), one(Action::RemoveLink { name: name("my link") }));
        assert_eq!(ask(&direct(), "retry 7"), one(Action::RetryDeadLetter { number: 7 }));
        assert_eq!(ask(&direct(), "retry all"), one(Action::RetryDeadLetters));
        assert_eq!(ask(&direct(), "status"), one(Action::Status));
        let of = Of::Conversation(at("a/!x"));
        let people = vec![PersonId::new("@eve:x")];
        assert_eq!(ask(&direct(), "approve a/!x @eve:x"), one(Action::Approve { of, people, key: None, from: None }));
        let of = Of::Link(name("my link"));
        assert_eq!(ask(&direct(), "audience my link"), one(Action::Audience { of, from: None }));
        let by = Action::Why { at: at("b/!far"), message: RemoteId::new("$e"), by: None, brief: false };
        assert_eq!(ask(&direct(), "why b/!far $e"), one(by));
        for wrong in ["pause", "link", "link new nowhere", "retry seven", "why", "retry"] {
            assert!(ask(&direct(), wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unknown_word_is_answered_with_the_nearest_and_never_repeated() {
        assert!(find("puase").is_err_and(|words| words.contains("`!seal pause`")));
        let odd = find("x<b>y").expect_err("it is no word");
        assert!(odd.contains("!seal help") && !odd.contains("x<b>y"), "{odd}");
        assert_eq!(find("").map(|word| word.name), Ok("help"));
    }

    #[test]
    fn emoji_are_compared_elsewhere_and_the_command_for_it_is_named() {
        for own in ["verify", "verify @ann:x", "verify a @ann:x", "verify @ann:x/DEVICE"] {
            let Ok(Ask::Instead(Action::Verify { .. }, words)) = ask(&direct(), own) else {
                panic!("{own}: whoever sits in the chat could show them anything");
            };
            assert!(words.contains("sealbridge verify a @ann:x"), "{words}");
        }
    }

    #[test]
    fn emoji_of_somebody_else_are_compared_in_a_direct_chat_and_answered_by_their_number() {
        let verify = |account: &str, person: Option<&str>| {
            let account = AccountName::parse(account).expect("it is a name");
            Ok(Ask::Compare(Action::verify(account, person.map(PersonId::new))))
        };
        assert_eq!(ask(&direct(), "verify @eve:x"), verify("a", Some("@eve:x")));
        assert_eq!(ask(&direct(), "verify b @eve:x/DEVICE"), verify("b", Some("@eve:x/DEVICE")));
        assert_eq!(ask(&direct(), "verify --wait"), verify("a", None));
        assert!(ask(&linked(&["l"]), "verify @eve:x").is_err());
        assert_eq!(ask(&direct(), "yes 123456"), Ok(Ask::Judge(Verdict::Yes("123456".into()))));
        assert_eq!(ask(&direct(), "no"), Ok(Ask::Judge(Verdict::No)));
        assert!(ask(&direct(), "yes").is_err() && ask(&direct(), "yes 1 2").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_said_in_a_linked_conversation_touches_nothing_else(said in "\\PC{0,80}", reply in any::<bool>()) {
            let reply_to = reply.then(|| RemoteId::new("$e"));
            let account = AccountName::parse("a").expect("it is a name");
            let here = Address { account, conversation: ConversationId::new("!here") };
            for word in WORDS.iter().filter(|word| word.needs != Needs::AdminAlone) {
                let said = format!("{} {said}", word.name);
                let setting = Setting { reply_to: reply_to.clone(), ..linked(&["l"]) };
                let Ok(Ask::Do(actions)) = ask(&setting, &said) else { continue };
                for action in actions {
                    let within = match &action {
                        Action::ShowLink { name } | Action::PauseLink { name } | Action::ResumeLink { name }
                        | Action::RemoveLink { name } => name.as_str() == "l",
                        Action::Audience { of: Of::Link(name), from }
                        | Action::Approve { of: Of::Link(name), from, .. } => {
                            name.as_str() == "l" && from.as_ref() == Some(&here)
                        }
                        Action::Why { at, .. }
                        | Action::RetryHere { at, .. }
                        | Action::RetryMessage { at, .. }
                        | Action::Acknowledge { at, .. } => *at == here,
                        _ => false,
                    };
                    prop_assert!(within, "{said:?}: {action:?}");
                }
            }
        }
    }
}
