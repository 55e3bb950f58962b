//! Random appends, truncations, flushes, rolls, crashes and failed operations against a model.

use std::path::Path;

use tercet::base::ids::{EntryId, LogIndex, Term};
use tercet::base::prng::Prng;
use tercet::entry::Entry;
use tercet::log::layout::ENTRIES_POSITION;
use tercet::log::{
    Disk, IDLE_WATERMARK_NS, LogError, LogOptions, LogReader, LogStore, RealDisk, Recovered, StoredHardState,
};
use tercet::sim::disk::{Fault, SimDisk};

use crate::fixture::{dir, entry_after, feed, first_entry, format_here, open, options, reader_of};

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
            80..90 => {
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
        let entry = entry_after(self.last(), self.term, events, body);
        // A roll inside writes what was staged.
        self.written = self.last().index().0;
        run.store.append(entry.clone())?;
        self.floor = self.floor.max(run.store.flushed_index().0);
        self.log.push(entry);
        Ok(())
    }

    fn truncate<D: Disk>(&mut self, run: &mut Run<D>) -> Result<(), LogError> {
        let last = self.last().index().0;
        if last < 2 {
            return Ok(());
        }
        let first_removed = 2.max(last - self.prng.below(12.min(last - 1)));
        self.floor = self.floor.min(first_removed - 1);
        self.generation += 1;
        run.store.truncate_from(LogIndex(first_removed), self.generation)?;
        self.log.truncate(first_removed as usize - 1);
        self.written = self.written.min(first_removed - 1);
        self.term += 1;
        Ok(())
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
        let first = 1 + self.prng.below(self.last().index().0);
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
        let last = seen.len() as u64;
        assert!(last >= self.floor, "seed {seed}: {} was flushed, {last} is left", self.floor);
        assert!(
            last <= self.written.max(self.floor),
            "seed {seed}: {last} was never written ({})",
            self.written
        );
        assert_eq!(seen, self.log[..seen.len()], "seed {seed}");
        assert_eq!(
            (recovered.last, recovered.last_chain),
            (self.log[seen.len() - 1].id(), seen.last().unwrap().chain())
        );
        assert!(recovered.commit_hint <= recovered.last.index);
        let mut stored = recovered.hard_state.clone();
        let claimed = stored.claimed_tail.take();
        let fits =
            |state: &StoredHardState| StoredHardState { claimed_tail: None, ..state.clone() } == stored;
        assert!(fits(&self.hard_state) || self.hard_state_maybe.as_ref().is_some_and(fits), "seed {seed}");
        if let Some(claimed) = claimed {
            self.check_claim(claimed, recovered);
        }
        self.hard_state = recovered.hard_state.clone();
        self.hard_state_maybe = None;
        (self.log, self.floor, self.written) = (seen, last, last);
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

fn torture(seed: u64, steps: usize) -> (usize, usize) {
    let options = options(ENTRIES_POSITION + (24 << 10));
    let disk = SimDisk::new(seed);
    format_here(&disk, dir(), &options);
    let mut model = Model::new(seed);
    let (mut run, ..) = reopen(&disk, dir(), options, &format!("seed {seed}"));
    let (mut crashes, mut cuts) = (0, 0);
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
        model.recovered(&recovered, seen);
        run = reopened;
    }
    (crashes, cuts)
}

#[test]
fn torture_on_the_simulated_disk_keeps_every_flushed_entry() {
    let (mut crashes, mut cuts) = (0, 0);
    for seed in 1..=400 {
        let (crashed, cut) = torture(seed, 250);
        crashes += crashed;
        cuts += cut;
    }
    assert!(crashes > 2000 && cuts > 150, "too tame: {crashes} crashes, {cuts} torn tails");
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
