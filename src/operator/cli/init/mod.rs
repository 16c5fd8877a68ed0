//! `sealbridge init`: from nothing to a bot that is logged in and has an admin room.
//!
//! Each step looks whether it was done before, so an interrupted `init` goes on when it is run again, and nothing that
//! exists is written over.

mod answers;
mod files;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sealbridge_contract::{AccountName, Address, Answer, Cleartext, Flow, Message, Step, Text, transport::Transport};
use tokio_util::sync::CancellationToken;

use super::{Global, find, places, sources};
use crate::{
    config::{self, Admin, Config, root_key},
    operator::{Assembled, Failure, FailureKind, Open, Outcome, admin, control::StepFrame, output::Output},
};
use answers::Answers;

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
    let asked = if told.is_none() && !existed { Some(Answers::ask(output)?) } else { None };
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
    crate::operator::logging::start(config::Log { level: quiet(global), ..config.log })?;
    files::private_folder(&config.service.state)?;
    if root_key::create(&config)? {
        show(
            output,
            format!(
                "Made the root key {}. Keep a copy: without it the journal does not open.",
                config.root_key_path().display()
            ),
        );
    }
    let service = open(Arc::clone(&config), root_key::load(&config)?).await?;
    let done = Setting { config: &config, service: Arc::clone(&service), output, interactive }.carry_out(replies).await;
    service.close().await;
    let room = done.map_err(|failure| mendable(failure, &path))?;
    finish(&path, room.as_ref(), output);
    Ok(None)
}

/// The config that is set up: the one that is named or found, or else one in this folder.
fn target(global: &Global) -> PathBuf {
    find(global).unwrap_or_else(|_| places().swap_remove(0))
}

/// At a terminal the steps tell what goes on, so only warnings are logged unless more is asked for.
fn quiet(global: &Global) -> config::Level {
    config::Level::Warn.louder(global.verbose)
}

/// Says how to go on after a failure: what was done is kept.
fn mendable(mut failure: Failure, path: &Path) -> Failure {
    let mend = match failure.kind {
        FailureKind::Config | FailureKind::Unreachable => format!("mend {} if that is it, and ", path.display()),
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
    output.outcome(&Outcome { words, lines: vec![line], found: None });
}

/// A set-up under way.
struct Setting<'a> {
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
        for account in self.config.accounts.keys() {
            // It looks by itself whether there is anything to do: a login may have been lost since.
            let flow = self.service.setup(account).await?;
            let replies = replies.remove(account.as_str()).unwrap_or_default();
            self.log_in(account, flow, replies)
                .await
                .map_err(|failure| failure.while_doing(&format!("account {account}")))?;
        }
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
        tokio::select! {
            room = opening => room.map(Some),
            // The service does not end by itself unless something is wrong.
            ended = self.service.run(stop.clone()) => Err(ended.err().unwrap_or_else(|| Failure::other("the service ended early"))),
        }
    }

    async fn log_in(
        &self,
        account: &AccountName,
        mut flow: Box<dyn Flow>,
        mut replies: BTreeMap<String, Text>,
    ) -> Result<(), Failure> {
        let mut answer = None;
        loop {
            match flow.next(answer.take()).await? {
                Step::Done(words) => {
                    show(self.output, format!("account {account}: {words}"));
                    return Ok(());
                }
                Step::Ask(field) if !self.interactive => {
                    let reply = replies.remove(field.name);
                    // No password is an answer of its own: the account may have a token instead.
                    let reply = reply.or_else(|| (field.name == "password").then(Text::default));
                    answer = Some(Answer::Text(reply.ok_or_else(|| {
                        Failure::usage(format!(
                            "the answers file has no `{}`, which is asked: {}",
                            field.name, field.label
                        ))
                    })?));
                }
                Step::Compare(_) if !self.interactive => {
                    return Err(Failure::refused("identities are compared by a person, not by an answers file"));
                }
                step => answer = self.output.answer(&StepFrame::from(step))?,
            }
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
