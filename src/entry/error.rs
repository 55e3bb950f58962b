//! What can be wrong with bytes that claim to be an entry or an event.

use crate::base::bytes::ShortInput;

/// Why bytes were refused, or could not be written. Small and `Copy`, so that refusing costs no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntryError {
    /// The input ends before the thing does.
    #[error("input ends early: {needed} bytes needed, {left} there")]
    Truncated {
        /// Bytes that the thing needs, from its start.
        needed: usize,
        /// Bytes that were there, from its start.
        left: usize,
    },
    /// More bytes than exactly one entry.
    #[error("{0} bytes follow the entry")]
    TrailingBytes(usize),
    /// The first four bytes are not those of an entry.
    #[error("no entry starts here (magic {0:#010x})")]
    Magic(u32),
    /// The header's checksum does not match its bytes.
    #[error("header checksum is {stored:#010x}, its bytes say {computed:#010x}")]
    HeaderCrc {
        /// As stored.
        stored: u32,
        /// As the bytes give it.
        computed: u32,
    },
    /// The body's checksum does not match its bytes.
    #[error("body checksum is {stored:#010x}, its bytes say {computed:#010x}")]
    BodyCrc {
        /// As stored.
        stored: u32,
        /// As the bytes give it.
        computed: u32,
    },
    /// The trailer is not the one that belongs to the header: the name of the field that differs.
    #[error("trailer does not belong to its header: {0}")]
    Trailer(&'static str),
    /// An undamaged entry of a format version that this build does not know.
    #[error("entry format version {0} is unknown to this build")]
    UnknownVersion(u8),
    /// An undamaged entry of a kind that this build does not know.
    #[error("entry kind {0} is unknown to this build")]
    UnknownKind(u8),
    /// An undamaged entry of a kind that is reserved for later builds.
    #[error("entry kind {0} is reserved for later builds")]
    ReservedKind(u8),
    /// An undamaged entry with flags that this build does not know.
    #[error("entry flags {0:#06x} are unknown to this build")]
    UnknownFlags(u16),
    /// An undamaged entry of a Raft group that this build does not know.
    #[error("entry of group {0}, which is unknown to this build")]
    UnknownGroup(u16),
    /// Asked for the contents of one kind in an entry of another.
    #[error("the entry is of another kind")]
    WrongKind,
    /// A counter lies outside its range: the name of the field.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// Something is larger than its limit.
    #[error("{what} takes {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit from `base::limits`.
        limit: usize,
    },
    /// Checksums hold, but the contents break a rule of the format: which one.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A topic breaks the rules for topics: which one.
    #[error("topic {0}")]
    Topic(&'static str),
    /// A name (producer, cluster, attribute) breaks the rules for names: which one.
    #[error("name {0}")]
    Name(&'static str),
    /// The event does not fit into the batch any more; seal the batch first.
    #[error("the batch is full")]
    BatchFull,
}

impl EntryError {
    /// Whether the bytes are whole but made by a build that knows more than this one. Such an entry is never cut or
    /// skipped: the node halts and says so (rule 16).
    #[must_use]
    pub const fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::UnknownVersion(_)
                | Self::UnknownKind(_)
                | Self::ReservedKind(_)
                | Self::UnknownFlags(_)
                | Self::UnknownGroup(_)
        )
    }

    /// This error, met inside something that is whole: there a part that ends early is malformed. Keeps
    /// [`EntryError::Truncated`] for 'give more bytes'.
    pub(super) fn inside(self, what: &'static str) -> Self {
        match self {
            Self::Truncated { .. } => Self::Malformed(what),
            other => other,
        }
    }
}

impl From<ShortInput> for EntryError {
    fn from(short: ShortInput) -> Self {
        Self::Truncated { needed: short.at.saturating_add(short.needed), left: short.at + short.left }
    }
}
