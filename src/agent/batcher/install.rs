//! A peer that retention has left behind: the leader sends it a checkpoint, and it begins its log anew behind that.

use std::sync::Arc;

use super::Batcher;
use super::tail::TailState;
use crate::agent::commands::{Installation, LogCommand, SenderCommand};
use crate::agent::control::Fatal;
use crate::base::clock::Clock;
use crate::base::ids::{EntryId, LogIndex, NodeId};
use crate::entry::LogFloor;
use crate::log::checkpoint::CHECKPOINT_BYTES_MAX;
use crate::log::{Checkpoint, CheckpointOrder, HotTail};
use crate::protocol::peer::{CHECKPOINT_CHUNK_BYTES_MAX, CheckpointChunk};
use crate::raft::{MembershipLog, TermRuns};
use crate::stream::Producers;

/// Chunks handed to one sender in one turn.
const CHUNKS_PER_TURN: usize = 4;
/// Places of a sender's ring that chunks leave to other commands.
const SLOTS_KEPT: usize = 8;

/// A checkpoint on its way to one peer.
pub(super) struct Outgoing {
    image: Arc<[u8]>,
    id: EntryId,
    position: usize,
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
    checkpoint: Checkpoint,
    producers: Producers,
}

impl Incoming {
    /// Takes a chunk. True when the image is complete.
    fn take(&mut self, from: NodeId, chunk: CheckpointChunk, bytes: &[u8]) -> bool {
        if chunk.position == 0 && chunk.total_bytes <= CHECKPOINT_BYTES_MAX {
            self.from = Some((from, chunk));
            self.bytes = Vec::new();
        }
        let continues = self.from.is_some_and(|(peer, first)| {
            (peer, first.term, first.id, first.total_bytes) == (from, chunk.term, chunk.id, chunk.total_bytes)
                && chunk.position == self.bytes.len() as u64
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
            self.peers[slot].outgoing = None;
            return false;
        }
        if self.peers[slot].outgoing.is_none() {
            let Some(order) = self.checkpoint() else { return true };
            tracing::info!(
                "peer {peer} lacks what retention has removed: sending it the checkpoint at {}",
                order.id
            );
            self.counters.checkpoints_sent.increment();
            self.peers[slot].outgoing = Some(Outgoing { image: order.image, id: order.id, position: 0 });
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
                total_bytes: outgoing.image.len() as u64,
                position: outgoing.position as u64,
            };
            let command = SenderCommand::Checkpoint { chunk, image: Arc::clone(&outgoing.image), end };
            if port.rings.to_sender.push(command).is_err() {
                return true;
            }
            outgoing.position = end;
            if end == outgoing.image.len() {
                let index = outgoing.id.index;
                port.outgoing = None;
                self.raft.checkpoint_sent(peer, index);
                return true;
            }
        }
        true
    }

    /// A chunk of a leader's checkpoint.
    pub(super) fn hear_checkpoint(&mut self, from: NodeId, chunk: CheckpointChunk, bytes: &[u8]) {
        if !self.incoming.take(from, chunk, bytes) {
            return;
        }
        let differs = self.raft.term_at(chunk.id.index).is_some_and(|term| term != chunk.id.term);
        if chunk.term >= self.raft.term() && chunk.id.index <= self.raft.commit_index() && differs {
            self.contradicted(from, chunk.id.index);
            return;
        }
        let image: Arc<[u8]> = std::mem::take(&mut self.incoming).bytes.into();
        match self.check_image(&chunk, Arc::clone(&image)) {
            Ok((checked, membership)) => {
                self.incoming.checked = Some(checked);
                self.raft.checkpoint_received(from, chunk.term, chunk.id, membership);
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
        if checkpoint.cluster_id != self.configurations.newest().cluster_id {
            return Err("it is of another cluster".to_owned());
        }
        let membership = self.membership_of(&configuration).map_err(|error| error.to_string())?;
        let memberships = MembershipLog::new(checkpoint.configuration.index(), membership);
        Ok((Checked { image, checkpoint, producers }, memberships))
    }

    /// The core has put its log away: everything begins anew behind the checkpoint that was just received.
    pub(super) fn install(&mut self, id: EntryId, generation: u64) {
        let Some(Checked { image, checkpoint, producers }) = self.incoming.checked.take() else {
            self.control
                .fail(Fatal::Divergence(format!("no checkpoint at {id} is at hand to begin the log with")));
            return;
        };
        assert!(checkpoint.id == id && id.index > self.applied.index, "only a newer checkpoint is installed");
        tracing::info!("this node's log begins anew behind its leader's checkpoint at {id}");
        let floor = LogFloor { index: id.index.next(), offset: checkpoint.next_offset };
        let (chain, log_time_ns) = (checkpoint.chain, checkpoint.log_time_ns);
        self.producers = producers;
        if let Ok(configuration) = checkpoint.configuration() {
            self.begin_configurations(checkpoint.configuration.index(), configuration);
        }
        self.hot = HotTail::new(id.index, self.settings.limits.hot_tail_bytes_limit);
        self.tail = TailState {
            index: id.index,
            chain,
            next_offset: checkpoint.next_offset,
            log_time_ns,
            log_time_at_ns: self.now_ns,
        };
        self.applied = super::commit::Applied { index: id.index, chain, next_offset: checkpoint.next_offset };
        self.pending = super::pending::Pending::new(id.index);
        (self.written, self.flushed) = (LogIndex::ZERO, LogIndex::ZERO);
        self.unsettled_bytes = 0;
        self.unwritten = super::tail::Unwritten::default();
        self.retention.restart_at(floor, checkpoint.configuration);
        for port in &mut self.peers {
            port.forget_fetched();
        }
        self.rings.commit_tail.publish(id.index.0, checkpoint.next_offset.prev().0);
        self.rings.commit_tail.publish_floor(floor.offset.0);
        self.counters.checkpoints_installed.increment();
        let order = CheckpointOrder { image, id, floor, runs: TermRuns::after(id) };
        let installation = Installation { order, chain, log_time_ns, generation };
        self.hand_to_writer(LogCommand::Install(Box::new(installation)));
    }
}
