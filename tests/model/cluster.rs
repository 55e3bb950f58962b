//! A cluster of cores as a model for a checker: every order of deliveries, losses, doubles, flushes and crashes within
//! the [`Bounds`] is a path, and the states between them are looked at by [`super::properties`].
//!
//! The cores are `tercet::raft::Raft` itself. A step is one call into one of them, and all that it says at once is on
//! the wire behind it; what has to be durable first waits for a step of the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tercet::base::ids::LogIndex;
use tercet::raft::{Membership, MembershipLog, Message, Role, TimerKind};

pub use super::bounds::Bounds;
use super::history::History;
use super::kept::Kept;
use super::node::Pending;
pub use super::node::{Node, Torn, id};
use super::wire::{Flight, Wire, Word};

/// What is left of the [`Bounds`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    elections: u8,
    proposals: u8,
    crashes: u8,
    /// Crashes that tear.
    pub tears: u8,
    heartbeats: u8,
    changes: u8,
    transfers: u8,
    reads: u8,
    trims: u8,
}

/// Which nodes nothing has told apart yet but their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Alike {
    /// All three: nothing has happened.
    All,
    /// The second and the third: they have done nothing by themselves, and what they were told both were told.
    LastTwo,
    /// None, or nobody cares.
    None,
}

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The nodes, by place; place 0 is node 1.
    pub nodes: Vec<Kept<Node>>,
    /// What may arrive.
    pub wire: Wire,
    /// What happened.
    pub history: Kept<History>,
    /// What may still happen.
    pub left: Budget,
    alike: Alike,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The message at this place of the wire arrives.
    Deliver(usize),
    /// A node hears no leader for an election timeout, and nobody else does.
    Elect(usize),
    /// A leader begins a round of heartbeats.
    Heartbeat(usize),
    /// A leader is given an entry.
    Propose(usize),
    /// A leader is asked for the next membership: 0 to make the first learner a voter, 1 to remove voter 1.
    Change(usize, u8),
    /// A leader is told to hand over to another node.
    Transfer(usize, usize),
    /// A leader hands over for too long, and gives it up.
    GiveUpTransfer(usize),
    /// A node that leads, or believes so, is asked for a read barrier.
    Read(usize),
    /// What a node has committed goes behind a checkpoint.
    Trim(usize),
    /// What a node said of its hard state is durable.
    FlushHard(usize),
    /// A node's whole log is durable.
    FlushLog(usize),
    /// A node loses what was not flushed, and starts again.
    Crash(usize),
    /// It also finds the end of its log torn.
    Tear(usize, Torn),
}

impl State {
    /// A state in which nothing has happened.
    pub fn new(bounds: &Bounds, nodes: Vec<Node>, history: History) -> Self {
        Self {
            nodes: nodes.into_iter().map(Kept::new).collect(),
            wire: Wire::default(),
            history: Kept::new(history),
            left: Budget {
                elections: bounds.elections,
                proposals: bounds.proposals,
                crashes: bounds.crashes,
                tears: bounds.tears,
                heartbeats: bounds.heartbeats,
                changes: bounds.changes,
                transfers: bounds.transfers,
                reads: bounds.reads,
                trims: bounds.trims,
            },
            alike: if bounds.is_symmetric() { Alike::All } else { Alike::None },
        }
    }

    /// Whether somebody has lost what was not flushed.
    pub fn has_crashed(&self, bounds: &Bounds) -> bool {
        (self.left.crashes, self.left.tears) != (bounds.crashes, bounds.tears)
    }

    /// The membership of the beginning, and all that were proposed.
    pub fn memberships(&self, bounds: &Bounds) -> Vec<Membership> {
        std::iter::once(bounds.membership()).chain(self.history.configurations().cloned()).collect()
    }

    /// What may happen next.
    pub fn steps(&self, bounds: &Bounds, steps: &mut Vec<Step>) {
        if self.history.broken.is_some() {
            return;
        }
        for (at, flight) in self.wire.flights().iter().enumerate() {
            if self.may_act(flight.to) {
                steps.push(Step::Deliver(at));
            }
        }
        for place in (0..self.nodes.len()).filter(|place| self.may_act(*place)) {
            self.steps_of_disk(place, steps);
            self.steps_of_node(bounds, place, steps);
        }
    }

