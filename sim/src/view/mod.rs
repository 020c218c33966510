//! How state is shown: `ip -n NODE` as iproute2 prints it, `get` and `describe` as kubectl prints them.
//!
//! Pure: model values in, text out. Nothing here talks to a daemon, reads a clock or knows a terminal; time and the
//! machine's own facts are arguments. Cost: linear in what is printed, plus sorting.

pub mod age;
pub mod ip;
pub mod kube;
pub mod nat;
pub mod packet;
pub mod ps;
pub mod stats;
pub mod sysctl;
pub mod table;
pub mod trace;
