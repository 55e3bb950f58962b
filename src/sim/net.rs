//! The simulated network: streams between simulated hosts, with delay, loss, reordering, cuts and resets, all from one
//! seed.
//!
//! Peer streams carry whole frames: each frame may be lost or overtaken by later ones (harsher than TCP, which the
//! core must survive all the same). Client streams keep TCP's promise: bytes arrive in order, or the stream breaks; what
//! a cut swallowed never comes, nor does anything behind it, until the stream breaks by itself. Buffers are bounded, so
//! writers meet `WouldBlock` and short writes. Readiness is edge-triggered, as the agents expect of mio.
//!
//! Everything that arrives is folded into the trace hash; [`World::take_taps`] shows the answers that nodes gave each
//! other (votes, acknowledgements) at the moment they were sent, for invariants.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use foldhash::quality::FixedState;

use crate::base::checksum::{fold64, mix64};
use crate::base::clock::{Clock, NS_PER_MS, NS_PER_S};
use crate::base::net::{Net, NetStream, Readiness, Token};
use crate::base::prng::Prng;
use crate::protocol::frame::{FRAME_HEADER_BYTES, FrameHeader, kind};
use crate::sim::node::LocalClock;

/// A simulated machine: nodes and clients.
pub type Host = u16;
/// One agent of one host: what readiness is addressed to.
pub type Owner = (Host, u32);

/// How the network misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetFaults {
    /// Delay of each frame, in nanoseconds: at least, at most.
    pub delay_ns: (u64, u64),
    /// Lost peer frames per million.
    pub loss_per_million: u64,
    /// Peer frames per million that take up to ten times as long, so that later ones overtake them.
    pub reorder_per_million: u64,
    /// Peer frames per million that arrive twice.
    pub duplicate_per_million: u64,
}

impl Default for NetFaults {
    fn default() -> Self {
        Self {
            delay_ns: (50_000, 500_000),
            loss_per_million: 0,
            reorder_per_million: 0,
            duplicate_per_million: 0,
        }
    }
}

/// Bytes that may be on their way to one side of a stream, or wait there unread, before its writer must wait.
const SOCKET_BYTES: usize = 64 << 10;
/// Frames of a rare kind come twice so many times more often.
const RARE_COPIES: u64 = 20;
/// So late a copy of a frame comes at most.
const LATE_COPY_MAX_NS: u64 = 2 * NS_PER_S;
const YEAR_NS: u64 = 365 * 24 * 3600 * NS_PER_S;
/// How long a stream that a cut (or a dead host) swallowed bytes of lives on before it breaks.
const BREAK_AFTER_NS: (u64, u64) = (200 * NS_PER_MS, 3 * NS_PER_S);

/// Counts of what the network did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetCounts {
    /// Frames (or writes, on client streams) sent.
    pub sent: u64,
    /// Frames and writes that took more than 5 ms.
    pub late: u64,
    /// Peer frames lost.
    pub lost: u64,
    /// Peer frames that were made late.
    pub reordered: u64,
    /// Peer frames that arrived twice.
    pub duplicated: u64,
    /// Frames and writes that a cut swallowed.
    pub cut: u64,
    /// What was held up.
    pub clogged: u64,
    /// Writes that met a full buffer.
    pub blocked: u64,
    /// Streams broken.
    pub resets: u64,
}

struct Half {
    host: Host,
    owner: Option<(Owner, Token)>,
    /// Arrived, not yet read.
    inbox: VecDeque<u8>,
    /// Written, not yet a whole frame (peer streams).
    partial: Vec<u8>,
    /// The other side has closed and all its bytes have arrived.
    ended: bool,
    closed: bool,
    /// Bytes on their way to this side or in its inbox.
    owed: usize,
    /// Its last write met a full buffer.
    blocked: bool,
    /// What it writes is swallowed for good.
    swallowed: bool,
}

struct Pair {
    halves: [Half; 2],
    peer_port: bool,
    connected: bool,
    broken: bool,
    /// Handshake frames are never lost: TCP would deliver or break.
    last_arrival_ns: [u64; 2],
}