    /// Of nodes that are alike one is enough.
    fn may_act(&self, place: usize) -> bool {
        match self.alike {
            Alike::All => place == 0,
            Alike::LastTwo => place < 2,
            Alike::None => true,
        }
    }

    fn steps_of_disk(&self, place: usize, steps: &mut Vec<Step>) {
        let node = &self.nodes[place];
        if node.pending.is_some() {
            steps.push(Step::FlushHard(place));
        } else if node.raft.stable_index() < node.raft.last_id().index {
            steps.push(Step::FlushLog(place));
        }
        if self.left.crashes > 0 && node.has_something_to_lose() {
            steps.push(Step::Crash(place));
        }
        if self.left.tears > 0 {
            steps.extend([Step::Tear(place, Torn::Flushed), Step::Tear(place, Torn::Unflushed)]);
        }
        if self.left.trims > 0 {
            steps.push(Step::Trim(place));
        }
    }

    fn steps_of_node(&self, bounds: &Bounds, place: usize, steps: &mut Vec<Step>) {
        let node = &self.nodes[place];
        if !node.leads() {
            if self.left.elections > 0 && node.raft.role() != Role::Learner {
                steps.push(Step::Elect(place));
            }
            return;
        }
        if self.left.heartbeats > 0 {
            steps.push(Step::Heartbeat(place));
        }
        if self.left.reads > 0 {
            steps.push(Step::Read(place));
        }
        if node.raft.is_transferring() {
            steps.push(Step::GiveUpTransfer(place));
            return;
        }
        if self.left.proposals > 0 {
            steps.push(Step::Propose(place));
        }
        if self.left.changes > 0 {
            steps.push(Step::Change(place, bounds.changes - self.left.changes));
        }
        if self.left.transfers > 0 {
            let others = (0..self.nodes.len()).filter(|other| *other != place);
            steps.extend(others.map(|other| Step::Transfer(place, other)));
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
                let mut history = (*broken.history).clone();
                history.break_with(said.unwrap_or_else(|| "a core panics".to_owned()));
                broken.history = Kept::new(history);
                Some(broken)
            }
        }
    }

    fn take(&mut self, bounds: &Bounds, step: &Step) -> bool {
        match *step {
            Step::Deliver(at) => {
                let flight = self.wire.flights()[at].clone();
                let (node, wire) = (self.nodes[flight.to].clone(), self.wire.clone());
                self.act(bounds, flight.to, |node, history| deliver(bounds, node, history, &flight))
                    && (node != self.nodes[flight.to] || wire != self.wire)
            }
            Step::Elect(place) => {
                self.left.elections -= 1;
                self.elect(bounds, place)
            }
            Step::Crash(place) | Step::Tear(place, _) => self.crash(bounds, step, place),
            Step::Change(place, change) => {
                let next = bounds.next_membership(change);
                self.left.changes -= 1;
                self.act(bounds, place, |node, history| {
                    let entry = node.raft.propose_membership(next.clone());
                    entry.is_ok_and(|entry| {
                        history.note_configuration(entry.term, entry.index, next);
                        true
                    })
                })
            }
            Step::Heartbeat(place) => {
                self.left.heartbeats -= 1;
                self.act(bounds, place, |node, _| fire(node, TimerKind::Heartbeat))
            }
            Step::Propose(place) => {
                self.left.proposals -= 1;
                self.act(bounds, place, |node, _| node.raft.propose().is_ok())
            }
            Step::Transfer(place, target) => {
                self.left.transfers -= 1;
                self.act(bounds, place, |node, _| node.raft.transfer_to(id(target)).is_ok())
            }
            Step::GiveUpTransfer(place) => self.act(bounds, place, |node, _| fire(node, TimerKind::Transfer)),
            Step::Read(place) => {
                let token = u64::from(self.left.reads);
                self.left.reads -= 1;
                self.act(bounds, place, |node, history| {
                    history.note_read(place, token);
                    node.raft.read_index(token);
                    true
                })
            }
            Step::Trim(place) => {
                self.left.trims -= 1;
                let may_crash = self.may_crash();
                self.act(bounds, place, |node, _| node.trim(may_crash))
            }
            Step::FlushHard(place) => self.act(bounds, place, |node, _| {
                node.flush_hard(bounds.lie);
                true
            }),
            Step::FlushLog(place) => {
                let may_crash = self.may_crash();
                self.act(bounds, place, |node, _| {
                    node.flush_log(bounds, may_crash);
                    true
                })
            }
        }
    }

    fn crash(&mut self, bounds: &Bounds, step: &Step, place: usize) -> bool {
        let disk = match step {
            Step::Tear(_, torn) => {
                self.left.tears -= 1;
                self.nodes[place].torn(bounds.lie, *torn)
            }
            _ => {
                self.left.crashes -= 1;
                Some(self.nodes[place].disk.clone())
            }
        };
        let Some(disk) = disk else { return false };
        let happens = self.act(bounds, place, |node, history| {
            history.forget_reads(place);
            *node = Node::started(bounds, place, disk, history);
            true
        });
        if !self.may_crash() {
            for node in &mut self.nodes {
                let mut forgetful = (**node).clone();
                forgetful.forget_what_no_start_reads();
                *node = Kept::new(forgetful);
            }
        }
        happens
    }

    const fn may_crash(&self) -> bool {
        self.left.crashes > 0 || self.left.tears > 0
    }

    /// Asks around. Where pre-votes are no messages, a node that a quorum would not be for does nothing.
    fn elect(&mut self, bounds: &Bounds, place: usize) -> bool {
        let mut nodes: Vec<Node> = self.nodes.iter().map(|node| (**node).clone()).collect();
        nodes.iter_mut().for_each(|node| node.raft.timer_fired(TimerKind::LeaderQuiet));
        nodes[place].raft.timer_fired(TimerKind::Election);
        let asks_about_its_claim = nodes[place].raft.claimed_tail().is_some();
        if !bounds.pre_votes && !asks_about_its_claim {
            pre_vote(&mut nodes, place);
            if nodes[place].raft.role() != Role::Candidate {
                return false;
            }
        }
        for (place, node) in nodes.into_iter().enumerate() {
            self.pump(bounds, place, node, (*self.history).clone());
        }
        if self.alike == Alike::All {
            self.alike = Alike::LastTwo;
        }
        true
    }

    /// Lets a node do something, and says what follows from it; nothing is changed where it does not.
    fn act(
        &mut self,
        bounds: &Bounds,
        place: usize,
        what: impl FnOnce(&mut Node, &mut History) -> bool,
    ) -> bool {
        let (mut node, mut history) = ((*self.nodes[place]).clone(), (*self.history).clone());
        if !what(&mut node, &mut history) {
            return false;
        }
        self.pump(bounds, place, node, history);
        if place > 0 {
            self.alike = Alike::None;
        }
        true
    }

    /// Puts on the wire what a core has to say, and notes what it knows now.
    fn pump(&mut self, bounds: &Bounds, place: usize, mut node: Node, mut history: History) {
        let count = self.nodes.len();
        while node.raft.has_ready() {
            let ready = node.raft.ready();
            if let Some((version, hard)) = ready.hard_state {
                node.pending = Some(Pending { version, hard });
            }
            learn_configurations(&mut node, &history);
            for (to, message) in ready.messages {
                if matches!(message, Message::TimeoutNow { .. }) && bounds.changes == 0 {
                    let all = node.raft.commit_index() == node.raft.last_id().index;
                    (!all).then(|| history.break_with("a transfer leaves entries in doubt".to_owned()));
                }
                self.send(bounds, place, usize::from(to.0) - 1, Word::Raft(message));
            }
            for (token, answer) in ready.reads {
                history.note_read_answer(place, token, answer.ok());
            }
        }
        let leads = node.leads();
        if leads && !node.led {
            // Its own first entry is no older one.
            history.note_leader(place, node.raft.term(), node.raft.log());
        }
        node.led = leads;
        if leads {
            self.replicate(bounds, place, &mut node);
        }
        history.note_committed(place, &node.raft);
        if node.raft.claimed_tail().is_some() && !matches!(node.raft.role(), Role::Follower | Role::Learner) {
            history.break_with(format!("node {} campaigns with a claimed tail", place + 1));
        }
        if !node.ignores_what_is_stale(count) {
            history.break_with(format!("node {} heeds a stale answer", place + 1));
        }
        let durable = node.disk.hard.term;
        self.wire.lose(|flight| flight.to == place && is_stale(flight, durable));
        self.nodes[place] = Kept::new(node);
        if history != *self.history {
            self.history = Kept::new(history);
        }
    }

    fn replicate(&mut self, bounds: &Bounds, place: usize, node: &mut Node) {
        for peer in (0..self.nodes.len()).filter(|peer| *peer != place) {
            while let Some(plan) = node.raft.next_send(id(peer)) {
                let last = plan.last.max(plan.prev.index);
                let indexes = plan.prev.index.next().get()..=last.get();
                let entries = indexes.filter_map(|index| node.raft.term_at(LogIndex(index))).collect();
                let message = Message::Append {
                    term: plan.term,
                    prev: plan.prev,
                    entries,
                    commit: plan.commit,
                    wants_reply: plan.wants_reply,
                };
                node.raft.sent(id(peer), last, 0);
                self.send(bounds, place, peer, Word::Raft(message));
            }
            if node.raft.needs_checkpoint(id(peer)) {
                let base = node.raft.log().base();
                self.send(bounds, place, peer, Word::Checkpoint(node.raft.term(), base));
                node.raft.checkpoint_sent(id(peer), base.index);
            }
        }
    }

    fn send(&mut self, bounds: &Bounds, from: usize, to: usize, word: Word) {
        let is_lost = match &word {
            // Where no path has heartbeats, those that open a leader's term are lost.
            Word::Raft(Message::Heartbeat { .. } | Message::HeartbeatReply { .. }) => {
                bounds.heartbeats == 0 && bounds.reads == 0
            }
            Word::Raft(Message::PreVote { .. } | Message::PreVoteReply { .. }) => !bounds.pre_votes,
            _ => false,
        };
        let flight = Flight { from, to, word };
        if !is_lost && !is_stale(&flight, self.nodes[to].disk.hard.term) {
            self.wire.put(bounds.link, flight);
        }
    }
}

