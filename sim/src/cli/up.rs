//! `podwire up`

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::failure::{INVALID, UNSUPPORTED};
use super::node::change;
use super::ui::{BOLD, DIM, Ui};
use super::{Failure, Global};
use crate::client::launch::{Choice, LaunchError, start};
use crate::client::{Client, ClientError};
use crate::control::proto::{Request, Response};
use crate::kube::Object;
use crate::lab::{self, Overrides, Source, Workers};
use crate::spec::{Backend, LabSpec, PolicyMode, Preset};
use crate::view;

/// Brings a lab up.
#[derive(Args, Debug)]
pub(super) struct Up {
    /// Lab file or Kubernetes manifests: a file, a directory, or - for standard input; may be repeated
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        env = "PODWIRE_FILENAME"
    )]
    files: Vec<String>,
    /// Which CNI to imitate [default: kindnet, unless a file says otherwise]
    #[arg(long, env = "PODWIRE_PRESET")]
    preset: Option<String>,
    /// Number of nodes
    #[arg(long, value_name = "N", env = "PODWIRE_NODES")]
    nodes: Option<usize>,
    /// Name of the lab [default: --lab, the file's, else the preset's]
    #[arg(long, value_name = "LAB", env = "PODWIRE_NAME")]
    name: Option<String>,
    /// Whether network policies have an effect [default: as the preset's CNI, unless a file says otherwise]
    #[arg(long, value_enum, env = "PODWIRE_NETWORK_POLICY")]
    network_policy: Option<PolicyArg>,
    /// Have every frame as a wire would carry it: no checksums and no segmentation left to the routers (slower)
    #[arg(long, env = "PODWIRE_NO_OFFLOAD")]
    no_offload: bool,
    /// Threads that share the work of each node, or `auto` for as many as there are processors for [default: 1, unless a file
    /// says otherwise]
    #[arg(long, value_name = "N", env = "PODWIRE_WORKERS")]
    workers: Option<Workers>,
    /// How pods are made
    #[arg(long, value_enum, default_value_t, env = "PODWIRE_BACKEND")]
    backend: BackendArg,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// How long to wait until everything works
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "PODWIRE_WAIT")]
    wait: Duration,
}

/// A back end as users ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendArg {
    /// The best that this host allows
    #[default]
    Auto,
    /// Network namespaces with a TAP device: any program runs in a pod
    Tap,
    /// The same with a veth and a packet socket, for hosts without a tun device
    Packet,
    /// Network stacks inside the node processes; needs no privilege
    Inproc,
}

/// A mode of network policy as users ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PolicyArg {
    /// They are enforced
    Enforce,
    /// They are stored and have no effect
    Ignore,
}

impl PolicyArg {
    const fn mode(self) -> PolicyMode {
        match self {
            Self::Enforce => PolicyMode::Enforce,
            Self::Ignore => PolicyMode::Ignore,
        }
    }
}

impl BackendArg {
    pub(super) const fn choice(self) -> Choice {
        match self {
            Self::Auto => Choice::Auto,
            Self::Tap => Choice::Tap,
            Self::Packet => Choice::Packet,
            Self::Inproc => Choice::Inproc,
        }
    }

    const fn allows(self, backend: Backend) -> bool {
        match self {
            Self::Auto => true,
            Self::Tap => matches!(backend, Backend::Tap),
            Self::Packet => matches!(backend, Backend::Packet),
            Self::Inproc => matches!(backend, Backend::Inproc),
        }
    }
}

