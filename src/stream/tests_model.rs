//! Random histories against a model that keeps the whole log and works everything out again for every question.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestCaseError};
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::base::ids::{Epoch, LogIndex, Offset, ProducerId, Sequence};
use crate::base::limits::PRODUCER_RUNS_MAX;
use crate::entry::{Entry, EntryKind};

use super::tests_kit::Desk;
use super::{Admit, OpenError, OpenPlan, Producers};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// One step of a history. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// A client offers an event: the next one, `back` before it, or one too far ahead.
    Offer {
        producer: usize,
        epoch_back: u32,
        back: i64,
    },
    Seal,
    Open(usize),
    Noop,
    Configure {
        window_ns: u64,
        producers_max: u32,
    },
    Commit(usize),
    Wait(u64),
    /// The leader is deposed; of what is not committed so many entries survive, under a new leader.
    Depose(usize),
    Restart,
}

/// Steps of a history in which windows have up to `window_ns_max`; waits are of up to 15.
fn step(window_ns_max: u64) -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (0..4usize, prop_oneof![3 => Just(0i64), 2 => -1..4i64], 0..8u32).prop_map(
            |(producer, back, epoch)| Step::Offer { producer, epoch_back: u32::from(epoch == 0), back }
        ),
        6 => Just(Step::Seal),
        4 => (0..NAMES.len()).prop_map(Step::Open),
        1 => Just(Step::Noop),
        1 => (1..window_ns_max, 1..5u32).prop_map(|(window_ns, producers_max)| Step::Configure { window_ns, producers_max }),
        5 => (0..4usize).prop_map(Step::Commit),
        5 => (1..16u64).prop_map(Step::Wait),
        1 => (0..4usize).prop_map(Step::Depose),
        1 => Just(Step::Restart),
    ]
}

/// A producer as the model knows it: every event it ever wrote.
#[derive(Clone, Debug)]
struct Known {
    name: &'static str,
    epoch: u32,
    events: Vec<(u64, u64)>,
    last_active_ns: u64,
}

/// The meaning of a log, worked out from its first entry on.
#[derive(Clone, Debug, Default)]
struct Meaning {
    producers: BTreeMap<u64, Known>,
    window_ns: u64,
    producers_max: usize,
    log_time_ns: u64,
    floor_ns: u64,
}

impl Meaning {
    fn of(entries: &[Entry]) -> Self {
        let mut meaning = Self::default();
        entries.iter().for_each(|entry| meaning.add(entry));
        meaning
    }

    fn add(&mut self, entry: &Entry) {
        let header = entry.header();
        self.log_time_ns = self.log_time_ns.max(header.log_time_ns);
        match header.kind {
            EntryKind::Noop | EntryKind::Trim => {}
            EntryKind::Configuration => {
                let configuration = entry.configuration().unwrap();
                self.window_ns = configuration.producers_window_ns;
                self.producers_max = configuration.producers_max as usize;
            }
            EntryKind::OpenProducer => {
                let name = entry.open_producer().unwrap().name;
                let name = NAMES.into_iter().find(|known| *known == name).unwrap();
                let (now_ns, count) = (self.log_time_ns, self.producers.len());
                let existing = self.producers.values_mut().find(|known| known.name == name);
                if let Some(known) = existing {
                    known.epoch += 1;
                    known.last_active_ns = now_ns;
                } else if count < self.producers_max {
                    let known = Known { name, epoch: 1, events: Vec::new(), last_active_ns: now_ns };
                    self.producers.insert(header.index.0, known);
                }
            }
            EntryKind::Events => {
                let events = entry.events().unwrap();
                for (offset, event) in &events {
                    let id = events.producers().get(event.producer_slot).unwrap().id;
                    let known = self.producers.get_mut(&id.0).unwrap();
                    assert_eq!(
                        event.sequence.0,
                        known.events.len() as u64 + 1,
                        "written exactly once, in order"
                    );
                    known.events.push((offset.0, header.index.0));
                    known.last_active_ns = self.log_time_ns;
                }
            }
        }
        self.floor_ns = self.floor_ns.max(self.log_time_ns.saturating_sub(self.window_ns));
        self.producers.retain(|_, known| known.last_active_ns >= self.floor_ns);
    }

