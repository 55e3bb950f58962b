//! The committed table of producers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::checksum::{fold64, hash64};
use crate::base::ids::{Epoch, Offset, ProducerId, Sequence};

use super::marks::Marks;
use super::producers::BrokenRule;
use super::runs::{Run, Runs};

/// Most expired producers that one entry removes, so that a log that slept for days stalls nobody when it wakes. An
/// expired producer that is still there is treated as gone all the same.
pub const EXPIRED_PER_ENTRY_MAX: usize = 256;

/// One producer, as of the last applied entry.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Producer {
    pub(super) name: Arc<str>,
    name_hash: u64,
    /// How often the name was opened.
    pub(super) epoch: Epoch,
    /// The sequence that comes next; 1 for a fresh one.
    pub(super) next_sequence: Sequence,
    /// Where its newest events stand.
    pub(super) runs: Runs,
    /// Log time of its last event or opening.
    pub(super) last_active_ns: u64,
}

impl Producer {
    fn hash(&self, id: ProducerId) -> u64 {
        self.hash_with(id, self.name_hash, self.runs.hash())
    }

    fn hash_with(&self, id: ProducerId, name_hash: u64, runs_hash: u64) -> u64 {
        let words = [u64::from(self.epoch.0), self.next_sequence.0, self.last_active_ns, runs_hash];
        words.into_iter().fold(fold64(name_hash, id.0), fold64)
    }
}

/// What opening a name did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OpenOutcome {
    /// The name is open under this id.
    Opened(ProducerId),
    /// The table is full; nothing changed.
    Full,
}

/// All producers of the committed log.
///
/// Invariants: `names` holds each producer's name once; `by_activity` holds each producer once, under its
/// `last_active_ns`; `checksum` is the XOR of all producers' hashes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Table {
    producers: BTreeMap<ProducerId, Producer>,
    names: BTreeMap<Arc<str>, ProducerId>,
    by_activity: BTreeSet<(u64, ProducerId)>,
    checksum: u64,
    pub(super) marks: Marks,
}

impl Table {
    pub(super) fn new() -> Self {
        Self::with_marks(Marks::START)
    }

    /// Without producers, as of `marks`.
    pub(super) fn with_marks(marks: Marks) -> Self {
        Self {
            producers: BTreeMap::new(),
            names: BTreeMap::new(),
            by_activity: BTreeSet::new(),
            checksum: 0,
            marks,
        }
    }

