//! What is asked of whoever adds a Delta Chat account.

use sealbridge_contract::{LoginSheet, Question, sheet::nothing};

use crate::{config::Settings, made};

/// What is asked before the login.
pub const SHEET: LoginSheet = LoginSheet {
    network: "deltachat",
    about: "Delta Chat, over a mail account of its own or a new one on a chatmail relay",
    settings: &[
        Question {
            key: "address",
            label: "The bot's own mail address, such as bridge@mail.example; or the name of a chatmail relay, such as \
                    nine.testrun.org, for a new address there",
            many: false,
            after_person: false,
            proposed: nothing,
            read: address,
        },
        Question {
            key: "groups",
            label: "The names of groups to make for it, separated by commas, if it is not to be added to yours",
            many: true,
            after_person: false,
            proposed: nothing,
            read: group,
        },
    ],
    secrets: &["password"],
    // People are known by their keys, and a key is known once its owner has joined.
    person: None,
};

/// An address as it is; a new one at a relay.
fn address(given: &str) -> Result<String, String> {
    let made = if given.contains('@') || given.is_empty() { given.to_owned() } else { made::address(given) };
    let settings = Settings { address: Some(made.clone()), ..Settings::default() };
    settings.check().map(|()| made).map_err(|words| words.trim_start_matches("`address`: ").to_owned())
}

fn group(given: &str) -> Result<String, String> {
    Ok(given.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_alone_becomes_a_new_address_and_an_address_stays() {
        assert_eq!(address("bridge@mail.example").as_deref(), Ok("bridge@mail.example"));
        let [one, other] = [(); 2].map(|()| address("relay.example").expect("it is a name"));
        assert!(one.ends_with("@relay.example") && one != other, "{one} {other}");
        for wrong in ["", "@mail.example", "bridge@", "no relay"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
