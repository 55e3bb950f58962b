use super::plan::{Inquiry, Missing, Verdict};
use crate::base::ids::{LogIndex, NodeId, Offset, Term};
use crate::entry::{Entry, SealContext, encode_noop};
use crate::protocol::peer::CopyState;

const OTHERS: [NodeId; 2] = [NodeId(2), NodeId(3)];

/// Entries that go on from `chain`, from index `first` on; `salt` tells logs apart.
fn log_from(first: u64, count: u64, mut chain: u64, salt: u64) -> Vec<Entry> {
    let next = |index| {
        let entry = encode_noop(&SealContext {
            term: Term(1),
            index: LogIndex(index),
            prev_chain: chain,
            base_offset: Offset(1),
            log_time_ns: salt,
            timestamp_unix_ns: 0,
        });
        chain = entry.chain();
        entry
    };
    (first..first + count).map(next).collect()
}

/// Entries 5 to 8 of a log are lost.
fn lost() -> (Vec<Entry>, Missing) {
    let log = log_from(5, 4, 77, 0);
    let missing =
        Missing { first: LogIndex(5), last: LogIndex(8), chain_before: 77, chain_last: log[3].chain() };
    (log, missing)
}

fn inquiry(missing: Missing) -> Inquiry {
    Inquiry::new(missing, &OTHERS, 2)
}

fn says(inquiry: &mut Inquiry, peer: u16, first: u64, last: u64, state: CopyState) {
    let taken = inquiry.answered(NodeId(peer), (LogIndex(first), LogIndex(last)), state, Vec::new());
    assert_eq!(taken, state != CopyState::Unsure);
}

fn gives(inquiry: &mut Inquiry, peer: u16, entries: &[Entry]) {
    let (first, last) = (entries[0].index(), entries[entries.len() - 1].index());
    assert!(inquiry.answered(NodeId(peer), (first, last), CopyState::Held, entries.to_vec()));
}

#[test]
fn one_peer_with_all_of_it_is_enough_and_pieces_are_asked_for_in_order() {
    let (log, missing) = lost();
    let mut inquiry = inquiry(missing);
    assert_eq!(inquiry.question(NodeId(2)), Some((LogIndex(5), LogIndex(8))));
    gives(&mut inquiry, 2, &log[..3]);
    assert_eq!(inquiry.verdict(false), Verdict::Wait);
    assert_eq!(inquiry.question(NodeId(2)), Some((LogIndex(8), LogIndex(8))));
    gives(&mut inquiry, 2, &log[3..]);
    assert_eq!(inquiry.question(NodeId(2)), None);
    assert_eq!(inquiry.verdict(true), Verdict::Solved(log), "nobody else has to answer");
}

#[test]
fn peers_that_are_damaged_elsewhere_complete_each_other() {
    let (log, missing) = lost();
    let mut inquiry = inquiry(missing);
    says(&mut inquiry, 2, 5, 6, CopyState::Damaged);
    gives(&mut inquiry, 2, &log[2..]);
    gives(&mut inquiry, 3, &log[..2]);
    says(&mut inquiry, 3, 7, 8, CopyState::Damaged);
    assert_eq!(inquiry.verdict(false), Verdict::Solved(log));
}

#[test]
fn copies_of_another_log_are_not_believed() {
    let (log, missing) = lost();
    let mut inquiry = inquiry(missing);
    gives(&mut inquiry, 2, &log_from(5, 4, 77, 1));
    assert_eq!(inquiry.verdict(false), Verdict::Wait, "node 3 may have the right ones");
    gives(&mut inquiry, 3, &log);
    assert_eq!(inquiry.verdict(false), Verdict::Solved(log));
}

#[test]
fn pitfall_63_what_is_damaged_everywhere_is_hopeless_and_named() {
    let (log, missing) = lost();
    let mut inquiry = inquiry(missing);
    gives(&mut inquiry, 2, &log[..2]);
    says(&mut inquiry, 2, 7, 8, CopyState::Damaged);
    says(&mut inquiry, 3, 5, 7, CopyState::Damaged);
    assert_eq!(inquiry.verdict(false), Verdict::Wait);
    gives(&mut inquiry, 3, &log[3..]);
    assert_eq!(inquiry.verdict(true), Verdict::Wait, "first with everything up to the next certain place");
    assert_eq!(inquiry.verdict(false), Verdict::Hopeless(LogIndex(7)));
}

#[test]
fn what_one_other_may_have_held_is_never_cut() {
    let (_, missing) = lost();
    let mut inquiry = inquiry(missing);
    says(&mut inquiry, 2, 5, 8, CopyState::Absent);
    says(&mut inquiry, 3, 5, 8, CopyState::Unsure);
    assert_eq!(inquiry.verdict(false), Verdict::Wait);
    assert_eq!(inquiry.question(NodeId(3)), Some((LogIndex(5), LogIndex(8))), "it is asked again");
    says(&mut inquiry, 3, 5, 8, CopyState::Damaged);
    assert_eq!(inquiry.verdict(false), Verdict::Hopeless(LogIndex(5)));
}

