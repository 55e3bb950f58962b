//! Whose disk counts, as the batcher judges it, and changes of members on their way through the log.

use tercet::agent::batcher::BatcherLimits;
use tercet::agent::commands::{
    BatcherReply, BatcherRequest, ConductorNotice, ConductorRequest, ConnectionId, Contact, LinkState,
    PeerIdentity, SenderCommand,
};
use tercet::base::ids::{Epoch, Incarnation, LogIndex, ProducerId, Term};
use tercet::entry::{Entry, Member};
use tercet::protocol::client::{ChangeCode, ChangeKind, LeaderMembers, MemberChange};
use tercet::raft::{AppendOutcome, Message};

use super::bench::{Bench, first_entry, formatted, n, noop_after, pinned};

const CLIENT: ConnectionId = ConnectionId { slot: 5, generation: 1 };
const NEW: Incarnation = Incarnation(0x99);

fn ask(bench: &mut Bench, request_id: u64, kind: ChangeKind, incarnation: Incarnation) {
    let change = MemberChange { kind, node: n(3), incarnation };
    bench.ask(BatcherRequest::ChangeMember { connection: CLIENT, request_id, change });
}

/// Answers to changes since the last look.
fn answers(bench: &mut Bench) -> Vec<(u64, ChangeCode)> {
    let replies = bench.replies().into_iter();
    let changed = replies.filter_map(|reply| match reply {
        BatcherReply::MemberChanged { request_id, outcome, .. } => Some((request_id, outcome)),
        _ => None,
    });
    changed.collect()
}

fn list(bench: &mut Bench) -> LeaderMembers<'static> {
    bench.ask(BatcherRequest::Members { connection: CLIENT, request_id: 9 });
    let mut replies = bench.replies().into_iter();
    let members = replies.find_map(|reply| match reply {
        BatcherReply::Members { members, .. } => members,
        _ => None,
    });
    *members.expect("a leader")
}

/// Who belongs to the cluster, as the conductor was told last.
fn told(bench: &mut Bench) -> Option<Vec<Member>> {
    let notices = std::iter::from_fn(|| bench.conductor.from_batcher.pop());
    let members = notices.filter_map(|notice| match notice {
        ConductorNotice::Members { members, .. } => Some(members),
        ConductorNotice::Decided(..) => None,
    });
    members.last()
}

fn hung_up(bench: &mut Bench, place: usize) -> bool {
    let commands = std::iter::from_fn(|| bench.senders[place].from_batcher.pop());
    commands.filter(|command| matches!(command, SenderCommand::HangUp)).count() > 0
}

/// The stream to a peer ends.
fn gone(bench: &mut Bench, place: usize) {
    assert!(bench.senders[place].to_batcher.push(LinkState { connected: None }).is_ok());
    bench.turn();
}

/// An acknowledgement of node 3's disk of this formatting.
fn third_accepts(bench: &mut Bench, incarnation: Incarnation, term: u64, stable: u64) {
    let outcome = AppendOutcome::Accepted { appended: LogIndex(stable), stable: LogIndex(stable) };
    let message = Message::AppendReply { term: Term(term), outcome };
    assert!(bench.post_as(3, incarnation, message, Vec::new()));
    bench.turn();
}

/// A disk of node 3 knocks, and is refused.
fn knocks(bench: &mut Bench, incarnation: Incarnation) {
    let refused = ConductorRequest::Refused { peer: n(3), incarnation };
    assert!(bench.conductor.to_batcher.push(refused).is_ok());
    bench.turn();
}

/// A leader of three, connected to both others.
fn leader() -> (Bench, u64) {
    let mut bench = Bench::fresh();
    bench.connect(2);
    bench.connect(3);
    let term = bench.elect();
    bench.settle(term);
    // Both are heard within the timeout.
    third_accepts(&mut bench, pinned(3), term, 1);
    told(&mut bench);
    (bench, term)
}

fn open(bench: &mut Bench, term: u64) -> (ProducerId, Epoch) {
    bench.ask(BatcherRequest::OpenProducer { connection: CLIENT, request_id: 1, name: "p".to_owned() });
    bench.settle(term);
    let opened = bench.replies().into_iter().find_map(|reply| match reply {
        BatcherReply::ProducerOpened { producer_id, epoch, .. } => Some((producer_id, epoch)),
        _ => None,
    });
    opened.unwrap()
}

