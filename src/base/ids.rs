//! Identifiers as newtypes, so that an index is never used where an offset is meant.
//!
//! *Index* counts Raft entries, *offset* counts committed events (dense, from 1), *position* is a byte in a file and
//! stays a plain `u64`. Zero means 'none' or 'before the first' for every counter here.
//!
//! Arithmetic: decoders refuse counters above [`COUNTER_MAX`], so `+ 1` on a decoded value cannot wrap; the helpers
//! below check all the same.

use std::fmt;

/// Largest value that a decoder accepts for an index, term, offset or sequence (2^62).
pub const COUNTER_MAX: u64 = 1 << 62;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The value before the first one.
            pub const ZERO: Self = Self(0);

            /// The raw number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// This value plus `n`. Panics where it would pass `u64::MAX`, which decoded values (bounded by
            /// [`COUNTER_MAX`]) cannot reach.
            #[must_use]
            pub const fn plus(self, n: u64) -> Self {
                match self.0.checked_add(n) {
                    Some(value) => Self(value),
                    None => panic!("counter overflow"),
                }
            }

            /// The next value.
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// The previous value; zero stays zero.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// How far `self` is past `earlier`; zero when it is not.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

counter!(
    /// A Raft term.
    Term
);
counter!(
    /// A Raft log index; the first entry has index 1.
    LogIndex
);
counter!(
    /// The dense number of a committed event; the first has offset 1.
    Offset
);
counter!(
    /// A producer's own number for an event; contiguous from 1.
    Sequence
);
counter!(
    /// A producer: the index of the `open_producer` entry that first named it.
    ProducerId
);

/// A node of the cluster, 1 to 65,535. Zero stands for 'no node' in encodings only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl NodeId {
    /// Encoding of an optional node: zero is none.
    #[must_use]
    pub const fn to_wire(node: Option<Self>) -> u16 {
        match node {
            Some(id) => id.0,
            None => 0,
        }
    }

    /// Inverse of [`NodeId::to_wire`].
    #[must_use]
    pub const fn from_wire(raw: u16) -> Option<Self> {
        if raw == 0 { None } else { Some(Self(raw)) }
    }
}

/// A Raft group. One for now; it travels in the wire header and the data path so that several can share a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u16);

/// How often a producer's name has been opened; a newer epoch fences the older.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u32);

/// Names one entry of the log: Raft's log matching makes (term, index) unique. Ordered as Raft compares logs: term
/// first, then index (Raft paper, section 5.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// Term in which a leader created the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: LogIndex,
}

impl EntryId {
    /// Before the first entry.
    pub const ZERO: Self = Self { term: Term::ZERO, index: LogIndex::ZERO };

    /// Term and index together.
    #[must_use]
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@t{}", self.index, self.term)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.index, self.term)
    }
}

macro_rules! wide_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    };
}

wide_id!(
    /// The cluster: follows from its name, token and node ids, so its nodes are formatted independently.
    ClusterId
);
wide_id!(
    /// One formatting of one data directory. A wiped and re-formatted node has a new one. Zero: not known.
    Incarnation
);