#[test]
fn what_nobody_else_ever_held_is_cut_and_what_a_peer_has_of_it_is_kept() {
    let (log, missing) = lost();
    let mut nobody = inquiry(missing);
    says(&mut nobody, 2, 5, 8, CopyState::Absent);
    says(&mut nobody, 3, 5, 8, CopyState::Absent);
    assert_eq!(nobody.verdict(false), Verdict::Cut(Vec::new()));

    let mut some = inquiry(missing);
    gives(&mut some, 2, &log[..2]);
    says(&mut some, 2, 7, 8, CopyState::Absent);
    says(&mut some, 3, 5, 8, CopyState::Absent);
    assert_eq!(some.verdict(false), Verdict::Cut(log[..2].to_vec()));

    let other = log_from(5, 4, 77, 1);
    let mut overtaken = inquiry(missing);
    gives(&mut overtaken, 2, &other);
    gives(&mut overtaken, 3, &other);
    assert_eq!(overtaken.verdict(false), Verdict::Cut(other), "another leader's entries stand there");
}

#[test]
fn peers_that_contradict_each_other_settle_that_first() {
    let (log, missing) = lost();
    let mut inquiry = inquiry(missing);
    gives(&mut inquiry, 2, &log_from(5, 4, 77, 1));
    gives(&mut inquiry, 3, &log[..2]);
    says(&mut inquiry, 3, 7, 8, CopyState::Absent);
    assert_eq!(inquiry.verdict(false), Verdict::AskAgain);
}

#[test]
fn copies_that_may_not_be_what_was_lost_are_not_put_in_its_place() {
    let (_, missing) = lost();
    let mut inquiry = inquiry(missing);
    // Node 2 held what was lost here too; node 3 has something else there, or the same: nobody can tell.
    gives(&mut inquiry, 3, &log_from(5, 1, 77, 1));
    says(&mut inquiry, 3, 6, 8, CopyState::Absent);
    says(&mut inquiry, 2, 5, 5, CopyState::Damaged);
    says(&mut inquiry, 2, 6, 8, CopyState::Absent);
    assert_eq!(inquiry.verdict(false), Verdict::AskAgain);
}

#[test]
fn five_nodes_lose_nothing_that_three_may_have_held() {
    let (_, missing) = lost();
    let others = [NodeId(2), NodeId(3), NodeId(4), NodeId(5)];
    for damaged in 0..=4 {
        let mut inquiry = Inquiry::new(missing, &others, 3);
        for (place, peer) in others.iter().enumerate() {
            let state = if place < damaged { CopyState::Damaged } else { CopyState::Absent };
            says(&mut inquiry, peer.0, 5, 8, state);
        }
        let expected = if damaged < 2 { Verdict::Cut(Vec::new()) } else { Verdict::Hopeless(LogIndex(5)) };
        assert_eq!(inquiry.verdict(false), expected, "{damaged} damaged copies elsewhere");
    }
}

#[test]
fn answers_to_other_questions_change_nothing() {
    let (log, missing) = lost();
    let mut inquiry = inquiry(missing);
    for (first, last) in [(4, 8), (6, 8), (5, 9)] {
        let range = (LogIndex(first), LogIndex(last));
        assert!(!inquiry.answered(NodeId(2), range, CopyState::Damaged, Vec::new()));
    }
    assert!(!inquiry.answered(NodeId(9), (LogIndex(5), LogIndex(8)), CopyState::Held, log), "a stranger");
    assert_eq!(inquiry.question(NodeId(2)), Some((LogIndex(5), LogIndex(8))));
}

#[test]
fn what_others_have_trimmed_was_committed_so_it_is_neither_cut_nor_waited_for() {
    let (log, missing) = lost();
    let mut inquiry = inquiry(missing);
    says(&mut inquiry, 2, 5, 6, CopyState::Trimmed);
    assert_eq!(inquiry.question(NodeId(2)), Some((LogIndex(7), LogIndex(8))), "the rest is still there");
    gives(&mut inquiry, 2, &log[2..]);
    assert_eq!(inquiry.verdict(false), Verdict::Wait, "node 3 may have the beginning");
    says(&mut inquiry, 3, 5, 8, CopyState::Absent);
    assert_eq!(inquiry.verdict(true), Verdict::Wait, "and a wider run may be another log's");
    assert_eq!(inquiry.verdict(false), Verdict::Trimmed);
    // Whoever has it all the same is believed.
    let mut inquiry = super::plan::Inquiry::new(missing, &OTHERS, 2);
    says(&mut inquiry, 2, 5, 8, CopyState::Trimmed);
    gives(&mut inquiry, 3, &log);
    assert_eq!(inquiry.verdict(false), Verdict::Solved(log));
}

/// Two nodes that mend at once, and an entry that retention has removed everywhere else (found by the simulator: both
/// waited for ever).
#[test]
fn who_is_unsure_for_long_is_not_waited_for_where_the_others_have_trimmed_it() {
    let (_, missing) = lost();
    let mut trimmed = inquiry(missing);
    says(&mut trimmed, 2, 5, 8, CopyState::Trimmed);
    let mut questions = 0;
    while trimmed.verdict(true) == Verdict::Wait {
        says(&mut trimmed, 3, 5, 8, CopyState::Unsure);
        questions += 1;
        assert!(questions < 1_000);
    }
    assert_eq!(trimmed.verdict(true), Verdict::Trimmed);
    assert!(questions > 10, "it may know a moment later");
    // Where nobody has trimmed it, it may never have been committed; then it is needed, however long that takes.
    let mut damaged = inquiry(missing);
    says(&mut damaged, 2, 5, 8, CopyState::Absent);
    (0..1_000).for_each(|_| says(&mut damaged, 3, 5, 8, CopyState::Unsure));
    assert_eq!(damaged.verdict(false), Verdict::Wait);
}
