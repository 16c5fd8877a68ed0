//! What people do just now.

use super::super::{Stop, Told, stage::Stage};
use crate::{PersonId, Signal, Verb};

pub(super) async fn what_somebody_does_just_now_is_told_and_kept_nowhere(stage: &mut Stage<'_>) -> Told {
    if ![Verb::Typing, Verb::Receipt].into_iter().all(|verb| stage.ability(verb).is_native()) {
        return Err(Stop::cannot("the datasheet says that it is not carried"));
    }
    stage.intake.listen(&stage.rig.conversation);
    stage.start().await?;
    let words = stage.words("to be read");
    let said = stage.says(&words).await?;
    stage.accepted(&said).await?;
    let (_, receipt) = stage.send(&stage.words("to be read there")).await?;

    let peer = stage.rig.peer.id();
    for typing in [true, false] {
        let does = Signal::Typing { person: peer.clone(), typing };
        comes_in(stage, does).await?;
    }
    comes_in(stage, Signal::Read { person: peer, up_to: receipt.id }).await?;

    let ann = PersonId::new("ann@elsewhere.example");
    for typing in [true, false] {
        let told = |signal: &Signal| matches!(signal, Signal::Typing { typing: now, .. } if *now == typing);
        goes_out(stage, Signal::Typing { person: ann.clone(), typing }, told).await?;
    }
    let told = |signal: &Signal| matches!(signal, Signal::Read { up_to, .. } if *up_to == said);
    goes_out(stage, Signal::Read { person: ann, up_to: said.clone() }, told).await?;
    match stage.intake.accepted().len() {
        1 => Ok(()),
        more => Err(Stop::failed(format!("{more} messages were accepted, and one was said"))),
    }
}

async fn comes_in(stage: &mut Stage<'_>, does: Signal) -> Told {
    stage.rig.peer.does(does.clone()).await?;
    let conversation = stage.rig.conversation.clone();
    let told = async |stage: &Stage<'_>| {
        Ok(stage.intake.signals().iter().any(|(at, signal)| *at == conversation && *signal == does))
    };
    stage.until("what the peer does is told", told).await
}

async fn goes_out(stage: &mut Stage<'_>, does: Signal, is: impl Fn(&Signal) -> bool) -> Told {
    let to = stage.rig.conversation.clone();
    stage.transport().common().signal(&to, &does).await;
    let told = async |stage: &Stage<'_>| Ok(stage.rig.peer.told().await?.iter().any(&is));
    stage.until("the peer is told what somebody does", told).await
}
