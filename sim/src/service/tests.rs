//! Chains as kube-proxy writes them, and the endpoints behind them.

use router_core::config::nat::{NatConfig, POSTROUTING, PREROUTING, Rule, Target};

use super::names::chain;
use super::*;
use crate::kube::{Affinity, Meta, PortRef, Protocol, ServiceKind, ServicePort};

fn service(name: &str, address: [u8; 4]) -> Service {
    Service {
        meta: Meta {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            declared_at: Some("web.yaml:3:9".to_owned()),
            ..Meta::default()
        },
        kind: ServiceKind::ClusterIp,
        cluster_ip: Some(address.into()),
        headless: false,
        selector: Some([("app".to_owned(), name.to_owned())].into_iter().collect()),
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            target: PortRef::Name("http".to_owned()),
            node_port: None,
        }],
        affinity: Affinity::None,
        external_local: false,
        internal_local: false,
        external_ips: Vec::new(),
        publish_not_ready: false,
    }
}

/// Pods with `app=web` on nodes a, b, a, the third of which is not ready.
fn rules(service: &Service, node: &str) -> NatConfig {
    let labels: IndexMap<String, String> =
        [("app".to_owned(), "web".to_owned())].into_iter().collect();
    let ports = [ContainerPort {
        name: Some("http".to_owned()),
        port: 8080,
        protocol: Protocol::Tcp,
        host: None,
    }];
    let pods: Vec<PodFacts<'_>> = [("a", true), ("b", true), ("a", false)]
        .into_iter()
        .zip(1..)
        .map(|((node, ready), n)| PodFacts {
            namespace: "default",
            name: "web",
            labels: &labels,
            ip: [10, 244, 0, n].into(),
            node,
            ready,
            ports: &ports,
        })
        .collect();
    let slices = slices(&[service], &pods);
    let mut nat = NatConfig::default();
    nat.append(POSTROUTING, Rule::new(Target::Accept).comment("was here"));
    append(
        &mut nat,
        &View {
            node,
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
            services: &[service],
            slices: &slices,
        },
    );
    nat
}

fn comments(nat: &NatConfig, chain: &str) -> Vec<String> {
    let chain = nat
        .chain(chain)
        .unwrap_or_else(|| panic!("no chain {chain}: {nat:#?}"));
    let comment = |rule: &Rule| rule.comment.clone().unwrap_or_default();
    chain.rules.iter().map(comment).collect()
}

fn target<'n>(nat: &'n NatConfig, chain: &str, rule: usize) -> &'n Target {
    &nat.chain(chain).unwrap().rules[rule].target
}

/// kube-proxy's name of a chain, as its own tests have it (TestCreateCorruptedKUBE-.. : ns1/svc1:p80 by tcp).
#[test]
fn chains_are_named_as_kube_proxy_names_them() {
    assert_eq!(
        chain("KUBE-SVC-", "ns1/svc1:p80", "TCP"),
        "KUBE-SVC-XPGD46QRK7WJZT7O"
    );
    assert_eq!(
        chain("KUBE-SVC-", "ns2/svc2:p80", "TCP"),
        "KUBE-SVC-GNZBNJ2PO5MGZ6GT"
    );
}

/// SVC-1, SVC-2: one rule per port to all ready endpoints with equal shares; clients from outside are marked.
#[test]
fn a_cluster_address_leads_to_ready_endpoints() {
    let nat = rules(&service("web", [10, 96, 0, 20]), "b");
    let Target::Jump(svc) = target(&nat, "KUBE-SERVICES", 0) else {
        panic!("{nat:#?}")
    };
    assert_eq!(
        comments(&nat, svc),
        [
            "default/web cluster IP",
            "default/web -> 10.244.0.1:8080 10.244.0.2:8080"
        ]
    );
    assert_eq!(
        target(&nat, svc, 0),
        &Target::Jump("KUBE-MARK-MASQ".to_owned())
    );
    let Target::Dnat { backends, affinity } = target(&nat, svc, 1) else {
        panic!("{nat:#?}")
    };
    assert!(backends.iter().all(|backend| backend.weight == 1));
    assert_eq!(*affinity, None);
    let origin = nat.chain(svc).unwrap().rules[1].origin.as_ref().unwrap();
    assert_eq!(origin.name, "Service default/web");
    assert_eq!(origin.at.as_deref(), Some("web.yaml:3:9"));
}

