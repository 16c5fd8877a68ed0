//! The bare relay: the bridge's engine and lanes, nothing durable of ours, no gate. What it has when it dies is lost.
//!
//! It runs in a process of its own, so that the kernel counts what it uses.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    process::Stdio,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use ruma::{OwnedRoomId, OwnedUserId};
use sealbridge_lab::{Synapse, synapse::User};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Notify, mpsc},
};

use crate::account::{Account, Came};

/// What the process is told on standard input.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    sides: [Side; 2],
    /// Rooms that are carried to each other, the first on the first side.
    links: Vec<[OwnedRoomId; 2]>,
}

#[derive(Serialize, Deserialize)]
struct Side {
    homeserver: String,
    user: String,
    password: String,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The name of the hidden subcommand.
pub const COMMAND: &str = "bare-relay";
const READY: &str = "ready";

/// A relay that runs. It ends when this value is dropped.
#[derive(Debug)]
pub struct Relay {
    process: Child,
    /// Closing it ends the process.
    _stdin: ChildStdin,
}

/// The relay's own users, before it runs.
#[derive(Debug)]
pub struct Users([(String, User); 2]);

impl Users {
    /// Makes one on each homeserver.
    pub async fn register(servers: [&Synapse; 2]) -> Result<Self> {
        let [a, b] = servers;
        Ok(Self([
            (a.url().to_owned(), a.register_unique("relay").await?),
            (b.url().to_owned(), b.register_unique("relay").await?),
        ]))
    }

    /// Their ids.
    pub fn ids(&self) -> Result<[OwnedUserId; 2]> {
        let [a, b] = &self.0;
        Ok([OwnedUserId::try_from(a.1.id.as_str())?, OwnedUserId::try_from(b.1.id.as_str())?])
    }
}

impl Relay {
    /// Starts it, and waits until it is in all rooms and listens.
    pub async fn start(users: &Users, links: Vec<[OwnedRoomId; 2]>) -> Result<Self> {
        let sides = users.0.each_ref().map(|(homeserver, user)| Side {
            homeserver: homeserver.clone(),
            user: user.localpart.clone(),
            password: user.password.clone(),
        });
        let plan = serde_json::to_vec(&Plan { sides, links })?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("Start the bare relay")?;
        let mut stdin = process.stdin.take().context("The relay has no stdin")?;
        stdin.write_all(&plan).await?;
        stdin.write_all(b"\n").await?;
        let stdout = process.stdout.take().context("The relay has no stdout")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        ensure!(line.as_deref() == Some(READY), "The bare relay did not start");
        Ok(Self { process, _stdin: stdin })
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        self.process.id().context("The bare relay ended")
    }
}

/// The process itself: carries until its standard input ends.
pub async fn run() -> Result<()> {
    let mut plan = String::new();
    std::io::stdin().read_line(&mut plan)?;
    let Plan { sides: [a, b], links } = serde_json::from_str(&plan).context("Read the plan")?;
    let open = |side: Side| async move { Account::log_in(&side.homeserver, &side.user, &side.password).await };
    let (a, b) = tokio::try_join!(open(a), open(b))?;
    let (a, b) = (Arc::new(a), Arc::new(b));
    for [there, here] in &links {
        for (account, room) in [(&a, there), (&b, here)] {
            account.join(room).await?;
            account.wait_member(room, account.me()).await?;
        }
    }
    let forth = links.iter().map(|[from, to]| (from.clone(), to.clone())).collect();
    let back = links.iter().map(|[to, from]| (from.clone(), to.clone())).collect();
    let listening = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    let ready = async {
        for one in &listening {
            one.notified().await;
        }
        writeln!(std::io::stdout().lock(), "{READY}")?;
        // Whoever started us closes it at the end.
        tokio::task::spawn_blocking(|| std::io::stdin().lock().read_to_end(&mut Vec::new())).await??;
        Ok(())
    };
    tokio::select! {
        ended = carry(&a, &b, forth, &listening[0]) => ended,
        ended = carry(&b, &a, back, &listening[1]) => ended,
        ended = ready => ended,
    }
}

/// Carries what is heard on one side to the other, in one lane for each room.
async fn carry(
    from: &Arc<Account>,
    to: &Arc<Account>,
    links: HashMap<OwnedRoomId, OwnedRoomId>,
    listening: &Notify,
) -> Result<()> {
    let mut lanes: HashMap<OwnedRoomId, mpsc::UnboundedSender<Value>> = HashMap::new();
    let mut running = tokio::task::JoinSet::new();
    for (source, room) in links {
        let (lane, mut waiting) = mpsc::unbounded_channel::<Value>();
        lanes.insert(source, lane);
        let to = Arc::clone(to);
        running.spawn(async move {
            while let Some(content) = waiting.recv().await {
                to.relay(&room, &content).await?;
            }
            anyhow::Ok(())
        });
    }
    let (came, mut coming) = mpsc::unbounded_channel::<Came>();
    let read = async {
        while let Some(one) = coming.recv().await {
            let Some(lane) = lanes.get(&one.room) else { continue };
            if let Some(content) = from.read(&one).await? {
                lane.send(content).ok().context("A lane ended")?;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = from.listen(|| listening.notify_one(), |one| drop(came.send(one))) => ended,
        ended = read => ended,
        Some(ended) = running.join_next() => { ended??; bail!("A lane ended") }
    }
}
