//! Our side: an account on the lab's mail server, set up as an operator would, and run.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use sealbridge_contract::{
    AccountName, Answer, AnyTransport, Author, Cleartext, Clock, Context, ConversationId, DeliveryError, DeliveryId,
    Destination, EndToEnd, Fatal, Flow as _, Inbox, Intake, Message, Origin, PersonId, Receipt, RemoteId, Rule,
    SenderTrust, Slip, Step, Trail, Verdict,
    conformance::{Accepted, MemoryIntake},
    gate::Encryption,
    inbox::AccountStore,
    judge,
    transport::StoreKey,
};
use sealbridge_deltachat::{CertificateChecks, MailHost, Security, Settings, Setup, connect};
use sealbridge_lab::{DeltaPerson, MailServer, mail::Mailbox, venv::Venv};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const GROUP: &str = "Family";

/// An account that was set up.
pub(crate) struct Bridge {
    pub(crate) settings: Settings,
    pub(crate) folder: TempDir,
    pub(crate) intake: Arc<MemoryIntake>,
    pub(crate) clock: Clock,
    /// The invitation to the group.
    pub(crate) link: String,
    /// The invitation to ourselves.
    pub(crate) own_link: String,
    pub(crate) group: ConversationId,
}

/// The same, running.
pub(crate) struct Running {
    pub(crate) transport: Arc<dyn EndToEnd>,
    pub(crate) intake: Arc<MemoryIntake>,
    task: JoinHandle<Result<(), Fatal>>,
    stop: CancellationToken,
}

/// The bridge, running, and somebody in its group.
pub(crate) struct Met {
    pub(crate) bridge: Bridge,
    pub(crate) running: Running,
    pub(crate) ann: DeltaPerson,
    /// The group, as Ann numbers it.
    pub(crate) chat: u32,
}

/// Sets up the bridge on the shared mail server and has Ann follow its invitation. `None`: there is no mail server.
pub(crate) async fn met() -> Result<Option<Met>> {
    let Some(server) = MailServer::shared().await? else { return Ok(None) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    let chat = ann.join(&bridge.link).await?;
    Ok(Some(Met { bridge, running, ann, chat }))
}

/// Ann in the bridge's group, and where its provider lays mail for it.
pub(crate) struct InGroup {
    pub(crate) server: &'static MailServer,
    pub(crate) bridge: Bridge,
    pub(crate) running: Running,
    pub(crate) ann: DeltaPerson,
    pub(crate) chat: u32,
    pub(crate) address: String,
    pub(crate) group: String,
}

impl InGroup {
    pub(crate) async fn set() -> Result<Option<Self>> {
        let Some(server) = MailServer::shared().await? else { return Ok(None) };
        let bridge = Bridge::new(server).await?;
        let running = bridge.start().await?;
        let ann = DeltaPerson::new_on(server, "ann").await?;
        let chat = ann.join(&bridge.link).await?;
        let group = bridge.link.split('&').find_map(|part| part.strip_prefix("x="));
        let group = group.context("The group has an id")?.to_owned();
        let address = bridge.settings.address.clone().context("The bridge has an address")?;
        Ok(Some(Self { server, bridge, running, ann, chat, address, group }))
    }
}

/// One of the two keys that a person's engine has of its own, armoured: the `PUBLIC` or the `PRIVATE` one.
pub(crate) async fn own_key(of: &DeltaPerson, which: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    of.rpc("export_self_keys", json!([folder.path(), null])).await?;
    let mut keys = std::fs::read_dir(folder.path())?.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    keys.find(|key| key.contains(&format!("{which} KEY BLOCK"))).with_context(|| format!("There is no {which} key"))
}

pub(crate) fn account() -> AccountName {
    AccountName::parse("family").expect("it is a name")
}

pub(crate) fn context(folder: &Path, intake: &Arc<MemoryIntake>) -> Context {
    let shared: Arc<dyn Intake> = Arc::<MemoryIntake>::clone(intake);
    Context {
        account: account(),
        folder: folder.to_owned(),
        store_key: StoreKey::new([7; 32].into()),
        store: AccountStore::new(account(), shared),
        spool: Arc::new(intake.spool().clone()),
        clock: Clock::system(),
    }
}

/// Settings for a mailbox, on ports that may be a relay's.
pub(crate) async fn settings(mailbox: &Mailbox, imaps: u16, smtps: u16) -> Result<Settings> {
    let venv = tokio::task::spawn_blocking(Venv::ready).await??;
    let host = |port| Some(MailHost { server: "localhost".to_owned(), port, security: Security::Tls });
    Ok(Settings {
        address: Some(mailbox.address.clone()),
        engine: venv.delta_chat()?,
        certificate_checks: CertificateChecks::AcceptInvalid,
        imap: host(imaps),
        smtp: host(smtps),
        groups: vec![GROUP.to_owned()],
        ..Settings::default()
    })
}

/// What a login flow showed.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) words: Vec<String>,
    pub(crate) links: Vec<String>,
    /// The password that it made.
    pub(crate) made: Option<String>,
}

