//! Everything that is on stage: two homeservers, a mail server, what stands before them and keeps what passes, the
//! service, and a person at each end.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::{
    Words,
    keys::{self, Key},
    places::{Place, Shows},
    programs::{Programs, operator_sends},
    talk::{Canaries, Mark},
};
use crate::{
    DeltaPerson, Lab, MailServer, Person, Proxy,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    demo::{Stage, invited},
    family::{self, ASKED_AGAIN, of_the_service},
    mail::Wire,
};

const PATIENCE: Duration = Duration::from_secs(90);
/// Who acts by the operator's commands, behind the ends of the link and the programs.
const OPERATOR: usize = 4;

#[derive(Debug)]
pub(super) struct Stand {
    pub(super) lab: Lab,
    pub(super) mail: MailServer,
    pub(super) proxies: [Proxy; 2],
    /// Before IMAP and SMTP.
    pub(super) wires: [Wire; 2],
    pub(super) bridge: Bridge,
    /// One on each homeserver.
    pub(super) people: [Arc<Person>; 2],
    pub(super) rooms: [String; 2],
    pub(super) phone: Arc<DeltaPerson>,
    pub(super) chat: u32,
    /// The bridge's own user on each homeserver, with its password and the recovery key that `init` kept.
    pub(super) bots: [String; 2],
    pub(super) logins: [String; 2],
    pub(super) recovery_keys: [String; 2],
    pub(super) programs: Arc<Programs>,
    /// What passed, and what the service said of itself.
    kept: TempDir,
    /// Where the service may lay temporary files.
    temporary: TempDir,
}

impl Stand {
    pub(super) async fn set(binary: &Binary, stage: &Stage, words: &Words) -> Result<Self> {
        stage.heading("Starting two homeservers and a mail server, each behind something that keeps what passes");
        let (lab, mail) = tokio::try_join!(Lab::pair(), MailServer::start())?;
        let proxies = [Proxy::before(lab.a.url()).await?, Proxy::before(lab.b.url()).await?];
        let [kept, temporary] = ["kept", "temporary"]
            .map(|what| tempfile::Builder::new().prefix(&format!("sealbridge-lab-{what}-")).tempdir());
        let (kept, temporary) = (kept?, temporary?);
        for (side, proxy) in proxies.iter().enumerate() {
            proxy.capture_into(&kept_of(&kept, side))?;
        }
        let line = kept.path().join("mail");
        std::fs::create_dir(&line)?;
        let before = |port| Wire::before(&mail, port, &line);
        let wires = [before(mail.imaps()).await?, before(mail.smtps()).await?];

        let mut accounts = Vec::new();
        for (server, (name, proxy)) in [&lab.a, &lab.b].into_iter().zip(["a", "b"].into_iter().zip(&proxies)) {
            let account = AccountPlan::on(server, name).await?;
            accounts.push(AccountPlan { homeserver: proxy.url().to_owned(), ..account });
        }
        let of_both = |what: fn(&AccountPlan) -> &String| [what(&accounts[0]).clone(), what(&accounts[1]).clone()];
        let (bots, logins) = (of_both(|account| &account.user.id), of_both(|account| &account.user.password));
        let secret = tempfile::NamedTempFile::new()?;
        let ports = [wires[0].port(), wires[1].port()];
        let extra = family::account_on(&mail, ports, secret.path(), &format!("{}group", words.stem)).await?;
        let mut bridge = Bridge::prepare(binary, &Plan { accounts, admin: None, extra })?;
        bridge.set_env("SEALBRIDGE_LOG", "trace");
        bridge.set_env("TMPDIR", &temporary.path().to_string_lossy());
        let output = bridge.init().await?.ok()?.stdout;
        let link = family::invitation(&output).context("init shows the group's invitation")?;
        let recovery_keys = keys::kept_by_init(&output)?;
        // What the operator wrote for it has been read.
        for name in ["a.password", "b.password"] {
            std::fs::remove_file(bridge.folder().join(name))?;
        }
        bridge.start().await?;

        stage.heading("People join");
        let (ann, bob, phone) = tokio::try_join!(
            Person::new_on(&lab.a, "ann"),
            Person::new_on(&lab.b, "bob"),
            DeltaPerson::new_on(&mail, "ben"),
        )?;
        // Addresses are shown to mail servers, names are not.
        phone.rpc("set_config", json!(["displayname", format!("{}ben", words.stem)])).await?;
        let people = [Arc::new(ann), Arc::new(bob)];
        let mut rooms = Vec::new();
        for ((person, bot), shown) in people.iter().zip(&bots).zip(&words.shown) {
            let path = format!("/_matrix/client/v3/profile/{}/displayname", person.user_id());
            let (status, _) = person.http("PUT", &path, Some(json!({ "displayname": shown }))).await?;
            ensure!(status == 200, "A person gets no name: {status}");
            rooms.push(invited(person, &format!("{shown} room"), bot, Some(7)).await?);
        }
        let rooms = <[String; 2]>::try_from(rooms).ok().context("There are two rooms")?;
        let ends = [format!("a/{}", rooms[0]), format!("b/{}", rooms[1])];
        for end in &ends {
            bridge.wait_conversation(end, PATIENCE).await?;
        }
        let programs = Programs::new().await?;
        let mut config = File::options().append(true).open(bridge.config())?;
        config.write_all(programs.config(&rooms[0], people[0].user_id()).as_bytes())?;
        bridge.stop().await?;
        bridge.start().await?;
        let chat = phone.join(&link).await?;
        let group = family::only_conversation(&bridge, "family/").await?;
        bridge.link("three", &[&ends[0], &ends[1], &group, "vault/away"]).await?;
        let told = |text: &str| text.contains("readable on the host");
        for (person, room) in people.iter().zip(&rooms) {
            person.wait_for(|m| m.room == *room && told(&m.body), PATIENCE).await?;
        }
        phone.wait_for(|seen| told(&seen.text), PATIENCE).await?;
        let phone = Arc::new(phone);
        Ok(Self {
            lab,
            mail,
            proxies,
            wires,
            bridge,
            people,
            rooms,
            phone,
            chat,
            bots,
            logins,
            recovery_keys,
            programs: Arc::new(programs),
            kept,
            temporary,
        })
    }

