//! How much may happen on a path of the model, and how it begins.

use tercet::base::ids::{LogIndex, NodeId, Term};
use tercet::raft::{HardState, Membership, TermRuns};

use super::cluster::State;
use super::history::History;
use super::node::{Disk, Node};

/// A disk that keeps less than it says, to see that the properties notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// Everything that is said to be durable is.
    None,
    /// Hard state is not: votes are forgotten (PITFALLS 2).
    HardState,
    /// Entries are not: they are acknowledged before they are flushed (PITFALLS 14).
    Log,
    /// What is torn leaves no claim (PITFALLS 60).
    Claim,
}

/// How much may happen on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Voters at the beginning; ids from 1 on.
    pub voters: u16,
    /// Learners beside them, with the ids that follow.
    pub learners: u16,
    /// Elections that begin because a leader is not heard, and questions about a claimed tail.
    pub elections: u8,
    /// Entries that leaders are given, besides those that open their terms.
    pub proposals: u8,
    /// Crashes, each with a new start.
    pub crashes: u8,
    /// Crashes that tear the end of a log, and leave a claim.
    pub tears: u8,
    /// Rounds of heartbeats, besides the first of a leader and those that reads begin; with none, and no reads, all are
    /// lost.
    pub heartbeats: u8,
    /// Changes of membership.
    pub changes: u8,
    /// Leaders that are told to hand over.
    pub transfers: u8,
    /// Read barriers that are asked for.
    pub reads: u8,
    /// Logs whose committed part is removed; who needs it gets a checkpoint.
    pub trims: u8,
    /// Messages that a link remembers, the newest ones: each of them may arrive at any time, in any order, any number of
    /// times or never.
    pub link: usize,
    /// Whether pre-votes are messages like others. Otherwise an election begins with the votes themselves, if a quorum
    /// would be for it: pre-votes change no term and no log.
    pub pre_votes: bool,
    /// What disks do not keep.
    pub lie: Lie,
}

impl Bounds {
    /// Three voters, one election, and nothing besides.
    pub const LEAST: Self = Self {
        voters: 3,
        learners: 0,
        elections: 1,
        proposals: 0,
        crashes: 0,
        tears: 0,
        heartbeats: 0,
        changes: 0,
        transfers: 0,
        reads: 0,
        trims: 0,
        link: 1,
        pre_votes: false,
        lie: Lie::None,
    };

    /// Voters at the beginning.
    pub fn membership(&self) -> Membership {
        let voters = (1..=self.voters).map(NodeId).collect();
        let learners = (self.voters + 1..=self.voters + self.learners).map(NodeId).collect();
        Membership::new(voters, learners).expect("a membership")
    }

    /// The membership that change 0 or 1 asks for.
    pub fn next_membership(&self, change: u8) -> Membership {
        let all = (1..=self.voters + self.learners).map(NodeId);
        let voters = all.filter(|node| change == 0 || *node != NodeId(1)).collect();
        Membership::new(voters, Vec::new()).expect("a membership")
    }

    /// Whether the nodes are alike at the beginning, and nothing that may happen tells them apart by their ids.
    pub fn is_symmetric(&self) -> bool {
        // A canvass lets the lower id go first, and change 1 is about voter 1.
        self.learners == 0 && self.changes == 0 && !self.pre_votes && self.voters == 3
    }

    /// All nodes just started, nobody leads; the log of each is the entry that formatting writes.
    pub fn beginning(&self) -> State {
        let count = usize::from(self.voters + self.learners);
        let disk = Disk {
            hard: HardState { term: Term(1), ..HardState::default() },
            log: TermRuns::from_terms(&[Term(1)]),
            hint: LogIndex(1),
            watermark: LogIndex(1),
        };
        let history = History::new();
        let mut nodes: Vec<Node> =
            (0..count).map(|place| Node::started(self, place, disk.clone(), &history)).collect();
        // Timers are asked for, and nothing is said.
        for node in &mut nodes {
            node.raft.ready();
        }
        State::new(self, nodes, history)
    }
}
