//! The closed list of what an operator can ask for. `performance` is the one place where it is done.

mod audience;
mod backup;
mod conversations;
mod doctor;
mod letters;
mod links;
mod performance;
mod room;
mod send;
mod sources;
mod status;

use std::fmt;

pub use doctor::{Check, CheckState, diagnosis, journal_does_not_open, on_disk, service_not_running};
pub(crate) use performance::BROKE;
pub use performance::{Performance, Progress, perform};
use sealbridge_contract::{AccountName, Address, AnyTransport, PersonId, RemoteId, Screen, audience::Identity};
pub use send::{Content, MOST_FILES, NamedFile, Sending, answer as content};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Failure, FailureKind, Host};
use crate::{config::nearest, notices::SourceName, store::LinkName};

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// How the service is doing.
    Status,
    /// What is wrong, and what to do about it.
    Doctor,
    /// The links.
    ListLinks,
    /// A new link.
    AddLink {
        /// Its name.
        name: LinkName,
        /// Its conversations.
        ends: Vec<Address>,
    },
    /// A link less.
    RemoveLink {
        /// Its name.
        name: LinkName,
    },
    /// Another conversation in the place of one of a link, such as the one that replaces it after an upgrade.
    ReplaceEnd {
        /// The link's name.
        name: LinkName,
        /// The conversation that goes.
        old: Address,
        /// The one that comes.
        new: Address,
    },
    /// What comes in for a link is held.
    PauseLink {
        /// Its name.
        name: LinkName,
    },
    /// A link goes on, with what was held.
    ResumeLink {
        /// Its name.
        name: LinkName,
    },
    /// Our logins.
    ListAccounts,
    /// The invitation to a conversation.
    Invite {
        /// Which.
        at: Address,
    },
    /// The conversations that accounts can reach.
    ListConversations {
        /// Only of this account.
        account: Option<AccountName>,
    },
    /// Messages that will not be delivered unless somebody says so.
    ListDeadLetters,
    /// One of them.
    ShowDeadLetter {
        /// Its number.
        number: i64,
    },
    /// It is tried again.
    RetryDeadLetter {
        /// Its number.
        number: i64,
    },
    /// It is erased for good.
    DropDeadLetter {
        /// Its number.
        number: i64,
    },
    /// All that can be are tried again.
    RetryDeadLetters,
    /// All are erased for good.
    DropDeadLetters,
    /// Everybody who can read a link, or one conversation.
    Audience {
        /// Which.
        of: Place,
        /// Asked from within this conversation: others are not named.
        from: Option<Address>,
    },
    /// People of a link, or of one conversation, read from now on as they are.
    Approve {
        /// Which.
        of: Place,
        /// Who.
        people: Vec<PersonId>,
        /// The identity that whoever asks has seen; nobody is approved who has another one by now.
        key: Option<Identity>,
        /// Asked from within this conversation: others are not named.
        from: Option<Address>,
    },
    /// Everybody in a linked conversation, and how we know them.
    ListTrust,
    /// One of them.
    ShowTrust {
        /// Who.
        person: PersonId,
    },
    /// Whose identity somebody's is, is forgotten.
    ForgetTrust {
        /// Our account.
        account: AccountName,
        /// Who.
        person: PersonId,
    },
    /// How one link is doing, and nothing else.
    ShowLink {
        /// Its name.
        name: LinkName,
    },
    /// What became of a message.
    Why {
        /// Where it was written, or brought to.
        at: Address,
        /// What it is called there.
        message: RemoteId,
        /// Only if this person wrote it.
        by: Option<PersonId>,
        /// Without saying what the other conversations are called.
        brief: bool,
    },
    /// A dead letter that came from a conversation, or was to go there, is tried again.
    RetryHere {
        /// Which conversation.
        at: Address,
        /// Its number.
        number: i64,
    },
    /// Every dead letter of a message is tried again.
    RetryMessage {
        /// Where it was written.
        at: Address,
        /// What it is called there.
        message: RemoteId,
    },
    /// An alert is silenced where it comes from.
    Silence {
        /// Where it is told of.
        at: Address,
        /// By which message.
        message: RemoteId,
        /// For how long, in milliseconds.
        for_ms: u64,
        /// Who wants it.
        by: PersonId,
    },
    /// Somebody looks after an alert.
    Acknowledge {
        /// Where it is told of.
        at: Address,
        /// By which message.
        message: RemoteId,
        /// Who does.
        by: PersonId,
    },
    /// A word is said in a source's conversations, as if it had brought it.
    TestSource {
        /// Its name.
        name: SourceName,
    },
    /// The operator says something in a conversation.
    Send(Sending),
    /// What a backup needs of the accounts and the journal does not have is written into files, for whoever makes it.
    PrepareBackup,
    /// Identities are compared by people.
    Verify {
        /// Our account.
        account: AccountName,
        /// With whom; without, with whoever starts it next.
        person: Option<PersonId>,
        /// Where it is shown.
        #[serde(default)]
        screen: Screen,
    },
}

