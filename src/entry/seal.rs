//! Building entries: where the leader's batcher turns a body into the bytes that every node will hold.

use super::configuration::Configuration;
use super::error::EntryError;
use super::header::{ENTRY_VERSION, EntryHeader, EntryKind, TRAILER_BYTES, encode_trailer, pad8};
use super::open_producer;
use super::owned::Entry;
use super::trim::{self, LogFloor};
use crate::base::checksum::crc32;
use crate::base::ids::{GroupId, LogIndex, Offset, Term};
use crate::base::limits::ENTRY_BYTES_MAX;

/// What only the leader knows at the moment in which an entry takes its place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealContext {
    /// The leader's term.
    pub term: Term,
    /// The entry's place in the log, from 1.
    pub index: LogIndex,
    /// Chain value of the entry before; zero for the first.
    pub prev_chain: u64,
    /// Offset that the entry's first event (or the next event after it) gets, from 1.
    pub base_offset: Offset,
    /// The log's time: the previous entry's plus the leader's monotonic elapsed time. Never falls.
    pub log_time_ns: u64,
    /// The leader's wall clock. Only shown.
    pub timestamp_unix_ns: u64,
}

/// A buffer for [`finish`]: room for the header, and capacity for a body of `body_bytes` and what follows it.
pub(super) fn start(body_bytes: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(EntryHeader::BYTES + pad8(body_bytes) + TRAILER_BYTES);
    buffer.resize(EntryHeader::BYTES, 0);
    buffer
}

/// Completes `buffer` (room for the header, then the body) in place: pads, computes each checksum once, writes the
/// header and appends the trailer.
///
/// # Panics
/// Where the context or the size is out of range: the leader itself makes both, so that would be a bug, and one that
/// must not reach a log.
pub(super) fn finish(mut buffer: Vec<u8>, kind: EntryKind, event_count: u32, context: &SealContext) -> Entry {
    assert!(buffer.len() >= EntryHeader::BYTES, "the buffer starts with room for the header");
    let body_bytes = buffer.len() - EntryHeader::BYTES;
    let total_bytes = EntryHeader::BYTES + pad8(body_bytes) + TRAILER_BYTES;
    assert!(total_bytes <= ENTRY_BYTES_MAX, "an entry never passes its limit");
    buffer.resize(total_bytes - TRAILER_BYTES, 0);
    let mut header = EntryHeader {
        kind,
        version: ENTRY_VERSION,
        flags: 0,
        total_bytes: total_bytes as u32,
        body_bytes: body_bytes as u32,
        term: context.term,
        index: context.index,
        prev_chain: context.prev_chain,
        base_offset: context.base_offset,
        log_time_ns: context.log_time_ns,
        timestamp_unix_ns: context.timestamp_unix_ns,
        event_count,
        group: GroupId(0),
        body_crc: crc32(&buffer[EntryHeader::BYTES..]),
        header_crc: 0,
    };
    let checked = header.check();
    assert!(checked.is_ok(), "an entry is only sealed with fields in range: {checked:?}");
    let encoded = header.encode();
    header.header_crc = u32::from_le_bytes([encoded[76], encoded[77], encoded[78], encoded[79]]);
    buffer[..EntryHeader::BYTES].copy_from_slice(&encoded);
    buffer.extend_from_slice(&encode_trailer(&header));
    Entry::assume_checked(header, buffer)
}

/// A leader's first entry of its term.
///
/// # Panics
/// Where the context is out of range (see [`SealContext`]).
#[must_use]
pub fn encode_noop(context: &SealContext) -> Entry {
    finish(start(0), EntryKind::Noop, 0, context)
}

/// An entry that holds the cluster's configuration.
///
/// # Errors
/// Those of [`Configuration::check`].
///
/// # Panics
/// Where the context is out of range (see [`SealContext`]).
pub fn encode_configuration(
    context: &SealContext,
    configuration: &Configuration,
) -> Result<Entry, EntryError> {
    configuration.check()?;
    let mut buffer = start(configuration.body_bytes());
    configuration.encode_body(&mut buffer);
    Ok(finish(buffer, EntryKind::Configuration, 0, context))
}

/// An entry that opens a producer's name.
///
/// # Errors
/// [`EntryError::Name`] where the name breaks the rules.
///
/// # Panics
/// Where the context is out of range (see [`SealContext`]).
pub fn encode_open_producer(context: &SealContext, name: &str) -> Result<Entry, EntryError> {
    super::names::validate_producer_name(name)?;
    let mut buffer = start(open_producer::FIXED_BYTES + name.len());
    open_producer::encode_body(&mut buffer, name);
    Ok(finish(buffer, EntryKind::OpenProducer, 0, context))
}

/// An entry by which the log begins at `floor` from now on.
///
/// # Panics
/// Where the context is out of range (see [`SealContext`]), or the floor lies behind the entry itself.
#[must_use]
pub fn encode_trim(context: &SealContext, floor: LogFloor) -> Entry {
    assert!(floor.fits(context.index, context.base_offset), "a log is never trimmed beyond its own end");
    let mut buffer = start(trim::BODY_BYTES);
    floor.encode_body(&mut buffer);
    finish(buffer, EntryKind::Trim, 0, context)
}
