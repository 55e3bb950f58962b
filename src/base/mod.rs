//! Floor 0: identifiers, limits, units, checksums, the seeded generator, and the traits behind which clock and
//! network stand, and what threads share. Everything may import this room; it imports nothing of ours.

pub mod bytes;
pub mod checksum;
pub mod clock;
pub mod ids;
pub mod limits;
pub mod net;
pub mod planted;
pub mod prng;
pub mod sync;
pub mod units;
