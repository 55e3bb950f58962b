//! A network for one agent whose other ends the test holds: a socket takes as many bytes as it is told to, and no more.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use tercet::base::net::{Net, NetStream, Readiness, Token};

#[derive(Default)]
struct Wire {
    /// On the way to the agent.
    to_agent: VecDeque<u8>,
    /// What the agent has written.
    from_agent: Vec<u8>,
    /// So many bytes more are taken from the agent.
    room: usize,
    is_ended: bool,
    token: Option<Token>,
}

/// The agent's end.
pub struct PipeStream(Rc<RefCell<Wire>>);

/// The test's end.
pub struct PipeEnd(Rc<RefCell<Wire>>);

/// A connection whose socket takes `room` bytes.
pub fn pipe(room: usize) -> (PipeStream, PipeEnd) {
    let wire = Rc::new(RefCell::new(Wire { room, ..Wire::default() }));
    (PipeStream(wire.clone()), PipeEnd(wire))
}

impl PipeEnd {
    fn readiness(&self) -> Readiness {
        let wire = self.0.borrow();
        let token = wire.token.unwrap();
        Readiness { token, readable: true, writable: wire.room > 0, closed: wire.is_ended }
    }

    /// Sends bytes; the event with which they come.
    pub fn send(&self, bytes: &[u8]) -> Readiness {
        self.0.borrow_mut().to_agent.extend(bytes);
        self.readiness()
    }

    /// Closes; the event that tells of it.
    pub fn end(&self) -> Readiness {
        self.0.borrow_mut().is_ended = true;
        self.readiness()
    }

    /// The socket takes so many bytes more; the event that tells of it.
    pub fn make_room(&self, bytes: usize) -> Readiness {
        let mut wire = self.0.borrow_mut();
        wire.room = wire.room.saturating_add(bytes);
        drop(wire);
        self.readiness()
    }

    /// What the agent has written since the last look.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().from_agent)
    }
}

impl Read for PipeStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.to_agent.is_empty() && !wire.is_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.to_agent.read(into)
    }
}

impl Write for PipeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let count = bytes.len().min(wire.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.room -= count;
        wire.from_agent.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NetStream for PipeStream {
    fn poll_connected(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn peer_label(&self) -> String {
        "a pipe".to_owned()
    }

    fn shutdown(&mut self) {}
}

/// Makes no connections; the test hands them over.
pub struct PipeNet;

impl Net for PipeNet {
    type Stream = PipeStream;
    type Listener = ();

    fn connect(&mut self, _: SocketAddr) -> io::Result<PipeStream> {
        Err(ErrorKind::Unsupported.into())
    }

    fn accept(&mut self, (): &mut ()) -> io::Result<(PipeStream, SocketAddr)> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn register(&mut self, stream: &mut PipeStream, token: Token) -> io::Result<()> {
        stream.0.borrow_mut().token = Some(token);
        Ok(())
    }

    fn deregister(&mut self, _: &mut PipeStream) -> io::Result<()> {
        Ok(())
    }

    fn register_listener(&mut self, (): &mut (), _: Token) -> io::Result<()> {
        Ok(())
    }
}
