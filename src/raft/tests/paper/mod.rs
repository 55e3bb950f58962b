//! The Raft paper and the Raft thesis, rule by rule. The doc of each test begins with the places that it checks and says
//! the rule in our own words; `docs/TESTING_STRATEGY.md` has the table of them, which `tests/raft_paper_table.rs`
//! writes and keeps true, and which asks for a test of every line of figure 2.
//!
//! Names: `paper_<section>_…`, `thesis_<section>_…`, `correction_2015_…`, and `differs_<section>_…` where the core does
//! on purpose something else than that section.

mod correction_2015;
mod section_5_1;
mod section_5_2;
mod section_5_3;
mod section_5_4;
mod section_5_5;
mod section_7;
mod section_8;
mod thesis_10_2_1;
mod thesis_3_10;
mod thesis_4;
mod thesis_6_4;
mod thesis_9_6;

use super::{append, drain, elect, i, members, n, node, t};
use crate::base::ids::{EntryId, NodeId};
use crate::raft::{AppendOutcome, LogOp, Message, Raft, Ready, Role, TimerKind};
use std::collections::BTreeMap;

pub(super) fn vote(term: u64, last: EntryId) -> Message {
    Message::Vote { term: t(term), last }
}

pub(super) fn pre_vote(term: u64, last: EntryId) -> Message {
    Message::PreVote { term: t(term), last }
}

pub(super) fn vote_reply(term: u64) -> Message {
    Message::VoteReply { term: t(term), granted: true, last: EntryId::ZERO }
}

pub(super) fn pre_vote_reply(term: u64) -> Message {
    Message::PreVoteReply { term: t(term), granted: true, last: EntryId::ZERO }
}

pub(super) fn heartbeat(term: u64, commit: u64, round: u64) -> Message {
    Message::Heartbeat { term: t(term), commit: i(commit), round }
}

/// Whether `raft` grants what `from` asks.
pub(super) fn grants(raft: &mut Raft, from: NodeId, message: Message) -> bool {
    raft.step(from, message);
    drain(raft).messages.iter().any(|(to, m)| {
        *to == from
            && matches!(
                m,
                Message::VoteReply { granted: true, .. } | Message::PreVoteReply { granted: true, .. }
            )
    })
}

/// A voter 1 of `voters` that asks for votes in the term after the last of `log`.
pub(super) fn candidate(voters: u16, log: &[u64]) -> Raft {
    let mut raft = node(1, members(voters, &[]), log);
    raft.timer_fired(TimerKind::Election);
    drain(&mut raft);
    let term = raft.term().next();
    for peer in 2..=voters {
        raft.step(n(peer), Message::PreVoteReply { term, granted: true, last: EntryId::ZERO });
        drain(&mut raft);
    }
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, term));
    raft
}

/// Leader 1 of `voters` in the term after the last of `log`; its no-op is appended and, like all before it, stable.
pub(super) fn leader(voters: u16, log: &[u64]) -> Raft {
    let mut raft = node(1, members(voters, &[]), log);
    elect(&mut raft);
    let last = raft.last_id().index;
    raft.log_stable(0, last);
    drain(&mut raft);
    raft
}

pub(super) fn propose(raft: &mut Raft, count: usize) {
    for _ in 0..count {
        raft.propose().unwrap();
    }
}

/// What `ready` says about Appends.
pub(super) fn outcomes(ready: &Ready) -> Vec<AppendOutcome> {
    let of = |message: &Message| match message {
        Message::AppendReply { outcome, .. } => Some(*outcome),
        _ => None,
    };
    ready.messages.iter().filter_map(|(_, message)| of(message)).collect()
}

pub(super) fn ok(appended: u64, stable: u64) -> AppendOutcome {
    AppendOutcome::Accepted { appended: i(appended), stable: i(stable) }
}

/// A few nodes with perfect disks, moved by hand: everything is flushed at once, and messages arrive in order, where
/// nothing is cut.
pub(super) struct Few {
    pub(super) nodes: BTreeMap<NodeId, Raft>,
    pub(super) cut: Vec<(NodeId, NodeId)>,
    /// Appends that asked whether the follower has an entry, so far.
    pub(super) probes: usize,
}

impl Few {
    pub(super) fn new(nodes: Vec<Raft>) -> Self {
        let nodes = nodes.into_iter().map(|raft| (raft.id(), raft)).collect();
        Self { nodes, cut: Vec::new(), probes: 0 }
    }

    pub(super) fn at(&mut self, id: u16) -> &mut Raft {
        self.nodes.get_mut(&n(id)).unwrap()
    }

    /// Nothing passes between `id` and the others.
    pub(super) fn isolate(&mut self, id: u16) {
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|&other| other != n(id)).collect();
        self.cut.extend(others.into_iter().flat_map(|other| [(n(id), other), (other, n(id))]));
    }

    /// The others miss their leader, then `id` does, and all messages arrive.
    pub(super) fn elect(&mut self, id: u16) {
        for raft in self.nodes.values_mut() {
            raft.timer_fired(TimerKind::LeaderQuiet);
        }
        self.at(id).timer_fired(TimerKind::Election);
        self.settle();
    }

    /// Carries everything until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            let mut sent = Vec::new();
            for (&id, raft) in &mut self.nodes {
                Self::work(raft);
                let messages = drain(raft).messages;
                sent.extend(messages.into_iter().map(|(to, message)| (id, to, message)));
                sent.extend(Self::entries(raft).into_iter().map(|(to, message)| (id, to, message)));
            }
            if sent.is_empty() {
                return;
            }
            for (from, to, message) in sent {
                self.probes += usize::from(matches!(message, Message::Append { wants_reply: true, .. }));
                let passes = !self.cut.contains(&(from, to));
                if let Some(raft) = self.nodes.get_mut(&to).filter(|_| passes) {
                    raft.step(from, message);
                    Self::work(raft);
                }
            }
        }
        panic!("messages without an end");
    }

    /// The disk does everything at once.
    fn work(raft: &mut Raft) {
        let last = raft.last_id().index;
        raft.log_stable(raft.log_generation(), last);
    }

    fn entries(raft: &mut Raft) -> Vec<(NodeId, Message)> {
        let peers: Vec<NodeId> = raft.membership().members().filter(|&peer| peer != raft.id()).collect();
        let mut out = Vec::new();
        for peer in peers {
            while let Some(plan) = raft.next_send(peer) {
                let entries = (plan.first.get()..=plan.last.get()).map(|at| raft.term_at(i(at)).unwrap());
                let message = Message::Append {
                    term: plan.term,
                    prev: plan.prev,
                    entries: entries.collect(),
                    commit: plan.commit,
                    wants_reply: plan.wants_reply,
                };
                raft.sent(peer, plan.last, 1);
                out.push((peer, message));
            }
        }
        out
    }
}

#[test]
fn the_few_do_what_nodes_do() {
    let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
    few.elect(2);
    let noop = append(2, EntryId::new(t(1), i(1)), &[2], 0);
    assert!(noop.is_well_formed());
    for id in 1..=3 {
        assert_eq!((few.at(id).leader(), few.at(id).commit_index()), (Some(n(2)), i(2)), "n{id}");
        assert!(!drain(few.at(id)).log_ops.iter().any(|op| matches!(op, LogOp::TruncateFrom { .. })));
    }
}
