//! What an operator should know of an account, before it hurts.

use sealbridge_contract::transport::Finding;

use crate::{
    config::Trust,
    core::Core,
    engine::{EngineError, HttpErrorKind, IdentityError},
    transport::Matrix,
};

impl Matrix {
    /// Looks at the account. Asks the homeserver a few questions.
    pub async fn doctor(&self) -> Vec<Finding> {
        let core = &self.core;
        let mut findings = Vec::new();
        identity(core, &mut findings).await;
        limits(core, &mut findings);
        guard(core, &mut findings);
        rooms(core, &mut findings);
        if core.settings.trust == Trust::AnyDevice {
            findings.push(Finding {
                grave: false,
                topic: "device",
                words: "`trust = \"any-device\"`: the homeserver could add a device of its own and read along.".into(),
            });
        }
        findings
    }
}

async fn identity(core: &Core, findings: &mut Vec<Finding>) {
    let mut find = |grave, topic, words: String| findings.push(Finding { grave, topic, words });
    let Some(engine) = core.engine() else {
        find(true, "homeserver", "The homeserver was not reached yet.".into());
        return;
    };
    let state = match engine.own_state().await {
        Ok(state) => state,
        Err(IdentityError::Engine(EngineError::Http(error))) => {
            let words = match error.kind {
                HttpErrorKind::UnknownToken { .. } => {
                    "The session is not accepted any more; `sealbridge init` logs in again as a new device.".to_owned()
                }
                _ => format!("The homeserver does not answer: {error}"),
            };
            find(true, "homeserver", words);
            return;
        }
        Err(error) => {
            find(true, "device", error.to_string());
            return;
        }
    };
    if !state.cross_signed {
        find(
            true,
            "device",
            "The device is not cross-signed; stop the service and run `sealbridge init` again.".into(),
        );
    }
    if !state.secret_storage {
        find(false, "backup", "The account has no secret storage: its identity can't be recovered.".into());
    }
    match (&state.backup_version, &state.server_backup_version) {
        (None, _) => {
            find(false, "backup", "There is no key backup: missing keys can't be looked for in it.".into());
        }
        (Some(ours), Some(theirs)) if ours != theirs => {
            find(false, "backup", "Another client replaced the key backup; ours is not used any more.".into());
        }
        (Some(_), None) => find(false, "backup", "The key backup was deleted.".into()),
        _ => {}
    }
}

fn limits(core: &Core, findings: &mut Vec<Finding>) {
    let seen = core.budget.seen();
    if seen.limited == 0 {
        return;
    }
    let pause = seen.pause.unwrap_or_default().as_secs_f32();
    let me = core.me();
    findings.push(Finding {
        grave: false,
        topic: "rate-limit",
        words: format!(
            "The homeserver said \"too many requests\" {} times, lately for {pause:.1} s. All rooms of the account share \
             its limit. Its admin lifts it for this user with: POST /_synapse/admin/v1/users/{me}/override_ratelimit \
             and the body {{\"messages_per_second\": 0, \"burst_count\": 0}}.",
            seen.limited
        ),
    });
}

/// What the egress guard stopped since the start.
fn guard(core: &Core, findings: &mut Vec<Finding>) {
    for (stop, count) in core.http.watch().stopped {
        let words = format!(
            "The egress guard stopped {count} requests since the start: {stop}. Nothing of them left. This is a fault of \
             the bridge; please report it."
        );
        findings.push(Finding { grave: true, topic: "egress-guard", words });
    }
}

fn rooms(core: &Core, findings: &mut Vec<Finding>) {
    use sealbridge_contract::gate::Encryption;
    for info in core.rooms.infos() {
        let what = match info.encryption {
            Encryption::Violated => "was encrypted, and its homeserver now says that it is not",
            Encryption::Replaced => "was given up for another; say `sealbridge links replace`",
            _ => continue,
        };
        let words = format!("The room {} {what}.", info.id.as_str());
        findings.push(Finding { grave: true, topic: "rooms", words });
    }
}
