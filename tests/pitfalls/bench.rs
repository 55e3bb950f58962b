//! One batcher of three nodes, and everything around it played by the test.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use tercet::agent::Agent;
use tercet::agent::batcher::{Batcher, BatcherLimits, BatcherSettings, RetentionSettings, TimerSettings};
use tercet::agent::boot::boot;
use tercet::agent::commands::{
    BatcherReply, BatcherRequest, ConnectionId, LinkState, LogCommand, LogEvent, PeerIdentity, PeerMessage,
    PeerSaid, PublishChunk, SenderCommand,
};
use tercet::agent::control::Control;
use tercet::agent::ring::WakeHandle;
use tercet::agent::rings::{
    ConductorRings, DeliveryNotice, DeliveryRings, DispatcherRings, LogWriterRings, ReaderRings,
    ReceiverRings, SenderRings, make_rings,
};
use tercet::base::clock::{Clock, NS_PER_MS};
use tercet::base::ids::{
    ClusterId, EntryId, Epoch, GroupId, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term,
};
use tercet::entry::{
    BatchAccumulator, BatchLimits, Configuration, Durability, Entry, EventParts, Member, ProducerRef,
    SealContext, encode_configuration, encode_event, encode_noop, encode_open_producer,
};
use tercet::log::{Identity, LogOptions, Pulse, format};
use tercet::metrics::Counters;
use tercet::protocol::peer::{CopyState, MendMessage};
use tercet::raft::{AppendOutcome, Message, Role};
use tercet::sim::disk::{SimDisk, SimFile};

pub const CLIENT: ConnectionId = ConnectionId { slot: 3, generation: 1 };
/// More than the longest election timeout.
const ELECTION_NS: u64 = 250 * NS_PER_MS;

/// A clock that goes where the test sets it.
#[derive(Clone, Default)]
pub struct TestClock {
    pub mono_ns: Rc<Cell<u64>>,
    pub unix_ns: Rc<Cell<u64>>,
}

impl Clock for TestClock {
    fn now_ns(&self) -> u64 {
        self.mono_ns.get()
    }

    fn unix_ns(&self) -> u64 {
        self.unix_ns.get()
    }
}

pub fn n(id: u16) -> NodeId {
    NodeId(id)
}

/// The formatting by which a peer is known.
pub fn pinned(peer: u16) -> Incarnation {
    Incarnation(0x1000 + u128::from(peer))
}

pub fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), LogIndex(index))
}

pub fn data_dir() -> &'static Path {
    Path::new("/data")
}

pub fn options() -> LogOptions {
    LogOptions::for_tests(GroupId(0), 1 << 20)
}

pub fn context_after(last: Option<&Entry>, term: u64) -> SealContext {
    SealContext {
        term: Term(term),
        index: last.map_or(LogIndex(1), |last| last.index().next()),
        prev_chain: last.map_or(0, Entry::chain),
        base_offset: last.map_or(Offset(1), |last| last.header().next_offset()),
        log_time_ns: last.map_or(0, |last| last.header().log_time_ns + 1000),
        timestamp_unix_ns: 7,
    }
}

/// The first entry: three voters, nothing else.
pub fn first_entry() -> Entry {
    let voters = (1..=3).map(|id| Member { node_id: n(id), incarnation: Incarnation(0) }).collect();
    let configuration = Configuration {
        cluster_id: ClusterId(0xc1),
        cluster_version: 1,
        cluster_name: "test".to_owned(),
        durability: Durability::Disk,
        producers_window_ns: u64::MAX / 4,
        producers_max: 10,
        voters,
        learners: Vec::new(),
    };
    encode_configuration(&context_after(None, 0), &configuration).unwrap()
}

pub fn noop_after(last: &Entry, term: u64) -> Entry {
    encode_noop(&context_after(Some(last), term))
}

/// One event with a body of so many bytes.
pub fn event(sequence: u64, body: &[u8]) -> Vec<u8> {
    let parts = EventParts {
        sequence: Sequence(sequence),
        timestamp_unix_ns: 5,
        priority: 0,
        topic: "t",
        attributes: &[],
        body,
    };
    let mut encoded = Vec::new();
    encode_event(&mut encoded, &parts).unwrap();
    encoded
}