enum Arrival {
    Bytes(Vec<u8>),
    Connected,
    Refused,
    End,
    Reset,
}

/// An answer that one node sent to another.
pub struct Tap {
    /// Who sent it.
    pub from: Host,
    /// To whom.
    pub to: Host,
    /// The whole frame.
    pub frame: Vec<u8>,
}

struct Listening {
    host: Host,
    owner: Option<(Owner, Token)>,
    backlog: VecDeque<u64>,
    peer_port: bool,
}

/// The whole network.
pub struct World {
    now_ns: u64,
    prng: Prng,
    /// How it misbehaves now.
    pub faults: NetFaults,
    /// What it did.
    pub counts: NetCounts,
    pairs: BTreeMap<u64, Pair>,
    next_pair: u64,
    listeners: BTreeMap<SocketAddr, Listening>,
    /// In flight: (arrival, serial) to (pair, side that gets it, what).
    flying: BTreeMap<(u64, u64), (u64, usize, Arrival)>,
    next_serial: u64,
    ready: BTreeMap<Owner, Vec<Readiness>>,
    cuts: Vec<(Host, Host)>,
    /// What goes from one host to another waits until then.
    clogs: BTreeMap<(Host, Host), u64>,
    trace: u64,
    taps: Vec<Tap>,
}

/// A handle to the network.
pub type SharedWorld = Rc<RefCell<World>>;

impl World {
    /// An empty network.
    #[must_use]
    pub fn new(prng: Prng) -> SharedWorld {
        Rc::new(RefCell::new(Self {
            now_ns: NS_PER_MS,
            prng,
            faults: NetFaults::default(),
            counts: NetCounts::default(),
            pairs: BTreeMap::new(),
            next_pair: 1,
            listeners: BTreeMap::new(),
            flying: BTreeMap::new(),
            next_serial: 0,
            ready: BTreeMap::new(),
            cuts: Vec::new(),
            clogs: BTreeMap::new(),
            trace: 0,
            taps: Vec::new(),
        }))
    }

