//! What people do about incidents where they are told of them.

use std::time::Duration;

use sealbridge_contract::RemoteId;

use super::{
    Intake, Known, NotTaken, SourceName, Who,
    silence::{self, Matchers, NoMatchers},
};

/// Whether an incident was silenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silenced {
    /// It is: what, in words.
    Yes(Vec<String>),
    /// No Alertmanager is named for its source.
    NoApi,
    /// Nothing goes on that could be.
    NoAlert,
    /// More goes on than is known by its labels.
    TooMuch,
    /// Alertmanager did not do it, and why.
    Refused(String),
}

impl Intake {
    /// Somebody reacts to a notice that came from this conversation of ours.
    ///
    /// # Errors
    /// [`NotTaken`]: it is not kept.
    pub async fn reacted(&self, from: &str, about: &RemoteId, by: Who<'_>, looks_after: bool) -> Result<(), NotTaken> {
        let source = SourceName::of_conversation(from).and_then(|name| self.sources.get(&name));
        let Some(source) = source.filter(|source| source.heeds_reactions) else { return Ok(()) };
        let _turn = source.turn(&self.desk).await?;
        match source.author.acknowledged(&self.desk, about, by, (looks_after, false)).await? {
            Some(made) => self.tell(source, made).await,
            None => Ok(()),
        }
    }

    /// Somebody says, as is proven, that they look after the incident that a message is of. False: it is of none.
    ///
    /// # Errors
    /// [`NotTaken`]: it is not kept.
    pub async fn acknowledge(&self, source: &SourceName, about: &RemoteId, by: &str) -> Result<bool, NotTaken> {
        let Some(source) = self.sources.get(source) else { return Ok(false) };
        let by = Who { id: by, name: by };
        let _turn = source.turn(&self.desk).await?;
        match source.author.acknowledged(&self.desk, about, by, (true, true)).await? {
            Some(made) => self.tell(source, made).await.map(|()| true),
            None => Ok(source.author.incident(&self.desk, about).await?.is_some()),
        }
    }

    /// Somebody silences an incident for a while, where it comes from.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub async fn silence(
        &self,
        source: &SourceName,
        about: &RemoteId,
        long: Duration,
        by: &str,
    ) -> Result<Silenced, NotTaken> {
        let Some(source) = self.sources.get(source) else { return Ok(Silenced::NoAlert) };
        let Some(api) = &source.api else { return Ok(Silenced::NoApi) };
        let incident = || source.author.incident(&self.desk, about);
        let Some((_, known)) = incident().await? else { return Ok(Silenced::NoAlert) };
        let all = match silence::matchers(&known.course()) {
            Ok(all) => all,
            Err(NoMatchers::NothingGoesOn) => return Ok(Silenced::NoAlert),
            Err(NoMatchers::TooMuch) => return Ok(Silenced::TooMuch),
        };
        let now = self.clock().now();
        let until = now.plus(long);
        // It may be long in answering, and nobody waits for that.
        for (done, matchers) in all.iter().enumerate() {
            if let Err(why) = silence::silence(api, matchers, (now, until), by).await {
                let in_part =
                    if done > 0 { format!("; {done} of {} silences were made", all.len()) } else { String::new() };
                return Ok(Silenced::Refused(format!("{why}{in_part}")));
            }
        }
        let of = all.iter().map(Matchers::words).collect();
        let _turn = source.turn(&self.desk).await?;
        // It may be over by now.
        let Some((key, known)) = incident().await? else { return Ok(Silenced::Yes(of)) };
        let made = source.author.as_it_is(&self.desk, key, &Known { silenced_until: Some(until), ..known });
        self.tell(source, made).await?;
        Ok(Silenced::Yes(of))
    }
}
