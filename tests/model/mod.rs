//! The model as `stateright` checks it: what must hold in every state, and what must happen in some (or the first says
//! nothing).

pub mod cluster;

use stateright::{Model, Property};
use tercet::base::ids::Term;
use tercet::raft::{Membership, Role};

use cluster::{Bounds, State, Step, terms};

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
            all.push(Property::sometimes("two terms have leaders", |_, state: &State| {
                state.history.leaders.len() > 1
            }));
            all.push(Property::sometimes("a log gives up entries", |_, state: &State| {
                state.history.truncations > 0
            }));
            all.push(Property::sometimes("two nodes believe that they lead", |_, state: &State| {
                state.nodes.iter().filter(|node| node.raft.role() == Role::Leader).count() > 1
            }));
            all.push(Property::sometimes(
                "an entry of an older term is committed by a later one",
                older_term,
            ));
        }
        if self.crashes > 0 {
            all.push(Property::sometimes("a node crashes behind a commit", |_, state: &State| {
                state.has_crashed() && state.history.committed.len() > 1
            }));
        }
        if self.crashes > 0 && self.elections > 1 {
            all.push(Property::sometimes(
                "a leader crashes and another one is elected",
                |_, state: &State| {
                    state.nodes.iter().any(|node| node.raft.role() == Role::Leader)
                        && state.has_crashed()
                        && state.history.leaders.len() > 1
                },
            ));
        }
        if self.changes > 0 {
            all.push(Property::sometimes("a change of membership is committed", |_, state: &State| {
                state.changes_committed() > 0
            }));
        }
        if self.changes > 1 {
            all.push(Property::sometimes("both changes are committed", |_, state: &State| {
                state.changes_committed() > 1
            }));
        }
        all
    }
}

/// Two logs that have an entry of one term at an index are equal up to there.
fn log_matching(state: &State) -> bool {
    let logs: Vec<Vec<Term>> = state.nodes.iter().map(|node| terms(node.raft.log())).collect();
    logs.iter().enumerate().all(|(at, log)| {
        logs[..at].iter().all(|other| {
            let last = log.iter().zip(other).rposition(|(one, two)| one == two);
            last.is_none_or(|last| log[..last] == other[..last])
        })
    })
}

/// Every entry that somebody knows to be committed is on the disks of a quorum of a membership.
fn committed_is_durable(bounds: &Bounds, state: &State) -> bool {
    let memberships = state.memberships(bounds);
    (0..state.history.committed.len()).all(|at| {
        let holds = |node: &tercet::base::ids::NodeId| {
            let disk = &state.nodes[usize::from(node.0) - 1].disk;
            disk.log.get(at) == state.history.committed.get(at)
        };
        let is_held = |membership: &Membership| {
            membership.voters().iter().filter(|node| holds(node)).count() >= membership.quorum()
        };
        memberships.iter().any(is_held)
    })
}

/// Raft paper, section 5.4.2: an entry of a former leader is committed along with one of the present leader's.
fn older_term(_: &Bounds, state: &State) -> bool {
    let committed = &state.history.committed;
    let newest = committed.last().copied().unwrap_or_default();
    // Entry 1 is that of formatting.
    committed[1..].iter().any(|term| *term < newest)
}
