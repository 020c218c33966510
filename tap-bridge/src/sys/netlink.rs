//! Links, addresses, routes and neighbours of the calling thread's network namespace, by rtnetlink.
//!
//! Decides how a change is put into messages; the callers decide what is changed. Changes are collected in a [`Changes`] and
//! go to the kernel in few system calls, in order; each is acknowledged by itself, and the first refusal names the change.
//! A change that was refused doesn't keep later ones of the same collection from being made.
//! Source: rtnetlink(7). Cost: about 5 us a change plus what the kernel needs for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use router_core::Mac;

/// ifindex of `lo`, the same in every network namespace (Linux `LOOPBACK_IFINDEX`).
pub const LOOPBACK: u32 = 1;

/// Changes that are sent at once: their acknowledgements must fit into the socket's receive buffer (208 KB by default, and
/// the kernel counts about 1 KB for each).
const MAX_IN_FLIGHT: usize = 100;

/// A change that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{change}: {source}")]
pub struct NetlinkError {
    /// What was to be done.
    pub change: String,
    /// What the kernel said.
    pub source: io::Error,
}

/// rtnetlink scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// 0
    #[default]
    Global,
    /// 253
    Link,
    /// 254
    Host,
}

/// A route, of the main table unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub dst: Ipv4Net,
    /// Gateway; none means on link.
    pub via: Option<Ipv4Addr>,
    /// ifindex of the egress interface.
    pub index: u32,
    /// Preferred source.
    pub src: Option<Ipv4Addr>,
    /// Scope.
    pub scope: Scope,
    /// Priority.
    pub metric: u32,
    /// rtnetlink protocol number (2 kernel, 3 boot, 4 static, 16 dhcp).
    pub protocol: u8,
    /// The gateway is on the link although no route says so.
    pub onlink: bool,
    /// Number of the table.
    pub table: u8,
}

impl Route {
    /// `0.0.0.0/0`
    pub const DEFAULT: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);

    /// A route as `ip route add DST dev INDEX` would make it: protocol boot, metric 0.
    #[must_use]
    pub const fn new(dst: Ipv4Net, index: u32) -> Self {
        Self {
            dst,
            via: None,
            index,
            src: None,
            scope: Scope::Global,
            metric: 0,
            protocol: 3,
            onlink: false,
            table: RouteHeader::RT_TABLE_MAIN,
        }
    }
}

/// An ordered list of changes.
#[derive(Debug, Default)]
pub struct Changes {
    list: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    what: String,
    message: RouteNetlinkMessage,
    flags: u16,
    /// errno values that mean "it is already so".
    fine: &'static [i32],
}

pub(super) const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();
const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();
const EADDRNOTAVAIL: i32 = rustix::io::Errno::ADDRNOTAVAIL.raw_os_error();

impl Changes {
    /// Nothing to do yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// True when there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A sentence for each change, in order.
    #[must_use]
    pub fn describe(&self) -> Vec<&str> {
        self.list
            .iter()
            .map(|change| change.what.as_str())
            .collect()
    }

    pub(super) fn push(
        &mut self,
        what: String,
        message: RouteNetlinkMessage,
        flags: u16,
        fine: &'static [i32],
    ) -> &mut Self {
        self.list.push(Change {
            what,
            message,
            flags,
            fine,
        });
        self
    }

    /// Sets an interface up.
    pub fn link_up(&mut self, index: u32) -> &mut Self {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.push(
            format!("set interface {index} up"),
            RouteNetlinkMessage::SetLink(link),
            0,
            &[],
        )
    }

