//! A disk in memory that forgets like a real one.
//!
//! It keeps *written* bytes (what a read sees, the page cache) apart from *durable* ones (what a crash leaves). A crash
//! keeps, loses or tears unsynced writes at 512 B granularity and unsynced creations, renames and removals one by one,
//! all drawn from the seed. Faults are planned by the number of the operation that they hit, so that a test can sweep
//! a crash over every step of a procedure. A failed sync behaves as on Linux: the pages count as clean although the
//! device never got them. Directories themselves are durable at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::prng::Prng;
use crate::log::disk::{Disk, DiskError, DiskFile, Lock, Mapping};

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
type Page = Option<Arc<[u8; PAGE_BYTES]>>;
static BLANK: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// What a planned fault does to the operation it hits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The operation fails with EIO; for a sync, its pages count as clean but are not durable.
    Io,
    /// ENOSPC.
    Full,
    /// The machine stops: the operation happens or not, as the seed says, and all further ones fail until
    /// [`SimDisk::restart`].
    Crash,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    len: u64,
    durable_len: u64,
    written: Vec<Page>,
    durable: Vec<Page>,
    dirty: BTreeSet<usize>,
    /// What pages held on the device before they were first synced under the file's present name: what is there where all
    /// that was written since is lost.
    before: BTreeMap<usize, Page>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Created(PathBuf, usize),
    Renamed(PathBuf, PathBuf, usize),
    Removed(PathBuf),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Created(path, _) | Self::Renamed(_, path, _) | Self::Removed(path) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Created(path, inode) => drop(names.insert(path.clone(), Node::File(*inode))),
            Self::Renamed(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), Node::File(*inode));
            }
            Self::Removed(path) => drop(names.remove(path)),
        }
    }
}

#[derive(Debug)]
struct State {
    prng: Prng,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    unsynced_names: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life are dead.
    life: u64,
    boot: u64,
    operations: u64,
    syncs: u64,
    plan: BTreeMap<u64, Fault>,
    down: bool,
    read_errors: Vec<(PathBuf, Range<u64>)>,
    capacity_bytes: u64,
    read_only: bool,
}

/// The simulated disk; clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of it.
#[derive(Debug)]
pub struct SimFile {
    state: Arc<Mutex<State>>,
    inode: usize,
    life: u64,
    path: PathBuf,
    writable: bool,
}

fn failure(operation: &'static str, path: &Path, errno: i32) -> DiskError {
    DiskError::new(operation, path, io::Error::from_raw_os_error(errno))
}

const EIO: i32 = 5;
const ENOENT: i32 = 2;
const EBADF: i32 = 9;
const EAGAIN: i32 = 11;
const EEXIST: i32 = 17;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// What the gate in front of every changing operation says.
enum Pass {
    Go,
    /// The operation takes effect, but the caller sees a crash.
    GoThenCrash,
}

impl State {
    fn alive(&self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        if self.down { Err(failure(operation, path, EIO)) } else { Ok(()) }
    }

    /// Counts a changing operation and applies what is planned for it.
    fn gate(&mut self, operation: &'static str, path: &Path) -> Result<Pass, DiskError> {
        self.alive(operation, path)?;
        self.operations += 1;
        match self.plan.remove(&self.operations) {
            None if self.read_only => Err(failure(operation, path, EROFS)),
            None => Ok(Pass::Go),
            Some(Fault::Io) => Err(failure(operation, path, EIO)),
            Some(Fault::Full) => Err(failure(operation, path, ENOSPC)),
            Some(Fault::Crash) => {
                self.down = true;
                if self.prng.chance(500_000) {
                    Ok(Pass::GoThenCrash)
                } else {
                    Err(failure(operation, path, EIO))
                }
            }
        }
    }

