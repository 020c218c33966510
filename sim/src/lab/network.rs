//! Resolves what all nodes share.

use std::net::Ipv4Addr;
use std::path::{Component, Path};

use indexmap::IndexMap;
use ipnet::Ipv4Net;

use super::conflist::Conflist;
use super::diagnostics::{At, Pos, Sink};
use super::preset::Defaults;
use super::written::{CalicoFile, NetworkFile};
use crate::spec::{
    CalicoSpec, GatewaySpec, InternetSpec, MasqAgent, NetworkSpec, default_service_cidr,
};

/// Largest name of a file, bytes.
const MAX_FILE_NAME: usize = 255;

/// What every IPv4 link must carry (RFC 791), bytes.
const MIN_MTU: u16 = 68;

/// The network with everything that follows from it for the nodes.
pub(super) struct Resolved {
    pub(super) spec: NetworkSpec,
    pub(super) node_mask: u8,
    pub(super) first_node: Ipv4Addr,
    pub(super) gateway_pos: Option<Pos>,
}

pub(super) fn resolve(
    file: NetworkFile,
    conflist: &Conflist,
    preset: &Defaults,
    sink: &mut Sink<'_>,
) -> Resolved {
    let cluster_cidr = value(&file.cluster_cidr, preset.cluster_cidr);
    let node_subnet = value(&file.node_subnet, preset.node_subnet);
    if cluster_cidr.contains(&node_subnet) || node_subnet.contains(&cluster_cidr) {
        sink.conflict(
            pos(&file.cluster_cidr).or_else(|| pos(&file.node_subnet)),
            format!("clusterCIDR {cluster_cidr} and nodeSubnet {node_subnet} overlap"),
            pos(&file.node_subnet).filter(|_| file.cluster_cidr.is_some()),
            "the node subnet is here",
        );
    }
    if node_subnet.prefix_len() > 29 {
        sink.error_at(
            pos(&file.node_subnet),
            format!("nodeSubnet {node_subnet} is too small for a gateway and nodes"),
        );
    }
    let node_mask = value(&file.node_mask, preset.node_mask).max(cluster_cidr.prefix_len());
    if let Some(written) = &file.node_mask
        && written.value < cluster_cidr.prefix_len()
    {
        sink.error(
            written.pos,
            format!(
                "nodeCIDRMaskSize {} is larger than the whole clusterCIDR {cluster_cidr}",
                written.value
            ),
        );
    }
    let host = |n: u32| Ipv4Addr::from(u32::from(node_subnet.network()).saturating_add(n));
    let first_node = value(&file.first_node_address, host(preset.first_node_host));
    if !node_subnet.contains(&first_node) {
        sink.error_at(
            pos(&file.first_node_address),
            format!("firstNodeAddress {first_node} lies outside nodeSubnet {node_subnet}"),
        );
    }

    let default_gateway = At {
        value: host(preset.gateway_host),
        pos: Pos::NOWHERE,
    };
    let gateway = file.gateway.or(Some(default_gateway));
    let gateway_pos = gateway
        .as_ref()
        .map(|at| at.pos)
        .filter(|pos| *pos != Pos::NOWHERE);
    if let Some(at) = &gateway
        && !node_subnet.contains(&at.value)
    {
        sink.error_at(
            gateway_pos,
            format!(
                "the gateway {} lies outside nodeSubnet {node_subnet}",
                at.value
            ),
        );
    }
    let dhcp = file
        .dhcp
        .or(preset.dhcp.then_some(super::written::DhcpFile {
            metric: None,
            lease: None,
        }));
    let metric = dhcp
        .as_ref()
        .map(|dhcp| value(&dhcp.metric, preset.dhcp_metric));
    let lease = dhcp
        .as_ref()
        .map(|dhcp| value(&dhcp.lease, preset.dhcp_lease_secs));

    if let Some(at) = &file.kind_masq_agent
        && preset.kind_masq_agent.is_none()
    {
        sink.error(
            at.pos,
            "kindMasqAgent belongs to the presets \"kindnet\" and \"manual\"",
        );
    }
    if let Some(at) = &file.kind_masq_agent
        && at.value == MasqAgent::Nftables
        && !preset.pod_cidrs
    {
        sink.error(
            at.pos,
            "kindMasqAgent: nftables goes by podCIDRs, which the nodes of this preset have not",
        );
    }

    let internet = internet(file.internet, gateway.is_some(), preset, sink);

    // Calico's is the pods', all others' the hosts'.
    let of_hosts = conflist.mtu.as_ref().filter(|_| preset.calico.is_none());
    if let (Some(written), Some(taken)) = (&file.mtu, of_hosts)
        && written.value != taken.value
    {
        sink.conflict(
            Some(written.pos),
            format!(
                "mtu {} contradicts the conflist, which has {}",
                written.value, taken.value
            ),
            Some(taken.pos),
            "the conflist's is here",
        );
    }
    let service_cidr = file
        .service_cidr
        .as_ref()
        .map_or_else(default_service_cidr, |at| at.value);
    for (what, net) in [("clusterCIDR", cluster_cidr), ("nodeSubnet", node_subnet)] {
        if service_cidr.contains(&net) || net.contains(&service_cidr) {
            sink.error_at(
                file.service_cidr.as_ref().map(|at| at.pos),
                format!("serviceCIDR {service_cidr} overlaps {what} {net}"),
            );
        }
    }
    let mtu_at = file.mtu.as_ref().or(of_hosts);
    let mtu = mtu_at.map_or(preset.mtu, |at| at.value);
    let calico = calico(
        file.calico.as_ref(),
        conflist,
        preset.calico,
        cluster_cidr,
        sink,
    );
    if let Some(calico) = &calico
        && calico.tunnel_mtu(mtu) < MIN_MTU
    {
        sink.error_at(
            mtu_at.map(|at| at.pos),
            format!("mtu {mtu} leaves less than {MIN_MTU} bytes inside an IPIP tunnel"),
        );
    }
    if let Some(at) = &file.cni_conf_dir {
        check_dir(at, sink);
    }
    for (name, content) in &file.cni_extra_files {
        check_file_name(name, content.pos, preset, sink);
    }
    let mut cni_extra_files: IndexMap<String, String> = file
        .cni_extra_files
        .into_iter()
        .map(|(name, content)| (name, content.value))
        .collect();
    if let Some((name, text)) = &conflist.file {
        cni_extra_files.insert(name.clone(), text.clone());
    }
    if cni_extra_files.is_empty() {
        let files = preset.cni_extra_files.iter();
        cni_extra_files
            .extend(files.map(|(name, content)| ((*name).to_owned(), (*content).to_owned())));
    }

    Resolved {
        node_mask,
        first_node,
        gateway_pos,
        spec: NetworkSpec {
            cluster_cidr,
            service_cidr,
            node_subnet,
            gateway: gateway.map(|at| GatewaySpec {
                addr: at.value,
                dhcp_metric: metric,
            }),
            mtu,
            docker0: value(&file.docker0, preset.docker0),
            sit0: value(&file.sit0, preset.sit0),
            pod_ifindex: value(&file.pod_ifindex, preset.pod_ifindex),
            ipv6_link_local: value(&file.ipv6_link_local, false),
            dhcp_lease_secs: lease,
            cni_conf_dir: file
                .cni_conf_dir
                .map_or_else(|| preset.cni_conf_dir.to_owned(), |at| at.value),
            cni_extra_files,
            stale_routes_compat: value(&file.stale_routes_compat, false),
            kind_masq_agent: value(
                &file.kind_masq_agent,
                preset.kind_masq_agent.unwrap_or_default(),
            ),
            docker_dns: value(&file.docker_dns, false),
            flush_on_policy_change: value(&file.flush_on_policy_change, false),
            conntrack: file.conntrack.unwrap_or_default(),
            impairments: file.impairments.unwrap_or_default(),
            internet,
            calico,
            bandwidth: conflist.bandwidth,
        },
    }
}

