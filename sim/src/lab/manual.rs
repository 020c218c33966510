//! Hand-made labs (preset `manual`): interfaces, links and routes of nodes and hosts as they are written.
//!
//! Decides the syntax. A route is a line in the words of `ip route add`, read by the same code that reads the command, so
//! that it can say what the command can and gets the command's complaints, at its place in the file. Everything else is a
//! key. A host is a pod without a CNI: a namespace with one link, or none, to a bridge of its node or to the node itself.

use std::collections::HashMap;

use ipnet::Ipv4Net;
use router_core::config::RpFilter;

use super::conflist::interface_name;
use super::diagnostics::{At, Pos, Sink, hint};
use super::read::{self, Fields};
use super::tree::{Kind, Value};
use super::written::{LINK_KEYS, MAX_MTU, NODE_INTERFACE_KEYS, NodeFile, PodFile, mac};
use crate::cluster::manual::host_route;
use crate::cluster::parse_route;
use crate::spec::{InterfaceSpec, LinkSpec};

/// An interface of a node, with its place.
#[derive(Clone, Debug)]
pub(crate) struct InterfaceFile {
    pub(super) pos: Pos,
    pub(super) bridge_type: bool,
    pub(crate) spec: InterfaceSpec,
}

/// A host's link, with its places.
#[derive(Clone, Debug)]
pub(crate) struct LinkFile {
    pub(super) pos: Pos,
    pub(super) bridge: Option<At<String>>,
    pub(super) peer: Option<At<String>>,
    /// None: the host has no link at all.
    pub(crate) spec: Option<LinkSpec>,
}

/// The interfaces of a node, by name.
pub(super) fn interfaces(value: &Value, sink: &mut Sink<'_>) -> Vec<InterfaceFile> {
    let Some(fields) = Fields::open_lenient(value, "interfaces", sink) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in fields.entries() {
        let text = Value {
            pos: name.pos,
            kind: Kind::Scalar {
                text: name.value.clone(),
                plain: false,
            },
        };
        let (Some(known), Some(fields)) = (
            interface_name(&text, sink),
            Fields::open(value, "an interface", NODE_INTERFACE_KEYS, sink),
        ) else {
            continue;
        };
        let bridge_type = match fields.get("type") {
            None => false,
            Some(value) => {
                let kinds = [("bridge", true)];
                read::one_of(value, "type", &kinds, sink).is_some_and(|at| at.value)
            }
        };
        let flag = |key: &str, sink: &mut Sink<'_>| {
            let at = fields.get(key).and_then(|value| read::boolean(value, sink));
            at.map(|at| at.value)
        };
        found.push(InterfaceFile {
            pos: name.pos,
            bridge_type,
            spec: InterfaceSpec {
                name: known,
                bridge: bridge_type,
                mac: fields
                    .get("mac")
                    .and_then(|value| mac(value, sink))
                    .map(|at| at.value),
                mtu: mtu(&fields, sink),
                addresses: fields
                    .get("addresses")
                    .map_or_else(Vec::new, |value| addresses(value, sink)),
                up: flag("up", sink).unwrap_or(true),
                proxy_arp: flag("proxyArp", sink).unwrap_or(false),
                rp_filter: fields
                    .get("rpFilter")
                    .and_then(|value| {
                        let modes = [
                            ("off", RpFilter::Off),
                            ("strict", RpFilter::Strict),
                            ("loose", RpFilter::Loose),
                        ];
                        read::one_of(value, "rpFilter", &modes, sink)
                    })
                    .map_or(RpFilter::Off, |at| at.value),
                hairpin: flag("hairpin", sink).unwrap_or(false),
            },
        });
    }
    found
}

/// A host's link: a mapping, or the word `none`.
pub(super) fn link(value: &Value, sink: &mut Sink<'_>) -> Option<LinkFile> {
    if matches!(&value.kind, Kind::Scalar { text, .. } if text == "none") {
        return Some(LinkFile {
            pos: value.pos,
            bridge: None,
            peer: None,
            spec: None,
        });
    }
    let fields = Fields::open(value, "a link", LINK_KEYS, sink)?;
    let mut name = |key: &str| {
        let value = fields.get(key)?;
        let found = interface_name(value, sink)?;
        Some(At {
            value: found,
            pos: value.pos,
        })
    };
    let (own, peer, bridge) = (name("name"), name("peer"), name("bridge"));
    let address = fields.get("address").and_then(|value| {
        let mut found = addresses_of_one(value, sink);
        found.pop()
    });
    Some(LinkFile {
        pos: value.pos,
        spec: Some(LinkSpec {
            name: own.map_or_else(|| "eth0".to_owned(), |at| at.value),
            peer: peer.as_ref().map(|at| at.value.clone()),
            bridge: bridge.as_ref().map(|at| at.value.clone()),
            address,
            mtu: mtu(&fields, sink),
            // Filled in from the host's own key.
            routes: Vec::new(),
        }),
        bridge,
        peer,
    })
}

