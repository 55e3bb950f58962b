//! The proxy's thread.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::pipe::{End, Pipe};
use super::{Answer, Command, Direction, Traffic};

const WAKER: Token = Token(0);
/// Two low bits say what a token names; the rest is its number.
const LISTENER: usize = 1;
const DIALLER: usize = 2;
const TARGET: usize = 3;

struct Link {
    listen: SocketAddr,
    target: SocketAddr,
    listener: Option<TcpListener>,
    forward: Traffic,
    backward: Traffic,
}

impl Link {
    /// A new connection takes a packet each way.
    fn may_connect(&self) -> bool {
        self.forward != Traffic::Cut && self.backward != Traffic::Cut
    }
}

struct Connection {
    link: usize,
    dialler: End,
    /// Not dialled while the link is cut.
    target: Option<End>,
    forward: Pipe,
    backward: Pipe,
}

/// Everything that the thread owns.
pub struct Worker {
    poll: Poll,
    commands: Receiver<(Command, Answer)>,
    links: Vec<Link>,
    connections: BTreeMap<usize, Connection>,
    next_connection: usize,
    scratch: Vec<u8>,
}

fn reset(stream: &TcpStream) {
    // What cannot be reset is closed.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl Connection {
    fn reset(&self) {
        reset(&self.dialler.stream);
        if let Some(target) = &self.target {
            reset(&target.stream);
        }
    }

    /// Moves what its link lets through. `Err`: over.
    fn pump(&mut self, link: &Link, scratch: &mut [u8]) -> Result<Option<Instant>, ()> {
        let Some(target) = &mut self.target else {
            // Given up by its dialler before anybody heard of it.
            return if self.dialler.closed { Err(()) } else { Ok(None) };
        };
        let mut next: Option<Instant> = None;
        let ways = [(&mut self.forward, link.forward, true), (&mut self.backward, link.backward, false)];
        for (pipe, traffic, forward) in ways {
            let delay = match traffic {
                Traffic::Cut => continue,
                Traffic::Pass => Duration::ZERO,
                Traffic::Delay(delay) => delay,
            };
            let (from, to) =
                if forward { (&mut self.dialler, &mut *target) } else { (&mut *target, &mut self.dialler) };
            let due = pipe.pump(from, to, delay, scratch).map_err(drop)?;
            next = [next, due].into_iter().flatten().min();
        }
        if self.forward.ended && self.backward.ended { Err(()) } else { Ok(next) }
    }
}

impl Worker {
    /// A worker without links, and the waker that goes with each command.
    pub fn new(commands: Receiver<(Command, Answer)>) -> io::Result<(Self, mio::Waker)> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        let worker = Self {
            poll,
            commands,
            links: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            scratch: vec![0; 64 << 10],
        };
        Ok((worker, waker))
    }

    /// Until it is told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let next = self.pump_all();
            // Rounded up: a poll that ends early would spin until the moment has come.
            let wait =
                next.map(|due| due.saturating_duration_since(Instant::now()) + Duration::from_micros(999));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return,
                _ => {}
            }
            for event in &events {
                self.note(event);
            }
            while let Ok((command, answer)) = self.commands.try_recv() {
                if matches!(command, Command::Stop) {
                    // Sockets are closed before whoever asked goes on.
                    drop(self);
                    let _ = answer.send(Ok(0));
                    return;
                }
                let _ = answer.send(self.obey(&command));
            }
        }
    }

    fn note(&mut self, event: &mio::event::Event) {
        let (number, kind) = (event.token().0 >> 2, event.token().0 & 3);
        if kind == LISTENER {
            self.accept(number);
            return;
        }
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let end = match kind {
            DIALLER => Some(&mut connection.dialler),
            TARGET => connection.target.as_mut(),
            _ => None,
        };
        if let Some(end) = end {
            // An end that closed or broke says so when it is read, if it is read.
            end.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            end.writable |= event.is_writable();
            end.closed |= event.is_read_closed() || event.is_error();
        }
    }

    fn accept(&mut self, link: usize) {
        while let Some(listener) = self.links.get(link).and_then(|link| link.listener.as_ref()) {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _ = stream.set_nodelay(true);
            let number = self.next_connection;
            self.next_connection += 1;
            let token = Token(number << 2 | DIALLER);
            let both = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, token, both).is_err() {
                continue;
            }
            let connection = Connection {
                link,
                dialler: End::new(stream),
                target: None,
                forward: Pipe::default(),
                backward: Pipe::default(),
            };
            self.connections.insert(number, connection);
            self.connect(number);
        }
    }

    /// Dials the target, unless the link is cut. A target that refuses resets the dialler.
    fn connect(&mut self, number: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let link = &self.links[connection.link];
        if connection.target.is_some() || connection.dialler.closed || !link.may_connect() {
            return;
        }
        let token = Token(number << 2 | TARGET);
        let registry = self.poll.registry();
        let connected = TcpStream::connect(link.target).and_then(|mut stream| {
            let _ = stream.set_nodelay(true);
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        if let Ok(stream) = connected {
            connection.target = Some(End::new(stream));
        } else {
            connection.reset();
            self.connections.remove(&number);
        }
    }

    fn pump_all(&mut self) -> Option<Instant> {
        let (links, scratch) = (&self.links, &mut self.scratch);
        let mut next: Option<Instant> = None;
        self.connections.retain(|_, connection| match connection.pump(&links[connection.link], scratch) {
            Ok(due) => {
                next = [next, due].into_iter().flatten().min();
                true
            }
            Err(()) => {
                if !(connection.forward.ended && connection.backward.ended) {
                    connection.reset();
                }
                false
            }
        });
        next
    }

    fn obey(&mut self, command: &Command) -> io::Result<usize> {
        match *command {
            Command::Add { listen, target } => {
                self.links.push(Link {
                    listen,
                    target,
                    listener: None,
                    forward: Traffic::Pass,
                    backward: Traffic::Pass,
                });
                let link = self.links.len() - 1;
                self.listen(link)?;
                Ok(link)
            }
            Command::Set { link, direction, traffic } => {
                match direction {
                    Direction::Forward => self.links[link].forward = traffic,
                    Direction::Backward => self.links[link].backward = traffic,
                }
                for number in self.of_link(link) {
                    self.connect(number);
                }
                Ok(link)
            }
            Command::Deafen { link, reset } => {
                self.links[link].listener = None;
                for number in self.of_link(link) {
                    if reset && let Some(connection) = self.connections.remove(&number) {
                        connection.reset();
                    }
                }
                Ok(link)
            }
            Command::Listen { link } => self.listen(link),
            Command::Stop => Ok(0),
        }
    }

    fn of_link(&self, link: usize) -> Vec<usize> {
        let of_link = self.connections.iter().filter(|(_, connection)| connection.link == link);
        of_link.map(|(number, _)| *number).collect()
    }

    fn listen(&mut self, link: usize) -> io::Result<usize> {
        let place = &mut self.links[link];
        if place.listener.is_none() {
            let mut listener = TcpListener::bind(place.listen)?;
            self.poll.registry().register(&mut listener, Token(link << 2 | LISTENER), Interest::READABLE)?;
            place.listener = Some(listener);
        }
        Ok(link)
    }
}
