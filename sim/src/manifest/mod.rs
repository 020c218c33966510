//! Kubernetes manifests as they are: Pod, Node, Namespace, NetworkPolicy, Service, EndpointSlice, Endpoints, and List of these.
//!
//! Decides what of a manifest has a meaning here. The rest of a real manifest (images, probes, volumes, security contexts) is
//! accepted without a word, as an API server would accept it; keys that no API server knows at the places that podwire
//! reads are reported, as are fields that would change the network and are not in this version. Reads no files.
//!
//! The program of a pod is the first container's `command` and `args`; there are no images, so a container without both
//! just exists.

mod keys;
mod object;
mod policy;
mod ports;
#[cfg(test)]
mod refused;
mod service;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use words::pod_annotations;

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;

use crate::kube::{self, ContainerPort};
use crate::lab::{
    self, At, CidrChoice, Diagnostics, Fields, NodeFile, PodFile, Pos, Sink, Source, Value, hint,
};
use crate::model::{IfaceKind, Node, Pod};
use crate::portmap;
use crate::spec::{NodeSpec, PodSpec};

/// What one manifest declares, with its places.
#[derive(Debug)]
pub(crate) enum Object {
    Pod(Box<PodFile>),
    Node(Box<NodeFile>),
    Kube(Box<kube::Object>, Pos),
}

impl Object {
    pub(crate) fn pos(&self) -> Pos {
        match self {
            Self::Pod(pod) => pod.name.pos,
            Self::Node(node) => node.name.pos,
            Self::Kube(_, pos) => *pos,
        }
    }
}

/// What one manifest declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// A pod. Its node is empty where the manifest has no `nodeName`: see [`place`].
    Pod(Box<PodSpec>),
    /// A node.
    Node(NodeManifest),
    /// Any other object.
    Object(Box<kube::Object>),
}

/// A node as a manifest declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeManifest {
    /// Name.
    pub name: String,
    /// `status.addresses` of type InternalIP.
    pub internal_ip: Option<Ipv4Addr>,
    /// `spec.podCIDR`
    pub pod_cidr: Option<Ipv4Net>,
    /// Has the label `node-role.kubernetes.io/control-plane` or `master`.
    pub control_plane: bool,
    /// Labels.
    pub labels: IndexMap<String, String>,
}

impl NodeManifest {
    /// The node as it joins `nodes`. What the manifest leaves open is taken from them: the address is the next free one
    /// after the first node's in its subnet, the podCIDR the next free one after the first node's, of the same size.
    ///
    /// # Errors
    /// What is not left, or that there is no node to go by.
    pub fn joining(&self, nodes: &[Node]) -> Result<NodeSpec, String> {
        let first = nodes
            .first()
            .ok_or_else(|| format!("there is no node that \"{}\" could join", self.name))?;
        let used: Vec<Ipv4Net> = nodes
            .iter()
            .flat_map(|node| &node.ifaces)
            .filter(|iface| iface.kind == IfaceKind::Ethernet)
            .flat_map(|iface| iface.addrs.iter().map(|addr| addr.net))
            .collect();
        let subnet = used
            .iter()
            .find(|net| net.addr() == first.internal_ip)
            .copied()
            .ok_or_else(|| format!("node \"{}\" has lost its address", first.name))?;
        let internal_ip = match self.internal_ip {
            Some(addr) => addr,
            None => (u32::from(subnet.addr())..u32::from(subnet.broadcast()))
                .map(Ipv4Addr::from)
                .find(|addr| used.iter().all(|net| net.addr() != *addr))
                .ok_or_else(|| {
                    format!(
                        "no address is left in {} for node \"{}\"",
                        subnet.trunc(),
                        self.name
                    )
                })?,
        };
        let pod_cidr = match (self.pod_cidr, first.pod_cidr) {
            (Some(net), _) => Some(net),
            (None, None) => None,
            (None, Some(base)) => Some(next_cidr(base, nodes).ok_or_else(|| {
                format!(
                    "no /{} is left for node \"{}\"",
                    base.prefix_len(),
                    self.name
                )
            })?),
        };
        Ok(NodeSpec {
            name: self.name.clone(),
            internal_ip,
            addresses: vec![Ipv4Net::new_assert(internal_ip, subnet.prefix_len())],
            mac: None,
            pod_cidr,
            control_plane: self.control_plane,
            labels: self.labels.clone(),
            interfaces: Vec::new(),
            routes: Vec::new(),
            uplink: None,
        })
    }
}

