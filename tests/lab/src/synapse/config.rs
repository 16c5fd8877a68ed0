//! The smallest configuration that Synapse runs with.

use std::path::Path;

use serde_json::json;

use super::federation;

/// How a homeserver differs from the lab's usual one.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keep Synapse's own rate limits: 0.2 messages a second and user, in bursts of 10.
    pub stock_rate_limits: bool,
    /// Leave the data directory behind.
    pub keep_data: bool,
    /// Speak with other homeservers of the lab, and be called by the address at which they reach it.
    pub federates: bool,
    /// Further settings, put over ours by key.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

pub(super) struct Secrets {
    pub(super) registration: String,
    pub(super) macaroon: String,
    pub(super) form: String,
}

const LIMITS: &[&str] = &[
    "rc_3pid_validation",
    "rc_admin_redaction",
    "rc_joins_per_room",
    "rc_key_requests",
    "rc_media_create",
    "rc_message",
    "rc_registration",
    "rc_room_creation",
];
const SPLIT_LIMITS: &[(&str, &[&str])] = &[
    ("rc_invites", &["per_room", "per_user", "per_issuer"]),
    ("rc_joins", &["local", "remote"]),
    ("rc_login", &["address", "account", "failed_attempts"]),
];

/// JSON is YAML, so this is a configuration file.
pub(super) fn render(name: &str, port: u16, dir: &Path, secrets: &Secrets, options: &Options) -> serde_json::Value {
    let mut config = json!({
        "server_name": name,
        "pid_file": dir.join("homeserver.pid"),
        "public_baseurl": format!("http://127.0.0.1:{port}/"),
        "listeners": [{
            "port": port,
            "type": "http",
            "tls": false,
            "bind_addresses": ["127.0.0.1"],
            "resources": [{ "names": ["client"], "compress": false }],
        }],
        "database": { "name": "sqlite3", "args": { "database": dir.join("homeserver.db") } },
        "log_config": dir.join("log.yaml"),
        "media_store_path": dir.join("media"),
        "signing_key_path": dir.join("signing.key"),
        "registration_shared_secret": secrets.registration,
        "macaroon_secret_key": secrets.macaroon,
        "form_secret": secrets.form,
        "report_stats": false,
        "trusted_key_servers": [],
        "federation_domain_whitelist": [],
        "presence": { "enabled": false },
        "url_preview_enabled": false,
        "max_upload_size": "256M",
        // A cost that only makes logging in slow here.
        "bcrypt_rounds": 4,
    });
    if let Some(config) = config.as_object_mut() {
        if !options.stock_rate_limits {
            let free = json!({ "per_second": 100_000, "burst_count": 100_000 });
            for name in LIMITS {
                config.insert((*name).into(), free.clone());
            }
            for (name, kinds) in SPLIT_LIMITS {
                let kinds = kinds.iter().map(|kind| ((*kind).to_owned(), free.clone()));
                config.insert((*name).into(), kinds.collect::<serde_json::Map<_, _>>().into());
            }
        }
        if options.federates {
            federation::open(config, dir, name);
        }
        config.extend(options.extra.clone());
    }
    config
}

pub(super) fn logging(dir: &Path) -> serde_json::Value {
    json!({
        "version": 1,
        "formatters": { "precise": {
            "format": "%(asctime)s - %(name)s - %(lineno)d - %(levelname)s - %(request)s - %(message)s",
        } },
        "handlers": { "file": {
            "class": "logging.FileHandler",
            "filename": dir.join("homeserver.log"),
            "formatter": "precise",
        } },
        "loggers": { "synapse.storage.SQL": { "level": "INFO" } },
        "root": { "level": "INFO", "handlers": ["file"] },
        "disable_existing_loggers": false,
    })
}
