//! The same words of a source again: their message is edited and says how often they came, rather than said anew.
//!
//! How often is kept in the commit that takes the request, so each is counted once, whatever is killed meanwhile.

use std::time::Duration;

use sealbridge_contract::{Body, RemoteId, SecretBytes, Timestamp, html::escape, inbox::StoreWrite};
use serde::{Deserialize, Serialize};

use super::{
    Desk, Following, Intake, NotTaken, Notice, Standing, brought::Author, dialects::moment, gather::Gathering,
    source::Source,
};

/// Where it is kept in the account's own store which words were said, those of each source together.
pub(super) const REPEATS: &str = "repeat/";
/// So long at most the same words are no news.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Words that were said. They themselves are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// Their message.
    root: RemoteId,
    /// Since when it is there.
    since: Timestamp,
    /// How often they came.
    times: u32,
}

/// Words that may come again, or came again.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// Where it is remembered.
    pub(super) key: String,
    /// The message that they change. `None`: they are said for the first time.
    pub(super) of: Option<RemoteId>,
    said: Said,
    at: Timestamp,
}

impl Repeat {
    /// What is to be remembered.
    pub(super) fn write(&self) -> StoreWrite {
        StoreWrite::put(&self.key, SecretBytes::new(serde_json::to_vec(&self.said).expect("texts and numbers")))
    }

    /// What their message is called.
    pub(super) fn root(&self) -> &RemoteId {
        &self.said.root
    }

    /// The words, and how often they came.
    pub(super) fn counted(&self, body: &Body) -> Body {
        let last = moment::shown(self.at.0).unwrap_or_default();
        let line = format!("🔁 ×{}, last at {last}", self.said.times);
        let html = body.html.as_ref().map(|html| format!("{}<p>{}</p>", html.as_str(), escape(&line)).into());
        Body { html, ..Body::plain(format!("{}\n{line}", body.plain.as_str())) }
    }
}

impl Author {
    /// The words of a notice as some that may come again, or came again. `None`: they are said each time. Changes of what
    /// was said, and files, are.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn repeat(
        &self,
        desk: &Desk,
        notice: &Notice,
        body: &Body,
        gathering: &Gathering<'_>,
    ) -> Result<Option<Repeat>, NotTaken> {
        let Some(long) = gathering.folds_for() else { return Ok(None) };
        if notice.instead_of.is_some() || !notice.attachments.is_empty() {
            return Ok(None);
        }
        let html = body.html.as_ref().map_or("", |html| html.as_str());
        let what = [&[notice.severity as u8], body.plain.as_str().as_bytes(), &[0], html.as_bytes()].concat();
        let key = desk.key_of_source(REPEATS, "repeat", self.origin(), &what);
        let at = desk.clock().now();
        let mut before = desk.said_before(&key).await?.filter(|said| !said.since.plus(long).has_come(at, long));
        // What arrived nowhere, and won't by itself, is not changed but said.
        if let Some(said) = &before {
            let standing = desk.standing(self.origin(), &said.root).await?;
            if standing.is_none_or(|standing| standing.arrived.is_empty() && standing.is_final()) {
                before = None;
            }
        }
        let of = before.as_ref().map(|said| said.root.clone());
        let said = match before {
            Some(said) => Said { times: said.times.saturating_add(1), ..said },
            None => Said { root: Desk::fresh_id(), since: at, times: 1 },
        };
        Ok(Some(Repeat { key, of, said, at }))
    }
}

impl Desk {
    async fn said_before(&self, key: &str) -> Result<Option<Said>, NotTaken> {
        let said = self.kept(key).await?;
        Ok(said.and_then(|said| serde_json::from_slice(said.expose()).ok()))
    }

    /// Sees to it that the message which words change stays. To be asked while nobody else takes it back.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: it was taken back already, or the journal does not answer.
    pub(super) async fn must_stay(&self, repeat: &Repeat) -> Result<(), NotTaken> {
        let Some(root) = &repeat.of else { return Ok(()) };
        if self.said_before(&repeat.key).await?.is_none_or(|said| said.root != *root) {
            return Err(NotTaken::NotNow("what it says again was taken back just now".into()));
        }
        self.followed.stays(root);
        Ok(())
    }
}

impl Intake {
    /// How words stand that came again: where they arrived, their message is told of, which says how often.
    pub(super) async fn as_changed(&self, source: &Source, following: &Following, mut standing: Standing) -> Standing {
        let Some(root) = following.changes() else { return standing };
        if let Ok(Some(of)) = self.desk.standing(source.author.origin(), root).await {
            for (at, event) in &mut standing.arrived {
                of.arrived.get(at).into_iter().for_each(|first| event.clone_from(first));
            }
        }
        standing
    }

    /// What is remembered of words that are said nowhere, to be forgotten.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn forget_repeats(&self, following: &Following) -> Result<Vec<StoreWrite>, NotTaken> {
        let mut writes = Vec::new();
        for key in following.names().iter().filter(|key| key.starts_with(REPEATS)) {
            if self.desk.said_before(key).await?.is_some_and(|said| following.ids().contains(&said.root)) {
                writes.push(StoreWrite::delete(key));
            }
        }
        Ok(writes)
    }
}
