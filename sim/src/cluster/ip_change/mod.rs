//! Changes of a node's links, addresses, routes and neighbours in iproute2's syntax.

use std::net::Ipv4Addr;

use router_core::{Mac, PortId};

use super::IpError;
use crate::model::Node;

/// Learned neighbours to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Only on this port.
    pub port: Option<PortId>,
    /// Only this address.
    pub ip: Option<Ipv4Addr>,
}

/// Carries out `args` (the words behind `ip`) on `node`, all or nothing.
///
/// # Errors
/// iproute2's message and exit status.
pub(crate) fn apply(
    _node: &mut Node,
    _neighbours: &mut Vec<(String, Ipv4Addr, Mac)>,
    _next_ifindex: &mut u32,
    args: &[String],
) -> Result<Vec<Flush>, IpError> {
    let object = args.first().map_or("", String::as_str);
    Err(IpError::usage(format!(
        "Object \"{object}\" is unknown, try \"ip help\"."
    )))
}
