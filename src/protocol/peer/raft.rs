//! Raft messages as frames.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{COUNTER_MAX, EntryId, GroupId, LogIndex, Term};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::entry::{ENTRY_BYTES_MIN, Entry, EntryError, EntryHeader};
use crate::raft::{AppendOutcome, Message};

use super::super::frame::{
    FRAME_HEADER_BYTES, Fields, Frame, FrameWriter, ProtocolError, kind, put_bool, wire_enum,
};
use super::{PeerError, PeerFrame};

/// Most entries in one append.
pub const APPEND_ENTRIES_MAX: usize = 4096;
/// Most bytes of entries in one append.
pub const APPEND_ENTRY_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES - APPEND_FIXED_BYTES;

/// term, prev, commit, flags, entry_count.
const APPEND_FIXED_BYTES: usize = 8 + 16 + 8 + 1 + 4;

wire_enum! {
    /// The code of an append reply's outcome.
    OutcomeCode {
        /// [`AppendOutcome::Accepted`].
        Accepted = 1,
        /// [`AppendOutcome::Rejected`].
        Rejected = 2,
    }
}

const fn kind_of(message: &Message) -> u8 {
    match message {
        Message::PreVote { .. } => kind::PRE_VOTE,
        Message::PreVoteReply { .. } => kind::PRE_VOTE_REPLY,
        Message::Vote { .. } => kind::VOTE,
        Message::VoteReply { .. } => kind::VOTE_REPLY,
        Message::Append { .. } => kind::APPEND,
        Message::AppendReply { .. } => kind::APPEND_REPLY,
        Message::Heartbeat { .. } => kind::HEARTBEAT,
        Message::HeartbeatReply { .. } => kind::HEARTBEAT_REPLY,
        Message::ClaimQuery { .. } => kind::CLAIM_QUERY,
        Message::ClaimReply { .. } => kind::CLAIM_REPLY,
        Message::TimeoutNow { .. } => kind::TIMEOUT_NOW,
    }
}

/// Appends a Raft message as one frame. Of an append: everything but its entries, of which there must be none; with
/// entries see [`encode_append_header`].
///
/// # Panics
/// For an append that has entries.
pub fn encode_message(group: GroupId, message: &Message, out: &mut Vec<u8>) {
    if let Message::Append { term, prev, entries, commit, wants_reply } = message {
        assert!(entries.is_empty(), "an append's entries go by encode_append_header");
        encode_append_header(group, *term, *prev, *commit, *wants_reply, (0, 0), out);
        return;
    }
    let mut frame = FrameWriter::begin(out, kind_of(message), group);
    put_message(&mut frame, message);
    frame.finish();
}

fn put_message(out: &mut FrameWriter<'_>, message: &Message) {
    match message {
        Message::PreVote { term, last } | Message::Vote { term, last } => {
            out.put_u64(term.0);
            put_id(out, *last);
        }
        Message::PreVoteReply { term, granted, last } | Message::VoteReply { term, granted, last } => {
            out.put_u64(term.0);
            put_bool(out, *granted);
            put_id(out, *last);
        }
        Message::AppendReply { term, outcome } => {
            out.put_u64(term.0);
            put_outcome(out, outcome);
        }
        Message::Heartbeat { term, commit, round } => {
            out.put_u64(term.0);
            out.put_u64(commit.0);
            out.put_u64(*round);
        }
        Message::HeartbeatReply { term, round, appended, stable } => {
            out.put_u64(term.0);
            out.put_u64(*round);
            out.put_u64(appended.0);
            out.put_u64(stable.0);
        }
        Message::ClaimQuery { term, claimed } => {
            out.put_u64(term.0);
            put_id(out, *claimed);
        }
        Message::ClaimReply { term, claimed, last } => {
            out.put_u64(term.0);
            put_id(out, *claimed);
            put_id(out, *last);
        }
        Message::TimeoutNow { term } => out.put_u64(term.0),
        Message::Append { .. } => unreachable!("encode_message takes appends apart"),
    }
}

