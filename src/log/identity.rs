//! Who a data directory belongs to (rule 13), and its formatting.
//!
//! `identity`, 64 bytes: magic "TERCIDN\0", version u32, node id u16, zero u16, cluster id u128, incarnation u128,
//! zeros, CRC32 of bytes 0..60. It is written last, so its presence means that formatting was finished.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use zerocopy::little_endian::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::LogOptions;
use super::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use super::hard_state::{HardStateFile, StoredHardState};
use super::layout::{
    ENTRIES_POSITION, HARD_STATE_NAME, IDENTITY_NAME, LOCK_NAME, SegmentHeader, Slot, encode_head, group_dir,
    segment_name,
};
use super::prepare::fill_with_zeros;
use crate::base::checksum::crc32;
use crate::base::ids::{ClusterId, Incarnation, LogIndex, NodeId, Offset, Term};
use crate::entry::Entry;

/// The only version of the data directory's format so far.
pub const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"TERCIDN\0";
const IDENTITY_BYTES: usize = 64;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawIdentity {
    magic: [u8; 8],
    version: U32,
    node_id: U16,
    zero: U16,
    cluster_id: U128,
    incarnation: U128,
    zeros: [u8; 12],
    crc: U32,
}

const _: () = assert!(size_of::<RawIdentity>() == IDENTITY_BYTES);

/// Who a data directory belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The node.
    pub node_id: NodeId,
    /// This formatting of the node; random.
    pub incarnation: Incarnation,
}