    /// Sets MAC and MTU (bytes, Ethernet header not counted) of an interface that is down.
    pub fn link_identity(&mut self, index: u32, mac: Mac, mtu: u16) -> &mut Self {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Mtu(u32::from(mtu)),
        ];
        self.push(
            format!("set MAC {mac} and MTU {mtu} of interface {index}"),
            RouteNetlinkMessage::SetLink(link),
            0,
            &[],
        )
    }

    /// Says that an interface whose driver doesn't know (a TAP) is operational, so that tools print `state UP`.
    pub fn link_operational(&mut self, index: u32) -> &mut Self {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![LinkAttribute::OperState(State::Up)];
        self.push(
            format!("set operational state of interface {index}"),
            RouteNetlinkMessage::SetLink(link),
            0,
            &[],
        )
    }

    /// Gives an interface the `noqueue` discipline, as virtual interfaces of the CNI plugins have it.
    pub fn qdisc_noqueue(&mut self, index: u32) -> &mut Self {
        let mut tc = TcMessage::default();
        tc.header.index = i32::try_from(index).unwrap_or(i32::MAX);
        tc.header.parent = TcHandle::ROOT;
        tc.attributes = vec![TcAttribute::Kind("noqueue".into())];
        self.push(
            format!("set noqueue on interface {index}"),
            RouteNetlinkMessage::NewQueueDiscipline(tc),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
        )
    }

    /// Adds an address; while the interface is up the kernel adds the connected route with it.
    pub fn address_add(
        &mut self,
        index: u32,
        net: Ipv4Net,
        broadcast: Option<Ipv4Addr>,
        scope: Scope,
    ) -> &mut Self {
        let message = address(index, net, broadcast, scope);
        self.push(
            format!("add address {net} to interface {index}"),
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
        )
    }

    /// Removes an address; its routes go with it.
    pub fn address_delete(&mut self, index: u32, net: Ipv4Net) -> &mut Self {
        let message = address(index, net, None, Scope::Global);
        self.push(
            format!("remove address {net} of interface {index}"),
            RouteNetlinkMessage::DelAddress(message),
            0,
            &[EADDRNOTAVAIL],
        )
    }

    /// Adds a route; an error when one with this destination and metric exists.
    pub fn route_add(&mut self, route: &Route) -> &mut Self {
        self.push(
            format!("add route {}", route.dst),
            RouteNetlinkMessage::NewRoute(route_message(route)),
            NLM_F_CREATE | NLM_F_EXCL,
            &[],
        )
    }

    /// Adds a route in place of one with this destination and metric.
    pub fn route_replace(&mut self, route: &Route) -> &mut Self {
        self.push(
            format!("set route {}", route.dst),
            RouteNetlinkMessage::NewRoute(route_message(route)),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
        )
    }

    /// Removes a route; it is no error when it isn't there.
    pub fn route_delete(&mut self, route: &Route) -> &mut Self {
        let mut message = route_message(route);
        message.header.scope = RouteScope::NoWhere;
        self.push(
            format!("remove route {}", route.dst),
            RouteNetlinkMessage::DelRoute(message),
            0,
            &[ESRCH],
        )
    }

    /// Sets a permanent neighbour entry, which is never resolved and doesn't count against the host's `gc_thresh3`.
    pub fn neighbour_permanent(&mut self, index: u32, ip: Ipv4Addr, mac: Mac) -> &mut Self {
        let mut message = neighbour(index, ip);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.push(
            format!("set neighbour {ip} on interface {index}"),
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
        )
    }

    /// Removes a neighbour entry; it is no error when it isn't there.
    pub fn neighbour_delete(&mut self, index: u32, ip: Ipv4Addr) -> &mut Self {
        self.push(
            format!("remove neighbour {ip} of interface {index}"),
            RouteNetlinkMessage::DelNeighbour(neighbour(index, ip)),
            0,
            &[ENOENT],
        )
    }
}

fn address(index: u32, net: Ipv4Net, broadcast: Option<Ipv4Addr>, scope: Scope) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.header.scope = match scope {
        Scope::Global => AddressScope::Universe,
        Scope::Link => AddressScope::Link,
        Scope::Host => AddressScope::Host,
    };
    let addr = IpAddr::V4(net.addr());
    message.attributes = vec![
        AddressAttribute::Local(addr),
        AddressAttribute::Address(addr),
    ];
    message
        .attributes
        .extend(broadcast.map(AddressAttribute::Broadcast));
    message
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = route.dst.prefix_len();
    message.header.table = route.table;
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.kind = RouteType::Unicast;
    if route.onlink {
        message.header.flags |= RouteFlags::Onlink;
    }
    message.header.scope = match route.scope {
        Scope::Global => RouteScope::Universe,
        Scope::Link => RouteScope::Link,
        Scope::Host => RouteScope::Host,
    };
    message.attributes = vec![RouteAttribute::Oif(route.index)];
    if route.dst.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet(
                route.dst.network(),
            )));
    }
    if let Some(via) = route.via {
        message
            .attributes
            .push(RouteAttribute::Gateway(RouteAddress::Inet(via)));
    }
    if let Some(src) = route.src {
        message
            .attributes
            .push(RouteAttribute::PrefSource(RouteAddress::Inet(src)));
    }
    if route.metric != 0 {
        message
            .attributes
            .push(RouteAttribute::Priority(route.metric));
    }
    message
}

fn neighbour(index: u32, ip: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(ip))];
    message
}

