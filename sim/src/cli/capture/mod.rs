//! `podwire capture`

mod targets;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use clap::Args;
use tap_bridge::layer::capture::filter::Filter;

use super::failure::{BUG, FAILED, USAGE};
use super::target::{DEFAULT_NAMESPACE, nodes, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::client::capture::file::{About, PcapngFile};
use crate::client::capture::text::Lines;
use crate::client::capture::{Capture as Session, CaptureError, Limits, Output, Summary};
use crate::client::forward::Stop;
use crate::control::proto::{NodeStatus, Request, Response};
use crate::model::{IfaceKind, Pod};
use targets::Selection;
pub(super) use targets::ports_of;

const AFTER_HELP: &str = "\
TARGET is a pod (POD, NS/POD), a node (NODE, node/NODE), one port of a node (NODE:IF, for example minikube:eth0 or \
minikube:host, the way to its host namespace), a port by its name alone (IF, link/IF), or `gateway`.

Without -w every packet is a line, as tcpdump -n would print it; In and Out are the router's view, times are UTC. With \
-w a pcapng file is written: an interface per port (node/port), times in nanoseconds, the direction, and on packets \
that the router dropped a comment with the reason. A dropped packet shows twice: as it came by its port, and under \
node/drop.

  podwire capture web -w web.pcapng
  podwire capture minikube:eth0 'ip proto 4'
  podwire capture --all -w - | tshark -r -
  podwire capture --all -w - | wireshark -k -i -

The filter is a part of pcap-filter(7): icmp, tcp, udp, arp, ip, host, net, port, portrange with src and dst, ip \
proto, ether, less, greater, and, or, not, parentheses. It looks at the outermost headers. Packets that are not read \
in time are lost and counted; the routers never wait. Ctrl-C ends a capture, and its file is whole.";

/// Captures packets.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Capture {
    /// What to capture
    #[arg(required_unless_present = "all")]
    target: Vec<String>,
    /// Everything in the lab
    #[arg(short, long, conflicts_with = "target")]
    all: bool,
    /// Kubernetes namespace of bare pod names
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
    /// Write pcapng to this file; - is standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Only packets that this expression holds for, as tcpdump takes it
    #[arg(
        short,
        long,
        value_name = "EXPR",
        default_value = "",
        hide_default_value = true
    )]
    filter: String,
    /// End after so many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Keep only so many bytes of each packet; 0 is all
    #[arg(short, long, value_name = "BYTES", default_value_t = 0)]
    snaplen: u32,
    /// Leave out what the routers drop
    #[arg(long)]
    no_drops: bool,
}

