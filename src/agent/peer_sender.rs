//! The peer sender: writes everything that this node says to one peer, on the stream that this node dialled.
//!
//! It stops taking commands while more than a bounded number of bytes waits in its socket; the ring then fills, the
//! batcher's window for this peer closes, and a black-holed peer stalls nobody else (rule 4, PITFALLS 49). A stream of
//! which the peer takes nothing for [`PATIENCE`] breaks and is dialled again: what the system would go on retransmitting
//! at ever longer intervals must not decide when a peer that is back is reached.

use std::time::Duration;

use super::Agent;
use super::commands::{LinkClosed, LinkState, SenderCommand};
use super::connection::{Connection, PeerStream};
use super::rings::SenderRings;
use crate::base::ids::GroupId;
use crate::base::net::{Net, NetStream, Readiness};
use crate::metrics::{Counter, Counters};
use crate::protocol::peer::{
    encode_append_header, encode_checkpoint_header, encode_mend_header, encode_message,
};

/// Bytes that may wait for the socket before commands stay in the ring.
const OUTBOX_LIMIT: usize = 1 << 20;
/// Commands taken in one turn.
const COMMANDS_LIMIT: usize = 256;
/// How long bytes may wait for a peer that takes none. One that lives but stops reading for so long, its disk far behind
/// and all buffers full, is dialled again as well, which costs a probe.
const PATIENCE: Duration = Duration::from_secs(3);
/// The peer says nothing on this stream.
const INBOX_BYTES: (usize, usize) = (1024, 4096);

/// Counters that only this sender writes.
#[derive(Debug)]
struct PeerSenderCounters {
    // Bytes written to the peer.
    bytes_sent: Counter,
    // Frames queued for the peer.
    frames_sent: Counter,
    // Commands that found no stream and were dropped (Raft repeats).
    frames_dropped: Counter,
}

impl PeerSenderCounters {
    fn new(counters: &Counters, instance: u16) -> Self {
        Self {
            bytes_sent: counters.register_instance("peer_sender_bytes_sent", instance),
            frames_sent: counters.register_instance("peer_sender_frames_sent", instance),
            frames_dropped: counters.register_instance("peer_sender_frames_dropped", instance),
        }
    }
}

/// The agent.
pub struct PeerSender<N: Net> {
    stream: PeerStream<N>,
    group: GroupId,
    rings: SenderRings<N::Stream>,
    /// What the batcher must still be told.
    unreported: Option<LinkState>,
    reported_connected: bool,
    counters: PeerSenderCounters,
}

impl<N: Net> Agent for PeerSender<N> {
    fn name(&self) -> &'static str {
        "peer-sender"
    }

    fn do_work(&mut self, _now_ns: u64, readiness: &[Readiness]) -> usize {
        let mut work = self.take_streams();
        self.stream.note(readiness);
        work += self.watch_for_close();
        work += self.take_commands();
        work += self.write();
        work + self.report()
    }

    fn is_stalled(&self) -> bool {
        self.unreported.is_some() || self.stream.is_lost
    }
}

impl<N: Net> PeerSender<N> {
    /// An agent without a stream; the conductor dials and hands one over.
    pub fn new(net: N, group: GroupId, rings: SenderRings<N::Stream>, counters: &Counters) -> Self {
        Self {
            counters: PeerSenderCounters::new(counters, rings.peer.0),
            stream: PeerStream::new(net, INBOX_BYTES),
            group,
            rings,
            unreported: None,
            reported_connected: false,
        }
    }

    fn take_streams(&mut self) -> usize {
        let mut work = 0;
        while let Some(mut new) = self.rings.from_conductor.pop() {
            work += 1;
            new.stream.limit_patience(PATIENCE);
            let identity = new.identity;
            let connected = self.stream.replace(new).then_some(identity);
            self.unreported = Some(LinkState { connected });
        }
        work
    }

    fn lose_stream(&mut self) {
        self.stream.lose();
        self.unreported = Some(LinkState { connected: None });
    }

    /// Nothing is ever said on this stream by the peer; bytes or an end mean that it is over.
    fn watch_for_close(&mut self) -> usize {
        let Some(connection) = &mut self.stream.connection else { return 0 };
        if !connection.readable {
            return 0;
        }
        match connection.read(1024) {
            Ok(result) if !result.closed && result.bytes == 0 => 0,
            _ => {
                self.lose_stream();
                1
            }
        }
    }

    fn take_commands(&mut self) -> usize {
        let mut work = 0;
        while work < COMMANDS_LIMIT {
            if let Some(connection) = &self.stream.connection
                && connection.outbox.len_bytes() >= OUTBOX_LIMIT
            {
                break;
            }
            let Some(command) = self.rings.from_batcher.pop() else { break };
            work += 1;
            match &mut self.stream.connection {
                Some(_) if matches!(command, SenderCommand::HangUp) => self.lose_stream(),
                Some(connection) => {
                    self.counters.frames_sent.increment();
                    queue(connection, self.group, command);
                }
                None => self.counters.frames_dropped.increment(),
            }
        }
        work
    }

    fn write(&mut self) -> usize {
        let Some(connection) = &mut self.stream.connection else { return 0 };
        match connection.write() {
            Ok(bytes) => {
                self.counters.bytes_sent.add(bytes as u64);
                usize::from(bytes > 0)
            }
            Err(_) => {
                self.lose_stream();
                1
            }
        }
    }

    fn report(&mut self) -> usize {
        let mut work = 0;
        if let Some(state) = self.unreported.take() {
            // Down before up: the core must see every interruption, or it would trust lost messages.
            if state.connected.is_some() && self.reported_connected {
                let _ = self.rings.to_batcher.push(LinkState { connected: None });
            }
            if self.rings.to_batcher.push(state).is_err() {
                self.unreported = Some(state);
            } else {
                self.reported_connected = state.connected.is_some();
                work += 1;
            }
        }
        if self.stream.is_lost && self.rings.to_conductor.push(LinkClosed::Outbound(self.rings.peer)).is_ok()
        {
            self.stream.is_lost = false;
            work += 1;
        }
        work
    }
}

fn queue<S: NetStream>(connection: &mut Connection<S>, group: GroupId, command: SenderCommand) {
    match command {
        // Carried out where the command was taken.
        SenderCommand::HangUp => {}
        SenderCommand::Message(message) => {
            connection.outbox.push_with(|out| encode_message(group, &message, out));
        }
        SenderCommand::Checkpoint { chunk, image, end } => {
            let bytes = &image[chunk.position as usize..end];
            connection.outbox.push_with(|out| {
                encode_checkpoint_header(group, &chunk, bytes.len(), out);
                out.extend_from_slice(bytes);
            });
        }
        SenderCommand::Mend { message, entries } => {
            let bytes = entries.iter().map(crate::entry::Entry::len_bytes).sum();
            let count = entries.len();
            connection.outbox.push_with(|out| encode_mend_header(group, &message, (count, bytes), out));
            for entry in entries {
                connection.outbox.push_shared(entry);
            }
        }
        SenderCommand::Append { term, prev, commit, wants_reply, entries } => {
            let bytes = entries.iter().map(crate::entry::Entry::len_bytes).sum();
            let count = entries.len();
            connection.outbox.push_with(|out| {
                encode_append_header(group, term, prev, commit, wants_reply, (count, bytes), out);
            });
            for entry in entries {
                connection.outbox.push_shared(entry);
            }
        }
    }
}
