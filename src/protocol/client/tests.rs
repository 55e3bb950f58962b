use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{
    ACK_RUNS_MAX, AckKind, AckRun, ChangeCode, ChangeKind, ChangeOutcome, ClientHello, ClientHelloAccept,
    ClientHelloReply, ClientMessage, CommitAnswer, Counter, Entries, EntriesError, EventsError,
    GoodbyeReason, LeaderMembers, List, MemberAddress, MemberChange, MemberRow, MembersAnswer, NodeRole,
    PUBLISH_EVENTS_MAX, PeerState, PeerStatus, ProducerOpened, Publish, PublishAck, PublishError,
    PublishErrorCode, Purpose, RequestErrorCode, ServerMessage, StatusReply, Subscribe, SubscribeFrom,
    SubscriptionError, SubscriptionErrorCode, TransferOutcome,
};
use crate::base::bytes::ByteWriter;
use crate::base::ids::{
    COUNTER_MAX, ClusterId, Epoch, GroupId, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term,
};
use crate::entry::{self, Durability, Entry, EventParts, SealContext, encode_event, encode_noop};
use crate::protocol::frame::{FrameWriter, ProtocolError, ProtocolOffer, RefuseCode, kind, split_frame};

/// Borrowed messages outlive their strategy by leaking a few bytes; tests may.
fn text(max: usize) -> impl Strategy<Value = &'static str> {
    vec(any::<char>(), 0..20).prop_map(move |chars| {
        let mut text: String = chars.into_iter().collect();
        while text.len() > max {
            text.pop();
        }
        &*text.leak()
    })
}

fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, 0..=COUNTER_MAX]
}

fn offer() -> impl Strategy<Value = ProtocolOffer> {
    (any::<u16>(), any::<u16>(), any::<u64>()).prop_map(|(a, b, features)| ProtocolOffer {
        protocol_min: a.min(b),
        protocol_max: a.max(b),
        features,
    })
}

fn node() -> impl Strategy<Value = NodeId> {
    (1..=u16::MAX).prop_map(NodeId)
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Disk), Just(Durability::Memory)]
}

fn code<T: std::fmt::Debug + Clone + 'static>(
    from_code: impl Fn(u8) -> Option<T>,
) -> impl Strategy<Value = T> {
    proptest::sample::select((0..=255).filter_map(from_code).collect::<Vec<T>>())
}

fn client_message() -> impl Strategy<Value = ClientMessage<'static>> {
    let from = prop_oneof![
        Just(SubscribeFrom::Earliest),
        Just(SubscribeFrom::Latest),
        counter().prop_map(|offset| SubscribeFrom::Offset(Offset(offset))),
    ];
    prop_oneof![
        (offer(), code(Purpose::from_code), any::<u128>(), text(64)).prop_map(
            |(offer, purpose, id, name)| {
                ClientMessage::Hello(ClientHello { offer, purpose, cluster_id: ClusterId(id), name })
            }
        ),
        any::<u64>().prop_map(|request_id| ClientMessage::Ping { request_id }),
        any::<u64>().prop_map(|request_id| ClientMessage::StatusQuery { request_id }),
        (any::<u64>(), any::<bool>()).prop_map(|(request_id, leader_required)| ClientMessage::CommitQuery {
            request_id,
            leader_required
        }),
        (any::<u64>(), text(255))
            .prop_map(|(request_id, name)| ClientMessage::OpenProducer { request_id, name }),
        (any::<u64>(), node())
            .prop_map(|(request_id, to)| ClientMessage::TransferLeadership { request_id, to }),
        any::<u64>().prop_map(|request_id| ClientMessage::ListMembers { request_id }),
        (any::<u64>(), code(ChangeKind::from_code), node(), any::<u128>()).prop_map(
            |(request_id, kind, node, incarnation)| {
                let change = MemberChange { kind, node, incarnation: Incarnation(incarnation) };
                ClientMessage::ChangeMember { request_id, change }
            }
        ),
        (counter(), any::<u32>(), 1..=PUBLISH_EVENTS_MAX as u16, vec(any::<u8>(), 0..99)).prop_map(
            |(producer_id, epoch, event_count, bytes)| ClientMessage::Publish(Publish {
                producer_id: ProducerId(producer_id),
                epoch: Epoch(epoch),
                event_count,
                bytes: bytes.leak(),
            })
        ),
        (any::<u32>(), from, any::<u32>(), text(256)).prop_map(
            |(subscription, from, credit_bytes, filter)| {
                ClientMessage::Subscribe(Subscribe { subscription, from, credit_bytes, filter })
            }
        ),
        (any::<u32>(), any::<u32>())
            .prop_map(|(subscription, bytes)| ClientMessage::SubscribeCredit { subscription, bytes }),
    ]
}

