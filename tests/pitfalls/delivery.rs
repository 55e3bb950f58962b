//! Delivery between the batcher, the reader and subscribers, all of them played by the test: reads of the log come late
//! or for nobody, sockets take nothing, and what is committed may or may not be in the window.

use tercet::agent::Agent;
use tercet::agent::commands::{ColdReadReply, ColdReadRequest, NewClient};
use tercet::agent::delivery::{Delivery, DeliveryLimits};
use tercet::agent::reception::Welcome;
use tercet::agent::ring::WakeHandle;
use tercet::agent::rings::{BatcherRings, ConductorRings, DeliveryNotice, ReaderRings, make_rings};
use tercet::base::clock::NS_PER_MS;
use tercet::base::ids::{ClusterId, Epoch, GroupId, Offset, ProducerId, Sequence};
use tercet::base::net::Readiness;
use tercet::entry::{
    BatchAccumulator, BatchLimits, Durability, Entry, EventParts, ProducerRef, encode_event,
};
use tercet::metrics::Counters;
use tercet::protocol::client::{ClientMessage, Purpose, ServerMessage, Subscribe, SubscribeFrom};
use tercet::protocol::frame::split_frame;
use tercet::sim::disk::SimFile;

use crate::bench::{context_after, first_entry, n};
use crate::pipe::{PipeEnd, PipeNet, PipeStream, pipe};

const GROUP: GroupId = GroupId(0);
const BODY_BYTES: usize = 1_000;
const MUCH: u32 = u32::MAX;

/// An entry of one event, so that entries and events are numbered alike but for the first.
fn batch(last: &Entry, topic: &str) -> Entry {
    let sequence = Sequence(last.header().next_offset().0);
    let body = vec![b'x'; BODY_BYTES];
    let parts =
        EventParts { sequence, timestamp_unix_ns: 5, priority: 0, topic, attributes: &[], body: &body };
    let mut encoded = Vec::new();
    encode_event(&mut encoded, &parts).unwrap();
    let mut batch =
        BatchAccumulator::new(BatchLimits { events_max: 64, bytes_max: 1 << 20, delay_max_ns: 1 });
    let producer = ProducerRef { id: ProducerId(1), epoch: Epoch(1), name: "p" };
    batch.push(0, producer, &encoded).unwrap();
    batch.seal(&context_after(Some(last), 2))
}

/// The agent, and the other ends of its rings.
struct Desk {
    agent: Delivery<PipeNet>,
    conductor: ConductorRings<PipeStream>,
    batcher: BatcherRings,
    reader: ReaderRings<SimFile>,
    now_ns: u64,
    log: Vec<Entry>,
}

impl Desk {
    fn new(limits: DeliveryLimits) -> Self {
        let counters = Counters::new();
        let rings = make_rings::<PipeStream, SimFile>(&[n(2)], |_| WakeHandle::none(), &counters);
        let welcome = Welcome {
            cluster_id: ClusterId(0xc1),
            node_id: n(1),
            group: GROUP,
            durability: Durability::Disk,
            members: Vec::new(),
        };
        let agent = Delivery::new(PipeNet, welcome, limits, rings.delivery, &counters);
        let (conductor, batcher, reader) = (rings.conductor, rings.batcher, rings.reader);
        Self { agent, conductor, batcher, reader, now_ns: NS_PER_MS, log: vec![first_entry()] }
    }

    fn turn(&mut self, readiness: &[Readiness]) {
        self.agent.do_work(self.now_ns, readiness);
        for _ in 0..8 {
            self.agent.do_work(self.now_ns, &[]);
        }
    }

    /// An event of this topic is committed and in this node's files; the batcher had room to say so, or had not.
    fn commit(&mut self, topic: &str, is_told: bool) {
        let entry = batch(self.log.last().unwrap(), topic);
        self.log.push(entry.clone());
        if is_told {
            assert!(self.batcher.to_delivery.push(DeliveryNotice::Committed(entry.clone())).is_ok());
        }
        let (index, offset) = (entry.index().0, entry.header().base_offset.0);
        self.batcher.commit_tail.publish_readable(index, offset);
        self.batcher.commit_tail.publish(index, offset);
        self.turn(&[]);
    }

    /// A subscriber whose socket takes this many bytes.
    fn admit(&mut self, room: usize) -> Subscriber {
        let (stream, end) = pipe(room);
        assert!(self.conductor.gauge.try_enter(100));
        let new = NewClient {
            stream,
            purpose: Purpose::Subscriber,
            protocol: 1,
            features: 0,
            leftover: Vec::new(),
        };
        assert!(self.conductor.to_delivery.push(new).is_ok());
        self.turn(&[]);
        Subscriber { end, unread: Vec::new(), looked_through: Offset::ZERO }
    }

