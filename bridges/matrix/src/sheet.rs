//! What is asked of whoever adds a Matrix account.

use ruma::{ServerName, UserId};
use sealbridge_contract::{
    LoginSheet, Question,
    sheet::{Known, nothing},
};

use crate::{config::Inviter, engine::address};

/// What is asked before the login.
pub const SHEET: LoginSheet = LoginSheet {
    network: "matrix",
    about: "an ordinary account on any homeserver",
    settings: &[
        Question {
            key: "user",
            label: "The bot's own Matrix user id, such as @bot:example.org (an ordinary account)",
            many: false,
            after_person: false,
            proposed: nothing,
            read: user,
        },
        Question {
            key: "homeserver",
            label: "Its homeserver's address, if the user id is not enough to find it",
            many: false,
            after_person: false,
            proposed: nothing,
            read: homeserver,
        },
        Question {
            key: "invites.from",
            label: "Who may invite it into rooms: user ids or server names, separated by commas",
            many: true,
            after_person: true,
            proposed: inviters,
            read: inviter,
        },
    ],
    secrets: &["password", "token", "recovery_key"],
    person: Some(Question {
        key: "person",
        label: "You, the operator: your own Matrix user id, such as @you:example.org",
        many: false,
        after_person: false,
        proposed: nothing,
        read: user,
    }),
};

fn user(given: &str) -> Result<String, String> {
    let sound = given.starts_with('@') && UserId::parse(given).is_ok();
    if sound { Ok(given.to_owned()) } else { Err("a Matrix user id is written like @name:example.org".into()) }
}

fn homeserver(given: &str) -> Result<String, String> {
    if !given.is_empty() {
        address(given).map_err(|why| format!("{why}; write it like https://matrix.example.org"))?;
    }
    Ok(given.to_owned())
}

fn inviter(given: &str) -> Result<String, String> {
    let read: Result<Inviter, _> = given.parse();
    read.map(|inviter| inviter.to_string())
        .map_err(|_| format!("`{given}` is neither like @name:example.org nor like example.org"))
}

/// The operator; where they have no user, somebody of the account's own server has to invite it.
fn inviters(known: &Known<'_>) -> String {
    let server = |user: &str| UserId::parse(user).map(|user| user.server_name().to_owned()).ok();
    let own = known.answer("user").and_then(server);
    match known.person {
        Some(person) if server(person) == own => person.to_owned(),
        _ => own.as_deref().map_or(String::new(), |server: &ServerName| server.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inviter_that_is_proposed_is_the_operator_or_the_own_server() {
        let answers = [("user", "@bot:a.test".to_owned())];
        let of = |person| inviters(&Known { answers: &answers, person });
        assert_eq!(of(Some("@me:a.test")), "@me:a.test");
        assert_eq!(of(Some("@me:b.test")), "a.test");
        assert_eq!(of(None), "a.test");
    }

    #[test]
    fn what_is_no_answer_is_told_at_once() {
        assert!(user("bot").is_err() && user("@bot").is_err() && user("@bot:a.test").is_ok());
        assert!(homeserver("").is_ok() && homeserver("a.test").is_ok() && homeserver("http://a.test").is_err());
        assert!(inviter("@no server").is_err() && inviter("a.test").is_ok() && inviter("@me:a.test").is_ok());
    }
}
