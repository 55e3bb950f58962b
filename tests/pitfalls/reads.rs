//! Questions that only a leader may answer, asked of a batcher whose peers the test plays.

use tercet::agent::commands::{BatcherReply, BatcherRequest};
use tercet::base::clock::{NS_PER_MS, NS_PER_S};
use tercet::base::ids::{LogIndex, Offset, Term};
use tercet::raft::{Message, Role};

use crate::bench::{Bench, CLIENT};

/// Answers to commit queries since the last look: whose, and commit index and offset where there are any.
type Answers = Vec<(u64, Option<(LogIndex, Offset)>)>;

fn ask(bench: &mut Bench, request_id: u64) {
    bench.ask(BatcherRequest::CommitQuery { connection: CLIENT, request_id, leader_required: true });
}

fn answers(bench: &mut Bench) -> Answers {
    let answers = bench.replies().into_iter().filter_map(|reply| match reply {
        BatcherReply::Commit { connection, request_id, committed, from_leader } => {
            assert_eq!(connection, CLIENT);
            assert_eq!(from_leader, committed.is_some(), "what a leader says it says as one");
            Some((request_id, committed))
        }
        _ => None,
    });
    answers.collect()
}

/// The newest round of heartbeats that a peer was sent since the last look.
fn round_to(bench: &mut Bench, peer: u16) -> Option<u64> {
    let rounds = bench.said_to(peer).into_iter().filter_map(|message| match message {
        Message::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    rounds.max()
}

fn hear_round(bench: &mut Bench, from: u16, term: u64, round: u64) {
    let stable = bench.batcher.applied().0;
    bench.hear(from, Message::HeartbeatReply { term: Term(term), round, appended: stable, stable });
}

/// A leader with an event that is committed, what it knows of the end, and the last round that left before now.
fn leader() -> (Bench, u64, Option<(LogIndex, Offset)>, u64) {
    let mut bench = Bench::fresh();
    let (term, producer, epoch) = bench.leader_with_producer();
    bench.connect(2);
    bench.connect(3);
    bench.publish(producer, epoch, 1);
    bench.settle(term);
    bench.wait(60 * NS_PER_MS);
    bench.replies();
    let committed = Some((bench.batcher.applied().0, Offset(1)));
    let round = round_to(&mut bench, 3).unwrap();
    round_to(&mut bench, 2);
    (bench, term, committed, round)
}

#[test]
fn pitfall_45_a_leader_answers_no_question_before_a_majority_has_heard_it_since() {
    let (mut bench, term, committed, before) = leader();
    ask(&mut bench, 7);
    assert_eq!(answers(&mut bench), [], "nobody has confirmed that it leads");
    let since = round_to(&mut bench, 3).unwrap();
    assert!(since > before, "a round of its own leaves for the question");
    for peer in [2, 3] {
        hear_round(&mut bench, peer, term, before);
    }
    assert_eq!(answers(&mut bench), [], "these left before the question came");
    hear_round(&mut bench, 3, term, since);
    assert_eq!(answers(&mut bench), [(7, committed)]);
    hear_round(&mut bench, 2, term, since);
    assert_eq!(answers(&mut bench), [], "once");
}

/// A confirmed answer is no older than the question: what was committed by then is in it.
#[test]
fn pitfall_45_the_answer_holds_what_was_committed_before_the_question() {
    let mut bench = Bench::fresh();
    let (term, producer, epoch) = bench.leader_with_producer();
    for sequence in 1..=5 {
        bench.publish(producer, epoch, sequence);
        bench.settle(term);
        bench.replies();
        round_to(&mut bench, 2);
        ask(&mut bench, sequence);
        let round = round_to(&mut bench, 2).unwrap();
        hear_round(&mut bench, 2, term, round);
        let committed = Some((bench.batcher.applied().0, Offset(sequence)));
        assert_eq!(answers(&mut bench), [(sequence, committed)]);
    }
}

#[test]
fn pitfall_45_a_leader_that_is_deposed_refuses_the_questions_that_wait() {
    let (mut bench, term, ..) = leader();
    ask(&mut bench, 7);
    ask(&mut bench, 8);
    assert_eq!(answers(&mut bench), []);
    let commit = bench.batcher.applied().0;
    bench.hear(2, Message::Heartbeat { term: Term(term + 1), commit, round: 1 });
    assert_ne!(bench.batcher.raft().role(), Role::Leader);
    let mut refused = answers(&mut bench);
    refused.sort_unstable();
    assert_eq!(refused, [(7, None), (8, None)]);
    ask(&mut bench, 9);
    assert_eq!(answers(&mut bench), [(9, None)], "nor does it answer new ones");
}

#[test]
fn pitfall_45_a_leader_that_nobody_hears_gives_up_and_never_answers() {
    let (mut bench, term, ..) = leader();
    ask(&mut bench, 7);
    let mut heard = Answers::new();
    for _ in 0..30 {
        bench.wait(NS_PER_S / 10);
        heard.extend(answers(&mut bench));
    }
    assert_ne!(bench.batcher.raft().role(), Role::Leader, "nobody answers its heartbeats");
    assert_eq!(heard, [(7, None)]);
    // What was said to it in that term comes too late.
    for peer in [2, 3] {
        hear_round(&mut bench, peer, term, 1_000);
    }
    assert_eq!(answers(&mut bench), []);
}
