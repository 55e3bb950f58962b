//! What both handshakes share: protocol ranges, feature bits, reasons to refuse.

use super::wire_enum;
use crate::base::clock::NS_PER_S;

/// Oldest protocol that this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest protocol that this build speaks.
pub const PROTOCOL_MAX: u16 = 1;
/// Feature bits that this build knows; none is defined yet.
pub const FEATURES_KNOWN: u64 = 0;
/// Largest frame that is taken from a connection before its handshake is done.
pub const HELLO_FRAME_BYTES_MAX: usize = 4096;
/// How long a connection may take from being accepted (or dialled) to the end of its handshake.
pub const HANDSHAKE_TIMEOUT_NS: u64 = 2 * NS_PER_S;
/// Longest text for people in any message; longer ones are shortened when they are encoded.
pub const TEXT_BYTES_MAX: usize = 200;

/// What one end can speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolOffer {
    /// Oldest protocol, inclusive.
    pub protocol_min: u16,
    /// Newest protocol, inclusive; at least `protocol_min`.
    pub protocol_max: u16,
    /// Optional behaviour that this end understands, one bit each.
    pub features: u64,
}

impl ProtocolOffer {
    /// What this build can speak.
    pub const OURS: Self =
        Self { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, features: FEATURES_KNOWN };
}

/// What both ends speak from here on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The newest protocol that both speak.
    pub protocol: u16,
    /// The features that both understand.
    pub features: u64,
}

/// The newest common protocol and the common features; `None` where the ranges do not meet (rule 16).
#[must_use]
pub fn negotiate(ours: ProtocolOffer, theirs: ProtocolOffer) -> Option<Agreed> {
    let protocol = ours.protocol_max.min(theirs.protocol_max);
    let meets = protocol >= ours.protocol_min && protocol >= theirs.protocol_min;
    meets.then_some(Agreed { protocol, features: ours.features & theirs.features })
}

wire_enum! {
    /// Why a handshake was refused. The connection is closed after the refusal.
    RefuseCode {
        /// The other end belongs to another cluster: an address was reused or a list is wrong (PITFALLS 47).
        WrongCluster = 1,
        /// The dialler meant another node than the one that answered.
        WrongNode = 2,
        /// The dialler's data directory is not the one that was pinned: wiped and formatted again (PITFALLS 48).
        IncarnationMismatch = 3,
        /// The ends are set to different durabilities; it is a property of the cluster.
        DurabilityMismatch = 4,
        /// No common protocol.
        ProtocolRange = 5,
        /// The dialler is no member of the cluster.
        UnknownMember = 6,
        /// The hello could not be read.
        Malformed = 7,
        /// The dialler's cluster version is not ours.
        ClusterVersionMismatch = 8,
        /// This node has no such group.
        UnknownGroup = 9,
        /// Too many connections.
        TooManyConnections = 10,
        /// The node is shutting down.
        Draining = 11,
        /// The node is still recovering.
        NotReady = 12,
    }
}

impl RefuseCode {
    /// True where trying again later may help, false where somebody must change a setting first.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::TooManyConnections | Self::Draining | Self::NotReady)
    }
}
