//! Cores, disks and wires, moved by hand: nothing happens unless a command says so, and the same commands give the same
//! words. What the agents do around the core in a node is done here in the plainest way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tercet::base::ids::{EntryId, LogIndex, NodeId, Term};
use tercet::raft::{
    HardState, LogOp, Membership, MembershipLog, Message, Raft, RaftConfig, Ready, Restored, Role, TimerKind,
    TimerRequest,
};

use crate::log::{Log, Slot, What};
use crate::words;

/// A write that the disk has not done yet.
#[derive(Clone, Debug)]
pub enum Write {
    Append(Vec<Slot>),
    Truncate { first_removed: LogIndex, generation: u64 },
    Install { log: Log, generation: u64 },
}

#[derive(Clone)]
pub struct Node {
    /// `None` while it is down.
    pub raft: Option<Raft>,
    /// As in memory: what is appended.
    pub log: Log,
    /// What is flushed.
    pub disk: Log,
    pub disk_hard: HardState,
    disk_generation: u64,
    hint: LogIndex,
    pub writes: VecDeque<Write>,
    pub hard_writes: VecDeque<(u64, HardState)>,
    /// Nothing is flushed before a command says so.
    pub slow: bool,
    deadlines: [Option<u64>; TimerKind::COUNT],
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Load {
    /// With the entries of an Append.
    Message(Message, Vec<Slot>),
    /// A checkpoint of a leader of `term`: everything up to `id`, and the configuration in force there.
    Checkpoint { term: Term, id: EntryId, config: (LogIndex, Membership) },
}

#[derive(Clone, Debug)]
pub struct Flight {
    pub number: u64,
    pub from: u16,
    pub to: u16,
    pub load: Load,
}

impl Flight {
    pub fn link(&self) -> (u16, u16) {
        (self.from, self.to)
    }

    pub fn words(&self, arrow: &str) -> String {
        let load = match &self.load {
            Load::Message(message, slots) => words::message(message, slots),
            Load::Checkpoint { term, id, .. } => {
                format!("Checkpoint in term {term}: everything up to {}", words::entry(*id))
            }
        };
        format!("n{} {arrow} n{}  {load}", self.from, self.to)
    }
}

#[derive(Clone, Default)]
pub struct World {
    pub nodes: BTreeMap<u16, Node>,
    pub wire: VecDeque<Flight>,
    /// What the running command prints.
    pub out: Vec<String>,
    pub held: BTreeSet<(u16, u16)>,
    pub cut: BTreeSet<(u16, u16)>,
    pub now: u64,
    /// Most entries in flight to one peer.
    pub window: u32,
    pub next_number: u64,
    /// What follows from a delivery is told below it.
    depth: usize,
    /// What was ever committed, by index.
    pub committed: BTreeMap<LogIndex, Slot>,
    leaders: BTreeMap<Term, u16>,
    /// Worlds that a scenario may return to.
    saved: BTreeMap<String, World>,
}

impl World {
    pub fn say(&mut self, line: String) {
        self.out.push(format!("{}{line}", "  ".repeat(self.depth)));
    }

    /// Keeps all that is so, under a name.
    pub fn remember(&mut self, name: &str) {
        let saved = std::mem::take(&mut self.saved);
        let copy = self.clone();
        self.saved = saved;
        self.saved.insert(name.to_owned(), copy);
    }

    /// Everything is again as it was.
    pub fn return_to(&mut self, name: &str) -> Result<(), String> {
        let copy = self.saved.get(name).cloned().ok_or("nothing is remembered by that name")?;
        let saved = std::mem::take(&mut self.saved);
        *self = copy;
        self.saved = saved;
        self.out.clear();
        Ok(())
    }

