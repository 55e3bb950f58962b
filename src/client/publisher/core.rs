//! The publisher's state machine: whom to send to, what to send, what the answers mean.
//!
//! Rules, in the order in which [`Core::step`] applies them:
//!
//! 1. Events travel on one connection at a time, the *line*: to the node that leads in the newest term heard of.
//! 2. Whenever the line is lost, or a newer leader is known while events are in flight on it, the fate of those events
//!    is unknown: the line is closed for good, and everything unacknowledged is sent again, in order and under the
//!    same identities, on the next line. The cluster tells a repeat from a new event (rule 14), so nothing doubles;
//!    sequences are contiguous there, so nothing is reordered.
//! 3. A producer is opened once. Its id and epoch are state of the cluster and outlive every connection.
//!
//! Because a line that was given up is never read again, an answer always belongs to what was sent since its line
//! began, and stale ones need no further thought.

use std::collections::VecDeque;

use super::Ack;
use super::outbox::{FRAME_BYTES, FRAME_EVENTS, Outbox};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{Epoch, NodeId, ProducerId, Sequence, Term};
use crate::client::error::ClientError;
use crate::client::leader::Leadership;
use crate::client::links::{LinkRef, Links, ns};
use crate::client::options::ClientOptions;
use crate::protocol::client::{ClientMessage, Publish};

/// Bytes handed to a socket that did not take them yet, before more is encoded.
const UNSENT_BYTES: usize = 1 << 20;
/// A pause between acknowledgements that is worth a line in a debugging log.
const LONG_PAUSE_NS: u64 = 20 * NS_PER_MS;
/// How often the patience with a silent leader doubles.
const PATIENCE_DOUBLINGS: u32 = 3;

/// The connection that events travel on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) link: LinkRef,
    pub(super) node: NodeId,
    /// The term in which that node led when the line began.
    pub(super) term: Term,
}

/// An identity that the cluster gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) producer_id: ProducerId,
    pub(super) epoch: Epoch,
}

/// The publisher without its connections.
pub(super) struct Core {
    pub(super) name: String,
    pub(super) identity: Option<Identity>,
    /// What the cluster expected when the producer was opened.
    pub(super) expected: Sequence,
    pub(super) outbox: Outbox,
    pub(super) leadership: Leadership,
    pub(super) line: Option<Line>,
    /// The open request, and the line on which it was asked.
    pub(super) asked: Option<(u64, LinkRef)>,
    /// Acknowledgements to hand out, in sequence order.
    pub(super) acks: VecDeque<Ack>,
    /// What ended this publisher.
    pub(super) fatal: Option<ClientError>,
    /// First sequence that this publisher has sent.
    pub(super) began_at: Sequence,
    /// Gaps in a row below what was acknowledged: a leader without news of its successor may report some.
    pub(super) gaps: u32,
    /// Largest encoded event that the nodes take.
    pub(super) event_bytes_max: usize,
    pub(super) progress_ns: u64,
    silence_limit_ns: u64,
    doublings: u32,
}