    /// Simulated time.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Moves time on and delivers what has arrived by then.
    pub fn advance_to(&mut self, now_ns: u64) {
        assert!(now_ns >= self.now_ns, "time does not go back");
        self.now_ns = now_ns;
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > now_ns {
                break;
            }
            let (pair, side, what) = entry.remove();
            self.arrive(pair, side, what);
        }
    }

    /// Folds a decision made outside the network into the trace.
    pub fn fold_trace(&mut self, word: u64) {
        self.trace = fold64(self.trace, word);
    }

    /// Hash of everything that has happened so far.
    #[must_use]
    pub const fn trace(&self) -> u64 {
        self.trace
    }

    /// The answers sent since the last call, in order.
    pub fn take_taps(&mut self) -> Vec<Tap> {
        std::mem::take(&mut self.taps)
    }

    /// When the next thing arrives.
    #[must_use]
    pub fn next_arrival_ns(&self) -> Option<u64> {
        self.flying.keys().next().map(|(at, _)| *at)
    }

    /// Takes the readiness of one agent.
    pub fn take_ready(&mut self, owner: Owner) -> Vec<Readiness> {
        self.ready.remove(&owner).unwrap_or_default()
    }

    /// True when some agent of this host has readiness waiting.
    #[must_use]
    pub fn host_is_ready(&self, host: Host) -> bool {
        self.ready.range((host, 0)..=(host, u32::MAX)).next().is_some()
    }

    /// Cuts (or mends) the way from one host to another. One-way: what the other sends still arrives.
    pub fn set_cut(&mut self, from: Host, to: Host, cut: bool) {
        self.cuts.retain(|link| *link != (from, to));
        if cut {
            self.cuts.push((from, to));
        }
    }

    /// What goes from one host to another waits on its way until then, and arrives in order. Nothing is lost.
    pub fn clog(&mut self, from: Host, to: Host, until_ns: u64) {
        self.clogs.insert((from, to), until_ns);
    }

    /// Mends everything; what is held up already arrives when it was to.
    pub fn mend_all(&mut self) {
        self.cuts.clear();
        self.clogs.clear();
    }

    /// A host dies: its listeners and streams go. The other ends see their streams break at once when the process died
    /// (`silent` is false), or later when the machine did.
    pub fn kill_host(&mut self, host: Host, silent: bool) {
        self.listeners.retain(|_, listening| listening.host != host);
        self.ready.retain(|owner, _| owner.0 != host);
        let touches = |pair: &Pair| pair.halves.iter().any(|half| half.host == host);
        let touched: Vec<u64> =
            self.pairs.iter().filter(|(_, pair)| touches(pair)).map(|(id, _)| *id).collect();
        for id in touched {
            if silent {
                self.fall_silent(id, host);
            } else {
                self.reset(id);
            }
        }
    }

    fn fall_silent(&mut self, id: u64, host: Host) {
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        let mut others = Vec::new();
        for side in 0..2 {
            let half = &mut pair.halves[side];
            half.swallowed = true;
            if half.host == host {
                half.closed = true;
                half.owner = None;
            } else {
                others.push(side);
            }
        }
        for side in others {
            self.break_later(id, side);
        }
    }

    /// Nobody answers any more: the stream breaks on this side after a while.
    fn break_later(&mut self, id: u64, side: usize) {
        let after_ns = self.prng.between(BREAK_AFTER_NS.0, BREAK_AFTER_NS.1);
        self.next_serial += 1;
        self.flying.insert((self.now_ns + after_ns, self.next_serial), (id, side, Arrival::Reset));
    }

    /// Breaks one random stream. False where there is none.
    pub fn reset_one(&mut self) -> bool {
        let candidates: Vec<u64> =
            self.pairs.iter().filter(|(_, pair)| pair.connected && !pair.broken).map(|(id, _)| *id).collect();
        if candidates.is_empty() {
            return false;
        }
        let pick = self.prng.below(candidates.len() as u64) as usize;
        self.reset(candidates[pick]);
        true
    }

    fn reset(&mut self, id: u64) {
        self.flying.retain(|_, (pair, _, _)| *pair != id);
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        if !pair.broken {
            self.counts.resets += 1;
        }
        pair.broken = true;
        for side in 0..2 {
            self.signal(id, side, true, true);
        }
    }

    fn note_arrival(&mut self, id: u64, side: usize, what: &Arrival) {
        let word = match what {
            Arrival::Bytes(bytes) => FixedState::with_seed(1).hash_one(&bytes[..]),
            Arrival::Connected => 2,
            Arrival::Refused => 3,
            Arrival::End => 4,
            Arrival::Reset => 5,
        };
        self.trace = [self.now_ns, id * 2 + side as u64, word].into_iter().fold(self.trace, fold64);
    }

    fn signal(&mut self, id: u64, side: usize, readable: bool, writable: bool) {
        let Some(pair) = self.pairs.get(&id) else { return };
        if let Some((owner, token)) = pair.halves[side].owner {
            let closed = pair.broken || pair.halves[side].ended;
            self.ready.entry(owner).or_default().push(Readiness { token, readable, writable, closed });
        }
    }

    fn arrive(&mut self, id: u64, side: usize, what: Arrival) {
        self.note_arrival(id, side, &what);
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        match what {
            Arrival::Bytes(_) if pair.broken || pair.halves[side].closed => {}
            Arrival::Bytes(bytes) => {
                pair.halves[side].inbox.extend(bytes);
                self.signal(id, side, true, false);
            }
            Arrival::End => {
                pair.halves[side].ended = true;
                self.signal(id, side, true, true);
            }
            Arrival::Connected => {
                pair.connected = true;
                self.signal(id, side, false, true);
            }
            Arrival::Refused => {
                pair.broken = true;
                self.signal(id, side, true, true);
            }
            Arrival::Reset => self.reset(id),
        }
    }

    fn is_cut(&self, from: Host, to: Host) -> bool {
        self.cuts.contains(&(from, to))
    }

    fn delay_ns(&mut self) -> u64 {
        let (least, most) = self.faults.delay_ns;
        self.prng.between(least, most.max(least))
    }

    /// Puts something on the way to `side`, in order unless it may be overtaken.
    fn fly(&mut self, id: u64, side: usize, what: Arrival, overtakable: bool) {
        let mut at_ns = self.now_ns + self.delay_ns();
        self.counts.late += u64::from(at_ns - self.now_ns > 5 * NS_PER_MS);
        if let Some(pair) = self.pairs.get(&id) {
            let way = (pair.halves[1 - side].host, pair.halves[side].host);
            if let Some(until_ns) = self.clogs.get(&way).copied().filter(|until_ns| *until_ns > self.now_ns) {
                at_ns += until_ns - self.now_ns;
                self.counts.clogged += 1;
            }
        }
        if overtakable && self.prng.chance(self.faults.reorder_per_million) {
            self.counts.reordered += 1;
            at_ns += self.delay_ns() * self.prng.between(1, 10);
        } else if let Some(pair) = self.pairs.get_mut(&id) {
            at_ns = at_ns.max(pair.last_arrival_ns[side]);
            pair.last_arrival_ns[side] = at_ns;
        }
        if let (Arrival::Bytes(bytes), Some(pair)) = (&what, self.pairs.get_mut(&id)) {
            pair.halves[side].owed += bytes.len();
        }
        self.next_serial += 1;
        self.flying.insert((at_ns, self.next_serial), (id, side, what));
    }

    /// A copy that turns up when much else has happened: what it is about may be trimmed by then.
    /// It takes no room meanwhile.
    fn fly_late(&mut self, id: u64, side: usize, frame: Vec<u8>) {
        let at_ns = self.now_ns + self.prng.between(NS_PER_MS, LATE_COPY_MAX_NS);
        self.next_serial += 1;
        self.flying.insert((at_ns, self.next_serial), (id, side, Arrival::Bytes(frame)));
    }

    fn connect(&mut self, host: Host, address: SocketAddr) -> u64 {
        let id = self.next_pair;
        self.next_pair += 1;
        let target = self.listeners.get(&address).map(|listening| (listening.host, listening.peer_port));
        let half = |host| Half {
            host,
            owner: None,
            inbox: VecDeque::new(),
            partial: Vec::new(),
            ended: false,
            closed: false,
            owed: 0,
            blocked: false,
            swallowed: false,
        };
        let (to, peer_port) = target.unwrap_or((host, false));
        self.pairs.insert(
            id,
            Pair {
                halves: [half(host), half(to)],
                peer_port,
                connected: false,
                broken: false,
                last_arrival_ns: [0; 2],
            },
        );
        if target.is_none() {
            self.fly(id, 0, Arrival::Refused, false);
        } else if !self.is_cut(host, to) && !self.is_cut(to, host) {
            self.fly(id, 0, Arrival::Connected, false);
            if let Some(listening) = self.listeners.get_mut(&address) {
                listening.backlog.push_back(id);
                if let Some((owner, token)) = listening.owner {
                    let event = Readiness { token, readable: true, writable: false, closed: false };
                    self.ready.entry(owner).or_default().push(event);
                }
            }
        }
        id
    }

    fn write(&mut self, id: u64, side: usize, bytes: &[u8]) -> io::Result<usize> {
        let Some(pair) = self.pairs.get_mut(&id) else { return Err(ErrorKind::BrokenPipe.into()) };
        let swallowed = pair.halves[side].swallowed;
        if pair.broken || (pair.halves[1 - side].closed && !swallowed) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = SOCKET_BYTES.saturating_sub(pair.halves[1 - side].owed);
        if room == 0 {
            pair.halves[side].blocked = true;
            self.counts.blocked += 1;
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes = &bytes[..bytes.len().min(room)];
        let peer_port = pair.peer_port;
        let (from, to) = (pair.halves[side].host, pair.halves[1 - side].host);
        if swallowed {
            pair.halves[1 - side].owed += bytes.len();
        } else if peer_port {
            pair.halves[side].partial.extend_from_slice(bytes);
            while let Some(frame) = self.take_frame(id, side) {
                self.send_frame(id, side, (from, to), frame);
            }
        } else {
            self.counts.sent += 1;
            if self.is_cut(from, to) {
                self.counts.cut += 1;
                if let Some(pair) = self.pairs.get_mut(&id) {
                    pair.halves[side].swallowed = true;
                    pair.halves[1 - side].owed += bytes.len();
                }
                self.break_later(id, side);
            } else {
                self.fly(id, 1 - side, Arrival::Bytes(bytes.to_vec()), false);
            }
        }
        Ok(bytes.len())
    }

    fn send_frame(&mut self, id: u64, side: usize, (from, to): (Host, Host), frame: Vec<u8>) {
        self.counts.sent += 1;
        let frame_kind = frame.get(4).copied().unwrap_or(0);
        let is_hello = matches!(frame_kind, kind::PEER_HELLO | kind::PEER_HELLO_REPLY);
        if matches!(frame_kind, kind::VOTE_REPLY | kind::APPEND_REPLY | kind::HEARTBEAT_REPLY) {
            self.taps.push(Tap { from, to, frame: frame.clone() });
        }
        if self.is_cut(from, to) {
            self.counts.cut += 1;
            return;
        }
        if !is_hello && self.prng.chance(self.faults.loss_per_million) {
            self.counts.lost += 1;
            return;
        }
        // Of checkpoints there are so few that copies of them would hardly ever be met.
        let copies = if frame_kind == kind::CHECKPOINT { RARE_COPIES } else { 1 };
        if !is_hello && self.prng.chance(copies * self.faults.duplicate_per_million) {
            self.counts.duplicated += 1;
            if self.prng.chance(300_000) {
                self.fly_late(id, 1 - side, frame.clone());
            } else {
                self.fly(id, 1 - side, Arrival::Bytes(frame.clone()), true);
            }
        }
        self.fly(id, 1 - side, Arrival::Bytes(frame), !is_hello);
    }

    fn take_frame(&mut self, id: u64, side: usize) -> Option<Vec<u8>> {
        let partial = &mut self.pairs.get_mut(&id)?.halves[side].partial;
        if partial.len() < FRAME_HEADER_BYTES {
            return None;
        }
        let header = FrameHeader::decode(partial).ok().flatten().expect("agents write whole, sound frames");
        let length = header.length_bytes as usize;
        (partial.len() >= length).then(|| partial.drain(..length).collect())
    }

    fn read(&mut self, id: u64, side: usize, out: &mut [u8]) -> io::Result<usize> {
        let Some(pair) = self.pairs.get_mut(&id) else { return Err(ErrorKind::ConnectionReset.into()) };
        let half = &mut pair.halves[side];
        if !half.inbox.is_empty() {
            let count = out.len().min(half.inbox.len());
            let (front, back) = half.inbox.as_slices();
            let of_front = count.min(front.len());
            out[..of_front].copy_from_slice(&front[..of_front]);
            out[of_front..count].copy_from_slice(&back[..count - of_front]);
            half.inbox.drain(..count);
            half.owed = half.owed.saturating_sub(count);
            let room = half.owed < SOCKET_BYTES / 2;
            let writer = &mut pair.halves[1 - side];
            if room && std::mem::take(&mut writer.blocked) {
                self.signal(id, 1 - side, false, true);
            }
            return Ok(count);
        }
        if pair.broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if half.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn close(&mut self, id: u64, side: usize) {
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        if std::mem::replace(&mut pair.halves[side].closed, true) {
            return;
        }
        pair.halves[side].owner = None;
        let both = pair.halves.iter().all(|half| half.closed);
        let over = pair.broken || pair.halves[side].swallowed;
        let (from, to) = (pair.halves[side].host, pair.halves[1 - side].host);
        if both {
            self.pairs.remove(&id);
            self.flying.retain(|_, (pair, _, _)| *pair != id);
        } else if over {
            // The other side knows, or will find out by itself.
        } else if self.is_cut(from, to) {
            self.break_later(id, 1 - side);
        } else {
            self.fly(id, 1 - side, Arrival::End, false);
        }
    }
}

/// One end of a stream. Dropping it closes it.
pub struct SimStream {
    world: SharedWorld,
    id: u64,
    side: usize,
}

impl io::Read for SimStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.world.borrow_mut().read(self.id, self.side, out)
    }
}

