//! What is done about sources by the clock: those that are missing are told of, what was gathered is said, and old names are
//! forgotten.

use std::{collections::BTreeSet, time::Duration};

use sealbridge_contract::{SecretBytes, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    Intake, NotTaken, SourceName,
    escalation::{Escalated, Verdict},
    gather::{GATHERED, Gathering},
    source::Source,
    together::{Together, is_together},
    vigil::Vigil,
};

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
        let warned = self.warn_of_left_behind();
        // Each apart, so that a turn that is long in coming delays nobody else's.
        let gathered = self.sources.iter().map(|(name, source)| self.look_for_gathered(name, source, &stop));
        let stopping = async {
            stop.cancelled().await;
            // What is kept is told to be kept, rather than nothing of it.
            self.stopping.cancel();
        };
        tokio::join!(warned, stopping, self.look_for_silence(&stop), futures_util::future::join_all(gathered));
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

    /// Names under which something is gathered and that are no source's any more: it waits until they are again.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub async fn left_behind(&self) -> Result<BTreeSet<SourceName>, NotTaken> {
        let gathered = self.desk.kept_before(GATHERED).await?;
        let name = |(key, _): &(String, _)| SourceName::parse(key.strip_prefix(GATHERED)?.split('/').next()?).ok();
        Ok(gathered.iter().filter_map(name).filter(|name| !self.sources.contains_key(name)).collect())
    }

    /// Whether that of which this is the name is gathered of a source that is none any more.
    pub(super) async fn waits_without_source(&self, id: &str) -> Result<bool, NotTaken> {
        let gathered = self.desk.kept_before(GATHERED).await?;
        let is_it =
            |kept: &SecretBytes| serde_json::from_slice::<Together>(kept.expose()).is_ok_and(|it| it.id.as_str() == id);
        Ok(is_together(id) && gathered.iter().any(|(_, kept)| is_it(kept)))
    }

    async fn warn_of_left_behind(&self) {
        for source in self.left_behind().await.into_iter().flatten() {
            tracing::warn!(%source, "What was gathered of a source waits, since the config has it no more.");
        }
    }

    async fn look_for_gathered(&self, name: &SourceName, source: &Source, stop: &CancellationToken) {
        while goes_on(stop).await {
            if let Err(error) = self.say_gathered(source).await {
                tracing::debug!(source = %name, %error, "What was gathered is not said yet.");
            }
            if let Err(error) = self.escalate(source).await {
                tracing::debug!(source = %name, %error, "That nobody looks after something is not said yet.");
            }
        }
    }

    /// Says what was gathered of a source, if it is time.
    async fn say_gathered(&self, source: &Source) -> Result<(), NotTaken> {
        let mut gathered = source.turn(&self.desk).await?;
        while let Some(due) = gathered.due(&source.policy, &source.name, self.clock().now()) {
            source.say_together(&self.desk, &mut gathered, due).await?;
        }
        Ok(())
    }

    /// Tells somebody else of what nobody looked after in time.
    async fn escalate(&self, source: &Source) -> Result<(), NotTaken> {
        let Some(escalation) = &source.author.escalation else { return Ok(()) };
        let mut gathered = source.turn(&self.desk).await?;
        let now = self.clock().now();
        // What a backup brought may have been told of before it was restored.
        let (mut in_doubt, mut due) = (Vec::new(), Vec::new());
        let (mut then, mut writes) = (gathered.clone(), Vec::new());
        let mut since = now;
        for (incident, at) in gathered.overdue(escalation.after, now) {
            let known = source.author.known(&self.desk, &incident).await?;
            if known.is_none() {
                let words =
                    "An incident that nobody looked after is not known any more, and nobody else is told of it.";
                tracing::warn!(source = %source.name, "{words}");
            }
            let quiet = |severity| source.policy.held_until(severity, now);
            let verdict = known.as_ref().map_or(Verdict::Never, |known| escalation.judge(known, quiet, now));
            let at = match (verdict, known) {
                (Verdict::Now, Some(known)) if at < self.desk.doubt() => {
                    since = since.min(at);
                    in_doubt.push((incident, known));
                    continue;
                }
                (Verdict::Now, Some(known)) => {
                    due.push((incident, known));
                    continue;
                }
                (Verdict::Later(at), _) => Some(at),
                _ => None,
            };
            writes.push(then.waits(&source.name, &incident, at));
        }
        if !writes.is_empty() {
            self.desk.remember(writes).await?;
            *gathered = then;
        }
        let told = |since, of| source.author.escalate(&self.desk, escalation, since, of);
        for Escalated { of, origin, said, mut writes } in told(since, in_doubt).into_iter().chain(told(now, due)) {
            let mut then = gathered.clone();
            writes.extend(of.iter().map(|incident| then.waits(&source.name, incident, None)));
            fail::fail_point!("notices::before-escalation");
            self.desk.say(&origin, vec![said], writes).await?;
            fail::fail_point!("notices::after-escalation");
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