/// Plays the login flow, and gives everything that it showed.
pub(crate) async fn set_up(context: Context, settings: Settings, password: &str) -> Result<Shown> {
    let mut flow = Setup::new(context, settings);
    let (mut shown, mut answer) = (Shown::default(), None);
    loop {
        match flow.next(answer.take()).await? {
            Step::Show(words) => shown.words.push(words),
            Step::Invitation(invitation) => {
                ensure!(invitation.picture.as_str().lines().count() > 15, "it has no picture");
                shown.links.push(invitation.link.as_str().to_owned());
            }
            Step::Secret { name: Some("password"), value, .. } => shown.made = Some(value.as_str().to_owned()),
            Step::Progress(_) => {}
            Step::Ask(field) => {
                ensure!(field.name == "password" && field.secret, "it asks for {}", field.name);
                answer = Some(Answer::Text(password.into()));
            }
            Step::Done(_) => return Ok(shown),
            other => bail!("it says {other:?}"),
        }
    }
}

impl Bridge {
    pub(crate) async fn new(server: &MailServer) -> Result<Self> {
        let mailbox = server.mailbox("bridge")?;
        Self::on(&mailbox, server.imaps(), server.smtps(), Arc::default()).await
    }

    pub(crate) async fn on(mailbox: &Mailbox, imaps: u16, smtps: u16, intake: Arc<MemoryIntake>) -> Result<Self> {
        let folder = TempDir::new()?;
        let settings = settings(mailbox, imaps, smtps).await?;
        let shown = set_up(context(folder.path(), &intake), settings.clone(), &mailbox.password).await?;
        let [own_link, link] = shown.links.as_slice() else { bail!("it shows {} invitations", shown.links.len()) };
        let group = shown.words.last().context("it does not say what the group is called")?;
        let name = group.rsplit_once("called ").and_then(|(_, name)| name.strip_suffix('.'));
        Ok(Self {
            settings,
            folder,
            intake,
            clock: Clock::system(),
            link: link.clone(),
            own_link: own_link.clone(),
            group: ConversationId::new(name.context("the group has no name in links")?),
        })
    }

    /// Connects and runs it, and waits until the group can be spoken to.
    pub(crate) async fn start(&self) -> Result<Running> {
        let running = self.start_without_waiting().await?;
        let transport = Arc::clone(&running.transport);
        until("it is connected", || {
            transport.health().connected && transport.encryption(&self.group) == Encryption::Pinned
        })
        .await?;
        Ok(running)
    }

