//! Headers as bytes: checked views and emitters, one header per file.
//!
//! Decides nothing about packets. Every header has two forms. A **view** borrows bytes and exists only when all bytes
//! that its accessors read are there (a reference to an array of the fixed header's size), so no accessor can be out of
//! bounds and none is checked again. An **emitter** returns the header as an array; the caller copies it to where it
//! belongs. Numbers are in host order, bytes on the wire in network order.
//!
//! Cost: parsing is a length comparison; accessors are loads.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod ipv4;
pub mod sctp;
pub mod tcp;
pub mod udp;