fn hello_reply() -> impl Strategy<Value = ClientHelloReply<'static>> {
    let member = (node(), text(262)).prop_map(|(node_id, address)| MemberAddress { node_id, address });
    let ids = (any::<u16>(), any::<u64>(), any::<u128>(), node(), option::of(node()), counter());
    let limits = (durability(), any::<u32>(), any::<u32>(), any::<u32>(), vec(member, 0..=7));
    let accept = (ids, limits).prop_map(|(ids, limits)| {
        ClientHelloReply::Accept(ClientHelloAccept {
            protocol: ids.0,
            features: ids.1,
            cluster_id: ClusterId(ids.2),
            node_id: ids.3,
            leader_id: ids.4,
            term: Term(ids.5),
            durability: limits.0,
            event_bytes_max: limits.1,
            credit_events: limits.2,
            credit_bytes: limits.3,
            members: limits.4,
        })
    });
    let refuse = (code(RefuseCode::from_code), text(200))
        .prop_map(|(code, text)| ClientHelloReply::Refuse { code, text });
    prop_oneof![accept, refuse]
}

fn ack_run() -> impl Strategy<Value = AckRun> {
    let numbers = (counter(), counter(), 1..=COUNTER_MAX, 1..=u32::MAX);
    (numbers, code(AckKind::from_code)).prop_map(|((producer_id, sequence, offset, count), kind)| AckRun {
        producer_id: ProducerId(producer_id),
        first_sequence: Sequence(sequence),
        first_offset: Offset(if kind == AckKind::DuplicateOffsetUnknown { 0 } else { offset }),
        count,
        kind,
    })
}

fn publish_message() -> impl Strategy<Value = ServerMessage<'static>> {
    let code = prop_oneof![
        counter().prop_map(|expected| PublishErrorCode::SequenceGap { expected: Sequence(expected) }),
        any::<u32>().prop_map(|epoch| PublishErrorCode::Fenced { epoch: Epoch(epoch) }),
        Just(PublishErrorCode::UnknownProducer),
        any::<u32>().prop_map(|limit_bytes| PublishErrorCode::EventTooLarge { limit_bytes }),
        Just(PublishErrorCode::Malformed),
        Just(PublishErrorCode::NotDurable),
        Just(PublishErrorCode::CreditExceeded),
        Just(PublishErrorCode::TooManyProducers),
    ];
    prop_oneof![
        (any::<u64>(), counter(), any::<u32>(), counter()).prop_map(|(request_id, id, epoch, next)| {
            ServerMessage::ProducerOpened(ProducerOpened {
                request_id,
                producer_id: ProducerId(id),
                epoch: Epoch(epoch),
                next_sequence: Sequence(next),
            })
        }),
        (durability(), vec(ack_run(), 0..9)).prop_map(|(durability, runs)| {
            ServerMessage::PublishAck(PublishAck { durability, runs: List::from_slice(runs.leak()) })
        }),
        (counter(), counter(), any::<u16>(), code, text(200)).prop_map(
            |(id, sequence, count, code, text)| {
                ServerMessage::PublishError(PublishError {
                    producer_id: ProducerId(id),
                    sequence: Sequence(sequence),
                    count,
                    code,
                    text,
                })
            }
        ),
    ]
}

