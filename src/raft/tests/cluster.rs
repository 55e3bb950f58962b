//! Whole clusters of cores, seeded. A failure prints its seed; the same seed gives the same run.

use super::harness::{Cluster, ELECTION, Faults};
use crate::base::prng::Prng;
use crate::raft::Role;

/// Prints the seed where the run panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed: {}", self.0);
        }
    }
}

pub(super) fn run_seed(seed: u64, voters: u16, learners: &[u16], faults: Faults) -> Cluster {
    let _seed = Seed(seed);
    let mut cluster = Cluster::new(seed, voters, learners, faults);
    let mut prng = Prng::new(seed ^ 0x5eed);
    for _ in 0..1_500 {
        cluster.tick();
        if prng.chance(250_000) {
            let at = prng.below(cluster.nodes.len() as u64) as usize;
            let target = cluster.leader().filter(|_| prng.chance(700_000)).unwrap_or(at);
            cluster.propose(target);
        }
    }
    cluster.must_recover(2_500);
    cluster
}

/// Raft paper 5.4.3, 5.5 and 5.6, figure 3: under loss, doubled and reordered messages and crashes all five properties hold,
/// and afterwards the cluster goes on.
#[test]
fn safety_and_recovery_under_loss_doubling_reordering_and_crashes() {
    let (mut committed, mut leaders, mut crashes, mut truncations) = (0, 0, 0, 0);
    for seed in 0..1_000 {
        let voters = [3, 3, 5, 3, 4, 2, 7, 3][seed as usize % 8];
        let cluster = run_seed(seed, voters, &[], Faults::ROUGH);
        committed += cluster.committed.len();
        leaders += cluster.leaders.len();
        crashes += cluster.crashes;
        truncations += cluster.truncations;
    }
    // The runs must have met what they are for.
    assert!(committed > 1_000 * 20, "{committed} entries committed");
    assert!(leaders > 1_000 * 3, "{leaders} leaders");
    assert!(crashes > 1_000 * 8, "{crashes} crashes");
    assert!(truncations > 500, "{truncations} truncations");
}

#[test]
fn safety_with_learners_and_single_voters() {
    for seed in 1000..1080 {
        run_seed(
            seed,
            3,
            &[8, 9][..1 + seed as usize % 2].iter().map(|x| x - 4).collect::<Vec<_>>(),
            Faults::ROUGH,
        );
        run_seed(seed, 1, if seed % 2 == 0 { &[] } else { &[2] }, Faults::ROUGH);
    }
}

#[test]
fn committed_entries_survive_damaged_tails() {
    let mut claims = 0;
    for seed in 2_000..3_000 {
        let voters = [3, 5, 3, 4][seed as usize % 4];
        let faults = Faults { damage: true, crash: 5_000, ..Faults::ROUGH };
        claims += run_seed(seed, voters, &[], faults).claims;
    }
    assert!(claims > 1_000, "{claims} claimed tails");
}

#[test]
fn gentle_clusters_of_all_sizes_elect_once_and_keep_their_leader() {
    for voters in 1..=7 {
        let mut cluster = Cluster::new(u64::from(voters), voters, &[], Faults::NONE);
        cluster.run(ELECTION * 8);
        let leader = cluster.leader().expect("a leader");
        let term = cluster.raft(leader).term();
        for _ in 0..500 {
            cluster.propose(leader);
            cluster.tick();
        }
        cluster.must_recover(100);
        assert_eq!(cluster.leader(), Some(leader), "{voters} voters");
        assert_eq!(cluster.raft(leader).term(), term, "{voters} voters");
        assert!(cluster.committed.len() > 500);
    }
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in 5..8 {
        let hash = |seed| run_seed(seed, 3, &[], Faults::ROUGH).trace_hash();
        assert_eq!(hash(seed), hash(seed));
        assert_ne!(hash(seed), hash(seed + 100));
    }
}

#[test]
fn pitfall_10_a_partial_partition_keeps_one_leader_and_its_term() {
    for seed in 0..10 {
        let _seed = Seed(seed);
        let mut cluster = Cluster::new(seed, 3, &[], Faults::NONE);
        cluster.run(ELECTION * 8);
        let leader = cluster.leader().unwrap();
        let term = cluster.raft(leader).term();
        // The leader and one follower lose each other; the third sees both.
        cluster.cut_link(leader, (leader + 1) % 3, true);
        for _ in 0..2_000 {
            cluster.propose(leader);
            cluster.tick();
        }
        assert_eq!(cluster.leader(), Some(leader));
        assert_eq!(cluster.raft(leader).term(), term);
        assert!(cluster.raft(leader).commit_index().get() > 1_000);
        cluster.must_recover(3_000);
        assert_eq!(cluster.raft(leader).term(), term);
    }
}

/// Raft thesis 9.6: a node that was cut off for long comes back with the term that it had.
#[test]
fn pitfall_8_a_node_that_was_cut_off_rejoins_without_an_election() {
    for seed in 20..30 {
        let _seed = Seed(seed);
        let mut cluster = Cluster::new(seed, 3, &[], Faults::NONE);
        cluster.run(ELECTION * 8);
        let leader = cluster.leader().unwrap();
        let term = cluster.raft(leader).term();
        let lone = (leader + 1) % 3;
        (0..3).filter(|&other| other != lone).for_each(|other| cluster.cut_link(lone, other, true));
        cluster.run(ELECTION * 40);
        assert_eq!(cluster.raft(lone).term(), term, "pre-vote leaves the term alone");
        cluster.must_recover(3_000);
        assert_eq!((cluster.leader(), cluster.raft(leader).term()), (Some(leader), term));
    }
}

/// Raft paper 5.2; Raft thesis 6.2: a leader without a majority gives up, and the majority elects another.
#[test]
fn thesis_6_2_a_leader_cut_off_steps_down_and_the_others_go_on() {
    for seed in 40..50 {
        let _seed = Seed(seed);
        let mut cluster = Cluster::new(seed, 5, &[], Faults::NONE);
        cluster.run(ELECTION * 8);
        let old = cluster.leader().unwrap();
        (0..5).filter(|&other| other != old).for_each(|other| cluster.cut_link(old, other, true));
        cluster.propose(old);
        cluster.run(ELECTION * 10);
        assert_ne!(cluster.raft(old).role(), Role::Leader, "check-quorum");
        let new = cluster.leader().expect("the majority elects another");
        assert!(cluster.propose(new));
        cluster.must_recover(300);
    }
}

#[test]
fn after_a_power_cut_everything_acknowledged_is_there() {
    for seed in 60..80 {
        let _seed = Seed(seed);
        let mut cluster = Cluster::new(seed, 3, &[], Faults { flush_delay: 10, ..Faults::NONE });
        for _ in 0..4 {
            cluster.run(ELECTION * 6);
            for _ in 0..60 {
                if let Some(leader) = cluster.leader() {
                    cluster.propose(leader);
                }
                cluster.tick();
            }
            // `crash` itself checks that what is committed stands on a quorum of disks.
            (0..3).for_each(|at| cluster.crash(at));
            (0..3).for_each(|at| cluster.restart(at));
        }
        cluster.must_recover(500);
        assert!(cluster.committed.len() > 100);
    }
}