/// The first block of the size of `base`, from `base` on, that no node has.
fn next_cidr(base: Ipv4Net, nodes: &[Node]) -> Option<Ipv4Net> {
    let step = 1_u32.checked_shl(32 - u32::from(base.prefix_len()))?;
    let taken = |block: &Ipv4Net| {
        nodes
            .iter()
            .filter_map(|node| node.pod_cidr)
            .any(|net| net.contains(block) || block.contains(&net))
    };
    std::iter::successors(Some(u32::from(base.network())), |start| {
        start.checked_add(step)
    })
    // Each node blocks one block at least, or many with a wider network of its own.
    .take(1 << 16)
    .map(|start| Ipv4Net::new_assert(Ipv4Addr::from(start), base.prefix_len()))
    .find(|block| !taken(block))
}

/// The manifests in `sources`, in order.
///
/// # Errors
/// Everything that is wrong with them; a Lab among them is an error.
pub fn load(sources: &[Source]) -> Result<Vec<Manifest>, Diagnostics> {
    Ok(lab::objects(sources)?
        .into_iter()
        .map(|(object, place)| match object {
            Object::Pod(file) => {
                let node = file
                    .node
                    .as_ref()
                    .map_or_else(String::new, |at| at.value.clone());
                Manifest::Pod(Box::new(lab::spec_of(*file, node, Some(place))))
            }
            Object::Node(file) => Manifest::Node(NodeManifest {
                name: file.name.value,
                internal_ip: file.internal_ip.map(|at| at.value),
                pod_cidr: match file.pod_cidr {
                    CidrChoice::Net(at) => Some(at.value),
                    CidrChoice::Next | CidrChoice::None => None,
                },
                control_plane: file.control_plane == Some(true),
                labels: file.labels,
            }),
            Object::Kube(mut object, _) => {
                object.meta_mut().declared_at = Some(place);
                Manifest::Object(object)
            }
        })
        .collect())
}

/// Gives a node to the pods that name none: the one with the fewest pods, the first of equals, as in a lab file. Pods that
/// get one count at once. Pods stay without where no node has a podCIDR.
pub fn place<'p>(pods: impl IntoIterator<Item = &'p mut PodSpec>, nodes: &[Node], running: &[Pod]) {
    let mut load: Vec<(&Node, usize)> = nodes
        .iter()
        .map(|node| {
            let here = |pod: &&Pod| pod.node == node.name && !pod.host_network;
            (node, running.iter().filter(here).count())
        })
        .collect();
    for pod in pods {
        if pod.node.is_empty()
            && let Some((node, _)) = load
                .iter()
                .filter(|(node, _)| pod.host_network || node.pod_cidr.is_some())
                .filter(|(node, _)| portmap::free(&pod.ports, &node.name, running))
                .min_by_key(|(_, pods)| *pods)
        {
            pod.node.clone_from(&node.name);
        }
        if let Some((_, pods)) = load
            .iter_mut()
            .find(|(node, _)| node.name == pod.node && !pod.host_network)
        {
            *pods += 1;
        }
    }
}

/// Kinds of manifests.
const KINDS: [&str; 7] = [
    "Pod",
    "Node",
    "Namespace",
    "NetworkPolicy",
    "Service",
    "EndpointSlice",
    "Endpoints",
];

fn kube_object(object: kube::Object, pos: Pos) -> Object {
    Object::Kube(Box::new(object), pos)
}

/// Reads one document that is no Lab.
pub(crate) fn read(
    document: &Value,
    kind: &At<String>,
    objects: &mut Vec<Object>,
    sink: &mut Sink<'_>,
) {
    match kind.value.as_str() {
        "Pod" => objects.extend(pod(document, sink).map(|pod| Object::Pod(Box::new(pod)))),
        "Node" => objects.extend(node(document, sink).map(|node| Object::Node(Box::new(node)))),
        "Namespace" => objects.extend(
            object::namespace(document, sink)
                .map(|(object, pos)| kube_object(kube::Object::Namespace(object), pos)),
        ),
        "NetworkPolicy" => objects.extend(
            policy::read(document, sink)
                .map(|(object, pos)| kube_object(kube::Object::NetworkPolicy(object), pos)),
        ),
        "Service" => objects.extend(
            service::read(document, sink)
                .map(|(object, pos)| kube_object(kube::Object::Service(object), pos)),
        ),
        "EndpointSlice" => objects.extend(
            service::slice(document, sink)
                .map(|(object, pos)| kube_object(kube::Object::EndpointSlice(object), pos)),
        ),
        "Endpoints" => objects.extend(
            service::endpoints(document, sink)
                .into_iter()
                .map(|(object, pos)| kube_object(kube::Object::EndpointSlice(object), pos)),
        ),
        "List" => list(document, objects, sink),
        list_of
            if list_of
                .strip_suffix("List")
                .is_some_and(|kind| KINDS.contains(&kind)) =>
        {
            list(document, objects, sink);
        }
        other => {
            let hint = hint(other, KINDS.into_iter().chain(["Lab", "List"]));
            let message = if hint.is_empty() {
                format!(
                    "kind {} means nothing to podwire; there are Lab, {} and List",
                    words::short(other),
                    KINDS.join(", ")
                )
            } else {
                format!("no kind \"{other}\"{hint}")
            };
            sink.error(kind.pos, message);
        }
    }
}

