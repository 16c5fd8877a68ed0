//! What an encrypted message for a device is sent for: nobody can see that by its ciphertext.

use ruma::OwnedRoomId;

use super::super::Whom;

/// What an encrypted message for a device is sent for. It goes to the guard beside the request, and no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Errand {
    /// It has the key of a room in it.
    RoomKey { room: OwnedRoomId, whom: Whom },
    /// It keeps a channel in order, or gives one of our own devices what it asked for. The library hands room keys on
    /// to nobody: that part of it is not built in.
    Upkeep,
}
