//! `docs/NETWORK_PROTOCOL.md` shows a dump of every message. Each is decoded and encoded again here, byte for byte.
//!
//! After a deliberate change of a layout: `TERCET_WRITE_DOCS=1 cargo test --test network_protocol_docs` writes the
//! dumps anew; then read the diff.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use tercet::base::ids::{
    ClusterId, EntryId, Epoch, GroupId, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term,
};
use tercet::base::limits;
use tercet::entry::{Durability, Entry, EventParts, LogBase, SealContext, encode_event, encode_noop};
use tercet::protocol::client::{
    ACK_RUNS_MAX, ADDRESS_BYTES_MAX, AckKind, AckRun, COUNTERS_MAX, ChangeKind, ChangeOutcome, ClientHello,
    ClientHelloAccept, ClientHelloReply, ClientMessage, CommitAnswer, Counter, Entries, FILTER_BYTES_MAX,
    GoodbyeReason, LeaderMembers, List, MemberAddress, MemberChange, MemberRow, MembersAnswer, NodeRole,
    PUBLISH_EVENTS_MAX, PeerState, PeerStatus, ProducerOpened, Publish, PublishAck, PublishError,
    PublishErrorCode, Purpose, RequestErrorCode, ServerMessage, StatusReply, Subscribe, SubscribeFrom,
    SubscriptionError, SubscriptionErrorCode, TransferOutcome,
};
use tercet::protocol::frame::{
    Frame, HELLO_FRAME_BYTES_MAX, ProtocolOffer, RefuseCode, TEXT_BYTES_MAX, kind, split_frame,
};
use tercet::protocol::peer::{
    APPEND_ENTRIES_MAX, CheckpointChunk, CopyState, MendMessage, PeerFrame, PeerHello, PeerHelloReply,
    decode_peer_frame, encode_append_header, encode_checkpoint_header, encode_mend_header, encode_message,
};
use tercet::raft::{AppendOutcome, Message};

const GROUP: GroupId = GroupId(0);

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/NETWORK_PROTOCOL.md")
}

/// The blocks of a page that begin with ```` ```hex NAME ````: name and bytes. Of a line, what stands before a colon
/// is its position and what stands behind a `#` is a remark.
fn dumps(page: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for block in page.split("\n```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a name line");
        let (body, _) = rest.split_once("\n```").expect("the end of the block");
        let digits: String = body
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .map(|line| line.split_once(':').map_or(line, |(_, bytes)| bytes))
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).expect("hex digits");
        found.push((name.trim().to_owned(), bytes));
    }
    found
}

fn encode_peer(read: &PeerFrame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match read {
        PeerFrame::Hello(hello) => hello.encode(&mut out),
        PeerFrame::HelloReply(reply) => reply.encode(GROUP, &mut out),
        PeerFrame::Raft {
            message: Message::Append { term, prev, commit, wants_reply, .. }, entries, ..
        } => {
            let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.bytes().to_vec()).collect();
            let sizes = (entries.len(), bytes.len());
            encode_append_header(GROUP, *term, *prev, *commit, *wants_reply, sizes, &mut out);
            out.extend_from_slice(&bytes);
        }
        PeerFrame::Raft { message, .. } => encode_message(GROUP, message, &mut out),
        PeerFrame::Checkpoint { chunk, bytes, .. } => {
            encode_checkpoint_header(GROUP, chunk, bytes.len(), &mut out);
            out.extend_from_slice(bytes);
        }
        PeerFrame::Mend { message, entries, .. } => {
            let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.bytes().to_vec()).collect();
            encode_mend_header(GROUP, message, (entries.len(), bytes.len()), &mut out);
            out.extend_from_slice(&bytes);
        }
    }
    out
}

/// Decodes a frame with the decoder of its kind and encodes it again.
fn decode_and_encode(frame: Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match frame.header.kind {
        0x00..0x40 => return encode_peer(&decode_peer_frame(frame).expect("a peer's frame")),
        0x40..0x80 => {
            let message = ClientMessage::decode(frame).expect("a client's frame");
            if let ClientMessage::Publish(publish) = &message {
                assert!(publish.events().all(|event| event.is_ok()));
            }
            message.encode(GROUP, &mut out);
        }
        _ => {
            let message = ServerMessage::decode(frame).expect("a node's frame");
            if let ServerMessage::Entries(entries) = &message {
                assert!(entries.iter().all(|entry| entry.is_ok()));
            }
            message.encode(GROUP, &mut out);
        }
    }
    out
}

