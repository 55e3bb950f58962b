//! What must hold, one file each. A [`Book`] holds them all: it is shown every node after each of its turns, every answer
//! that nodes send each other, everything that clients learn, and at the end every log.

mod acknowledged;
mod bounded_memory;
mod checksums;
mod commit_never_falls;
mod credit;
mod election_safety;
mod exactly_once;
mod leader_append_only;
mod leader_completeness;
mod linearizable;
mod log_matching;
mod mandate;
mod promises;
mod quorum_stable;
mod readers;
mod retention;
mod state_machine_safety;
mod visits;
mod votes;

use super::report::Violation;
use super::workload::{Ack, Beginning, Delivered, Fact};
use crate::agent::batcher::{BatcherLimits, Configurations, Holdings, RetentionSettings};
use crate::base::ids::{Incarnation, LogIndex, NodeId, Offset};
use crate::entry::{Entry, Member};
use crate::protocol::peer::{PeerFrame, decode_peer_frame};
use crate::raft::{LogView, Message, Raft, TermRuns};
use crate::stream::Producers;

/// One node as it is now.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Who.
    pub node: NodeId,
    /// Which formatting of its disk.
    pub incarnation: Incarnation,
    /// Which of its lives.
    pub life: u64,
    /// Its core.
    pub raft: &'a Raft,
    /// The configuration in force, and those that a truncation could bring back.
    pub configurations: &'a Configurations,
    /// Its table of producers.
    pub producers: &'a Producers,
    /// Applied index, and the chain value there.
    pub applied: (LogIndex, u64),
    /// The offset behind what it has applied.
    pub applied_next_offset: Offset,
    /// Index as of which the producers' table is, and the chain value there.
    pub state: (LogIndex, u64),
    /// Last index that its disk has made durable, in its log as it was after so many truncations.
    pub flushed: LogIndex,
    /// Truncations that its log writer has carried out; the core may be ahead.
    pub flushed_generation: u64,
    /// Its log was mended before this life, or somebody has given up what it claimed.
    pub has_mended: bool,
    /// How much it holds.
    pub holdings: Holdings,
}

impl View<'_> {
    /// The voters with the formatting of the disk that this node goes by (zero: whichever it has met).
    fn voters(&self) -> &[Member] {
        &self.configurations.newest().voters
    }
}

/// Up to which index two states of one node's log agree; zero where that is not known.
fn agreed(one: &TermRuns, other: &TermRuns) -> LogIndex {
    let least = one.base().index.max(other.base().index);
    let mut index = one.last_index().min(other.last_index());
    while index > least && one.term_at(index) != other.term_at(index) {
        index = index.prev();
    }
    let same = index >= least && one.term_at(index).is_some() && one.term_at(index) == other.term_at(index);
    if same { index } else { LogIndex::ZERO }
}

/// An answer that one node sent to another.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// Who sent it.
    pub from: NodeId,
    /// Which formatting of its disk.
    pub incarnation: Incarnation,
    /// To whom.
    pub to: NodeId,
    /// What it says.
    pub message: &'a Message,
    /// Last index that the sender's disk had made durable by then.
    pub flushed: LogIndex,
}

/// The logs at the very end, after an orderly stop and a recovery.
pub struct End {
    /// Every node's log, from the first entry on, also where retention has removed it.
    pub logs: Vec<(NodeId, Vec<Entry>)>,
}

impl End {
    /// The log (the first node's; that all are equal is an invariant of its own).
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        self.logs.first().map_or(&[], |(_, log)| log)
    }
}

/// One thing that must hold. Every method may say nothing.
trait Invariant {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// A node after one of its turns.
    fn observe(&mut self, _view: &View<'_>) -> Result<(), String> {
        Ok(())
    }

    /// An answer on its way.
    fn answered(&mut self, _answer: &Answer<'_>) -> Result<(), String> {
        Ok(())
    }

    /// A publisher got an acknowledgement.
    fn acknowledged(&mut self, _ack: &Ack) -> Result<(), String> {
        Ok(())
    }

    /// A subscriber got an event.
    fn delivered(&mut self, _event: &Delivered) -> Result<(), String> {
        Ok(())
    }

    /// A subscriber was told that the log begins behind what it asked for.
    fn overtaken(&mut self, _asked: Offset, _first: Offset) -> Result<(), String> {
        Ok(())
    }

    /// A visitor's subscription stands.
    fn began(&mut self, _beginning: &Beginning) -> Result<(), String> {
        Ok(())
    }

    /// A visitor's subscription got what it wants.
    fn got(&mut self, _reading: u64, _offset: Offset) -> Result<(), String> {
        Ok(())
    }

