//! The config as it is in force, with what may be a secret taken out.

use serde_json::Value;
use url::Url;

use super::Config;

const REDACTED: &str = "(redacted)";

/// The whole config, defaults included, with what they come to, redacted.
#[must_use]
pub fn redacted(config: &Config) -> Value {
    let mut config = config.clone();
    if !config.service.root_key_in_keyring {
        config.service.root_key_file = Some(config.root_key_path());
    }
    config.service.control_socket = Some(config.control_path());
    let mut value = serde_json::to_value(config).expect("a config is texts, numbers and tables with text keys");
    redact(&mut value);
    value
}

/// The same as TOML.
#[must_use]
pub fn redacted_toml(config: &Config) -> String {
    toml::to_string_pretty(&redacted(config)).expect("a config came from TOML, so it goes back")
}

/// A config holds no secrets. Should a transport's settings hold one all the same, its name gives it away.
fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(name, inner)| {
            if sounds_secret(name) && !inner.is_object() && !inner.is_null() {
                *inner = REDACTED.into();
            } else {
                redact(inner);
            }
        }),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Some(clean) = without_userinfo(text) {
                *text = clean;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a key of this name would hold a secret.
#[must_use]
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = ["password", "passphrase", "token", "secret", "credential", "private_key", "recovery_key"];
    !name.ends_with("_file") && !name.ends_with("_files") && words.iter().any(|word| name.contains(word))
}

fn without_userinfo(text: &str) -> Option<String> {
    let mut url = Url::parse(text).ok().filter(|url| !url.username().is_empty() || url.password().is_some())?;
    url.set_password(None).ok()?;
    url.set_username("redacted").ok()?;
    Some(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_taken_out() {
        let mut value = serde_json::json!({
            "accounts": { "a": {
                "password": "hunter2", "access_token": ["t1"], "password_file": "/etc/p",
                "homeserver": "https://u:hunter2@example.org/x", "user": "@a:example.org",
                "hook_secret": 7, "token_lifetime": null,
            } },
        });
        redact(&mut value);
        let expected = serde_json::json!({
            "accounts": { "a": {
                "password": "(redacted)", "access_token": "(redacted)", "password_file": "/etc/p",
                "homeserver": "https://redacted@example.org/x", "user": "@a:example.org",
                "hook_secret": "(redacted)", "token_lifetime": null,
            } },
        });
        assert_eq!(value, expected);
    }
}
