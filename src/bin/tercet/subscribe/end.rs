//! Where `--until-end` ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tercet::base::ids::Offset;
use tercet::client::{ClientError, query_commit};

use crate::exit::Failure;

/// How long a leader is looked for before a node's own knowledge has to do.
const LEADER_LIMIT: Duration = Duration::from_secs(1);
/// One attempt at asking a node for what it knows.
const NODE_LIMIT: Duration = Duration::from_secs(2);

/// The last offset to print; zero: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Offset of the last committed event as of the question.
    pub offset: Offset,
}

impl End {
    /// Asks the leader, found from any of `servers`. Without one: asks the servers themselves, and says so on stderr.
    pub fn find(servers: &[SocketAddr], patience: Duration) -> Result<Self, Failure> {
        let begun = Instant::now();
        match query_commit(servers, true, LEADER_LIMIT) {
            Ok(known) => return Ok(Self { offset: known.last_offset }),
            Err(ClientError::NoLeader { .. }) => {}
            // A node that is just starting answers a little later.
            Err(ClientError::NoNodeReachable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        loop {
            match query_commit(servers, false, NODE_LIMIT) {
                Ok(known) => {
                    crate::output::note(format_args!(
                        "tercet: no leader within {LEADER_LIMIT:?}; ending at offset {}, which is what this node \
                         itself knows to be committed",
                        known.last_offset
                    ));
                    return Ok(Self { offset: known.last_offset });
                }
                Err(error) if begun.elapsed() >= patience.min(3 * LEADER_LIMIT) => return Err(error.into()),
                Err(_) => {}
            }
        }
    }
}
