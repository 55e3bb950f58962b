//! The client's connections: several nodes on one poll, dialled again whenever they are lost.
//!
//! ```text
//! Waiting ─due─▶ Dialing ─connected─▶ Greeting ─accepted─▶ Ready ─┐
//!    ▲              │                     │                       │ end of stream, error, bad frame,
//!    └── jittered pause, at most 500 ms ──┴───────────────────────┘ refusal, silence, or left by its user
//! ```
//!
//! [`Links`] moves bytes, does the handshakes, answers for time limits, and hands whole messages to a [`Handler`]. It
//! knows nothing of leaders or events. Whoever holds it drives it: nothing happens outside of [`Links::turn`], and
//! there are no threads.
//!
//! A connection that was lost or left is never used again: what still arrives on it is not read, so a stale answer
//! cannot be taken for a new one. [`LinkRef`] names one dial of one place and is void once that dial is over.

mod alarm;
mod handshake;
mod link;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use self::alarm::{Alarm, FINE_BELOW};
use self::link::{Link, Silence, Stage, Watch};
use super::error::ClientError;
use super::options::{ClientOptions, resolve};
use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::base::ids::{ClusterId, GroupId, NodeId};
use crate::base::limits::{FRAME_BYTES_MAX, NODES_MAX};
use crate::base::net::{Net, NetStream, Readiness, Token};
use crate::base::prng::Prng;
use crate::net::{InBuffer, MioNet, ReadUntil};
use crate::protocol::client::{ClientHelloAccept, ClientMessage, Purpose, ServerMessage};
use crate::protocol::frame::{FrameHeader, HELLO_FRAME_BYTES_MAX, split_frame_within};

pub(super) use self::link::Credit;

/// Places for connections: as many as were given, and one for every member that nobody named.
const LINKS_MAX: usize = 2 * NODES_MAX;
/// Longest pause between two dials of one address.
const PAUSE_MAX_NS: u64 = 500 * NS_PER_MS;
/// The same for a node that is needed, for so long after that was said.
const PAUSE_AWAITED_NS: u64 = 20 * NS_PER_MS;
const AWAITED_FOR_NS: u64 = 2 * NS_PER_S;
/// Longest first pause.
const PAUSE_FIRST_NS: u64 = 10 * NS_PER_MS;
/// A connection that stood for this long was a good one.
const GOOD_AFTER_NS: u64 = NS_PER_S;
/// Bytes read from one connection in one turn.
const READ_BUDGET: usize = 1 << 20;
const AGENT_SLOT: u32 = 0;
const WAKER_SLOT: u32 = 1;
const ALARM_SLOT: u32 = 2;
const GROUP: GroupId = GroupId(0);

/// Names one dial of one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LinkRef {
    slot: usize,
    generation: u32,
}

/// What a handler says about the frame that it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    /// Done with it.
    Next,
    /// Not done: give it again in the next turn, and nothing behind it until then.
    Keep,
}

/// Who takes the messages. An error ends the turn and goes to the caller.
pub(super) trait Handler {
    /// A node has welcomed us.
    fn greeted(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        welcome: &ClientHelloAccept<'_>,
    ) -> Result<(), ClientError>;

    /// A message of a node that has welcomed us; pongs and goodbyes are dealt with before.
    fn message(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        message: &ServerMessage<'_>,
    ) -> Result<Flow, ClientError>;
}

/// Interrupts a poll of the client that it came from, from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Makes the running poll (or else the next one) return early. Calls before that poll count as one.
    ///
    /// # Errors
    /// As the system says; then the poll returns at its own timeout.
    pub fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

/// How to greet, and how to wait.
struct Manners {
    purpose: Purpose,
    name: String,
    connect_timeout_ns: u64,
    inbox_bytes: usize,
    follow_members: bool,
    /// Several addresses of one node are each connected to.
    aliases: bool,
    /// A refusal that waiting does not cure goes to the caller; otherwise it counts as a failure of that node.
    strict: bool,
    /// The only place that is dialled.
    only: Option<usize>,
}