/// Answers to a term that the receiver durably is beyond do nothing there, now or ever: see
/// [`Node::ignores_what_is_stale`].
fn is_stale(flight: &Flight, durable: tercet::base::ids::Term) -> bool {
    match &flight.word {
        Word::Raft(
            message @ (Message::VoteReply { .. }
            | Message::AppendReply { .. }
            | Message::HeartbeatReply { .. }
            | Message::TimeoutNow { .. }),
        ) => message.term() < durable,
        _ => false,
    }
}

fn fire(node: &mut Node, kind: TimerKind) -> bool {
    node.raft.timer_fired(kind);
    true
}

fn deliver(bounds: &Bounds, node: &mut Node, history: &History, flight: &Flight) -> bool {
    match &flight.word {
        Word::Raft(message) => {
            let before = node.raft.clone();
            node.raft.step(id(flight.from), message.clone());
            // What does nothing need not arrive.
            return node.raft.has_ready() || node.raft != before;
        }
        Word::Checkpoint(term, base) => {
            let mut memberships: MembershipLog = bounds.membership().into();
            for at in 1..=base.index.get() {
                let known = history.committed.get(at as usize - 1);
                let configuration = known.and_then(|term| history.configuration(*term, LogIndex(at)));
                configuration.into_iter().for_each(|found| memberships.push(LogIndex(at), found.clone()));
            }
            memberships.committed(base.index);
            node.raft.checkpoint_received(id(flight.from), *term, *base, memberships);
        }
    }
    true
}

/// The pre-votes of an election, answered at once.
fn pre_vote(nodes: &mut [Node], place: usize) {
    for (to, message) in nodes[place].raft.ready().messages {
        let to = usize::from(to.0) - 1;
        nodes[to].raft.step(id(place), message);
        let answers = nodes[to].raft.ready();
        assert!(answers.hard_state.is_none() && answers.log_ops.is_empty(), "a pre-vote changes nothing");
        for (back, answer) in answers.messages {
            if back == id(place) {
                nodes[place].raft.step(id(to), answer);
            }
        }
    }
}

/// Configuration entries count from their append on.
fn learn_configurations(node: &mut Node, history: &History) {
    for index in node.raft.membership_index().next().get()..=node.raft.last_id().index.get() {
        let index = LogIndex(index);
        let Some(term) = node.raft.term_at(index) else { continue };
        if let Some(membership) = history.configuration(term, index) {
            node.raft.membership_appended(index, membership.clone());
        }
    }
}
