//! When to dial a peer.

use std::net::SocketAddr;

use super::Conductor;
use super::handshake::{Handshake, Stage};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::NodeId;
use crate::base::net::Net;
use crate::base::prng::Prng;

const BACKOFF_MIN_NS: u64 = 10 * NS_PER_MS;
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
}

impl Dial {
    pub(super) const fn new(peer: NodeId, address: SocketAddr) -> Self {
        Self {
            peer,
            address,
            state: State::Waiting { until_ns: 0 },
            backoff_ns: BACKOFF_MIN_NS,
            told: String::new(),
        }
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
    }

    /// The handshake is done.
    pub(super) const fn connected(&mut self) {
        self.backoff_ns = BACKOFF_MIN_NS;
        self.state = State::Connected;
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
                Err(_) => dial.failed(self.now_ns, &mut self.prng),
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
}