/// The entry that opens producer 'p', whose id is this entry's index.
pub fn open_after(last: &Entry, term: u64) -> Entry {
    encode_open_producer(&context_after(Some(last), term), "p").unwrap()
}

/// An entry of one event of producer 2, which [`open_after`] the log's first entry opens.
pub fn batch_after(last: &Entry, term: u64, sequence: u64, body_bytes: usize) -> Entry {
    let mut batch =
        BatchAccumulator::new(BatchLimits { events_max: 64, bytes_max: 1 << 20, delay_max_ns: 1 });
    let producer = ProducerRef { id: ProducerId(2), epoch: Epoch(1), name: "p" };
    batch.push(0, producer, &event(sequence, &vec![b'x'; body_bytes])).unwrap();
    batch.seal(&context_after(Some(last), term))
}

/// A formatted disk of node 1.
pub fn formatted(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let identity = Identity { cluster_id: ClusterId(0xc1), node_id: n(1), incarnation: Incarnation(0x1ca4) };
    format(&disk, data_dir(), identity, &first_entry(), &options()).unwrap();
    disk
}

/// Node 1's batcher, with the other ends of all its rings.
pub struct Bench {
    /// Beats of the disk.
    pub pulse: Pulse,
    pub batcher: Batcher<TestClock>,
    pub clock: TestClock,
    pub control: Control,
    pub counters: Counters,
    pub writer: LogWriterRings<SimFile>,
    pub dispatcher: DispatcherRings<()>,
    pub delivery: DeliveryRings<()>,
    pub conductor: ConductorRings<()>,
    pub senders: Vec<SenderRings<()>>,
    pub receivers: Vec<ReceiverRings<()>>,
    _reader: ReaderRings<SimFile>,
    /// What the log writer was handed, hard state left out.
    pub written: Vec<LogCommand>,
    /// Generation and last index of the log that the writer has been handed.
    pub handed: (u64, LogIndex),
}

impl Bench {
    /// Boots from the disk. Both peers have been met before.
    pub fn new(disk: &SimDisk, limits: BatcherLimits) -> Self {
        Self::with_pins(disk, limits, &[2, 3])
    }

    /// Boots from the disk; these peers have been met before.
    pub fn with_pins(disk: &SimDisk, limits: BatcherLimits, met: &[u16]) -> Self {
        let mut booted = boot(disk.clone(), data_dir(), options()).unwrap();
        booted.start.hard_state.pins = met.iter().map(|peer| (n(*peer), pinned(*peer))).collect();
        let handed = (0, booted.start.restored.log.last_index());
        let counters = Counters::new();
        let control = Control::new();
        let rings = make_rings::<(), SimFile>(&[n(2), n(3)], |_| WakeHandle::none(), &counters);
        let clock = TestClock::default();
        clock.mono_ns.set(1_000_000);
        let settings = BatcherSettings {
            node_id: n(1),
            incarnation: booted.identity.incarnation,
            batch: BatchLimits { events_max: 64, bytes_max: 24 << 10, delay_max_ns: NS_PER_MS },
            timers: TimerSettings { heartbeat_interval_ns: 50 * NS_PER_MS, missed_heartbeats: 3 },
            disk_stall_limit_ns: 500_000_000,
            retention: RetentionSettings::default(),
            seed: 1,
            limits,
            version: "test",
        };
        let pulse = booted.start.pulse.clone();
        let batcher =
            Batcher::new(settings, booted.start, clock.clone(), rings.batcher, control.clone(), &counters);
        let mut bench = Self {
            batcher,
            pulse,
            clock,
            control,
            counters,
            writer: rings.log_writer,
            dispatcher: rings.dispatcher,
            delivery: rings.delivery,
            conductor: rings.conductor,
            senders: rings.senders,
            receivers: rings.receivers,
            _reader: rings.reader,
            written: Vec::new(),
            handed,
        };
        bench.turn();
        bench
    }

    pub fn fresh() -> Self {
        Self::new(&formatted(1), BatcherLimits::default())
    }

    /// One turn of the batcher; hard state is durable at once, entries only by [`Self::flush`].
    pub fn turn(&mut self) {
        for _ in 0..4 {
            self.batcher.do_work(self.clock.now_ns(), &[]);
            self.take_commands();
        }
    }

