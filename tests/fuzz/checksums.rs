//! Making lengths, checksums and links right, so that mutations reach what stands behind them.

use tercet::base::checksum::{crc32, crc32_of};
use tercet::base::ids::{LogIndex, Term};
use tercet::entry::{ENTRY_BYTES_MIN, EntryHeader, TRAILER_BYTES, TRAILER_MAGIC, chain64};
use tercet::protocol::frame::FRAME_HEADER_BYTES;

/// How much of an input is made right before it is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Nothing.
    Raw,
    /// Lengths and checksums.
    Summed,
    /// Those, and index, offset and previous chain of every entry but the first.
    Linked,
}

pub const FORMS: [Form; 3] = [Form::Raw, Form::Summed, Form::Linked];

/// The little-endian `u32` at `at`.
pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The little-endian `u64` at `at`, zero where the bytes end before.
pub fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

/// Puts the CRC32 of everything before `at` at `at`.
pub fn sum(bytes: &mut [u8], at: usize) {
    let crc = crc32(&bytes[..at]).to_le_bytes();
    bytes[at..at + 4].copy_from_slice(&crc);
}

/// A frame of exactly these bytes: its length, a fixed part that fits, entries in its tail by `form`, its checksum.
pub fn frame(bytes: &mut Vec<u8>, form: Form) {
    if form == Form::Raw {
        return;
    }
    bytes.resize(bytes.len().max(FRAME_HEADER_BYTES), 0);
    let len = bytes.len();
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    let fixed = (word(bytes, 8) as usize).min(len - FRAME_HEADER_BYTES);
    bytes[8..12].copy_from_slice(&(fixed as u32).to_le_bytes());
    entries(&mut bytes[FRAME_HEADER_BYTES + fixed..], form);
    let crc = crc32_of(&[&bytes[..12], &[0; 4], &bytes[16..FRAME_HEADER_BYTES + fixed]]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// The frames of a stream, as far as their lengths lead from one to the next: lengths stay, checksums are made right.
pub fn stream(bytes: &mut [u8]) {
    let mut at = 0;
    while bytes.len() - at >= FRAME_HEADER_BYTES {
        let (len, fixed) = (word(bytes, at) as usize, word(bytes, at + 8) as usize);
        let Some(frame) = len.checked_add(at).and_then(|end| bytes.get_mut(at..end)) else { return };
        if len < FRAME_HEADER_BYTES || fixed > len - FRAME_HEADER_BYTES {
            return;
        }
        let crc = crc32_of(&[&frame[..12], &[0; 4], &frame[16..FRAME_HEADER_BYTES + fixed]]);
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
        at += len;
    }
}

/// Entries back to back, as far as their lengths lead from one to the next.
pub fn entries(bytes: &mut [u8], form: Form) {
    let mut before: Option<(u64, u64, u64)> = None;
    let mut at = 0;
    while form != Form::Raw && bytes.len() - at >= EntryHeader::BYTES {
        let rest = &mut bytes[at..];
        if rest[..8] == [0; 8] {
            return;
        }
        let (total, body) = (word(rest, 8) as usize, word(rest, 12) as usize);
        let body_end = EntryHeader::BYTES + body.next_multiple_of(8);
        let whole = total >= ENTRY_BYTES_MIN && total <= rest.len() && body_end + TRAILER_BYTES == total;
        if whole {
            let crc = crc32(&rest[EntryHeader::BYTES..body_end]).to_le_bytes();
            rest[72..76].copy_from_slice(&crc);
        }
        if let Some((index, offset, chain)) = before.filter(|_| form == Form::Linked) {
            rest[24..32].copy_from_slice(&index.to_le_bytes());
            rest[32..40].copy_from_slice(&chain.to_le_bytes());
            rest[40..48].copy_from_slice(&offset.to_le_bytes());
        }
        sum(rest, 76);
        if !whole {
            return;
        }
        let (term, index) = (Term(long(rest, 16)), LogIndex(long(rest, 24)));
        let chain = chain64(long(rest, 32), term, index, word(rest, 76), word(rest, 72));
        rest[body_end..body_end + 8].copy_from_slice(&chain.to_le_bytes());
        rest[body_end + 8..body_end + 12].copy_from_slice(&(total as u32).to_le_bytes());
        rest[body_end + 12..total].copy_from_slice(&TRAILER_MAGIC.to_le_bytes());
        let offset = long(rest, 40).wrapping_add(u64::from(word(rest, 64)));
        before = Some((index.0.wrapping_add(1), offset, chain));
        at += total;
    }
}
