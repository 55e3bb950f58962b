//! Between this node's core and its peers: messages in, messages and entries out.

use std::collections::VecDeque;

use super::Batcher;
use super::configurations::{Named, named};
use super::install::{Outgoing, Sent};
use crate::agent::commands::{
    CatchUpPurpose, CatchUpReply, CatchUpRequest, PeerIdentity, PeerSaid, SenderCommand,
};
use crate::agent::control::Fatal;
use crate::agent::rings::BatcherPeerRings;
use crate::base::clock::Clock;
use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::entry::{Durability, Entry};
use crate::log::ReadError;
use crate::raft::{Message, Role, SendPlan};

/// Bytes asked of the reader at once for a peer that is behind the hot tail.
const CATCH_UP_BYTES: usize = 1 << 20;

/// The rings of one peer, and what the reader fetched for it.
pub(super) struct PeerPort {
    pub(super) rings: BatcherPeerRings,
    /// The outbound stream stands, to this node.
    pub(super) link: Option<PeerIdentity>,
    /// That it be closed has been asked for.
    pub(super) is_hung_up: bool,
    /// Outstanding request to the reader.
    requested: Option<LogIndex>,
    /// Entries from the reader, contiguous, to be sent before the hot tail is reached again.
    fetched: VecDeque<Entry>,
    /// The conductor found that the peer's process is gone, and the core has not been told yet.
    pub(super) is_gone: bool,
    /// A checkpoint on its way.
    pub(super) outgoing: Option<Outgoing>,
    /// The last one that went, until the peer's log has come as far.
    pub(super) sent: Option<Sent>,
    /// The reader works for this peer's mending.
    pub(super) is_reading_for_mending: bool,
}

impl PeerPort {
    pub(super) const fn new(rings: BatcherPeerRings) -> Self {
        Self {
            rings,
            link: None,
            is_hung_up: false,
            requested: None,
            fetched: VecDeque::new(),
            is_gone: false,
            outgoing: None,
            sent: None,
            is_reading_for_mending: false,
        }
    }

    /// What was fetched is of another log, or for a stream that is gone.
    pub(super) fn forget_fetched(&mut self) {
        self.fetched.clear();
    }

    /// The first of the entries that the reader has fetched for it.
    pub(super) fn first_fetched(&self) -> Option<&Entry> {
        self.fetched.front()
    }

    pub(super) const fn id(&self) -> NodeId {
        self.rings.peer
    }
}

impl<C: Clock> Batcher<C> {
    /// Steps what peers sent, bounded, each peer in turn.
    pub(super) fn drain_peers(&mut self) -> usize {
        let mut work = 0;
        for slot in 0..self.peers.len() {
            work += self.drain_link_states(slot);
            for _ in 0..self.settings.limits.peer_messages_limit {
                // A disk that is far behind stops intake: the leader's window is bounded, so this is the backstop.
                if self.control.is_stopped() || !self.writer_keeps_up() {
                    break;
                }
                let Some(received) = self.peers[slot].rings.from_receiver.pop() else { break };
                work += 1;
                let from = self.peers[slot].id();
                // Votes and acknowledgements count only from the formatting that is meant (PITFALLS 48). The stream may
                // be older than the configuration in force. What a leader says counts whoever it is: it was elected by
                // those who know it, and this node's log may lack the entry that names it.
                let counts = self.let_in(from) == Some(received.incarnation);
                if !counts
                    && !is_leaders_word(&received.said)
                    && !self.is_named_elsewhere(from, received.incarnation, &received.said)
                {
                    self.counters.peer_messages_refused.increment();
                    continue;
                }
                match received.said {
                    PeerSaid::Raft { message, entries } => {
                        if let Some(index) = self.raft.contradicted_by(&message) {
                            self.contradicted(from, index);
                            return work;
                        }
                        self.raft.step(from, message);
                        self.settle(entries);
                    }
                    PeerSaid::Checkpoint { chunk, bytes } => self.hear_checkpoint(from, chunk, &bytes),
                    PeerSaid::Mend { message, .. } => self.hear_mend(slot, message),
                }
            }
            self.suspect_gone(slot);
        }
        while let Some(reply) = self.rings.from_reader.pop() {
            self.take_catch_up(reply);
            work += 1;
        }
        work
    }

    /// Tells the core that a peer is gone, once everything it ever said has been stepped: a heartbeat that came just
    /// before the end and is stepped after it would renew the promise to a dead leader.
    fn suspect_gone(&mut self, slot: usize) {
        let port = &mut self.peers[slot];
        if port.is_gone && port.rings.from_receiver.peek().is_none() {
            port.is_gone = false;
            let peer = port.id();
            self.raft.suspect_leader(peer);
            self.settle(Vec::new());
        }
    }