#[test]
fn every_message_has_a_dump_that_decodes_and_encodes_to_itself() {
    if std::env::var_os("TERCET_WRITE_DOCS").is_some() {
        write_dumps();
    }
    let page = std::fs::read_to_string(path()).expect("the page");
    let mut seen = BTreeSet::new();
    for (name, bytes) in dumps(&page) {
        let (frame, consumed) =
            split_frame(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")).expect("a whole frame");
        assert_eq!(consumed, bytes.len(), "{name}: bytes behind the frame");
        let kind_name = name.split(' ').next().unwrap_or_default();
        assert_eq!(kind::name(frame.header.kind), kind_name, "{name}: another kind");
        assert_eq!(decode_and_encode(frame), bytes, "{name}: encodes to something else");
        seen.insert(frame.header.kind);
    }
    let missing: Vec<_> = kind::ALL.iter().filter(|(kind, _)| !seen.contains(kind)).collect();
    assert!(missing.is_empty(), "no dump in docs/NETWORK_PROTOCOL.md of {missing:?}");
}

#[test]
fn the_page_lists_every_kind_with_its_code() {
    let page = std::fs::read_to_string(path()).expect("the page");
    for (kind, name) in kind::ALL {
        let heading = format!("`{kind:#04x}` {name}");
        assert!(page.contains(&heading), "no heading '{heading}'");
    }
}

/// A number as the page writes it: 1,278,976.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[test]
fn the_page_states_the_limits_that_the_code_has() {
    let page = std::fs::read_to_string(path()).expect("the page");
    let (_, table) = page.split_once("\n## Limits\n").expect("the section");
    let rows = [
        ("frame", frame_bytes()),
        ("encoded event", grouped(limits::EVENT_BYTES_MAX)),
        ("encoded entry", grouped(limits::ENTRY_BYTES_MAX)),
        ("events in one publish", grouped(PUBLISH_EVENTS_MAX)),
        ("runs in one acknowledgement", grouped(ACK_RUNS_MAX)),
        ("entries in one append", grouped(APPEND_ENTRIES_MAX)),
        ("members, peers in one message", grouped(limits::NODES_MAX)),
        ("counters in one status reply", grouped(COUNTERS_MAX)),
        ("producer's name", grouped(limits::PRODUCER_NAME_BYTES_MAX)),
        ("topic filter", grouped(FILTER_BYTES_MAX)),
        ("address", grouped(ADDRESS_BYTES_MAX)),
        ("text for people", grouped(TEXT_BYTES_MAX)),
    ];
    for (what, limit) in rows {
        let row = table.lines().find(|line| line.starts_with(&format!("| {what} |")));
        assert!(row.is_some_and(|row| row.contains(&limit)), "{what}: {limit} is not in {row:?}");
    }
}

fn frame_bytes() -> String {
    let (whole, hello) = (grouped(limits::FRAME_BYTES_MAX), grouped(HELLO_FRAME_BYTES_MAX));
    format!("{whole} bytes; before the handshake is done {hello}")
}

/// Replaces the body of every dump whose name is that of a sample.
fn write_dumps() {
    let mut page = std::fs::read_to_string(path()).expect("the page");
    for (name, bytes) in samples() {
        let fence = format!("\n```hex {name}\n");
        let Some(start) = page.find(&fence).map(|at| at + fence.len()) else { panic!("no block '{name}'") };
        let end = start + page[start - 1..].find("\n```").expect("the end of the block");
        let mut body = String::new();
        for (row, line) in bytes.chunks(16).enumerate() {
            let pairs: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(body, "{:04x}: {}", row * 16, pairs.join(" ")).expect("a string takes all");
        }
        page.replace_range(start..end, &body);
    }
    std::fs::write(path(), page).expect("the page is writable");
}

const CLUSTER: ClusterId = ClusterId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100);
const ADDRESS: &str = "127.0.0.1:9002";

fn samples() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for frame in peer_samples() {
        all.push((name_of(&frame), encode_peer(&frame)));
    }
    let probe = PeerFrame::Raft { group: GROUP, message: append_of(&[]), entries: Vec::new() };
    all.push(("append (probe)".to_owned(), encode_peer(&probe)));
    for (note, message) in client_samples() {
        let mut bytes = Vec::new();
        message.encode(GROUP, &mut bytes);
        all.push((format!("{}{note}", kind::name(message.kind())), bytes));
    }
    let events = event();
    let entry = noop();
    for (note, message) in server_samples(&entry) {
        let mut bytes = Vec::new();
        message.encode(GROUP, &mut bytes);
        all.push((format!("{}{note}", kind::name(message.kind())), bytes));
    }
    let publish = Publish { producer_id: ProducerId(2), epoch: Epoch(1), event_count: 1, bytes: &events };
    let mut bytes = Vec::new();
    ClientMessage::Publish(publish).encode(GROUP, &mut bytes);
    all.push(("publish".to_owned(), bytes));
    all
}

