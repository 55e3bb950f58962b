//! `docs/FILE_FORMATS.md` is right: a directory that `format` has written holds the files of its table and, where it
//! says, the bytes of its dumps; the codecs write the other dumps; tables leave no byte out and agree with the dumps.

#![allow(clippy::unwrap_used)]

#[path = "log/fixture.rs"]
#[allow(dead_code)]
mod fixture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tercet::base::ids::{ClusterId, EntryId, Incarnation, LogIndex, NodeId, Offset, Term};
use tercet::entry::{Entry, LogFloor};
use tercet::log::hard_state::SlotFound;
use tercet::log::layout::{ENTRIES_POSITION, HeaderFound, SegmentHeader, Slot, segment_name};
use tercet::log::{Checkpoint, Identity, StoredCheckpoint, StoredHardState, format};
use tercet::raft::TermRuns;
use tercet::sim::disk::SimDisk;
use tercet::stream::Producers;

const PAGE: &str = "docs/FILE_FORMATS.md";
const SEGMENT_BYTES: u64 = 8 << 20;

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// A line of a dump: where its bytes start by its own word, and the bytes.
type Line = (usize, Vec<u8>);

/// Blocks that start with "```hex <name>". `00 * n` is n zeros; behind `#` stand the offset and words.
fn dumps(page: &str) -> BTreeMap<String, Vec<Line>> {
    let mut dumps = BTreeMap::new();
    for block in page.split("\n```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let lines = rest.split("\n```").next().unwrap().lines().map(|line| {
            let (data, words) = line.split_once('#').unwrap_or_else(|| panic!("{name}: '{line}'"));
            let offset = words.split_whitespace().next().unwrap().parse().unwrap();
            let bytes = match data.trim().split_once(" * ") {
                Some(("00", count)) => vec![0; count.parse().unwrap()],
                _ => data.split_whitespace().map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect(),
            };
            (offset, bytes)
        });
        let before = dumps.insert(name.trim().to_owned(), lines.collect());
        assert!(before.is_none(), "a dump stands twice: {name}");
    }
    dumps
}

fn bytes_of(name: &str) -> Vec<u8> {
    let lines = dumps(&page(PAGE)).remove(name).unwrap_or_else(|| panic!("{PAGE} has no dump '{name}'"));
    lines.into_iter().flat_map(|(_, bytes)| bytes).collect()
}

fn assert_same(name: &str, made: &[u8]) {
    let there = bytes_of(name);
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    assert!(there == made, "{PAGE}, {name}: the code writes\n{}\nthe page has\n{}", hex(made), hex(&there));
}

/// Tables whose head begins "| offset | size |", by the heading above: offset and size of each row.
fn tables(page: &str) -> Vec<(String, Vec<(usize, usize)>)> {
    let (mut heading, mut found, mut inside) = (String::new(), Vec::new(), false);
    for line in page.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_owned();
        }
        if line.starts_with("| offset | size |") {
            found.push((heading.clone(), Vec::new()));
        }
        inside = line.starts_with('|') && (inside || line.starts_with("| offset | size |"));
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let (true, Some(Ok(offset))) = (inside, cells.get(1).map(|cell| cell.parse())) {
            // The last part of a segment has the size that is left.
            let size = cells[2].parse().unwrap_or(0);
            found.last_mut().unwrap().1.push((offset, size));
        }
    }
    found
}

fn identity() -> Identity {
    Identity {
        cluster_id: ClusterId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100),
        node_id: NodeId(1),
        incarnation: Incarnation(0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110),
    }
}

/// The first entry of `docs/PROTOCOL.md`, from its own dump.
fn first_entry() -> Entry {
    let page = page("docs/PROTOCOL.md");
    let (_, rest) = page.split_once("```hex entry-configuration\n").unwrap();
    let lines = rest.split("\n```").next().unwrap().lines();
    let digits: String =
        lines.flat_map(|line| line.split('#').next().unwrap().chars()).filter(|c| *c != ' ').collect();
    Entry::decode(&data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap()).unwrap()
}

fn formatted() -> SimDisk {
    let disk = SimDisk::new(1);
    format(&disk, dir(), identity(), &first_entry(), &fixture::options(SEGMENT_BYTES)).unwrap();
    disk
}

fn dir() -> &'static Path {
    Path::new("/data")
}

