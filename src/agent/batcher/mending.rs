//! Serving peers whose own copies are damaged (`agent/mending`): whatever this node's files hold, in any role and term.

use super::Batcher;
use crate::agent::commands::{CatchUpPurpose, CatchUpReply, CatchUpRequest, SenderCommand};
use crate::agent::mending::{ANSWER_BYTES, clip_answer};
use crate::base::clock::Clock;
use crate::base::ids::LogIndex;
use crate::entry::Entry;
use crate::log::ReadError;
use crate::protocol::peer::{CopyState, MendMessage};

impl<C: Clock> Batcher<C> {
    /// A peer asks for entries, or answers a question of the time when this node was mending (which is over).
    pub(super) fn hear_mend(&mut self, slot: usize, message: MendMessage) {
        let MendMessage::Fetch { question, first, last } = message else { return };
        if self.peers[slot].is_reading_for_mending {
            // It asks again.
            return;
        }
        // Not beyond what is written: the reader's files end there, and what is not written was never acknowledged.
        let upto = last.min(self.written);
        if first > upto {
            // 'Absent' is a promise: no disk of this node holds it, and nothing on the way to it. Behind a claimed
            // tail no header says that there ever was anything; were that left in doubt, this node and the peer might wait
            // for each other.
            let certain = first > self.tail.index && self.hard_state.claims_nothing_from(first);
            let state = if certain { CopyState::Absent } else { CopyState::Unsure };
            self.answer_mend((slot, question), (first, last), state, Vec::new());
            return;
        }
        let purpose = CatchUpPurpose::Mending { question, asked_last: last };
        let peer = self.peers[slot].id();
        let request = CatchUpRequest { purpose, peer, first, upto, bytes_max: ANSWER_BYTES };
        self.peers[slot].is_reading_for_mending = self.rings.to_reader.push(request).is_ok();
    }

    /// The reader's answer for a peer that mends.
    pub(super) fn take_for_mending(
        &mut self,
        slot: usize,
        reply: CatchUpReply,
        (question, asked_last): (u64, LogIndex),
    ) {
        self.peers[slot].is_reading_for_mending = false;
        let first = reply.first;
        match reply.entries {
            Ok(mut entries) => match clip_answer(&mut entries) {
                Some(last) => self.answer_mend((slot, question), (first, last), CopyState::Held, entries),
                None => self.answer_mend((slot, question), (first, asked_last), CopyState::Unsure, entries),
            },
            Err(ReadError::Corrupt(damage)) => {
                let state = if damage.first == first { CopyState::Damaged } else { CopyState::Unsure };
                self.answer_mend((slot, question), (first, first), state, Vec::new());
            }
            // Removed by retention, so it was committed: that it is not here does not say that it never was.
            Err(ReadError::Gone { first: kept, .. }) => {
                let last = kept.prev().clamp(first, asked_last);
                self.answer_mend((slot, question), (first, last), CopyState::Trimmed, Vec::new());
            }
        }
    }

    fn answer_mend(
        &mut self,
        (slot, question): (usize, u64),
        (first, last): (LogIndex, LogIndex),
        state: CopyState,
        entries: Vec<Entry>,
    ) {
        let message = MendMessage::Fetched { question, first, last, state };
        if self.peers[slot].rings.to_sender.push(SenderCommand::Mend { message, entries }).is_err() {
            self.counters.peer_messages_dropped.increment();
        }
    }
}
