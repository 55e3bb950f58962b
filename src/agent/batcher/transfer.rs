//! Handing leadership over on request.

use super::Batcher;
use crate::agent::commands::{BatcherReply, ConnectionId};
use crate::base::clock::Clock;
use crate::base::ids::NodeId;
use crate::protocol::client::TransferCode;

impl<C: Clock> Batcher<C> {
    /// Begins a transfer of leadership to `to`, or says why not.
    pub(super) fn transfer(&mut self, connection: ConnectionId, request_id: u64, to: NodeId) {
        let outcome = if !self.is_leader() {
            TransferCode::NotLeader
        } else if self.configuration.voters.iter().all(|voter| voter.node_id != to) {
            TransferCode::NotAVoter
        } else if to == self.settings.node_id {
            TransferCode::Done
        } else {
            TransferCode::TimedOut
        };
        self.reply(BatcherReply::Transferred { connection, request_id, outcome });
    }
}
