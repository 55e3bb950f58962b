//! Moving leadership.

use std::time::Duration;

use super::fake::{Cluster, dead_address};
use crate::base::ids::{NodeId, Term};
use crate::client::{ClientError, Transferred, transfer_leadership};
use crate::protocol::client::TransferOutcome;

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(1);

#[test]
fn the_leader_is_found_from_a_follower_and_the_new_leader_confirms() {
    let cluster = Cluster::start(3);
    let moved = transfer_leadership(&[cluster.addresses[1]], NodeId(3), PATIENCE);
    assert_eq!(moved, Ok(Transferred { leader: NodeId(3), term: Term(2) }));
    assert_eq!(cluster.state().transfers, [(1, 3)], "the leader was asked, once");
    // It leads already: nothing is asked for.
    let moved = transfer_leadership(&cluster.addresses, NodeId(3), PATIENCE);
    assert_eq!(moved, Ok(Transferred { leader: NodeId(3), term: Term(2) }));
    assert_eq!(cluster.state().transfers.len(), 1);
}

#[test]
fn a_node_that_does_not_lead_any_more_is_left_for_the_one_that_does() {
    let cluster = Cluster::start(3);
    // Hellos say what was true a moment ago.
    cluster.state().claimed = Some((1, Some(1)));
    (cluster.state().leader, cluster.state().term) = (Some(2), 2);
    let moved = transfer_leadership(&cluster.addresses, NodeId(3), PATIENCE);
    assert_eq!(moved, Ok(Transferred { leader: NodeId(3), term: Term(3) }));
    assert_eq!(cluster.state().transfers, [(1, 3), (2, 3)]);
}

#[test]
fn an_election_is_waited_out() {
    let cluster = Cluster::start(3);
    cluster.state().leader = None;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            cluster.elect(2, Some(0));
        });
        let moved = transfer_leadership(&cluster.addresses, NodeId(3), PATIENCE);
        assert_eq!(moved, Ok(Transferred { leader: NodeId(3), term: Term(3) }));
    });
}

#[test]
fn refusals_are_told_apart_and_end_it() {
    let cluster = Cluster::start(3);
    let node = NodeId(2);
    for (outcome, expected) in [
        (TransferOutcome::NotAVoter, ClientError::NotAVoter { node }),
        (TransferOutcome::TimedOut, ClientError::TransferTimedOut { node }),
        (TransferOutcome::InProgress, ClientError::TransferInProgress),
    ] {
        cluster.state().transfer = Some(outcome);
        let error = transfer_leadership(&cluster.addresses, node, PATIENCE).unwrap_err();
        assert_eq!((error.exit_code(), &error), (1, &expected), "{error}");
    }
    assert_eq!(cluster.state().transfers.len(), 3);
}

#[test]
fn a_leader_that_says_done_is_not_believed_without_a_confirmation() {
    let cluster = Cluster::start(3);
    cluster.state().transfer = Some(TransferOutcome::Done);
    let error = transfer_leadership(&cluster.addresses, NodeId(2), SHORT).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert_eq!(cluster.state().leader, Some(1));
}

#[test]
fn without_a_leader_or_a_node_it_gives_up_in_time() {
    let error = transfer_leadership(&[dead_address()], NodeId(2), SHORT).unwrap_err();
    assert!(matches!(error, ClientError::NoNodeReachable { .. }) && error.exit_code() == 3, "{error}");
    let cluster = Cluster::start(3);
    cluster.state().leader = None;
    let error = transfer_leadership(&cluster.addresses, NodeId(2), SHORT).unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }) && error.exit_code() == 3, "{error}");
    // A leader that has the request and says nothing; the others are well.
    (cluster.state().leader, cluster.state().frozen) = (Some(1), vec![1]);
    let error = transfer_leadership(&cluster.addresses, NodeId(2), SHORT).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
}