    fn would_open(&self, name: &str) -> Result<OpenPlan, OpenError> {
        let known = self.producers.iter().find(|(_, known)| known.name == name);
        match known {
            Some((id, known)) => {
                Ok(OpenPlan { existing: Some(ProducerId(*id)), epoch: Epoch(known.epoch + 1) })
            }
            None if self.producers.len() < self.producers_max => {
                Ok(OpenPlan { existing: None, epoch: Epoch(1) })
            }
            None => Err(OpenError::TooMany { limit: self.producers_max as u32 }),
        }
    }
}

/// A leader, its log, and what it has promised.
struct World {
    desk: Desk,
    leader: Producers,
    commit: LogIndex,
    staged: Vec<(ProducerId, u32, &'static str, u64)>,
}

impl World {
    fn new() -> Self {
        let desk = Desk::new(30, 3);
        let leader = desk.led_from(LogIndex::ZERO);
        Self { desk, leader, commit: LogIndex::ZERO, staged: Vec::new() }
    }

    fn tail(&self) -> Meaning {
        Meaning::of(&self.desk.entries)
    }

    /// What the model would answer, from the whole log and the staged batch.
    fn expect(&self, tail: &Meaning, id: u64, epoch: u32, sequence: u64) -> Admit {
        let Some(known) = tail.producers.get(&id) else { return Admit::UnknownProducer };
        if epoch != known.epoch {
            let fenced = Admit::Fenced { current: Epoch(known.epoch) };
            return if epoch < known.epoch { fenced } else { Admit::UnknownProducer };
        }
        let mut events = known.events.clone();
        let index = self.desk.last_index().next();
        for (place, staged) in self.staged.iter().enumerate() {
            if staged.0.0 == id {
                events.push((self.desk.next_offset().plus(place as u64).0, index.0));
            }
        }
        let next = events.len() as u64 + 1;
        if sequence == next {
            return Admit::Append;
        }
        if sequence > next || sequence == 0 {
            return Admit::Gap { expected: Sequence(next) };
        }
        let (offset, index) = events[sequence as usize - 1];
        if index > self.commit.0 {
            return Admit::DuplicatePending { offset: Offset(offset), index: LogIndex(index) };
        }
        let committed: Vec<u64> =
            events.iter().filter(|(_, index)| *index <= self.commit.0).map(|(offset, _)| *offset).collect();
        let runs: Vec<&[u64]> = committed.chunk_by(|a, b| a + 1 == *b).collect();
        let remembered = runs.iter().rev().take(PRODUCER_RUNS_MAX).map(|run| run.len() as u64).sum::<u64>();
        if sequence > committed.len() as u64 - remembered {
            Admit::Duplicate { offset: Offset(offset) }
        } else {
            Admit::DuplicateOffsetUnknown
        }
    }

    fn offer(&mut self, producer: usize, epoch_back: u32, back: i64) -> Result<(), TestCaseError> {
        let tail = self.tail();
        let open: Vec<(u64, Known)> = tail.producers.iter().map(|(id, known)| (*id, known.clone())).collect();
        let Some((id, known)) = open.get(producer % NAMES.len().max(open.len())) else { return Ok(()) };
        // A client learns of its producer when the open is committed.
        if *id > self.commit.0 {
            return Ok(());
        }
        let staged = self.staged.iter().filter(|staged| staged.0.0 == *id).count();
        let next = (known.events.len() + staged) as i64 + 1;
        let (epoch, sequence) = (known.epoch.saturating_sub(epoch_back), (next - back).max(0) as u64);
        let found = self.leader.classify(ProducerId(*id), Epoch(epoch), Sequence(sequence));
        prop_assert_eq!(found, self.expect(&tail, *id, epoch, sequence));
        if found == Admit::Append {
            self.leader.stage(ProducerId(*id), Sequence(sequence));
            self.staged.push((ProducerId(*id), epoch, known.name, sequence));
            if self.staged.len() == 64 {
                self.seal();
            }
        }
        Ok(())
    }