impl io::Write for SimStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().write(self.id, self.side, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NetStream for SimStream {
    fn poll_connected(&mut self) -> io::Result<bool> {
        let world = self.world.borrow();
        match world.pairs.get(&self.id) {
            Some(pair) if !pair.broken => Ok(pair.connected),
            _ => Err(ErrorKind::ConnectionRefused.into()),
        }
    }

    fn peer_label(&self) -> String {
        format!("sim-{}", self.id)
    }

    fn shutdown(&mut self) {
        self.world.borrow_mut().close(self.id, self.side);
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        // A host that is torn down while the world is borrowed closes nothing: the world knows that it died.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.close(self.id, self.side);
        }
    }
}

/// A listening port.
pub struct SimListener {
    address: SocketAddr,
}

/// The network as one agent sees it.
pub struct SimNet {
    world: SharedWorld,
    owner: Owner,
}

impl SimNet {
    /// For one agent.
    #[must_use]
    pub const fn new(world: SharedWorld, owner: Owner) -> Self {
        Self { world, owner }
    }

    /// Opens a port of this agent's host.
    #[must_use]
    pub fn listen(&self, address: SocketAddr, peer_port: bool) -> SimListener {
        let listening = Listening { host: self.owner.0, owner: None, backlog: VecDeque::new(), peer_port };
        self.world.borrow_mut().listeners.insert(address, listening);
        SimListener { address }
    }
}

