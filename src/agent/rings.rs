//! Every ring of a node, made in one place. `runtime/` and the simulator call [`make_rings`] and hand the ends out.

use super::commands::{
    BatcherReply, BatcherRequest, CatchUpReply, CatchUpRequest, ColdReadReply, ColdReadRequest,
    ConductorNotice, ConductorRequest, LinkClosed, LinkState, LogCommand, LogEvent, NewClient, NewPeer,
    PeerMessage, SenderCommand,
};
use super::control::CommitTail;
pub use super::gauge::ConnectionGauge;
use super::ring::{RingReceiver, RingSender, WakeHandle, ring};
use crate::base::ids::{NodeId, Term};
use crate::entry::Entry;
use crate::log::CatalogChange;
use crate::metrics::Counters;

/// Who is to be woken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AgentRole {
    /// Listens, dials, shakes hands.
    Conductor,
    /// Clients that publish or ask.
    Dispatcher,
    /// Raft, producers, hot tail.
    Batcher,
    /// Writes files.
    LogWriter,
    /// Reads files.
    Reader,
    /// Subscribers.
    Delivery,
    /// Writes to one peer.
    PeerSender(NodeId),
    /// Reads from one peer.
    AckReceiver(NodeId),
}

/// Batcher to delivery.
pub enum DeliveryNotice {
    /// An entry is committed. May be skipped when the ring is full; delivery then reads the log.
    Committed(Entry),
    /// Who leads.
    Leadership {
        /// In which term.
        term: Term,
        /// The leader, if known.
        leader: Option<NodeId>,
    },
}

/// The conductor's ends.
pub struct ConductorRings<S> {
    /// Clients that publish or ask.
    pub to_dispatcher: RingSender<NewClient<S>>,
    /// Subscribers.
    pub to_delivery: RingSender<NewClient<S>>,
    /// Outbound streams, by peer.
    pub to_senders: Vec<(NodeId, RingSender<NewPeer<S>>)>,
    /// Inbound streams, by peer.
    pub to_receivers: Vec<(NodeId, RingSender<NewPeer<S>>)>,
    /// Lost streams.
    pub from_links: Vec<RingReceiver<LinkClosed>>,
    /// First contacts.
    pub to_batcher: RingSender<ConductorRequest>,
    /// Decisions on them.
    pub from_batcher: RingReceiver<ConductorNotice>,
    /// Open client connections.
    pub gauge: ConnectionGauge,
}

/// The dispatcher's ends.
pub struct DispatcherRings<S> {
    /// New clients.
    pub from_conductor: RingReceiver<NewClient<S>>,
    /// Requests.
    pub to_batcher: RingSender<BatcherRequest>,
    /// Answers.
    pub from_batcher: RingReceiver<BatcherReply>,
    /// Open client connections.
    pub gauge: ConnectionGauge,
}

/// The batcher's ends towards one peer.
pub struct BatcherPeerRings {
    /// Which peer.
    pub peer: NodeId,
    /// Messages to it.
    pub to_sender: RingSender<SenderCommand>,
    /// Whether the outbound stream stands.
    pub from_sender: RingReceiver<LinkState>,
    /// Messages from it.
    pub from_receiver: RingReceiver<PeerMessage>,
}

/// The batcher's ends.
pub struct BatcherRings {
    /// First contacts.
    pub from_conductor: RingReceiver<ConductorRequest>,
    /// Decisions on them.
    pub to_conductor: RingSender<ConductorNotice>,
    /// Requests of clients.
    pub from_dispatcher: RingReceiver<BatcherRequest>,
    /// Answers to clients.
    pub to_dispatcher: RingSender<BatcherReply>,
    /// What is to be written.
    pub to_writer: RingSender<LogCommand>,
    /// What is written and flushed.
    pub from_writer: RingReceiver<LogEvent>,
    /// Entries wanted from the log.
    pub to_reader: RingSender<CatchUpRequest>,
    /// Entries from the log.
    pub from_reader: RingReceiver<CatchUpReply>,
    /// Committed entries.
    pub to_delivery: RingSender<DeliveryNotice>,
    /// The newest commit.
    pub commit_tail: CommitTail,
    /// One set a peer.
    pub peers: Vec<BatcherPeerRings>,
}

