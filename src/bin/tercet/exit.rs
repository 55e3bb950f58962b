//! Exit codes, and the one line that goes with each.

use std::fmt::Display;
use std::process::ExitCode;

/// Something failed.
pub const FAILED: u8 = 1;
/// Bad arguments, configuration or environment.
pub const USAGE: u8 = 2;
/// No node reachable, no leader, or no progress in time.
pub const UNAVAILABLE: u8 = 3;
/// A check found lost, reordered or corrupt data.
pub const CORRUPT: u8 = 4;
/// Interrupted.
pub const INTERRUPTED: u8 = 5;

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// One line that says what happened and what to do.
    pub line: String,
}

/// What a command returns.
pub type Outcome = Result<ExitCode, Failure>;

impl Failure {
    /// A failure with its code.
    pub fn new(code: u8, line: impl Display) -> Self {
        // One line, whatever a library's message looks like.
        Self { code, line: line.to_string().replace('\n', " ") }
    }

    /// Bad arguments, configuration or environment.
    pub fn usage(line: impl Display) -> Self {
        Self::new(USAGE, line)
    }
}

impl From<tercet::node::NodeError> for Failure {
    fn from(error: tercet::node::NodeError) -> Self {
        Self::new(error.exit_code() as u8, error)
    }
}

impl From<tercet::config::ConfigError> for Failure {
    fn from(error: tercet::config::ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<tercet::client::ClientError> for Failure {
    fn from(error: tercet::client::ClientError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(FAILED, error)
    }
}
