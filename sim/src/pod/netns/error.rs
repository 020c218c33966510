//! Why a sandbox could not be made.

use std::io;

use tap_bridge::packet::PacketError;
use tap_bridge::sys::netlink::NetlinkError;
use tap_bridge::tap::TapError;

/// A sandbox could not be made; nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The kernel refused a namespace.
    #[error("{name}: make namespaces: {source}")]
    Namespace {
        /// Pod or node.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The TAP device.
    #[error("{name}: {source}")]
    Tap {
        /// Pod or node.
        name: String,
        /// Which operation failed.
        source: TapError,
    },
    /// The packet socket at the other end of its interface.
    #[error("{name}: {source}")]
    Packet {
        /// Pod or node.
        name: String,
        /// Which operation failed.
        source: PacketError,
    },
    /// Its links, addresses or routes.
    #[error("{name}: {source}")]
    Network {
        /// Pod or node.
        name: String,
        /// Which change was refused.
        source: NetlinkError,
    },
    /// Nobody wants it any more.
    #[error("{name}: given up")]
    GivenUp {
        /// Pod or node.
        name: String,
    },
    /// Its files.
    #[error("{name}: {what}: {source}")]
    Files {
        /// Pod or node.
        name: String,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl SandboxError {
    /// True when this host doesn't allow sandboxes at all, as against one that could not be made.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::Namespace { source, .. } => denied(source),
            Self::Tap { source, .. } => {
                source.is_closed()
                    || source.is_absent()
                    || matches!(source, TapError::Attach { source, .. } | TapError::SetIndex { source, .. } if denied(source))
            }
            Self::Packet { source, .. } => source.is_permission(),
            // A kernel without veths says that it doesn't support them.
            Self::Network { source, .. } => {
                denied(&source.source) || source.source.kind() == io::ErrorKind::Unsupported
            }
            Self::Files { .. } | Self::GivenUp { .. } => false,
        }
    }

    /// True when an interface of that name or index exists.
    pub(super) fn is_taken(&self) -> bool {
        use io::ErrorKind::{AlreadyExists, ResourceBusy};
        let Self::Network { source, .. } = self else {
            return false;
        };
        matches!(source.source.kind(), AlreadyExists | ResourceBusy)
    }
}
