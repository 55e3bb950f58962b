//! Round trips of arbitrary contents, and the chain.

use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_assert_ne, prop_oneof, proptest,
};

use super::tests::{batch, context, encoded, event, producer};
use super::{
    BatchAccumulator, BatchLimits, Configuration, Durability, Entry, EntryHeader, EventParts, Member,
    ProducerRef, SealContext, chain64, encode_configuration, encode_noop, encode_open_producer, parse_event,
};
use crate::base::ids::{
    COUNTER_MAX, ClusterId, Epoch, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term,
};
use crate::base::limits::{BATCH_EVENTS_MAX, ENTRY_BYTES_MAX, EVENT_BODY_BYTES_MAX};

#[derive(Clone, Debug)]
struct OwnedEvent {
    sequence: u64,
    timestamp_unix_ns: u64,
    priority: u8,
    topic: String,
    attributes: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    producer: usize,
}

impl OwnedEvent {
    fn encode(&self) -> Vec<u8> {
        let attributes: Vec<(&str, &[u8])> =
            self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        encoded(&EventParts {
            sequence: Sequence(self.sequence),
            timestamp_unix_ns: self.timestamp_unix_ns,
            priority: self.priority,
            topic: &self.topic,
            attributes: &attributes,
            body: &self.body,
        })
    }
}

fn word(longest: usize) -> impl Strategy<Value = String> {
    let letter = prop_oneof![8 => prop::char::range('!', ')'), 8 => prop::char::range('a', 'z'), 1 => Just('é'), 1 => Just('地')];
    prop::collection::vec(letter, 1..=longest).prop_map(|letters| letters.into_iter().collect())
}

fn owned_event() -> impl Strategy<Value = OwnedEvent> {
    let attributes = prop::collection::vec((word(12), prop::collection::vec(any::<u8>(), 0..20)), 0..4);
    (
        1..=COUNTER_MAX,
        any::<u64>(),
        any::<u8>(),
        word(40),
        attributes,
        prop::collection::vec(any::<u8>(), 0..200),
        0usize..8,
    )
        .prop_map(|(sequence, timestamp_unix_ns, priority, topic, attributes, body, producer)| {
            OwnedEvent { sequence, timestamp_unix_ns, priority, topic, attributes, body, producer }
        })
}

fn any_context() -> impl Strategy<Value = SealContext> {
    let counter = || 1..=COUNTER_MAX;
    (0..=COUNTER_MAX, counter(), any::<u64>(), counter(), 0..=COUNTER_MAX, any::<u64>()).prop_map(
        |(term, index, prev_chain, base_offset, log_time_ns, timestamp_unix_ns)| SealContext {
            term: Term(term),
            index: LogIndex(index),
            prev_chain,
            base_offset: Offset(base_offset),
            log_time_ns,
            timestamp_unix_ns,
        },
    )
}

fn assert_header(header: &EntryHeader, context: &SealContext) {
    assert_eq!(header.term, context.term);
    assert_eq!(header.index, context.index);
    assert_eq!(header.prev_chain, context.prev_chain);
    assert_eq!(header.base_offset, context.base_offset);
    assert_eq!(header.log_time_ns, context.log_time_ns);
    assert_eq!(header.timestamp_unix_ns, context.timestamp_unix_ns);
}

