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
        clock(core, &mut findings);
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
    if !state.device_known {
        let words = "The homeserver has no keys of the bridge's device, so nobody can encrypt for it. If that stays so, \
                     log the device out and run `sealbridge init`, which logs in as a new one.";
        find(true, "keys", words.into());
    }
    if state.other_devices > 0 {
        let (many, s) = (state.other_devices, if state.other_devices == 1 { "" } else { "s" });
        let words = format!(
            "The bridge's account has {many} other device{s}. They get no keys from the bridge; somebody is logged in as \
             it all the same, and may read with its recovery key. Log them out in the account's settings if they are not \
             yours."
        );
        find(false, "device", words);
    }
    match state.keys_left {
        Some((0, false)) => {
            let words = "The homeserver has no one-time key of the bridge left, so nobody who has not written before can \
                         give it keys. New ones are uploaded by themselves; if this stays so, the homeserver refuses them.";
            find(true, "keys", words.into());
        }
        Some((0, true)) => {
            let words = "The homeserver has no one-time key of the bridge left, and gives out the one to fall back to. New \
                         ones are uploaded by themselves; if this stays so, the homeserver refuses them.";
            find(false, "keys", words.into());
        }
        _ => {}
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

/// How far clocks may differ before it matters: commands are taken for a few minutes, and what was said before a link is
/// made does not cross.
const SKEW: i64 = 120_000;

fn clock(core: &Core, findings: &mut Vec<Finding>) {
    let Some(theirs) = core.http.its_time() else { return };
    let skew = core.clock.now().0.saturating_sub(theirs);
    if skew.abs() < SKEW {
        return;
    }
    let (seconds, how) = (skew.abs() / 1000, if skew > 0 { "ahead of" } else { "behind" });
    let words = format!(
        "The clock here is {seconds} s {how} the homeserver's. Commands in conversations may be refused as too old, and \
         words from about the time of a link may be left out or carried. Set the clock by a time server, such as with \
         `timedatectl set-ntp true`, or tell the homeserver's admin."
    );
    findings.push(Finding { grave: false, topic: "clock", words });
}

/// What somebody can do about events that wait for this reason.
#[must_use]
pub fn way_out(reason: &str) -> Option<&'static str> {
    const WAYS: [(&str, &str); 6] = [
        ("the room key is missing", "it may still come; else its sender can say it again"),
        (
            "its sender withheld the key",
            "their client gives no keys to this device: it must be signed (see the account above), and where their client \
             shares with verified people only, they must verify the bridge",
        ),
        ("the room key does not reach back", "it was said before the bridge got the key; its sender can say it again"),
        (
            "the device is not signed by its owner",
            "its sender verifies that device in their client's security settings",
        ),
        ("the identity is another", "`sealbridge verify` compares it, `sealbridge approve` takes it as it is"),
        ("the device is not known", "the homeserver does not show the device yet; it is asked again"),
    ];
    WAYS.iter().find(|(cause, _)| reason.contains(cause)).map(|(_, way)| *way)
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
