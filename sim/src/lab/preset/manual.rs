//! The preset `manual`: bare nodes on one segment, as the two hosts of seed 004, with nothing but what the lab file declares.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Defaults, MINIKUBE};
use crate::spec::MasqAgent;

pub(super) const DEFAULTS: Defaults = Defaults {
    nodes: 1,
    node_subnet: Ipv4Net::new_assert(Ipv4Addr::new(172, 18, 0, 0), 16),
    first_node_host: 2,
    dhcp: false,
    docker0: false,
    sit0: false,
    pod_ifindex: 2,
    pod_cidrs: false,
    kind_masq_agent: Some(MasqAgent::None),
    ..MINIKUBE
};