/// The log writer's ends. `F` is the disk's file type.
pub struct LogWriterRings<F> {
    /// What is to be written.
    pub from_batcher: RingReceiver<LogCommand>,
    /// What is written and flushed.
    pub to_batcher: RingSender<LogEvent>,
    /// Segments that come and go.
    pub to_reader: RingSender<CatalogChange<F>>,
    /// The newest commit, remembered with the next watermark. Read, not sent: a message a commit would wake the
    /// writer for nothing.
    pub commit_tail: CommitTail,
}

/// The reader's ends.
pub struct ReaderRings<F> {
    /// Segments that come and go.
    pub from_writer: RingReceiver<CatalogChange<F>>,
    /// Entries wanted for peers.
    pub from_batcher: RingReceiver<CatchUpRequest>,
    /// Entries for peers.
    pub to_batcher: RingSender<CatchUpReply>,
    /// Entries wanted for subscribers.
    pub from_delivery: RingReceiver<ColdReadRequest>,
    /// Entries for subscribers.
    pub to_delivery: RingSender<ColdReadReply>,
}

/// Delivery's ends.
pub struct DeliveryRings<S> {
    /// New subscribers.
    pub from_conductor: RingReceiver<NewClient<S>>,
    /// Committed entries and news.
    pub from_batcher: RingReceiver<DeliveryNotice>,
    /// Entries wanted from the log.
    pub to_reader: RingSender<ColdReadRequest>,
    /// Entries from the log.
    pub from_reader: RingReceiver<ColdReadReply>,
    /// The newest commit.
    pub commit_tail: CommitTail,
    /// Open client connections.
    pub gauge: ConnectionGauge,
}

/// A peer sender's ends.
pub struct SenderRings<S> {
    /// Which peer.
    pub peer: NodeId,
    /// Outbound streams.
    pub from_conductor: RingReceiver<NewPeer<S>>,
    /// Lost ones.
    pub to_conductor: RingSender<LinkClosed>,
    /// Messages to send.
    pub from_batcher: RingReceiver<SenderCommand>,
    /// Whether the stream stands.
    pub to_batcher: RingSender<LinkState>,
}

/// An ack receiver's ends.
pub struct ReceiverRings<S> {
    /// Which peer.
    pub peer: NodeId,
    /// Inbound streams.
    pub from_conductor: RingReceiver<NewPeer<S>>,
    /// Lost ones.
    pub to_conductor: RingSender<LinkClosed>,
    /// Messages received.
    pub to_batcher: RingSender<PeerMessage>,
}

/// All ends of all rings of one node.
pub struct NodeRings<S, F> {
    /// For the conductor.
    pub conductor: ConductorRings<S>,
    /// For the dispatcher.
    pub dispatcher: DispatcherRings<S>,
    /// For the batcher.
    pub batcher: BatcherRings,
    /// For the log writer.
    pub log_writer: LogWriterRings<F>,
    /// For the reader.
    pub reader: ReaderRings<F>,
    /// For delivery.
    pub delivery: DeliveryRings<S>,
    /// For the senders, in the order of `peers`.
    pub senders: Vec<SenderRings<S>>,
    /// For the ack receivers, in the order of `peers`.
    pub receivers: Vec<ReceiverRings<S>>,
}