    pub fn add(&mut self, id: u16, membership: Membership) {
        let log = Log::formatted(membership);
        self.committed.entry(LogIndex(1)).or_insert_with(|| log.slots[0].clone());
        let disk_hard = HardState { term: Term(1), ..HardState::default() };
        let node = Node {
            raft: None,
            disk: log.clone(),
            log,
            disk_hard,
            disk_generation: 0,
            hint: LogIndex(1),
            writes: VecDeque::new(),
            hard_writes: VecDeque::new(),
            slow: false,
            deadlines: [None; TimerKind::COUNT],
        };
        self.nodes.insert(id, node);
        self.start(id);
    }

    /// Starts a node from its disk.
    pub fn start(&mut self, id: u16) {
        let window = self.window;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.log = node.disk.clone();
        node.disk_generation = 0;
        let config =
            RaftConfig { id: NodeId(id), inflight_entries_limit: window, inflight_bytes_limit: u64::MAX };
        let restored = Restored {
            hard_state: node.disk_hard,
            memberships: node.disk.memberships(),
            log: node.disk.runs(),
            commit_hint: node.hint,
        };
        let mut raft = Raft::new(config, restored);
        raft.start();
        node.raft = Some(raft);
        self.pump(id, &[]);
        self.tell_others(id, Raft::peer_connected);
    }

    /// The others notice that the connections to `id` stand, or are gone.
    fn tell_others(&mut self, id: u16, tell: fn(&mut Raft, NodeId)) {
        let others: Vec<u16> = self.nodes.keys().copied().filter(|&other| other != id).collect();
        for other in others {
            if let Some(raft) = &mut self.node(other).raft {
                tell(raft, NodeId(id));
                self.pump(other, &[]);
            }
        }
    }

    /// A node ends, and with it what its disk has not got; what is on its way to it is lost.
    pub fn stop(&mut self, id: u16) {
        self.wire.retain(|flight| flight.to != id);
        let node = self.node(id);
        let first = node.disk.last().index.next();
        let lost = node.log.range(first, node.log.last().index);
        node.raft = None;
        node.writes.clear();
        node.hard_writes.clear();
        node.deadlines = [None; TimerKind::COUNT];
        self.say(match lost.is_empty() {
            true => format!("n{id} is down"),
            false => format!("n{id} is down, and with it what was not flushed: {}", numbered(first, &lost)),
        });
        self.tell_others(id, Raft::peer_disconnected);
    }

    /// Calls the core, then does what it asks for.
    pub fn with<T>(&mut self, id: u16, call: impl FnOnce(&mut Raft) -> T) -> Result<T, String> {
        let node = self.nodes.get_mut(&id).ok_or(format!("there is no n{id}"))?;
        let raft = node.raft.as_mut().ok_or(format!("n{id} is down"))?;
        let value = call(raft);
        self.pump(id, &[]);
        Ok(value)
    }

    pub fn raft(&self, id: u16) -> Result<&Raft, String> {
        let node = self.nodes.get(&id).ok_or(format!("there is no n{id}"))?;
        node.raft.as_ref().ok_or(format!("n{id} is down"))
    }

    /// Puts an entry, which the core has just numbered, into the log of a leader.
    pub fn append(&mut self, id: u16, at: EntryId, what: What) {
        let slot = Slot { term: at.term, what };
        self.say(format!("n{id} appends {} {}", words::entry(at), words::what(&slot.what)));
        if let Some(node) = self.nodes.get_mut(&id) {
            assert_eq!(node.log.last().index.next(), at.index);
            node.log.slots.push(slot.clone());
            node.writes.push_back(Write::Append(vec![slot]));
        }
        self.pump(id, &[]);
    }

    /// Does all that the core of `id` asks for. `arrived` are the entries of the Append just stepped.
    fn pump(&mut self, id: u16, arrived: &[Slot]) {
        loop {
            let Some(raft) = self.nodes.get_mut(&id).and_then(|node| node.raft.as_mut()) else { return };
            if raft.has_ready() {
                let ready = raft.ready();
                self.carry_out(id, ready, arrived);
            }
            if !self.nodes[&id].slow {
                self.flush_hard(id);
                self.flush_log(id);
            }
            self.check(id);
            if !self.nodes[&id].raft.as_ref().is_some_and(Raft::has_ready) {
                break;
            }
        }
        self.send_entries(id);
    }

