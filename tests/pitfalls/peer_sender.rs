//! The peer sender before a peer that takes nothing: over the operating system's network, where its bytes vanish, and
//! over a pipe whose other end the test holds.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use tercet::agent::Agent;
use tercet::agent::commands::{LinkClosed, LinkState, NewPeer, PeerIdentity, SenderCommand};
use tercet::agent::peer_sender::PeerSender;
use tercet::agent::ring::WakeHandle;
use tercet::agent::rings::{NodeRings, make_rings};
use tercet::base::ids::{GroupId, Incarnation, LogIndex, Term};
use tercet::base::net::Net;
use tercet::metrics::Counters;
use tercet::net::{MioNet, MioStream};
use tercet::sim::disk::SimFile;

use crate::bench::{batch_after, first_entry, id, n};
use crate::pipe::{PipeNet, PipeStream, pipe};

const LIMIT: Duration = Duration::from_secs(60);
const PEER: PeerIdentity = PeerIdentity { incarnation: Incarnation(7), configuration_index: LogIndex(1) };

#[test]
fn pitfall_49_a_peer_that_takes_no_bytes_is_dropped_in_bounded_time_and_can_be_dialled_again() {
    // It accepts by its backlog and never reads: as when everything on the way to it vanishes, no byte is taken.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut poll = Poll::new().unwrap();
    let registry = |poll: &Poll| poll.registry().try_clone().unwrap();
    let counters = Counters::new();
    let mut rings: NodeRings<MioStream, SimFile> = make_rings(&[n(2)], |_| WakeHandle::none(), &counters);
    let ends = rings.senders.remove(0);
    let mut sender = PeerSender::new(MioNet::new(registry(&poll), 0), GroupId(0), ends, &counters);
    let stream = MioNet::new(registry(&poll), 1).connect(listener.local_addr().unwrap()).unwrap();
    assert!(
        rings.conductor.to_senders[0]
            .1
            .push(NewPeer { stream, leftover: Vec::new(), identity: PEER })
            .is_ok()
    );

    let entry = batch_after(&first_entry(), 2, 1, 100_000);
    let peer = &mut rings.batcher.peers[0];
    let deadline = Instant::now() + LIMIT;
    let mut events = Events::with_capacity(16);
    let mut states = Vec::new();
    while states.last() != Some(&LinkState { connected: None }) {
        assert!(Instant::now() < deadline, "the stream still stands: {states:?}");
        // More than any socket buffers; what the ring does not take the batcher would keep.
        let command = SenderCommand::Append {
            term: Term(2),
            prev: id(0, 1),
            commit: LogIndex(1),
            wants_reply: false,
            entries: vec![entry.clone()],
        };
        let _ = peer.to_sender.push(command);
        poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
        let readiness: Vec<_> = events.iter().map(|event| MioNet::readiness(event).1).collect();
        sender.do_work(0, &readiness);
        states.extend(std::iter::from_fn(|| peer.from_sender.pop()));
    }
    assert_eq!(states[0], LinkState { connected: Some(PEER) });
    sender.do_work(0, &[]);
    let told = rings.conductor.from_links.iter_mut().find_map(|link| link.pop());
    assert_eq!(told, Some(LinkClosed::Outbound(n(2))), "the conductor dials again");
}

/// Rule 4: while the peer takes nothing, commands stay in the ring, which is bounded; the sender takes in no more of
/// them than its outbox may hold.
#[test]
fn what_waits_for_a_peer_that_takes_nothing_is_bounded_in_bytes_and_arrives_when_it_does() {
    const BODY_BYTES: usize = 100_000;
    // Of the sender's outbox; the last frame may go beyond it.
    const OUTBOX_BYTES: usize = 1 << 20;
    let counters = Counters::new();
    let mut rings: NodeRings<PipeStream, SimFile> = make_rings(&[n(2)], |_| WakeHandle::none(), &counters);
    let mut sender = PeerSender::new(PipeNet, GroupId(0), rings.senders.remove(0), &counters);
    let (stream, end) = pipe(0);
    let new = NewPeer { stream, leftover: Vec::new(), identity: PEER };
    assert!(rings.conductor.to_senders[0].1.push(new).is_ok());
    sender.do_work(0, &[]);

    let entry = batch_after(&first_entry(), 2, 1, BODY_BYTES);
    let peer = &mut rings.batcher.peers[0];
    let mut pushed = 0;
    // More than the ring and any bounded outbox hold: in the end nothing more is taken.
    for _ in 0..10_000 {
        let command = SenderCommand::Append {
            term: Term(2),
            prev: id(0, 1),
            commit: LogIndex(1),
            wants_reply: false,
            entries: vec![entry.clone()],
        };
        pushed += usize::from(peer.to_sender.push(command).is_ok());
        sender.do_work(0, &[]);
    }
    assert!(pushed < 10_000, "the ring is full, and its producer hears of it");
    let (_, taken) =
        counters.snapshot().into_iter().find(|(name, _)| name == "peer_sender_frames_sent.2").unwrap();
    assert!(taken as usize <= OUTBOX_BYTES / BODY_BYTES + 1, "{taken} frames wait for a socket");
    assert_eq!(end.take(), []);

    let mut arrived = 0;
    for _ in 0..10_000 {
        let readiness = end.make_room(BODY_BYTES);
        sender.do_work(0, &[readiness]);
        arrived += end.take().len();
    }
    assert!(arrived >= pushed * BODY_BYTES, "{arrived} bytes of {pushed} frames");
}