    fn file(&self, operation: &'static str, path: &Path) -> Result<usize, DiskError> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            _ => Err(failure(operation, path, ENOENT)),
        }
    }

    fn allocated_bytes(&self) -> u64 {
        let files = self.names.values().filter_map(|node| match node {
            Node::File(inode) => Some(self.inodes[*inode].len),
            Node::Dir => None,
        });
        files.sum()
    }

    fn crash(&mut self) {
        // How bad it is: all lost, all kept, or a draw for each sector and name.
        let keep_per_million = [0, 1_000_000, 500_000, 900_000, 100_000][self.prng.below(5) as usize];
        let whole_pages = self.prng.chance(300_000);
        for change in std::mem::take(&mut self.unsynced_names) {
            if self.prng.chance(keep_per_million) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let Self { inodes, prng, .. } = self;
        for inode in inodes {
            inode.crash(prng, keep_per_million, whole_pages);
        }
        self.boot += 1;
        self.new_life();
    }

    fn new_life(&mut self) {
        self.life += 1;
        self.down = false;
        self.locks.clear();
    }
}

fn finish(pass: &Pass, operation: &'static str, path: &Path) -> Result<(), DiskError> {
    match pass {
        Pass::Go => Ok(()),
        Pass::GoThenCrash => Err(failure(operation, path, EIO)),
    }
}

fn page_of(pages: &[Page], number: usize) -> &[u8; PAGE_BYTES] {
    pages.get(number).and_then(|page| page.as_deref()).unwrap_or(&BLANK)
}

fn set_page(pages: &mut Vec<Page>, number: usize, page: Page) {
    if pages.len() <= number {
        pages.resize(number + 1, None);
    }
    pages[number] = page;
}

impl Inode {
    fn write(&mut self, position: u64, bytes: &[u8], dirty: bool) {
        let mut position = position as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, start) = (position / PAGE_BYTES, position % PAGE_BYTES);
            let count = rest.len().min(PAGE_BYTES - start);
            let mut page = *page_of(&self.written, number);
            page[start..start + count].copy_from_slice(&rest[..count]);
            let page = (page != BLANK).then(|| Arc::new(page));
            set_page(&mut self.written, number, page);
            if dirty {
                self.dirty.insert(number);
            }
            position += count;
            rest = &rest[count..];
        }
        self.len = self.len.max(position as u64);
    }

    fn read(&self, position: u64, buf: &mut [u8]) -> usize {
        let readable = self.len.saturating_sub(position).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < readable {
            let at = position as usize + done;
            let (number, start) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let count = (readable - done).min(PAGE_BYTES - start);
            buf[done..done + count].copy_from_slice(&page_of(&self.written, number)[start..start + count]);
            done += count;
        }
        readable
    }

    fn sync(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            let page = self.written.get(number).cloned().flatten();
            let old = self.durable.get(number).cloned().flatten();
            self.before.entry(number).or_insert(old);
            set_page(&mut self.durable, number, page);
        }
        self.durable_len = self.len;
    }

    fn crash(&mut self, prng: &mut Prng, keep_per_million: u64, whole_pages: bool) {
        for number in std::mem::take(&mut self.dirty) {
            let (new, mut page) = (*page_of(&self.written, number), *page_of(&self.durable, number));
            let unit = if whole_pages { PAGE_BYTES } else { SECTOR_BYTES };
            for start in (0..PAGE_BYTES).step_by(unit) {
                if prng.chance(keep_per_million) {
                    page[start..start + unit].copy_from_slice(&new[start..start + unit]);
                }
            }
            set_page(&mut self.durable, number, (page != BLANK).then(|| Arc::new(page)));
        }
        if prng.chance(keep_per_million) {
            self.durable_len = self.len;
        }
        self.len = self.durable_len;
        self.written = self.durable.clone();
    }
}

