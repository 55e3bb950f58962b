//! The operating system's network.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};

use crate::base::net::{Net, NetStream, Readiness, Token};

const _: () = assert!(usize::BITS == 64, "a poll token holds an agent's slot and the agent's token");

/// One agent's access to the network: sockets register with the poll of the thread that runs the agent, under
/// `agent_slot << 32 | token`, so that the runner knows whom a readiness event is for.
///
/// Threading: belongs to one agent; a stream moves to another agent by [`Net::deregister`] here and
/// [`Net::register`] there.
#[derive(Debug)]
pub struct MioNet {
    registry: Registry,
    agent_slot: u32,
}

impl MioNet {
    /// Network access for the agent in slot `agent_slot` of the runner whose poll `registry` belongs to.
    #[must_use]
    pub const fn new(registry: Registry, agent_slot: u32) -> Self {
        Self { registry, agent_slot }
    }

    /// The poll's token for a token of the agent in `agent_slot`.
    #[must_use]
    pub const fn poll_token(agent_slot: u32, token: Token) -> mio::Token {
        mio::Token(((agent_slot as usize) << 32) | token.0 as usize)
    }

    /// Inverse of [`MioNet::poll_token`].
    #[must_use]
    pub const fn split_token(token: mio::Token) -> (u32, Token) {
        ((token.0 >> 32) as u32, Token(token.0 as u32))
    }

    /// What a poll event means, and for which agent slot. The end of a stream and errors count as both readable and
    /// writable: the next read or write says what happened.
    #[must_use]
    pub fn readiness(event: &Event) -> (u32, Readiness) {
        let (agent_slot, token) = Self::split_token(event.token());
        let failed = event.is_error();
        let closed = event.is_read_closed() || failed;
        let readable = event.is_readable() || closed;
        let writable = event.is_writable() || event.is_write_closed() || failed;
        (agent_slot, Readiness { token, readable, writable, closed })
    }

    fn token(&self, token: Token) -> mio::Token {
        Self::poll_token(self.agent_slot, token)
    }
}

impl Net for MioNet {
    type Stream = MioStream;
    type Listener = TcpListener;

    fn connect(&mut self, address: SocketAddr) -> io::Result<MioStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(MioStream { stream, address })
    }

    fn accept(&mut self, listener: &mut TcpListener) -> io::Result<(MioStream, SocketAddr)> {
        loop {
            match listener.accept() {
                // Without TCP_NODELAY only a connection that is gone again: not worth an error, the next may live.
                Ok((stream, address)) if stream.set_nodelay(true).is_ok() => {
                    return Ok((MioStream { stream, address }, address));
                }
                Ok(_) => {}
                Err(error) if is_passing(error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn register(&mut self, stream: &mut MioStream, token: Token) -> io::Result<()> {
        let token = self.token(token);
        self.registry.register(&mut stream.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn deregister(&mut self, stream: &mut MioStream) -> io::Result<()> {
        self.registry.deregister(&mut stream.stream)
    }

    fn register_listener(&mut self, listener: &mut TcpListener, token: Token) -> io::Result<()> {
        let token = self.token(token);
        self.registry.register(listener, token, Interest::READABLE)
    }
}

/// Says nothing about the listener: the waiting connection went away, or a signal came.
fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

/// A non-blocking TCP stream without Nagle's delay.
#[derive(Debug)]
pub struct MioStream {
    stream: TcpStream,
    address: SocketAddr,
}

impl NetStream for MioStream {
    fn poll_connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn peer_label(&self) -> String {
        self.address.to_string()
    }

    #[cfg(target_os = "linux")]
    fn limit_patience(&mut self, limit: Duration) {
        // TCP_USER_TIMEOUT covers both a peer that acknowledges nothing and one whose window stays closed. A system
        // that refuses it leaves the stream as it was: bounded by its own retransmissions, minutes instead of seconds.
        if let Err(error) = socket2::SockRef::from(&self.stream).set_tcp_user_timeout(Some(limit)) {
            tracing::warn!("no TCP_USER_TIMEOUT for {}: {error}", self.address);
        }
    }

    fn shutdown(&mut self) {
        // The other end may be gone already; closing the descriptor settles the rest.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Read for MioStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.stream.read(out)
    }

    fn read_vectored(&mut self, out: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.stream.read_vectored(out)
    }
}

impl Write for MioStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