    /// All producers, ascending by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ProducerId, &Producer)> {
        self.producers.iter()
    }

    /// Puts back a producer of a stored table. False where its name or id is there already.
    pub(super) fn restore(
        &mut self,
        id: ProducerId,
        name: &str,
        (epoch, next_sequence, last_active_ns): (Epoch, Sequence, u64),
        runs: Runs,
    ) -> bool {
        if self.producers.contains_key(&id) || self.names.contains_key(name) {
            return false;
        }
        let name: Arc<str> = Arc::from(name);
        let name_hash = hash64(0, name.as_bytes());
        let producer =
            Producer { name: Arc::clone(&name), name_hash, epoch, next_sequence, runs, last_active_ns };
        self.checksum ^= producer.hash(id);
        self.by_activity.insert((last_active_ns, id));
        self.names.insert(name, id);
        self.producers.insert(id, producer);
        true
    }

    /// A producer, expired or not.
    pub(super) fn get(&self, id: ProducerId) -> Option<&Producer> {
        self.producers.get(&id)
    }

    /// The id under which a name stands, expired or not.
    pub(super) fn id_of(&self, name: &str) -> Option<ProducerId> {
        self.names.get(name).copied()
    }

    /// Producers in the table, those expired but not yet removed included.
    pub(super) fn len(&self) -> usize {
        self.producers.len()
    }

    pub(super) fn checksum(&self) -> u64 {
        self.checksum
    }

    /// The checksum from scratch.
    pub(super) fn recompute_checksum(&self) -> u64 {
        self.producers.iter().fold(0, |sum, (id, producer)| {
            let name_hash = hash64(0, producer.name.as_bytes());
            sum ^ producer.hash_with(*id, name_hash, producer.runs.recompute_hash())
        })
    }

    /// Producers from the longest idle on, with the time of their last activity.
    pub(super) fn longest_idle(&self) -> impl Iterator<Item = (u64, ProducerId)> + '_ {
        self.by_activity.iter().copied()
    }

    /// Advances a producer by the runs of one entry.
    ///
    /// # Errors
    /// The log breaks what the leader that wrote it must keep: the producer is unknown, expired or fenced, or a sequence
    /// is left out or doubled. The producer is as it was.
    pub(super) fn advance(
        &mut self,
        id: ProducerId,
        epoch: Epoch,
        runs: impl Iterator<Item = Run> + Clone,
        now_ns: u64,
    ) -> Result<(), (Option<Offset>, BrokenRule)> {
        let first = runs.clone().next().map(|run| run.first_offset);
        let broken = |rule| (first, rule);
        let producer = self.get(id).ok_or_else(|| broken(BrokenRule::Unknown))?;
        if producer.last_active_ns < self.marks.expiry_floor_ns {
            return Err(broken(BrokenRule::Expired));
        }
        if producer.epoch != epoch {
            return Err(broken(BrokenRule::Epoch { found: epoch, current: producer.epoch }));
        }
        let mut expected = producer.next_sequence;
        for run in runs.clone() {
            if run.first_sequence != expected {
                let rule = BrokenRule::Sequence { found: run.first_sequence, expected };
                return Err((Some(run.first_offset), rule));
            }
            expected = run.end_sequence();
        }
        self.change(id, now_ns, |producer| {
            for run in runs {
                producer.next_sequence = run.end_sequence();
                producer.runs.push(run);
            }
        });
        Ok(())
    }

    /// Opens `name` by the entry at `index_id`: a new epoch where the name is known and live, else a new producer.
    pub(super) fn open(&mut self, name: &str, index_id: ProducerId, now_ns: u64) -> OpenOutcome {
        if let Some(id) = self.id_of(name) {
            if self.get(id).is_some_and(|known| self.marks.is_live(known.last_active_ns)) {
                self.change(id, now_ns, |producer| {
                    producer.epoch = Epoch(producer.epoch.0.saturating_add(1))
                });
                return OpenOutcome::Opened(id);
            }
            self.remove(id);
        }
        let producers_max = self.marks.producers_max as usize;
        while self.len() >= producers_max {
            if !self.remove_one_expired() {
                return OpenOutcome::Full;
            }
        }
        let name: Arc<str> = Arc::from(name);
        let producer = Producer {
            name_hash: hash64(0, name.as_bytes()),
            name: Arc::clone(&name),
            epoch: Epoch(1),
            next_sequence: Sequence(1),
            runs: Runs::default(),
            last_active_ns: now_ns,
        };
        self.checksum ^= producer.hash(index_id);
        self.by_activity.insert((now_ns, index_id));
        self.names.insert(name, index_id);
        let before = self.producers.insert(index_id, producer);
        assert!(before.is_none(), "an id is the index of its first entry, so it is new");
        OpenOutcome::Opened(index_id)
    }

    /// Removes expired producers, the longest idle first, up to the bound.
    pub(super) fn remove_expired(&mut self) {
        for _ in 0..EXPIRED_PER_ENTRY_MAX {
            if !self.remove_one_expired() {
                return;
            }
        }
    }

    /// Changes one producer and everything that is kept beside it.
    fn change(&mut self, id: ProducerId, now_ns: u64, change: impl FnOnce(&mut Producer)) {
        let producer = self.producers.get_mut(&id);
        let producer = producer.expect("the caller has looked");
        self.checksum ^= producer.hash(id);
        change(producer);
        if producer.last_active_ns != now_ns {
            self.by_activity.remove(&(producer.last_active_ns, id));
            self.by_activity.insert((now_ns, id));
            producer.last_active_ns = now_ns;
        }
        self.checksum ^= producer.hash(id);
    }

    fn remove_one_expired(&mut self) -> bool {
        match self.by_activity.first() {
            Some((last_active_ns, id)) if !self.marks.is_live(*last_active_ns) => {
                let id = *id;
                self.remove(id);
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, id: ProducerId) {
        if let Some(producer) = self.producers.remove(&id) {
            self.checksum ^= producer.hash(id);
            self.by_activity.remove(&(producer.last_active_ns, id));
            self.names.remove(&producer.name);
        }
    }
}
