//! Who may append what: the table of committed producers under the overlay of the uncommitted suffix (rule 14).

use thiserror::Error;

use crate::base::ids::{Epoch, LogIndex, Offset, ProducerId, Sequence};
use crate::base::planted::{Bug, is_planted};
use crate::entry::{EntryError, EntryHeader, EntryKind, EntryView, EventsView};

use super::groups::{Groups, each_event};
use super::marks::Marks;
use super::overlay::{Overlay, Pending};
use super::table::{OpenOutcome, Table};

/// What the leader does with an event that a client offers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Admit {
    /// It is the next one: put it into the batch and [`stage`](Producers::stage) it.
    Append,
    /// It is committed, at this offset: acknowledge it as a duplicate.
    Duplicate {
        /// Where the original stands.
        offset: Offset,
    },
    /// It is committed, but too long ago to know where: acknowledge with 'offset unknown'.
    DuplicateOffsetUnknown,
    /// It is appended (or staged), not committed: acknowledge when the entry at `index` commits.
    DuplicatePending {
        /// Where the original will stand.
        offset: Offset,
        /// The entry that holds it.
        index: LogIndex,
    },
    /// Events before it are missing, or it has sequence zero: refuse.
    Gap {
        /// The sequence that comes next.
        expected: Sequence,
    },
    /// The name was opened again since: refuse, for good.
    Fenced {
        /// The epoch in force.
        current: Epoch,
    },
    /// No such producer, or it expired: refuse with 'identity expired'.
    UnknownProducer,
}

/// What opening a name would do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpenPlan {
    /// The producer it opens again; `None`: a new one, whose id is the index of the entry.
    pub existing: Option<ProducerId>,
    /// The epoch it will have.
    pub epoch: Epoch,
}

/// Why a name cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum OpenError {
    /// The table is full and none of its producers has expired.
    #[error("there are {limit} producers already, as many as the cluster allows")]
    TooMany {
        /// The limit in force.
        limit: u32,
    },
}

/// A producer that a committed entry opened: what the client is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Opened {
    /// The entry.
    pub index: LogIndex,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch; every older one is fenced.
    pub epoch: Epoch,
    /// The sequence that comes next. Nothing of an older epoch can stand behind the entry, so it is final.
    pub next_sequence: Sequence,
}

/// What applying an entry did, where somebody waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Applied {
    /// Nothing to answer here.
    Nothing,
    /// A producer is open: answer its client.
    Opened(Opened),
    /// The table was full: refuse the client with [`OpenError::TooMany`]. Only after a configuration lowered the
    /// limit in the same suffix.
    OpenRefused(OpenError),
}

/// A rule that whoever leads keeps for every event that it appends; an entry that breaks one was forged, or written by a
/// broken leader.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum BrokenRule {
    /// No entry before opened the producer.
    #[error("it is unknown")]
    Unknown,
    /// It was idle for too long before.
    #[error("it has expired")]
    Expired,
    /// The event is not of the epoch in force.
    #[error("the event is of epoch {}, and {} is in force", .found.0, .current.0)]
    Epoch {
        /// The event's.
        found: Epoch,
        /// The one in force.
        current: Epoch,
    },
    /// A sequence is left out or doubled.
    #[error("the event has sequence {found} where {expected} comes next")]
    Sequence {
        /// The event's.
        found: Sequence,
        /// The one that comes next.
        expected: Sequence,
    },
}

/// Why a committed entry cannot be applied. Final: to go on would break 'exactly once' without a word.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ApplyError {
    /// Its contents cannot be decoded.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// One of its events breaks the rules of producers.
    #[error("the event at offset {offset} of producer {producer}: {rule}")]
    Rule {
        /// The first event of that producer that breaks the rule.
        offset: Offset,
        /// Whose it is.
        producer: ProducerId,
        /// What is wrong.
        rule: BrokenRule,
    },
}

