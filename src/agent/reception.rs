//! How clients are received, by the dispatcher and by delivery alike: the welcome after the handshake, and the news of
//! who leads.

use super::commands::NewClient;
use super::connection::Connection;
use crate::base::ids::{ClusterId, GroupId, NodeId, Term};
use crate::base::limits::{EVENT_BYTES_MAX, FRAME_BYTES_MAX};
use crate::base::net::{Net, NetStream, Token};
use crate::entry::Durability;
use crate::protocol::client::{ClientHelloAccept, ClientHelloReply, MemberAddress, ServerMessage};

/// Usual and largest size of a client's inbox.
const CLIENT_INBOX_BYTES: (usize, usize) = (64 << 10, FRAME_BYTES_MAX);

/// What a new client is told about the node.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// This cluster.
    pub cluster_id: ClusterId,
    /// This node.
    pub node_id: NodeId,
    /// The group served.
    pub group: GroupId,
    /// What an acknowledgement means here.
    pub durability: Durability,
    /// Where the members listen for clients.
    pub members: Vec<(NodeId, String)>,
}

/// What one client may have in flight.
#[derive(Clone, Copy, Debug)]
pub struct Credits {
    /// Unacknowledged events.
    pub events: u32,
    /// Unacknowledged bytes (or one event that is larger).
    pub bytes: u32,
}

impl Default for Credits {
    fn default() -> Self {
        Self { events: 16_384, bytes: 8 << 20 }
    }
}

/// The welcome, and who leads as far as this agent knows.
pub(super) struct Reception {
    welcome: Welcome,
    credits: Credits,
    leader: Option<NodeId>,
    term: Term,
}

impl Reception {
    pub(super) const fn new(welcome: Welcome, credits: Credits) -> Self {
        Self { welcome, credits, leader: None, term: Term::ZERO }
    }

    pub(super) const fn group(&self) -> GroupId {
        self.welcome.group
    }

    pub(super) const fn durability(&self) -> Durability {
        self.welcome.durability
    }

    pub(super) const fn term(&self) -> Term {
        self.term
    }

    /// The leader, if it is known and another node than this one.
    pub(super) fn other_leader(&self) -> Option<NodeId> {
        self.leader.filter(|leader| *leader != self.welcome.node_id)
    }

    /// Client address of a member; empty when unknown.
    pub(super) fn address_of(&self, node: Option<NodeId>) -> &str {
        let member = node.and_then(|id| self.welcome.members.iter().find(|(member, _)| *member == id));
        member.map_or("", |(_, address)| address)
    }

    /// Takes a client over from the conductor: registers its socket under `token` and queues the welcome. `None`: the
    /// socket could not be registered and is closed.
    pub(super) fn admit<N: Net>(
        &self,
        net: &mut N,
        token: Token,
        new: NewClient<N::Stream>,
    ) -> Option<Connection<N::Stream>> {
        let mut connection = Connection::new(new.stream, CLIENT_INBOX_BYTES, &new.leftover);
        if net.register(&mut connection.stream, token).is_err() {
            connection.stream.shutdown();
            return None;
        }
        let members = self
            .welcome
            .members
            .iter()
            .map(|(node_id, address)| MemberAddress { node_id: *node_id, address })
            .collect();
        let accept = ClientHelloAccept {
            protocol: new.protocol,
            features: new.features,
            cluster_id: self.welcome.cluster_id,
            node_id: self.welcome.node_id,
            leader_id: self.leader,
            term: self.term,
            durability: self.welcome.durability,
            event_bytes_max: EVENT_BYTES_MAX as u32,
            credit_events: self.credits.events,
            credit_bytes: self.credits.bytes,
            members,
        };
        let reply = ServerMessage::HelloReply(ClientHelloReply::Accept(accept));
        connection.outbox.push_with(|out| reply.encode(self.welcome.group, out));
        Some(connection)
    }

    /// Learns who leads. When that is news, returns the frame that tells clients.
    pub(super) fn learn(&mut self, term: Term, leader: Option<NodeId>) -> Option<Vec<u8>> {
        if term < self.term || (term == self.term && leader == self.leader) {
            return None;
        }
        (self.term, self.leader) = (term, leader);
        let news = ServerMessage::LeaderNews { term, leader_id: leader, address: self.address_of(leader) };
        let mut frame = Vec::new();
        news.encode(self.welcome.group, &mut frame);
        Some(frame)
    }
}
