//! The leader's view of what is not committed yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::base::ids::{Epoch, LogIndex, Offset, ProducerId, Sequence};

use super::marks::Marks;
use super::runs::Run;
use super::table::Producer;

/// A run of an appended entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct PendingRun {
    run: Run,
    index: LogIndex,
}

/// A producer that the suffix or the staged batch touches, as of the end of both.
///
/// Invariant: `runs` hold every sequence from the table's next one up to `next_sequence`, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Pending {
    pub(super) epoch: Epoch,
    /// Behind the last appended event.
    next_sequence: Sequence,
    /// Staged events, which come behind the appended ones.
    staged_count: u64,
    pub(super) last_active_ns: u64,
    /// Last entry of the suffix that touches it.
    last_index: LogIndex,
    runs: VecDeque<PendingRun>,
}

impl Pending {
    /// The sequence that may be staged next.
    pub(super) fn next_sequence(&self) -> Sequence {
        self.next_sequence.plus(self.staged_count)
    }

    /// Behind the last appended event, so from here on staged.
    pub(super) fn first_staged(&self) -> Sequence {
        self.next_sequence
    }

    /// Where an appended, uncommitted event stands.
    pub(super) fn find(&self, sequence: Sequence) -> Option<(Offset, LogIndex)> {
        let at = self.runs.partition_point(|pending| pending.run.end_sequence() <= sequence);
        let pending = self.runs.get(at)?;
        Some((pending.run.offset_of(sequence)?, pending.index))
    }
}

impl From<&Producer> for Pending {
    fn from(producer: &Producer) -> Self {
        Self {
            epoch: producer.epoch,
            next_sequence: producer.next_sequence,
            staged_count: 0,
            last_active_ns: producer.last_active_ns,
            last_index: LogIndex::ZERO,
            runs: VecDeque::new(),
        }
    }
}

/// Everything between the table and the end of the log. Empty on a follower.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Overlay {
    producers: BTreeMap<ProducerId, Pending>,
    /// Names that the suffix opens for the first time.
    created: BTreeMap<Arc<str>, ProducerId>,
    /// Behind the last appended entry; none when nothing is appended beyond the table.
    pub(super) marks: Option<Marks>,
    /// Events of the batch that is being filled, in its order.
    staged: Vec<(ProducerId, Sequence)>,
}

impl Overlay {
    pub(super) fn get(&self, id: ProducerId) -> Option<&Pending> {
        self.producers.get(&id)
    }

    pub(super) fn created_id(&self, name: &str) -> Option<ProducerId> {
        self.created.get(name).copied()
    }

    /// Name of a producer that the suffix opens for the first time. Linear in their number, which is small: a suffix
    /// is in flight.
    pub(super) fn created_name(&self, id: ProducerId) -> Option<&str> {
        self.created.iter().find(|(_, created)| **created == id).map(|(name, _)| &**name)
    }

    /// The producers that the suffix opens for the first time.
    pub(super) fn created(&self) -> impl Iterator<Item = &Pending> {
        self.created.values().filter_map(|id| self.get(*id))
    }

    pub(super) fn staged_count(&self) -> usize {
        self.staged.len()
    }

    /// Place of a staged event in its batch, from 0.
    pub(super) fn staged_position(&self, id: ProducerId, sequence: Sequence) -> Option<u64> {
        self.staged.iter().position(|staged| *staged == (id, sequence)).map(|at| at as u64)
    }

    /// Adds the event that comes next for its producer to the batch being filled.
    pub(super) fn stage(&mut self, id: ProducerId, sequence: Sequence, committed: Option<&Producer>) {
        let pending = self.touch(id, committed);
        assert_eq!(sequence, pending.next_sequence(), "only what is admitted is staged");
        pending.staged_count += 1;
        self.staged.push((id, sequence));
    }

