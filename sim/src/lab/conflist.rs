//! A CNI conflist as input: the network to imitate, taken from a file that a cluster has in `/etc/cni/net.d`.
//!
//! Decides which plugins podwire can stand in for: `ptp` with `host-local`, as kindnet sets it up, and `bridge` with
//! `host-local`, as podman and CRI-O do (dataplane section 8), and `calico` with `calico-ipam` (CAL-35); `portmap`,
//! `bandwidth`, `firewall` and `tuning` beside them.
//! The others are valid conflists, and refused with their name; so are keys of `bridge` that ask for what is not here.
//! Source: CNI specification 0.3.1 to 1.1.0, plugins `bridge`, `ptp` and `host-local`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::diagnostics::{At, Diagnostics, Sink};
use super::read::{self, Fields};
use super::source::Source;
use super::tree::{self, Value};
use super::written::{MAX_MTU, address, calico_mtu, net};
use crate::bandwidth::Bandwidth;
use crate::spec::{BridgeNetwork, Preset};

/// What a conflist says about a lab.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conflist {
    pub(super) mtu: Option<At<u16>>,
    /// podCIDR of the node that the file comes from.
    pub(super) subnet: Option<At<Ipv4Net>>,
    /// The preset that its main plugin stands for, where that is one only.
    pub(super) preset: Option<At<Preset>>,
    /// The network, where the plugin is `bridge`.
    pub(crate) bridge: Option<BridgeNetwork>,
    /// Limits of every pod.
    pub(super) bandwidth: Bandwidth,
    /// Then the file itself, name and content: nodes get it.
    pub(super) file: Option<(String, String)>,
}

/// The network that `text`, the content of the file `name`, describes.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn parse(name: &str, text: &str) -> Result<Conflist, Diagnostics> {
    let sources = [Source::new(name, text)];
    let mut sink = Sink::new(&sources);
    let documents = tree::parse(0, text, &mut sink);
    let found = match documents.first() {
        Some(document) => read(document, &mut sink),
        None => {
            sink.error_at(None, format!("{name}: no CNI configuration"));
            None
        }
    };
    sink.finish(found)
}

/// Reads a conflist, or a configuration of one plugin.
pub(super) fn read(document: &Value, sink: &mut Sink<'_>) -> Option<Conflist> {
    let fields = Fields::open_lenient(document, "a CNI conflist", sink)?;
    if fields.get("plugins").is_none() && fields.get("type").is_some() {
        let name = network_name(&fields, sink);
        return plugin(document, name.as_deref(), &mut Bandwidth::default(), sink).flatten();
    }
    let known = [
        "cniVersion",
        "cniVersions",
        "name",
        "disableCheck",
        "plugins",
    ];
    let fields = Fields::open(document, "a CNI conflist", &known, sink)?;
    let name = network_name(&fields, sink);
    let plugins = fields.want("plugins", "a CNI conflist", sink)?;
    let mut found: Option<Conflist> = None;
    let mut limits = Bandwidth::default();
    let mut port_map = None;
    for value in read::list(plugins, "plugins", sink) {
        if let Some(Some(conflist)) = plugin(value, name.as_deref(), &mut limits, sink) {
            found = Some(conflist);
        }
        port_map = port_map.or_else(|| portmap(value));
    }
    if let Some(bridge) = found.as_mut().and_then(|found| found.bridge.as_mut()) {
        bridge.port_map = port_map;
    }
    if let Some(conflist) = &mut found {
        conflist.bandwidth = limits;
        if let Some(bridge) = &mut conflist.bridge {
            bridge.bandwidth = limits;
        }
    }
    if found.is_none() && sink.is_clean() {
        sink.error(
            plugins.pos,
            "a network needs the plugin \"ptp\", \"bridge\" or \"calico\"",
        );
    }
    found
}