fn subscription_message() -> impl Strategy<Value = ServerMessage<'static>> {
    let code = prop_oneof![
        counter().prop_map(|first| SubscriptionErrorCode::BelowFloor { first_offset: Offset(first) }),
        Just(SubscriptionErrorCode::BadFilter),
        Just(SubscriptionErrorCode::DuplicateSubscription),
        Just(SubscriptionErrorCode::UnknownSubscription),
        Just(SubscriptionErrorCode::TooManySubscriptions),
        Just(SubscriptionErrorCode::ReadFailed),
        Just(SubscriptionErrorCode::Draining),
    ];
    prop_oneof![
        (any::<u32>(), counter(), counter(), counter()).prop_map(|(subscription, start, commit, last)| {
            ServerMessage::Subscribed {
                subscription,
                start_offset: Offset(start),
                commit_index: LogIndex(commit),
                last_offset: Offset(last),
            }
        }),
        (any::<u32>(), counter(), counter(), any::<u32>(), vec(any::<u8>(), 0..99)).prop_map(
            |(subscription, commit, last, entry_count, bytes)| ServerMessage::Entries(Entries {
                subscription,
                commit_index: LogIndex(commit),
                last_offset: Offset(last),
                entry_count,
                bytes: bytes.leak(),
            })
        ),
        (any::<u32>(), counter(), counter()).prop_map(|(subscription, commit, last)| {
            ServerMessage::Progress {
                subscription,
                commit_index: LogIndex(commit),
                last_offset: Offset(last),
            }
        }),
        (any::<u32>(), code, text(200)).prop_map(|(subscription, code, text)| {
            ServerMessage::SubscriptionError(SubscriptionError { subscription, code, text })
        }),
    ]
}

fn status() -> impl Strategy<Value = ServerMessage<'static>> {
    let peer = (node(), any::<bool>(), counter(), counter(), counter(), code(PeerState::from_code)).prop_map(
        |(node_id, connected, next, appended, stable, state)| PeerStatus {
            node_id,
            connected,
            next_index: LogIndex(next),
            match_appended: LogIndex(appended),
            match_stable: LogIndex(stable),
            state,
        },
    );
    let counters = vec((text(64), any::<u64>()).prop_map(|(name, value)| Counter { name, value }), 0..9);
    let ids = (any::<u64>(), node(), code(NodeRole::from_code), counter(), option::of(node()));
    let numbers = (proptest::array::uniform6(counter()), any::<[u64; 3]>(), any::<u32>());
    let rest = (durability(), text(64), vec(peer, 0..=7), counters);
    (ids, numbers, rest).prop_map(|(ids, (indexes, words, producers), rest)| {
        ServerMessage::Status(Box::new(StatusReply {
            request_id: ids.0,
            node_id: ids.1,
            role: ids.2,
            term: Term(ids.3),
            leader_id: ids.4,
            commit_index: LogIndex(indexes[0]),
            last_index: LogIndex(indexes[1]),
            flushed_index: LogIndex(indexes[2]),
            first_offset: Offset(indexes[3]),
            last_offset: Offset(indexes[4]),
            log_checksum_index: LogIndex(indexes[5]),
            log_checksum: words[0],
            producers,
            producers_checksum: words[1],
            durability: rest.0,
            uptime_ms: words[2],
            version: rest.1,
            peers: rest.2,
            counters: rest.3,
        }))
    })
}

fn member_message() -> impl Strategy<Value = ServerMessage<'static>> {
    let flags = proptest::array::uniform3(any::<bool>());
    let row = (node(), flags, any::<[u128; 2]>(), counter(), text(262)).prop_map(
        |(node_id, flags, [incarnation, newcomer], stable, address)| MemberRow {
            node_id,
            is_voter: flags[0],
            incarnation: Incarnation(incarnation),
            is_connected: flags[1],
            is_caught_up: flags[2],
            stable_index: LogIndex(stable),
            newcomer: Incarnation(newcomer),
            address,
        },
    );
    let members = (node(), counter(), counter(), any::<bool>(), counter(), vec(row, 0..=7)).prop_map(
        |(leader_id, term, configuration, is_committed, last, rows)| {
            MembersAnswer::Members(LeaderMembers {
                leader_id,
                term: Term(term),
                configuration_index: LogIndex(configuration),
                is_committed,
                last_index: LogIndex(last),
                rows,
            })
        },
    );
    let elsewhere = || (counter(), option::of(node()), text(262));
    let answer = prop_oneof![
        members,
        elsewhere().prop_map(|(term, leader_id, address)| {
            MembersAnswer::NotLeader { term: Term(term), leader_id, address }
        }),
    ];
    let outcome =
        (code(ChangeCode::from_code), elsewhere()).prop_map(|(code, (term, leader_id, address))| {
            ChangeOutcome::of(code, ChangeOutcome::NotLeader { term: Term(term), leader_id, address })
        });
    prop_oneof![
        (any::<u64>(), answer)
            .prop_map(|(request_id, answer)| ServerMessage::Members { request_id, answer: Box::new(answer) }),
        (any::<u64>(), outcome)
            .prop_map(|(request_id, outcome)| ServerMessage::ChangeMemberReply { request_id, outcome }),
    ]
}