impl Up {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let lab = self.load(global)?;
        let running = match Client::find(Some(&lab.name)) {
            Ok(client) => Some(client),
            Err(ClientError::NoSuchLab { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if self.dry_run {
            return plan(running, lab, ui);
        }
        match running {
            Some(client) => self.converge(client, lab, ui),
            None => self.start(lab, ui),
        }
    }

    fn load(&self, global: &Global) -> Result<LabSpec, Failure> {
        let mut sources = Vec::new();
        for file in &self.files {
            sources.extend(Source::open(file)?);
        }
        let overrides = Overrides {
            preset: self.preset.clone(),
            nodes: self.nodes,
            name: self.name.clone().or_else(|| global.lab.clone()),
            network_policy: self.network_policy.map(PolicyArg::mode),
            offload: self.no_offload.then_some(false),
            workers: self.workers,
        };
        Ok(lab::load(&sources, &overrides)?)
    }

    fn start(&self, lab: LabSpec, ui: &Ui) -> Result<u8, Failure> {
        let began = Instant::now();
        let mut choice = self.backend.choice();
        if lab.preset == Preset::Manual {
            // In-process pods have one address, one gateway and no programs: nothing of what such labs are about.
            choice = match choice {
                Choice::Inproc => {
                    let why = "hosts of a hand-made lab are network namespaces, which the back end inproc does without; \
                               there are tap and packet";
                    return Err(Failure::new(UNSUPPORTED, why));
                }
                Choice::Auto => Choice::Namespaces,
                other => other,
            };
        }
        let started = match start(&lab, choice, self.wait) {
            Ok(started) => started,
            // Another `up` was faster.
            Err(LaunchError::AlreadyRunning { .. }) => {
                let client = Client::find(Some(&lab.name))?;
                return self.converge(client, lab, ui);
            }
            Err(error) => return Err(error.into()),
        };
        ui.talk(format_args!(
            "lab {BOLD}{}{BOLD:#} is up: {}, back end {} ({}) {DIM}{} ms{DIM:#}",
            lab.name,
            count(&lab),
            view::ps::backend(started.backend),
            started.reason,
            began.elapsed().as_millis()
        ));
        say_when_ignored(&lab, ui);
        for note in lab::undivided(&lab, started.backend) {
            ui.talk(note);
        }
        Ok(0)
    }

    fn converge(&self, mut client: Client, lab: LabSpec, ui: &Ui) -> Result<u8, Failure> {
        let status = client.status()?;
        if !self.backend.allows(status.backend) {
            let text = format!(
                "lab {} runs on the back end {}, which can't be changed while it runs; `podwire down {}` first",
                lab.name,
                view::ps::backend(status.backend),
                lab.name
            );
            return Err(Failure::new(INVALID, text));
        }
        client.set_timeout(self.wait);
        let text = format!("lab {} runs and is as declared: {}", lab.name, count(&lab));
        let request = Request::Converge { lab: Box::new(lab) };
        change(&mut client, &request, ui)?;
        ui.talk(text);
        Ok(0)
    }
}

fn count(lab: &LabSpec) -> String {
    let number = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!(
        "{}, {}",
        number(lab.nodes.len(), "node"),
        number(lab.pods.len(), "pod")
    )
}

/// Policies that nothing enforces surprise whoever wrote them.
fn say_when_ignored(lab: &LabSpec, ui: &Ui) {
    let policies = lab
        .objects
        .iter()
        .filter(|object| matches!(object, Object::NetworkPolicy(_)))
        .count();
    if policies > 0 && lab.policy == PolicyMode::Ignore {
        ui.talk(super::objects::ignored(lab.preset));
    }
}

/// `--dry-run`: by name, what would be created, changed and deleted.
fn plan(running: Option<Client>, lab: LabSpec, ui: &Ui) -> Result<u8, Failure> {
    let Some(mut client) = running else {
        let nodes = lab.nodes.iter().map(|node| format!("node/{}", node.name));
        let pods = lab
            .pods
            .iter()
            .map(|pod| format!("pod/{}/{}", pod.namespace, pod.name));
        let names = nodes.chain(pods);
        ui.data(
            &names
                .map(|name| format!("{name} would be created\n"))
                .collect::<String>(),
        );
        return Ok(0);
    };
    let name = lab.name.clone();
    match client.request(&Request::Plan { lab: Box::new(lab) })? {
        Response::Changes { lines } if lines.is_empty() => {
            ui.talk(format_args!("lab {name} is as declared"));
        }
        Response::Changes { lines } => ui.data(&(lines.join("\n") + "\n")),
        _ => return Err(client.unexpected("plan").into()),
    }
    Ok(0)
}