    /// A node said that a visitor's subscription has all that it wants up to here.
    fn looked_through(&mut self, _reading: u64, _offset: Offset) -> Result<(), String> {
        Ok(())
    }

    /// Somebody asks for a linearizable answer.
    fn asked(&mut self, _question: u64) -> Result<(), String> {
        Ok(())
    }

    /// And gets it: the log is committed up to here.
    fn answered_by_leader(&mut self, _question: u64, _last_offset: Offset) -> Result<(), String> {
        Ok(())
    }

    /// The logs at the end.
    fn finish(&mut self, _end: &End) -> Result<(), String> {
        Ok(())
    }
}

/// All invariants.
pub struct Book {
    all: Vec<Box<dyn Invariant>>,
    leaders: election_safety::LeaderCount,
}

impl Book {
    /// For a new cluster; `durable` where stable means flushed; `limits` of its batchers, the size of its segments, and what
    /// is to be kept.
    #[must_use]
    pub fn new(
        durable: bool,
        limits: BatcherLimits,
        segment_bytes: u64,
        retention: RetentionSettings,
    ) -> Self {
        let recovered_bytes = if durable { 0 } else { 2 * segment_bytes };
        let election = election_safety::ElectionSafety::default();
        let leaders = election.count();
        let mut all: Vec<Box<dyn Invariant>> = vec![
            Box::new(election),
            Box::new(votes::Votes::default()),
            Box::new(mandate::Mandate::default()),
            Box::new(promises::Promises::default()),
            Box::new(credit::Credit::default()),
            Box::new(log_matching::LogMatching::default()),
            Box::new(leader_append_only::LeaderAppendOnly::default()),
            Box::new(leader_completeness::LeaderCompleteness::default()),
            Box::new(state_machine_safety::StateMachineSafety::default()),
            Box::new(bounded_memory::BoundedMemory::new(limits, recovered_bytes)),
            Box::new(commit_never_falls::CommitNeverFalls::default()),
            Box::new(checksums::Checksums::default()),
            Box::new(acknowledged::Acknowledged::default()),
            Box::new(exactly_once::ExactlyOnce),
            Box::new(readers::Readers::default()),
            Box::new(visits::Visits::default()),
            Box::new(linearizable::Linearizable::default()),
            Box::new(retention::Retention::new(retention)),
        ];
        if durable {
            all.push(Box::new(quorum_stable::QuorumStable::default()));
        }
        Self { all, leaders }
    }

    /// Terms that had a leader.
    #[must_use]
    pub fn elections(&self) -> u64 {
        self.leaders.get()
    }

    fn each(
        &mut self,
        mut check: impl FnMut(&mut dyn Invariant) -> Result<(), String>,
    ) -> Result<(), Violation> {
        for invariant in &mut self.all {
            check(invariant.as_mut()).map_err(|what| Violation::new(invariant.name(), what))?;
        }
        Ok(())
    }

    /// A node after one of its turns.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        self.each(|invariant| invariant.observe(view))
    }

    /// The frame of an answer that `from` has just sent. Says whether it grants a vote.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn answered(
        &mut self,
        (from, incarnation): (NodeId, Incarnation),
        to: NodeId,
        frame: &[u8],
        flushed: LogIndex,
    ) -> Result<bool, Violation> {
        let split = crate::protocol::frame::split_frame(frame);
        let Ok(Some((frame, _))) = split else { return Ok(false) };
        let Ok(PeerFrame::Raft { message, .. }) = decode_peer_frame(frame) else { return Ok(false) };
        self.each(|invariant| {
            invariant.answered(&Answer { from, incarnation, to, message: &message, flushed })
        })?;
        Ok(matches!(message, Message::VoteReply { granted: true, .. }))
    }

    /// Something that a client learnt.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn learnt(&mut self, fact: &Fact) -> Result<(), Violation> {
        self.each(|invariant| match fact {
            Fact::Acknowledged(ack) => invariant.acknowledged(ack),
            Fact::Delivered(event) => invariant.delivered(event),
            Fact::Overtaken { asked, first } => invariant.overtaken(*asked, *first),
            Fact::Began(beginning) => invariant.began(beginning),
            Fact::Got { reading, offset } => invariant.got(*reading, *offset),
            Fact::LookedThrough { reading, offset } => invariant.looked_through(*reading, *offset),
            Fact::Asked { question } => invariant.asked(*question),
            Fact::Answered { question, last_offset } => invariant.answered_by_leader(*question, *last_offset),
        })
    }

    /// The logs at the end.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn finish(&mut self, end: &End) -> Result<(), Violation> {
        self.each(|invariant| invariant.finish(end))
    }
}
