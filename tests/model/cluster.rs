//! A cluster of cores as a model for a checker: every order of deliveries, losses, doubles, flushes and crashes within
//! the [`Bounds`] is a path, and the states between them are looked at by [`super::properties`].
//!
//! The cores are `tercet::raft::Raft` itself. A step is one call into one of them, and all that it says at once is on
//! the wire behind it; what has to be durable first waits for a step of the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tercet::base::ids::{LogIndex, NodeId, Term};
use tercet::raft::{
    HardState, LogView, Membership, MembershipLog, Message, Raft, RaftConfig, Restored, Role, TermRuns,
    TimerKind,
};

/// A disk that keeps less than it says, to see that the properties notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// Everything that is said to be durable is.
    None,
    /// Hard state is not: votes are forgotten (PITFALLS 2).
    HardState,
    /// Entries are not: they are acknowledged before they are flushed (PITFALLS 14).
    Log,
}

/// How much may happen on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Voters at the beginning; ids from 1 on.
    pub voters: u16,
    /// Learners beside them, with the ids that follow.
    pub learners: u16,
    /// Elections that begin because a leader is not heard.
    pub elections: u8,
    /// Entries that leaders are given, besides those that open their terms.
    pub proposals: u8,
    /// Crashes, each with a new start.
    pub crashes: u8,
    /// Messages that arrive and stay on their way.
    pub doubles: u8,
    /// Rounds of heartbeats, besides the first of a leader; with none, that one is lost too.
    pub heartbeats: u8,
    /// Changes of membership.
    pub changes: u8,
    /// Messages on their way from one node to another; where there would be more, the oldest is lost.
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
        doubles: 0,
        heartbeats: 0,
        changes: 0,
        link: 1,
        pre_votes: false,
        lie: Lie::None,
    };
}

/// What is left of the [`Bounds`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Budget {
    elections: u8,
    proposals: u8,
    crashes: u8,
    doubles: u8,
    heartbeats: u8,
    changes: u8,
}

/// What a crash leaves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// As last flushed.
    pub hard: HardState,
    /// Terms of the entries, from index 1 on.
    pub log: Vec<Term>,
    /// Lower bound of the commit index, as last flushed.
    hint: LogIndex,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The core.
    pub raft: Raft,
    /// Its disk.
    pub disk: Disk,
    /// Hard state that was handed out and is not durable.
    pending: Option<(u64, HardState)>,
    led: bool,
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    /// Place of the sender.
    pub from: usize,
    /// Place of the receiver.
    pub to: usize,
    /// What is said.
    pub message: Message,
}

/// What happened, as nobody in the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct History {
    /// Who led which term.
    pub leaders: Vec<(Term, usize)>,
    /// Terms of the entries that somebody knew to be committed, from index 1 on.
    pub committed: Vec<Term>,
    /// In which term each of them was committed: the leader that counted knows first.
    committed_in: Vec<Term>,
    /// Configurations, by the entry that they stand in.
    configurations: Vec<(Term, LogIndex, Membership)>,
    /// The first thing that must never happen and did.
    pub broken: Option<String>,
    /// Logs that gave up entries.
    pub truncations: u8,
    /// Nodes that lost what was not flushed.
    pub crashes: u8,
}

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The nodes, by place; place 0 is node 1.
    pub nodes: Vec<Node>,
    /// In order of sending.
    pub wire: Vec<Flight>,
    /// What happened.
    pub history: History,
    left: Budget,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The message at this place of the wire arrives.
    Deliver(usize),
    /// It arrives, and will again.
    DeliverAndKeep(usize),
    /// A node hears no leader for an election timeout, and nobody else does.
    Elect(usize),
    /// A leader begins a round of heartbeats.
    Heartbeat(usize),
    /// A leader is given an entry.
    Propose(usize),
    /// A leader is asked for the next membership: 0 to make the first learner a voter, 1 to remove voter 1.
    Change(usize, u8),
    /// What a node said of its hard state is durable.
    FlushHard(usize),
    /// A node's whole log is durable.
    FlushLog(usize),
    /// A node loses what was not flushed, and starts again.
    Crash(usize),
}

fn id(place: usize) -> NodeId {
    NodeId(place as u16 + 1)
}

/// Terms of a log that begins with index 1.
pub fn terms(log: &TermRuns) -> Vec<Term> {
    (1..=log.last_index().get()).filter_map(|index| log.term_at(LogIndex(index))).collect()
}

