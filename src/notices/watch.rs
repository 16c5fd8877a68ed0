//! What is done about sources by the clock: those that are missing are told of, what was gathered is said, and old names are
//! forgotten.

use std::time::Duration;

use sealbridge_contract::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Intake, NotTaken, escalation::Escalated, gather::Gathering, source::Source, vigil::Vigil};

/// How often it is looked.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

impl Intake {
    /// Forgets names that are too old, now and then, until `stop`.
    pub async fn tidy(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(600)) => {}
            }
            if let Err(error) = self.desk.prune().await {
                tracing::debug!(%error, "Old names of notices are not forgotten yet.");
            }
        }
    }

    /// Says which sources are not heard as often as they are to be, and what was gathered, until `stop`.
    pub async fn keep_vigil(&self, stop: CancellationToken) {
        // Apart, so that a turn that is long in coming delays no look at who is missing.
        tokio::join!(self.look_for_silence(&stop), self.look_for_gathered(&stop));
    }

    async fn look_for_silence(&self, stop: &CancellationToken) {
        let watched: Vec<_> = self.sources.iter().filter(|(_, source)| source.vigil().is_some()).collect();
        while !watched.is_empty() && goes_on(stop).await {
            for (name, source) in &watched {
                let missing = source.vigil().and_then(|mut vigil| vigil.look(self.clock().now()));
                let Some(since) = missing else { continue };
                if let Err(error) = self.tell_of_silence(source, Some(since)).await {
                    tracing::warn!(source = %name, %error, "That a source is missing is not said yet.");
                }
            }
        }
    }

    async fn look_for_gathered(&self, stop: &CancellationToken) {
        while goes_on(stop).await {
            for (name, source) in &self.sources {
                if let Err(error) = self.say_gathered(source).await {
                    tracing::debug!(source = %name, %error, "What was gathered is not said yet.");
                }
                if let Err(error) = self.escalate(source).await {
                    tracing::debug!(source = %name, %error, "That nobody looks after something is not said yet.");
                }
            }
        }
    }

    /// Says what was gathered of a source, if it is time.
    async fn say_gathered(&self, source: &Source) -> Result<(), NotTaken> {
        let mut gathered = source.turn(&self.desk).await?;
        while let Some((key, together)) = gathered.due(&source.policy, &source.name, self.clock().now()) {
            let made = source.author.digest(&self.desk, key, &together).await?;
            fail::fail_point!("notices::before-digest");
            self.desk.say(source.author.origin(), made.messages, made.writes).await?;
            fail::fail_point!("notices::after-digest");
            gathered.said(&together.id);
        }
        Ok(())
    }

    /// Tells somebody else of what nobody looked after in time.
    async fn escalate(&self, source: &Source) -> Result<(), NotTaken> {
        let Some(after) = source.author.escalation.as_ref().map(|escalation| escalation.after) else { return Ok(()) };
        let mut gathered = source.turn(&self.desk).await?;
        for incident in gathered.overdue(after, self.clock().now()) {
            let escalated = source.author.escalate(&self.desk, &incident).await?;
            let mut then = gathered.clone();
            let at = if let Escalated::Later(at) = &escalated { Some(*at) } else { None };
            let wait = then.waits(&source.name, &incident, at);
            match escalated {
                Escalated::Never | Escalated::Later(_) => self.desk.remember(vec![wait]).await?,
                Escalated::Said(origin, messages, mut writes) => {
                    writes.push(wait);
                    fail::fail_point!("notices::before-escalation");
                    self.desk.say(&origin, messages, writes).await?;
                    fail::fail_point!("notices::after-escalation");
                }
            }
            *gathered = then;
        }
        Ok(())
    }

    /// Says that a source is missing since then, or is heard again.
    pub(super) async fn tell_of_silence(&self, source: &Source, since: Option<Timestamp>) -> Result<(), NotTaken> {
        let mut gathered = source.turn(&self.desk).await?;
        let notice = |vigil: &Vigil| vigil.notice(since.is_some(), since.unwrap_or_default());
        let Some(notice) = source.vigil().map(|vigil| notice(&vigil)) else { return Ok(()) };
        let mut gathering = Gathering::at_once(&source.policy, gathered.clone(), self.clock().now());
        let mut made = source.author.messages(&self.desk, &self.spool, notice, &mut gathering).await?;
        if !made.messages.is_empty() {
            made.writes.extend(gathering.writes(&source.name));
            self.tell(source, made).await?;
            gathered.clone_from(gathering.gathered());
        }
        source.vigil().into_iter().for_each(|mut vigil| vigil.said(since.is_some()));
        Ok(())
    }
}

/// Waits until it is time to look again. False: it is time to end.
async fn goes_on(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(BETWEEN_LOOKS) => true,
    }
}
