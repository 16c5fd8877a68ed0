//! Our own Matrix engine: `OlmMachine` under our own HTTP.
//!
//! It holds the keys and does the key traffic; it tracks no rooms. What it guarantees: a room event leaves only as
//! ciphertext it made itself, every reader of a room key is shown before the key leaves, feeding a sync answer again is
//! harmless, and nothing here holds a lock over a request that receiving would wait for.

mod age;
mod attachment;
mod audience;
mod backup;
mod decrypt;
mod door;
mod error;
pub mod http;
mod identity;
mod keystore;
mod lane;
mod machine;
mod mending;
mod outgoing;
mod reaction;
mod recovery;
mod secrets;
mod session;
mod stale;
mod sync;
mod verify;

pub(crate) use self::http::{DECLINING, LEAVING, is_name};
use self::{age::AGE, lane::is_clear};
pub use self::{
    attachment::{Attachment, AttachmentError, Reserved},
    audience::{Audience, DeviceFacts, Person, Readers, Register, Whom, Withholding},
    decrypt::{DecryptError, Decrypted, Distrust, Position, SenderProof, SenderTrust, message_position},
    error::EngineError,
    http::{
        Class, Http, HttpError, HttpErrorKind, Interactive, KeepFailed, Permitted, Retries, Stop, TokenKeeper, Tokens,
        Watch, retrying,
    },
    identity::{IdentityError, OwnState},
    keystore::Claim,
    lane::{EncryptError, EncryptedContent, Lane, PrepareError, Ready, RoomSettings},
    machine::{Engine, OpenError, StoreKey},
    outgoing::{Flushed, InRoomStep, Traffic},
    reaction::StandardEmoji,
    recovery::RecoveryKey,
    session::{Session, SessionError, address, adopt_token, discover, log_in, log_out, new_device_id},
    sync::{Fed, RoomKey, SyncPart, Withheld},
    verify::{Begun, InRoomStart, Stage, Verification, VerifyError, Ways},
};
