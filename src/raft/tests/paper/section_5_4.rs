//! Raft paper, section 5.4: what a leader must have, and when an entry is committed.

use super::super::{accepted, append, drain, i, id, members, n, node, t};
use super::{Few, candidate, grants, leader, propose, vote, vote_reply};
use crate::base::ids::LogIndex;
use crate::raft::{LogView, Role};

/// Raft paper 5.4.1, 5.4.3: whichever majority holds a committed entry, a candidate without it gets no majority of votes.
#[test]
fn paper_5_4_1_a_candidate_without_a_committed_entry_cannot_win() {
    for voters in [3u16, 5] {
        let majority = voters / 2 + 1;
        for holders in (0u32..1 << voters).filter(|set| set.count_ones() as u16 >= majority) {
            let has = |id: u16| holders >> (id - 1) & 1 == 1;
            for lacking in (1..=voters).filter(|&id| !has(id)) {
                let log = |id: u16| if has(id) { vec![1, 2] } else { vec![1] };
                let voter = |id: u16| node(id, members(voters, &[]), &log(id));
                let others = (1..=voters).filter(|&id| id != lacking);
                let votes =
                    others.filter(|&id| grants(&mut voter(id), n(lacking), vote(9, id_of(&log(lacking)))));
                assert!(votes.count() as u16 + 1 < majority, "{lacking} beside {holders:b}");
            }
        }
    }
}

fn id_of(log: &[u64]) -> crate::base::ids::EntryId {
    id(log[log.len() - 1], log.len() as u64)
}

/// Raft paper 5.4.1: with a log that is as good as a majority's a candidate wins, though others have more that is not
/// committed.
#[test]
fn paper_5_4_1_as_up_to_date_as_a_majority_is_enough() {
    let logs: [&[u64]; 5] = [&[1, 2, 2], &[1, 2, 2], &[1, 2], &[1, 2, 2, 2], &[1, 3]];
    let mut raft = candidate(5, logs[0]);
    let term = raft.term().get();
    for (peer, log) in (2..=5).zip(&logs[1..]) {
        let mut voter = node(peer, members(5, &[]), log);
        if grants(&mut voter, n(1), vote(term, id(2, 3))) {
            raft.step(n(peer), vote_reply(term));
        }
    }
    assert_eq!(raft.role(), Role::Leader, "the votes of 2 and 3; 4 and 5 refuse");
}

/// Raft paper 5.4.2; figure 2, leaders 5: the commit index is the highest index of an entry of the leader's term that a
/// majority of disks has; all cases of three and five nodes.
#[test]
fn paper_5_4_2_the_commit_index_is_the_highest_entry_of_the_term_on_a_majority() {
    let log = [1, 2, 2]; // and 3, 3, 3, of the leader's term
    for voters in [3u16, 5] {
        let others = u32::from(voters) - 1;
        for code in 0..7u64.pow(others) {
            let mut raft = leader(voters, &log);
            propose(&mut raft, 2);
            let own = 4;
            let mut disks = vec![own];
            for at in 0..others {
                let stable = code / 7u64.pow(at) % 7;
                raft.step(n(at as u16 + 2), accepted(3, stable, stable));
                disks.push(stable);
            }
            let on_majority =
                |index: &u64| 2 * disks.iter().filter(|&&disk| disk >= *index).count() > disks.len();
            let of_term = |index: &u64| raft.log().term_at(LogIndex(*index)) == Some(raft.term());
            let want = (1..=6u64).rev().find(|index| on_majority(index) && of_term(index)).unwrap_or(0);
            assert_eq!(raft.commit_index(), i(want), "{disks:?}");
        }
    }
}

/// Raft paper 5.4.2: entries keep the term in which they were made, whoever sends them later.
#[test]
fn paper_5_4_2_entries_keep_their_term_under_later_leaders() {
    let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
    few.elect(1);
    few.isolate(3);
    few.at(1).propose().unwrap();
    few.settle();
    few.cut.clear();
    few.elect(2);
    assert_eq!(super::super::log_of(few.at(3)), [1, 2, 2, 3]);
}

/// Raft paper 5.4.3, figure 3: whichever majority made an entry committed, whoever leads later has it, and nobody else
/// can be elected.
#[test]
fn paper_5_4_3_every_later_leader_has_what_was_committed() {
    let mut winners = 0;
    for (a, b) in (2..=5).flat_map(|a| (a + 1..=5).map(move |b| (a, b))) {
        for next in 1..=5 {
            let mut few = Few::new((1..=5).map(|id| node(id, members(5, &[]), &[1])).collect());
            few.elect(1);
            (2..=5).filter(|&id| id != a && id != b).for_each(|id| few.isolate(id));
            few.at(1).propose().unwrap();
            few.settle();
            assert_eq!(few.at(1).commit_index(), i(3), "by 1, {a} and {b}");
            few.cut.clear();
            few.at(1).step_down();
            few.elect(next);
            let has = [1, a, b].contains(&next);
            assert_eq!(few.at(next).role() == Role::Leader, has, "n{next} after 1, {a} and {b}");
            assert!(!has || few.at(next).term_at(i(3)) == Some(t(2)));
            winners += usize::from(has);
        }
    }
    assert_eq!(winners, 6 * 3);
}

/// Raft paper 5.4.3, figure 3: a node that is told to replace a committed entry stops: going on would lose it.
#[test]
#[should_panic(expected = "state machine safety")]
fn paper_5_4_3_a_truncation_of_a_committed_entry_stops_the_node() {
    let mut raft = node(2, members(3, &[]), &[1, 1]);
    raft.step(n(1), append(1, id(1, 2), &[1], 3));
    raft.step(n(3), append(2, id(1, 2), &[2], 3));
}

/// Raft paper 5.4.3: a leader whose log lacks what this node knows as committed cannot be; the node stops.
#[test]
#[should_panic(expected = "leader completeness")]
fn paper_5_4_3_a_leader_without_a_committed_entry_stops_the_node() {
    let mut raft = node(2, members(3, &[]), &[1, 1]);
    raft.step(n(1), append(1, id(1, 2), &[1], 3));
    drain(&mut raft);
    raft.step(n(3), append(2, id(2, 3), &[2], 3));
}