    fn carry_out(&mut self, id: u16, ready: Ready, arrived: &[Slot]) {
        if let Some((version, hard)) = ready.hard_state {
            let slow = self.nodes[&id].slow;
            let when = if slow { "wants on its disk" } else { "writes and flushes" };
            self.say(format!("n{id} {when}: {}", words::hard(&hard)));
            self.node(id).hard_writes.push_back((version, hard));
        }
        for op in ready.log_ops {
            self.log_op(id, op, arrived);
        }
        if let Some(change) = ready.role_changed {
            let term = change.term;
            let line = match (change.role, change.leader) {
                (Role::Leader, _) => format!("n{id} LEADS term {term}"),
                (role, Some(leader)) => {
                    format!("n{id} is a {} of n{leader} in term {term}", words::role(role))
                }
                (role, None) => format!("n{id} is a {} in term {term}", words::role(role)),
            };
            self.say(line);
        }
        if let Some(commit) = ready.commit_index {
            self.say(format!("n{id} knows as committed: up to {commit}"));
        }
        for (token, answer) in ready.reads {
            self.say(match answer {
                Ok(index) => format!("n{id} answers read {token}: by its state as of index {index}"),
                Err(error) => format!("n{id} refuses read {token}: {error}"),
            });
        }
        for request in ready.timers {
            self.arm(id, request);
        }
        for (to, message) in ready.messages {
            self.send(id, to.0, Load::Message(message, Vec::new()));
        }
    }

    pub fn node(&mut self, id: u16) -> &mut Node {
        self.nodes.get_mut(&id).expect("the node is there")
    }

    fn log_op(&mut self, id: u16, op: LogOp, arrived: &[Slot]) {
        match op {
            LogOp::TruncateFrom { first_removed, generation } => {
                let node = self.node(id);
                let gone = node.log.range(first_removed, node.log.last().index);
                node.log.truncate(first_removed);
                node.writes.push_back(Write::Truncate { first_removed, generation });
                self.say(format!("n{id} cuts {}", numbered(first_removed, &gone)));
                if gone.iter().any(|slot| matches!(slot.what, What::Config(_))) {
                    let raft = self.raft(id).expect("it has just answered");
                    let line = format!("n{id} counts again: {}", words::members(raft.membership()));
                    self.say(line);
                }
            }
            LogOp::AppendReceived { first, last, skip } => {
                let slots = arrived[skip..].to_vec();
                assert_eq!(slots.len() as u64, last.get() + 1 - first.get());
                let node = self.node(id);
                assert_eq!(node.log.last().index.next(), first);
                node.log.slots.extend(slots.iter().cloned());
                node.writes.push_back(Write::Append(slots.clone()));
                self.say(format!("n{id} appends {}", numbered(first, &slots)));
                for (slot, at) in slots.iter().zip(first.get()..) {
                    if let (What::Config(membership), Some(raft)) = (&slot.what, &mut self.node(id).raft) {
                        raft.membership_appended(LogIndex(at), membership.clone());
                        self.say(format!("n{id} counts from now on: {}", words::members(membership)));
                    }
                }
            }
            LogOp::Install { id: at, generation } => {
                // The checkpoint itself told the core of the configuration.
                let raft = self.raft(id).expect("it has just answered");
                let config = (raft.membership_index(), raft.membership().clone());
                let log = Log::behind(at, config);
                self.say(format!("n{id} begins its log anew behind {}", words::entry(at)));
                let node = self.node(id);
                node.log = log.clone();
                node.writes.push_back(Write::Install { log, generation });
            }
            LogOp::AppendNoop { id: at } => {
                let slot = Slot { term: at.term, what: What::Noop };
                self.say(format!("n{id} appends {} no-op", words::entry(at)));
                let node = self.node(id);
                node.log.slots.push(slot.clone());
                node.writes.push_back(Write::Append(vec![slot]));
            }
        }
    }

