//! A node that cannot start because entries below its watermark are damaged: the parts of one that asks for them.

use super::format::{first_entry, log_options};
use super::{NodeError, conductor, seed, threading, welcome};
use crate::agent::mending::MendingSettings;
use crate::base::ids::LogIndex;
use crate::config::Settings;
use crate::log::{Identity, LogError, Mender, RealDisk};
use crate::runtime::{Listeners, MendingParts};

/// Holds the directory, if what keeps it from being opened is damage to entries, or to heads of segments (which are
/// rebuilt by now).
pub(super) fn mender(settings: &Settings, error: &NodeError) -> Result<Option<Mender<RealDisk>>, NodeError> {
    if !matches!(error, NodeError::Log(LogError::Corrupt(_) | LogError::MissingSegment { .. })) {
        return Ok(None);
    }
    match Mender::open(RealDisk, &settings.data_dir, log_options(settings)?) {
        Ok(mender) => Ok(Some(mender)),
        // Other damage than that: the first error says what it is.
        Err(LogError::Corrupt(_) | LogError::MissingSegment { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn parts(
    settings: &Settings,
    mender: Mender<RealDisk>,
    listeners: Listeners,
) -> Result<MendingParts, NodeError> {
    let identity = Identity::read(&RealDisk, &settings.data_dir).map_err(LogError::from)?;
    // The log's own configuration may be what is damaged; a settings file that says otherwise is refused by the peers.
    let first = first_entry(settings)?;
    let configuration = first.configuration().map_err(|error| NodeError::Unusable(error.to_string()))?;
    let mending = MendingSettings {
        node_id: settings.node_id,
        quorum: settings.nodes.len() / 2 + 1,
        pins: mender.hard_state().pins.clone(),
        term: mender.hard_state().term,
        durability: configuration.durability,
        version: env!("CARGO_PKG_VERSION"),
    };
    Ok(MendingParts {
        mending,
        mender,
        conductor: conductor(settings, &identity, (LogIndex(1), &configuration), seed(&identity)),
        welcome: welcome(settings, &identity, &configuration),
        listeners,
        threading: threading(settings),
    })
}
