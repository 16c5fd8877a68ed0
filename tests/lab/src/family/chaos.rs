//! The service, Delta Chat's engine and the mail server are killed in turn while people talk.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::{ASKED_AGAIN, Family, PATIENCE, heard_by, shown_on};
use crate::{
    bridge::Binary,
    chaos::{Options, percentile, places},
    checker::{Tag, Tally},
    delta::DeltaPerson,
    demo::Stage,
};

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// How often something was killed.
    pub kills: usize,
    /// Of these, the service.
    pub kills_of_service: usize,
    /// Of these, the engine.
    pub kills_of_engine: usize,
    /// Of these, the mail server.
    pub kills_of_mail_server: usize,
    /// At how many different named places of the service.
    pub places: usize,
    /// What was said and heard, both ways; what was said on Matrix counts once for each phone. Its `duplicated` is what
    /// came again on Matrix.
    #[serde(flatten)]
    pub tally: Tally,
    /// Seen again on a phone: the engine mailed it twice, under two names.
    pub duplicated_on_phones: usize,
    /// Heard after a later one because the mail server, which was killed, laid it into the listener's mailbox after that.
    /// Not counted as `reordered`.
    pub swapped_by_mail_server: usize,
    /// What lay in a phone's mailbox and its engine had passed over, until it was made to look at all of it again. Not
    /// counted as `lost`, nor, since it comes late, as `reordered`.
    pub passed_over_by_phones: usize,
    /// Events that somebody could not read at the end.
    pub undecryptable: usize,
    /// From the end of a kill to the next message that was heard, median.
    pub recovery_p50_ms: u64,
    /// The same, 95th percentile.
    pub recovery_p95_ms: u64,
}

impl Outcome {
    /// Whether everything is as promised, and the mail's own share no larger than kills of its server explain.
    pub fn is_clean(&self) -> bool {
        self.tally.is_clean() && self.undecryptable == 0 && self.excused() <= OF_ONE_KILL * self.kills_of_mail_server
    }

    /// What is laid to Delta Chat's engine and to the mail server.
    pub fn excused(&self) -> usize {
        self.duplicated_on_phones + self.swapped_by_mail_server + self.passed_over_by_phones
    }

    /// The same, in one sentence.
    pub fn sentence(&self) -> String {
        match self.excused() {
            _ if !self.is_clean() => "NOT as promised".to_owned(),
            0 => "Nothing lost, doubled or out of order".to_owned(),
            _ => format!(
                "Nothing lost, doubled or out of order by the bridge; by Delta Chat's engine and the mail server: {} passed \
                 over and read later, {} swapped, {} doubled",
                self.passed_over_by_phones, self.swapped_by_mail_server, self.duplicated_on_phones
            ),
        }
    }
}

/// As many messages each kill of the mail server may make its clients, or itself, pass over, swap or double.
const OF_ONE_KILL: usize = 4;
/// So long a named place may not be reached before the process is killed where it stands.
const NOT_REACHED: Duration = Duration::from_secs(6);
/// So long something may take to be heard after a kill before the next one.
const QUIET: Duration = Duration::from_secs(20);
/// So long is listened for what may be doubled, once all was heard.
const LINGER: Duration = Duration::from_secs(3);

