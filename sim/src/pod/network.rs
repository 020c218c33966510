//! The network inside a sandbox as a list of kernel changes.
//!
//! Decides how a pod's link ([`PodLink`]) and a node's interfaces and routes ([`Node`]) look on the one TAP that stands for them:
//! a pod shows exactly what the CNI plugin `ptp` leaves; a node's host side has all addresses of the node on eth0, and
//! sends everything to the router, which answers ARP for every address (decision 5). Pure.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::Mac;
use tap_bridge::sys::netlink::{Changes, Route, Scope};

pub use super::redirect::Redirected;
use super::redirect::Redirects;
use crate::model::{self, Iface, IfaceKind, Node, PodLink, Proto, RouteKind, RouteOwner};

/// Addresses, routes and neighbours of a sandbox's only interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// With broadcast address.
    pub addresses: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    /// Connected routes that the kernel adds with the addresses and that are not wanted.
    pub unwanted: Vec<Route>,
    /// In the order in which they are set. The index is filled in later.
    pub routes: Vec<Route>,
    /// Permanent entries.
    pub neighbours: Vec<(Ipv4Addr, Mac)>,
    /// What a node's own programs send to its own addresses and the router gets.
    pub redirects: Redirects,
}

impl Network {
    /// A pod's: PTP-1, with the gateway as a permanent neighbour (decision 11).
    #[must_use]
    pub fn of_pod(link: &PodLink) -> Self {
        let connected = Route {
            scope: Scope::Link,
            src: Some(link.addr.addr()),
            protocol: protocol(Proto::Kernel),
            ..Route::new(link.addr.trunc(), 0)
        };
        Self {
            addresses: Some((link.addr, link.broadcast))
                .filter(|(addr, _)| !addr.addr().is_unspecified())
                .into_iter()
                .collect(),
            // The plugin ptp replaces it by one through the gateway; on a bridge it stays (BR-18).
            unwanted: (link.addr.prefix_len() < 32 && link.bridge.is_none() && !link.by_hand)
                .then_some(connected)
                .into_iter()
                .collect(),
            routes: link
                .routes
                .iter()
                .map(|route| Route {
                    via: route.via,
                    src: route.src,
                    scope: scope(route.scope),
                    ..Route::new(route.dst, 0)
                })
                .collect(),
            neighbours: link
                .gateway_mac()
                .map(|mac| (link.gateway, mac))
                .into_iter()
                .collect(),
            redirects: Redirects::default(),
        }
    }

