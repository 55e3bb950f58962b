//! Questions about this node: commit queries (read barriers) and status.

use super::Batcher;
use crate::agent::commands::{BatcherReply, ConnectionId};
use crate::base::clock::{Clock, NS_PER_MS};
use crate::base::ids::Offset;
use crate::protocol::client::{NodeRole, PeerState, PeerStatus, StatusReply};
use crate::raft::{ProgressState, Role};

/// Open commit queries of one node at a time; beyond it the oldest is answered with 'no leader'.
const READS_LIMIT: usize = 1024;

/// A commit query that waits for a heartbeat round.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenRead {
    token: u64,
    connection: ConnectionId,
    request_id: u64,
}

impl<C: Clock> Batcher<C> {
    pub(super) fn commit_query(&mut self, connection: ConnectionId, request_id: u64, leader_required: bool) {
        if !leader_required {
            let committed = Some((self.applied.index, self.applied.next_offset.prev()));
            self.reply(BatcherReply::Commit { connection, request_id, committed, from_leader: false });
        } else if self.is_leader() && self.reads.len() < READS_LIMIT {
            let token = self.next_read_token;
            self.next_read_token += 1;
            self.reads.push(OpenRead { token, connection, request_id });
            self.raft.read_index(token);
        } else {
            self.reply(BatcherReply::Commit { connection, request_id, committed: None, from_leader: false });
        }
    }

    /// A read barrier is through (or leadership was lost).
    pub(super) fn finish_read(&mut self, token: u64, confirmed: bool) {
        let Some(place) = self.reads.iter().position(|read| read.token == token) else { return };
        let read = self.reads.swap_remove(place);
        // Everything committed when the query came is applied by now: commits are applied as they are learnt.
        let committed = confirmed.then_some((self.applied.index, self.applied.next_offset.prev()));
        self.reply(BatcherReply::Commit {
            connection: read.connection,
            request_id: read.request_id,
            committed,
            from_leader: confirmed,
        });
    }

    pub(super) fn answer_status(&mut self, connection: ConnectionId, request_id: u64) {
        let role = match self.raft.role() {
            Role::Leader => NodeRole::Leader,
            Role::Candidate | Role::PreCandidate => NodeRole::Candidate,
            Role::Follower => NodeRole::Follower,
            Role::Learner => NodeRole::Learner,
        };
        let last_offset = self.applied.next_offset.prev();
        let status = StatusReply {
            request_id,
            node_id: self.settings.node_id,
            role,
            term: self.raft.term(),
            leader_id: self.raft.leader(),
            commit_index: self.applied.index,
            last_index: self.tail.index,
            flushed_index: self.flushed,
            first_offset: if last_offset == Offset::ZERO {
                Offset::ZERO
            } else {
                self.retention.floor.offset
            },
            last_offset,
            log_checksum_index: self.state_point().index,
            log_checksum: self.state_point().chain,
            producers: self.producers.count() as u32,
            producers_checksum: self.producers.checksum(),
            peers: self.peer_statuses(),
            durability: self.durability,
            uptime_ms: self.now_ns.saturating_sub(self.started_ns) / NS_PER_MS,
            version: self.settings.version,
            counters: Vec::new(),
        };
        self.reply(BatcherReply::Status { connection, status: Box::new(status) });
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let describe = |(slot, port): (usize, &super::PeerPort)| {
            let progress = self.raft.progress(port.id());
            PeerStatus {
                node_id: port.id(),
                connected: self.reaches(slot),
                next_index: progress.map_or_else(Default::default, |p| p.next()),
                match_appended: progress.map_or_else(Default::default, |p| p.appended()),
                match_stable: progress.map_or_else(Default::default, |p| p.stable()),
                state: progress.map_or(PeerState::Unknown, |p| match p.state() {
                    ProgressState::Probe => PeerState::Probe,
                    ProgressState::Replicate => PeerState::Replicate,
                }),
            }
        };
        self.peers.iter().enumerate().map(describe).collect()
    }
}
