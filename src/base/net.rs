//! The network as agents see it: non-blocking byte streams and listeners behind a trait, so that the simulator's
//! network can stand in for TCP.
//!
//! Contract of readiness: edge-triggered. An agent is told once that a token became readable or writable and must
//! then work until `WouldBlock` (or a short read, which on a stream means the same), or remember that bytes are left.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Names a registered socket within one agent. The runner maps it to the poll's tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u32);

/// One readiness event for one agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// Which socket.
    pub token: Token,
    /// Bytes, a connection to accept, or the end of the stream may be there.
    pub readable: bool,
    /// The socket takes bytes again, or a dial has ended (well or badly).
    pub writable: bool,
    /// The other end has closed its side, or the connection broke. It may come together with the last bytes, and no
    /// other event follows: whoever reads must read to the end.
    pub closed: bool,
}

/// A non-blocking, connected (or connecting) byte stream. `WouldBlock` as in `std`.
pub trait NetStream: io::Read + io::Write {
    /// Outcome of a dial, asked on the first writable event: `Ok(true)` connected, `Ok(false)` still under way.
    ///
    /// # Errors
    /// The dial failed.
    fn poll_connected(&mut self) -> io::Result<bool>;

    /// The other end's address, for messages.
    fn peer_label(&self) -> String;

    /// From now on the stream breaks when the other end has taken no byte of what waits for it for so long. Where the
    /// system cannot do that (the default), only its own, much longer patience ends.
    fn limit_patience(&mut self, _limit: Duration) {}

    /// Closes both directions; errors are of no interest.
    fn shutdown(&mut self);
}

/// What makes, registers and accepts streams for one agent. Each agent holds its own.
pub trait Net {
    /// Its streams.
    type Stream: NetStream;
    /// Its listeners.
    type Listener;

    /// Starts a dial. The stream must still be registered.
    ///
    /// # Errors
    /// The operating system refused at once.
    fn connect(&mut self, address: SocketAddr) -> io::Result<Self::Stream>;

    /// Accepts one waiting connection, or `WouldBlock`.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; others as the system says.
    fn accept(&mut self, listener: &mut Self::Listener) -> io::Result<(Self::Stream, SocketAddr)>;

    /// Asks for readiness of a stream, both directions, under `token`. Readiness that already holds is reported.
    ///
    /// # Errors
    /// As the system says.
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// Ends readiness for a stream, for example before it moves to another agent.
    ///
    /// # Errors
    /// As the system says.
    fn deregister(&mut self, stream: &mut Self::Stream) -> io::Result<()>;

    /// Asks for readiness of a listener.
    ///
    /// # Errors
    /// As the system says.
    fn register_listener(&mut self, listener: &mut Self::Listener, token: Token) -> io::Result<()>;
}
