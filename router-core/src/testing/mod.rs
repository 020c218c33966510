//! For tests, benches and fuzz targets (feature `testing`): packets, a harness, topologies and slow oracles.
//!
//! Nothing here uses the router's parsers, emitters or checksums: [`packet`] builds bytes with code of its own and a
//! naive 16-bit checksum loop, [`decode`](mod@decode) reads them by offset, [`SlowFib`] scans lists. A fault in the router cannot hide
//! behind the same fault here.

pub mod bridged;
pub mod calico;
mod crew;
pub mod crowd;
pub mod decode;
mod harness;
pub mod offload;
mod oracle;
pub mod packet;
pub mod topology;

pub use crew::{Crew, Steering};
pub use harness::{Counter, Harness, Uncut};
pub use oracle::{Answer, SlowFib};
pub use packet::{
    Packet, arp_reply, arp_request, echo_reply, echo_request, eth, fragmentation_needed, fragments,
    icmp, ipv4, naive_checksum, parameter_problem, payload, quote, tcp, time_exceeded, udp,
    unreachable,
};
