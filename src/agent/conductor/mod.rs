//! The conductor: listens on both ports, dials peers, shakes hands within two seconds, and hands sockets over. It
//! never touches an event.
//!
//! ```text
//! peer port ──▶ hello ──▶ checks (cluster, member, durability, version) ──▶ known? ──▶ accept ──▶ ack receiver
//! dial ──────▶ say hello ──▶ reply, the same checks ─────────────────────▶ known, or pin ──▶ peer sender
//! client port ▶ hello ──▶ checks ──▶ dispatcher (publish, ask) or delivery (subscribe)
//! ```
//!
//! Where the configuration names a peer's incarnation, that one alone is let in (rule 13). Before, in a cluster that has
//! not begun, the batcher judges each contact, and pins, durably, whom it meets first. It judges each message once more:
//! what the conductor knows may be a moment old.

mod checks;
mod dial;
mod handshake;

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::Agent;
use super::commands::{ConductorNotice, ContactVerdict, LinkClosed};
use super::control::Control;
use super::rings::ConductorRings;
use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::base::ids::{ClusterId, GroupId, Incarnation, LogIndex, NodeId};
use crate::base::net::{Net, Readiness, Token};
use crate::base::prng::Prng;
use crate::entry::{Durability, Member};
use crate::metrics::{Counter, Counters};

use self::dial::Dial;
use self::handshake::Handshake;
use super::batcher::Pins;

/// What the conductor says of this node and expects of others.
#[derive(Clone, Debug)]
pub struct ConductorSettings {
    /// This cluster.
    pub cluster_id: ClusterId,
    /// This node.
    pub node_id: NodeId,
    /// This formatting of its disk.
    pub incarnation: Incarnation,
    /// The group served.
    pub group: GroupId,
    /// The cluster's durability; a node set otherwise is refused.
    pub durability: Durability,
    /// The cluster's version.
    pub cluster_version: u32,
    /// The other nodes that the settings know, and where they listen for peers.
    pub peers: Vec<(NodeId, SocketAddr)>,
    /// Who belongs to the cluster, by the log as it was found; the batcher tells of changes.
    pub members: Vec<Member>,
    /// The entry that says so.
    pub configuration_index: LogIndex,
    /// Open client connections at most.
    pub connections_limit: usize,
    /// Connections on each port that have not said hello yet, at most; beyond it the oldest is closed.
    pub handshakes_limit: usize,
    /// A handshake takes at most this long.
    pub handshake_timeout_ns: u64,
    /// Seed of the dialling jitter.
    pub seed: u64,
}

impl ConductorSettings {
    /// Default of `handshake_timeout_ns`.
    pub const HANDSHAKE_TIMEOUT_NS: u64 = 2 * NS_PER_S;
    /// Default of `handshakes_limit`.
    pub const HANDSHAKES_LIMIT: usize = 256;
}

/// Counters that only the conductor writes.
#[derive(Debug)]
struct ConductorCounters {
    // Connections accepted on either port.
    accepted: Counter,
    // Handshakes refused for what was said.
    refused: Counter,
    // Handshakes that took too long (half-open connections).
    timed_out: Counter,
    // Bytes that were no hello.
    malformed: Counter,
    // Dials begun.
    dials: Counter,
}

impl ConductorCounters {
    fn new(counters: &Counters) -> Self {
        Self {
            accepted: counters.register("conductor_accepted"),
            refused: counters.register("conductor_refused"),
            timed_out: counters.register("conductor_timed_out"),
            malformed: counters.register("conductor_malformed"),
            dials: counters.register("conductor_dials"),
        }
    }
}

const PEER_LISTENER: Token = Token(0);
const CLIENT_LISTENER: Token = Token(1);
const FIRST_HANDSHAKE: u32 = 2;
/// Connections accepted in one turn from each port.
const ACCEPT_LIMIT: usize = 64;

/// Which port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Port {
    Peer,
    Client,
}

/// The agent.
pub struct Conductor<N: Net> {
    net: N,
    settings: ConductorSettings,
    listeners: [(N::Listener, bool); 2],
    handshakes: Vec<Option<Handshake<N::Stream>>>,
    dials: Vec<Dial>,
    pins: Pins,
    prng: Prng,
    rings: ConductorRings<N::Stream>,
    control: Control,
    counters: ConductorCounters,
    now_ns: u64,
    accept_again_ns: Option<u64>,
    refusals_told: RefusalsTold,
}

/// What was said lately about those who were refused: who is refused dials again twice a second.
#[derive(Debug, Default)]
struct RefusalsTold(VecDeque<(String, u64)>);

impl RefusalsTold {
    const KEPT_MAX: usize = 16;
    const AGAIN_AFTER_NS: u64 = 60 * NS_PER_S;

    /// Whether `text` has not been said within a minute, or among the last different ones; it is now.
    fn is_news(&mut self, text: &str, now_ns: u64) -> bool {
        self.0.retain(|(_, at_ns)| now_ns.saturating_sub(*at_ns) < Self::AGAIN_AFTER_NS);
        if self.0.iter().any(|(told, _)| told == text) {
            return false;
        }
        if self.0.len() == Self::KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((text.to_owned(), now_ns));
        true
    }
}