    /// A candidate whose log goes beyond the configuration in force here, which does not name it, or names a disk that it has
    /// replaced since: it counts votes by what stands there, and may have this node's without this node's knowing its disk
    /// (Raft thesis, section 4.1). Without that, nodes that are behind could elect nobody once those who knew the new disk
    /// are lost. The lost disk cannot have been elected with a vote of the same term: what replaced it was committed
    /// before the new one became a candidate, on a majority that refuses a log without it (decision 0006). A disk that was
    /// just formatted has seen no later configuration, and gets no vote.
    fn is_named_elsewhere(&self, from: NodeId, incarnation: Incarnation, said: &PeerSaid) -> bool {
        let PeerSaid::Raft { message: Message::PreVote { last, .. } | Message::Vote { last, .. }, .. } = said
        else {
            return false;
        };
        let now = &self.configurations;
        let may_be = match named(now.newest(), from) {
            Named::Stranger => false,
            Named::AnyFormatting => true,
            Named::Only(_) => self.linked_ahead(from) == Some(incarnation),
        };
        may_be && last.index > now.index()
    }

    fn drain_link_states(&mut self, slot: usize) -> usize {
        let mut work = 0;
        while let Some(state) = self.peers[slot].rings.from_sender.pop() {
            let peer = self.peers[slot].id();
            self.peers[slot].link = state.connected;
            self.peers[slot].is_hung_up = false;
            self.peers[slot].fetched.clear();
            self.peers[slot].outgoing = None;
            if let Some(sent) = &mut self.peers[slot].sent {
                sent.interrupt();
            }
            if self.reaches(slot) {
                self.peers[slot].is_gone = false;
                self.raft.peer_connected(peer);
            } else {
                self.raft.peer_disconnected(peer);
            }
            work += 1;
        }
        work
    }

    /// Carries out whatever the core wants done, until it wants nothing more. `received` are the entries that came
    /// with the Append just stepped. Where something of it ends the node, nothing that follows is carried out: the core
    /// believes that it was done.
    pub(super) fn settle(&mut self, mut received: Vec<Entry>) {
        while !self.control.is_stopped() && self.raft.has_ready() {
            let ready = self.raft.ready();
            for request in ready.timers {
                self.timers.apply(request, self.now_ns);
            }
            let changed = ready.role_changed;
            if changed.is_some() && self.led_before && !self.is_leader() {
                self.led_before = false;
                self.counters.leaderships_lost.increment();
                self.peers.iter_mut().for_each(|port| port.outgoing = None);
                self.retention.forget_trim();
                self.producers.drop_overlay();
                self.abandon_clients();
            }
            if let Some((version, state)) = ready.hard_state {
                self.write_hard_state(version, &state);
            }
            for op in ready.log_ops {
                self.carry_out(op, &mut received);
                if self.control.is_stopped() {
                    return;
                }
            }
            if let Some(change) = changed {
                if change.role == Role::Leader && !self.led_before {
                    self.become_leader();
                }
                self.announce_leadership(change.term, change.leader);
            }
            for (to, message) in ready.messages {
                self.send_message(to, message);
            }
            if let Some(commit) = ready.commit_index {
                self.commit_to(commit);
                if self.control.is_stopped() {
                    return;
                }
            }
            for (token, outcome) in ready.reads {
                self.finish_read(token, outcome.is_ok());
            }
        }
    }

    /// The uncommitted suffix is this leader's to finish: its producers' overlay is rebuilt from it.
    fn become_leader(&mut self) {
        self.led_before = true;
        self.counters.elections_won.increment();
        self.producers.drop_overlay();
        let mut index = self.applied.index.next();
        while let Some(entry) = self.hot.get(index).cloned() {
            if index > self.state_point().index {
                self.note_appended(&entry);
            }
            index = index.next();
        }
        if self.tail.index < self.state_point().index {
            self.state_is_of_another_log();
        }
        assert_eq!(index, self.tail.index.next(), "the whole uncommitted suffix is in the hot tail");
        for port in &mut self.peers {
            port.fetched.clear();
        }
    }

    /// A leader has another entry, or none, where this node has a committed one.
    pub(super) fn contradicted(&self, leader: NodeId, index: LogIndex) {
        let (id, commit) = (self.settings.node_id, self.raft.commit_index());
        let remedy = match self.durability {
            Durability::Memory => {
                "loss was accepted, and the cluster goes on with less than this node has: read from its data directory \
                 what is worth keeping (tercet log dump), then start it once with --accept-loss; where it ends like this \
                 again, format a new directory and let it in by tercet member replace"
            }
            Durability::Disk => {
                "where a loss was accepted (--accept-loss), that is it: read from this node's data directory what is worth \
                 keeping (tercet log dump), then format a new one and let it in by tercet member replace; otherwise state \
                 machine safety is broken: do not start this node again, keep all data directories, and report it"
            }
        };
        self.control.fail(Fatal::Divergence(format!(
            "node {id} has the log up to index {commit} committed, but node {leader}, which leads, does not have that \
             entry at index {index}; {remedy}"
        )));
    }

