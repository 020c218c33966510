//! The endpoint slices of services with a selector, as Kubernetes' controller keeps them.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::PodFacts;
use super::names::suffix;
use crate::kube::{EndpointSlice, Meta, PortRef, Service, ServicePort, SliceEndpoint, SlicePort};

/// The label of a slice that names its service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A slice for each service with a selector, or several where pods give a named port different numbers. A service without
/// pods has one slice without endpoints, as in Kubernetes.
#[must_use]
pub fn slices(services: &[&Service], pods: &[PodFacts<'_>]) -> Vec<EndpointSlice> {
    let mut all = Vec::new();
    for service in services {
        let Some(selector) = &service.selector else {
            continue;
        };
        let chosen = pods
            .iter()
            .filter(|pod| pod.namespace == service.meta.namespace)
            .filter(|pod| selector.iter().all(|(k, v)| pod.labels.get(k) == Some(v)));
        let mut by_ports: BTreeMap<Vec<SlicePort>, Vec<SliceEndpoint>> = BTreeMap::new();
        for pod in chosen {
            by_ports
                .entry(ports(service, pod))
                .or_default()
                .push(SliceEndpoint {
                    address: pod.ip,
                    ready: pod.ready || service.publish_not_ready,
                    node: Some(pod.node.to_owned()),
                    pod: Some(pod.name.to_owned()),
                    hostname: None,
                });
        }
        if by_ports.is_empty() {
            by_ports.insert(Vec::new(), Vec::new());
        }
        for (ports, mut endpoints) in by_ports {
            endpoints.sort_by_key(|endpoint| endpoint.address);
            let key = format!("{}/{ports:?}", service.meta.key());
            let mut labels: IndexMap<String, String> = service.meta.labels.clone();
            labels.insert(
                "endpointslice.kubernetes.io/managed-by".to_owned(),
                "endpointslice-controller.k8s.io".to_owned(),
            );
            labels.insert(SERVICE_NAME.to_owned(), service.meta.name.clone());
            all.push(EndpointSlice {
                meta: Meta {
                    namespace: service.meta.namespace.clone(),
                    name: format!("{}-{}", service.meta.name, suffix(&key)),
                    labels,
                    ..Meta::default()
                },
                endpoints,
                ports,
            });
        }
    }
    all
}

/// The service's ports with the numbers that they have on this pod. A name that the pod doesn't know is left out.
fn ports(service: &Service, pod: &PodFacts<'_>) -> Vec<SlicePort> {
    let number = |port: &ServicePort| match &port.target {
        PortRef::Number(number) => Some(*number),
        PortRef::Name(name) => pod
            .ports
            .iter()
            .find(|own| own.protocol == port.protocol && own.name.as_ref() == Some(name))
            .map(|own| own.port),
    };
    service
        .ports
        .iter()
        .filter_map(|port| {
            Some(SlicePort {
                name: port.name.clone(),
                protocol: port.protocol,
                port: Some(number(port)?),
            })
        })
        .collect()
}
