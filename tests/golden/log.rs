//! A node's log with what stands in its entries, in memory and on the disk: what the agents around the core keep.

use tercet::base::ids::{EntryId, LogIndex, Term};
use tercet::raft::{Membership, MembershipLog, TermRuns};

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A configuration: in force from its append on.
    Config(Membership),
    /// The entry that opens a leader's term.
    Noop,
    /// A client's word.
    Event(String),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub term: Term,
    pub what: What,
}

/// Entries behind `base`. The configuration in force at `base` is kept, for its entry may be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub base: EntryId,
    pub slots: Vec<Slot>,
    begins_with: (LogIndex, Membership),
}

impl Log {
    /// As formatting writes it: one entry, the configuration.
    pub fn formatted(membership: Membership) -> Self {
        let slot = Slot { term: Term(1), what: What::Config(membership.clone()) };
        Self { base: EntryId::ZERO, slots: vec![slot], begins_with: (LogIndex(1), membership) }
    }

    /// Empty, behind a checkpoint that says what stood there.
    pub fn behind(base: EntryId, begins_with: (LogIndex, Membership)) -> Self {
        Self { base, slots: Vec::new(), begins_with }
    }

    pub fn last(&self) -> EntryId {
        let term = self.slots.last().map_or(self.base.term, |slot| slot.term);
        EntryId::new(term, self.base.index.plus(self.slots.len() as u64))
    }

    pub fn get(&self, index: LogIndex) -> Option<&Slot> {
        let at = index.get().checked_sub(self.base.index.get() + 1)?;
        self.slots.get(at as usize)
    }

    /// The entries from `first` to `last`, both included.
    pub fn range(&self, first: LogIndex, last: LogIndex) -> Vec<Slot> {
        let indexes = (first.get()..=last.get()).map(LogIndex);
        indexes.filter_map(|index| self.get(index).cloned()).collect()
    }

    pub fn truncate(&mut self, first_removed: LogIndex) {
        let keep = first_removed.get() - self.base.index.get() - 1;
        self.slots.truncate(keep as usize);
    }

    pub fn trim(&mut self, last_removed: LogIndex) {
        let Some(term) = self.get(last_removed).map(|slot| slot.term) else { return };
        self.begins_with = self.config_at(last_removed);
        self.slots.drain(..(last_removed.get() - self.base.index.get()) as usize);
        self.base = EntryId::new(term, last_removed);
    }

    /// The configuration in force at `index`, and the index of its entry.
    pub fn config_at(&self, index: LogIndex) -> (LogIndex, Membership) {
        let configs = self.configs().into_iter().rev();
        let mut known = configs.filter(|(at, _)| *at <= index);
        known.next().unwrap_or_else(|| self.begins_with.clone())
    }

    fn configs(&self) -> Vec<(LogIndex, Membership)> {
        let numbered = self.slots.iter().zip(1..);
        let config = |(slot, at): (&Slot, u64)| match &slot.what {
            What::Config(membership) => Some((self.base.index.plus(at), membership.clone())),
            _ => None,
        };
        numbered.filter_map(config).collect()
    }

    /// What recovery hands to the core.
    pub fn memberships(&self) -> MembershipLog {
        let (index, membership) = self.begins_with.clone();
        let mut log = MembershipLog::new(index, membership);
        for (at, membership) in self.configs().into_iter().filter(|(at, _)| *at > index) {
            log.push(at, membership);
        }
        log
    }

    /// What recovery hands to the core.
    pub fn runs(&self) -> TermRuns {
        let mut runs = TermRuns::after(self.base);
        for slot in &self.slots {
            runs.push(slot.term);
        }
        runs
    }
}
