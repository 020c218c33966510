//! The kernel's version of the topology: a namespace per pod and node, veth pairs, static routes, iptables.

use std::process::Command;

use crate::run::{Failure, Place, Scenario, Side, checked};

/// Addresses: pods 10.244.N.2 and .3 of node N, nodes 172.16.30.N.
const NODES: [&str; 2] = ["n1", "n2"];

/// The kernel's side. Its namespaces are named in a tmpfs of the calling process's mount namespace.
#[derive(Debug)]
pub(crate) struct Kernel {
    scenario: Scenario,
}

fn ip(line: &str) -> Result<(), Failure> {
    checked(Command::new("ip").args(line.split(' ')))?;
    Ok(())
}

fn within(namespace: &str, line: &str) -> Result<(), Failure> {
    let mut command = Command::new("ip");
    checked(
        command
            .args(["netns", "exec", namespace])
            .args(line.split(' ')),
    )?;
    Ok(())
}

/// A pod behind a node: a /32 each way, the node's address as gateway, as the ptp plugin does it.
fn pod(name: &str, node: usize, address: &str) -> Result<(), Failure> {
    let (host, gateway) = (NODES[node], format!("10.244.{node}.1"));
    ip(&format!("netns add {name}"))?;
    ip(&format!(
        "link add eth0 netns {name} type veth peer name {name} netns {host}"
    ))?;
    ip(&format!("-n {name} addr add {address}/32 dev eth0"))?;
    ip(&format!("-n {name} link set dev eth0 up"))?;
    ip(&format!("-n {name} route add {gateway} dev eth0"))?;
    ip(&format!(
        "-n {name} route add default via {gateway} dev eth0"
    ))?;
    ip(&format!("-n {host} addr add {gateway}/32 dev {name}"))?;
    ip(&format!("-n {host} link set dev {name} up"))?;
    ip(&format!("-n {host} route add {address} dev {name}"))
}

impl Kernel {
    /// Builds it.
    ///
    /// # Errors
    /// When ip or iptables refuses.
    pub(crate) fn new(scenario: Scenario) -> Result<Self, Failure> {
        let kernel = Self { scenario };
        for node in NODES {
            ip(&format!("netns add {node}"))?;
            let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
            checked(Command::new("ip").args(["netns", "exec", node, "sh", "-c", forward]))?;
        }
        ip("link add eth0 netns n1 type veth peer name eth0 netns n2")?;
        for (n, node) in NODES.into_iter().enumerate() {
            ip(&format!(
                "-n {node} addr add 172.16.30.{}/24 dev eth0",
                n + 1
            ))?;
            ip(&format!("-n {node} link set dev eth0 up"))?;
            let other = 1 - n;
            ip(&format!(
                "-n {node} route add 10.244.{other}.0/24 via 172.16.30.{}",
                other + 1
            ))?;
        }
        pod("a", 0, "10.244.0.2")?;
        pod("b", 0, "10.244.0.3")?;
        pod("c", 1, "10.244.1.2")?;
        match scenario {
            Scenario::Masquerade => within(
                "n1",
                "iptables -t nat -A POSTROUTING ! -d 10.244.0.0/16 -m addrtype ! --dst-type LOCAL -j MASQUERADE",
            )?,
            Scenario::Policy => {
                for node in NODES {
                    within(node, "iptables -P FORWARD DROP")?;
                    within(
                        node,
                        "iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
                    )?;
                    within(
                        node,
                        "iptables -A FORWARD -s 10.244.0.2 -d 10.244.1.2 -j ACCEPT",
                    )?;
                }
            }
            Scenario::One | Scenario::Two | Scenario::Ipip => {}
        }
        Ok(kernel)
    }
}

impl Side for Kernel {
    fn command(&self, place: Place) -> Command {
        let mut command = Command::new("ip");
        let name = match place {
            Place::Sender => "a",
            Place::Receiver => match self.scenario {
                Scenario::One => "b",
                Scenario::Masquerade => "n2",
                _ => "c",
            },
        };
        command.args(["netns", "exec", name]);
        command
    }

    fn receiver(&self) -> String {
        match self.scenario {
            Scenario::One => "10.244.0.3",
            Scenario::Masquerade => "172.16.30.2",
            _ => "10.244.1.2",
        }
        .into()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for name in ["a", "b", "c", "n1", "n2"] {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}