    /// Lets time go by.
    pub fn wait(&mut self, ns: u64) {
        let until_ns = self.clock.now_ns() + ns;
        while self.clock.now_ns() < until_ns {
            self.clock.mono_ns.set((self.clock.now_ns() + 5 * NS_PER_MS).min(until_ns));
            self.turn();
        }
    }

    fn take_commands(&mut self) {
        while let Some(command) = self.writer.from_batcher.pop() {
            match &command {
                LogCommand::HardState { write_id, .. } => {
                    let event = LogEvent::HardStateFlushed { write_id: *write_id };
                    assert!(self.writer.to_batcher.push(event).is_ok());
                    continue;
                }
                LogCommand::Append(entry) => self.handed.1 = entry.index(),
                LogCommand::TruncateFrom { first_removed, generation } => {
                    self.handed = (*generation, first_removed.prev());
                }
                LogCommand::Install(installation) => {
                    self.handed = (installation.generation, installation.order.id.index);
                }
                // Never reported as written, unless a test does.
                LogCommand::Checkpoint(_) => {}
            }
            self.written.push(command);
        }
    }

    /// The log writer reports this.
    pub fn report(&mut self, generation: u64, index: u64) {
        let index = LogIndex(index);
        let event = LogEvent::Progress { generation, written: index, flushed: index };
        assert!(self.writer.to_batcher.push(event).is_ok());
        self.turn();
    }

    /// Everything handed to the log writer is durable.
    pub fn flush(&mut self) {
        let (generation, last) = self.handed;
        self.report(generation, last.0);
    }

    fn place(peer: u16) -> usize {
        usize::from(peer) - 2
    }

    /// A message of a peer, with its entries, without a turn.
    pub fn post(&mut self, from: u16, message: Message, entries: Vec<Entry>) -> bool {
        self.post_as(from, pinned(from), message, entries)
    }

    /// The same, under this formatting of that peer's disk.
    pub fn post_as(
        &mut self,
        from: u16,
        incarnation: Incarnation,
        message: Message,
        entries: Vec<Entry>,
    ) -> bool {
        let heard = PeerMessage { incarnation, said: PeerSaid::Raft { message, entries } };
        self.receivers[Self::place(from)].to_batcher.push(heard).is_ok()
    }

    /// A peer that mends asks for these entries, and a turn. What it is told at once, without the log's reader.
    pub fn hear_fetch(&mut self, from: u16, first: u64, last: u64) -> Option<CopyState> {
        let (first, last) = (LogIndex(first), LogIndex(last));
        let said =
            PeerSaid::Mend { message: MendMessage::Fetch { question: 7, first, last }, entries: Vec::new() };
        let heard = PeerMessage { incarnation: pinned(from), said };
        assert!(self.receivers[Self::place(from)].to_batcher.push(heard).is_ok());
        self.turn();
        let ring = &mut self.senders[Self::place(from)].from_batcher;
        std::iter::from_fn(|| ring.pop()).find_map(|command| match command {
            SenderCommand::Mend {
                message: MendMessage::Fetched { question: 7, first: of, state, .. },
                ..
            } => (of == first).then_some(state),
            _ => None,
        })
    }

    /// A message of a peer without entries, and a turn.
    pub fn hear(&mut self, from: u16, message: Message) {
        assert!(self.post(from, message, Vec::new()));
        self.turn();
    }

    /// An Append of these entries after `prev`.
    pub fn hear_entries(&mut self, from: u16, term: u64, prev: EntryId, entries: &[Entry], commit: u64) {
        let message = Message::Append {
            term: Term(term),
            prev,
            entries: entries.iter().map(Entry::term).collect(),
            commit: LogIndex(commit),
            wants_reply: true,
        };
        assert!(self.post(from, message, entries.to_vec()));
        self.turn();
    }

    /// A peer's acknowledgement.
    pub fn hear_accepted(&mut self, from: u16, term: u64, stable: u64) {
        let outcome = AppendOutcome::Accepted { appended: LogIndex(stable), stable: LogIndex(stable) };
        self.hear(from, Message::AppendReply { term: Term(term), outcome });
    }

