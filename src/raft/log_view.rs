//! What Raft needs to know of a log: which term each index has. Kept as runs of equal terms, since terms change only
//! at elections: a log of a billion entries written under a hundred leaders takes a hundred pairs.

use crate::base::ids::{EntryId, LogIndex, Term};
use thiserror::Error;

/// The three questions that Raft asks of a log.
pub trait LogView {
    /// Term of the entry at `index`; also answered for the entry just before the first one. `None` outside.
    fn term_at(&self, index: LogIndex) -> Option<Term>;
    /// The last entry; [`EntryId::ZERO`] for a log that never had one.
    fn last_id(&self) -> EntryId;
    /// The first index still held (one past the last of an empty log).
    fn first_index(&self) -> LogIndex;
}

/// Why an entry cannot follow the ones already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TermRunsError {
    /// The index is not the next one.
    #[error("entry {found} does not follow index {last}")]
    Gap {
        /// Last index held.
        last: LogIndex,
        /// The entry offered.
        found: EntryId,
    },
    /// Terms never fall along a log (Raft paper, section 5.3).
    #[error("the term of entry {found} is below the term {last} before it")]
    TermFalls {
        /// Term of the last entry held.
        last: Term,
        /// The entry offered.
        found: EntryId,
    },
}

/// One run of entries of equal term; it ends where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TermRun {
    term: Term,
    first: LogIndex,
}

/// A log as runs of equal terms.
///
/// Invariants: `base.index <= last_index`; the runs are ascending in both fields, the first begins at
/// `base.index + 1`, none is empty, and there is none exactly when the log is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct TermRuns {
    /// The entry before the first one held: zero, or the last one that retention has removed.
    base: EntryId,
    last_index: LogIndex,
    runs: Vec<TermRun>,
}

impl TermRuns {
    /// An empty log that never held an entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty log whose entries up to `base` have been removed by retention.
    #[must_use]
    pub fn after(base: EntryId) -> Self {
        Self { base, last_index: base.index, runs: Vec::new() }
    }

    /// A log from index 1 with these terms. Panics where a term falls: for tests and tools.
    #[must_use]
    pub fn from_terms(terms: &[Term]) -> Self {
        let mut runs = Self::new();
        for &term in terms {
            runs.push(term);
        }
        runs
    }

    /// Adds `id`, which must have the next index and no lower term: the checked way, for recovery.
    ///
    /// # Errors
    /// [`TermRunsError`] where it does not follow; nothing is changed then.
    pub fn append(&mut self, id: EntryId) -> Result<(), TermRunsError> {
        let last = self.last_id();
        if id.index != last.index.next() {
            return Err(TermRunsError::Gap { last: last.index, found: id });
        }
        if id.term < last.term {
            return Err(TermRunsError::TermFalls { last: last.term, found: id });
        }
        self.push(id.term);
        Ok(())
    }

    /// Adds one entry of `term` and returns its id. Panics where the term falls.
    pub fn push(&mut self, term: Term) -> EntryId {
        let last = self.last_id();
        assert!(term >= last.term, "log invariant: terms never fall along a log ({term} after {last})");
        let index = last.index.next();
        if self.runs.last().is_none_or(|run| run.term != term) {
            self.runs.push(TermRun { term, first: index });
        }
        self.last_index = index;
        EntryId::new(term, index)
    }

    /// Removes `first_removed` and everything after it. Panics where that lies before the first entry held.
    pub fn truncate_from(&mut self, first_removed: LogIndex) {
        assert!(
            first_removed > self.base.index,
            "log invariant: a truncation from {first_removed} never reaches the removed prefix up to {}",
            self.base
        );
        if first_removed > self.last_index {
            return;
        }
        let keep = self.runs.partition_point(|run| run.first < first_removed);
        self.runs.truncate(keep);
        self.last_index = first_removed.prev();
    }

    /// Forgets entries up to and including `last_removed` (retention). Indexes outside the log change nothing.
    pub fn trim_prefix(&mut self, last_removed: LogIndex) {
        if last_removed <= self.base.index {
            return;
        }
        let Some(term) = self.term_at(last_removed) else { return };
        let gone = self.runs.partition_point(|run| run.first <= last_removed);
        // The run that holds `last_removed` survives, shortened, unless it ends there.
        let end = self.runs.get(gone).map_or(self.last_index.next(), |run| run.first);
        if end == last_removed.next() {
            self.runs.drain(..gone);
        } else {
            self.runs.drain(..gone - 1);
            self.runs[0].first = last_removed.next();
        }
        self.base = EntryId::new(term, last_removed);
    }

    /// The terms held and the first index of each, ascending in both.
    pub fn runs(&self) -> impl Iterator<Item = (Term, LogIndex)> + '_ {
        self.runs.iter().map(|run| (run.term, run.first))
    }

    /// A log of these runs behind `base`, up to `last_index`; `None` where they are none.
    #[must_use]
    pub fn from_runs(base: EntryId, runs: &[(Term, LogIndex)], last_index: LogIndex) -> Option<Self> {
        let first = runs.first().map_or(base.index.next(), |run| run.1);
        let begins = first == base.index.next() && runs.is_empty() == (last_index == base.index);
        let ascends = runs.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1)
            && runs.first().is_none_or(|run| run.0 >= base.term)
            && runs.last().is_none_or(|run| run.1 <= last_index);
        let runs = runs.iter().map(|&(term, first)| TermRun { term, first }).collect();
        (begins && ascends && last_index >= base.index).then_some(Self { base, last_index, runs })
    }

    /// The entry before the first one held.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// Last index held.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.last_index
    }

    /// Whether exactly this entry is held (or is the base).
    #[must_use]
    pub fn contains(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last entry at or before `limit` whose term is at most `term_max`; the base where there is none held.
    /// Both ends of fast backtracking use it (Raft paper, end of section 5.3). Cost: the runs skipped.
    #[must_use]
    pub fn last_at_or_below(&self, limit: LogIndex, term_max: Term) -> EntryId {
        let mut end = self.last_index;
        for run in self.runs.iter().rev() {
            if run.term <= term_max && run.first <= limit {
                return EntryId::new(run.term, end.min(limit));
            }
            end = run.first.prev();
        }
        self.base
    }
}

impl LogView for TermRuns {
    fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index > self.last_index || index < self.base.index {
            return None;
        }
        if index == self.base.index {
            return Some(self.base.term);
        }
        // Nearly every question is about the newest run.
        match self.runs.last() {
            Some(run) if run.first <= index => Some(run.term),
            _ => {
                let after = self.runs.partition_point(|run| run.first <= index);
                after.checked_sub(1).map(|at| self.runs[at].term)
            }
        }
    }

    fn last_id(&self) -> EntryId {
        let term = self.runs.last().map_or(self.base.term, |run| run.term);
        EntryId::new(term, self.last_index)
    }

    fn first_index(&self) -> LogIndex {
        self.base.index.next()
    }
}