fn segment(seq: u64) -> PathBuf {
    dir().join("group-0").join(segment_name(seq))
}

fn hard_state() -> StoredHardState {
    let pin = |node: u16| {
        let bytes = std::array::from_fn(|at| (0x20 * (node as u8 - 1)) + at as u8);
        (NodeId(node), Incarnation(u128::from_le_bytes(bytes)))
    };
    StoredHardState {
        term: Term(2),
        voted_for: Some(NodeId(1)),
        claimed_tail: Some(EntryId::new(Term(2), LogIndex(9))),
        pins: [pin(2), pin(3)].into(),
        boot_id_hash: 0x1122_3344_5566_7788,
        closed: false,
    }
}

#[test]
fn the_page_has_exactly_the_dumps_that_are_tested_and_counts_their_offsets_right() {
    let dumps = dumps(&page(PAGE));
    let names: Vec<&str> = dumps.keys().map(String::as_str).collect();
    let all = ["checkpoint-file", "checkpoint-image", "hard-state", "identity", "segment-header"];
    assert_eq!(names, [&all[..], &["slot-fresh", "slot-sealed"]].concat());
    for (name, lines) in dumps {
        let mut at = 0;
        for (offset, bytes) in lines {
            assert_eq!(offset, at, "{name}");
            at += bytes.len();
        }
    }
}

#[test]
fn tables_leave_no_byte_out_and_their_fields_are_those_of_the_dumps() {
    let of_dump: BTreeMap<&str, &str> = [
        ("`identity`", "identity"),
        ("`hard_state`", "hard-state"),
        ("Header", "segment-header"),
        ("Watermark slot", "slot-fresh"),
        ("Image", "checkpoint-image"),
        ("File", "checkpoint-file"),
    ]
    .into();
    let dumps = dumps(&page(PAGE));
    let mut compared = 0;
    for (heading, rows) in tables(&page(PAGE)) {
        for pair in rows.windows(2) {
            assert_eq!(
                pair[0].0 + pair[0].1,
                pair[1].0,
                "{heading}: the row at {} ends elsewhere",
                pair[0].0
            );
        }
        let end = rows.last().map_or(0, |(offset, size)| offset + size);
        let Some(lines) = of_dump.get(heading.as_str()).map(|name| &dumps[*name]) else { continue };
        let (last, bytes) = lines.last().unwrap();
        if end != last + bytes.len() {
            // A pin; and a checkpoint's file has its runs behind the head.
            let known = [("`hard_state`", 24), ("File", 168)];
            assert!(known.contains(&(heading.as_str(), end)), "{heading}: a table of another length, {end}");
            if heading != "File" {
                continue;
            }
        }
        compared += 1;
        // Pins and what lies behind them are drawn finer, or coarser, than by their rows.
        let fields = rows.iter().filter(|(offset, _)| *offset != 232);
        for (offset, _) in fields {
            assert!(lines.iter().any(|(at, _)| at == offset), "{heading}: no dumped field at {offset}");
        }
    }
    assert_eq!(compared, of_dump.len());
}

#[test]
fn a_formatted_directory_is_what_the_page_says() {
    let disk = formatted();
    assert_same("identity", &disk.bytes(&dir().join("identity")));
    let file = disk.bytes(&segment(1));
    assert_eq!(file.len() as u64, SEGMENT_BYTES);
    let header = bytes_of("segment-header");
    let slot = bytes_of("slot-fresh");
    assert_same("segment-header", &file[..header.len()]);
    assert_same("slot-fresh", &file[8192..8192 + slot.len()]);
    let even = Slot::decode(&file[4096..]).unwrap();
    assert_eq!(Slot { number: 1, ..even }, Slot::decode(&slot).unwrap(), "number 0 has the same fields");
    assert_eq!(even.number, 0);
    let entries = ENTRIES_POSITION as usize;
    let end = entries + first_entry().len_bytes();
    assert_eq!(&file[entries..end], first_entry().bytes());
    let blank = [96..4096, 4096 + 64..8192, 8192 + 64..entries, end..file.len()];
    assert!(blank.into_iter().all(|range| file[range].iter().all(|&byte| byte == 0)));
    // Two slots, in blocks of their own.
    let stored = disk.bytes(&dir().join("hard_state"));
    assert_eq!(stored.len(), 8192);
    let numbers = [0, 4096].map(|at| match StoredHardState::decode(&stored[at..at + 512]) {
        SlotFound::Good(number, state) => (number, state),
        other => panic!("{other:?}"),
    });
    assert_eq!(numbers[0].1, numbers[1].1);
    assert_eq!(numbers[0].0.abs_diff(numbers[1].0), 1);
    assert!([512..4096, 4608..8192].into_iter().all(|range| stored[range].iter().all(|&byte| byte == 0)));
}

