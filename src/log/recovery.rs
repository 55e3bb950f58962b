//! Finding the log in a directory: which files count, where the log ends, what must be kept as claimed. Reads only;
//! `open.rs` makes the repairs, `verify.rs` only reports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{Checkpoint, CheckpointFiles, StoredCheckpoint};
use super::disk::{Disk, DiskError, DiskFile};
use super::error::{Corruption, LogError};
use super::layout::{self, BLOCK_BYTES, ENTRIES_POSITION, SegmentHeader, Slot};
use super::published::Published;
use super::scanner::{Looked, Rest, Scanner, Tail};
use super::segment::Segment;
use super::table::{Found, HeaderVerdict, Standing, Verdict, decide_entry, decide_header, decide_slots};
use crate::base::ids::{ClusterId, EntryId, GroupId, LogIndex};
use crate::base::planted::{Bug, is_planted};
use crate::entry::EntryView;
use crate::raft::TermRuns;

/// Where and why a log was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutReport {
    /// The file.
    pub file: PathBuf,
    /// Where the first missing entry should start.
    pub position: u64,
    /// The last entry that is left.
    pub last: EntryId,
    /// The highest entry of which a valid header was found behind.
    pub claimed: Option<EntryId>,
    /// What was found.
    pub found: Found,
}

impl std::fmt::Display for CutReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (file, last) = (self.file.display(), self.last);
        write!(f, "{file} ends at position {} with {last}; what follows is no whole entry", self.position)?;
        match self.claimed {
            Some(claimed) => write!(f, "; a valid header of {claimed} was found, which this node claims"),
            None => Ok(()),
        }
    }
}

/// What recovery saw and did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Segments that hold the log.
    pub segments: usize,
    /// Segments that later ones supersede whole.
    pub superseded: usize,
    /// The checkpoint that the log was read behind, if there is one.
    pub checkpoint: Option<EntryId>,
    /// Checkpoint files that were damaged (the other one was used, or the whole log).
    pub damaged_checkpoints: Vec<PathBuf>,
    /// Entries read and verified.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Last index that the durable watermark covers.
    pub watermark: LogIndex,
    /// Watermark slots that were damaged (their twin was used).
    pub damaged_slots: usize,
    /// Set when a torn tail was found.
    pub cut: Option<CutReport>,
}

/// A segment that is part of the log, with the slot that holds.
#[derive(Debug)]
pub(super) struct Live<F> {
    pub segment: Arc<Segment<F>>,
    pub slot: Slot,
    /// Both blocks hold the seal.
    pub is_sealed_twice: bool,
}

/// How much of the log is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Depth {
    /// What lies behind the newest checkpoint, and at least so many bytes; of the rest the heads of its files.
    BehindCheckpoint(u64),
    /// All of it.
    Whole,
}

/// Who is shown what recovery reads.
pub trait RecoveryVisitor {
    /// The log is read behind this checkpoint only. Called first, if at all.
    fn checkpoint(&mut self, stored: &StoredCheckpoint);
    /// Every surviving entry, once, in order, with the commit hint.
    fn entry(&mut self, entry: &EntryView<'_>, commit_hint: LogIndex);
    /// Which row of the table of entries ([`table`](super::table)) ended the reading of a segment.
    fn ended(&mut self, _standing: Standing, _found: Found) {}
}

/// Shows entries to a closure.
pub(super) struct EntriesOnly<'v>(pub &'v mut dyn FnMut(&EntryView<'_>, LogIndex));

impl RecoveryVisitor for EntriesOnly<'_> {
    fn checkpoint(&mut self, _stored: &StoredCheckpoint) {}

    fn entry(&mut self, entry: &EntryView<'_>, commit_hint: LogIndex) {
        (self.0)(entry, commit_hint);
    }
}

/// What the directory holds.
pub(super) struct Survey<F> {
    pub live: Vec<Live<F>>,
    /// Wholly superseded files.
    pub dead: Vec<Arc<Segment<F>>>,
    /// Numbers of files that no checkpoint counts as part of the log.
    pub void: Vec<u64>,
    pub checkpoints: CheckpointFiles,
    pub tail: Tail,
    pub runs: TermRuns,
    pub last_log_time_ns: u64,
    pub commit_hint: LogIndex,
    pub report: RecoveryReport,
}

/// Where to look, and for whom.
pub(super) struct Place<'a, D> {
    pub disk: &'a D,
    pub group_dir: &'a Path,
    pub cluster_id: ClusterId,
    pub group: GroupId,
    /// Whether files are opened for writing and the last one is brought in line with the device first.
    pub repair: bool,
    /// What slots say of the commit index does not count: only what is in a checkpoint is known to be committed.
    pub forgets_commits: bool,
}

