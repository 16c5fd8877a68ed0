//! A Matrix room and a Delta Chat group on phones, linked by the real service.

pub mod chaos;
pub mod demo;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    DeltaPerson, MailServer, Person, Synapse,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    checker::{self, Heard, Tag, Tally},
    delta::Seen,
    demo::{Stage, heard_by, invited},
    fresh::random_hex,
    processes,
    synapse::Options,
    venv::Venv,
};

/// Long enough for mail that is fetched after a break.
const PATIENCE: Duration = Duration::from_secs(90);
/// When connections to the mail server broke again and again, the bridge has its engine ask for what that may have passed
/// over after five minutes at the latest.
pub(crate) const ASKED_AGAIN: Duration = Duration::from_secs(330);

/// How the engine's program is called, as far as the kernel keeps names.
pub const ENGINE: &str = "deltachat";

/// Everything that is on stage. It ends with this value.
#[derive(Debug)]
pub struct Family {
    /// Names this run in every message.
    pub run: String,
    /// The homeserver.
    pub server: Synapse,
    /// The mail server.
    pub mail: MailServer,
    /// The service.
    pub bridge: Bridge,
    /// The one who is on Matrix.
    pub ann: Arc<Person>,
    /// Her encrypted room.
    pub room: String,
    /// Those who are on Delta Chat, each with their number of the group's chat.
    pub phones: [(Arc<DeltaPerson>, u32); 2],
    /// What the group is called.
    pub group: String,
    /// The bridge's own user on Matrix.
    pub bot: String,
}

impl Family {
    /// Sets it: servers, the bridge by `sealbridge init`, people, room, group, link.
    pub async fn set(binary: &Binary, stage: &Stage, rotate_after: Option<u32>) -> Result<Self> {
        stage.heading("Starting a homeserver and a mail server");
        let (server, mail) = tokio::try_join!(Synapse::start("alpha.test", Options::default()), MailServer::start())?;
        stage.line(&format!("{} at {}", server.server_name(), server.url()));
        stage.line(&format!("Postfix at localhost:{}, Dovecot at localhost:{}", mail.smtps(), mail.imaps()));
        let run = random_hex::<4>()?;
        let group = format!("Family {run}");

        stage.heading("sealbridge init --answers");
        let account = AccountPlan::on(&server, "work").await?;
        let bot = account.user.id.clone();
        let secret = tempfile::NamedTempFile::new()?;
        let extra = phones_account(&mail, secret.path(), &group).await?;
        let mut bridge = Bridge::prepare(binary, &Plan { accounts: vec![account], admin: None, extra })?;
        let output = bridge.init().await?.ok()?.stdout;
        let link = invitation(&output).context("init shows the group's invitation")?;
        stage.line("a Matrix account, and a Delta Chat account with a group of its own");
        bridge.start().await?;

        stage.heading("People join");
        let (ann, ben, eve) = tokio::try_join!(
            Person::new_on(&server, "ann"),
            DeltaPerson::new_on(&mail, "ben"),
            DeltaPerson::new_on(&mail, "eve"),
        )?;
        let room = invited(&ann, &format!("talk {run}"), &bot, rotate_after).await?;
        let matrix = format!("work/{room}");
        bridge.wait_conversation(&matrix, PATIENCE).await?;
        let chats = tokio::try_join!(ben.join(&link), eve.join(&link))?;
        stage.line("ben and eve scanned the group's invitation");
        let phones = only_conversation(&bridge, "family/").await?;
        bridge.link("family", &[&matrix, &phones]).await?;
        stage.line(&format!("sealbridge links add family {matrix} {phones}"));
        let told = |text: &str| text.contains("readable on the host");
        ann.wait_for(|m| m.room == room && told(&m.body), PATIENCE).await?;
        for phone in [&ben, &eve] {
            phone.wait_for(|seen| told(&seen.text), PATIENCE).await?;
        }
        stage.line("everybody was told that the bridge's operator can read");
        let phones = [(Arc::new(ben), chats.0), (Arc::new(eve), chats.1)];
        Ok(Self { run, server, mail, bridge, ann: Arc::new(ann), room, phones, group, bot })
    }

    /// What is on one phone's screen of the group, said by somebody else.
    pub async fn screen(&self, phone: usize) -> Result<Vec<Seen>> {
        let (person, chat) = &self.phones[phone];
        screen(person, *chat).await
    }

    /// What Matrix said is judged on both phones; what the first phone said, on Matrix. The second listens.
    pub async fn judge(&self, said: &[Vec<Tag>; 2]) -> Result<[Tally; 2]> {
        let phones = self.judge_phones(&said[0]).await?.into_iter().sum();
        Ok([phones, checker::judge(&said[1], &heard_by(&self.ann, &self.room))])
    }

    /// The same of what was said on Matrix, for each phone.
    pub async fn judge_phones(&self, said: &[Tag]) -> Result<Vec<Tally>> {
        let mut tallies = Vec::new();
        for (phone, chat) in &self.phones {
            tallies.push(checker::judge(said, &heard_on(phone, *chat).await?));
        }
        Ok(tallies)
    }

