//! The whole suite of canaries in short; `cargo lab canaries` runs it at full width.

use std::time::Duration;

use anyhow::{Result, ensure};
use sealbridge_lab::{bridge::Binary, canaries, demo::Stage, mail, servers};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_any_kind_is_in_clear_anywhere_while_things_fail() -> Result<()> {
    if !(mail::available().await && servers::available().await) {
        return Ok(());
    }
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let options = canaries::Options { messages: 60, pause: Duration::from_millis(150), faults: 7 };
    let outcome = canaries::run(&binary, &Stage::new(true), options).await?;
    ensure!(outcome.is_clean(), "{}: {outcome:?}", outcome.sentence());
    // Each network's kinds, and each form in each kind of place.
    ensure!(outcome.messages >= 60 && outcome.kinds >= 47 && outcome.kills >= 1 && outcome.struck > 0, "{outcome:?}");
    ensure!(outcome.places == 15 && outcome.controls > 800, "{outcome:?}");
    // Eleven at rest, two of programs, and of each account a recovery key in two ways, a password, and a token or more; and that of the mailbox.
    ensure!(outcome.keys >= 22, "{outcome:?}");
    Ok(())
}