impl Bounds {
    /// Voters at the beginning.
    pub fn membership(&self) -> Membership {
        let voters = (1..=self.voters).map(NodeId).collect();
        let learners = (self.voters + 1..=self.voters + self.learners).map(NodeId).collect();
        Membership::new(voters, learners).expect("a membership")
    }

    fn next_membership(&self, change: u8) -> Membership {
        let all = (1..=self.voters + self.learners).map(NodeId);
        let voters = all.filter(|node| change == 0 || *node != NodeId(1)).collect();
        Membership::new(voters, Vec::new()).expect("a membership")
    }

    /// All nodes just started, nobody leads; the log of each is the entry that formatting writes.
    pub fn beginning(&self) -> State {
        let count = usize::from(self.voters + self.learners);
        let disk = Disk {
            hard: HardState { term: Term(1), ..HardState::default() },
            log: vec![Term(1)],
            hint: LogIndex(1),
        };
        let blank = |place: usize| {
            let raft = self.core(place, &disk, &History::default());
            Node { raft, disk: disk.clone(), pending: None, led: false }
        };
        let mut state = State {
            nodes: (0..count).map(blank).collect(),
            wire: Vec::new(),
            history: History { committed: vec![Term(1)], committed_in: vec![Term(1)], ..History::default() },
            left: Budget {
                elections: self.elections,
                proposals: self.proposals,
                crashes: self.crashes,
                doubles: self.doubles,
                heartbeats: self.heartbeats,
                changes: self.changes,
            },
        };
        (0..count).for_each(|place| state.pump(self, place));
        state
    }

    /// A core as recovery makes it.
    fn core(&self, place: usize, disk: &Disk, history: &History) -> Raft {
        let mut memberships: MembershipLog = self.membership().into();
        for (at, term) in disk.log.iter().enumerate() {
            if let Some(membership) = history.configuration(*term, LogIndex(at as u64 + 1)) {
                memberships.push(LogIndex(at as u64 + 1), membership.clone());
            }
        }
        memberships.committed(disk.hint);
        let restored = Restored {
            hard_state: disk.hard,
            memberships,
            log: TermRuns::from_terms(&disk.log),
            commit_hint: disk.hint,
        };
        let config = RaftConfig { id: id(place), inflight_entries_limit: 8, inflight_bytes_limit: 1 << 20 };
        let mut raft = Raft::new(config, restored);
        raft.start();
        raft
    }
}

impl History {
    fn configuration(&self, term: Term, index: LogIndex) -> Option<&Membership> {
        let at = |known: &&(Term, LogIndex, Membership)| (known.0, known.1) == (term, index);
        self.configurations.iter().find(at).map(|known| &known.2)
    }

    fn note_leader(&mut self, place: usize, term: Term, log: &[Term]) {
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
        if log.get(..due) != Some(&self.committed[..due]) {
            self.break_with(format!(
                "leader completeness: node {} leads term {term} with {log:?}",
                place + 1
            ));
        }
    }

    fn note_committed(&mut self, place: usize, term: Term, committed: &[Term]) {
        let both = committed.len().min(self.committed.len());
        if committed[..both] != self.committed[..both] {
            self.break_with(format!("state machine safety: node {} has {committed:?} committed", place + 1));
        }
        if committed.len() > self.committed.len() {
            self.committed = committed.to_vec();
            self.committed_in.resize(committed.len(), term);
        }
    }

    fn break_with(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }
}

impl State {
    /// Whether somebody has lost what was not flushed.
    pub fn has_crashed(&self) -> bool {
        self.history.crashes > 0
    }

    /// The membership of the beginning, and all that were proposed.
    pub fn memberships(&self, bounds: &Bounds) -> Vec<Membership> {
        let changed = self.history.configurations.iter().map(|known| known.2.clone());
        std::iter::once(bounds.membership()).chain(changed).collect()
    }

    /// How many of the configurations that were proposed are committed.
    pub fn changes_committed(&self) -> usize {
        let committed = &self.history.committed;
        let is_committed = |known: &&(Term, LogIndex, Membership)| {
            committed.get(known.1.get() as usize - 1) == Some(&known.0)
        };
        self.history.configurations.iter().filter(is_committed).count()
    }

