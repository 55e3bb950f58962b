//! The events that wait for their acknowledgement, encoded once, in sequence order.
//!
//! ```text
//! bytes   ···········[event][event][event][event][event]
//!         consumed   ^head                ^cursor
//! slots              [slot ][slot ][slot ][slot ][slot ]
//!                     first         acked   unsent
//! ```
//!
//! Invariants: slots are contiguous in sequence from `first`; their lengths add up to `bytes[head..]`; slots before
//! `cursor` were sent on the present connection; `in_flight_*` counts those of them that are not acknowledged. Events
//! leave at the front only, when they and all before them are acknowledged, so acknowledgements are handed out in
//! sequence order whatever order they came in, and a rewind of the cursor sends everything unacknowledged again, in
//! order and byte for byte.

use std::collections::VecDeque;

use super::Ack;
use crate::base::ids::{Offset, Sequence};
use crate::client::links::Credit;
use crate::entry::{Durability, EntryError, EventParts, encode_event};
use crate::protocol::client::{AckKind, AckRun};

/// Most events in one publish frame: a batch of the leader's.
pub(super) const FRAME_EVENTS: usize = 64;
/// Most event bytes in one publish frame, or one event that is larger.
pub(super) const FRAME_BYTES: usize = 256 << 10;
/// Consumed bytes at the front that are worth moving the rest for.
const COMPACT_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
struct Slot {
    bytes: u32,
    /// How often it was sent; saturates.
    attempts: u8,
    acked: Option<Acked>,
}

#[derive(Clone, Copy, Debug)]
struct Acked {
    offset: Offset,
    kind: AckKind,
    durability: Durability,
}

/// An acknowledgement of something that was never sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NeverSent;

/// The queue.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    head: usize,
    slots: VecDeque<Slot>,
    first: Sequence,
    cursor: usize,
    cursor_bytes: usize,
    in_flight_events: usize,
    in_flight_bytes: usize,
}

impl Outbox {
    /// An empty queue whose first event will be `first`.
    pub(super) const fn new(first: Sequence) -> Self {
        Self {
            bytes: Vec::new(),
            head: 0,
            slots: VecDeque::new(),
            first,
            cursor: 0,
            cursor_bytes: 0,
            in_flight_events: 0,
            in_flight_bytes: 0,
        }
    }

