use proptest::prelude::{any, prop, proptest};

use super::{
    Agreed, FRAME_HEADER_BYTES, Fields, FrameError, FrameHeader, FrameRead, FrameWriter,
    HELLO_FRAME_BYTES_MAX, ProtocolError, ProtocolOffer, RefuseCode, TEXT_BYTES_MAX, kind, negotiate,
    put_text_clipped, read_frame, split_frame, split_frame_within,
};
use crate::base::bytes::ByteWriter;
use crate::base::ids::{COUNTER_MAX, GroupId};
use crate::base::limits::FRAME_BYTES_MAX;

/// A frame of kind `entries` with a fixed part and a tail.
fn frame(fixed: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = FrameWriter::begin(&mut out, kind::ENTRIES, GroupId(7));
    writer.put(fixed);
    writer.finish_before_tail(tail.len());
    out.put(tail);
    out
}

#[test]
fn a_frame_comes_back_in_its_parts() {
    let mut bytes = frame(b"fixed", b"tail part");
    let length = bytes.len();
    bytes.extend_from_slice(b"next");
    let (read, consumed) = split_frame(&bytes).unwrap().unwrap();
    assert_eq!((read.fixed(), read.tail(), consumed), (&b"fixed"[..], &b"tail part"[..], length));
    assert_eq!((read.header.kind, read.header.group, read.header.flags), (kind::ENTRIES, GroupId(7), 0));
    assert_eq!(FrameHeader::decode(&bytes), Ok(Some(read.header)));
}

#[test]
fn pitfall_51_every_truncation_needs_more_and_nothing_else() {
    let bytes = frame(b"fixed", b"tail part");
    for end in 0..bytes.len() {
        assert_eq!(split_frame(&bytes[..end]), Ok(None), "{end}");
        let header = FrameHeader::decode(&bytes[..end]).unwrap();
        assert_eq!(header.is_some(), end >= FRAME_HEADER_BYTES, "{end}");
        let needs = if end < FRAME_HEADER_BYTES { FRAME_HEADER_BYTES } else { bytes.len() };
        assert_eq!(
            read_frame(&bytes[..end], FRAME_BYTES_MAX),
            Ok(FrameRead::Needs { bytes: needs }),
            "{end}"
        );
    }
}

#[test]
fn pitfall_50_a_declared_length_of_4_gib_is_refused_from_its_four_bytes_alone() {
    let too_long = |length_bytes, limit_bytes| Err(FrameError::TooLong { length_bytes, limit_bytes });
    assert_eq!(split_frame(&[0xff; 4]), too_long(u32::MAX, FRAME_BYTES_MAX));
    let over = FRAME_BYTES_MAX as u32 + 1;
    assert_eq!(split_frame(&over.to_le_bytes()), too_long(over, FRAME_BYTES_MAX));
    assert_eq!(split_frame(&(over - 1).to_le_bytes()), Ok(None));
    let hello = HELLO_FRAME_BYTES_MAX as u32 + 1;
    let refused = split_frame_within(&hello.to_le_bytes(), HELLO_FRAME_BYTES_MAX).map(|read| read.is_some());
    assert_eq!(refused, Err(FrameError::TooLong { length_bytes: hello, limit_bytes: HELLO_FRAME_BYTES_MAX }));
    for length_bytes in 0..FRAME_HEADER_BYTES as u32 {
        assert_eq!(split_frame(&length_bytes.to_le_bytes()), Err(FrameError::TooShort { length_bytes }));
    }
}

#[test]
fn flags_and_fixed_lengths_out_of_bounds_are_refused() {
    let mut bytes = frame(b"fixed", b"tail");
    bytes[5] = 1;
    assert_eq!(split_frame(&bytes), Err(FrameError::UnknownFlags { kind: kind::ENTRIES, flags: 1 }));
    let mut bytes = frame(b"fixed", b"tail");
    bytes[8] = 10;
    let past = FrameError::FixedPastEnd { kind: kind::ENTRIES, fixed_bytes: 10, length_bytes: 25 };
    assert_eq!(split_frame(&bytes), Err(past));
}

