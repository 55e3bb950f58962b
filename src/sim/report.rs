//! What a simulation came to.

use std::collections::BTreeMap;
use std::fmt;

use super::faults::fault;

/// An invariant that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which one.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// Names the invariant and says what was seen.
    #[must_use]
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// One simulation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Where everything was drawn from.
    pub seed: u64,
    /// Hash of everything that happened, in order: equal for equal seeds.
    pub trace_hash: u64,
    /// Nodes of the cluster.
    pub nodes: u16,
    /// What stable means in it: "disk" or "memory".
    pub durability: &'static str,
    /// Events in the committed log at the end.
    pub events_committed: u64,
    /// Acknowledgements that clients got, duplicates included.
    pub acknowledgements: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// What went wrong, how often, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// States that matter and are rare, how often.
    pub rare: BTreeMap<&'static str, u64>,
    /// Simulated time.
    pub simulated_ns: u64,
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
}

impl Report {
    /// What the adversary did, without what followed from it (frames that were lost, nodes that started again).
    #[must_use]
    pub fn strike_count(&self) -> u64 {
        fault::STRIKES.iter().filter_map(|name| self.faults.get(name)).sum()
    }
}
