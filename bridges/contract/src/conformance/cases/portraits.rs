//! Pictures of people.

use super::{
    super::{Told, faces::FACE, stage::Stage},
    incoming::all_hold,
};
use crate::PictureId;

pub(super) async fn picture_of_a_person_can_be_looked_up_after_a_restart_too(stage: &mut Stage<'_>) -> Told {
    stage.start().await?;
    stage.rig.peer.has_picture(FACE.to_vec()).await?;
    let words = stage.words("with a face");
    let id = stage.says(&words).await?;
    let portrait = stage.accepted(&id).await?.portrait;
    let found = look_up(stage, portrait.as_ref()).await;
    all_hold(&[(portrait.is_some(), "no picture is named"), (found, "the picture can't be looked up")])?;
    stage.kill().await?;
    stage.start().await?;
    let found = look_up(stage, portrait.as_ref()).await;
    let stranger = look_up(stage, PictureId::new("mxc://nowhere.invalid/nothing").as_ref()).await;
    all_hold(&[
        (found, "the picture can't be looked up after a restart"),
        (!stranger, "a picture is found that nobody has"),
    ])
}

/// A network may make pictures smaller, so only that there is one is looked at.
async fn look_up(stage: &Stage<'_>, portrait: Option<&PictureId>) -> bool {
    match portrait {
        Some(portrait) => stage.transport().common().picture(portrait).await.is_some(),
        None => false,
    }
}
