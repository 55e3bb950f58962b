//! A TCP proxy that fails on demand: no privileges, no kernel tricks, one thread for all of its links.
//!
//! A link is a listening address and the address that it stands for. Each direction of it passes, is delayed, or is
//! cut; the link as a whole can refuse.
//!
//! * **Cut** is what a partitioned network does. Nothing is read in that direction, so bytes wait in the sender's
//!   kernel until its buffers are full, and arrive after the cut ends, late but whole, unless an end has given up.
//!   Neither an end of stream nor a reset gets through. New connections are accepted (the kernel does that) and
//!   nothing answers; those that the dialler gives up before the cut ends never reach the target.
//! * **Delay** holds every byte back for the given time, to a millisecond. A change of the delay never reorders bytes.
//! * **Refuse** closes the listening socket and resets every connection, as a machine does whose process has died.

mod pipe;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use self::worker::Worker;

/// What happens to bytes in one direction of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Traffic {
    /// They pass.
    #[default]
    Pass,
    /// They wait; see the module.
    Cut,
    /// They pass, later.
    Delay(Duration),
}

/// A direction of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From whoever dialled to the target.
    Forward,
    /// From the target to whoever dialled.
    Backward,
}

/// Names a link of one proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkId(usize);

/// What the thread is told.
enum Command {
    Add { listen: SocketAddr, target: SocketAddr },
    Set { link: usize, direction: Direction, traffic: Traffic },
    Deafen { link: usize, reset: bool },
    Listen { link: usize },
    Stop,
}

type Answer = SyncSender<io::Result<usize>>;

/// The proxy. Its calls return when the thread has done what they say; after a cut, not one byte more passes. Dropping
/// it closes everything.
pub struct Proxy {
    commands: Sender<(Command, Answer)>,
    waker: Arc<mio::Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts the thread; no links yet.
    ///
    /// # Errors
    /// As the system says.
    pub fn start() -> io::Result<Self> {
        let (commands, receiver) = channel();
        let (worker, waker) = Worker::new(receiver)?;
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || worker.run())?;
        Ok(Self { commands, waker: Arc::new(waker), thread: Some(thread) })
    }

    /// A new link that passes everything.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub fn add(&self, listen: SocketAddr, target: SocketAddr) -> io::Result<LinkId> {
        self.ask(Command::Add { listen, target }).map(LinkId)
    }

    /// Says what happens to bytes in a direction from now on.
    ///
    /// # Errors
    /// Only when the thread is gone.
    pub fn set(&self, link: LinkId, direction: Direction, traffic: Traffic) -> io::Result<()> {
        self.ask(Command::Set { link: link.0, direction, traffic }).map(drop)
    }

    /// Closes the listening socket: the system refuses whoever dials. Connections that stand are reset, or left as
    /// they are where `reset` is false (their target is about to die and will end them itself).
    ///
    /// # Errors
    /// Only when the thread is gone.
    pub fn refuse(&self, link: LinkId, reset: bool) -> io::Result<()> {
        self.ask(Command::Deafen { link: link.0, reset }).map(drop)
    }

    /// Listens again after [`refuse`](Self::refuse).
    ///
    /// # Errors
    /// When somebody else has taken the port.
    pub fn listen(&self, link: LinkId) -> io::Result<()> {
        self.ask(Command::Listen { link: link.0 }).map(drop)
    }

    fn ask(&self, command: Command) -> io::Result<usize> {
        let gone = || io::Error::other("the proxy's thread is gone");
        let (answer, answered) = sync_channel(1);
        self.commands.send((command, answer)).map_err(|_| gone())?;
        self.waker.wake()?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.ask(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
