//! The kit that every transport must pass.
//!
//! A transport's own test implements [`Harness`] (with [`Near`] and [`Peer`]) and calls [`run_all`]. Each case gets a
//! new rig. What a network can't do its peer says, with the reason, and the case counts as not applicable: the
//! report shows it. A few cases must apply to every network, since a transport that can't do them is none.
//!
//! Every word that is said in a run has a canary in it, and whatever is traced in the process, at every level, or
//! shown by a `Debug`, an error or a health line, is searched for it.

mod accepted;
mod cases;
mod details;
mod faces;
mod far;
mod harness;
mod intake;
mod report;
mod spool;
mod stage;
mod watch;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use zeroize::Zeroizing;

pub use accepted::{Accepted, Words};
pub use details::{Details, Sample};
pub use far::FarBridge;
pub use harness::{Failure, Harness, How, Near, Overheard, Peer, Rig, Say, Stop, Told};
pub use intake::MemoryIntake;
pub use report::{Outcome, Report};
pub use spool::MemorySpool;

use cases::Case;
use stage::{Stage, Type};
use watch::Canary;

/// No case may take longer, whatever it waits for.
const CASE: Duration = Duration::from_secs(300);

/// Plays every case, and gives the report.
///
/// # Panics
/// If a case failed: with the whole report.
pub async fn run_all(harness: &dyn Harness) -> Report {
    let report = run(harness).await;
    assert!(report.passed(), "the transport does not keep its promises\n{report}");
    report
}

/// Plays every case, and gives the report, whatever is in it.
pub async fn run(harness: &dyn Harness) -> Report {
    run_only(harness, "").await
}

/// Plays the cases whose name contains `part`, and gives the report.
pub async fn run_only(harness: &dyn Harness, part: &str) -> Report {
    let canary = Canary::release();
    let mut cases = cases::ALL.iter().filter(|case| case.name.contains(part)).enumerate();
    let (mut kind, mut played) = (None, Vec::new());
    // By the first it is known what kind of transport it is.
    if let Some((at, case)) = cases.next() {
        let (outcome, remarks) = play(case, harness, &mut kind).await;
        played.push((at, case.name, outcome, remarks));
    }
    // Promises of another kind of transport are not even tried.
    let left: VecDeque<_> =
        cases.filter(|(_, case)| kind.is_none_or(|kind: Type| case.kinds.contains(&kind))).collect();
    let (left, rest) = (Mutex::new(left), Mutex::new(Vec::new()));
    let one_after_the_other = || async {
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((at, case)) = next else { return };
            let (outcome, remarks) = play(case, harness, &mut None).await;
            rest.lock().unwrap_or_else(PoisonError::into_inner).push((at, case.name, outcome, remarks));
        }
    };
    let mut players: Vec<_> = (0..harness.at_once().max(1)).map(|_| Box::pin(one_after_the_other())).collect();
    std::future::poll_fn(|context| {
        players.retain_mut(|player| player.as_mut().poll(context).is_pending());
        if players.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    drop(players);
    played.extend(rest.into_inner().unwrap_or_else(PoisonError::into_inner));
    played.sort_by_key(|(at, ..)| *at);
    let mut report = Report::default();
    for (_, name, outcome, remarks) in played {
        report.add(name, outcome, remarks);
    }
    let secret = if canary.sees() {
        Outcome::Passed
    } else {
        Outcome::Failed("another subscriber takes the traces, so nothing can be said of them".to_owned())
    };
    report.add("traces_are_searched", secret, Vec::new());
    report
}

async fn play(case: &Case, harness: &dyn Harness, kind: &mut Option<Type>) -> (Outcome, Vec<String>) {
    // One of its own, so that what is found is found of this case.
    let canary = &Canary::release();
    let mut remarks = Vec::new();
    let told = {
        let play = async {
            let mut stage = Stage::set(harness, Arc::clone(canary)).await?;
            *kind = Some(stage.kind());
            if !case.kinds.contains(&stage.kind()) {
                return Err(Stop::cannot("it is for another kind of transport"));
            }
            let told = (case.play)(&mut stage).await;
            remarks = stage.take_remarks();
            shown(&stage, canary);
            told
        };
        let play = tokio::time::timeout(CASE, caught(play));
        play.await.unwrap_or_else(|_| Err(Stop::failed(format!("it took longer than {CASE:?}"))))
    };
    let hits = canary.take_hits();
    let outcome = match told {
        _ if !hits.is_empty() => Outcome::Failed(format!("words of a message are in {}", hits.join("; "))),
        Ok(()) => Outcome::Passed,
        Err(Stop::Failed(how)) => Outcome::Failed(how),
        // Nobody can be made to speak where nothing comes in; whatever else a network must do it must do there too.
        Err(Stop::NotApplicable(why))
            if case.must
                && harness.nothing_comes_in() != Some(why.as_str())
                && kind.is_none_or(|kind| case.kinds.contains(&kind)) =>
        {
            Outcome::Failed(format!("every network must do this: {why}"))
        }
        Err(Stop::NotApplicable(why)) => Outcome::NotApplicable(why),
    };
    (outcome, remarks)
}

/// Searches what the case made visible.
fn shown(stage: &Stage<'_>, canary: &Canary) {
    for text in stage.intake.take_shown() {
        canary.search("what was handed to the inbox, as it is printed", &text);
    }
    for (_, reason) in stage.intake.refused() {
        canary.search("the reason of a refusal", &reason);
    }
    let transport = stage.transport().common();
    let shown = [
        ("a health line", serde_json::to_string(&transport.health())),
        ("the list of conversations", serde_json::to_string(&transport.conversations())),
        ("the datasheet", serde_json::to_string(transport.abilities())),
    ];
    for (place, text) in shown {
        canary.search(place, &text.expect("it has only texts and numbers"));
    }
    canary.search("the transport, as it is printed", &format!("{:?} {:?}", stage.transport(), transport.health()));
}

/// A panic of a transport fails its case and not the others.
async fn caught(play: impl Future<Output = Told>) -> Told {
    let mut play = pin!(play);
    std::future::poll_fn(move |context| {
        catch_unwind(AssertUnwindSafe(|| play.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(Stop::failed("it panicked"))))
    })
    .await
}

/// 32 random bytes.
fn random_key() -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    key[..16].copy_from_slice(crate::DeliveryId::random().as_bytes());
    key[16..].copy_from_slice(crate::DeliveryId::random().as_bytes());
    key
}