/// A routing socket of one network namespace: the one that its creator's thread was in.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
    next_sequence: u32,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // A refusal then doesn't carry the whole message back. Older kernels don't know it, which costs only bytes.
        let _ = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            next_sequence: 1,
        })
    }

    /// Makes all changes, in order.
    ///
    /// # Errors
    /// The first change that the kernel refused. Changes before it are made, those after it may be.
    pub fn apply(&mut self, changes: Changes) -> Result<(), NetlinkError> {
        let mut list = changes.list;
        while !list.is_empty() {
            let rest = list.split_off(list.len().min(MAX_IN_FLIGHT));
            self.apply_some(list)?;
            list = rest;
        }
        Ok(())
    }

    fn apply_some(&mut self, list: Vec<Change>) -> Result<(), NetlinkError> {
        let first = self.next_sequence;
        let mut bytes = Vec::with_capacity(list.len() * 80);
        let mut waiting = Vec::with_capacity(list.len());
        for change in list {
            let mut message = NetlinkMessage::from(change.message);
            message.header.flags = NLM_F_REQUEST | NLM_F_ACK | change.flags;
            message.header.sequence_number = self.next_sequence;
            self.next_sequence = self.next_sequence.wrapping_add(1);
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..]);
            waiting.push((change.what, change.fine));
        }
        let context = |source| NetlinkError {
            change: "talk to rtnetlink".into(),
            source,
        };
        self.socket.send(&bytes, 0).map_err(context)?;
        let mut open = waiting.len();
        let mut refusal: Option<(usize, io::Error)> = None;
        let mut reply = Vec::with_capacity(32 << 10);
        while open > 0 {
            reply.clear();
            self.socket.recv(&mut reply, 0).map_err(context)?;
            let mut rest = reply.as_slice();
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(|error| {
                        context(io::Error::new(
                            io::ErrorKind::InvalidData,
                            error.to_string(),
                        ))
                    })?;
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                let at = usize::try_from(message.header.sequence_number.wrapping_sub(first))
                    .unwrap_or(usize::MAX);
                let (NetlinkPayload::Error(answer), Some((_, fine))) =
                    (message.payload, waiting.get(at))
                else {
                    continue;
                };
                open -= 1;
                let code = answer.raw_code().saturating_neg();
                if code != 0
                    && !fine.contains(&code)
                    && refusal.as_ref().is_none_or(|(earlier, _)| at < *earlier)
                {
                    refusal = Some((at, io::Error::from_raw_os_error(code)));
                }
            }
        }
        match refusal {
            None => Ok(()),
            Some((at, source)) => Err(NetlinkError {
                change: waiting.swap_remove(at).0,
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::{Namespace, isolate};

    /// Runs in a fresh network namespace, or says why not.
    fn in_namespace(work: impl FnOnce() + Send + 'static) {
        let done = std::thread::spawn(move || match isolate(&[Namespace::Net]) {
            Ok(()) => {
                work();
                None
            }
            Err(error) => Some(error),
        })
        .join()
        .unwrap();
        if let Some(error) = done {
            assert!(
                std::env::var_os("PODWIRE_REQUIRE_ALL").is_none(),
                "network namespaces are not permitted: {error}"
            );
            eprintln!("SKIPPED: network namespaces are not permitted: {error}");
        }
    }

    /// A namespace's loopback comes up and takes addresses; what is there already can be set again.
    #[test]
    fn changes_are_made_in_order() {
        in_namespace(|| {
            let mut socket = RouteSocket::open().unwrap();
            let net: Ipv4Net = "10.0.0.1/24".parse().unwrap();
            let mut changes = Changes::new();
            changes
                .link_up(LOOPBACK)
                .address_add(
                    LOOPBACK,
                    net,
                    Some(Ipv4Addr::new(10, 0, 0, 255)),
                    Scope::Global,
                )
                .address_add(
                    LOOPBACK,
                    net,
                    Some(Ipv4Addr::new(10, 0, 0, 255)),
                    Scope::Global,
                )
                .route_add(&Route {
                    via: Some(Ipv4Addr::new(10, 0, 0, 9)),
                    ..Route::new("0.0.0.0/0".parse().unwrap(), LOOPBACK)
                });
            socket.apply(changes).unwrap();
            // Only a host with that address can bind to it.
            std::net::UdpSocket::bind("10.0.0.1:0").unwrap();
            let mut gone = Changes::new();
            gone.address_delete(LOOPBACK, net)
                .address_delete(LOOPBACK, net);
            socket.apply(gone).unwrap();
            assert!(std::net::UdpSocket::bind("10.0.0.1:0").is_err());
        });
    }

    /// The first refusal is the one that is reported, with its change, and more changes than fit at once all arrive.
    #[test]
    fn the_first_refusal_names_its_change() {
        in_namespace(|| {
            let mut socket = RouteSocket::open().unwrap();
            let mut changes = Changes::new();
            changes.link_up(LOOPBACK);
            for host in 0..250_u8 {
                let net = Ipv4Net::new(Ipv4Addr::new(10, 1, 1, host), 32).unwrap();
                changes.address_add(LOOPBACK, net, None, Scope::Global);
            }
            changes.link_up(77).link_up(78);
            let error = socket.apply(changes).unwrap_err();
            assert_eq!(error.change, "set interface 77 up");
            assert_eq!(error.source.raw_os_error(), Some(19));
            std::net::UdpSocket::bind("10.1.1.249:0").unwrap();
        });
    }
}