    /// Every entry is appended behind the batch that has begun.
    fn seal(&mut self) {
        if !self.staged.is_empty() {
            let entry = self.desk.batch(&std::mem::take(&mut self.staged));
            self.leader.note_appended(&entry.view()).unwrap();
        }
    }

    fn append(&mut self, make: impl FnOnce(&mut Desk) -> Entry) {
        self.seal();
        let entry = make(&mut self.desk);
        self.leader.note_appended(&entry.view()).unwrap();
    }

    fn commit(&mut self, count: usize) {
        for _ in 0..count {
            if self.commit < self.desk.last_index() {
                let entry = self.desk.entries[self.commit.0 as usize].clone();
                self.leader.apply(&entry.view()).unwrap();
                self.commit = self.commit.next();
            }
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Offer { producer, epoch_back, back } => self.offer(producer, epoch_back, back)?,
            Step::Seal => self.seal(),
            Step::Open(name) => {
                self.seal();
                if self.leader.would_open(NAMES[name]).is_ok() {
                    self.append(|desk| desk.open(NAMES[name]));
                }
            }
            Step::Noop => self.append(Desk::noop),
            Step::Configure { window_ns, producers_max } => {
                self.append(|desk| desk.configure(window_ns, producers_max));
            }
            Step::Commit(count) => self.commit(count),
            Step::Wait(ns) => self.desk.log_time_ns += ns,
            Step::Depose(kept) => {
                self.staged.clear();
                let last = self.commit.0 + (kept as u64).min(self.desk.last_index().since(self.commit));
                self.desk.truncate(LogIndex(last));
                self.leader.drop_overlay();
                for entry in &self.desk.entries[self.commit.0 as usize..] {
                    self.leader.note_appended(&entry.view()).unwrap();
                }
                self.append(Desk::noop);
            }
            Step::Restart => {
                self.staged.clear();
                self.leader = self.desk.led_from(self.commit);
            }
        }
        Ok(())
    }

    /// Asks everything there is to ask.
    fn check(&self) -> Result<(), TestCaseError> {
        let tail = self.tail();
        for id in 1..=self.desk.last_index().0 {
            let epoch = tail.producers.get(&id).map_or(1, |known| known.epoch);
            let written = tail.producers.get(&id).map_or(0, |known| known.events.len()) + self.staged.len();
            for sequence in 0..=written as u64 + 2 {
                let found = self.leader.classify(ProducerId(id), Epoch(epoch), Sequence(sequence));
                prop_assert_eq!(found, self.expect(&tail, id, epoch, sequence), "{} of {}", sequence, id);
            }
        }
        for name in NAMES {
            prop_assert_eq!(self.leader.would_open(name), tail.would_open(name), "open {}", name);
        }
        let committed = Meaning::of(&self.desk.entries[..self.commit.0 as usize]);
        prop_assert_eq!(self.leader.count(), committed.producers.len());
        prop_assert_eq!(self.leader.checksum(), self.leader.recompute_checksum());
        let follower = self.desk.applied_to(self.commit);
        prop_assert!(self.leader.without_overlay() == follower, "a follower has the same table");
        prop_assert_eq!(self.leader.checksum(), follower.checksum());
        Ok(())
    }
}

proptest! {
    #![proptest_config(Config { cases: 96, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_history_agrees_with_the_naive_model(steps in proptest::collection::vec(step(40), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
            prop_assert_eq!(world.leader.checksum(), world.leader.recompute_checksum());
        }
        world.check()?;
        world.seal();
        world.commit(1000);
        world.check()?;
        prop_assert!(world.leader == world.leader.without_overlay(), "all is committed: no overlay is left");
    }
}

#[test]
fn a_long_history_agrees_with_the_naive_model() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut world = World::new();
    for turn in 0..4_000 {
        let next = step(2_000).new_tree(&mut runner).unwrap().current();
        world.take(&next).unwrap();
        if turn % 100 == 0 {
            world.check().unwrap();
        }
    }
    world.check().unwrap();
    assert!(world.desk.next_offset() > Offset(200), "{} events", world.desk.next_offset());
}
