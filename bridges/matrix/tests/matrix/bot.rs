//! Our side: an account on a real homeserver, whose journal outlives it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use sealbridge_contract::{
    AccountName, Answer, Clock, Context, ConversationId, Destination, EndToEnd, Flow, Inbox, Origin, Receipt, Rule,
    Slip, Spool, Step, Text, Transport, Verdict,
    conformance::{Accepted, MemoryIntake},
    delivery::DeliveryError,
    gate::{Encryption, SenderTrust},
    ids::DeliveryId,
    inbox::{AccountStore, Intake},
    judge,
    message::{Author, Message},
    transport::StoreKey,
};
use sealbridge_lab::{
    Proxy,
    synapse::{Synapse, User},
};
use sealbridge_matrix::{Matrix, Settings, Setup};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// An account of ours. It can be connected again and again.
pub(crate) struct Bot {
    pub(crate) user: User,
    pub(crate) intake: Arc<MemoryIntake>,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) recovery_key: Option<String>,
    pub(crate) spool: Arc<dyn Spool>,
    folder: TempDir,
    key: [u8; 32],
}

/// A connected account that receives.
pub(crate) struct Running {
    pub(crate) matrix: Arc<Matrix>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), sealbridge_contract::Fatal>>,
}

impl Bot {
    /// A new account on `server`, logged in by the setup flow, at `url` (which may be a proxy's).
    pub(crate) async fn new(server: &Synapse, url: &str, settings: serde_json::Value) -> Result<Self> {
        Self::with_intake(server, url, settings, Arc::default()).await
    }

    pub(crate) async fn with_intake(
        server: &Synapse,
        url: &str,
        settings: serde_json::Value,
        intake: Arc<MemoryIntake>,
    ) -> Result<Self> {
        // The first test of the process wins; `RUST_LOG` says what is shown.
        if std::env::var_os("RUST_LOG").is_some() {
            let _ =
                tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_test_writer().try_init();
        }
        let user = server.register_unique("bridge").await?;
        let mut settings: Settings = serde_json::from_value(settings)?;
        settings.homeserver = Some(url.to_owned());
        let folder = tempfile::tempdir()?;
        let (spool, clock) = (Arc::new(intake.spool().clone()), Clock::system());
        let mut bot = Self { user, intake, clock, settings, recovery_key: None, spool, folder, key: [7; 32] };
        bot.set_up(&[]).await?;
        Ok(bot)
    }