fn server_message() -> impl Strategy<Value = ServerMessage<'static>> {
    let answer = prop_oneof![
        (counter(), counter(), any::<bool>()).prop_map(|(commit, last, from_leader)| {
            CommitAnswer::Committed { commit_index: LogIndex(commit), last_offset: Offset(last), from_leader }
        }),
        Just(CommitAnswer::NoLeader),
        (node(), text(262)).prop_map(|(leader_id, address)| CommitAnswer::NotLeader { leader_id, address }),
    ];
    let outcome = prop_oneof![
        proptest::sample::select(vec![
            TransferOutcome::Done,
            TransferOutcome::NotAVoter,
            TransferOutcome::TimedOut,
            TransferOutcome::InProgress,
        ]),
        (counter(), option::of(node()), text(262)).prop_map(|(term, leader_id, address)| {
            TransferOutcome::NotLeader { term: Term(term), leader_id, address }
        }),
    ];
    prop_oneof![
        (any::<u64>(), outcome)
            .prop_map(|(request_id, outcome)| ServerMessage::TransferReply { request_id, outcome }),
        hello_reply().prop_map(ServerMessage::HelloReply),
        any::<u64>().prop_map(|request_id| ServerMessage::Pong { request_id }),
        status(),
        (any::<u64>(), answer)
            .prop_map(|(request_id, answer)| ServerMessage::CommitReply { request_id, answer }),
        (option::of(node()), text(262), counter()).prop_map(|(leader_id, address, term)| {
            ServerMessage::Redirect { leader_id, address, term: Term(term) }
        }),
        (option::of(node()), text(262), counter()).prop_map(|(leader_id, address, term)| {
            ServerMessage::LeaderNews { leader_id, address, term: Term(term) }
        }),
        (code(GoodbyeReason::from_code), text(200))
            .prop_map(|(reason, text)| ServerMessage::Goodbye { reason, text }),
        (any::<u64>(), code(RequestErrorCode::from_code), text(200))
            .prop_map(|(request_id, code, text)| { ServerMessage::RequestError { request_id, code, text } }),
        publish_message(),
        subscription_message(),
        member_message(),
    ]
}

/// A well-formed frame with any contents: what a broken or hostile peer with a right checksum could send.
fn raw_frame(kind: u8, fixed: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = FrameWriter::begin(&mut out, kind, GroupId(0));
    writer.put(fixed);
    writer.finish_before_tail(tail.len());
    out.put(tail);
    out
}

proptest! {
    #[test]
    fn every_client_message_round_trips(message in client_message(), group in any::<u16>()) {
        let mut bytes = b"earlier".to_vec();
        message.encode(GroupId(group), &mut bytes);
        let (frame, consumed) = split_frame(&bytes[7..]).unwrap().unwrap();
        assert_eq!((consumed, frame.header.group), (bytes.len() - 7, GroupId(group)));
        assert_eq!(frame.header.kind, message.kind());
        assert_eq!(ClientMessage::decode(frame), Ok(message));
        assert!(ServerMessage::decode(frame).is_err(), "the other direction does not take it");
    }

    #[test]
    fn every_server_message_round_trips(message in server_message(), group in any::<u16>()) {
        let mut bytes = Vec::new();
        message.encode(GroupId(group), &mut bytes);
        let (frame, consumed) = split_frame(&bytes).unwrap().unwrap();
        assert_eq!((consumed, frame.header.group), (bytes.len(), GroupId(group)));
        assert_eq!(frame.header.kind, message.kind());
        assert!(ClientMessage::decode(frame).is_err(), "the other direction does not take it");
        assert_eq!(ServerMessage::decode(frame), Ok(message));
    }

    #[test]
    fn pitfall_51_a_fixed_part_cut_anywhere_is_an_error(
        client in client_message(), server in server_message(), cut in 0.0..1.0f64,
    ) {
        let mut bytes = Vec::new();
        client.encode(GroupId(0), &mut bytes);
        // A publish frame may end anywhere in its events; they are counted in by `Publish::events`.
        let cut_at = |fixed: &[u8]| (fixed.len() as f64 * cut) as usize;
        let fixed = &bytes[16..];
        if !matches!(client, ClientMessage::Publish(_)) {
            let bytes = raw_frame(client.kind(), &fixed[..cut_at(fixed)], b"");
            assert!(ClientMessage::decode(split_frame(&bytes).unwrap().unwrap().0).is_err());
        }
        bytes.clear();
        server.encode(GroupId(0), &mut bytes);
        let (frame, _) = split_frame(&bytes).unwrap().unwrap();
        let bytes = raw_frame(server.kind(), &frame.fixed()[..cut_at(frame.fixed())], frame.tail());
        assert!(ServerMessage::decode(split_frame(&bytes).unwrap().unwrap().0).is_err());
    }

    #[test]
    fn arbitrary_contents_never_panic_and_what_is_accepted_has_one_encoding(
        kind in proptest::sample::select(kind::ALL), fixed in vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..120),
        tail in vec(any::<u8>(), 0..4),
    ) {
        let bytes = raw_frame(kind.0, &fixed, &tail);
        let (frame, _) = split_frame(&bytes).unwrap().unwrap();
        let mut again = Vec::new();
        if let Ok(message) = ClientMessage::decode(frame) {
            message.encode(GroupId(0), &mut again);
            assert_eq!(again, bytes);
        }
        if let Ok(message) = ServerMessage::decode(frame) {
            again.clear();
            message.encode(GroupId(0), &mut again);
            assert_eq!(again, bytes);
        }
    }
}

