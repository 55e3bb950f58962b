//! What comes over sockets: frames, and the messages of both ports.

use std::io::{self, Read};

use tercet::base::bytes::ByteWriter;
use tercet::base::limits::FRAME_BYTES_MAX;
use tercet::base::prng::Prng;
use tercet::entry::EventParts;
use tercet::net::{InBuffer, ReadUntil};
use tercet::protocol::client::{ClientMessage, Entries, Publish, ServerMessage};
use tercet::protocol::frame::{
    FRAME_HEADER_BYTES, Frame, FrameError, FrameRead, FrameWriter, HELLO_FRAME_BYTES_MAX, read_frame,
    split_frame,
};
use tercet::protocol::peer::{
    PeerFrame, decode_peer_frame, encode_append_header, encode_checkpoint_header, encode_mend_header,
    encode_message,
};
use tercet::raft::Message;

use crate::alloc::within;
use crate::checksums::{self, FORMS, long};
use crate::stored::encode_again;

/// Most memory that a node's message may take: the members of a hello's reply, or 512 counters and seven peers.
const SERVER_MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Where a stream of frames ended.
type End = Option<FrameError>;
/// Start, length and kind of each frame.
type Found = Vec<(usize, usize, u8)>;

/// The frames of a stream that is there whole. Reading frames allocates nothing.
fn walk(bytes: &[u8], limit_bytes: usize) -> (Found, End) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        match within("the frame codec", 0, || read_frame(&bytes[at..], limit_bytes)) {
            Ok(FrameRead::Whole { frame, consumed_bytes }) => {
                assert_eq!(frame.header.length_bytes as usize, consumed_bytes);
                assert!(consumed_bytes <= limit_bytes);
                assert_eq!(write(&frame), bytes[at..at + consumed_bytes], "one frame has one encoding");
                found.push((at, consumed_bytes, frame.header.kind));
                at += consumed_bytes;
            }
            Ok(FrameRead::Needs { bytes: needed }) => {
                assert!(needed > bytes.len() - at && needed <= limit_bytes.max(FRAME_HEADER_BYTES));
                return (found, None);
            }
            Err(error) => return (found, Some(error)),
        }
    }
}

fn write(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = FrameWriter::begin(&mut out, frame.header.kind, frame.header.group);
    writer.put(frame.fixed());
    writer.finish_before_tail(frame.tail().len());
    out.extend_from_slice(frame.tail());
    out
}

/// A stream of frames, with both limits.
pub fn frames(bytes: &[u8]) {
    let mut summed = bytes.to_vec();
    checksums::stream(&mut summed);
    for stream in [bytes, &summed] {
        walk(stream, FRAME_BYTES_MAX);
        walk(stream, HELLO_FRAME_BYTES_MAX);
    }
}

/// A socket that hands a stream out in pieces of its own choice.
struct Pieces<'a> {
    left: &'a [u8],
    prng: Prng,
    piece_max: u64,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.prng.below(16) {
            0 => return Err(io::ErrorKind::WouldBlock.into()),
            1 => return Err(io::ErrorKind::Interrupted.into()),
            _ => {}
        }
        let count = (self.prng.between(1, self.piece_max) as usize).min(into.len()).min(self.left.len());
        let (now, later) = self.left.split_at(count);
        into[..count].copy_from_slice(now);
        self.left = later;
        Ok(count)
    }
}

/// However a stream is cut into reads, the same frames come out and the same error ends it. The first 16 bytes of the
/// input choose the cuts.
pub fn connection(bytes: &[u8]) {
    let Some((choice, stream)) = bytes.split_at_checked(16) else { return };
    let mut summed = stream.to_vec();
    checksums::stream(&mut summed);
    for stream in [stream, &summed] {
        let pieces = Pieces {
            left: stream,
            prng: Prng::new(long(choice, 0)),
            piece_max: [1, 7, 64, 5000][usize::from(choice[8] % 4)],
        };
        let usual_bytes = [16, 64, 4096][usize::from(choice[9] % 3)];
        let until = if choice[10] % 2 == 0 { ReadUntil::WouldBlock } else { ReadUntil::ShortRead };
        let budget = [1, 100, 64 << 10][usize::from(choice[11] % 3)];
        // While a buffer grows, the old one is still there.
        let (found, end) = within("a receive buffer", 2 * FRAME_BYTES_MAX + (64 << 10), || {
            receive(pieces, usual_bytes, budget, until)
        });
        assert_eq!(
            (found, end),
            walk(stream, FRAME_BYTES_MAX),
            "cut into other pieces, it is another stream"
        );
    }
}