    /// Ends the staged batch: the entry being noted holds exactly these events, or nothing is staged.
    pub(super) fn end_staging(&mut self, mut appended: impl Iterator<Item = (ProducerId, Sequence)>) {
        if self.staged.is_empty() {
            return;
        }
        for staged in self.staged.drain(..) {
            assert_eq!(
                Some(staged),
                appended.next(),
                "what was staged is what is appended next, in that order"
            );
            if let Some(pending) = self.producers.get_mut(&staged.0) {
                pending.staged_count = 0;
            }
        }
        assert_eq!(appended.next(), None, "nothing is appended beside what was staged");
    }

    /// Notes the runs that one appended entry holds of a producer.
    pub(super) fn advance(
        &mut self,
        id: ProducerId,
        epoch: Epoch,
        runs: impl Iterator<Item = Run>,
        (index, now_ns): (LogIndex, u64),
        committed: Option<&Producer>,
    ) {
        let pending = self.touch(id, committed);
        assert_eq!(pending.epoch, epoch, "an event of a fenced epoch of producer {id} is appended");
        for run in runs {
            assert_eq!(
                run.first_sequence, pending.next_sequence,
                "a gap or a double of producer {id} is appended"
            );
            pending.next_sequence = run.end_sequence();
            pending.runs.push_back(PendingRun { run, index });
        }
        pending.last_active_ns = now_ns;
        pending.last_index = index;
    }

    /// Notes that an appended entry opens a known, live producer again.
    pub(super) fn reopen(
        &mut self,
        id: ProducerId,
        index: LogIndex,
        now_ns: u64,
        committed: Option<&Producer>,
    ) {
        let pending = self.touch(id, committed);
        pending.epoch = Epoch(pending.epoch.0.saturating_add(1));
        pending.last_active_ns = now_ns;
        pending.last_index = index;
    }

    /// Notes that an appended entry opens a name for the first time.
    pub(super) fn create(&mut self, name: &str, index: LogIndex, now_ns: u64) {
        let id = ProducerId(index.0);
        let pending = Pending {
            epoch: Epoch(1),
            next_sequence: Sequence(1),
            staged_count: 0,
            last_active_ns: now_ns,
            last_index: index,
            runs: VecDeque::new(),
        };
        self.producers.insert(id, pending);
        self.created.insert(Arc::from(name), id);
    }

    /// An entry was applied that holds these runs of the producer: they leave the overlay.
    pub(super) fn settle_runs(&mut self, id: ProducerId, index: LogIndex, runs: impl Iterator<Item = Run>) {
        if self.marks.is_none() {
            return;
        }
        let pending = self.producers.get_mut(&id).expect("what is applied was noted when it was appended");
        for run in runs {
            let noted = pending.runs.pop_front();
            assert_eq!(noted, Some(PendingRun { run, index }), "what is applied is what was appended");
        }
        self.forget_if_settled(id, index);
    }

    /// An entry was applied that opened `name` under this id.
    pub(super) fn settle_open(&mut self, name: &str, id: ProducerId, index: LogIndex) {
        if id.0 == index.0 && self.created_id(name) == Some(id) {
            self.created.remove(name);
        }
        self.forget_if_settled(id, index);
    }

    /// The table has come to `index`.
    pub(super) fn settle(&mut self, index: LogIndex) {
        if self.marks.as_ref().is_some_and(|marks| marks.index <= index) {
            self.marks = None;
            let only_staged = self.producers.values().all(|pending| pending.staged_count > 0);
            assert!(
                only_staged && self.created.is_empty(),
                "an overlay without a suffix holds staged events alone"
            );
        }
    }

    fn forget_if_settled(&mut self, id: ProducerId, index: LogIndex) {
        if self.get(id).is_some_and(|pending| pending.last_index <= index && pending.staged_count == 0) {
            self.producers.remove(&id);
        }
    }

    fn touch(&mut self, id: ProducerId, committed: Option<&Producer>) -> &mut Pending {
        self.producers.entry(id).or_insert_with(|| {
            committed.map(Pending::from).unwrap_or_else(|| panic!("an entry of the unknown producer {id}"))
        })
    }
}
