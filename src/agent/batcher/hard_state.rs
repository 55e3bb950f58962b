//! Hard state and pins on their way to the disk: the core's term, vote and claim, and the incarnations that peers are
//! pinned to, share one record (rule 13).

use std::collections::{BTreeMap, VecDeque};

use super::Batcher;
use super::configurations::{Named, named, unmet};
use crate::agent::commands::{
    ConductorNotice, ConductorRequest, Contact, ContactVerdict, LogCommand, PeerIdentity,
};
use crate::base::clock::Clock;
use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::base::planted::{Bug, is_planted};
use crate::entry::Member;
use crate::log::StoredHardState;
use crate::raft::HardState;

/// Which formatting of its disk each peer is known by.
pub type Pins = BTreeMap<NodeId, Incarnation>;

struct Outstanding {
    write_id: u64,
    raft_version: Option<u64>,
    pin: Option<Contact>,
}

/// Numbers the writes and remembers what each one releases.
pub(super) struct HardStateWriter {
    stored: StoredHardState,
    next_write_id: u64,
    outstanding: VecDeque<Outstanding>,
}

impl HardStateWriter {
    pub(super) const fn new(stored: StoredHardState) -> Self {
        Self { stored, next_write_id: 1, outstanding: VecDeque::new() }
    }

    /// Whether a write is on its way to the disk.
    pub(super) fn has_outstanding(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// No entry from `index` on, which this node's disk once held, waits to be found again (rule 11).
    pub(super) fn claims_nothing_from(&self, index: LogIndex) -> bool {
        self.stored.claimed_tail.is_none_or(|claimed| claimed.index < index)
    }

    /// The incarnation that a peer is pinned to.
    pub(super) fn pin_of(&self, peer: NodeId) -> Option<Incarnation> {
        self.stored.pins.get(&peer).copied()
    }

    /// The pins that the disk has. Written ones may be lost by a power cut still, and then were never there.
    pub(super) fn durable_pins(&self) -> impl Iterator<Item = NodeId> {
        let is_durable = |peer: &NodeId| {
            !self.outstanding.iter().any(|write| write.pin.is_some_and(|pin| pin.peer == *peer))
        };
        self.stored.pins.keys().copied().filter(is_durable)
    }

    fn write(&mut self, raft_version: Option<u64>, pin: Option<Contact>) -> LogCommand {
        let write_id = self.next_write_id;
        self.next_write_id += 1;
        self.outstanding.push_back(Outstanding { write_id, raft_version, pin });
        LogCommand::HardState { write_id, state: self.stored.clone() }
    }
}

impl<C: Clock> Batcher<C> {
    /// The core changed term, vote or claim.
    pub(super) fn write_hard_state(&mut self, version: u64, state: &HardState) {
        self.counters.in_doubt.set(u64::from(state.claimed_tail.is_some()));
        let stored = &mut self.hard_state.stored;
        if stored.claimed_tail.is_some() && state.claimed_tail.is_none() {
            tracing::info!(
                "nothing that this node acknowledged is missing any more; it takes part in elections again"
            );
        }
        stored.term = state.term;
        stored.voted_for = state.voted_for;
        stored.claimed_tail = state.claimed_tail;
        let command = self.hard_state.write(Some(version), None);
        self.hand_to_writer(command);
    }

    /// All writes up to `write_id` are durable: tell the core and the conductor.
    pub(super) fn hard_state_flushed(&mut self, write_id: u64) {
        while let Some(front) = self.hard_state.outstanding.front() {
            if front.write_id > write_id {
                break;
            }
            let Some(done) = self.hard_state.outstanding.pop_front() else { break };
            if let Some(version) = done.raft_version {
                self.raft.hard_state_flushed(version);
            }
            if let Some(contact) = done.pin {
                self.tell_conductor(contact, ContactVerdict::Known);
                self.note_met();
            }
        }
    }