#[test]
fn every_file_that_a_node_makes_stands_in_the_table() {
    let page = page(PAGE);
    let disk = formatted();
    let options = fixture::options(SEGMENT_BYTES);
    let (mut store, ..) = fixture::open(disk.clone(), dir(), options).unwrap();
    store.prepare_slice().unwrap();
    let names: Vec<String> = disk
        .files()
        .iter()
        .map(|path| path.strip_prefix(dir()).unwrap().display().to_string())
        .map(|name| if name.contains("/seg-") { "group-0/seg-<seq>.log".to_owned() } else { name })
        .collect();
    assert!(names.len() >= 4, "{names:?}");
    let here = ["group-0/spare", "group-0/mend", "identity.tmp"].map(str::to_owned);
    for name in names.into_iter().chain(here) {
        assert!(page.contains(&format!("\n| `{name}` |")), "{PAGE} does not name {name}");
    }
}

/// Of a log that holds its first entry and nothing else, by the header that the page has.
fn checkpoint() -> StoredCheckpoint {
    let HeaderFound::Good(first_segment) = SegmentHeader::decode(&bytes_of("segment-header")) else {
        panic!("the page's header does not decode")
    };
    let first = first_entry();
    let mut producers = Producers::new();
    producers.apply(&first.view()).unwrap();
    let mut table = Vec::new();
    producers.encode_state(&mut table);
    let image = Checkpoint {
        cluster_id: identity().cluster_id,
        group: first_segment.group,
        id: first.id(),
        chain: first.chain(),
        next_offset: first.header().next_offset(),
        log_time_ns: first.header().log_time_ns,
        producers: table,
        configuration: first,
    };
    let mut runs = TermRuns::after(EntryId::default());
    runs.push(image.id.term);
    StoredCheckpoint {
        number: 5,
        floor: LogFloor { index: LogIndex(1), offset: Offset(1) },
        first_segment,
        runs,
        is_ahead: false,
        checkpoint: image,
    }
}

#[test]
fn a_checkpoint_is_what_the_page_says() {
    let stored = checkpoint();
    assert_same("checkpoint-image", &stored.checkpoint.encode()[..96]);
    let file = stored.encode();
    assert_same("checkpoint-file", &file[..184]);
    assert!(file[184..] == stored.checkpoint.encode(), "then the image");
    assert_eq!(StoredCheckpoint::decode(&file).unwrap(), stored);
}

#[test]
fn the_other_dumps_are_what_the_codecs_write_and_read() {
    assert_same("hard-state", &hard_state().encode(6));
    assert_eq!(StoredHardState::decode(&bytes_of("hard-state")), SlotFound::Good(6, hard_state()));
    let fresh = Slot::decode(&bytes_of("slot-fresh")).unwrap();
    let sealed = Slot { number: 2, commit_hint: LogIndex(1), next_seq: Some(2), clean: false, ..fresh };
    assert_same("slot-sealed", &sealed.encode());
    let HeaderFound::Good(header) = SegmentHeader::decode(&bytes_of("segment-header")) else {
        panic!("the page's header does not decode")
    };
    assert_eq!((header.seq, header.segment_bytes), (1, SEGMENT_BYTES));
    assert!(fresh.fits(&header) && sealed.fits(&header));
}
