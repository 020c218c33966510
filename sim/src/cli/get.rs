//! `podwire get`

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::calico;
use super::failure::USAGE;
use super::target::{DEFAULT_NAMESPACE, find_node, find_pod, nodes, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::NodeStatus;
use crate::kube::ObjectKind;
use crate::model::{Node, Pod};
use crate::view::kube::{self, Columns, Machine, Selector};

/// Lists objects.
#[derive(Args, Debug)]
pub(super) struct Get {
    /// nodes (no), pods (po), netpol, services (svc), endpointslices, namespaces (ns), and of Calico ippools, ipamblocks,
    /// caliconodes, bgppeers; optionally KIND/NAME
    kind: String,
    /// Only these
    names: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, env = "PODWIRE_OUTPUT")]
    output: Format,
    /// Show labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// Leave out the line of titles
    #[arg(long)]
    no_headers: bool,
}

/// Which namespaces and labels.
#[derive(Args, Debug)]
pub(super) struct Scope {
    /// Kubernetes namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    pub(super) namespace: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub(super) all_namespaces: bool,
    /// Only objects with these labels: k=v,k!=v,k,!k
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) selector: Selector,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// Kinds that can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nodes.
    Nodes,
    /// Pods.
    Pods,
    /// Any other kind.
    Objects(ObjectKind),
}

/// What kinds there are, for messages.
const KINDS: [&str; 10] = [
    "nodes",
    "pods",
    "netpol",
    "services",
    "endpointslices",
    "namespaces",
    "ippools",
    "ipamblocks",
    "caliconodes",
    "bgppeers",
];

/// Splits `kind NAME..` and `kind/NAME`.
pub(super) fn kind_and_names(kind: &str, names: &[String]) -> Result<(Kind, Vec<String>), Failure> {
    let (word, first) = match kind.split_once('/') {
        Some((word, name)) => (word, Some(name.to_owned())),
        None => (kind, None),
    };
    let kind = match word {
        "node" | "nodes" | "no" => Kind::Nodes,
        "pod" | "pods" | "po" => Kind::Pods,
        "netpol"
        | "networkpolicy"
        | "networkpolicies"
        | "networkpolicy.networking.k8s.io"
        | "networkpolicies.networking.k8s.io" => Kind::Objects(ObjectKind::NetworkPolicy),
        "service" | "services" | "svc" => Kind::Objects(ObjectKind::Service),
        "endpointslice" | "endpointslices" | "endpointslice.discovery.k8s.io" => {
            Kind::Objects(ObjectKind::EndpointSlice)
        }
        "namespace" | "namespaces" | "ns" => Kind::Objects(ObjectKind::Namespace),
        _ => {
            let best = KINDS.iter().max_by(|a, b| {
                strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b))
            });
            let hint = format!(
                "did you mean \"{}\"? There are {}",
                best.unwrap_or(&"pods"),
                KINDS.join(", ")
            );
            return Err(Failure::new(
                USAGE,
                format!("unknown kind \"{word}\": {hint}"),
            ));
        }
    };
    let names = first.into_iter().chain(names.iter().cloned()).map(|name| {
        // `get pod/a pod/b`
        let bare = name.split_once('/').map(|(_, bare)| bare.to_owned());
        bare.unwrap_or(name)
    });
    Ok((kind, names.collect()))
}

