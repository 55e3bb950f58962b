//! One connection to one node: its stage, its buffers, its timers.

use std::net::SocketAddr;

use crate::base::ids::NodeId;
use crate::base::limits::FRAME_BYTES_MAX;
use crate::net::{InBuffer, MioStream, OutQueue};

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Closed; dialled again when due.
    Waiting { due_ns: u64 },
    /// The dial is under way.
    Dialing { deadline_ns: u64 },
    /// Connected; our hello was sent, its reply is awaited.
    Greeting { deadline_ns: u64 },
    /// Welcome.
    Ready { since_ns: u64 },
}

/// What a node allows on this connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::client) struct Credit {
    /// Most unacknowledged events.
    pub events: usize,
    /// Most unacknowledged bytes, or one larger event.
    pub bytes: usize,
    /// Largest encoded event.
    pub event_bytes_max: usize,
}

/// A place for a connection to one address. It is dialled again and again; `generation` tells the dials apart.
pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) generation: u32,
    pub(super) stage: Stage,
    pub(super) stream: Option<MioStream>,
    pub(super) inbox: InBuffer,
    pub(super) out: OutQueue<&'static [u8]>,
    /// Bytes may be waiting in the socket.
    pub(super) readable: bool,
    /// The socket took everything so far (while dialling: it has news).
    pub(super) writable: bool,
    /// A whole frame was left in the inbox by its handler.
    pub(super) kept: bool,
    pub(super) node: Option<NodeId>,
    pub(super) credit: Credit,
    /// Failures in a row; sets the pause before the next dial.
    pub(super) failures: u32,
    pub(super) last_failure: String,
    pub(super) heard_ns: u64,
    pub(super) pinged_ns: Option<u64>,
    /// The time for an answer is up; the socket is looked at once more, since it may be this process that was late.
    pub(super) last_look: bool,
    /// An answer is awaited since then, and silence is borne for that long only.
    pub(super) watch: Option<Watch>,
}

/// Attention on a connection that owes answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Watch {
    pub(super) since_ns: u64,
    pub(super) limit_ns: u64,
}

/// Silence borne on a connection that owes nothing.
const IDLE_LIMIT_NS: u64 = 10_000_000_000;

/// What silence asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Silence {
    /// Nothing before then.
    Until(u64),
    /// Ask whether somebody is there.
    Ping,
    /// Give the connection up.
    TooLong,
}

impl Link {
    pub(super) fn new(address: SocketAddr, inbox_bytes: usize) -> Self {
        Self {
            address,
            generation: 0,
            stage: Stage::Waiting { due_ns: 0 },
            stream: None,
            inbox: InBuffer::new(inbox_bytes, FRAME_BYTES_MAX),
            out: OutQueue::new(),
            readable: false,
            writable: false,
            kept: false,
            node: None,
            credit: Credit::default(),
            failures: 0,
            last_failure: String::new(),
            heard_ns: 0,
            pinged_ns: None,
            last_look: false,
            watch: None,
        }
    }

    /// Something arrived (or silence is our own doing).
    pub(super) const fn heard(&mut self, now_ns: u64) {
        (self.heard_ns, self.pinged_ns, self.last_look) = (now_ns, None, false);
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. })
    }

    /// Where this connection stands with its silence. A connection is never given up before a ping of ours went
    /// unanswered, so a caller that did not poll for a while blames nobody.
    pub(super) fn silence(&self, now_ns: u64) -> Silence {
        let (since_ns, limit_ns) = self.watch.map_or((0, IDLE_LIMIT_NS), |w| (w.since_ns, w.limit_ns));
        let half_ns = limit_ns / 2;
        match self.pinged_ns {
            Some(pinged_ns) if now_ns >= pinged_ns.saturating_add(half_ns) => Silence::TooLong,
            Some(pinged_ns) => Silence::Until(pinged_ns.saturating_add(half_ns)),
            None => {
                let ping_ns = self.heard_ns.max(since_ns).saturating_add(half_ns);
                if now_ns >= ping_ns { Silence::Ping } else { Silence::Until(ping_ns) }
            }
        }
    }

    /// When this connection wants to be looked at although nothing arrived.
    pub(super) fn deadline_ns(&self, now_ns: u64) -> u64 {
        match self.stage {
            Stage::Waiting { due_ns } => due_ns,
            Stage::Dialing { deadline_ns } | Stage::Greeting { deadline_ns } => deadline_ns,
            Stage::Ready { .. } => match self.silence(now_ns) {
                Silence::Until(at_ns) => at_ns,
                Silence::Ping | Silence::TooLong => now_ns,
            },
        }
    }
}