fn put_id(out: &mut impl ByteWriter, id: EntryId) {
    out.put_u64(id.term.0);
    out.put_u64(id.index.0);
}

fn put_outcome(out: &mut impl ByteWriter, outcome: &AppendOutcome) {
    match outcome {
        AppendOutcome::Accepted { appended, stable } => {
            out.put_u8(OutcomeCode::Accepted.code());
            out.put_u64(appended.0);
            out.put_u64(stable.0);
        }
        AppendOutcome::Rejected { prev_index, hint } => {
            out.put_u8(OutcomeCode::Rejected.code());
            out.put_u64(prev_index.0);
            put_id(out, *hint);
        }
    }
}

/// Appends header and fixed part of an append; the caller sends exactly `entries_bytes` bytes of `entry_count` whole
/// entries next (from their shared buffers, uncopied). `(entry_count, entries_bytes)` is `(0, 0)` for a probe.
///
/// # Panics
/// When the entries are over [`APPEND_ENTRIES_MAX`] or [`APPEND_ENTRY_BYTES_MAX`], or bytes and count disagree on
/// whether there are any: the sender plans its frames by these limits.
pub fn encode_append_header(
    group: GroupId,
    term: Term,
    prev: EntryId,
    commit: LogIndex,
    wants_reply: bool,
    (entry_count, entries_bytes): (usize, usize),
    out: &mut Vec<u8>,
) {
    assert!(entry_count <= APPEND_ENTRIES_MAX, "{entry_count} entries in one append");
    assert!((entry_count == 0) == (entries_bytes == 0), "{entry_count} entries in {entries_bytes} bytes");
    let mut frame = FrameWriter::begin(out, kind::APPEND, group);
    frame.put_u64(term.0);
    put_id(&mut frame, prev);
    frame.put_u64(commit.0);
    put_bool(&mut frame, wants_reply);
    frame.put_u32(entry_count as u32);
    frame.finish_before_tail(entries_bytes);
}

/// Reads every Raft message but an append.
pub(super) fn read_message(f: &mut Fields<'_>) -> Result<Message, ProtocolError> {
    let kind = f.kind();
    if !(kind::PRE_VOTE..=kind::TIMEOUT_NOW).contains(&kind) {
        return Err(ProtocolError::UnexpectedKind { what: "a node's peer port", kind });
    }
    let term = f.term("term")?;
    Ok(match kind {
        kind::PRE_VOTE => Message::PreVote { term, last: f.entry_id("last")? },
        kind::PRE_VOTE_REPLY => {
            Message::PreVoteReply { term, granted: f.bool("granted")?, last: f.entry_id("last")? }
        }
        kind::VOTE => Message::Vote { term, last: f.entry_id("last")? },
        kind::VOTE_REPLY => {
            Message::VoteReply { term, granted: f.bool("granted")?, last: f.entry_id("last")? }
        }
        kind::APPEND_REPLY => Message::AppendReply { term, outcome: read_outcome(f)? },
        kind::HEARTBEAT => Message::Heartbeat { term, commit: f.index("commit")?, round: f.u64("round")? },
        kind::HEARTBEAT_REPLY => {
            let round = f.u64("round")?;
            let (appended, stable) = read_progress(f)?;
            Message::HeartbeatReply { term, round, appended, stable }
        }
        kind::CLAIM_QUERY => Message::ClaimQuery { term, claimed: f.entry_id("claimed")? },
        kind::CLAIM_REPLY => {
            Message::ClaimReply { term, claimed: f.entry_id("claimed")?, last: f.entry_id("last")? }
        }
        kind::TIMEOUT_NOW => Message::TimeoutNow { term },
        kind => return Err(ProtocolError::UnexpectedKind { what: "a node's peer port", kind }),
    })
}

