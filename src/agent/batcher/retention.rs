//! The beginning of the log: when the leader trims it, what is checkpointed, and when.
//!
//! A leader looks at where its segments begin: what lies before one of these marks may go when enough bytes or a long
//! enough time lie behind it. It holds the trim back for members that have not got so far, until that costs more than
//! `slack_bytes`. The trim is an entry of the log; every node begins its log there once it applies it.

use std::collections::VecDeque;

use super::Batcher;
use crate::agent::commands::LogCommand;
use crate::base::clock::{Clock, NS_PER_S};
use crate::base::ids::LogIndex;
use crate::entry::{Entry, LogFloor, encode_trim};
use crate::log::{Checkpoint, CheckpointOrder, SegmentMark};

/// How often the age of the log's beginning is looked at.
const LOOK_EVERY_NS: u64 = NS_PER_S;

/// What may go, as this node's settings say; the leader's hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RetentionSettings {
    /// At least this many bytes of entries are kept; `None`: all.
    pub bytes: Option<u64>,
    /// What is younger, by the log's time, is kept; `None`: all.
    pub age_ns: Option<u64>,
    /// So many bytes more are kept for members that are behind.
    pub slack_bytes: u64,
}

/// What is known of the log's beginning.
#[derive(Debug)]
pub(super) struct Retention {
    /// As of the applied index.
    pub(super) floor: LogFloor,
    /// The entry with the committed configuration.
    pub(super) configuration_entry: Option<Entry>,
    /// Where segments begin, behind the floor, ascending.
    marks: VecDeque<SegmentMark>,
    /// A trim that was appended and is not applied yet.
    trim_at: Option<LogIndex>,
    next_look_ns: u64,
    checkpoint_is_due: bool,
    checkpoint_is_out: bool,
}

impl Retention {
    pub(super) fn new(floor: LogFloor, configuration_entry: Option<Entry>, marks: Vec<SegmentMark>) -> Self {
        let mut retention = Self {
            floor,
            configuration_entry,
            marks: marks.into(),
            trim_at: None,
            next_look_ns: 0,
            checkpoint_is_due: false,
            checkpoint_is_out: false,
        };
        retention.forget_marks();
        retention
    }

    fn forget_marks(&mut self) {
        while self.marks.front().is_some_and(|mark| mark.floor.index <= self.floor.index) {
            self.marks.pop_front();
        }
    }

    /// A segment was begun. It takes the place of those that a truncation has removed.
    pub(super) fn note_segment(&mut self, mark: SegmentMark) {
        while self.marks.back().is_some_and(|last| last.floor.index >= mark.floor.index) {
            self.marks.pop_back();
        }
        self.marks.push_back(mark);
        // Also those of a log that has been put away: an installed one begins with a mark at its floor.
        self.forget_marks();
        self.checkpoint_is_due = true;
        self.next_look_ns = 0;
    }

    pub(super) fn checkpoint_written(&mut self) {
        self.checkpoint_is_out = false;
    }

    /// One is to be written, as soon as may be.
    pub(super) fn order_checkpoint(&mut self) {
        self.checkpoint_is_due = true;
    }

    /// Leadership is gone, or new: what was appended may never be applied.
    pub(super) fn forget_trim(&mut self) {
        self.trim_at = None;
    }

    /// The log begins at `floor`; true where that is news.
    pub(super) fn raise(&mut self, floor: LogFloor) -> bool {
        self.trim_at = None;
        if floor.index <= self.floor.index {
            return false;
        }
        self.floor = floor;
        self.forget_marks();
        self.checkpoint_is_due = true;
        true
    }

    /// The log begins anew at `floor`.
    pub(super) fn restart_at(&mut self, floor: LogFloor, configuration_entry: Entry) {
        *self = Self::new(floor, Some(configuration_entry), Vec::new());
    }

    /// The last mark before which nothing lies that the settings keep.
    fn wanted(&self, settings: &RetentionSettings, now_ns: u64) -> Option<usize> {
        let mut bytes_behind = 0;
        for (at, mark) in self.marks.iter().enumerate().rev() {
            // The bytes of the segment that is being filled are not counted, so a little more is kept.
            let by_bytes = settings.bytes.is_some_and(|keep| bytes_behind >= keep);
            let age_ns = now_ns.saturating_sub(mark.log_time_ns);
            let by_age = settings.age_ns.is_some_and(|keep_ns| age_ns > keep_ns);
            if by_bytes || by_age {
                return Some(at);
            }
            bytes_behind += mark.bytes_before;
        }
        None
    }

    /// The mark at which the log may begin: nothing that the settings keep lies before it, and nothing that a member
    /// lacks which has got as far as `reached`, unless more than the slack would be kept for it.
    fn trim_to(&self, settings: &RetentionSettings, now_ns: u64, reached: LogIndex) -> Option<LogFloor> {
        let mut at = self.wanted(settings, now_ns)?;
        let mut held_bytes = 0;
        while self.marks[at].floor.index > reached.next() {
            held_bytes += self.marks[at].bytes_before;
            if held_bytes > settings.slack_bytes {
                // Whoever is further behind gets a checkpoint.
                return Some(self.marks[at].floor);
            }
            at = at.checked_sub(1)?;
        }
        Some(self.marks[at].floor)
    }
}

