//! Work for quiet moments: the lone watermark, the hard state's copy, the next segment, files to unlink.
//!
//! A block's first write costs several times an overwrite (and on ext4 a journal write), so the next segment is
//! filled with zeros in bounded slices, each pushed towards the device at once, long before it is needed. A spare that
//! is only half filled serves all the same: its space is allocated.

use std::io::IoSlice;

use super::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use super::error::LogError;
use super::layout::SPARE_NAME;
use super::store::LogStore;
use crate::base::clock::{NS_PER_MS, NS_PER_S};

/// How long the log must be quiet before the watermark is flushed by itself.
pub const IDLE_WATERMARK_NS: u64 = 5 * NS_PER_MS;
/// How much of the next segment one slice fills.
pub const PREPARE_SLICE_BYTES: u64 = 256 << 10;
/// How long to wait before asking a full disk again.
const FULL_RETRY_NS: u64 = NS_PER_S;

const ZEROS_BYTES: usize = 64 << 10;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];
const ZEROS_COUNT: usize = PREPARE_SLICE_BYTES as usize / ZEROS_BYTES;

/// The next segment while it is being prepared; its name is `spare`.
#[derive(Debug)]
pub(super) struct Spare<F> {
    pub file: F,
    filled_bytes: u64,
    synced: bool,
    /// It held an older segment: nothing has to be filled.
    pub recycled: bool,
}

/// What [`LogStore::idle`] remembers between calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdleState {
    /// When the watermark was first seen behind, with what was flushed by then.
    behind_since: Option<(u64, u64)>,
    /// The disk was too full for the next segment, and when that was first seen by a call that knows the time.
    full: bool,
    full_since_ns: Option<u64>,
}

/// What one call of [`LogStore::idle`] did, and when to call again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdleWork {
    /// The watermark was written and synced.
    pub watermark_flushed: bool,
    /// More slices of the next segment wait: call again soon.
    pub preparing: bool,
    /// Files unlinked.
    pub unlinked: usize,
    /// Files wait until a reader lets go of them: call again.
    pub waiting_for_readers: bool,
    /// When the watermark will be due, if it is behind.
    pub deadline_ns: Option<u64>,
}

/// Writes one slice of zeros, at most [`PREPARE_SLICE_BYTES`], and has the device begin with it.
fn write_zeros<F: DiskFile>(file: &F, position: u64, len: u64) -> Result<(), DiskError> {
    let mut parts = [IoSlice::new(&ZEROS); ZEROS_COUNT];
    let mut left = len as usize;
    for part in &mut parts {
        let take = left.min(ZEROS_BYTES);
        *part = IoSlice::new(&ZEROS[..take]);
        left -= take;
    }
    file.write_at(&parts, position)?;
    file.start_writeback(position, len);
    Ok(())
}

/// Fills a file with zeros from here to its end, slice by slice.
pub(super) fn fill_with_zeros<F: DiskFile>(file: &F, from: u64, end: u64) -> Result<(), DiskError> {
    let mut position = from;
    while position < end {
        let slice = PREPARE_SLICE_BYTES.min(end - position);
        write_zeros(file, position, slice)?;
        position += slice;
    }
    Ok(())
}

impl<D: Disk> LogStore<D> {
    /// To be called when there is nothing to append: once the log has been quiet for [`IDLE_WATERMARK_NS`], writes the
    /// watermark (with the commit hint) and syncs it; prepares one slice of the next segment; unlinks what no reader
    /// holds. Waits for the disk.
    ///
    /// # Errors
    /// Final. A disk that is too full for the next segment is not an error here; it is asked again after a second.
    pub fn idle(&mut self, now_ns: u64) -> Result<IdleWork, LogError> {
        self.check()?;
        let copied = self.hard_state.sync_copy();
        copied.map_err(|error| self.fail_sync(error))?;
        self.pulse.beat();
        let mut work = IdleWork { watermark_flushed: self.idle_watermark(now_ns)?, ..IdleWork::default() };
        if self.idle.full {
            let since_ns = *self.idle.full_since_ns.get_or_insert(now_ns);
            if now_ns.saturating_sub(since_ns) >= FULL_RETRY_NS {
                (self.idle.full, self.idle.full_since_ns) = (false, None);
            }
        }
        work.preparing = self.prepare_slice()?;
        work.unlinked = self.unlink_free()?;
        work.waiting_for_readers = !self.doomed.is_empty();
        work.deadline_ns = self.idle.behind_since.map(|(since_ns, _)| since_ns + IDLE_WATERMARK_NS);
        Ok(work)
    }

    fn idle_watermark(&mut self, now_ns: u64) -> Result<bool, LogError> {
        if !self.slot_is_behind() {
            self.idle.behind_since = None;
            return Ok(false);
        }
        let flushed = self.flushed.id.index.get();
        match self.idle.behind_since {
            Some((since_ns, seen)) if seen == flushed => {
                if now_ns.saturating_sub(since_ns) < IDLE_WATERMARK_NS {
                    return Ok(false);
                }
            }
            // First seen behind, or there was a flush since: the quiet time starts now.
            Some(_) | None => {
                self.idle.behind_since = Some((now_ns, flushed));
                return Ok(false);
            }
        }
        self.write_slot(|slot| slot)?;
        self.sync_active()?;
        self.idle.behind_since = None;
        Ok(true)
    }

    /// Whether the next segment's preparation lags behind the filling of this one, so that a busy writer should do a
    /// slice between flushes.
    #[must_use]
    pub fn preparation_is_due(&self) -> bool {
        let room = self.active().segment.header().segment_bytes;
        let used = self.written.end_position;
        let ready = match &self.spare {
            Some(spare) if spare.synced => return false,
            Some(spare) => spare.filled_bytes,
            None => 0,
        };
        // Done when three quarters of this segment are used.
        !self.idle.full && ready.saturating_mul(3) < used.saturating_mul(4).min(room.saturating_mul(3))
    }

    /// Prepares one slice of the next segment; `true` when more is left to do.
    ///
    /// # Errors
    /// Final. A full disk only stops the preparation.
    pub fn prepare_slice(&mut self) -> Result<bool, LogError> {
        self.check()?;
        if self.idle.full {
            return Ok(false);
        }
        match self.prepare_step() {
            Ok(more) => Ok(more),
            Err(error) if error.kind() == DiskErrorKind::Full => {
                self.idle.full = true;
                Ok(false)
            }
            Err(error) => Err(self.fail_sync(error)),
        }
    }

    fn prepare_step(&mut self) -> Result<bool, DiskError> {
        let len = self.options.segment_bytes();
        let Some(spare) = &mut self.spare else {
            if let Some(file) = self.take_free()? {
                self.spare = Some(Spare { file, filled_bytes: len, synced: true, recycled: true });
                return Ok(false);
            }
            let file = self.disk.create(&self.group_dir.join(SPARE_NAME), len)?;
            self.spare = Some(Spare { file, filled_bytes: 0, synced: false, recycled: false });
            return Ok(true);
        };
        if spare.filled_bytes < len {
            let slice = PREPARE_SLICE_BYTES.min(len - spare.filled_bytes);
            write_zeros(&spare.file, spare.filled_bytes, slice)?;
            spare.filled_bytes += slice;
            return Ok(true);
        }
        if !spare.synced {
            spare.file.sync_data()?;
            spare.synced = true;
            self.pulse.beat();
        }
        Ok(false)
    }
}
