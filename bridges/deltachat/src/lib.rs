//! Delta Chat: OpenPGP over any mail server, with its own engine as a child process.
//!
//! `engine` is the child and what it says. `session` runs it. `incoming` hands in what it received, each as `taking` makes
//! it, `late` what was not whole then, `changes` what was done to earlier messages. `outgoing` delivers words and files,
//! `deeds` what is done to earlier messages; `queue` says what became of them in the engine. `files` is the way between
//! the spool and the engine. `readers` keeps what is carried from those who are new in a chat. `caution` keeps one message that an engine dies of from holding up the others, and `passed`
//! has mail asked for again that an engine passed over. `translate` is pure. `setup` logs in and shows invitations;
//! `probe` says what is wrong with a mail server that the engine would use.
//!
//! What this network can't do: a message has no place for our marks that other clients would not show, so a loop
//! between two bridges is left to the circuit breaker; and the engine has no key for its own database, which lies in
//! the account's folder as it is. `backup` has the engine export and import it.

mod backup;
mod caution;
mod changes;
mod config;
mod core;
mod deeds;
mod engine;
mod files;
#[cfg(test)]
mod fuzz;
mod ids;
mod incoming;
mod invite;
mod joining;
mod last_told;
mod late;
mod made;
mod outgoing;
mod passed;
mod probe;
mod queue;
mod readers;
mod records;
mod session;
mod setup;
mod sheet;
mod taking;
mod translate;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use sealbridge_contract::{
    Abilities, Ability, AnyTransport, Cleared, Context, ConversationId, Deduplication, DeliveryError, EndToEnd, Fatal,
    Flow, Found, Inbox, Invitation, PersonId, Picture, PictureId, Receipt, Screen, Slip, Transport, Verb,
    audience::{Admission, Audience, Roll},
    gate::Encryption,
    transport::{ConversationInfo, Finding, Health},
};
use tokio_util::sync::CancellationToken;

use crate::engine::servers::Server;

pub use backup::{IMPORT, export, restored};
pub use config::{CertificateChecks, MailHost, Security, Settings};
pub use setup::{Setup, is_set_up};
pub use sheet::SHEET;

/// Whether a text can be the id of a person: the fingerprint of their key, as it is read from the engine.
#[must_use]
pub fn is_person(id: &str) -> bool {
    ids::is_person(id)
}

/// Connects an account that was set up.
///
/// # Errors
/// [`Fatal`]: a person must act.
pub async fn connect(context: Context, settings: Settings) -> Result<AnyTransport, Fatal> {
    Ok(AnyTransport::EndToEnd(Arc::new(DeltaChat { core: Arc::new(core::Core::connect(context, settings).await?) })))
}

/// The datasheet.
pub const ABILITIES: Abilities = Abilities {
    network: "deltachat",
    verbs: &[
        (Verb::Text, Ability::Full),
        (Verb::Formatting, Ability::Degrade),
        (Verb::Emote, Ability::Degrade),
        (Verb::Notice, Ability::Degrade),
        (Verb::Reply, Ability::Full),
        (Verb::Edit, Ability::Within("very long words, and files without words, get a new message, marked as an edit")),
        (Verb::Redaction, Ability::Within("only of what came from elsewhere; of others' messages it is said in words")),
        (
            Verb::Reaction,
            Ability::Within("one account shows one emoji on a message, for all who mean it; another is said in words"),
        ),
        (Verb::Image, Ability::Partly("without its small picture; its size is read from the picture itself")),
        // The engine takes none of these from whoever uses it over JSON-RPC.
        (Verb::Video, Ability::Partly("without its small picture, its size and how long it plays")),
        (Verb::Audio, Ability::Partly("without how long it plays, and how loud it is when")),
        (
            Verb::Voice,
            Ability::Partly(
                "without how long it plays, and how loud it is when; Delta Chat gives it a name of its own",
            ),
        ),
        (
            Verb::File,
            Ability::Partly("without its small picture; at most 21 MiB; pictures and films are shown as such"),
        ),
        (Verb::Sticker, Ability::Partly("without its small picture; its size is read from the picture itself")),
    ],
    deduplication: Deduplication::For(records::KEPT),
    finds: true,
    carries_marks: false,
    // Beyond some 3,800 characters Delta Chat shows the beginning, and the rest on a tap.
    most_bytes: 64 * 1024,
    // What the engine recommends at the most, in whole MiB.
    most_file: 21 << 20,
    reactions_in_clear: false,
};

