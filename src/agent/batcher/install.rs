//! A peer that retention has left behind: the leader sends it its state, and the peer begins its log anew where that begins
//! which is to be kept, so that it comes to hold everything that is retained; what the state contains already is fetched
//! and not applied again (decision 0007). A peer that is too slow for that gets the state alone, and begins behind it.

use std::sync::Arc;

use super::tail::TailState;
use super::{Applied, Batcher};
use crate::agent::commands::{Installation, LogCommand, SenderCommand};
use crate::agent::control::Fatal;
use crate::base::clock::Clock;
use crate::base::ids::{EntryId, Incarnation, LogIndex, NodeId};
use crate::base::planted::{Bug, is_planted};
use crate::entry::{Entry, LogBase};
use crate::log::checkpoint::CHECKPOINT_BYTES_MAX;
use crate::log::{Checkpoint, CheckpointOrder, HotTail};
use crate::protocol::peer::{CHECKPOINT_CHUNK_BYTES_MAX, CheckpointChunk};
use crate::raft::{MembershipLog, TermRuns};
use crate::stream::Producers;

/// Chunks handed to one sender in one turn.
const CHUNKS_PER_TURN: usize = 4;
/// Places of a sender's ring that chunks leave to other commands.
const SLOTS_KEPT: usize = 8;

/// A peer that has fallen behind the log's beginning so often before it had fetched all of it gets the state alone.
const ATTEMPTS_MAX: u32 = 3;

/// A checkpoint on its way to one peer.
pub(super) struct Outgoing {
    image: Arc<[u8]>,
    id: EntryId,
    base: LogBase,
    position: usize,
}

/// What was last sent to a peer that was behind, until its log has come as far as the checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    base_index: LogIndex,
    state_index: LogIndex,
    /// So often the log's beginning had moved on before the peer was through.
    attempts: u32,
    /// To which formatting of the peer's disk: the next one has been slow at nothing.
    disk: Option<Incarnation>,
    /// The stream to the peer broke meanwhile. What that costs in time says nothing of how fast the peer is.
    is_interrupted: bool,
}

/// A checkpoint that arrives.
#[derive(Default)]
pub(super) struct Incoming {
    from: Option<(NodeId, CheckpointChunk)>,
    bytes: Vec<u8>,
    /// Whole and checked: what the core is about to ask for.
    checked: Option<Checked>,
}

struct Checked {
    image: Arc<[u8]>,
    base: LogBase,
    checkpoint: Checkpoint,
    producers: Producers,
}

impl Sent {
    /// How often the log's beginning has moved on under a peer, to which `before` was sent and the log from `floor` on is
    /// about to be. What got lost on the way and is sent again counts for nothing.
    fn attempts(before: Option<Self>, disk: Option<Incarnation>, floor: LogIndex) -> u32 {
        before.filter(|before| before.disk == disk).map_or(0, |before| {
            let has_moved = floor > before.base_index.next() && !before.is_interrupted;
            before.attempts + u32::from(has_moved)
        })
    }

    /// The stream to the peer is gone, or another one stands.
    pub(super) fn interrupt(&mut self) {
        self.is_interrupted = true;
    }
}

impl Incoming {
    /// Takes a chunk. True when the image is complete.
    fn take(&mut self, from: NodeId, chunk: CheckpointChunk, bytes: &[u8]) -> bool {
        if chunk.position == 0 && chunk.total_bytes <= CHECKPOINT_BYTES_MAX {
            self.from = Some((from, chunk));
            self.bytes = Vec::new();
        }
        let continues = self.from.is_some_and(|(peer, first)| {
            let of_this_one = CheckpointChunk { position: chunk.position, ..first };
            (peer, of_this_one) == (from, chunk) && chunk.position == self.bytes.len() as u64
        });
        if !continues {
            // Of another one, or with a gap: its sender will begin again.
            *self = Self::default();
            return false;
        }
        // Grows with what really arrives, whatever was declared.
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() as u64 == chunk.total_bytes
    }
}

