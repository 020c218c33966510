//! Calico's resources, as `kubectl get` prints custom resources and, with `-o wide`, as `calicoctl` does.
//!
//! The one pool is called as Calico's own default. Nodes are called `caliconodes` here, because `get nodes -o wide` is kubectl's.

use serde_json::{Value, json};

use super::Columns;
use crate::cluster::AS_NUMBER;
use crate::control::proto::IpPool;
use crate::ipam::calico::Block;
use crate::model::{IfaceKind, Node};
use crate::view::age;
use crate::view::table::Table;

const API_VERSION: &str = "crd.projectcalico.org/v1";

/// Name of the pool that Calico makes when it is installed.
pub const POOL: &str = "default-ipv4-ippool";

/// `get ippools`
#[must_use]
pub fn pools(pool: &IpPool, columns: Columns, now_ms: u64) -> String {
    if !columns.wide {
        let mut table = Table::new(["NAME", "AGE"]);
        table.row([POOL.to_owned(), age::since(pool.created_ms, now_ms)]);
        return table.render(columns.no_header);
    }
    let mut table = Table::new([
        "NAME",
        "CIDR",
        "NAT",
        "IPIPMODE",
        "VXLANMODE",
        "DISABLED",
        "SELECTOR",
    ]);
    table.row([
        POOL.to_owned(),
        pool.cidr.to_string(),
        pool.spec.nat_outgoing.to_string(),
        pool.spec.ipip_mode.name().to_owned(),
        "Never".to_owned(),
        "false".to_owned(),
        "all()".to_owned(),
    ]);
    table.render(columns.no_header)
}

/// The pool as Kubernetes has it.
#[must_use]
pub fn pool_object(pool: &IpPool) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "IPPool",
        "metadata": {
            "creationTimestamp": age::rfc3339(pool.created_ms),
            "name": POOL,
        },
        "spec": {
            "blockSize": pool.spec.block_size,
            "cidr": pool.cidr.to_string(),
            "ipipMode": pool.spec.ipip_mode.name(),
            "natOutgoing": pool.spec.nat_outgoing,
            "nodeSelector": "all()",
            "vxlanMode": "Never",
        },
    })
}

/// `get ipamblocks`; wide tells whose they are and how many addresses are taken.
#[must_use]
pub fn blocks(blocks: &[&Block], columns: Columns, now_ms: u64) -> String {
    let mut header = vec!["NAME", "AGE"];
    if columns.wide {
        header.extend(["CIDR", "AFFINITY", "USED"]);
    }
    let mut table = Table::new(header);
    for block in blocks {
        let mut cells = vec![block.name(), age::since(block.created_ms, now_ms)];
        if columns.wide {
            cells.extend([
                block.cidr.to_string(),
                affinity(block).unwrap_or_else(|| super::NONE.to_owned()),
                format!("{}/{}", block.allocated().count(), block.allocations.len()),
            ]);
        }
        table.row(cells);
    }
    table.render(columns.no_header)
}

fn affinity(block: &Block) -> Option<String> {
    block.affinity.as_ref().map(|host| format!("host:{host}"))
}

/// A block as Kubernetes has it: an allocation is the index of its attributes.
#[must_use]
pub fn block_object(block: &Block, strict_affinity: bool) -> Value {
    let mut attributes = Vec::new();
    let allocations: Vec<Value> = block
        .allocations
        .iter()
        .map(|allocation| match allocation {
            None => Value::Null,
            Some(found) => {
                attributes.push(json!({
                    "handle_id": found.handle,
                    "secondary": found.attributes,
                }));
                json!(attributes.len() - 1)
            }
        })
        .collect();
    json!({
        "apiVersion": API_VERSION,
        "kind": "IPAMBlock",
        "metadata": {
            "creationTimestamp": age::rfc3339(block.created_ms),
            "name": block.name(),
        },
        "spec": {
            "affinity": affinity(block),
            "allocations": allocations,
            "attributes": attributes,
            "cidr": block.cidr.to_string(),
            "deleted": false,
            "strictAffinity": strict_affinity,
            "unallocated": block.unallocated,
        },
    })
}

/// calicoctl's `get nodes`: the names, and wide the AS (in parentheses, as it is the mesh's own) and the addresses.
#[must_use]
pub fn nodes(nodes: &[&Node], columns: Columns) -> String {
    let mut header = vec!["NAME"];
    if columns.wide {
        header.extend(["ASN", "IPV4", "IPV6"]);
    }
    let mut table = Table::new(header);
    for node in nodes {
        let mut cells = vec![node.name.clone()];
        if columns.wide {
            cells.extend([format!("({AS_NUMBER})"), bgp_address(node)]);
        }
        table.row(cells);
    }
    table.render(columns.no_header)
}

/// The node's address with the length of its subnet.
fn bgp_address(node: &Node) -> String {
    let own = node
        .ifaces
        .iter()
        .flat_map(|iface| &iface.addrs)
        .find(|addr| addr.net.addr() == node.internal_ip);
    own.map_or_else(|| node.internal_ip.to_string(), |addr| addr.net.to_string())
}

/// Calico's Node.
#[must_use]
pub fn node_object(node: &Node) -> Value {
    let tunnel = node
        .ifaces
        .iter()
        .filter(|iface| iface.kind == IfaceKind::Ipip)
        .flat_map(|iface| &iface.addrs)
        .map(|addr| addr.net.addr().to_string())
        .next();
    let mut bgp =
        serde_json::Map::from_iter([("ipv4Address".to_owned(), json!(bgp_address(node)))]);
    if let Some(tunnel) = tunnel {
        bgp.insert("ipv4IPIPTunnelAddr".to_owned(), json!(tunnel));
    }
    json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "Node",
        "metadata": {
            "creationTimestamp": age::rfc3339(node.created_ms),
            "name": node.name,
        },
        "spec": {
            "addresses": [
                {"address": bgp_address(node), "type": "CalicoNodeIP"},
                {"address": node.internal_ip.to_string(), "type": "InternalIP"},
            ],
            "bgp": bgp,
        },
    })
}