fn member(node: u16, incarnation: Incarnation) -> Member {
    Member { node_id: n(node), incarnation }
}

#[test]
fn pitfall_48_an_acknowledgement_counts_only_from_the_formatting_that_is_meant() {
    let (mut bench, term) = leader();
    let (producer, epoch) = open(&mut bench, term);
    bench.publish(producer, epoch, 1);
    bench.flush();
    let last = bench.batcher.raft().last_id().index;
    third_accepts(&mut bench, NEW, term, last.0);
    assert!(bench.batcher.applied().0 < last, "another disk than the pinned one made a quorum");
    third_accepts(&mut bench, pinned(3), term, last.0);
    assert_eq!(bench.batcher.applied().0, last);
}

#[test]
fn a_replaced_disk_counts_no_more_from_the_append_on_and_the_client_hears_of_the_commit() {
    let (mut bench, term) = leader();
    // Not while the disk that counts is there, whoever else has shown up; and nobody is offered.
    ask(&mut bench, 1, ChangeKind::Replace, Incarnation(0));
    knocks(&mut bench, NEW);
    for incarnation in [Incarnation(0), NEW, Incarnation(0x9b)] {
        ask(&mut bench, 2, ChangeKind::Replace, incarnation);
    }
    let works = ChangeCode::DiskWorks;
    assert_eq!(answers(&mut bench), [(1, works), (2, works), (2, works), (2, works)]);
    assert_eq!(list(&mut bench).rows[2].newcomer, Incarnation(0));
    assert!(told(&mut bench).is_none() && !hung_up(&mut bench, 1));
    gone(&mut bench, 1);
    assert_eq!(list(&mut bench).rows[2].newcomer, NEW);
    ask(&mut bench, 2, ChangeKind::Replace, Incarnation(0));
    // In force at once: known to the conductor, the old stream is closed, and nobody's word on it counts.
    let named = [member(1, Incarnation(0x1ca4)), member(2, pinned(2)), member(3, NEW)];
    assert_eq!(told(&mut bench), Some(named.to_vec()), "everybody is named by the first change");
    bench.connect(3);
    assert!(hung_up(&mut bench, 1) && !hung_up(&mut bench, 0), "a stream to the old disk is closed");
    bench.flush();
    let last = bench.batcher.raft().last_id().index;
    third_accepts(&mut bench, pinned(3), term, last.0);
    third_accepts(&mut bench, NEW, term, last.0);
    assert!(bench.batcher.applied().0 < last, "neither the old disk nor a learner commits anything");
    assert_eq!(answers(&mut bench), [], "not committed");
    // One at a time; what is so already waits for the same commit.
    ask(&mut bench, 3, ChangeKind::Replace, Incarnation(0x9a));
    assert_eq!(answers(&mut bench), [(3, ChangeCode::InProgress)]);
    ask(&mut bench, 4, ChangeKind::Replace, NEW);
    bench.hear_accepted(2, term, last.0);
    assert_eq!(bench.batcher.applied().0, last);
    assert_eq!(answers(&mut bench), [(2, ChangeCode::Done), (4, ChangeCode::Done)]);
    ask(&mut bench, 5, ChangeKind::Replace, NEW);
    assert_eq!(answers(&mut bench), [(5, ChangeCode::Done)], "it is so");
    // Yet another disk: what the one before had told of its log is forgotten.
    gone(&mut bench, 1);
    knocks(&mut bench, Incarnation(0x9a));
    ask(&mut bench, 6, ChangeKind::Replace, Incarnation(0x9a));
    bench.settle(term);
    ask(&mut bench, 7, ChangeKind::Promote, Incarnation(0));
    assert_eq!(answers(&mut bench), [(6, ChangeCode::Done), (7, ChangeCode::NotCaughtUp)]);
    let row = list(&mut bench).rows[2];
    assert_eq!((row.is_voter, row.incarnation, row.newcomer), (false, Incarnation(0x9a), Incarnation(0)));
    knocks(&mut bench, NEW);
    assert_eq!(list(&mut bench).rows[2].newcomer, NEW);
    let last = bench.batcher.raft().last_id().index.0;
    third_accepts(&mut bench, NEW, term, last);
    ask(&mut bench, 8, ChangeKind::Promote, Incarnation(0));
    assert_eq!(answers(&mut bench), [(8, ChangeCode::NotCaughtUp)], "that was another disk's word");
    third_accepts(&mut bench, Incarnation(0x9a), term, last);
    ask(&mut bench, 9, ChangeKind::Promote, Incarnation(0));
    bench.settle(term);
    assert_eq!(answers(&mut bench), [(9, ChangeCode::Done)]);
    assert!(list(&mut bench).rows[2].is_voter);
}