fn read_outcome(f: &mut Fields<'_>) -> Result<AppendOutcome, ProtocolError> {
    Ok(match f.code("outcome", OutcomeCode::from_code)? {
        OutcomeCode::Accepted => {
            let (appended, stable) = read_progress(f)?;
            AppendOutcome::Accepted { appended, stable }
        }
        OutcomeCode::Rejected => {
            AppendOutcome::Rejected { prev_index: f.index("prev_index")?, hint: f.entry_id("hint")? }
        }
    })
}

/// What a peer claims to have: stable never passes appended (PITFALLS 15).
fn read_progress(f: &mut Fields<'_>) -> Result<(LogIndex, LogIndex), ProtocolError> {
    let (appended, stable) = (f.index("appended")?, f.index("stable")?);
    if stable > appended { Err(f.bad("stable", stable.0)) } else { Ok((appended, stable)) }
}

/// Reads an append: fixed part, then its entries.
pub(super) fn decode_append<'a>(frame: &Frame<'a>) -> Result<PeerFrame<'a>, PeerError> {
    let mut f = Fields::before_tail(frame);
    let term = f.term("term")?;
    let prev = f.entry_id("prev")?;
    let commit = f.index("commit")?;
    let wants_reply = f.bool("wants_reply")?;
    let entry_count = check_entry_count(&mut f, frame.tail().len())?;
    if prev.term > term {
        return Err(f.bad("prev", prev.term.0).into());
    }
    f.finish()?;
    let entries = decode_entries(frame.tail(), entry_count, prev, term)?;
    let terms = entries.iter().map(Entry::term).collect();
    let message = Message::Append { term, prev, entries: terms, commit, wants_reply };
    Ok(PeerFrame::Raft { group: frame.header.group, message, entries })
}

/// A count of entries in a frame's tail. Both bounds hold before room for the entries is reserved (PITFALLS 50).
pub(super) fn check_entry_count(f: &mut Fields<'_>, tail_bytes: usize) -> Result<usize, ProtocolError> {
    let entry_count = f.u32("entry_count")? as usize;
    if entry_count > APPEND_ENTRIES_MAX || entry_count * ENTRY_BYTES_MIN > tail_bytes {
        return Err(f.bad("entry_count", entry_count as u64));
    }
    Ok(entry_count)
}

/// Entries from index `first` on, of whatever terms.
pub(super) fn decode_entries_from(
    tail: &[u8],
    entry_count: usize,
    first: LogIndex,
) -> Result<Vec<Entry>, PeerError> {
    decode_entries(tail, entry_count, EntryId::new(Term::ZERO, first.prev()), Term(COUNTER_MAX))
}

fn decode_entries(
    mut tail: &[u8],
    entry_count: usize,
    prev: EntryId,
    term: Term,
) -> Result<Vec<Entry>, PeerError> {
    let mut entries: Vec<Entry> = Vec::with_capacity(entry_count);
    let mut previous = prev;
    for place in 0..entry_count {
        let entry = decode_first(&mut tail).map_err(|source| PeerError::Entry { place, source })?;
        let found = entry.id();
        let follows = found.index == previous.index.next() && (previous.term..=term).contains(&found.term);
        let chained = entries.last().is_none_or(|before| before.chain() == entry.header().prev_chain);
        if !follows || !chained {
            return Err(PeerError::Order { place, found, previous });
        }
        previous = found;
        entries.push(entry);
    }
    match tail.len() {
        0 => Ok(entries),
        left => Err(PeerError::Surplus { left }),
    }
}

/// Takes one entry from the front: its header (under its own checksum) says how long it is.
fn decode_first(tail: &mut &[u8]) -> Result<Entry, EntryError> {
    let needed = EntryHeader::decode(tail)?.total_bytes as usize;
    let Some((bytes, rest)) = tail.split_at_checked(needed) else {
        return Err(EntryError::Truncated { needed, left: tail.len() });
    };
    *tail = rest;
    Entry::decode(bytes)
}
