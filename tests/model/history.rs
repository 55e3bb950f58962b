//! What happened on a path, as nobody in the cluster knows it, and what must not have.

use tercet::base::ids::{LogIndex, Term};
use tercet::raft::{LogView, Membership, Raft, TermRuns};

/// A read barrier that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Asked {
    place: usize,
    token: u64,
    /// All that was committed when it was asked.
    due: LogIndex,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct History {
    /// Who led which term.
    pub leaders: Vec<(Term, usize)>,
    /// Terms of the entries that somebody knew to be committed, from index 1 on.
    pub committed: Vec<Term>,
    /// In which term each of them was committed: the leader that counted knows first.
    committed_in: Vec<Term>,
    /// Configurations, by the entry that they stand in.
    configurations: Vec<(Term, LogIndex, Membership)>,
    reads: Vec<Asked>,
    /// Read barriers that were passed.
    pub reads_passed: u8,
    /// The first thing that must never happen and did.
    pub broken: Option<String>,
}

impl History {
    /// The entry that formatting writes is committed.
    pub fn new() -> Self {
        Self {
            leaders: Vec::new(),
            committed: vec![Term(1)],
            committed_in: vec![Term(1)],
            configurations: Vec::new(),
            reads: Vec::new(),
            reads_passed: 0,
            broken: None,
        }
    }

    /// The configuration that stands in this entry, if one does.
    pub fn configuration(&self, term: Term, index: LogIndex) -> Option<&Membership> {
        let at = |known: &&(Term, LogIndex, Membership)| (known.0, known.1) == (term, index);
        self.configurations.iter().find(at).map(|known| &known.2)
    }

    /// A configuration was proposed.
    pub fn note_configuration(&mut self, term: Term, index: LogIndex, membership: Membership) {
        self.configurations.push((term, index, membership));
    }

    /// Every configuration that was proposed.
    pub fn configurations(&self) -> impl Iterator<Item = &Membership> {
        self.configurations.iter().map(|known| &known.2)
    }

    /// How many of the configurations that were proposed are committed.
    pub fn changes_committed(&self) -> usize {
        let is_committed = |known: &&(Term, LogIndex, Membership)| {
            self.committed.get(known.1.get() as usize - 1) == Some(&known.0)
        };
        self.configurations.iter().filter(is_committed).count()
    }

    /// A node begins to lead.
    pub fn note_leader(&mut self, place: usize, term: Term, log: &TermRuns) {
        if let Some(&(_, other)) = self.leaders.iter().find(|known| known.0 == term && known.1 != place) {
            self.break_with(format!(
                "election safety: nodes {} and {} led term {term}",
                other + 1,
                place + 1
            ));
        }
        if !self.leaders.contains(&(term, place)) {
            self.leaders.push((term, place));
            self.leaders.sort_unstable();
        }
        // Leaders of older terms, which do not know yet that theirs is over, need not have it.
        let due = self.committed_in.partition_point(|committed_in| *committed_in < term);
        let lacks = |at: &usize| !has(log, *at, self.committed[*at]);
        if (0..due).find(lacks).is_some() {
            self.break_with(format!(
                "leader completeness: node {} leads term {term} with {log:?}",
                place + 1
            ));
        }
    }

    /// What a node knows to be committed.
    pub fn note_committed(&mut self, place: usize, raft: &Raft) {
        let (log, term) = (raft.log(), raft.term());
        for at in 0..raft.commit_index().get() as usize {
            let known = self.committed.get(at).copied();
            let here = log.term_at(LogIndex(at as u64 + 1)).filter(|_| at as u64 >= log.base().index.get());
            match (known, here) {
                (Some(known), Some(here)) if known != here => {
                    self.break_with(format!(
                        "state machine safety: node {} has {log:?} committed",
                        place + 1
                    ));
                }
                (None, Some(here)) => {
                    self.committed.push(here);
                    self.committed_in.push(term);
                }
                // A checkpoint is made of what its sender had committed.
                (None, None) => {
                    self.break_with(format!("a checkpoint of entry {}, which nobody committed", at + 1))
                }
                _ => {}
            }
        }
    }

    /// A read barrier is asked for.
    pub fn note_read(&mut self, place: usize, token: u64) {
        self.reads.push(Asked { place, token, due: LogIndex(self.committed.len() as u64) });
    }

    /// It is answered.
    pub fn note_read_answer(&mut self, place: usize, token: u64, passed_at: Option<LogIndex>) {
        let Some(at) = self.reads.iter().position(|read| (read.place, read.token) == (place, token)) else {
            self.break_with(format!("node {} answers read {token}, which nobody waits for", place + 1));
            return;
        };
        let Asked { due, .. } = self.reads.remove(at);
        let Some(index) = passed_at else { return };
        self.reads_passed += 1;
        if index < due {
            self.break_with(format!("stale read: node {} reads at {index}, {due} was committed", place + 1));
        }
    }

    /// A node has forgotten what it was asked.
    pub fn forget_reads(&mut self, place: usize) {
        self.reads.retain(|read| read.place != place);
    }

    /// Keeps the first one.
    pub fn break_with(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }
}

/// Whether a log has this term at a place, counted from 0, or had it before it was removed behind a checkpoint.
pub fn has(log: &TermRuns, at: usize, term: Term) -> bool {
    let index = LogIndex(at as u64 + 1);
    index < log.base().index || log.term_at(index) == Some(term)
}