proptest! {
    #[test]
    fn single_events_come_back(event in owned_event(), behind in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut bytes = event.encode();
        let length = bytes.len();
        bytes.extend_from_slice(&behind);
        let (view, consumed) = parse_event(&bytes).unwrap();
        prop_assert_eq!(consumed, length);
        prop_assert_eq!(view.encoded, &bytes[..length]);
        prop_assert_eq!(view.sequence, Sequence(event.sequence));
        prop_assert_eq!(view.timestamp_unix_ns, event.timestamp_unix_ns);
        prop_assert_eq!((view.priority, view.producer_slot), (event.priority, 0));
        prop_assert_eq!(view.topic, event.topic.as_str());
        prop_assert_eq!(view.body, event.body.as_slice());
        let found: Vec<_> = view.attributes.iter().collect();
        let given: Vec<_> = event.attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        prop_assert_eq!(found, given);
    }

    #[test]
    fn batches_come_back_with_their_producers_and_offsets(
        context in any_context(),
        names in prop::collection::vec(word(60), 8),
        given in prop::collection::vec(owned_event(), 1..=BATCH_EVENTS_MAX),
    ) {
        // Two epochs of one id, to see that both count as producers.
        let producers: Vec<ProducerRef<'_>> = names.iter().enumerate().map(|(at, name)| ProducerRef {
            id: ProducerId(1 + at as u64 / 2),
            epoch: Epoch(1 + at as u32 % 2),
            name,
        }).collect();
        let mut batch = BatchAccumulator::new(BatchLimits::default());
        for event in &given {
            batch.push(0, producers[event.producer], &event.encode()).unwrap();
        }
        let foretold = batch.entry_bytes();
        let entry = batch.seal(&context);
        prop_assert_eq!(entry.len_bytes(), foretold);
        let entry = Entry::decode(entry.bytes()).unwrap();
        assert_header(entry.header(), &context);
        prop_assert_eq!(entry.header().event_count as usize, given.len());

        let view = entry.events().unwrap();
        prop_assert_eq!(view.event_count() as usize, given.len());
        prop_assert_eq!(view.iter().len(), given.len());
        for (at, ((offset, event), given)) in view.iter().zip(&given).enumerate() {
            prop_assert_eq!(offset, context.base_offset.plus(at as u64));
            prop_assert_eq!(view.producers().get(event.producer_slot), Some(producers[given.producer]));
            prop_assert_eq!(event.sequence, Sequence(given.sequence));
            prop_assert_eq!(event.topic, given.topic.as_str());
            prop_assert_eq!(event.body, given.body.as_slice());
            // But for the slot, the event's bytes are those that the producer sent.
            let mut stored = event.encoded.to_vec();
            stored[24..26].fill(0);
            prop_assert_eq!(stored, given.encode());
        }
        prop_assert_eq!(entry.header().next_offset(), context.base_offset.plus(given.len() as u64));
    }

    #[test]
    fn configurations_come_back(
        context in any_context(),
        cluster_id: u128,
        cluster_version: u32,
        cluster_name in word(80),
        memory: bool,
        producers_window_ns in 0..=COUNTER_MAX,
        producers_max: u32,
        ids in prop::collection::btree_set(1u16.., 1..=7),
        voter_count in 1usize..=7,
        incarnation: u128,
    ) {
        let members: Vec<Member> = ids.into_iter()
            .map(|id| Member { node_id: NodeId(id), incarnation: Incarnation(incarnation) })
            .collect();
        let (voters, learners) = members.split_at(voter_count.min(members.len()));
        let configuration = Configuration {
            cluster_id: ClusterId(cluster_id),
            cluster_version,
            cluster_name,
            durability: if memory { Durability::Memory } else { Durability::Disk },
            producers_window_ns,
            producers_max,
            voters: voters.to_vec(),
            learners: learners.to_vec(),
        };
        let entry = encode_configuration(&context, &configuration).unwrap();
        let entry = Entry::decode(entry.bytes()).unwrap();
        assert_header(entry.header(), &context);
        prop_assert_eq!(entry.configuration().unwrap(), configuration);
    }

    #[test]
    fn noops_and_opened_names_come_back(context in any_context(), name in word(80)) {
        let noop = Entry::decode(encode_noop(&context).bytes()).unwrap();
        assert_header(noop.header(), &context);
        let open = Entry::decode(encode_open_producer(&context, &name).unwrap().bytes()).unwrap();
        assert_header(open.header(), &context);
        prop_assert_eq!(open.open_producer().unwrap().name, name.as_str());
    }

    #[test]
    fn chain_differs_when_any_one_input_differs(
        prev: u64, term: u64, index: u64, header_crc: u32, body_crc: u32, other: u64,
    ) {
        let chain = chain64(prev, Term(term), LogIndex(index), header_crc, body_crc);
        let low = other as u32;
        let cases = [
            (other != prev, chain64(other, Term(term), LogIndex(index), header_crc, body_crc)),
            (other != term, chain64(prev, Term(other), LogIndex(index), header_crc, body_crc)),
            (other != index, chain64(prev, Term(term), LogIndex(other), header_crc, body_crc)),
            (low != header_crc, chain64(prev, Term(term), LogIndex(index), low, body_crc)),
            (low != body_crc, chain64(prev, Term(term), LogIndex(index), header_crc, low)),
        ];
        for (differs, found) in cases {
            prop_assert!(!differs || found != chain);
        }
        if term != index {
            prop_assert_ne!(chain, chain64(prev, Term(index), LogIndex(term), header_crc, body_crc), "order counts");
        }
    }
}

