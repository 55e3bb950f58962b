//! Random appends, truncations, flushes, rolls, checkpoints, trims, installations, crashes and failed operations against a
//! model.

use std::path::Path;

use tercet::base::ids::{EntryId, GroupId, LogIndex, Term};
use tercet::base::prng::Prng;
use tercet::entry::{Entry, EntryView, LogBase, LogFloor};
use tercet::log::layout::ENTRIES_POSITION;
use tercet::log::{
    Checkpoint, CheckpointOrder, Disk, IDLE_WATERMARK_NS, LogError, LogOptions, LogReader, LogStore,
    RealDisk, Recovered, RecoveryVisitor, StoredCheckpoint, StoredHardState,
};
use tercet::raft::{LogView, TermRuns};
use tercet::sim::disk::{Fault, SimDisk};

use crate::fixture::{dir, entry_after, feed, first_entry, format_here, identity, open, options, reader_of};

/// What must be true of the log, kept beside it.
struct Model {
    prng: Prng,
    seed: u64,
    /// Everything appended.
    log: Vec<Entry>,
    /// Last index that a flush has vouched for.
    floor: u64,
    /// Last index that was handed to the disk.
    written: u64,
    term: u64,
    generation: u64,
    now_ns: u64,
    /// Last index that counts as committed: in a checkpoint that was ordered.
    committed: u64,
    /// The log may begin here, and nothing from here on may be missing.
    begins: u64,
    /// The log that an installed checkpoint belongs to, which this one follows up to there.
    leading: Vec<Entry>,
    /// Such a log whose installation was begun and not finished, and how much of it stands before this node's.
    installing: Option<(Vec<Entry>, usize)>,
    hard_state: StoredHardState,
    /// A hard state whose write failed: it may or may not be there.
    hard_state_maybe: Option<StoredHardState>,
}

