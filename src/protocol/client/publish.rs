//! Publishing: opened producers, events, acknowledgements, refusals.

use crate::base::bytes::{ByteReader, ByteWriter};
use crate::base::ids::{COUNTER_MAX, Epoch, Offset, ProducerId, Sequence};
use crate::entry::{self, Durability, EntryError, EventView};

use super::super::frame::{Fields, ProtocolError, TEXT_BYTES_MAX, put_text_clipped, wire_enum};
use super::list::{List, WireItem};
use super::{ACK_RUNS_MAX, PUBLISH_EVENTS_MAX};

/// The answer to opening a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerOpened {
    /// Of the request.
    pub request_id: u64,
    /// The producer, the same for a name for as long as it is remembered.
    pub producer_id: ProducerId,
    /// Goes with every publish; older epochs are fenced from here on.
    pub epoch: Epoch,
    /// The sequence that the log expects next: 1 for a new producer.
    pub next_sequence: Sequence,
}

/// Events of one producer, back to back, in the layout that they keep in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// As opened.
    pub producer_id: ProducerId,
    /// As opened.
    pub epoch: Epoch,
    /// How many events: 1 to [`PUBLISH_EVENTS_MAX`].
    pub event_count: u16,
    /// The events; `producer_slot` is zero in each.
    pub bytes: &'a [u8],
}

wire_enum! {
    /// What an acknowledged run is.
    AckKind {
        /// Written by this publish.
        Written = 1,
        /// Was in the log already, at these offsets.
        Duplicate = 2,
        /// Was in the log already; its offset is no longer remembered (offset 0).
        DuplicateOffsetUnknown = 3,
    }
}

/// A run of acknowledged events: sequences and offsets both count up by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckRun {
    /// Whose events.
    pub producer_id: ProducerId,
    /// Sequence of the first.
    pub first_sequence: Sequence,
    /// Offset of the first; zero exactly for [`AckKind::DuplicateOffsetUnknown`].
    pub first_offset: Offset,
    /// How many; at least one.
    pub count: u32,
    /// New or known before.
    pub kind: AckKind,
}

/// Events are committed. Runs come in the order of commit; one frame may cover several publishes, or part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishAck<'a> {
    /// The durability that a quorum has reached for these events.
    pub durability: Durability,
    /// What is acknowledged; at most [`ACK_RUNS_MAX`] runs.
    pub runs: List<'a, AckRun>,
}

/// Why events were refused. All of them: the events are not in the log and will not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishErrorCode {
    /// The sequence is not the next one: an earlier event is missing. Go on from `expected`.
    SequenceGap {
        /// The next sequence that will be taken.
        expected: Sequence,
    },
    /// Somebody opened this producer again; stop.
    Fenced {
        /// The epoch that holds now.
        epoch: Epoch,
    },
    /// The identity expired, or its opening was lost with a leader: open again. Events whose fate is unknown may be
    /// in the log; after an expiry a retry is not told from a new event.
    UnknownProducer,
    /// The event is larger than the node takes.
    EventTooLarge {
        /// Largest encoded event.
        limit_bytes: u32,
    },
    /// An event's bytes break the layout.
    Malformed,
    /// The node's storage failed or is full: it promises nothing now.
    NotDurable,
    /// More in flight than the credits allow.
    CreditExceeded,
    /// The cluster remembers as many producers as it may.
    TooManyProducers,
}

/// Events were refused, from `sequence` on; earlier ones of the same frame are answered apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishError<'a> {
    /// Whose events.
    pub producer_id: ProducerId,
    /// First refused sequence; zero where it could not be read.
    pub sequence: Sequence,
    /// How many events of the frame this answers (their credits come back): from `sequence` to the frame's end.
    pub count: u16,
    /// Why.
    pub code: PublishErrorCode,
    /// For people.
    pub text: &'a str,
}

impl ProducerOpened {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        out.put_u64(self.request_id);
        out.put_u64(self.producer_id.0);
        out.put_u32(self.epoch.0);
        out.put_u64(self.next_sequence.0);
    }

    pub(super) fn read(f: &mut Fields<'_>) -> Result<Self, ProtocolError> {
        Ok(Self {
            request_id: f.u64("request_id")?,
            producer_id: f.producer("producer_id")?,
            epoch: Epoch(f.u32("epoch")?),
            next_sequence: f.sequence("next_sequence")?,
        })
    }
}

