//! The ack receiver over the operating system's network: how the end of a peer's stream is noticed.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use tercet::agent::Agent;
use tercet::agent::ack_receiver::AckReceiver;
use tercet::agent::commands::{LinkClosed, NewPeer, PeerIdentity};
use tercet::agent::ring::WakeHandle;
use tercet::agent::rings::{NodeRings, make_rings};
use tercet::base::ids::{GroupId, Incarnation, LogIndex, Term};
use tercet::base::net::Net;
use tercet::metrics::Counters;
use tercet::net::{MioNet, MioStream};
use tercet::protocol::peer::encode_message;
use tercet::raft::Message;
use tercet::sim::disk::SimFile;

use crate::bench::n;

const LIMIT: Duration = Duration::from_secs(60);
const PEER: PeerIdentity = PeerIdentity { incarnation: Incarnation(7), configuration_index: LogIndex(1) };

/// A killed leader's last words and the end of its stream may be one event of an edge-triggered poll. Both must be
/// noticed, or the leader's followers wait for the election timer; and the words come first, however many they are.
#[test]
fn last_words_and_the_end_of_the_stream_that_come_in_one_event_are_both_noticed() {
    for words in [1, 200] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut poll = Poll::new().unwrap();
        let registry = |poll: &Poll| poll.registry().try_clone().unwrap();
        let counters = Counters::new();
        let mut rings: NodeRings<MioStream, SimFile> = make_rings(&[n(2)], |_| WakeHandle::none(), &counters);
        let ends = rings.receivers.remove(0);
        let mut receiver = AckReceiver::new(MioNet::new(registry(&poll), 0), ends, &counters);
        let stream = MioNet::new(registry(&poll), 1).connect(listener.local_addr().unwrap()).unwrap();
        let mut peer = listener.accept().unwrap().0;
        assert!(
            rings.conductor.to_receivers[0]
                .1
                .push(NewPeer { stream, leftover: Vec::new(), identity: PEER })
                .is_ok()
        );

        let mut events = Events::with_capacity(16);
        let deadline = Instant::now() + LIMIT;
        let mut turn = |poll: &mut Poll| {
            assert!(Instant::now() < deadline, "the end went unnoticed");
            poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
            let readiness: Vec<_> = events.iter().map(|event| MioNet::readiness(event).1).collect();
            let mut work = receiver.do_work(0, &readiness);
            while work > 0 {
                work = receiver.do_work(0, &[]);
            }
            readiness
        };
        // The stream is known, and known to be empty.
        while !turn(&mut poll).is_empty() {}

        let mut bytes = Vec::new();
        for round in 1..=words {
            let beat = Message::Heartbeat { term: Term(1), commit: LogIndex(0), round };
            encode_message(GroupId(0), &beat, &mut bytes);
        }
        peer.write_all(&bytes).unwrap();
        drop(peer);
        // Long enough for both to have arrived on any machine that is not stopped; if they have not, they come as two
        // events, which must be noticed as well.
        std::thread::sleep(Duration::from_millis(50));
        let mut heard = 0;
        let told = loop {
            turn(&mut poll);
            heard += std::iter::from_fn(|| rings.batcher.peers[0].from_receiver.pop()).count() as u64;
            if let Some(told) = rings.conductor.from_links.iter_mut().find_map(|link| link.pop()) {
                break told;
            }
        };
        assert_eq!(told, LinkClosed::Inbound(n(2)));
        assert_eq!(heard, words, "the last words were heard");
    }
}