    /// What may happen next.
    pub fn steps(&self, bounds: &Bounds, steps: &mut Vec<Step>) {
        if self.history.broken.is_some() {
            return;
        }
        for at in 0..self.wire.len() {
            // Equal messages on one link are one.
            if self.wire[..at].contains(&self.wire[at]) {
                continue;
            }
            steps.push(Step::Deliver(at));
            if self.left.doubles > 0 {
                steps.push(Step::DeliverAndKeep(at));
            }
        }
        for (place, node) in self.nodes.iter().enumerate() {
            let leads = node.raft.role() == Role::Leader;
            if self.left.elections > 0 && !leads && node.raft.role() != Role::Learner {
                steps.push(Step::Elect(place));
            }
            if leads && self.left.heartbeats > 0 {
                steps.push(Step::Heartbeat(place));
            }
            if leads && self.left.proposals > 0 {
                steps.push(Step::Propose(place));
            }
            if leads && self.left.changes > 0 {
                let next = bounds.changes - self.left.changes;
                steps.push(Step::Change(place, next));
            }
            if node.pending.is_some() {
                steps.push(Step::FlushHard(place));
            } else if node.raft.stable_index() < node.raft.last_id().index {
                steps.push(Step::FlushLog(place));
            }
            let loses = node.pending.is_some() || node.disk.log != terms(node.raft.log());
            let forgets = node.raft.role() != Role::Follower || node.raft.commit_index() > node.disk.hint;
            if self.left.crashes > 0 && (loses || forgets) {
                steps.push(Step::Crash(place));
            }
        }
    }

    /// The state behind a step; `None` where it changes nothing.
    pub fn after(&self, bounds: &Bounds, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        let taken = catch_unwind(AssertUnwindSafe(|| next.take(bounds, step)));
        match taken {
            Ok(true) => Some(next),
            Ok(false) => None,
            // The core has found out by itself, and whatever it was about to do is not done.
            Err(panic) => {
                let mut broken = self.clone();
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
                broken.history.break_with(said.unwrap_or_else(|| "a core panics".to_owned()));
                Some(broken)
            }
        }
    }

    fn take(&mut self, bounds: &Bounds, step: &Step) -> bool {
        let place = match *step {
            Step::Deliver(at) => {
                let Flight { from, to, message } = self.wire.remove(at);
                return self.deliver(bounds, from, to, message);
            }
            Step::DeliverAndKeep(at) => {
                let Flight { from, to, message } = self.wire[at].clone();
                self.left.doubles -= 1;
                return self.deliver(bounds, from, to, message);
            }
            Step::Elect(place) => return self.elect(bounds, place),
            Step::Heartbeat(place) => {
                self.left.heartbeats -= 1;
                self.nodes[place].raft.timer_fired(TimerKind::Heartbeat);
                place
            }
            Step::Propose(place) => {
                self.left.proposals -= 1;
                if self.nodes[place].raft.propose().is_err() {
                    return false;
                }
                place
            }
            Step::Change(place, change) => {
                let next = bounds.next_membership(change);
                let Ok(entry) = self.nodes[place].raft.propose_membership(next.clone()) else { return false };
                self.left.changes -= 1;
                self.history.configurations.push((entry.term, entry.index, next));
                place
            }
            Step::FlushHard(place) => {
                let node = &mut self.nodes[place];
                let Some((version, hard)) = node.pending.take() else { return false };
                if bounds.lie != Lie::HardState {
                    node.disk.hard = hard;
                }
                node.raft.hard_state_flushed(version);
                place
            }
            Step::FlushLog(place) => {
                let node = &mut self.nodes[place];
                if bounds.lie != Lie::Log {
                    node.disk.log = terms(node.raft.log());
                    node.disk.hint = node.raft.commit_index();
                }
                let (generation, last) = (node.raft.log_generation(), node.raft.last_id().index);
                node.raft.log_stable(generation, last);
                place
            }
            Step::Crash(place) => {
                self.left.crashes -= 1;
                self.history.crashes += 1;
                let disk = self.nodes[place].disk.clone();
                let raft = bounds.core(place, &disk, &self.history);
                self.nodes[place] = Node { raft, disk, pending: None, led: false };
                place
            }
        };
        self.pump(bounds, place);
        true
    }

