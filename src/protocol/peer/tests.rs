use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{
    APPEND_ENTRIES_MAX, CHECKPOINT_CHUNK_BYTES_MAX, CheckpointChunk, CopyState, KnownPeer, MendMessage,
    PeerError, PeerExpectation, PeerFrame, PeerHello, PeerHelloReply, decode_peer_frame,
    encode_append_header, encode_checkpoint_header, encode_mend_header, encode_message,
};
use crate::base::bytes::ByteWriter;
use crate::base::ids::{
    COUNTER_MAX, ClusterId, EntryId, GroupId, Incarnation, LogIndex, NodeId, Offset, Term,
};
use crate::entry::{Durability, Entry, LogBase, SealContext, encode_noop};
use crate::protocol::frame::{
    Agreed, FrameWriter, ProtocolError, ProtocolOffer, RefuseCode, kind, split_frame,
};
use crate::raft::{AppendOutcome, Message};

fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, 0..=COUNTER_MAX]
}

fn term() -> impl Strategy<Value = Term> {
    counter().prop_map(Term)
}

fn index() -> impl Strategy<Value = LogIndex> {
    counter().prop_map(LogIndex)
}

fn id() -> impl Strategy<Value = EntryId> {
    (term(), index()).prop_map(|(term, index)| EntryId::new(term, index))
}

fn message() -> impl Strategy<Value = Message> {
    let progress = || (index(), index()).prop_map(|(a, b)| (a.max(b), a.min(b)));
    let outcome = prop_oneof![
        progress().prop_map(|(appended, stable)| AppendOutcome::Accepted { appended, stable }),
        (index(), id()).prop_map(|(prev_index, hint)| AppendOutcome::Rejected { prev_index, hint }),
    ];
    prop_oneof![
        (term(), id()).prop_map(|(term, last)| Message::PreVote { term, last }),
        (term(), any::<bool>(), id()).prop_map(|(term, granted, last)| Message::PreVoteReply {
            term,
            granted,
            last
        }),
        (term(), id()).prop_map(|(term, last)| Message::Vote { term, last }),
        (term(), any::<bool>(), id()).prop_map(|(term, granted, last)| Message::VoteReply {
            term,
            granted,
            last
        }),
        (term(), id(), index(), any::<bool>()).prop_map(|(term, prev, commit, wants_reply)| {
            let term = term.max(prev.term);
            Message::Append { term, prev, entries: Vec::new(), commit, wants_reply }
        }),
        (term(), outcome).prop_map(|(term, outcome)| Message::AppendReply { term, outcome }),
        (term(), index(), any::<u64>()).prop_map(|(term, commit, round)| Message::Heartbeat {
            term,
            commit,
            round
        }),
        (term(), any::<u64>(), progress()).prop_map(|(term, round, (appended, stable))| {
            Message::HeartbeatReply { term, round, appended, stable }
        }),
        (term(), id()).prop_map(|(term, claimed)| Message::ClaimQuery { term, claimed }),
        (term(), id(), id()).prop_map(|(term, one, other)| {
            Message::ClaimReply { term, claimed: one.max(other), last: one.min(other) }
        }),
        term().prop_map(|term| Message::TimeoutNow { term }),
    ]
}

/// Entries with these terms, from `first` on, chained to one another.
fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    let mut made: Vec<Entry> = Vec::new();
    for (place, term) in terms.iter().enumerate() {
        made.push(encode_noop(&SealContext {
            term: Term(*term),
            index: LogIndex(first + place as u64),
            prev_chain: made.last().map_or(99, Entry::chain),
            base_offset: Offset(1),
            log_time_ns: 5,
            timestamp_unix_ns: 6,
        }));
    }
    made
}

/// An append of term 9 behind 7@t3, with this tail.
fn append(entry_count: usize, tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let prev = EntryId::new(Term(3), LogIndex(7));
    let sizes = (entry_count, tail.len());
    encode_append_header(GroupId(2), Term(9), prev, LogIndex(6), true, sizes, &mut out);
    out.put(tail);
    out
}

