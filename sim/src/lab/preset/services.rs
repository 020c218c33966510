//! The services that every cluster has: kube-dns, before the coredns pods.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;

use crate::kube::{Affinity, Meta, Object, PortRef, Protocol, Service, ServiceKind, ServicePort};
use crate::spec::PodSpec;

/// Which address of the services' range kube-dns has, in kubeadm's and minikube's clusters.
const DNS_HOST: u32 = 10;

/// kube-dns, where `pods` has somebody who answers and `written` has none of that name.
pub(in crate::lab) fn system_services(
    pods: &[PodSpec],
    written: &[Object],
    service_cidr: Ipv4Net,
) -> Option<Object> {
    let selector: IndexMap<String, String> =
        std::iter::once(("k8s-app".to_owned(), "kube-dns".to_owned())).collect();
    let answers = |pod: &&PodSpec| {
        pod.namespace == "kube-system" && pod.labels.get("k8s-app") == selector.get("k8s-app")
    };
    let name = "kube-system/kube-dns";
    let is_written =
        |object: &&Object| matches!(object, Object::Service(s) if s.meta.key() == name);
    pods.iter().find(answers)?;
    if written.iter().any(|object| is_written(&object)) {
        return None;
    }
    let port = |name: &str, protocol, number| ServicePort {
        name: name.to_owned(),
        protocol,
        port: number,
        target: PortRef::Number(number),
        node_port: None,
    };
    let address = service_cidr.network().to_bits().checked_add(DNS_HOST)?;
    let labels = [
        ("k8s-app", "kube-dns"),
        ("kubernetes.io/cluster-service", "true"),
        ("kubernetes.io/name", "CoreDNS"),
    ];
    Some(Object::Service(Service {
        meta: Meta {
            namespace: "kube-system".to_owned(),
            name: "kube-dns".to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..Meta::default()
        },
        kind: ServiceKind::ClusterIp,
        cluster_ip: Some(Ipv4Addr::from_bits(address)).filter(|ip| service_cidr.contains(ip)),
        headless: false,
        selector: Some(selector),
        ports: vec![
            port("dns", Protocol::Udp, 53),
            port("dns-tcp", Protocol::Tcp, 53),
        ],
        affinity: Affinity::None,
        external_local: false,
        internal_local: false,
        external_ips: Vec::new(),
        publish_not_ready: false,
    }))
}