    fn elect(&mut self, bounds: &Bounds, place: usize) -> bool {
        self.left.elections -= 1;
        for node in &mut self.nodes {
            node.raft.timer_fired(TimerKind::LeaderQuiet);
        }
        self.nodes[place].raft.timer_fired(TimerKind::Election);
        if !bounds.pre_votes {
            self.pre_vote(place);
        }
        (0..self.nodes.len()).for_each(|place| self.pump(bounds, place));
        true
    }

    fn deliver(&mut self, bounds: &Bounds, from: usize, to: usize, message: Message) -> bool {
        let before = self.nodes[to].raft.log_generation();
        self.nodes[to].raft.step(id(from), message);
        let truncated = self.nodes[to].raft.log_generation() > before;
        self.history.truncations += u8::from(truncated);
        self.pump(bounds, to);
        true
    }

    /// The pre-votes of an election, answered at once.
    fn pre_vote(&mut self, place: usize) {
        let asked = self.nodes[place].raft.ready().messages;
        for (to, message) in asked {
            let to = usize::from(to.0) - 1;
            if !matches!(message, Message::PreVote { .. }) {
                continue;
            }
            self.nodes[to].raft.step(id(place), message);
            let answers = std::mem::take(&mut self.nodes[to].raft.ready().messages);
            for (back, answer) in answers {
                if back == id(place) && matches!(answer, Message::PreVoteReply { .. }) {
                    self.nodes[place].raft.step(id(to), answer);
                }
            }
        }
    }

    /// Puts on the wire what a core has to say, and notes what it knows now.
    fn pump(&mut self, bounds: &Bounds, place: usize) {
        while self.nodes[place].raft.has_ready() {
            let ready = self.nodes[place].raft.ready();
            if let Some(pending) = ready.hard_state {
                self.nodes[place].pending = Some(pending);
            }
            self.learn_configurations(place);
            for (to, message) in ready.messages {
                self.send(bounds, place, usize::from(to.0) - 1, message);
            }
        }
        let node = &mut self.nodes[place];
        let leads = node.raft.role() == Role::Leader;
        if leads && !node.led {
            let (term, log) = (node.raft.term(), terms(node.raft.log()));
            // Its own first entry is no older one.
            self.history.note_leader(place, term, &log);
        }
        self.nodes[place].led = leads;
        if leads {
            self.replicate(bounds, place);
        }
        let raft = &self.nodes[place].raft;
        let committed: Vec<Term> =
            terms(raft.log()).into_iter().take(raft.commit_index().get() as usize).collect();
        let term = raft.term();
        self.history.note_committed(place, term, &committed);
    }

    /// Configuration entries count from their append on.
    fn learn_configurations(&mut self, place: usize) {
        let raft = &mut self.nodes[place].raft;
        for index in raft.membership_index().next().get()..=raft.last_id().index.get() {
            let index = LogIndex(index);
            let Some(term) = raft.log().term_at(index) else { continue };
            if let Some(membership) = self.history.configuration(term, index) {
                raft.membership_appended(index, membership.clone());
            }
        }
    }

    fn replicate(&mut self, bounds: &Bounds, place: usize) {
        for peer in (0..self.nodes.len()).filter(|peer| *peer != place) {
            while let Some(plan) = self.nodes[place].raft.next_send(id(peer)) {
                let log = terms(self.nodes[place].raft.log());
                let first = plan.prev.index.get() as usize;
                let last = (plan.last.get() as usize).max(first);
                let message = Message::Append {
                    term: plan.term,
                    prev: plan.prev,
                    entries: log[first..last].to_vec(),
                    commit: plan.commit,
                    wants_reply: plan.wants_reply,
                };
                self.nodes[place].raft.sent(id(peer), LogIndex(last as u64), 0);
                self.send(bounds, place, peer, message);
            }
        }
    }

    fn send(&mut self, bounds: &Bounds, from: usize, to: usize, message: Message) {
        // Where no path has heartbeats, those that open a leader's term are lost.
        let is_beat = matches!(message, Message::Heartbeat { .. } | Message::HeartbeatReply { .. });
        if is_beat && bounds.heartbeats == 0 {
            return;
        }
        let on_link = |flight: &Flight| (flight.from, flight.to) == (from, to);
        let waiting = self.wire.iter().filter(|flight| on_link(flight)).count();
        if waiting >= bounds.link
            && let Some(oldest) = self.wire.iter().position(on_link)
        {
            self.wire.remove(oldest);
        }
        self.wire.push(Flight { from, to, message });
    }
}
