//! From a data directory to everything that a batcher starts from: recovery, and the producers' table rebuilt from the
//! log. The same code over the real disk and the simulated one.

use std::path::Path;

use super::batcher::{Applied, BatcherStart, Configurations, memberships_of};
use crate::base::ids::{EntryId, LogIndex, Term};
use crate::base::planted::{Bug, is_planted};
use crate::entry::{Configuration, Durability, Entry, EntryKind, EntryView, LogFloor};
use crate::log::hard_state::boot_id_hash;
use crate::log::{
    Checkpoint, Disk, Identity, LogError, LogOptions, LogStore, Pulse, Recovered, RecoveryVisitor,
    StoredCheckpoint, StoredHardState,
};
use crate::raft::claim::unknown_claim;
use crate::raft::{HardState, Restored};
use crate::stream::Producers;

/// An opened data directory.
pub struct Booted<D: Disk> {
    /// Whose it is.
    pub identity: Identity,
    /// The log, ready for appending.
    pub store: LogStore<D>,
    /// What the batcher starts from.
    pub start: BatcherStart,
    /// A torn tail that was cut, in words.
    pub cut: Option<String>,
    /// What this node claimed and was told to give up.
    pub given_up: Option<EntryId>,
}

/// Why a directory could not be booted from.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Stored state contradicts itself: something was lost or damaged.
    #[error("{0}")]
    Damaged(String),
    /// The log holds what this build cannot use.
    #[error("{0}")]
    Unusable(String),
}

/// Gathers what the state machine needs while recovery shows every entry once, in order.
struct Rebuild {
    producers: Producers,
    configurations: Option<Configurations>,
    /// The entry with the committed one, for checkpoints.
    configuration_entry: Option<Entry>,
    floor: LogFloor,
    applied: Applied,
    suffix: Vec<Entry>,
    /// The last entry that the state contains, where the log does not reach that yet.
    ahead: Option<Applied>,
    failure: Option<String>,
}

impl Rebuild {
    fn new() -> Self {
        Self {
            producers: Producers::new(),
            configurations: None,
            configuration_entry: None,
            floor: LogFloor::START,
            applied: Applied::NOTHING,
            suffix: Vec::new(),
            ahead: None,
            failure: None,
        }
    }

    /// A configuration stands at `index`; that of a checkpoint may be older than the log that is left.
    fn configure(&mut self, index: LogIndex, configuration: Configuration, commit_hint: LogIndex) {
        match &mut self.configurations {
            None => self.configurations = Some(Configurations::new(index, configuration)),
            Some(configurations) => {
                configurations.push(index, configuration);
                configurations.committed(commit_hint);
            }
        }
    }

    fn configuration_entry(&mut self, entry: &EntryView<'_>, commit_hint: LogIndex) {
        let header = entry.header();
        if header.index <= commit_hint {
            self.configuration_entry = Entry::decode(entry.bytes()).ok();
        }
        match entry.configuration() {
            Ok(configuration) => self.configure(header.index, configuration, commit_hint),
            Err(error) => self.fail(format!("the configuration at {}: {error}", header.id())),
        }
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }
}

impl RecoveryVisitor for Rebuild {
    /// State is that of the checkpoint; entries behind it follow, or all that there are where it is ahead of the log.
    fn checkpoint(&mut self, stored: &StoredCheckpoint) {
        let checkpoint = &stored.checkpoint;
        match (Producers::decode_state(&checkpoint.producers), checkpoint.configuration()) {
            (Ok(producers), Ok(configuration)) if producers.applied_index() == checkpoint.id.index => {
                self.producers = producers;
                let index = checkpoint.configuration.index();
                self.configurations = Some(Configurations::new(index, configuration));
            }
            (Ok(_), Ok(_)) => {
                self.fail(format!("the checkpoint at {}: its table is of another index", checkpoint.id))
            }
            (Err(error), _) => self.fail(format!("the checkpoint at {}: {error}", checkpoint.id)),
            (_, Err(error)) => self.fail(format!("the checkpoint at {}: {error}", checkpoint.id)),
        }
        self.configuration_entry = Some(checkpoint.configuration.clone());
        let Checkpoint { id, chain, next_offset, .. } = *checkpoint;
        self.applied = Applied { index: id.index, chain, next_offset };
        if stored.is_ahead {
            self.ahead = Some(self.applied);
            let begins = &stored.first_segment;
            self.applied = Applied {
                index: begins.base_index.prev(),
                chain: begins.base_chain,
                next_offset: begins.base_offset,
            };
        }
    }

