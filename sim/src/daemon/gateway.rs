//! The process behind the nodes' default gateway: the simulated internet, where the lab has one.
//!
//! Decides its MAC (locally administered, made of its address, so that a restarted gateway keeps it) and when it is started.
//! What it does is decided in [`internet`].

use std::time::Instant;

use ipnet::Ipv4Net;
use router_core::{Mac, Snapshot};
use tap_bridge::fabric::MemberId;

use super::lab::{Lab, LabError};
use super::nodes::{ANSWER_TIMEOUT, Extent, NodeRuntime, Port, Underlay};
use crate::control::node::NodeRequest;
use crate::internet::{self, FAR_SIDE, Gateway, UPLINK};
use crate::node::handle::Role;
use crate::spec::{InternetSpec, NetworkSpec};

/// Its name among the nodes; no node can have it, because of the spaces.
const NAME: &str = "behind the gateway";

/// Its place on the segment; nodes count from 1.
const MEMBER: MemberId = MemberId(0);

/// The gateway and what is behind it; none where the lab has no gateway or nothing behind it.
fn gateway(network: &NetworkSpec) -> Option<(Gateway, &InternetSpec)> {
    let internet = network.internet.as_ref()?;
    let addr = network.gateway.as_ref()?.addr;
    let [a, b, c, d] = addr.octets();
    let gateway = Gateway {
        addr: Ipv4Net::new(addr, network.node_subnet.prefix_len()).ok()?,
        mac: Mac([0x02, 0x47, a, b, c, d]),
        mtu: network.mtu,
    };
    Some((gateway, internet))
}

impl Lab {
    /// Its configuration; none where the lab has no internet.
    pub(super) fn internet_snapshot(&self) -> Option<Snapshot> {
        gateway(self.cluster.network()).map(|(gateway, spec)| internet::snapshot(&gateway, spec))
    }

    /// Starts it, if the lab has one.
    ///
    /// # Errors
    /// [`LabError`].
    pub(super) fn start_internet(&mut self) -> Result<(), LabError> {
        let Some((gateway, spec)) = gateway(self.cluster.network()) else {
            return Ok(());
        };
        let underlay = Underlay {
            port: UPLINK,
            member: MEMBER,
            mac: gateway.mac,
            mtu: gateway.mtu,
        };
        let extent = Extent::single(self.cluster.network().conntrack.limit());
        let started = NodeRuntime::start(NAME, Role::Internet, underlay, extent, &self.around);
        let mut node = started.map_err(|error| {
            LabError::internal(format!("the simulated internet can't be started: {error}"))
        })?;
        let port = Port {
            name: "internet".to_owned(),
            mtu: gateway.mtu,
            attachment: internet::attachment(spec),
            devices: Vec::new(),
        };
        let snapshot = Box::new(internet::snapshot(&gateway, spec));
        let outcome = (|| {
            let tickets = [
                node.join(&self.around)?,
                node.add_port(FAR_SIDE, port)?,
                node.post(NodeRequest::Configure { snapshot }, &[])?,
            ];
            let deadline = Instant::now() + ANSWER_TIMEOUT;
            tickets
                .into_iter()
                .try_for_each(|ticket| node.wait(ticket, deadline).map(drop))
        })();
        // Kept in either case, so that the process is ended with the lab.
        self.internet = Some(node);
        outcome.map_err(LabError::from)
    }
}
