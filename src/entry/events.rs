//! The body of an events entry: a batch, decoded once and then cheap to walk.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::EntryError;
use super::event::{EventView, next_checked, parse_event};
use super::header::pad8;
use super::names::{checked_text, decode_name};
use crate::base::ids::{COUNTER_MAX, Epoch, Offset, ProducerId};
use crate::base::limits::{BATCH_EVENTS_MAX, PRODUCER_NAME_BYTES_MAX};

/// Bytes of the body before the first event.
pub(super) const EVENTS_FIXED_BYTES: usize = 8;
/// Bytes of a producer before its name.
const PRODUCER_FIXED_BYTES: usize = 16;
/// Id and epoch, with which a producer starts.
const PRODUCER_KEY_BYTES: usize = 12;
/// Largest producers section.
pub(super) const PRODUCERS_BYTES_MAX: usize = BATCH_EVENTS_MAX * producer_bytes(PRODUCER_NAME_BYTES_MAX);

const _: () = assert!(PRODUCERS_BYTES_MAX <= u16::MAX as usize, "positions in the section fit 16 bits");
const _: () = assert!(BATCH_EVENTS_MAX <= 64, "the slots of a batch fit one word of bits");

/// Size of a producer with a name of that length in the producers section.
pub(super) const fn producer_bytes(name_bytes: usize) -> usize {
    pad8(PRODUCER_FIXED_BYTES + name_bytes)
}

/// The start of the body.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEvents {
    producer_count: U16,
    reserved: U16,
    events_bytes: U32,
}

/// The fixed part of a producer.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawProducer {
    id: U64,
    epoch: U32,
    name_bytes: u8,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<RawEvents>() == EVENTS_FIXED_BYTES);
const _: () = assert!(size_of::<RawProducer>() == PRODUCER_FIXED_BYTES);

/// A producer as a batch names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProducerRef<'a> {
    /// Its id, from 1.
    pub id: ProducerId,
    /// The epoch under which it wrote, from 1.
    pub epoch: Epoch,
    /// Its name, valid by `validate_producer_name`.
    pub name: &'a str,
}

/// The producers of a batch; an event's `producer_slot` is an index into it. No two have both id and epoch in common.
#[derive(Clone, Copy)]
pub struct ProducersView<'a> {
    section: &'a [u8],
    positions: [u16; BATCH_EVENTS_MAX],
    count: usize,
}

impl<'a> ProducersView<'a> {
    fn parse(section: &'a [u8], count: usize) -> Result<Self, EntryError> {
        let mut view = Self { section, positions: [0; BATCH_EVENTS_MAX], count: 0 };
        let mut at = 0;
        for slot in 0..count {
            let bytes = &section[at..];
            let Ok((raw, _)) = RawProducer::ref_from_prefix(bytes) else {
                return Err(EntryError::Malformed("the producers section ends early"));
            };
            let name_end = PRODUCER_FIXED_BYTES + usize::from(raw.name_bytes);
            let Some(bytes) = bytes.get(..pad8(name_end)) else {
                return Err(EntryError::Malformed("the producers section ends early"));
            };
            if raw.reserved != [0; 3] || bytes[name_end..].iter().any(|&byte| byte != 0) {
                return Err(EntryError::Malformed("the padding of a producer is not zero"));
            }
            if !(1..=COUNTER_MAX).contains(&raw.id.get()) {
                return Err(EntryError::OutOfRange("producer id"));
            }
            if raw.epoch.get() == 0 {
                return Err(EntryError::OutOfRange("producer epoch"));
            }
            decode_name(&bytes[PRODUCER_FIXED_BYTES..name_end])?;
            let key = &bytes[..PRODUCER_KEY_BYTES];
            if view.positions[..slot].iter().any(|&known| section[usize::from(known)..].starts_with(key)) {
                return Err(EntryError::Malformed("a producer stands twice in a batch"));
            }
            // `at` is below PRODUCERS_BYTES_MAX here: at most 64 producers of bounded size precede.
            view.positions[slot] = at as u16;
            view.count = slot + 1;
            at += bytes.len();
        }
        if at != section.len() {
            return Err(EntryError::Malformed("bytes follow the producers section"));
        }
        Ok(view)
    }

    /// How many there are: 1 to 64.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Never true for a decoded batch.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The producer in a slot; none where the batch has no such slot.
    #[must_use]
    pub fn get(&self, slot: u16) -> Option<ProducerRef<'a>> {
        let positions = &self.positions[..self.count];
        let bytes = &self.section[usize::from(*positions.get(usize::from(slot))?)..];
        let (raw, rest) = RawProducer::ref_from_prefix(bytes).ok()?;
        Some(ProducerRef {
            id: ProducerId(raw.id.get()),
            epoch: Epoch(raw.epoch.get()),
            name: checked_text(rest.get(..usize::from(raw.name_bytes))?),
        })
    }

    /// All of them, in the order of the slots.
    pub fn iter(&self) -> impl Iterator<Item = ProducerRef<'a>> + '_ {
        (0..self.count as u16).filter_map(|slot| self.get(slot))
    }
}

