//! The operating system's disk: positional vectored writes, fdatasync, flock.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memmap2::MmapOptions;
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::disk::{Disk, DiskError, DiskFile, Lock, Mapping};

/// Most parts that the kernel takes in one vectored call (`UIO_MAXIOV`).
const PARTS_MAX: usize = 1024;
/// Unit in which a file is filled where the file system cannot reserve space.
const FILL_BYTES: usize = 64 << 10;
/// For how long a lock that is held is tried again: a process that was killed holds it until it is gone, and one that
/// has just been forked until it becomes another program.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);
const LOCK_LOOK: Duration = Duration::from_millis(5);

/// The operating system's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// One of its files.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: PathBuf,
}

impl RealFile {
    fn error(&self, operation: &'static str, source: impl Into<io::Error>) -> DiskError {
        DiskError::new(operation, &self.path, source.into())
    }

    /// Writes the rest of one part that a vectored call left half done.
    fn write_rest(&self, mut rest: &[u8], mut position: u64) -> Result<(), DiskError> {
        while !rest.is_empty() {
            match rustix::io::pwrite(&self.file, rest, position) {
                Ok(0) => return Err(self.error("write", io::ErrorKind::WriteZero)),
                Ok(written) => {
                    rest = &rest[written..];
                    position += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("write", errno)),
            }
        }
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> Result<(), DiskError> {
        #[cfg(feature = "faults")]
        super::faults::before_write(&self.file, parts, position).map_err(|e| self.error("note", e))?;
        let mut position = position;
        let mut parts = parts;
        while !parts.is_empty() {
            let chunk = &parts[..parts.len().min(PARTS_MAX)];
            let mut written = match rustix::io::pwritev(&self.file, chunk, position) {
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(self.error("write", errno)),
            };
            if written == 0 && chunk.iter().any(|part| !part.is_empty()) {
                return Err(self.error("write", io::ErrorKind::WriteZero));
            }
            // Step over what went out; finish a part that was cut in the middle.
            let mut done = 0;
            for part in chunk {
                if written < part.len() {
                    if written > 0 {
                        self.write_rest(&part[written..], position + written as u64)?;
                        position += part.len() as u64;
                        done += 1;
                    }
                    break;
                }
                written -= part.len();
                position += part.len() as u64;
                done += 1;
            }
            parts = &parts[done..];
        }
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize, DiskError> {
        let mut read = 0;
        while read < buf.len() {
            match rustix::io::pread(&self.file, &mut buf[read..], position + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("read", errno)),
            }
        }
        Ok(read)
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        #[cfg(feature = "faults")]
        super::faults::before_sync();
        // An interrupted fdatasync is no success: like every other failure it is final.
        rustix::fs::fdatasync(&self.file).map_err(|errno| self.error("sync", errno))?;
        #[cfg(feature = "faults")]
        super::faults::after_sync(&self.file).map_err(|e| self.error("note", e))?;
        Ok(())
    }

    fn start_writeback(&self, position: u64, len: u64) {
        // POSIX_FADV_DONTNEED on dirty pages starts their writeback without waiting; only clean pages are dropped.
        self.drop_cache(position, len);
    }

    fn drop_cache(&self, position: u64, len: u64) {
        // A hint: its failure changes nothing.
        let _ = rustix::fs::fadvise(&self.file, position, NonZeroU64::new(len), Advice::DontNeed);
    }

    fn len_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(|error| self.error("stat", error))?.len())
    }

    fn map(&self) -> Result<Option<Mapping>, DiskError> {
        let raw =
            MmapOptions::new().map_raw_read_only(&self.file).map_err(|error| self.error("map", error))?;
        Ok(Some(Mapping::new(raw)))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Allocates `len` bytes; where the file system has no such call, by writing zeros.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file.as_fd(), FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = vec![0; FILL_BYTES];
            let mut position = 0;
            while position < len {
                let part = usize::try_from(len - position).unwrap_or(FILL_BYTES).min(FILL_BYTES);
                position += rustix::io::pwrite(file, &zeros[..part], position)? as u64;
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn create(&self, path: &Path, len: u64) -> Result<RealFile, DiskError> {
        let error = |source| DiskError::new("create", path, source);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(error)?;
        if let Err(source) = allocate(&file, len) {
            // Best effort: the allocation's error is the one to tell.
            let _ = std::fs::remove_file(path);
            return Err(DiskError::new("allocate space for", path, source));
        }
        #[cfg(feature = "faults")]
        super::faults::created(&file).map_err(|source| DiskError::new("note", path, source))?;
        Ok(RealFile { file, path: path.to_owned() })
    }

    fn open(&self, path: &Path, write: bool) -> Result<RealFile, DiskError> {
        let file = OpenOptions::new().read(true).write(write).open(path);
        Ok(RealFile { file: file.map_err(|e| DiskError::new("open", path, e))?, path: path.to_owned() })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        std::fs::rename(from, to).map_err(|e| DiskError::new("rename", from, e))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        std::fs::remove_file(path).map_err(|e| DiskError::new("remove", path, e))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let error = |source| DiskError::new("list", dir, source);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(error)? {
            names.push(entry.map_err(error)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        std::fs::create_dir_all(dir).map_err(|e| DiskError::new("create directory", dir, e))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let synced = File::open(dir).and_then(|handle| handle.sync_all());
        synced.map_err(|e| DiskError::new("sync directory", dir, e))
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        path.try_exists().map_err(|e| DiskError::new("look for", path, e))
    }

    fn lock(&self, path: &Path, create: bool) -> Result<Lock, DiskError> {
        // Without `create` the file is only read: flock needs no right to write.
        let file = OpenOptions::new().read(true).write(create).create(create).truncate(false).open(path);
        let file = file.map_err(|e| DiskError::new("open", path, e))?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock::new(file)),
                Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_LOOK),
                Err(errno) => return Err(DiskError::new("lock", path, errno.into())),
            }
        }
    }

    fn boot_id(&self) -> Option<String> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(text.trim().to_owned())
    }
}
