//! How senders say what they say.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The form of a source's requests, as the config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Prometheus Alertmanager's webhook, version 4.
    Alertmanager,
    /// Grafana's contact point "webhook".
    Grafana,
    /// Hookshot's generic webhooks.
    Hookshot,
    /// ntfy's publishing.
    Ntfy,
    /// Slack's incoming webhooks.
    Slack,
    /// Discord's webhooks.
    Discord,
    /// Gotify's messages.
    Gotify,
    /// Apprise's `json://`, `xml://` and `form://`.
    Apprise,
    /// GitHub's webhooks.
    Github,
    /// GitLab's webhooks.
    Gitlab,
    /// Gitea's and Forgejo's webhooks.
    Gitea,
    /// Standard Webhooks, which many services send.
    StandardWebhooks,
    /// CloudEvents 1.0, structured, binary or as a batch.
    Cloudevents,
    /// Uptime Kuma's notification "webhook".
    UptimeKuma,
    /// Words, a form or any JSON.
    Raw,
    /// A mail, whole.
    Mail,
    /// Signs of life, as healthchecks takes them.
    Ping,
}

impl Dialect {
    /// All of them, with their names.
    pub const ALL: &[(Self, &str)] = &[
        (Self::Alertmanager, "alertmanager"),
        (Self::Grafana, "grafana"),
        (Self::Hookshot, "hookshot"),
        (Self::Ntfy, "ntfy"),
        (Self::Slack, "slack"),
        (Self::Discord, "discord"),
        (Self::Gotify, "gotify"),
        (Self::Apprise, "apprise"),
        (Self::Github, "github"),
        (Self::Gitlab, "gitlab"),
        (Self::Gitea, "gitea"),
        (Self::StandardWebhooks, "standard-webhooks"),
        (Self::Cloudevents, "cloudevents"),
        (Self::UptimeKuma, "uptime-kuma"),
        (Self::Raw, "raw"),
        (Self::Mail, "mail"),
        (Self::Ping, "ping"),
    ];

    /// Its name in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(dialect, _)| *dialect == self).map_or("raw", |(_, name)| name)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(_, known)| *known == name);
        known.map(|(dialect, _)| *dialect).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(_, name)| *name).collect();
            format!("the formats are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_format_is_the_one_that_the_config_reads() {
        for (dialect, name) in Dialect::ALL {
            assert_eq!(serde_json::to_value(dialect).expect("a name"), *name);
            assert_eq!(name.parse(), Ok(*dialect));
        }
        assert!("carrier-pigeon".parse::<Dialect>().is_err_and(|words| words.contains("alertmanager")));
    }
}
