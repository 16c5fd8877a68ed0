//! Why something does not leave.

/// Why a request was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Stop {
    #[error("it is no request that the bridge makes")]
    UnknownRequest,
    #[error("a header says more than such a request needs")]
    Header,
    #[error("its body is not what such a request has")]
    Body,
    #[error("an event for a room is not encrypted")]
    Cleartext,
    #[error("an encrypted event says more in clear than what it is about")]
    Relation,
    #[error("a reaction is no emoji of Unicode's own list")]
    Reaction,
    #[error("it says why something is done")]
    Reason,
    #[error("it writes the state of a room")]
    State,
    #[error("it makes a room that is not encrypted")]
    OpenRoom,
    #[error("a message for a device is not encrypted")]
    ClearToDevice,
    #[error("keys would go to a device that may not have them")]
    UnknownRecipient,
    #[error("a room's key would go to somebody who may not read there")]
    Outsider,
    #[error("a secret would lie at the homeserver in clear")]
    ClearSecret,
    #[error("a file is not sent as what it is: bytes that mean nothing")]
    Media,
}

impl Stop {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::UnknownRequest,
        Self::Header,
        Self::Body,
        Self::Cleartext,
        Self::Relation,
        Self::Reaction,
        Self::Reason,
        Self::State,
        Self::OpenRoom,
        Self::ClearToDevice,
        Self::UnknownRecipient,
        Self::Outsider,
        Self::ClearSecret,
        Self::Media,
    ];

    /// What it is called where it is counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownRequest => "unknown-request",
            Self::Header => "header",
            Self::Body => "body",
            Self::Cleartext => "cleartext",
            Self::Relation => "relation",
            Self::Reaction => "reaction",
            Self::Reason => "reason",
            Self::State => "state",
            Self::OpenRoom => "open-room",
            Self::ClearToDevice => "clear-to-device",
            Self::UnknownRecipient => "unknown-recipient",
            Self::Outsider => "outsider",
            Self::ClearSecret => "clear-secret",
            Self::Media => "media",
        }
    }
}
