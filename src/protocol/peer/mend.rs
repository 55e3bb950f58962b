//! Asking a peer for entries whose copies here are damaged, and answering. No Raft: the answer is the same in every term.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{GroupId, LogIndex};
use crate::entry::Entry;

use super::super::frame::{Fields, Frame, FrameWriter, ProtocolError, kind, wire_enum};
use super::raft::{check_entry_count, decode_entries_from};
use super::{PeerError, PeerFrame};

wire_enum! {
    /// What a node has at the indexes that it was asked about.
    CopyState {
        /// These entries.
        Held = 1,
        /// It had them; its copies are damaged too.
        Damaged = 2,
        /// Nothing: its log ends before, and no claimed tail reaches so far.
        Absent = 3,
        /// It cannot tell (yet).
        Unsure = 4,
        /// Nothing any more: it was committed, and retention has removed it.
        Trimmed = 5,
    }
}

/// A message about damaged entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MendMessage {
    /// 'My copies of `first` to `last` are damaged. What do you have?' A peer that hears it knows that the sender has
    /// lost all of them.
    Fetch {
        /// Any number, which comes back with the answer: what others say counts together only where all of it was said
        /// after the same moment.
        question: u64,
        /// The first one.
        first: LogIndex,
        /// The last one, not before it.
        last: LogIndex,
    },
    /// The answer for the first part of what was asked; ask again for what lies behind `last`.
    Fetched {
        /// As asked.
        question: u64,
        /// As asked.
        first: LogIndex,
        /// Up to here the answer holds.
        last: LogIndex,
        /// What there is. With [`CopyState::Held`] the entries follow, all of them.
        state: CopyState,
    },
}

/// Appends header and fixed part; of an answer with entries the caller sends exactly `entries_bytes` bytes next.
///
/// # Panics
/// When there are entries with anything but [`CopyState::Held`], or more or fewer than `first` to `last`.
pub fn encode_mend_header(
    group: GroupId,
    message: &MendMessage,
    (entry_count, entries_bytes): (usize, usize),
    out: &mut Vec<u8>,
) {
    match *message {
        MendMessage::Fetch { question, first, last } => {
            let mut frame = FrameWriter::begin(out, kind::FETCH, group);
            frame.put_u64(question);
            frame.put_u64(first.0);
            frame.put_u64(last.0);
            frame.finish();
        }
        MendMessage::Fetched { question, first, last, state } => {
            let expected = if state == CopyState::Held { last.since(first.prev()) } else { 0 };
            assert_eq!(entry_count as u64, expected, "{state:?} from {first} to {last}");
            let mut frame = FrameWriter::begin(out, kind::FETCHED, group);
            frame.put_u64(question);
            frame.put_u64(first.0);
            frame.put_u64(last.0);
            frame.put_u8(state.code());
            frame.put_u32(entry_count as u32);
            frame.finish_before_tail(entries_bytes);
        }
    }
}

fn read_range(f: &mut Fields<'_>) -> Result<(LogIndex, LogIndex), ProtocolError> {
    let (first, last) = (f.index("first")?, f.index("last")?);
    match first {
        LogIndex::ZERO => Err(f.bad("first", 0)),
        first if last < first => Err(f.bad("last", last.0)),
        first => Ok((first, last)),
    }
}

/// Reads a question.
pub(super) fn read_fetch(f: &mut Fields<'_>) -> Result<MendMessage, ProtocolError> {
    let question = f.u64("question")?;
    let (first, last) = read_range(f)?;
    Ok(MendMessage::Fetch { question, first, last })
}

/// Reads an answer: fixed part, then its entries, contiguous, each verified and chained to the one before.
pub(super) fn decode_fetched<'a>(frame: &Frame<'a>) -> Result<PeerFrame<'a>, PeerError> {
    let mut f = Fields::before_tail(frame);
    let question = f.u64("question")?;
    let (first, last) = read_range(&mut f)?;
    let state = f.code("state", CopyState::from_code)?;
    let entry_count = check_entry_count(&mut f, frame.tail().len())?;
    let expected = if state == CopyState::Held { last.since(first.prev()) } else { 0 };
    if entry_count as u64 != expected {
        return Err(f.bad("entry_count", entry_count as u64).into());
    }
    f.finish()?;
    let entries: Vec<Entry> = decode_entries_from(frame.tail(), entry_count, first)?;
    let message = MendMessage::Fetched { question, first, last, state };
    Ok(PeerFrame::Mend { group: frame.header.group, message, entries })
}
