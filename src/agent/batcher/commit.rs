//! What happens when the commit index moves: the producers' table changes, acknowledgements leave, subscribers are fed.
//!
//! Invariant: `applied.index <= raft.commit_index()`, every entry is applied once and in order (PITFALLS 38), and
//! nothing above the commit index ever reaches a subscriber (29).

use super::Batcher;
use super::pending::Waiter;
use crate::agent::commands::BatcherReply;
use crate::agent::control::Fatal;
use crate::agent::rings::DeliveryNotice;
use crate::base::clock::Clock;
use crate::base::ids::{LogIndex, NodeId, Offset, Term};
use crate::base::planted::{Bug, is_planted};
use crate::entry::{Entry, EntryKind};
use crate::protocol::client::{AckKind, AckRun, ChangeCode, RequestErrorCode};
use crate::stream::Applied as Outcome;

/// How far entries are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The applied (= committed) index.
    pub index: LogIndex,
    /// Chain value there: equal on all nodes with equal indexes.
    pub chain: u64,
    /// Offset of the next event.
    pub next_offset: Offset,
}

impl Applied {
    /// Before the first entry.
    pub const NOTHING: Self = Self { index: LogIndex::ZERO, chain: 0, next_offset: Offset(1) };
}

impl<C: Clock> Batcher<C> {
    /// Applies everything up to `commit`; less, and without a word to anybody, where an entry ends the node.
    pub(super) fn commit_to(&mut self, commit: LogIndex) {
        assert!(commit <= self.tail.index, "nothing beyond the log's end is committed");
        while self.applied.index < commit {
            let index = self.applied.index.next();
            let entry =
                self.hot.get(index).cloned().expect("entries past the applied index are in the hot tail");
            self.apply(&entry);
            if self.control.is_stopped() {
                return;
            }
            let delivered = is_planted(Bug::UncommittedDelivered);
            if !delivered && self.rings.to_delivery.push(DeliveryNotice::Committed(entry)).is_err() {
                // Delivery finds the gap and reads the log instead: a slow subscriber delays nobody.
            }
        }
        self.rings.commit_tail.publish(self.applied.index.0, self.applied.next_offset.prev().0);
        self.publish_hint();
        self.acknowledge(if is_planted(Bug::AckBeforeCommit) { self.tail.index } else { commit });
    }

    fn apply(&mut self, entry: &Entry) {
        let header = entry.header();
        assert_eq!(header.base_offset, self.applied.next_offset, "offsets are dense");
        // What an installed checkpoint contains is not applied to its state again.
        if self.ahead.is_none_or(|ahead| header.index > ahead.index) {
            match self.producers.apply(&entry.view()) {
                Ok(Outcome::Opened(opened)) => self.opened.push(opened),
                Ok(_) => {}
                Err(error) => {
                    self.control
                        .fail(Fatal::Unknown(format!("cannot apply the entry at {}: {error}", entry.id())));
                    return;
                }
            }
            if header.kind == EntryKind::Configuration {
                self.configurations.committed(header.index);
                self.retention.configuration_entry = Some(entry.clone());
                self.pin_committed();
            }
        }
        if header.kind == EntryKind::Trim
            && let Ok(floor) = entry.view().trim()
        {
            self.apply_trim(floor);
        }
        self.applied =
            Applied { index: header.index, chain: entry.chain(), next_offset: header.next_offset() };
        self.unsettled_bytes = self.unsettled_bytes.saturating_sub(entry.len_bytes() as u64);
        self.counters.entries_applied.increment();
        self.meet_state();
    }

    /// Where the log now reaches an installed checkpoint, the two must be of one history.
    fn meet_state(&mut self) {
        let Some(ahead) = self.ahead.filter(|ahead| ahead.index <= self.applied.index) else { return };
        if ahead == self.applied {
            self.ahead = None;
            self.counters.checkpoints_reached.increment();
            tracing::info!(
                "this node's log has reached the checkpoint that it began with, at {}",
                ahead.index
            );
            self.retention.order_checkpoint();
        } else {
            self.state_is_of_another_log();
        }
    }

    /// What an installed checkpoint contains was committed, so no leader lacks it, unless a majority has accepted a loss
    /// (decision 0008).
    pub(super) fn state_is_of_another_log(&self) {
        self.control.fail(Fatal::Divergence(format!(
            "this node's log does not lead to the checkpoint that it began with, at index {}: the cluster has lost what the \
             leader of that time had; format a new directory and let it in by tercet member replace",
            self.state_point().index
        )));
    }

    /// How far the state goes: as far as entries are applied, or further with an installed checkpoint. Checksums of the
    /// log and of the state at this point compare across nodes.
    pub(super) fn state_point(&self) -> Applied {
        self.ahead.unwrap_or(self.applied)
    }

    fn acknowledge(&mut self, commit: LogIndex) {
        // The closure may not borrow `self`, so replies gather here; the vector is empty and free when nobody waits.
        let mut replies = Vec::new();
        let opened = &self.opened;
        self.pending.complete(commit, |index, waiter| match waiter {
            Waiter::Ack(part) => {
                let kind = if part.duplicate { AckKind::Duplicate } else { AckKind::Written };
                let run = AckRun {
                    producer_id: part.producer_id,
                    first_sequence: part.first_sequence,
                    count: part.count,
                    first_offset: part.first_offset,
                    kind,
                };
                replies.push(BatcherReply::Ack { connection: part.connection, run });
            }
            Waiter::Change { connection, request_id } => {
                let outcome = ChangeCode::Done;
                replies.push(BatcherReply::MemberChanged { connection, request_id, outcome });
            }
            Waiter::Open { connection, request_id } => {
                replies.push(match opened.iter().find(|opened| opened.index == index) {
                    Some(opened) => BatcherReply::ProducerOpened {
                        connection,
                        request_id,
                        producer_id: opened.producer_id,
                        epoch: opened.epoch,
                        next_sequence: opened.next_sequence,
                    },
                    None => BatcherReply::OpenRefused {
                        connection,
                        request_id,
                        code: RequestErrorCode::TooManyProducers,
                    },
                });
            }
        });
        self.opened.clear();
        for reply in replies {
            self.reply(reply);
        }
    }

    /// Clients on every node learn who leads (rule: news of a new leader is pushed).
    pub(super) fn announce_leadership(&mut self, term: Term, leader: Option<NodeId>) {
        match leader {
            Some(leader) if leader == self.settings.node_id => tracing::info!("this node leads term {term}"),
            Some(leader) => tracing::info!("node {leader} leads term {term}"),
            None => tracing::info!("no leader known in term {term}"),
        }
        self.reply(BatcherReply::Leadership { term, leader });
        // News for subscribers may be lost to a full ring; the next change, or their own query, repairs that.
        let _ = self.rings.to_delivery.push(DeliveryNotice::Leadership { term, leader });
    }
}
