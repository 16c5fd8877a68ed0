//! The login, step by step: session, device, identity, recovery key.
//!
//! Every step is kept before the next, so a flow that was broken off goes on where it stopped.

use async_trait::async_trait;
use ruma::UserId;
use sealbridge_contract::{Answer, Context, Field, Flow, FlowError, NotAccepted, Step, Text, inbox::AccountStore};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::info;

use crate::{
    age::{self, Older},
    config::Settings,
    core::{forget_keys, open_engine, opens_later},
    engine::{
        Engine, EngineError, Http, HttpError, HttpErrorKind, IdentityError, OpenError, RecoveryKey, Session,
        SessionError, adopt_token, discover, log_in, log_out,
    },
    session_store,
};

/// The login flow. For an account that is logged in it looks whether it still is, and logs in anew as another device if
/// it is not. Drop it before the account is connected: it holds the crypto store.
#[derive(Debug)]
pub struct Setup {
    context: Context,
    settings: Settings,
    at: At,
    http: Option<Http>,
    session: Option<Session>,
    engine: Option<Engine>,
    password: Option<SecretString>,
}

/// Where the flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    User,
    Homeserver,
    Discover,
    AskPassword,
    Password,
    Token,
    LogIn,
    Identity,
    IdentityPassword,
    RecoveryKey,
    Recovery,
    Finish,
    Done,
}

/// Whether somebody has logged in, to the end.
///
/// # Errors
/// [`NotAccepted`]: the journal can't be read.
pub async fn is_set_up(store: &AccountStore) -> Result<bool, NotAccepted> {
    session_store::is_ready(store).await
}

impl Setup {
    /// Begins, or goes on after a break.
    #[must_use]
    pub fn new(context: Context, settings: Settings) -> Self {
        Self { context, settings, at: At::Start, http: None, session: None, engine: None, password: None }
    }

