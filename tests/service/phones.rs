//! The service between a Matrix room and a Delta Chat group, set up as an operator does it, with a person in each.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    DeltaPerson, Lab, MailServer, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    venv::Venv,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that is on stage.
pub(crate) struct Family {
    pub(crate) bridge: Bridge,
    /// In the room, with mautrix-python.
    pub(crate) ann: Person,
    /// In the group, with Delta Chat.
    pub(crate) ben: DeltaPerson,
    pub(crate) room: String,
    pub(crate) chat: u32,
}

impl Family {
    /// `None` when the servers can't be had here; the test is then counted as skipped.
    pub(crate) async fn set(binary: &Binary) -> Result<Option<Self>> {
        let Some(mail) = MailServer::shared().await? else { return Ok(None) };
        let Some(lab) = Lab::shared().await? else { return Ok(None) };
        let engine = tokio::task::spawn_blocking(Venv::ready).await??.delta_chat()?;
        let mailbox = mail.mailbox("bridge")?;
        let secret = tempfile::NamedTempFile::new()?;
        std::fs::write(secret.path(), &mailbox.password)?;
        let extra = format!(
            "[accounts.family]\nnetwork = \"deltachat\"\naddress = {:?}\npassword_file = {:?}\nengine = {:?}\n\
             certificate_checks = \"accept-invalid\"\ngroups = [\"Family\"]\n\
             imap = {{ server = \"localhost\", port = {} }}\nsmtp = {{ server = \"localhost\", port = {} }}\n",
            mailbox.address,
            secret.path(),
            engine,
            mail.imaps(),
            mail.smtps()
        );
        let account = AccountPlan::on(&lab.a, "work").await?;
        let bot = account.user.id.clone();
        let mut bridge = Bridge::prepare(binary, &Plan { accounts: vec![account], admin: None, extra })?;
        let output = bridge.init().await?.ok()?.stdout;
        let group = said_after(&output, "In links it is called ", |c| c.is_ascii_hexdigit() || c == '-')?;
        let in_a_link = |c: char| c.is_ascii_alphanumeric() || ":/.#&=%+-_~".contains(c);
        let link = said_after(&output, "https:", in_a_link)?;
        bridge.start().await?;

        let (ann, ben) = tokio::try_join!(Person::new_on(&lab.a, "ann"), DeltaPerson::new_on(mail, "ben"))?;
        let room = ann.create_encrypted_room("talk", &[&bot]).await?;
        ann.wait_member(&room, &bot, "join", PATIENCE).await?;
        let chat = ben.join(&format!("https:{link}")).await?;
        ensure!(!bridge.log_text().contains("Family"), "the group's name is in the log");
        bridge.cli(&["links", "add", "lounge", &format!("work/{room}"), &format!("family/{group}")]).await?.ok()?;
        Ok(Some(Self { bridge, ann, ben, room, chat }))
    }
}

/// What `sealbridge init` says after `words`, for as long as it has these characters.
fn said_after<'a>(output: &'a str, words: &str, has: impl Fn(char) -> bool) -> Result<&'a str> {
    let (_, rest) = output.rsplit_once(words).with_context(|| format!("it never says {words:?}"))?;
    Ok(rest.split(|c| !has(c)).next().unwrap_or_default())
}