    /// Committed entries are applied; what lies after the commit hint waits for a leader to decide.
    fn entry(&mut self, entry: &EntryView<'_>, commit_hint: LogIndex) {
        // What follows an entry that could not be applied would be applied to another state.
        if self.failure.is_some() {
            return;
        }
        let header = entry.header();
        let is_in_state = self.ahead.is_some_and(|ahead| header.index <= ahead.index)
            && !is_planted(Bug::AppliedTwiceAtStart);
        if header.kind == EntryKind::Configuration && !is_in_state {
            self.configuration_entry(entry, commit_hint);
        }
        if header.index > commit_hint {
            match Entry::decode(entry.bytes()) {
                Ok(entry) => self.suffix.push(entry),
                Err(error) => self.fail(format!("the entry at {}: {error}", header.id())),
            }
            return;
        }
        if !is_in_state && let Err(error) = self.producers.apply(entry) {
            self.fail(format!("the entry at {}: {error}", header.id()));
        }
        if let Ok(floor) = entry.trim() {
            self.floor = self.floor.max(floor);
        }
        self.applied =
            Applied { index: header.index, chain: entry.chain(), next_offset: header.next_offset() };
    }
}

/// Locks and recovers the directory, and rebuilds the producers' table.
///
/// # Errors
/// [`BootError`]; the directory is as it was, or as far recovered as recovery came.
pub fn boot<D: Disk + Clone>(disk: D, data_dir: &Path, options: LogOptions) -> Result<Booted<D>, BootError> {
    boot_as_told(disk, data_dir, options, false)
}

/// As [`boot`]; with `accept_loss` somebody has decided that what this node may have acknowledged and lost may be gone,
/// so it claims nothing: in a `memory` cluster, where its machine went down without a clean stop (rule 6, decision
/// 0008); in a `disk` cluster, where its torn tail shows an entry that nobody is left to tell of (rule 11, decision
/// 0009).
///
/// # Errors
/// As [`boot`]; also where there is no loss to accept, since a node of a `disk` cluster claims nothing.
pub fn boot_as_told<D: Disk + Clone>(
    disk: D,
    data_dir: &Path,
    options: LogOptions,
    accept_loss: bool,
) -> Result<Booted<D>, BootError> {
    let boot_id_hash = boot_id_hash(disk.boot_id().as_deref());
    let (mut store, mut recovered, mut rebuild) = open_as_told(disk, data_dir, options, accept_loss)?;
    let unusable = |what: &str| BootError::Unusable(format!("{}: {what}", data_dir.display()));
    if let Some(failure) = rebuild.failure {
        return Err(unusable(&failure));
    }
    let configurations = rebuild
        .configurations
        .take()
        .ok_or_else(|| unusable("the log does not begin with a configuration"))?;
    if recovered.hard_state.term < recovered.last.term {
        // Entries are only ever written behind the hard state of their term, so its newest copy is gone: this node may
        // have voted and forgotten it.
        return Err(BootError::Damaged(format!(
            "{}: hard_state knows of term {}, but the log of term {}; the newest hard state is damaged, so this node \
             may have cast a vote that it does not remember: do not start it; replace it by a freshly formatted node",
            data_dir.display(),
            recovered.hard_state.term,
            recovered.last.term
        )));
    }
    let durability = configurations.newest().durability;
    if accept_loss && durability == Durability::Memory {
        // Before the claim falls: a crash in between leaves the node in doubt.
        store.lower_commit_hints()?;
    } else if accept_loss && recovered.claimed_tail.is_none() {
        return Err(BootError::Unusable(
            "--accept-loss has nothing to accept: nothing that this node acknowledged is missing from its disk; start it \
             without it"
                .to_owned(),
        ));
    }
    let given_up = recovered.claimed_tail.filter(|_| accept_loss);
    let stored = next_life(&recovered, durability, boot_id_hash, accept_loss);
    if stored != recovered.hard_state {
        store.write_hard_state(&stored)?;
        recovered.claimed_tail = stored.claimed_tail;
        recovered.hard_state = stored;
    }
    let cut = recovered.report.cut.as_ref().map(ToString::to_string);
    let identity = recovered.identity;
    let start =
        start_of(recovered, rebuild, configurations, store.pulse()).map_err(|what| unusable(&what))?;
    Ok(Booted { identity, store, start, cut, given_up })
}

