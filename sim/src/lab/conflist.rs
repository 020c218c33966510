//! A CNI conflist as input: the network to imitate, taken from the file that a cluster has in `/etc/cni/net.d`.
//!
//! Decides which plugins podwire can stand in for: `ptp` with `host-local`, as kindnet sets it up, and `portmap` beside it. The
//! others are valid conflists, and refused with their name. Source: CNI specification 0.3.1 to 1.0.0.

use ipnet::Ipv4Net;

use super::diagnostics::{At, Sink};
use super::read::{self, Fields};
use super::tree::Value;
use super::written::net;

/// What a conflist says about a lab.
#[derive(Clone, Debug, Default)]
pub(super) struct Conflist {
    pub(super) mtu: Option<At<u16>>,
    /// podCIDR of the node that the file comes from.
    pub(super) subnet: Option<At<Ipv4Net>>,
}

/// Reads a conflist.
pub(super) fn read(document: &Value, sink: &mut Sink<'_>) -> Option<Conflist> {
    let known = [
        "cniVersion",
        "cniVersions",
        "name",
        "disableCheck",
        "plugins",
    ];
    let fields = Fields::open(document, "a CNI conflist", &known, sink)?;
    let plugins = fields.want("plugins", "a CNI conflist", sink)?;
    let mut found = None;
    for plugin in read::list(plugins, "plugins", sink) {
        let Some(fields) = Fields::open_lenient(plugin, "a CNI plugin", sink) else {
            continue;
        };
        let Some(kind) = fields
            .want("type", "a CNI plugin", sink)
            .and_then(|value| read::text(value, "type", sink))
        else {
            continue;
        };
        match kind.value.as_str() {
            "ptp" => found = ptp(&fields, sink),
            "portmap" => {}
            other => sink.error(
                kind.pos,
                format!(
                    "CNI plugin \"{other}\" is not in this version; there are ptp (with host-local) and portmap"
                ),
            ),
        }
    }
    if found.is_none() && sink.is_clean() {
        sink.error(plugins.pos, "a network needs the plugin \"ptp\"");
    }
    found
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
        .and_then(|value| read::number(value, "mtu", 68..=65_521, sink));
    let ipam = Fields::open_lenient(fields.want("ipam", "ptp", sink)?, "ipam", sink)?;
    let kind = read::text(ipam.want("type", "ipam", sink)?, "type", sink)?;
    if kind.value != "host-local" {
        let message = format!(
            "IPAM plugin \"{}\" is not in this version; there is host-local",
            kind.value
        );
        sink.error(kind.pos, message);
        return None;
    }
    let mut subnets = Vec::new();
    if let Some(value) = ipam.get("subnet") {
        subnets.extend(net(value, sink));
    }
    if let Some(ranges) = ipam.get("ranges") {
        for set in read::list(ranges, "ranges", sink) {
            for range in read::list(set, "a range set", sink) {
                let Some(range) = Fields::open(range, "a range", &["subnet"], sink) else {
                    continue;
                };
                if let Some(value) = range.want("subnet", "a range", sink) {
                    subnets.extend(net(value, sink));
                }
            }
        }
    }
    if let Some(second) = subnets.get(1) {
        sink.error(second.pos, "more than one range is not in this version");
    }
    Some(Conflist {
        mtu,
        subnet: subnets.first().cloned(),
    })
}
