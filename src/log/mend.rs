//! Writing damaged segments anew, with what peers still have.
//!
//! A segment is copied into a fresh file, lost runs from verified copies, everything else as it is; the file is synced
//! and takes the old one's name. A crash at any step leaves the old file or the new one. Nothing is ever written into a
//! file that somebody may map (rule 9), and the bad sectors stay in the file that goes.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use super::LogOptions;
use super::damage::{LostRun, lost_runs};
use super::disk::{Disk, DiskError, DiskFile, Lock};
use super::error::{Corruption, LogError};
use super::layout::{LOCK_NAME, MEND_NAME, group_dir};
use crate::entry::Entry;

const COPY_BYTES: usize = 1 << 20;
/// What is read at once where a larger piece cannot be read.
const SMALL_BYTES: usize = 4096;

/// Why copies of a lost run are not what was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mismatch {
    /// They are not exactly the entries of the run.
    #[error("not exactly the entries that are missing")]
    Range,
    /// They do not continue what stands before the run, or each other.
    #[error("they do not continue the log")]
    Chain,
    /// They end with another chain value than what follows the run was written after.
    #[error("what stands behind was not written after them")]
    End,
}

/// Holds a damaged directory while its lost runs are fetched. Nobody else can use it meanwhile.
pub struct Mender<D: Disk> {
    disk: D,
    data_dir: PathBuf,
    options: LogOptions,
    runs: Vec<LostRun>,
    _lock: Lock,
}

impl<D: Disk> Mender<D> {
    /// Locks the directory and finds what is lost.
    ///
    /// # Errors
    /// Locked; not formatted; damage that cannot be mended entry by entry, as [`lost_runs`] says.
    pub fn open(disk: D, data_dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        let lock = disk.lock(&data_dir.join(LOCK_NAME), true)?;
        let runs = lost_runs(&disk, data_dir, &options)?;
        Ok(Self { disk, data_dir: data_dir.to_owned(), options, runs, _lock: lock })
    }

    /// What is to be fetched, in order.
    #[must_use]
    pub fn runs(&self) -> &[LostRun] {
        &self.runs
    }

    /// Nobody's copy fits this run: widens it, see [`LostRun::widened`]. False when it cannot get any wider.
    pub fn widen(&mut self, at: usize) -> bool {
        let next = self.runs.get(at + 1);
        let wide = self.runs[at].widened(next);
        if wide == self.runs[at] {
            return false;
        }
        if next.is_some_and(|next| next.file == wide.file) {
            self.runs.remove(at + 1);
        }
        self.runs[at] = wide;
        true
    }

    /// Puts the copies in, one list for each of [`runs`](Self::runs). Durable on return; gives the files that were
    /// written anew.
    ///
    /// # Errors
    /// The disk fails, or something outside the runs cannot be read.
    ///
    /// # Panics
    /// When a copy has not passed [`check_copy`]: a bug of the caller.
    pub fn mend(&self, copies: &[Vec<Entry>]) -> Result<Vec<PathBuf>, LogError> {
        assert_eq!(copies.len(), self.runs.len(), "a copy for each lost run");
        for (run, copy) in self.runs.iter().zip(copies) {
            assert_eq!(check_copy(run, copy), Ok(()), "nothing unverified enters the log: {run}");
        }
        let mut files: Vec<PathBuf> = self.runs.iter().map(|run| run.file.clone()).collect();
        files.dedup();
        for file in &files {
            let of_file = self.runs.iter().zip(copies).filter(|(run, _)| run.file == *file);
            self.rewrite(file, &of_file.collect::<Vec<_>>())?;
        }
        Ok(files)
    }

    fn rewrite(&self, path: &Path, repairs: &[(&LostRun, &Vec<Entry>)]) -> Result<(), LogError> {
        let group_dir = group_dir(&self.data_dir, self.options.group());
        let temporary = group_dir.join(MEND_NAME);
        if self.disk.exists(&temporary)? {
            self.disk.remove(&temporary)?;
        }
        let old = self.disk.open(path, false)?;
        let len = old.len_bytes()?;
        let new = self.disk.create(&temporary, len)?;
        let mut copier = Copier { old: &old, new: &new, path, position: 0 };
        for (run, copy) in repairs {
            copier.copy_to(run.position)?;
            copier.put(copy)?;
        }
        copier.copy_to(len)?;
        new.sync_data()?;
        self.disk.rename(&temporary, path)?;
        self.disk.sync_dir(&group_dir)?;
        Ok(())
    }
}

/// Whether these are the very entries that were lost.
///
/// # Errors
/// Why not.
pub fn check_copy(run: &LostRun, copy: &[Entry]) -> Result<(), Mismatch> {
    let (mut index, mut chain) = (run.first, run.chain_before);
    for entry in copy {
        let header = entry.header();
        if header.index != index || index > run.last {
            return Err(Mismatch::Range);
        }
        if header.prev_chain != chain {
            return Err(Mismatch::Chain);
        }
        (index, chain) = (index.next(), entry.chain());
    }
    if index != run.last.next() {
        return Err(Mismatch::Range);
    }
    let bytes: u64 = copy.iter().map(|entry| entry.len_bytes() as u64).sum();
    let fits = run.end_position.is_none_or(|end| end == run.position + bytes);
    if chain == run.chain_last && fits { Ok(()) } else { Err(Mismatch::End) }
}

struct Copier<'a, F> {
    old: &'a F,
    new: &'a F,
    path: &'a Path,
    position: u64,
}

impl<F: DiskFile> Copier<'_, F> {
    /// Copies the old file as it is.
    fn copy_to(&mut self, end: u64) -> Result<(), LogError> {
        let mut buf = vec![0; COPY_BYTES];
        while self.position < end {
            let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
            let mut want = left.min(COPY_BYTES);
            if self.read(&mut buf[..want]).is_err() {
                // One bad sector does not spoil its neighbourhood.
                want = left.min(SMALL_BYTES);
                self.read(&mut buf[..want]).map_err(|error| self.unreadable(&error))?;
            }
            self.write(&buf[..want])?;
        }
        Ok(())
    }

    fn read(&self, buf: &mut [u8]) -> Result<(), DiskError> {
        let count = self.old.read_at(buf, self.position)?;
        buf[count..].fill(0);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        self.new.write_at(&[IoSlice::new(bytes)], self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn put(&mut self, copy: &[Entry]) -> Result<(), LogError> {
        copy.iter().try_for_each(|entry| self.write(entry.bytes()))
    }

    /// Above the watermark: what lay there may have been acknowledged, so it is not passed over in silence.
    fn unreadable(&self, error: &DiskError) -> LogError {
        let (file, position) = (self.path.to_owned(), self.position);
        let first = crate::base::ids::LogIndex::ZERO;
        Corruption { file, position, first, last: None, what: error.to_string() }.into()
    }
}