/// Opens the log. A node of a `memory` cluster that accepts a loss forgets what it knew to be committed: others may go on
/// with less, and it has to follow them. One of a `disk` cluster gives up nothing that it has, and keeps what it knows.
fn open_as_told<D: Disk + Clone>(
    disk: D,
    data_dir: &Path,
    options: LogOptions,
    accept_loss: bool,
) -> Result<(LogStore<D>, Recovered, Rebuild), BootError> {
    let mut rebuild = Rebuild::new();
    let mut cut = None;
    if accept_loss {
        let (store, recovered) =
            LogStore::open_without_commits(disk.clone(), data_dir, options, &mut rebuild)?;
        // Which of the two it is stands in the log alone.
        let newest = rebuild.configurations.as_ref().map(Configurations::newest);
        if newest.is_none_or(|newest| newest.durability == Durability::Memory) {
            return Ok((store, recovered, rebuild));
        }
        (rebuild, cut) = (Rebuild::new(), recovered.report.cut);
    }
    let (store, mut recovered) = LogStore::open_behind_checkpoint(disk, data_dir, options, &mut rebuild)?;
    recovered.report.cut = recovered.report.cut.or(cut);
    Ok((store, recovered, rebuild))
}

/// What is written before anything is said: this life is not closed, under this boot; and in a `memory` cluster, after
/// a reboot without a clean stop, the node no longer knows what it has acknowledged (rule 6).
fn next_life(
    recovered: &Recovered,
    durability: Durability,
    boot_id_hash: u64,
    accept_loss: bool,
) -> StoredHardState {
    let before = &recovered.hard_state;
    let mut stored = StoredHardState { boot_id_hash, closed: false, ..before.clone() };
    if accept_loss {
        stored.claimed_tail = None;
    } else if durability == Durability::Memory
        && before.may_have_lost_cache(boot_id_hash)
        && !is_planted(Bug::LostCacheForgotten)
    {
        let claimed = recovered.claimed_tail.map_or(Term::ZERO, |claimed| claimed.term);
        stored.claimed_tail = Some(unknown_claim(before.term.max(claimed)));
    }
    stored
}

fn start_of(
    recovered: Recovered,
    rebuild: Rebuild,
    configurations: Configurations,
    pulse: Pulse,
) -> Result<BatcherStart, String> {
    let hard_state = HardState {
        term: recovered.hard_state.term,
        voted_for: recovered.hard_state.voted_for,
        claimed_tail: recovered.claimed_tail,
    };
    let Identity { node_id, incarnation, .. } = recovered.identity;
    let memberships = memberships_of(&configurations, node_id, incarnation)
        .map_err(|error| format!("the configuration: {error}"))?;
    // A trim that was applied before the stop holds at once, though its segments may still be here.
    let floor = recovered.floor.max(rebuild.floor);
    let mut runs = recovered.runs;
    runs.trim_prefix(floor.index.prev());
    Ok(BatcherStart {
        restored: Restored { hard_state, memberships, log: runs, commit_hint: recovered.commit_hint },
        configurations,
        hard_state: recovered.hard_state,
        configuration_entry: rebuild.configuration_entry,
        floor,
        marks: recovered.marks,
        producers: rebuild.producers,
        // Recovery has compared the two where the log reaches it.
        ahead: rebuild.ahead.filter(|ahead| ahead.index > rebuild.applied.index),
        applied: rebuild.applied,
        suffix: rebuild.suffix,
        last_log_time_ns: recovered.last_log_time_ns,
        generation: 0,
        pulse,
    })
}