    /// Runs the setup flow with the account's password and further answers.
    pub(crate) async fn set_up(&mut self, answers: &[(&str, &str)]) -> Result<String> {
        let mut setup = Setup::new(self.context(), self.settings.clone());
        let mut answer = None;
        loop {
            match setup.next(answer.take()).await? {
                Step::Ask(field) => {
                    let given = answers.iter().find(|(name, _)| *name == field.name).map(|(_, given)| *given);
                    let own = match field.name {
                        "user" => Some(self.user.id.as_str()),
                        "password" => Some(self.user.password.as_str()),
                        _ => None,
                    };
                    let given = given.or(own).with_context(|| format!("No answer to {}", field.name))?;
                    answer = Some(Answer::Text(Text::new(given)));
                }
                Step::Secret { value, .. } => self.recovery_key = Some(value.as_str().to_owned()),
                Step::Done(words) => {
                    self.settings = setup.settings().clone();
                    return Ok(words);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn context(&self) -> Context {
        let account = AccountName::parse("work").expect("it is a name");
        let intake: Arc<dyn Intake> = Arc::<MemoryIntake>::clone(&self.intake);
        Context {
            account: account.clone(),
            folder: self.folder.path().to_owned(),
            store_key: StoreKey::new(self.key.into()),
            store: AccountStore::new(account, intake),
            spool: Arc::clone(&self.spool),
            clock: self.clock.clone(),
        }
    }

    /// The settings and the folder; the login is in the intake.
    pub(crate) fn into_parts(self) -> (Settings, TempDir) {
        (self.settings, self.folder)
    }

    /// Forgets the login and the crypto store, as on a new machine.
    pub(crate) fn on_a_new_machine(&mut self) -> Result<()> {
        self.intake = Arc::new(MemoryIntake::default());
        self.folder = tempfile::tempdir()?;
        Ok(())
    }

    pub(crate) async fn connect(&self) -> Result<Arc<Matrix>> {
        Matrix::connect(self.context(), self.settings.clone()).await.map_err(|fatal| anyhow!(fatal))
    }

    /// Connects, and receives until stopped or killed.
    pub(crate) async fn start(&self) -> Result<Running> {
        let matrix = self.connect().await?;
        let intake: Arc<dyn Intake> = Arc::<MemoryIntake>::clone(&self.intake);
        let inbox = Inbox::new(AccountName::parse("work").expect("it is a name"), intake);
        let stop = CancellationToken::new();
        let (running, stopping) = (Arc::clone(&matrix), stop.clone());
        let task = tokio::spawn(async move { running.run(inbox, stopping).await });
        Ok(Running { matrix, stop, task })
    }

    /// Waits for a message with these words.
    pub(crate) async fn hears(&self, words: &str) -> Result<Accepted> {
        let found = || self.intake.accepted().into_iter().find(|one| one.words.0 == words);
        until(found).await.with_context(|| {
            let state = (self.intake.accepted().len(), self.intake.still_waiting(), self.intake.gaps());
            format!("Not heard; (accepted, waiting, gaps) {state:?}, refused {:?}", self.intake.refused())
        })
    }

    /// What people said; not who came and went meanwhile.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.intake.accepted().into_iter().map(|one| one.words.0).filter(|words| !words.is_empty()).collect()
    }

    /// Waits until something was told whose topic starts so; gives its words.
    pub(crate) async fn tells(&self, topic: &str) -> Result<String> {
        let told = || self.intake.incidents().into_iter().find(|one| one.topic.starts_with(topic)).map(|one| one.words);
        until(told).await.with_context(|| format!("Not told: {topic}; told: {:?}", self.intake.incidents()))
    }
}

impl Running {
    /// As a power cut: nothing ends in order.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.task.await??)
    }

    /// What `run` ended with.
    pub(crate) async fn ended(self) -> Result<()> {
        Ok(tokio::time::timeout(SOON, self.task).await???)
    }

    pub(crate) async fn waits_for(&self, room: &str, encryption: Encryption) -> Result<()> {
        let id = ConversationId::new(room);
        let reached = || (self.matrix.encryption(&id) == encryption).then_some(());
        until(reached).await.with_context(|| format!("It is {:?}", self.matrix.encryption(&id)))
    }

    /// Waits until we are in an encrypted room with so many members.
    pub(crate) async fn joins(&self, room: &str, members: usize) -> Result<()> {
        let id = ConversationId::new(room);
        let there = || {
            let infos = self.matrix.conversations();
            let info = infos.into_iter().find(|info| info.id == id)?;
            (info.encryption == Encryption::Pinned && info.members >= members).then_some(())
        };
        until(there).await.with_context(|| format!("Not joined; it knows {:?}", self.matrix.conversations()))
    }

    /// Cuts the connection, so that the next request meets the proxy's new rules.
    pub(crate) async fn reconnects(&self, proxy: &Proxy) -> Result<()> {
        proxy.go_offline();
        until(|| (!self.matrix.health().connected).then_some(())).await?;
        proxy.go_online();
        Ok(())
    }

    /// Delivers once, as the flow would.
    pub(crate) async fn deliver(&self, slip: &Slip, author: Author, words: &str) -> Result<Receipt, DeliveryError> {
        let message = sealbridge_contract::Cleartext::new(Message::text(author, slip.enqueued_at, words));
        let to = Destination::EndToEnd(Encryption::Pinned);
        let Verdict::Speak(cleared) =
            judge(&message, Origin { sender: SenderTrust::Local, said: &message }, &to, &Rule::default())
        else {
            return Err(DeliveryError::give_up("the gate refuses"));
        };
        self.matrix.deliver(cleared, slip).await
    }

    /// Delivers as Ann from elsewhere, until it is taken.
    pub(crate) async fn says(&self, room: &str, words: &str) -> Result<Receipt> {
        let slip = slip(room);
        let give_up = Instant::now() + SOON;
        loop {
            match self.deliver(&slip, ann(), words).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) if Instant::now() > give_up => bail!("not delivered: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

pub(crate) fn ann() -> Author {
    Author { id: sealbridge_contract::PersonId::new("ann@elsewhere"), name: Some("Ann".into()) }
}

pub(crate) fn slip(room: &str) -> Slip {
    Slip::new(ConversationId::new(room), DeliveryId::random(), Clock::system().now())
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(ask: impl FnMut() -> Option<T>) -> Result<T> {
    until_within(SOON, ask).await
}

pub(crate) async fn until_within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let give_up = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > give_up {
            bail!("not within {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
