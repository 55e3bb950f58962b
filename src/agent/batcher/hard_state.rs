//! Hard state and pins on their way to the disk: the core's term, vote and claim, and the incarnations that peers are
//! pinned to, share one record (rule 13).

use std::collections::{BTreeMap, VecDeque};

use super::Batcher;
use super::configurations::{Named, named};
use crate::agent::commands::{ConductorNotice, ConductorRequest, LogCommand, PinRequest};
use crate::base::clock::Clock;
use crate::base::ids::{Incarnation, NodeId};
use crate::entry::Member;
use crate::log::StoredHardState;
use crate::raft::HardState;

/// Which formatting of its disk each peer is known by.
pub type Pins = BTreeMap<NodeId, Incarnation>;

struct Outstanding {
    write_id: u64,
    raft_version: Option<u64>,
    pin: Option<PinRequest>,
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

    /// Nothing that this node's disk once held waits to be found again (rule 11).
    pub(super) const fn has_no_claim(&self) -> bool {
        self.stored.claimed_tail.is_none()
    }

    /// The incarnation that a peer is pinned to.
    pub(super) fn pin_of(&self, peer: NodeId) -> Option<Incarnation> {
        self.stored.pins.get(&peer).copied()
    }

    fn write(&mut self, raft_version: Option<u64>, pin: Option<PinRequest>) -> LogCommand {
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
            if let Some(PinRequest { peer, incarnation }) = done.pin {
                self.tell_conductor(peer, incarnation, true);
            }
        }
    }

    /// What the conductor found out about peers.
    pub(super) fn drain_notices(&mut self) -> usize {
        let mut work = 0;
        while let Some(request) = self.rings.from_conductor.pop() {
            work += 1;
            match request {
                ConductorRequest::Pin(request) => self.pin(request),
                ConductorRequest::Refused(refused) => self.note_refused(refused),
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

    /// First contact: pins a peer's incarnation, or refuses another one than the pinned. The answer leaves once the
    /// pin is durable, so no vote or acknowledgement of that peer can count before (PITFALLS 48).
    fn pin(&mut self, request: PinRequest) {
        match named(self.configurations.newest(), request.peer) {
            Named::AnyFormatting => {}
            Named::Stranger => return self.tell_conductor(request.peer, request.incarnation, false),
            // What the log names needs no pin.
            Named::Only(incarnation) => {
                let accepted = incarnation == request.incarnation;
                if !accepted {
                    self.note_refused(request);
                }
                return self.tell_conductor(request.peer, request.incarnation, accepted);
            }
        }
        match self.hard_state.stored.pins.get(&request.peer) {
            Some(pinned) if *pinned == request.incarnation => {
                if !self.pin_in_flight(request) {
                    self.tell_conductor(request.peer, request.incarnation, true);
                }
            }
            Some(_) => {
                self.note_refused(request);
                self.tell_conductor(request.peer, request.incarnation, false);
            }
            None => {
                self.hard_state.stored.pins.insert(request.peer, request.incarnation);
                let command = self.hard_state.write(None, Some(request));
                self.hand_to_writer(command);
            }
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

    fn pin_in_flight(&self, request: PinRequest) -> bool {
        self.hard_state.outstanding.iter().any(|write| write.pin == Some(request))
    }

    fn tell_conductor(&mut self, peer: NodeId, incarnation: Incarnation, accepted: bool) {
        let notice = ConductorNotice::PinDecided { peer, incarnation, accepted };
        // A lost notice only costs the peer its handshake timeout, after which it dials again.
        let _ = self.rings.to_conductor.push(notice);
    }
}