    fn send(&mut self, to: &Subscriber, message: &ClientMessage<'_>) {
        let mut bytes = Vec::new();
        message.encode(GROUP, &mut bytes);
        let readiness = to.end.send(&bytes);
        self.turn(&[readiness]);
    }

    fn subscribe(&mut self, who: &Subscriber, from: SubscribeFrom, filter: &str, credit_bytes: u32) {
        let wish = Subscribe { subscription: 1, from, credit_bytes, filter };
        self.send(who, &ClientMessage::Subscribe(wish));
    }

    /// The read of the log that is asked for, if one is.
    fn asked(&mut self) -> Option<ColdReadRequest> {
        let asked = self.reader.from_delivery.pop();
        if let Some(asked) = &asked {
            assert!(asked.upto.0 <= self.batcher.commit_tail.readable_index(), "not in the files yet");
        }
        asked
    }

    /// The reader has read these events.
    fn bring(&mut self, asked: &ColdReadRequest, events: std::ops::RangeInclusive<usize>) {
        // `log[n]` holds event n: the first entry holds none.
        let entries = Ok(self.log[events].to_vec());
        let reply = ColdReadReply { key: asked.key, offset: asked.offset, entries };
        assert!(self.reader.to_delivery.push(reply).is_ok());
        self.turn(&[]);
    }
}

/// The other end of a subscriber's socket.
struct Subscriber {
    end: PipeEnd,
    unread: Vec<u8>,
    /// It was told that nothing up to here is still to come.
    looked_through: Offset,
}

/// What a subscriber heard.
#[derive(Default, Debug, PartialEq, Eq)]
struct Heard {
    start: Option<Offset>,
    offsets: Vec<u64>,
}

impl Subscriber {
    fn hear(&mut self) -> Heard {
        let mut bytes = std::mem::take(&mut self.unread);
        bytes.extend(self.end.take());
        let mut heard = Heard::default();
        while let Some((frame, consumed)) = split_frame(&bytes).unwrap() {
            match ServerMessage::decode(frame).unwrap() {
                ServerMessage::HelloReply(_) => {}
                ServerMessage::Subscribed { start_offset, .. } => heard.start = Some(start_offset),
                ServerMessage::Progress { last_offset, .. } => self.look_through(last_offset),
                ServerMessage::Entries(entries) => {
                    for entry in entries.iter() {
                        let offset = entry.unwrap().header().base_offset;
                        self.look_through(offset);
                        heard.offsets.push(offset.0);
                    }
                }
                other => panic!("{other:?}"),
            }
            bytes.drain(..consumed);
        }
        self.unread = bytes;
        heard
    }

    /// A subscriber that comes back goes on behind this one, so nothing may come that lies before it.
    fn look_through(&mut self, upto: Offset) {
        assert!(upto > self.looked_through, "{upto} after {}", self.looked_through);
        self.looked_through = upto;
    }
}

fn offsets(from: u64, to: u64) -> Heard {
    Heard { start: None, offsets: (from..=to).collect() }
}

/// Both have the number 1 for their subscription, and stand in the same place one after the other.
#[test]
fn what_was_read_for_a_subscriber_that_has_gone_is_not_given_to_whoever_has_its_place() {
    let mut desk = Desk::new(DeliveryLimits::default());
    (0..6).for_each(|_| desk.commit("t", false));
    let gone = desk.admit(usize::MAX);
    desk.subscribe(&gone, SubscribeFrom::Offset(Offset(4)), "", MUCH);
    let late = desk.asked().unwrap();
    assert_eq!(late.offset, Offset(4));
    let end = gone.end.end();
    desk.turn(&[end]);
    assert_eq!(desk.conductor.gauge.open(), 0, "it has gone");

    let mut next = desk.admit(usize::MAX);
    desk.subscribe(&next, SubscribeFrom::Offset(Offset(2)), "", MUCH);
    assert_eq!(next.hear().start, Some(Offset(2)));
    let own = desk.asked().unwrap();
    assert_eq!(own.offset, Offset(2));
    desk.bring(&late, 4..=6);
    assert_eq!(next.hear(), Heard::default(), "events 2 and 3 would be skipped");
    desk.bring(&own, 2..=6);
    assert_eq!(next.hear(), offsets(2, 6));
}

