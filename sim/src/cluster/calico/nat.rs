//! Felix's rules in the nat table (CAL-29, KM-13, IPIP-18).
//!
//! Decides who is masqueraded: pods to addresses outside the pool, where the pool says natOutgoing, and what the node itself sends
//! into the tunnel from another address than the tunnel's. Names and comments are Felix's. Source: Calico,
//! felix/rules/nat.go and static.go.

use ipnet::Ipv4Net;
use router_core::config::nat::{
    Matches, NatConfig, NetMatch, Origin, POSTROUTING, PortChoice, PortMatch, Rule, Target,
};

use super::TUNNEL_PORT;
use crate::model::{IfaceKind, Node};
use crate::spec::CalicoSpec;

/// Felix's chain behind POSTROUTING.
const CHAIN: &str = "cali-POSTROUTING";
/// Its chain for pods.
const NAT_OUTGOING: &str = "cali-nat-outgoing";

/// Adds the rules of `node`.
pub(crate) fn add(nat: &mut NatConfig, node: &Node, spec: &CalicoSpec, pool: Ipv4Net) {
    let rule = |target: Target, matches: Matches| Rule {
        origin: Some(Origin {
            name: "calico felix".to_owned(),
            at: None,
        }),
        ..Rule::new(target).when(matches)
    };
    let masquerade = || Target::Masquerade(PortChoice::default());
    let tunnel = node
        .ifaces
        .iter()
        .find(|iface| iface.kind == IfaceKind::Ipip)
        .and_then(|iface| iface.addrs.first());
    if tunnel.is_none() && !spec.nat_outgoing {
        return;
    }
    let jump = |to: &str| rule(Target::Jump(to.to_owned()), Matches::default());
    nat.append(POSTROUTING, jump(CHAIN));
    if spec.nat_outgoing {
        nat.append(CHAIN, jump(NAT_OUTGOING));
        let outgoing = Matches {
            src: Some(NetMatch::within(pool)),
            dst: Some(NetMatch::outside(pool)),
            ..Matches::default()
        };
        nat.append(NAT_OUTGOING, rule(masquerade(), outgoing));
    }
    if let Some(addr) = tunnel {
        let into_the_tunnel = Matches {
            src: Some(NetMatch::outside(addr.net)),
            src_local: Some(true),
            out_port: Some(PortMatch {
                port: TUNNEL_PORT,
                negate: false,
            }),
            ..Matches::default()
        };
        nat.append(CHAIN, rule(masquerade(), into_the_tunnel));
    }
}
