//! Why the journal did not do something, or does not open.

/// Why the journal did not do what was asked. Nothing of it was done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// At its bound, or the disk is full.
    #[error("the journal is full")]
    Full,
    /// A conversation of a bounded account has as much waiting as it may. Others go on.
    #[error("as much waits of it as may")]
    ShareTaken,
    /// It is closed.
    #[error("the journal is closed")]
    Closed,
    /// The database says that it is damaged.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// There is no such thing.
    #[error("{0}")]
    NoSuch(String),
    /// The database failed in another way.
    #[error("the journal failed: {0}")]
    Failed(String),
}

/// Why a journal does not open: four different troubles with four different ways out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer version.
    #[error(
        "the journal was written by a newer Sealbridge (schema {found}, this one knows {known}): install that version, or a newer one"
    )]
    Newer {
        /// The schema found.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// Another process has it.
    #[error("another Sealbridge has this journal open: stop it first, or give this one another state folder")]
    InUse,
    /// The root key is another one.
    #[error("the root key does not open this journal: give the key that it was made with")]
    WrongKey,
    /// The file is an older copy: what it holds was carried since, and it would be carried again.
    #[error(
        "the journal is an older copy (it counts {found} commits, and there were {outside}): put the newer one back, or a \
         backup with `sealbridge backup restore`; `sealbridge backup adopt` goes on with this copy as with a backup"
    )]
    Older {
        /// How many commits it counts.
        found: u64,
        /// How many there were, by the file beside it.
        outside: u64,
    },
    /// What would tell an older copy is gone, or nobody with the key wrote it.
    #[error(
        "what tells an older copy of the journal, the file journal.count beside it, is gone or was changed, so this may be \
         one: put the file back, or a backup with `sealbridge backup restore`; `sealbridge backup adopt` goes on with what \
         is there as with a backup"
    )]
    Uncounted,
    /// The file is damaged.
    #[error("the journal is damaged ({0}): restore it from a backup, or move it away and start anew")]
    Damaged(String),
    /// The folder or file can't be used.
    #[error("the journal can't be opened: {0}")]
    Unusable(String),
}