    /// Kills the engine that the service runs, if it runs one at this moment.
    pub fn kill_engine(&self) -> Result<bool> {
        let Some(service) = self.bridge.pid() else { return Ok(false) };
        Ok(processes::child_of(service, ENGINE)?.is_some_and(processes::kill))
    }

    /// Where the search for words in clear looks. Not in the config, where the operator wrote the group's name; and the
    /// engine's own folder is another matter: it keeps its database as every Delta Chat client does, and SECURITY.md
    /// says so.
    pub fn places(&self) -> Result<Vec<PathBuf>> {
        let servers = [self.server.data_dir().to_owned(), self.mail.data_dir().to_owned()];
        Ok(servers.into_iter().chain(of_the_service(&self.bridge)?).collect())
    }

    /// Stops everything, so that what it had is on disk.
    pub async fn close(&self) -> Result<()> {
        self.bridge.stop().await?;
        tokio::try_join!(self.server.stop(), self.mail.stop())?;
        Ok(())
    }
}

/// The service's own folder and everything in it, but for the engine's and for what the operator wrote.
pub fn of_the_service(bridge: &Bridge) -> Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    let mut folder = bridge.folder().to_owned();
    for step in ["state", "accounts", "family", "accounts"] {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if !path.ends_with(step) && path.extension().is_none_or(|kind| kind != "toml") {
                places.push(path);
            }
        }
        folder.push(step);
    }
    ensure!(places.iter().any(|place| place.ends_with("journal.db")), "the journal is not among {places:?}");
    Ok(places)
}

async fn screen(phone: &DeltaPerson, chat: u32) -> Result<Vec<Seen>> {
    Ok(phone.messages().await?.into_iter().filter(|seen| !seen.own && seen.chat == chat).collect())
}

/// What others said in a chat, as a phone shows it: in the order of its screen, which is not always that of arrival.
pub async fn shown_on(phone: &DeltaPerson, chat: u32) -> Result<Vec<Seen>> {
    let mut screen = screen(phone, chat).await?;
    let shown = phone.rpc("get_message_ids", serde_json::json!([chat, false, false])).await?;
    let shown: Vec<u32> = serde_json::from_value(shown)?;
    screen.sort_by_key(|seen| shown.iter().position(|number| *number == seen.number));
    Ok(screen)
}

/// The same, to be judged.
pub async fn heard_on(phone: &DeltaPerson, chat: u32) -> Result<Vec<Heard>> {
    let shown = shown_on(phone, chat).await?;
    Ok(shown.into_iter().map(|seen| Heard { late: seen.text.contains("[late]"), text: seen.text }).collect())
}

/// The account's section of the answers.
async fn phones_account(mail: &MailServer, secret: &std::path::Path, group: &str) -> Result<String> {
    account_on(mail, [mail.imaps(), mail.smtps()], secret, group).await
}

/// The same behind these ports of IMAP and SMTP.
pub(crate) async fn account_on(
    mail: &MailServer,
    [imap, smtp]: [u16; 2],
    secret: &std::path::Path,
    group: &str,
) -> Result<String> {
    let engine = tokio::task::spawn_blocking(Venv::ready).await??.delta_chat()?;
    let mailbox = mail.mailbox("bridge")?;
    std::fs::write(secret, &mailbox.password)?;
    Ok(format!(
        "[accounts.family]\nnetwork = \"deltachat\"\naddress = {:?}\npassword_file = {secret:?}\nengine = {engine:?}\n\
         certificate_checks = \"accept-invalid\"\ngroups = [{group:?}]\n\
         imap = {{ server = \"localhost\", port = {imap} }}\nsmtp = {{ server = \"localhost\", port = {smtp} }}\n",
        mailbox.address,
    ))
}

/// The invitation of a group among all that was shown: it alone names a group, with `x`.
pub(crate) fn invitation(shown: &str) -> Option<String> {
    let in_a_link = |c: char| c.is_ascii_alphanumeric() || ":/.#&=%+-_~".contains(c);
    let links = shown.match_indices("https:").map(|(at, _)| shown[at..].split(|c| !in_a_link(c)).next());
    links.flatten().find(|link| link.contains("&x=")).map(str::to_owned)
}

/// The one encrypted conversation whose name begins so.
pub(crate) async fn only_conversation(bridge: &Bridge, begins: &str) -> Result<String> {
    let answer = bridge.cli(&["conversations", "list"]).await?.ok()?.stdout;
    let listed = answer.split('"').filter(|word| word.starts_with(begins)).map(str::to_owned);
    let listed: std::collections::BTreeSet<_> = listed.collect();
    ensure!(!listed.is_empty(), "There is no {begins} in {answer}");
    for at in &listed {
        if bridge.wait_conversation(at, Duration::from_secs(1)).await.is_ok() {
            return Ok(at.clone());
        }
    }
    anyhow::bail!("None of {listed:?} is encrypted")
}