fn tail_of(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.bytes().to_vec()).collect()
}

fn decode(bytes: &[u8]) -> Result<PeerFrame<'_>, PeerError> {
    decode_peer_frame(split_frame(bytes)?.expect("a whole frame").0)
}

fn raw_frame(kind: u8, fixed: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = FrameWriter::begin(&mut out, kind, GroupId(0));
    writer.put(fixed);
    writer.finish_before_tail(tail.len());
    out.put(tail);
    out
}

fn encode_again(read: &PeerFrame<'_>, out: &mut Vec<u8>) {
    match read {
        PeerFrame::Hello(hello) => hello.encode(out),
        PeerFrame::HelloReply(reply) => reply.encode(GroupId(0), out),
        PeerFrame::Raft { group, message, .. } => encode_message(*group, message, out),
        PeerFrame::Checkpoint { group, chunk, bytes } => {
            encode_checkpoint_header(*group, chunk, bytes.len(), out);
            out.put(bytes);
        }
        PeerFrame::Mend { group, message, entries } => {
            let tail = tail_of(entries);
            encode_mend_header(*group, message, (entries.len(), tail.len()), out);
            out.put(&tail);
        }
    }
}

/// An answer about indexes 8 and 9, with this tail.
fn fetched(state: CopyState, entry_count: usize, tail: &[u8]) -> Vec<u8> {
    let (first, last) = (LogIndex(8), LogIndex(9));
    let mut bytes = Vec::new();
    encode_mend_header(
        GroupId(2),
        &MendMessage::Fetched { question: 7, first, last, state },
        (entry_count, tail.len()),
        &mut bytes,
    );
    bytes.put(tail);
    bytes
}

#[test]
fn parts_of_a_checkpoint_round_trip_and_lie_within_it() {
    let id = EntryId::new(Term(3), LogIndex(7));
    let before = EntryId::new(Term(2), LogIndex(5));
    let base = LogBase { id: before, chain: u64::MAX, next_offset: Offset(9), log_time_ns: 77 };
    let chunk = CheckpointChunk { term: Term(4), id, base, total_bytes: 100, position: 60 };
    let mut bytes = Vec::new();
    encode_checkpoint_header(GroupId(2), &chunk, 40, &mut bytes);
    bytes.put(&[9; 40]);
    let read = decode(&bytes).unwrap();
    assert_eq!(read, PeerFrame::Checkpoint { group: GroupId(2), chunk, bytes: &[9; 40] });
    let raw = |fixed: &[u64], tail: usize| {
        let fixed: Vec<u8> = fixed.iter().flat_map(|value| value.to_le_bytes()).collect();
        raw_frame(kind::CHECKPOINT, &fixed, &vec![9; tail])
    };
    // Terms and indexes of the leader, of the entry, of the one before the log; chain, offset, time; length, position.
    let good = [4, 3, 7, 2, 5, 1, 9, 77, 100, 60];
    assert!(decode(&raw(&good, 40)).is_ok());
    for (at, bad, tail) in [
        (9, 61, 40),
        (9, 60, 0),
        (2, 0, 40),
        (0, 2, 40),
        (8, u64::MAX, 40),
        (8, 1 << 30, CHECKPOINT_CHUNK_BYTES_MAX + 1),
        (3, 4, 40),
        (4, 0, 40),
        (4, 7, 40),
        (4, 8, 40),
        (6, 0, 40),
        (7, u64::MAX, 40),
    ] {
        let mut fixed = good;
        fixed[at] = bad;
        assert!(decode(&raw(&fixed, tail)).is_err(), "{fixed:?}");
    }
}