/// Why a directory has no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No identity file.
    #[error("{} is not formatted; run `tercet format` first", dir.display())]
    NotFormatted {
        /// The data directory.
        dir: PathBuf,
    },
    /// Formatted by a build that knows more than this one.
    #[error("{} has format version {version}; this build knows {FORMAT_VERSION}", file.display())]
    UnknownVersion {
        /// The identity file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The identity file is damaged.
    #[error("{} is damaged", file.display())]
    Corrupt {
        /// The identity file.
        file: PathBuf,
    },
    /// It could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Identity {
    fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut raw = RawIdentity {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            node_id: U16::new(self.node_id.0),
            zero: U16::ZERO,
            cluster_id: U128::new(self.cluster_id.0),
            incarnation: U128::new(self.incarnation.0),
            zeros: [0; 12],
            crc: U32::ZERO,
        };
        raw.crc = U32::new(crc32(&raw.as_bytes()[..IDENTITY_BYTES - 4]));
        zerocopy::transmute!(raw)
    }

    fn decode(bytes: &[u8], file: &Path) -> Result<Self, IdentityError> {
        let corrupt = || IdentityError::Corrupt { file: file.to_owned() };
        let raw = RawIdentity::ref_from_bytes(bytes).map_err(|_| corrupt())?;
        if raw.magic != MAGIC {
            return Err(corrupt());
        }
        // First: a version number that rotted is damage, and no newer build's. Later versions keep the CRC there.
        if raw.crc.get() != crc32(&bytes[..IDENTITY_BYTES - 4]) {
            return Err(corrupt());
        }
        if raw.version.get() != FORMAT_VERSION {
            return Err(IdentityError::UnknownVersion { file: file.to_owned(), version: raw.version.get() });
        }
        if raw.zero.get() != 0 || raw.zeros != [0; 12] {
            return Err(corrupt());
        }
        let node_id = NodeId::from_wire(raw.node_id.get()).ok_or_else(corrupt)?;
        let (cluster_id, incarnation) = (ClusterId(raw.cluster_id.get()), Incarnation(raw.incarnation.get()));
        Ok(Self { cluster_id, node_id, incarnation })
    }

    /// Reads the identity of a data directory.
    ///
    /// # Errors
    /// The directory is not formatted, of an unknown version, damaged or unreadable.
    pub fn read<D: Disk>(disk: &D, data_dir: &Path) -> Result<Self, IdentityError> {
        let file = data_dir.join(IDENTITY_NAME);
        match disk.read_file(&file, 4096) {
            Ok(bytes) => Self::decode(&bytes, &file),
            Err(error) if error.kind() == DiskErrorKind::NotFound => {
                Err(IdentityError::NotFormatted { dir: data_dir.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Why a directory was not formatted.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Something is in it.
    #[error("{} is not empty: it holds {}; name a new or empty directory", dir.display(), names.join(", "))]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// Some of what it holds.
        names: Vec<String>,
    },
    /// The first entry is not one that a log can start with.
    #[error("the first entry must have index 1, offset 1 and no previous chain")]
    FirstEntry,
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Formats a new or empty data directory: the log with `first_entry` (the configuration, index 1, the same bytes on
/// every node of the cluster), an empty hard state, and last the identity. All of it is durable on return.
///
/// # Errors
/// The directory holds anything at all, the entry cannot be a first one, or the disk fails; what was written by then
/// stays and makes the directory unusable until it is emptied.
pub fn format<D: Disk>(
    disk: &D,
    data_dir: &Path,
    identity: Identity,
    first_entry: &Entry,
    options: &LogOptions,
) -> Result<(), FormatError> {
    let header = first_entry.header();
    if header.index != LogIndex(1) || header.base_offset != Offset(1) || header.prev_chain != 0 {
        return Err(FormatError::FirstEntry);
    }
    disk.create_dir_all(data_dir)?;
    let mut names = disk.list(data_dir)?;
    if !names.is_empty() {
        names.truncate(5);
        return Err(FormatError::NotEmpty { dir: data_dir.to_owned(), names });
    }
    let _lock = disk.lock(&data_dir.join(LOCK_NAME), true)?;
    let group_dir = group_dir(data_dir, options.group());
    disk.create_dir_all(&group_dir)?;
    write_first_segment(disk, &group_dir, identity, first_entry, options)?;
    HardStateFile::create(
        disk,
        &data_dir.join(HARD_STATE_NAME),
        &StoredHardState { closed: true, ..StoredHardState::default() },
    )?;
    // Also makes the group's directory, the lock and the hard state durable names.
    disk.write_file_atomic(&data_dir.join(IDENTITY_NAME), &identity.encode())?;
    if let Some(parent) = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent)?;
    }
    Ok(())
}

fn write_first_segment<D: Disk>(
    disk: &D,
    group_dir: &Path,
    identity: Identity,
    first_entry: &Entry,
    options: &LogOptions,
) -> Result<(), DiskError> {
    let header = SegmentHeader {
        cluster_id: identity.cluster_id,
        group: options.group(),
        seq: 1,
        generation: 0,
        base_index: LogIndex(1),
        base_offset: Offset(1),
        base_chain: 0,
        base_term: Term::ZERO,
        recycled: false,
        segment_bytes: options.segment_bytes(),
    };
    let end_position = ENTRIES_POSITION + first_entry.len_bytes() as u64;
    let slot = Slot {
        flushed_index: LogIndex(1),
        end_position,
        chain: first_entry.chain(),
        clean: true,
        ..Slot::fresh(&header, LogIndex::ZERO)
    };
    let file = disk.create(&group_dir.join(segment_name(1)), options.segment_bytes())?;
    let head = encode_head(&header, &slot);
    file.write_at(&[IoSlice::new(&head), IoSlice::new(first_entry.bytes())], 0)?;
    // As every later segment: where blocks were never written, each sync waits for a commit of the file system's journal,
    // and so for whatever else is written on the machine.
    fill_with_zeros(&file, end_position, options.segment_bytes())?;
    file.sync_data()?;
    disk.sync_dir(group_dir)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{IDENTITY_BYTES, Identity, IdentityError};
    use crate::base::checksum::crc32;
    use crate::base::ids::{ClusterId, Incarnation, NodeId};

    #[test]
    fn one_identity_has_one_encoding() {
        let identity = Identity { cluster_id: ClusterId(7), node_id: NodeId(1), incarnation: Incarnation(9) };
        let read = |bytes: &[u8]| Identity::decode(bytes, Path::new("identity"));
        let bytes = identity.encode();
        assert_eq!(read(&bytes).unwrap(), identity);
        for at in [14, 15, 48, 59] {
            let mut bytes = bytes;
            bytes[at] = 1;
            let crc = crc32(&bytes[..IDENTITY_BYTES - 4]).to_le_bytes();
            bytes[IDENTITY_BYTES - 4..].copy_from_slice(&crc);
            assert!(matches!(read(&bytes), Err(IdentityError::Corrupt { .. })), "reserved byte {at}");
        }
        for bytes in [&bytes[..IDENTITY_BYTES - 1], &[&bytes[..], &[0]].concat()] {
            assert!(matches!(read(bytes), Err(IdentityError::Corrupt { .. })), "{} bytes", bytes.len());
        }
    }
}
