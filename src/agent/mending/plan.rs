//! What the other nodes have of one lost run, and what follows from it. Pure: no clock, no disk, no network.
//!
//! ```text
//!   every other node is asked, piece by piece ──▶ held | damaged there too | absent | trimmed | unsure (asked again)
//!
//!   copies lead back from the chain value behind the run to the one before it ──▶ Solved
//!   all have answered, and they do not ──▶ the run is widened; where it cannot be:
//!       somebody has trimmed some of it, so it was committed     ──▶ Trimmed: nobody will ever have it again (also
//!                                                                    where the others were unsure for long)
//!       a quorum may have held the first entry that nobody has   ──▶ Hopeless: never invent (PITFALLS 63)
//!       copies contradict each other, or may not be what was lost ──▶ AskAgain: the others settle that among themselves
//!       else                                                     ──▶ Cut: what is missing was never committed
//! ```
//!
//! A cut is made only when everybody has been asked twice, the second time after the last answer of the first: answers are
//! true of different moments, and what they say together may never have been so.
//!
//! A node may have held an entry where its copy is damaged too. One that has another entry there, or a log that ends
//! before, holds none: it has never acknowledged this one, or has truncated it since, which only happens to what was not
//! committed. A cut keeps what a peer has from the start of the run on: such entries may be what was lost, and committed
//! on that peer and here.

use std::collections::BTreeMap;

use crate::base::ids::{LogIndex, NodeId};
use crate::entry::Entry;
use crate::protocol::peer::CopyState;

/// A run of lost entries, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The first one.
    pub first: LogIndex,
    /// The last one.
    pub last: LogIndex,
    /// Chain value before the first.
    pub chain_before: u64,
    /// Chain value of the last.
    pub chain_last: u64,
}

/// What is to be done about a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not everybody has answered.
    Wait,
    /// These are the entries that were lost.
    Solved(Vec<Entry>),
    /// What is missing was never committed. These entries of a peer continue what stands before the run.
    Cut(Vec<Entry>),
    /// The first entry that nobody has any more although it may have been committed.
    Hopeless(LogIndex),
    /// Retention has removed it elsewhere, and nobody has a whole copy.
    Trimmed,
    /// Nothing follows from these answers, but later ones may differ.
    AskAgain,
}

/// What one other node has said.
#[derive(Debug)]
struct Peer {
    id: NodeId,
    /// Everything before this has been answered.
    next: LogIndex,
    damaged: Vec<(LogIndex, LogIndex)>,
    /// It has had some of it, committed, until retention removed it.
    has_trimmed: bool,
    /// How often in a row it could not say.
    unsure_count: u32,
}

/// After so many answers of one that is unsure it is not waited for, where others have trimmed what is asked for: it may
/// be waiting itself, for this node. (Asked every 200 ms.)
const UNSURE_MAX: u32 = 25;

/// The questions about one run, and their answers.
#[derive(Debug)]
pub struct Inquiry {
    missing: Missing,
    quorum: usize,
    peers: Vec<Peer>,
    copies: BTreeMap<LogIndex, Vec<Entry>>,
}

impl Inquiry {
    /// Nobody has been asked. `others` are all other voters; `quorum` is that of the whole cluster.
    #[must_use]
    pub fn new(missing: Missing, others: &[NodeId], quorum: usize) -> Self {
        let peer = |id: &NodeId| Peer {
            id: *id,
            next: missing.first,
            damaged: Vec::new(),
            has_trimmed: false,
            unsure_count: 0,
        };
        Self { missing, quorum, peers: others.iter().map(peer).collect(), copies: BTreeMap::new() }
    }

    /// What to ask `peer` next: from here to the end of the run. `None`: it has answered everything.
    #[must_use]
    pub fn question(&self, peer: NodeId) -> Option<(LogIndex, LogIndex)> {
        let peer = self.peers.iter().find(|known| known.id == peer)?;
        (peer.next <= self.missing.last).then_some((peer.next, self.missing.last))
    }

