//! Writing damaged segments anew, with what peers still have.
//!
//! A segment is copied into a fresh file, lost runs from verified copies, everything else as it is; the file is synced
//! and takes the old one's name. A crash at any step leaves the old file or the new one. Nothing is ever written into a
//! file that somebody may map (rule 9), and the bad sectors stay in the file that goes.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use super::LogOptions;
use super::damage::{LostRun, open_segments, runs_in};
use super::disk::{Disk, DiskError, DiskFile, Lock};
use super::error::{Corruption, LogError};
use super::hard_state::{HardStateFile, StoredHardState};
use super::heads::Heads;
use super::identity::Identity;
use super::layout::{
    BLOCK_BYTES, ENTRIES_POSITION, HARD_STATE_NAME, LOCK_NAME, MEND_NAME, SegmentHeader, Slot, encode_head,
    group_dir, parse_segment_name, segment_name,
};
use super::recovery::Live;
use super::scanner::{Looked, Scanner};
use crate::base::ids::{ClusterId, LogIndex, Term};
use crate::entry::{Entry, EntryError};

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

/// What a damaged directory has at some indexes.
#[derive(Debug)]
pub enum Held {
    /// These entries, from the first index asked for on.
    Entries(Vec<Entry>),
    /// They are lost here too, up to this one.
    Lost(LogIndex),
    /// They lie behind the durable part, about which nothing is known before recovery.
    Unknown,
}

/// Holds a damaged directory while its lost runs are fetched. Nobody else can use it meanwhile.
pub struct Mender<D: Disk> {
    disk: D,
    data_dir: PathBuf,
    options: LogOptions,
    cluster_id: ClusterId,
    hard_state: StoredHardState,
    rebuilt: Vec<PathBuf>,
    live: Vec<Live<D::File>>,
    runs: Vec<LostRun>,
    _lock: Lock,
}

impl<D: Disk> Mender<D> {
    /// Locks the directory, rebuilds heads of segments that their neighbours tell, and finds what is lost.
    ///
    /// # Errors
    /// Locked; not formatted; damage that cannot be mended entry by entry, as [`lost_runs`](super::lost_runs) says.
    pub fn open(disk: D, data_dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        let lock = disk.lock(&data_dir.join(LOCK_NAME), true)?;
        let cluster_id = Identity::read(&disk, data_dir)?.cluster_id;
        let (_, hard_state) = HardStateFile::open(&disk, &data_dir.join(HARD_STATE_NAME), false)?;
        let rebuilt = Heads { disk: &disk, data_dir, options: &options, cluster_id }.rebuild()?;
        let live = open_segments(&disk, data_dir, &options)?;
        let runs = runs_in(&live)?;
        let data_dir = data_dir.to_owned();
        Ok(Self { disk, data_dir, options, cluster_id, hard_state, rebuilt, live, runs, _lock: lock })
    }

    /// Files whose heads were rebuilt.
    #[must_use]
    pub fn rebuilt(&self) -> &[PathBuf] {
        &self.rebuilt
    }

    /// The hard state as stored.
    #[must_use]
    pub const fn hard_state(&self) -> &StoredHardState {
        &self.hard_state
    }

    /// What is to be fetched, in order.
    #[must_use]
    pub fn runs(&self) -> &[LostRun] {
        &self.runs
    }

    /// Whether the run can be widened.
    #[must_use]
    pub fn may_widen(&self, at: usize) -> bool {
        self.runs[at].widened(self.runs.get(at + 1)) != self.runs[at]
    }

