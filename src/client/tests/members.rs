//! Changing members.

use std::time::Duration;

use super::fake::{Cluster, dead_address};
use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::client::{ClientError, MemberClient, MemberStep};
use crate::protocol::client::{ChangeKind, ChangeOutcome, MemberChange};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(1);
const NODE: NodeId = NodeId(3);
const NEW: Incarnation = Incarnation(77);

const fn replace(incarnation: Incarnation) -> MemberChange {
    MemberChange { kind: ChangeKind::Replace, node: NODE, incarnation }
}

const PROMOTE: MemberChange =
    MemberChange { kind: ChangeKind::Promote, node: NODE, incarnation: Incarnation(0) };

fn client(cluster: &Cluster, patience: Duration) -> MemberClient {
    MemberClient::new(&cluster.addresses, patience).unwrap()
}

#[test]
fn the_disk_that_tries_to_get_in_is_let_in_and_then_promoted() {
    let cluster = Cluster::start(3);
    cluster.state().rows[2].newcomer = NEW;
    let mut steps = Vec::new();
    let members = client(&cluster, PATIENCE).replace(NODE, None, |step| steps.push(step)).unwrap();
    let member = members.member(NODE).unwrap();
    assert_eq!((member.is_voter, member.incarnation, member.newcomer), (true, Some(NEW), None));
    assert_eq!(cluster.state().changes, [(1, replace(NEW)), (1, PROMOTE)]);
    let catching_up = MemberStep::CatchingUp { missing: 0, is_connected: true };
    assert_eq!(steps, [MemberStep::LetIn(NEW), catching_up, MemberStep::Promoted]);
    // Again: nothing has shown up, and nothing is changed.
    let again = || client(&cluster, SHORT).replace(NODE, None, |_| ()).unwrap_err();
    let error = again();
    assert_eq!((error.exit_code(), error), (3, ClientError::DiskWorks { node: NODE }));
    cluster.state().rows[2].is_connected = false;
    let error = again();
    assert_eq!((error.exit_code(), error), (3, ClientError::NoNewDisk { node: NODE }));
    assert_eq!(cluster.state().changes.len(), 2);
}

#[test]
fn an_interrupted_replacement_goes_on_with_the_learner_that_is_there() {
    let cluster = Cluster::start(3);
    {
        let row = &mut cluster.state().rows[2];
        (row.is_voter, row.incarnation) = (false, NEW);
    }
    client(&cluster, PATIENCE).replace(NODE, None, |_| ()).unwrap();
    assert_eq!(cluster.state().changes, [(1, replace(NEW)), (1, PROMOTE)]);
}

#[test]
fn a_learner_whose_disk_is_gone_gives_way_to_the_one_that_knocks() {
    const GONE: Incarnation = Incarnation(55);
    let cluster = Cluster::start(3);
    {
        let row = &mut cluster.state().rows[2];
        (row.is_voter, row.incarnation) = (false, GONE);
        (row.is_connected, row.is_caught_up) = (false, false);
    }
    let told = |step: MemberStep| {
        let row = &mut cluster.state().rows[2];
        match step {
            MemberStep::LetIn(GONE) => row.newcomer = NEW,
            MemberStep::LetIn(_) => (row.is_connected, row.is_caught_up) = (true, true),
            _ => {}
        }
    };
    client(&cluster, Duration::from_secs(4)).replace(NODE, None, told).unwrap();
    assert_eq!(cluster.state().changes, [(1, replace(GONE)), (1, replace(NEW)), (1, PROMOTE)]);
    // Who names a disk means that one.
    {
        let row = &mut cluster.state().rows[2];
        (row.is_voter, row.incarnation, row.newcomer) = (false, GONE, NEW);
        (row.is_connected, row.is_caught_up) = (false, false);
    }
    let error = client(&cluster, SHORT).replace(NODE, Some(GONE), |_| cluster.state().rows[2].newcomer = NEW);
    assert_eq!(error.unwrap_err(), ClientError::NotCaughtUp { node: NODE });
}

#[test]
fn a_lost_answer_and_a_new_leader_cost_nothing_but_another_question() {
    let cluster = Cluster::start(3);
    (cluster.state().rows[2].newcomer, cluster.state().lose_change) = (NEW, true);
    // Hellos say what was true a moment ago, so a follower is asked first.
    cluster.state().claimed = Some((1, Some(1)));
    (cluster.state().leader, cluster.state().term) = (Some(2), 2);
    client(&cluster, PATIENCE).replace(NODE, None, |_| ()).unwrap();
    assert_eq!(cluster.state().changes, [(2, replace(NEW)), (2, replace(NEW)), (2, PROMOTE)]);
}

