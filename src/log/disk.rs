//! The disk as the log sees it: a trait, so that the simulator's disk can stand in for the operating system's.
//!
//! Nothing here retries, except short writes and interrupted calls. A failed [`DiskFile::sync_data`] is final
//! (PITFALLS 55): the caller must treat what it had written as lost and must not sync again.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use memmap2::{Advice, MmapRaw};

/// What a disk error means to the one who meets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskErrorKind {
    /// No space left (or a quota reached): may pass by itself.
    Full,
    /// The file system is mounted read-only, or the rights are missing.
    ReadOnly,
    /// Somebody else holds the lock.
    Locked,
    /// No such file or directory.
    NotFound,
    /// The file to create is there already.
    Exists,
    /// A part of the path is a file and no directory.
    NotADirectory,
    /// Anything else, a failing device included.
    Io,
}

/// A failed operation, with the file that it failed on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct DiskError {
    /// The verb: "open", "write", "sync" and so on.
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    /// Names the operation and the file of a system error.
    #[must_use]
    pub fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source }
    }

    /// What it means.
    #[must_use]
    pub fn kind(&self) -> DiskErrorKind {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskErrorKind::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => DiskErrorKind::ReadOnly,
            io::ErrorKind::WouldBlock => DiskErrorKind::Locked,
            io::ErrorKind::NotFound => DiskErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => DiskErrorKind::Exists,
            io::ErrorKind::NotADirectory => DiskErrorKind::NotADirectory,
            _ => DiskErrorKind::Io,
        }
    }
}

/// A held lock; dropping it releases it, and so does the end of the process.
pub struct Lock {
    _held: Box<dyn Send>,
}

impl Lock {
    /// Wraps whatever releases the lock when dropped.
    #[must_use]
    pub fn new(held: impl Send + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// A read-only shared mapping of a whole file.
pub struct Mapping {
    raw: MmapRaw,
}

impl Mapping {
    /// Wraps a mapping made by the operating system.
    #[must_use]
    pub fn new(raw: MmapRaw) -> Self {
        Self { raw }
    }

    /// Length of the mapping.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Faults `start..start + len` in, so that a bad sector is an error here and not a SIGBUS later
    /// (`MADV_POPULATE_READ`, Linux 5.14; older kernels answer `InvalidInput`).
    ///
    /// # Errors
    /// The range lies outside the mapping, the kernel lacks the call, or the pages cannot be read.
    pub fn populate(&self, start: usize, len: usize) -> io::Result<()> {
        if start.checked_add(len).is_none_or(|end| end > self.raw.len()) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let aligned = start & !4095;
        self.raw.advise_range(Advice::PopulateRead, aligned, len + (start - aligned))
    }

    /// The bytes `start..start + len`.
    ///
    /// # Safety
    /// For as long as the slice lives, nobody may write these bytes of the file or cut it short. The log promises
    /// that for everything at or below a segment's published tail.
    ///
    /// # Panics
    /// When the range lies outside the mapping.
    #[must_use]
    pub unsafe fn bytes(&self, start: usize, len: usize) -> &[u8] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.raw.len()), "range inside the mapping");
        // SAFETY: the range was checked against the mapping's length; the mapping lives as long as `self`; the caller
        // promises that the bytes do not change meanwhile.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(start), len) }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.raw.len())
    }
}

/// An open file. Positional only, so one handle serves the writer and any number of readers.
pub trait DiskFile: Send + Sync {
    /// Writes all parts, one after the other, from `position` on. Loops over short writes; in the ordinary case one
    /// system call.
    ///
    /// # Errors
    /// Some or none of the bytes may have been written.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> Result<(), DiskError>;

    /// Reads until `buf` is full or the file ends; returns how many bytes that were.
    ///
    /// # Errors
    /// A part of the range cannot be read.
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize, DiskError>;

    /// Makes everything written so far durable (fdatasync).
    ///
    /// # Errors
    /// Final: what had been written counts as lost, and no later call may be believed.
    fn sync_data(&self) -> Result<(), DiskError>;

    /// A hint to start writing the range back without waiting. Never fails, promises nothing.
    fn start_writeback(&self, position: u64, len: u64);

    /// A hint to forget cached, clean bytes of the range, so that the next read comes from the device. After a failed
    /// sync the cache may hold bytes that the device never got.
    fn drop_cache(&self, position: u64, len: u64);

    /// Length of the file.
    ///
    /// # Errors
    /// As the system says.
    fn len_bytes(&self) -> Result<u64, DiskError>;

    /// Maps the whole file read-only; `None` where there is nothing to map (simulated disks).
    ///
    /// # Errors
    /// As the system says.
    fn map(&self) -> Result<Option<Mapping>, DiskError>;

    /// Name for messages.
    fn path(&self) -> &Path;
}

/// A disk. Each user holds its own value; values may share one device.
pub trait Disk: Send {
    /// Its files.
    type File: DiskFile + 'static;

    /// Creates a file exclusively, with `len` zero bytes of allocated space (PITFALLS 58). Durable only after the file
    /// and its directory are synced.
    ///
    /// # Errors
    /// `Exists`, `Full` (nothing is left behind then), others.
    fn create(&self, path: &Path, len: u64) -> Result<Self::File, DiskError>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// `NotFound`, others.
    fn open(&self, path: &Path, write: bool) -> Result<Self::File, DiskError>;

    /// Renames a file, replacing the target. Durable after the directory is synced.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file. Durable after the directory is synced.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound`, others.
    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError>;

    /// Creates a directory and those above it.
    ///
    /// # Errors
    /// As the system says.
    fn create_dir_all(&self, dir: &Path) -> Result<(), DiskError>;

    /// Makes creations, renames and removals in a directory durable (PITFALLS 56).
    ///
    /// # Errors
    /// Final, as for [`DiskFile::sync_data`].
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Whether a file or directory of that name is there.
    ///
    /// # Errors
    /// As the system says.
    fn exists(&self, path: &Path) -> Result<bool, DiskError>;

    /// Takes the exclusive lock on a lock file without waiting. With `create` the file is made if missing.
    ///
    /// # Errors
    /// `Locked` when another holds it; `NotFound` without `create`; others.
    fn lock(&self, path: &Path, create: bool) -> Result<Lock, DiskError>;

    /// The operating system's boot id; `None` where it has none.
    fn boot_id(&self) -> Option<String>;

    /// Reads a small file whole.
    ///
    /// # Errors
    /// The file is missing, unreadable, or longer than `bytes_max` (`Io`, nothing is allocated for it).
    fn read_file(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DiskError> {
        let file = self.open(path, false)?;
        let len = file.len_bytes()?;
        if len > bytes_max {
            return Err(DiskError::new("read", path, io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Writes a small file so that after a crash it is there whole or not at all: temporary file, sync, rename,
    /// directory sync.
    ///
    /// # Errors
    /// As its steps.
    fn write_file_atomic(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let temporary = path.with_extension("tmp");
        if self.exists(&temporary)? {
            self.remove(&temporary)?;
        }
        let file = self.create(&temporary, bytes.len() as u64)?;
        file.write_at(&[IoSlice::new(bytes)], 0)?;
        file.sync_data()?;
        self.rename(&temporary, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}
