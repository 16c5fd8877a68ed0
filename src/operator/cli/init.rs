//! `sealbridge init`: from nothing to a bot that is logged in and has an admin room.
//!
//! Each step looks whether it was done before, so an interrupted `init` goes on when it is run again, and nothing that
//! exists is written over.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sealbridge_contract::{AccountName, Address, Cleartext, Message, Text, transport::Transport};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Global, answers::Answers, files, find, login::LogIn, places, questions, sources};
use crate::{
    config::{self, Admin, Config, edit, root_key},
    operator::{Assembled, Failure, FailureKind, Open, Outcome, admin, control::StepFrame, output::Output},
};

/// How long the network may take until the account is connected.
const PATIENCE: Duration = Duration::from_secs(90);
/// What the admin room is told first.
const WELCOME: &str = "This is the admin room of your Sealbridge. What needs a person is told here. Messages that it \
                       carries are end-to-end encrypted up to the bridge on each side, and can be read on its host.";

pub(super) async fn init(
    global: &Global,
    answers: Option<&Path>,
    open: Open,
    output: Output,
) -> Result<Option<FailureKind>, Failure> {
    let path = target(global);
    let told = answers.map(Answers::read).transpose()?;
    let existed = path.exists();
    let asked = if told.is_none() && !existed { Some(asked(output)?) } else { None };
    let interactive = answers.is_none();
    let mut replies = BTreeMap::new();
    for mut source in told.into_iter().chain(asked) {
        if existed {
            let config = config::load(&sources(global, path.clone())?)?;
            files::must_agree(&source.config, &config, &path)?;
            show(output, format!("{} is there already; going on with it.", path.display()));
        } else {
            if let Some(state) = &global.state {
                source.set_state(state)?;
            }
            files::write_new(&path, &source.config_text(&path)?)?;
            show(output, format!("Wrote {}.", path.display()));
        }
        replies = source.replies;
    }
    let config = Arc::new(config::load(&sources(global, path.clone())?)?);
    log_quietly(global, &config)?;
    files::private_folder(&config.service.state)?;
    if let Some(holder) = root_key::create(&config)? {
        show(output, format!("Made the root key: {holder}. Keep a copy: without it the journal does not open."));
    }
    let service = open(Arc::clone(&config), root_key::load(&config)?).await?;
    let setting = Setting { path: &path, config: &config, service: Arc::clone(&service), output, interactive };
    let done = setting.carry_out(replies).await;
    service.close().await;
    let room = done.map_err(|failure| mendable(failure, &path))?;
    finish(&path, room.as_ref(), output);
    Ok(None)
}

/// The config that is set up: the one that is named or found, or else one in this folder.
fn target(global: &Global) -> PathBuf {
    find(global).unwrap_or_else(|_| places().swap_remove(0))
}

fn asked(output: Output) -> Result<Answers, Failure> {
    Ok(Answers { config: questions::whole_config(output)?, replies: BTreeMap::new() })
}

/// At a terminal the steps tell what goes on, so only warnings are logged unless more is asked for.
pub(super) fn log_quietly(global: &Global, config: &Config) -> Result<(), Failure> {
    let level = config::Level::Warn.louder(global.verbose);
    crate::operator::logging::start(config::Log { level, ..config.log })
}

/// Says how to go on after a failure: what was done is kept.
fn mendable(mut failure: Failure, path: &Path) -> Failure {
    let mend = match failure.kind {
        FailureKind::Config | FailureKind::Unreachable | FailureKind::Refused => {
            format!("mend {} if that is it, and ", path.display())
        }
        _ => String::new(),
    };
    let words = failure.words.trim_end_matches('.');
    failure.words = format!("{words}. What was done is kept: {mend}run `sealbridge init` again");
    failure
}

fn show(output: Output, words: String) {
    output.step(&StepFrame::Show { words });
}

fn finish(path: &Path, room: Option<&Address>, output: Output) {
    let run =
        if path == Path::new("sealbridge.toml") { String::new() } else { format!(" --config {}", path.display()) };
    let room_words =
        room.map_or("No admin room: the config has no [admin].".into(), |room| format!("The admin room is {room}."));
    let words = format!(
        "Done. {room_words}\nRun it:       sealbridge{run} run\nVerify it:    sealbridge{run} verify ACCOUNT\nLink rooms:   \
         sealbridge{run} links add NAME ACCOUNT/ROOM ACCOUNT/ROOM\n"
    );
    let line = serde_json::json!({
        "step": "done", "words": words, "config": path, "admin_room": room.map(ToString::to_string),
    });
    output.outcome(&Outcome::new(words, vec![line]));
}