#[test]
fn what_passes_is_waited_for_and_what_does_not_is_an_error() {
    let cluster = Cluster::start(3);
    cluster.state().rows[2].newcomer = NEW;
    cluster.state().change_script =
        vec![ChangeOutcome::NotReady, ChangeOutcome::NoQuorum, ChangeOutcome::InProgress];
    client(&cluster, PATIENCE).replace(NODE, None, |_| ()).unwrap();
    assert_eq!(cluster.state().changes.len(), 5);
    for (outcome, expected, code) in [
        (ChangeOutcome::UnknownMember, ClientError::UnknownMember { node: NODE }, 1),
        (ChangeOutcome::LeaderItself, ClientError::LeaderItself { node: NODE }, 1),
        (ChangeOutcome::DiskWorks, ClientError::DiskWorks { node: NODE }, 3),
    ] {
        cluster.state().change_script = vec![outcome];
        let error = client(&cluster, PATIENCE).replace(NODE, Some(NEW), |_| ()).unwrap_err();
        assert_eq!((error.exit_code(), &error), (code, &expected), "{error}");
    }
    cluster.state().change_script = vec![ChangeOutcome::NoQuorum; 1000];
    let error = client(&cluster, SHORT).replace(NODE, Some(NEW), |_| ()).unwrap_err();
    assert_eq!((error.exit_code(), error), (3, ClientError::NoQuorumWithout { node: NODE }));
    let error = client(&cluster, PATIENCE).promote(NodeId(9), |_| ()).unwrap_err();
    assert_eq!(error, ClientError::UnknownMember { node: NodeId(9) });
    let error = client(&cluster, PATIENCE).replace(NodeId(1), None, |_| ()).unwrap_err();
    assert_eq!(error, ClientError::LeaderItself { node: NodeId(1) });
}

#[test]
fn a_disk_that_is_named_is_waited_for_until_it_shows_up() {
    let cluster = Cluster::start(3);
    cluster.state().change_script = vec![ChangeOutcome::NoNewDisk; 2];
    let mut steps = Vec::new();
    client(&cluster, PATIENCE).replace(NODE, Some(NEW), |step| steps.push(step)).unwrap();
    assert_eq!(steps[..3], [MemberStep::WaitingForDisk, MemberStep::WaitingForDisk, MemberStep::LetIn(NEW)]);
    assert_eq!(cluster.state().changes[..3], [(1, replace(NEW)); 3]);
    cluster.state().change_script = vec![ChangeOutcome::NoNewDisk; 1000];
    let error = client(&cluster, SHORT).replace(NODE, Some(NEW), |_| ()).unwrap_err();
    let expected = ClientError::DiskNotSeen { node: NODE, incarnation: Box::new(NEW) };
    assert_eq!((error.exit_code(), &error), (3, &expected));
    // The one that knocked has stopped before it was let in: there may be another by now.
    cluster.state().rows[2].is_connected = false;
    (cluster.state().rows[2].newcomer, cluster.state().change_script) = (NEW, vec![ChangeOutcome::NoNewDisk]);
    client(&cluster, PATIENCE).replace(NODE, None, |_| ()).unwrap();
}

#[test]
fn patience_begins_anew_with_every_entry_that_arrives() {
    let cluster = Cluster::start(3);
    {
        let row = &mut cluster.state().rows[2];
        (row.is_voter, row.is_caught_up, row.stable_index) = (false, false, LogIndex(1));
    }
    let error = client(&cluster, SHORT).promote(NODE, |_| ()).unwrap_err();
    assert_eq!((error.exit_code(), error), (3, ClientError::NotCaughtUp { node: NODE }));
    assert_eq!(cluster.state().changes, [], "nobody is promoted who lacks the log");
    // Some entries each 100 ms, for longer than the patience.
    let mut missing = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 2..=40 {
                std::thread::sleep(Duration::from_millis(50));
                cluster.state().rows[2].stable_index = LogIndex(index);
            }
            cluster.state().rows[2].is_caught_up = true;
        });
        let told = |step| match step {
            MemberStep::CatchingUp { missing: count, .. } => missing.push(count),
            MemberStep::Promoted => missing.push(0),
            step => panic!("{step:?}"),
        };
        client(&cluster, Duration::from_millis(1500)).promote(NODE, told).unwrap();
    });
    assert_eq!(missing.last(), Some(&0));
    assert!(missing.is_sorted_by(|a, b| a > b), "{missing:?}");
}

#[test]
fn without_a_leader_or_a_node_it_gives_up_in_time() {
    let mut nobody = MemberClient::new(&[dead_address()], SHORT).unwrap();
    assert!(matches!(nobody.list(), Err(ClientError::NoNodeReachable { .. })));
    let cluster = Cluster::start(3);
    cluster.state().leader = None;
    assert!(matches!(client(&cluster, SHORT).list(), Err(ClientError::NoLeader { .. })));
    (cluster.state().leader, cluster.state().frozen) = (Some(1), vec![1]);
    let error = client(&cluster, SHORT).list().unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
}