    /// Whether these entries are what the run lost: by the chain, and by the room that they take. Where only the room
    /// differs, what seemed to be the next entry is a true one in the wrong place (a write that went astray).
    #[must_use]
    pub fn fits(&self, at: usize, copy: &[Entry]) -> bool {
        check_copy(&self.runs[at], copy).is_ok()
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

    /// Puts copies of the first runs in, one list for each, and looks anew at what is lost. Durable on return; gives the
    /// files that were written anew.
    ///
    /// # Errors
    /// The disk fails, or something outside the runs cannot be read.
    ///
    /// # Panics
    /// When a copy has not passed [`check_copy`]: a bug of the caller.
    pub fn mend(&mut self, copies: &[Vec<Entry>]) -> Result<Vec<PathBuf>, LogError> {
        let runs = &self.runs[..copies.len()];
        for (run, copy) in runs.iter().zip(copies) {
            assert_eq!(check_copy(run, copy), Ok(()), "nothing unverified enters the log: {run}");
        }
        let mut files: Vec<PathBuf> = runs.iter().map(|run| run.file.clone()).collect();
        files.dedup();
        for file in &files {
            let of_file = runs.iter().zip(copies).filter(|(run, _)| run.file == *file);
            self.rewrite(file, &of_file.collect::<Vec<_>>())?;
        }
        self.look_again()?;
        Ok(files)
    }

    /// The entries of the first run from its first one on are no part of the cluster's log: no quorum ever held them, or
    /// another leader's stand there. Ends the log before the run, in a fresh segment, and appends `prefix`, which a peer
    /// has there. What lay behind is superseded. Durable on return; gives the new file.
    ///
    /// # Errors
    /// The disk fails; or something in the run is known to be committed, which contradicts what the caller found.
    ///
    /// # Panics
    /// When `prefix` does not continue what stands before the run: a bug of the caller.
    pub fn cut(&mut self, prefix: &[Entry]) -> Result<PathBuf, LogError> {
        let run = &self.runs[0];
        let commit_hint = self.live.iter().map(|live| live.slot.commit_hint).max().unwrap_or_default();
        let mut tail = run.before;
        for entry in prefix {
            assert!(tail.is_continued_by(entry.header()), "{} does not continue the log", entry.id());
            tail = tail.after(entry.header());
        }
        if tail.id.index < commit_hint {
            let what = format!("the other nodes do not have what was committed up to index {commit_hint}");
            let (file, position, first, last) = (run.file.clone(), run.position, run.first, Some(run.last));
            return Err(Corruption { file, position, first, last, what }.into());
        }
        let (run_first, before) = (run.first, run.before);
        self.raise_term(tail.id.term)?;
        let bytes: u64 = prefix.iter().map(|entry| entry.len_bytes() as u64).sum();
        let group_dir = group_dir(&self.data_dir, self.options.group());
        let numbers = self.disk.list(&group_dir)?.into_iter().filter_map(|name| parse_segment_name(&name));
        let header = SegmentHeader {
            cluster_id: self.cluster_id,
            group: self.options.group(),
            seq: numbers.max().unwrap_or_default() + 1,
            generation: 0,
            base_index: run_first,
            base_offset: before.next_offset,
            base_chain: before.chain,
            base_term: before.id.term,
            recycled: false,
            segment_bytes: self
                .options
                .segment_bytes()
                .max((ENTRIES_POSITION + bytes).next_multiple_of(BLOCK_BYTES)),
        };
        let slot = Slot {
            flushed_index: tail.id.index,
            end_position: ENTRIES_POSITION + bytes,
            chain: tail.chain,
            ..Slot::fresh(&header, commit_hint)
        };
        let path = group_dir.join(segment_name(header.seq));
        let temporary = self.fresh_file(&group_dir, header.segment_bytes, |file| {
            file.write_at(&[IoSlice::new(&encode_head(&header, &slot))], 0)?;
            let mut position = ENTRIES_POSITION;
            for entry in prefix {
                file.write_at(&[IoSlice::new(entry.bytes())], position)?;
                position += entry.len_bytes() as u64;
            }
            Ok(())
        })?;
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&group_dir)?;
        self.look_again()?;
        Ok(path)
    }

    /// From now on this node helps no leader of a term before `term`: durable on return.
    ///
    /// # Errors
    /// The disk fails.
    pub fn enter_term(&mut self, term: Term) -> Result<(), LogError> {
        self.raise_term(term)
    }

    /// Entries of a term are only ever written behind the hard state of that term. In a term that this node never
    /// entered it has not voted.
    fn raise_term(&mut self, term: Term) -> Result<(), LogError> {
        if self.hard_state.term >= term {
            return Ok(());
        }
        let path = self.data_dir.join(HARD_STATE_NAME);
        let (mut file, stored) = HardStateFile::open(&self.disk, &path, true)?;
        self.hard_state = StoredHardState { term, voted_for: None, ..stored };
        file.write(&self.hard_state)?;
        Ok(())
    }

    /// A file under the temporary name, filled and synced.
    fn fresh_file(
        &self,
        group_dir: &Path,
        len: u64,
        fill: impl FnOnce(&D::File) -> Result<(), LogError>,
    ) -> Result<PathBuf, LogError> {
        let temporary = group_dir.join(MEND_NAME);
        if self.disk.exists(&temporary)? {
            self.disk.remove(&temporary)?;
        }
        let file = self.disk.create(&temporary, len)?;
        fill(&file)?;
        file.sync_data()?;
        Ok(temporary)
    }