pub(super) fn mtu(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<u16> {
    fields
        .get("mtu")
        .and_then(|value| read::number(value, "mtu", 68..=MAX_MTU, sink))
        .map(|at| at.value)
}

fn addresses(value: &Value, sink: &mut Sink<'_>) -> Vec<Ipv4Net> {
    let items = read::list(value, "addresses", sink);
    let mut found = Vec::new();
    for item in items {
        found.extend(addresses_of_one(item, sink));
    }
    found
}

pub(super) fn addresses_of_one(value: &Value, sink: &mut Sink<'_>) -> Vec<Ipv4Net> {
    let what = "an address with its prefix length (10.0.0.1/24)";
    let Some(at) = read::parse::<Ipv4Net>(value, what, sink) else {
        return Vec::new();
    };
    let addr = at.value.addr();
    if addr.is_multicast() || addr.is_broadcast() || addr.is_unspecified() || addr.is_loopback() {
        sink.error(at.pos, format!("{addr} is no address of a host"));
        return Vec::new();
    }
    vec![at.value]
}

/// Lines in the words of `ip route add`.
pub(super) fn routes(value: &Value, sink: &mut Sink<'_>) -> Vec<At<String>> {
    let mut lines = read::texts(value, "routes", sink);
    lines.retain(|line| match parse_route(&line.value) {
        Ok(_) => true,
        Err(error) => {
            sink.error(line.pos, format!("ip route add {}: {error}", line.value));
            false
        }
    });
    lines
}

/// Names must fit together: bridges that links name exist, no name is given twice on a node, what is set up is there. With
/// another preset none of this can be said.
pub(super) fn check(by_hand: bool, nodes: &[NodeFile], pods: &[PodFile], sink: &mut Sink<'_>) {
    if !by_hand {
        let of_nodes = nodes.iter().flat_map(|node| {
            let interfaces = node.interfaces.iter().map(|it| it.pos);
            interfaces.chain(node.routes.iter().map(|at| at.pos))
        });
        let of_pods = pods.iter().flat_map(|pod| {
            let link = pod.link.iter().map(|it| it.pos);
            link.chain(pod.routes.iter().map(|at| at.pos))
        });
        for pos in of_nodes.chain(of_pods) {
            sink.error(
                pos,
                "links, interfaces and routes are the CNI's affair but with preset \"manual\"",
            );
        }
        return;
    }
    for pod in pods {
        for (pos, key) in [
            (pod.ip.as_ref().map(|at| at.pos), "ip"),
            (pod.cni.as_ref().map(|at| at.pos), "cni"),
        ] {
            if let Some(pos) = pos {
                let message = format!(
                    "a host of a hand-made lab has no \"{key}\": its \"link\" says where it is and its \"address\""
                );
                sink.error(pos, message);
            }
        }
        if pod.node.is_none() && nodes.len() > 1 {
            let message = format!(
                "host \"{}\" needs \"node\": there is more than one",
                pod.name.value
            );
            sink.error(pod.name.pos, message);
        }
    }
    for node in nodes {
        check_node(node, pods, sink);
    }
}

fn check_node(node: &NodeFile, pods: &[PodFile], sink: &mut Sink<'_>) {
    let name = node.name.value.as_str();
    let mut devices: HashMap<&str, Option<Pos>> = HashMap::from([("eth0", None)]);
    if let Some(uplink) = &node.uplink {
        taken(&mut devices, &uplink.spec.name, uplink.pos, name, sink);
    }
    let mut bridges: Vec<&str> = Vec::new();
    for interface in node.interfaces.iter().filter(|it| it.bridge_type) {
        bridges.push(&interface.spec.name);
        taken(
            &mut devices,
            &interface.spec.name,
            interface.pos,
            name,
            sink,
        );
    }
    let here = |pod: &&PodFile| pod.node.as_ref().is_none_or(|at| at.value == name);
    for link in pods.iter().filter(here).filter_map(|pod| pod.link.as_ref()) {
        if let Some(peer) = &link.peer {
            taken(&mut devices, &peer.value, peer.pos, name, sink);
        }
        if let Some(bridge) = &link.bridge
            && !bridges.contains(&bridge.value.as_str())
        {
            let hint = hint(&bridge.value, bridges.iter().copied());
            let message = format!("node \"{name}\" has no bridge \"{}\"{hint}", bridge.value);
            sink.error(bridge.pos, message);
        }
    }
    for interface in node.interfaces.iter().filter(|it| !it.bridge_type) {
        let wanted = interface.spec.name.as_str();
        if !devices.contains_key(wanted) {
            let hint = hint(wanted, devices.keys().copied());
            let message = format!(
                "node \"{name}\" has no interface \"{wanted}\"{hint}: there are eth0, the uplink, what has \"type: bridge\", and the peers of links"
            );
            sink.error(interface.pos, message);
        }
    }
    for line in &node.routes {
        let parsed = parse_route(&line.value);
        for dev in parsed.into_iter().flat_map(|route| route.devs) {
            if !devices.contains_key(dev.as_str()) {
                let hint = hint(&dev, devices.keys().copied());
                let message = format!("node \"{name}\" has no interface \"{dev}\"{hint}");
                sink.error(line.pos, message);
            }
        }
    }
}

/// The link of a host with the host's routes in it.
pub(super) fn link_of(file: &PodFile, sink: &mut Sink<'_>) -> Option<LinkSpec> {
    let link = file.link.as_ref().and_then(|link| link.spec.clone());
    let Some(mut link) = link else {
        let orphans = file.routes.iter().map(|at| at.pos);
        for pos in orphans.chain(file.mac.as_ref().map(|at| at.pos)) {
            let message = format!("host \"{}\" has no link", file.name.value);
            sink.error(pos, message);
        }
        return None;
    };
    for line in &file.routes {
        match host_route(&line.value, &link.name) {
            Ok(route) => link.routes.push(route),
            Err(why) => sink.error(line.pos, why),
        }
    }
    Some(link)
}

fn taken<'a>(
    devices: &mut HashMap<&'a str, Option<Pos>>,
    name: &'a str,
    pos: Pos,
    node: &str,
    sink: &mut Sink<'_>,
) {
    if let Some(first) = devices.get(name) {
        let message = format!("a second interface \"{name}\" on node \"{node}\"");
        sink.conflict(Some(pos), message, *first, "the first is here");
    }
    devices.entry(name).or_insert(Some(pos));
}