impl<N: Net> Agent for Conductor<N> {
    fn name(&self) -> &'static str {
        "conductor"
    }

    fn do_work(&mut self, now_ns: u64, readiness: &[Readiness]) -> usize {
        self.now_ns = now_ns;
        let mut work = self.take_notices();
        for event in readiness {
            match event.token {
                PEER_LISTENER => self.listeners[0].1 = true,
                CLIENT_LISTENER => self.listeners[1].1 = true,
                Token(token) => {
                    let slot = (token - FIRST_HANDSHAKE) as usize;
                    let handshake = self.handshakes.get_mut(slot).and_then(Option::as_mut);
                    if let Some(connection) = handshake.and_then(|handshake| handshake.connection.as_mut()) {
                        connection.note(event);
                    }
                }
            }
        }
        if self.accept_again_ns.is_some_and(|at| at <= now_ns) {
            self.accept_again_ns = None;
            self.listeners[0].1 = true;
            self.listeners[1].1 = true;
        }
        work += self.accept(Port::Peer) + self.accept(Port::Client);
        work += self.dial_due();
        work += self.tell_gone();
        for slot in 0..self.handshakes.len() {
            work += self.advance(slot);
        }
        if !self.control.is_ready() {
            self.control.set_ready();
        }
        work
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let handshakes = self.handshakes.iter().flatten().map(|handshake| handshake.deadline_ns);
        let dials = self.dials.iter().filter_map(Dial::due_ns);
        handshakes.chain(dials).chain(self.accept_again_ns).min()
    }
}

impl<N: Net> Conductor<N> {
    /// An agent over two listeners (peer port, client port) that are bound already, so that a port in use is known before anything starts.
    ///
    /// # Errors
    /// A listener cannot be registered.
    pub fn new(
        mut net: N,
        settings: ConductorSettings,
        (mut peer_listener, mut client_listener): (N::Listener, N::Listener),
        pins: Pins,
        rings: ConductorRings<N::Stream>,
        control: Control,
        counters: &Counters,
    ) -> std::io::Result<Self> {
        net.register_listener(&mut peer_listener, PEER_LISTENER)?;
        net.register_listener(&mut client_listener, CLIENT_LISTENER)?;
        Ok(Self {
            net,
            listeners: [(peer_listener, true), (client_listener, true)],
            handshakes: Vec::new(),
            dials: settings.peers.iter().map(|(peer, address)| Dial::new(*peer, *address)).collect(),
            pins,
            prng: Prng::new(settings.seed),
            rings,
            control,
            counters: ConductorCounters::new(counters),
            now_ns: 0,
            accept_again_ns: None,
            refusals_told: RefusalsTold::default(),
            settings,
        })
    }

    fn take_notices(&mut self) -> usize {
        let mut work = 0;
        while let Some(notice) = self.rings.from_batcher.pop() {
            work += 1;
            match notice {
                ConductorNotice::Decided(contact, verdict) => {
                    if verdict == ContactVerdict::Known {
                        self.pins.insert(contact.peer, contact.identity.incarnation);
                    }
                    self.contact_decided(contact, verdict);
                }
                ConductorNotice::Members { index, members } => {
                    (self.settings.configuration_index, self.settings.members) = (index, members);
                }
            }
        }
        for place in 0..self.rings.from_links.len() {
            while let Some(closed) = self.rings.from_links[place].pop() {
                work += 1;
                let (LinkClosed::Outbound(peer) | LinkClosed::Inbound(peer)) = closed;
                let now_ns = self.now_ns;
                if let Some(dial) = self.dial_of(peer) {
                    match closed {
                        LinkClosed::Outbound(_) => dial.lost(now_ns),
                        LinkClosed::Inbound(_) => dial.inbound_lost(),
                    }
                }
            }
        }
        work
    }

    /// Takes waiting connections, bounded; what is left keeps the port's flag set.
    fn accept(&mut self, port: Port) -> usize {
        let place = port as usize;
        if !self.listeners[place].1 {
            return 0;
        }
        let mut work = 0;
        while work < ACCEPT_LIMIT {
            self.make_room(port);
            match self.net.accept(&mut self.listeners[place].0) {
                Ok((stream, _address)) => {
                    work += 1;
                    self.counters.accepted.increment();
                    self.begin_inbound(port, stream);
                }
                Err(error) => {
                    self.listeners[place].1 = false;
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        // Out of descriptors, most likely: look again soon, since the edge is gone.
                        tracing::warn!("cannot accept a connection: {error}");
                        self.accept_again_ns = Some(self.now_ns + 100 * NS_PER_MS);
                    }
                    break;
                }
            }
        }
        work
    }

    /// Half-open connections keep nobody out: each port has its own places, and when they are taken the oldest
    /// stranger goes. Whoever means it says hello at once.
    fn make_room(&mut self, port: Port) {
        let waiting = |handshake: &Handshake<N::Stream>| handshake.stage.is_stranger_on(port);
        let strangers = self.handshakes.iter().enumerate().filter_map(|(slot, handshake)| {
            handshake
                .as_ref()
                .filter(|handshake| waiting(handshake))
                .map(|handshake| (handshake.deadline_ns, slot))
        });
        let (mut count, mut oldest) = (0, None);
        for stranger in strangers {
            count += 1;
            oldest = Some(oldest.map_or(stranger, |found: (u64, usize)| found.min(stranger)));
        }
        if count >= self.settings.handshakes_limit
            && let Some((_, slot)) = oldest
            && let Some(handshake) = self.handshakes[slot].take()
        {
            self.counters.timed_out.increment();
            self.close(handshake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RefusalsTold;
    use crate::base::clock::NS_PER_S;

    #[test]
    fn a_refusal_is_said_once_a_minute_and_no_more_texts_are_kept_than_that() {
        let mut told = RefusalsTold::default();
        assert_eq!(
            [told.is_news("a", 0), told.is_news("b", 1), told.is_news("a", 59 * NS_PER_S)],
            [true, true, false]
        );
        assert!(told.is_news("a", 61 * NS_PER_S));
        for number in 0..100 {
            assert!(told.is_news(&number.to_string(), 62 * NS_PER_S));
        }
        assert_eq!(told.0.len(), RefusalsTold::KEPT_MAX);
    }
}