impl Core {
    pub(super) fn new(options: &ClientOptions, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            identity: None,
            expected: Sequence::ZERO,
            outbox: Outbox::new(Sequence(1)),
            leadership: Leadership::default(),
            line: None,
            asked: None,
            acks: VecDeque::new(),
            fatal: None,
            began_at: Sequence(1),
            gaps: 0,
            event_bytes_max: usize::MAX,
            progress_ns: 0,
            silence_limit_ns: ns(options.leader_silence_limit),
            doublings: 0,
        }
    }

    /// Looks at what has changed, and sends what may be sent.
    pub(super) fn step(&mut self, links: &mut Links) {
        if self.line.is_some_and(|line| !links.is_live(line.link)) {
            self.line_lost();
        }
        self.follow(links);
        let Some(line) = self.line else { return };
        if self.leadership.leader() == Some(line.node) {
            if self.identity.is_some() {
                self.send(links, line.link);
            } else {
                self.ask(links, line.link);
            }
        }
        let owed = self.outbox.in_flight() > 0 || self.asked.is_some();
        links.watch(line.link, owed.then_some(self.silence_limit_ns << self.doublings));
    }

    /// Everything in flight is unknown from here on.
    fn line_lost(&mut self) {
        if self.outbox.in_flight() > 0 {
            self.doublings = (self.doublings + 1).min(PATIENCE_DOUBLINGS);
        }
        if let Some(line) = self.line.take() {
            let unknown = self.outbox.in_flight();
            tracing::debug!("node {} is left; {unknown} events in flight are unknown", line.node);
        }
        self.asked = None;
        self.outbox.rewind();
    }

    /// Rules 1 and 2: takes the line to whoever leads now.
    fn follow(&mut self, links: &mut Links) {
        let Some(leader) = self.leadership.leader() else { return };
        let term = self.leadership.term();
        if let Some(line) = &mut self.line {
            let in_flight = self.outbox.in_flight() > 0 || self.asked.is_some();
            if line.term == term && line.node == leader {
                return;
            }
            if in_flight {
                // A node whose term has changed has lost leadership in between, and forgotten whom to answer.
                links.leave(line.link, "another leader was elected");
                self.line_lost();
                self.doublings = 0;
                // Where it is the same node, its connection is wanted again at once.
                links.hurry(leader);
            } else if line.node == leader {
                line.term = term;
                return;
            } else {
                links.watch(line.link, None);
                self.line_lost();
            }
        }
        if let Some(link) = links.of_node(leader) {
            self.line = Some(Line { link, node: leader, term });
            tracing::debug!("publishing at node {leader}, which leads in term {term}");
        }
    }

    fn ask(&mut self, links: &mut Links, link: LinkRef) {
        if self.asked.is_none() {
            let request_id = links.next_request_id();
            links.send(link, &ClientMessage::OpenProducer { request_id, name: &self.name });
            links.flush(link);
            self.asked = Some((request_id, link));
        }
    }

    /// Sends as much as the credit and the socket take.
    fn send(&mut self, links: &mut Links, link: LinkRef) {
        let Some(Identity { producer_id, epoch }) = self.identity else { return };
        let credit = links.credit_of(link);
        loop {
            let mut none_left = false;
            while links.unsent_bytes(link) < UNSENT_BYTES {
                let Some((count, bytes)) = self.outbox.take_frame(&credit) else {
                    none_left = true;
                    break;
                };
                let publish = Publish { producer_id, epoch, event_count: count as u16, bytes };
                links.send(link, &ClientMessage::Publish(publish));
            }
            links.flush(link);
            if none_left || links.unsent_bytes(link) > 0 || !links.is_live(link) {
                return;
            }
        }
    }

    /// After an event was queued: a lone one, and a whole frame of them, leave at once; others with the next poll.
    pub(super) fn send_if_worthwhile(&mut self, links: &mut Links) {
        let (events, bytes) = self.outbox.unsent();
        if self.outbox.in_flight() == 0 || events >= FRAME_EVENTS || bytes >= FRAME_BYTES {
            self.step(links);
        }
    }

    /// Something was acknowledged: the cluster is well.
    pub(super) fn progressed(&mut self, links: &mut Links, link: LinkRef) {
        links.useful(link);
        let now_ns = links.now_ns();
        if now_ns.saturating_sub(self.progress_ns) > LONG_PAUSE_NS {
            let pause_ms = (now_ns - self.progress_ns) / NS_PER_MS;
            tracing::debug!("progress again after {pause_ms} ms; {} events wait", self.outbox.len());
        }
        self.progress_ns = now_ns;
        (self.doublings, self.gaps) = (0, 0);
    }

    /// Why nothing moves, after so long.
    pub(super) fn stuck(&self, links: &Links, waited: std::time::Duration) -> ClientError {
        if links.ready().next().is_none() {
            ClientError::NoNodeReachable { servers: links.describe(), waited, last: links.describe_failure() }
        } else if self.line.is_none() || self.leadership.leader().is_none() {
            ClientError::NoLeader { waited, last: links.describe_failure() }
        } else {
            ClientError::NoProgress { waiting: self.outbox.len(), waited }
        }
    }

    /// Ends this publisher.
    pub(super) fn end(&mut self, error: ClientError) -> ClientError {
        self.fatal = Some(error.clone());
        error
    }
}
