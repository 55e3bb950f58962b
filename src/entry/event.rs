//! One event: the layout that publish frames, batches and subscribers share.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::attributes::{AttributesView, attributes_bytes, encode_attributes};
use super::error::EntryError;
use super::header::pad8;
use super::names::{checked_text, decode_topic, validate_topic};
use crate::base::ids::{COUNTER_MAX, Sequence};
use crate::base::limits::{ATTRIBUTES_BYTES_MAX, EVENT_BODY_BYTES_MAX, EVENT_BYTES_MAX, TOPIC_BYTES_MAX};

/// Bytes before the topic.
pub(super) const EVENT_FIXED_BYTES: usize = 32;
/// Smallest encoded event: a topic of one byte, no attributes, no body.
pub const EVENT_BYTES_MIN: usize = pad8(EVENT_FIXED_BYTES + 1);
/// Where the producer's slot lies in an encoded event.
pub(super) const PRODUCER_SLOT_AT: usize = 24;

/// The fixed part as it lies in memory, on disks and on wires.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEvent {
    event_bytes: U32,
    body_bytes: U32,
    sequence: U64,
    timestamp_unix_ns: U64,
    producer_slot: U16,
    attributes_bytes: U16,
    topic_bytes: u8,
    priority: u8,
    flags: U16,
}

const _: () = assert!(size_of::<RawEvent>() == EVENT_FIXED_BYTES);
const _: () = assert!(std::mem::offset_of!(RawEvent, producer_slot) == PRODUCER_SLOT_AT);
const _: () = assert!(ATTRIBUTES_BYTES_MAX <= u16::MAX as usize && TOPIC_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(
    pad8(EVENT_FIXED_BYTES + TOPIC_BYTES_MAX + ATTRIBUTES_BYTES_MAX + EVENT_BODY_BYTES_MAX)
        <= EVENT_BYTES_MAX,
    "an event with everything at its limit is a legal event"
);

/// A decoded event, borrowed from its encoded bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventView<'a> {
    /// Which of the batch's producers wrote it. In a publish frame zero, and of no meaning.
    pub producer_slot: u16,
    /// The producer's own number for it, from 1.
    pub sequence: Sequence,
    /// The producer's wall clock, nanoseconds since 1970. Only shown.
    pub timestamp_unix_ns: u64,
    /// The producer's word on urgency, handed through.
    pub priority: u8,
    /// The topic, valid by `validate_topic`.
    pub topic: &'a str,
    /// The attributes.
    pub attributes: AttributesView<'a>,
    /// The body: 0 bytes to 1 MiB.
    pub body: &'a [u8],
    /// The whole encoded event, padding included.
    pub encoded: &'a [u8],
}

/// What a producer says of an event that is to be encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventParts<'a> {
    /// The producer's own number for it, from 1.
    pub sequence: Sequence,
    /// The producer's wall clock, nanoseconds since 1970.
    pub timestamp_unix_ns: u64,
    /// The producer's word on urgency.
    pub priority: u8,
    /// The topic; see `validate_topic`.
    pub topic: &'a str,
    /// Names and values in the producer's order; names may repeat. At most 64, together at most 32 KiB encoded.
    pub attributes: &'a [(&'a str, &'a [u8])],
    /// 0 bytes to 1 MiB.
    pub body: &'a [u8],
}

/// Size of `event` once encoded; checks everything that [`encode_event`] checks.
///
/// # Errors
/// A topic, attribute, sequence or size that is not allowed.
pub fn encoded_event_bytes(event: &EventParts<'_>) -> Result<usize, EntryError> {
    check_sequence(event.sequence)?;
    validate_topic(event.topic)?;
    if event.body.len() > EVENT_BODY_BYTES_MAX {
        let bytes = event.body.len();
        return Err(EntryError::TooLarge { what: "an event's body", bytes, limit: EVENT_BODY_BYTES_MAX });
    }
    let attributes = attributes_bytes(event.attributes)?;
    Ok(pad8(EVENT_FIXED_BYTES + event.topic.len() + attributes + event.body.len()))
}

/// Appends the encoded event to `out`, with producer slot zero. On an error `out` is as it was.
///
/// # Errors
/// Those of [`encoded_event_bytes`].
pub fn encode_event(out: &mut Vec<u8>, event: &EventParts<'_>) -> Result<(), EntryError> {
    let event_bytes = encoded_event_bytes(event)?;
    let attributes_bytes = attributes_bytes(event.attributes)?;
    let start = out.len();
    out.reserve(event_bytes);
    // All casts below are of lengths that were just checked against limits which fit the fields.
    let raw = RawEvent {
        event_bytes: U32::new(event_bytes as u32),
        body_bytes: U32::new(event.body.len() as u32),
        sequence: U64::new(event.sequence.0),
        timestamp_unix_ns: U64::new(event.timestamp_unix_ns),
        producer_slot: U16::ZERO,
        attributes_bytes: U16::new(attributes_bytes as u16),
        topic_bytes: event.topic.len() as u8,
        priority: event.priority,
        flags: U16::ZERO,
    };
    out.extend_from_slice(raw.as_bytes());
    out.extend_from_slice(event.topic.as_bytes());
    encode_attributes(out, event.attributes);
    out.extend_from_slice(event.body);
    out.resize(start + event_bytes, 0);
    Ok(())
}

