//! Pauses between dials, and patience with silence, as deadlines: nothing here waits for them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use super::link::{Stage, Watch};
use super::{Flow, Handler, LinkRef, Links, PAUSE_AWAITED_NS};
use crate::base::ids::NodeId;
use crate::client::{ClientError, ClientOptions};
use crate::protocol::client::{ClientHelloAccept, Purpose, ServerMessage};

struct Nobody;

impl Handler for Nobody {
    fn greeted(&mut self, _: &mut Links, _: LinkRef, _: &ClientHelloAccept<'_>) -> Result<(), ClientError> {
        Ok(())
    }

    fn message(&mut self, _: &mut Links, _: LinkRef, _: &ServerMessage<'_>) -> Result<Flow, ClientError> {
        Ok(Flow::Next)
    }
}

/// Links to addresses where nobody listens.
fn to_nowhere(count: usize) -> Links {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let servers: Vec<SocketAddr> = held.iter().map(|listener| listener.local_addr().unwrap()).collect();
    drop(held);
    let mut options = ClientOptions::new(servers);
    options.seed = Some(1);
    Links::new(&options, Purpose::Publisher, 1024, true).unwrap()
}

/// The pause that the next failure of this place brings.
fn pause_after_failure(links: &mut Links, slot: usize) -> u64 {
    let before_ns = links.now_ns();
    links.fail(slot, "test".to_owned());
    let Stage::Waiting { due_ns } = links.links[slot].stage else { panic!("it waits") };
    due_ns - before_ns
}

#[test]
fn a_node_that_is_needed_is_dialled_at_once_and_again_with_short_pauses() {
    let mut links = to_nowhere(2);
    (links.links[0].node, links.links[1].node) = (Some(NodeId(1)), Some(NodeId(2)));
    for _ in 0..12 {
        pause_after_failure(&mut links, 0);
        pause_after_failure(&mut links, 1);
    }
    assert!(pause_after_failure(&mut links, 0) > 5 * PAUSE_AWAITED_NS, "nobody needs it: it has long pauses");
    links.hurry(NodeId(1));
    assert_eq!(links.links[0].stage, Stage::Waiting { due_ns: 0 }, "due now");
    assert!(matches!(links.links[1].stage, Stage::Waiting { due_ns } if due_ns > 0), "only the one");
    // The slack is for a machine that is late between the two readings of the clock.
    let slack_ns = PAUSE_AWAITED_NS;
    assert!(pause_after_failure(&mut links, 0) <= PAUSE_AWAITED_NS + slack_ns);
    assert!(pause_after_failure(&mut links, 1) > 5 * PAUSE_AWAITED_NS);
}

#[test]
fn silence_ends_a_connection_only_after_one_more_look_at_the_socket() {
    let mut links = to_nowhere(1);
    let gone_silent = |links: &mut Links| {
        let link = &mut links.links[0];
        link.stage = Stage::Ready { since_ns: 0 };
        link.watch = Some(Watch { since_ns: 0, limit_ns: 2 });
        (link.heard_ns, link.pinged_ns) = (0, Some(1));
    };
    gone_silent(&mut links);
    links.expire();
    assert!(links.links[0].is_ready(), "it may be this process that was late");
    assert_eq!(links.until_deadline(links.now_ns()), Duration::ZERO, "the look comes at once");
    // Something was there: nobody is blamed, and the next silence has its own last look.
    let now_ns = links.now_ns();
    links.links[0].heard(now_ns);
    gone_silent(&mut links);
    links.expire();
    assert!(links.links[0].is_ready());
    // Nothing was there.
    links.expire();
    assert!(!links.links[0].is_ready());
    assert_eq!(links.failure_at(0), Some("the node is silent"));
}

#[test]
fn a_place_is_known_by_the_name_that_others_give_it() {
    let mut links = to_nowhere(2);
    let address = links.links[1].address;
    links.links[0].stage = Stage::Ready { since_ns: 0 };
    let teller = LinkRef { slot: 0, generation: 0 };
    links.learn(teller, NodeId(2), &address.to_string());
    assert_eq!((links.links.len(), links.links[1].node), (2, Some(NodeId(2))));
    assert_eq!(links.of_node(NodeId(2)), None, "hearsay is no connection");
    links.links[0].stage = Stage::Waiting { due_ns: u64::MAX };
    links.turn(&mut Nobody, Duration::ZERO).unwrap();
    links.links[1].stage = Stage::Waiting { due_ns: u64::MAX };
    links.hurry(NodeId(2));
    assert_eq!(links.links[1].stage, Stage::Waiting { due_ns: 0 });
}