    fn send_message(&mut self, to: NodeId, message: Message) {
        let Some(slot) = self.peers.iter().position(|port| port.id() == to) else { return };
        // A leader that this node's log does not name yet is answered all the same; nobody else is.
        let is_answer = matches!(
            message,
            Message::AppendReply { .. }
                | Message::HeartbeatReply { .. }
                | Message::PreVoteReply { .. }
                | Message::VoteReply { .. }
        );
        if self.peers[slot].link.is_some() && !is_answer && !self.reaches(slot) {
            return;
        }
        let port = &mut self.peers[slot];
        if port.rings.to_sender.push(SenderCommand::Message(message)).is_err() {
            // Raft repeats what matters; a peer that does not drain its ring is as good as cut off.
            self.counters.peer_messages_dropped.increment();
        }
    }

    /// Sends each connected peer what its window allows.
    pub(super) fn pump_peers(&mut self) -> usize {
        if !self.is_leader() {
            return 0;
        }
        let mut work = 0;
        for slot in 0..self.peers.len() {
            if !self.reaches(slot) {
                continue;
            }
            if self.pump_checkpoint(slot) {
                continue;
            }
            for _ in 0..self.settings.limits.peer_messages_limit {
                if self.peers[slot].rings.to_sender.slots() == 0 {
                    break;
                }
                let Some(plan) = self.raft.next_send(self.peers[slot].id()) else { break };
                if !self.send_plan(slot, &plan) {
                    break;
                }
                work += 1;
            }
        }
        work
    }

    /// Sends (a prefix of) a plan. False when the entries are not at hand yet.
    fn send_plan(&mut self, slot: usize, plan: &SendPlan) -> bool {
        let mut entries = Vec::new();
        let mut bytes = 0;
        if plan.last >= plan.first {
            self.collect(slot, plan, &mut entries, &mut bytes);
            if entries.is_empty() {
                return false;
            }
        }
        let last = entries.last().map_or(plan.prev.index, Entry::index);
        let port = &mut self.peers[slot];
        let command = SenderCommand::Append {
            term: plan.term,
            prev: plan.prev,
            commit: plan.commit,
            wants_reply: plan.wants_reply,
            entries,
        };
        if port.rings.to_sender.push(command).is_err() {
            return false;
        }
        let peer = port.id();
        self.raft.sent(peer, last, bytes as u64);
        true
    }

    /// Gathers entries for one frame: fetched ones first, then the hot tail; asks the reader for what is in neither.
    fn collect(&mut self, slot: usize, plan: &SendPlan, entries: &mut Vec<Entry>, bytes: &mut usize) {
        let limit = self.settings.limits.append_bytes_limit;
        let port = &mut self.peers[slot];
        let mut index = plan.first;
        while index <= plan.last {
            while port.fetched.front().is_some_and(|entry| entry.index() < index) {
                port.fetched.pop_front();
            }
            let entry = match port.fetched.front() {
                Some(front) if front.index() == index => port.fetched.pop_front(),
                _ => self.hot.get(index).cloned(),
            };
            let Some(entry) = entry else { break };
            if !entries.is_empty() && *bytes + entry.len_bytes() > limit {
                if index < self.hot.first_index() {
                    port.fetched.push_front(entry);
                }
                break;
            }
            *bytes += entry.len_bytes();
            entries.push(entry);
            index = index.next();
        }
        if entries.is_empty() {
            self.ask_reader(slot, plan.first, plan.last.min(self.hot.first_index().prev()));
        }
    }

    /// Has entries from `first` to `upto` fetched for a peer, one request at a time.
    pub(super) fn ask_reader(&mut self, slot: usize, first: LogIndex, upto: LogIndex) {
        let port = &mut self.peers[slot];
        if port.requested.is_some() || upto < first {
            return;
        }
        let purpose = CatchUpPurpose::Replication;
        let peer = port.rings.peer;
        let request = CatchUpRequest { purpose, peer, first, upto, bytes_max: CATCH_UP_BYTES };
        if self.rings.to_reader.push(request).is_ok() {
            port.requested = Some(first);
        }
    }

    fn take_catch_up(&mut self, reply: CatchUpReply) {
        let Some(slot) = self.peers.iter().position(|port| port.rings.peer == reply.peer) else { return };
        if let CatchUpPurpose::Mending { question, asked_last } = reply.purpose {
            return self.take_for_mending(slot, reply, (question, asked_last));
        }
        let port = &mut self.peers[slot];
        if port.requested != Some(reply.first) {
            return;
        }
        port.requested = None;
        match reply.entries {
            Ok(entries) => {
                port.fetched.clear();
                port.fetched.extend(entries);
            }
            // Trimmed meanwhile: the core knows, and plans anew.
            Err(ReadError::Gone { .. }) => port.fetched.clear(),
            // The reader has reported it: this node is about to mend, and does not ask for it again before.
            Err(ReadError::Corrupt(_)) => port.requested = Some(reply.first),
        }
    }
}

/// What only a leader says.
const fn is_leaders_word(said: &PeerSaid) -> bool {
    matches!(
        said,
        PeerSaid::Checkpoint { .. }
            | PeerSaid::Raft { message: Message::Append { .. } | Message::Heartbeat { .. }, .. }
    )
}
