//! The reader: fetches from the log what the hot tail no longer holds, for peers that are far behind and for cold
//! subscribers. A page fault or a bad sector stops this thread and never Raft (rule 9).

use super::Agent;
use super::commands::{CatchUpReply, ColdReadReply};
use super::control::Control;
use super::rings::ReaderRings;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::LogIndex;
use crate::base::net::Readiness;
use crate::entry::Entry;
use crate::log::{Disk, LogReader, ReadError};

/// How much of what the start has not read is read at once, and how often: at most 100 MB a second.
const SCRUB_BYTES: u64 = 1 << 20;
const SCRUB_EVERY_NS: u64 = 10 * NS_PER_MS;
/// Requests answered in one turn.
const REQUESTS_LIMIT: usize = 16;

/// The agent.
pub struct Reader<D: Disk> {
    log: LogReader<D::File>,
    rings: ReaderRings<D::File>,
    control: Control,
    caught_up: Option<CatchUpReply>,
    cold: Option<ColdReadReply>,
    scrub: Scrub,
}

/// Reading once, at leisure, what the start did not read: damage there is found and mended before it is needed, and
/// while the other nodes have whole copies.
#[derive(Clone, Copy, Debug)]
enum Scrub {
    /// The segments are not known yet.
    Waiting,
    /// From here to there.
    Under {
        next: LogIndex,
        last: LogIndex,
        at_ns: u64,
    },
    Done,
}

impl<D: Disk> Agent for Reader<D> {
    fn name(&self) -> &'static str {
        "reader"
    }

    fn do_work(&mut self, now_ns: u64, _readiness: &[Readiness]) -> usize {
        let news = self.take_news();
        let work = news + self.serve_peers() + self.serve_subscribers();
        if work == 0 { self.scrub(now_ns) } else { work }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        match self.scrub {
            Scrub::Under { at_ns, .. } => Some(at_ns),
            Scrub::Waiting | Scrub::Done => None,
        }
    }

    fn is_stalled(&self) -> bool {
        self.caught_up.is_some() || self.cold.is_some()
    }
}

impl<D: Disk> Reader<D> {
    /// An agent over an empty catalog; the log writer tells it of every segment.
    #[must_use]
    pub fn new(log: LogReader<D::File>, rings: ReaderRings<D::File>, control: Control) -> Self {
        Self { log, rings, control, caught_up: None, cold: None, scrub: Scrub::Waiting }
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

    /// One slice of what nobody has read since the start.
    fn scrub(&mut self, now_ns: u64) -> usize {
        if matches!(self.scrub, Scrub::Waiting) && self.log.first_index().is_some() {
            self.scrub = match self.log.unread() {
                Some((next, last)) => Scrub::Under { next, last, at_ns: now_ns + SCRUB_EVERY_NS },
                None => Scrub::Done,
            };
        }
        let Scrub::Under { next, last, at_ns } = self.scrub else { return 0 };
        if now_ns < at_ns {
            return 0;
        }
        let entries = self.log.read_from_index(next, last, SCRUB_BYTES);
        self.report(&entries);
        let next = match entries {
            Ok(entries) => entries.last().map(|entry| entry.index().next()),
            // Trimmed meanwhile.
            Err(ReadError::Gone { first, .. }) => Some(first),
            Err(ReadError::Corrupt(_)) => None,
        };
        self.scrub = match next.filter(|next| *next <= last) {
            Some(next) => Scrub::Under { next, last, at_ns: now_ns + SCRUB_EVERY_NS },
            None => Scrub::Done,
        };
        1
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
