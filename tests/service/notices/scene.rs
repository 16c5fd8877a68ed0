//! A service in this process whose sources speak in a conversation in memory.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc, time::Duration};

use sealbridge_contract::{AccountName, ConversationId, gate::Encryption};
use sealbridge_lab::http::{Answered, free_port, request};
use sealbridge_loopback::{Heard, LoopbackHub, LoopbackPerson, Says};

use crate::running::Running;

pub(super) const SOON: Duration = Duration::from_secs(20);
pub(super) const SECRET: &str = "correct-horse-battery-staple";

/// Ann in an encrypted conversation with the account `a`, in which sources speak.
pub(super) struct Scene {
    folder: tempfile::TempDir,
    pub(super) hub: LoopbackHub,
    pub(super) ann: LoopbackPerson,
    pub(super) room: ConversationId,
    /// Another, with her as well.
    pub(super) other: ConversationId,
    pub(super) port: u16,
    /// Where mail is taken.
    pub(super) mail: u16,
    /// The largest request.
    most_body: &'static str,
    sections: String,
    within: &'static str,
    pub(super) running: Option<Running>,
}

pub(super) fn account() -> AccountName {
    AccountName::parse("a").expect("a name")
}

impl Scene {
    /// `sections`: the config's sources, with `SECRET` and `OLD` for files with secrets, and `ANN` for her id.
    pub(super) async fn set(sections: &str, says: Says) -> Self {
        Self::made(sections, says, "2s", "64KiB").await
    }

    /// The same, where senders wait for so long to hear what became of their notice.
    pub(super) async fn waiting(sections: &str, says: Says, within: &'static str) -> Self {
        Self::made(sections, says, within, "64KiB").await
    }

    /// The same with requests of up to so many bytes.
    pub(super) async fn set_with(most_body: &'static str, sections: &str, says: Says) -> Self {
        Self::made(sections, says, "2s", most_body).await
    }

    async fn made(sections: &str, says: Says, within: &'static str, most_body: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hub = LoopbackHub::fresh("alerts");
        let room = hub.conversation("room", says);
        let other = hub.conversation("other", says);
        let ann = hub.person("ann");
        for conversation in [&room, &other] {
            ann.join(conversation);
            hub.join(&account(), conversation);
        }
        for (name, secret) in [("secret", SECRET), ("old", "the one before")] {
            let file = folder.path().join(name);
            fs::write(&file, format!("{secret}\n")).expect("it is written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is private");
        }
        let place = |name: &str| format!("{:?}", folder.path().join(name));
        let sections = sections.replace("SECRET", &place("secret")).replace("OLD", &place("old"));
        let sections = sections.replace("ANN", ann.id().as_str());
        let [port, mail] = [(); 2].map(|()| free_port().expect("a port"));
        let mut scene = Self { folder, hub, ann, room, other, port, mail, within, most_body, sections, running: None };
        scene.start().await;
        scene
    }

    pub(super) async fn start(&mut self) {
        let text = format!(
            "[service]\nstate = {:?}\n[notices]\nlisten = \"127.0.0.1:{}\"\nlisten_mail = \"127.0.0.1:{}\"\nanswer_within = {:?}\nmost_body = \"{}\"\n\
             [accounts.a]\nnetwork = \"loopback\"\nhub = \"{}\"\nconversations = [\"room\", \"other\"]\n{}",
            self.state(),
            self.port,
            self.mail,
            self.within,
            self.most_body,
            self.hub.name(),
            self.sections,
        );
        let running = Running::start(&text).await;
        let host = running.host();
        self.running = Some(running);
        // It listens, and knows its conversation, a moment after it has begun to run.
        let begun = tokio::time::Instant::now();
        let knows = || {
            let transport = host.accounts().into_iter().find_map(|account| account.transport);
            let known = transport.map(|transport| transport.common().conversations()).unwrap_or_default();
            known.iter().any(|one| one.encryption != Encryption::Unknown)
        };
        while !knows() || tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(begun.elapsed() < SOON, "it does not come up");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Takes a line out of the config, from the next start on.
    pub(super) fn forget(&mut self, line: &str) {
        assert!(self.sections.contains(line), "{}", self.sections);
        self.sections = self.sections.replace(line, "");
    }

    /// Puts a line back into it, from the next start on.
    pub(super) fn recall(&mut self, line: &str) {
        self.sections.push_str(line);
    }

    pub(super) async fn stop(&mut self) {
        self.running.take().expect("it runs").stop().await;
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Waits until the bridge has seen how a conversation is encrypted.
    pub(super) async fn sees(&self, conversation: &ConversationId, is: Encryption) {
        let begun = tokio::time::Instant::now();
        let host = self.running.as_ref().expect("it runs").host();
        let seen = || {
            let transport = host.accounts().into_iter().find_map(|account| account.transport);
            let known = transport.map(|transport| transport.common().conversations()).unwrap_or_default();
            known.into_iter().any(|one| one.id == *conversation && one.encryption == is)
        };
        while !seen() {
            assert!(begun.elapsed() < SOON, "it does not see that {conversation:?} is {is:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answered {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        request("POST", &url, headers, body).await.expect("it is answered")
    }

    /// What Ann heard of sources, first what was said first; the bridge's own words left out.
    pub(super) fn heard(&self) -> Vec<Arc<Heard>> {
        self.ann.heard().into_iter().filter(|heard| heard.author.is_some()).collect()
    }

    pub(super) async fn hears(&self, what: &str, is: impl Fn(&Heard) -> bool) -> Arc<Heard> {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(heard) = self.heard().into_iter().find(|heard| is(heard)) {
                return heard;
            }
            assert!(begun.elapsed() < SOON, "Ann does not hear {what}: {:?}", self.heard());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