/// Shorthand for a corruption that concerns one index onwards.
fn corrupt(file: &Path, position: u64, first: LogIndex, last: Option<LogIndex>, what: String) -> LogError {
    Corruption { file: file.to_owned(), position, first, last, what }.into()
}

impl<D: Disk> Place<'_, D> {
    /// Reads and decides. Changes nothing, except that with `repair` the last segment is synced before it is read. A log
    /// whose checkpoint is ahead of all its files (an installation was cut short) has no live segment.
    pub fn survey(
        &self,
        depth: Depth,
        visitor: &mut dyn RecoveryVisitor,
    ) -> Result<Survey<D::File>, LogError> {
        let mut report = RecoveryReport::default();
        let set = self.open_set(&mut report)?;
        let (live, checkpoint) = (&set.live, set.checkpoints.newest.as_ref());
        if let Some(last) = live.last().filter(|_| self.repair) {
            self.settle(last)?;
        }
        report.segments = live.len();
        report.superseded = set.dead.len();
        report.watermark = live.last().map_or(LogIndex::ZERO, |last| last.slot.flushed_index);
        report.checkpoint = checkpoint.map(|stored| stored.checkpoint.id);
        report.damaged_checkpoints = set.checkpoints.damaged.iter().map(|(file, _)| file.clone()).collect();
        let hints = live.iter().map(|live| live.slot.commit_hint).filter(|_| !self.forgets_commits);
        let vouched = checkpoint.map(|stored| stored.vouched().id.index);
        let commit_hint = hints.chain(vouched).max().unwrap_or_default();
        let (behind, least) = match depth {
            Depth::BehindCheckpoint(bytes) => (checkpoint, bytes),
            Depth::Whole => (None, u64::MAX),
        };
        if let Some(stored) = behind {
            visitor.checkpoint(stored);
        }
        // Where the checkpoint is ahead, nothing else tells the terms of what was fetched: all of it is read.
        let shown_after = behind.map_or(LogIndex::ZERO, |stored| stored.vouched().id.index);
        let from = behind.map_or(0, |stored| match stored.is_ahead {
            true => 0,
            false => first_to_read(live, shown_after, least),
        });
        let mut walk = Walk::new(checkpoint, behind.is_some(), report, commit_hint, visitor);
        walk.begin(live.get(from));
        for (at, current) in live.iter().enumerate() {
            let next = live.get(at + 1).map(|next| *next.segment.header());
            if at < from {
                trust_seal(current, next.as_ref());
                continue;
            }
            walk.enter(current.segment.header(), current.segment.path())?;
            walk.segment(current, next.map(|next| next.base_index))?;
        }
        let Walk { tail, runs, last_log_time_ns, report, .. } = walk;
        let commit_hint = commit_hint.min(tail.id.index);
        let Set { live, dead, void, checkpoints } = set;
        Ok(Survey { live, dead, void, checkpoints, tail, runs, last_log_time_ns, commit_hint, report })
    }

    /// The segments that make up the log, in order; their entries unread.
    pub fn live_segments(&self) -> Result<Vec<Live<D::File>>, LogError> {
        self.open_set(&mut RecoveryReport::default()).map(|set| set.live)
    }

    /// Live, superseded and void segments.
    fn open_set(&self, report: &mut RecoveryReport) -> Result<Set<D::File>, LogError> {
        let checkpoints = CheckpointFiles::read(self.disk, self.group_dir, self.cluster_id, self.group)?;
        let first_seq = checkpoints.first_seq();
        let (files, void) = self.open_all(first_seq, report)?;
        let (live, dead) = supersede(files);
        self.check_set(&live, &dead, &checkpoints)?;
        Ok(Set { live, dead, void, checkpoints })
    }

    fn missing(&self, seq: u64, reason: impl Into<String>) -> LogError {
        let file = self.group_dir.join(layout::segment_name(seq));
        LogError::MissingSegment { file, reason: reason.into() }
    }

    /// Opens every segment file from `first_seq` on, in order of number, and reads headers and slots; gives the numbers
    /// of the others too.
    #[allow(clippy::type_complexity)]
    fn open_all(
        &self,
        first_seq: u64,
        report: &mut RecoveryReport,
    ) -> Result<(Vec<Live<D::File>>, Vec<u64>), LogError> {
        let names = self.disk.list(self.group_dir)?;
        let mut seqs: Vec<u64> = names.iter().filter_map(|name| layout::parse_segment_name(name)).collect();
        seqs.sort_unstable();
        let void = seqs.iter().copied().filter(|seq| *seq < first_seq).collect();
        seqs.retain(|seq| *seq >= first_seq);
        let mut files = Vec::with_capacity(seqs.len());
        for seq in seqs {
            files.push(self.open_one(seq, report)?);
        }
        Ok((files, void))
    }

    fn open_one(&self, seq: u64, report: &mut RecoveryReport) -> Result<Live<D::File>, LogError> {
        let path = self.group_dir.join(layout::segment_name(seq));
        let file = self.disk.open(&path, self.repair)?;
        let mut head = [[0; 96]; 3];
        for (block, bytes) in head.iter_mut().enumerate() {
            read_head(&file, block as u64 * BLOCK_BYTES, bytes).map_err(|error| {
                corrupt(&path, block as u64 * BLOCK_BYTES, LogIndex::ZERO, None, error.to_string())
            })?;
        }
        let found = SegmentHeader::decode(&head[0]);
        let header = match decide_header(found, seq, file.len_bytes()?, self.cluster_id, self.group) {
            HeaderVerdict::Use(header) => header,
            HeaderVerdict::RefuseVersion(version) => {
                return Err(LogError::Unknown {
                    file: path,
                    what: format!("segment format version {version}"),
                });
            }
            HeaderVerdict::OtherCluster => return Err(LogError::Foreign { file: path, what: "cluster" }),
            HeaderVerdict::OtherGroup => return Err(LogError::Foreign { file: path, what: "group" }),
            HeaderVerdict::Corrupt(what) => {
                return Err(corrupt(&path, 0, LogIndex::ZERO, None, what.to_owned()));
            }
        };
        let slots = [Slot::decode(&head[1]), Slot::decode(&head[2])];
        if let Some(slot) = slots.iter().flatten().find(|slot| !slot.fits(&header)) {
            let at = Slot::position_of(slot.number);
            let what = "a watermark slot points out of its segment".to_owned();
            return Err(corrupt(&path, at, header.base_index, None, what));
        }
        report.damaged_slots += slots.iter().filter(|slot| slot.is_none()).count();
        let Some(slot) = decide_slots(slots[0], slots[1]) else {
            let what = "both watermark slots are damaged".to_owned();
            return Err(corrupt(&path, BLOCK_BYTES, header.base_index, None, what));
        };
        let is_sealed_twice = slots
            .iter()
            .all(|twin| twin.is_some_and(|twin| twin.next_seq.is_some() && twin.next_seq == slot.next_seq));
        Ok(Live { segment: Arc::new(Segment::new(header, path, file)), slot, is_sealed_twice })
    }

    /// The first segment is there, and so is the successor of each sealed one.
    fn check_set(
        &self,
        live: &[Live<D::File>],
        dead: &[Arc<Segment<D::File>>],
        checkpoints: &CheckpointFiles,
    ) -> Result<(), LogError> {
        let Some(first) = live.first() else {
            return match &checkpoints.newest {
                // Only an installation leaves a log without a file: it begins behind the checkpoint.
                Some(stored) if stored.floor.index == stored.vouched().id.index.next() => Ok(()),
                Some(stored) => {
                    Err(self
                        .missing(stored.first_segment.seq, "the checkpoint says that the log begins there"))
                }
                None => Err(self.missing(1, "the directory has no segments")),
            };
        };
        let begins = first.segment.base_index();
        match &checkpoints.newest {
            Some(stored) if begins > stored.floor.index => {
                let reason = format!("the log begins at index {begins} instead of {}", stored.floor.index);
                return Err(self.missing(stored.first_segment.seq, reason));
            }
            None if begins > LogIndex(1) && checkpoints.damaged.is_empty() && first.segment.seq() == 2 => {
                let reason = format!("the log starts at index {begins} instead of 1");
                return Err(self.missing(1, reason));
            }
            None if begins > LogIndex(1) => return Err(checkpoints.missing(self.group_dir, begins)),
            Some(_) | None => {}
        }
        for current in live {
            let Some(next_seq) = current.slot.next_seq else { continue };
            let there = live.iter().any(|other| other.segment.seq() == next_seq)
                || dead.iter().any(|other| other.seq() == next_seq);
            if !there {
                let reason = format!("{} says that it goes on there", current.segment.path().display());
                return Err(self.missing(next_seq, reason));
            }
        }
        Ok(())
    }

    /// Brings the last segment's cache in line with the device: what a killed process had written becomes durable, and
    /// what an earlier failed sync left in the cache only is forgotten (Rebello et al., ATC'20).
    fn settle(&self, last: &Live<D::File>) -> Result<(), LogError> {
        let file = last.segment.file();
        file.sync_data()?;
        let from = last.slot.end_position & !(BLOCK_BYTES - 1);
        file.drop_cache(from, last.segment.header().segment_bytes.saturating_sub(from));
        Ok(())
    }
}