#[test]
fn pitfall_59_the_same_batch_after_another_history_has_another_chain() {
    let mut batches = [context(), SealContext { prev_chain: 1, ..context() }].map(|context| {
        let mut batch = BatchAccumulator::new(BatchLimits::default());
        batch.push(0, producer(1, "p"), &encoded(&event(1))).unwrap();
        batch.seal(&context)
    });
    assert_ne!(batches[0].chain(), batches[1].chain());
    batches.swap(0, 1);
    assert_eq!(batches[0].view().body(), batches[1].view().body());
    assert_ne!(batch().chain(), batch().header().prev_chain);
}

#[test]
fn bodies_from_nothing_to_one_mebibyte_come_back() {
    for body_bytes in [0, 1, 7, 8, 9, 4096, 65_535, 65_536, EVENT_BODY_BYTES_MAX - 1, EVENT_BODY_BYTES_MAX] {
        let body: Vec<u8> = (0..body_bytes).map(|at| (at * 31) as u8).collect();
        let mut batch = BatchAccumulator::new(BatchLimits::default());
        batch.push(0, producer(1, "p"), &encoded(&EventParts { body: &body, ..event(1) })).unwrap();
        let entry = Entry::decode(batch.seal(&context()).bytes()).unwrap();
        let events = entry.events().unwrap();
        let (offset, found) = events.iter().next().unwrap();
        assert_eq!(offset, context().base_offset);
        assert!(found.body == body, "{body_bytes} bytes");
    }
}

#[test]
fn sixty_four_producers_with_the_longest_names_and_an_event_of_one_mebibyte_fit() {
    let limits = BatchLimits { bytes_max: ENTRY_BYTES_MAX, ..BatchLimits::default() };
    let mut batch = BatchAccumulator::new(limits);
    let names: Vec<String> = (0..64).map(|at| format!("{at:0255}")).collect();
    let body = vec![0xee; EVENT_BODY_BYTES_MAX];
    let topic = "t".repeat(255);
    for (at, name) in names.iter().enumerate() {
        let body = if at == 63 { body.as_slice() } else { b"small" };
        let bytes = encoded(&EventParts { topic: &topic, attributes: &[], body, ..event(1) });
        let producer = producer(1 + at as u64, name);
        assert!(batch.fits_from(&producer, bytes.len()), "event {at}");
        batch.push(0, producer, &bytes).unwrap();
    }
    assert!(batch.is_full());
    let entry = Entry::decode(batch.seal(&context()).bytes()).unwrap();
    let events = entry.events().unwrap();
    assert_eq!(events.producers().len(), 64);
    for ((slot, (_, event)), name) in events.iter().enumerate().zip(&names) {
        assert_eq!(usize::from(event.producer_slot), slot);
        assert_eq!(events.producers().get(event.producer_slot).unwrap().name, name);
    }
    assert_eq!(events.producers().get(64), None);
}