impl std::fmt::Debug for ProducersView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A decoded batch. Everything was checked by the decoder, so walking it cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct EventsView<'a> {
    base_offset: Offset,
    event_count: u32,
    events: &'a [u8],
    producers: ProducersView<'a>,
}

impl<'a> EventsView<'a> {
    /// Decodes the body of an entry; count and offset come from its header.
    pub(super) fn parse(base_offset: Offset, event_count: u32, body: &'a [u8]) -> Result<Self, EntryError> {
        let Ok((raw, rest)) = RawEvents::ref_from_prefix(body) else {
            return Err(EntryError::Malformed("the body of a batch is too short"));
        };
        if raw.reserved.get() != 0 {
            return Err(EntryError::Malformed("a reserved field of a batch is not zero"));
        }
        let producer_count = usize::from(raw.producer_count.get());
        if !(1..=BATCH_EVENTS_MAX).contains(&producer_count) {
            return Err(EntryError::OutOfRange("producer_count"));
        }
        if !(1..=BATCH_EVENTS_MAX).contains(&(event_count as usize)) {
            return Err(EntryError::OutOfRange("event_count"));
        }
        let Some((events, section)) = rest.split_at_checked(raw.events_bytes.get() as usize) else {
            return Err(EntryError::Malformed("the events of a batch go past its end"));
        };
        let producers = ProducersView::parse(section, producer_count)?;
        let mut slots_used = 0u64;
        let mut at = 0;
        for _ in 0..event_count {
            let (event, bytes) = parse_event(&events[at..])
                .map_err(|error| error.inside("an event goes past the end of its batch"))?;
            if usize::from(event.producer_slot) >= producer_count {
                return Err(EntryError::OutOfRange("producer_slot"));
            }
            slots_used |= 1 << event.producer_slot;
            at += bytes;
        }
        if at != events.len() {
            return Err(EntryError::Malformed("bytes follow the last event of a batch"));
        }
        if slots_used.count_ones() as usize != producer_count {
            return Err(EntryError::Malformed("a producer of a batch wrote none of its events"));
        }
        Ok(Self { base_offset, event_count, events, producers })
    }

    /// How many events: 1 to 64.
    #[must_use]
    pub const fn event_count(&self) -> u32 {
        self.event_count
    }

    /// Offset of the first event.
    #[must_use]
    pub const fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// The producers; an event's `producer_slot` is always one of theirs.
    #[must_use]
    pub const fn producers(&self) -> &ProducersView<'a> {
        &self.producers
    }

    /// The events with their offsets, in order.
    #[must_use]
    pub const fn iter(&self) -> Events<'a> {
        Events { next_offset: self.base_offset, left: self.event_count as usize, bytes: self.events }
    }
}

impl<'a> IntoIterator for &EventsView<'a> {
    type Item = (Offset, EventView<'a>);
    type IntoIter = Events<'a>;

    fn into_iter(self) -> Events<'a> {
        self.iter()
    }
}

/// Iterator over the events of a batch and their offsets.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    next_offset: Offset,
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Iterator for Events<'a> {
    type Item = (Offset, EventView<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (event, rest) = next_checked(self.bytes)?;
        let offset = self.next_offset;
        self.next_offset = offset.next();
        self.left = self.left.saturating_sub(1);
        self.bytes = rest;
        Some((offset, event))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Events<'_> {}

/// The start of a body with that many producers and bytes of events.
pub(super) fn encode_fixed(producer_count: usize, events_bytes: usize) -> [u8; EVENTS_FIXED_BYTES] {
    zerocopy::transmute!(RawEvents {
        producer_count: U16::new(producer_count as u16),
        reserved: U16::ZERO,
        events_bytes: U32::new(events_bytes as u32),
    })
}

/// Appends a producer, whose name was validated, to a producers section.
pub(super) fn encode_producer(section: &mut Vec<u8>, producer: &ProducerRef<'_>) {
    let raw = RawProducer {
        id: U64::new(producer.id.0),
        epoch: U32::new(producer.epoch.0),
        name_bytes: producer.name.len() as u8,
        reserved: [0; 3],
    };
    let end = section.len() + producer_bytes(producer.name.len());
    section.extend_from_slice(raw.as_bytes());
    section.extend_from_slice(producer.name.as_bytes());
    section.resize(end, 0);
}
