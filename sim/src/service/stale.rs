//! Connections that must not go on when endpoints go (SVC-7).
//!
//! Only those of UDP: they have no end of their own, and a client that goes on asking would keep a dead endpoint for ever.
//! Source: kubernetes/pkg/proxy/conntrack, `deleteStaleUDPConntrackEntries`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use router_core::Filter;
use router_core::config::nat::{NatConfig, Target};

use super::rules::{NODE_PORTS, SERVICES};
use crate::kube::Protocol;

/// Original address and port of a service, and the endpoint that it leads to.
type Way = (Option<Ipv4Addr>, u16, Ipv4Addr);

/// Which connections of a node to forget, when its rules change from `old` to `new`.
#[must_use]
pub fn stale(old: &NatConfig, new: &NatConfig) -> Vec<Filter> {
    let new = ways(new);
    ways(old)
        .difference(&new)
        .map(|&(dst, dport, endpoint)| Filter {
            protocol: Some(Protocol::Udp.number()),
            dst,
            dport: Some(dport),
            reply_src: Some(endpoint),
            ..Filter::default()
        })
        .collect()
}

fn ways(nat: &NatConfig) -> BTreeSet<Way> {
    let mut all = BTreeSet::new();
    for rule in [SERVICES, NODE_PORTS]
        .into_iter()
        .filter_map(|name| nat.chain(name))
        .flat_map(|chain| &chain.rules)
        .filter(|rule| rule.matches.protocol == Some(Protocol::Udp.number()))
    {
        let (Target::Jump(chain), Some(&(dport, _))) = (&rule.target, rule.matches.dports.first())
        else {
            continue;
        };
        let net = rule.matches.dst.as_ref().and_then(|dst| dst.nets.first());
        let dst = net.map(ipnet::Ipv4Net::addr);
        let found = endpoints(nat, chain);
        all.extend(found.into_iter().map(|endpoint| (dst, dport, endpoint)));
    }
    all
}

/// The endpoints behind a chain, and behind those that it leads to: KUBE-EXT-* to KUBE-SVC-*, no deeper.
fn endpoints(nat: &NatConfig, chain: &str) -> Vec<Ipv4Addr> {
    let rules = |name: &str| nat.chain(name).map_or(&[][..], |chain| &chain.rules);
    rules(chain)
        .iter()
        .flat_map(|rule| match &rule.target {
            Target::Jump(next) => rules(next),
            _ => std::slice::from_ref(rule),
        })
        .flat_map(|rule| match &rule.target {
            Target::Dnat { backends, .. } => backends.as_slice(),
            _ => &[],
        })
        .map(|backend| backend.addr)
        .collect()
}
