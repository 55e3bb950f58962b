//! The kit itself. They run once, with `tercet-failover`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tercet::base::ids::Offset;

use crate::lab::check::{Comparison, Faults};
use crate::lab::load::{self, AckRun, History};
use crate::lab::pace::Pace;
use crate::lab::ports::free_addresses;
use crate::lab::proxy::{Direction, LinkId, Proxy, Traffic};

/// Longer than anything here should take.
const LIMIT: Duration = Duration::from_secs(20);
/// Silence of that length is believed.
const SILENCE: Duration = Duration::from_millis(150);

struct Rig {
    proxy: Proxy,
    link: LinkId,
    front: SocketAddr,
    target: TcpListener,
}

impl Rig {
    fn new() -> Self {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = free_addresses(1).unwrap()[0];
        let proxy = Proxy::start().unwrap();
        let link = proxy.add(front, target.local_addr().unwrap()).unwrap();
        Self { proxy, link, front, target }
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.front).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn accept(&self) -> TcpStream {
        let stream = self.target.accept().unwrap().0;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn pair(&self) -> (TcpStream, TcpStream) {
        (self.dial(), self.accept())
    }

    fn set(&self, direction: Direction, traffic: Traffic) {
        self.proxy.set(self.link, direction, traffic).unwrap();
    }
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

fn expect_silence(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let told = stream.read(&mut [0]).expect_err("nothing, not even an end");
    assert_eq!(told.kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
}

#[test]
fn bytes_and_ends_pass_both_ways() {
    let rig = Rig::new();
    let (mut near, mut far) = rig.pair();
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let sent = long.clone();
    let writer = std::thread::spawn(move || {
        near.write_all(&sent).unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        near
    });
    let mut read = Vec::new();
    far.read_to_end(&mut read).unwrap();
    assert!(read == long);
    far.write_all(b"back").unwrap();
    expect(&mut writer.join().unwrap(), b"back");
}

#[test]
fn a_cut_holds_bytes_and_ends_in_its_direction_alone_until_it_is_healed() {
    let rig = Rig::new();
    let (mut near, mut far) = rig.pair();
    near.write_all(b"a").unwrap();
    expect(&mut far, b"a");
    rig.set(Direction::Forward, Traffic::Cut);
    near.write_all(b"b").unwrap();
    expect_silence(&mut far);
    far.write_all(b"c").unwrap();
    expect(&mut near, b"c");
    near.shutdown(std::net::Shutdown::Write).unwrap();
    expect_silence(&mut far);
    rig.set(Direction::Forward, Traffic::Pass);
    expect(&mut far, b"b");
    assert_eq!(far.read(&mut [0]).unwrap(), 0, "the end comes after the bytes");
}

#[test]
fn a_connection_made_during_a_cut_stands_silent_and_reaches_the_target_only_afterwards() {
    let rig = Rig::new();
    rig.set(Direction::Backward, Traffic::Cut);
    let given_up = rig.dial();
    let mut near = rig.dial();
    near.write_all(b"hello").unwrap();
    expect_silence(&mut near);
    rig.target.set_nonblocking(true).unwrap();
    assert_eq!(rig.target.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    rig.target.set_nonblocking(false).unwrap();
    drop(given_up);
    std::thread::sleep(SILENCE);
    rig.set(Direction::Backward, Traffic::Pass);
    let mut far = rig.accept();
    expect(&mut far, b"hello");
    rig.target.set_nonblocking(true).unwrap();
    std::thread::sleep(SILENCE);
    assert_eq!(rig.target.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "one was given up");
}

#[test]
fn a_delay_holds_every_byte_back_and_keeps_the_order_when_it_ends() {
    let rig = Rig::new();
    let (mut near, mut far) = rig.pair();
    let delay = Duration::from_millis(200);
    rig.set(Direction::Forward, Traffic::Delay(delay));
    let sent = Instant::now();
    near.write_all(b"one").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    rig.set(Direction::Forward, Traffic::Pass);
    near.write_all(b"two").unwrap();
    expect(&mut far, b"onetwo");
    assert!(sent.elapsed() >= delay);
}

#[test]
fn refusing_resets_what_stands_and_listening_again_lets_new_ones_in() {
    let rig = Rig::new();
    let (mut near, mut far) = rig.pair();
    rig.proxy.refuse(rig.link, true).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(far.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(TcpStream::connect(rig.front).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    rig.proxy.listen(rig.link).unwrap();
    let (mut near, mut far) = rig.pair();
    near.write_all(b"again").unwrap();
    expect(&mut far, b"again");
}

#[test]
fn a_target_that_is_gone_resets_the_dialler() {
    let rig = Rig::new();
    let Rig { proxy, link: _, front, target } = rig;
    drop(target);
    // The reset may arrive before the dialler has been woken: then its `connect` itself reports it.
    let outcome = TcpStream::connect(front).and_then(|mut near| {
        near.set_read_timeout(Some(LIMIT))?;
        near.read(&mut [0])
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(proxy);
    assert_eq!(TcpStream::connect(front).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn run(first_sequence: u64, count: u32, first_offset: u64, at_ms: u64) -> AckRun {
    AckRun { first_sequence, count, first_offset, at_ns: at_ms * 1_000_000 }
}

#[test]
fn the_outage_counts_from_when_an_event_was_due_and_only_events_of_the_window() {
    // Due every 10 ms: sequence n at (n - 1) * 10.
    let pace = Pace::new(100.0);
    let runs = vec![run(1, 1, 1, 300), run(2, 3, 2, 340), run(5, 1, 5, 345), run(6, 2, 6, 60)];
    let history = History { runs, ..History::default() };
    let ms = |from: u64, to: u64| history.slowest_ns(&pace, from * 1_000_000, to * 1_000_000) / 1_000_000;
    assert_eq!(ms(0, 100), 330, "of those acknowledged together, the earliest has waited longest");
    assert_eq!(ms(15, 100), 320, "the second of the three was due at 20");
    assert_eq!(ms(31, 100), 305);
    assert_eq!(ms(45, 100), 10, "those that were due earlier are not of this window");
    assert_eq!(ms(500, 600), 0);
}

#[test]
fn every_event_must_be_acknowledged_exactly_once() {
    let with = |runs: &[AckRun]| History { runs: runs.to_vec(), ..History::default() }.offsets(4);
    let (offsets, wrong) = with(&[run(1, 2, 7, 0), run(3, 2, 0, 0)]);
    assert_eq!(offsets, [Some(Offset(7)), Some(Offset(8)), Some(Offset::ZERO), Some(Offset::ZERO)]);
    assert_eq!(wrong, 0);
    assert_eq!(with(&[run(1, 2, 7, 0), run(4, 1, 9, 0)]).1, 1, "none for the third");
    assert_eq!(with(&[run(1, 4, 7, 0), run(2, 1, 8, 0)]).1, 1, "two for the second");
    assert_eq!(with(&[run(1, 5, 7, 0)]).1, 1, "one for an event that was never sent");
}

/// Sequences at offsets, with right bodies, against what was acknowledged (zero: not).
fn compare(acknowledged: &[u64], seen: &[(u64, u64)]) -> Faults {
    let known: Vec<Option<Offset>> =
        acknowledged.iter().map(|offset| (*offset > 0).then_some(Offset(*offset))).collect();
    let mut comparison = Comparison::new(&known, 16);
    for (sequence, offset) in seen {
        let mut body = Vec::new();
        load::body(*sequence, 16, &mut body);
        comparison.see(Offset(*offset), *sequence, &body);
    }
    comparison.finish()
}

#[test]
fn lost_doubled_misplaced_and_damaged_events_are_told_apart() {
    let faults = |lost, doubled, misplaced, damaged| Faults { lost, doubled, misplaced, damaged };
    assert_eq!(compare(&[5, 6, 0], &[(1, 5), (2, 6), (3, 9)]), Faults::default());
    assert_eq!(compare(&[5, 6, 0], &[(1, 5), (2, 6)]), Faults::default());
    assert_eq!(compare(&[5, 6, 7], &[(1, 5), (3, 7)]), faults(1, 0, 0, 0));
    assert_eq!(compare(&[5, 6, 7], &[(1, 5), (2, 6), (2, 7), (3, 7)]), faults(0, 1, 0, 0));
    assert_eq!(compare(&[5, 0, 7], &[(1, 5), (3, 7), (2, 8)]), faults(0, 0, 1, 0));
    assert_eq!(compare(&[5, 6], &[(1, 5), (2, 7)]), faults(0, 0, 1, 0));
    assert_eq!(compare(&[5], &[(1, 5), (2, 6)]), faults(0, 0, 0, 1));
    let known = [Some(Offset(1))];
    let mut comparison = Comparison::new(&known, 16);
    comparison.see(Offset(1), 1, b"another body, same size!"[..16].as_ref());
    assert_eq!(comparison.finish(), faults(0, 0, 0, 1));
}