impl<'a> Publish<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        let count = self.event_count as usize;
        assert!((1..=PUBLISH_EVENTS_MAX).contains(&count), "{count} events in a publish frame");
        out.put_u64(self.producer_id.0);
        out.put_u32(self.epoch.0);
        out.put_u16(self.event_count);
        out.put(self.bytes);
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        let producer_id = f.producer("producer_id")?;
        let epoch = Epoch(f.u32("epoch")?);
        let event_count = f.count("event_count", PUBLISH_EVENTS_MAX)? as u16;
        if event_count == 0 {
            return Err(f.bad("event_count", 0));
        }
        Ok(Self { producer_id, epoch, event_count, bytes: f.rest() })
    }

    /// Bytes of a publish frame before its events: header, producer, epoch, count.
    pub const OVERHEAD_BYTES: usize = super::super::frame::FRAME_HEADER_BYTES + 14;

    /// Reads the events one by one: exactly [`Publish::event_count`], filling the frame exactly. The iterator ends
    /// after an error.
    pub fn events(&self) -> impl Iterator<Item = Result<EventView<'a>, EventsError>> + 'a {
        let mut bytes = self.bytes;
        let mut left = self.event_count;
        std::iter::from_fn(move || {
            if left == 0 {
                let surplus = std::mem::take(&mut bytes).len();
                return (surplus > 0).then_some(Err(EventsError::Surplus { left: surplus }));
            }
            let parsed =
                entry::parse_event(bytes).map_err(EventsError::Event).and_then(|(event, consumed)| {
                    if event.producer_slot == 0 {
                        Ok((event, consumed))
                    } else {
                        Err(EventsError::ProducerSlot)
                    }
                });
            match parsed {
                Ok((event, consumed)) => {
                    bytes = &bytes[consumed..];
                    left -= 1;
                    Some(Ok(event))
                }
                Err(error) => {
                    (bytes, left) = (&[], 0);
                    Some(Err(error))
                }
            }
        })
    }
}

/// The events of a publish frame are not what its header says.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// An event's bytes break the layout.
    #[error("an event in a publish frame is malformed: {0}")]
    Event(#[source] EntryError),
    /// Bytes behind the last event.
    #[error("publish has {left} bytes behind its last event")]
    Surplus {
        /// How many.
        left: usize,
    },
    /// The producer's slot is the server's to fill.
    #[error("an event in a publish frame has a producer slot")]
    ProducerSlot,
}

impl WireItem for AckRun {
    const BYTES: usize = 29;

    fn put(&self, out: &mut dyn ByteWriter) {
        out.put_u64(self.producer_id.0);
        out.put_u64(self.first_sequence.0);
        out.put_u64(self.first_offset.0);
        out.put_u32(self.count);
        out.put_u8(self.kind.code());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(bytes);
        let mut counter = || reader.u64().ok().filter(|value| *value <= COUNTER_MAX);
        let (producer_id, first_sequence, first_offset) = (counter()?, counter()?, counter()?);
        let count = reader.u32().ok().filter(|count| *count > 0)?;
        let kind = AckKind::from_code(reader.u8().ok()?)?;
        let offset_known = kind != AckKind::DuplicateOffsetUnknown;
        (offset_known == (first_offset > 0)).then_some(Self {
            producer_id: ProducerId(producer_id),
            first_sequence: Sequence(first_sequence),
            first_offset: Offset(first_offset),
            count,
            kind,
        })
    }
}

impl<'a> PublishAck<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        out.put_u8(self.durability.code());
        self.runs.put(out, ACK_RUNS_MAX);
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(Self {
            durability: f.code("durability", Durability::from_code)?,
            runs: List::read(f, "runs", ACK_RUNS_MAX)?,
        })
    }
}

impl PublishErrorCode {
    /// The code on the wire and its detail (zero where it has none).
    const fn parts(self) -> (u8, u64) {
        match self {
            Self::SequenceGap { expected } => (1, expected.0),
            Self::Fenced { epoch } => (2, epoch.0 as u64),
            Self::UnknownProducer => (3, 0),
            Self::EventTooLarge { limit_bytes } => (4, limit_bytes as u64),
            Self::Malformed => (5, 0),
            Self::NotDurable => (6, 0),
            Self::CreditExceeded => (7, 0),
            Self::TooManyProducers => (8, 0),
        }
    }

    fn from_parts(code: u8, detail: u64) -> Option<Self> {
        let read = match code {
            1 => Self::SequenceGap { expected: Sequence(detail) },
            2 => Self::Fenced { epoch: Epoch(u32::try_from(detail).ok()?) },
            3 => Self::UnknownProducer,
            4 => Self::EventTooLarge { limit_bytes: u32::try_from(detail).ok()? },
            5 => Self::Malformed,
            6 => Self::NotDurable,
            7 => Self::CreditExceeded,
            8 => Self::TooManyProducers,
            _ => return None,
        };
        (read.parts() == (code, detail)).then_some(read)
    }
}

impl<'a> PublishError<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        let (code, detail) = self.code.parts();
        out.put_u64(self.producer_id.0);
        out.put_u64(self.sequence.0);
        out.put_u16(self.count);
        out.put_u8(code);
        out.put_u64(detail);
        put_text_clipped(out, self.text, TEXT_BYTES_MAX);
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(Self {
            producer_id: f.producer("producer_id")?,
            sequence: f.sequence("sequence")?,
            count: f.u16("count")?,
            code: {
                let code = f.u8("code")?;
                let detail = f.counter("detail")?;
                PublishErrorCode::from_parts(code, detail).ok_or_else(|| f.bad("code", u64::from(code)))?
            },
            text: f.text("text", TEXT_BYTES_MAX)?,
        })
    }
}
