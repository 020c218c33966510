//! INV-7: what is added and deleted again leaves no trace in any node, whatever stood there before.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use router_core::Snapshot;

use super::super::{Overrides, load};
use crate::cluster::Cluster;
use crate::model::{Node, Pod};
use crate::spec::{NodeSpec, PodSpec};
use crate::testing::TempDir;

/// Everything that a user or a router can see, the snapshots' epoch excepted.
fn state(cluster: &Cluster) -> (Vec<Node>, Vec<Pod>, Vec<Snapshot>) {
    let nodes: Vec<Node> = cluster.nodes().cloned().collect();
    let snapshots = nodes
        .iter()
        .map(|node| Snapshot {
            epoch: 0,
            ..cluster.snapshot(&node.name).unwrap()
        })
        .collect();
    (nodes, cluster.pods().cloned().collect(), snapshots)
}

fn pod(n: u8, node: usize, host_network: bool) -> PodSpec {
    let lab = load(&[], &Overrides::default()).unwrap();
    PodSpec {
        name: format!("p{n}"),
        namespace: "default".to_owned(),
        node: lab.nodes[node].name.clone(),
        host_network,
        ..lab.pods[0].clone()
    }
}

fn node(n: u8, with_cidr: bool) -> NodeSpec {
    let lab = load(&[], &Overrides::default()).unwrap();
    NodeSpec {
        name: format!("n{n}"),
        internal_ip: Ipv4Addr::new(172, 16, 30, 100 + n),
        addresses: vec![format!("172.16.30.{}/24", 100 + n).parse().unwrap()],
        pod_cidr: with_cidr.then(|| format!("10.244.{}.0/24", 100 + n).parse().unwrap()),
        control_plane: false,
        ..lab.nodes[1].clone()
    }
}

#[derive(Clone, Debug)]
enum Thing {
    Pod { node: usize, host_network: bool },
    Node { with_cidr: bool, pods: u8 },
    Route { node: usize, metric: u32 },
    Address { node: usize },
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        (0..3_usize, any::<bool>())
            .prop_map(|(node, host_network)| Thing::Pod { node, host_network }),
        (any::<bool>(), 0..3_u8).prop_map(|(with_cidr, pods)| Thing::Node { with_cidr, pods }),
        (0..3_usize, 0..3_u32).prop_map(|(node, metric)| Thing::Route { node, metric }),
        (0..3_usize).prop_map(|node| Thing::Address { node }),
    ]
}

const NODES: [&str; 3] = ["minikube", "minikube-m02", "minikube-m03"];

fn ip(cluster: &mut Cluster, node: usize, words: &str) {
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    cluster
        .ip_change(NODES[node], &words)
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

/// Adds (or deletes) thing number `n`.
fn change(cluster: &mut Cluster, n: u8, thing: &Thing, add: bool) {
    let verb = if add { "add" } else { "del" };
    match *thing {
        Thing::Pod { node, host_network } => {
            let spec = pod(n, node, host_network);
            if add {
                cluster.add_pod(&spec, 7).unwrap();
            } else {
                cluster.delete_pod("default", &spec.name).unwrap();
            }
        }
        Thing::Node { with_cidr, pods } => {
            let spec = node(n, with_cidr);
            if add {
                cluster
                    .add_node(&spec.name, None, Some(spec.clone()), 7)
                    .unwrap();
                for extra in 0..if with_cidr { pods } else { 0 } {
                    let mut pod = pod(100 + 10 * n + extra, 0, false);
                    pod.node.clone_from(&spec.name);
                    cluster.add_pod(&pod, 7).unwrap();
                }
            } else {
                cluster.delete_node(&spec.name).unwrap();
            }
        }
        Thing::Route { node, metric } => {
            let words =
                format!("route {verb} 10.99.{n}.0/24 via 172.16.30.1 dev eth0 metric {metric}");
            ip(cluster, node, &words);
        }
        Thing::Address { node } => ip(
            cluster,
            node,
            &format!("addr {verb} 192.0.2.{}/32 dev eth0", n + 1),
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_added_and_deleted_leaves_no_trace(
        before in proptest::collection::vec(thing(), 0..4),
        things in proptest::collection::vec(thing(), 1..6),
        in_order in any::<bool>(),
    ) {
        let dir = TempDir::new();
        let lab = load(&[], &Overrides::default()).unwrap();
        let mut cluster = Cluster::new(&lab, dir.path().to_path_buf(), 0).unwrap().0;
        for (n, thing) in (0_u8..).zip(&before) {
            change(&mut cluster, n, thing, true);
        }
        let start = state(&cluster);
        let mut numbered: Vec<(u8, &Thing)> = (4_u8..).zip(&things).collect();
        for (n, thing) in &numbered {
            change(&mut cluster, *n, thing, true);
        }
        prop_assert_ne!(&state(&cluster), &start);
        cluster.reconcile(7);
        if !in_order {
            numbered.reverse();
        }
        for (n, thing) in &numbered {
            change(&mut cluster, *n, thing, false);
        }
        cluster.reconcile(7);
        prop_assert_eq!(state(&cluster), start);
    }
}
