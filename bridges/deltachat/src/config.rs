//! What the operator can set for a Delta Chat account: `[accounts.NAME]` with `network = "deltachat"`.

use std::path::PathBuf;

use schemars::JsonSchema;
use sealbridge_contract::ConversationId;
use serde::{Deserialize, Serialize};

use crate::ids;

/// The settings of one Delta Chat account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Our mail address, on an account that nobody else uses: `bridge@example.org`. An address on a chatmail relay is
    /// made by its first login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A file with the mail password, by its full path. Only its owner may read it. By default the password is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// How we are called, where no person of another network speaks.
    pub name: String,
    /// The engine: `deltachat-rpc-server` 2.65 or a later 2.x, by its path or by a name in `PATH`.
    pub engine: PathBuf,
    /// Which certificates of the mail server are accepted.
    pub certificate_checks: CertificateChecks,
    /// Where mail is read. By default the engine finds it by the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imap: Option<MailHost>,
    /// Where mail is handed in. By default the engine finds it by the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<MailHost>,
    /// The largest file that is taken from a chat, in MiB. Of a larger one only the words cross, and its sender is told.
    pub most_file_mib: u32,
    /// Groups of ours: each is made when the account is set up, and its invitation is shown.
    pub groups: Vec<String>,
}

/// Which certificates of the mail server are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateChecks {
    /// Those that a public authority signed for the server's name. The engine knows no others.
    #[default]
    Strict,
    /// Any. Whoever sits on the way can learn the mail password, and who writes to whom; not what is written.
    AcceptInvalid,
}

/// One side of a mail server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailHost {
    /// Its name.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    #[serde(default)]
    pub security: Security,
}

/// How a connection to a mail server is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// TLS from the first byte.
    #[default]
    Tls,
    /// TLS after a greeting in clear.
    Starttls,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: None,
            password_file: None,
            name: "Sealbridge".to_owned(),
            engine: "deltachat-rpc-server".into(),
            certificate_checks: CertificateChecks::default(),
            imap: None,
            smtp: None,
            most_file_mib: 512,
            groups: Vec::new(),
        }
    }
}

impl Settings {
    /// Says what can't be right, without asking anybody.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check(&self) -> Result<(), String> {
        let Some(address) = &self.address else {
            return Err("`address`: a mail address is needed, such as bridge@example.org".to_owned());
        };
        let (user, domain) = address.split_once('@').unwrap_or_default();
        if user.is_empty() || domain.is_empty() || address.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("`address`: not a mail address, such as bridge@example.org".to_owned());
        }
        if self.password_file.as_ref().is_some_and(|file| !file.is_absolute()) {
            return Err("`password_file`: give the full path".to_owned());
        }
        if self.name.trim().is_empty() {
            return Err("`name`: it can't be empty".to_owned());
        }
        if self.groups.iter().any(|group| group.trim().is_empty()) {
            return Err("`groups`: a group has a name".to_owned());
        }
        Ok(())
    }

    /// Says why a conversation can't be one of this account's, without asking anybody.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check_conversation(&self, conversation: &ConversationId) -> Result<(), String> {
        match ids::may_be_chat(conversation) {
            true => Ok(()),
            false => Err("not a chat, such as 10-0123456789ab".to_owned()),
        }
    }

    /// The largest file that is taken from a chat, in bytes.
    pub(crate) fn most_file(&self) -> u64 {
        u64::from(self.most_file_mib) << 20
    }

    pub(crate) fn address(&self) -> &str {
        self.address.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Settings {
        serde_json::from_str(json).expect("it is of the right form")
    }

    #[test]
    fn what_can_not_work_is_said_before_anybody_is_asked() {
        let cases = [
            ("{}", "`address`"),
            (r#"{"address": "bridge"}"#, "`address`"),
            (r#"{"address": "@example.org"}"#, "`address`"),
            (r#"{"address": "a b@example.org"}"#, "`address`"),
            (r#"{"address": "b@example.org", "password_file": "secret"}"#, "`password_file`"),
            (r#"{"address": "b@example.org", "name": " "}"#, "`name`"),
            (r#"{"address": "b@example.org", "groups": [""]}"#, "`groups`"),
        ];
        for (json, expected) in cases {
            let error = read(json).check().expect_err("it can't work");
            assert!(error.starts_with(expected), "{json}: {error}");
        }
        assert_eq!(read(r#"{"address": "bridge@example.org"}"#).check(), Ok(()));
    }

    #[test]
    fn certificates_are_checked_unless_the_operator_says_otherwise() {
        assert_eq!(read("{}").certificate_checks, CertificateChecks::Strict);
        assert!(serde_json::from_str::<Settings>(r#"{"certificate_check": "strict"}"#).is_err());
        assert!(
            serde_json::from_str::<Settings>(r#"{"imap": {"server": "a", "port": 1, "security": "plain"}}"#).is_err()
        );
    }

    #[test]
    fn settings_survive_being_written() {
        let settings = read(r#"{"address": "b@a.test", "imap": {"server": "m", "port": 993}, "groups": ["Family"]}"#);
        let written = serde_json::to_string(&settings).expect("settings serialise");
        assert_eq!(read(&written), settings);
    }
}
