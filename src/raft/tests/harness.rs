//! A small cluster of cores under a seeded adversary: messages wait in a bag and are lost, doubled, delayed and
//! overtaken; writes to disk take time, and a crash loses what was not flushed, or only a part of it; links are cut.
//! Every step is checked against the safety properties of the Raft paper (figure 3).

use super::{config, members, n};
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};
use crate::base::prng::Prng;
use crate::raft::{
    AppendOutcome, HardState, LogOp, LogView, Membership, Message, Raft, Ready, Restored, Role, TermRuns,
    TimerKind, TimerRequest,
};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

pub(super) const HEARTBEAT: u64 = 10;
pub(super) const ELECTION: u64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) term: Term,
    payload: u64,
}

#[derive(Clone, Debug)]
enum DiskOp {
    Append(Vec<Slot>),
    Truncate { first_removed: u64, generation: u64 },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard: HardState,
    pub(super) log: Vec<Slot>,
    generation: u64,
    hint: LogIndex,
}

impl Disk {
    fn apply(&mut self, op: DiskOp) {
        match op {
            DiskOp::Append(slots) => self.log.extend(slots),
            DiskOp::Truncate { first_removed, generation } => {
                self.log.truncate(first_removed as usize - 1);
                self.generation = generation;
            }
        }
    }
}

pub(super) struct Node {
    pub(super) raft: Option<Raft>,
    pub(super) disk: Disk,
    log: Vec<Slot>,
    writes: VecDeque<DiskOp>,
    hard_writes: VecDeque<(u64, HardState)>,
    /// Stable reports on their way back, which may overtake each other.
    reports: Vec<(u64, u64, LogIndex)>,
    deadlines: [Option<u64>; TimerKind::COUNT],
    seen_term: Term,
    seen_commit: LogIndex,
}

struct Flight {
    at: u64,
    from: usize,
    to: usize,
    message: Message,
    payloads: Vec<u64>,
}

/// Chances are per million and tick, or message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) loss: u64,
    pub(super) double: u64,
    pub(super) delay_max: u64,
    pub(super) crash: u64,
    pub(super) cut: u64,
    pub(super) spurious_timer: u64,
    pub(super) flush_delay: u64,
    /// A crash may damage the last durable entries of one node at a time, which leaves a claimed tail.
    pub(super) damage: bool,
}

impl Faults {
    pub(super) const NONE: Self = Self {
        loss: 0,
        double: 0,
        delay_max: 2,
        crash: 0,
        cut: 0,
        spurious_timer: 0,
        flush_delay: 2,
        damage: false,
    };
    pub(super) const ROUGH: Self = Self {
        loss: 60_000,
        double: 60_000,
        delay_max: 25,
        crash: 3_000,
        cut: 8_000,
        spurious_timer: 3_000,
        flush_delay: 12,
        damage: false,
    };
}

pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) membership: Membership,
    pub(super) faults: Faults,
    pub(super) now: u64,
    pub(super) committed: Vec<Slot>,
    pub(super) leaders: BTreeMap<Term, NodeId>,
    pub(super) crashes: u64,
    pub(super) claims: u64,
    pub(super) truncations: u64,
    /// Whether the fabric tells nodes of broken connections.
    tells_connections: bool,
    cut: Vec<Vec<bool>>,
    flights: Vec<Flight>,
    prng: Prng,
    next_payload: u64,
    trace: DefaultHasher,
    ready: Ready,
}