fn name_of(frame: &PeerFrame<'_>) -> String {
    let bytes = encode_peer(frame);
    let note = match frame {
        PeerFrame::HelloReply(PeerHelloReply::Refuse { .. }) => " (refused)",
        PeerFrame::Raft {
            message: Message::AppendReply { outcome: AppendOutcome::Rejected { .. }, .. },
            ..
        } => " (rejected)",
        PeerFrame::Mend { message: MendMessage::Fetched { state: CopyState::Damaged, .. }, .. } => {
            " (damaged)"
        }
        _ => "",
    };
    format!("{}{note}", kind::name(bytes[4]))
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), LogIndex(index))
}

fn noop() -> Entry {
    encode_noop(&SealContext {
        term: Term(3),
        index: LogIndex(42),
        prev_chain: 0x1122_3344_5566_7788,
        base_offset: Offset(1708),
        log_time_ns: 1_000_000,
        timestamp_unix_ns: 1_700_000_000_000_000_000,
    })
}

fn event() -> Vec<u8> {
    let mut bytes = Vec::new();
    let parts = EventParts {
        sequence: Sequence(7),
        timestamp_unix_ns: 1_700_000_000_000_000_000,
        priority: 0,
        topic: "quakes",
        attributes: &[("station", b"ANMO")],
        body: b"M 4.2",
    };
    encode_event(&mut bytes, &parts).expect("a sound event");
    bytes
}

fn append_of(entries: &[Entry]) -> Message {
    Message::Append {
        term: Term(3),
        prev: id(3, 41),
        entries: entries.iter().map(Entry::term).collect(),
        commit: LogIndex(40),
        wants_reply: entries.is_empty(),
    }
}

fn peer_samples() -> Vec<PeerFrame<'static>> {
    let term = Term(3);
    let (last, claimed) = (id(2, 41), id(2, 41));
    let entries = vec![noop()];
    let mut all = vec![
        PeerFrame::Hello(PeerHello {
            offer: ProtocolOffer::OURS,
            cluster_id: CLUSTER,
            from: NodeId(1),
            to: NodeId(2),
            incarnation: Incarnation(0xaa << 120 | 1),
            group: GROUP,
            durability: Durability::Disk,
            cluster_version: 1,
            configuration_index: LogIndex(1),
        }),
        PeerFrame::HelloReply(PeerHelloReply::Accept {
            protocol: 1,
            features: 0,
            node_id: NodeId(2),
            incarnation: Incarnation(0xbb << 120 | 2),
            configuration_index: LogIndex(1),
        }),
        PeerFrame::HelloReply(PeerHelloReply::Refuse {
            code: RefuseCode::WrongCluster,
            text: "this node belongs to another cluster",
        }),
        PeerFrame::Raft { group: GROUP, message: append_of(&entries), entries },
    ];
    let (appended, stable) = (LogIndex(42), LogIndex(41));
    let rejected = AppendOutcome::Rejected { prev_index: LogIndex(41), hint: id(2, 30) };
    let messages = vec![
        Message::PreVote { term: Term(4), last },
        Message::PreVoteReply { term: Term(4), granted: true, last },
        Message::Vote { term: Term(4), last },
        Message::VoteReply { term: Term(4), granted: true, last },
        Message::AppendReply { term, outcome: AppendOutcome::Accepted { appended, stable } },
        Message::AppendReply { term, outcome: rejected },
        Message::Heartbeat { term, commit: LogIndex(40), round: 9 },
        Message::HeartbeatReply { term, round: 9, appended, stable },
        Message::ClaimQuery { term, claimed },
        Message::ClaimReply { term, claimed: id(2, 35), last: id(2, 35) },
        Message::TimeoutNow { term },
    ];
    all.extend(messages.into_iter().map(|message| PeerFrame::Raft {
        group: GROUP,
        message,
        entries: Vec::new(),
    }));
    let (first, last) = (LogIndex(42), LogIndex(44));
    let mend = |message, entries| PeerFrame::Mend { group: GROUP, message, entries };
    all.push(mend(MendMessage::Fetch { question: 7, first, last }, Vec::new()));
    let held = MendMessage::Fetched { question: 7, first, last: first, state: CopyState::Held };
    all.push(mend(held, vec![noop()]));
    let damaged = MendMessage::Fetched { question: 7, first, last, state: CopyState::Damaged };
    all.push(mend(damaged, Vec::new()));
    let id = EntryId::new(Term(3), LogIndex(42));
    let before = EntryId::new(Term(2), LogIndex(17));
    let base = LogBase { id: before, chain: 0x1122_3344_5566_7788, next_offset: Offset(9), log_time_ns: 5 };
    let chunk = CheckpointChunk { term: Term(3), id, base, total_bytes: 600_000, position: 524_288 };
    all.push(PeerFrame::Checkpoint { group: GROUP, chunk, bytes: b"16 bytes of them" });
    all
}

