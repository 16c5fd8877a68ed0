//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use sealbridge_contract::{AccountName, Address, PersonId, RemoteId, audience::Identity};

use super::sources::Sources;
use crate::{
    config::{Format, parse_address},
    operator::{Action, Failure, Place},
    store::LinkName,
};

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  failed in another way than these
   2  the command is not understood
   3  the config, a file that it names, or the journal is not in order
   4  a password, token or session is not accepted
   5  a network, or the running service, can't be reached
   6  refused by policy: not encrypted, not verified, not allowed
   7  kept, and goes on its way by itself
  75  it may work later

The config is the file given with --config, or the first of ./sealbridge.toml,
$XDG_CONFIG_HOME/sealbridge/config.toml and /etc/sealbridge/config.toml. Over it go the
variables SEALBRIDGE_SECTION__KEY, and over them the flags.";

/// Joins end-to-end encrypted conversations across networks.
#[derive(Debug, Parser)]
#[command(name = "sealbridge", version, after_help = EXIT_CODES, max_term_width = 80)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// The config file.
    #[arg(long, global = true, value_name = "FILE", env = "SEALBRIDGE_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// The state folder, in the place of the config's.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(super) state: Option<PathBuf>,
    /// Answer in JSON, one object a line.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Log more; twice, still more. Never words of a message.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// The form of log lines.
    #[arg(long, global = true, value_name = "FORM")]
    pub(super) log_format: Option<Format>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set up a bot: config, keys, logins, admin room. Goes on where it was interrupted.
    Init {
        /// Take the answers from this file and ask nothing.
        #[arg(long, value_name = "FILE")]
        answers: Option<PathBuf>,
    },
    Send(super::send::Send),
    /// Programs that bring notices.
    #[command(subcommand)]
    Sources(super::sources::Sources),
    /// How notices look.
    #[command(subcommand)]
    Templates(super::sources::Templates),
    /// Our logins.
    #[command(subcommand)]
    Account(Account),
    /// Run the service.
    Run,
    /// Look for what is wrong, and say what to do.
    Doctor,
    /// Say how the service is doing.
    Status,
    /// Conversations that are carried to each other.
    #[command(subcommand)]
    Links(Links),
    /// Conversations that the accounts can reach.
    #[command(subcommand)]
    Conversations(Conversations),
    /// Messages that will not be delivered unless you say so.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Show everybody who can read a link, or one conversation.
    Audience {
        /// Its name, or account/conversation.
        link: PlaceArg,
    },
    /// Let people read a link as they are now: newcomers, and those whose identity changed.
    Approve {
        /// The link's name, or account/conversation.
        link: PlaceArg,
        /// Who, as `sealbridge audience` shows them.
        #[arg(required = true)]
        people: Vec<String>,
        /// The identity that you have seen and mean, as `sealbridge audience` shows it, in quotes or without its spaces.
        /// Nobody is approved whose identity is another one by then.
        #[arg(long)]
        key: Option<String>,
    },
    /// The people in linked conversations, and how we know that they are who they say.
    #[command(subcommand)]
    Trust(Trust),
    /// Compare identities with a person, by emoji, or by a code that their client scans from the terminal.
    Verify {
        /// Our account.
        account: AccountArg,
        /// The person, on Matrix also PERSON/DEVICE for one device alone. Without one, wait for somebody to start it.
        person: Option<String>,
    },
    /// The root key, which opens the journal.
    #[command(subcommand)]
    Key(Key),
    /// One sealed file of what the service keeps, and back.
    #[command(subcommand)]
    Backup(Backup),
    /// Say what became of a message.
    Why {
        /// Where it was written: account/conversation.
        #[arg(value_parser = parse_address)]
        conversation: Address,
        /// What its network calls it.
        message: String,
    },
    /// The config.
    #[command(subcommand)]
    Config(Config),
    /// Print completions for a shell.
    Completions {
        /// Which.
        shell: Shell,
    },
    /// Print the manual page.
    Man {
        /// Write a page for every command into this folder.
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// Show them.
    List,
    /// Add one: it is asked for step by step, logged in, and written into the config.
    Add {
        /// A short name for it.
        name: Option<AccountArg>,
        /// Its network.
        #[arg(long, value_name = "NETWORK")]
        network: Option<String>,
        /// Take the answers from this file and ask nothing.
        #[arg(long, value_name = "FILE", conflicts_with = "network")]
        answers: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Links {
    /// Show the links.
    List,
    /// Say how one is doing.
    Show {
        /// Its name.
        name: LinkArg,
    },
    /// Make a link.
    Add {
        /// Its name.
        name: LinkArg,
        /// Its conversations: account/conversation.
        #[arg(required = true, num_args = 2.., value_parser = parse_address)]
        ends: Vec<Address>,
    },
    /// Remove a link.
    Remove {
        /// Its name.
        name: LinkArg,
    },
    /// Put another conversation in the place of one, such as after a room upgrade.
    Replace {
        /// The link's name.
        name: LinkArg,
        /// The conversation that goes.
        #[arg(value_parser = parse_address)]
        old: Address,
        /// The one that comes.
        #[arg(value_parser = parse_address)]
        new: Address,
    },
    /// Hold what comes in for a link.
    Pause {
        /// Its name.
        name: LinkArg,
    },
    /// Let a link go on, with what was held.
    Resume {
        /// Its name.
        name: LinkArg,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Conversations {
    /// Show the conversations that the accounts can reach.
    List {
        /// Only of this account.
        #[arg(long)]
        account: Option<AccountArg>,
    },
    /// Show the invitation to one, as a link and to be scanned; in the admin room, too.
    Invite {
        /// Which: account/conversation.
        #[arg(value_parser = parse_address)]
        conversation: Address,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Trust {
    /// Show them.
    List,
    /// Show one, with every key.
    Show {
        /// Who.
        person: String,
    },
    /// Compare identities with one. The same as `sealbridge verify`.
    Verify {
        /// Our account.
        account: AccountArg,
        /// The person, on Matrix also PERSON/DEVICE for one device alone. Without one, wait for somebody to start it.
        person: Option<String>,
    },
    /// Forget the identity that was pinned for one. They read nothing until everybody was told of them anew.
    Forget {
        /// Our account.
        account: AccountArg,
        /// Who.
        person: String,
    },
}

impl From<Trust> for Action {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::List => Self::ListTrust,
            Trust::Show { person } => Self::ShowTrust { person: PersonId::new(person) },
            Trust::Verify { account, person } => Self::verify(account.0, person.map(PersonId::new)),
            Trust::Forget { account, person } => {
                Self::ForgetTrust { account: account.0, person: PersonId::new(person) }
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// Show them.
    List,
    /// Show one.
    Show {
        /// Its number.
        number: i64,
    },
    /// Try some again.
    Retry(Numbers),
    /// Erase some for good.
    Drop(Numbers),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Numbers {
    /// Their numbers.
    pub(super) numbers: Vec<i64>,
    /// Every one.
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a new root key, which opens the journal from then on in the place of the old one. The service is stopped first.
    Rotate {
        /// Write the new key into this file, and leave the old one where it lies. By default it takes the old one's place.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Backup {
    /// Make a backup, also while the service runs: links, what waits, people and their keys, the accounts' identities, and
    /// the config. Not in it are the root key, the files of secrets that the config names, and the keys of devices: who
    /// restores it logs in as new devices.
    Create {
        /// The file to make.
        file: PathBuf,
        /// The key of backups, which is not the root key. It is made if there is none: keep it apart from the file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Go on with an older copy of the state folder, which is refused otherwise, as with a backup. Then `sealbridge init`
    /// logs in. What was carried since the copy was made is unknown to it, and not carried again by itself.
    Adopt,
    /// Make the state folder anew from a backup, and the config too if there is none. Then `sealbridge init` logs in.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The key that it was made with.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Config {
    /// Say whether it is in order, and whether the secrets that it names are.
    Check,
    /// Show it as it is in force, defaults included, secrets taken out.
    Show,
    /// Print its JSON schema.
    Schema,
}

impl Numbers {
    fn each(self, all: Action, one: fn(i64) -> Action) -> Vec<Action> {
        if self.all { vec![all] } else { self.numbers.into_iter().map(one).collect() }
    }
}

/// An account's name, checked where it is typed.
#[derive(Clone, Debug)]
pub(super) struct AccountArg(pub(super) AccountName);

impl std::str::FromStr for AccountArg {
    type Err = sealbridge_contract::ids::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        AccountName::parse(text).map(Self)
    }
}

/// A link's name, checked where it is typed.
#[derive(Clone, Debug)]
pub(super) struct LinkArg(pub(super) LinkName);

impl std::str::FromStr for LinkArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        LinkName::parse(text).map(Self)
    }
}

/// A link's name or a conversation, checked where it is typed.
#[derive(Clone, Debug)]
pub(super) struct PlaceArg(pub(super) Place);

impl std::str::FromStr for PlaceArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // A link may be named anything that is no conversation.
        Ok(Self(match parse_address(text) {
            Ok(at) => Place::Conversation(at),
            Err(_) => Place::Link(LinkName::parse(text)?),
        }))
    }
}

impl From<Links> for Action {
    fn from(links: Links) -> Self {
        match links {
            Links::List => Self::ListLinks,
            Links::Show { name } => Self::ShowLink { name: name.0 },
            Links::Add { name, ends } => Self::AddLink { name: name.0, ends },
            Links::Remove { name } => Self::RemoveLink { name: name.0 },
            Links::Replace { name, old, new } => Self::ReplaceEnd { name: name.0, old, new },
            Links::Pause { name } => Self::PauseLink { name: name.0 },
            Links::Resume { name } => Self::ResumeLink { name: name.0 },
        }
    }
}

impl Command {
    /// The actions that the command is.
    pub(super) fn actions(self) -> Result<Vec<Action>, Failure> {
        match self {
            Self::DeadLetters(DeadLetters::Retry(numbers)) => {
                Ok(numbers.each(Action::RetryDeadLetters, |number| Action::RetryDeadLetter { number }))
            }
            Self::DeadLetters(DeadLetters::Drop(numbers)) => {
                Ok(numbers.each(Action::DropDeadLetters, |number| Action::DropDeadLetter { number }))
            }
            one => Ok(vec![one.action()?]),
        }
    }

    fn action(self) -> Result<Action, Failure> {
        Ok(match self {
            Self::Status => Action::Status,
            Self::Doctor => Action::Doctor,
            Self::Links(links) => links.into(),
            Self::Trust(trust) => trust.into(),
            Self::Audience { link } => Action::Audience { of: link.0, from: None },
            Self::Approve { link, people, key } => {
                let people = people.into_iter().map(PersonId::new).collect();
                Action::Approve { of: link.0, people, key: key.map(Identity::new), from: None }
            }
            Self::Sources(Sources::Test { name }) => Action::TestSource { name: name.0 },
            Self::Account(Account::List) => Action::ListAccounts,
            Self::Conversations(Conversations::Invite { conversation }) => Action::Invite { at: conversation },
            Self::Conversations(Conversations::List { account }) => {
                Action::ListConversations { account: account.map(|account| account.0) }
            }
            Self::DeadLetters(DeadLetters::List) => Action::ListDeadLetters,
            Self::DeadLetters(DeadLetters::Show { number }) => Action::ShowDeadLetter { number },
            Self::Why { conversation, message } => {
                Action::Why { at: conversation, message: RemoteId::new(message), by: None, brief: false }
            }
            Self::Verify { account, person } => Action::verify(account.0, person.map(PersonId::new)),
            other => return Err(Failure::other(format!("{other:?} is not a single action"))),
        })
    }
}