fn list(document: &Value, objects: &mut Vec<Object>, sink: &mut Sink<'_>) {
    let Some(fields) = Fields::open(
        document,
        "a list",
        &["apiVersion", "kind", "metadata", "items"],
        sink,
    ) else {
        return;
    };
    let Some(items) = fields.get("items") else {
        return;
    };
    for item in lab::list(items, "items", sink) {
        let kind = Fields::open_lenient(item, "an item", sink)
            .and_then(|fields| fields.want("kind", "an item", sink))
            .and_then(|value| lab::text(value, "kind", sink));
        match kind {
            // A list in a list is no manifest; it would also recurse.
            Some(kind) if kind.value.ends_with("List") => {
                sink.error(kind.pos, "a list may not stand in a list");
            }
            Some(kind) => read(item, &kind, objects, sink),
            None => {}
        }
    }
}

/// `metadata` with the fields that are the same for all kinds.
struct Metadata<'v> {
    fields: Fields<'v>,
    labels: IndexMap<String, String>,
}

/// Opens a manifest of `apiVersion: v1`.
fn open<'v>(
    document: &'v Value,
    what: &str,
    sink: &mut Sink<'_>,
) -> Option<(Fields<'v>, Metadata<'v>)> {
    let fields = Fields::open(document, what, keys::TOP, sink)?;
    if let Some(version) = fields
        .want("apiVersion", what, sink)
        .and_then(|value| lab::text(value, "apiVersion", sink))
        && version.value != "v1"
    {
        sink.error(
            version.pos,
            format!(
                "apiVersion of {what} must be \"v1\", not \"{}\"",
                version.value
            ),
        );
    }
    let metadata = fields.want("metadata", what, sink)?;
    let metadata = Fields::open(metadata, "metadata", keys::METADATA, sink)?;
    let labels = metadata
        .get("labels")
        .map_or_else(IndexMap::new, |value| words::labels(value, "labels", sink));
    Some((
        fields,
        Metadata {
            fields: metadata,
            labels,
        },
    ))
}

fn node(document: &Value, sink: &mut Sink<'_>) -> Option<NodeFile> {
    let (fields, metadata) = open(document, "a node", sink)?;
    let name = metadata
        .fields
        .want("name", "metadata", sink)
        .and_then(|value| lab::node_name(value, sink));
    let mut pod_cidr = CidrChoice::Next;
    if let Some(value) = fields.get("spec")
        && let Some(spec) = Fields::open(value, "the spec of a node", keys::NODE_SPEC, sink)
        && let Some(value) = spec.get("podCIDR")
    {
        pod_cidr = lab::net(value, sink).map_or(pod_cidr, CidrChoice::Net);
    }
    let mut internal_ip = None;
    if let Some(value) = fields.get("status")
        && let Some(status) = Fields::open_lenient(value, "the status of a node", sink)
        && let Some(addresses) = status.get("addresses")
    {
        for item in lab::list(addresses, "addresses", sink) {
            let Some(fields) = Fields::open(item, "an address", &["type", "address"], sink) else {
                continue;
            };
            let kind = fields
                .want("type", "an address", sink)
                .and_then(|value| lab::text(value, "type", sink));
            let Some(value) = fields.want("address", "an address", sink) else {
                continue;
            };
            // A dual-stack node has an IPv6 InternalIP as well; the first of IPv4 counts.
            let is_v6 = matches!(&value.kind, lab::Kind::Scalar { text, .. } if text.contains(':'));
            if kind.is_some_and(|kind| kind.value == "InternalIP")
                && internal_ip.is_none()
                && !is_v6
            {
                internal_ip = lab::address(value, sink);
            }
        }
    }
    let role = |role: &str| {
        metadata
            .labels
            .contains_key(&format!("node-role.kubernetes.io/{role}"))
    };
    let control_plane = role("control-plane") || role("master");
    Some(NodeFile {
        name: name?,
        internal_ip,
        addresses: Vec::new(),
        mac: None,
        pod_cidr,
        control_plane: control_plane.then_some(true),
        labels: metadata.labels,
        interfaces: Vec::new(),
        routes: Vec::new(),
        uplink: None,
    })
}

