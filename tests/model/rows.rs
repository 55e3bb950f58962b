//! What is looked at: the short form in `cargo test`, all of it by `tercet-model`.

use crate::model::cluster::Bounds;

/// Bounds with a name.
pub struct Row {
    /// For people.
    pub name: &'static str,
    /// What may happen.
    pub bounds: Bounds,
    /// Whether `cargo test` looks at it.
    pub is_short: bool,
}

const fn short(name: &'static str, bounds: Bounds) -> Row {
    Row { name, bounds, is_short: true }
}

const fn long(name: &'static str, bounds: Bounds) -> Row {
    Row { name, bounds, is_short: false }
}

const LEAST: Bounds = Bounds::LEAST;
const CHANGING: Bounds = Bounds { learners: 1, changes: 2, ..LEAST };

/// Every row.
pub const ROWS: &[Row] = &[
    short("election, entry, crash", Bounds { proposals: 1, crashes: 1, ..LEAST }),
    long("election, two entries, two crashes", Bounds { proposals: 2, crashes: 2, ..LEAST }),
    long(
        "election with its pre-votes, entry, crash",
        Bounds { proposals: 1, crashes: 1, pre_votes: true, ..LEAST },
    ),
    long("election, entry, links of two", Bounds { proposals: 1, link: 2, ..LEAST }),
    short("election, heartbeat, crash", Bounds { heartbeats: 1, crashes: 1, ..LEAST }),
    short("two elections", Bounds { elections: 2, ..LEAST }),
    short("two elections, crash", Bounds { elections: 2, crashes: 1, ..LEAST }),
    long("two elections, two crashes", Bounds { elections: 2, crashes: 2, ..LEAST }),
    long("two elections, entry", Bounds { elections: 2, proposals: 1, ..LEAST }),
    long("two elections, links of two", Bounds { elections: 2, link: 2, ..LEAST }),
    long("two elections, entry, crash", Bounds { elections: 2, proposals: 1, crashes: 1, ..LEAST }),
    long("three elections", Bounds { elections: 3, ..LEAST }),
    short("3-4-3", CHANGING),
    long("3-4-3, crash", Bounds { crashes: 1, ..CHANGING }),
    short("claim: two elections, torn log", Bounds { elections: 2, tears: 1, ..LEAST }),
    long("claim: two elections, torn log, crash", Bounds { elections: 2, tears: 1, crashes: 1, ..LEAST }),
    short("transfer", Bounds { transfers: 1, ..LEAST }),
    long("transfer, entry", Bounds { transfers: 1, proposals: 1, ..LEAST }),
    long("transfer, crash", Bounds { transfers: 1, crashes: 1, ..LEAST }),
    long("transfer, two elections", Bounds { transfers: 1, elections: 2, ..LEAST }),
    short("read", Bounds { reads: 1, ..LEAST }),
    long("read, two elections", Bounds { reads: 1, elections: 2, ..LEAST }),
    short("checkpoint: election, entry", Bounds { trims: 1, proposals: 1, ..LEAST }),
    long("checkpoint: two elections", Bounds { trims: 1, elections: 2, ..LEAST }),
    long("checkpoint: two elections, crash", Bounds { trims: 1, elections: 2, crashes: 1, ..LEAST }),
];
