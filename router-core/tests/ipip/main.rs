//! IPIP tunnels (dataplane section 3), on node K3 of the acceptance tables.

mod common;
mod decapsulation;
mod encapsulation;
mod errors;
mod reports;
mod scapy;
