//! The peers' handshake: who dials whom, and whether the two belong together.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{ClusterId, GroupId, Incarnation, LogIndex, NodeId};
use crate::entry::Durability;

use super::super::frame::{
    Agreed, Fields, FrameWriter, ProtocolError, ProtocolOffer, RefuseCode, TEXT_BYTES_MAX, kind, negotiate,
    put_offer, put_text_clipped,
};

/// First eight bytes of a peer's hello, as a little-endian number: `TERCETP1`.
pub const PEER_MAGIC: u64 = u64::from_le_bytes(*b"TERCETP1");

/// First frame of a peer stream, from its dialler. Its layout is the same in every protocol version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerHello {
    /// What the dialler speaks.
    pub offer: ProtocolOffer,
    /// The dialler's cluster.
    pub cluster_id: ClusterId,
    /// The dialler.
    pub from: NodeId,
    /// The node that the dialler means to reach.
    pub to: NodeId,
    /// The dialler's data directory; never zero.
    pub incarnation: Incarnation,
    /// The Raft group; travels in the frame's header.
    pub group: GroupId,
    /// What the dialler is set to.
    pub durability: Durability,
    /// From the dialler's configuration entry.
    pub cluster_version: u32,
    /// The dialler's configuration entry in force: who knows a later one knows better who is meant.
    pub configuration_index: LogIndex,
}

/// The answer to a hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerHelloReply<'a> {
    /// The stream stands; Raft messages of the dialler may follow.
    Accept {
        /// The protocol that both speak from here on.
        protocol: u16,
        /// The features that both understand.
        features: u64,
        /// The node that answers.
        node_id: NodeId,
        /// Its data directory, for the dialler to pin or to compare.
        incarnation: Incarnation,
        /// Its configuration entry in force.
        configuration_index: LogIndex,
    },
    /// No; the answering node closes.
    Refuse {
        /// Why.
        code: RefuseCode,
        /// For people; at most 200 bytes.
        text: &'a str,
    },
}

/// What a node knows of the one that dials it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KnownPeer {
    /// No member of the configuration.
    Unknown,
    /// A member whose incarnation is not pinned yet: this contact pins it.
    Unpinned,
    /// A member with a pinned incarnation.
    Pinned(Incarnation),
}

/// What a node compares a hello with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerExpectation {
    /// What this node speaks.
    pub offer: ProtocolOffer,
    /// This node's cluster.
    pub cluster_id: ClusterId,
    /// This node.
    pub node_id: NodeId,
    /// The group that this node has.
    pub group: GroupId,
    /// The cluster's durability.
    pub durability: Durability,
    /// The cluster's version.
    pub cluster_version: u32,
}

impl PeerExpectation {
    /// Compares a hello with what this node is; `known` is what it knows of `hello.from`. The first mismatch decides,
    /// in this order: cluster, node, group, protocol, membership, incarnation, cluster version, durability (so that
    /// another cluster's traffic learns nothing but that).
    ///
    /// # Errors
    /// The code to refuse with.
    pub fn check(&self, hello: &PeerHello, known: KnownPeer) -> Result<Agreed, RefuseCode> {
        if hello.cluster_id != self.cluster_id {
            return Err(RefuseCode::WrongCluster);
        }
        if hello.to != self.node_id {
            return Err(RefuseCode::WrongNode);
        }
        if hello.group != self.group {
            return Err(RefuseCode::UnknownGroup);
        }
        let agreed = negotiate(self.offer, hello.offer).ok_or(RefuseCode::ProtocolRange)?;
        match known {
            KnownPeer::Unknown => return Err(RefuseCode::UnknownMember),
            // A node has no stream to itself: that is an address that is wrong or a node id that is used twice.
            _ if hello.from == self.node_id => return Err(RefuseCode::WrongNode),
            KnownPeer::Pinned(pinned) if pinned != hello.incarnation => {
                return Err(RefuseCode::IncarnationMismatch);
            }
            KnownPeer::Pinned(_) | KnownPeer::Unpinned => {}
        }
        if hello.cluster_version != self.cluster_version {
            return Err(RefuseCode::ClusterVersionMismatch);
        }
        if hello.durability != self.durability {
            return Err(RefuseCode::DurabilityMismatch);
        }
        Ok(agreed)
    }
}

impl PeerHello {
    /// Appends the hello as one frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut frame = FrameWriter::begin(out, kind::PEER_HELLO, self.group);
        frame.put_u64(PEER_MAGIC);
        put_offer(&mut frame, &self.offer);
        frame.put_u128(self.cluster_id.0);
        frame.put_u16(self.from.0);
        frame.put_u16(self.to.0);
        frame.put_u128(self.incarnation.0);
        frame.put_u8(self.durability.code());
        frame.put_u32(self.cluster_version);
        frame.put_u64(self.configuration_index.0);
        frame.finish();
    }

    pub(super) fn read(f: &mut Fields<'_>, group: GroupId) -> Result<Self, ProtocolError> {
        f.magic(PEER_MAGIC)?;
        Ok(Self {
            offer: f.offer()?,
            cluster_id: ClusterId(f.u128("cluster_id")?),
            from: f.node("from")?,
            to: f.node("to")?,
            incarnation: read_incarnation(f)?,
            group,
            durability: f.code("durability", Durability::from_code)?,
            cluster_version: f.u32("cluster_version")?,
            configuration_index: f.index("configuration_index")?,
        })
    }
}

fn read_incarnation(f: &mut Fields<'_>) -> Result<Incarnation, ProtocolError> {
    match f.u128("incarnation")? {
        0 => Err(f.bad("incarnation", 0)),
        incarnation => Ok(Incarnation(incarnation)),
    }
}

const ACCEPT: u8 = 1;
const REFUSE: u8 = 2;

impl<'a> PeerHelloReply<'a> {
    /// Appends the reply as one frame.
    pub fn encode(&self, group: GroupId, out: &mut Vec<u8>) {
        let mut frame = FrameWriter::begin(out, kind::PEER_HELLO_REPLY, group);
        match self {
            Self::Accept { protocol, features, node_id, incarnation, configuration_index } => {
                frame.put_u8(ACCEPT);
                frame.put_u16(*protocol);
                frame.put_u64(*features);
                frame.put_u16(node_id.0);
                frame.put_u128(incarnation.0);
                frame.put_u64(configuration_index.0);
            }
            Self::Refuse { code, text } => {
                frame.put_u8(REFUSE);
                frame.put_u8(code.code());
                put_text_clipped(&mut frame, text, TEXT_BYTES_MAX);
            }
        }
        frame.finish();
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        match f.u8("outcome")? {
            ACCEPT => Ok(Self::Accept {
                protocol: f.u16("protocol")?,
                features: f.u64("features")?,
                node_id: f.node("node_id")?,
                incarnation: read_incarnation(f)?,
                configuration_index: f.index("configuration_index")?,
            }),
            REFUSE => Ok(Self::Refuse {
                code: f.code("code", RefuseCode::from_code)?,
                text: f.text("text", TEXT_BYTES_MAX)?,
            }),
            other => Err(f.bad("outcome", u64::from(other))),
        }
    }
}
