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
                    nine.testrun.org, or its code (dcaccount:...), for a new address there",
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

/// An address as it is; a new one at a relay, which its name or its code names.
fn address(given: &str) -> Result<String, String> {
    let relay = match code(given) {
        Some(relay) => Some(relay?),
        None => Some(given).filter(|given| !given.contains('@') && !given.is_empty()),
    };
    let made = match relay {
        None => given.to_owned(),
        Some(relay) if is_host(relay) => made::address(relay),
        Some(_) => return Err("not a mail address, and not the name of a relay".to_owned()),
    };
    let settings = Settings { address: Some(made.clone()), ..Settings::default() };
    settings.check().map(|()| made).map_err(|words| words.trim_start_matches("`address`: ").to_owned())
}

/// The relay whose code this is, if it is the code of an account: what Delta Chat shows to be scanned for a new one.
fn code(given: &str) -> Option<Result<&str, String>> {
    let after = |scheme: &str| {
        let (begins, rest) = given.split_at_checked(scheme.len())?;
        begins.eq_ignore_ascii_case(scheme).then(|| rest.strip_prefix("//").unwrap_or(rest))
    };
    if after("dclogin:").is_some() {
        let words = "this code has a password in it; give the address here, and the password when it is asked for";
        return Some(Err(words.to_owned()));
    }
    let named = after("dcaccount:")?;
    let Some(page) = named.strip_prefix("https://") else { return Some(Ok(named.trim_end_matches('/'))) };
    // What a relay gives out there is an address that nobody had, and it too is made by its first login.
    let relay = page.strip_suffix("/new").ok_or_else(|| {
        "this code asks a website for an account, which the bridge does not do; make one with it in Delta Chat, and give \
         its address and password here"
            .to_owned()
    });
    Some(relay)
}

/// Whether it can be the name of a server.
fn is_host(name: &str) -> bool {
    name.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '-'))
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
        for code in ["dcaccount:relay.example", "DCACCOUNT://relay.example/", "dcaccount:https://relay.example/new"] {
            assert!(address(code).is_ok_and(|made| made.ends_with("@relay.example")), "{code}");
        }
        let words = |code| address(code).expect_err("it is not taken");
        assert!(words("DCACCOUNT:https://mail.example/new_email?t=secret").contains("asks a website"));
        assert!(words("dclogin:bridge@mail.example?p=secret&v=1").contains("has a password in it"));
        for wrong in ["", "@mail.example", "bridge@", "no relay", "dcaccount:", "https://i.delta.chat/#A&x=B", "a..b"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
