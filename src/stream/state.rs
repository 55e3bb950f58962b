//! The committed producers' table as bytes, for checkpoints. Little-endian; one encoding for one state.
//!
//! ```text
//! offset size field
//!      0    8 index of the last applied entry
//!      8    8 next_offset
//!     16    8 log_time_ns
//!     24    8 expiry_floor_ns
//!     32    8 window_ns
//!     40    4 producers_max
//!     44    4 producer_count
//!     48      producers, ascending by id
//!
//! producer
//!      0    8 id
//!      8    4 epoch
//!     12    1 name_bytes, 1 to 255
//!     13    1 run_count, at most 32
//!     14    2 zero
//!     16    8 next_sequence
//!     24    8 last_active_ns
//!     32    n name, UTF-8
//!        24 r runs, oldest first: first_sequence u64, first_offset u64, count u64
//! ```

use thiserror::Error;

use super::marks::Marks;
use super::overlay::Overlay;
use super::producers::Producers;
use super::runs::{Run, Runs};
use super::table::Table;
use crate::base::bytes::{ByteReader, ByteWriter, ShortInput};
use crate::base::ids::{COUNTER_MAX, Epoch, LogIndex, Offset, ProducerId, Sequence};
use crate::base::limits::PRODUCER_RUNS_MAX;
use crate::entry::validate_producer_name;

const PRODUCER_FIXED_BYTES: usize = 32;

/// Bytes that are no producers' table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum StateError {
    /// They end early.
    #[error("the producers' table ends early")]
    Short,
    /// A rule of the table is broken.
    #[error("the producers' table is malformed: {0}")]
    Malformed(&'static str),
}

impl From<ShortInput> for StateError {
    fn from(_: ShortInput) -> Self {
        Self::Short
    }
}

impl Producers {
    /// Appends the committed table. The overlay is no part of it.
    pub fn encode_state(&self, out: &mut Vec<u8>) {
        let marks = &self.table().marks;
        out.put_u64(marks.index.0);
        out.put_u64(marks.next_offset.0);
        out.put_u64(marks.log_time_ns);
        out.put_u64(marks.expiry_floor_ns);
        out.put_u64(marks.window_ns);
        out.put_u32(marks.producers_max);
        out.put_u32(u32::try_from(self.table().len()).expect("a cluster's limit of producers fits 32 bits"));
        for (id, producer) in self.table().iter() {
            out.put_u64(id.0);
            out.put_u32(producer.epoch.0);
            out.put_u8(producer.name.len() as u8);
            out.put_u8(producer.runs.len() as u8);
            out.put(&[0; 2]);
            out.put_u64(producer.next_sequence.0);
            out.put_u64(producer.last_active_ns);
            out.put(producer.name.as_bytes());
            for run in producer.runs.iter() {
                out.put_u64(run.first_sequence.0);
                out.put_u64(run.first_offset.0);
                out.put_u64(run.count);
            }
        }
    }

    /// Reads a table that [`Producers::encode_state`] wrote. Total: allocates at most a small multiple of the bytes.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn decode_state(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = ByteReader::new(bytes);
        let marks = Marks {
            index: LogIndex(counter(&mut reader)?),
            next_offset: Offset(counter(&mut reader)?),
            log_time_ns: counter(&mut reader)?,
            expiry_floor_ns: counter(&mut reader)?,
            window_ns: reader.u64()?,
            producers_max: reader.u32()?,
        };
        if marks.next_offset == Offset::ZERO {
            return Err(StateError::Malformed("offsets count from 1"));
        }
        let count = reader.u32()?;
        let mut table = Table::with_marks(marks);
        let mut last_id = ProducerId(0);
        for _ in 0..count {
            let id = decode_producer(&mut reader, &mut table)?;
            if id <= last_id {
                return Err(StateError::Malformed("producers are not in the order of their ids"));
            }
            last_id = id;
        }
        if reader.left() > 0 {
            return Err(StateError::Malformed("bytes follow the last producer"));
        }
        Ok(Self::from_parts(table, Overlay::default()))
    }
}

fn counter(reader: &mut ByteReader<'_>) -> Result<u64, StateError> {
    match reader.u64()? {
        value if value <= COUNTER_MAX => Ok(value),
        _ => Err(StateError::Malformed("a counter is out of range")),
    }
}

fn decode_producer(reader: &mut ByteReader<'_>, table: &mut Table) -> Result<ProducerId, StateError> {
    if reader.left() < PRODUCER_FIXED_BYTES {
        return Err(StateError::Short);
    }
    let id = ProducerId(counter(reader)?);
    let epoch = Epoch(reader.u32()?);
    let name_bytes = usize::from(reader.u8()?);
    let run_count = usize::from(reader.u8()?);
    if reader.array::<2>()? != [0; 2] || run_count > PRODUCER_RUNS_MAX {
        return Err(StateError::Malformed("a producer's fixed part"));
    }
    let next_sequence = Sequence(counter(reader)?);
    let last_active_ns = counter(reader)?;
    let name = std::str::from_utf8(reader.take(name_bytes)?).ok();
    let name = name.filter(|name| validate_producer_name(name).is_ok());
    let name = name.ok_or(StateError::Malformed("a producer's name"))?;
    let runs = decode_runs(reader, run_count, next_sequence, table.marks.next_offset)?;
    let known = id.0 <= table.marks.index.0 && epoch.0 > 0 && last_active_ns <= table.marks.log_time_ns;
    if !known || !table.restore(id, name, (epoch, next_sequence, last_active_ns), runs) {
        return Err(StateError::Malformed("a producer that this log cannot have"));
    }
    Ok(id)
}

/// Runs whose sequences are contiguous and end before `next_sequence`, at ascending offsets before `next_offset`; two
/// that continue each other in both would be one.
fn decode_runs(
    reader: &mut ByteReader<'_>,
    count: usize,
    next_sequence: Sequence,
    next_offset: Offset,
) -> Result<Runs, StateError> {
    const BAD: StateError = StateError::Malformed("a producer's runs");
    let mut runs = Runs::default();
    let (mut sequence, mut offset) = (None, Offset::ZERO);
    for _ in 0..count {
        let run = Run {
            first_sequence: Sequence(counter(reader)?),
            first_offset: Offset(counter(reader)?),
            count: counter(reader)?,
        };
        let follows = sequence.is_none_or(|next| next == run.first_sequence) && run.first_offset > offset;
        if !follows || run.count == 0 || run.first_sequence == Sequence::ZERO {
            return Err(BAD);
        }
        let end = (run.first_sequence.0 + run.count, run.first_offset.0.saturating_add(run.count));
        if end.0 > next_sequence.0 || end.1 > next_offset.0 {
            return Err(BAD);
        }
        sequence = Some(Sequence(end.0));
        // The offset directly behind would have continued the run.
        offset = Offset(end.1);
        runs.push(run);
    }
    let ends_right = match sequence {
        Some(end) => end == next_sequence,
        None => next_sequence == Sequence(1),
    };
    if ends_right && runs.len() == count { Ok(runs) } else { Err(BAD) }
}