/// SVC-8, SVC-9: KUBE-POSTROUTING stands first, PREROUTING leads to KUBE-SERVICES, INVALID is dropped.
#[test]
fn the_hooks_are_in_kube_proxys_order() {
    let nat = rules(&service("web", [10, 96, 0, 20]), "b");
    assert_eq!(
        comments(&nat, POSTROUTING),
        ["kubernetes postrouting rules", "was here"]
    );
    assert_eq!(comments(&nat, PREROUTING), ["kubernetes service portals"]);
    // Only the endpoint on this node can be led to itself here.
    let note = "kubernetes endpoints dst ip, source ip for solving hairpin purpose";
    assert_eq!(
        comments(&nat, "KUBE-POSTROUTING"),
        [note, "kubernetes service traffic requiring SNAT"]
    );
    assert!(nat.conntrack.drop_invalid);
}

/// SVC-3: without endpoints a service refuses.
#[test]
fn a_service_without_endpoints_refuses() {
    let nat = rules(&service("empty", [10, 96, 0, 21]), "a");
    assert_eq!(target(&nat, "KUBE-SERVICES", 0), &Target::Reject);
}

/// SVC-5: node ports lead to the same endpoints, masqueraded; with Local to those of the node, which else drops.
#[test]
fn node_ports_lead_to_endpoints() {
    let mut web = service("web", [10, 96, 0, 20]);
    web.kind = ServiceKind::NodePort;
    web.ports[0].node_port = Some(30_080);
    let nat = rules(&web, "c");
    let last = comments(&nat, "KUBE-SERVICES").pop().unwrap();
    assert!(last.starts_with("kubernetes service nodeports"), "{last}");
    let Target::Jump(ext) = target(&nat, "KUBE-NODEPORTS", 0) else {
        panic!("{nat:#?}")
    };
    assert_eq!(
        target(&nat, ext, 0),
        &Target::Jump("KUBE-MARK-MASQ".to_owned())
    );

    web.external_local = true;
    let elsewhere = rules(&web, "c");
    let chain = elsewhere.chain(ext).unwrap();
    assert_eq!(chain.rules.last().unwrap().target, Target::Drop);
    let here = rules(&web, "a");
    let Target::Jump(svl) = &here.chain(ext).unwrap().rules.last().unwrap().target else {
        panic!("{here:#?}")
    };
    assert_eq!(comments(&here, svl), ["default/web -> 10.244.0.1:8080"]);
}

/// SVC-6: affinity by client for the time that was asked for.
#[test]
fn session_affinity_has_its_time() {
    let mut web = service("web", [10, 96, 0, 20]);
    web.affinity = Affinity::ClientIp(10_800);
    let nat = rules(&web, "a");
    let Target::Jump(svc) = target(&nat, "KUBE-SERVICES", 0) else {
        panic!("{nat:#?}")
    };
    let Target::Dnat { affinity, .. } = target(&nat, svc, 1) else {
        panic!("{nat:#?}")
    };
    assert_eq!(affinity.map(|time| time.as_secs()), Some(10_800));
}

/// A headless service and a node without services have no rules.
#[test]
fn headless_services_have_no_rules() {
    let mut web = service("web", [10, 96, 0, 20]);
    web.headless = true;
    web.cluster_ip = None;
    let nat = rules(&web, "a");
    assert_eq!(nat.chains.len(), 1);
}

/// SVC-7: of an endpoint that goes, the UDP connections to this service are forgotten, by address and by node port; TCP stays.
#[test]
fn connections_of_endpoints_that_go_are_forgotten() {
    let mut web = service("web", [10, 96, 0, 20]);
    web.kind = ServiceKind::NodePort;
    web.ports[0].node_port = Some(30_080);
    web.ports[0].target = PortRef::Number(8080);
    let tcp = rules(&web, "a");
    assert!(stale(&tcp, &NatConfig::default()).is_empty());
    web.ports[0].protocol = Protocol::Udp;
    let all = rules(&web, "a");
    assert!(stale(&all, &all).is_empty());
    let mut less = all.clone();
    for rule in less.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        if let Target::Dnat { backends, .. } = &mut rule.target {
            backends.retain(|backend| backend.addr != Ipv4Addr::new(10, 244, 0, 2));
        }
    }
    let gone = |dst: Option<[u8; 4]>, dport| router_core::Filter {
        protocol: Some(17),
        dst: dst.map(Ipv4Addr::from),
        dport: Some(dport),
        reply_src: Some(Ipv4Addr::new(10, 244, 0, 2)),
        ..router_core::Filter::default()
    };
    let expected = [gone(None, 30_080), gone(Some([10, 96, 0, 20]), 80)];
    assert_eq!(stale(&all, &less), expected);
}
