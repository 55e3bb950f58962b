//! `docs/PROTOCOL.md` is right: its hex dumps are decoded by the codec, and encoding the same things gives the same
//! bytes. A dump that is missing, unknown or different fails; the message has the dump as it should be.

use std::collections::BTreeMap;

use tercet::base::checksum::fold64;
use tercet::base::ids::{
    ClusterId, Epoch, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term,
};
use tercet::entry::{
    BatchAccumulator, BatchLimits, Configuration, Durability, Entry, EntryKind, EventParts, Member, Probe,
    ProducerRef, SealContext, chain64, encode_configuration, encode_event, encode_noop, encode_open_producer,
    parse_event, probe,
};

const PAGE: &str = "docs/PROTOCOL.md";

/// All blocks that start with a line "```hex <name>", by name. In a line, what follows a `#` is a comment.
fn dumps() -> BTreeMap<String, Vec<u8>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(path).expect("the page is there");
    let mut dumps = BTreeMap::new();
    let mut open: Option<(String, Vec<u8>)> = None;
    for line in page.lines() {
        match &mut open {
            None => {
                if let Some(name) = line.strip_prefix("```hex ") {
                    open = Some((name.trim().to_owned(), Vec::new()));
                }
            }
            Some((name, bytes)) if line.starts_with("```") => {
                let before = dumps.insert(std::mem::take(name), std::mem::take(bytes));
                assert!(before.is_none(), "{PAGE}: a dump stands twice");
                open = None;
            }
            Some((name, bytes)) => {
                let data = line.split('#').next().unwrap_or_default();
                for digits in data.split_whitespace() {
                    let byte = u8::from_str_radix(digits, 16);
                    bytes.push(byte.unwrap_or_else(|_| panic!("{PAGE}, {name}: '{digits}' is no byte")));
                }
            }
        }
    }
    assert!(open.is_none(), "{PAGE}: a dump is not closed");
    dumps
}

fn dump(name: &str) -> Vec<u8> {
    dumps().remove(name).unwrap_or_else(|| panic!("{PAGE} has no block '```hex {name}'"))
}

fn hex(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
        .collect();
    lines.join("\n")
}

fn assert_same(name: &str, made: &[u8]) {
    let there = dump(name);
    assert!(there == made, "{PAGE}, {name}: the codec writes\n{}\nthe page has\n{}", hex(made), hex(&there));
}

fn context(index: u64, prev_chain: u64) -> SealContext {
    SealContext {
        term: Term(2),
        index: LogIndex(index),
        prev_chain,
        base_offset: Offset(1),
        log_time_ns: 1_500_000_000,
        timestamp_unix_ns: 1_700_000_000_000_000_000,
    }
}

fn configuration() -> Configuration {
    let member = |id| Member { node_id: NodeId(id), incarnation: Incarnation(0) };
    Configuration {
        cluster_id: ClusterId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100),
        cluster_version: 1,
        cluster_name: "demo".to_owned(),
        durability: Durability::Disk,
        producers_window_ns: 86_400_000_000_000,
        producers_max: 100_000,
        voters: vec![member(1), member(2), member(3)],
        learners: vec![],
    }
}

fn event() -> EventParts<'static> {
    EventParts {
        sequence: Sequence(1),
        timestamp_unix_ns: 1_700_000_000_000_000_000,
        priority: 3,
        topic: "quakes",
        attributes: &[("net", b"us")],
        body: b"mag 4.5",
    }
}

