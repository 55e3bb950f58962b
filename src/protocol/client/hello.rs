//! The client's handshake.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{ClusterId, NodeId, Term};
use crate::base::limits::NODES_MAX;
use crate::entry::Durability;

use super::super::frame::{
    Fields, ProtocolError, ProtocolOffer, RefuseCode, TEXT_BYTES_MAX, put_offer, put_text, put_text_clipped,
    wire_enum,
};
use super::ADDRESS_BYTES_MAX;

/// First eight bytes of a client's hello, as a little-endian number: `TERCETC1`.
pub const CLIENT_MAGIC: u64 = u64::from_le_bytes(*b"TERCETC1");

/// Longest name that a client gives itself; longer ones are shortened.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;

wire_enum! {
    /// What a connection is for: the node hands it to the agent that serves it.
    Purpose {
        /// Opens producers and publishes.
        Publisher = 1,
        /// Subscribes.
        Subscriber = 2,
        /// Asks questions only.
        Control = 3,
    }
}

/// First frame of a client's connection. Its layout is the same in every protocol version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientHello<'a> {
    /// What the client speaks.
    pub offer: ProtocolOffer,
    /// What the connection is for.
    pub purpose: Purpose,
    /// The cluster that the client expects; zero: any.
    pub cluster_id: ClusterId,
    /// For the node's logs; at most 64 bytes.
    pub name: &'a str,
}

/// The node's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientHelloReply<'a> {
    /// Go ahead.
    Accept(ClientHelloAccept<'a>),
    /// No; the node closes.
    Refuse {
        /// Why.
        code: RefuseCode,
        /// For people.
        text: &'a str,
    },
}

/// What a client learns with its welcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientHelloAccept<'a> {
    /// The protocol that both speak from here on.
    pub protocol: u16,
    /// The features that both understand.
    pub features: u64,
    /// The node's cluster.
    pub cluster_id: ClusterId,
    /// The node.
    pub node_id: NodeId,
    /// The leader as far as the node knows.
    pub leader_id: Option<NodeId>,
    /// The node's term.
    pub term: Term,
    /// What an acknowledgement of this cluster means.
    pub durability: Durability,
    /// Largest encoded event that the node takes.
    pub event_bytes_max: u32,
    /// Most unacknowledged events on this connection. Every event answered gives its credit back.
    pub credit_events: u32,
    /// Most unacknowledged encoded event bytes on this connection. With nothing in flight one event may always be
    /// sent, whatever its size.
    pub credit_bytes: u32,
    /// Where clients reach each node, at most 7, in the order of the ids.
    pub members: Vec<MemberAddress<'a>>,
}

/// A node's client address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberAddress<'a> {
    /// The node.
    pub node_id: NodeId,
    /// `host:port`, at most 262 bytes.
    pub address: &'a str,
}

impl<'a> ClientHello<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        out.put_u64(CLIENT_MAGIC);
        put_offer(out, &self.offer);
        out.put_u128(self.cluster_id.0);
        out.put_u8(self.purpose.code());
        put_text_clipped(out, self.name, CLIENT_NAME_BYTES_MAX);
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        f.magic(CLIENT_MAGIC)?;
        Ok(Self {
            offer: f.offer()?,
            cluster_id: ClusterId(f.u128("cluster_id")?),
            purpose: f.code("purpose", Purpose::from_code)?,
            name: f.text("name", CLIENT_NAME_BYTES_MAX)?,
        })
    }
}

const ACCEPT: u8 = 1;
const REFUSE: u8 = 2;

impl<'a> ClientHelloReply<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        match self {
            Self::Accept(accept) => {
                out.put_u8(ACCEPT);
                accept.put(out);
            }
            Self::Refuse { code, text } => {
                out.put_u8(REFUSE);
                out.put_u8(code.code());
                put_text_clipped(out, text, TEXT_BYTES_MAX);
            }
        }
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        match f.u8("outcome")? {
            ACCEPT => ClientHelloAccept::read(f).map(Self::Accept),
            REFUSE => Ok(Self::Refuse {
                code: f.code("code", RefuseCode::from_code)?,
                text: f.text("text", TEXT_BYTES_MAX)?,
            }),
            other => Err(f.bad("outcome", u64::from(other))),
        }
    }
}

impl<'a> ClientHelloAccept<'a> {
    fn put(&self, out: &mut impl ByteWriter) {
        assert!(self.members.len() <= NODES_MAX, "more members than a cluster can have");
        out.put_u16(self.protocol);
        out.put_u64(self.features);
        out.put_u128(self.cluster_id.0);
        out.put_u16(self.node_id.0);
        out.put_u16(NodeId::to_wire(self.leader_id));
        out.put_u64(self.term.0);
        out.put_u8(self.durability.code());
        out.put_u32(self.event_bytes_max);
        out.put_u32(self.credit_events);
        out.put_u32(self.credit_bytes);
        out.put_u16(self.members.len() as u16);
        for member in &self.members {
            out.put_u16(member.node_id.0);
            put_text(out, member.address, ADDRESS_BYTES_MAX);
        }
    }

    fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(Self {
            protocol: f.u16("protocol")?,
            features: f.u64("features")?,
            cluster_id: ClusterId(f.u128("cluster_id")?),
            node_id: f.node("node_id")?,
            leader_id: f.node_or_none("leader_id")?,
            term: f.term("term")?,
            durability: f.code("durability", Durability::from_code)?,
            event_bytes_max: f.u32("event_bytes_max")?,
            credit_events: f.u32("credit_events")?,
            credit_bytes: f.u32("credit_bytes")?,
            members: {
                let count = f.count("member_count", NODES_MAX)?;
                let mut members = Vec::with_capacity(count);
                for _ in 0..count {
                    let node_id = f.node("member_id")?;
                    members.push(MemberAddress {
                        node_id,
                        address: f.text("member_address", ADDRESS_BYTES_MAX)?,
                    });
                }
                members
            },
        })
    }
}