impl Cluster {
    pub(super) fn new(seed: u64, voters: u16, learners: &[u16], faults: Faults) -> Self {
        let membership = members(voters, learners);
        let count = voters as usize + learners.len();
        let mut prng = Prng::new(seed);
        // The entry that formatting writes: the same everywhere.
        let first = Slot { term: Term(1), payload: 0 };
        let disk = Disk {
            hard: HardState { term: Term(1), ..HardState::default() },
            log: vec![first],
            generation: 0,
            hint: LogIndex(1),
        };
        let blank = || Node {
            raft: None,
            disk: disk.clone(),
            log: Vec::new(),
            writes: VecDeque::new(),
            hard_writes: VecDeque::new(),
            reports: Vec::new(),
            deadlines: [None; TimerKind::COUNT],
            seen_term: Term::ZERO,
            seen_commit: LogIndex::ZERO,
        };
        let mut cluster = Self {
            nodes: (0..count).map(|_| blank()).collect(),
            membership,
            faults,
            now: 0,
            committed: vec![first],
            leaders: BTreeMap::new(),
            crashes: 0,
            claims: 0,
            truncations: 0,
            tells_connections: prng.chance(500_000),
            cut: vec![vec![false; count]; count],
            flights: Vec::new(),
            prng,
            next_payload: 1,
            trace: DefaultHasher::new(),
            ready: Ready::default(),
        };
        (0..count).for_each(|at| cluster.restart(at));
        cluster
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leading = |raft: &Raft| (raft.role() == Role::Leader).then(|| raft.term());
        (0..self.nodes.len())
            .filter_map(|at| Some((self.nodes[at].raft.as_ref().and_then(leading)?, at)))
            .max()
            .map(|(_, at)| at)
    }

    pub(super) fn raft(&self, at: usize) -> &Raft {
        self.nodes[at].raft.as_ref().unwrap()
    }

    pub(super) fn cut_link(&mut self, a: usize, b: usize, cut: bool) {
        (self.cut[a][b], self.cut[b][a]) = (cut, cut);
    }

    pub(super) fn restart(&mut self, at: usize) {
        let membership = self.membership.clone();
        let node = &mut self.nodes[at];
        assert!(node.raft.is_none());
        node.disk.generation = 0;
        node.log = node.disk.log.clone();
        let log = TermRuns::from_terms(&node.log.iter().map(|slot| slot.term).collect::<Vec<_>>());
        let restored = Restored {
            hard_state: node.disk.hard,
            memberships: membership.into(),
            log,
            commit_hint: node.disk.hint,
        };
        let mut raft = Raft::new(config(at as u16 + 1), restored);
        raft.start();
        node.seen_commit = LogIndex::ZERO;
        node.raft = Some(raft);
        self.pump(at, &[]);
        self.tell_connections(at, true);
    }

    pub(super) fn crash(&mut self, at: usize) {
        let can_damage = self.faults.damage && self.nodes.iter().all(|n| n.disk.hard.claimed_tail.is_none());
        let damages = can_damage && self.prng.chance(600_000);
        let prng = &mut self.prng;
        let node = &mut self.nodes[at];
        node.raft = None;
        // Any prefix of the unflushed writes may have reached the disk.
        for _ in 0..prng.below(node.writes.len() as u64 + 1) {
            let op = node.writes.pop_front().unwrap();
            node.disk.apply(op);
        }
        for _ in 0..prng.below(node.hard_writes.len() as u64 + 1) {
            node.disk.hard = node.hard_writes.pop_front().unwrap().1;
        }
        node.disk.hint = node.disk.hint.min(LogIndex(node.disk.log.len() as u64));
        let above_hint = node.disk.log.len() as u64 - node.disk.hint.get();
        if damages && above_hint > 0 {
            let lost = prng.between(1, above_hint.min(3));
            let last = EntryId::new(
                node.disk.log[node.disk.log.len() - 1].term,
                LogIndex(node.disk.log.len() as u64),
            );
            node.disk.log.truncate(node.disk.log.len() - lost as usize);
            node.disk.hard.claimed_tail = Some(last);
            self.claims += 1;
        }
        node.writes.clear();
        node.hard_writes.clear();
        node.reports.clear();
        node.deadlines = [None; TimerKind::COUNT];
        self.crashes += 1;
        if !self.faults.damage {
            self.check_committed_is_durable(1);
        }
        self.tell_connections(at, false);
    }

