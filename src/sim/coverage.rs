//! What a run must have met for its silence to mean something: states that matter and are rare, counted. A set of seeds
//! in which one of them never occurs has not tested it, and `tercet-sim` says so.

use std::collections::BTreeMap;
use std::path::Path;

use super::disk::SimDisk;
use super::node::{DATA_DIR, Shape, SimNode};
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};
use crate::log;
use crate::log::table::{Found, Standing};
use crate::raft::Role;

/// Names of the states, as they stand in reports.
pub mod rare {
    /// A leader's log has entries of older terms that lie flushed on a quorum and are not committed, and some other node
    /// could still take them away: its log ends in a later term and lacks them (Raft paper, figure 8 c). Counting copies
    /// would commit them, and lose them then.
    pub const FIGURE_8: &str = "figure_8_shape";
    /// A checkpoint was installed over a suffix that another leader's log contradicts.
    pub const INSTALL_IN_CONFLICT: &str = "installed_over_conflict";
    /// A transfer was under way, and somebody else than its target led next.
    pub const TRANSFER_RACE: &str = "transfer_race";
    /// A transfer was under way, and its target led next.
    pub const TRANSFER_WON: &str = "transfer_won";
    /// A leader has committed what its own disk has yet to flush.
    pub const COMMITTED_UNFLUSHED: &str = "committed_before_own_flush";
    /// A lost disk's node was let in again as a learner.
    pub const MEMBER_REPLACED: &str = "member_replaced";
    /// And voted again.
    pub const MEMBER_PROMOTED: &str = "member_promoted";
    /// A claim was given up by an operator, since the disk that could tell was lost. Too rare to be demanded.
    pub const LOSS_ACCEPTED: &str = "loss_accepted";
    /// Faults stayed on a minority, and the others converged without it.
    pub const MINORITY_ILL: &str = "minority_stayed_ill";
    /// The same, but the others found that they needed it.
    pub const MINORITY_NEEDED: &str = "minority_needed";
    /// A segment was made of an old one.
    pub const RECYCLED: &str = "segment_recycled";

    /// All that must occur, with what nodes and their agents count. One row of recovery's table is not among them: that a
    /// sealed segment has no room for an entry that it held takes a forged watermark (`tests/recovery_table.rs` has one).
    pub const ALL: &[&str] = &[
        FIGURE_8,
        INSTALL_IN_CONFLICT,
        TRANSFER_RACE,
        TRANSFER_WON,
        COMMITTED_UNFLUSHED,
        MEMBER_REPLACED,
        MEMBER_PROMOTED,
        MINORITY_ILL,
        RECYCLED,
        "conflict_truncation",
        "torn_tail_cut",
        "claimed_tail",
        "in_doubt",
        "started_ahead",
        "started_to_mend",
        "damage_found_while_serving",
        "head_rebuilt",
        "disk_given_up",
        "entry_mended",
        "mending_answer",
        "trim",
        "checkpoint",
        "checkpoint_installed",
        "checkpoint_reached",
        "duplicate",
        "duplicate_of_appended",
        "duplicate_of_gathering",
        "leadership_lost",
        "self_suspicion",
        "cold_read",
        "handshake_timed_out",
        "disk_stall_noticed",
        "disk_full_noticed",
        "row_durable_stale",
        "row_durable_damaged_body",
        "row_durable_damaged_header",
        "row_durable_zeros",
        "row_durable_unreadable",
        "row_unproven_damaged_body",
        "row_unproven_damaged_header",
        "row_unproven_hole",
        "row_unproven_blank",
        "row_unproven_leftover",
        "row_unproven_no_room",
        "row_unproven_stale",
        "row_unproven_unreadable",
    ];
}

/// A row of the table of entries by name; `None` for those that take the entry or need another build.
const fn row_name(standing: Standing, found: Found) -> Option<&'static str> {
    Some(match (standing, found) {
        (_, Found::Whole | Found::Unsupported) => return None,
        (Standing::Durable, Found::Stale) => "row_durable_stale",
        (Standing::Durable, Found::DamagedBody) => "row_durable_damaged_body",
        (Standing::Durable, Found::DamagedHeader) => "row_durable_damaged_header",
        (Standing::Durable, Found::Hole | Found::Blank | Found::Leftover) => "row_durable_zeros",
        (Standing::Durable, Found::NoRoom) => "row_durable_no_room",
        (Standing::Durable, Found::Unreadable) => "row_durable_unreadable",
        (Standing::Unproven, Found::Stale) => "row_unproven_stale",
        (Standing::Unproven, Found::DamagedBody) => "row_unproven_damaged_body",
        (Standing::Unproven, Found::DamagedHeader) => "row_unproven_damaged_header",
        (Standing::Unproven, Found::Hole) => "row_unproven_hole",
        (Standing::Unproven, Found::Blank) => "row_unproven_blank",
        (Standing::Unproven, Found::Leftover) => "row_unproven_leftover",
        (Standing::Unproven, Found::NoRoom) => "row_unproven_no_room",
        (Standing::Unproven, Found::Unreadable) => "row_unproven_unreadable",
    })
}