/// Reads one block's start; a short file leaves zeros.
fn read_head<F: DiskFile>(file: &F, position: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
    file.read_at(bytes, position).map(|_| ())
}

/// What is left of the files when later ones supersede the suffixes of earlier ones, and what is not.
#[allow(clippy::type_complexity)]
fn supersede<F: DiskFile>(files: Vec<Live<F>>) -> (Vec<Live<F>>, Vec<Arc<Segment<F>>>) {
    let (mut live, mut dead): (Vec<Live<F>>, Vec<_>) = (Vec::new(), Vec::new());
    for file in files {
        while live.last().is_some_and(|last| last.segment.base_index() >= file.segment.base_index()) {
            dead.extend(live.pop().map(|live| live.segment));
        }
        live.push(file);
    }
    (live, dead)
}

/// What [`Place::open_set`] finds.
struct Set<F> {
    live: Vec<Live<F>>,
    dead: Vec<Arc<Segment<F>>>,
    void: Vec<u64>,
    checkpoints: CheckpointFiles,
}

/// Whether a segment's seal tells where it ends: then its entries need not be read to know that.
fn is_sealed_for<F: DiskFile>(live: &Live<F>, next: &SegmentHeader) -> bool {
    let slot = &live.slot;
    slot.next_seq == Some(next.seq)
        && (slot.flushed_index, slot.chain) == (next.base_index.prev(), next.base_chain)
}