/// As long the engine is waited for where nothing depends on it, twice at the most: to be there, and to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// One Delta Chat account.
#[derive(Debug)]
pub struct DeltaChat {
    core: Arc<core::Core>,
}

impl DeltaChat {
    /// The mail servers that the engine uses; those that the settings name, if it does not say.
    async fn servers(&self) -> Vec<Server> {
        let asked = async { self.core.engine_within(PATIENCE).await?.servers().await.ok() };
        let used = tokio::time::timeout(PATIENCE * 2, asked).await.ok().flatten();
        used.filter(|used| !used.is_empty()).unwrap_or_else(|| self.core.settings.servers())
    }
}

#[async_trait]
impl Transport for DeltaChat {
    fn abilities(&self) -> &Abilities {
        self.core.abilities
    }

    fn health(&self) -> Health {
        self.core.health()
    }

    fn conversations(&self) -> Vec<ConversationInfo> {
        self.core.conversations()
    }

    async fn find(&self, slip: &Slip) -> Result<Found, DeliveryError> {
        outgoing::find(&self.core, slip).await
    }

    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError> {
        outgoing::open_direct(&self.core, with.as_str()).await
    }

    async fn invitation(&self, to: &ConversationId) -> Result<Option<Invitation>, DeliveryError> {
        outgoing::invitation(&self.core, to).await.map(Some)
    }

    fn comparison(&self, _with: Option<&PersonId>, _screen: Screen) -> Option<Box<dyn Flow>> {
        Some(Box::new(joining::Joining::new(Arc::clone(&self.core))))
    }

    async fn audience(&self, of: &ConversationId) -> Result<Option<Audience>, DeliveryError> {
        readers::audience(&self.core, of).await
    }

    async fn roll(&self, of: &ConversationId) -> Result<Option<Arc<Roll>>, DeliveryError> {
        readers::roll(&self.core, of).await
    }

    async fn admit(&self, to: &ConversationId, who: &[Admission]) -> Result<(), DeliveryError> {
        readers::admit(&self.core, to, who).await
    }

    async fn forget_person(&self, person: &PersonId) -> Result<bool, DeliveryError> {
        readers::forget(&self.core, person).await
    }

    async fn picture(&self, of: &PictureId) -> Option<Picture> {
        let engine = self.core.engine_within(PATIENCE).await?;
        let folder = tokio::time::timeout(PATIENCE, engine.files()).await.ok()?.ok()??;
        files::picture(&folder, of).await
    }

    async fn export(&self) -> Result<Option<PathBuf>, DeliveryError> {
        let core = &self.core;
        backup::write(&*core.engine()?, &core.folder, &core.passphrase).await.map(Some)
    }

    async fn doctor(&self) -> Vec<Finding> {
        let newer = self.core.is_newer().map(|words| Finding { grave: false, topic: "engine", words });
        if self.core.health().connected {
            return newer.into_iter().collect();
        }
        let trouble = probe::trouble(&self.servers().await, self.core.settings.certificate_checks).await;
        let words = trouble.or(self.core.health().trouble).unwrap_or_else(|| "it does not run".to_owned());
        [Finding { grave: true, topic: "unreachable", words }].into_iter().chain(newer).collect()
    }
}

#[async_trait]
impl EndToEnd for DeltaChat {
    async fn run(&self, inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        session::run(&self.core, &inbox, &stop).await
    }

    fn encryption(&self, conversation: &ConversationId) -> Encryption {
        self.core.encryption(conversation)
    }

    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        outgoing::deliver(&self.core, &message, slip).await
    }
}