/// Items in each ring: named, so that the bound of every queue can be found (rule 15).
mod capacity {
    /// Connections being handed over.
    pub const CONNECTIONS: usize = 64;
    /// Link states and pins: a handful at a time.
    pub const NOTICES: usize = 64;
    /// Publish frames and questions; bytes are bounded by the dispatcher's budget.
    pub const REQUESTS: usize = 4096;
    /// Acknowledgement runs and answers.
    pub const REPLIES: usize = 8192;
    /// Entries and hard states for the writer.
    pub const LOG_COMMANDS: usize = 4096;
    /// Progress reports; the writer merges when it is full.
    pub const LOG_EVENTS: usize = 256;
    /// Segments; one is 64 MiB of log, so a few at a time.
    pub const SEGMENTS: usize = 1024;
    /// One request a peer, one a subscription; the asker waits for its answer.
    pub const READS: usize = 1024;
    /// Committed entries on their way to subscribers.
    pub const COMMITTED: usize = 4096;
    /// Messages to a peer. The core's window keeps fewer in flight.
    pub const TO_PEER: usize = 1024;
    /// Messages from a peer; each may hold a whole frame, so few.
    pub const FROM_PEER: usize = 64;
}

struct PeerEnds<S> {
    batcher: BatcherPeerRings,
    sender: SenderRings<S>,
    receiver: ReceiverRings<S>,
    conductor_out: RingSender<NewPeer<S>>,
    conductor_in: RingSender<NewPeer<S>>,
    closed: [RingReceiver<LinkClosed>; 2],
}

fn peer_rings<S>(peer: NodeId, wake: &impl Fn(AgentRole) -> WakeHandle, counters: &Counters) -> PeerEnds<S> {
    let stalls = |name| counters.register_instance(name, peer.0);
    let sender_wake = wake(AgentRole::PeerSender(peer));
    let receiver_wake = wake(AgentRole::AckReceiver(peer));
    let (to_sender, from_batcher) =
        ring(capacity::TO_PEER, sender_wake.clone(), stalls("ring_stalls_to_peer_sender"));
    let (sender_to_batcher, from_sender) =
        ring(capacity::NOTICES, wake(AgentRole::Batcher), stalls("ring_stalls_link_states"));
    let (receiver_to_batcher, from_receiver) =
        ring(capacity::FROM_PEER, wake(AgentRole::Batcher), stalls("ring_stalls_peer_messages"));
    let (conductor_out, sender_from_conductor) =
        ring(capacity::NOTICES, sender_wake, stalls("ring_stalls_outbound_streams"));
    let (conductor_in, receiver_from_conductor) =
        ring(capacity::NOTICES, receiver_wake, stalls("ring_stalls_inbound_streams"));
    let (sender_closed, closed_out) =
        ring(capacity::NOTICES, wake(AgentRole::Conductor), stalls("ring_stalls_outbound_closed"));
    let (receiver_closed, closed_in) =
        ring(capacity::NOTICES, wake(AgentRole::Conductor), stalls("ring_stalls_inbound_closed"));
    PeerEnds {
        batcher: BatcherPeerRings { peer, to_sender, from_sender, from_receiver },
        sender: SenderRings {
            peer,
            from_conductor: sender_from_conductor,
            to_conductor: sender_closed,
            from_batcher,
            to_batcher: sender_to_batcher,
        },
        receiver: ReceiverRings {
            peer,
            from_conductor: receiver_from_conductor,
            to_conductor: receiver_closed,
            to_batcher: receiver_to_batcher,
        },
        conductor_out,
        conductor_in,
        closed: [closed_out, closed_in],
    }
}