/// The first segment that is read: everything behind `index` must be known, and what fits `least_bytes` is read as well.
fn first_to_read<F: DiskFile>(live: &[Live<F>], index: LogIndex, least_bytes: u64) -> usize {
    let holds = live.partition_point(|live| live.segment.base_index() <= index.next()).saturating_sub(1);
    let unsealed =
        live.windows(2).take(holds).position(|pair| !is_sealed_for(&pair[0], pair[1].segment.header()));
    let mut first = unsealed.unwrap_or(holds);
    let bytes_of = |live: &Live<F>| live.segment.header().segment_bytes;
    let mut bytes: u64 = live.iter().skip(first).map(bytes_of).sum();
    while first > 0 && bytes + bytes_of(&live[first - 1]) <= least_bytes {
        first -= 1;
        bytes += bytes_of(&live[first]);
    }
    first
}

/// Publishes a segment that is not read, up to its seal.
fn trust_seal<F: DiskFile>(live: &Live<F>, next: Option<&SegmentHeader>) {
    let next = next.expect("only segments before the one that is read are trusted");
    live.segment.publish(Published {
        last_index: live.slot.flushed_index,
        next_offset: next.base_offset,
        end_position: live.slot.end_position,
    });
}

/// The state of a walk over live segments.
struct Walk<'v> {
    tail: Tail,
    runs: TermRuns,
    last_log_time_ns: u64,
    report: RecoveryReport,
    commit_hint: LogIndex,
    /// The checkpoint's last entry: where the log has that index, it must be this one.
    checkpoint: Option<Tail>,
    /// What must be in the log.
    vouched: LogIndex,
    /// Entries up to here are in the checkpoint, and not shown.
    shown_after: LogIndex,
    visitor: &'v mut dyn RecoveryVisitor,
}

