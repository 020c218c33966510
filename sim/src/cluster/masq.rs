//! kindnetd's ip-masq-agent: what leaves the cluster gets the node's address (dataplane section 4.6).
//!
//! Decides the chain KIND-MASQ-AGENT and the rule that leads there, with the words of kindnetd of the seeds' time. Run when
//! a node comes and every minute after that; what is there already, in any order with others' rules, stays. The networks
//! that are not masqueraded always come before the rule that masquerades the rest (KM-9, deviation D10).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::config::nat::{
    Matches, NatConfig, NetMatch, Origin, POSTROUTING, PortChoice, Rule, Target,
};

use crate::model::Pod;
use crate::spec::BridgeNetwork;

/// How often kindnetd looks after its rules.
pub(super) const INTERVAL_MS: u64 = 60_000;

const CHAIN: &str = "KIND-MASQ-AGENT";

/// Makes sure of the rules, `cluster` being what is not masqueraded (KM-10). True when something was missing.
pub(super) fn ensure(nat: &mut NatConfig, cluster: Ipv4Net) -> bool {
    let before = nat.clone();
    let to_chain = rule(Target::Jump(CHAIN.to_owned()), "kind-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom KIND-MASQ-AGENT chain").when(Matches {
        dst_local: Some(false),
        ..Matches::default()
    });
    if !nat
        .chain(POSTROUTING)
        .is_some_and(|c| c.rules.contains(&to_chain))
    {
        nat.append(POSTROUTING, to_chain);
    }
    let stays = rule(
        Target::Return,
        "kind-masq-agent: local traffic is not subject to MASQUERADE",
    )
    .when(Matches {
        dst: Some(NetMatch::within(cluster)),
        ..Matches::default()
    });
    let rest = rule(
        Target::Masquerade(PortChoice::default()),
        "kind-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)",
    );
    let known = nat.chain(CHAIN).map_or(&[][..], |chain| &chain.rules);
    let mut rules: Vec<Rule> = known.iter().filter(|r| **r != rest).cloned().collect();
    if !rules.contains(&stays) {
        rules.push(stays);
    }
    rules.push(rest);
    match nat.chains.iter_mut().find(|chain| chain.name == CHAIN) {
        Some(chain) => chain.rules = rules,
        None => rules.into_iter().for_each(|rule| nat.append(CHAIN, rule)),
    }
    *nat != before
}

/// `ipMasq` of the plugins bridge and ptp for one pod: within its network it is itself, elsewhere it has the node's address
/// (KM-12).
pub(super) fn ip_masq(nat: &mut NatConfig, network: &BridgeNetwork, pod: &Pod) {
    let comment = format!("name: \"{}\" id: \"{}\"", network.name, pod.container_id);
    let rule = |target, matches| Rule {
        origin: Some(Origin {
            name: format!("ipMasq of pod {}", pod.key()),
            at: None,
        }),
        ..Rule::new(target).comment(&comment).when(matches)
    };
    // The plugin hashes name and id; the id alone is as unique.
    let chain = format!("CNI-{}", pod.container_id.get(..24).unwrap_or_default());
    let to = |dst| Matches {
        dst: Some(dst),
        ..Matches::default()
    };
    let from_pod = Matches {
        src: Some(NetMatch::within(pod.ip.into())),
        ..Matches::default()
    };
    let multicast = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);
    nat.append(POSTROUTING, rule(Target::Jump(chain.clone()), from_pod));
    nat.append(
        &chain,
        rule(Target::Accept, to(NetMatch::within(network.subnet))),
    );
    let masquerade = Target::Masquerade(PortChoice::default());
    nat.append(&chain, rule(masquerade, to(NetMatch::outside(multicast))));
}

fn rule(target: Target, comment: &str) -> Rule {
    Rule {
        origin: Some(Origin {
            name: "kindnetd ip-masq-agent".to_owned(),
            at: None,
        }),
        ..Rule::new(target).comment(comment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(net: &str) -> Ipv4Net {
        net.parse().unwrap()
    }

    /// KM-9: idempotent; what was deleted comes back; RETURN always stands before MASQUERADE.
    #[test]
    fn the_rules_are_made_sure_of() {
        let mut nat = NatConfig::default();
        assert!(ensure(&mut nat, cluster("10.244.0.0/16")));
        let made = nat.clone();
        assert!(!ensure(&mut nat, cluster("10.244.0.0/16")));
        assert_eq!(nat, made);
        nat.chains[1].rules.remove(0);
        assert!(ensure(&mut nat, cluster("10.244.0.0/16")));
        assert_eq!(nat, made);
        nat.chains[0].rules.clear();
        assert!(ensure(&mut nat, cluster("10.244.0.0/16")));
        assert_eq!(nat, made);
        // A network that comes later does not stand behind the end.
        assert!(ensure(&mut nat, cluster("10.9.0.0/16")));
        let targets: Vec<&Target> = nat.chains[1].rules.iter().map(|r| &r.target).collect();
        assert!(matches!(
            targets[..],
            [Target::Return, Target::Return, Target::Masquerade(_)]
        ));
    }

    /// KM-10: the network that is not masqueraded is the configured one.
    #[test]
    fn the_cluster_network_is_the_configured_one() {
        let mut nat = NatConfig::default();
        ensure(&mut nat, cluster("10.20.0.0/16"));
        let dst = nat.chains[1].rules[0].matches.dst.as_ref().unwrap();
        assert_eq!(dst.nets, [cluster("10.20.0.0/16")]);
    }
}
