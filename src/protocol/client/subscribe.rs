//! Subscribing: committed entries, as they lie in the log, against credit.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{GroupId, LogIndex, Offset};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::entry::{EntryError, EntryView};

use super::super::frame::{
    FRAME_HEADER_BYTES, Fields, Frame, FrameWriter, ProtocolError, TEXT_BYTES_MAX, kind, put_text,
    put_text_clipped, wire_enum,
};
use super::FILTER_BYTES_MAX;

/// Where a subscription begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubscribeFrom {
    /// With the oldest event that is still there.
    Earliest,
    /// With the next event to be committed.
    Latest,
    /// With this offset (inclusive); one that is not committed yet is waited for.
    Offset(Offset),
}

/// Starts a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// The client's number for it; unique on the connection while it lives.
    pub subscription: u32,
    /// Where to begin.
    pub from: SubscribeFrom,
    /// Entry bytes that the node may send before more credit comes. The node sends while credit is left, so the
    /// last frame may pass it by less than one frame.
    pub credit_bytes: u32,
    /// A topic, a prefix ending in `*`, or empty for everything; at most [`FILTER_BYTES_MAX`] bytes.
    pub filter: &'a str,
}

/// Committed entries of a subscription: whole batches, unchanged since the leader made them. A batch is sent when
/// any of its events may match, so the client drops leading events before its start, and events of other topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entries<'a> {
    /// As chosen by the client.
    pub subscription: u32,
    /// The node's commit index; not below the last entry here.
    pub commit_index: LogIndex,
    /// Offset of the last committed event as of `commit_index`.
    pub last_offset: Offset,
    /// How many entries follow.
    pub entry_count: u32,
    /// The entries, back to back; the node has neither decoded nor verified them.
    pub bytes: &'a [u8],
}

/// Why a subscription ended. The connection and its other subscriptions go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubscriptionErrorCode {
    /// Retention has removed what was asked for.
    BelowFloor {
        /// The oldest offset that is still there.
        first_offset: Offset,
    },
    /// The filter is neither a topic nor a prefix ending in `*`.
    BadFilter,
    /// The number is in use on this connection.
    DuplicateSubscription,
    /// There is no such subscription.
    UnknownSubscription,
    /// Too many subscriptions on this node.
    TooManySubscriptions,
    /// The node cannot read its log there (damage or a disk error): try another node.
    ReadFailed,
    /// The node drains.
    Draining,
}

/// A subscription ended or never began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscriptionError<'a> {
    /// As chosen by the client.
    pub subscription: u32,
    /// Why.
    pub code: SubscriptionErrorCode,
    /// For people.
    pub text: &'a str,
}

wire_enum! {
    /// The code of [`SubscribeFrom`].
    StartCode {
        /// [`SubscribeFrom::Earliest`].
        Earliest = 1,
        /// [`SubscribeFrom::Latest`].
        Latest = 2,
        /// [`SubscribeFrom::Offset`].
        Offset = 3,
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        let (code, offset) = match self.from {
            SubscribeFrom::Earliest => (StartCode::Earliest, Offset::ZERO),
            SubscribeFrom::Latest => (StartCode::Latest, Offset::ZERO),
            SubscribeFrom::Offset(offset) => (StartCode::Offset, offset),
        };
        out.put_u32(self.subscription);
        out.put_u8(code.code());
        out.put_u64(offset.0);
        out.put_u32(self.credit_bytes);
        put_text(out, self.filter, FILTER_BYTES_MAX);
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        let subscription = f.u32("subscription")?;
        let code = f.code("from", StartCode::from_code)?;
        let offset = f.offset("offset")?;
        let from = match code {
            StartCode::Offset => SubscribeFrom::Offset(offset),
            _ if offset > Offset::ZERO => return Err(f.bad("offset", offset.0)),
            StartCode::Earliest => SubscribeFrom::Earliest,
            StartCode::Latest => SubscribeFrom::Latest,
        };
        let credit_bytes = f.u32("credit_bytes")?;
        Ok(Self { subscription, from, credit_bytes, filter: f.text("filter", FILTER_BYTES_MAX)? })
    }
}

impl<'a> Entries<'a> {
    const FIXED_BYTES: usize = 24;

    /// Most entry bytes in one frame.
    pub const ENTRY_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES - Self::FIXED_BYTES;