impl<'v> Walk<'v> {
    fn new(
        stored: Option<&StoredCheckpoint>,
        is_behind: bool,
        report: RecoveryReport,
        commit_hint: LogIndex,
        visitor: &'v mut dyn RecoveryVisitor,
    ) -> Self {
        let behind = stored.filter(|_| is_behind);
        let checkpoint = stored.map(|stored| {
            let Checkpoint { id, chain, next_offset, .. } = stored.checkpoint;
            Tail { id, chain, next_offset, end_position: ENTRIES_POSITION }
        });
        let vouched = stored.map_or(Tail::START, StoredCheckpoint::vouched);
        let last_log_time_ns = match stored {
            // Its time is that of entries which may not be here.
            Some(stored) if !stored.is_ahead => stored.checkpoint.log_time_ns,
            Some(_) | None => 0,
        };
        Self {
            // Where there is nothing to read, the log ends with what is known of it.
            tail: vouched,
            runs: behind.map_or_else(TermRuns::new, |stored| stored.runs.clone()),
            last_log_time_ns,
            report,
            commit_hint,
            checkpoint,
            vouched: vouched.id.index,
            shown_after: behind.map_or(LogIndex::ZERO, |stored| stored.vouched().id.index),
            visitor,
        }
    }

    /// The walk begins with this segment: at the start of all logs, or behind what a checkpoint vouches for.
    fn begin<F: DiskFile>(&mut self, first: Option<&Live<F>>) {
        let (Some(first), Some(_)) = (first, &self.checkpoint) else { return };
        self.tail = Tail::before(first.segment.header());
        if self.shown_after == LogIndex::ZERO {
            self.runs = TermRuns::after(self.tail.id);
        }
    }

    /// At the checkpoint's index, its chain value and offset must be those of the log.
    fn check_checkpoint(&self, path: &Path) -> Result<(), LogError> {
        let Some(checkpoint) = self.checkpoint.filter(|at| at.id.index == self.tail.id.index) else {
            return Ok(());
        };
        if (Tail { end_position: self.tail.end_position, ..checkpoint }) == self.tail {
            return Ok(());
        }
        let what = format!("the checkpoint at {} is of another log", checkpoint.id);
        Err(corrupt(path, self.tail.end_position, checkpoint.id.index, Some(checkpoint.id.index), what))
    }

    /// Steps over the seam between two segments: the base values must be those of the end of the log so far.
    fn enter(&mut self, header: &SegmentHeader, path: &Path) -> Result<(), LogError> {
        let expected = Tail::before(header);
        if (Tail { end_position: expected.end_position, ..self.tail }) != expected {
            let what = format!("its base values do not continue the log, which ends with {}", self.tail.id);
            return Err(corrupt(path, 0, header.base_index, None, what));
        }
        self.tail = expected;
        self.check_checkpoint(path)
    }

    /// Walks one segment up to `limit` (exclusive; the last one has none) and publishes what it holds.
    fn segment<F: DiskFile>(&mut self, live: &Live<F>, limit: Option<LogIndex>) -> Result<(), LogError> {
        let segment = &*live.segment;
        let mut scanner = Scanner::new(segment.file(), segment.header().segment_bytes);
        loop {
            self.check_watermark(live)?;
            let next = self.tail.id.index.next();
            if limit == Some(next) {
                break;
            }
            // A checkpoint is written once what it contains is durable.
            let watermark = live.slot.flushed_index.max(self.vouched);
            let durable = limit.is_some() || next <= watermark;
            let standing = if durable { Standing::Durable } else { Standing::Unproven };
            let known_last = limit.map_or(watermark, LogIndex::prev);
            let at = Spot { standing, known_last, slot: &live.slot };
            if !self.entry(segment, &mut scanner, &at)? {
                break;
            }
        }
        let Tail { id, next_offset, end_position, .. } = self.tail;
        segment.publish(Published { last_index: id.index, next_offset, end_position });
        Ok(())
    }

    /// At the watermark's index, its chain and position must be those of the log.
    fn check_watermark<F: DiskFile>(&self, live: &Live<F>) -> Result<(), LogError> {
        let (slot, tail) = (&live.slot, &self.tail);
        if tail.id.index == slot.flushed_index
            && (tail.chain, tail.end_position) != (slot.chain, slot.end_position)
        {
            let what = format!("the watermark disagrees with the entry at index {}", slot.flushed_index);
            let at = Slot::position_of(slot.number);
            return Err(corrupt(live.segment.path(), at, slot.flushed_index, Some(slot.flushed_index), what));
        }
        Ok(())
    }

