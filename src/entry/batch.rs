//! The leader's batch in the making.

use super::error::EntryError;
use super::event::{EVENT_BYTES_MIN, PRODUCER_SLOT_AT, claimed_bytes};
use super::events::{
    EVENTS_FIXED_BYTES, PRODUCERS_BYTES_MAX, ProducerRef, encode_fixed, encode_producer, producer_bytes,
};
use super::header::{EntryHeader, EntryKind, TRAILER_BYTES};
use super::names::validate_producer_name;
use super::owned::Entry;
use super::seal::{SealContext, finish};
use crate::base::ids::{COUNTER_MAX, Epoch, ProducerId};
use crate::base::limits::{BATCH_EVENTS_MAX, ENTRY_BYTES_MAX, EVENT_BYTES_MAX, PRODUCER_NAME_BYTES_MAX};

/// Where the first event lies in an entry.
const EVENTS_AT: usize = EntryHeader::BYTES + EVENTS_FIXED_BYTES;

const _: () = assert!(EVENTS_AT.is_multiple_of(8), "events lie aligned");
const _: () = assert!(
    EVENTS_AT + EVENT_BYTES_MAX + PRODUCERS_BYTES_MAX + TRAILER_BYTES <= ENTRY_BYTES_MAX,
    "an empty batch takes every legal event, whatever its producer is called"
);

/// When a batch is full, and how long its first event waits at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimits {
    /// Most events: 1 to 64.
    pub events_max: usize,
    /// Largest encoded entry, all parts counted; a single event may pass it. At most `ENTRY_BYTES_MAX`.
    pub bytes_max: usize,
    /// How long the first event may wait for others while earlier batches are in flight.
    pub delay_max_ns: u64,
}

impl Default for BatchLimits {
    /// 64 events, 1 MiB, 1 ms.
    fn default() -> Self {
        Self { events_max: BATCH_EVENTS_MAX, bytes_max: 1 << 20, delay_max_ns: 1_000_000 }
    }
}

/// Gathers events into the body of one entry.
///
/// Natural batching (rule 8): take what is there with [`push`](Self::push); when [`is_due`](Self::is_due) says so,
/// [`seal`](Self::seal). An event that does not [fit](Self::fits) means: seal first, then push it.
///
/// Each event's bytes are copied once, from where they were received to where they lie in the entry: the buffer
/// starts with room for the header, events follow, and the producers section, which grows while they come in, stands
/// behind them; it is gathered aside and appended when the batch is sealed. A sealed entry takes the buffer along, so
/// the steady state costs one buffer a batch (of the size that recent batches had) and nothing an event.
#[derive(Debug)]
pub struct BatchAccumulator {
    pub(super) limits: BatchLimits,
    /// Empty, or the start of an entry: room for header and fixed part, then events.
    pub(super) buffer: Vec<u8>,
    /// The producers section.
    section: Vec<u8>,
    /// Its keys, by slot.
    pub(super) slots: Vec<(ProducerId, Epoch)>,
    /// The slot of the event pushed last; producers come in runs.
    last_slot: usize,
    event_count: usize,
    first_push_ns: u64,
    /// Capacity of the next buffer: the largest recent entry, forgetting slowly.
    capacity_hint: usize,
}

impl BatchAccumulator {
    /// An empty batch.
    ///
    /// # Panics
    /// Where `events_max` is not 1 to 64 or `bytes_max` passes `ENTRY_BYTES_MAX`; settings are validated before.
    #[must_use]
    pub fn new(limits: BatchLimits) -> Self {
        assert!((1..=BATCH_EVENTS_MAX).contains(&limits.events_max), "a batch has 1 to 64 events");
        assert!(limits.bytes_max <= ENTRY_BYTES_MAX, "a batch fits an entry");
        Self {
            limits,
            buffer: Vec::new(),
            section: Vec::new(),
            slots: Vec::with_capacity(BATCH_EVENTS_MAX),
            last_slot: 0,
            event_count: 0,
            first_push_ns: 0,
            capacity_hint: 4096,
        }
    }

