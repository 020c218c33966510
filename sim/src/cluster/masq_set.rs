//! Masquerading as the newer kindnet does it (KM-11): outside the podCIDRs that nodes have now, not outside a configured range.
//!
//! Decides the chain `kindnet-masq` and its place: before everything else of POSTROUTING, as its priority of srcnat - 10 puts
//! it. nftables' `accept` ends that base chain alone, so that other chains of the hook still have their say: `RETURN` here.
//! Replies and related packets are accepted there by a rule; the nat table sees none of them.

use ipnet::Ipv4Net;
use router_core::config::nat::{
    Chain, Matches, NatConfig, NetMatch, Origin, POSTROUTING, PortChoice, Rule, Target,
};

use super::{Cluster, Outcome};

const CHAIN: &str = "kindnet-masq";

/// Makes sure of the rules, `pods` being the podCIDRs of all nodes. True when something was missing or different.
fn ensure(nat: &mut NatConfig, pods: &[Ipv4Net]) -> bool {
    let before = nat.clone();
    let to_chain = rule(Target::Jump(CHAIN.to_owned()));
    let local = rule(Target::Return).when(Matches {
        dst_local: Some(true),
        ..Matches::default()
    });
    let to_pods = rule(Target::Return).when(Matches {
        dst: Some(NetMatch {
            nets: pods.to_vec(),
            negate: false,
        }),
        ..Matches::default()
    });
    let rest = rule(Target::Masquerade(PortChoice::default()));
    let rules = vec![local, to_pods, rest];
    match nat.chains.iter_mut().find(|chain| chain.name == CHAIN) {
        Some(chain) => chain.rules = rules,
        None => nat.chains.push(Chain {
            name: CHAIN.to_owned(),
            rules,
        }),
    }
    match nat.chains.iter_mut().find(|c| c.name == POSTROUTING) {
        Some(chain) if chain.rules.first() == Some(&to_chain) => {}
        Some(chain) => {
            chain.rules.retain(|rule| *rule != to_chain);
            chain.rules.insert(0, to_chain);
        }
        None => nat.append(POSTROUTING, to_chain),
    }
    *nat != before
}

/// Puts the way to the chain before what others have put before it since (services, host ports).
pub(super) fn put_first(nat: &mut NatConfig) {
    let Some(hook) = nat.chains.iter_mut().find(|c| c.name == POSTROUTING) else {
        return;
    };
    let to_chain = rule(Target::Jump(CHAIN.to_owned()));
    if let Some(at) = hook.rules.iter().position(|rule| *rule == to_chain)
        && let Some(before) = hook.rules.get_mut(..=at)
    {
        before.rotate_right(1);
    }
}

fn rule(target: Target) -> Rule {
    Rule {
        origin: Some(Origin {
            name: "kindnet masquerade".to_owned(),
            at: None,
        }),
        ..Rule::new(target)
    }
}

impl Cluster {
    /// Has every node's rules follow the podCIDRs that there are.
    pub(super) fn run_masq_sets(&mut self, outcome: &mut Outcome) {
        let mut pods: Vec<Ipv4Net> = self
            .state
            .nodes
            .values()
            .filter_map(|state| state.spec.pod_cidr)
            .collect();
        pods.sort();
        let mut changed = Vec::new();
        for (name, state) in &mut self.state.nodes {
            if ensure(&mut state.nat, &pods) {
                changed.push(name.clone());
            }
        }
        for name in changed {
            self.reconfigure(&name, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::lab::{self, Overrides, Source};
    use crate::testing::TempDir;

    /// What the rules do with the first packet of a connection to `dst`: none is masqueraded if the answer is `RETURN`.
    fn fate(nat: &NatConfig, dst: Ipv4Addr, local: bool) -> Target {
        let first = &nat.chain(POSTROUTING).unwrap().rules[0];
        assert_eq!(first.target, Target::Jump(CHAIN.to_owned()));
        assert_eq!(first.matches, Matches::default());
        let mut rules = nat.chain(CHAIN).unwrap().rules.iter();
        let holds = |m: &Matches| {
            m.dst_local.is_none_or(|wanted| wanted == local)
                && m.dst.as_ref().is_none_or(|dsts| dsts.holds(dst))
        };
        rules.find(|r| holds(&r.matches)).unwrap().target.clone()
    }

    /// KM-11: pods of every node that is there keep their source, the rest of the cluster's range does not; the set follows
    /// nodes that come and go, and the chain stays before others'.
    #[test]
    fn the_podcidrs_of_the_nodes_are_not_masqueraded() {
        let text = "apiVersion: podwire/v1\nkind: Lab\nname: masq\npreset: kindnet\nnodes: 2\nnetwork:\n  kindMasqAgent: nftables\n";
        let spec = |text: &str| {
            lab::load(&[Source::new("lab.yaml", text)], &Overrides::default()).expect("a valid lab")
        };
        let dir = TempDir::new();
        let (mut cluster, _) = Cluster::new(&spec(text), dir.path().to_owned(), 0).unwrap();
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let masquerade = Target::Masquerade(PortChoice::default());
        let check = |cluster: &Cluster, third: &Target| {
            for node in ["minikube", "minikube-m02"] {
                let nat = cluster.snapshot(node).unwrap().nat;
                for (dst, local, expected) in [
                    ("10.244.0.9", false, &Target::Return),
                    ("10.244.1.9", false, &Target::Return),
                    ("10.244.2.9", false, third),
                    ("10.244.99.9", false, &masquerade),
                    ("172.16.30.77", false, &masquerade),
                    ("172.16.30.3", true, &Target::Return),
                ] {
                    assert_eq!(fate(&nat, address(dst), local), *expected, "{node}: {dst}");
                }
            }
        };
        check(&cluster, &masquerade);
        let three = spec(&text.replace("nodes: 2", "nodes: 3"));
        cluster.converge(&three, 1).unwrap();
        check(&cluster, &Target::Return);
        cluster.converge(&spec(text), 2).unwrap();
        check(&cluster, &masquerade);
    }

    /// KM-11: made sure of again, and before what others put there.
    #[test]
    fn the_chain_stays_first() {
        let pods = ["10.244.0.0/24".parse().unwrap()];
        let mut nat = NatConfig::default();
        assert!(ensure(&mut nat, &pods));
        assert!(!ensure(&mut nat, &pods));
        let made = nat.clone();
        let other = Rule::new(Target::Jump("CNI-HOSTPORT-MASQ".to_owned()));
        nat.chains[1].rules.insert(0, other.clone());
        assert!(ensure(&mut nat, &pods));
        assert_eq!(nat.chains[1].rules[0], made.chains[1].rules[0]);
        assert_eq!(nat.chains[1].rules[1..], [other]);
    }
}
