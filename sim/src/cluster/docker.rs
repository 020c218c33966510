//! What Docker's name server leaves in the nat table of a node that is one of its containers (kind's are).
//!
//! Docker listens at 127.0.0.11 inside each container, on ports that it draws, and has its answers come from port 53. kind's
//! entry point puts the gateway's address in the place of 127.0.0.11, so that pods can use it, too; that is how the rule came into
//! the listing of seed 002. Here nobody answers there: these rules wait for packets that do not come.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::config::nat::{
    Matches, NatConfig, NetMatch, Origin, POSTROUTING, PortChoice, Rule, Target,
};

use super::naming;

const CHAIN: &str = "DOCKER_POSTROUTING";

/// Where Docker listens.
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// First of the ports that Linux draws from (`ip_local_port_range`), and how many there are.
const EPHEMERAL: (u16, u16) = (32_768, 28_232);

/// Appends the chain and the rule that leads there.
pub(super) fn name_server(nat: &mut NatConfig, gateway: Ipv4Addr, seed: u64, node: &str) {
    let rule = |target, matches| Rule {
        origin: Some(Origin {
            name: "Docker's name server".to_owned(),
            at: None,
        }),
        ..Rule::new(target).when(matches)
    };
    let to_gateway = Matches {
        dst: Some(NetMatch::within(gateway.into())),
        ..Matches::default()
    };
    nat.append(
        POSTROUTING,
        rule(Target::Jump(CHAIN.to_owned()), to_gateway),
    );
    let [.., a, b, c, d] = naming::mac(seed, "docker-dns", node).0;
    for (protocol, drawn) in [(6, [a, b]), (17, [c, d])] {
        let port = EPHEMERAL.0 + u16::from_be_bytes(drawn) % EPHEMERAL.1;
        let answers = Matches {
            protocol: Some(protocol),
            src: Some(NetMatch::within(Ipv4Net::from(INSIDE))),
            sports: vec![(port, port)],
            ..Matches::default()
        };
        let from_53 = PortChoice {
            range: Some((53, 53)),
            random_fully: false,
        };
        nat.append(CHAIN, rule(Target::Snat(gateway, from_53), answers));
    }
}
