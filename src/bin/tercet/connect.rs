//! What all client commands begin with.

use std::net::SocketAddr;
use std::time::Duration;

use tercet::client::{ClientOptions, parse_servers};

use crate::exit::{FAILED, Failure};

/// Addresses from `--servers`.
pub fn servers(list: &str) -> Result<Vec<SocketAddr>, Failure> {
    Ok(parse_servers(list)?)
}

/// Options for a client called `name` (in the nodes' logs) that gives up after `patience` without progress.
pub fn options(list: &str, name: &str, patience: Duration) -> Result<ClientOptions, Failure> {
    Ok(ClientOptions {
        name: name.to_owned(),
        no_progress_timeout: patience,
        ..ClientOptions::new(servers(list)?)
    })
}

/// A topic that the cluster will take.
pub fn check_topic(topic: &str) -> Result<(), Failure> {
    let why = match tercet::entry::validate_topic(topic) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    Err(Failure::usage(format!(
        "bad --topic '{}': {why}; use 1 to 255 bytes without spaces, control characters and '*'",
        topic.escape_debug()
    )))
}

/// A producer's name that nobody else has.
pub fn random_name(prefix: &str) -> Result<String, Failure> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(count) if count == bytes.len() => Ok(format!("{prefix}-{:016x}", u64::from_le_bytes(bytes))),
        _ => {
            Err(Failure::new(FAILED, "the system gives no random numbers; name the producer with --producer"))
        }
    }
}
