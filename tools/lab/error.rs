//! Why a tool ends early, and the exit code that goes with it.

use tercet::client::ClientError;
use tercet::node::NodeError;
use thiserror::Error;

/// One clear line each.
#[derive(Debug, Error)]
pub enum LabError {
    /// The machine, a path or an argument is not as it must be.
    #[error("{0}")]
    Environment(String),
    /// Something did not come about in time, or went wrong.
    #[error("{0}")]
    Failed(String),
    /// A client was told no.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// A node could not be formatted.
    #[error("{0}")]
    Node(#[from] NodeError),
    /// The system said no.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// Something happened that must never happen.
    #[error("violated: {0}")]
    Violation(String),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// What most calls give.
pub type LabResult<T> = Result<T, LabError>;

impl LabError {
    /// The exit code of a tool that ends with this.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Environment(_) => 2,
            Self::Failed(_) | Self::Client(_) | Self::Node(_) | Self::System(_) => 1,
            Self::Violation(_) => 4,
            Self::Interrupted => 5,
        }
    }
}
