//! What becomes of a delivery that fails.

use std::time::Duration;

use super::{
    super::{Failure, Stop, Told, stage::Stage},
    incoming::all_hold,
};
use crate::{Fate, Slip};

pub(super) async fn refusal_gives_up(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    stage.rig.peer.fail_next(Failure::Refuse).await?;
    let words = stage.words("refused");
    let fate = stage.fails(stage.message(&words), &stage.slip()).await?;
    all_hold(&[(fate == Fate::GiveUp, "it has another fate than giving up")])?;
    stage.unheard(&words).await?;
    still_speaks(stage).await
}

pub(super) async fn throttle_says_when_to_try_again(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let wait = Duration::from_millis(1_500);
    stage.rig.peer.fail_next(Failure::Throttle(wait)).await?;
    let words = stage.words("throttled");
    let slip = stage.slip();
    match stage.fails(stage.message(&words), &slip).await? {
        // Some networks only say whole seconds, and rounding up is no harm.
        Fate::Retry(Some(told)) if told >= wait && told <= wait + Duration::from_secs(1) => {}
        Fate::Retry(Some(told)) => {
            return Err(Stop::failed(format!("it says {told:?}, and the network said {wait:?}")));
        }
        fate => return Err(Stop::failed(format!("its fate is {fate:?}, without the time that the network said"))),
    }
    stage.unheard(&words).await?;
    stage.deliver(stage.message(&words), &Slip { attempt: 1, ..slip }).await?;
    stage.heard_once(&words).await.map(drop)
}

pub(super) async fn unreachable_network_is_tried_again(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    stage.rig.peer.go_away().await?;
    let words = stage.words("nobody there");
    let slip = stage.slip();
    let fate = stage.fails(stage.message(&words), &slip).await?;
    all_hold(&[(matches!(fate, Fate::Retry(_)), "its fate is not to be tried again")])?;
    let gone = "it says that it is not connected";
    stage.until(gone, async |stage| Ok(!stage.transport().common().health().connected)).await?;
    if stage.transport().common().abilities().finds {
        let looked = stage.transport().common().find(&slip).await;
        let later = looked.is_err_and(|error| matches!(error.fate, Fate::Retry(_)));
        all_hold(&[(later, "it claims to know what is there while nothing can be reached")])?;
    }
    stage.rig.peer.come_back().await?;
    let back = "it is connected again, by itself";
    stage.until(back, async |stage| Ok(stage.transport().common().health().connected)).await?;
    stage.deliver(stage.message(&words), &Slip { attempt: 1, ..slip }).await?;
    stage.heard_once(&words).await?;
    if stage.hears().is_err() {
        return Ok(());
    }
    let words = stage.words("back again");
    let id = stage.says(&words).await?;
    stage.accepted(&id).await.map(drop)
}

pub(super) async fn lost_answer_is_in_doubt(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    stage.rig.peer.fail_next(Failure::LoseAnswer).await?;
    let words = stage.words("in doubt");
    let slip = stage.slip();
    match stage.attempt(stage.message(&words), &slip).await? {
        // It looked by itself.
        Ok(_) => {}
        Err(error) => all_hold(&[(error.fate == Fate::Unknown, "its fate is certain, and can't be")])?,
    }
    let heard = stage.heard_once(&words).await?;
    if stage.transport().common().abilities().finds {
        let found = stage.find(&slip).await?;
        all_hold(&[(found == crate::Found::There(heard.id), "what was delivered is not found")])?;
    }
    if stage.deduplicates() {
        stage.deliver(stage.message(&words), &Slip { attempt: 1, ..slip }).await?;
        stage.heard_once(&words).await?;
    }
    still_speaks(stage).await
}

async fn still_speaks(stage: &mut Stage<'_>) -> Told {
    let words = stage.words("still here");
    stage.send(&words).await?;
    stage.heard_once(&words).await.map(drop)
}