/// Calico's parameters, which only the preset of that name has.
fn calico(
    file: Option<&CalicoFile>,
    conflist: &Conflist,
    preset: Option<CalicoSpec>,
    cluster_cidr: Ipv4Net,
    sink: &mut Sink<'_>,
) -> Option<CalicoSpec> {
    let Some(mut spec) = preset else {
        if let Some(file) = file {
            sink.error(file.pos, "these belong to preset \"calico\"");
        }
        return None;
    };
    if let Some(taken) = &conflist.mtu {
        spec.mtu = Some(taken.value);
    }
    let block_pos = file.and_then(|file| pos(&file.block_size));
    if let Some(file) = file {
        if let (Some(written), Some(taken)) = (&file.mtu, &conflist.mtu)
            && written.value != taken.value
        {
            sink.conflict(
                Some(written.pos),
                format!(
                    "mtu {} contradicts the conflist, which has {}",
                    written.value, taken.value
                ),
                Some(taken.pos),
                "the conflist's is here",
            );
        }
        spec = CalicoSpec {
            block_size: value(&file.block_size, spec.block_size),
            ipip_mode: file.ipip_mode.unwrap_or(spec.ipip_mode),
            nat_outgoing: file.nat_outgoing.unwrap_or(spec.nat_outgoing),
            strict_affinity: file.strict_affinity.unwrap_or(spec.strict_affinity),
            max_blocks_per_host: file.max_blocks_per_host.unwrap_or(spec.max_blocks_per_host),
            mtu: match &file.mtu {
                Some(at) => Some(at.value).filter(|mtu| *mtu != 0),
                None => spec.mtu,
            },
        };
    }
    if spec.block_size < cluster_cidr.prefix_len() {
        sink.error_at(
            block_pos,
            format!(
                "blockSize {} is larger than the whole clusterCIDR {cluster_cidr}",
                spec.block_size
            ),
        );
    }
    Some(spec)
}