/// All connections of one client. Not shared between threads, but may move.
pub(super) struct Links {
    poll: Poll,
    events: Events,
    readiness: Vec<Readiness>,
    waker: Waker,
    woken: bool,
    /// Made for the first short wait.
    alarm: Option<Alarm>,
    net: MioNet,
    links: Vec<Link>,
    /// Addresses that nodes have named.
    heard_of: Vec<String>,
    prng: Prng,
    started: Instant,
    manners: Manners,
    /// The cluster meant, or the first one that answered.
    cluster_id: Option<ClusterId>,
    last_failure: Option<(SocketAddr, String)>,
    next_request: u64,
    /// The node that is needed, connected or not, and until when its dials are hurried.
    awaited: Option<(NodeId, u64)>,
}

impl Links {
    /// No connection yet; the first turn dials every server. With `follow_members` every node that a welcome names is
    /// connected to as well.
    pub(super) fn new(
        options: &ClientOptions,
        purpose: Purpose,
        inbox_bytes: usize,
        follow_members: bool,
    ) -> Result<Self, ClientError> {
        options.check()?;
        let poll = Poll::new().map_err(ClientError::system("open a poll"))?;
        let registry = poll.registry().try_clone().map_err(ClientError::system("open a poll"))?;
        let token = MioNet::poll_token(WAKER_SLOT, Token(0));
        let waker = mio::Waker::new(&registry, token).map_err(ClientError::system("make a waker"))?;
        let mut links = Self {
            poll,
            events: Events::with_capacity(64),
            readiness: Vec::new(),
            waker: Waker(Arc::new(waker)),
            woken: false,
            alarm: None,
            net: MioNet::new(registry, AGENT_SLOT),
            links: Vec::new(),
            heard_of: Vec::new(),
            prng: Prng::new(options.seed()),
            started: Instant::now(),
            manners: Manners {
                purpose,
                name: options.name.clone(),
                connect_timeout_ns: ns(options.connect_timeout),
                inbox_bytes,
                follow_members,
                aliases: false,
                strict: true,
                only: None,
            },
            cluster_id: options.cluster_id,
            last_failure: None,
            next_request: 1,
            awaited: None,
        };
        for server in &options.servers {
            links.add(*server);
        }
        Ok(links)
    }

    /// From now on a node of another cluster, or one that refuses for good, counts as a node that cannot be reached:
    /// its address may have been given away (PITFALLS 47).
    pub(super) const fn be_lenient(&mut self) {
        self.manners.strict = false;
    }

    /// From now on each address is connected to, also where several lead to one node.
    pub(super) const fn keep_aliases(&mut self) {
        self.manners.aliases = true;
    }