fn client_samples() -> Vec<(&'static str, ClientMessage<'static>)> {
    let hello = ClientHello {
        offer: ProtocolOffer::OURS,
        purpose: Purpose::Publisher,
        cluster_id: ClusterId(0),
        name: "tercet publish",
    };
    let subscribe = Subscribe {
        subscription: 1,
        from: SubscribeFrom::Offset(Offset(1000)),
        credit_bytes: 1 << 20,
        filter: "quakes*",
    };
    vec![
        ("", ClientMessage::Hello(hello)),
        ("", ClientMessage::Ping { request_id: 5 }),
        ("", ClientMessage::StatusQuery { request_id: 5 }),
        ("", ClientMessage::CommitQuery { request_id: 5, leader_required: true }),
        ("", ClientMessage::OpenProducer { request_id: 5, name: "usgs" }),
        ("", ClientMessage::Subscribe(subscribe)),
        ("", ClientMessage::SubscribeCredit { subscription: 1, bytes: 65_536 }),
        ("", ClientMessage::TransferLeadership { request_id: 5, to: NodeId(2) }),
        ("", ClientMessage::ListMembers { request_id: 5 }),
        ("", ClientMessage::ChangeMember { request_id: 5, change: CHANGE }),
    ]
}

const CHANGE: MemberChange =
    MemberChange { kind: ChangeKind::Replace, node: NodeId(3), incarnation: Incarnation(0) };

fn members() -> LeaderMembers<'static> {
    let row = MemberRow {
        node_id: NodeId(2),
        is_voter: true,
        incarnation: Incarnation(0x2a),
        is_connected: true,
        is_caught_up: true,
        stable_index: LogIndex(42),
        newcomer: Incarnation(0),
        address: ADDRESS,
    };
    let away = MemberRow {
        node_id: NodeId(3),
        incarnation: Incarnation(0x2b),
        is_connected: false,
        is_caught_up: false,
        stable_index: LogIndex(0),
        newcomer: Incarnation(0x2c),
        address: "",
        ..row
    };
    LeaderMembers {
        leader_id: NodeId(2),
        term: Term(3),
        configuration_index: LogIndex(1),
        is_committed: true,
        last_index: LogIndex(42),
        rows: vec![row, away],
    }
}

fn accept() -> ClientHelloAccept<'static> {
    ClientHelloAccept {
        protocol: 1,
        features: 0,
        cluster_id: CLUSTER,
        node_id: NodeId(1),
        leader_id: Some(NodeId(2)),
        term: Term(3),
        durability: Durability::Disk,
        event_bytes_max: 1_082_368,
        credit_events: 8192,
        credit_bytes: 8 << 20,
        members: vec![
            MemberAddress { node_id: NodeId(1), address: "127.0.0.1:9001" },
            MemberAddress { node_id: NodeId(2), address: ADDRESS },
        ],
    }
}

fn status() -> StatusReply<'static> {
    StatusReply {
        request_id: 5,
        node_id: NodeId(2),
        role: NodeRole::Leader,
        term: Term(3),
        leader_id: Some(NodeId(2)),
        commit_index: LogIndex(41),
        last_index: LogIndex(42),
        flushed_index: LogIndex(42),
        first_offset: Offset(1),
        last_offset: Offset(1707),
        log_checksum_index: LogIndex(41),
        log_checksum: 0x1122_3344_5566_7788,
        producers: 1,
        producers_checksum: 0x99aa_bbcc_ddee_ff00,
        durability: Durability::Disk,
        uptime_ms: 12_345,
        version: "0.1.0",
        peers: vec![PeerStatus {
            node_id: NodeId(1),
            connected: true,
            next_index: LogIndex(43),
            match_appended: LogIndex(42),
            match_stable: LogIndex(41),
            state: PeerState::Replicate,
        }],
        counters: vec![Counter { name: "entries_committed", value: 41 }],
    }
}

