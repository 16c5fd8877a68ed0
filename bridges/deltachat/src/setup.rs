//! The login, step by step. Every step can be made again, so a flow that was broken off goes on where it stopped.

use std::{
    collections::{BTreeMap, VecDeque},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use async_trait::async_trait;
use sealbridge_child::{CallError, Child};
use sealbridge_contract::{
    Answer, Context, ConversationId, Fatal, Field, Flow, FlowError, NotAccepted, PersonId, Step, Text,
    inbox::{AccountStore, StoreWrite},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    backup,
    config::{CertificateChecks, MailHost, Security, Settings},
    core::{IDENTITY, Identity, identity, keep_private},
    engine::{self, Engine, servers, types::Login},
    ids, invite, made,
    passed::{self, NotBegun},
    probe,
};

/// The groups that were made, by their names in the config. The names are in the value, which is locked.
const MADE: &str = "groups";

/// Whether somebody has logged in, to the end.
///
/// # Errors
/// [`NotAccepted`]: the journal can't be read.
pub async fn is_set_up(store: &AccountStore) -> Result<bool, NotAccepted> {
    Ok(identity(store).await?.is_some() && !backup::waits(store).await?)
}

/// The login flow. Drop it before the account is connected: it runs the engine.
#[derive(Debug)]
pub struct Setup {
    context: Context,
    settings: Settings,
    at: At,
    engine: Option<Engine>,
    password: Option<SecretString>,
    invitations: VecDeque<Step>,
}

#[derive(Debug)]
enum At {
    Start,
    Password,
    LogIn,
    Groups,
    Invitations,
    Done,
}

impl Setup {
    /// Begins, or goes on after a break.
    #[must_use]
    pub fn new(context: Context, settings: Settings) -> Self {
        Self { context, settings, at: At::Start, engine: None, password: None, invitations: VecDeque::new() }
    }

    async fn start(&mut self) -> Result<Step, FlowError> {
        self.settings.check().map_err(FlowError::BadAnswer)?;
        keep_private(&self.context.folder).map_err(fatal)?;
        let known = identity(&self.context.store).await.map_err(kept)?;
        if let Some(known) = &known
            && !known.address.eq_ignore_ascii_case(self.settings.address())
        {
            let words = format!("the account was set up for {}; another address needs another account", known.address);
            return Err(FlowError::Policy(words));
        }
        let program = engine::program(&self.settings.engine, &self.context.folder);
        let child = Child::start(&program).map_err(|error| {
            let engine = self.settings.engine.display();
            FlowError::Failed(format!("the engine {engine} can't be started: {error}; get deltachat-rpc-server"))
        })?;
        let newer = engine::is_known(&child, &self.settings.engine).await.map_err(lost)?.map_err(FlowError::Policy)?;
        self.invitations.extend(newer.map(Step::Show));
        if backup::waits(&self.context.store).await.map_err(kept)? && known.is_some() {
            let account = backup::import(&child, &self.context).await?;
            self.engine = Some(Engine::new(child, account));
            self.at = At::Groups;
            return Ok(Step::Progress("The account goes on from the backup".to_owned()));
        }
        if let Some(account) = Engine::account(&child).await.map_err(lost)? {
            self.engine = Some(Engine::new(child, account));
            self.at = At::Groups;
            return Ok(Step::Progress("Logged in already".to_owned()));
        }
        let account = Engine::empty_account(&child).await.map_err(lost)?;
        self.engine = Some(Engine::new(child, account));
        if let Some(file) = &self.settings.password_file {
            self.password = Some(read_secret(file)?);
            self.at = At::LogIn;
            return Ok(Step::Progress("Logging in to the mail server".to_owned()));
        }
        self.at = At::Password;
        let label = format!(
            "The mail password of {} (leave it empty to make one up, for a new address on a chatmail relay)",
            self.settings.address()
        );
        Ok(Step::Ask(Field { name: "password", label, secret: true }))
    }

    fn engine(&self) -> Result<&Engine, FlowError> {
        self.engine.as_ref().ok_or_else(|| FlowError::Failed("the engine is not running".to_owned()))
    }

    async fn log_in(&mut self) -> Result<Step, FlowError> {
        let password = self.password.take().unwrap_or_default();
        let engine = self.engine()?;
        // Before the first word leaves: what is not encrypted is not to be sent.
        engine.set("force_encryption", "1").await.map_err(lost)?;
        engine.set("bot", "1").await.map_err(lost)?;
        engine.set("bcc_self", "0").await.map_err(lost)?;
        engine.set("displayname", &self.settings.name).await.map_err(lost)?;
        let Settings { imap, smtp, certificate_checks, .. } = &self.settings;
        let login = Login {
            addr: self.settings.address(),
            password: password.expose_secret(),
            certificate_checks: match certificate_checks {
                CertificateChecks::Strict => "strict",
                CertificateChecks::AcceptInvalid => "acceptInvalidCertificates",
            },
            imap_server: imap.as_ref().map(|host| host.server.as_str()),
            imap_port: imap.as_ref().map(|host| host.port),
            imap_security: imap.as_ref().map(security),
            smtp_server: smtp.as_ref().map(|host| host.server.as_str()),
            smtp_port: smtp.as_ref().map(|host| host.port),
            smtp_security: smtp.as_ref().map(security),
        };
        match engine.log_in(&login).await {
            Ok(()) => {
                self.at = At::Groups;
                Ok(Step::Progress("Logged in".to_owned()))
            }
            Err(CallError::Refused { refusal, .. }) => Err(self.refused(refusal.message()).await),
            Err(error) => Err(lost(error)),
        }
    }

    /// What is really wrong, since the engine's own words can mislead.
    async fn refused(&self, said: &str) -> FlowError {
        if let Some(refused) = servers::refused(said) {
            let words = refused.words();
            return if refused.for_now { FlowError::Unreachable(words) } else { FlowError::Refused(words) };
        }
        let tried = match self.engine() {
            Ok(engine) => engine.tried().await.unwrap_or_default(),
            Err(error) => return error,
        };
        let servers = if tried.is_empty() { self.settings.servers() } else { tried };
        if let Some(trouble) = probe::trouble(&servers, self.settings.certificate_checks).await {
            return FlowError::Unreachable(trouble);
        }
        let domain = self.settings.address().split_once('@').map_or("", |(_, domain)| domain);
        FlowError::Unreachable(format!(
            "the engine can't use the mail server of {domain}, and nothing is seen to be wrong with it; name another \
             with `imap` and `smtp`"
        ))
    }

    /// Makes the groups that are not there, and gets every invitation.
    async fn groups(&mut self) -> Result<Step, FlowError> {
        let engine = self.engine()?;
        if let Some(why) = servers::in_clear(&engine.servers().await.map_err(lost)?) {
            return Err(FlowError::Policy(why));
        }
        passed::begin(&self.context.store, engine).await.map_err(|error| match error {
            NotBegun::NotOpened => FlowError::Unreachable(format!(
                "the mailbox of {} can't be opened, though its password is right; say it again once its server answers",
                self.settings.address()
            )),
            NotBegun::Engine(error) => lost(error),
            NotBegun::Journal(error) => kept(error),
        })?;
        let invitation = engine.invitation(None).await.map_err(lost)?;
        let Some(fingerprint) = ids::invited_by(&invitation) else {
            return Err(FlowError::Failed("the engine's invitation has no fingerprint in it".to_owned()));
        };
        let known = identity(&self.context.store).await.map_err(kept)?;
        if known.is_some_and(|known| known.fingerprint != fingerprint) {
            let words = "the engine's account has another key than the one that was set up before";
            return Err(FlowError::Policy(words.to_owned()));
        }
        let mut steps = VecDeque::from([Step::Invitation(invite::invitation(invite::OURSELVES, invitation))]);
        for group in &self.settings.groups {
            let chat = self.our_group(group, &fingerprint).await?;
            let link = engine.invitation(Some(chat)).await.map_err(lost)?;
            let conversation = ids::conversation(chat, &fingerprint);
            steps.push_back(Step::Invitation(invite::invitation(format!("the group {group:?}"), link)));
            steps.push_back(Step::Show(format!("In links it is called {}.", conversation.as_str())));
        }
        let identity = Identity { address: self.settings.address().to_owned(), fingerprint };
        let value = serde_json::to_vec(&identity).map_err(|error| FlowError::Failed(error.to_string()))?;
        self.context.store.write(backup::first_login(StoreWrite::put(IDENTITY, value))).await.map_err(kept)?;
        self.invitations.extend(steps);
        self.at = At::Invitations;
        self.invitation().await
    }

    /// The group that was made under this name, or a new one: what others call theirs does not matter.
    async fn our_group(&self, name: &str, me: &PersonId) -> Result<u32, FlowError> {
        let (engine, store) = (self.engine()?, &self.context.store);
        let made = store.read(MADE).await.map_err(kept)?;
        let mut made: BTreeMap<String, String> = match &made {
            Some(made) => serde_json::from_slice(made.expose()).map_err(|_| kept(NotAccepted::Failed))?,
            None => BTreeMap::new(),
        };
        let known = made.get(name).and_then(|of| ids::chat(&ConversationId::new(of.as_str()), me));
        if let Some(chat) = known {
            match engine.chat(chat).await {
                Ok(there) if there.is_our_group() => return Ok(chat),
                // We left it, or it is gone.
                Ok(_) | Err(CallError::Refused { .. }) => {}
                Err(error) => return Err(lost(error)),
            }
        }
        // Killed before the next line, it stays behind, empty.
        let chat = engine.make_group(name).await.map_err(lost)?;
        made.insert(name.to_owned(), ids::conversation(chat, me).as_str().to_owned());
        let value = serde_json::to_vec(&made).map_err(|error| FlowError::Failed(error.to_string()))?;
        store.write(vec![StoreWrite::put(MADE, value)]).await.map_err(kept)?;
        Ok(chat)
    }

    async fn invitation(&mut self) -> Result<Step, FlowError> {
        if let Some(step) = self.invitations.pop_front() {
            return Ok(step);
        }
        if let Some(engine) = self.engine.take() {
            engine.child().stop().await;
        }
        self.at = At::Done;
        Ok(Step::Done(format!("Logged in as {}.", self.settings.address())))
    }
}

#[async_trait]
impl Flow for Setup {
    async fn next(&mut self, answer: Option<Answer>) -> Result<Step, FlowError> {
        match self.at {
            At::Start => self.start().await,
            At::Password => match answer {
                Some(Answer::Text(password)) if !password.is_empty() => {
                    self.password = Some(password.as_str().to_owned().into());
                    self.at = At::LogIn;
                    Ok(Step::Progress("Logging in to the mail server".to_owned()))
                }
                Some(Answer::Text(_)) => {
                    let password = made::password();
                    let value = Text::new(password.as_str());
                    self.password = Some(password.into());
                    self.at = At::LogIn;
                    let label = format!("The new mail password of {}", self.settings.address());
                    Ok(Step::Secret { name: Some("password"), label, value })
                }
                _ => Err(FlowError::BadAnswer("a password is needed".to_owned())),
            },
            At::LogIn => self.log_in().await,
            At::Groups => self.groups().await,
            At::Invitations => self.invitation().await,
            At::Done => Ok(Step::Done("Logged in already.".to_owned())),
        }
    }
}

fn security(host: &MailHost) -> &'static str {
    match host.security {
        Security::Tls => "ssl",
        Security::Starttls => "starttls",
    }
}

fn read_secret(file: &Path) -> Result<SecretString, FlowError> {
    let failed = |error: std::io::Error| FlowError::Failed(format!("{}: {error}", file.display()));
    let mode = std::fs::metadata(file).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let words = format!("{}: others can read this file; say chmod 600", file.display());
        return Err(FlowError::Policy(words));
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(file).map_err(failed)?);
    Ok(text.trim_end_matches(['\r', '\n']).to_owned().into())
}

fn lost(error: CallError) -> FlowError {
    FlowError::Failed(error.to_string())
}

fn kept(error: NotAccepted) -> FlowError {
    FlowError::Failed(error.to_string())
}

fn fatal(fatal: Fatal) -> FlowError {
    FlowError::Failed(fatal.to_string())
}