/// A set-up under way.
struct Setting<'a> {
    path: &'a Path,
    config: &'a Arc<Config>,
    service: Arc<dyn Assembled>,
    output: Output,
    interactive: bool,
}

impl Setting<'_> {
    async fn carry_out(
        &self,
        mut replies: BTreeMap<String, BTreeMap<String, Text>>,
    ) -> Result<Option<Address>, Failure> {
        let mut invitations = Vec::new();
        for account in self.config.accounts.keys() {
            // It looks by itself whether there is anything to do: a login may have been lost since.
            let flow = self.service.setup(account).await?;
            let replies = replies.remove(account.as_str()).unwrap_or_default();
            let playing = LogIn { config: self.config, output: self.output, interactive: self.interactive }
                .play(account, flow, replies);
            let left = playing.await.map_err(|failure| failure.while_doing(&format!("account {account}")))?;
            for (key, file) in left.keep(self.config, account)? {
                self.set(account, &key, &file)?;
            }
            invitations.push((account, left.invitations));
        }
        let room = self.admin_room().await?;
        let (journal, now) = (self.service.journal(), self.service.clock().now());
        for (account, invitations) in &invitations {
            admin::invite(&*journal, now, account, invitations).await?;
        }
        Ok(room)
    }

    /// Writes a setting into the config. A config that can't be written stays as it is: the account is logged in.
    fn set(&self, account: &AccountName, key: &str, file: &Path) -> Result<(), Failure> {
        let text = std::fs::read_to_string(self.path)
            .map_err(|error| Failure::new(FailureKind::Config, format!("{}: {error}", self.path.display())))?;
        let text = edit::with_setting(&text, account, key, &file.to_string_lossy())
            .map_err(|words| Failure::new(FailureKind::Config, format!("{}: {words}", self.path.display())))?;
        files::replace(self.path, &text)
    }

    async fn admin_room(&self) -> Result<Option<Address>, Failure> {
        let Some(admin) = &self.config.admin else { return Ok(None) };
        if let Some(room) = admin::room(&*self.service.journal()).await? {
            show(self.output, format!("The admin room is there already: {room}."));
            return Ok(Some(room));
        }
        let stop = CancellationToken::new();
        let opening = async {
            let room = self.open_admin_room(admin).await;
            stop.cancel();
            room
        };
        let running = self.service.run(oneshot::channel().0, stop.clone());
        tokio::pin!(opening, running);
        tokio::select! {
            room = &mut opening => {
                // Ended in order, so that homeservers are told how old the stores are by now.
                let ended = running.await;
                let room = room?;
                ended.map(|()| Some(room))
            }
            // The service does not end by itself unless something is wrong.
            ended = &mut running => Err(ended.err().unwrap_or_else(|| Failure::other("the service ended early"))),
        }
    }

    async fn open_admin_room(&self, admin: &Admin) -> Result<Address, Failure> {
        let words = format!("Opening an encrypted admin room with {}…", admin.person.as_str());
        self.output.step(&StepFrame::Progress { words });
        let transport = self.connected(&admin.account).await?;
        let conversation = transport
            .common()
            .open_direct(&admin.person)
            .await
            .map_err(|error| Failure::from(error).while_doing("the admin room can't be opened"))?;
        let room = Address { account: admin.account.clone(), conversation };
        let journal = self.service.journal();
        admin::set_room(&*journal, &room).await?;
        let welcome = Cleartext::new(Message::notice(self.service.clock().now(), WELCOME));
        journal.say(&room, welcome, Some("admin-welcome")).await?;
        show(self.output, format!("Opened the admin room {room} and invited {}.", admin.person.as_str()));
        Ok(room)
    }

    /// Waits until an account is connected.
    async fn connected(&self, name: &AccountName) -> Result<sealbridge_contract::AnyTransport, Failure> {
        let looking = async {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            loop {
                tick.tick().await;
                let Some(account) = self.service.accounts().into_iter().find(|account| account.name == *name) else {
                    continue;
                };
                if let Some(why) = account.stopped {
                    return Err(why.while_doing(&format!("account {name}")));
                }
                if let Some(transport) = account.transport.filter(|transport| is_connected(transport.common())) {
                    return Ok(transport);
                }
            }
        };
        let trouble = || {
            let accounts = self.service.accounts();
            let account = accounts.into_iter().find(|account| account.name == *name);
            account.and_then(|account| account.transport?.common().health().trouble).unwrap_or_default()
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(found) => found,
            Err(_) => {
                let words =
                    format!("account {name} does not connect: {}; run `sealbridge init` again later", trouble());
                Err(Failure::new(FailureKind::Unreachable, words))
            }
        }
    }
}

fn is_connected(transport: &dyn Transport) -> bool {
    transport.health().connected
}