const RUNS: &[AckRun] = &[
    AckRun {
        producer_id: ProducerId(2),
        first_sequence: Sequence(1),
        first_offset: Offset(1),
        count: 6,
        kind: AckKind::Duplicate,
    },
    AckRun {
        producer_id: ProducerId(2),
        first_sequence: Sequence(7),
        first_offset: Offset(1708),
        count: 1,
        kind: AckKind::Written,
    },
];

fn server_samples(entry: &Entry) -> Vec<(&'static str, ServerMessage<'_>)> {
    let leader_id = Some(NodeId(2));
    let (commit_index, last_offset) = (LogIndex(42), Offset(1707));
    let refuse = ClientHelloReply::Refuse { code: RefuseCode::Draining, text: "this node is shutting down" };
    let committed = CommitAnswer::Committed { commit_index, last_offset, from_leader: true };
    let not_leader = CommitAnswer::NotLeader { leader_id: NodeId(2), address: ADDRESS };
    let elsewhere = TransferOutcome::NotLeader { term: Term(3), leader_id, address: ADDRESS };
    let asked_elsewhere = MembersAnswer::NotLeader { term: Term(3), leader_id, address: ADDRESS };
    let changed_elsewhere = ChangeOutcome::NotLeader { term: Term(3), leader_id, address: ADDRESS };
    let mut all = publish_samples();
    all.extend([
        ("", ServerMessage::HelloReply(ClientHelloReply::Accept(accept()))),
        (" (refused)", ServerMessage::HelloReply(refuse)),
        ("", ServerMessage::Pong { request_id: 5 }),
        ("", ServerMessage::Status(Box::new(status()))),
        ("", ServerMessage::TransferReply { request_id: 5, outcome: TransferOutcome::Done }),
        (" (not leader)", ServerMessage::TransferReply { request_id: 5, outcome: elsewhere }),
        ("", ServerMessage::Members { request_id: 5, answer: Box::new(MembersAnswer::Members(members())) }),
        (" (not leader)", ServerMessage::Members { request_id: 5, answer: Box::new(asked_elsewhere) }),
        ("", ServerMessage::ChangeMemberReply { request_id: 5, outcome: ChangeOutcome::Done }),
        (" (not leader)", ServerMessage::ChangeMemberReply { request_id: 5, outcome: changed_elsewhere }),
        ("", ServerMessage::CommitReply { request_id: 5, answer: committed }),
        (" (no leader)", ServerMessage::CommitReply { request_id: 5, answer: CommitAnswer::NoLeader }),
        (" (not leader)", ServerMessage::CommitReply { request_id: 5, answer: not_leader }),
        ("", ServerMessage::Redirect { leader_id, address: ADDRESS, term: Term(3) }),
        ("", ServerMessage::LeaderNews { leader_id: None, address: "", term: Term(4) }),
        ("", ServerMessage::Goodbye { reason: GoodbyeReason::Draining, text: "this node is shutting down" }),
        (
            "",
            ServerMessage::Subscribed {
                subscription: 1,
                start_offset: Offset(1000),
                commit_index,
                last_offset,
            },
        ),
        ("", ServerMessage::Progress { subscription: 1, commit_index, last_offset }),
    ]);
    let bytes = entry.bytes();
    let entries = Entries { subscription: 1, commit_index, last_offset, entry_count: 1, bytes };
    all.push(("", ServerMessage::Entries(entries)));
    let code = SubscriptionErrorCode::BelowFloor { first_offset: Offset(500) };
    let text = "offset 1 is gone; the log begins at 500";
    all.push(("", ServerMessage::SubscriptionError(SubscriptionError { subscription: 1, code, text })));
    all
}

fn publish_samples() -> Vec<(&'static str, ServerMessage<'static>)> {
    let opened = ProducerOpened {
        request_id: 5,
        producer_id: ProducerId(2),
        epoch: Epoch(1),
        next_sequence: Sequence(7),
    };
    let ack = PublishAck { durability: Durability::Disk, runs: List::from_slice(RUNS) };
    let gap = PublishError {
        producer_id: ProducerId(2),
        sequence: Sequence(9),
        count: 1,
        code: PublishErrorCode::SequenceGap { expected: Sequence(8) },
        text: "sequence 9 where 8 is next",
    };
    let code = RequestErrorCode::BadProducerName;
    let text = "a producer's name has 1 to 255 bytes";
    vec![
        ("", ServerMessage::ProducerOpened(opened)),
        ("", ServerMessage::PublishAck(ack)),
        ("", ServerMessage::PublishError(gap)),
        ("", ServerMessage::RequestError { request_id: 5, code, text }),
    ]
}
