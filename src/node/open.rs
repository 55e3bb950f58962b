//! From a data directory to everything that the batcher starts from.

use super::format::log_options;
use super::{NodeError, format};
use crate::agent::batcher::BatcherStart;
use crate::base::ids::{LogIndex, Offset};
use crate::config::Settings;
use crate::entry::{Configuration, Entry, EntryKind, EntryView};
use crate::log::{Identity, LogError, LogStore, RealDisk, Recovered};
use crate::raft::{HardState, Membership, Restored, TermRuns};
use crate::stream::Producers;

/// An opened data directory.
pub(super) struct Opened {
    pub(super) identity: Identity,
    pub(super) store: LogStore<RealDisk>,
    pub(super) start: BatcherStart,
    pub(super) cut: Option<String>,
}

/// Gathers what the state machine needs while recovery shows every entry once, in order.
struct Rebuild {
    producers: Producers,
    configuration: Option<Configuration>,
    applied_index: LogIndex,
    applied_chain: u64,
    applied_next_offset: Offset,
    suffix: Vec<Entry>,
    failure: Option<String>,
}

impl Rebuild {
    fn new() -> Self {
        Self {
            producers: Producers::new(),
            configuration: None,
            applied_index: LogIndex::ZERO,
            applied_chain: 0,
            applied_next_offset: Offset(1),
            suffix: Vec::new(),
            failure: None,
        }
    }

    /// Committed entries are applied; what lies after the commit hint waits for a leader to decide.
    fn visit(&mut self, entry: &EntryView<'_>, commit_hint: LogIndex) {
        let header = entry.header();
        if header.kind == EntryKind::Configuration {
            match entry.configuration() {
                Ok(configuration) => self.configuration = Some(configuration),
                Err(error) => self.fail(format!("the configuration at {}: {error}", header.id())),
            }
        }
        if header.index > commit_hint {
            match Entry::decode(entry.bytes()) {
                Ok(entry) => self.suffix.push(entry),
                Err(error) => self.fail(format!("the entry at {}: {error}", header.id())),
            }
            return;
        }
        if let Err(error) = self.producers.apply(entry) {
            self.fail(format!("the entry at {}: {error}", header.id()));
        }
        self.applied_index = header.index;
        self.applied_chain = entry.chain();
        self.applied_next_offset = header.next_offset();
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }
}

/// Locks and recovers the directory, and rebuilds the producers' table.
pub(super) fn open(settings: &Settings) -> Result<Opened, NodeError> {
    let identity = Identity::read(&RealDisk, &settings.data_dir).map_err(LogError::from)?;
    check_identity(settings, &identity)?;
    let mut rebuild = Rebuild::new();
    let options = log_options(settings)?;
    let (store, recovered) = LogStore::open(RealDisk, &settings.data_dir, options, &mut |entry, commit_hint| {
        rebuild.visit(entry, commit_hint);
    })?;
    if let Some(failure) = rebuild.failure {
        return Err(NodeError::Unusable(format!("{}: {failure}", settings.data_dir.display())));
    }
    let configuration = rebuild.configuration.take().ok_or_else(|| {
        NodeError::Unusable(format!("{}: the log does not begin with a configuration", settings.data_dir.display()))
    })?;
    check_configuration(settings, &configuration)?;
    let cut = recovered.report.cut.as_ref().map(|cut| cut.to_string());
    let start = start_of(recovered, rebuild, configuration)?;
    Ok(Opened { identity, store, start, cut })
}

fn start_of(recovered: Recovered, rebuild: Rebuild, configuration: Configuration) -> Result<BatcherStart, NodeError> {
    let hard_state = HardState {
        term: recovered.hard_state.term,
        voted_for: recovered.hard_state.voted_for,
        claimed_tail: recovered.claimed_tail,
    };
    let voters = configuration.voters.iter().map(|member| member.node_id).collect();
    let learners = configuration.learners.iter().map(|member| member.node_id).collect();
    let membership =
        Membership::new(voters, learners).map_err(|error| NodeError::Unusable(format!("the configuration: {error}")))?;
    let log = TermRuns::from_runs(recovered.runs, recovered.last.index)
        .map_err(|error| NodeError::Unusable(format!("the terms of the log: {error}")))?;
    Ok(BatcherStart {
        restored: Restored { hard_state, membership, log, commit_hint: recovered.commit_hint },
        configuration,
        hard_state: recovered.hard_state,
        producers: rebuild.producers,
        applied_index: rebuild.applied_index,
        applied_chain: rebuild.applied_chain,
        applied_next_offset: rebuild.applied_next_offset,
        suffix: rebuild.suffix,
        last_log_time_ns: recovered.last_log_time_ns,
        generation: 0,
    })
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