    /// What was said to a peer since the last look, Appends left out.
    pub fn said_to(&mut self, peer: u16) -> Vec<Message> {
        let ring = &mut self.senders[Self::place(peer)].from_batcher;
        let said = std::iter::from_fn(|| ring.pop()).filter_map(|command| match command {
            SenderCommand::Message(message) => Some(message),
            SenderCommand::Append { .. }
            | SenderCommand::Mend { .. }
            | SenderCommand::Checkpoint { .. }
            | SenderCommand::HangUp => None,
        });
        said.collect()
    }

    /// Highest stable index among the acknowledgements to a peer since the last look.
    pub fn acknowledged_to(&mut self, peer: u16) -> Option<u64> {
        let said = self.said_to(peer);
        let stable = said.iter().filter_map(|message| match message {
            Message::AppendReply { outcome: AppendOutcome::Accepted { stable, .. }, .. }
            | Message::HeartbeatReply { stable, .. } => Some(stable.0),
            _ => None,
        });
        stable.max()
    }

    /// Committed entries handed to delivery since the last look.
    pub fn delivered(&mut self) -> Vec<Entry> {
        let ring = &mut self.delivery.from_batcher;
        let notices = std::iter::from_fn(|| ring.pop()).filter_map(|notice| match notice {
            DeliveryNotice::Committed(entry) => Some(entry),
            DeliveryNotice::Leadership { .. } => None,
        });
        notices.collect()
    }

    /// Answers to clients since the last look; buffers and news left out.
    pub fn replies(&mut self) -> Vec<BatcherReply> {
        let ring = &mut self.dispatcher.from_batcher;
        let replies = std::iter::from_fn(|| ring.pop())
            .filter(|reply| !matches!(reply, BatcherReply::Recycle { .. } | BatcherReply::Leadership { .. }));
        replies.collect()
    }

    /// Elects this node by the votes of both peers; its no-op is appended and not flushed.
    pub fn elect(&mut self) -> u64 {
        self.wait(ELECTION_NS);
        let term = self.batcher.raft().term().0 + 1;
        let last = EntryId::ZERO;
        self.hear(2, Message::PreVoteReply { term: Term(term), granted: true, last });
        self.hear(2, Message::VoteReply { term: Term(term), granted: true, last });
        assert_eq!(self.batcher.raft().role(), Role::Leader);
        assert_eq!(self.batcher.raft().term(), Term(term));
        term
    }

    /// A leader whose no-op is committed, with producer 'p' open for [`CLIENT`].
    pub fn leader_with_producer(&mut self) -> (u64, ProducerId, Epoch) {
        let term = self.elect();
        self.settle(term);
        let name = "p".to_owned();
        let open = BatcherRequest::OpenProducer { connection: CLIENT, request_id: 1, name };
        self.ask(open);
        self.settle(term);
        let opened = self.replies().into_iter().find_map(|reply| match reply {
            BatcherReply::ProducerOpened { producer_id, epoch, .. } => Some((producer_id, epoch)),
            _ => None,
        });
        let (producer_id, epoch) = opened.unwrap();
        (term, producer_id, epoch)
    }

    /// Flushes here and at peer 2: everything appended is committed.
    pub fn settle(&mut self, term: u64) {
        self.flush();
        let last = self.batcher.raft().last_id().index.0;
        self.hear_accepted(2, term, last);
        assert_eq!(self.batcher.applied().0, LogIndex(last));
    }

    pub fn ask(&mut self, request: BatcherRequest) {
        assert!(self.dispatcher.to_batcher.push(request).is_ok());
        self.turn();
    }

    /// Publishes one event.
    pub fn publish(&mut self, producer_id: ProducerId, epoch: Epoch, sequence: u64) {
        let events = event(sequence, b"body");
        let last_sequence = Sequence(sequence);
        let chunk = PublishChunk { connection: CLIENT, producer_id, epoch, last_sequence, events };
        self.ask(BatcherRequest::Publish(chunk));
    }

    /// The stream to a peer stands.
    pub fn connect(&mut self, peer: u16) {
        assert!(
            self.senders[Self::place(peer)]
                .to_batcher
                .push(LinkState {
                    connected: Some(PeerIdentity {
                        incarnation: pinned(peer),
                        configuration_index: LogIndex(1),
                    })
                })
                .is_ok()
        );
        self.turn();
    }
}