#[test]
fn questions_and_answers_about_damaged_entries_round_trip() {
    let made = entries(8, &[3, 4]);
    let (first, last) = (LogIndex(8), LogIndex(9));
    let mut all = vec![(
        fetched(CopyState::Held, 2, &tail_of(&made)),
        MendMessage::Fetched { question: 7, first, last, state: CopyState::Held },
        made,
    )];
    for state in [CopyState::Damaged, CopyState::Absent, CopyState::Unsure, CopyState::Trimmed] {
        all.push((
            fetched(state, 0, b""),
            MendMessage::Fetched { question: 7, first, last, state },
            Vec::new(),
        ));
    }
    let mut question = Vec::new();
    encode_mend_header(GroupId(2), &MendMessage::Fetch { question: 7, first, last }, (0, 0), &mut question);
    all.push((question, MendMessage::Fetch { question: 7, first, last }, Vec::new()));
    for (bytes, message, entries) in all {
        assert_eq!(decode(&bytes), Ok(PeerFrame::Mend { group: GroupId(2), message, entries }));
    }
}

#[test]
fn pitfall_51_damaged_misplaced_and_miscounted_copies_are_errors() {
    let made = entries(8, &[3, 4]);
    let whole = fetched(CopyState::Held, 2, &tail_of(&made));
    let (fixed, tail) = (whole[16..16 + 29].to_vec(), tail_of(&made));
    assert!(decode(&raw_frame(kind::FETCHED, &fixed, &tail)).is_ok());
    for bit in (0..tail.len() * 8).step_by(7) {
        let mut damaged = tail.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&raw_frame(kind::FETCHED, &fixed, &damaged)).is_err(), "bit {bit}");
    }
    let misplaced = tail_of(&entries(9, &[3, 4]));
    assert!(matches!(decode(&raw_frame(kind::FETCHED, &fixed, &misplaced)), Err(PeerError::Order { .. })));
    // Counts that do not fit the range or the state; ranges that are none.
    for (at, value) in [(25, 1), (25, 3), (24, 2), (24, 0), (24, 5), (16, 7), (8, 0)] {
        let mut other = fixed.clone();
        other[at] = value;
        assert!(decode(&raw_frame(kind::FETCHED, &other, &tail)).is_err(), "{value} at {at}");
    }
    let backwards = [7u64, 9, 8].map(u64::to_le_bytes).concat();
    assert!(decode(&raw_frame(kind::FETCH, &backwards, b"")).is_err());
}

