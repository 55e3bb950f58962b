//! The model as `stateright` checks it: what must hold in every state, and what must happen in some (or the first says
//! nothing).

pub mod bounds;
pub mod cluster;
pub mod history;
pub mod kept;
pub mod node;
pub mod wire;

use stateright::{Model, Property};
use tercet::base::ids::{EntryId, LogIndex, NodeId};
use tercet::raft::{LogView, Membership, Role, TermRuns};

use cluster::{Bounds, State, Step};

impl Model for Bounds {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.beginning()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        state.steps(self, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        state.after(self, &step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always("nothing is broken", |_, state: &State| state.history.broken.is_none()),
            Property::always("log matching", |_, state: &State| log_matching(state)),
            Property::always("what is committed is durable on a quorum", committed_is_durable),
            Property::sometimes("an entry is committed", |_, state: &State| {
                state.history.committed.len() > 1
            }),
            Property::sometimes("somebody leads", |_, state: &State| !state.history.leaders.is_empty()),
        ];
        if self.elections > 1 {
            all.extend(sometimes_with_elections());
        }
        if self.crashes > 0 {
            all.push(Property::sometimes(
                "a node crashes behind a commit",
                |bounds: &Self, state: &State| state.has_crashed(bounds) && state.history.committed.len() > 1,
            ));
        }
        if self.crashes > 0 && self.elections > 1 {
            all.push(Property::sometimes(
                "a leader crashes and another one is elected",
                |bounds: &Self, state: &State| {
                    let leads = state.nodes.iter().any(|node| node.leads());
                    leads && state.has_crashed(bounds) && state.history.leaders.len() > 1
                },
            ));
        }
        if self.changes > 0 {
            all.push(Property::sometimes("a change of membership is committed", |_, state: &State| {
                state.history.changes_committed() > 0
            }));
        }
        if self.changes > 1 {
            all.push(Property::sometimes("both changes are committed", |_, state: &State| {
                state.history.changes_committed() > 1
            }));
        }
        all.extend(sometimes_with_more(self));
        all
    }
}

fn sometimes_with_elections() -> [Property<Bounds>; 4] {
    [
        Property::sometimes("two terms have leaders", |_, state: &State| state.history.leaders.len() > 1),
        Property::sometimes("a log gives up entries", |_, state: &State| {
            state.nodes.iter().any(|node| node.raft.log_generation() > 0)
        }),
        Property::sometimes("two nodes believe that they lead", |_, state: &State| {
            state.nodes.iter().filter(|node| node.leads()).count() > 1
        }),
        Property::sometimes("an entry of an older term is committed by a later one", older_term),
    ]
}

fn sometimes_with_more(bounds: &Bounds) -> Vec<Property<Bounds>> {
    let mut all = Vec::new();
    if bounds.tears > 0 {
        all.push(Property::sometimes("a node claims what it lost", |_, state: &State| {
            state.nodes.iter().any(|node| node.raft.claimed_tail().is_some())
        }));
        all.push(Property::sometimes("a claim is settled", |bounds: &Bounds, state: &State| {
            state.left.tears < bounds.tears
                && state.nodes.iter().all(|node| node.disk.hard.claimed_tail.is_none())
        }));
        all.push(Property::sometimes("a claim is settled without its entry", claim_is_dropped));
    }
    if bounds.transfers > 0 {
        all.push(Property::sometimes("leadership is handed over", |bounds: &Bounds, state: &State| {
            state.history.leaders.len() > usize::from(bounds.elections)
        }));
    }
    if bounds.reads > 0 {
        all.push(Property::sometimes("a read barrier is passed", |_, state: &State| {
            state.history.reads_passed > 0
        }));
    }
    if bounds.reads > 0 && bounds.elections > 1 {
        all.push(Property::sometimes("a read is asked of a leader that is none", |_, state: &State| {
            let newest = state.nodes.iter().map(|node| node.raft.term()).max();
            state.nodes.iter().any(|node| node.leads() && Some(node.raft.term()) < newest)
                && state.history.leaders.len() > 1
        }));
    }
    if bounds.trims > 0 {
        all.push(Property::sometimes("a log begins anew behind a checkpoint", |_, state: &State| {
            let is_anew = |log: &TermRuns| log.base().index > LogIndex::ZERO;
            state.nodes.iter().any(|node| is_anew(&node.disk.log) && node.raft.log_generation() > 0)
        }));
    }
    all
}

/// Two logs that have an entry of one term at an index are equal up to there.
fn log_matching(state: &State) -> bool {
    let matches = |one: &TermRuns, two: &TermRuns| {
        let first = one.base().index.max(two.base().index).get();
        let last = one.last_index().min(two.last_index()).get();
        let same = |index: u64| one.term_at(LogIndex(index)) == two.term_at(LogIndex(index));
        // From the last one that is the same in both on, all before it are.
        (first..=last).rev().skip_while(|index| !same(*index)).all(same)
    };
    let logs = state.nodes.iter().map(|node| node.raft.log());
    logs.enumerate().all(|(at, log)| state.nodes[..at].iter().all(|other| matches(log, other.raft.log())))
}

/// Every entry that somebody knows to be committed is on the disks of a quorum of a membership, or claimed there: who
/// claims it keeps everybody from leading who lacks it.
fn committed_is_durable(bounds: &Bounds, state: &State) -> bool {
    let is_held = |at: usize, membership: &Membership| {
        let term = state.history.committed[at];
        let entry = EntryId::new(term, LogIndex(at as u64 + 1));
        let holds = |node: &&NodeId| {
            let disk = &state.nodes[usize::from(node.0) - 1].disk;
            history::has(&disk.log, at, term)
                || disk.hard.claimed_tail.is_some_and(|claimed| claimed >= entry)
        };
        membership.voters().iter().filter(holds).count() >= membership.quorum()
    };
    if bounds.changes == 0 {
        let membership = state.nodes[0].raft.membership();
        return (0..state.history.committed.len()).all(|at| is_held(at, membership));
    }
    let memberships = state.memberships(bounds);
    (0..state.history.committed.len()).all(|at| memberships.iter().any(|membership| is_held(at, membership)))
}

/// Raft paper, section 5.4.2: an entry of a former leader is committed along with one of the present leader's.
fn older_term(_: &Bounds, state: &State) -> bool {
    let committed = &state.history.committed;
    let newest = committed.last().copied().unwrap_or_default();
    // Entry 1 is that of formatting.
    committed[1..].iter().any(|term| *term < newest)
}

/// A tear is behind, nothing is claimed, and some log is as short as that of formatting: the others have settled it.
fn claim_is_dropped(bounds: &Bounds, state: &State) -> bool {
    let settled = state.nodes.iter().all(|node| node.disk.hard.claimed_tail.is_none());
    let torn = |node: &cluster::Node| {
        node.raft.log().last_index() == LogIndex(1) && node.raft.role() == Role::Candidate
    };
    state.left.tears < bounds.tears && settled && state.nodes.iter().any(|node| torn(node))
}