    /// An answer. One to an older question, or to another run's, changes nothing. True: this was the answer waited for.
    pub fn answered(
        &mut self,
        peer: NodeId,
        (first, last): (LogIndex, LogIndex),
        state: CopyState,
        entries: Vec<Entry>,
    ) -> bool {
        let Some(known) = self.peers.iter_mut().find(|known| known.id == peer) else { return false };
        if first != known.next || last > self.missing.last || last < first {
            return false;
        }
        known.unsure_count = if state == CopyState::Unsure { known.unsure_count + 1 } else { 0 };
        match state {
            CopyState::Unsure => return false,
            CopyState::Absent => known.next = self.missing.last.next(),
            CopyState::Trimmed => {
                known.has_trimmed = true;
                known.next = last.next();
            }
            CopyState::Damaged => {
                known.damaged.push((first, last));
                known.next = last.next();
            }
            CopyState::Held => {
                known.next = last.next();
                for entry in entries {
                    let copies = self.copies.entry(entry.index()).or_default();
                    if copies.iter().all(|copy| copy.chain() != entry.chain()) {
                        copies.push(entry);
                    }
                }
            }
        }
        true
    }

    /// What follows from the answers so far. `may_widen`: the run can be widened, so that what stands behind it may be
    /// none of the log; then `Wait` and [`Inquiry::is_exhausted`] say that it should be.
    #[must_use]
    pub fn verdict(&self, may_widen: bool) -> Verdict {
        if let Some(copies) = self.lead_back() {
            return Verdict::Solved(copies);
        }
        if self.waits_in_vain() {
            return Verdict::Trimmed;
        }
        if !self.is_exhausted() || may_widen {
            return Verdict::Wait;
        }
        if self.peers.iter().any(|peer| peer.has_trimmed) {
            return Verdict::Trimmed;
        }
        let Some(prefix) = self.lead_on() else { return Verdict::AskAgain };
        let missing = prefix.last().map_or(self.missing.first, |entry| entry.index().next());
        if missing <= self.missing.last && self.may_be_committed(missing) {
            Verdict::Hopeless(missing)
        } else if prefix.iter().any(|entry| self.may_be_committed(entry.index())) {
            Verdict::AskAgain
        } else {
            Verdict::Cut(prefix)
        }
    }

    /// Whether a quorum may have held this node's entry there, apart from those that have one there now.
    fn may_be_committed(&self, index: LogIndex) -> bool {
        let lost_too =
            |peer: &&Peer| peer.damaged.iter().any(|(first, last)| (*first..=*last).contains(&index));
        1 + self.peers.iter().filter(lost_too).count() >= self.quorum
    }

    /// It was committed, and is retained nowhere; whoever might have a copy of it yet cannot tell, again and again. Two
    /// nodes that mend at the same time would wait for each other for ever.
    fn waits_in_vain(&self) -> bool {
        let is_unsure = |peer: &Peer| peer.unsure_count >= UNSURE_MAX;
        self.peers.iter().any(|peer| peer.has_trimmed)
            && self.peers.iter().any(is_unsure)
            && self.peers.iter().all(|peer| peer.next > self.missing.last || is_unsure(peer))
    }

    /// Everybody has answered everything.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.peers.iter().all(|peer| peer.next > self.missing.last)
    }

    /// From the chain value behind the run back to the one before it: no choice anywhere, so what comes out is what was
    /// lost.
    fn lead_back(&self) -> Option<Vec<Entry>> {
        let mut found = Vec::new();
        let (mut index, mut chain) = (self.missing.last, self.missing.chain_last);
        while index >= self.missing.first {
            let copy = self.copies.get(&index)?.iter().find(|copy| copy.chain() == chain)?;
            chain = copy.header().prev_chain;
            found.push(copy.clone());
            index = index.prev();
        }
        found.reverse();
        (chain == self.missing.chain_before).then_some(found)
    }

    /// As far as copies continue what stands before the run; `None` where two of them do.
    fn lead_on(&self) -> Option<Vec<Entry>> {
        let mut found: Vec<Entry> = Vec::new();
        let (mut index, mut chain) = (self.missing.first, self.missing.chain_before);
        while index <= self.missing.last {
            let copies = self.copies.get(&index).into_iter().flatten();
            let mut fitting = copies.filter(|copy| copy.header().prev_chain == chain);
            let Some(next) = fitting.next() else { break };
            if fitting.next().is_some() {
                return None;
            }
            chain = next.chain();
            found.push(next.clone());
            index = index.next();
        }
        Some(found)
    }
}