/// A link, or one conversation, such as the admin room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// All conversations of a link.
    Link(LinkName),
    /// One conversation.
    Conversation(Address),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => name.fmt(f),
            Self::Conversation(at) => at.fmt(f),
        }
    }
}

impl Action {
    /// Its name in logs and in the audit.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Doctor => "doctor",
            Self::ListLinks => "list_links",
            Self::AddLink { .. } => "add_link",
            Self::RemoveLink { .. } => "remove_link",
            Self::ReplaceEnd { .. } => "replace_end",
            Self::PauseLink { .. } => "pause_link",
            Self::ResumeLink { .. } => "resume_link",
            Self::ListAccounts => "list_accounts",
            Self::Invite { .. } => "invite",
            Self::ListConversations { .. } => "list_conversations",
            Self::ListDeadLetters => "list_dead_letters",
            Self::ShowDeadLetter { .. } => "show_dead_letter",
            Self::RetryDeadLetter { .. } => "retry_dead_letter",
            Self::DropDeadLetter { .. } => "drop_dead_letter",
            Self::RetryDeadLetters => "retry_dead_letters",
            Self::DropDeadLetters => "drop_dead_letters",
            Self::Audience { .. } => "audience",
            Self::Approve { .. } => "approve",
            Self::ListTrust => "list_trust",
            Self::ShowTrust { .. } => "show_trust",
            Self::ForgetTrust { .. } => "forget_trust",
            Self::ShowLink { .. } => "show_link",
            Self::Why { .. } => "why",
            Self::RetryHere { .. } => "retry_here",
            Self::RetryMessage { .. } => "retry_message",
            Self::Silence { .. } => "silence",
            Self::Acknowledge { .. } => "acknowledge",
            Self::TestSource { .. } => "test_source",
            Self::Send(_) => "send",
            Self::PrepareBackup => "prepare_backup",
            Self::Verify { .. } => "verify",
        }
    }

    /// Identities are compared with somebody, where emoji alone can be shown.
    #[must_use]
    pub fn verify(account: AccountName, person: Option<PersonId>) -> Self {
        Self::Verify { account, person, screen: Screen::Words }
    }

    /// The same, for whoever has this screen before them.
    #[must_use]
    pub fn on(self, screen: Screen) -> Self {
        match self {
            Self::Verify { account, person, .. } => Self::Verify { account, person, screen },
            other => other,
        }
    }

    /// Whether it goes on in steps that a person watches, rather than being done at once.
    #[must_use]
    pub fn has_steps(&self) -> bool {
        matches!(self, Self::Verify { .. } | Self::Send(_))
    }

    /// Whether it needs accounts that are open, rather than the journal alone.
    #[must_use]
    pub fn needs_service(&self) -> bool {
        match self {
            Self::ListAccounts
            | Self::ListLinks
            | Self::RemoveLink { .. }
            | Self::PauseLink { .. }
            | Self::ResumeLink { .. }
            | Self::ListDeadLetters
            | Self::ShowDeadLetter { .. }
            | Self::RetryDeadLetter { .. }
            | Self::DropDeadLetter { .. }
            | Self::RetryDeadLetters
            | Self::DropDeadLetters
            | Self::Why { .. }
            | Self::RetryHere { .. }
            | Self::PrepareBackup
            | Self::RetryMessage { .. } => false,
            Self::ShowLink { .. }
            | Self::Status
            | Self::Doctor
            | Self::AddLink { .. }
            | Self::ReplaceEnd { .. }
            | Self::Invite { .. }
            | Self::ListConversations { .. }
            | Self::Audience { .. }
            | Self::Approve { .. }
            | Self::ListTrust
            | Self::ShowTrust { .. }
            | Self::ForgetTrust { .. }
            | Self::Silence { .. }
            | Self::Acknowledge { .. }
            | Self::TestSource { .. }
            | Self::Send(_)
            | Self::Verify { .. } => true,
        }
    }

    /// Whether it changes anything, and so has a line in the audit whoever asks for it. What only looks has one if somebody in a
    /// conversation is told: whoever asks on this host may read the state folder anyway.
    #[must_use]
    pub fn is_change(&self) -> bool {
        match self {
            Self::Status
            | Self::Doctor
            | Self::ListAccounts
            | Self::ListLinks
            | Self::ListConversations { .. }
            | Self::ListDeadLetters
            | Self::ShowDeadLetter { .. }
            | Self::Audience { .. }
            | Self::ListTrust
            | Self::ShowTrust { .. }
            | Self::ShowLink { .. }
            | Self::Why { .. } => false,
            Self::RetryHere { .. }
            | Self::RetryMessage { .. }
            | Self::AddLink { .. }
            | Self::Invite { .. }
            | Self::RemoveLink { .. }
            | Self::ReplaceEnd { .. }
            | Self::PauseLink { .. }
            | Self::ResumeLink { .. }
            | Self::RetryDeadLetter { .. }
            | Self::DropDeadLetter { .. }
            | Self::RetryDeadLetters
            | Self::DropDeadLetters
            | Self::Approve { .. }
            | Self::ForgetTrust { .. }
            | Self::PrepareBackup
            | Self::Silence { .. }
            | Self::Acknowledge { .. }
            | Self::TestSource { .. }
            | Self::Send(_)
            | Self::Verify { .. } => true,
        }
    }
}

