//! The reader: fetches from the log what the hot tail no longer holds, for peers that are far behind and for cold
//! subscribers. A page fault or a bad sector stops this thread and never Raft (rule 9).

use super::Agent;
use super::commands::{CatchUpReply, ColdReadReply};
use super::control::Control;
use super::rings::ReaderRings;
use crate::base::net::Readiness;
use crate::entry::Entry;
use crate::log::{Disk, LogReader, ReadError};

/// Requests answered in one turn.
const REQUESTS_LIMIT: usize = 16;

/// The agent.
pub struct Reader<D: Disk> {
    log: LogReader<D::File>,
    rings: ReaderRings<D::File>,
    control: Control,
    caught_up: Option<CatchUpReply>,
    cold: Option<ColdReadReply>,
}

impl<D: Disk> Agent for Reader<D> {
    fn name(&self) -> &'static str {
        "reader"
    }

    fn do_work(&mut self, _now_ns: u64, _readiness: &[Readiness]) -> usize {
        let work = self.take_news();
        work + self.serve_peers() + self.serve_subscribers()
    }

    fn is_stalled(&self) -> bool {
        self.caught_up.is_some() || self.cold.is_some()
    }
}

impl<D: Disk> Reader<D> {
    /// An agent over an empty catalog; the log writer tells it of every segment.
    #[must_use]
    pub fn new(log: LogReader<D::File>, rings: ReaderRings<D::File>, control: Control) -> Self {
        Self { log, rings, control, caught_up: None, cold: None }
    }

    /// What the writer did to the segments. Looked at again after each request was taken: whatever the asker knew to
    /// be written when it asked is here by then.
    fn take_news(&mut self) -> usize {
        let mut work = 0;
        while let Some(change) = self.rings.from_writer.pop() {
            self.log.apply(change);
            work += 1;
        }
        work
    }

    /// Damage, or what the disk cannot read: this node must mend before it takes part again (PITFALLS 61).
    fn report(&self, entries: &Result<Vec<Entry>, ReadError>) {
        if let Err(ReadError::Corrupt(damage)) = entries
            && self.control.damage().is_none()
        {
            tracing::error!("{damage}; this node stops taking part and mends it");
            self.control.found_damage(damage.to_string());
        }
    }

    /// Peers first: a follower that is behind is redundancy that is missing.
    fn serve_peers(&mut self) -> usize {
        let mut work = 0;
        while work < REQUESTS_LIMIT {
            let reply = match self.caught_up.take() {
                Some(reply) => reply,
                None => {
                    let Some(request) = self.rings.from_batcher.pop() else { break };
                    work += self.take_news();
                    let entries =
                        self.log.read_from_index(request.first, request.upto, request.bytes_max as u64);
                    self.report(&entries);
                    CatchUpReply {
                        purpose: request.purpose,
                        peer: request.peer,
                        first: request.first,
                        entries,
                    }
                }
            };
            if let Err(back) = self.rings.to_batcher.push(reply) {
                self.caught_up = Some(back);
                break;
            }
            work += 1;
        }
        work
    }

    fn serve_subscribers(&mut self) -> usize {
        let mut work = 0;
        while work < REQUESTS_LIMIT {
            let reply = match self.cold.take() {
                Some(reply) => reply,
                None => {
                    let Some(request) = self.rings.from_delivery.pop() else { break };
                    work += self.take_news();
                    let entries =
                        self.log.read_from_offset(request.offset, request.upto, request.bytes_max as u64);
                    self.report(&entries);
                    ColdReadReply { key: request.key, offset: request.offset, entries }
                }
            };
            if let Err(back) = self.rings.to_delivery.push(reply) {
                self.cold = Some(back);
                break;
            }
            work += 1;
        }
        work
    }
}