/// The row of recovery's table that a start from this disk ends with.
#[must_use]
pub fn recovery_row(disk: &SimDisk, shape: &Shape) -> Option<&'static str> {
    let copy = disk.snapshot(0);
    let (standing, found) = log::last_row(&copy, Path::new(DATA_DIR), &shape.log_options())?;
    row_name(standing, found)
}

/// What was seen of a node last.
#[derive(Clone, Copy)]
struct Before {
    life: u64,
    last: EntryId,
    commit: LogIndex,
    installed: u64,
}

/// What the run has met, by looking at its nodes.
#[derive(Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    before: BTreeMap<NodeId, Before>,
    /// Terms in which the shape of figure 8 was seen already.
    figure_8: BTreeMap<NodeId, Term>,
    unflushed: BTreeMap<NodeId, Term>,
    /// Transfers under way: who leads in which term, and the target.
    transfers: BTreeMap<Term, NodeId>,
}

impl Coverage {
    /// All counts so far.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// Counts one such state.
    pub fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_insert(0) += 1;
    }

    /// Looks at the node at `place` after one of its turns.
    pub fn look(&mut self, nodes: &[SimNode], place: usize) {
        let node = &nodes[place];
        let (Some(running), Some(serving)) = (&node.running, node.serving()) else { return };
        let raft = serving.batcher.raft();
        let installed = running.counters.value("batcher_checkpoints_installed").unwrap_or(0);
        let now = Before { life: node.life, last: raft.last_id(), commit: raft.commit_index(), installed };
        if let Some(before) = self.before.insert(node.id, now)
            && before.life == node.life
            && before.installed < installed
            && before.last.index > before.commit
            && contradicts(nodes, before.last)
        {
            self.count(rare::INSTALL_IN_CONFLICT);
        }
        if raft.role() == Role::Leader {
            self.look_at_leader(nodes, place);
        }
    }

    fn look_at_leader(&mut self, nodes: &[SimNode], place: usize) {
        let node = &nodes[place];
        let Some(serving) = node.serving() else { return };
        let raft = serving.batcher.raft();
        let term = raft.term();
        match raft.transfer_target() {
            Some(target) => drop(self.transfers.insert(term, target)),
            // Given up: whoever leads next does not owe it to that.
            None => drop(self.transfers.remove(&term)),
        }
        if let Some((begun_in, target)) = self.transfers.first_key_value().map(|(term, to)| (*term, *to))
            && begun_in < term
        {
            self.transfers.remove(&begun_in);
            self.count(if target == node.id { rare::TRANSFER_WON } else { rare::TRANSFER_RACE });
        }
        let flushed = serving.writer.store().flushed_index();
        if raft.commit_index() > flushed && self.unflushed.insert(node.id, term) != Some(term) {
            self.count(rare::COMMITTED_UNFLUSHED);
        }
        if self.figure_8.get(&node.id) != Some(&term) && has_shape_of_figure_8(nodes, place) {
            self.figure_8.insert(node.id, term);
            self.count(rare::FIGURE_8);
        }
    }
}

/// Whether the newest leader's log has something else where this entry was.
fn contradicts(nodes: &[SimNode], last: EntryId) -> bool {
    let leaders = nodes.iter().filter_map(SimNode::serving).map(|serving| serving.batcher.raft());
    let newest = leaders.filter(|raft| raft.role() == Role::Leader).max_by_key(|raft| raft.term());
    newest.is_some_and(|leader| !leader.log().contains(last))
}

/// Whether this leader's last entry of an older term is flushed on a quorum of voters and not committed, and a voter that
/// lacks it could be elected.
fn has_shape_of_figure_8(nodes: &[SimNode], place: usize) -> bool {
    let Some(leader) = nodes[place].serving() else { return false };
    let raft = leader.batcher.raft();
    let (term, commit) = (raft.term(), raft.commit_index());
    let mut index = raft.last_id().index;
    while index > commit && raft.term_at(index) == Some(term) {
        index = index.prev();
    }
    if index <= commit {
        return false;
    }
    let held = raft.term_at(index);
    let holds = |node: &&SimNode| {
        node.serving().is_some_and(|serving| {
            serving.writer.store().flushed_index() >= index && serving.batcher.raft().term_at(index) == held
        })
    };
    let voters = raft.membership().voters();
    let entry = held.map(|held| EntryId::new(held, index));
    let could_take_it_away = |node: &SimNode| {
        let Some(serving) = node.serving() else { return false };
        let log = serving.batcher.raft();
        voters.contains(&node.id)
            && log.last_id().term > entry.map_or(term, |entry| entry.term)
            && entry.is_some_and(|entry| !log.log().contains(entry))
    };
    nodes.iter().any(could_take_it_away)
        && nodes.iter().filter(|node| voters.contains(&node.id)).filter(holds).count() > voters.len() / 2
}