/// All producers of one Raft group.
///
/// Calls, on every node: [`apply`](Self::apply) for each committed entry, in order, once (from the first entry on at
/// start). On a leader besides:
///
/// 1. when elected: [`note_appended`](Self::note_appended) for each entry behind the commit index;
/// 2. for each event: [`classify`](Self::classify), and on [`Admit::Append`] into the batch and
///    [`stage`](Self::stage);
/// 3. for each entry it appends: `note_appended`. A batch that has begun is sealed and appended before any other entry
///    is, or the offsets promised to duplicates and the expiry at its place would not hold (asserted);
/// 4. when it steps down: [`drop_overlay`](Self::drop_overlay), which forgets staged events too.
///
/// One owner, the replication batcher; nothing here blocks or knows a clock. Memory is bounded by the cluster's limit
/// of producers (each at most 32 runs) and by what is in flight.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Producers {
    table: Table,
    overlay: Overlay,
}

impl Default for Producers {
    fn default() -> Self {
        Self::new()
    }
}

impl Producers {
    /// Before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self { table: Table::new(), overlay: Overlay::default() }
    }

    pub(super) const fn table(&self) -> &Table {
        &self.table
    }

    pub(super) const fn from_parts(table: Table, overlay: Overlay) -> Self {
        Self { table, overlay }
    }

    /// Applies the next committed entry. What lies in the entry comes first, then its log time lets producers expire.
    ///
    /// # Errors
    /// The entry's contents cannot be decoded, and nothing has changed; or it breaks what the leader that wrote it must
    /// keep (a gap, a double, an unknown, fenced or expired producer). Then other producers of the entry may have
    /// advanced: nothing may be applied any more.
    ///
    /// # Panics
    /// When the entry is not the next one.
    pub fn apply(&mut self, entry: &EntryView<'_>) -> Result<Applied, ApplyError> {
        let header = *entry.header();
        let now_ns = self.table.marks.time_of(&header);
        let mut applied = Applied::Nothing;
        let mut configuration = None;
        match header.kind {
            EntryKind::Noop | EntryKind::Trim => {}
            EntryKind::Events => self.apply_events(&header, &entry.events()?, now_ns)?,
            EntryKind::OpenProducer => {
                applied = self.apply_open(&header, entry.open_producer()?.name, now_ns)
            }
            EntryKind::Configuration => configuration = Some(entry.configuration()?),
        }
        self.table.marks.advance(&header, configuration.as_ref());
        self.table.remove_expired();
        self.overlay.settle(header.index);
        Ok(applied)
    }

    fn apply_events(
        &mut self,
        header: &EntryHeader,
        events: &EventsView<'_>,
        now_ns: u64,
    ) -> Result<(), ApplyError> {
        for (producer, runs) in Groups::of(events).by_producer() {
            let advanced = self.table.advance(producer.id, producer.epoch, runs.clone(), now_ns);
            advanced.map_err(|(offset, rule)| {
                let offset = offset.unwrap_or(header.base_offset);
                ApplyError::Rule { offset, producer: producer.id, rule }
            })?;
            self.overlay.settle_runs(producer.id, header.index, runs);
        }
        Ok(())
    }

    fn apply_open(&mut self, header: &EntryHeader, name: &str, now_ns: u64) -> Applied {
        match self.table.open(name, ProducerId(header.index.0), now_ns) {
            OpenOutcome::Full => Applied::OpenRefused(self.too_many(&self.table.marks)),
            OpenOutcome::Opened(producer_id) => {
                self.overlay.settle_open(name, producer_id, header.index);
                let producer = self.table.get(producer_id).expect("it was opened just now");
                let (epoch, next_sequence) = (producer.epoch, producer.next_sequence);
                Applied::Opened(Opened { index: header.index, producer_id, epoch, next_sequence })
            }
        }
    }

    /// Notes an entry that stands behind the last one noted or applied: appended by this leader, or found uncommitted
    /// when it was elected.
    ///
    /// # Errors
    /// The entry's contents cannot be decoded; nothing has changed.
    ///
    /// # Panics
    /// When the entry does not follow, does not hold what was staged, or breaks the rules of [`apply`](Self::apply).
    pub fn note_appended(&mut self, entry: &EntryView<'_>) -> Result<(), EntryError> {
        let header = *entry.header();
        let mut marks = self.tail().clone();
        let at = (header.index, marks.time_of(&header));
        let mut configuration = None;
        match header.kind {
            EntryKind::Noop | EntryKind::Trim => self.overlay.end_staging(std::iter::empty()),
            EntryKind::Events => self.note_events(&entry.events()?, at),
            EntryKind::OpenProducer => self.note_open(entry.open_producer()?.name, at),
            EntryKind::Configuration => {
                configuration = Some(entry.configuration()?);
                self.overlay.end_staging(std::iter::empty());
            }
        }
        marks.advance(&header, configuration.as_ref());
        self.overlay.marks = Some(marks);
        Ok(())
    }

    fn note_events(&mut self, events: &EventsView<'_>, at: (LogIndex, u64)) {
        self.overlay.end_staging(each_event(events));
        for (producer, runs) in Groups::of(events).by_producer() {
            assert!(self.tail_view(producer.id).is_some(), "producer {} is unknown or expired", producer.id);
            let committed = self.table.get(producer.id);
            self.overlay.advance(producer.id, producer.epoch, runs, at, committed);
        }
    }

    fn note_open(&mut self, name: &str, (index, now_ns): (LogIndex, u64)) {
        self.overlay.end_staging(std::iter::empty());
        match self.would_open(name) {
            Ok(OpenPlan { existing: Some(id), .. }) => {
                self.overlay.reopen(id, index, now_ns, self.table.get(id));
            }
            Ok(OpenPlan { existing: None, .. }) => self.overlay.create(name, index, now_ns),
            // Applying it will find the table full too, and change nothing.
            Err(OpenError::TooMany { .. }) => {}
        }
    }

    /// Forgets everything that is not committed: on truncation, and whenever the node stops leading.
    pub fn drop_overlay(&mut self) {
        if is_planted(Bug::DedupNotRolledBack) {
            return;
        }
        self.overlay = Overlay::default();
    }

    /// What to do with an event, as of the end of the log and of the batch being filled.
    #[must_use]
    pub fn classify(&self, id: ProducerId, epoch: Epoch, sequence: Sequence) -> Admit {
        let Some(tail) = self.tail_view(id) else { return Admit::UnknownProducer };
        if epoch < tail.epoch {
            return Admit::Fenced { current: tail.epoch };
        }
        if epoch > tail.epoch {
            return Admit::UnknownProducer;
        }
        let expected = tail.next_sequence;
        if sequence == expected {
            return Admit::Append;
        }
        if is_planted(Bug::PendingDuplicateAppended) && tail.pending.is_some() {
            return Admit::Append;
        }
        if sequence > expected || sequence == Sequence::ZERO {
            return if is_planted(Bug::GapAccepted) { Admit::Append } else { Admit::Gap { expected } };
        }
        tail.pending
            .and_then(|pending| self.classify_pending(id, pending, sequence))
            .unwrap_or_else(|| self.classify_committed(id, sequence))
    }

    fn classify_pending(&self, id: ProducerId, pending: &Pending, sequence: Sequence) -> Option<Admit> {
        if sequence < pending.first_staged() {
            let (offset, index) = pending.find(sequence)?;
            return Some(Admit::DuplicatePending { offset, index });
        }
        let position = self.overlay.staged_position(id, sequence)?;
        let tail = self.tail();
        Some(Admit::DuplicatePending { offset: tail.next_offset.plus(position), index: tail.index.next() })
    }

    fn classify_committed(&self, id: ProducerId, sequence: Sequence) -> Admit {
        let offset = self.table.get(id).and_then(|producer| producer.runs.offset_of(sequence));
        let offset = offset.map(|offset| match is_planted(Bug::DuplicateAtWrongOffset) {
            true => self.tail().next_offset,
            false => offset,
        });
        offset.map_or(Admit::DuplicateOffsetUnknown, |offset| Admit::Duplicate { offset })
    }

    /// Notes that an event that was classified as [`Admit::Append`] is in the batch being filled.
    ///
    /// # Panics
    /// When it is not the producer's next one.
    pub fn stage(&mut self, id: ProducerId, sequence: Sequence) {
        self.overlay.stage(id, sequence, self.table.get(id));
    }

    /// What an `open_producer` entry with that name would do at the end of the log. Ask before appending one.
    ///
    /// # Errors
    /// [`OpenError::TooMany`].
    pub fn would_open(&self, name: &str) -> Result<OpenPlan, OpenError> {
        let known = self.overlay.created_id(name).or_else(|| self.table.id_of(name));
        if let Some((id, tail)) = known.and_then(|id| Some((id, self.tail_view(id)?))) {
            let epoch = Epoch(tail.epoch.0.saturating_add(1));
            return Ok(OpenPlan { existing: Some(id), epoch });
        }
        let fresh = OpenPlan { existing: None, epoch: Epoch(1) };
        let marks = self.tail();
        let count = self.table.len() + self.overlay.created().count();
        let surplus = (count + 1).saturating_sub(marks.producers_max as usize);
        // Applying the entry will remove what has expired by then; the longest idle come first.
        let expired_created =
            self.overlay.created().filter(|pending| !marks.is_live(pending.last_active_ns)).count();
        let surplus = surplus.saturating_sub(expired_created);
        let expired = self
            .table
            .longest_idle()
            .take_while(|(last_active_ns, _)| !marks.is_live(*last_active_ns))
            .filter(|(_, id)| self.tail_view(*id).is_none())
            .take(surplus)
            .count();
        if expired == surplus { Ok(fresh) } else { Err(self.too_many(marks)) }
    }

    fn too_many(&self, marks: &Marks) -> OpenError {
        OpenError::TooMany { limit: marks.producers_max }
    }

    /// Name of a producer as of the end of the log, for the batch's producer section. `None` once it has expired.
    ///
    /// Its opening need not be committed as far as this node knows: a new leader may have found it in its suffix.
    #[must_use]
    pub fn name_of(&self, id: ProducerId) -> Option<&str> {
        self.tail_view(id)?;
        let committed = self.table.get(id).map(|producer| &*producer.name);
        committed.or_else(|| self.overlay.created_name(id))
    }

    /// Committed producers, with those that have expired but are not yet removed (the same on every node).
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// A value over the whole committed table; equal on nodes with equal [`applied_index`](Self::applied_index).
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.table.checksum()
    }

    /// [`checksum`](Self::checksum) computed from scratch, in time linear in the table: for checks.
    #[must_use]
    pub fn recompute_checksum(&self) -> u64 {
        self.table.recompute_checksum()
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied_index(&self) -> LogIndex {
        self.table.marks.index
    }

    /// Index of the last entry noted or applied.
    #[must_use]
    pub fn tail_index(&self) -> LogIndex {
        self.tail().index
    }

    /// Offset that the next event at the end of the log gets.
    #[must_use]
    pub fn tail_next_offset(&self) -> Offset {
        self.tail().next_offset
    }

    /// The log's time as of the last applied entry.
    #[must_use]
    pub fn log_time_ns(&self) -> u64 {
        self.table.marks.log_time_ns
    }

    /// Events in the batch being filled.
    #[must_use]
    pub fn staged_count(&self) -> usize {
        self.overlay.staged_count()
    }

    fn tail(&self) -> &Marks {
        self.overlay.marks.as_ref().unwrap_or(&self.table.marks)
    }

    /// A producer as of the end of the log; `None` when it is unknown or expired there.
    fn tail_view(&self, id: ProducerId) -> Option<TailView<'_>> {
        let view = match self.overlay.get(id) {
            Some(pending) => TailView {
                epoch: pending.epoch,
                next_sequence: pending.next_sequence(),
                last_active_ns: pending.last_active_ns,
                pending: Some(pending),
            },
            None => {
                let producer = self.table.get(id)?;
                TailView {
                    epoch: producer.epoch,
                    next_sequence: producer.next_sequence,
                    last_active_ns: producer.last_active_ns,
                    pending: None,
                }
            }
        };
        self.tail().is_live(view.last_active_ns).then_some(view)
    }

    #[cfg(test)]
    pub(super) fn runs_of(&self, id: ProducerId) -> Vec<super::runs::Run> {
        self.table.get(id).map(|producer| producer.runs.as_vec()).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn without_overlay(&self) -> Self {
        Self { table: self.table.clone(), overlay: Overlay::default() }
    }
}

/// A producer as of the end of the log and of the batch being filled.
struct TailView<'p> {
    epoch: Epoch,
    next_sequence: Sequence,
    last_active_ns: u64,
    pending: Option<&'p Pending>,
}
