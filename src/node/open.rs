//! Opening a data directory under settings: whose it is, and whether the settings agree with the cluster's.

use super::format::log_options;
use super::{NodeError, format};
use crate::agent::boot::{BootError, Booted, boot_as_told};
use crate::config::Settings;
use crate::entry::Configuration;
use crate::log::{DiskErrorKind, Identity, LogError, RealDisk};

/// Checks, locks and recovers the directory; `reads_all` of it where damage was found in it.
pub(super) fn open(
    settings: &Settings,
    accept_loss: bool,
    reads_all: bool,
) -> Result<Booted<RealDisk>, NodeError> {
    #[cfg(feature = "faults")]
    crate::log::faults::roll_back(&settings.data_dir)
        .map_err(|error| NodeError::Unusable(format!("cannot roll back unsynced writes: {error}")))?;
    let identity = Identity::read(&RealDisk, &settings.data_dir).map_err(LogError::from)?;
    check_identity(settings, &identity)?;
    let options = log_options(settings)?;
    let options = if reads_all { options.reading_all() } else { options };
    let booted =
        boot_as_told(RealDisk, &settings.data_dir, options, accept_loss).map_err(|error| match error {
            BootError::Log(LogError::Disk(error)) if error.kind() == DiskErrorKind::Locked => {
                NodeError::Mismatch(format!(
                    "{} is in use by another process; stop that node first",
                    settings.data_dir.display()
                ))
            }
            error => error.into(),
        })?;
    check_configuration(settings, booted.start.configurations.newest())?;
    Ok(booted)
}

fn check_identity(settings: &Settings, identity: &Identity) -> Result<(), NodeError> {
    let dir = settings.data_dir.display();
    if identity.cluster_id != settings.cluster_id() {
        return Err(NodeError::Mismatch(format!(
            "{dir} belongs to cluster {}, the settings (cluster, token, nodes) make {}; use the right directory or \
             settings",
            identity.cluster_id,
            settings.cluster_id()
        )));
    }
    if identity.node_id != settings.node_id {
        return Err(NodeError::Mismatch(format!(
            "{dir} belongs to node {}, the settings say node_id {}; use the right directory or --node-id",
            identity.node_id, settings.node_id
        )));
    }
    Ok(())
}

/// Cluster-wide properties come from the log alone; a settings file that says otherwise is an error where it would
/// break a promise, and a warning where it only misleads.
fn check_configuration(settings: &Settings, configuration: &Configuration) -> Result<(), NodeError> {
    if configuration.durability != settings.log.durability {
        return Err(NodeError::Mismatch(format!(
            "log.durability is '{}', but the cluster was formatted with '{}'; set it to that",
            settings.log.durability.as_str(),
            configuration.durability.as_str()
        )));
    }
    let first = format::first_entry(settings)?;
    let wanted = first.configuration().map_err(|error| NodeError::Unusable(error.to_string()))?;
    if wanted.producers_window_ns != configuration.producers_window_ns
        || wanted.producers_max != configuration.producers_max
    {
        tracing::warn!(
            "[producers] in the settings differs from the cluster's configuration; the cluster's values hold"
        );
    }
    Ok(())
}
