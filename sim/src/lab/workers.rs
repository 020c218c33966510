//! `workers` of a lab file and `up --workers`: how many threads share the work of each node.
//!
//! Decides what a user may say, and what `auto` is: the processors that this process may use, divided among the nodes, at
//! least one. More than a node has use for does no harm but for the memory.
//!
//! What can't be divided is said when it is wanted: a bridge, a bandwidth limit and session affinity leave all of a node to its
//! first worker (`router_core::share`), and back ends other than tap have one in any case.

use std::fmt;
use std::str::FromStr;

use super::diagnostics::{At, Sink};
use super::read;
use super::tree::Value;
use crate::bandwidth::Bandwidth;
use crate::impair::{Impair, LinkImpair};
use crate::kube::{Affinity, Object};
use crate::spec::{Backend, LabSpec, PodSpec, Preset};

/// Most workers of a node: their descriptors come with one message.
const MOST: usize = 16;

/// How many workers each node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// So many, at least 1.
    Exactly(usize),
    /// As many as there are processors for.
    Auto,
}

impl Default for Workers {
    fn default() -> Self {
        Self::Exactly(1)
    }
}

impl Workers {
    /// For so many nodes on this host.
    #[must_use]
    pub fn resolve(self, nodes: usize) -> usize {
        match self {
            Self::Exactly(workers) => workers,
            Self::Auto => {
                let processors = std::thread::available_parallelism();
                share(processors.map_or(1, usize::from), nodes)
            }
        }
    }
}

fn share(processors: usize, nodes: usize) -> usize {
    (processors / nodes.max(1)).clamp(1, MOST)
}

impl FromStr for Workers {
    type Err = NoWorkers;

    fn from_str(text: &str) -> Result<Self, NoWorkers> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(workers @ 1..=MOST) => Ok(Self::Exactly(workers)),
            _ => Err(NoWorkers),
        }
    }
}

/// It is no number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoWorkers;

impl fmt::Display for NoWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from 1 to {MOST} or \"auto\" is wanted")
    }
}

impl std::error::Error for NoWorkers {}

pub(super) fn read(value: &Value, sink: &mut Sink<'_>) -> Option<At<Workers>> {
    read::parse(value, "a number of workers from 1 to 16, or auto", sink)
}

/// What of a lab the workers of its nodes do not share, in words: nothing where each node has one anyway.
#[must_use]
pub fn undivided(lab: &LabSpec, backend: Backend) -> Vec<String> {
    if lab.workers <= 1 {
        return Vec::new();
    }
    let single = match backend {
        Backend::Tap => None,
        Backend::Packet => Some("packet"),
        Backend::Inproc => Some("inproc"),
    };
    if let Some(name) = single {
        return vec![format!("the back end {name} has one worker per node")];
    }
    let pods = &lab.pods;
    let network = &lab.network;
    let sticky = |object: &Object| match object {
        Object::Service(service) => service.affinity != Affinity::None,
        _ => false,
    };
    let limited = |pod: &PodSpec| {
        Bandwidth::of_annotations(&pod.annotations).is_ok_and(|b| !b.is_unlimited())
    };
    let reasons = [
        (
            lab.preset == Preset::PodmanBridge
                || lab
                    .nodes
                    .iter()
                    .any(|n| n.interfaces.iter().any(|i| i.bridge)),
            "with a bridge",
        ),
        (
            !network.bandwidth.is_unlimited() || pods.iter().any(limited),
            "with a bandwidth limit",
        ),
        (
            network.impairments != Impair::default()
                || pods.iter().any(|p| p.impairments != LinkImpair::default()),
            "with an impaired link",
        ),
        (
            lab.objects.iter().any(sticky),
            "that lead to a service with session affinity",
        ),
    ];
    let told = reasons.into_iter().filter(|(holds, _)| *holds);
    let mut said: Vec<_> = told
        .map(|(_, what)| format!("nodes {what} leave all packets to the first of their workers"))
        .collect();
    if lab.nodes.iter().any(|node| node.uplink.is_some()) {
        said.push("nodes with an uplink have one worker".to_owned());
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Overrides, load};

    #[test]
    fn what_workers_do_not_share_is_said_where_there_are_several() {
        let said = |preset: &str, workers| {
            let overrides = Overrides {
                preset: Some(preset.to_owned()),
                workers: Some(Workers::Exactly(workers)),
                ..Overrides::default()
            };
            let lab = load(&[], &overrides).unwrap();
            undivided(&lab, Backend::Tap)
        };
        assert!(said("kindnet", 2).is_empty());
        assert!(said("podman-bridge", 1).is_empty());
        assert_eq!(
            said("podman-bridge", 2),
            ["nodes with a bridge leave all packets to the first of their workers"]
        );
    }

    #[test]
    fn processors_are_divided_among_the_nodes_and_each_has_one_worker_at_least() {
        let shares: Vec<_> = [(8, 2), (8, 3), (2, 3), (64, 1), (1, 0)]
            .map(|(processors, nodes)| share(processors, nodes))
            .into();
        assert_eq!(shares, [4, 2, 1, MOST, 1]);
        assert_eq!(Workers::Exactly(3).resolve(9), 3);
    }

    #[test]
    fn a_number_or_auto() {
        assert_eq!("auto".parse(), Ok(Workers::Auto));
        assert_eq!("16".parse(), Ok(Workers::Exactly(16)));
        for text in ["0", "17", "-1", "", "two", "Auto"] {
            assert_eq!(text.parse::<Workers>(), Err(NoWorkers), "{text}");
        }
    }
}
