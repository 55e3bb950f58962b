//! The ack receiver: reads everything that one peer says, on the stream that the peer dialled, verifies it and hands
//! it to the batcher. A broken frame ends the connection and changes nothing else.

use super::Agent;
use super::commands::{LinkClosed, PeerMessage, PeerSaid};
use super::connection::PeerStream;
use super::rings::ReceiverRings;
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::net::{Net, Readiness};
use crate::metrics::{Counter, Counters};
use crate::protocol::frame::split_frame;
use crate::protocol::peer::{PeerFrame, decode_peer_frame};

/// Bytes read from the socket in one turn.
const READ_BUDGET: usize = 1 << 20;
/// Usual and largest size of the inbox.
const INBOX_BYTES: (usize, usize) = (512 << 10, FRAME_BYTES_MAX);
/// Frames handed on in one turn.
const FRAMES_LIMIT: usize = 64;

/// Counters that only this receiver writes.
#[derive(Debug)]
struct AckReceiverCounters {
    // Bytes read from the peer.
    bytes_received: Counter,
    // Whole frames.
    frames_received: Counter,
    // Frames that were none, or not what a peer says: each ended its connection.
    frames_refused: Counter,
}

impl AckReceiverCounters {
    fn new(counters: &Counters, instance: u16) -> Self {
        Self {
            bytes_received: counters.register_instance("ack_receiver_bytes_received", instance),
            frames_received: counters.register_instance("ack_receiver_frames_received", instance),
            frames_refused: counters.register_instance("ack_receiver_frames_refused", instance),
        }
    }
}

/// The agent.
pub struct AckReceiver<N: Net> {
    stream: PeerStream<N>,
    rings: ReceiverRings<N::Stream>,
    /// A verified message that found the batcher's ring full.
    held: Option<PeerMessage>,
    counters: AckReceiverCounters,
}

impl<N: Net> Agent for AckReceiver<N> {
    fn name(&self) -> &'static str {
        "ack-receiver"
    }

    fn do_work(&mut self, _now_ns: u64, readiness: &[Readiness]) -> usize {
        let mut work = self.take_streams();
        self.stream.note(readiness);
        work += self.receive();
        if self.stream.is_lost && self.rings.to_conductor.push(LinkClosed::Inbound(self.rings.peer)).is_ok() {
            self.stream.is_lost = false;
            work += 1;
        }
        work
    }

    fn is_stalled(&self) -> bool {
        self.held.is_some() || self.stream.is_lost
    }
}

impl<N: Net> AckReceiver<N> {
    /// An agent without a stream; the conductor hands one over when the peer has dialled.
    pub fn new(net: N, rings: ReceiverRings<N::Stream>, counters: &Counters) -> Self {
        Self {
            counters: AckReceiverCounters::new(counters, rings.peer.0),
            stream: PeerStream::new(net, INBOX_BYTES),
            rings,
            held: None,
        }
    }

    fn take_streams(&mut self) -> usize {
        let mut work = 0;
        while let Some(new) = self.rings.from_conductor.pop() {
            work += 1;
            self.stream.replace(new);
        }
        work
    }

    fn receive(&mut self) -> usize {
        // What was held must go first: order within a stream is kept.
        if let Some(message) = self.held.take()
            && let Err(back) = self.rings.to_batcher.push(message)
        {
            self.held = Some(back);
            return 0;
        }
        let Some(connection) = &mut self.stream.connection else { return 0 };
        let (bytes, ended) = match connection.read(READ_BUDGET) {
            Ok(result) => (result.bytes, result.closed),
            Err(_) => (0, true),
        };
        self.counters.bytes_received.add(bytes as u64);
        let (frames, over) = match self.hand_on() {
            // The peer's last words are heard before its end is told, in as many turns as they take.
            Ok(frames) => (frames, ended && self.held.is_none() && frames < FRAMES_LIMIT),
            Err(reason) => {
                self.counters.frames_refused.increment();
                tracing::warn!(
                    "closing the connection from peer {}: {reason}; it will dial again",
                    self.rings.peer
                );
                (0, true)
            }
        };
        if over {
            self.stream.lose();
            return 1;
        }
        usize::from(bytes > 0) + frames
    }

    /// Hands whole frames on until none is left, the bound is reached, or the ring is full.
    fn hand_on(&mut self) -> Result<usize, String> {
        let Some(connection) = &mut self.stream.connection else { return Ok(0) };
        let mut frames = 0;
        while frames < FRAMES_LIMIT && self.held.is_none() {
            if connection.whole_frame_bytes(FRAME_BYTES_MAX).map_err(|error| error.to_string())?.is_none() {
                break;
            }
            let split = split_frame(connection.inbox.unread()).map_err(|error| error.to_string())?;
            let Some((frame, consumed)) = split else { break };
            let said = match decode_peer_frame(frame).map_err(|error| error.to_string())? {
                PeerFrame::Raft { message, entries, .. } => PeerSaid::Raft { message, entries },
                PeerFrame::Mend { message, entries, .. } => PeerSaid::Mend { message, entries },
                PeerFrame::Checkpoint { chunk, bytes, .. } => {
                    PeerSaid::Checkpoint { chunk, bytes: bytes.to_vec() }
                }
                PeerFrame::Hello(_) | PeerFrame::HelloReply(_) => {
                    return Err("a handshake frame after the handshake".to_owned());
                }
            };
            self.counters.frames_received.increment();
            let heard = PeerMessage { incarnation: self.stream.incarnation, said };
            if let Err(back) = self.rings.to_batcher.push(heard) {
                self.held = Some(back);
            }
            connection.inbox.consume(consumed);
            frames += 1;
        }
        Ok(frames)
    }
}