    /// Events that are not handed out as acknowledged.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Their bytes.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len() - self.head
    }

    /// Sequence of the oldest of them; of the next event when there is none.
    pub(super) const fn first(&self) -> Sequence {
        self.first
    }

    /// The sequence that the next event gets.
    pub(super) fn next_sequence(&self) -> Sequence {
        self.first.plus(self.slots.len() as u64)
    }

    /// Encoded size of one of them; zero where it is not here.
    pub(super) fn bytes_of(&self, sequence: Sequence) -> usize {
        let at = sequence.0.checked_sub(self.first.0).map(|at| at as usize);
        at.and_then(|at| self.slots.get(at)).map_or(0, |slot| slot.bytes as usize)
    }

    /// Events sent on the present connection and not acknowledged.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight_events
    }

    /// Events (and their bytes) not yet sent on the present connection.
    pub(super) fn unsent(&self) -> (usize, usize) {
        (self.slots.len() - self.cursor, self.len_bytes() - self.cursor_bytes)
    }

    /// Goes on with another sequence; only while nothing waits.
    pub(super) fn start_at(&mut self, first: Sequence) {
        assert!(self.slots.is_empty(), "sequences only jump while nothing waits for its acknowledgement");
        self.first = first;
    }

    /// Adds an event under the next sequence (`event.sequence` is not looked at). On an error nothing changes.
    pub(super) fn push(&mut self, event: &EventParts<'_>, bytes_max: usize) -> Result<Sequence, EntryError> {
        let sequence = self.next_sequence();
        let start = self.bytes.len();
        encode_event(&mut self.bytes, &EventParts { sequence, ..*event })?;
        let bytes = self.bytes.len() - start;
        if bytes > bytes_max {
            self.bytes.truncate(start);
            return Err(EntryError::TooLarge { what: "an event", bytes, limit: bytes_max });
        }
        self.slots.push_back(Slot { bytes: bytes as u32, attempts: 0, acked: None });
        Ok(sequence)
    }

    /// Takes the next frame to send, as much as the credit allows: its event count and bytes. With nothing in flight
    /// one event may always be sent. `None`: nothing unsent, or no credit.
    pub(super) fn take_frame(&mut self, credit: &Credit) -> Option<(usize, &[u8])> {
        let (mut count, mut bytes) = (0, 0);
        for slot in self.slots.range(self.cursor..).take(FRAME_EVENTS) {
            let more = bytes + slot.bytes as usize;
            let alone = self.in_flight_events + count == 0;
            let within =
                self.in_flight_events + count < credit.events && self.in_flight_bytes + more <= credit.bytes;
            if !(alone || within) || (count > 0 && more > FRAME_BYTES) {
                break;
            }
            (count, bytes) = (count + 1, more);
        }
        if count == 0 {
            return None;
        }
        for slot in self.slots.range_mut(self.cursor..self.cursor + count) {
            slot.attempts = slot.attempts.saturating_add(1);
            if slot.acked.is_none() {
                self.in_flight_events += 1;
                self.in_flight_bytes += slot.bytes as usize;
            }
        }
        let start = self.head + self.cursor_bytes;
        self.cursor += count;
        self.cursor_bytes += bytes;
        Some((count, &self.bytes[start..start + bytes]))
    }

    /// The connection is gone: everything unacknowledged is to be sent again.
    pub(super) const fn rewind(&mut self) {
        (self.cursor, self.cursor_bytes) = (0, 0);
        (self.in_flight_events, self.in_flight_bytes) = (0, 0);
    }

    /// Notes a run as acknowledged; what was acknowledged before stays as it is.
    pub(super) fn note(&mut self, run: &AckRun, durability: Durability) -> Result<(), NeverSent> {
        let end = run.first_sequence.0.saturating_add(u64::from(run.count));
        if end > self.next_sequence().0 {
            return Err(NeverSent);
        }
        let from = self.first.0.max(run.first_sequence.0);
        for sequence in from..end {
            let at = (sequence - self.first.0) as usize;
            let slot = &mut self.slots[at];
            if slot.attempts == 0 {
                return Err(NeverSent);
            }
            if slot.acked.is_some() {
                continue;
            }
            let offset = match run.first_offset {
                Offset::ZERO => Offset::ZERO,
                first => first.plus(sequence - run.first_sequence.0),
            };
            slot.acked = Some(Acked { offset, kind: run.kind, durability });
            if at < self.cursor {
                self.in_flight_events -= 1;
                self.in_flight_bytes -= slot.bytes as usize;
            }
        }
        Ok(())
    }

    /// Hands the acknowledged front out as runs, and forgets it.
    pub(super) fn release(&mut self, out: &mut VecDeque<Ack>) {
        while let Some((slot, acked)) = self.slots.front().and_then(|slot| Some((*slot, slot.acked?))) {
            join(
                out,
                Ack {
                    first_sequence: self.first,
                    count: 1,
                    first_offset: acked.offset,
                    kind: acked.kind,
                    durability: acked.durability,
                    resent: slot.attempts > 1,
                },
            );
            self.slots.pop_front();
            self.first = self.first.next();
            self.head += slot.bytes as usize;
            if self.cursor > 0 {
                self.cursor -= 1;
                self.cursor_bytes -= slot.bytes as usize;
            }
        }
        self.compact();
    }

    /// Gives the room of consumed bytes back: each byte is moved at most once for each byte consumed.
    fn compact(&mut self) {
        if self.head == self.bytes.len() {
            self.bytes.clear();
            self.head = 0;
        } else if self.head >= COMPACT_BYTES && self.head > self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }
}

/// Appends an acknowledgement, or lengthens the last one where it continues it in every respect.
fn join(out: &mut VecDeque<Ack>, ack: Ack) {
    if let Some(last) = out.back_mut() {
        let count = u64::from(last.count);
        let offset_continues = match last.first_offset {
            Offset::ZERO => ack.first_offset == Offset::ZERO,
            first => ack.first_offset == first.plus(count),
        };
        if offset_continues
            && last.first_sequence.plus(count) == ack.first_sequence
            && (last.kind, last.durability, last.resent) == (ack.kind, ack.durability, ack.resent)
            && last.count < u32::MAX
        {
            last.count += 1;
            return;
        }
    }
    out.push_back(ack);
}