    /// From now on only this place is dialled.
    pub(super) const fn dial_only(&mut self, slot: usize) {
        self.manners.only = Some(slot);
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Monotonic time since this client began.
    pub(super) fn now_ns(&self) -> u64 {
        ns(self.started.elapsed())
    }

    /// Whether a waker (or a signal) interrupted a turn since this was asked last.
    pub(super) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    pub(super) fn next_request_id(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// A random pause of at most `limit_ns`, at least half of it.
    pub(super) fn jitter_ns(&mut self, limit_ns: u64) -> u64 {
        self.prng.between(limit_ns / 2, limit_ns.max(1))
    }

    // Connections, by name.

    /// The connection to a node, if it stands.
    pub(super) fn of_node(&self, node: NodeId) -> Option<LinkRef> {
        self.ready().find(|link| self.node_of(*link) == Some(node))
    }

    /// All connections that stand, in the order of the list.
    pub(super) fn ready(&self) -> impl Iterator<Item = LinkRef> + '_ {
        let standing = self.links.iter().enumerate().filter(|(_, link)| link.is_ready());
        standing.map(|(slot, link)| LinkRef { slot, generation: link.generation })
    }

    fn get(&self, link: LinkRef) -> Option<&Link> {
        self.links.get(link.slot).filter(|found| found.generation == link.generation && found.is_ready())
    }

    fn get_mut(&mut self, link: LinkRef) -> Option<&mut Link> {
        self.links.get_mut(link.slot).filter(|found| found.generation == link.generation && found.is_ready())
    }

    /// Whether this connection still stands.
    pub(super) fn is_live(&self, link: LinkRef) -> bool {
        self.get(link).is_some()
    }

    pub(super) fn node_of(&self, link: LinkRef) -> Option<NodeId> {
        self.get(link).and_then(|found| found.node)
    }

    pub(super) fn credit_of(&self, link: LinkRef) -> Credit {
        self.get(link).map_or_else(Credit::default, |found| found.credit)
    }

    /// The address of a place, whether its connection stands or not.
    pub(super) fn address_of(&self, link: LinkRef) -> SocketAddr {
        self.links[link.slot].address
    }

    /// Bytes that wait for the socket.
    pub(super) fn unsent_bytes(&self, link: LinkRef) -> usize {
        self.get(link).map_or(0, |found| found.out.len_bytes())
    }

    /// All addresses, for messages.
    pub(super) fn describe(&self) -> String {
        let texts: Vec<String> = self.links.iter().map(|link| link.address.to_string()).collect();
        texts.join(", ")
    }

    /// What went wrong last, for messages.
    pub(super) fn describe_failure(&self) -> String {
        match &self.last_failure {
            Some((address, text)) => format!("{address}: {text}"),
            None => "no answer yet".to_owned(),
        }
    }

    /// The latest failure at one address.
    pub(super) fn failure_at(&self, slot: usize) -> Option<&str> {
        self.links.get(slot).map(|link| link.last_failure.as_str()).filter(|text| !text.is_empty())
    }

    /// How often a connection to this place has ended, well or badly.
    pub(super) fn endings(&self, slot: usize) -> u32 {
        self.links.get(slot).map_or(0, |link| link.generation)
    }

    // What users do with connections.

    /// Adds a place, unless it is there or there are too many. It is dialled in the next turn.
    pub(super) fn add(&mut self, address: SocketAddr) {
        if self.links.len() < LINKS_MAX && self.links.iter().all(|link| link.address != address) {
            self.links.push(Link::new(address, self.manners.inbox_bytes));
        }
    }

    /// Adds a member of the cluster by what another node says of it. An address that means 'every interface' there
    /// means that node's host here. A place of that address that never answered is known by the node from now on.
    pub(super) fn learn(&mut self, teller: LinkRef, node: NodeId, text: &str) {
        let known = self.links.iter().any(|link| link.node == Some(node));
        if !self.manners.follow_members || text.is_empty() || known || self.heard_of.len() >= LINKS_MAX {
            return;
        }
        // Each address once: looking a name up may take its time.
        if self.heard_of.iter().any(|heard| heard == text) {
            return;
        }
        self.heard_of.push(text.to_owned());
        let Ok(mut address) = resolve(text) else { return };
        if address.ip().is_unspecified() {
            address.set_ip(self.address_of(teller).ip());
        }
        self.add(address);
        // Hearsay until the node's own welcome: it only says whose dials are worth hurrying.
        if let Some(link) = self.links.iter_mut().find(|link| link.address == address && link.node.is_none())
        {
            link.node = Some(node);
        }
    }

    /// This node is needed: dials it now if its connection does not stand, and again with short pauses for a while.
    pub(super) fn hurry(&mut self, node: NodeId) {
        self.awaited = Some((node, self.now_ns().saturating_add(AWAITED_FOR_NS)));
        for link in self.links.iter_mut().filter(|link| link.node == Some(node)) {
            if matches!(link.stage, Stage::Waiting { .. }) {
                link.stage = Stage::Waiting { due_ns: 0 };
            }
        }
    }

    /// Queues a message; it leaves with the next [`Links::flush`] or turn.
    pub(super) fn send(&mut self, link: LinkRef, message: &ClientMessage<'_>) {
        if let Some(found) = self.get_mut(link) {
            found.out.push_with(|out| message.encode(GROUP, out));
        }
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self, link: LinkRef) {
        if self.is_live(link) {
            self.write(link.slot);
        }
    }

    /// Gives a connection up; it is dialled again after a jittered pause.
    pub(super) fn leave(&mut self, link: LinkRef, why: &str) {
        if self.is_live(link) {
            self.fail(link.slot, why.to_owned());
        }
    }

    /// The connection has brought something: the next failure begins with a short pause.
    pub(super) fn useful(&mut self, link: LinkRef) {
        if let Some(found) = self.get_mut(link) {
            found.failures = 0;
        }
    }

    /// Answers are owed from now on (or no longer): bounds the silence that is borne.
    pub(super) fn watch(&mut self, link: LinkRef, limit_ns: Option<u64>) {
        let since_ns = self.now_ns();
        let Some(found) = self.get_mut(link) else { return };
        match (limit_ns, &mut found.watch) {
            (None, _) => found.watch = None,
            (Some(limit_ns), Some(watch)) => watch.limit_ns = limit_ns,
            (Some(limit_ns), None) => {
                found.watch = Some(Watch { since_ns, limit_ns });
                (found.pinged_ns, found.last_look) = (None, false);
            }
        }
    }

    // Turning.

    /// Dials what is due, writes, waits for at most `timeout` (not at all while work is left), reads, and hands
    /// every whole message to `handler`.
    ///
    /// # Errors
    /// The handler's; a refusal that waiting does not cure; a poll that the system refuses.
    pub(super) fn turn(&mut self, handler: &mut impl Handler, timeout: Duration) -> Result<(), ClientError> {
        let now_ns = self.now_ns();
        self.dial_due(now_ns);
        for slot in 0..self.links.len() {
            self.write(slot);
        }
        let work_left = self.links.iter().any(|link| link.readable || link.kept);
        let timeout = if work_left { Duration::ZERO } else { self.until_deadline(now_ns).min(timeout) };
        self.wait(timeout)?;
        for slot in 0..self.links.len() {
            self.serve(slot, handler)?;
        }
        self.expire();
        Ok(())
    }

    fn until_deadline(&self, now_ns: u64) -> Duration {
        let wanted = self.links.iter().enumerate().filter(|(slot, _)| self.is_wanted(*slot));
        let deadline_ns = wanted.map(|(_, link)| link.deadline_ns(now_ns)).min().unwrap_or(u64::MAX);
        Duration::from_nanos(deadline_ns.saturating_sub(now_ns))
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), ClientError> {
        if !timeout.is_zero() && timeout < FINE_BELOW {
            self.set_alarm(timeout).map_err(ClientError::system("set a timer"))?;
        }
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            // A signal: whoever handles it may want to be asked.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.woken = true,
            Err(error) => return Err(ClientError::system("wait for the network")(error)),
        }
        self.readiness.clear();
        for event in &self.events {
            let (agent_slot, readiness) = MioNet::readiness(event);
            match agent_slot {
                WAKER_SLOT => self.woken = true,
                ALARM_SLOT => {}
                _ => self.readiness.push(readiness),
            }
        }
        for readiness in &self.readiness {
            if let Some(link) = self.links.get_mut(readiness.token.0 as usize) {
                link.readable |= readiness.readable;
                link.writable |= readiness.writable;
            }
        }
        Ok(())
    }

