use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::{Events, Poll};
use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};

use super::{BindError, InBuffer, MioNet, OutQueue, OverLimit, ReadUntil, bind_listener};
use crate::base::net::{Net, NetStream, Token};

/// A stream that does what a script says: takes or gives at most so many bytes a call, or fails once.
#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    source: Vec<u8>,
    given: usize,
    taken: Vec<u8>,
    slices_most: usize,
    calls: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Bytes(usize),
    Fail(io::ErrorKind),
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    fn step(&mut self) -> io::Result<usize> {
        self.calls += 1;
        match self.steps.pop_front() {
            Some(Step::Bytes(count)) => Ok(count),
            Some(Step::Fail(kind)) => Err(kind.into()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Script {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.step()?.min(out.len());
        for byte in &mut out[..count] {
            *byte = self.given as u8;
            self.source.push(*byte);
            self.given += 1;
        }
        Ok(count)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.slices_most = self.slices_most.max(slices.len());
        let mut left = self.step()?;
        let before = self.taken.len();
        for slice in slices {
            let count = left.min(slice.len());
            self.taken.extend_from_slice(&slice[..count]);
            left -= count;
        }
        Ok(self.taken.len() - before)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const BLOCK: Step = Step::Fail(io::ErrorKind::WouldBlock);

#[test]
fn a_read_stops_at_would_block_short_read_budget_and_end() {
    let mut buffer = InBuffer::new(16, 64);
    let mut stream =
        Script::new([Step::Bytes(4), Step::Fail(io::ErrorKind::Interrupted), Step::Bytes(4), BLOCK]);
    let outcome = buffer.read_from(&mut stream, 100, ReadUntil::WouldBlock).unwrap();
    assert_eq!((outcome.bytes, outcome.drained, outcome.closed), (8, true, false));

    let mut stream = Script::new([Step::Bytes(2), Step::Bytes(2)]);
    let outcome = buffer.read_from(&mut stream, 100, ReadUntil::ShortRead).unwrap();
    assert_eq!((outcome.bytes, outcome.drained, stream.calls), (2, true, 1));

    let mut stream = Script::new([Step::Bytes(100)]);
    let outcome = buffer.read_from(&mut stream, 3, ReadUntil::ShortRead).unwrap();
    assert_eq!((outcome.bytes, outcome.drained), (3, false), "the budget ended it, more may be there");
    assert_eq!(buffer.len(), 13);

    let mut stream = Script::new([Step::Bytes(1), Step::Bytes(0)]);
    let outcome = buffer.read_from(&mut stream, 100, ReadUntil::WouldBlock).unwrap();
    assert_eq!((outcome.bytes, outcome.drained, outcome.closed), (1, true, true));

    let mut stream = Script::new([Step::Bytes(1), Step::Fail(io::ErrorKind::ConnectionReset)]);
    let error = buffer.read_from(&mut stream, 100, ReadUntil::WouldBlock).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(buffer.len(), 15, "what came before the error is kept");
}

#[test]
fn a_full_buffer_stops_reading_and_says_so_until_room_is_made() {
    let mut buffer = InBuffer::new(16, 64);
    let mut stream = Script::new(vec![Step::Bytes(100); 8]);
    let outcome = buffer.read_from(&mut stream, 1000, ReadUntil::WouldBlock).unwrap();
    assert_eq!((outcome.bytes, outcome.drained, buffer.is_full()), (16, false, true));
    buffer.consume(10);
    assert!(!buffer.is_full());
    assert_eq!(buffer.read_from(&mut stream, 1000, ReadUntil::WouldBlock).unwrap().bytes, 10);
    assert_eq!(buffer.unread(), &stream.source[10..26]);
}

#[test]
fn pitfall_50_growth_is_refused_over_the_limit_before_anything_is_allocated() {
    let mut buffer = InBuffer::new(16, 64);
    assert_eq!(
        buffer.reserve(u32::MAX as usize),
        Err(OverLimit { bytes: u32::MAX as usize, limit_bytes: 64 })
    );
    assert_eq!(buffer.capacity_bytes(), 0);
    assert_eq!(buffer.reserve(65), Err(OverLimit { bytes: 65, limit_bytes: 64 }));
    assert_eq!(buffer.reserve(64), Ok(()));
    assert_eq!(buffer.capacity_bytes(), 64);
}

#[test]
fn a_large_frame_gets_its_room_and_gives_it_back() {
    let mut buffer = InBuffer::new(16, 64);
    let mut stream = Script::new(vec![Step::Bytes(100); 8]);
    buffer.read_from(&mut stream, 16, ReadUntil::WouldBlock).unwrap();
    buffer.consume(6);
    buffer.reserve(60).unwrap();
    assert_eq!(buffer.unread(), &stream.source[6..16], "growth keeps what is unread");
    buffer.read_from(&mut stream, 1000, ReadUntil::WouldBlock).unwrap();
    assert_eq!(buffer.unread(), &stream.source[6..66]);
    buffer.consume(60);
    assert_eq!(buffer.capacity_bytes(), 0);
    buffer.read_from(&mut stream, 1, ReadUntil::WouldBlock).unwrap();
    assert_eq!(buffer.capacity_bytes(), 16, "back to the usual size");
}

fn out_queue_with(parts: &[(bool, Vec<u8>)]) -> (OutQueue<Vec<u8>>, Vec<u8>) {
    let mut queue = OutQueue::new();
    let mut all = Vec::new();
    for (shared, bytes) in parts {
        all.extend_from_slice(bytes);
        if *shared {
            queue.push_shared(bytes.clone())
        } else {
            queue.push_bytes(bytes)
        }
        assert_eq!(queue.len_bytes(), all.len());
    }
    (queue, all)
}

#[test]
fn owned_bytes_coalesce_and_at_most_64_slices_go_out_at_once() {
    let mut queue: OutQueue<Vec<u8>> = OutQueue::new();
    for _ in 0..100 {
        queue.push_with(|out| out.extend_from_slice(b"head"));
        queue.push_with(|out| out.extend_from_slice(b"er"));
        queue.push_shared(vec![7; 1000]);
    }
    let mut stream = Script::new(vec![Step::Bytes(usize::MAX); 4]);
    let outcome = queue.flush(&mut stream).unwrap();
    assert_eq!((outcome.bytes, outcome.blocked), (100 * 1006, false));
    assert_eq!((stream.slices_most, stream.calls), (64, 4));
    assert!(queue.is_empty());
    assert_eq!(stream.taken[..8], *b"header\x07\x07");
}

#[test]
fn a_dead_stream_is_an_error_and_clearing_forgets_its_bytes() {
    let (mut queue, _) = out_queue_with(&[(false, vec![1; 10]), (true, vec![2; 1000])]);
    let mut stream = Script::new([Step::Bytes(5), Step::Fail(io::ErrorKind::BrokenPipe)]);
    assert_eq!(queue.flush(&mut stream).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(queue.len_bytes(), 1005);
    let mut stream = Script::new([Step::Bytes(0)]);
    assert_eq!(queue.flush(&mut stream).unwrap_err().kind(), io::ErrorKind::WriteZero);
    queue.clear();
    queue.push_bytes(b"new");
    let mut stream = Script::new([Step::Bytes(100)]);
    queue.flush(&mut stream).unwrap();
    assert_eq!(stream.taken, b"new");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1usize..600).prop_map(Step::Bytes),
        1 => proptest::prelude::Just(BLOCK),
        1 => proptest::prelude::Just(Step::Fail(io::ErrorKind::Interrupted)),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn whatever_the_stream_takes_arrives_once_and_in_order(
        parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..700)), 0..40),
        steps in steps(),
    ) {
        let (mut queue, mut all) = out_queue_with(&parts);
        let mut stream = Script::new(steps);
        let mut flushes = 0;
        while !stream.steps.is_empty() && !queue.is_empty() {
            let before = stream.taken.len();
            let outcome = queue.flush(&mut stream).unwrap();
            assert_eq!(outcome.bytes, stream.taken.len() - before);
            assert_eq!(outcome.blocked, !queue.is_empty());
            assert_eq!(queue.len_bytes(), all.len() - stream.taken.len());
            queue.push_bytes(b"more");
            all.extend_from_slice(b"more");
            flushes += 1;
            assert!(flushes < 1000);
        }
        stream.steps = vec![Step::Bytes(usize::MAX); 10].into();
        queue.flush(&mut stream).unwrap();
        assert_eq!(stream.taken, all);
    }

    #[test]
    fn whatever_the_stream_gives_is_read_once_and_in_order(
        steps in steps(),
        consume in prop::collection::vec(0usize..300, 1..50),
        budget in 1usize..400,
    ) {
        let mut buffer = InBuffer::new(256, 1024);
        let mut stream = Script::new(steps);
        let mut seen = Vec::new();
        for count in consume.iter().cycle().take(200) {
            let outcome = buffer.read_from(&mut stream, budget, ReadUntil::WouldBlock).unwrap();
            assert!(outcome.bytes <= budget && buffer.len() <= 1024);
            let count = (*count).min(buffer.len());
            seen.extend_from_slice(&buffer.unread()[..count]);
            buffer.consume(count);
        }
        seen.extend_from_slice(buffer.unread());
        assert_eq!(seen, stream.source);
    }
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

#[test]
fn a_port_in_use_is_named_in_the_error() {
    let listener = bind_listener(local()).unwrap();
    let address = listener.local_addr().unwrap();
    let error = bind_listener(address).unwrap_err();
    assert!(matches!(error, BindError::PortInUse { address: named } if named == address), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()));
    let foreign = bind_listener((Ipv4Addr::new(192, 0, 2, 1), 0).into()).unwrap_err();
    assert!(matches!(foreign, BindError::NotOurs { .. }), "{foreign:?}");
}

/// Polls until `done` has seen what it waits for; 5 s at most.
fn drive(poll: &mut Poll, mut done: impl FnMut(u32, crate::base::net::Readiness) -> bool) {
    let mut events = Events::with_capacity(16);
    for _ in 0..50 {
        poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
        let mut ended = false;
        for event in &events {
            let (slot, readiness) = MioNet::readiness(event);
            ended |= done(slot, readiness);
        }
        if ended {
            return;
        }
    }
    panic!("nothing happened for 5 s");
}

#[test]
fn two_agents_of_one_poll_talk_over_loopback_and_the_end_is_noticed() {
    let mut poll = Poll::new().unwrap();
    let mut dialler = MioNet::new(poll.registry().try_clone().unwrap(), 3);
    let mut acceptor = MioNet::new(poll.registry().try_clone().unwrap(), 4);
    let mut listener = bind_listener(local()).unwrap();
    acceptor.register_listener(&mut listener, Token(u32::MAX)).unwrap();
    let mut dialled = dialler.connect(listener.local_addr().unwrap()).unwrap();
    dialler.register(&mut dialled, Token(1)).unwrap();

    let mut accepted = None;
    drive(&mut poll, |slot, readiness| {
        if slot == 3 && readiness.writable {
            assert!(dialled.poll_connected().unwrap());
        }
        if (slot, readiness.token) == (4, Token(u32::MAX)) {
            accepted = Some(acceptor.accept(&mut listener).unwrap().0);
        }
        accepted.is_some()
    });
    let mut accepted = accepted.unwrap();
    assert_eq!(acceptor.accept(&mut listener).unwrap_err().kind(), io::ErrorKind::WouldBlock);

    let mut queue: OutQueue<Vec<u8>> = OutQueue::new();
    queue.push_bytes(b"small");
    queue.push_shared(vec![9; 300_000]);
    let mut buffer = InBuffer::new(1 << 20, 1 << 20);
    queue.flush(&mut dialled).unwrap();
    acceptor.register(&mut accepted, Token(2)).unwrap();
    let mut closed = false;
    drive(&mut poll, |slot, readiness| {
        if slot == 3 && readiness.writable {
            queue.flush(&mut dialled).unwrap();
        }
        if queue.is_empty() {
            dialled.shutdown();
        }
        if (slot, readiness.token) == (4, Token(2)) {
            closed |= buffer.read_from(&mut accepted, usize::MAX, ReadUntil::WouldBlock).unwrap().closed;
        }
        closed
    });
    assert_eq!(buffer.len(), 300_005);
    acceptor.deregister(&mut accepted).unwrap();
}

#[test]
fn a_refused_dial_is_an_error_on_the_first_writable_event() {
    let mut poll = Poll::new().unwrap();
    let mut net = MioNet::new(poll.registry().try_clone().unwrap(), 0);
    let listener = bind_listener(local()).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut stream = net.connect(address).unwrap();
    net.register(&mut stream, Token(0)).unwrap();
    let mut refused = false;
    drive(&mut poll, |_, readiness| {
        assert!(readiness.writable);
        refused = stream.poll_connected().is_err();
        refused
    });
    assert_eq!(stream.peer_label(), address.to_string());
}