impl<C: Clock> Batcher<C> {
    /// As leader: appends a trim where one is due. Called every turn; costs a comparison mostly.
    pub(super) fn trim_if_due(&mut self) -> usize {
        let settings = self.settings.retention;
        let is_asked = settings.bytes.is_some() || settings.age_ns.is_some();
        if !is_asked
            || self.now_ns < self.retention.next_look_ns
            || self.retention.trim_at.is_some()
            || !self.is_leader()
            || self.raft.is_transferring()
        {
            return 0;
        }
        self.retention.next_look_ns = self.now_ns + LOOK_EVERY_NS;
        let members = self.raft.membership().members().filter(|member| *member != self.settings.node_id);
        let reached = members.filter_map(|member| self.raft.progress(member)).map(|peer| peer.stable()).min();
        let log_now_ns = self.log_now_ns();
        let reached = reached.unwrap_or(self.applied.index).min(self.applied.index);
        let Some(floor) = self.retention.trim_to(&settings, log_now_ns, reached) else { return 0 };
        if floor.index <= self.retention.floor.index || floor.index > self.applied.index {
            return 0;
        }
        // Events that are gathering stand before it.
        self.seal_now();
        let Ok(id) = self.raft.propose() else { return 0 };
        let entry = encode_trim(&self.seal_context(id), floor);
        self.note_appended(&entry);
        self.retention.trim_at = Some(id.index);
        self.append(entry);
        self.counters.trims.increment();
        1
    }

    fn log_now_ns(&self) -> u64 {
        self.tail.log_time_ns + self.now_ns.saturating_sub(self.tail.log_time_at_ns)
    }

    /// Where the log of a peer is to begin that begins anew: it gets all that the settings keep, and none of what is kept
    /// beyond that for those who are behind. The log's beginning moves on over that before it comes to the peer.
    pub(super) fn floor_for_peer(&self) -> LogFloor {
        let wanted = self.retention.wanted(&self.settings.retention, self.log_now_ns());
        let wanted = wanted.map(|at| self.retention.marks[at].floor);
        let wanted = wanted.filter(|wanted| wanted.index <= self.applied.index);
        wanted.map_or(self.retention.floor, |wanted| wanted.max(self.retention.floor))
    }

    /// When the log's beginning is to be looked at again. None while leadership is handed over, when nothing is trimmed: a
    /// deadline that has passed must not keep the thread awake.
    pub(super) fn trim_deadline_ns(&self) -> Option<u64> {
        let settings = &self.settings.retention;
        let waits = settings.age_ns.is_some() && !self.retention.marks.is_empty() && self.is_leader();
        let waits = waits && !self.raft.is_transferring();
        (waits && self.retention.trim_at.is_none()).then_some(self.retention.next_look_ns)
    }

    /// A committed trim: the log begins there.
    pub(super) fn apply_trim(&mut self, floor: LogFloor) {
        if self.retention.raise(floor) {
            self.raft.log_trimmed(floor.index.prev());
            self.rings.commit_tail.publish_floor(floor.offset.0);
        }
    }

    /// Hands a checkpoint of the applied state to the log writer where one is due.
    pub(super) fn checkpoint_if_due(&mut self) -> usize {
        // What could not be applied whole is no state to begin with.
        let may_be = !self.retention.checkpoint_is_out && !self.control.is_stopped();
        if !self.retention.checkpoint_is_due || !may_be {
            return 0;
        }
        // What is applied and not written yet is on its way to the writer, before this: a node that is behind for long
        // gets its checkpoints, and lets segments go.
        let Some(order) = self.checkpoint() else { return 0 };
        self.retention.checkpoint_is_due = false;
        self.retention.checkpoint_is_out = true;
        self.counters.checkpoints.increment();
        self.hand_to_writer(LogCommand::Checkpoint(Box::new(order)));
        1
    }

