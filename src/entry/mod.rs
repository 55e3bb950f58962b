//! The bytes of entries, batches and events: layouts, encode, decode, chain.
//!
//! An *entry* is what Raft replicates. It is encoded once, by the leader; the same bytes lie in every node's log, cross
//! the wire and reach subscribers. All integers are little-endian, all parts start at multiples of eight bytes.
//! `docs/PROTOCOL.md` has the same layouts as tables, with dumps that a test decodes.
//!
//! ```text
//! entry
//!   0        80                      80+padded body    total_bytes
//!   ├─ header ┼─ body ─┬─ zero padding ┼─ trailer (16) ─┤
//!
//! header (80)                                          trailer (16)
//!   0  4 magic "TCE1"                                    0  8 chain
//!   4  1 version, 1                                      8  4 total_bytes, again
//!   5  1 kind                                           12  4 magic "TCE\0"
//!   6  2 flags, 0
//!   8  4 total_bytes                                   body of an events entry
//!  12  4 body_bytes (without padding)                    0  2 producer_count, 1 to 64
//!  16  8 term                                            2  2 reserved, 0
//!  24  8 index                                           4  4 events_bytes
//!  32  8 prev_chain                                      8  . events, back to back
//!  40  8 base_offset                              8+events  . producers, back to back
//!  48  8 log_time_ns
//!  56  8 timestamp_unix_ns                             producer (padded to 8)
//!  64  4 event_count                                     0  8 producer id
//!  68  2 group, 0                                        8  4 epoch
//!  70  2 reserved, 0                                    12  1 name_bytes
//!  72  4 body_crc: body and padding                     13  3 reserved, 0
//!  76  4 header_crc: bytes 0 to 75                      16  n name
//!
//! event (padded to 8)
//!   0  4 event_bytes, padding included                  24  2 producer_slot
//!   4  4 body_bytes                                     26  2 attributes_bytes
//!   8  8 sequence                                       28  1 topic_bytes
//!  16  8 timestamp_unix_ns                              29  1 priority
//!                                                       30  2 flags, 0
//!  32  topic, attributes, body, zero padding
//! ```
//!
//! The producers stand *behind* the events, because they become known while events arrive: each event's bytes are
//! copied once, to their final place. See [`BatchAccumulator`].
//!
//! **Chain.** `chain = fold64(fold64(fold64(prev_chain, term), index), header_crc << 32 | body_crc)`, with `fold64`
//! from `base::checksum`. It names the whole log up to an entry by one number, and tells a stale entry in a recycled
//! segment from the one that belongs there (rule 10). An entry carries no file position: segments differ between
//! nodes.
//!
//! **What covers which byte.** Header: its CRC32. Body and padding: the body's CRC32; padding must be zero besides.
//! Trailer: every field is compared with what the header gives. No byte of an entry can change unnoticed.
//!
//! **Decoders are total**: any bytes in, a value or an [`EntryError`] out; nothing is allocated but for a
//! configuration's seven members and name. Everything here is `Send + Sync` plain data; nothing blocks.

mod attributes;
mod batch;
mod configuration;
mod error;
mod event;
mod events;
mod header;
mod names;
mod open_producer;
mod owned;
mod probe;
mod seal;
mod trim;
mod view;

pub use attributes::{Attributes, AttributesView};
pub use batch::{BatchAccumulator, BatchLimits};
pub use configuration::{Configuration, Durability, Member};
pub use error::EntryError;
pub use event::{EVENT_BYTES_MIN, EventParts, EventView, encode_event, encoded_event_bytes, parse_event};
pub use events::{Events, EventsView, ProducerRef, ProducersView};
pub use header::{
    ENTRY_BYTES_MIN, ENTRY_MAGIC, ENTRY_VERSION, EntryHeader, EntryKind, TRAILER_BYTES, TRAILER_MAGIC,
    chain64,
};
pub use names::{validate_producer_name, validate_topic};
pub use open_producer::OpenProducer;
pub use owned::Entry;
pub use probe::{Probe, probe};
pub use seal::{SealContext, encode_configuration, encode_noop, encode_open_producer, encode_trim};
pub use trim::{LogBase, LogFloor};
pub use view::EntryView;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_batch;
#[cfg(test)]
mod tests_damage;
#[cfg(test)]
mod tests_properties;
