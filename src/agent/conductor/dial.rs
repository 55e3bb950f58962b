//! When to dial a peer.

use std::io;
use std::net::SocketAddr;

use super::Conductor;
use super::handshake::{Handshake, Stage};
use crate::agent::commands::ConductorRequest;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::NodeId;
use crate::base::net::Net;
use crate::base::prng::Prng;

const BACKOFF_MIN_NS: u64 = 2 * NS_PER_MS;
const BACKOFF_MAX_NS: u64 = 500 * NS_PER_MS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting { until_ns: u64 },
    Dialling,
    Connected,
}

/// One peer's outbound stream: waiting, dialling or connected.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) peer: NodeId,
    address: SocketAddr,
    state: State,
    backoff_ns: u64,
    told: String,
    evidence: Evidence,
}

/// What is known of a peer's process. It is gone when the stream that this node dialled was closed, another dial was
/// refused since, and the stream that the peer dialled is closed too. Either alone may be the network's doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Evidence {
    /// The established outbound stream was closed, and none stands since.
    lost: bool,
    /// A dial since then was refused: the host lives and nobody listens there.
    refused: bool,
    /// The stream that the peer dialled stands.
    inbound: bool,
}

impl Dial {
    pub(super) const fn new(peer: NodeId, address: SocketAddr) -> Self {
        Self {
            peer,
            address,
            state: State::Waiting { until_ns: 0 },
            backoff_ns: BACKOFF_MIN_NS,
            told: String::new(),
            evidence: Evidence { lost: false, refused: false, inbound: false },
        }
    }

    /// The peer's own stream has been handed over.
    pub(super) const fn inbound_stands(&mut self) {
        self.evidence.inbound = true;
    }

    /// The peer's own stream is over.
    pub(super) const fn inbound_lost(&mut self) {
        self.evidence.inbound = false;
    }

    /// A dial failed because nobody listens there.
    pub(super) const fn nobody_listens(&mut self) {
        self.evidence.refused = self.evidence.lost;
    }

    /// True once for each loss, when it is certain that the peer's process is gone.
    pub(super) const fn take_gone(&mut self) -> bool {
        let Evidence { lost, refused, inbound } = self.evidence;
        let gone = lost && refused && !inbound;
        if gone {
            self.evidence.lost = false;
        }
        gone
    }

    /// True when this refusal is news, so that a standing one is logged once.
    pub(super) fn tell_refusal(&mut self, text: &str) -> bool {
        let is_news = self.told != text;
        text.clone_into(&mut self.told);
        is_news
    }

    pub(super) const fn due_ns(&self) -> Option<u64> {
        match self.state {
            State::Waiting { until_ns } => Some(until_ns),
            State::Dialling | State::Connected => None,
        }
    }

    /// An established stream is gone: dial at once.
    pub(super) const fn lost(&mut self, now_ns: u64) {
        self.backoff_ns = BACKOFF_MIN_NS;
        self.state = State::Waiting { until_ns: now_ns };
        (self.evidence.lost, self.evidence.refused) = (true, false);
    }

    /// The handshake is done.
    pub(super) const fn connected(&mut self) {
        self.backoff_ns = BACKOFF_MIN_NS;
        self.state = State::Connected;
        (self.evidence.lost, self.evidence.refused) = (false, false);
    }

    /// The dial failed: wait, longer each time, with jitter so that nodes do not dial in step.
    pub(super) fn failed(&mut self, now_ns: u64, prng: &mut Prng) {
        let wait_ns = self.backoff_ns / 2 + prng.below(self.backoff_ns / 2 + 1);
        self.state = State::Waiting { until_ns: now_ns + wait_ns };
        self.backoff_ns = (self.backoff_ns * 2).min(BACKOFF_MAX_NS);
    }

    /// The peer refused for a reason that only a person can mend: no hurry.
    pub(super) const fn refused(&mut self, now_ns: u64) {
        self.backoff_ns = BACKOFF_MAX_NS;
        self.state = State::Waiting { until_ns: now_ns + BACKOFF_MAX_NS };
    }
}

