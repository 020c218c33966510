//! `podwire run`

use std::net::Ipv4Addr;

use clap::{Args, ValueEnum};
use indexmap::IndexMap;
use router_core::Mac;

use super::failure::USAGE;
use super::node::change;
use super::target::{DEFAULT_NAMESPACE, find_node, nodes, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::Request;
use crate::kube::ContainerPort;
use crate::portmap::{self, conflict};
use crate::spec::{PodSpec, RestartPolicy};

/// Creates a pod.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// Name of the pod
    pod: String,
    /// Node that it runs on [default: the one with the fewest pods]
    #[arg(long)]
    node: Option<String>,
    /// Kubernetes namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
    /// Labels [default: run=POD]
    #[arg(short, long, value_name = "K=V,..", value_delimiter = ',', value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Annotations, bandwidth limits among them (kubernetes.io/ingress-bandwidth=10M)
    #[arg(long, value_name = "K=V,..", value_delimiter = ',', value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// Environment of the program
    #[arg(short, long, value_name = "K=V", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Address, else the node's next free one
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// MAC address of its eth0
    #[arg(long)]
    mac: Option<Mac>,
    /// What happens when the program ends
    #[arg(long, value_enum, default_value_t)]
    restart: Restart,
    /// Port of the node that leads to one of the pod (CNI hostPort), of tcp, udp or sctp; ranges as 8080-8081:80-81
    #[arg(short, long = "port", value_name = "[ADDRESS:]HOST:POD[/PROTOCOL]", value_delimiter = ',', value_parser = ports)]
    ports: Vec<Ports>,
    /// Share the node's addresses and host namespace
    #[arg(long, conflicts_with_all = ["ip", "mac", "ports"])]
    host_network: bool,
    /// The program and its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// The host ports of one word.
#[derive(Clone, Debug)]
struct Ports(Vec<ContainerPort>);

fn ports(word: &str) -> Result<Ports, String> {
    portmap::parse(word).map(Ports)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Restart {
    #[default]
    #[value(name = "Always", alias = "always")]
    Always,
    #[value(name = "OnFailure", alias = "on-failure")]
    OnFailure,
    #[value(name = "Never", alias = "never")]
    Never,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is wanted".to_owned()),
    }
}

/// A pod with kubectl's label and nothing in it.
pub(super) fn bare_pod(namespace: &str, name: &str, node: &str) -> PodSpec {
    PodSpec {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        node: node.to_owned(),
        labels: std::iter::once(("run".to_owned(), name.to_owned())).collect(),
        host_network: false,
        cni: None,
        link: None,
        ip: None,
        mac: None,
        command: None,
        env: IndexMap::new(),
        restart: RestartPolicy::Always,
        ..PodSpec::default()
    }
}

impl Run {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let mut client = Client::find(global.lab.as_deref())?;
        let ports = self.ports()?;
        let node = self.node(&ports, &mut client)?;
        let mut pod = PodSpec {
            host_network: self.host_network,
            ip: self.ip,
            mac: self.mac,
            command: (!self.command.is_empty()).then(|| self.command.clone()),
            annotations: self.annotations.iter().cloned().collect(),
            env: self.env.iter().cloned().collect(),
            restart: match self.restart {
                Restart::Always => RestartPolicy::Always,
                Restart::OnFailure => RestartPolicy::OnFailure,
                Restart::Never => RestartPolicy::Never,
            },
            ports,
            ..bare_pod(&self.namespace, &self.pod, &node)
        };
        if !self.labels.is_empty() {
            pod.labels = self.labels.iter().cloned().collect();
        }
        change(&mut client, &Request::AddPod { pod: Box::new(pod) }, ui)?;
        Ok(0)
    }

    /// All host ports, each once.
    fn ports(&self) -> Result<Vec<ContainerPort>, Failure> {
        let mut all: Vec<ContainerPort> = Vec::new();
        for port in self.ports.iter().flat_map(|ports| &ports.0) {
            let twice = all.iter().find_map(|taken| conflict(port, taken));
            if let Some(host) = twice {
                let text = format!("--port: port {} of the node stands there twice", host.port);
                return Err(Failure::new(USAGE, text));
            }
            all.push(port.clone());
        }
        Ok(all)
    }

    fn node(&self, ports: &[ContainerPort], client: &mut Client) -> Result<String, Failure> {
        let all = nodes(client)?;
        if let Some(name) = &self.node {
            return find_node(&all, name).map(|status| status.node.name.clone());
        }
        let pods = pods(client)?;
        let count = |name: &str| {
            pods.iter()
                .filter(|p| p.node == name && !p.host_network)
                .count()
        };
        all.iter()
            .filter(|status| status.node.pod_cidr.is_some())
            .filter(|status| portmap::free(ports, &status.node.name, &pods))
            .min_by_key(|status| count(&status.node.name))
            .map(|status| status.node.name.clone())
            .ok_or_else(|| {
                let text = if ports.is_empty() {
                    "no node can take a pod"
                } else {
                    "no node can take a pod with these ports; say --node to hear who has them"
                };
                Failure::new(super::failure::FAILED, text)
            })
    }
}