fn pod(document: &Value, sink: &mut Sink<'_>) -> Option<PodFile> {
    let (fields, metadata) = open(document, "a pod", sink)?;
    let name = metadata
        .fields
        .want("name", "metadata", sink)
        .and_then(|value| lab::subdomain(value, "the name of a pod", sink));
    let namespace = metadata
        .fields
        .get("namespace")
        .and_then(|value| lab::label(value, "a namespace", sink));
    let spec = fields.want("spec", "a pod", sink)?;
    let spec = Fields::open(spec, "the spec of a pod", keys::POD_SPEC, sink)?;
    let host_network = spec
        .get("hostNetwork")
        .and_then(|value| lab::boolean(value, sink))
        .is_some_and(|flag| flag.value);
    let program = spec
        .want("containers", "the spec of a pod", sink)
        .map(|value| containers(value, host_network, sink))
        .unwrap_or_default();
    if let Some(pos) = spec
        .get("initContainers")
        .and_then(|_| spec.key_pos("initContainers"))
    {
        sink.error(pos, "initContainers are not in this version");
    }
    let node = spec
        .get("nodeName")
        .and_then(|value| lab::text(value, "nodeName", sink));
    let restart = spec
        .get("restartPolicy")
        .and_then(|value| lab::restart_policy(value, sink))
        .unwrap_or_default();
    let annotations = metadata
        .fields
        .get("annotations")
        .map_or_else(IndexMap::new, |value| pod_annotations(value, sink));
    Some(PodFile {
        name: name?,
        namespace,
        node,
        labels: metadata.labels,
        host_network,
        cni: None,
        link: None,
        routes: Vec::new(),
        ip: None,
        mac: None,
        command: program.command,
        env: program.env,
        restart,
        ports: program.ports,
        annotations,
        impairments: Default::default(),
    })
}

/// What runs in a pod.
#[derive(Default)]
struct Program {
    command: Option<Vec<String>>,
    env: IndexMap<String, String>,
    ports: Vec<At<ContainerPort>>,
}

fn containers(value: &Value, host_network: bool, sink: &mut Sink<'_>) -> Program {
    let mut program = Program::default();
    for item in lab::list(value, "containers", sink) {
        let Some(fields) = Fields::open(item, "a container", keys::CONTAINER, sink) else {
            continue;
        };
        let _name = fields
            .want("name", "a container", sink)
            .and_then(|value| lab::label(value, "the name of a container", sink));
        ports::of_container(&fields, host_network, &mut program.ports, sink);
        let mut words = Vec::new();
        for key in ["command", "args"] {
            if let Some(value) = fields.get(key) {
                words.extend(lab::texts(value, key, sink).into_iter().map(|at| at.value));
            }
        }
        if words.is_empty() {
            continue;
        }
        if program.command.is_some() {
            sink.error(
                fields.pos,
                "a pod has one program in this version, and an earlier container has a command",
            );
            continue;
        }
        program.command = Some(words);
        program.env = environment(&fields, sink);
    }
    program
}

/// `env` entries with a value; those that refer to other objects have none here.
fn environment(container: &Fields<'_>, sink: &mut Sink<'_>) -> IndexMap<String, String> {
    let mut env = IndexMap::new();
    let Some(list) = container.get("env") else {
        return env;
    };
    for item in lab::list(list, "env", sink) {
        let known = ["name", "value", "valueFrom"];
        let Some(fields) = Fields::open(item, "an environment variable", &known, sink) else {
            continue;
        };
        let Some(name) = fields
            .want("name", "an environment variable", sink)
            .and_then(|value| lab::text(value, "name", sink))
        else {
            continue;
        };
        if fields.get("valueFrom").is_some() {
            continue;
        }
        let value = fields
            .get("value")
            .and_then(|value| lab::text(value, "value", sink))
            .map_or_else(String::new, |at| at.value);
        env.insert(name.value, value);
    }
    env
}
