//! A client's connection: frames out, frames in.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use crate::base::net::{Net, NetStream, Token};
use crate::protocol::client::{ClientHello, ClientMessage, Purpose, ServerMessage};
use crate::protocol::frame::{ProtocolOffer, split_frame};
use crate::sim::net::{SimNet, SimStream};
use crate::sim::node::{CLUSTER, GROUP};

/// A connection to one node's client port.
pub(super) struct Link {
    stream: SimStream,
    connected: bool,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Link {
    /// Dials and says hello.
    pub(super) fn dial(net: &mut SimNet, address: SocketAddr, purpose: Purpose) -> Option<Self> {
        let mut stream = net.connect(address).ok()?;
        net.register(&mut stream, Token(0)).ok()?;
        let mut link = Self { stream, connected: false, inbox: Vec::new(), outbox: Vec::new() };
        link.send(&ClientMessage::Hello(ClientHello {
            offer: ProtocolOffer::OURS,
            purpose,
            cluster_id: CLUSTER,
            name: "simulated",
        }));
        Some(link)
    }

    pub(super) fn send(&mut self, message: &ClientMessage<'_>) {
        message.encode(GROUP, &mut self.outbox);
    }

    /// Moves bytes both ways. False when the connection is over and nothing is left to read.
    pub(super) fn pump(&mut self) -> bool {
        if !self.connected {
            match self.stream.poll_connected() {
                Ok(true) => self.connected = true,
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
        let mut open = true;
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return !self.inbox.is_empty() && self.has_frame(),
                Ok(count) => self.inbox.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.has_frame(),
            }
        }
        open || self.has_frame()
    }

    fn has_frame(&self) -> bool {
        matches!(split_frame(&self.inbox), Ok(Some(_)))
    }

    /// Hands the next whole message to `take`; `Ok(None)` when none is there.
    ///
    /// # Errors
    /// A node sent bytes that are no message.
    pub(super) fn next<T>(&mut self, take: impl FnOnce(ServerMessage<'_>) -> T) -> Result<Option<T>, String> {
        let split = split_frame(&self.inbox).map_err(|error| error.to_string())?;
        let Some((frame, consumed)) = split else { return Ok(None) };
        let taken = take(ServerMessage::decode(frame).map_err(|error| error.to_string())?);
        self.inbox.drain(..consumed);
        Ok(Some(taken))
    }
}