/// Rule 15: a subscriber that takes nothing keeps none of what was read for it in memory; it is read again.
#[test]
fn what_was_read_for_a_socket_that_is_full_is_let_go_and_read_again() {
    const EVENTS: u64 = 20;
    let limits =
        DeliveryLimits { outbox_bytes_limit: 4 * BODY_BYTES, frame_bytes_limit: 1, ..Default::default() };
    let mut desk = Desk::new(limits);
    (0..EVENTS).for_each(|_| desk.commit("t", false));
    let mut slow = desk.admit(0);
    desk.subscribe(&slow, SubscribeFrom::Earliest, "", MUCH);
    let first = desk.asked().unwrap();
    desk.bring(&first, 1..=EVENTS as usize);
    assert!(desk.asked().is_none(), "nothing is read that nobody takes");
    let (mut reads, mut heard) = (vec![first.offset.0], Vec::new());
    for _ in 0..EVENTS {
        let readiness = slow.end.make_room(5 * BODY_BYTES);
        desk.turn(&[readiness]);
        heard.extend(slow.hear().offsets);
        if let Some(asked) = desk.asked() {
            reads.push(asked.offset.0);
            desk.bring(&asked, asked.offset.0 as usize..=EVENTS as usize);
        }
    }
    heard.extend(slow.hear().offsets);
    assert!(heard.iter().copied().eq(1..=EVENTS), "in order and once: {heard:?}");
    assert!(reads.len() > 2, "an outbox holds a few, and the rest was let go each time: {reads:?}");
    assert!(reads.is_sorted_by(|one, two| one < two), "{reads:?}");
}

#[test]
fn no_more_is_sent_than_there_is_credit_for_but_for_one_frame() {
    let mut desk = Desk::new(DeliveryLimits { frame_bytes_limit: 1, ..Default::default() });
    (0..6).for_each(|_| desk.commit("t", true));
    let entry_bytes = desk.log[1].len_bytes() as u32;
    let mut reader = desk.admit(usize::MAX);
    desk.subscribe(&reader, SubscribeFrom::Earliest, "", entry_bytes * 3 / 2);
    assert_eq!(reader.hear(), Heard { start: Some(Offset(1)), ..offsets(1, 2) });
    let grant = |bytes| ClientMessage::SubscribeCredit { subscription: 1, bytes };
    desk.send(&reader, &grant(entry_bytes / 4));
    assert_eq!(reader.hear(), Heard::default(), "the last frame was half on credit");
    desk.send(&reader, &grant(entry_bytes / 2));
    assert_eq!(reader.hear(), offsets(3, 3));
    desk.commit("t", true);
    assert_eq!(reader.hear(), Heard::default());
    desk.send(&reader, &grant(MUCH));
    assert_eq!(reader.hear(), offsets(4, 7));
}

#[test]
fn the_latest_is_the_very_next_event() {
    for is_told in [true, false] {
        let mut desk = Desk::new(DeliveryLimits::default());
        (0..3).for_each(|_| desk.commit("t", is_told));
        let mut reader = desk.admit(usize::MAX);
        desk.subscribe(&reader, SubscribeFrom::Latest, "", MUCH);
        assert_eq!(reader.hear(), Heard { start: Some(Offset(4)), ..Heard::default() });
        desk.commit("t", is_told);
        desk.commit("t", is_told);
        while let Some(asked) = desk.asked() {
            let event = asked.offset.0 as usize;
            desk.bring(&asked, event..=event);
        }
        assert_eq!(reader.hear(), offsets(4, 5));
    }
}

/// Also where the window has begun afresh, behind what was lost to a full ring.
#[test]
fn a_filtered_subscriber_is_told_of_no_progress_beyond_what_was_looked_through() {
    let mut desk = Desk::new(DeliveryLimits::default());
    for (topic, is_told) in [("other", false), ("wanted", false), ("other", false), ("wanted", true)] {
        desk.commit(topic, is_told);
    }
    let mut reader = desk.admit(usize::MAX);
    desk.subscribe(&reader, SubscribeFrom::Earliest, "wanted", MUCH);
    assert_eq!(reader.hear().start, Some(Offset(1)));
    let asked = desk.asked().unwrap();
    desk.bring(&asked, 1..=1);
    assert_eq!((reader.hear(), reader.looked_through), (Heard::default(), Offset::ZERO));
    let asked = desk.asked().unwrap();
    assert_eq!(asked.offset, Offset(2));
    desk.bring(&asked, 2..=3);
    assert_eq!(reader.hear().offsets, [2, 4]);
    // At the end of the log, and only then, nothing has come for as long as it is told.
    desk.commit("other", true);
    assert_eq!((reader.hear(), reader.looked_through), (Heard::default(), Offset(4)), "just told");
    desk.now_ns = desk.agent.next_deadline_ns().unwrap();
    desk.turn(&[]);
    assert_eq!((reader.hear(), reader.looked_through), (Heard::default(), Offset(5)));
    desk.commit("wanted", true);
    assert_eq!(reader.hear().offsets, [6]);
}