    fn tell_connections(&mut self, at: usize, up: bool) {
        if !self.tells_connections {
            return;
        }
        for other in (0..self.nodes.len()).filter(|&other| other != at) {
            if let Some(raft) = &mut self.nodes[other].raft {
                if up {
                    raft.peer_connected(n(at as u16 + 1))
                } else {
                    raft.peer_disconnected(n(at as u16 + 1))
                }
            }
        }
    }

    /// One tick of time.
    pub(super) fn tick(&mut self) {
        self.now += 1;
        self.misfortunes();
        self.deliver();
        for at in 0..self.nodes.len() {
            if self.nodes[at].raft.is_some() {
                self.disk_work(at);
                self.fire_timers(at);
                self.pump(at, &[]);
                self.send_entries(at);
            }
        }
        if self.now.is_multiple_of(64) {
            self.check_log_matching();
        }
    }

    pub(super) fn run(&mut self, ticks: u64) {
        (0..ticks).for_each(|_| self.tick());
    }

    fn misfortunes(&mut self) {
        let count = self.nodes.len();
        for at in 0..count {
            if self.nodes[at].raft.is_some() {
                if self.prng.chance(self.faults.crash) {
                    self.crash(at);
                }
            } else if self.prng.chance(40_000) {
                self.restart(at);
            }
        }
        if self.faults.crash > 0 && self.faults.damage && self.prng.chance(3_000) {
            let up: Vec<usize> = (0..count).filter(|&at| self.nodes[at].raft.is_some()).collect();
            up.into_iter().for_each(|at| self.crash(at));
        }
        if self.prng.chance(self.faults.cut) {
            let (a, b) = (self.prng.below(count as u64) as usize, self.prng.below(count as u64) as usize);
            // One way or both.
            self.cut[a][b] = true;
            self.cut[b][a] |= self.prng.chance(500_000);
        }
        if self.prng.chance(self.faults.cut / 2) {
            self.heal();
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.iter_mut().for_each(|row| row.fill(false));
    }

    fn deliver(&mut self) {
        let mut at = 0;
        while at < self.flights.len() {
            if self.flights[at].at > self.now {
                at += 1;
                continue;
            }
            let flight = self.flights.swap_remove(at);
            let Some(raft) = &mut self.nodes[flight.to].raft else { continue };
            (flight.from, flight.to, &flight.message).hash(&mut self.trace);
            raft.step(n(flight.from as u16 + 1), flight.message);
            self.pump(flight.to, &flight.payloads);
        }
    }

    fn disk_work(&mut self, at: usize) {
        let slow = self.faults.flush_delay;
        let node = &mut self.nodes[at];
        let raft = node.raft.as_mut().unwrap();
        if !node.hard_writes.is_empty() && self.prng.below(slow) == 0 {
            let (version, hard) = node.hard_writes.pop_front().unwrap();
            node.disk.hard = hard;
            raft.hard_state_flushed(version);
        }
        if !node.writes.is_empty() && self.prng.below(slow) == 0 {
            for _ in 0..self.prng.between(1, node.writes.len() as u64) {
                let op = node.writes.pop_front().unwrap();
                node.disk.apply(op);
            }
            // Where tails are damaged, the watermark lags, so that what was acknowledged is among the damage.
            if !self.faults.damage || self.prng.chance(50_000) {
                node.disk.hint = node.disk.hint.max(raft.commit_index().min(raft.stable_index()));
            }
            let report = (node.disk.generation, LogIndex(node.disk.log.len() as u64));
            node.reports.push((self.now + self.prng.below(slow), report.0, report.1));
        }
        let due: Vec<_> = node.reports.extract_if(.., |report| report.0 <= self.now).collect();
        for (_, generation, index) in due {
            raft.log_stable(generation, index);
        }
    }

    fn fire_timers(&mut self, at: usize) {
        let spurious = self.prng.chance(self.faults.spurious_timer);
        let wild = self.prng.below(TimerKind::COUNT as u64) as usize;
        let node = &mut self.nodes[at];
        for kind in TimerKind::ALL {
            let slot = &mut node.deadlines[kind as usize];
            let due = slot.is_some_and(|deadline| deadline <= self.now);
            if due || (spurious && kind as usize == wild) {
                *slot = None;
                (at, kind).hash(&mut self.trace);
                node.raft.as_mut().unwrap().timer_fired(kind);
            }
        }
        if spurious {
            self.call_wildly(at);
        }
    }

    /// Hints that are wrong, transfers that nobody planned, disks said to hang: none of them may cost safety.
    fn call_wildly(&mut self, at: usize) {
        let peer = NodeId(self.prng.between(1, self.nodes.len() as u64) as u16);
        let what = self.prng.below(4);
        (at, peer, what).hash(&mut self.trace);
        let raft = self.nodes[at].raft.as_mut().unwrap();
        match what {
            0 => raft.suspect_leader(peer),
            1 => drop(raft.transfer_to(peer)),
            2 => raft.set_disk_stalled(true),
            _ => raft.set_disk_stalled(false),
        }
    }

    fn arm(&mut self, at: usize, request: TimerRequest) {
        let TimerRequest::Set(kind) = request else {
            let TimerRequest::Cancel(kind) = request else { unreachable!() };
            self.nodes[at].deadlines[kind as usize] = None;
            return;
        };
        let after = match kind {
            TimerKind::Election => ELECTION + self.prng.below(ELECTION),
            TimerKind::LeaderQuiet => ELECTION,
            TimerKind::CheckQuorum => ELECTION / u64::from(TimerKind::CHECKS_PER_TIMEOUT),
            TimerKind::Heartbeat => HEARTBEAT,
            TimerKind::PreVoteRetry => HEARTBEAT / 8 + self.prng.below(3),
            TimerKind::Transfer => 3 * HEARTBEAT,
        };
        self.nodes[at].deadlines[kind as usize] = Some(self.now + after);
    }

    /// Does what the core asks for. `payloads` belong to the Append just stepped.
    fn pump(&mut self, at: usize, payloads: &[u64]) {
        let mut ready = std::mem::take(&mut self.ready);
        while self.nodes[at].raft.as_ref().unwrap().has_ready() {
            self.nodes[at].raft.as_mut().unwrap().ready_into(&mut ready);
            if let Some(hard) = ready.hard_state {
                self.nodes[at].hard_writes.push_back(hard);
            }
            for &op in &ready.log_ops {
                self.log_op(at, op, payloads);
            }
            for (to, message) in ready.messages.drain(..) {
                self.check_leaving(at, to, &message);
                self.send(at, to.0 as usize - 1, message, Vec::new());
            }
            for &request in &ready.timers {
                self.arm(at, request);
            }
            if ready.commit_index.is_some() {
                self.check_commit(at);
            }
            self.check_node(at);
        }
        self.ready = ready;
    }

    fn log_op(&mut self, at: usize, op: LogOp, payloads: &[u64]) {
        let payload = self.next_payload;
        let node = &mut self.nodes[at];
        let raft = node.raft.as_ref().unwrap();
        match op {
            LogOp::TruncateFrom { first_removed, generation } => {
                let first_removed = first_removed.get();
                node.log.truncate(first_removed as usize - 1);
                node.writes.push_back(DiskOp::Truncate { first_removed, generation });
                self.truncations += 1;
            }
            LogOp::AppendReceived { first, last, skip } => {
                assert_eq!(node.log.len() as u64 + 1, first.get());
                assert_eq!(payloads.len() - skip, (last.get() + 1 - first.get()) as usize);
                let slot = |(k, &payload): (usize, &u64)| Slot {
                    term: raft.term_at(first.plus(k as u64)).unwrap(),
                    payload,
                };
                let slots: Vec<Slot> = payloads[skip..].iter().enumerate().map(slot).collect();
                node.log.extend(&slots);
                node.writes.push_back(DiskOp::Append(slots));
            }
            LogOp::Install { .. } => unreachable!("nothing is trimmed here"),
            LogOp::AppendNoop { id } => {
                assert_eq!(node.log.len() as u64 + 1, id.index.get());
                self.next_payload += 1;
                let slot = Slot { term: id.term, payload };
                node.log.push(slot);
                node.writes.push_back(DiskOp::Append(vec![slot]));
            }
        }
    }

    /// Proposes at `at`; false where it does not lead.
    pub(super) fn propose(&mut self, at: usize) -> bool {
        let node = &mut self.nodes[at];
        let raft = node.raft.as_mut().filter(|raft| !raft.is_transferring());
        let Some(Ok(id)) = raft.map(Raft::propose) else { return false };
        assert_eq!(id.index.get(), node.log.len() as u64 + 1);
        let slot = Slot { term: id.term, payload: self.next_payload };
        self.next_payload += 1;
        node.log.push(slot);
        node.writes.push_back(DiskOp::Append(vec![slot]));
        true
    }

    fn send_entries(&mut self, at: usize) {
        for peer in (0..self.nodes.len()).filter(|&peer| peer != at) {
            let mut plans = 0;
            while let Some(plan) = self.nodes[at].raft.as_mut().unwrap().next_send(n(peer as u16 + 1)) {
                plans += 1;
                assert!(plans < 100, "next_send never ends");
                let count = (plan.last.get() + 1).saturating_sub(plan.first.get());
                // Any prefix may be what fits.
                let count = if count == 0 { 0 } else { self.prng.between(1, count) };
                let from = plan.prev.index.get() as usize;
                let slots = &self.nodes[at].log[from..from + count as usize];
                let payloads = slots.iter().map(|slot| slot.payload).collect();
                let message = Message::Append {
                    term: plan.term,
                    prev: plan.prev,
                    entries: slots.iter().map(|slot| slot.term).collect(),
                    commit: plan.commit,
                    wants_reply: plan.wants_reply,
                };
                let last = LogIndex(from as u64 + count);
                self.nodes[at].raft.as_mut().unwrap().sent(n(peer as u16 + 1), last, count * 100);
                self.send(at, peer, message, payloads);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message, payloads: Vec<u64>) {
        if self.cut[from][to] || self.prng.chance(self.faults.loss) {
            return;
        }
        let copies = 1 + u64::from(self.prng.chance(self.faults.double));
        for _ in 0..copies {
            let at = self.now + self.prng.between(1, self.faults.delay_max);
            let (message, payloads) = (message.clone(), payloads.clone());
            self.flights.push(Flight { at, from, to, message, payloads });
        }
    }

    /// What a message depends on is on the sender's disk (PITFALLS 2, 4, 15).
    fn check_leaving(&self, at: usize, to: NodeId, message: &Message) {
        let node = &self.nodes[at];
        let (disk, raft) = (&node.disk, node.raft.as_ref().unwrap());
        match *message {
            Message::PreVote { .. } | Message::ClaimQuery { .. } => {}
            Message::PreVoteReply { granted: true, .. } => {}
            Message::AppendReply { term, outcome: AppendOutcome::Accepted { appended, stable } } => {
                assert!(term <= disk.hard.term && stable <= appended);
                let leader = &self.nodes[to.0 as usize - 1];
                let leads = |raft: &Raft| raft.role() == Role::Leader && raft.term() == term;
                if term == raft.term() && leader.raft.as_ref().is_some_and(leads) {
                    let upto = appended.get() as usize;
                    assert_eq!(node.log[..upto], leader.log[..upto], "n{} verified wrongly", at + 1);
                }
            }
            _ => assert!(message.term() <= disk.hard.term, "n{} sent {message:?} too early", at + 1),
        }
        match *message {
            Message::VoteReply { granted: true, term, .. } if term == disk.hard.term => {
                assert_eq!(disk.hard.voted_for, Some(to));
            }
            Message::Vote { term, .. } if term == disk.hard.term => {
                assert_eq!(disk.hard.voted_for, Some(raft.id()));
            }
            Message::HeartbeatReply { stable, term, .. } if term == raft.term() => {
                assert!(stable.get() <= disk.log.len() as u64);
            }
            _ => {}
        }
    }

    fn check_node(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let raft = node.raft.as_ref().unwrap();
        assert!(raft.term() >= node.seen_term.min(node.disk.hard.term), "n{}: the term fell", at + 1);
        node.seen_term = raft.term();
        assert_eq!(raft.last_id().index.get(), node.log.len() as u64);
        assert_eq!(raft.last_id().term, node.log.last().unwrap().term);
        let stable = raft.stable_index().get() as usize;
        assert!(stable <= node.log.len() && stable >= 1);
        assert_eq!(node.disk.log.get(stable - 1), node.log.get(stable - 1), "n{}: not stable", at + 1);
        if raft.role() != Role::Leader {
            return;
        }
        let holder = *self.leaders.entry(raft.term()).or_insert(raft.id());
        assert_eq!(holder, raft.id(), "election safety: two leaders in term {}", raft.term());
        assert!(self.membership.is_voter(raft.id()), "a learner leads");
        let prefix = node.log.get(..self.committed.len());
        // A leader of an old term that does not know of its end yet may lack what newer terms committed.
        let newest = self.leaders.keys().next_back() == Some(&raft.term());
        assert!(!newest || prefix == Some(&self.committed[..]), "leader completeness: n{}", at + 1);
    }

    fn check_commit(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let commit = node.raft.as_ref().unwrap().commit_index();
        assert!(commit >= node.seen_commit, "n{}: the commit index fell", at + 1);
        let from = node.seen_commit.get() as usize;
        node.seen_commit = commit;
        let fresh = self.committed.len();
        for index in from..commit.get() as usize {
            match self.committed.get(index) {
                Some(known) => assert_eq!(*known, node.log[index], "state machine safety at {}", index + 1),
                None => self.committed.push(node.log[index]),
            }
        }
        if !self.faults.damage {
            self.check_committed_is_durable(fresh);
        }
    }

    /// Every committed entry from `from` on is on a quorum of disks, whoever is down.
    fn check_committed_is_durable(&self, from: usize) {
        for index in from.max(1)..self.committed.len() {
            let copies = self.membership.voters().iter();
            let copies = copies.filter(|voter| {
                let disk = &self.nodes[voter.0 as usize - 1].disk;
                disk.log.get(index) == Some(&self.committed[index])
            });
            assert!(copies.count() >= self.membership.quorum(), "committed entry {} is lost", index + 1);
        }
    }

    pub(super) fn check_log_matching(&self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                let (a, b) = (&self.nodes[a].log, &self.nodes[b].log);
                let shared = a.iter().zip(b).rposition(|(x, y)| x.term == y.term);
                let upto = shared.map_or(0, |at| at + 1);
                assert_eq!(a[..upto], b[..upto], "log matching");
            }
        }
        for node in &self.nodes {
            let Some(raft) = &node.raft else { continue };
            let terms = (1..=node.log.len() as u64).map(|at| raft.log().term_at(LogIndex(at)));
            assert!(terms.eq(node.log.iter().map(|slot| Some(slot.term))), "core and log differ");
        }
    }

    /// Stops all faults and requires that one more proposal reaches everybody.
    pub(super) fn must_recover(&mut self, ticks: u64) {
        self.faults = Faults { damage: self.faults.damage, ..Faults::NONE };
        self.heal();
        for at in 0..self.nodes.len() {
            if self.nodes[at].raft.is_none() {
                self.restart(at);
            }
            self.nodes[at].raft.as_mut().unwrap().set_disk_stalled(false);
        }
        let deadline = self.now + ticks;
        let mut proposed = None;
        while self.now < deadline {
            self.tick();
            if let Some(leader) = self.leader() {
                if proposed != Some(leader) && self.propose(leader) {
                    proposed = Some(leader);
                }
                let last = self.raft(leader).last_id().index;
                if (0..self.nodes.len()).all(|at| self.raft(at).commit_index() == last) {
                    self.check_log_matching();
                    return;
                }
            }
        }
        let state: Vec<_> = self.nodes.iter().map(|node| node.raft.as_ref().unwrap()).collect();
        panic!("no progress within {ticks} ticks: {state:#?}");
    }
}
