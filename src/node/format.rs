//! `tercet format`: a new node's identity and first entry.

use std::path::PathBuf;

use super::{GROUP, NodeError};
use crate::base::ids::{ClusterId, EntryId, Incarnation, LogIndex, NodeId, Offset, Term};
use crate::config::Settings;
use crate::entry::{Entry, SealContext, encode_configuration};
use crate::log::{self, Identity, LogOptions, RealDisk};

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Formatted {
    /// The cluster, the same for all its nodes.
    pub cluster_id: ClusterId,
    /// The node.
    pub node_id: NodeId,
    /// This formatting; random.
    pub incarnation: Incarnation,
    /// Where.
    pub data_dir: PathBuf,
}

/// The first entry of every node's log: byte-identical for all nodes of a cluster, since everything in it follows
/// from the settings that they share (rule 13).
pub(super) fn first_entry(settings: &Settings) -> Result<Entry, NodeError> {
    let id = EntryId::new(Term::ZERO, LogIndex(1));
    let context = SealContext {
        term: id.term,
        index: id.index,
        prev_chain: 0,
        base_offset: Offset(1),
        log_time_ns: 0,
        timestamp_unix_ns: 0,
    };
    encode_configuration(&context, &settings.first_configuration())
        .map_err(|error| NodeError::Unusable(error.to_string()))
}

pub(super) fn log_options(settings: &Settings) -> Result<LogOptions, NodeError> {
    let options = LogOptions::new(GROUP, settings.log.segment_bytes);
    let options = options.map_err(|error| NodeError::Unusable(error.to_string()))?;
    Ok(options.with_recycling(settings.log.recycles_segments))
}

/// Formats the node's (new or empty) data directory.
///
/// # Errors
/// The directory holds anything, or the disk fails.
pub fn format(settings: &Settings) -> Result<Formatted, NodeError> {
    let first = first_entry(settings)?;
    let mut random = [0u8; 16];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    if filled.is_err() || u128::from_le_bytes(random) == 0 {
        return Err(NodeError::Unusable("the system gives no random numbers".to_owned()));
    }
    let identity = Identity {
        cluster_id: settings.cluster_id(),
        node_id: settings.node_id,
        incarnation: Incarnation(u128::from_le_bytes(random)),
    };
    log::format(&RealDisk, &settings.data_dir, identity, &first, &log_options(settings)?)?;
    Ok(Formatted {
        cluster_id: identity.cluster_id,
        node_id: identity.node_id,
        incarnation: identity.incarnation,
        data_dir: settings.data_dir.clone(),
    })
}