/// Who asks, for the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// Somebody on this host, over the control socket.
    Local {
        /// Their user id.
        uid: u32,
    },
    /// `sealbridge init`.
    Init,
    /// Somebody in a conversation, proven to be who they are.
    Person {
        /// Who.
        person: PersonId,
        /// Where.
        at: Address,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid } => write!(f, "uid {uid}"),
            Self::Init => f.write_str("init"),
            Self::Person { person, at } => write!(f, "{} in {at}", person.as_str()),
        }
    }
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// For a person.
    pub words: String,
    /// For a program, one object a line, with fields that stay.
    pub lines: Vec<Value>,
    /// What was found to be wrong, if to look for it was asked: the exit code says it too.
    pub found: Option<FailureKind>,
    /// What the audit says besides what was asked: of what was looked up to do it.
    #[serde(skip)]
    pub(super) audited: Option<Value>,
}

impl Outcome {
    pub(super) fn new(words: impl Into<String>, lines: Vec<Value>) -> Self {
        Self { words: words.into(), lines, found: None, audited: None }
    }

    fn one<T: Serialize>(words: impl Into<String>, line: &T) -> Self {
        Self::new(words, vec![to_line(line)])
    }
}

fn to_line<T: Serialize>(line: &T) -> Value {
    serde_json::to_value(line).expect("a report is texts, numbers and lists")
}

/// The transport of an account that is open.
fn transport_of(host: &dyn Host, name: &AccountName) -> Result<AnyTransport, Failure> {
    let names: Vec<_> = host.config().accounts.keys().map(AccountName::as_str).collect();
    if !host.config().accounts.contains_key(name) {
        let meant = nearest(name.as_str(), &names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(Failure::usage(format!("there is no account `{name}`{meant}")));
    }
    open_transport(host, name).ok_or_else(|| {
        let words = format!("the account `{name}` is not open; `sealbridge status` says why");
        Failure::new(FailureKind::Unreachable, words)
    })
}

pub(super) fn open_transport(host: &dyn Host, name: &AccountName) -> Option<AnyTransport> {
    host.accounts().into_iter().find(|account| account.name == *name)?.transport
}
