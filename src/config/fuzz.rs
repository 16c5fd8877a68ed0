//! Fuzz targets of the config; `tests/fuzz` says how they are run.

use std::path::Path;

use super::{Period, Size, edit, load_text, redacted_toml};
use sealbridge_contract::AccountName;

/// Whether something that may be a secret stands where only values do, so that no message may show it.
fn is_value_alone(text: &str) -> bool {
    text.match_indices("hunter2").all(|(at, _)| text[..at].ends_with("= \"") && text[at..].starts_with("hunter2\"\n"))
}

#[test]
fn config_files() {
    let path = Path::new("/nowhere/sealbridge.toml");
    let name = AccountName::parse("another").expect("it is a name");
    let section: toml::Table = toml::from_str("network = \"matrix\"\nuser = \"@b:x\"\n").expect("it is TOML");
    sealbridge_fuzz::text_target("config", |input| {
        match load_text(path, input) {
            Ok(config) => {
                assert!(config.service.state.is_absolute() && config.control_path().is_absolute());
                let shown = redacted_toml(&config);
                if !shown.contains("(redacted)") {
                    let again = load_text(path, &shown).expect("what is shown is a config");
                    // Paths are shown as they come out.
                    assert_eq!(redacted_toml(&again), shown, "it is another config");
                    assert_eq!(again.control_path(), config.control_path(), "it is another config");
                }
            }
            Err(problems) => {
                assert!(!problems.0.is_empty(), "nothing is wrong, and it is refused");
                let words = problems.to_string();
                assert!(!is_value_alone(input) || !words.contains("hunter2"), "a value is shown: {words}");
            }
        }
        if let Ok(more) = edit::with_account(input, &name, &section) {
            let [before, mut after]: [toml::Table; 2] =
                [input, &more].map(|text| toml::from_str(text).expect("it is TOML"));
            let accounts = after.get_mut("accounts").and_then(toml::Value::as_table_mut).expect("there is an account");
            assert_eq!(accounts.remove("another"), Some(toml::Value::Table(section.clone())));
            if accounts.is_empty() && !before.contains_key("accounts") {
                after.remove("accounts");
            }
            // What is no number is not like itself.
            assert!(after == before || input.contains("nan"), "something else changed: {more}");
        }
    });
}

#[test]
fn units() {
    sealbridge_fuzz::text_target("units", |input| {
        if let Some(period) = Period::parse(input) {
            assert_eq!(Period::parse(&period.to_string()), Some(period));
        }
        if let Some(size) = Size::parse(input) {
            assert_eq!(Size::parse(&size.to_string()), Some(size));
        }
    });
}
