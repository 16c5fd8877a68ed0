//! Follows invitations: joins, looks, and leaves again if the room is not encrypted. Those of strangers are declined.
//!
//! That a room is on trial is kept before it is joined, so a crash in between ends in the same look.

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId,
    api::client::{
        membership::{forget_room, join_room_by_id, leave_room},
        state::get_state_event_for_key,
    },
    events::StateEventType,
};
use sealbridge_contract::{
    Fatal, Inbox, NotAccepted,
    inbox::{Batch, Incident},
};
use serde_json::Value;
use tracing::{debug, info, warn};

use crate::{
    core::{Core, fatal_http, fatal_journal, shown, tell_operator, track},
    engine::{Class, DECLINING, HttpError, HttpErrorKind, LEAVING, is_name},
    notices::Telling,
    rooms::Membership,
};

/// Follows invitations as they come, for ever.
pub(crate) async fn follow(core: &Arc<Core>, inbox: &Inbox) -> Result<(), Fatal> {
    const LONGEST: Duration = Duration::from_secs(60);
    let mut failures = 0;
    loop {
        let pause;
        match round(core, inbox).await {
            Ok(()) => (pause, failures) = (LONGEST, 0),
            Err(Unfollowed::Journal(error)) => {
                if let Some(fatal) = fatal_journal(error) {
                    return Err(fatal);
                }
                pause = Duration::from_secs(2);
            }
            Err(Unfollowed::Http(error)) => {
                if let Some(fatal) = fatal_http(&error.kind) {
                    return Err(fatal);
                }
                warn!(%error, "An invitation could not be followed yet.");
                let doubled = Duration::from_secs(1) * 2_u32.pow(failures.min(6));
                (pause, failures) = (error.retry_after().unwrap_or(doubled.min(LONGEST)), failures + 1);
            }
        }
        tokio::select! {
            () = core.signals.invites.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

enum Unfollowed {
    Http(HttpError),
    Journal(NotAccepted),
}

impl From<NotAccepted> for Unfollowed {
    fn from(error: NotAccepted) -> Self {
        Self::Journal(error)
    }
}

async fn round(core: &Core, inbox: &Inbox) -> Result<(), Unfollowed> {
    // What no address can name can be neither joined nor declined.
    let nameless = core.rooms.select(|room, facts| {
        let is_invited = matches!(facts.membership, Membership::Invited { .. });
        (is_invited && !is_name(room.as_str())).then(|| room.to_owned())
    });
    for room in nameless {
        debug!("An invitation to a room whose id is none is passed over.");
        core.rooms.forget(&core.store, &room).await?;
    }
    let invited = core.rooms.select(|room, facts| match &facts.membership {
        Membership::Invited { by: Some(by), direct } if core.settings.invites.allow(by) => {
            Some((room.to_owned(), by.clone(), *direct))
        }
        _ => None,
    });
    // One room that always fails must not keep the others waiting; its error is told when all had their turn.
    let mut failed = Ok(());
    for (room, by, direct) in invited {
        failed = failed.and(passing(join(core, inbox, &room, &by, direct).await)?);
    }
    let declined = core.rooms.select(|room, facts| match &facts.membership {
        Membership::Invited { by, .. } if !by.as_ref().is_some_and(|by| core.settings.invites.allow(by)) => {
            Some((room.to_owned(), by.clone()))
        }
        _ => None,
    });
    for (room, by) in declined {
        failed = failed.and(passing(decline(core, &room, by.as_ref()).await)?);
    }
    for room in core.rooms.select(|room, facts| facts.on_trial.then(|| room.to_owned())) {
        failed = failed.and(passing(look(core, inbox, &room).await)?);
    }
    failed
}

/// Declines an invitation by a stranger, and keeps nothing of it.
async fn decline(core: &Core, room: &RoomId, by: Option<&OwnedUserId>) -> Result<(), Unfollowed> {
    leave_for(core, room, DECLINING).await?;
    // What the homeserver still lists of it is no matter.
    let forgotten = core.http.send(forget_room::v3::Request::new(room.to_owned()), Class::Short).await;
    if let Err(error) = forgotten {
        debug!(%error, "A declined invitation is not forgotten by the homeserver.");
    }
    core.rooms.forget(&core.store, room).await?;
    let who = by.map_or_else(|| "Somebody".to_owned(), |by| shown(by));
    let now = core.clock.now();
    match core.notices.next("invitations", now) {
        Telling::Each => core.signals.tell_people(tell_operator(
            room,
            format!("invitation/{who}"),
            format!(
                "{who} invited the bridge to a room. It declined: neither they nor their server are in `invites.from`."
            ),
        )),
        Telling::Summary => core.signals.tell_people(Incident {
            conversation: None,
            ..tell_operator(
                room,
                format!("invitations-more/{}", now.0),
                "There are more invitations by strangers. They are declined and, for an hour, not told one by one.",
            )
        }),
        Telling::Nothing => {}
    }
    Ok(())
}

/// Leaves a room or declines its invitation.
async fn leave_for(core: &Core, room: &RoomId, why: &str) -> Result<(), Unfollowed> {
    let mut request = leave_room::v3::Request::new(room.to_owned());
    request.reason = Some(why.to_owned());
    match core.http.send(request, Class::Short).await {
        Ok(_) => Ok(()),
        // Not in it any more: what was wanted.
        Err(error) if matches!(error.kind, HttpErrorKind::Client { status: 403 | 404, .. }) => Ok(()),
        Err(error) => Err(Unfollowed::Http(error)),
    }
}

/// Tells what failed at one room from what ends the round.
fn passing(result: Result<(), Unfollowed>) -> Result<Result<(), Unfollowed>, Unfollowed> {
    match result {
        Err(Unfollowed::Http(error)) if fatal_http(&error.kind).is_none() => Ok(Err(Unfollowed::Http(error))),
        other => other.map(Ok),
    }
}

async fn join(
    core: &Core,
    inbox: &Inbox,
    room: &OwnedRoomId,
    by: &OwnedUserId,
    direct: bool,
) -> Result<(), Unfollowed> {
    core.rooms.update(&core.store, room, |facts| facts.on_trial = true).await?;
    let request = join_room_by_id::v3::Request::new(room.clone());
    match core.http.send(request, Class::Page).await {
        Ok(_) => info!("Joined a room by invitation."),
        Err(error) if matches!(error.kind, HttpErrorKind::Client { status: 403 | 404, .. }) => {
            // The invitation was taken back, or we were banned.
            warn!(%error, "An invitation does not hold any more.");
            let by = shown(by);
            let words = format!("{by} invited the bridge to a room, and its homeserver does not let it in.");
            let told = tell_operator(room, "not-let-in", words);
            inbox.accept(Batch { incidents: vec![told], ..Batch::default() }).await?;
            core.rooms
                .update(&core.store, room, |facts| {
                    facts.on_trial = false;
                    facts.membership = Membership::Left;
                })
                .await?;
            return Ok(());
        }
        Err(error) => return Err(Unfollowed::Http(error)),
    }
    fail::fail_point!("matrix::invite-joined");
    if direct && let Err(error) = core.direct.mark(core, by, room).await {
        warn!(%error, "A direct chat is not marked as one.");
    }
    // So that it is not joined again before the sync tells that we are in it.
    core.rooms
        .update(&core.store, room, |facts| {
            if matches!(facts.membership, Membership::Invited { .. }) {
                facts.membership = Membership::Unknown;
            }
        })
        .await?;
    Ok(())
}

/// Looks whether a room that we joined is encrypted.
async fn look(core: &Core, inbox: &Inbox, room: &RoomId) -> Result<(), Unfollowed> {
    let asked =
        get_state_event_for_key::v3::Request::new(room.to_owned(), StateEventType::RoomEncryption, String::new());
    let content = match core.http.send(asked, Class::Short).await {
        Ok(answer) => serde_json::from_str::<Value>(answer.event_or_content.get()).unwrap_or_default(),
        Err(error) if error.errcode() == Some("M_NOT_FOUND") => Value::Null,
        Err(error) if matches!(error.kind, HttpErrorKind::Client { status: 403, .. }) => {
            // Not joined after all, or thrown out since: the sync tells.
            core.rooms.update(&core.store, room, |facts| facts.on_trial = false).await?;
            return Ok(());
        }
        Err(error) => return Err(Unfollowed::Http(error)),
    };
    let mut encrypted = false;
    core.rooms
        .update(&core.store, room, |facts| {
            facts.apply_encryption(&content);
            encrypted = facts.pin.is_some();
            facts.on_trial &= !encrypted;
        })
        .await?;
    if encrypted {
        let members = core.rooms.look(room, |facts| facts.people.joined.keys().cloned().collect());
        if let (Some(engine), Some(members)) = (core.engine(), members) {
            track(engine, members).await;
        }
        return Ok(());
    }
    leave(core, inbox, room).await
}

async fn leave(core: &Core, inbox: &Inbox, room: &RoomId) -> Result<(), Unfollowed> {
    leave_for(core, room, LEAVING).await?;
    info!("Left a room that is not encrypted.");
    let words = "The bridge was invited to a room that is not encrypted. It joined, looked, and left again.";
    let told = tell_operator(room, "not-encrypted", words);
    inbox.accept(Batch { incidents: vec![told], ..Batch::default() }).await?;
    core.rooms
        .update(&core.store, room, |facts| {
            facts.on_trial = false;
            facts.membership = Membership::Left;
        })
        .await?;
    Ok(())
}