    /// The disk does what waits of term and vote; the core is told.
    pub fn flush_hard(&mut self, id: u16) -> bool {
        let node = self.node(id);
        let Some((version, hard)) = node.hard_writes.pop_back() else { return false };
        node.hard_writes.clear();
        node.disk_hard = hard;
        if let Some(raft) = &mut node.raft {
            raft.hard_state_flushed(version);
        }
        true
    }

    /// The disk does what waits of the log; the core is told.
    pub fn flush_log(&mut self, id: u16) -> bool {
        let node = self.node(id);
        if node.writes.is_empty() {
            return false;
        }
        while let Some(write) = node.writes.pop_front() {
            match write {
                Write::Append(slots) => node.disk.slots.extend(slots),
                Write::Truncate { first_removed, generation } => {
                    node.disk.truncate(first_removed);
                    node.disk_generation = generation;
                }
                Write::Install { log, generation } => {
                    node.disk = log;
                    node.disk_generation = generation;
                }
            }
        }
        let (generation, last) = (node.disk_generation, node.disk.last().index);
        if let Some(raft) = &mut node.raft {
            raft.log_stable(generation, last);
            node.hint = raft.commit_index().min(raft.stable_index());
        }
        true
    }

    /// Goes on after a flush.
    pub fn resume(&mut self, id: u16) {
        self.pump(id, &[]);
    }

    fn send_entries(&mut self, id: u16) {
        let peers: Vec<u16> = self.nodes.keys().copied().filter(|&peer| peer != id).collect();
        for peer in peers {
            loop {
                let Some(raft) = &mut self.node(id).raft else { return };
                let Some(plan) = raft.next_send(NodeId(peer)) else { break };
                let count = (plan.last.get() + 1).saturating_sub(plan.first.get());
                raft.sent(NodeId(peer), plan.last, count);
                let slots = self.nodes[&id].log.range(plan.first, plan.last);
                let message = Message::Append {
                    term: plan.term,
                    prev: plan.prev,
                    entries: slots.iter().map(|slot| slot.term).collect(),
                    commit: plan.commit,
                    wants_reply: plan.wants_reply,
                };
                self.send(id, peer, Load::Message(message, slots));
            }
        }
    }

    pub fn send(&mut self, from: u16, to: u16, load: Load) {
        self.next_number += 1;
        let flight = Flight { number: self.next_number, from, to, load };
        let down = self.nodes.get(&to).is_none_or(|node| node.raft.is_none());
        if down || self.cut.contains(&flight.link()) {
            self.say(flight.words("-x"));
        } else {
            self.wire.push_back(flight);
        }
    }

    /// Takes the flight at place `at` off the wire and to its end.
    pub fn arrive(&mut self, at: usize) {
        let Some(flight) = self.wire.remove(at) else { return };
        self.say(flight.words("->"));
        self.depth += 1;
        let (from, to) = (NodeId(flight.from), flight.to);
        let mut arrived = Vec::new();
        if let Some(raft) = &mut self.node(to).raft {
            match flight.load {
                Load::Message(message, slots) => {
                    raft.step(from, message);
                    arrived = slots;
                }
                Load::Checkpoint { term, id, config: (index, membership) } => {
                    raft.checkpoint_received(from, term, id, MembershipLog::new(index, membership));
                }
            }
        }
        self.pump(to, &arrived);
        self.depth -= 1;
    }

    /// Delivers what is not held until nothing is on its way.
    pub fn deliver_all(&mut self) -> Result<(), String> {
        for _ in 0..5_000 {
            let Some(at) = self.wire.iter().position(|flight| !self.held.contains(&flight.link())) else {
                return Ok(());
            };
            self.arrive(at);
        }
        Err("messages without an end".to_owned())
    }

