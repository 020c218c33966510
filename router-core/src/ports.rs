//! From port numbers to places in the snapshot, and the checks that a snapshot must pass.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::{PortId, PortKind, RouteTarget, Snapshot};

/// RFC 791: every link carries 68 bytes.
const MIN_MTU: u16 = 68;

/// A snapshot that contradicts itself. The router keeps the one it had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The number that marks frames of the router's own.
    ReservedPort(PortId),
    /// Two ports have one number.
    DuplicatePort(PortId),
    /// More than one host port.
    SecondHostPort(PortId),
    /// More than one tunnel device.
    SecondTunnel(PortId),
    /// An address, route or neighbour names a port that is not in the snapshot.
    UnknownPort(PortId),
    /// A port of a bridge names a port that is no bridge.
    NotABridge(PortId),
    /// A bridge or the host port can't be a port of a bridge.
    NotABridgePort(PortId),
    /// MTU below 68 (RFC 791).
    MtuTooSmall(PortId),
    /// A bandwidth limit without a rate or a burst.
    BadRate(PortId),
    /// A prefix length above 32.
    BadPrefixLength(Ipv4Addr, u8),
    /// A unicast route without a next hop.
    NoNextHop(Ipv4Net),
    /// Two chains of the nat table have one name.
    DuplicateChain(String),
    /// A rule jumps to a chain that there is not.
    UnknownChain(String),
    /// Chains jump to each other in a circle, or more than 16 deep.
    ChainLoop(String),
    /// Destination NAT to no backend, or to one that never has its turn.
    NoBackend(String),
    /// Source NAT where destinations are translated, or the other way round: the chain, and the hook that leads there.
    MisplacedTarget(String, &'static str),
    /// The routes do not fit: see [`Full`](crate::table::Full).
    TooManyRoutes,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedPort(p) => write!(f, "port number {} is reserved", p.0),
            Self::DuplicatePort(p) => write!(f, "port {} is given twice", p.0),
            Self::SecondHostPort(p) => write!(f, "port {} is a second host port", p.0),
            Self::SecondTunnel(p) => write!(f, "port {} is a second tunnel device", p.0),
            Self::UnknownPort(p) => write!(f, "port {} does not exist", p.0),
            Self::NotABridge(p) => write!(f, "port {} is no bridge, but has ports", p.0),
            Self::NotABridgePort(p) => write!(f, "port {} can't be a port of a bridge", p.0),
            Self::MtuTooSmall(p) => write!(f, "port {}: an IPv4 MTU is at least {MIN_MTU}", p.0),
            Self::BadRate(p) => write!(
                f,
                "port {}: a bandwidth limit needs a rate and a burst",
                p.0
            ),
            Self::BadPrefixLength(a, n) => write!(f, "{a}/{n}: a prefix length is at most 32"),
            Self::NoNextHop(net) => write!(f, "route to {net} has no next hop"),
            Self::DuplicateChain(name) => write!(f, "chain {name} is given twice"),
            Self::UnknownChain(name) => {
                write!(f, "a rule jumps to chain {name}, which does not exist")
            }
            Self::ChainLoop(name) => write!(f, "chain {name} is reached in a circle or too deep"),
            Self::NoBackend(name) => write!(f, "chain {name}: destination NAT without a backend"),
            Self::MisplacedTarget(name, hook) => {
                write!(
                    f,
                    "chain {name}: a target that is not allowed where {hook} leads"
                )
            }
            Self::TooManyRoutes => f.write_str("the routes do not fit into the table"),
        }
    }
}

impl core::error::Error for ConfigError {}

const ABSENT: u16 = u16::MAX;

/// Place of each port in [`Snapshot::ports`]. A lookup is one load; 2 bytes for each number up to the highest.
#[derive(Debug, Default)]
pub(crate) struct PortIndex {
    slots: Vec<u16>,
    host: Option<usize>,
    tunnel: Option<usize>,
}

impl PortIndex {
    pub(crate) fn new(snapshot: &Snapshot) -> Result<Self, ConfigError> {
        let mut index = Self::default();
        for (slot, port) in snapshot.ports.iter().enumerate() {
            if port.id.0 == ABSENT {
                return Err(ConfigError::ReservedPort(port.id));
            }
            if port.mtu < MIN_MTU {
                return Err(ConfigError::MtuTooSmall(port.id));
            }
            if [port.shape.rx, port.shape.tx]
                .iter()
                .flatten()
                .any(|rate| !rate.is_sound())
            {
                return Err(ConfigError::BadRate(port.id));
            }
            let at = usize::from(port.id.0);
            if index.slots.len() <= at {
                index.slots.resize(at + 1, ABSENT);
            }
            // Numbers are unique and one is reserved, so that there are fewer places than `ABSENT`.
            let slot_number = u16::try_from(slot).unwrap_or(ABSENT);
            if core::mem::replace(&mut index.slots[at], slot_number) != ABSENT {
                return Err(ConfigError::DuplicatePort(port.id));
            }
            if let PortKind::Host { .. } = port.kind
                && index.host.replace(slot).is_some()
            {
                return Err(ConfigError::SecondHostPort(port.id));
            }
            if let PortKind::Ipip(_) = port.kind
                && index.tunnel.replace(slot).is_some()
            {
                return Err(ConfigError::SecondTunnel(port.id));
            }
        }
        index.check_references(snapshot)?;
        Ok(index)
    }

    fn check_references(&self, snapshot: &Snapshot) -> Result<(), ConfigError> {
        let known = |id| match self.slot(id) {
            Some(_) => Ok(()),
            None => Err(ConfigError::UnknownPort(id)),
        };
        for port in &snapshot.ports {
            let Some(member) = port.bridge else { continue };
            known(member.bridge)?;
            let kind = |id| Some(snapshot.ports.get(self.slot(id)?)?.kind);
            if kind(member.bridge) != Some(PortKind::Bridge) {
                return Err(ConfigError::NotABridge(member.bridge));
            }
            if matches!(
                port.kind,
                PortKind::Bridge | PortKind::Host { .. } | PortKind::Ipip(_)
            ) {
                return Err(ConfigError::NotABridgePort(port.id));
            }
        }
        for address in &snapshot.addresses {
            known(address.port)?;
            if address.prefix_len > 32 {
                return Err(ConfigError::BadPrefixLength(
                    address.addr,
                    address.prefix_len,
                ));
            }
        }
        for route in &snapshot.routes {
            if let RouteTarget::Unicast(hops) = &route.target {
                if hops.is_empty() {
                    return Err(ConfigError::NoNextHop(route.dst));
                }
                hops.iter().try_for_each(|hop| known(hop.port))?;
            }
        }
        snapshot.neighbours.iter().try_for_each(|n| known(n.port))
    }

    /// Place of a port; none when the snapshot does not have it.
    #[inline]
    pub(crate) fn slot(&self, id: PortId) -> Option<usize> {
        match self.slots.get(usize::from(id.0)) {
            None | Some(&ABSENT) => None,
            Some(&slot) => Some(usize::from(slot)),
        }
    }

    /// Place of the tunnel device.
    #[inline]
    pub(crate) const fn tunnel(&self) -> Option<usize> {
        self.tunnel
    }

    /// Place of the host port.
    #[inline]
    pub(crate) const fn host(&self) -> Option<usize> {
        self.host
    }
}
