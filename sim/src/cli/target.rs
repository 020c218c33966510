//! Names of pods and nodes as users write them, and what to say when there is no such thing.

use std::net::Ipv4Addr;

use super::Failure;
use super::failure::FAILED;
use crate::client::Client;
use crate::control::proto::{NodeStatus, Request, Response, Target};
use crate::model::{Node, Pod};

/// Kubernetes' namespace for what names none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// `POD`, `NS/POD`, `pod/POD` or `node/NODE`.
pub(super) fn parse(word: &str, namespace: &str) -> Target {
    match word.split_once('/') {
        Some(("node" | "nodes" | "no", name)) => Target::Node {
            name: name.to_owned(),
        },
        Some(("pod" | "pods" | "po", name)) => Target::Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        Some((namespace, name)) => Target::Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        None => Target::Pod {
            namespace: namespace.to_owned(),
            name: word.to_owned(),
        },
    }
}

/// All nodes.
pub(super) fn nodes(client: &mut Client) -> Result<Vec<NodeStatus>, Failure> {
    match client.request(&Request::Nodes)? {
        Response::Nodes { nodes } => Ok(nodes),
        _ => Err(client.unexpected("nodes").into()),
    }
}

/// A node with its routes.
pub(super) fn with_routes(client: &mut Client, node: &Node) -> Result<Node, Failure> {
    let name = node.name.clone();
    match client.request(&Request::Routes { node: name })? {
        Response::Routes { routes } => Ok(Node {
            routes,
            ..node.clone()
        }),
        _ => Err(client.unexpected("routes").into()),
    }
}

/// All pods.
pub(super) fn pods(client: &mut Client) -> Result<Vec<Pod>, Failure> {
    match client.request(&Request::Pods)? {
        Response::Pods { pods } => Ok(pods),
        _ => Err(client.unexpected("pods").into()),
    }
}

/// The node of that name.
pub(super) fn find_node<'a>(
    nodes: &'a [NodeStatus],
    name: &str,
) -> Result<&'a NodeStatus, Failure> {
    nodes
        .iter()
        .find(|status| status.node.name == name)
        .ok_or_else(|| no_node(name, nodes))
}

/// The pod of that name.
pub(super) fn find_pod<'a>(
    pods: &'a [Pod],
    namespace: &str,
    name: &str,
) -> Result<&'a Pod, Failure> {
    pods.iter()
        .find(|pod| pod.namespace == namespace && pod.name == name)
        .ok_or_else(|| no_pod(namespace, name, pods))
}

fn no_node(name: &str, nodes: &[NodeStatus]) -> Failure {
    let names = nodes.iter().map(|status| status.node.name.clone());
    let near = near(name, names.collect());
    Failure::new(FAILED, format!("node \"{name}\" not found{near}"))
}

fn no_pod(namespace: &str, name: &str, pods: &[Pod]) -> Failure {
    // The same name in another namespace is the likeliest slip.
    let elsewhere = pods.iter().filter(|pod| pod.name == name).map(Pod::key);
    let here = pods.iter().filter(|pod| pod.namespace == namespace);
    let mut candidates: Vec<String> = here.map(|pod| pod.name.clone()).collect();
    let elsewhere: Vec<String> = elsewhere.collect();
    let near = if elsewhere.is_empty() {
        candidates.sort();
        near(name, candidates)
    } else {
        format!("; there is {}", elsewhere.join(", "))
    };
    Failure::new(
        FAILED,
        format!("pod \"{name}\" not found in namespace {namespace}{near}"),
    )
}

/// How many names a hint lists.
const NEAR: usize = 3;

/// Similarity from which a name is worth a mention.
const SIMILAR: f64 = 0.7;

/// `; did you mean "x"?`, or a list of what there is when it is short, or nothing.
pub(super) fn near(word: &str, mut names: Vec<String>) -> String {
    names.sort_by(|a, b| {
        let (a, b) = (strsim::jaro_winkler(word, a), strsim::jaro_winkler(word, b));
        b.total_cmp(&a)
    });
    let close: Vec<&String> = names
        .iter()
        .filter(|name| strsim::jaro_winkler(word, name) > SIMILAR)
        .take(NEAR)
        .collect();
    let quoted = |names: &[&String]| {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        names.join(" or ")
    };
    if !close.is_empty() {
        return format!("; did you mean {}?", quoted(&close));
    }
    match names.as_slice() {
        [] => String::new(),
        few if few.len() <= 2 * NEAR => {
            names.sort();
            format!("; there is {}", names.join(", "))
        }
        _ => String::new(),
    }
}

/// One end of a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A pod or node of the lab, with its address.
    Member {
        /// Which.
        target: Target,
        /// Its address.
        ip: Ipv4Addr,
        /// As the user should see it.
        name: String,
    },
    /// An address.
    Address(Ipv4Addr),
}

impl Place {
    /// The address to ping.
    pub(super) const fn ip(&self) -> Ipv4Addr {
        match self {
            Self::Member { ip, .. } | Self::Address(ip) => *ip,
        }
    }
}

/// Finds what a word names: a pod, `node/NODE`, an address, or, if no pod is called so, a node by its bare name.
pub(super) fn place(
    word: &str,
    namespace: &str,
    nodes: &[NodeStatus],
    pods: &[Pod],
) -> Result<Place, Failure> {
    if let Ok(ip) = word.parse() {
        return Ok(Place::Address(ip));
    }
    let node = |status: &NodeStatus| Place::Member {
        target: Target::Node {
            name: status.node.name.clone(),
        },
        ip: status.node.internal_ip,
        name: status.node.name.clone(),
    };
    match parse(word, namespace) {
        Target::Node { name } => find_node(nodes, &name).map(node),
        Target::Pod { namespace, name } => match find_pod(pods, &namespace, &name) {
            Ok(pod) if pod.ip.is_unspecified() => {
                Err(Failure::new(1, format!("pod \"{word}\" has no address")))
            }
            Ok(pod) => Ok(Place::Member {
                target: Target::Pod { namespace, name },
                ip: pod.ip,
                name: pod.name.clone(),
            }),
            Err(failure) => find_node(nodes, word).map(node).map_err(|_| failure),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_kubectl_users_write_them() {
        let pod = |namespace: &str, name: &str| Target::Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(parse("web", "default"), pod("default", "web"));
        assert_eq!(parse("pod/web", "shop"), pod("shop", "web"));
        assert_eq!(
            parse("kube-system/coredns", "default"),
            pod("kube-system", "coredns")
        );
        assert_eq!(
            parse("node/minikube", "default"),
            Target::Node {
                name: "minikube".to_owned()
            }
        );
    }

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        let names = || {
            vec![
                "minikube".to_owned(),
                "minikube-m02".to_owned(),
                "zeta".to_owned(),
            ]
        };
        assert_eq!(
            near("minikub", names()),
            "; did you mean \"minikube\" or \"minikube-m02\"?"
        );
        assert_eq!(
            near("qqq", names()),
            "; there is minikube, minikube-m02, zeta"
        );
        assert_eq!(near("qqq", Vec::new()), "");
    }
}