    /// From now on the mail server gives nothing out, and has mail from both directions in its queue.
    pub(super) async fn fill_the_queue(&self, words: &Words) -> Result<()> {
        self.mail.hold(true).await?;
        self.people[0].send(&self.rooms[0], &format!("{}queued", words.stem)).await?;
        self.phone.send(self.chat, &format!("{}queuedtoo", words.stem)).await?;
        let give_up = Instant::now() + PATIENCE;
        while self.mail.queued()? < 2 {
            ensure!(Instant::now() < give_up, "The mail server's queue does not fill");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The kernel would write none, whatever the service died of.
    pub(super) fn ensure_no_core_dumps(&self) -> Result<()> {
        let pid = self.bridge.pid().context("The service runs")?;
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).context("No such limit")?;
        let cores: Vec<_> = cores.split_whitespace().take(2).collect();
        ensure!(cores == ["0", "0"], "The service may dump its memory: {cores:?}");
        Ok(())
    }

    fn said_of_itself(&self) -> PathBuf {
        self.kept.path().join("status")
    }

    /// Keeps what the service says of itself at this moment.
    pub(super) async fn note_what_it_says(&self, commands: &[&[&str]]) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.said_of_itself())?;
        for command in commands {
            let answer = self.bridge.cli(command).await?;
            writeln!(file, "{command:?}\n{}\n{}", answer.stdout, answer.stderr)?;
        }
        self.programs.note_metrics().await
    }

    /// The operator sends by their own command, and asks in a room who reads; the answer has the name that the person on
    /// the phone gave themselves. What has to be heard of it, and where.
    pub(super) async fn operator_acts(&self, words: &Words) -> Result<Vec<Mark>> {
        let mut canaries = Canaries::new(&words.stem, OPERATOR, 0);
        let sent = operator_sends(&self.bridge, &self.rooms[0], &mut canaries).await?;
        let [ann, _] = &self.people;
        for command in ["audience", "status", "why"] {
            ann.send(&self.rooms[0], &format!("!seal {command}")).await?;
        }
        let name = format!("{}ben", words.stem);
        let answered = ann.wait_for(|it| it.msgtype == "m.notice" && it.body.contains(&name), PATIENCE).await;
        answered.context("Who reads is said in the room")?;
        Ok(vec![Mark { words: sent, at: vec![0] }])
    }

    /// Waits until everything was heard where it has to be, or until nothing has come for a while.
    pub(super) async fn missing(&self, marks: &[Mark], stage: &Stage) -> Result<usize> {
        let (mut last, mut since) = (usize::MAX, Instant::now());
        let mut patience = [PATIENCE / 3, ASKED_AGAIN].into_iter();
        let mut wait = PATIENCE / 3;
        loop {
            let heard = [self.heard_on_matrix(0), self.heard_on_matrix(1), self.heard_on_the_phone().await?];
            let all = marks.iter().flat_map(|mark| mark.at.iter().map(move |end| (&mark.words, *end)));
            let missing: Vec<_> = all.filter(|(words, end)| !heard[*end].contains(*words)).collect();
            if missing.len() != last {
                (last, since) = (missing.len(), Instant::now());
            }
            if missing.is_empty() {
                return Ok(0);
            }
            if since.elapsed() > wait {
                let some = &missing[..missing.len().min(8)];
                let Some(longer) = patience.next() else {
                    stage.line(&format!("never heard, and where: {some:?}"));
                    return Ok(missing.len());
                };
                stage.line(&format!("waiting for what was not heard so far, and where: {some:?}"));
                // Phones' engines pass over mail when their server goes away, and SECURITY.md says so.
                self.phone.read_again().await?;
                (wait, since) = (longer, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn heard_on_matrix(&self, end: usize) -> String {
        format!("{:?}", self.people[end].received())
    }

    async fn heard_on_the_phone(&self) -> Result<String> {
        let [mut heard, deeds] = [String::new(), format!("{:?}", self.phone.deeds().await?)];
        for seen in self.phone.ever_seen().await? {
            heard += &format!("{} {}\n", seen.text, seen.file_name.unwrap_or_default());
        }
        Ok(heard + &deeds)
    }

    /// Where is looked. `quiet`: everything has stopped.
    pub(super) fn places(&self, quiet: bool) -> Result<Vec<Place>> {
        let (root_key, service) = (self.bridge.folder().join("state/root.key"), of_the_service(&self.bridge)?);
        ensure!(service.contains(&root_key), "The root key is not where it should be");
        let service = service.into_iter().filter(|path| *path != root_key).collect();
        let keys = |keys| Shows { keys, ..Shows::default() };
        let mut places = vec![
            Place::new("the service", service, Shows::default()),
            Place::new("the root key's file", vec![root_key], keys(&[Key::Root])),
        ];
        for (side, server) in [&self.lab.a, &self.lab.b].into_iter().enumerate() {
            let [token, line]: [&[Key]; 2] = match side {
                0 => [&[Key::Token(0)], &[Key::Token(0), Key::Login(0)]],
                _ => [&[Key::Token(1)], &[Key::Token(1), Key::Login(1)]],
            };
            let shows = |keys| Shows { names: Some(side), reaction: true, keys };
            places.push(Place::new(&format!("homeserver {side}"), vec![server.data_dir().to_owned()], shows(token)));
            let name = format!("the line to homeserver {side}");
            places.push(Place::new(&name, vec![self.kept_of(side)], shows(line)));
        }
        let (mail, queue) = (vec![self.mail.data_dir().to_owned()], vec![self.mail.queue()]);
        places.push(Place::new("the mail server", mail, keys(&[Key::Mail])));
        places.push(Place::new("the mail server's queue", queue, Shows::default()));
        places.push(Place::new("the line to the mail server", vec![self.mail_line()], keys(&[Key::Mail])));
        places.push(Place::new("what it says of itself", vec![self.said_of_itself()], Shows::default()));
        places.push(Place::new("what programs are answered", vec![self.programs.answers()], Shows::default()));
        places.push(Place::new("metrics and health", vec![self.programs.metrics()], Shows::default()));
        places.push(Place::new("what an endpoint is posted", vec![self.programs.endpoint()], Shows::default()));
        places.push(Place::new("temporary files", vec![self.temporary.path().to_owned()], Shows::default()));
        places.push(Place::new("shared memory", vec![PathBuf::from("/dev/shm")], Shows::default()));
        if quiet {
            for proxy in &self.proxies {
                proxy.ensure_captured()?;
            }
            for wire in &self.wires {
                ensure!(wire.captured()? > 0, "Nothing went over a wire to the mail server");
            }
            let log = self.bridge.log_text();
            // What may say more than that, says it; libraries may not.
            ensure!(log.contains("DEBUG"), "The service did not log at that level");
        }
        Ok(places)
    }

    pub(super) fn kept_of(&self, side: usize) -> PathBuf {
        kept_of(&self.kept, side)
    }

    pub(super) fn mail_line(&self) -> PathBuf {
        self.kept.path().join("mail")
    }

    /// Whether the journal and both homeservers have something in a log written ahead.
    pub(super) fn writes_ahead(&self) -> Result<bool> {
        let has = |file: PathBuf| file.metadata().is_ok_and(|it| it.len() > 0);
        let wal = |folder: &Path, name: &str| has(folder.join(format!("{name}-wal")));
        let servers = [&self.lab.a, &self.lab.b];
        let ours = wal(&self.bridge.folder().join("state"), "journal.db");
        Ok(ours && servers.iter().all(|server| wal(server.data_dir(), "homeserver.db")))
    }

    /// Stops the service and the servers, so that everything they had is on disk.
    pub(super) async fn close(&self) -> Result<()> {
        self.bridge.stop().await?;
        self.lab.stop().await?;
        self.mail.stop().await
    }
}

fn kept_of(kept: &TempDir, side: usize) -> PathBuf {
    kept.path().join(format!("homeserver-{side}"))
}