    fn set_alarm(&mut self, after: Duration) -> io::Result<()> {
        if self.alarm.is_none() {
            let token = MioNet::poll_token(ALARM_SLOT, Token(0));
            self.alarm = Some(Alarm::new(self.poll.registry(), token)?);
        }
        self.alarm.as_ref().map_or(Ok(()), |alarm| alarm.set(after))
    }

    fn dial_due(&mut self, now_ns: u64) {
        for slot in 0..self.links.len() {
            let due = matches!(self.links[slot].stage, Stage::Waiting { due_ns } if due_ns <= now_ns);
            if !due || !self.is_wanted(slot) {
                continue;
            }
            let deadline_ns = now_ns.saturating_add(self.manners.connect_timeout_ns);
            match self.dial(slot) {
                Ok(()) => self.links[slot].stage = Stage::Dialing { deadline_ns },
                Err(error) => self.fail(slot, error.to_string()),
            }
        }
    }

    fn is_wanted(&self, slot: usize) -> bool {
        self.manners.only.is_none_or(|only| only == slot)
    }

    fn dial(&mut self, slot: usize) -> io::Result<()> {
        let link = &mut self.links[slot];
        let mut stream = self.net.connect(link.address)?;
        self.net.register(&mut stream, Token(slot as u32))?;
        link.stream = Some(stream);
        Ok(())
    }