impl<C: Clock> Batcher<C> {
    /// Hands chunks to the sender of a peer that needs a checkpoint. True when it does.
    pub(super) fn pump_checkpoint(&mut self, slot: usize) -> bool {
        let peer = self.peers[slot].id();
        if !self.raft.needs_checkpoint(peer) {
            let port = &mut self.peers[slot];
            port.outgoing = None;
            let is_through = |sent: &mut Sent| {
                self.raft.progress(peer).is_some_and(|progress| progress.stable() >= sent.state_index)
            };
            port.sent.take_if(is_through);
            return false;
        }
        if self.peers[slot].outgoing.is_none() {
            let Some(outgoing) = self.begin_sending(slot) else { return true };
            self.peers[slot].outgoing = Some(outgoing);
        }
        let term = self.raft.term();
        let port = &mut self.peers[slot];
        let Some(outgoing) = &mut port.outgoing else { return true };
        for _ in 0..CHUNKS_PER_TURN {
            if port.rings.to_sender.slots() <= SLOTS_KEPT {
                return true;
            }
            let end = outgoing.image.len().min(outgoing.position + CHECKPOINT_CHUNK_BYTES_MAX);
            let chunk = CheckpointChunk {
                term,
                id: outgoing.id,
                base: outgoing.base,
                total_bytes: outgoing.image.len() as u64,
                position: outgoing.position as u64,
            };
            let command = SenderCommand::Checkpoint { chunk, image: Arc::clone(&outgoing.image), end };
            if port.rings.to_sender.push(command).is_err() {
                return true;
            }
            outgoing.position = end;
            if end == outgoing.image.len() {
                let index = outgoing.base.id.index;
                port.outgoing = None;
                self.raft.checkpoint_sent(peer, index);
                return true;
            }
        }
        true
    }

    /// This node's state, to be sent with the place where its log begins. `None` while either is not at hand.
    fn begin_sending(&mut self, slot: usize) -> Option<Outgoing> {
        let disk = self.let_in(self.peers[slot].id());
        let attempts = Sent::attempts(self.peers[slot].sent, disk, self.retention.floor.index);
        let is_too_slow = attempts >= ATTEMPTS_MAX;
        let base = if is_too_slow { self.end_of_applied() } else { self.beginning(slot)? };
        let order = self.checkpoint()?;
        let peer = self.peers[slot].id();
        let (floor, id) = (base.floor(), order.id);
        tracing::info!(
            "peer {peer} lacks what retention has removed: sending it the checkpoint at {id}, and the log from index {} on",
            floor.index
        );
        if is_too_slow {
            tracing::warn!(
                "the log's beginning has moved on {ATTEMPTS_MAX} times before peer {peer} had fetched all of it: events \
                 before offset {} will be missing there; more log.retention_slack_bytes keeps them for a slow peer",
                floor.offset
            );
        }
        self.counters.checkpoints_sent.increment();
        let (base_index, state_index) = (base.id.index, id.index);
        let sent = Sent { base_index, state_index, attempts, disk, is_interrupted: false };
        self.peers[slot].sent = Some(sent);
        Some(Outgoing { image: order.image, id, base, position: 0 })
    }

    /// What the peer's log is to continue from; `None` while the reader fetches the first entry, which tells it.
    fn beginning(&mut self, slot: usize) -> Option<LogBase> {
        let floor = self.floor_for_peer();
        if floor.index > self.applied.index {
            return Some(self.end_of_applied());
        }
        let Some(first) = self.first_entry(slot, floor.index) else {
            self.ask_reader(slot, floor.index, floor.index);
            return None;
        };
        let id = EntryId::new(self.raft.term_at(floor.index.prev())?, floor.index.prev());
        let header = first.header();
        assert!(header.base_offset == floor.offset, "a mark names the offset of the entry that it names");
        let (chain, log_time_ns) = (header.prev_chain, header.log_time_ns);
        Some(LogBase { id, chain, next_offset: floor.offset, log_time_ns })
    }

    fn first_entry(&self, slot: usize, index: LogIndex) -> Option<Entry> {
        let fetched = self.peers[slot].first_fetched().filter(|entry| entry.index() == index);
        fetched.or_else(|| self.hot.get(index)).cloned()
    }

    fn end_of_applied(&self) -> LogBase {
        let Applied { index, chain, next_offset } = self.applied;
        let term = self.raft.term_at(index).expect("the log has what is applied, or begins behind it");
        LogBase {
            id: EntryId::new(term, index),
            chain,
            next_offset,
            log_time_ns: self.producers.log_time_ns(),
        }
    }

    /// A chunk of a leader's checkpoint.
    pub(super) fn hear_checkpoint(&mut self, from: NodeId, chunk: CheckpointChunk, bytes: &[u8]) {
        if !self.incoming.take(from, chunk, bytes) {
            return;
        }
        for id in [chunk.base.id, chunk.id] {
            let differs = self.raft.term_at(id.index).is_some_and(|term| term != id.term);
            if chunk.term >= self.raft.term() && id.index <= self.raft.commit_index() && differs {
                self.contradicted(from, id.index);
                return;
            }
        }
        let image: Arc<[u8]> = std::mem::take(&mut self.incoming).bytes.into();
        match self.check_image(&chunk, Arc::clone(&image)) {
            Ok((checked, membership)) => {
                self.incoming.checked = Some(checked);
                self.raft.checkpoint_received(from, chunk.term, chunk.base.id, membership);
                self.settle(Vec::new());
                self.incoming.checked = None;
            }
            Err(what) => tracing::warn!("a checkpoint from peer {from} is refused: {what}"),
        }
    }