    /// The host side of a node. `router` is the router's MAC on its port there.
    ///
    /// Routes on eth0 are the node's own; addresses of other interfaces (the pods' gateway, docker0) stand on eth0 with
    /// 32 bits, so that programs can bind to them; the podCIDR is on link with the gateway as source, as the pods' own
    /// routes make it on a real node (KM-5); without a default route everything else goes to the router as well.
    #[must_use]
    pub fn of_node(node: &Node, router: Mac) -> Self {
        let mut network = Self::default();
        let mut gateway = None;
        for iface in node
            .ifaces
            .iter()
            .filter(|iface| iface.kind != IfaceKind::Loopback)
        {
            for addr in &iface.addrs {
                let on_eth0 = iface.kind == IfaceKind::Ethernet;
                let net = if on_eth0 {
                    addr.net
                } else {
                    host(addr.net.addr())
                };
                if matches!(iface.kind, IfaceKind::Veth { .. }) {
                    gateway = Some(addr.net.addr());
                }
                if network
                    .addresses
                    .iter()
                    .all(|(known, _)| known.addr() != net.addr())
                {
                    network
                        .addresses
                        .push((net, addr.broadcast.filter(|_| on_eth0)));
                }
            }
        }
        let local = |addr: Option<Ipv4Addr>| {
            addr.filter(|addr| network.addresses.iter().any(|(net, _)| net.addr() == *addr))
        };
        let mut routes: Vec<Route> = Vec::new();
        for route in &node.routes {
            let connected =
                route.proto == Proto::Kernel && route.hops.iter().all(|hop| hop.via.is_none());
            if route.kind != RouteKind::Unicast || connected {
                continue;
            }
            let Some(hop) = route.hops.first() else {
                continue;
            };
            // Through the tunnel a node speaks from the tunnel's address (IPIP-17).
            if let Some(tunnel) = find(node, &hop.dev).filter(|it| it.kind == IfaceKind::Ipip) {
                routes.push(Route {
                    scope: Scope::Link,
                    src: local(tunnel.addrs.first().map(|addr| addr.net.addr())),
                    protocol: protocol(route.proto),
                    ..Route::new(route.dst, 0)
                });
                continue;
            }
            if find(node, &hop.dev).is_none_or(|it| it.kind != IfaceKind::Ethernet) {
                continue;
            }
            routes.push(Route {
                via: hop.via,
                src: local(route.src),
                scope: scope(route.scope),
                metric: route.metric,
                protocol: protocol(route.proto),
                onlink: hop.onlink,
                ..Route::new(route.dst, 0)
            });
        }
        let on_link = |dst: Ipv4Net| Route {
            scope: Scope::Link,
            src: gateway,
            ..Route::new(dst, 0)
        };
        let covered = |routes: &[Route], dst: Ipv4Net| routes.iter().any(|route| route.dst == dst);
        // Calico's nodes have a podCIDR that says nothing about their pods (CAL-1).
        let bird = node.routes.iter().any(|it| it.owner == RouteOwner::Bird);
        let pod_cidr = node.pod_cidr.filter(|_| !bird);
        if let Some(cidr) = pod_cidr.filter(|cidr| !covered(&routes, *cidr)) {
            routes.push(on_link(cidr));
        }
        // What is on a bridge is reached from the bridge's address.
        for route in &node.routes {
            let bridged = route.proto == Proto::Kernel
                && route.hops.first().is_some_and(|hop| {
                    let mut ifaces = node.ifaces.iter();
                    ifaces
                        .any(|it| it.name == hop.dev && it.kind == IfaceKind::Bridge && it.carrier)
                });
            if bridged && !covered(&routes, route.dst) {
                routes.push(Route {
                    scope: Scope::Link,
                    src: local(route.src),
                    ..Route::new(route.dst, 0)
                });
            }
        }
        // Pods whose address lies outside: they are older than the node's present podCIDR (KND-9).
        for route in &node.routes {
            let pod = route.hops.first().is_some_and(|hop| {
                node.ifaces.iter().any(|iface| {
                    iface.name == hop.dev && matches!(iface.kind, IfaceKind::Veth { .. })
                })
            });
            let inside = pod_cidr.is_some_and(|cidr| cidr.contains(&route.dst));
            if pod && !inside && !covered(&routes, route.dst) {
                routes.push(on_link(route.dst));
            }
        }
        if !covered(&routes, Route::DEFAULT) {
            routes.push(Route {
                scope: Scope::Link,
                ..Route::new(Route::DEFAULT, 0)
            });
        }
        // A gateway must be reachable before a route can name it.
        routes.sort_by_key(|route| route.via.is_some());
        let mut gateways: Vec<Ipv4Addr> = routes.iter().filter_map(|route| route.via).collect();
        gateways.sort_unstable();
        gateways.dedup();
        network.neighbours = gateways.into_iter().map(|ip| (ip, router)).collect();
        network.routes = routes;
        network
    }

    /// With these ports of the node's own addresses left to the router.
    #[must_use]
    pub fn with_redirected(mut self, ports: Vec<Redirected>, router: Mac) -> Self {
        self.redirects = Redirects {
            ports,
            addresses: self.addresses.iter().map(|(net, _)| net.addr()).collect(),
            router,
        };
        self
    }

    /// Everything, on an interface that is up and has nothing yet.
    pub fn establish(&self, index: u32, changes: &mut Changes) {
        for &(net, broadcast) in &self.addresses {
            changes.address_add(index, net, broadcast, Scope::Global);
        }
        for route in &self.unwanted {
            changes.route_delete(&Route { index, ..*route });
        }
        for route in &self.routes {
            changes.route_add(&Route { index, ..*route });
        }
        for &(ip, mac) in &self.neighbours {
            changes.neighbour_permanent(index, ip, mac);
        }
        Redirects::default().changes_to(&self.redirects, index, changes);
    }