#[test]
fn pitfall_51_a_flipped_bit_in_header_or_fixed_part_is_detected() {
    let whole = frame(b"the fixed part", b"tail");
    for bit in 0..(FRAME_HEADER_BYTES + 14) * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A length that grew waits for bytes that never come; everything else is an error at once.
        match split_frame(&bytes) {
            Err(_) => {}
            Ok(None) => assert!(bit < 32, "bit {bit}"),
            Ok(Some(_)) => panic!("bit {bit} went unnoticed"),
        }
        bytes.resize(FRAME_BYTES_MAX, 0);
        assert!(split_frame(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn an_unfinished_frame_is_refused() {
    let mut out = Vec::new();
    let _ = FrameWriter::begin(&mut out, kind::PING, GroupId(0));
    assert_eq!(split_frame(&out), Err(FrameError::TooShort { length_bytes: 0 }));
}

#[test]
#[should_panic(expected = "over the limit")]
fn nothing_encodes_a_frame_over_the_limit() {
    let mut out = Vec::new();
    FrameWriter::begin(&mut out, kind::ENTRIES, GroupId(0)).finish_before_tail(FRAME_BYTES_MAX - 15);
}

#[test]
fn fields_are_checked_one_by_one() {
    let mut fixed = Vec::new();
    fixed.put_u64(COUNTER_MAX);
    fixed.put_u64(COUNTER_MAX + 1);
    fixed.put_u8(2);
    fixed.put_u16(3);
    fixed.put(b"\xff\xfe\xfd");
    fixed.put_u16(9);
    let bytes = frame(&fixed, b"");
    let (read, _) = split_frame(&bytes).unwrap().unwrap();
    let mut f = Fields::of(&read).unwrap();
    let bad = |field, value| ProtocolError::BadField { kind: kind::ENTRIES, field, value };
    assert_eq!(f.counter("a"), Ok(COUNTER_MAX));
    assert_eq!(f.counter("b"), Err(bad("b", COUNTER_MAX + 1)));
    assert_eq!(f.bool("c"), Err(bad("c", 2)));
    assert_eq!(f.clone().text("d", 3), Err(bad("d", 3)), "not UTF-8");
    assert_eq!(f.clone().text("d", 2), Err(bad("d", 3)), "longer than its limit");
    assert_eq!(f.take("d", 5).map(<[u8]>::len), Ok(5));
    assert_eq!(f.clone().finish(), Err(ProtocolError::Surplus { kind: kind::ENTRIES, left: 2 }));
    assert_eq!(f.text("e", 10), Err(ProtocolError::Short { kind: kind::ENTRIES, field: "e" }));

    let bytes = frame(b"", b"tail");
    let (read, _) = split_frame(&bytes).unwrap().unwrap();
    let surplus = ProtocolError::Surplus { kind: kind::ENTRIES, left: 4 };
    assert_eq!(Fields::of(&read).map(|_| ()), Err(surplus), "a tail where none belongs");
}

#[test]
fn texts_for_people_are_shortened_between_characters() {
    let mut out = Vec::new();
    put_text_clipped(&mut out, &"ä".repeat(200), TEXT_BYTES_MAX - 1);
    assert_eq!(out.len(), 2 + 198);
    assert_eq!(out[..2], [198, 0]);
}

#[test]
fn negotiation_takes_the_newest_common_protocol_and_the_common_features() {
    let offer = |protocol_min, protocol_max, features| ProtocolOffer { protocol_min, protocol_max, features };
    let agreed = |protocol, features| Some(Agreed { protocol, features });
    assert_eq!(negotiate(offer(1, 3, 0b110), offer(2, 5, 0b011)), agreed(3, 0b010));
    assert_eq!(negotiate(offer(2, 5, 0b011), offer(1, 3, 0b110)), agreed(3, 0b010));
    assert_eq!(negotiate(offer(1, 1, 0), offer(1, 1, u64::MAX)), agreed(1, 0));
    assert_eq!(negotiate(offer(1, 2, 0), offer(3, 4, 0)), None);
    assert_eq!(negotiate(offer(3, 4, 0), offer(1, 2, 0)), None);
}

#[test]
fn codes_are_their_own_inverse() {
    let codes: Vec<u8> = (0..=255).filter(|code| RefuseCode::from_code(*code).is_some()).collect();
    assert_eq!(codes, (1..=12).collect::<Vec<u8>>());
    assert!(codes.iter().all(|code| RefuseCode::from_code(*code).map(RefuseCode::code) == Some(*code)));
}

proptest! {
    #[test]
    fn pitfall_51_arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = split_frame(&bytes);
        let _ = FrameHeader::decode(&bytes);
    }

    #[test]
    fn every_frame_round_trips(
        fixed in prop::collection::vec(any::<u8>(), 0..300),
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = frame(&fixed, &tail);
        let (read, consumed) = split_frame(&bytes).unwrap().unwrap();
        assert_eq!((read.fixed(), read.tail(), consumed), (&fixed[..], &tail[..], bytes.len()));
    }
}
