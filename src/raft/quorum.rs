//! Counting voters. A quorum is a majority, so any two quorums share a voter.

use crate::base::limits::NODES_MAX;

/// How many of `voters` make a quorum.
#[must_use]
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The least number of *other* voters that meets every quorum this node is part of: of the `voters - 1` others a
/// quorum holds at least `majority - 1`, so `voters - majority + 1` of them cannot all stand outside. Equal to the
/// majority where `voters` is odd.
#[must_use]
pub fn blocking_others(voters: usize) -> usize {
    voters - majority(voters) + 1
}

/// A value for each voter, without allocating.
pub(super) struct Values {
    values: [u64; NODES_MAX],
    count: usize,
}

impl Values {
    pub(super) fn new() -> Self {
        Self { values: [0; NODES_MAX], count: 0 }
    }

    pub(super) fn push(&mut self, value: u64) {
        self.values[self.count] = value;
        self.count += 1;
    }

    /// The highest value that a majority has reached.
    pub(super) fn reached_by_majority(&mut self) -> u64 {
        if self.count == 0 {
            return 0;
        }
        let values = &mut self.values[..self.count];
        values.sort_unstable();
        values[values.len() - majority(values.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::{Values, blocking_others, majority};

    #[test]
    fn majorities_of_one_to_seven() {
        let got: Vec<usize> = (1..=7).map(majority).collect();
        assert_eq!(got, [1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn a_blocking_set_of_others_meets_every_quorum_that_holds_this_node() {
        for voters in 1..=7usize {
            // Voter 0 is this node; every set of others of that size must meet every majority with voter 0 in it.
            let size = blocking_others(voters);
            for quorum in (0u32..1 << voters).filter(|q| q & 1 == 1) {
                if (quorum.count_ones() as usize) < majority(voters) {
                    continue;
                }
                for others in (0u32..1 << voters).filter(|s| s & 1 == 0) {
                    if others.count_ones() as usize == size {
                        assert_ne!(others & quorum, 0, "{voters} voters, {others:b} misses {quorum:b}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_reached_value_is_the_one_a_majority_has() {
        for (values, want) in [
            (&[5][..], 5),
            (&[5, 3], 3),
            (&[9, 1, 4], 4),
            (&[9, 8, 1, 2], 2),
            (&[1, 2, 3, 4, 5], 3),
            (&[7, 7, 7, 7, 0, 0, 0], 7),
        ] {
            let mut all = Values::new();
            values.iter().for_each(|&v| all.push(v));
            assert_eq!(all.reached_by_majority(), want, "{values:?}");
        }
    }
}