    /// Judges what lies at the tail. `false`: the segment ends here.
    fn entry<F: DiskFile>(
        &mut self,
        segment: &Segment<F>,
        scanner: &mut Scanner<'_, F>,
        spot: &Spot<'_>,
    ) -> Result<bool, LogError> {
        let position = self.tail.end_position;
        let (found, what) = match scanner.look(position) {
            Ok(Looked::Whole(view)) if self.tail.is_continued_by(view.header()) => {
                self.take(&view, segment);
                self.check_checkpoint(segment.path())?;
                return Ok(true);
            }
            Ok(Looked::Whole(view)) => {
                (Found::Stale, format!("{} lies here, which does not continue the log", view.header().id()))
            }
            Ok(Looked::DamagedBody(header, error)) => {
                (Found::DamagedBody, format!("{}: {error}", header.id()))
            }
            Ok(Looked::DamagedHeader(error)) => (Found::DamagedHeader, error.to_string()),
            Ok(Looked::Unsupported(error)) => (Found::Unsupported, error.to_string()),
            Ok(Looked::Zero) => (Found::Blank, "nothing but zeros".to_owned()),
            Ok(Looked::NoRoom) => (Found::NoRoom, "the file ends".to_owned()),
            Err(error) => (Found::Unreadable, error.to_string()),
        };
        self.stop(segment, scanner, spot, found, what)?;
        Ok(false)
    }

    fn take<F: DiskFile>(&mut self, view: &EntryView<'_>, segment: &Segment<F>) {
        let header = view.header();
        segment.note(header, self.tail.end_position);
        // Terms never fall: `is_continued_by` has looked. The checkpoint's are those of the same entries.
        if header.index > self.runs.last_index() {
            self.runs.push(header.term);
        }
        self.last_log_time_ns = self.last_log_time_ns.max(header.log_time_ns);
        self.report.entries += 1;
        self.report.bytes += u64::from(header.total_bytes);
        self.tail = self.tail.after(header);
        if header.index > self.shown_after {
            self.visitor.entry(view, self.commit_hint);
        }
    }

    /// Something other than the next entry: the end, a cut, or a refusal.
    fn stop<F: DiskFile>(
        &mut self,
        segment: &Segment<F>,
        scanner: &mut Scanner<'_, F>,
        spot: &Spot<'_>,
        found: Found,
        what: String,
    ) -> Result<(), LogError> {
        let position = self.tail.end_position;
        let (mut found, mut claimed) = (found, None);
        let recycled = segment.header().recycled;
        let ends_here = found == Found::Blank || (recycled && found.may_be_left_over());
        let closed_here = spot.slot.clean && position == spot.slot.end_position && ends_here;
        if closed_here && recycled {
            found = Found::Leftover;
        }
        if spot.standing == Standing::Unproven && found != Found::Unreadable && !closed_here {
            match scanner.survey(position, self.tail.id) {
                Ok(rest) => (found, claimed) = refine(found, recycled, rest),
                Err(_) => found = Found::Unreadable,
            }
        }
        self.visitor.ended(spot.standing, found);
        if is_planted(Bug::NoClaimedTail) {
            claimed = None;
        }
        let verdict = decide_entry(spot.standing, found);
        let cuts = is_planted(Bug::CorruptionCut) && verdict == Verdict::Corrupt;
        match if cuts { Verdict::Cut } else { verdict } {
            Verdict::Take | Verdict::End => {}
            Verdict::Cut => {
                let (file, last) = (segment.path().to_owned(), self.tail.id);
                self.report.cut = Some(CutReport { file, position, last, claimed, found });
            }
            Verdict::Corrupt => {
                let first = self.tail.id.index.next();
                let last = (spot.standing == Standing::Durable).then_some(spot.known_last);
                return Err(corrupt(segment.path(), position, first, last, what));
            }
            Verdict::Refuse => return Err(LogError::Unknown { file: segment.path().to_owned(), what }),
        }
        Ok(())
    }
}

/// What is known about the place under judgement.
struct Spot<'a> {
    standing: Standing,
    known_last: LogIndex,
    slot: &'a Slot,
}

/// Looks at what was found again in the light of what lies behind it.
fn refine(found: Found, recycled: bool, rest: Rest) -> (Found, Option<EntryId>) {
    match found {
        _ if rest.unsupported.is_some() => (Found::Unsupported, None),
        // What an older segment left there has lower indexes, so it claims nothing; and where nothing does, no whole
        // header of anything that was ever to follow is left, and the log goes on in place.
        _ if recycled && rest.claimed.is_none() && !rest.gave_up && found.may_be_left_over() => {
            (Found::Leftover, None)
        }
        Found::Blank | Found::NoRoom if rest.dirty_at.is_some() => (Found::Hole, rest.claimed),
        _ => (found, rest.claimed),
    }
}