    fn write(&mut self, slot: usize) {
        let link = &mut self.links[slot];
        let connected = matches!(link.stage, Stage::Greeting { .. } | Stage::Ready { .. });
        let Some(stream) = link.stream.as_mut().filter(|_| connected && link.writable) else { return };
        match link.out.flush(stream) {
            Ok(outcome) => link.writable = !outcome.blocked,
            Err(error) => self.fail(slot, error.to_string()),
        }
    }

    /// One connection's turn.
    fn serve(&mut self, slot: usize, handler: &mut impl Handler) -> Result<(), ClientError> {
        if matches!(self.links[slot].stage, Stage::Dialing { .. }) && !self.greet(slot) {
            return Ok(());
        }
        if self.links[slot].kept {
            // Not read, so that nothing can be heard: silence is our own doing.
            let now_ns = self.now_ns();
            self.links[slot].heard(now_ns);
        }
        let mut budget = READ_BUDGET;
        loop {
            let link = &mut self.links[slot];
            let generation = link.generation;
            let Some(stream) = link.stream.as_mut() else { return Ok(()) };
            let mut over = None;
            if link.readable && budget > 0 && !link.kept {
                match link.inbox.read_from(stream, budget, ReadUntil::WouldBlock) {
                    Ok(outcome) => {
                        budget -= outcome.bytes.min(budget);
                        link.readable = !outcome.drained;
                        over = outcome.closed.then(|| "the node closed the connection".to_owned());
                    }
                    Err(error) => over = Some(error.to_string()),
                }
                if budget < READ_BUDGET {
                    link.heard(ns(self.started.elapsed()));
                }
            }
            self.frames(slot, handler)?;
            let link = &self.links[slot];
            if link.generation != generation {
                return Ok(());
            }
            if let Some(why) = over {
                self.fail(slot, why);
                return Ok(());
            }
            if !link.readable || link.kept || budget == 0 {
                self.write(slot);
                return Ok(());
            }
        }
    }

    /// Hands whole frames on. The inbox is lent out meanwhile; it comes back unless the connection ended.
    fn frames(&mut self, slot: usize, handler: &mut impl Handler) -> Result<(), ClientError> {
        let link = &mut self.links[slot];
        let generation = link.generation;
        link.kept = false;
        let mut inbox = std::mem::replace(&mut link.inbox, InBuffer::new(1, 1));
        let outcome = self.frames_of(slot, &mut inbox, handler);
        let link = &mut self.links[slot];
        if link.generation == generation {
            link.inbox = inbox;
            if let Ok(Some(why)) = outcome {
                self.fail(slot, why);
                return Ok(());
            }
        }
        outcome.map(|_| ())
    }

