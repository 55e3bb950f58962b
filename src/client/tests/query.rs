//! Status and commit queries.

use std::time::{Duration, Instant};

use super::fake::{Cluster, babbler, dead_address};
use crate::base::ids::{LogIndex, NodeId, Offset};
use crate::client::{ClientError, CommitPosition, NodeRole, query_commit, query_status, query_status_all};

const SHORT: Duration = Duration::from_secs(1);

#[test]
fn every_node_that_answers_has_a_status_and_the_others_an_error() {
    let cluster = Cluster::start(2);
    let servers = [cluster.addresses[1], dead_address(), cluster.addresses[0], babbler(vec![1; 40])];
    let begun = Instant::now();
    let answers = query_status_all(&servers, SHORT * 10).unwrap();
    assert!(begun.elapsed() < SHORT * 5, "nobody is waited for who has refused");
    assert_eq!(answers.iter().map(|(server, _)| *server).collect::<Vec<_>>(), servers);
    let follower = answers[0].1.as_ref().unwrap();
    assert_eq!(
        (follower.node_id, follower.role, follower.version.as_str()),
        (NodeId(2), NodeRole::Follower, "test")
    );
    assert_eq!(follower.counters, [("batches".to_owned(), 3)]);
    assert_eq!(answers[2].1.as_ref().unwrap().role, NodeRole::Leader);
    for place in [1, 3] {
        let error = answers[place].1.as_ref().unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }) && error.exit_code() == 3, "{error}");
    }
}

#[test]
fn a_node_that_keeps_silent_is_no_answer_in_time() {
    let cluster = Cluster::start(1);
    cluster.state().frozen = vec![1];
    let begun = Instant::now();
    let error = query_status(cluster.addresses[0], SHORT).unwrap_err();
    assert!(begun.elapsed() < SHORT * 3);
    assert_eq!(error.exit_code(), 3, "{error}");
}

#[test]
fn the_leaders_word_is_found_from_one_follower_alone() {
    let cluster = Cluster::start(3);
    cluster.state().claimed = Some((0, None));
    cluster.state().log = vec![(1, Vec::new()); 5];
    // No hello says who leads: a follower's answer does.
    let expected = CommitPosition { commit_index: LogIndex(42), last_offset: Offset(5), from_leader: true };
    cluster.state().claimed = Some((1, Some(3)));
    cluster.state().leader = Some(2);
    assert_eq!(query_commit(&[cluster.addresses[2]], true, SHORT * 10), Ok(expected));
    let any = query_commit(&[cluster.addresses[2]], false, SHORT * 10).unwrap();
    assert!(!any.from_leader);
}

#[test]
fn an_election_is_waited_out_and_no_leader_is_an_error_in_time() {
    let cluster = Cluster::start(3);
    cluster.state().leader = None;
    let error = query_commit(&cluster.addresses, true, SHORT).unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }) && error.exit_code() == 3, "{error}");
    let error = query_commit(&[dead_address()], true, SHORT).unwrap_err();
    assert!(matches!(error, ClientError::NoNodeReachable { .. }) && error.exit_code() == 3, "{error}");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            cluster.elect(2, Some(0));
        });
        let answer = query_commit(&cluster.addresses, true, SHORT * 10).unwrap();
        assert!(answer.from_leader);
    });
}