/// The disk that counts may only pause: it is not given up for a number that nobody has, or had long ago.
#[test]
fn only_a_disk_that_has_shown_up_lately_takes_the_place_of_one_that_is_away() {
    let (mut bench, term) = leader();
    gone(&mut bench, 1);
    let asked = |bench: &mut Bench, incarnation| {
        ask(bench, 1, ChangeKind::Replace, incarnation);
        answers(bench)
    };
    assert_eq!(asked(&mut bench, NEW), [(1, ChangeCode::NoNewDisk)]);
    assert_eq!(asked(&mut bench, Incarnation(0)), [(1, ChangeCode::NoNewDisk)]);
    knocks(&mut bench, NEW);
    assert_eq!(asked(&mut bench, Incarnation(0x9b)), [(1, ChangeCode::NoNewDisk)], "another one");
    let (producer, epoch) = open(&mut bench, term);
    for sequence in 1..=80 {
        bench.wait(50_000_000);
        bench.publish(producer, epoch, sequence);
        bench.settle(term);
    }
    assert_eq!(asked(&mut bench, NEW), [(1, ChangeCode::NoNewDisk)], "it has given up");
    assert!(told(&mut bench).is_none(), "nothing has changed");
    // One that was let in, as it knows a later configuration than this log has, is there too.
    let ahead = PeerIdentity { incarnation: NEW, configuration_index: LogIndex(7) };
    assert!(bench.senders[1].to_batcher.push(LinkState { connected: Some(ahead) }).is_ok());
    bench.turn();
    assert_eq!(list(&mut bench).rows[2].newcomer, NEW);
    let behind = PeerIdentity { incarnation: Incarnation(0x9d), configuration_index: LogIndex(1) };
    assert!(bench.senders[1].to_batcher.push(LinkState { connected: Some(behind) }).is_ok());
    bench.turn();
    assert_eq!(list(&mut bench).rows[2].newcomer, Incarnation(0), "an old disk, about to be hung up on");
    assert!(bench.senders[1].to_batcher.push(LinkState { connected: Some(ahead) }).is_ok());
    knocks(&mut bench, Incarnation(0x9c));
    assert_eq!(list(&mut bench).rows[2].newcomer, Incarnation(0x9c));
    ask(&mut bench, 2, ChangeKind::Replace, NEW);
    bench.settle(term);
    assert_eq!(answers(&mut bench), [(2, ChangeCode::Done)]);
}

/// A disk that was formatted anew beside a cluster that knows another waits for no new cluster to begin.
#[test]
fn a_node_whose_disk_is_refused_counts_by_whom_until_it_is_let_in() {
    let mut bench = Bench::with_pins(&formatted(1), BatcherLimits::default(), &[]);
    let counted = |bench: &Bench| {
        let of = |name: &str| bench.counters.value(name).unwrap();
        (of("batcher_refused_by"), of("batcher_voters_unmet"))
    };
    assert_eq!(counted(&bench), (0, 2));
    let refused_by = |bench: &mut Bench, peer| {
        assert!(bench.conductor.to_batcher.push(ConductorRequest::RefusedBy(n(peer))).is_ok());
        bench.turn();
    };
    refused_by(&mut bench, 2);
    refused_by(&mut bench, 3);
    refused_by(&mut bench, 3);
    assert_eq!(counted(&bench), (2, 2));
    bench.wait(5_000_000_000);
    assert_eq!(counted(&bench).0, 2, "it is refused though they are away");
    // One takes its dial; then somebody leads it.
    bench.connect(2);
    assert_eq!(counted(&bench).0, 1);
    bench.hear_entries(2, 1, first_entry().id(), &[noop_after(&first_entry(), 1)], 1);
    assert_eq!(counted(&bench).0, 0);
    let mut met = Bench::fresh();
    assert_eq!(counted(&met), (0, 0));
    refused_by(&mut met, 3);
    assert_eq!(counted(&met), (1, 0), "an old disk that turns up");
    met.connect(3);
    assert_eq!(counted(&met), (0, 0));
}