    /// Appends everything but the entries themselves, for `self.bytes.len()` bytes of them.
    ///
    /// # Panics
    /// When the entries are over [`Entries::ENTRY_BYTES_MAX`].
    pub fn encode_header(&self, group: GroupId, out: &mut Vec<u8>) {
        self.encode_header_for(self.bytes.len(), group, out);
    }

    /// Appends everything but the entries, of which the caller sends exactly `tail_bytes` next (from shared buffers,
    /// for example); `self.bytes` is not looked at.
    ///
    /// # Panics
    /// When `tail_bytes` is over [`Entries::ENTRY_BYTES_MAX`].
    pub fn encode_header_for(&self, tail_bytes: usize, group: GroupId, out: &mut Vec<u8>) {
        let mut frame = FrameWriter::begin(out, kind::ENTRIES, group);
        self.put_fixed(&mut frame);
        frame.finish_before_tail(tail_bytes);
    }

    pub(super) fn put_fixed(&self, out: &mut impl ByteWriter) {
        out.put_u32(self.subscription);
        out.put_u64(self.commit_index.0);
        out.put_u64(self.last_offset.0);
        out.put_u32(self.entry_count);
    }

    pub(super) fn read(frame: &Frame<'a>) -> Result<Self, ProtocolError> {
        let mut f = Fields::before_tail(frame);
        let read = Self {
            subscription: f.u32("subscription")?,
            commit_index: f.index("commit_index")?,
            last_offset: f.offset("last_offset")?,
            entry_count: f.u32("entry_count")?,
            bytes: frame.tail(),
        };
        f.finish()?;
        Ok(read)
    }

    /// Reads and verifies the entries one by one: exactly [`Entries::entry_count`], filling the tail exactly. The
    /// iterator ends after an error.
    pub fn iter(&self) -> impl Iterator<Item = Result<EntryView<'a>, EntriesError>> + 'a {
        let mut bytes = self.bytes;
        let mut left = self.entry_count;
        std::iter::from_fn(move || {
            if left == 0 {
                let surplus = std::mem::take(&mut bytes).len();
                return (surplus > 0).then_some(Err(EntriesError::Surplus { left: surplus }));
            }
            match EntryView::parse(bytes) {
                Ok((entry, consumed)) => {
                    bytes = &bytes[consumed..];
                    left -= 1;
                    Some(Ok(entry))
                }
                Err(error) => {
                    (bytes, left) = (&[], 0);
                    Some(Err(EntriesError::Entry(error)))
                }
            }
        })
    }
}

/// The tail of an entries frame is not what its fixed part says.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// An entry is damaged.
    #[error("an entry in an entries frame is damaged: {0}")]
    Entry(#[source] EntryError),
    /// Bytes behind the last entry.
    #[error("entries has {left} bytes behind its last entry")]
    Surplus {
        /// How many.
        left: usize,
    },
}

impl SubscriptionErrorCode {
    const fn parts(self) -> (u8, u64) {
        match self {
            Self::BelowFloor { first_offset } => (1, first_offset.0),
            Self::BadFilter => (2, 0),
            Self::DuplicateSubscription => (3, 0),
            Self::UnknownSubscription => (4, 0),
            Self::TooManySubscriptions => (5, 0),
            Self::ReadFailed => (6, 0),
            Self::Draining => (7, 0),
        }
    }

    fn from_parts(code: u8, detail: u64) -> Option<Self> {
        let read = match code {
            1 => Self::BelowFloor { first_offset: Offset(detail) },
            2 => Self::BadFilter,
            3 => Self::DuplicateSubscription,
            4 => Self::UnknownSubscription,
            5 => Self::TooManySubscriptions,
            6 => Self::ReadFailed,
            7 => Self::Draining,
            _ => return None,
        };
        (read.parts() == (code, detail)).then_some(read)
    }
}

impl<'a> SubscriptionError<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        let (code, detail) = self.code.parts();
        out.put_u32(self.subscription);
        out.put_u8(code);
        out.put_u64(detail);
        put_text_clipped(out, self.text, TEXT_BYTES_MAX);
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        let subscription = f.u32("subscription")?;
        let code = f.u8("code")?;
        let detail = f.counter("detail")?;
        let code =
            SubscriptionErrorCode::from_parts(code, detail).ok_or_else(|| f.bad("code", u64::from(code)))?;
        Ok(Self { subscription, code, text: f.text("text", TEXT_BYTES_MAX)? })
    }
}