proptest! {
    #[test]
    fn every_raft_message_round_trips(message in message(), group in any::<u16>()) {
        let mut bytes = b"earlier".to_vec();
        encode_message(GroupId(group), &message, &mut bytes);
        let expected = PeerFrame::Raft { group: GroupId(group), message, entries: Vec::new() };
        assert_eq!(decode(&bytes[7..]), Ok(expected));
    }

    #[test]
    fn pitfall_51_a_fixed_part_cut_anywhere_is_an_error(message in message(), cut in 0.0..1.0f64) {
        let mut bytes = Vec::new();
        encode_message(GroupId(0), &message, &mut bytes);
        let fixed = &bytes[16..];
        let bytes = raw_frame(bytes[4], &fixed[..(fixed.len() as f64 * cut) as usize], b"");
        assert!(matches!(decode(&bytes), Err(PeerError::Protocol(ProtocolError::Short { .. }))));
    }

    #[test]
    fn arbitrary_contents_never_panic_and_what_is_accepted_has_one_encoding(
        kind in 0..0x40u8, fixed in vec(prop_oneof![4 => Just(0u8), 1 => any::<u8>()], 0..80),
        tail in vec(any::<u8>(), 0..100),
    ) {
        for tail in [&tail[..], &[]] {
            let bytes = raw_frame(kind, &fixed, tail);
            if let Ok(read) = decode(&bytes) {
                let mut again = Vec::new();
                encode_again(&read, &mut again);
                assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn appends_carry_their_entries_unchanged(steps in vec(0..2u64, 0..20)) {
        let terms: Vec<u64> = steps.iter().scan(3, |term, step| { *term += step; Some((*term).min(9)) }).collect();
        let made = entries(8, &terms);
        let bytes = append(made.len(), &tail_of(&made));
        let message = Message::Append {
            term: Term(9),
            prev: EntryId::new(Term(3), LogIndex(7)),
            entries: terms.into_iter().map(Term).collect(),
            commit: LogIndex(6),
            wants_reply: true,
        };
        assert_eq!(decode(&bytes), Ok(PeerFrame::Raft { group: GroupId(2), message, entries: made }));
    }
}

#[test]
fn entries_must_be_contiguous_of_rising_terms_and_chained() {
    let refused = |made: &[Entry], wrong: usize| {
        let error = decode(&append(made.len(), &tail_of(made))).unwrap_err();
        assert!(matches!(error, PeerError::Order { place, .. } if place == wrong), "{error:?}");
    };
    refused(&entries(9, &[3]), 0); // a gap behind prev
    refused(&entries(7, &[3]), 0); // prev again
    refused(&entries(8, &[2]), 0); // a term below prev's
    refused(&entries(8, &[10]), 0); // a term above the leader's
    refused(&entries(8, &[3, 5, 4]), 2);
    let (first, other) = (entries(8, &[3, 3]), entries(8, &[4, 4]));
    refused(&[first[0].clone(), other[1].clone()], 1); // sound, but of another log
    refused(&[first[0].clone(), first[0].clone()], 1);
}

#[test]
fn pitfall_51_damaged_missing_and_surplus_entries_are_errors() {
    let made = entries(8, &[3, 4]);
    let tail = tail_of(&made);
    for bit in 0..tail.len() * 8 {
        let mut damaged = tail.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = decode(&append(2, &damaged)).unwrap_err();
        assert!(matches!(error, PeerError::Entry { .. }), "bit {bit}: {error:?}");
    }
    for end in 1..tail.len() {
        assert!(decode(&append(2, &tail[..end])).is_err(), "{end}");
    }
    let left = tail.len() - made[0].len_bytes();
    assert_eq!(decode(&append(1, &tail)), Err(PeerError::Surplus { left }));
}

#[test]
fn pitfall_50_an_entry_count_is_bounded_by_its_limit_and_by_the_bytes_that_are_there() {
    for count in [u32::MAX, APPEND_ENTRIES_MAX as u32 + 1, 3] {
        let mut bytes = append(2, &tail_of(&entries(8, &[3, 4])));
        let mut fixed = bytes[16..16 + 33].to_vec();
        fixed.put_u32(count);
        bytes = raw_frame(kind::APPEND, &fixed, &bytes[16 + 37..]);
        let error = decode(&bytes).unwrap_err();
        let expected =
            ProtocolError::BadField { kind: kind::APPEND, field: "entry_count", value: u64::from(count) };
        assert_eq!(error, PeerError::Protocol(expected));
    }
}

#[test]
fn pitfall_15_a_stable_index_above_the_appended_one_is_refused() {
    let outcome = AppendOutcome::Accepted { appended: LogIndex(4), stable: LogIndex(5) };
    let mut bytes = Vec::new();
    encode_message(GroupId(0), &Message::AppendReply { term: Term(1), outcome }, &mut bytes);
    let error = decode(&bytes).unwrap_err();
    assert!(matches!(error, PeerError::Protocol(ProtocolError::BadField { field: "stable", .. })));
}

#[test]
fn clients_frames_are_refused_by_name() {
    for kind in [kind::PUBLISH, kind::CLIENT_HELLO, 0x28, 0x00, 0xff] {
        let bytes = raw_frame(kind, &[0; 8], b"");
        let error = decode(&bytes).unwrap_err();
        let expected = ProtocolError::UnexpectedKind { what: "a node's peer port", kind };
        assert_eq!(error, PeerError::Protocol(expected));
        assert!(error.to_string().contains(kind::name(kind)));
    }
}

fn hello() -> PeerHello {
    PeerHello {
        offer: ProtocolOffer { protocol_min: 1, protocol_max: 3, features: 0b101 },
        cluster_id: ClusterId(1 << 100),
        from: NodeId(2),
        to: NodeId(1),
        incarnation: Incarnation(77),
        group: GroupId(0),
        durability: Durability::Disk,
        cluster_version: 1,
        configuration_index: LogIndex(9),
    }
}

#[test]
fn hellos_and_replies_round_trip() {
    let mut bytes = Vec::new();
    let sent = PeerHello { group: GroupId(5), ..hello() };
    sent.encode(&mut bytes);
    assert_eq!(decode(&bytes), Ok(PeerFrame::Hello(sent)));
    let accept = PeerHelloReply::Accept {
        protocol: 2,
        features: 1,
        node_id: NodeId(1),
        incarnation: Incarnation(u128::MAX),
        configuration_index: LogIndex(1),
    };
    let refuse = PeerHelloReply::Refuse { code: RefuseCode::WrongCluster, text: "cluster a, not b" };
    for reply in [accept, refuse] {
        bytes.clear();
        reply.encode(GroupId(0), &mut bytes);
        assert_eq!(decode(&bytes), Ok(PeerFrame::HelloReply(reply)));
    }
    bytes.clear();
    PeerHelloReply::Refuse { code: RefuseCode::Malformed, text: &"x".repeat(999) }
        .encode(GroupId(0), &mut bytes);
    let PeerFrame::HelloReply(PeerHelloReply::Refuse { text, .. }) = decode(&bytes).unwrap() else {
        panic!("a refusal");
    };
    assert_eq!(text.len(), 200);
}

#[test]
fn a_hello_without_incarnation_or_with_an_empty_range_is_malformed() {
    let mut bytes = Vec::new();
    PeerHello { incarnation: Incarnation::default(), ..hello() }.encode(&mut bytes);
    assert!(decode(&bytes).is_err());
    bytes.clear();
    let offer = ProtocolOffer { protocol_min: 3, protocol_max: 2, features: 0 };
    PeerHello { offer, ..hello() }.encode(&mut bytes);
    assert!(decode(&bytes).is_err());
}

#[test]
fn each_mismatch_of_a_hello_has_its_code() {
    let node = PeerExpectation {
        offer: ProtocolOffer { protocol_min: 2, protocol_max: 2, features: 0b110 },
        cluster_id: ClusterId(1 << 100),
        node_id: NodeId(1),
        group: GroupId(0),
        durability: Durability::Disk,
        cluster_version: 1,
    };
    let pinned = KnownPeer::Pinned(Incarnation(77));
    let agreed = Ok(Agreed { protocol: 2, features: 0b100 });
    assert_eq!(node.check(&hello(), pinned), agreed);
    assert_eq!(node.check(&hello(), KnownPeer::Unpinned), agreed, "first contact pins");

    let refused =
        |hello: PeerHello, known, code| assert_eq!(node.check(&hello, known), Err(code), "{hello:?}");
    // PITFALLS 47, and first of all checks: nothing else about us is told to a stranger.
    let stranger =
        PeerHello { cluster_id: ClusterId(1), to: NodeId(9), durability: Durability::Memory, ..hello() };
    refused(stranger, KnownPeer::Unknown, RefuseCode::WrongCluster);
    refused(PeerHello { to: NodeId(3), ..hello() }, pinned, RefuseCode::WrongNode);
    refused(PeerHello { from: NodeId(1), ..hello() }, pinned, RefuseCode::WrongNode);
    refused(PeerHello { group: GroupId(1), ..hello() }, pinned, RefuseCode::UnknownGroup);
    let offer = ProtocolOffer { protocol_min: 3, protocol_max: 9, features: 0 };
    refused(PeerHello { offer, ..hello() }, pinned, RefuseCode::ProtocolRange);
    refused(hello(), KnownPeer::Unknown, RefuseCode::UnknownMember);
    // PITFALLS 48: a wiped disk under its old id.
    refused(hello(), KnownPeer::Pinned(Incarnation(78)), RefuseCode::IncarnationMismatch);
    refused(PeerHello { cluster_version: 2, ..hello() }, pinned, RefuseCode::ClusterVersionMismatch);
    refused(PeerHello { durability: Durability::Memory, ..hello() }, pinned, RefuseCode::DurabilityMismatch);
    assert!(RefuseCode::Draining.is_transient() && !RefuseCode::WrongCluster.is_transient());
}