#[test]
fn a_change_that_is_truncated_is_taken_back_and_its_client_is_sent_to_the_next_leader() {
    let (mut bench, term) = leader();
    gone(&mut bench, 1);
    knocks(&mut bench, NEW);
    ask(&mut bench, 1, ChangeKind::Replace, NEW);
    bench.flush();
    let last = bench.batcher.raft().last_id();
    assert!(told(&mut bench).is_some_and(|members| members.contains(&member(3, NEW))));
    // Node 2 leads the next term without that entry: another stands in its place.
    let kept: Entry = bench
        .delivered()
        .pop()
        .filter(|entry| entry.index().next() == last.index)
        .expect("the entry before is committed");
    let entry = noop_after(&kept, term + 1);
    bench.hear_entries(2, term + 1, kept.id(), &[entry], kept.index().0);
    assert_eq!(answers(&mut bench), [(1, ChangeCode::NotLeader)]);
    let members = told(&mut bench).expect("told again");
    let named = [member(1, Incarnation(0x1ca4)), member(2, pinned(2)), member(3, pinned(3))];
    assert_eq!(members, named, "as the first entry of the first term names them");
    // The pinned disk's word counts again: with its vote this node leads once more.
    bench.flush();
    bench.wait(500_000_000);
    let next = bench.batcher.raft().term().0 + 1;
    let id = tercet::base::ids::EntryId::ZERO;
    for message in [
        Message::PreVoteReply { term: Term(next), granted: true, last: id },
        Message::VoteReply { term: Term(next), granted: true, last: id },
    ] {
        assert!(bench.post_as(3, pinned(3), message, Vec::new()));
        bench.turn();
    }
    assert_eq!(bench.batcher.raft().role(), tercet::raft::Role::Leader);
}

#[test]
fn a_node_that_does_not_lead_changes_nothing_and_says_so() {
    let mut bench = Bench::new(&formatted(1), BatcherLimits::default());
    ask(&mut bench, 1, ChangeKind::Replace, NEW);
    ask(&mut bench, 2, ChangeKind::Promote, Incarnation(0));
    assert_eq!(answers(&mut bench), [(1, ChangeCode::NotLeader), (2, ChangeCode::NotLeader)]);
    bench.ask(BatcherRequest::Members { connection: CLIENT, request_id: 3 });
    let replies = bench.replies();
    assert!(matches!(replies[..], [BatcherReply::Members { members: None, .. }]));
    assert_eq!(bench.batcher.raft().last_id(), first_entry().id());
}