#[test]
fn unknown_and_reserved_kinds_are_named() {
    for (kind, name) in [(0x58, "reserved for clients"), (0xff, "unknown"), (kind::APPEND, "append")] {
        let bytes = raw_frame(kind, b"", b"");
        let frame = split_frame(&bytes).unwrap().unwrap().0;
        let error = ClientMessage::decode(frame).unwrap_err();
        assert!(matches!(error, ProtocolError::UnexpectedKind { kind: found, .. } if found == kind));
        assert!(error.to_string().contains(name), "{error}");
        assert!(ServerMessage::decode(frame).is_err());
    }
}

#[test]
fn a_hello_of_something_else_is_told_apart_by_its_magic() {
    let bytes = raw_frame(kind::CLIENT_HELLO, b"GET / HTTP/1.1\r\n", b"");
    let error = ClientMessage::decode(split_frame(&bytes).unwrap().unwrap().0).unwrap_err();
    assert!(matches!(error, ProtocolError::BadMagic { .. }), "{error:?}");
}

#[test]
fn pitfall_50_counts_are_bounded_before_anything_is_reserved() {
    let mut fixed = vec![1];
    fixed.put_u16(ACK_RUNS_MAX as u16 + 1);
    let bytes = raw_frame(kind::PUBLISH_ACK, &fixed, b"");
    let error = ServerMessage::decode(split_frame(&bytes).unwrap().unwrap().0).unwrap_err();
    assert!(matches!(error, ProtocolError::BadField { field: "runs", .. }), "{error:?}");

    for count in [0, PUBLISH_EVENTS_MAX as u16 + 1, u16::MAX] {
        let mut fixed = vec![0; 12];
        fixed.put_u16(count);
        let bytes = raw_frame(kind::PUBLISH, &fixed, b"");
        let error = ClientMessage::decode(split_frame(&bytes).unwrap().unwrap().0).unwrap_err();
        assert!(matches!(error, ProtocolError::BadField { field: "event_count", .. }), "{count}: {error:?}");
    }
}

#[test]
fn an_acknowledged_run_has_an_offset_exactly_when_it_is_known() {
    for (kind, offset) in [(AckKind::Written, 0), (AckKind::DuplicateOffsetUnknown, 4)] {
        let run = AckRun {
            producer_id: ProducerId(1),
            first_sequence: Sequence(1),
            first_offset: Offset(offset),
            count: 1,
            kind,
        };
        let runs = [run];
        let ack = PublishAck { durability: Durability::Disk, runs: List::from_slice(&runs) };
        let mut bytes = Vec::new();
        ServerMessage::PublishAck(ack).encode(GroupId(0), &mut bytes);
        assert!(ServerMessage::decode(split_frame(&bytes).unwrap().unwrap().0).is_err(), "{kind:?}");
    }
}