    fn look_again(&mut self) -> Result<(), LogError> {
        self.live = open_segments(&self.disk, &self.data_dir, &self.options)?;
        self.runs = runs_in(&self.live)?;
        Ok(())
    }

    /// The last index of the durable part.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.live.last().map_or(LogIndex::ZERO, |live| live.slot.flushed_index)
    }

    /// What this directory still has from `first` up to `last`: about `bytes_max` bytes of it, but at least one entry.
    /// Walks a segment from its start.
    ///
    /// # Errors
    /// The disk fails now where it did not before, or has changed.
    pub fn read(&self, first: LogIndex, last: LogIndex, bytes_max: usize) -> Result<Held, LogError> {
        let first = first.max(LogIndex(1));
        if let Some(run) = self.runs.iter().find(|run| (run.first..=run.last).contains(&first)) {
            return Ok(Held::Lost(run.last.min(last)));
        }
        let place = self.live.partition_point(|live| live.segment.base_index() <= first);
        let Some(live) = place.checked_sub(1).map(|at| &self.live[at]) else { return Ok(Held::Unknown) };
        let end =
            self.live.get(place).map_or(live.slot.flushed_index, |next| next.segment.base_index().prev());
        let behind =
            self.runs.iter().find(|run| run.first > first).map_or(end, |run| run.first.prev().min(end));
        let last = last.min(behind);
        if last < first {
            return Ok(Held::Unknown);
        }
        self.read_in(live, first, last, bytes_max).map(Held::Entries)
    }

    fn read_in(
        &self,
        live: &Live<D::File>,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let segment = &*live.segment;
        let mut scanner = Scanner::new(segment.file(), segment.header().segment_bytes);
        let before = self.runs.iter().rev().find(|run| run.file == segment.path() && run.last < first);
        let (mut next, mut position) = match before {
            Some(LostRun { last, end_position: Some(end), .. }) => (last.next(), *end),
            _ => (segment.base_index(), ENTRIES_POSITION),
        };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while next <= last && (bytes < bytes_max || entries.is_empty()) {
            let entry = match scanner.look(position)? {
                Looked::Whole(view) if view.header().index == next => Entry::decode(view.bytes()),
                _ => Err(EntryError::Truncated { needed: 0, left: 0 }),
            };
            let entry = entry.map_err(|_| {
                let (file, what) = (segment.path().to_owned(), "an entry that was whole before".to_owned());
                Corruption { file, position, first: next, last: Some(next), what }
            })?;
            position += entry.len_bytes() as u64;
            next = next.next();
            if entry.index() >= first {
                bytes += entry.len_bytes();
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn rewrite(&self, path: &Path, repairs: &[(&LostRun, &Vec<Entry>)]) -> Result<(), LogError> {
        let group_dir = group_dir(&self.data_dir, self.options.group());
        let old = self.disk.open(path, false)?;
        let old_len = old.len_bytes()?;
        let header = self.live.iter().map(|live| &live.segment).find(|segment| segment.path() == path);
        let grown = header.and_then(|segment| grown(segment.header(), repairs));
        let len = grown.map_or(old_len, |header| header.segment_bytes);
        let temporary = self.fresh_file(&group_dir, len, |new| {
            let mut copier = Copier { old: &old, new, path, position: 0 };
            for (run, copy) in repairs {
                copier.copy_to(run.position)?;
                copier.put(copy)?;
            }
            copier.copy_to(old_len)?;
            if let Some(header) = grown {
                new.write_at(&[IoSlice::new(&header.encode())], 0)?;
            }
            Ok(())
        })?;
        self.disk.rename(&temporary, path)?;
        self.disk.sync_dir(&group_dir)?;
        Ok(())
    }
}

/// The header of a segment that has to grow for its repairs. A file behind it may be missing, and the seal that named
/// that file damaged: then nothing tells the two apart, and the entries of both come to lie in this one. Without room
/// for them the next look would find them lost again, for ever.
fn grown(header: &SegmentHeader, repairs: &[(&LostRun, &Vec<Entry>)]) -> Option<SegmentHeader> {
    let ends = repairs
        .iter()
        .map(|(run, copy)| run.position + copy.iter().map(|entry| entry.len_bytes() as u64).sum::<u64>());
    let end = ends.max().unwrap_or_default();
    let segment_bytes = end.next_multiple_of(BLOCK_BYTES);
    (end > header.segment_bytes).then_some(SegmentHeader { segment_bytes, ..*header })
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
