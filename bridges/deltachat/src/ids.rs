//! Names of chats and people, made of what the engine says.

use sealbridge_contract::{ConversationId, PersonId};

/// How many letters of a fingerprint are enough to tell two accounts of ours apart.
const SHORT: usize = 12;

/// A chat's name. The engine only numbers its chats; with our key's fingerprint in it, a number of another account
/// never stands for a chat of this one.
pub(crate) fn conversation(chat: u32, me: &PersonId) -> ConversationId {
    ConversationId::new(format!("{chat}-{}", short(me)))
}

/// A chat's number, if it is one of this account.
pub(crate) fn chat(conversation: &ConversationId, me: &PersonId) -> Option<u32> {
    let (chat, of) = conversation.as_str().split_once('-')?;
    if of == short(me) { chat.parse().ok() } else { None }
}

/// Whether it is written like a chat of some account's.
pub(crate) fn may_be_chat(conversation: &ConversationId) -> bool {
    conversation.as_str().split_once('-').is_some_and(|(chat, of)| {
        let is_short = of.len() == SHORT && of.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_short && chat.parse::<u32>().is_ok_and(|number| number.to_string() == chat)
    })
}

fn short(me: &PersonId) -> String {
    me.as_str().chars().take(SHORT).collect::<String>().to_ascii_lowercase()
}

/// What the `count`th edit of a message is called. The engine keeps no name of an edit, a reaction or a deletion, so
/// each has one that both sides can make. It has a gap, so that nobody can call a message so: no mail id has one.
pub(crate) fn edit(of: &str, count: u32) -> String {
    format!("{of} edit {count}")
}

/// What the `count`th change of what somebody reacts to a message with is called.
pub(crate) fn reaction(to: &str, person: &PersonId, count: u32) -> String {
    format!("{to} reaction {} {count}", person.as_str())
}

/// What the deletion of a message is called.
pub(crate) fn deletion(of: &str) -> String {
    format!("{of} deletion")
}

/// What a message is called of which the engine does not even give the name.
pub(crate) fn nameless(message: u32) -> String {
    format!("message {message}")
}

/// Our own fingerprint, as an invitation names it.
pub(crate) fn invited_by(invitation: &str) -> Option<PersonId> {
    let after =
        invitation.strip_prefix("OPENPGP4FPR:").or_else(|| invitation.split_once('#').map(|(_, after)| after))?;
    let fingerprint: String = after.chars().take_while(char::is_ascii_hexdigit).collect();
    is_fingerprint(&fingerprint).then(|| PersonId::new(fingerprint.to_ascii_uppercase()))
}

/// Somebody else's fingerprint, out of the engine's words about the keys used with them. `None` unless there is
/// exactly one beside ours.
pub(crate) fn other(words: &str, me: &PersonId) -> Option<PersonId> {
    let mut others = fingerprints(words).into_iter().filter(|found| found != me.as_str());
    let other = others.next()?;
    others.next().is_none().then(|| PersonId::new(other))
}

/// Every run of lines that has nothing but groups of hexadecimal digits.
fn fingerprints(words: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut run = String::new();
    for line in words.lines().chain([""]) {
        let groups = line.split_whitespace();
        let hex = groups.clone().all(|group| group.len() == 4 && group.chars().all(|c| c.is_ascii_hexdigit()));
        if hex && groups.clone().next().is_some() {
            run.extend(groups);
            continue;
        }
        if is_fingerprint(&run) {
            found.push(run.to_ascii_uppercase());
        }
        run.clear();
    }
    found
}

/// Whether it is a fingerprint in the form that people are named by.
pub(crate) fn is_person(id: &str) -> bool {
    is_fingerprint(id) && !id.contains(|c: char| c.is_ascii_lowercase())
}

fn is_fingerprint(text: &str) -> bool {
    (text.len() == 40 || text.len() == 64) && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "6939F96BE29E044F5E79489225DD86D68975DBDE";
    const WORDS: &str = "Messages are end-to-end encrypted.\nFingerprints:\n\nann (ann@example.org):\n9263 58B8 F4D8 \
                         4C7D B81F\n9668 A351 D95C 24C0 3621\n\nMe (bot@example.org):\n6939 F96B E29E 044F 5E79\n4892 \
                         25DD 86D6 8975 DBDE\n\nRelays:\nann@example.org";

    #[test]
    fn person_is_their_fingerprint_and_nothing_that_they_call_themselves() {
        let me = PersonId::new(ME);
        let ann = "926358B8F4D84C7DB81F9668A351D95C24C03621";
        assert_eq!(other(WORDS, &me), Some(PersonId::new(ann)));
        let forged = WORDS.replace("ann (ann@example.org):", "0000 0000 0000 0000 0000 (ann@example.org):");
        assert_eq!(other(&forged, &me), Some(PersonId::new(ann)));
        let two = WORDS.replace("ann (", &format!("\n{}\n(", "0000 ".repeat(10).trim()));
        assert_eq!(other(&two, &me), None, "whose words are in doubt is nobody");
        assert_eq!(other("no encryption", &me), None);
    }

    #[test]
    fn own_fingerprint_is_in_every_form_of_an_invitation() {
        let forms =
            [format!("https://i.delta.chat/#{ME}&v=3&x=a"), format!("OPENPGP4FPR:{ME}#a=b"), "nothing".to_owned()];
        let found = forms.map(|form| invited_by(&form));
        assert_eq!(found, [Some(PersonId::new(ME)), Some(PersonId::new(ME)), None]);
    }

    #[test]
    fn nothing_that_is_done_to_a_message_is_called_as_a_message_can_be() {
        let (ann, like_ann) = (PersonId::new(format!("{ME}A")), PersonId::new(format!("{ME}B")));
        let names = [edit("a@b", 1), reaction("a@b", &ann, 1), deletion("a@b"), nameless(1)];
        // The engine takes a mail id up to the first gap.
        assert!(names.iter().all(|name| name.contains(' ')), "{names:?}");
        assert_ne!(reaction("a@b", &ann, 1), reaction("a@b", &like_ann, 1));
    }

    #[test]
    fn chat_of_another_account_is_no_chat_of_this_one() {
        let (me, other) = (PersonId::new(ME), PersonId::new("0".repeat(40)));
        let id = conversation(11, &me);
        assert_eq!(id.as_str(), "11-6939f96be29e");
        assert_eq!(chat(&id, &me), Some(11));
        assert_eq!(chat(&id, &other), None);
        assert_eq!(chat(&ConversationId::new("11"), &me), None);
    }
}
