//! `podwire describe`

use clap::Args;

use super::calico;
use super::get::{Kind, Scope, calico_kind_and_names, kind_and_names, machine, now_ms};
use super::target::{find_node, find_pod, nodes, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::NodeStatus;
use crate::model::{Node, Pod};
use crate::view::kube::{self, Columns};

/// Shows objects in detail.
#[derive(Args, Debug)]
pub(super) struct Describe {
    /// node, pod, netpol, service, endpointslice, namespace, or one of Calico's: ippool, ipamblock, caliconode; optionally KIND/NAME
    kind: String,
    /// Only these
    names: Vec<String>,
    #[command(flatten)]
    scope: Scope,
}

impl Describe {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        if let Some((kind, names)) = calico_kind_and_names(&self.kind, &self.names) {
            let mut client = Client::find(global.lab.as_deref())?;
            let found = calico::find(&mut client, kind, &names, Columns::default())?;
            if found.objects.is_empty() {
                ui.talk("No resources found");
            }
            let blocks: Vec<String> = found.objects.iter().map(kube::describe_object).collect();
            ui.data(&blocks.join("\n\n"));
            return Ok(0);
        }
        let (kind, names) = kind_and_names(&self.kind, &self.names)?;
        let mut client = Client::find(global.lab.as_deref())?;
        let all_nodes = nodes(&mut client)?;
        let all_pods = pods(&mut client)?;
        let blocks: Vec<String> = match kind {
            Kind::Objects(kind) => {
                let listed = super::objects::choose(&mut client, kind, &names, &self.scope, ui)?;
                listed.describe()
            }
            Kind::Nodes => {
                let machine = machine();
                let chosen: Vec<&NodeStatus> = if names.is_empty() {
                    let fits = |status: &&NodeStatus| self.scope.selector.fits(&status.node.labels);
                    all_nodes.iter().filter(fits).collect()
                } else {
                    let found = names.iter().map(|name| find_node(&all_nodes, name));
                    found.collect::<Result<_, _>>()?
                };
                let now = now_ms();
                let block = |status| kube::describe_node(status, &all_pods, &machine, now);
                chosen.into_iter().map(block).collect()
            }
            Kind::Pods => {
                let namespace = &self.scope.namespace;
                let chosen: Vec<&Pod> = if names.is_empty() {
                    let all = all_pods.iter();
                    all.filter(|pod| self.scope.all_namespaces || pod.namespace == *namespace)
                        .filter(|pod| self.scope.selector.fits(&pod.labels))
                        .collect()
                } else {
                    let found = names
                        .iter()
                        .map(|name| find_pod(&all_pods, namespace, name));
                    found.collect::<Result<_, _>>()?
                };
                let plain: Vec<Node> = all_nodes.iter().map(|status| status.node.clone()).collect();
                chosen
                    .into_iter()
                    .map(|pod| kube::describe_pod(pod, &plain))
                    .collect()
            }
        };
        if blocks.is_empty() {
            ui.talk("No resources found");
        }
        ui.data(&blocks.join("\n\n"));
        Ok(0)
    }
}