    /// `Some` is the reason why the connection must go.
    fn frames_of(
        &mut self,
        slot: usize,
        inbox: &mut InBuffer,
        handler: &mut impl Handler,
    ) -> Result<Option<String>, ClientError> {
        let generation = self.links[slot].generation;
        loop {
            let ready = self.links[slot].is_ready();
            let limit = if ready { FRAME_BYTES_MAX } else { HELLO_FRAME_BYTES_MAX };
            let (frame, consumed) = match split_frame_within(inbox.unread(), limit) {
                Ok(Some(split)) => split,
                Ok(None) => {
                    // The length was compared with the limit by the decoder above.
                    if let Ok(Some(header)) = FrameHeader::decode_within(inbox.unread(), limit) {
                        let _ = inbox.reserve(header.length_bytes as usize);
                    }
                    return Ok(None);
                }
                Err(error) => return Ok(Some(error.to_string())),
            };
            let message = match ServerMessage::decode(frame) {
                Ok(message) => message,
                Err(error) => return Ok(Some(error.to_string())),
            };
            let link = LinkRef { slot, generation };
            let flow = match message {
                ServerMessage::HelloReply(reply) if !ready => {
                    if let Some(why) = self.welcome(link, &reply, handler)? {
                        return Ok(Some(why));
                    }
                    Flow::Next
                }
                _ if !ready => return Ok(Some("its first message is no answer to a hello".to_owned())),
                ServerMessage::Pong { .. } => Flow::Next,
                ServerMessage::Goodbye { text, .. } => {
                    return Ok(Some(format!("the node says goodbye: {text}")));
                }
                message => handler.message(self, link, &message)?,
            };
            if flow == Flow::Keep {
                self.links[slot].kept = true;
                return Ok(None);
            }
            inbox.consume(consumed);
            if self.links[slot].generation != generation {
                return Ok(None);
            }
        }
    }

    fn expire(&mut self) {
        let now_ns = self.now_ns();
        for slot in 0..self.links.len() {
            let link = &mut self.links[slot];
            match link.stage {
                Stage::Dialing { deadline_ns } | Stage::Greeting { deadline_ns } if deadline_ns <= now_ns => {
                    self.fail(slot, "no answer to the dial in time".to_owned());
                }
                Stage::Ready { .. } => match link.silence(now_ns) {
                    Silence::Until(_) => {}
                    Silence::Ping => {
                        link.pinged_ns = Some(now_ns);
                        link.out.push_with(|out| ClientMessage::Ping { request_id: 0 }.encode(GROUP, out));
                        self.write(slot);
                    }
                    // The next turn polls without waiting: what came before the time was up is read then.
                    Silence::TooLong if !link.last_look => link.last_look = true,
                    Silence::TooLong => self.fail(slot, "the node is silent".to_owned()),
                },
                _ => {}
            }
        }
    }

    /// The connection is over; the next dial comes after a jittered pause that doubles with failures in a row.
    fn fail(&mut self, slot: usize, why: String) {
        let now_ns = self.now_ns();
        let link = &mut self.links[slot];
        if matches!(link.stage, Stage::Ready { since_ns } if now_ns.saturating_sub(since_ns) >= GOOD_AFTER_NS)
        {
            link.failures = 0;
        }
        let awaited =
            self.awaited.is_some_and(|(node, until_ns)| link.node == Some(node) && now_ns < until_ns);
        let longest_ns = if awaited { PAUSE_AWAITED_NS } else { PAUSE_MAX_NS };
        let limit_ns = (PAUSE_FIRST_NS << link.failures.min(16)).min(longest_ns);
        tracing::debug!("connection to {} is over: {why}", link.address);
        link.failures = link.failures.saturating_add(1);
        link.last_failure.clone_from(&why);
        self.last_failure = Some((link.address, why));
        let pause_ns = self.jitter_ns(limit_ns);
        self.close(slot, now_ns.saturating_add(pause_ns));
    }

    fn close(&mut self, slot: usize, due_ns: u64) {
        let link = &mut self.links[slot];
        if let Some(mut stream) = link.stream.take() {
            // Closing the descriptor settles what these leave open.
            let _ = self.net.deregister(&mut stream);
            stream.shutdown();
        }
        link.generation = link.generation.wrapping_add(1);
        link.stage = Stage::Waiting { due_ns };
        link.inbox = InBuffer::new(self.manners.inbox_bytes, FRAME_BYTES_MAX);
        link.out.clear();
        (link.readable, link.writable, link.kept) = (false, false, false);
        (link.pinged_ns, link.last_look, link.watch) = (None, false, None);
    }
}

/// Nanoseconds of a duration, as far as 64 bits go.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
