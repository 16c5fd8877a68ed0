//! A real mail server on loopback: Debian's Postfix and Dovecot, over TLS, with throw-away data.
//!
//! Delta Chat removes mail from the server once it was read, so everything that passes is also kept in an archive.
//! The data lies outside the build directory, since the server's own users must be able to walk there.

mod config;
mod install;
mod kept;
pub mod openpgp;
mod relay;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;

pub use kept::is_encrypted;
pub use relay::Relay;
pub use wire::Wire;

use crate::fresh::{free_port, random_hex};
use crate::leash::{Leash, Program};
use crate::skip::skip;
use config::{Layout, Passwords};

const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(10);
const ARCHIVE: &str = "archive";

/// One mail server. It dies with this value, and with this process.
#[derive(Debug)]
pub struct MailServer {
    layout: Layout,
    postfix: Leash,
    dovecot: Leash,
}

/// A mailbox on it.
#[derive(Debug, Clone)]
pub struct Mailbox {
    pub address: String,
    pub password: String,
}

impl MailServer {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Result<Self> {
        tokio::task::spawn_blocking(install::ready).await??;
        let server = Self::prepare()?;
        server.restart().await?;
        Ok(server)
    }

    /// The server that the tests of one process share. Whoever stops one starts one of their own.
    ///
    /// `None` when it can't be installed here; the test is then counted as skipped.
    pub async fn shared() -> Result<Option<&'static Self>> {
        static SHARED: OnceCell<MailServer> = OnceCell::const_new();
        if !available().await {
            return Ok(None);
        }
        SHARED.get_or_try_init(Self::start).await.map(Some)
    }

    fn prepare() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sealbridge-lab-mail-").tempdir().context("Make a data directory")?;
        let layout = Layout {
            dir: dir.path().to_owned(),
            imaps: free_port()?,
            smtps: free_port()?,
            imap: free_port()?,
            submission: free_port()?,
            lmtp: free_port()?,
            sasl: free_port()?,
            password: random_hex::<8>()?,
        };
        set_up(&layout).context("Set up the mail server")?;
        let leash = |command: &str, arguments: &[&str], file: PathBuf, last: &[&str], remove: Option<PathBuf>| {
            Leash::new(&Program {
                command: command.into(),
                args: arguments
                    .iter()
                    .map(Into::into)
                    .chain([file.into()])
                    .chain(last.iter().map(Into::into))
                    .collect(),
                dir: Some(layout.dir.clone()),
                log: layout.dir.join("output.log"),
                group: true,
                remove,
                ..Program::default()
            })
        };
        // From here on a leash deletes the directory, even if we are killed.
        let dir = dir.keep();
        let postfix = leash("/usr/lib/postfix/sbin/master", &["-c"], layout.postfix(), &["-d"], None)?;
        let dovecot = leash("/usr/sbin/dovecot", &["-F", "-c"], layout.dovecot(), &[], Some(dir))?;
        Ok(Self { layout, postfix, dovecot })
    }

    /// The port of IMAP over TLS, on `localhost`.
    pub fn imaps(&self) -> u16 {
        self.layout.imaps
    }

    /// The port of SMTP over TLS, on `localhost`.
    pub fn smtps(&self) -> u16 {
        self.layout.smtps
    }

    /// The ports of IMAP and SMTP with STARTTLS, on `localhost`.
    pub fn starttls(&self) -> [u16; 2] {
        [self.layout.imap, self.layout.submission]
    }

    /// Everything the server keeps: mailboxes, queue, logs.
    pub fn data_dir(&self) -> &Path {
        &self.layout.dir
    }

    /// The certificate of the throw-away authority, as PEM.
    pub fn authority(&self) -> Result<String> {
        std::fs::read_to_string(self.layout.authority()).context("Read the authority's certificate")
    }

    /// A new mailbox whose address starts with `base`.
    pub fn mailbox(&self, base: &str) -> Result<Mailbox> {
        let address = format!("{base}-{}@{}", random_hex::<4>()?, config::DOMAIN);
        Ok(Mailbox { address, password: self.layout.password.clone() })
    }

    /// Lays a mail into a mailbox past all checks, as its provider could.
    pub async fn inject(&self, to: &str, mail: &str) -> Result<()> {
        let stream = TcpStream::connect(self.address(self.layout.lmtp)).await.context("Reach Dovecot's LMTP")?;
        let (from, mut into) = stream.into_split();
        let mut from = BufReader::new(from).lines();
        let mail = mail.replace('\n', "\r\n");
        let said = [
            String::new(),
            "LHLO localhost\r\n".to_owned(),
            format!("MAIL FROM:<stranger@{}>\r\n", config::DOMAIN),
            format!("RCPT TO:<{to}>\r\n"),
            "DATA\r\n".to_owned(),
            format!("{mail}\r\n.\r\n"),
        ];
        for line in said {
            into.write_all(line.as_bytes()).await?;
            loop {
                let answer = from.next_line().await?.context("LMTP broke off")?;
                ensure!(answer.starts_with(['2', '3']), "LMTP refused: {answer}");
                if answer.as_bytes().get(3) != Some(&b'-') {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends the server in order. Its data stays until this value is dropped.
    pub async fn stop(&self) -> Result<()> {
        tokio::try_join!(self.postfix.stop(STOP_GRACE), self.dovecot.stop(STOP_GRACE))?;
        Ok(())
    }

    /// SIGKILL, to every process of it.
    pub async fn kill(&self) -> Result<()> {
        tokio::try_join!(self.postfix.kill(), self.dovecot.kill())?;
        // Postfix's workers are in groups of their own, and end when they see that their master is gone.
        let give_up = Instant::now() + STOP_GRACE;
        for port in self.ports() {
            while TcpStream::connect(self.address(port)).await.is_ok() {
                ensure!(Instant::now() < give_up, "Port {port} is still open after a kill");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        // A Dovecot that finds somebody behind one of its sockets does not start.
        for socket in ["stats-writer", "login/stats-writer"] {
            while UnixStream::connect(self.layout.run().join(socket)).await.is_ok() {
                ensure!(Instant::now() < give_up, "{socket} is still answered after a kill");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.unlock_mailboxes()
    }

    /// Takes away the locks of killed processes. Dovecot can't tell whose they were, and would lay nothing into such a
    /// mailbox for two minutes, nor into any other, since Postfix hands it one mail at a time.
    fn unlock_mailboxes(&self) -> Result<()> {
        for mailbox in std::fs::read_dir(self.mailboxes())? {
            match std::fs::remove_file(mailbox?.path().join("dovecot-uidlist.lock")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context("Take away a killed Dovecot's lock");
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Starts the server again on its old data and ports, and waits until it answers.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_both().await
    }

    async fn start_both(&self) -> Result<()> {
        let give_up = Instant::now() + START_DEADLINE;
        tokio::try_join!(self.postfix.start(), self.dovecot.start())?;
        for port in self.ports() {
            while TcpStream::connect(self.address(port)).await.is_err() {
                if !(self.postfix.is_running() && self.dovecot.is_running()) || Instant::now() > give_up {
                    bail!("The mail server does not answer:\n{}", self.log_tail(15));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// From now on nobody's password is right any more; or it is again.
    pub async fn lock_out(&self, everybody: bool) -> Result<()> {
        let password = if everybody { random_hex::<8>()? } else { self.layout.password.clone() };
        self.take_passwords(&Passwords::All(password)).await
    }

    /// From now on each mailbox is made by its first login and keeps that password, as on a chatmail relay.
    pub async fn make_accounts(&self) -> Result<()> {
        let program = self.layout.dir.join("makes_accounts.py");
        std::fs::write(&program, config::MAKES_ACCOUNTS)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        let made = self.layout.dir.join("made");
        std::fs::create_dir_all(&made)?;
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o700))?;
        // The program runs as Dovecot's own user.
        chown(made, Some(install::id("-u", "dovecot")?), None)?;
        self.take_passwords(&Passwords::Made(program)).await
    }

    async fn take_passwords(&self, which: &Passwords) -> Result<()> {
        self.dovecot.stop(STOP_GRACE).await?;
        std::fs::write(self.layout.dovecot(), config::dovecot(&self.layout, which))?;
        self.start_both().await
    }

    /// From now on mail that is handed in stays in the queue, as it does when nobody takes it; or it goes on again.
    pub async fn hold(&self, held: bool) -> Result<()> {
        self.set(if held { "defer_transports = lmtp" } else { "" }).await
    }

    /// Starts Postfix again with these lines more than it usually has.
    pub async fn set(&self, lines: &str) -> Result<()> {
        self.postfix.stop(STOP_GRACE).await?;
        let usual = config::main_cf(&self.layout, ARCHIVE);
        std::fs::write(self.layout.postfix().join("main.cf"), format!("{usual}{lines}\n"))?;
        self.start_both().await
    }

    fn ports(&self) -> [u16; 6] {
        let Layout { imaps, smtps, imap, submission, lmtp, sasl, .. } = self.layout;
        [lmtp, sasl, imaps, smtps, imap, submission]
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// The last lines of what both servers logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let mut tail = Vec::new();
        for name in ["output.log", "postfix.log", "dovecot.log"] {
            let text = std::fs::read(self.layout.dir.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let all: Vec<&str> = text.lines().collect();
            tail.extend(all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()));
        }
        tail.join("\n")
    }
}

/// Whether the mail server is or can be installed; says `SKIPPED` for the running test if not.
pub async fn available() -> bool {
    match tokio::task::spawn_blocking(install::ready).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            skip(&format!("{error:#}"));
            false
        }
        Err(_) => {
            skip("the installation of the mail server panicked");
            false
        }
    }
}

fn set_up(layout: &Layout) -> Result<()> {
    ensure!(geteuid().is_root(), "Postfix and Dovecot start as root only");
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711));
    open(&layout.dir)?;
    for folder in [layout.postfix(), layout.queue(), layout.postfix_data(), layout.run(), layout.mail(), layout.tls()] {
        std::fs::create_dir_all(folder)?;
    }
    chown(layout.postfix_data(), Some(install::id("-u", "postfix")?), None)?;
    chown(layout.mail(), Some(install::id("-u", config::MAIL_USER)?), None)?;
    tls::write(layout)?;
    std::fs::write(layout.postfix().join("main.cf"), config::main_cf(layout, ARCHIVE))?;
    std::fs::write(layout.postfix().join("master.cf"), config::master_cf(layout))?;
    std::fs::write(layout.dovecot(), config::dovecot(layout, &Passwords::All(layout.password.clone())))?;
    // Makes the folders of the queue.
    install::run("/usr/sbin/postfix", &["-c", &layout.postfix().to_string_lossy(), "check"])
}
