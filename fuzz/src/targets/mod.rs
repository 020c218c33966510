//! The targets. Each states what must hold for every input; a panic is the finding.

pub mod capture;
pub mod coalesce;
#[cfg(feature = "podwire")]
pub mod control_frame;
pub mod fabric_peer;
pub mod ipip;
#[cfg(feature = "podwire")]
pub mod lab_yaml;
pub mod nat;
pub mod parse_frame;
pub mod reassembly;
pub mod router_bytes;
pub mod segment;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, that of its binary and of its directories.
    pub name: &'static str,
    /// Runs one input. Panics on a finding.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const ALL: &[Target] = &[
    #[cfg(feature = "podwire")]
    Target {
        name: "lab_yaml",
        run: lab_yaml::run,
        seeds: lab_yaml::seeds,
    },
    Target {
        name: "fabric_peer",
        run: fabric_peer::run,
        seeds: fabric_peer::seeds,
    },
    Target {
        name: "parse_frame",
        run: parse_frame::run,
        seeds: parse_frame::seeds,
    },
    Target {
        name: "router_bytes",
        run: router_bytes::run,
        seeds: router_bytes::seeds,
    },
    Target {
        name: "reassembly",
        run: reassembly::run,
        seeds: reassembly::seeds,
    },
    Target {
        name: "ipip",
        run: ipip::run,
        seeds: ipip::seeds,
    },
    Target {
        name: "nat",
        run: nat::run,
        seeds: nat::seeds,
    },
    Target {
        name: "segment",
        run: segment::run,
        seeds: segment::seeds,
    },
    Target {
        name: "capture",
        run: capture::run,
        seeds: capture::seeds,
    },
    Target {
        name: "coalesce",
        run: coalesce::run,
        seeds: coalesce::seeds,
    },
    #[cfg(feature = "podwire")]
    Target {
        name: "control_frame",
        run: control_frame::run,
        seeds: control_frame::seeds,
    },
];

/// The target of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<Target> {
    ALL.iter().copied().find(|t| t.name == name)
}