impl Capture {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        // Before anything is asked or made.
        Filter::parse(&self.filter)
            .map_err(|error| Failure::new(USAGE, format!("the filter: {error}")))?;
        let to_stdout = self
            .write
            .as_ref()
            .is_some_and(|path| path.as_os_str() == "-");
        if to_stdout && io::stdout().is_terminal() {
            let text = "standard output is a terminal; name a file, or leave -w out to see a line per packet";
            return Err(Failure::new(USAGE, text));
        }
        let mut client = Client::find(global.lab.as_deref())?;
        let statuses = nodes(&mut client)?;
        let pods = pods(&mut client)?;
        let selection = self.select(&mut client, &statuses, &pods)?;
        let stop = Stop::on_signals()
            .map_err(|error| Failure::new(BUG, format!("no signal handler: {error}")))?;
        let file =
            match &self.write {
                Some(path) if !to_stdout => Some(File::create(path).map_err(|error| {
                    Failure::new(FAILED, format!("{}: {error}", path.display()))
                })?),
                _ => None,
            };
        let places = selection.places(!self.no_drops);
        let session = Session::begin(client, places, &self.filter, self.snaplen)
            .map_err(|error| failed(error, ui))?;
        let stdout = io::stdout();
        let about = || About {
            names: names(&statuses, &pods),
            descriptions: descriptions(&statuses),
            filter: self.filter.clone(),
            snaplen: self.snaplen,
            started: session.now(),
        };
        let mut output: Box<dyn Output> = match file {
            Some(file) => Box::new(PcapngFile::new(file, about())),
            None if to_stdout => Box::new(PcapngFile::new(stdout.lock(), about())),
            None => Box::new(Lines::new(stdout.lock())),
        };
        ui.talk(format!("capturing {}", selection.describe(&statuses)));
        let limits = Limits {
            stop: stop.as_fd(),
            reader: self
                .write
                .as_ref()
                .is_none_or(|_| to_stdout)
                .then(|| stdout.as_fd()),
            count: self.count,
        };
        // The beginning of a file goes out at once, so that a reader of a pipe is not kept waiting.
        output
            .flush()
            .map_err(|error| failed(CaptureError::Output(error), ui))?;
        let summary = session
            .run(output.as_mut(), &limits)
            .map_err(|error| failed(error, ui))?;
        tell(&summary, ui);
        Ok(0)
    }

    fn select(
        &self,
        client: &mut Client,
        nodes: &[NodeStatus],
        pods: &[Pod],
    ) -> Result<Selection, Failure> {
        if self.all {
            let Response::Stats { nodes: counted } = client.request(&Request::Stats)? else {
                return Err(client.unexpected("stats").into());
            };
            let gateway = counted.iter().any(|counters| counters.node.is_none());
            return Ok(Selection::all(nodes, gateway));
        }
        let mut selection = Selection::default();
        for word in &self.target {
            selection.add(word, &self.namespace, nodes, pods)?;
        }
        Ok(selection)
    }
}

fn failed(error: CaptureError, ui: &Ui) -> Failure {
    match error {
        CaptureError::Client(error) => error.into(),
        CaptureError::Output(error) => {
            ui.check_reader(&error);
            Failure::new(FAILED, CaptureError::Output(error).to_string())
        }
        CaptureError::Input(_) => Failure::new(BUG, error.to_string()),
    }
}

/// As tcpdump does.
fn tell(summary: &Summary, ui: &Ui) {
    let plural = |n: u64| if n == 1 { "" } else { "s" };
    for trouble in &summary.troubles {
        ui.talk(format!("warning: {trouble}"));
    }
    let Summary {
        captured,
        received,
        accepted,
        lost,
        ..
    } = summary;
    ui.talk(format!("{captured} packet{} captured", plural(*captured)));
    ui.talk(format!(
        "{accepted} packet{} received by filter, of {received} that passed",
        plural(*accepted)
    ));
    ui.talk(format!(
        "{lost} packet{} lost because they were not read in time",
        plural(*lost)
    ));
}

/// Pods and nodes by address; who shares an address with a node is known by the node's name.
fn names(nodes: &[NodeStatus], pods: &[Pod]) -> Vec<(std::net::Ipv4Addr, String)> {
    let pods = pods
        .iter()
        .filter(|pod| !pod.host_network && !pod.ip.is_unspecified());
    let pods = pods.map(|pod| {
        let name = match pod.namespace.as_str() {
            DEFAULT_NAMESPACE => pod.name.clone(),
            namespace => format!("{}.{namespace}", pod.name),
        };
        (pod.ip, name)
    });
    let nodes = nodes
        .iter()
        .map(|s| (s.node.internal_ip, s.node.name.clone()));
    pods.chain(nodes).collect()
}

/// What is at the other end of interfaces.
fn descriptions(nodes: &[NodeStatus]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for status in nodes {
        let node = &status.node.name;
        for iface in &status.node.ifaces {
            if let IfaceKind::Veth { pod, .. } = &iface.kind {
                found.insert(format!("{node}/{}", iface.name), format!("pod {pod}"));
            }
        }
        found.insert(format!("{node}/host"), format!("host namespace of {node}"));
        let text = format!("what the router of {node} dropped");
        found.insert(format!("{node}/drop"), text);
    }
    found
}