    /// Whether no event was pushed since the last seal.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.event_count == 0
    }

    /// Events pushed since the last seal.
    #[must_use]
    pub const fn event_count(&self) -> usize {
        self.event_count
    }

    /// Size of the entry, were it sealed now; zero when empty.
    #[must_use]
    pub fn entry_bytes(&self) -> usize {
        if self.is_empty() { 0 } else { self.buffer.len() + self.section.len() + TRAILER_BYTES }
    }

    /// Whether the batch already names this producer under this epoch.
    #[must_use]
    pub fn has_producer(&self, id: ProducerId, epoch: Epoch) -> bool {
        self.slot_of(id, epoch).is_some()
    }

    /// Whether an encoded event of that size can join. `new_producer_name_len` is none where the batch already names
    /// the producer (see [`has_producer`](Self::has_producer)). An empty batch takes every legal event.
    #[must_use]
    pub fn fits(&self, encoded_len: usize, new_producer_name_len: Option<usize>) -> bool {
        if encoded_len > EVENT_BYTES_MAX || new_producer_name_len > Some(PRODUCER_NAME_BYTES_MAX) {
            return false;
        }
        if self.is_empty() {
            return true;
        }
        let producer = new_producer_name_len.map_or(0, producer_bytes);
        self.event_count < self.limits.events_max
            && self.entry_bytes() + encoded_len + producer <= self.limits.bytes_max
    }

    /// [`fits`](Self::fits) for an event of this producer, whether the batch names it or not.
    #[must_use]
    pub fn fits_from(&self, producer: &ProducerRef<'_>, encoded_len: usize) -> bool {
        let known = self.has_producer(producer.id, producer.epoch);
        self.fits(encoded_len, if known { None } else { Some(producer.name.len()) })
    }

    /// Adds an event that `parse_event` accepted, exactly its bytes. Its producer slot is set while copying.
    ///
    /// # Errors
    /// [`EntryError::BatchFull`] where it does not fit: seal, then push again. Else a size, producer id, epoch or name
    /// that no decoder would accept. On an error the batch is as it was.
    pub fn push(
        &mut self,
        now_ns: u64,
        producer: ProducerRef<'_>,
        encoded_event: &[u8],
    ) -> Result<(), EntryError> {
        let bytes = encoded_event.len();
        if bytes > EVENT_BYTES_MAX {
            return Err(EntryError::TooLarge { what: "an event", bytes, limit: EVENT_BYTES_MAX });
        }
        if claimed_bytes(encoded_event) != Some(bytes) || !bytes.is_multiple_of(8) {
            return Err(EntryError::Malformed("not exactly one encoded event"));
        }
        debug_assert!(
            super::event::parse_event(encoded_event).is_ok(),
            "events are parsed before they are pushed"
        );
        let known = self.slot_of(producer.id, producer.epoch);
        if known.is_none() {
            check_producer(&producer)?;
        }
        if !self.fits(bytes, if known.is_some() { None } else { Some(producer.name.len()) }) {
            return Err(EntryError::BatchFull);
        }
        if self.is_empty() {
            self.begin(now_ns, bytes);
        }
        let slot = known.unwrap_or_else(|| self.add_producer(&producer));
        self.last_slot = slot;
        let at = self.buffer.len();
        self.buffer.extend_from_slice(encoded_event);
        let slot_at = at + PRODUCER_SLOT_AT;
        self.buffer[slot_at..slot_at + 2].copy_from_slice(&(slot as u16).to_le_bytes());
        self.event_count += 1;
        Ok(())
    }

    /// Whether the batch should be sealed now: it is full; or it holds something and nothing is in flight, or its
    /// first event has waited for `delay_max_ns`.
    #[must_use]
    pub fn is_due(&self, now_ns: u64, in_flight: bool) -> bool {
        match self.deadline_ns() {
            None => false,
            Some(deadline_ns) => self.is_full() || !in_flight || now_ns >= deadline_ns,
        }
    }

    /// When the first event will have waited long enough; none when empty.
    #[must_use]
    pub const fn deadline_ns(&self) -> Option<u64> {
        if self.is_empty() { None } else { Some(self.first_push_ns.saturating_add(self.limits.delay_max_ns)) }
    }

    /// Whether not even the smallest event would fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.is_empty() && !self.fits(EVENT_BYTES_MIN, None)
    }

    /// Makes the entry and empties the batch.
    ///
    /// # Panics
    /// On an empty batch, and where the context is out of range (see [`SealContext`]).
    pub fn seal(&mut self, context: &SealContext) -> Entry {
        assert!(!self.is_empty(), "only a batch with events is sealed");
        let mut buffer = std::mem::take(&mut self.buffer);
        let fixed = encode_fixed(self.slots.len(), buffer.len() - EVENTS_AT);
        buffer[EntryHeader::BYTES..EVENTS_AT].copy_from_slice(&fixed);
        let total_bytes = buffer.len() + self.section.len() + TRAILER_BYTES;
        // Producers and trailer go into the same allocation; what is left over goes back (in place, not by a copy), so
        // that the memory of a hot tail is close to the sum of its entries' lengths.
        buffer.reserve_exact(total_bytes - buffer.len());
        buffer.extend_from_slice(&self.section);
        if buffer.capacity() - total_bytes > total_bytes / 8 {
            buffer.shrink_to(total_bytes);
        }
        self.capacity_hint = total_bytes.max(self.capacity_hint - self.capacity_hint / 16);
        let event_count = self.event_count as u32;
        self.clear();
        let entry = finish(buffer, EntryKind::Events, event_count, context);
        debug_assert!(entry.events().is_ok(), "a sealed batch can be decoded");
        entry
    }

    /// Throws away what was pushed.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.section.clear();
        self.slots.clear();
        self.last_slot = 0;
        self.event_count = 0;
        self.first_push_ns = 0;
    }

    fn begin(&mut self, now_ns: u64, event_bytes: usize) {
        self.first_push_ns = now_ns;
        let least = EVENTS_AT + event_bytes + producer_bytes(PRODUCER_NAME_BYTES_MAX) + TRAILER_BYTES;
        self.buffer.reserve_exact(least.max(self.capacity_hint));
        self.buffer.resize(EVENTS_AT, 0);
    }

    fn slot_of(&self, id: ProducerId, epoch: Epoch) -> Option<usize> {
        if self.slots.get(self.last_slot) == Some(&(id, epoch)) {
            return Some(self.last_slot);
        }
        self.slots.iter().position(|&key| key == (id, epoch))
    }

    fn add_producer(&mut self, producer: &ProducerRef<'_>) -> usize {
        encode_producer(&mut self.section, producer);
        self.slots.push((producer.id, producer.epoch));
        self.slots.len() - 1
    }
}

fn check_producer(producer: &ProducerRef<'_>) -> Result<(), EntryError> {
    validate_producer_name(producer.name)?;
    if !(1..=COUNTER_MAX).contains(&producer.id.0) {
        return Err(EntryError::OutOfRange("producer id"));
    }
    if producer.epoch.0 == 0 {
        return Err(EntryError::OutOfRange("producer epoch"));
    }
    Ok(())
}