impl SimDisk {
    /// An empty disk. Equal seeds and equal operations give equal crashes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            prng: Prng::new(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            locks: BTreeSet::new(),
            life: 0,
            boot: 0,
            operations: 0,
            syncs: 0,
            plan: BTreeMap::new(),
            down: false,
            read_errors: Vec::new(),
            capacity_bytes: u64::MAX,
            read_only: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A copy of the whole disk as it is now, independent of this one, drawing from `seed`.
    #[must_use]
    pub fn snapshot(&self, seed: u64) -> Self {
        let state = self.state.lock();
        let copy = State {
            prng: Prng::new(seed),
            inodes: state.inodes.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            unsynced_names: state.unsynced_names.clone(),
            locks: BTreeSet::new(),
            plan: BTreeMap::new(),
            read_errors: state.read_errors.clone(),
            ..*state
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }

    /// The machine loses power and starts again: unsynced changes are kept, lost or torn; handles and locks are gone.
    pub fn restart(&self) {
        self.state.lock().crash();
    }

    /// Only the process dies: everything written stays; handles and locks are gone.
    pub fn kill(&self) {
        self.state.lock().new_life();
    }

    /// Changing operations so far (create, write, sync, rename, remove, directory sync).
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Syncs of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Whether a planned crash has struck and nobody has restarted the machine.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    /// Plans `fault` for the `nth` changing operation from now (1 is the next one).
    pub fn plan(&self, nth: u64, fault: Fault) {
        let mut state = self.state.lock();
        let at = state.operations + nth;
        state.plan.insert(at, fault);
    }

    /// Forgets all planned faults and bad ranges.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.plan.clear();
        state.read_errors.clear();
        state.read_only = false;
        state.capacity_bytes = u64::MAX;
    }

    /// Reads that touch the range of this file fail with EIO.
    pub fn fail_reads(&self, path: &Path, range: Range<u64>) {
        self.state.lock().read_errors.push((path.to_owned(), range));
    }

    /// Creations that would take the files together past this many bytes fail with ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// Every change fails with EROFS.
    pub fn set_read_only(&self, read_only: bool) {
        self.state.lock().read_only = read_only;
    }

    /// All files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        state
            .names
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(_)))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// A file's bytes as a read would see them; empty when it is missing.
    #[must_use]
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(path) else { return Vec::new() };
        let inode = &state.inodes[*inode];
        let mut bytes = vec![0; inode.len as usize];
        inode.read(0, &mut bytes);
        bytes
    }

    /// Overwrites bytes durably, behind everybody's back.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn poke(&self, path: &Path, position: u64, bytes: &[u8]) {
        let mut state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(path).copied() else {
            panic!("no file {}", path.display())
        };
        let inode = &mut state.inodes[inode];
        inode.write(position, bytes, true);
        inode.sync();
    }

    /// The device loses or confuses what it was given: bytes change on it and in what is read, behind everybody's back.
    /// Other unsynced writes stay unsynced.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn rot(&self, path: &Path, position: u64, bytes: &[u8]) {
        let mut state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(path).copied() else {
            panic!("no file {}", path.display())
        };
        let inode = &mut state.inodes[inode];
        for (place, byte) in bytes.iter().enumerate() {
            let at = position as usize + place;
            for pages in [&mut inode.written, &mut inode.durable] {
                let mut page = *page_of(pages, at / PAGE_BYTES);
                page[at % PAGE_BYTES] = *byte;
                set_page(pages, at / PAGE_BYTES, (page != BLANK).then(|| Arc::new(page)));
            }
        }
    }

    /// The page at this position as it was before the file's present name, if it was synced since.
    #[must_use]
    pub fn page_before(&self, path: &Path, position: u64) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(path) else { return None };
        let page = state.inodes[*inode].before.get(&(position as usize / PAGE_BYTES))?;
        Some(page.as_deref().unwrap_or(&BLANK).to_vec())
    }

    /// Bytes of a file as a read would see them; fewer, or none, where it ends.
    #[must_use]
    pub fn peek(&self, path: &Path, position: u64, len: usize) -> Vec<u8> {
        let state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(path) else { return Vec::new() };
        let mut bytes = vec![0; len];
        let count = state.inodes[*inode].read(position, &mut bytes);
        bytes.truncate(count);
        bytes
    }

    /// The file has this name as well from now on: what is left of a rename whose second half was lost.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn link(&self, path: &Path, also: &Path) {
        let mut state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(path).copied() else {
            panic!("no file {}", path.display())
        };
        let named = NameChange::Created(also.to_owned(), inode);
        named.apply(&mut state.names);
        named.apply(&mut state.durable_names);
    }

    /// Whether something of this file was written and is not synced.
    #[must_use]
    pub fn is_dirty(&self, path: &Path) -> bool {
        let state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(path) else { return false };
        !state.inodes[*inode].dirty.is_empty()
    }

    /// Whether some read of this file would fail.
    #[must_use]
    pub fn has_read_errors(&self, path: &Path) -> bool {
        self.state.lock().read_errors.iter().any(|(bad, _)| bad == path)
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.state.lock().allocated_bytes()
    }

    /// Flips one bit durably.
    ///
    /// # Panics
    /// When the file has no such byte.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) {
        let byte = self.bytes(path)[position as usize];
        self.poke(path, position, &[byte ^ (1 << (bit % 8))]);
    }

    /// Removes a file durably, behind everybody's back.
    pub fn vanish(&self, path: &Path) {
        let mut state = self.state.lock();
        state.names.remove(path);
        state.durable_names.remove(path);
    }
}