    /// The applied state; `None` where no configuration is known to be committed, or the state is ahead of the log.
    pub(super) fn checkpoint(&self) -> Option<CheckpointOrder> {
        // The installed one, which lets nothing of the log go, stays until the log has reached it.
        if self.ahead.is_some() {
            return None;
        }
        let configuration = self.retention.configuration_entry.clone()?;
        let term = self.raft.term_at(self.applied.index)?;
        let id = crate::base::ids::EntryId::new(term, self.applied.index);
        let mut producers = Vec::new();
        self.producers.encode_state(&mut producers);
        let checkpoint = Checkpoint {
            cluster_id: self.configurations.newest().cluster_id,
            group: crate::base::ids::GroupId(0),
            id,
            chain: self.applied.chain,
            next_offset: self.applied.next_offset,
            log_time_ns: self.producers.log_time_ns(),
            configuration,
            producers,
        };
        Some(CheckpointOrder {
            image: checkpoint.encode().into(),
            id,
            floor: self.retention.floor,
            runs: self.raft.log().clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Retention, RetentionSettings};
    use crate::base::ids::{LogIndex, Offset};
    use crate::entry::LogFloor;
    use crate::log::SegmentMark;

    /// Segments of 10 entries and 100 bytes each, begun every 5 ns: the marks are at 11, 21, ...
    fn retention(segments: u64) -> Retention {
        let mark = |at: u64| SegmentMark {
            floor: LogFloor { index: LogIndex(10 * at + 1), offset: Offset(10 * at + 1) },
            bytes_before: 100,
            log_time_ns: 5 * at,
        };
        let mut retention = Retention::new(LogFloor::START, None, Vec::new());
        (1..segments).for_each(|at| retention.note_segment(mark(at)));
        retention
    }

    fn first(retention: &Retention, settings: RetentionSettings, reached: u64) -> Option<u64> {
        retention.trim_to(&settings, 100, LogIndex(reached)).map(|floor| floor.index.0)
    }

    #[test]
    fn at_least_what_the_settings_keep_is_kept() {
        let log = retention(10);
        let bytes = |bytes| RetentionSettings { bytes: Some(bytes), ..RetentionSettings::default() };
        // The last mark is at 91; behind it lies the segment that is being filled.
        assert_eq!(first(&log, bytes(0), 1000), Some(91));
        assert_eq!(first(&log, bytes(1), 1000), Some(81));
        assert_eq!(first(&log, bytes(100), 1000), Some(81));
        assert_eq!(first(&log, bytes(101), 1000), Some(71));
        assert_eq!(first(&log, bytes(800), 1000), Some(11));
        assert_eq!(first(&log, bytes(801), 1000), None);
        let age = |age_ns| RetentionSettings { age_ns: Some(age_ns), ..RetentionSettings::default() };
        // The segment before mark `at` ends at 5 * at.
        assert_eq!(first(&log, age(50), 1000), Some(91));
        assert_eq!(first(&log, age(80), 1000), Some(31));
        assert_eq!(first(&log, age(95), 1000), None);
        assert_eq!(first(&log, RetentionSettings::default(), 1000), None);
    }

    #[test]
    fn what_a_peer_gets_that_begins_anew_is_what_the_settings_keep() {
        let log = retention(10);
        let keep = RetentionSettings { bytes: Some(100), slack_bytes: 1000, ..RetentionSettings::default() };
        // The log begins at 1 for somebody who is behind, and would begin at 81.
        assert_eq!(first(&log, keep, 3), None);
        let wanted = log.wanted(&keep, 100).map(|at| log.marks[at].floor.index.0);
        assert_eq!(wanted, Some(81));
    }

    #[test]
    fn a_member_that_is_behind_holds_the_trim_back_up_to_the_slack() {
        let log = retention(10);
        let keep = |slack_bytes| RetentionSettings { bytes: Some(100), age_ns: None, slack_bytes };
        assert_eq!(first(&log, keep(0), 80), Some(81), "it has all that goes");
        assert_eq!(first(&log, keep(1000), 79), Some(71));
        assert_eq!(first(&log, keep(1000), 35), Some(31));
        assert_eq!(first(&log, keep(1000), 3), None, "the log keeps its beginning for it");
        assert_eq!(first(&log, keep(200), 3), Some(61), "two segments more, and no third");
        assert_eq!(first(&log, keep(0), 3), Some(81));
    }

    #[test]
    fn marks_of_a_log_that_was_put_away_are_forgotten_also_when_they_come_late() {
        let mark = |index: u64| SegmentMark {
            floor: LogFloor { index: LogIndex(index), offset: Offset(3 * index) },
            bytes_before: 100,
            log_time_ns: index,
        };
        let mut log = retention(3);
        log.floor = LogFloor { index: LogIndex(50), offset: Offset(150) };
        log.marks.clear();
        // Under way when the log began anew at 50; the installed segment's own mark comes behind them.
        [31, 41, 61, 71].into_iter().for_each(|index| log.note_segment(mark(index)));
        log.note_segment(mark(50));
        assert!(log.marks.is_empty(), "{:?}", log.marks);
        log.note_segment(mark(90));
        assert_eq!(log.marks.iter().map(|mark| mark.floor.index.0).collect::<Vec<_>>(), [90]);
    }

    #[test]
    fn a_truncation_takes_marks_back_and_a_trim_those_before_it() {
        let mut log = retention(5);
        let mark = SegmentMark {
            floor: LogFloor { index: LogIndex(25), offset: Offset(25) },
            bytes_before: 40,
            log_time_ns: 60,
        };
        log.note_segment(mark);
        assert_eq!(log.marks.iter().map(|mark| mark.floor.index.0).collect::<Vec<_>>(), [11, 21, 25]);
        assert!(log.raise(LogFloor { index: LogIndex(21), offset: Offset(21) }));
        assert!(!log.raise(LogFloor { index: LogIndex(11), offset: Offset(11) }), "it never falls");
        assert_eq!(log.marks.iter().map(|mark| mark.floor.index.0).collect::<Vec<_>>(), [25]);
    }
}