/// Nothing of the log says who counts, and node 3 was never met: what shows up under its id may be a wiped disk.
#[test]
fn pitfall_48_a_node_that_has_not_met_all_voters_helps_nobody_to_lead_whose_log_names_none() {
    let mut bench = Bench::with_pins(&formatted(1), BatcherLimits::default(), &[2]);
    let first = first_entry().id();
    let grants = |bench: &mut Bench, from: u16, as_disk, term: u64, last| {
        for message in [Message::PreVote { term: Term(term), last }, Message::Vote { term: Term(term), last }]
        {
            assert!(bench.post_as(from, as_disk, message, Vec::new()));
            bench.turn();
        }
        let said = bench.said_to(from);
        let pre = said.iter().any(|said| matches!(said, Message::PreVoteReply { granted: true, .. }));
        let vote = said.iter().any(|said| matches!(said, Message::VoteReply { granted: true, .. }));
        (pre, vote)
    };
    bench.wait(3_000_000_000);
    assert_eq!((bench.said_to(2), bench.batcher.raft().term()), (vec![], Term(0)), "it does not campaign");
    assert_eq!(grants(&mut bench, 2, pinned(2), 1, first), (false, false));
    // A log that goes further names the voters; its owner counts by that, whoever it is.
    let further = tercet::base::ids::EntryId::new(Term(1), LogIndex(2));
    bench.wait(1_000_000_000);
    assert_eq!(grants(&mut bench, 3, NEW, 3, further), (true, true));
    assert_eq!(grants(&mut bench, 3, NEW, 5, first), (false, false));
    // Met by both: now it may be the first, and names them before anything else.
    let identity = PeerIdentity { incarnation: pinned(3), configuration_index: LogIndex(1) };
    let contact = Contact { peer: n(3), identity, has_accepted: true };
    assert!(bench.conductor.to_batcher.push(ConductorRequest::Contact(contact)).is_ok());
    bench.turn();
    bench.wait(1_000_000_000);
    assert_eq!(grants(&mut bench, 2, pinned(2), 7, first), (true, true));
    bench.connect(2);
    let term = bench.elect();
    bench.settle(term);
    let opening = bench.delivered().pop().unwrap();
    let named = [member(1, Incarnation(0x1ca4)), member(2, pinned(2)), member(3, pinned(3))];
    assert_eq!((opening.index(), opening.configuration().unwrap().voters), (LogIndex(2), named.to_vec()));
}

/// A node whose log is behind names formattings that have been replaced since: what it lacks can only come from those
/// that replaced them.
#[test]
fn a_leader_that_this_nodes_log_does_not_name_yet_is_followed_and_gets_a_vote_only_for_a_log_that_may_name_it()
 {
    let mut bench = Bench::fresh();
    // The log names all three, the second as the disk that was pinned.
    let term = bench.elect();
    bench.settle(term);
    let named = bench.delivered().pop().unwrap();
    bench.wait(2_000_000_000);
    assert_ne!(bench.batcher.raft().role(), tercet::raft::Role::Leader, "nobody answers it");
    let ahead = PeerIdentity { incarnation: NEW, configuration_index: LogIndex(7) };
    assert!(bench.senders[0].to_batcher.push(LinkState { connected: Some(ahead) }).is_ok());
    bench.turn();
    assert!(!hung_up(&mut bench, 0), "it knows a later configuration");
    let say = |bench: &mut Bench, message, entries: Vec<Entry>| {
        assert!(bench.post_as(2, NEW, message, entries));
        bench.turn();
        bench.said_to(2)
    };
    bench.wait(400_000_000);
    bench.said_to(2);
    let vote_for = |index: u64| Message::Vote {
        term: Term(9),
        last: tercet::base::ids::EntryId::new(Term(8), LogIndex(index)),
    };
    assert_eq!(
        say(&mut bench, vote_for(2), Vec::new()),
        [],
        "that log cannot name another disk than this one"
    );
    assert!(bench.batcher.raft().term() < Term(9));
    say(&mut bench, vote_for(9), Vec::new());
    assert_eq!(bench.batcher.raft().term(), Term(9), "that one may, and its owner counts by what it says");
    assert_eq!(bench.batcher.raft().hard_state().voted_for, Some(tercet::base::ids::NodeId(2)));
    let entry = noop_after(&named, 9);
    let message = Message::Append {
        term: Term(9),
        prev: named.id(),
        entries: vec![Term(9)],
        commit: LogIndex(1),
        wants_reply: true,
    };
    let said = say(&mut bench, message, vec![entry]);
    assert!(said.iter().any(|said| matches!(said, Message::AppendReply { .. })), "{said:?}");
    assert_eq!(bench.batcher.raft().last_id().index, LogIndex(3));
    // One that knows no more than this node does is an old disk.
    let old = PeerIdentity { incarnation: Incarnation(0x98), configuration_index: LogIndex(1) };
    for connected in [None, Some(old)] {
        assert!(bench.senders[0].to_batcher.push(LinkState { connected }).is_ok());
        bench.turn();
    }
    assert!(hung_up(&mut bench, 0));
}