    /// What turns `self` into `wanted`.
    #[must_use]
    pub fn changes_to(&self, wanted: &Self, index: u32) -> Changes {
        let mut changes = Changes::new();
        for route in self
            .routes
            .iter()
            .filter(|route| !wanted.routes.contains(route))
        {
            changes.route_delete(&Route { index, ..*route });
        }
        for &(ip, _) in self
            .neighbours
            .iter()
            .filter(|entry| !wanted.neighbours.contains(entry))
        {
            changes.neighbour_delete(index, ip);
        }
        let gone: Vec<_> = self
            .addresses
            .iter()
            .filter(|addr| !wanted.addresses.contains(addr))
            .collect();
        for (net, _) in &gone {
            changes.address_delete(index, *net);
        }
        for &(net, broadcast) in wanted
            .addresses
            .iter()
            .filter(|addr| !self.addresses.contains(addr))
        {
            changes.address_add(index, net, broadcast, Scope::Global);
        }
        // Routes that named a removed address went with it, so all are set again then.
        for route in wanted
            .routes
            .iter()
            .filter(|route| !gone.is_empty() || !self.routes.contains(route))
        {
            changes.route_replace(&Route { index, ..*route });
        }
        for &(ip, mac) in wanted
            .neighbours
            .iter()
            .filter(|entry| !self.neighbours.contains(entry))
        {
            changes.neighbour_permanent(index, ip, mac);
        }
        self.redirects
            .changes_to(&wanted.redirects, index, &mut changes);
        changes
    }
}

fn find<'a>(node: &'a Node, dev: &str) -> Option<&'a Iface> {
    node.ifaces.iter().find(|iface| iface.name == dev)
}

fn host(addr: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new_assert(addr, 32)
}

const fn scope(scope: model::Scope) -> Scope {
    match scope {
        model::Scope::Global => Scope::Global,
        model::Scope::Link => Scope::Link,
        model::Scope::Host => Scope::Host,
    }
}

