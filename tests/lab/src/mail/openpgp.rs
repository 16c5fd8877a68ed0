//! Mail and keys that Delta Chat would not make, by another implementation of OpenPGP.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::venv::Venv;

/// Signs these words with an armoured key and encrypts them to one that is written as base64, in a way that `openpgp.py` knows: `sound`, or with
/// something wrong about it. Gives the armoured message.
pub async fn seal(secret: &str, public: &str, words: &str, how: &str) -> Result<String> {
    ask(json!({ "secret": secret, "public": public, "words": words, "how": how })).await
}

/// The public part of a key as base64, after it was made `expired` or `revoked` by its own word, or `flooded` with the
/// signatures of others. `weak`: of another key of the same person, which is too short.
pub async fn changed(secret: &str, how: &str) -> Result<String> {
    ask(json!({ "secret": secret, "how": how })).await.map(|key| key.trim().to_owned())
}

async fn ask(asked: Value) -> Result<String> {
    let run = move || {
        let mut command = Venv::ready()?.command("openpgp.py")?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("It reads")?.write_all(asked.to_string().as_bytes())?;
        let answer = child.wait_with_output()?;
        ensure!(answer.status.success(), "openpgp.py ended with {}", answer.status);
        Ok(String::from_utf8(answer.stdout)?)
    };
    tokio::task::spawn_blocking(run).await?
}
