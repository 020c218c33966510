//! Connection tracking and NAT, packet in, packet out (dataplane section 4).

mod again;
mod bench;
mod edges;
mod fragments;
mod host_port;
mod icmp;
mod idle;
mod journal;
mod leak;
mod masquerade;
mod million;
mod model;
mod protocols;
mod rules;
mod source;
mod states;
mod tcp;
mod timers;
mod traced;
mod tuples;

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{PortId, Session, Snapshot};

/// Another address behind R.
pub(crate) const Y: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

/// Node A with kindnetd's masquerading.
pub(crate) fn node() -> Snapshot {
    masquerading(resolved(node_a()))
}

pub(crate) fn harness() -> Harness {
    Harness::new(node())
}

/// A frame from a1's end of its link.
pub(crate) fn a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

pub(crate) fn a2() -> Packet {
    eth(POD2_MAC, A2_MAC)
}

/// A frame from R to the node.
pub(crate) fn r() -> Packet {
    eth(UPLINK_MAC, R_MAC)
}

pub(crate) fn to_r() -> Packet {
    eth(R_MAC, UPLINK_MAC)
}

pub(crate) fn to_a1() -> Packet {
    eth(A1_MAC, POD1_MAC)
}

pub(crate) fn to_a2() -> Packet {
    eth(A2_MAC, POD2_MAC)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Source address and source port (or ICMP identifier) of a frame that was sent.
pub(crate) fn source_of(frame: &[u8]) -> (Ipv4Addr, u16) {
    let l4 = 14 + usize::from(frame[14] & 0xf) * 4;
    let at = if frame[23] == 1 { l4 + 4 } else { l4 };
    (
        Ipv4Addr::new(frame[26], frame[27], frame[28], frame[29]),
        u16::from_be_bytes([frame[at], frame[at + 1]]),
    )
}

/// The source port under which a UDP datagram of a pod leaves for `dst`.
pub(crate) fn udp_port(
    h: &mut Harness,
    (port, frame): (PortId, Packet),
    (src, sport): (Ipv4Addr, u16),
    (dst, dport): (Ipv4Addr, u16),
) -> u16 {
    h.rx(port, &(frame / ipv4(src, dst) / udp(sport, dport) / b"x"));
    let sent = h.take(UPLINK);
    let (addr, port) = source_of(&sent);
    assert_eq!(addr, NODE_A);
    port
}

pub(crate) fn sessions(h: &Harness) -> Vec<Session> {
    let mut sessions: Vec<Session> = h.router().sessions(h.now()).collect();
    sessions.sort_by_key(|s| (s.original, s.reply));
    sessions
}
