//! `[service]`: where the service keeps what it keeps.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the service keeps what it keeps. Paths are relative to the config file's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// The folder of the journal and of everything else that must survive. Nobody else may read it.
    pub state: PathBuf,
    /// The file with the root key, which opens the journal. Default: `root.key` in the state folder. The credential
    /// `sealbridge-root-key`, if the service manager gives one, goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_key_file: Option<PathBuf>,
    /// Whether the root key is in the desktop's keyring (Secret Service), read by `secret-tool`, and in no file. The
    /// credential goes before it.
    pub root_key_in_keyring: bool,
    /// The Unix socket on which the commands talk to the running service. Default: `control.sock` in the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_socket: Option<PathBuf>,
    /// Whether the running service may reach no more of the machine than it needs, where the kernel has Landlock.
    pub confine: bool,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            state: "sealbridge-state".into(),
            root_key_file: None,
            root_key_in_keyring: false,
            control_socket: None,
            confine: true,
        }
    }
}
