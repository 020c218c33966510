//! The cluster's name server: what coredns answers in Kubernetes, for the services and pods of the lab.
//!
//! `zone` says which names exist and what is behind them, `answer` speaks DNS (messages by simple-dns), `server` is the program
//! that runs in the coredns pod. Names that are not the cluster's go to one forwarder, or are refused where there is none.
//!
//! Source: Kubernetes DNS-Based Service Discovery 1.1.0; coredns' kubernetes plugin (`pods insecure`, ttl 30).

mod answer;
pub mod server;
#[cfg(test)]
mod tests;
mod zone;

pub use answer::{Reply, answer, answer_with};
pub use zone::{Kind, Zone, ZoneEndpoint, ZonePort, ZoneService};

/// The domain of a cluster.
pub const DOMAIN: &str = "cluster.local";