fn events(count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for sequence in 1..=count {
        let parts = EventParts {
            sequence: Sequence(sequence),
            timestamp_unix_ns: 0,
            priority: 0,
            topic: "quakes",
            attributes: &[],
            body: b"body",
        };
        encode_event(&mut bytes, &parts).unwrap();
    }
    bytes
}

#[test]
fn a_publish_frame_holds_exactly_its_events() {
    let bytes = events(3);
    let publish =
        |event_count, bytes| Publish { producer_id: ProducerId(1), epoch: Epoch(1), event_count, bytes };
    let sequences: Vec<u64> = publish(3, &bytes).events().map(|event| event.unwrap().sequence.0).collect();
    assert_eq!(sequences, [1, 2, 3]);
    let errors = |event_count, bytes| publish(event_count, bytes).events().filter_map(Result::err).last();
    assert!(errors(3, &bytes).is_none());
    assert!(matches!(errors(2, &bytes), Some(EventsError::Surplus { .. })));
    assert!(matches!(errors(4, &bytes), Some(EventsError::Event(_))));
    for end in 0..bytes.len() {
        assert!(errors(3, &bytes[..end]).is_some(), "{end}");
    }
    let mut slotted = bytes.clone();
    slotted[24] = 1;
    assert!(matches!(errors(3, &slotted), Some(EventsError::ProducerSlot)));
}

fn noop(index: u64) -> Entry {
    let context = SealContext {
        term: Term(1),
        index: LogIndex(index),
        prev_chain: 0,
        base_offset: Offset(1),
        log_time_ns: 0,
        timestamp_unix_ns: 0,
    };
    encode_noop(&context)
}

#[test]
fn an_entries_frame_can_be_sent_from_shared_buffers_and_is_verified_by_the_client() {
    let (first, second) = (noop(1), noop(2));
    let tail = [first.bytes(), second.bytes()].concat();
    let entries = Entries {
        subscription: 9,
        commit_index: LogIndex(2),
        last_offset: Offset::ZERO,
        entry_count: 2,
        bytes: &tail,
    };
    let mut whole = Vec::new();
    ServerMessage::Entries(entries).encode(GroupId(0), &mut whole);
    let mut head = Vec::new();
    Entries { bytes: &[], ..entries }.encode_header_for(tail.len(), GroupId(0), &mut head);
    assert_eq!([&head[..], &tail].concat(), whole);

    let ids: Vec<_> = entries.iter().map(|entry| entry.unwrap().header().index.0).collect();
    assert_eq!(ids, [1, 2]);
    let mut damaged = tail.clone();
    damaged[40] ^= 1;
    let read: Vec<_> = Entries { bytes: &damaged, ..entries }.iter().collect();
    assert!(matches!(read[..], [Err(EntriesError::Entry(_))]));
    let read: Vec<_> = Entries { entry_count: 1, ..entries }.iter().collect();
    assert!(matches!(read[..], [Ok(_), Err(EntriesError::Surplus { .. })]));
    let read: Vec<_> = Entries { entry_count: 3, ..entries }.iter().collect();
    assert!(matches!(
        read[..],
        [Ok(_), Ok(_), Err(EntriesError::Entry(entry::EntryError::Truncated { .. }))]
    ));
}

#[test]
fn purposes_keep_messages_apart() {
    let ping = ClientMessage::Ping { request_id: 1 };
    let open = ClientMessage::OpenProducer { request_id: 1, name: "p" };
    let credit = ClientMessage::SubscribeCredit { subscription: 1, bytes: 1 };
    let allowed = |message: &ClientMessage<'_>| {
        [Purpose::Publisher, Purpose::Subscriber, Purpose::Control].map(|purpose| message.allowed_on(purpose))
    };
    assert_eq!(allowed(&ping), [true, true, true]);
    assert_eq!(allowed(&open), [true, false, false]);
    assert_eq!(allowed(&credit), [false, true, false]);
    let transfer = ClientMessage::TransferLeadership { request_id: 1, to: NodeId(2) };
    assert_eq!(allowed(&transfer), [false, false, true]);
    assert_eq!(allowed(&ClientMessage::ListMembers { request_id: 1 }), [false, false, true]);
    let change = MemberChange { kind: ChangeKind::Promote, node: NodeId(2), incarnation: Incarnation(0) };
    assert_eq!(allowed(&ClientMessage::ChangeMember { request_id: 1, change }), [false, false, true]);
}
