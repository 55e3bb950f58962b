//! What a hello must say to be let in.

use super::ConductorSettings;
use crate::agent::batcher::Pins;
use crate::base::ids::{ClusterId, Incarnation, NodeId};
use crate::protocol::frame::{Agreed, ProtocolOffer, RefuseCode, negotiate};
use crate::protocol::peer::PeerHello;

/// Why somebody is not let in.
pub(super) type Refusal = (RefuseCode, String);

/// Checks a peer's hello against what this node knows.
pub(super) fn check_peer(
    settings: &ConductorSettings,
    pins: &Pins,
    hello: &PeerHello,
) -> Result<Agreed, Refusal> {
    if hello.cluster_id != settings.cluster_id {
        let text = format!("node {} belongs to cluster {}, not yours", settings.node_id, settings.cluster_id);
        return Err((RefuseCode::WrongCluster, text));
    }
    if hello.to != settings.node_id {
        return Err((RefuseCode::WrongNode, format!("this is node {}, not {}", settings.node_id, hello.to)));
    }
    if hello.group != settings.group {
        return Err((RefuseCode::UnknownGroup, "this node has no such group".to_owned()));
    }
    if !settings.peers.iter().any(|(peer, _)| *peer == hello.from) {
        let text = format!("node {} is no member of this cluster", hello.from);
        return Err((RefuseCode::UnknownMember, text));
    }
    if hello.durability != settings.durability {
        let text =
            format!("the cluster's durability is '{}'; set log.durability to it", settings.durability.as_str());
        return Err((RefuseCode::DurabilityMismatch, text));
    }
    if hello.cluster_version != settings.cluster_version {
        let text = format!("the cluster's version is {}, yours {}", settings.cluster_version, hello.cluster_version);
        return Err((RefuseCode::ClusterVersionMismatch, text));
    }
    check_incarnation(pins, hello.from, hello.incarnation)?;
    negotiate(ProtocolOffer::OURS, hello.offer)
        .ok_or_else(|| (RefuseCode::ProtocolRange, "no protocol version in common; upgrade the older node".to_owned()))
}

/// Only the pinned formatting of a peer's disk counts (PITFALLS 48).
pub(super) fn check_incarnation(pins: &Pins, peer: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
    match pins.get(&peer) {
        Some(pinned) if *pinned != incarnation => {
            let text = format!(
                "node {peer}'s data directory was formatted anew (incarnation {incarnation}, known {pinned}); it may \
                 come back as a learner only"
            );
            Err((RefuseCode::IncarnationMismatch, text))
        }
        _ => Ok(()),
    }
}

/// Checks a client's hello.
pub(super) fn check_client(
    settings: &ConductorSettings,
    cluster_id: ClusterId,
    offer: ProtocolOffer,
) -> Result<Agreed, Refusal> {
    if cluster_id != ClusterId(0) && cluster_id != settings.cluster_id {
        let text = format!("this node belongs to cluster {}", settings.cluster_id);
        return Err((RefuseCode::WrongCluster, text));
    }
    negotiate(ProtocolOffer::OURS, offer)
        .ok_or_else(|| (RefuseCode::ProtocolRange, "no protocol version in common; upgrade the client".to_owned()))
}