    /// The settings, with what was asked for filled in: after [`Step::Done`], for the config file.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn step(&mut self, answer: Option<Answer>) -> Result<Step, FlowError> {
        match self.at {
            At::Start => self.start().await,
            At::User => {
                self.settings.user = Some(words(answer)?.as_str().trim().to_owned());
                self.after_user()
            }
            At::Homeserver => {
                self.settings.homeserver = Some(words(answer)?.as_str().trim().to_owned());
                Ok(self.go(At::Discover, "Looking for the homeserver"))
            }
            At::Discover => self.discover().await,
            At::AskPassword => {
                let label =
                    format!("The password of {} (leave it empty to give an access token instead)", self.whose());
                Ok(self.ask(At::Password, "password", &label, true))
            }
            At::Password => {
                let given = words(answer)?;
                if given.is_empty() {
                    let label = format!("An access token of {}, of a device that nobody else uses", self.whose());
                    return Ok(self.ask(At::Token, "token", &label, true));
                }
                self.password = Some(given.as_str().to_owned().into());
                Ok(self.go(At::LogIn, "Logging in"))
            }
            At::Token => self.adopt(words(answer)?).await,
            At::LogIn => self.log_in().await,
            At::IdentityPassword => {
                self.password = Some(words(answer)?.as_str().to_owned().into());
                self.identity().await
            }
            At::Identity => self.identity().await,
            At::RecoveryKey => {
                let key: SecretString = words(answer)?.as_str().trim().to_owned().into();
                self.engine()?.recover(&key).await.map_err(identity)?;
                Ok(self.go(At::Finish, "The account's identity was taken over; this device is signed"))
            }
            At::Recovery => self.recovery().await,
            At::Finish => self.finish().await,
            At::Done => Ok(Step::Done("Logged in already.".into())),
        }
    }

    async fn start(&mut self) -> Result<Step, FlowError> {
        self.settings.check().map_err(FlowError::BadAnswer)?;
        match session_store::session_at(&self.context.store, &self.settings).await {
            Ok(Some(session)) => self.go_on(session).await,
            Ok(None) => match &self.settings.user {
                Some(_) => self.after_user(),
                None => Ok(self.ask(
                    At::User,
                    "user",
                    "The bridge's account, such as @bridge:example.org. An ordinary account of its own",
                    false,
                )),
            },
            Err(error) => Err(FlowError::Failed(error.to_string())),
        }
    }

    /// Somebody logged in before: to the end, or it was broken off, or the homeserver does not know of it any more.
    async fn go_on(&mut self, session: Session) -> Result<Step, FlowError> {
        let store = &self.context.store;
        let ready = session_store::is_ready(store).await.map_err(journal)?;
        if session_store::is_device_lost(store).await.map_err(journal)? {
            return self.anew(session).await;
        }
        self.note(&session);
        match self.try_open(&session).await {
            Ok(engine) => {
                match age::look(&self.context.store, &self.context.store_key, &engine).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(Older::Keys { .. })) => {
                        drop(engine);
                        return self.anew(session).await;
                    }
                    Ok(Err(older)) => return Err(FlowError::Policy(older.to_string())),
                    Err(error) => return Err(FlowError::Failed(error.to_string())),
                }
                let signed = ready && engine.require_cross_signed().await.is_ok();
                self.engine = Some(engine);
                self.session = Some(session);
                if signed {
                    return self.finish().await;
                }
                Ok(self.go(At::Identity, "Going on with the login that was made before"))
            }
            Err(error) if is_lost(&error) => self.anew(session).await,
            // Nothing can be done now, and nothing has to be: the account connects by itself later.
            Err(error) if ready && opens_later(&error) => {
                self.at = At::Done;
                Ok(Step::Done(format!("Logged in already; it can't be looked at now: {error}.")))
            }
            Err(error) => Err(opening(error)),
        }
    }

    /// Logs in as a new device. What was received stays, and the account's identity with it.
    async fn anew(&mut self, session: Session) -> Result<Step, FlowError> {
        let made_at =
            session_store::session(&self.context.store).await.map_err(|error| FlowError::Failed(error.to_string()))?;
        if let Some(made_at) = made_at.map(|made| made.homeserver).filter(|made_at| *made_at != session.homeserver) {
            return Err(FlowError::Refused(format!(
                "{} does not know the session that was made at {made_at}; mend `homeserver` in the config",
                session.homeserver
            )));
        }
        // A device that is left behind would still get keys. It may be gone already; and where the tokens are of a backup
        // and were renewed since, it can't be logged out by them, and is removed at the end.
        session_store::leave_behind(&self.context.store, &session.device_id).await.map_err(journal)?;
        if let Ok(http) = session.http() {
            let _ = log_out(&http).await;
        }
        // First the keys, then the login: broken off in between, the login is found lost again.
        forget_keys(&self.context.folder).map_err(|error| FlowError::Failed(format!("the crypto store: {error}")))?;
        session_store::forget(&self.context.store).await.map_err(journal)?;
        info!("The login is lost; logging in as a new device.");
        self.settings.user = Some(session.user_id.to_string());
        self.settings.homeserver.get_or_insert_with(|| session.homeserver.to_string());
        Ok(self.go(At::Discover, "The old login is good no more; logging in as a new device"))
    }

    fn after_user(&mut self) -> Result<Step, FlowError> {
        let user = self.settings.user.as_deref().unwrap_or_default();
        if user.is_empty() {
            return Err(FlowError::BadAnswer("the user name is empty".into()));
        }
        if user.starts_with('@') && UserId::parse(user).is_err() {
            return Err(FlowError::BadAnswer(format!("{user:?} is not a Matrix user id, such as @bridge:example.org")));
        }
        if self.settings.homeserver.is_some() || user.starts_with('@') {
            return Ok(self.go(At::Discover, "Looking for the homeserver"));
        }
        let label = "The homeserver: its name, such as example.org, or its address, such as https://matrix.example.org";
        Ok(self.ask(At::Homeserver, "homeserver", label, false))
    }

    async fn discover(&mut self) -> Result<Step, FlowError> {
        let server = self.settings.homeserver.clone().or_else(|| self.settings.user.clone()).unwrap_or_default();
        self.http = Some(discover(&server).await.map_err(login)?);
        self.at = At::AskPassword;
        Box::pin(self.step(None)).await
    }

    async fn log_in(&mut self) -> Result<Step, FlowError> {
        let device = session_store::device(&self.context.store).await.map_err(journal)?;
        let (Some(http), Some(password), Some(user)) = (&self.http, &self.password, &self.settings.user) else {
            return Err(FlowError::Failed("the flow lost its place".into()));
        };
        let session = log_in(http, user, password, &device).await.map_err(login)?;
        self.logged_in(session).await
    }

    async fn adopt(&mut self, token: Text) -> Result<Step, FlowError> {
        let http = self.http.as_ref().ok_or_else(|| FlowError::Failed("the flow lost its place".into()))?;
        let session = adopt_token(http, token.as_str().trim().to_owned().into()).await.map_err(login)?;
        if let Some(user) = self.settings.user.as_deref().filter(|user| user.starts_with('@'))
            && *user != session.user_id
        {
            return Err(FlowError::Refused(format!("the token belongs to {}, not to {user}", session.user_id)));
        }
        // Before it is kept: a device with keys that are not ours is refused and leaves nothing behind.
        self.engine = Some(self.open(&session).await?);
        self.logged_in(session).await
    }

    async fn logged_in(&mut self, session: Session) -> Result<Step, FlowError> {
        session_store::keep_session(&self.context.store, &session).await.map_err(journal)?;
        info!("Logged in.");
        self.note(&session);
        self.session = Some(session);
        Ok(self.go(At::Identity, "Logged in; setting up the device and its identity"))
    }

    /// Whose login it is, for a question.
    fn whose(&self) -> &str {
        self.settings.user.as_deref().unwrap_or("the account")
    }

    fn note(&mut self, session: &Session) {
        self.settings.user = Some(session.user_id.to_string());
        self.settings.homeserver = Some(session.homeserver.to_string());
    }

    async fn open(&self, session: &Session) -> Result<Engine, FlowError> {
        self.try_open(session).await.map_err(opening)
    }

    async fn try_open(&self, session: &Session) -> Result<Engine, OpenError> {
        let http = session.http()?;
        let keeper = session_store::Keeper::new(self.context.store.clone(), session.clone());
        http.set_keeper(std::sync::Arc::new(keeper));
        open_engine(session, http, &self.context.folder, &self.context.store_key).await
    }

    fn engine(&self) -> Result<&Engine, FlowError> {
        self.engine.as_ref().ok_or_else(|| FlowError::Failed("the flow lost its place".into()))
    }

    async fn identity(&mut self) -> Result<Step, FlowError> {
        if self.engine.is_none() {
            let session = self.session.clone().ok_or_else(|| FlowError::Failed("the flow lost its place".into()))?;
            self.engine = Some(self.open(&session).await?);
        }
        match self.engine()?.bootstrap(self.password.as_ref()).await {
            Ok(()) => {
                self.at = At::Recovery;
                Box::pin(self.step(None)).await
            }
            Err(IdentityError::NeedsRecoveryKey) => self.take_over().await,
            Err(IdentityError::NeedsPassword) => {
                let label = format!(
                    "The password of {}, which the homeserver wants before it takes a new identity",
                    self.whose()
                );
                Ok(self.ask(At::IdentityPassword, "password", &label, true))
            }
            Err(error) => Err(identity(error)),
        }
    }

    /// Takes over the account's identity: with the recovery key that we made ourselves, or with one that is asked for.
    async fn take_over(&mut self) -> Result<Step, FlowError> {
        if let Some(key) = self.kept_recovery_key().await?
            && self.engine()?.recover(&key.shown()).await.is_ok()
        {
            return Ok(self.go(At::Finish, "The account's identity was taken over; this device is signed"));
        }
        Ok(self.ask_recovery_key())
    }

    async fn kept_recovery_key(&self) -> Result<Option<RecoveryKey>, FlowError> {
        let kept = session_store::recovery_key(&self.context.store).await.map_err(journal)?;
        Ok(kept.and_then(|kept| RecoveryKey::from_secret_bytes(kept.expose())))
    }

    fn ask_recovery_key(&mut self) -> Step {
        let label = format!("{} has an identity already. Its recovery key", self.whose());
        self.ask(At::RecoveryKey, "recovery_key", &label, true)
    }

    async fn recovery(&mut self) -> Result<Step, FlowError> {
        let key = match self.kept_recovery_key().await? {
            Some(key) => key,
            None => {
                let key = RecoveryKey::generate();
                session_store::keep_recovery_key(&self.context.store, &key).await.map_err(journal)?;
                key
            }
        };
        match self.engine()?.set_up_recovery(&key).await {
            Ok(()) => {}
            // Another client set one up: with its key we take part in it.
            Err(IdentityError::SecretStorageExists) => return Ok(self.ask_recovery_key()),
            Err(error) => return Err(identity(error)),
        }
        self.at = At::Finish;
        let label = "The account's recovery key. With it, and only with it, the account's identity can be moved to \
                     another device. Write it down; it is not shown again";
        Ok(Step::Secret { name: None, label: label.into(), value: Text::new(key.shown().expose_secret()) })
    }

    /// Removes the device that we had before. One that can't be removed is told, since it would go on getting keys.
    async fn remove_left_behind(&mut self) -> Result<Option<Step>, FlowError> {
        let Some(device) = session_store::left_behind(&self.context.store).await.map_err(journal)? else {
            return Ok(None);
        };
        let engine = self.engine()?;
        let removed =
            device == engine.device_id() || engine.remove_device(&device, self.password.as_ref()).await.is_ok();
        session_store::is_gone(&self.context.store).await.map_err(journal)?;
        if removed {
            return Ok(None);
        }
        let whose = self.whose();
        Ok(Some(Step::Show(format!(
            "The device {device} that {whose} had before could not be removed, and goes on getting keys: log it out in \
             another client, or with the homeserver's admin."
        ))))
    }

    async fn finish(&mut self) -> Result<Step, FlowError> {
        self.engine()?.require_cross_signed().await.map_err(identity)?;
        if let Some(step) = self.remove_left_behind().await? {
            return Ok(step);
        }
        session_store::set_ready(&self.context.store).await.map_err(journal)?;
        self.at = At::Done;
        // The crypto store is let go of.
        self.engine = None;
        self.password = None;
        let user = self.settings.user.as_deref().unwrap_or_default();
        Ok(Step::Done(format!("{user} is logged in, and its device is cross-signed.")))
    }

    fn go(&mut self, to: At, words: &str) -> Step {
        self.at = to;
        Step::Progress(words.to_owned())
    }

    fn ask(&mut self, to: At, name: &'static str, label: &str, secret: bool) -> Step {
        self.at = to;
        Step::Ask(Field { name, label: label.to_owned(), secret })
    }
}