impl<N: Net> Conductor<N> {
    /// Begins every dial that is due.
    pub(super) fn dial_due(&mut self) -> usize {
        let mut work = 0;
        for place in 0..self.dials.len() {
            let dial = &mut self.dials[place];
            if dial.due_ns().is_none_or(|due| due > self.now_ns) {
                continue;
            }
            work += 1;
            self.counters.dials.increment();
            let peer = dial.peer;
            match self.net.connect(dial.address) {
                Ok(stream) => {
                    dial.state = State::Dialling;
                    let deadline_ns = self.now_ns + self.settings.handshake_timeout_ns;
                    self.begin(Handshake::new(stream, Stage::Connecting { peer }, deadline_ns));
                }
                Err(error) => {
                    dial.failed(self.now_ns, &mut self.prng);
                    self.note_dial_error(peer, &error);
                }
            }
        }
        work
    }

    /// A connection could not be made.
    pub(super) fn note_dial_error(&mut self, peer: NodeId, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionRefused
            && let Some(dial) = self.dial_of(peer)
        {
            dial.nobody_listens();
        }
    }

    /// Tells the batcher of peers whose processes are gone.
    pub(super) fn tell_gone(&mut self) -> usize {
        let mut work = 0;
        for dial in &mut self.dials {
            if dial.take_gone() {
                work += 1;
                // A hint: where the ring is full, the election timer finds out.
                let _ = self.rings.to_batcher.push(ConductorRequest::Gone(dial.peer));
            }
        }
        work
    }

    pub(super) fn dial_of(&mut self, peer: NodeId) -> Option<&mut Dial> {
        self.dials.iter_mut().find(|dial| dial.peer == peer)
    }

    pub(super) fn dial_failed(&mut self, peer: NodeId) {
        let now_ns = self.now_ns;
        if let Some(place) = self.dials.iter().position(|dial| dial.peer == peer) {
            self.dials[place].failed(now_ns, &mut self.prng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BACKOFF_MAX_NS, Dial};
    use crate::base::ids::NodeId;
    use crate::base::prng::Prng;

    #[test]
    fn waits_grow_to_half_a_second_and_a_lost_stream_is_dialled_at_once() {
        let mut dial = Dial::new(NodeId(2), "127.0.0.1:1".parse().expect("address"));
        let mut prng = Prng::new(1);
        let mut longest = 0;
        for _ in 0..20 {
            dial.failed(1_000, &mut prng);
            longest = longest.max(dial.due_ns().expect("waits") - 1_000);
        }
        assert!(longest <= BACKOFF_MAX_NS && longest > BACKOFF_MAX_NS / 2);
        dial.connected();
        assert_eq!(dial.due_ns(), None);
        dial.lost(5);
        assert_eq!(dial.due_ns(), Some(5));
    }

    #[test]
    fn a_peer_is_gone_only_when_both_streams_are_closed_and_a_redial_was_refused_and_that_is_told_once() {
        let fresh = || {
            let mut dial = Dial::new(NodeId(2), "127.0.0.1:1".parse().expect("address"));
            dial.connected();
            dial.inbound_stands();
            dial
        };
        let (lost, refused, inbound_lost) = (1, 2, 4);
        for seen in 0..8 {
            let mut dial = fresh();
            if seen & lost != 0 {
                dial.lost(0);
            }
            if seen & refused != 0 {
                dial.nobody_listens();
            }
            if seen & inbound_lost != 0 {
                dial.inbound_lost();
            }
            assert_eq!(dial.take_gone(), seen == 7, "{seen:03b}");
            assert!(!dial.take_gone(), "told once");
        }
        let mut dial = fresh();
        dial.nobody_listens();
        dial.lost(0);
        dial.inbound_lost();
        assert!(!dial.take_gone(), "a refusal from before the loss proves nothing");
        dial.nobody_listens();
        dial.connected();
        assert!(!dial.take_gone(), "it listens again");
    }
}
