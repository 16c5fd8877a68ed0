//! Somebody else's server sees nothing, and what it makes up is nobody's word.

use super::{
    super::{Failure, Say, Stop, Told, stage::Stage},
    encryption::no_words,
    incoming::{all_hold, say_many},
};
use crate::{DeliveryId, Slip};

pub(super) async fn far_server_stores_no_words(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let words = stage.words("not for servers");
    let (slip, _) = stage.send(&words).await?;
    stage.heard_once(&words).await?;
    let said = say_many(stage, 1).await?;
    stage.accepted(&said[0]).await?;
    let stored = stage.rig.peer.stored().await?;
    let parcel = stage.parcel(slip.delivery).ok_or_else(|| Stop::failed("nothing was sealed"))?;
    let holds = |bytes: &Vec<u8>| bytes.windows(parcel.as_bytes().len()).any(|window| window == parcel.as_bytes());
    if !stored.iter().any(holds) {
        stage.remark("the parcel is kept in another form than it was given");
    }
    all_hold(&[(stored.iter().any(|bytes| !bytes.is_empty()), "nothing is stored, so nothing was searched")])?;
    no_words(stage, &stored)
}

pub(super) async fn every_attempt_carries_the_same_bytes(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let words = stage.words("the same bytes");
    let slip = stage.slip();
    match stage.rig.peer.fail_next(Failure::LoseAnswer).await {
        Ok(()) => drop(stage.attempt(stage.message(&words), &slip).await?),
        Err(Stop::NotApplicable(why)) => stage.remark(format!("no answer can be lost: {why}")),
        Err(stop) => return Err(stop),
    }
    stage.deliver(stage.message(&words), &Slip { attempt: 1, ..slip.clone() }).await?;
    stage.deliver(stage.message(&words), &Slip { attempt: 2, ..slip.clone() }).await?;
    stage.until("the peer gets it", async |stage| Ok(!stage.rig.peer.parcels().await?.is_empty())).await?;
    let sealed = stage.parcel(slip.delivery).ok_or_else(|| Stop::failed("nothing was sealed"))?;
    let parcels = stage.rig.peer.parcels().await?;
    let same = !parcels.is_empty() && parcels.iter().all(|bytes| bytes == sealed.as_bytes());
    all_hold(&[(same, "the peer gets other bytes than were sealed")])
}

pub(super) async fn tampered_parcel_is_refused(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let (peer, name) = (stage.rig.peer.id(), stage.rig.peer.name());
    let say = Say { words: stage.words("tampered with"), ..Say::default() };
    let whole = stage.intake.far().seal(DeliveryId::random(), &peer, name.as_deref(), stage.clock.now(), say);
    let last = whole.len() - 1;
    let mut tampered = Vec::new();
    for at in [0, 23, 24, whole.len() / 2, last] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        tampered.push(stage.rig.peer.inject(bytes).await?);
    }
    tampered.push(stage.rig.peer.inject(whole[..last].to_vec()).await?);
    only_the_next_is_accepted(stage).await?;
    let refused = stage.intake.refused();
    let all = tampered.iter().all(|id| refused.iter().any(|(name, _)| name == id));
    all_hold(&[(all, "a tampered parcel vanished without a word")])
}

pub(super) async fn foreign_bytes_become_no_message(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    let words = stage.words("made up");
    let foreign: [Vec<u8>; 5] = [
        b"hello".to_vec(),
        format!(r#"{{"a":"mallory","t":1,"k":"text","p":"{words}"}}"#).into_bytes(),
        vec![0; 64],
        vec![0xff; 4096],
        words.into_bytes(),
    ];
    for bytes in foreign {
        stage.rig.peer.inject(bytes).await?;
    }
    only_the_next_is_accepted(stage).await
}

async fn only_the_next_is_accepted(stage: &mut Stage<'_>) -> Told {
    let next = say_many(stage, 1).await?;
    stage.accepted(&next[0]).await?;
    all_hold(&[(stage.intake.accepted().len() == 1, "bytes that nobody sealed became a message")])
}