#[async_trait]
impl Flow for Setup {
    async fn next(&mut self, answer: Option<Answer>) -> Result<Step, FlowError> {
        self.step(answer).await
    }
}

fn words(answer: Option<Answer>) -> Result<Text, FlowError> {
    match answer {
        Some(Answer::Text(text)) => Ok(text),
        _ => Err(FlowError::BadAnswer("the question wants words".into())),
    }
}

fn journal(error: NotAccepted) -> FlowError {
    FlowError::Failed(error.to_string())
}

/// Whether no waiting brings the login back.
fn is_lost(error: &OpenError) -> bool {
    match error {
        OpenError::Http(error) | OpenError::Engine(EngineError::Http(error)) => {
            matches!(error.kind, HttpErrorKind::UnknownToken { .. })
        }
        OpenError::ForeignDevice | OpenError::DeviceGone | OpenError::OtherDevice => true,
        _ => false,
    }
}

fn opening(error: OpenError) -> FlowError {
    match error {
        OpenError::Http(error) | OpenError::Engine(EngineError::Http(error)) => unreachable(&error),
        OpenError::ForeignDevice | OpenError::DeviceGone | OpenError::OtherDevice => {
            FlowError::Policy(error.to_string())
        }
        error => FlowError::Failed(error.to_string()),
    }
}