/// What a connection does with its socket.
fn receive(mut pieces: Pieces<'_>, usual_bytes: usize, budget: usize, until: ReadUntil) -> (Found, End) {
    let mut inbox = InBuffer::new(usual_bytes, FRAME_BYTES_MAX);
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let outcome = inbox.read_from(&mut pieces, budget, until).unwrap();
        loop {
            match read_frame(inbox.unread(), FRAME_BYTES_MAX) {
                Ok(FrameRead::Whole { frame, consumed_bytes }) => {
                    found.push((at, consumed_bytes, frame.header.kind));
                    at += consumed_bytes;
                    inbox.consume(consumed_bytes);
                }
                Ok(FrameRead::Needs { bytes }) => {
                    inbox.reserve(bytes).unwrap();
                    break;
                }
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(inbox.capacity_bytes() <= FRAME_BYTES_MAX.max(usual_bytes));
        if outcome.closed && pieces.left.is_empty() {
            return (found, None);
        }
    }
}

/// Gives `judge` the frame that the bytes are, in each form.
fn each_frame(bytes: &[u8], judge: impl Fn(Frame<'_>, &[u8])) {
    for form in FORMS {
        let mut bytes = bytes.to_vec();
        checksums::frame(&mut bytes, form);
        if let Ok(Some((frame, consumed))) = split_frame(&bytes) {
            judge(frame, &bytes[..consumed]);
        }
    }
}

/// A frame of the peer port.
pub fn peer_message(bytes: &[u8]) {
    each_frame(bytes, |frame, bytes| {
        // An entry of 96 bytes is kept with its decoded header and its place in two lists.
        let memory = 4 * frame.tail().len() + 1024;
        let decoded = within("a peer's frame", memory, || decode_peer_frame(frame));
        if let Ok(read) = decoded {
            assert_eq!(encode_peer(&read, &frame), bytes, "{read:?} has one encoding");
        }
    });
}

fn encode_peer(read: &PeerFrame<'_>, frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let tail = |entries: &[tercet::entry::Entry]| -> Vec<u8> {
        entries.iter().flat_map(|entry| entry.bytes().to_vec()).collect()
    };
    match read {
        PeerFrame::Hello(hello) => hello.encode(&mut out),
        PeerFrame::HelloReply(reply) => reply.encode(frame.header.group, &mut out),
        PeerFrame::Raft { group, message, entries } => {
            let bytes = tail(entries);
            let sizes = (entries.len(), bytes.len());
            if let Message::Append { term, prev, commit, wants_reply, entries: terms } = message {
                assert!(terms.iter().eq(entries.iter().map(|entry| entry.term()).collect::<Vec<_>>().iter()));
                encode_append_header(*group, *term, *prev, *commit, *wants_reply, sizes, &mut out);
            } else {
                encode_message(*group, message, &mut out);
            }
            out.extend(bytes);
        }
        PeerFrame::Checkpoint { group, chunk, bytes } => {
            encode_checkpoint_header(*group, chunk, bytes.len(), &mut out);
            out.extend_from_slice(bytes);
        }
        PeerFrame::Mend { group, message, entries } => {
            let bytes = tail(entries);
            encode_mend_header(*group, message, (entries.len(), bytes.len()), &mut out);
            out.extend(bytes);
        }
    }
    out
}

/// A frame from a client, events included. Nothing of it is copied.
pub fn client_message(bytes: &[u8]) {
    each_frame(bytes, |frame, bytes| {
        let Ok(message) = within("a client's frame", 0, || ClientMessage::decode(frame)) else { return };
        let mut again = Vec::new();
        message.encode(frame.header.group, &mut again);
        assert_eq!(again, bytes, "{message:?} has one encoding");
        if let ClientMessage::Publish(publish) = &message {
            events(publish);
        }
    });
}

fn events(publish: &Publish<'_>) {
    within("events", 0, || publish.events().for_each(drop));
    let mut again = Vec::new();
    let mut whole = 0;
    for event in publish.events() {
        let Ok(event) = event else { return };
        let attributes: Vec<_> = event.attributes.iter().collect();
        let parts = EventParts {
            sequence: event.sequence,
            timestamp_unix_ns: event.timestamp_unix_ns,
            priority: event.priority,
            topic: event.topic,
            attributes: &attributes,
            body: event.body,
        };
        tercet::entry::encode_event(&mut again, &parts).unwrap();
        whole += 1;
    }
    assert_eq!((whole, &again[..]), (publish.event_count, publish.bytes), "every byte belongs to an event");
}

/// A frame from a node to a client, entries included.
pub fn server_message(bytes: &[u8]) {
    each_frame(bytes, |frame, bytes| {
        let decoded = within("a node's frame", SERVER_MESSAGE_BYTES_MAX, || ServerMessage::decode(frame));
        let Ok(message) = decoded else { return };
        let mut again = Vec::new();
        message.encode(frame.header.group, &mut again);
        assert_eq!(again, bytes, "{message:?} has one encoding");
        if let ServerMessage::Entries(entries) = &message {
            entries_of(entries);
        }
    });
}

fn entries_of(entries: &Entries<'_>) {
    within("entries", 0, || entries.iter().for_each(drop));
    let (mut count, mut bytes) = (0, 0);
    for entry in entries.iter() {
        let Ok(view) = entry else { return };
        count += 1;
        bytes += view.bytes().len();
        encode_again(&view);
    }
    assert_eq!((count, bytes), (entries.entry_count, entries.bytes.len()));
}