/// The entries of the page: the start of a log.
fn entries() -> [(&'static str, Entry); 5] {
    let first = SealContext { term: Term(1), log_time_ns: 0, ..context(1, 0) };
    let configuration = encode_configuration(&first, &configuration()).expect("within the limits");
    let noop = encode_noop(&context(2, configuration.chain()));
    let open = encode_open_producer(&context(3, noop.chain()), "usgs").expect("within the limits");
    let open_2 = encode_open_producer(&context(4, open.chain()), "emsc-csem").expect("within the limits");
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    let usgs = ProducerRef { id: ProducerId(3), epoch: Epoch(1), name: "usgs" };
    let emsc = ProducerRef { id: ProducerId(4), epoch: Epoch(1), name: "emsc-csem" };
    let small = EventParts { topic: "t", attributes: &[], body: b"", ..event() };
    for (producer, parts) in [(usgs, event()), (emsc, small)] {
        let mut bytes = Vec::new();
        encode_event(&mut bytes, &parts).expect("within the limits");
        batch.push(0, producer, &bytes).expect("within the limits");
    }
    let events = batch.seal(&context(5, open_2.chain()));
    [
        ("entry-configuration", configuration),
        ("entry-noop", noop),
        ("entry-open-producer", open),
        ("entry-open-producer-2", open_2),
        ("entry-events", events),
    ]
}

#[test]
fn the_page_has_exactly_the_dumps_that_are_tested() {
    let found: Vec<String> = dumps().into_keys().collect();
    let tested = [
        "chain-steps",
        "entry-configuration",
        "entry-events",
        "entry-noop",
        "entry-open-producer",
        "entry-open-producer-2",
        "event",
    ];
    assert_eq!(found, tested);
}

#[test]
fn entries_are_encoded_as_the_page_has_them() {
    for (name, entry) in entries() {
        assert_same(name, entry.bytes());
    }
}

#[test]
fn the_page_s_entries_decode_and_form_a_chain() {
    let mut chain = 0;
    let mut index = 0;
    for (name, made) in entries() {
        let bytes = dump(name);
        assert!(matches!(probe(&bytes), Probe::Whole(_)), "{name}");
        let entry = Entry::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(entry.header(), made.header());
        assert_eq!(entry.header().prev_chain, chain, "{name}");
        assert_eq!(entry.index().0, index + 1, "{name}");
        (chain, index) = (entry.chain(), index + 1);
    }
}

#[test]
fn contents_of_the_page_s_entries_are_what_it_says() {
    let decode = |name| Entry::decode(&dump(name)).unwrap();
    assert_eq!(decode("entry-configuration").configuration().unwrap(), configuration());
    assert_eq!(decode("entry-noop").header().kind, EntryKind::Noop);
    assert_eq!(decode("entry-open-producer").open_producer().unwrap().name, "usgs");
    let entry = decode("entry-events");
    let events = entry.events().unwrap();
    let found: Vec<_> = events
        .iter()
        .map(|(offset, event)| {
            let producer = events.producers().get(event.producer_slot).unwrap();
            (offset.0, producer.name, producer.id.0, producer.epoch.0, event.topic, event.body)
        })
        .collect();
    assert_eq!(found, [(1, "usgs", 3, 1, "quakes", &b"mag 4.5"[..]), (2, "emsc-csem", 4, 1, "t", b"")]);
}

#[test]
fn the_page_s_event_decodes_and_is_encoded_the_same() {
    let bytes = dump("event");
    let (view, consumed) = parse_event(&bytes).unwrap();
    assert_eq!(consumed, bytes.len());
    let attributes: Vec<_> = view.attributes.iter().collect();
    let parts = EventParts {
        sequence: view.sequence,
        timestamp_unix_ns: view.timestamp_unix_ns,
        priority: view.priority,
        topic: view.topic,
        attributes: &attributes,
        body: view.body,
    };
    assert_eq!(parts, event());
    let mut again = Vec::new();
    encode_event(&mut again, &parts).unwrap();
    assert_same("event", &again);
}

#[test]
fn the_page_s_chain_steps_are_those_of_the_code() {
    let (header_crc, body_crc) = (0x1111_1111, 0x2222_2222);
    let term = fold64(0x5555_5555_5555_5555, 2);
    let index = fold64(term, 3);
    let chain = fold64(index, (u64::from(header_crc) << 32) | u64::from(body_crc));
    assert_eq!(chain, chain64(0x5555_5555_5555_5555, Term(2), LogIndex(3), header_crc, body_crc));
    let steps: Vec<u8> = [term, index, chain].iter().flat_map(|step| step.to_le_bytes()).collect();
    assert_same("chain-steps", &steps);
}