    /// What the conductor found out about peers.
    pub(super) fn drain_notices(&mut self) -> usize {
        let mut work = 0;
        while let Some(request) = self.rings.from_conductor.pop() {
            work += 1;
            match request {
                ConductorRequest::Contact(contact) => self.judge(contact),
                ConductorRequest::Refused { peer, incarnation } => self.note_refused(peer, incarnation),
                ConductorRequest::RefusedBy(peer) => self.note_refused_by(peer),
                ConductorRequest::Gone(peer) => {
                    self.counters.peers_gone.increment();
                    tracing::info!("node {peer} is gone: its connections closed and it refuses another");
                    // Its last words may still be on the way to the core; see `suspect_gone`.
                    for port in self.peers.iter_mut().filter(|port| port.id() == peer) {
                        port.is_gone = true;
                    }
                }
            }
        }
        work
    }

    /// What becomes of a peer that shows up, by the log; where that names nobody, by the pins (PITFALLS 48).
    ///
    /// A pin means that the two met while neither knew more than the first configuration, and neither had met another
    /// formatting of the other's disk. So only one that has let this node in is pinned, and none that has seen a later
    /// configuration: that one's cluster has begun, and its log will name who counts.
    fn judge(&mut self, contact: Contact) {
        let Contact { peer, identity: PeerIdentity { incarnation, configuration_index }, has_accepted } =
            contact;
        let counting = match named(self.configurations.newest(), peer) {
            Named::Stranger => return self.tell_conductor(contact, ContactVerdict::Refused),
            // What the log names needs no pin.
            Named::Only(_) if is_planted(Bug::AnyFormattingCounts) => Some(incarnation),
            Named::Only(incarnation) => Some(incarnation),
            Named::AnyFormatting => self.hard_state.pin_of(peer),
        };
        match counting {
            Some(counting) if counting != incarnation => {
                self.note_refused(peer, incarnation);
                self.tell_conductor(contact, ContactVerdict::Refused);
            }
            Some(_) if self.is_pin_in_flight(contact) => self.tell_conductor(contact, ContactVerdict::LetIn),
            Some(_) => self.tell_conductor(contact, ContactVerdict::Known),
            None if has_accepted && configuration_index <= self.configurations.index() => {
                self.hard_state.stored.pins.insert(peer, incarnation);
                let command = self.hard_state.write(None, Some(contact));
                self.hand_to_writer(command);
            }
            None => self.tell_conductor(contact, ContactVerdict::LetIn),
        }
    }

    /// Makes the pins those of the voters of the last committed configuration: all that a node that mends goes by, which
    /// cannot read its log, so nobody else's word may count there.
    pub(super) fn pin_committed(&mut self) {
        let committed = self.configurations.oldest();
        let pins = &self.hard_state.stored.pins;
        let pin = |member: &Member| match member.incarnation {
            Incarnation(0) => pins.get(&member.node_id).copied(),
            named => Some(named),
        };
        let others = committed.voters.iter().filter(|member| member.node_id != self.settings.node_id);
        let next: Pins = others.filter_map(|member| Some((member.node_id, pin(member)?))).collect();
        if next != *pins {
            self.hard_state.stored.pins = next;
            let command = self.hard_state.write(None, None);
            self.hand_to_writer(command);
        }
    }

    /// Where the log does not name the voters yet: once all have been met, this node may vote for one that has nothing, and
    /// campaign with nothing (decision 0006).
    pub(super) fn note_met(&mut self) {
        if self.raft.knows_the_voters() {
            return;
        }
        let met: Vec<NodeId> = self.hard_state.durable_pins().collect();
        if unmet(self.configurations.newest(), self.settings.node_id, &met).next().is_none() {
            tracing::info!("this node has met all voters of its cluster");
            self.raft.others_met();
        }
    }

    fn is_pin_in_flight(&self, contact: Contact) -> bool {
        let mut pins = self.hard_state.outstanding.iter().filter_map(|write| write.pin);
        pins.any(|pin| pin.peer == contact.peer)
    }

    fn tell_conductor(&mut self, contact: Contact, verdict: ContactVerdict) {
        // A lost notice only costs the peer its handshake timeout, after which it dials again.
        let _ = self.rings.to_conductor.push(ConductorNotice::Decided(contact, verdict));
    }
}