fn unreachable(error: &HttpError) -> FlowError {
    match &error.kind {
        HttpErrorKind::UnknownToken { .. } => {
            FlowError::Refused("the homeserver does not accept the access token".into())
        }
        HttpErrorKind::Refused(_) => FlowError::Policy(format!("the homeserver is not used: {error}")),
        _ => FlowError::Unreachable(format!("the homeserver can't be used: {error}")),
    }
}

fn login(error: SessionError) -> FlowError {
    match error {
        SessionError::WrongPassword | SessionError::TokenWithoutDevice | SessionError::NoPasswordLogin => {
            FlowError::Refused(error.to_string())
        }
        SessionError::NotAHomeserver => FlowError::Unreachable(error.to_string()),
        SessionError::BadAddress(_) => FlowError::BadAnswer(error.to_string()),
        SessionError::Http(error) => unreachable(&error),
        error => FlowError::Failed(error.to_string()),
    }
}

fn identity(error: IdentityError) -> FlowError {
    match error {
        IdentityError::WrongRecoveryKey | IdentityError::WrongPassword => FlowError::Refused(error.to_string()),
        IdentityError::Engine(EngineError::Http(error)) => unreachable(&error),
        IdentityError::Engine(error) => FlowError::Failed(error.to_string()),
        error => FlowError::Policy(error.to_string()),
    }
}
