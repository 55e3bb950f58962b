//! What a hello must say to be let in.

use super::ConductorSettings;
use crate::agent::batcher::{Pins, way_back};
use crate::agent::commands::PeerIdentity;
use crate::base::ids::{ClusterId, Incarnation, NodeId};
use crate::base::planted::{Bug, is_planted};
use crate::protocol::frame::{Agreed, ProtocolOffer, RefuseCode, negotiate};
use crate::protocol::peer::{KnownPeer, PeerExpectation, PeerHello};

/// Why somebody is not let in.
pub(super) type Refusal = (RefuseCode, String);

/// Checks a peer's hello against what this node knows.
pub(super) fn check_peer(
    settings: &ConductorSettings,
    pins: &Pins,
    hello: &PeerHello,
) -> Result<Agreed, Refusal> {
    let expectation = PeerExpectation {
        offer: ProtocolOffer::OURS,
        cluster_id: settings.cluster_id,
        node_id: settings.node_id,
        group: settings.group,
        durability: settings.durability,
        cluster_version: settings.cluster_version,
    };
    let has_address = settings.peers.iter().any(|(peer, _)| *peer == hello.from);
    let known = if has_address { known_peer(settings, pins, hello.from) } else { KnownPeer::Unknown };
    let identity =
        PeerIdentity { incarnation: hello.incarnation, configuration_index: hello.configuration_index };
    let known =
        if knows_better(settings, identity, known) { KnownPeer::Pinned(hello.incarnation) } else { known };
    expectation.check(hello, known).map_err(|code| (code, explain(settings, hello, code)))
}

/// As which formatting of its disk a node is let in: the one that the configuration names; else the one that was met
/// first.
pub(super) fn known_peer(settings: &ConductorSettings, pins: &Pins, peer: NodeId) -> KnownPeer {
    match settings.members.iter().find(|member| member.node_id == peer).map(|member| member.incarnation) {
        None => KnownPeer::Unknown,
        Some(Incarnation(0)) => {
            pins.get(&peer).map_or(KnownPeer::Unpinned, |pinned| KnownPeer::Pinned(*pinned))
        }
        Some(named) => KnownPeer::Pinned(named),
    }
}

/// Whether another formatting than this node knows may be what the cluster knows by now: it has seen a later
/// configuration. It is let in for the log's sake, which will tell; the batcher takes nothing else from it. A disk that was
/// just formatted has only seen the first configuration of all.
pub(super) fn knows_better(settings: &ConductorSettings, identity: PeerIdentity, known: KnownPeer) -> bool {
    if is_planted(Bug::AnyFormattingCounts) && matches!(known, KnownPeer::Pinned(_)) {
        return true;
    }
    matches!(known, KnownPeer::Pinned(pinned) if pinned != identity.incarnation)
        && identity.configuration_index > settings.configuration_index
}

/// What the refused one should do about it.
fn explain(settings: &ConductorSettings, hello: &PeerHello, code: RefuseCode) -> String {
    let (node, from) = (settings.node_id, hello.from);
    match code {
        RefuseCode::WrongCluster => {
            format!("node {node} belongs to cluster {}, not yours", settings.cluster_id)
        }
        RefuseCode::WrongNode => {
            format!("this is node {node}, you dialled {}; check the `nodes` list", hello.to)
        }
        RefuseCode::UnknownGroup => "this node has no such group".to_owned(),
        RefuseCode::UnknownMember => format!("node {from} is no member of this cluster"),
        RefuseCode::IncarnationMismatch => format!(
            "node {from}'s data directory is not the one that the cluster knows; {}",
            way_back(&settings.members, from)
        ),
        RefuseCode::DurabilityMismatch => format!(
            "the cluster's durability is '{}'; set log.durability of node {from} to it",
            settings.durability.as_str()
        ),
        RefuseCode::ClusterVersionMismatch => {
            format!("the cluster's version is {}, yours {}", settings.cluster_version, hello.cluster_version)
        }
        RefuseCode::ProtocolRange => "no protocol version in common; upgrade the older node".to_owned(),
        _ => "not now".to_owned(),
    }
}

/// Only the named or pinned formatting of a peer's disk counts (PITFALLS 48).
pub(super) fn check_incarnation(
    settings: &ConductorSettings,
    pins: &Pins,
    peer: NodeId,
    identity: PeerIdentity,
) -> Result<(), Refusal> {
    let (known, incarnation) = (known_peer(settings, pins, peer), identity.incarnation);
    match known {
        KnownPeer::Pinned(_) if knows_better(settings, identity, known) => Ok(()),
        KnownPeer::Pinned(known) if known != incarnation => {
            let text = format!(
                "node {peer}'s data directory was formatted anew (incarnation {incarnation}, known {known}); {}",
                way_back(&settings.members, peer)
            );
            Err((RefuseCode::IncarnationMismatch, text))
        }
        KnownPeer::Unknown => {
            Err((RefuseCode::UnknownMember, format!("node {peer} is no member of this cluster")))
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
    negotiate(ProtocolOffer::OURS, offer).ok_or_else(|| {
        (RefuseCode::ProtocolRange, "no protocol version in common; upgrade the client".to_owned())
    })
}
