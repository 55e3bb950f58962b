//! What lies at a position of a segment: the question that recovery asks.

use super::error::EntryError;
use super::header::EntryHeader;
use super::view::EntryView;

/// The answer of [`probe`]. Recovery's decision table is built on these rows (rule 11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe<'a> {
    /// The first eight bytes (or all, where fewer are left) are zero: nothing was written here; the log's end.
    Zero,
    /// A whole, undamaged entry. Whether it belongs *here* is for the caller to judge by index and previous chain: in
    /// a recycled segment it may be a stale one.
    Whole(EntryView<'a>),
    /// A valid header whose entry goes on past the end of the input. Give more bytes, or, where there are none, treat
    /// it as [`Probe::DamagedBody`].
    Partial(EntryHeader),
    /// A valid header, but body, padding or trailer do not match it: a torn write or rot. The header is proof that an
    /// entry was there (the claimed tail).
    DamagedBody(EntryHeader, EntryError),
    /// Neither zero nor a valid header. Also what is left where fewer than [`EntryHeader::BYTES`] bytes are given.
    DamagedHeader(EntryError),
    /// An undamaged header of a version, kind, flag or group that this build does not know. Not damage: nothing may
    /// be cut or touched, the node halts and says so (rule 16).
    Unsupported(EntryError),
}

/// Says what lies at the start of `bytes`, which is given from some position of a segment up to its end, or at least
/// [`EntryHeader::BYTES`] bytes of that. Total, allocates nothing, reads no further than the one entry.
#[must_use]
pub fn probe(bytes: &[u8]) -> Probe<'_> {
    if bytes.iter().take(8).all(|&byte| byte == 0) {
        return Probe::Zero;
    }
    let header = match EntryHeader::decode(bytes) {
        Ok(header) => header,
        Err(error) if error.is_unsupported() => return Probe::Unsupported(error),
        Err(error) => return Probe::DamagedHeader(error),
    };
    if bytes.len() < header.total_bytes as usize {
        return Probe::Partial(header);
    }
    match EntryView::parse_behind(header, bytes) {
        Ok((view, _)) => Probe::Whole(view),
        Err(error) => Probe::DamagedBody(header, error),
    }
}