    fn arm(&mut self, id: u16, request: TimerRequest) {
        let now = self.now;
        let deadlines = &mut self.node(id).deadlines;
        match request {
            TimerRequest::Cancel(kind) => deadlines[kind as usize] = None,
            TimerRequest::Set(kind) => {
                let after = match kind {
                    TimerKind::Heartbeat | TimerKind::CheckQuorum => 2,
                    TimerKind::LeaderQuiet | TimerKind::Transfer => 12,
                    // Where a node draws at random, a scenario takes the id.
                    TimerKind::Election => 12 + 2 * u64::from(id),
                    TimerKind::PreVoteRetry => 1,
                };
                deadlines[kind as usize] = Some(now + after);
            }
        }
    }

    pub fn fire(&mut self, id: u16, kind: TimerKind) -> Result<(), String> {
        self.nodes.get_mut(&id).ok_or(format!("there is no n{id}"))?.deadlines[kind as usize] = None;
        self.with(id, |raft| raft.timer_fired(kind))
    }

    /// Lets time pass: timers run out, and what is not held arrives.
    pub fn tick(&mut self, ticks: u64) -> Result<(), String> {
        for _ in 0..ticks {
            self.now += 1;
            let ids: Vec<u16> = self.nodes.keys().copied().collect();
            for id in ids {
                for kind in TimerKind::ALL {
                    let due = self.nodes[&id].deadlines[kind as usize].is_some_and(|at| at <= self.now);
                    if due {
                        self.fire(id, kind)?;
                    }
                }
            }
            self.deliver_all()?;
        }
        Ok(())
    }

    /// The safety properties of the Raft paper's figure 3, after every step of `id`.
    fn check(&mut self, id: u16) {
        let node = &self.nodes[&id];
        let Some(raft) = &node.raft else { return };
        assert_eq!(raft.last_id(), node.log.last(), "n{id}: the core and its log differ");
        let (term, commit, leads) = (raft.term(), raft.commit_index(), raft.role() == Role::Leader);
        let (voters, quorum) = (raft.membership().voters().to_vec(), raft.membership().quorum());
        if leads {
            let holder = *self.leaders.entry(term).or_insert(id);
            assert_eq!(holder, id, "election safety: two leaders in term {term}");
        }
        for index in (1..=commit.get()).map(LogIndex) {
            let Some(slot) = self.nodes[&id].log.get(index).cloned() else { continue };
            let known = self.committed.get(&index);
            assert!(known.is_none_or(|known| *known == slot), "state machine safety: index {index} at n{id}");
            if known.is_none() {
                let has = |voter: &&NodeId| {
                    self.nodes.get(&voter.0).is_some_and(|node| node.disk.get(index) == Some(&slot))
                };
                let copies = voters.iter().filter(has).count();
                assert!(copies >= quorum, "index {index} is committed and on {copies} disks");
                self.committed.insert(index, slot);
            }
        }
        let newest = self.leaders.keys().next_back() == Some(&term);
        if leads && newest {
            let log = &self.nodes[&id].log;
            let lacks = self
                .committed
                .iter()
                .find(|(index, slot)| **index > log.base.index && log.get(**index) != Some(*slot));
            assert!(lacks.is_none(), "leader completeness: n{id} leads term {term} without {lacks:?}");
        }
    }
}

/// `3@t2 x=1, 4@t2 y=2`.
pub fn numbered(first: LogIndex, slots: &[Slot]) -> String {
    let one = |(slot, at): (&Slot, u64)| {
        format!("{} {}", words::entry(EntryId::new(slot.term, LogIndex(at))), words::what(&slot.what))
    };
    slots.iter().zip(first.get()..).map(one).collect::<Vec<_>>().join(", ")
}