    fn check_image(
        &self,
        chunk: &CheckpointChunk,
        image: Arc<[u8]>,
    ) -> Result<(Checked, MembershipLog), String> {
        let checkpoint = Checkpoint::decode(&image).map_err(|error| error.to_string())?;
        let producers = Producers::decode_state(&checkpoint.producers).map_err(|error| error.to_string())?;
        let configuration = checkpoint.configuration().map_err(|error| error.to_string())?;
        if checkpoint.id != chunk.id || producers.applied_index() != chunk.id.index {
            return Err("it is of another index than was said".to_owned());
        }
        let base = chunk.base;
        let ends_there = (base.id, base.chain, base.next_offset)
            == (checkpoint.id, checkpoint.chain, checkpoint.next_offset);
        let begins_before = base.id.index < checkpoint.id.index && base.next_offset <= checkpoint.next_offset;
        if !ends_there && !begins_before {
            return Err("the log does not begin before it".to_owned());
        }
        if checkpoint.cluster_id != self.configurations.newest().cluster_id {
            return Err("it is of another cluster".to_owned());
        }
        let membership = self.membership_of(&configuration).map_err(|error| error.to_string())?;
        let memberships = MembershipLog::new(checkpoint.configuration.index(), membership);
        Ok((Checked { image, base, checkpoint, producers }, memberships))
    }

    /// The core has put its log away: everything begins anew behind the checkpoint that was just received.
    pub(super) fn install(&mut self, id: EntryId, generation: u64) {
        let Some(Checked { image, base, checkpoint, producers }) = self.incoming.checked.take() else {
            self.control
                .fail(Fatal::Divergence(format!("no checkpoint at {id} is at hand to begin the log with")));
            return;
        };
        assert!(base.id == id && id.index > self.applied.index, "only a newer log is installed");
        let floor = base.floor();
        tracing::info!(
            "this node's log begins anew behind its leader's checkpoint at {}, at index {}",
            checkpoint.id,
            floor.index
        );
        let Checkpoint { id: of_state, chain, next_offset, .. } = checkpoint;
        let state = Applied { index: of_state.index, chain, next_offset };
        self.ahead = (of_state != id).then_some(state);
        if !is_planted(Bug::DedupNotInCheckpoint) {
            self.producers = producers;
        }
        if let Ok(configuration) = checkpoint.configuration() {
            self.begin_configurations(checkpoint.configuration.index(), configuration);
        }
        self.hot = HotTail::new(id.index, self.settings.limits.hot_tail_bytes_limit);
        self.tail = TailState {
            index: id.index,
            chain: base.chain,
            next_offset: base.next_offset,
            log_time_ns: base.log_time_ns,
            log_time_at_ns: self.now_ns,
        };
        self.applied = Applied { index: id.index, chain: base.chain, next_offset: base.next_offset };
        self.pending = super::pending::Pending::new(id.index);
        (self.written, self.flushed) = (LogIndex::ZERO, LogIndex::ZERO);
        self.unsettled_bytes = 0;
        self.unwritten = super::tail::Unwritten::default();
        self.retention.restart_at(floor, checkpoint.configuration);
        for port in &mut self.peers {
            port.forget_fetched();
        }
        self.rings.commit_tail.publish(id.index.0, base.next_offset.prev().0);
        self.rings.commit_tail.publish_floor(floor.offset.0);
        self.counters.checkpoints_installed.increment();
        let order = CheckpointOrder { image, id: of_state, floor, runs: TermRuns::after(id) };
        let installation = Installation { order, base, generation };
        self.hand_to_writer(LogCommand::Install(Box::new(installation)));
    }
}

#[cfg(test)]
mod tests {
    use super::Sent;
    use crate::base::ids::{Incarnation, LogIndex};

    #[test]
    fn only_a_beginning_that_has_moved_on_counts_against_a_peer() {
        let disk = Some(Incarnation(7));
        assert_eq!(Sent::attempts(None, disk, LogIndex(900)), 0);
        let sent = Sent {
            base_index: LogIndex(899),
            state_index: LogIndex(2000),
            attempts: 2,
            disk,
            is_interrupted: false,
        };
        assert_eq!(Sent::attempts(Some(sent), disk, LogIndex(900)), 2, "the same again");
        assert_eq!(Sent::attempts(Some(sent), disk, LogIndex(901)), 3);
        assert_eq!(Sent::attempts(Some(sent), Some(Incarnation(8)), LogIndex(901)), 0, "another disk");
        let mut broken = sent;
        broken.interrupt();
        assert_eq!(Sent::attempts(Some(broken), disk, LogIndex(901)), 2, "the stream broke");
        // One that got the state alone and whose answer was lost.
        let sent = Sent { base_index: LogIndex(2000), ..sent };
        assert_eq!(Sent::attempts(Some(sent), disk, LogIndex(901)), 2);
    }
}