/// It names host-local's directory, so that it can't be a path.
fn network_name(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<String> {
    let name = read::text(fields.get("name")?, "name", sink)?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts = |c: char| c.is_ascii_alphanumeric();
    if !name.value.starts_with(starts) || !name.value.chars().all(good) || name.value.len() > 255 {
        let message = format!(
            "\"{}\" is no name of a CNI network: a letter or digit, then letters, digits, '_', '.' and '-'",
            name.value
        );
        sink.error(name.pos, message);
        return None;
    }
    Some(name.value)
}

/// One plugin; the inner none is one that makes no interface. What it limits is added to `limits`.
fn plugin(
    value: &Value,
    network: Option<&str>,
    limits: &mut Bandwidth,
    sink: &mut Sink<'_>,
) -> Option<Option<Conflist>> {
    let fields = Fields::open_lenient(value, "a CNI plugin", sink)?;
    let kind = fields
        .want("type", "a CNI plugin", sink)
        .and_then(|value| read::text(value, "type", sink))?;
    match kind.value.as_str() {
        "ptp" => Some(ptp(&fields, sink)),
        "bridge" => Some(bridge(value, network, sink)),
        "calico" => Some(calico(&fields, sink)),
        "bandwidth" => {
            *limits = bandwidth(&fields, sink)?;
            Some(None)
        }
        "portmap" => {
            let known = ["cniVersion", "name", "type", "capabilities", "snat"];
            let fields = Fields::open(value, "the plugin portmap", &known, sink)?;
            if let Some(snat) = fields.get("snat") {
                read::boolean(snat, sink)?;
            }
            Some(None)
        }
        "firewall" => Some(None),
        "tuning" => {
            let known = ["cniVersion", "name", "type", "capabilities"];
            let what = "the plugin tuning, which changes nothing in this version,";
            let _fields = Fields::open(value, what, &known, sink)?;
            Some(None)
        }
        other => {
            sink.error(
                kind.pos,
                format!(
                    "CNI plugin \"{other}\" is not in this version; there are ptp and bridge (with host-local), calico (with calico-ipam), portmap, bandwidth, firewall, tuning"
                ),
            );
            None
        }
    }
}

/// `snat` of the plugin `portmap`, if it is that one and runtimes give it ports; what is wrong with it was told before.
fn portmap(plugin: &Value) -> Option<bool> {
    let mut quiet = Sink::new(&[]);
    let fields = Fields::open_lenient(plugin, "", &mut quiet)?;
    let kind = read::text(fields.get("type")?, "", &mut quiet)?;
    let capable = Fields::open_lenient(fields.get("capabilities")?, "", &mut quiet)?;
    let capable = read::boolean(capable.get("portMappings")?, &mut quiet)?;
    let snat = fields
        .get("snat")
        .map(|value| read::boolean(value, &mut quiet));
    (kind.value == "portmap" && capable.value).then(|| snat.flatten().is_none_or(|snat| snat.value))
}

fn ptp(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<Conflist> {
    if let Some(flag) = fields
        .get("ipMasq")
        .and_then(|value| read::boolean(value, sink))
        .filter(|flag| flag.value)
    {
        sink.error(flag.pos, "ipMasq: true is not in this version");
    }
    let mtu = fields
        .get("mtu")
        .and_then(|value| read::number(value, "mtu", 68..=MAX_MTU, sink));
    let ipam = host_local(fields.want("ipam", "ptp", sink)?, sink)?;
    Some(Conflist {
        mtu,
        subnet: ipam.range.map(|range| range.subnet),
        preset: Some(At {
            value: Preset::Kindnet,
            pos: fields.pos,
        }),
        ..Conflist::default()
    })
}

/// CAL-35: what install-cni writes. Where Calico keeps its state and its logs doesn't matter here; the rest must be what podwire
/// does.
fn calico(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<Conflist> {
    for key in ["log_level", "log_file_path", "datastore_type", "nodename"] {
        if let Some(value) = fields.get(key) {
            read::text(value, key, sink)?;
        }
    }
    let inner = |key: &str, name: &str, sink: &mut Sink<'_>| {
        let inner = Fields::open_lenient(fields.get(key)?, key, sink)?;
        read::text(inner.want(name, key, sink)?, name, sink)
    };
    if let Some(kind) = inner("ipam", "type", sink)
        && kind.value != "calico-ipam"
    {
        let message = format!(
            "IPAM plugin \"{}\" under calico is not in this version; there is calico-ipam",
            kind.value
        );
        sink.error(kind.pos, message);
    }
    if let Some(kind) = inner("policy", "type", sink)
        && kind.value != "k8s"
    {
        let message = format!(
            "policy of type \"{}\" is unknown; Calico has k8s",
            kind.value
        );
        sink.error(kind.pos, message);
    }
    inner("kubernetes", "kubeconfig", sink);
    Some(Conflist {
        mtu: fields
            .get("mtu")
            .and_then(|value| calico_mtu(value, sink))
            .filter(|mtu| mtu.value != 0),
        preset: Some(At {
            value: Preset::Calico,
            pos: fields.pos,
        }),
        ..Conflist::default()
    })
}

/// Limits of its own are for every pod, and come before those of annotations (CAL-34).
fn bandwidth(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<Bandwidth> {
    if let Some(pos) = fields
        .key_pos("unshapedSubnets")
        .or_else(|| fields.key_pos("shapedSubnets"))
    {
        sink.error(pos, "bandwidth by subnet is not in this version");
    }
    let mut bits = [0; 4];
    for (bits, key) in
        bits.iter_mut()
            .zip(["ingressRate", "ingressBurst", "egressRate", "egressBurst"])
    {
        if let Some(value) = fields.get(key) {
            *bits = read::number(value, key, 0..=u64::MAX, sink)?.value;
        }
    }
    Bandwidth::of_plugin(bits)
        .map_err(|why| sink.error(fields.pos, format!("bandwidth: {why}")))
        .ok()
}

/// Keys of the plugin `bridge` that ask for what is not here, and the value that asks for nothing.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("vlan", "0"),
    ("vlanTrunk", ""),
    ("preserveDefaultVlan", "true"),
    ("macspoofchk", "false"),
    ("portIsolation", "false"),
    ("enabledad", "false"),
];

const BRIDGE_KEYS: &[&str] = &[
    "cniVersion",
    "name",
    "type",
    "bridge",
    "isGateway",
    "isDefaultGateway",
    "forceAddress",
    "ipMasq",
    "mtu",
    "hairpinMode",
    "promiscMode",
    "disableContainerInterface",
    "capabilities",
    "ipam",
    "vlan",
    "vlanTrunk",
    "preserveDefaultVlan",
    "macspoofchk",
    "portIsolation",
    "enabledad",
];

/// The plugin `bridge` (BR-12 to BR-17).
fn bridge(value: &Value, network: Option<&str>, sink: &mut Sink<'_>) -> Option<Conflist> {
    let fields = Fields::open(value, "the plugin bridge", BRIDGE_KEYS, sink)?;
    let flag = |key: &str, sink: &mut Sink<'_>| {
        let at = fields.get(key).and_then(|value| read::boolean(value, sink));
        at.filter(|at| at.value).map(|at| at.pos)
    };
    for (key, nothing) in UNSUPPORTED {
        if let Some(value) = fields.get(key) {
            let asks = read::text(value, key, sink).is_none_or(|at| at.value != nothing);
            if asks {
                sink.error(value.pos, format!("{key} is not in this version"));
            }
        }
    }
    let hairpin = flag("hairpinMode", sink);
    let promisc = flag("promiscMode", sink);
    if let (Some(_), Some(pos)) = (hairpin, promisc) {
        sink.error(
            pos,
            "cannot set hairpin mode and promiscuous mode at the same time",
        );
    }
    let ipam = fields.get("ipam").filter(|ipam| !is_empty(ipam));
    if let Some(pos) = flag("disableContainerInterface", sink) {
        let message = match ipam {
            Some(_) => "cannot use IPAM when disableContainerInterface is set",
            None => "disableContainerInterface is not in this version",
        };
        sink.error(pos, message);
        return None;
    }
    let Some(ipam) = ipam else {
        sink.error(fields.pos, "bridge needs \"ipam\" in this version");
        return None;
    };
    let name = fields
        .get("bridge")
        .and_then(|value| interface_name(value, sink));
    let mtu = fields
        .get("mtu")
        .and_then(|value| read::number(value, "mtu", 0..=MAX_MTU, sink))
        .filter(|at| at.value != 0);
    if let Some(at) = mtu.filter(|at| at.value < 68) {
        sink.error(at.pos, "an IPv4 MTU is at least 68");
    }
    let default_gateway = flag("isDefaultGateway", sink).is_some();
    let is_gateway = flag("isGateway", sink).is_some() || default_gateway;
    let force_address = flag("forceAddress", sink).is_some();
    let ip_masq = flag("ipMasq", sink).is_some();
    let ipam = host_local(ipam, sink)?;
    let Some(range) = ipam.range else {
        sink.error(fields.pos, "host-local needs a subnet");
        return None;
    };
    Some(Conflist {
        bridge: Some(BridgeNetwork {
            name: network.unwrap_or("bridge").to_owned(),
            bridge: name.unwrap_or_else(|| "cni0".to_owned()),
            is_gateway,
            is_default_gateway: default_gateway,
            force_address,
            ip_masq,
            hairpin: hairpin.is_some(),
            promisc: promisc.is_some(),
            mtu: mtu.map(|at| at.value),
            subnet: range.subnet.value,
            first: range.first,
            last: range.last,
            gateway: range.gateway,
            routes: ipam.routes,
            bandwidth: Bandwidth::default(),
            port_map: None,
        }),
        ..Conflist::default()
    })
}

fn is_empty(value: &Value) -> bool {
    matches!(&value.kind, tree::Kind::Map(entries) if entries.is_empty())
}

/// The name of a network interface, as the kernel takes it.
pub(super) fn interface_name(value: &Value, sink: &mut Sink<'_>) -> Option<String> {
    let name = read::text(value, "the name of an interface", sink)?;
    let good = !name.value.is_empty()
        && name.value.len() <= 15
        && !matches!(name.value.as_str(), "." | "..")
        && name
            .value
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%' | '@'));
    if !good {
        let message = format!(
            "\"{}\" is no name of an interface: 1 to 15 printable characters without '/', ':', '%', '@'",
            name.value
        );
        sink.error(name.pos, message);
        return None;
    }
    Some(name.value)
}

struct HostLocal {
    range: Option<Range>,
    routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
}

struct Range {
    subnet: At<Ipv4Net>,
    first: Option<Ipv4Addr>,
    last: Option<Ipv4Addr>,
    gateway: Option<Ipv4Addr>,
}

const RANGE_KEYS: &[&str] = &["subnet", "rangeStart", "rangeEnd", "gateway"];

/// The IPAM plugin host-local with one range.
fn host_local(value: &Value, sink: &mut Sink<'_>) -> Option<HostLocal> {
    let ipam = Fields::open_lenient(value, "ipam", sink)?;
    let kind = read::text(ipam.want("type", "ipam", sink)?, "type", sink)?;
    if kind.value != "host-local" {
        let message = format!(
            "IPAM plugin \"{}\" is not in this version; there is host-local",
            kind.value
        );
        sink.error(kind.pos, message);
        return None;
    }
    let mut ranges = Vec::new();
    if ipam.get("subnet").is_some() {
        ranges.extend(range(&ipam, sink));
    }
    if let Some(value) = ipam.get("ranges") {
        for set in read::list(value, "ranges", sink) {
            for item in read::list(set, "a range set", sink) {
                if let Some(fields) = Fields::open(item, "a range", RANGE_KEYS, sink) {
                    ranges.extend(range(&fields, sink));
                }
            }
        }
    }
    if let Some(second) = ranges.get(1) {
        sink.error(
            second.subnet.pos,
            "more than one range is not in this version",
        );
    }
    let mut routes = Vec::new();
    if let Some(value) = ipam.get("routes") {
        for item in read::list(value, "routes", sink) {
            let known = ["dst", "gw"];
            let Some(fields) = Fields::open(item, "a route of host-local", &known, sink) else {
                continue;
            };
            let dst = fields
                .want("dst", "a route", sink)
                .and_then(|value| net(value, sink));
            let gw = fields.get("gw").and_then(|value| address(value, sink));
            routes.extend(dst.map(|dst| (dst.value, gw.map(|at| at.value))));
        }
    }
    ranges.truncate(1);
    Some(HostLocal {
        range: ranges.pop(),
        routes,
    })
}

fn range(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<Range> {
    let subnet = fields
        .want("subnet", "a range", sink)
        .and_then(|value| net(value, sink))?;
    let mut inside = |key: &str| {
        let at: At<Ipv4Addr> = address(fields.get(key)?, sink)?;
        if !subnet.value.contains(&at.value) {
            let message = format!("{key} {} lies outside subnet {}", at.value, subnet.value);
            sink.error(at.pos, message);
        }
        Some(at)
    };
    let (first, last, gateway) = (inside("rangeStart"), inside("rangeEnd"), inside("gateway"));
    if let (Some(first), Some(last)) = (&first, &last)
        && first.value > last.value
    {
        let message = format!(
            "rangeEnd {} is before rangeStart {}",
            last.value, first.value
        );
        sink.error(last.pos, message);
    }
    Some(Range {
        subnet,
        first: first.map(|at| at.value),
        last: last.map(|at| at.value),
        gateway: gateway.map(|at| at.value),
    })
}