/// Kills `options.kills` times. `binary` has failpoints.
pub async fn run(binary: &Binary, stage: &Stage, options: Options) -> Result<Outcome> {
    let places = places(binary).await?;
    let mut family = Family::set(binary, stage, Some(7)).await?;
    stage.heading(&format!("{} kills while people on two networks talk", options.kills));
    let talk = Talk::start(&family, options.pause);
    let mut outcome = Outcome { kills: options.kills, ..Outcome::default() };
    let mut recoveries = Vec::new();
    let mut reached = std::collections::BTreeSet::new();
    for turn in 0..options.kills {
        let heard = heard_in_all(&family).await?;
        // Some are killed before anything crossed, some after: both must be survived.
        tokio::time::sleep(Duration::from_millis((turn as u64 * 397) % 1500)).await;
        match turn % 3 {
            0 => {
                outcome.kills_of_service += 1;
                let place = (turn % 2 == 0).then(|| places[turn / 6 % places.len()].as_str());
                if kill_service(&mut family, place).await? {
                    reached.extend(place.map(str::to_owned));
                }
            }
            1 => {
                // Between two lives there is nobody to kill.
                let give_up = Instant::now() + QUIET;
                while !family.kill_engine()? {
                    ensure!(Instant::now() < give_up, "There is no engine\n{}", family.bridge.tail());
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                outcome.kills_of_engine += 1;
            }
            _ => {
                outcome.kills_of_mail_server += 1;
                family.mail.kill().await?;
                family.mail.restart().await?;
                for (phone, _) in &family.phones {
                    phone.network_is_back().await?;
                }
            }
        }
        let start = Instant::now();
        while heard_in_all(&family).await? <= heard && start.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        recoveries.push(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
        if turn % 10 == 9 {
            stage.line(&format!("{} kills", turn + 1));
        }
    }
    let (said, mails) = talk.stop().await?;
    let mut settled = settle(&family, &said).await?;
    let missing = settled[0].lost;
    let mut on_time = Vec::new();
    if missing > 0 {
        for (phone, chat) in &family.phones {
            on_time.push(numbers_on(&family, phone, *chat).await?);
            phone.read_again().await?;
        }
        settled = settle(&family, &said).await?;
        outcome.passed_over_by_phones = missing - settled[0].lost.min(missing);
    }
    let [mut phones, mut matrix] = settled;
    for ((phone, chat), on_time) in family.phones.iter().zip(&on_time) {
        let shown = numbers_on(&family, phone, *chat).await?;
        phones.reordered = phones.reordered.saturating_sub(behind_their_time(&shown, on_time));
    }
    let swapped = swapped_anywhere(&family, &mails, &on_time).await?;
    outcome.swapped_by_mail_server = swapped.iter().sum();
    for (tally, swapped) in [&mut phones, &mut matrix].into_iter().zip(swapped) {
        tally.reordered = tally.reordered.saturating_sub(swapped);
    }
    outcome.tally = Tally { duplicated: matrix.duplicated, ..phones + matrix };
    if !outcome.tally.is_clean() {
        stage.line(&format!("on Matrix {matrix:?}; on the phones {:?}", family.judge_phones(&said[0]).await?));
        stage.line(&missing_on_matrix(&family, &said[1], &mails)?);
        let status = family.bridge.cli(&["status"]).await?;
        stage.line(&format!("the service says: {} {}", status.stdout.trim(), status.stderr.trim()));
        let kept = crate::paths::lab_dir()?.join("chaos-deltachat-failed.log");
        std::fs::copy(family.bridge.log(), &kept)?;
        stage.line(&format!("its log is kept in {}, and ends with:\n{}", kept.display(), family.bridge.tail()));
    }
    outcome.undecryptable = family.ann.undecryptable().len();
    family.close().await?;
    recoveries.sort_unstable();
    Ok(Outcome {
        places: reached.len(),
        duplicated_on_phones: phones.duplicated,
        recovery_p50_ms: percentile(&recoveries, 50),
        recovery_p95_ms: percentile(&recoveries, 95),
        ..outcome
    })
}

/// What the phone said and nobody heard on Matrix: which, and whether the mail server laid it into the bridge's mailbox.
fn missing_on_matrix(family: &Family, said: &[Tag], mails: &[String]) -> Result<String> {
    let (heard, laid) = (heard_by(&family.ann, &family.room), family.mail.laid_into("bridge-")?);
    let is_heard = |tag: &Tag| heard.iter().any(|heard| Tag::find(&family.run, &heard.text).as_ref() == Some(tag));
    let missing = said.iter().filter(|tag| !is_heard(tag)).map(|tag| {
        let is_laid = mails.get(tag.number).is_some_and(|mail| laid.contains(mail));
        format!("{} ({})", tag.number, if is_laid { "laid into the mailbox" } else { "never laid into the mailbox" })
    });
    Ok(format!("missing on Matrix: {}", missing.collect::<Vec<_>>().join(", ")))
}

/// How many were heard after a later one that was laid into the listener's mailbox before them. `heard`: the number and
/// the mail of each, as they were heard.
fn swapped(heard: &[(usize, String)], laid: &[String]) -> usize {
    let place = |mail: &String| laid.iter().position(|laid| laid == mail);
    // What is not known to have been laid there is laid to nobody.
    let is_after = |one: &String, last: &String| place(one).zip(place(last)).is_some_and(|(one, last)| one > last);
    let (mut last, mut seen): (Option<&(usize, String)>, _) = (None, HashSet::new());
    let mut swapped = 0;
    for one in heard.iter().filter(|one| seen.insert(one.0)) {
        match last {
            Some(last) if one.0 < last.0 => swapped += usize::from(is_after(&one.1, &last.1)),
            _ => last = Some(one),
        }
    }
    swapped
}

/// The numbers of what a phone shows of Ann's, in the order of its screen.
async fn numbers_on(family: &Family, phone: &DeltaPerson, chat: u32) -> Result<Vec<usize>> {
    let of = |text: &str| Tag::find(&family.run, text).filter(|tag| tag.sender == 0).map(|tag| tag.number);
    Ok(shown_on(phone, chat).await?.iter().filter_map(|seen| of(&seen.text)).collect())
}

/// How many are shown after a later one, and were not among those that came on time.
fn behind_their_time(shown: &[usize], on_time: &[usize]) -> usize {
    let (mut latest, mut behind, mut seen) = (0, 0, HashSet::new());
    for number in shown.iter().filter(|number| seen.insert(**number)) {
        behind += usize::from(*number < latest && !on_time.contains(number));
        latest = latest.max(*number);
    }
    behind
}

/// The same of all: on Matrix, where `mails` are those of the first phone by number, and on the phones, where only what
/// came on time counts if something did not.
async fn swapped_anywhere(family: &Family, mails: &[String], on_time: &[Vec<usize>]) -> Result<[usize; 2]> {
    let of = |text: &str, sender| Tag::find(&family.run, text).filter(|tag| tag.sender == sender).map(|tag| tag.number);
    let on_matrix = heard_by(&family.ann, &family.room);
    let on_matrix = on_matrix.iter().filter_map(|heard| of(&heard.text, 1));
    let on_matrix: Vec<_> = on_matrix.filter_map(|number| Some((number, mails.get(number)?.clone()))).collect();
    let matrix = swapped(&on_matrix, &family.mail.laid_into("bridge-")?);
    let mut phones = 0;
    for (at, ((phone, chat), mailbox)) in family.phones.iter().zip(["ben-", "eve-"]).enumerate() {
        let shown = shown_on(phone, *chat).await?;
        let counts = |number: &usize| on_time.get(at).is_none_or(|on_time| on_time.contains(number));
        let number = |text: &str| of(text, 0).filter(counts);
        let shown: Vec<_> = shown.into_iter().filter_map(|seen| Some((number(&seen.text)?, seen.id))).collect();
        phones += swapped(&shown, &family.mail.laid_into(mailbox)?);
    }
    Ok([phones, matrix])
}

/// Kills the service where it stands, or has it die at a named place, and starts it again. True: it died at the place.
async fn kill_service(family: &mut Family, place: Option<&str>) -> Result<bool> {
    family.bridge.kill().await?;
    let mut died = false;
    if let Some(place) = place {
        family.bridge.set_env("FAILPOINT_KILL_AT", &format!("{place}=1"));
        family.bridge.spawn().await?;
        match family.bridge.wait_exit(NOT_REACHED).await {
            Ok(code) => {
                ensure!(code == -9, "{place}: ended with {code}\n{}", family.bridge.tail());
                died = true;
            }
            Err(_) => family.bridge.kill().await?,
        }
        family.bridge.unset_env("FAILPOINT_KILL_AT");
    }
    family.bridge.spawn().await?;
    Ok(died)
}

async fn heard_in_all(family: &Family) -> Result<usize> {
    Ok(family.ann.messages_in(&family.room).len() + family.screen(0).await?.len())
}

/// Waits until all that was said was heard, or until nothing has come for a while.
async fn settle(family: &Family, said: &[Vec<Tag>; 2]) -> Result<[Tally; 2]> {
    let mut last = (0, Instant::now());
    loop {
        let tallies = family.judge(said).await?;
        let delivered = tallies[0].delivered + tallies[1].delivered;
        if delivered != last.0 {
            last = (delivered, Instant::now());
        }
        if tallies.iter().all(|tally| tally.lost == 0) {
            // What is doubled comes after the first.
            tokio::time::sleep(LINGER).await;
            return family.judge(said).await;
        }
        // What its own engine passed over the bridge asks for by itself.
        let patience = if tallies[1].lost > 0 { ASKED_AGAIN } else { PATIENCE };
        if last.1.elapsed() > patience {
            return Ok(tallies);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What somebody said, and as which mails if they were some.
type Said = (Vec<Tag>, Vec<String>);

/// Ann on Matrix and the first phone talk without end.
struct Talk {
    stop: Arc<AtomicBool>,
    tasks: [JoinHandle<Result<Said>>; 2],
}

impl Talk {
    fn start(family: &Family, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ann, room, run) = (Arc::clone(&family.ann), family.room.clone(), family.run.clone());
        let stopped = Arc::clone(&stop);
        let on_matrix = tokio::spawn(async move {
            let mut tags = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let tag = Tag { run: run.clone(), sender: 0, number: tags.len() };
                ann.send(&room, &tag.text()).await.context("Say something on Matrix")?;
                tags.push(tag);
                tokio::time::sleep(pause).await;
            }
            Ok((tags, Vec::new()))
        });
        let (phone, chat) = (Arc::clone(&family.phones[0].0), family.phones[0].1);
        let (run, stopped) = (family.run.clone(), Arc::clone(&stop));
        let on_phone = tokio::spawn(async move {
            let (mut tags, mut mails) = (Vec::new(), Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let tag = Tag { run: run.clone(), sender: 1, number: tags.len() };
                mails.push(phone.send(chat, &tag.text()).await.context("Say something on the phone")?.id);
                tags.push(tag);
                tokio::time::sleep(pause).await;
            }
            Ok((tags, mails))
        });
        Self { stop, tasks: [on_matrix, on_phone] }
    }

    /// Gives what both said, and the mails of the phone.
    async fn stop(self) -> Result<([Vec<Tag>; 2], Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let [on_matrix, on_phone] = self.tasks;
        let ((on_matrix, _), (on_phone, mails)) = (on_matrix.await??, on_phone.await??);
        Ok(([on_matrix, on_phone], mails))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_mail_server_swapped_is_laid_to_it() {
        let mail = |number: usize| (number, format!("mail {number}"));
        let laid = |numbers: [usize; 4]| numbers.map(|number| mail(number).1);
        assert_eq!(behind_their_time(&[0, 2, 3, 1], &[0, 2, 3]), 1);
        assert_eq!(behind_their_time(&[0, 2, 3, 1], &[0, 1, 2, 3]), 0, "it came on time, and was shown late");
        let heard = [0, 2, 1, 3].map(mail);
        assert_eq!(swapped(&heard, &laid([0, 2, 1, 3])), 1);
        assert_eq!(swapped(&heard, &laid([0, 1, 2, 3])), 0, "the mail server kept the order, so somebody else did not");
        assert_eq!(swapped(&[0, 1, 2, 3].map(mail), &laid([0, 2, 1, 3])), 0);
        assert_eq!(swapped(&heard, &laid([0, 2, 3, 3])), 0, "nobody knows where the mail server laid it");
        // What comes again counts once, as where order is judged.
        assert_eq!(swapped(&[0, 2, 1, 1, 3].map(mail), &laid([0, 2, 1, 3])), 1);
        assert_eq!(behind_their_time(&[0, 2, 3, 1, 1], &[0, 2, 3]), 1);
    }

    #[test]
    fn mail_has_a_share_and_no_more() {
        let tally = Tally { sent: 100, delivered: 100, ..Tally::default() };
        let kills_of_mail_server = 2;
        let outcome = |passed_over_by_phones| Outcome {
            tally,
            passed_over_by_phones,
            kills_of_mail_server,
            ..Outcome::default()
        };
        assert!(outcome(8).is_clean() && outcome(8).sentence().contains("8 passed over"));
        assert!(!outcome(9).is_clean() && outcome(9).sentence().starts_with("NOT"));
    }
}