/// Number of a protocol in `/etc/iproute2/rt_protos`.
const fn protocol(proto: Proto) -> u8 {
    match proto {
        Proto::Kernel => 2,
        Proto::Boot => 3,
        Proto::Static => 4,
        Proto::Bird => 12,
        Proto::Dhcp => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hop, IfAddr, RouteEntry};
    use router_core::PortId;

    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn iface(index: u32, name: &str, kind: IfaceKind, addr: &str) -> Iface {
        Iface {
            index,
            name: name.into(),
            kind,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            qdisc: "noqueue".into(),
            qlen: None,
            up: true,
            carrier: true,
            addrs: vec![IfAddr {
                net: net(addr),
                broadcast: Some(net(addr).broadcast()),
                scope: model::Scope::Global,
                lease_secs: None,
                manual: false,
            }],
            link_local: None,
            master: None,
            port: Some(PortId(1)),
            sysctls: model::Sysctls::default(),
        }
    }

    fn route(dst: &str, via: Option<&str>, dev: &str, proto: Proto) -> RouteEntry {
        RouteEntry {
            dst: net(dst),
            kind: RouteKind::Unicast,
            hops: vec![Hop {
                via: via.map(|via| via.parse().unwrap()),
                dev: dev.into(),
                onlink: false,
                weight: 1,
            }],
            proto,
            scope: model::Scope::Global,
            src: None,
            metric: 0,
            owner: RouteOwner::Base,
        }
    }

    fn veth(pod: &str) -> IfaceKind {
        IfaceKind::Veth {
            peer_index: 4,
            netnsid: 0,
            pod: pod.into(),
        }
    }

    fn node() -> Node {
        Node {
            name: "n".into(),
            internal_ip: Ipv4Addr::new(172, 16, 30, 3),
            pod_cidr: Some(net("10.244.0.0/24")),
            control_plane: false,
            labels: indexmap::IndexMap::new(),
            created_ms: 0,
            ifaces: vec![
                iface(1, "lo", IfaceKind::Loopback, "127.0.0.1/8"),
                iface(2, "eth0", IfaceKind::Ethernet, "172.16.30.3/24"),
                // Without ports: nothing is on its link.
                Iface {
                    carrier: false,
                    ..iface(4, "docker0", IfaceKind::Bridge, "172.17.0.1/16")
                },
                iface(5, "veth0", veth("default/a"), "10.244.0.1/32"),
                iface(6, "veth1", veth("default/b"), "10.244.0.1/32"),
            ],
            routes: vec![
                route("10.244.1.0/24", Some("172.16.30.4"), "eth0", Proto::Boot),
                route("172.16.30.0/24", None, "eth0", Proto::Kernel),
                route("10.244.0.2/32", None, "veth0", Proto::Boot),
                route("10.9.9.9/32", None, "veth1", Proto::Boot),
                route("172.17.0.0/16", None, "docker0", Proto::Kernel),
            ],
        }
    }

    /// Decision 5: every address of the node is there, each once, and lo's is the kernel's business.
    #[test]
    fn a_nodes_addresses_stand_on_eth0() {
        let network = Network::of_node(&node(), ROUTER);
        let brd = |text: &str| Some(text.parse().unwrap());
        assert_eq!(
            network.addresses,
            [
                (net("172.16.30.3/24"), brd("172.16.30.255")),
                (net("172.17.0.1/32"), None),
                (net("10.244.0.1/32"), None),
            ]
        );
    }

    /// KM-5: the host reaches its own pods from the gateway's address, old pods outside the podCIDR too, and everything
    /// unknown goes to the router. Gateways are permanent neighbours (decision 11).
    #[test]
    fn a_nodes_routes_lead_to_the_router() {
        let network = Network::of_node(&node(), ROUTER);
        let gateway = Some(Ipv4Addr::new(10, 244, 0, 1));
        let on_link = |dst: &str, src| Route {
            scope: Scope::Link,
            src,
            ..Route::new(net(dst), 0)
        };
        let peer = Ipv4Addr::new(172, 16, 30, 4);
        assert_eq!(
            network.routes,
            [
                on_link("10.244.0.0/24", gateway),
                on_link("10.9.9.9/32", gateway),
                on_link("0.0.0.0/0", None),
                Route {
                    via: Some(peer),
                    ..Route::new(net("10.244.1.0/24"), 0)
                },
            ]
        );
        assert_eq!(network.neighbours, [(peer, ROUTER)]);
        // A source that is no address here would be refused by the kernel.
        let mut without = node();
        without.ifaces.truncate(2);
        without.routes[0].src = gateway;
        let network = Network::of_node(&without, ROUTER);
        assert!(network.routes.iter().all(|route| route.src.is_none()));
    }

    /// Nothing to change is no change; what is gone is removed and what is new is added.
    #[test]
    fn only_differences_are_changed() {
        let before = Network::of_node(&node(), ROUTER);
        assert!(before.changes_to(&before, 2).is_empty());
        let mut other = node();
        other.routes.remove(0);
        let after = Network::of_node(&other, ROUTER);
        assert_eq!(
            before.changes_to(&after, 2).describe(),
            [
                "remove route 10.244.1.0/24",
                "remove neighbour 172.16.30.4 of interface 2",
            ]
        );
        assert_eq!(
            after.changes_to(&before, 2).describe(),
            [
                "set route 10.244.1.0/24",
                "set neighbour 172.16.30.4 on interface 2",
            ]
        );
    }

    /// Routes that may have gone with an address are set again.
    #[test]
    fn a_lost_address_renews_the_routes() {
        let before = Network::of_node(&node(), ROUTER);
        let mut other = node();
        other.ifaces.remove(2);
        let after = Network::of_node(&other, ROUTER);
        let changes = before.changes_to(&after, 2);
        let described = changes.describe();
        assert_eq!(described[0], "remove address 172.17.0.1/32 of interface 2");
        assert_eq!(described.len(), 1 + after.routes.len());
    }
}
