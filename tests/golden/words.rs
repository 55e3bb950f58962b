//! How things are written down. An entry is `3@t2`: index 3 of term 2.

use tercet::base::ids::EntryId;
use tercet::raft::{AppendOutcome, HardState, Membership, Message, Progress, ProgressState, Role};

use crate::log::{Slot, What};

pub fn entry(id: EntryId) -> String {
    if id == EntryId::ZERO { "nothing".to_owned() } else { format!("{}@t{}", id.index, id.term) }
}

fn list(ids: &[tercet::base::ids::NodeId]) -> String {
    ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

pub fn members(membership: &Membership) -> String {
    match membership.learners() {
        [] => format!("voters {}", list(membership.voters())),
        learners => format!("voters {} learners {}", list(membership.voters()), list(learners)),
    }
}

pub fn what(what: &What) -> String {
    match what {
        What::Config(membership) => members(membership),
        What::Noop => "no-op".to_owned(),
        What::Event(word) => word.clone(),
    }
}

/// The same for a narrow column: `{1,2,3}+{4}` are three voters and a learner.
pub fn brief(of: &What) -> String {
    match of {
        What::Config(membership) if membership.learners().is_empty() => {
            format!("{{{}}}", list(membership.voters()))
        }
        What::Config(membership) => {
            format!("{{{}}}+{{{}}}", list(membership.voters()), list(membership.learners()))
        }
        _ => what(of),
    }
}

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::Learner => "learner",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

pub fn hard(hard: &HardState) -> String {
    let vote = hard.voted_for.map_or("no vote".to_owned(), |node| format!("vote for n{node}"));
    let claim = hard.claimed_tail.map_or(String::new(), |id| format!(", claims {}", entry(id)));
    format!("term {}, {vote}{claim}", hard.term)
}

/// `slots` are the entries that travel with an Append.
pub fn message(message: &Message, slots: &[Slot]) -> String {
    match message {
        Message::PreVote { term, last } => {
            format!("PreVote for term {term}: my log ends at {}", entry(*last))
        }
        Message::PreVoteReply { term, granted: true, .. } => format!("PreVote granted for term {term}"),
        Message::PreVoteReply { term, .. } => format!("PreVote refused: my term is {term}"),
        Message::Vote { term, last } => format!("Vote in term {term}: my log ends at {}", entry(*last)),
        Message::VoteReply { term, granted: true, .. } => format!("Vote granted in term {term}"),
        Message::VoteReply { term, .. } => format!("Vote refused: my term is {term}"),
        Message::Append { term, prev, commit, wants_reply, .. } => {
            let index = |at: usize| EntryId::new(slots[at].term, prev.index.plus(at as u64 + 1));
            let one = |at: usize| format!("{} {}", entry(index(at)), what(&slots[at].what));
            let entries: Vec<String> = (0..slots.len()).map(one).collect();
            let entries = if entries.is_empty() { "no entry".to_owned() } else { entries.join(", ") };
            let asks = if *wants_reply { "; do you have that?" } else { "" };
            format!("Append in term {term}, after {}: {entries}; committed {commit}{asks}", entry(*prev))
        }
        Message::AppendReply { term, outcome: AppendOutcome::Accepted { appended, stable } } => {
            format!("Accepted in term {term}: as you up to {appended}, flushed up to {stable}")
        }
        Message::AppendReply { term, outcome: AppendOutcome::Rejected { prev_index, hint } } => {
            format!("Rejected in term {term}: not your {prev_index}; look at {} and before", entry(*hint))
        }
        Message::Heartbeat { term, commit, round } => {
            format!("Heartbeat {round} in term {term}: committed {commit}")
        }
        Message::HeartbeatReply { term, round: 0, .. } => format!("Notice: the term is {term}"),
        Message::HeartbeatReply { term, round, appended, stable } => {
            format!(
                "Heartbeat {round} answered in term {term}: as you up to {appended}, flushed up to {stable}"
            )
        }
        Message::ClaimQuery { term, claimed } => {
            format!(
                "ClaimQuery for term {term}: my disk once held {}; how far do you reach?",
                entry(*claimed)
            )
        }
        Message::ClaimReply { term, claimed, last } if claimed == last => {
            format!("ClaimReply in term {term}: I reach {}", entry(*last))
        }
        Message::ClaimReply { term, claimed, last } => {
            format!("ClaimReply in term {term}: I have {} and claim {}", entry(*last), entry(*claimed))
        }
        Message::TimeoutNow { term } => format!("TimeoutNow in term {term}: campaign at once"),
    }
}

pub fn progress(peer: &Progress) -> String {
    let state = match peer.state() {
        ProgressState::Probe if peer.needs_checkpoint() => "needs a checkpoint",
        ProgressState::Probe => "is probed",
        ProgressState::Replicate => "is streamed to",
    };
    format!(
        "n{} {state}: next {}, has {}, flushed {}, in flight {}",
        peer.peer(),
        peer.next(),
        peer.appended(),
        peer.stable(),
        peer.in_flight_entries()
    )
}
