//! Why something could not be done with a lab.

use crate::cluster::ClusterError;
use crate::control::proto::ErrorKind;
use crate::node::handle::NodeError;
use crate::pod::netns::SandboxError;

/// Something could not be done. Unless it says otherwise nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// This host doesn't allow what the back end needs.
    #[error("{0}")]
    Unavailable(String),
    /// Everything else.
    #[error("{message}")]
    Failed {
        /// Decides the exit code.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
}

impl LabError {
    /// A failure with its kind.
    pub fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Self::Failed {
            kind,
            message: format!("{message}"),
        }
    }

    /// A bug of ours, or of the system.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}

impl From<NodeError> for LabError {
    fn from(error: NodeError) -> Self {
        let kind = match error {
            NodeError::TimedOut { .. } => ErrorKind::Timeout,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error)
    }
}

impl From<SandboxError> for LabError {
    fn from(error: SandboxError) -> Self {
        if error.is_permission() {
            Self::Unavailable(error.to_string())
        } else {
            Self::internal(error)
        }
    }
}

impl From<ClusterError> for LabError {
    fn from(error: ClusterError) -> Self {
        Self::new(error.kind(), error)
    }
}
