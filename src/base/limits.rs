//! Every compile-time bound in one place, with the relations between them asserted at compile time (rule 15).
//!
//! `event < batch < frame < segment / 4`: an event always fits a batch, a batch a frame, and four frames a segment,
//! so that no legal event can ever meet a container that cannot take it.

/// Largest body of one event.
pub const EVENT_BODY_BYTES_MAX: usize = 1 << 20;
/// Longest topic name.
pub const TOPIC_BYTES_MAX: usize = 255;
/// Longest producer name.
pub const PRODUCER_NAME_BYTES_MAX: usize = 255;
/// All attributes of one event together, encoded.
pub const ATTRIBUTES_BYTES_MAX: usize = 32 << 10;
/// Largest encoded event: body, topic, attributes, fixed part and padding.
pub const EVENT_BYTES_MAX: usize = EVENT_BODY_BYTES_MAX + ATTRIBUTES_BYTES_MAX + 1024;
/// Most events in one batch (Raft entry).
pub const BATCH_EVENTS_MAX: usize = 64;
/// Largest encoded entry, header and trailer included. Leaves room for a producer section of 64 long names.
pub const ENTRY_BYTES_MAX: usize = EVENT_BYTES_MAX + (64 << 10);
/// Largest frame on the wire, length field included.
pub const FRAME_BYTES_MAX: usize = ENTRY_BYTES_MAX + (128 << 10);
/// Smallest segment that a configuration may ask for.
pub const SEGMENT_BYTES_MIN: u64 = 8 << 20;
/// Largest segment (positions fit in 32 bits).
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// Most nodes in a cluster, learners included.
pub const NODES_MAX: usize = 7;
/// Most attributes of one event.
pub const ATTRIBUTES_COUNT_MAX: usize = 64;
/// Recent runs (sequences to offsets) remembered for each producer.
pub const PRODUCER_RUNS_MAX: usize = 32;

const _: () = assert!(EVENT_BYTES_MAX < ENTRY_BYTES_MAX, "an event fits a batch");
const _: () = assert!(
    BATCH_EVENTS_MAX * (PRODUCER_NAME_BYTES_MAX + 32) + 4096 < ENTRY_BYTES_MAX - EVENT_BYTES_MAX,
    "a batch of 64 producers fits beside one largest event"
);
const _: () = assert!(ENTRY_BYTES_MAX < FRAME_BYTES_MAX, "a batch fits a frame");
const _: () =
    assert!((FRAME_BYTES_MAX as u64) < SEGMENT_BYTES_MIN / 4, "a frame fits a quarter of a segment");
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64, "positions in a segment fit 32 bits");