/// Makes all rings of a node with these peers. `wake` gives the handle that wakes the thread of a role;
/// stalls are counted in `counters`.
#[must_use]
#[allow(
    clippy::too_many_lines,
    reason = "a list of rings, one after the other; splitting it would hide the picture"
)]
pub fn make_rings<S, F>(
    peers: &[NodeId],
    wake: impl Fn(AgentRole) -> WakeHandle,
    counters: &Counters,
) -> NodeRings<S, F> {
    let stalls = |name| counters.register(name);
    let gauge = ConnectionGauge::default();
    let commit_tail = CommitTail::default();
    let batcher_wake = wake(AgentRole::Batcher);
    let (clients_out, clients_in) =
        ring(capacity::CONNECTIONS, wake(AgentRole::Dispatcher), stalls("ring_stalls_clients"));
    let (subscribers_out, subscribers_in) =
        ring(capacity::CONNECTIONS, wake(AgentRole::Delivery), stalls("ring_stalls_subscribers"));
    let (pins_out, pins_in) = ring(capacity::NOTICES, batcher_wake.clone(), stalls("ring_stalls_pins"));
    let (decided_out, decided_in) =
        ring(capacity::NOTICES, wake(AgentRole::Conductor), stalls("ring_stalls_pin_decisions"));
    let (requests_out, requests_in) =
        ring(capacity::REQUESTS, batcher_wake.clone(), stalls("ring_stalls_requests"));
    let (replies_out, replies_in) =
        ring(capacity::REPLIES, wake(AgentRole::Dispatcher), stalls("ring_stalls_replies"));
    let (log_out, log_in) =
        ring(capacity::LOG_COMMANDS, wake(AgentRole::LogWriter), stalls("ring_stalls_log_commands"));
    let (events_out, events_in) =
        ring(capacity::LOG_EVENTS, batcher_wake.clone(), stalls("ring_stalls_log_events"));
    let (catalog_out, catalog_in) =
        ring(capacity::SEGMENTS, wake(AgentRole::Reader), stalls("ring_stalls_segments"));
    let (catch_up_out, catch_up_in) =
        ring(capacity::READS, wake(AgentRole::Reader), stalls("ring_stalls_catch_up_requests"));
    let (caught_out, caught_in) = ring(capacity::READS, batcher_wake, stalls("ring_stalls_catch_up_replies"));
    let (cold_out, cold_in) =
        ring(capacity::READS, wake(AgentRole::Reader), stalls("ring_stalls_cold_requests"));
    let (cold_reply_out, cold_reply_in) =
        ring(capacity::READS, wake(AgentRole::Delivery), stalls("ring_stalls_cold_replies"));
    let (committed_out, committed_in) =
        ring(capacity::COMMITTED, wake(AgentRole::Delivery), stalls("ring_stalls_committed"));

    let mut conductor = ConductorRings {
        to_dispatcher: clients_out,
        to_delivery: subscribers_out,
        to_senders: Vec::new(),
        to_receivers: Vec::new(),
        from_links: Vec::new(),
        to_batcher: pins_out,
        from_batcher: decided_in,
        gauge: gauge.clone(),
    };
    let (mut batcher_peers, mut senders, mut receivers) = (Vec::new(), Vec::new(), Vec::new());
    for peer in peers {
        let ends = peer_rings(*peer, &wake, counters);
        batcher_peers.push(ends.batcher);
        senders.push(ends.sender);
        receivers.push(ends.receiver);
        conductor.to_senders.push((*peer, ends.conductor_out));
        conductor.to_receivers.push((*peer, ends.conductor_in));
        conductor.from_links.extend(ends.closed);
    }
    NodeRings {
        conductor,
        dispatcher: DispatcherRings {
            from_conductor: clients_in,
            to_batcher: requests_out,
            from_batcher: replies_in,
            gauge: gauge.clone(),
        },
        batcher: BatcherRings {
            from_conductor: pins_in,
            to_conductor: decided_out,
            from_dispatcher: requests_in,
            to_dispatcher: replies_out,
            to_writer: log_out,
            from_writer: events_in,
            to_reader: catch_up_out,
            from_reader: caught_in,
            to_delivery: committed_out,
            commit_tail: commit_tail.clone(),
            peers: batcher_peers,
        },
        log_writer: LogWriterRings {
            from_batcher: log_in,
            to_batcher: events_out,
            to_reader: catalog_out,
            commit_tail: commit_tail.clone(),
        },
        reader: ReaderRings {
            from_writer: catalog_in,
            from_batcher: catch_up_in,
            to_batcher: caught_out,
            from_delivery: cold_in,
            to_delivery: cold_reply_out,
        },
        delivery: DeliveryRings {
            from_conductor: subscribers_in,
            from_batcher: committed_in,
            to_reader: cold_out,
            from_reader: cold_reply_in,
            commit_tail,
            gauge,
        },
        senders,
        receivers,
    }
}