    pub(crate) async fn start_without_waiting(&self) -> Result<Running> {
        let context = Context { clock: self.clock.clone(), ..context(self.folder.path(), &self.intake) };
        let AnyTransport::EndToEnd(transport) = connect(context, self.settings.clone()).await? else {
            bail!("it is an end-to-end encrypted network");
        };
        let stop = CancellationToken::new();
        let shared: Arc<dyn Intake> = Arc::<MemoryIntake>::clone(&self.intake);
        let inbox = Inbox::new(account(), shared);
        let (runs, token) = (Arc::clone(&transport), stop.clone());
        let task = tokio::spawn(async move { runs.run(inbox, token).await });
        Ok(Running { transport, intake: Arc::clone(&self.intake), task, stop })
    }

    /// What people said and was accepted; that somebody joined is not among it.
    pub(crate) fn said(&self) -> Vec<Accepted> {
        self.intake.accepted().into_iter().filter(|accepted| accepted.how.is_some()).collect()
    }

    /// The process ids of engines that run in this account's folder.
    pub(crate) fn engines(&self) -> Vec<i32> {
        let wanted = format!("DC_ACCOUNTS_PATH={}\0", self.folder.path().join("accounts").display());
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let ours = processes.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            environment.windows(wanted.len()).any(|window| window == wanted.as_bytes()).then_some(pid)
        });
        ours.collect()
    }
}

impl Running {
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        let task = tokio::time::timeout(SOON, self.task).await.context("it does not stop")?;
        Ok(task??)
    }

    /// Ends it between any two instructions that wait, as a kill would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        // Aborted is what it is to be.
        let _ = self.task.await;
    }

    pub(crate) async fn ended(self) -> Result<Fatal> {
        let ended = tokio::time::timeout(SOON, self.task).await.context("it does not end")??;
        ended.err().context("it ends as if nothing were wrong")
    }

    pub(crate) fn slip(&self, to: &ConversationId) -> Slip {
        Slip {
            to: to.clone(),
            delivery: DeliveryId::random(),
            attempt: 0,
            enqueued_at: Clock::system().now(),
            trail: Trail::default(),
            reply_to: None,
            about: None,
            thread: None,
        }
    }

    pub(crate) async fn deliver(&self, words: &str, slip: &Slip) -> Result<Receipt, DeliveryError> {
        let author = Author { id: PersonId::new("@ann:elsewhere.test"), name: Some("Ann of Elsewhere".into()) };
        let message = Cleartext::new(Message::text(author, Clock::system().now(), words));
        let to = Destination::EndToEnd(self.transport.encryption(&slip.to));
        match judge(&message, Origin { sender: SenderTrust::Proven, said: &message }, &to, &Rule::default()) {
            Verdict::Speak(cleared) => self.transport.deliver(cleared, slip).await,
            other => Err(DeliveryError::retry(format!("the gate says {other:?}"))),
        }
    }

    /// Delivers as the service does: again and again under the same id, until it is certain.
    pub(crate) async fn insist(&self, words: &str, slip: &Slip) -> Result<Receipt> {
        let give_up = Instant::now() + SOON * 2;
        let mut attempt = 0;
        loop {
            match self.deliver(words, &Slip { attempt, ..slip.clone() }).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) if error.fate == sealbridge_contract::Fate::GiveUp || Instant::now() > give_up => {
                    bail!("{error} ({:?})", error.fate)
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            attempt += 1;
        }
    }

    /// Waits until a message was accepted.
    pub(crate) async fn accepted(&self, id: &str) -> Result<Accepted> {
        let id = RemoteId::new(id);
        let find = || self.intake.accepted().into_iter().find(|accepted| accepted.id == id);
        let accepted = until("the message is accepted", || find().is_some()).await;
        accepted.with_context(|| format!("refused were {:?}", self.intake.refused()))?;
        find().context("it was accepted")
    }
}

pub(crate) async fn until(what: &str, there: impl Fn() -> bool) -> Result<()> {
    let give_up = Instant::now() + SOON;
    while !there() {
        ensure!(Instant::now() < give_up, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