impl SimFile {
    fn enter(&self, state: &State, operation: &'static str) -> Result<(), DiskError> {
        state.alive(operation, &self.path)?;
        if state.life == self.life { Ok(()) } else { Err(failure(operation, &self.path, EBADF)) }
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        self.enter(&state, "write")?;
        if !self.writable {
            return Err(failure("write", &self.path, EBADF));
        }
        let pass = state.gate("write", &self.path)?;
        let end = position + parts.iter().map(|part| part.len() as u64).sum::<u64>();
        // A drive replaces a bad sector when it is written.
        state.read_errors.retain(|(path, bad)| *path != self.path || bad.start < position || bad.end > end);
        let mut position = position;
        for part in parts {
            state.inodes[self.inode].write(position, part, true);
            position += part.len() as u64;
        }
        finish(&pass, "write", &self.path)
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize, DiskError> {
        let state = self.state.lock();
        self.enter(&state, "read")?;
        let wanted = position..position + buf.len() as u64;
        let hit = |(path, bad): &(PathBuf, Range<u64>)| {
            *path == self.path && bad.start < wanted.end && wanted.start < bad.end
        };
        if state.read_errors.iter().any(hit) {
            return Err(failure("read", &self.path, EIO));
        }
        Ok(state.inodes[self.inode].read(position, buf))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        self.enter(&state, "sync")?;
        let pass = match state.gate("sync", &self.path) {
            Ok(pass) => pass,
            Err(error) => {
                // As on Linux: the pages are marked clean, so a second sync would claim success. A crash in the middle
                // leaves them to the draw.
                if !state.down {
                    state.inodes[self.inode].dirty.clear();
                }
                return Err(error);
            }
        };
        state.syncs += 1;
        state.inodes[self.inode].sync();
        finish(&pass, "sync", &self.path)
    }

    fn start_writeback(&self, _position: u64, _len: u64) {}

    fn drop_cache(&self, position: u64, len: u64) {
        let mut state = self.state.lock();
        let inode = &mut state.inodes[self.inode];
        let (first, last) = (position as usize / PAGE_BYTES, (position + len) as usize / PAGE_BYTES);
        for number in first..=last.min(inode.written.len().saturating_sub(1)) {
            if !inode.dirty.contains(&number) {
                let page = inode.durable.get(number).cloned().flatten();
                set_page(&mut inode.written, number, page);
            }
        }
    }

    fn len_bytes(&self) -> Result<u64, DiskError> {
        let state = self.state.lock();
        self.enter(&state, "stat")?;
        Ok(state.inodes[self.inode].len)
    }

    fn map(&self) -> Result<Option<Mapping>, DiskError> {
        Ok(None)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

struct HeldLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    life: u64,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

impl SimDisk {
    fn handle(&self, state: &State, inode: usize, path: &Path, writable: bool) -> SimFile {
        let (path, life) = (path.to_owned(), state.life);
        SimFile { state: Arc::clone(&self.state), inode, life, path, writable }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&self, path: &Path, len: u64) -> Result<SimFile, DiskError> {
        let mut state = self.state.lock();
        let pass = state.gate("create", path)?;
        if state.names.contains_key(path) {
            return Err(failure("create", path, EEXIST));
        }
        if state.allocated_bytes().saturating_add(len) > state.capacity_bytes {
            return Err(failure("allocate space for", path, ENOSPC));
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode { len, ..Inode::default() });
        let change = NameChange::Created(path.to_owned(), inode);
        change.apply(&mut state.names);
        state.unsynced_names.push(change);
        finish(&pass, "create", path)?;
        Ok(self.handle(&state, inode, path, true))
    }

    fn open(&self, path: &Path, write: bool) -> Result<SimFile, DiskError> {
        let state = self.state.lock();
        state.alive("open", path)?;
        let inode = state.file("open", path)?;
        if write && state.read_only {
            return Err(failure("open", path, EROFS));
        }
        Ok(self.handle(&state, inode, path, write))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let pass = state.gate("rename", from)?;
        let inode = state.file("rename", from)?;
        state.inodes[inode].before.clear();
        let change = NameChange::Renamed(from.to_owned(), to.to_owned(), inode);
        state.read_errors.retain(|(path, _)| path != from && path != to);
        change.apply(&mut state.names);
        state.unsynced_names.push(change);
        finish(&pass, "rename", from)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let pass = state.gate("remove", path)?;
        state.file("remove", path)?;
        let change = NameChange::Removed(path.to_owned());
        state.read_errors.retain(|(bad, _)| bad != path);
        change.apply(&mut state.names);
        state.unsynced_names.push(change);
        finish(&pass, "remove", path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let state = self.state.lock();
        state.alive("list", dir)?;
        if state.names.get(dir) != Some(&Node::Dir) {
            return Err(failure("list", dir, ENOENT));
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.gate("create directory", dir)?;
        for path in dir.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            state.names.insert(path.to_owned(), Node::Dir);
            state.durable_names.insert(path.to_owned(), Node::Dir);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let pass = state.gate("sync directory", dir)?;
        let changes = std::mem::take(&mut state.unsynced_names);
        for change in changes {
            if change.dir() == Some(dir) {
                change.apply(&mut state.durable_names);
            } else {
                state.unsynced_names.push(change);
            }
        }
        finish(&pass, "sync directory", dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        let state = self.state.lock();
        state.alive("look for", path)?;
        Ok(state.names.contains_key(path))
    }

    fn lock(&self, path: &Path, create: bool) -> Result<Lock, DiskError> {
        let mut state = self.state.lock();
        state.alive("lock", path)?;
        if !state.names.contains_key(path) {
            if !create {
                return Err(failure("open", path, ENOENT));
            }
            if state.read_only {
                return Err(failure("open", path, EROFS));
            }
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            let change = NameChange::Created(path.to_owned(), inode);
            change.apply(&mut state.names);
            state.unsynced_names.push(change);
        }
        if !state.locks.insert(path.to_owned()) {
            return Err(failure("lock", path, EAGAIN));
        }
        let (path, life) = (path.to_owned(), state.life);
        Ok(Lock::new(HeldLock { state: Arc::clone(&self.state), path, life }))
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("simulated-boot-{}", self.state.lock().boot))
    }
}
