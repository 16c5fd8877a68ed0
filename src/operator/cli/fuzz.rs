//! A fuzz target of what is typed; `tests/fuzz` says how it is run.

use clap::Parser as _;

use super::args::Arguments;
use crate::{config::parse_address, operator::Action};

#[test]
fn commands() {
    sealbridge_fuzz::text_target("commands", |input| {
        if let Ok(address) = parse_address(input) {
            assert_eq!(address.to_string(), input, "two texts are one conversation");
        }
        let typed = std::iter::once("sealbridge").chain(input.split_whitespace());
        let arguments = match Arguments::try_parse_from(typed) {
            Ok(arguments) => arguments,
            Err(error) => {
                assert!(!error.render().to_string().is_empty(), "it does not say why");
                return;
            }
        };
        for action in arguments.command.actions().unwrap_or_default() {
            let sent = serde_json::to_string(&action).expect("an action is JSON");
            assert_eq!(serde_json::from_str::<Action>(&sent).ok(), Some(action), "the service would do something else");
        }
    });
}