/// Reads the event at the start of `bytes`; gives it and the bytes that it takes. Everything is checked: sizes,
/// padding, sequence, topic, attributes.
///
/// # Errors
/// [`EntryError::Truncated`] where the event does not end within `bytes`; else the rule that is broken.
pub fn parse_event(bytes: &[u8]) -> Result<(EventView<'_>, usize), EntryError> {
    let Ok((raw, _)) = RawEvent::ref_from_prefix(bytes) else {
        return Err(EntryError::Truncated { needed: EVENT_FIXED_BYTES, left: bytes.len() });
    };
    let event_bytes = raw.event_bytes.get() as usize;
    if event_bytes > EVENT_BYTES_MAX {
        return Err(EntryError::TooLarge { what: "an event", bytes: event_bytes, limit: EVENT_BYTES_MAX });
    }
    let body_bytes = raw.body_bytes.get() as usize;
    if body_bytes > EVENT_BODY_BYTES_MAX {
        let limit = EVENT_BODY_BYTES_MAX;
        return Err(EntryError::TooLarge { what: "an event's body", bytes: body_bytes, limit });
    }
    let used = raw.used_bytes();
    if event_bytes != pad8(used) {
        return Err(EntryError::Malformed("the sizes of an event contradict each other"));
    }
    let Some(encoded) = bytes.get(..event_bytes) else {
        return Err(EntryError::Truncated { needed: event_bytes, left: bytes.len() });
    };
    if encoded[used..].iter().any(|&byte| byte != 0) {
        return Err(EntryError::Malformed("the padding of an event is not zero"));
    }
    if raw.flags.get() != 0 {
        return Err(EntryError::Malformed("the flags of an event are not zero"));
    }
    check_sequence(Sequence(raw.sequence.get()))?;
    let topic_end = EVENT_FIXED_BYTES + usize::from(raw.topic_bytes);
    decode_topic(&encoded[EVENT_FIXED_BYTES..topic_end])?;
    AttributesView::parse(&encoded[topic_end..used - body_bytes])
        .map_err(|error| error.inside("an attribute goes past the end of its event's attributes"))?;
    Ok((raw.split(encoded), event_bytes))
}

/// The event at the start of `bytes`, which [`parse_event`] accepted before; and what follows it. None at the end.
pub(super) fn next_checked(bytes: &[u8]) -> Option<(EventView<'_>, &[u8])> {
    let (raw, _) = RawEvent::ref_from_prefix(bytes).ok()?;
    let (encoded, rest) = bytes.split_at_checked(raw.event_bytes.get() as usize)?;
    Some((raw.split(encoded), rest))
}

/// The size that an encoded event claims in its first field, where the bytes can hold a fixed part at all.
pub(super) fn claimed_bytes(bytes: &[u8]) -> Option<usize> {
    let (raw, _) = RawEvent::ref_from_prefix(bytes).ok()?;
    Some(raw.event_bytes.get() as usize)
}

fn check_sequence(sequence: Sequence) -> Result<(), EntryError> {
    if (1..=COUNTER_MAX).contains(&sequence.0) { Ok(()) } else { Err(EntryError::OutOfRange("sequence")) }
}

impl RawEvent {
    /// Everything but the padding. Does not wrap: a 32-bit length plus small ones, on a 64-bit machine.
    fn used_bytes(&self) -> usize {
        EVENT_FIXED_BYTES
            + usize::from(self.topic_bytes)
            + usize::from(self.attributes_bytes.get())
            + self.body_bytes.get() as usize
    }

    /// Cuts a checked event into its parts.
    fn split<'a>(&self, encoded: &'a [u8]) -> EventView<'a> {
        let topic_end = EVENT_FIXED_BYTES + usize::from(self.topic_bytes);
        let attributes_end = topic_end + usize::from(self.attributes_bytes.get());
        let body_end = attributes_end + self.body_bytes.get() as usize;
        EventView {
            producer_slot: self.producer_slot.get(),
            sequence: Sequence(self.sequence.get()),
            timestamp_unix_ns: self.timestamp_unix_ns.get(),
            priority: self.priority,
            topic: checked_text(&encoded[EVENT_FIXED_BYTES..topic_end]),
            attributes: AttributesView::assume_checked(&encoded[topic_end..attributes_end]),
            body: &encoded[attributes_end..body_end],
            encoded,
        }
    }
}