struct Run<D: Disk> {
    store: LogStore<D>,
    reader: LogReader<D::File>,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed),
            seed,
            log: vec![first_entry()],
            floor: 1,
            written: 1,
            term: 1,
            generation: 0,
            now_ns: 0,
            committed: 1,
            begins: 1,
            leading: Vec::new(),
            installing: None,
            hard_state: StoredHardState::default(),
            hard_state_maybe: None,
        }
    }

    fn last(&self) -> &Entry {
        self.log.last().unwrap()
    }

    /// One random step. After an error the store is lost.
    fn step<D: Disk>(&mut self, run: &mut Run<D>) -> Result<(), LogError> {
        match self.prng.below(100) {
            0..45 => self.append(run)?,
            45..55 => {
                self.written = self.last().index().0;
                run.store.write_staged()?;
            }
            55..75 => {
                self.written = self.last().index().0;
                let flushed = run.store.flush()?;
                assert_eq!((flushed.last, flushed.generation), (self.last().index(), self.generation));
                self.floor = flushed.last.0;
            }
            75..80 => self.truncate(run)?,
            // Not before the log has reached the one that was installed.
            80..82 if self.last().index().0 >= self.committed => {
                let order = self.checkpoint();
                self.written = self.last().index().0;
                run.store.order_checkpoint(order);
            }
            82..83 => self.install(run)?,
            83..90 => {
                self.written = self.last().index().0;
                run.store.checkpoint_step()?;
                self.floor = self.floor.max(run.store.flushed_index().0);
                self.now_ns += self.prng.below(2 * IDLE_WATERMARK_NS);
                run.store.set_commit_hint(LogIndex(self.prng.below(self.floor + 1)));
                run.store.idle(self.now_ns)?;
            }
            90..94 => self.vote(run)?,
            _ => self.read(run),
        }
        assert!(run.store.flushed_index().0 >= self.floor);
        Ok(())
    }

    fn append<D: Disk>(&mut self, run: &mut Run<D>) -> Result<(), LogError> {
        let events = 1 + self.prng.below(3) as usize;
        let body = self.prng.below(1500) as usize;
        let known = self.leading.get(self.log.len()).cloned();
        let entry = known.unwrap_or_else(|| entry_after(self.last(), self.term, events, body));
        // A roll inside writes what was staged.
        self.written = self.last().index().0;
        run.store.append(entry.clone())?;
        self.floor = self.floor.max(run.store.flushed_index().0);
        self.log.push(entry);
        Ok(())
    }

    fn truncate<D: Disk>(&mut self, run: &mut Run<D>) -> Result<(), LogError> {
        let last = self.last().index().0;
        if last <= self.committed {
            return Ok(());
        }
        let first_removed = (self.committed + 1).max(last - self.prng.below(12.min(last - 1)));
        self.floor = self.floor.min(first_removed - 1);
        self.generation += 1;
        run.store.truncate_from(LogIndex(first_removed), self.generation)?;
        self.log.truncate(first_removed as usize - 1);
        self.written = self.written.min(first_removed - 1);
        self.term += 1;
        Ok(())
    }

    /// A checkpoint at an index from which on truncations are still possible, and a beginning of the log before it.
    fn checkpoint(&mut self) -> CheckpointOrder {
        self.committed += self.prng.below(self.last().index().0 - self.committed + 1);
        self.begins += self.prng.below(self.committed - self.begins.min(self.committed) + 1);
        order_at(&self.log[..self.committed as usize], self.begins)
    }

    /// The log of a leader that is ahead takes this one's place, or begins to.
    fn install<D: Disk>(&mut self, run: &mut Run<D>) -> Result<(), LogError> {
        let committed = self.committed as usize;
        let mut log =
            if self.log.len() < committed { &self.leading } else { &self.log }[..committed].to_vec();
        self.term += 1;
        for _ in 0..1 + self.prng.below(12) {
            log.push(entry_after(log.last().unwrap(), self.term, 1, 700));
        }
        // It begins behind the checkpoint, or before it.
        let length = log.len() as u64;
        let base = if self.prng.chance(500_000) { length } else { committed as u64 };
        let before = log[base as usize - 1].clone();
        let next_offset = before.header().next_offset();
        let (chain, log_time_ns) = (before.chain(), before.header().log_time_ns);
        let base = LogBase { id: before.id(), chain, next_offset, log_time_ns };
        let order = CheckpointOrder { runs: TermRuns::after(base.id), ..order_at(&log, base.id.index.0 + 1) };
        self.installing = Some((log, base.id.index.0 as usize));
        self.generation += 1;
        run.store.install_checkpoint(&order, &base, self.generation)?;
        self.take_installed();
        Ok(())
    }

    fn take_installed(&mut self) {
        let (leading, base) = self.installing.take().unwrap();
        self.log = leading[..base].to_vec();
        self.committed = leading.len() as u64;
        self.leading = leading;
        let last = base as u64;
        (self.floor, self.written, self.begins) = (last, last, last + 1);
    }

    fn vote<D: Disk>(&mut self, run: &mut Run<D>) -> Result<(), LogError> {
        let claimed_tail = if self.prng.chance(500_000) { None } else { self.hard_state.claimed_tail };
        let next = StoredHardState { term: Term(self.term), claimed_tail, ..self.hard_state.clone() };
        self.hard_state_maybe = Some(next.clone());
        run.store.write_hard_state(&next)?;
        (self.hard_state, self.hard_state_maybe) = (next, None);
        Ok(())
    }

    fn read<D: Disk>(&mut self, run: &mut Run<D>) {
        feed(&mut run.store, &mut run.reader);
        let begins = run.store.first_index().0;
        assert!(begins <= self.begins, "seed {}: gone up to {begins}", self.seed);
        let first = begins + self.prng.below(self.last().index().0.saturating_sub(begins) + 1);
        let got = run.reader.read_from_index(LogIndex(first), LogIndex(u64::MAX >> 2), 8000);
        match got {
            Ok(got) => {
                let from = first as usize - 1;
                assert_eq!(got, self.log[from..from + got.len()], "seed {}", self.seed);
                assert!(!got.is_empty() || first > self.floor, "seed {}: flushed but unread", self.seed);
            }
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    /// Checks what recovery found against what must and may be there, and goes on from it.
    fn recovered(&mut self, recovered: &Recovered, seen: Vec<Entry>) {
        let seed = self.seed;
        let at = recovered.report.checkpoint;
        let is_other = |(log, _): &mut (Vec<Entry>, usize)| log.last().map(Entry::id) != at;
        if self.installing.take_if(is_other).is_none() && self.installing.is_some() {
            self.take_installed();
        }
        let begins = seen.first().map_or(recovered.last.index.0 + 1, |first| first.index().0);
        let last = begins - 1 + seen.len() as u64;
        assert!(begins <= self.begins, "seed {seed}: the log begins at {begins}, not {}", self.begins);
        assert!(recovered.floor.index.0 <= self.begins && recovered.floor.index.0 >= begins);
        assert!(recovered.commit_hint.0 >= recovered.floor.index.0 - 1);
        assert!(last >= self.floor, "seed {seed}: {} was flushed, {last} is left", self.floor);
        assert!(
            last <= self.written.max(self.floor),
            "seed {seed}: {last} was never written ({})",
            self.written
        );
        assert_eq!(seen, self.log[begins as usize - 1..last as usize], "seed {seed}");
        let end = &self.log[last as usize - 1];
        assert_eq!((recovered.last, recovered.last_chain), (end.id(), end.chain()));
        assert_eq!(recovered.next_offset, end.header().next_offset());
        assert!(recovered.commit_hint <= recovered.last.index);
        let mut stored = recovered.hard_state.clone();
        let claimed = stored.claimed_tail.take();
        // Whether the end was orderly is the store's own note.
        let closed = stored.closed;
        let fits = |state: &StoredHardState| {
            StoredHardState { claimed_tail: None, closed, ..state.clone() } == stored
        };
        assert!(fits(&self.hard_state) || self.hard_state_maybe.as_ref().is_some_and(fits), "seed {seed}");
        if let Some(claimed) = claimed {
            self.check_claim(claimed, recovered);
        }
        self.hard_state = recovered.hard_state.clone();
        self.hard_state_maybe = None;
        self.log.truncate(last as usize);
        (self.floor, self.written) = (last, last);
        // An order that never got to the disk trims nothing.
        self.committed = self.committed.min(at.map_or(0, |at| at.index.0).max(last));
        self.begins = recovered.floor.index.0;
        self.generation = 0;
        self.term += 1;
    }

    /// A claim is never invented: it is an old one, or an entry that was written.
    fn check_claim(&self, claimed: EntryId, recovered: &Recovered) {
        assert!(claimed > recovered.last);
        let maybe = self.hard_state_maybe.as_ref().and_then(|state| state.claimed_tail);
        let old = [self.hard_state.claimed_tail, maybe].contains(&Some(claimed));
        let written = self.log.iter().any(|entry| entry.id() == claimed);
        assert!(old || written, "seed {}: claims {claimed}", self.seed);
    }
}

/// A checkpoint at the end of `log`, in whose state nobody looks.
fn order_at(log: &[Entry], begins: u64) -> CheckpointOrder {
    let last = log.last().unwrap();
    let checkpoint = Checkpoint {
        cluster_id: identity().cluster_id,
        group: GroupId(0),
        id: last.id(),
        chain: last.chain(),
        next_offset: last.header().next_offset(),
        log_time_ns: last.header().log_time_ns,
        configuration: log[0].clone(),
        producers: vec![7; 300],
    };
    let offset = match log.get(begins as usize - 1) {
        Some(entry) => entry.header().base_offset,
        None => last.header().next_offset(),
    };
    let terms: Vec<Term> = log.iter().map(|entry| entry.header().term).collect();
    CheckpointOrder {
        image: checkpoint.encode().into(),
        id: last.id(),
        floor: LogFloor { index: LogIndex(begins), offset },
        runs: TermRuns::from_terms(&terms),
    }
}

/// Recovery behind the checkpoint finds the same log as recovery of all of it.
fn check_short_way(disk: &SimDisk, options: LogOptions, whole: &Recovered, seen: &[Entry]) {
    struct Shown(Option<LogIndex>, Vec<Entry>);
    impl RecoveryVisitor for Shown {
        fn checkpoint(&mut self, stored: &StoredCheckpoint) {
            assert!(self.0.is_none() && self.1.is_empty());
            let base = stored.floor.index.prev();
            self.0 = Some(if stored.is_ahead { base } else { stored.checkpoint.id.index });
        }
        fn entry(&mut self, entry: &EntryView<'_>, _: LogIndex) {
            self.1.push(Entry::decode(entry.bytes()).unwrap());
        }
    }
    let mut shown = Shown(None, Vec::new());
    let opened = LogStore::open_behind_checkpoint(disk.snapshot(1), dir(), options, &mut shown);
    let (mut store, short) = opened.unwrap();
    assert_eq!((short.last, short.last_chain), (whole.last, whole.last_chain));
    assert_eq!((short.next_offset, short.floor), (whole.next_offset, whole.floor));
    assert_eq!(short.last_log_time_ns, whole.last_log_time_ns);
    let behind = shown.0.map_or(0, |index| index.0);
    let expected: Vec<&Entry> = seen.iter().filter(|entry| entry.index().0 > behind).collect();
    assert_eq!(shown.1.iter().collect::<Vec<_>>(), expected);
    for entry in seen.iter().filter(|entry| entry.index() >= short.floor.index) {
        assert_eq!(short.runs.term_at(entry.index()), Some(entry.header().term));
    }
    // What was not read at the start can be read all the same.
    let mut reader = reader_of(&mut store);
    if let Some(first) = seen.first() {
        assert_eq!(reader.read_from_index(first.index(), LogIndex(u64::MAX >> 2), 1 << 30).unwrap(), seen);
    }
    for entry in seen.iter().step_by(7).filter(|entry| entry.header().event_count > 0) {
        let offset = entry.header().base_offset;
        assert_eq!(reader.find_index_of_offset(offset).unwrap(), Some(entry.index()));
    }
}

fn reopen<D: Disk + Clone>(
    disk: &D,
    dir: &Path,
    options: LogOptions,
    label: &str,
) -> (Run<D>, Recovered, Vec<Entry>) {
    let opened = open(disk.clone(), dir, options);
    let (mut store, recovered, seen) = opened.unwrap_or_else(|error| panic!("{label}: {error}"));
    let reader = reader_of(&mut store);
    (Run { store, reader }, recovered, seen)
}

fn torture(seed: u64, steps: usize) -> [usize; 4] {
    let options = options(ENTRIES_POSITION + (24 << 10));
    let disk = SimDisk::new(seed);
    format_here(&disk, dir(), &options);
    let mut model = Model::new(seed);
    let (mut run, ..) = reopen(&disk, dir(), options, &format!("seed {seed}"));
    let [mut crashes, mut cuts, mut trims, mut ahead] = [0; 4];
    for _ in 0..steps {
        if model.prng.chance(40_000) {
            let fault = if model.prng.chance(800_000) { Fault::Crash } else { Fault::Io };
            disk.plan(1 + model.prng.below(6), fault);
        }
        let outcome = model.step(&mut run);
        let stop = model.prng.below(1000);
        match outcome {
            Ok(()) if stop >= 15 => continue,
            Ok(()) if stop < 5 => {
                // An orderly end, as far as the planned faults let it.
                model.written = model.last().index().0;
                if run.store.close().is_ok() {
                    model.floor = model.last().index().0;
                }
            }
            Ok(()) | Err(_) => {}
        }
        drop(run);
        disk.heal();
        // The machine or only the process dies, in the middle of an operation or between two.
        if model.prng.chance(600_000) {
            disk.restart();
        } else {
            disk.kill();
        }
        crashes += 1;
        // Recovery may crash as well.
        if model.prng.chance(200_000) {
            disk.plan(1 + model.prng.below(8), Fault::Crash);
            let _ = open(disk.clone(), dir(), options).map(|_| ());
            disk.heal();
            if model.prng.chance(500_000) {
                disk.restart();
            } else {
                disk.kill();
            }
        }
        let (reopened, recovered, seen) = reopen(&disk, dir(), options, &format!("seed {seed}"));
        cuts += usize::from(recovered.report.cut.is_some());
        trims += usize::from(recovered.floor.index > LogIndex(1));
        ahead += usize::from(recovered.report.checkpoint.is_some_and(|at| at.index > recovered.last.index));
        check_short_way(&disk, options, &recovered, &seen);
        model.recovered(&recovered, seen);
        run = reopened;
    }
    [crashes, cuts, trims, ahead]
}

#[test]
fn torture_on_the_simulated_disk_keeps_every_flushed_entry() {
    let mut sums = [0; 4];
    for seed in 1..=400 {
        let counts = torture(seed, 250);
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [crashes, cuts, trims, ahead] = sums;
    let tame = format!(
        "too tame: {crashes} crashes, {cuts} torn tails, {trims} starts of trimmed logs, {ahead} behind the installed \
         checkpoint"
    );
    assert!(crashes > 2000 && cuts > 150 && trims > 500 && ahead > 100, "{tame}");
}

#[test]
fn the_same_steps_on_the_real_disk_without_crashes() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("node");
    let options = options(ENTRIES_POSITION + (64 << 10));
    format_here(&RealDisk, &data_dir, &options);
    let mut model = Model::new(7);
    let (mut run, ..) = reopen(&RealDisk, &data_dir, options, "real disk");
    for _ in 0..4 {
        for _ in 0..150 {
            model.step(&mut run).unwrap();
        }
        drop(run);
        let (reopened, recovered, seen) = reopen(&RealDisk, &data_dir, options, "real disk");
        assert_eq!(recovered.report.cut, None);
        model.recovered(&recovered, seen);
        run = reopened;
    }
}