/// The same for Calico's resources.
pub(super) fn calico_kind_and_names(
    kind: &str,
    names: &[String],
) -> Option<(calico::Kind, Vec<String>)> {
    let (word, first) = match kind.split_once('/') {
        Some((word, name)) => (word, Some(name.to_owned())),
        None => (kind, None),
    };
    let names = first.into_iter().chain(names.iter().cloned());
    Some((calico::kind(word)?, names.collect()))
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// This machine, as node rows show it.
pub(super) fn machine() -> Machine {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let uname = rustix::system::uname();
    Machine {
        os_image: pretty
            .map_or("Linux", |name| name.trim_matches('"'))
            .to_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
    }
}

impl Get {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        if let Some((kind, names)) = calico_kind_and_names(&self.kind, &self.names) {
            let mut client = Client::find(global.lab.as_deref())?;
            return self.calico(&mut client, kind, &names, ui);
        }
        let (kind, names) = kind_and_names(&self.kind, &self.names)?;
        let mut client = Client::find(global.lab.as_deref())?;
        match kind {
            Kind::Nodes => self.nodes(&mut client, &names, ui),
            Kind::Pods => self.pods(&mut client, &names, ui),
            Kind::Objects(kind) => {
                let listed = super::objects::choose(&mut client, kind, &names, &self.scope, ui)?;
                let columns = self.columns(self.scope.all_namespaces);
                let text = match self.output {
                    Format::Table | Format::Wide => {
                        kube::objects(&listed.objects, kind, columns, now_ms())
                    }
                    Format::Name => listed.names(),
                    Format::Json | Format::Yaml => self.objects(listed.to_json(), &names),
                };
                ui.data(&text);
                Ok(0)
            }
        }
    }

    fn calico(
        &self,
        client: &mut Client,
        kind: calico::Kind,
        names: &[String],
        ui: &Ui,
    ) -> Result<u8, Failure> {
        let found = calico::find(client, kind, names, self.columns(false))?;
        if found.objects.is_empty() {
            ui.talk("No resources found");
        }
        let text = match self.output {
            Format::Table | Format::Wide => found.table,
            Format::Name => found.names.iter().map(|name| format!("{name}\n")).collect(),
            Format::Json | Format::Yaml => self.objects(found.objects, names),
        };
        ui.data(&text);
        Ok(0)
    }

    const fn columns(&self, namespace: bool) -> Columns {
        Columns {
            wide: matches!(self.output, Format::Wide),
            namespace,
            labels: self.show_labels,
            no_header: self.no_headers,
        }
    }

    fn nodes(&self, client: &mut Client, names: &[String], ui: &Ui) -> Result<u8, Failure> {
        let all = nodes(client)?;
        let chosen: Vec<NodeStatus> = if names.is_empty() {
            all.into_iter()
                .filter(|status| self.scope.selector.fits(&status.node.labels))
                .collect()
        } else {
            let found = names.iter().map(|name| find_node(&all, name).cloned());
            found.collect::<Result<_, _>>()?
        };
        if chosen.is_empty() {
            ui.talk("No resources found");
        }
        let machine = machine();
        let text = match self.output {
            Format::Table | Format::Wide if chosen.is_empty() => String::new(),
            Format::Table | Format::Wide => {
                kube::nodes(&chosen, self.columns(false), &machine, now_ms())
            }
            Format::Name => chosen
                .iter()
                .map(|status| kube::node_name(status) + "\n")
                .collect(),
            Format::Json | Format::Yaml => {
                let objects = chosen
                    .iter()
                    .map(|status| kube::node_object(status, &machine));
                self.objects(objects.collect(), names)
            }
        };
        ui.data(&text);
        Ok(0)
    }

    fn pods(&self, client: &mut Client, names: &[String], ui: &Ui) -> Result<u8, Failure> {
        let all = pods(client)?;
        let namespace = &self.scope.namespace;
        let mut chosen: Vec<&Pod> = if names.is_empty() {
            all.iter()
                .filter(|pod| self.scope.all_namespaces || pod.namespace == *namespace)
                .filter(|pod| self.scope.selector.fits(&pod.labels))
                .collect()
        } else if self.scope.all_namespaces {
            let text = "a pod cannot be named together with -A; use -n NAMESPACE";
            return Err(Failure::new(USAGE, text));
        } else {
            let found = names.iter().map(|name| find_pod(&all, namespace, name));
            found.collect::<Result<_, _>>()?
        };
        chosen.sort_by_key(|pod| (&pod.namespace, &pod.name));
        if chosen.is_empty() {
            ui.talk(if self.scope.all_namespaces {
                "No resources found".to_owned()
            } else {
                format!("No resources found in {namespace} namespace.")
            });
        }
        let text = match self.output {
            Format::Table | Format::Wide => {
                kube::pods(&chosen, self.columns(self.scope.all_namespaces), now_ms())
            }
            Format::Name => chosen
                .iter()
                .map(|pod| kube::pod_name(pod) + "\n")
                .collect(),
            Format::Json | Format::Yaml => {
                let nodes: Vec<Node> = nodes(client)?
                    .into_iter()
                    .map(|status| status.node)
                    .collect();
                let objects = chosen.iter().map(|pod| kube::pod_object(pod, &nodes));
                self.objects(objects.collect(), names)
            }
        };
        ui.data(&text);
        Ok(0)
    }

    /// One object that was named stands alone, anything else is a List.
    fn objects(&self, mut objects: Vec<Value>, names: &[String]) -> String {
        let value = if names.len() == 1 && objects.len() == 1 {
            objects.remove(0)
        } else {
            kube::list(&objects)
        };
        if self.output == Format::Yaml {
            kube::to_yaml(&value)
        } else {
            kube::to_json(&value)
        }
    }
}
