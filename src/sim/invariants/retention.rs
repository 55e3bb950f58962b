//! A log begins only where a committed trim says, and no trim takes what the settings keep (decision 0007). A log that began
//! anew with a checkpoint may begin further on (where its leader's settings would have it, or at the checkpoint itself);
//! that is not judged here.

use std::collections::BTreeMap;

use super::{End, Invariant, View};
use crate::agent::batcher::RetentionSettings;
use crate::base::ids::{LogIndex, NodeId};
use crate::entry::{Entry, EntryKind, LogFloor};

pub(super) struct Retention {
    settings: RetentionSettings,
    /// Each node's life, how often its log had been cut or begun anew in it, and the entry that it continued from, when it
    /// was looked at last.
    known: BTreeMap<NodeId, (u64, u64, LogIndex)>,
    /// Entries that logs were seen to continue from, and the least that was applied then.
    bases: BTreeMap<LogIndex, (NodeId, LogIndex)>,
}

/// Where an entry stands in a log that is there from the first one on.
const fn place(index: LogIndex) -> usize {
    index.0 as usize - 1
}

impl Retention {
    pub(super) const fn new(settings: RetentionSettings) -> Self {
        Self { settings, known: BTreeMap::new(), bases: BTreeMap::new() }
    }

    /// The trim takes something that is to be kept.
    fn takes_too_much(&self, log: &[Entry], trim: &Entry, floor: LogFloor) -> bool {
        let kept = &log[place(floor.index)..place(trim.index())];
        let kept_bytes: u64 = kept.iter().map(|entry| entry.len_bytes() as u64).sum();
        let last_gone = floor.index.prev();
        let age_ns = if last_gone == LogIndex::ZERO {
            u64::MAX
        } else {
            let gone_ns = log[place(last_gone)].header().log_time_ns;
            trim.header().log_time_ns.saturating_sub(gone_ns)
        };
        let by_bytes = self.settings.bytes.is_some_and(|keep| kept_bytes >= keep);
        let by_age = self.settings.age_ns.is_some_and(|keep_ns| age_ns > keep_ns);
        !by_bytes && !by_age
    }
}

impl Invariant for Retention {
    fn name(&self) -> &'static str {
        "what is to be kept is kept"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let (base, applied) = (view.raft.log().base().index, view.applied.0);
        if base > LogIndex::ZERO && self.settings.bytes.is_none() && self.settings.age_ns.is_none() {
            return Err(format!("all is to be kept, and node {}'s log continues from {base}", view.node));
        }
        let cuts = view.raft.log_generation();
        let before = self.known.insert(view.node, (view.life, cuts, base));
        let (life, cuts_before, base_before) = before.unwrap_or_default();
        // A start may find the beginning of an older checkpoint, or of one that was being installed.
        if life != view.life || base == base_before {
            return Ok(());
        }
        if base < base_before {
            return Err(format!(
                "node {}'s log continued from {base_before}, and continues from {base} now",
                view.node
            ));
        }
        // Begun anew with a checkpoint.
        if cuts != cuts_before {
            return Ok(());
        }
        let least = self.bases.entry(base).or_insert((view.node, applied));
        if applied < least.1 {
            *least = (view.node, applied);
        }
        Ok(())
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        let log = end.log();
        let mut begins = LogIndex::ZERO;
        let mut trims = BTreeMap::new();
        for entry in log.iter().filter(|entry| entry.header().kind == EntryKind::Trim) {
            let floor = entry.view().trim().map_err(|error| format!("{entry:?}: {error}"))?;
            // One that an earlier leader had appended already.
            if floor.index <= begins {
                continue;
            }
            if floor.index > entry.index() || floor.offset != log[place(floor.index)].header().base_offset {
                return Err(format!(
                    "entry {} lets the log begin at {floor:?}, which is no place in it",
                    entry.id()
                ));
            }
            if self.takes_too_much(log, entry, floor) {
                return Err(format!(
                    "entry {} lets the log begin at {} (before: {begins}), against {:?}",
                    entry.id(),
                    floor.index,
                    self.settings
                ));
            }
            begins = floor.index;
            trims.entry(floor.index.prev()).or_insert_with(|| entry.index());
        }
        for (base, (node, applied)) in &self.bases {
            if trims.get(base).is_none_or(|trim| trim > applied) {
                return Err(format!(
                    "node {node}'s log continued from {base} when it had applied {applied}, and no trim up to there says so"
                ));
            }
        }
        Ok(())
    }
}
