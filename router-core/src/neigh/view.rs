//! The neighbour table as users see it.

use core::net::Ipv4Addr;

use crate::addr::Mac;
use crate::config::PortId;

/// State of a neighbour entry (Linux NUD states, RFC 4861 7.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum NeighbourState {
    /// Being resolved: packets wait.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Known, not confirmed lately, not in use.
    Stale,
    /// In use unconfirmed; probing starts soon.
    Delay,
    /// Unicast probes are out.
    Probe,
    /// Did not answer.
    Failed,
    /// Set by the administrator.
    Permanent,
}

impl NeighbourState {
    /// The name as iproute2 prints it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incomplete => "INCOMPLETE",
            Self::Reachable => "REACHABLE",
            Self::Stale => "STALE",
            Self::Delay => "DELAY",
            Self::Probe => "PROBE",
            Self::Failed => "FAILED",
            Self::Permanent => "PERMANENT",
        }
    }
}

/// One line of `ip neigh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NeighbourView {
    /// Port it is on.
    pub port: PortId,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its MAC, where one is known.
    pub mac: Option<Mac>,
    /// State of the entry.
    pub state: NeighbourState,
}
