//! What a client is told before it starts, and what it is given to publish.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::error::ClientError;
use crate::base::ids::ClusterId;
use crate::base::limits::NODES_MAX;

/// How to reach a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// Client addresses of 1 to 7 nodes; any subset of the cluster will do, and some may be dead.
    pub servers: Vec<SocketAddr>,
    /// For the nodes' logs; shortened to 64 bytes.
    pub name: String,
    /// The cluster that is meant; none: whichever answers first, and then only that one.
    pub cluster_id: Option<ClusterId>,
    /// How long one dial may take, handshake included.
    pub connect_timeout: Duration,
    /// For how long nothing may move before a call gives up: no leader while opening, no acknowledgement while
    /// events are outstanding, no connection while subscribing.
    pub no_progress_timeout: Duration,
    /// A leader that says nothing for that long while events are outstanding is left for the next that is heard of.
    /// It is asked with a ping after half of it, and any answer counts as life, so one that is slow to commit is kept.
    /// Doubles (up to eight times) with each time that leaving brought nothing. News of a newer leader from any node
    /// are followed at once, whatever the old one says.
    pub leader_silence_limit: Duration,
    /// Seed of the jitter between dials; none: random.
    pub seed: Option<u64>,
}

impl ClientOptions {
    /// Default of [`ClientOptions::connect_timeout`].
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    /// Default of [`ClientOptions::no_progress_timeout`].
    pub const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
    /// Default of [`ClientOptions::leader_silence_limit`].
    pub const LEADER_SILENCE_LIMIT: Duration = Duration::from_millis(100);

    /// Options with defaults for everything but the servers.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            name: "tercet-client".to_owned(),
            cluster_id: None,
            connect_timeout: Self::CONNECT_TIMEOUT,
            no_progress_timeout: Self::NO_PROGRESS_TIMEOUT,
            leader_silence_limit: Self::LEADER_SILENCE_LIMIT,
            seed: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ClientError> {
        check_servers(&self.servers)
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(random_seed)
    }
}

/// A seed that differs between processes and calls; the standard library draws it from the system.
pub(super) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub(super) fn check_servers(servers: &[SocketAddr]) -> Result<(), ClientError> {
    let bad = |text: String| Err(ClientError::BadServers { text });
    match servers.len() {
        0 => bad("it is empty".to_owned()),
        count if count > NODES_MAX => bad(format!("it has {count} addresses")),
        _ => Ok(()),
    }
}

/// Reads a comma-separated list of `host:port`. Host names are looked up at once, by the system, and that may take
/// seconds; a name with several addresses counts once (the first of IPv4, else the first).
///
/// # Errors
/// [`ClientError::BadServers`].
pub fn parse_servers(list: &str) -> Result<Vec<SocketAddr>, ClientError> {
    let mut servers = Vec::new();
    for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let address =
            resolve(text).map_err(|why| ClientError::BadServers { text: format!("'{text}': {why}") })?;
        if !servers.contains(&address) {
            servers.push(address);
        }
    }
    check_servers(&servers)?;
    Ok(servers)
}

/// One `host:port`; without a system call for a literal address.
pub(super) fn resolve(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let found: Vec<SocketAddr> = text.to_socket_addrs().map_err(|error| error.to_string())?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| "has no address".to_owned())
}

/// An event to publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// 1 to 255 bytes, no whitespace, no control characters, no `*`.
    pub topic: &'a str,
    /// The producer's word on urgency, handed through to subscribers.
    pub priority: u8,
    /// Names and values: at most 64, at most 32 KiB encoded.
    pub attributes: &'a [(&'a str, &'a [u8])],
    /// 0 bytes to 1 MiB.
    pub body: &'a [u8],
    /// The producer's wall clock; none: now.
    pub timestamp_unix_ns: Option<u64>,
}

impl<'a> Event<'a> {
    /// An event of now, without attributes, of priority 0.
    #[must_use]
    pub const fn new(topic: &'a str, body: &'a [u8]) -> Self {
        Self { topic, priority: 0, attributes: &[], body, timestamp_unix_ns: None }
    }
}
