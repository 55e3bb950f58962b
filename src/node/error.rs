//! Why a node does not start, with the exit code of each reason.

use crate::agent::boot::BootError;
use crate::agent::control::Fatal;
use crate::base::ids::NodeId;
use crate::log::{DiskErrorKind, FormatError, LogError};
use crate::net::BindError;
use crate::runtime::StartError;

/// Why a node could not be formatted or started. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A port is in use, or the address is not this machine's.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data directory cannot be formatted.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Threads cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node's id is not in the list of nodes.
    #[error("node_id is {0}, but `nodes` has no such id; add it or choose another with --node-id")]
    NotInNodes(NodeId),
    /// The directory belongs to another node or cluster.
    #[error("{0}")]
    Mismatch(String),
    /// Stored state contradicts itself.
    #[error("{0}")]
    Damaged(String),
    /// The node ran and cannot go on.
    #[error("{}", .0.line())]
    Fatal(Fatal),
    /// The log does not begin with a configuration, or holds something that this build does not know.
    #[error("{0}")]
    Unusable(String),
}

impl From<BootError> for NodeError {
    fn from(error: BootError) -> Self {
        match error {
            BootError::Log(error) => Self::Log(error),
            BootError::Damaged(what) => Self::Damaged(what),
            BootError::Unusable(what) => Self::Unusable(what),
        }
    }
}

impl NodeError {
    /// The process' exit code (INTERFACE, 'Exit codes').
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Log(
                LogError::Corrupt(_) | LogError::MissingSegment { .. } | LogError::HardState { .. },
            ) => 4,
            Self::Log(LogError::Disk(error)) | Self::Format(FormatError::Disk(error)) => match error.kind() {
                // The path is wrong, not the disk.
                DiskErrorKind::Locked
                | DiskErrorKind::NotFound
                | DiskErrorKind::Exists
                | DiskErrorKind::NotADirectory => 2,
                _ => 6,
            },
            Self::Damaged(_) => 4,
            Self::Fatal(fatal) => fatal.exit_code(),
            Self::Log(LogError::Poisoned(_)) => 6,
            _ => 2,
        }
    }
}