fn internet(
    choice: super::written::Choice<super::written::InternetFile>,
    has_gateway: bool,
    preset: &Defaults,
    sink: &mut Sink<'_>,
) -> Option<InternetSpec> {
    use super::written::{Choice, InternetFile};
    let written = matches!(choice, Choice::Some(_));
    let file = choice.or(Some(InternetFile {
        addresses: None,
        ttl: None,
    }))?;
    if !has_gateway {
        if written {
            let pos = file
                .addresses
                .iter()
                .flatten()
                .map(|at| at.pos)
                .chain(file.ttl.as_ref().map(|at| at.pos))
                .next();
            sink.error_at(pos, "the internet is behind the gateway, and there is none");
        }
        return None;
    }
    let addresses = file.addresses.map_or_else(
        || preset.internet.to_vec(),
        |list| {
            for at in &list {
                let good = !at.value.is_loopback()
                    && !at.value.is_multicast()
                    && !at.value.is_broadcast()
                    && !at.value.is_unspecified();
                if !good {
                    sink.error(at.pos, format!("{} is no address of a host", at.value));
                }
            }
            list.iter().map(|at| at.value).collect()
        },
    );
    Some(InternetSpec {
        addresses,
        ttl_at_node: value(&file.ttl, preset.internet_ttl),
    })
}

fn check_dir(at: &At<String>, sink: &mut Sink<'_>) {
    let path = Path::new(&at.value);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || path == Path::new("/") || at.value.contains('\0') {
        sink.error(
            at.pos,
            format!("\"{}\" is no absolute path of a directory", at.value),
        );
    }
}

fn check_file_name(name: &str, pos: Pos, preset: &Defaults, sink: &mut Sink<'_>) {
    let bad = name.is_empty()
        || name.len() > MAX_FILE_NAME
        || matches!(name, "." | "..")
        || name.contains(['/', '\0']);
    if bad {
        sink.error(pos, format!("\"{name}\" is no name of a file"));
    } else if !preset.conflist.is_empty() && name.trim_end_matches(".temp") == preset.conflist {
        sink.error(pos, format!("{name} is written by the CNI itself"));
    }
}

fn value<T: Clone>(written: &Option<At<T>>, default: T) -> T {
    written.as_ref().map_or(default, |at| at.value.clone())
}

fn pos<T>(written: &Option<At<T>>) -> Option<Pos> {
    written.as_ref().map(|at| at.pos)
}