impl Net for SimNet {
    type Stream = SimStream;
    type Listener = SimListener;

    fn connect(&mut self, address: SocketAddr) -> io::Result<SimStream> {
        let id = self.world.borrow_mut().connect(self.owner.0, address);
        Ok(SimStream { world: Rc::clone(&self.world), id, side: 0 })
    }

    fn accept(&mut self, listener: &mut SimListener) -> io::Result<(SimStream, SocketAddr)> {
        let mut world = self.world.borrow_mut();
        let waiting =
            world.listeners.get_mut(&listener.address).and_then(|listening| listening.backlog.pop_front());
        let id = waiting.ok_or_else(|| io::Error::from(ErrorKind::WouldBlock))?;
        drop(world);
        Ok((SimStream { world: Rc::clone(&self.world), id, side: 1 }, listener.address))
    }

    fn register(&mut self, stream: &mut SimStream, token: Token) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let Some(pair) = world.pairs.get_mut(&stream.id) else { return Err(ErrorKind::NotConnected.into()) };
        let connected = pair.connected || stream.side == 1;
        let half = &mut pair.halves[stream.side];
        half.owner = Some((self.owner, token));
        let readable = !half.inbox.is_empty() || half.ended || pair.broken;
        let writable = connected || pair.broken;
        if readable || writable {
            world.signal(stream.id, stream.side, readable, writable);
        }
        Ok(())
    }

    fn deregister(&mut self, stream: &mut SimStream) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        if let Some(pair) = world.pairs.get_mut(&stream.id) {
            pair.halves[stream.side].owner = None;
        }
        Ok(())
    }

    fn register_listener(&mut self, listener: &mut SimListener, token: Token) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        if let Some(listening) = world.listeners.get_mut(&listener.address) {
            listening.owner = Some((self.owner, token));
        }
        Ok(())
    }
}

/// Simulated time as the agents of one node read it.
#[derive(Clone)]
pub struct SimClock {
    world: SharedWorld,
    local: LocalClock,
}

impl SimClock {
    /// A node's clock.
    #[must_use]
    pub const fn new(world: SharedWorld, local: LocalClock) -> Self {
        Self { world, local }
    }
}

impl Clock for SimClock {
    fn now_ns(&self) -> u64 {
        self.local.at(self.world.borrow().now_ns)
    }

    /// A wall clock that jumps by up to a year, both ways, every 300 ms: it must change nothing but what is shown
    /// (PITFALLS 46).
    fn unix_ns(&self) -> u64 {
        let now_ns = self.now_ns();
        let jump_ns = mix64(now_ns / (300 * NS_PER_MS)) % (2 * YEAR_NS);
        1_700_000_000 * NS_PER_S - YEAR_NS + jump_ns + now_ns
    }
}
