//! `podwire get` and `describe` of Calico's resources: ippools, ipamblocks, caliconodes, bgppeers.

use serde_json::Value;

use super::Failure;
use super::failure::FAILED;
use super::get::now_ms;
use super::target::{find_node, nodes};
use crate::client::Client;
use crate::control::proto::{IpPool, Request, Response};
use crate::ipam::calico::Block;
use crate::model::Node;
use crate::view::kube::{self, Columns};

/// Kinds that only a lab with Calico has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The pool.
    Pools,
    /// Blocks of it.
    Blocks,
    /// Nodes as calicoctl shows them.
    Nodes,
    /// Peers outside of the mesh: there are none.
    Peers,
}

/// The kind that `word` names.
pub(super) fn kind(word: &str) -> Option<Kind> {
    match word {
        "ippools" | "ippool" => Some(Kind::Pools),
        "ipamblocks" | "ipamblock" => Some(Kind::Blocks),
        "caliconodes" | "caliconode" => Some(Kind::Nodes),
        "bgppeers" | "bgppeer" => Some(Kind::Peers),
        _ => None,
    }
}

/// Resources of one kind, ready to be printed.
pub(super) struct Found {
    /// The table, empty where there is nothing.
    pub(super) table: String,
    /// `kind/name`
    pub(super) names: Vec<String>,
    /// As Kubernetes has them.
    pub(super) objects: Vec<Value>,
}

/// Asks for the resources of `kind` that `names` name; all without any.
pub(super) fn find(
    client: &mut Client,
    kind: Kind,
    names: &[String],
    columns: Columns,
) -> Result<Found, Failure> {
    let Response::Ipam { pool, blocks } = client.request(&Request::Ipam)? else {
        return Err(client.unexpected("the pool").into());
    };
    let Some(pool) = pool else {
        let text = "this lab has no Calico: bring one up with --preset calico";
        return Err(Failure::new(FAILED, text));
    };
    let now = now_ms();
    let missing =
        |what: &str, name: &str| Failure::new(FAILED, format!("{what} \"{name}\" not found"));
    match kind {
        Kind::Pools => {
            if let Some(other) = names.iter().find(|name| *name != kube::POOL) {
                return Err(missing("ippool", other));
            }
            Ok(Found {
                table: kube::pools(&pool, columns, now),
                names: vec![format!("ippool/{}", kube::POOL)],
                objects: vec![kube::pool_object(&pool)],
            })
        }
        Kind::Blocks => {
            let chosen = choose(&blocks, names).map_err(|name| missing("ipamblock", name))?;
            Ok(of_blocks(&chosen, &pool, columns, now))
        }
        Kind::Nodes => {
            let all = nodes(client)?;
            let mut chosen: Vec<&Node> = if names.is_empty() {
                all.iter().map(|status| &status.node).collect()
            } else {
                let found = names.iter().map(|name| find_node(&all, name));
                found
                    .map(|found| found.map(|status| &status.node))
                    .collect::<Result<_, _>>()?
            };
            chosen.sort_by_key(|node| &node.name);
            Ok(Found {
                table: kube::calico_nodes(&chosen, columns),
                names: chosen
                    .iter()
                    .map(|node| format!("caliconode/{}", node.name))
                    .collect(),
                objects: chosen
                    .iter()
                    .map(|node| kube::calico_node_object(node))
                    .collect(),
            })
        }
        Kind::Peers => match names.first() {
            Some(name) => Err(missing("bgppeer", name)),
            None => Ok(Found {
                table: String::new(),
                names: Vec::new(),
                objects: Vec::new(),
            }),
        },
    }
}

/// The blocks of these names, or the name that none has.
fn choose<'a, 'b>(blocks: &'a [Block], names: &'b [String]) -> Result<Vec<&'a Block>, &'b str> {
    let mut chosen: Vec<&Block> = if names.is_empty() {
        blocks.iter().collect()
    } else {
        let found = names.iter().map(|name| {
            let block = blocks.iter().find(|block| block.name() == *name);
            block.ok_or(name.as_str())
        });
        found.collect::<Result<_, _>>()?
    };
    chosen.sort_by_cached_key(|block| block.name());
    Ok(chosen)
}

fn of_blocks(chosen: &[&Block], pool: &IpPool, columns: Columns, now_ms: u64) -> Found {
    let strict = pool.spec.strict_affinity;
    Found {
        table: if chosen.is_empty() {
            String::new()
        } else {
            kube::blocks(chosen, columns, now_ms)
        },
        names: chosen
            .iter()
            .map(|block| format!("ipamblock/{}", block.name()))
            .collect(),
        objects: chosen
            .iter()
            .map(|block| kube::block_object(block, strict))
            .collect(),
    }
}
