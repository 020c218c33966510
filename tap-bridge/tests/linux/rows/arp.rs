//! ARP responder and proxy ARP.

use std::net::Ipv4Addr;

use router_core::testing::topology::*;
use router_core::testing::{Packet, arp_reply, arp_request, eth, ipv4, payload, udp};
use router_core::{Mac, PortId};

use super::from_b;
use crate::nodes::{N1, N2, calico, unresolved};
use crate::side::{Differs, Frames, Row, row};

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// a1 asks everybody.
fn who_has(spa: Ipv4Addr, tpa: Ipv4Addr) -> [(PortId, Packet); 1] {
    [(
        POD1,
        eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, spa, tpa),
    )]
}

/// An ARP packet as written.
fn raw(bytes: &[u8]) -> [(PortId, Packet); 1] {
    [(
        POD1,
        eth(Mac::BROADCAST, A1_MAC).ethertype(0x0806) / payload(bytes),
    )]
}

/// A request for the gateway with one byte changed.
fn changed(at: usize, value: u8) -> [(PortId, Packet); 1] {
    let frame = (eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, A1, GW_A)).bytes();
    let mut arp = frame[14..].to_vec();
    arp[at] = value;
    raw(&arp)
}

/// Without requests for the asker's own address.
fn without_announcements(frames: &mut Frames) {
    frames.retain(|(_, f)| f.len() < 42 || f[12..14] != [8, 6] || f[28..32] != f[38..42]);
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("the gateway is answered", unresolved(), who_has(A1, GW_A)),
        row(
            "the node's address is answered on a pod link",
            unresolved(),
            who_has(A1, NODE_A),
        ),
        row(
            "docker0's address is answered on a pod link",
            unresolved(),
            who_has(A1, [172, 17, 0, 1].into()),
        ),
        row("another pod is not answered", unresolved(), who_has(A1, A2)),
        row("the world is not answered", unresolved(), who_has(A1, X)),
        row(
            "the pod's own address is not answered",
            unresolved(),
            who_has(A1, A1),
        ),
        row(
            "a multicast address is not answered",
            unresolved(),
            who_has(A1, [224, 0, 0, 1].into()),
        ),
        row(
            "127.0.0.1 is not answered",
            unresolved(),
            who_has(A1, Ipv4Addr::LOCALHOST),
        ),
        row(
            "a probe for the gateway is answered",
            unresolved(),
            who_has(NOBODY, GW_A),
        ),
        row(
            "a request in the gateway's name is not answered",
            unresolved(),
            who_has(GW_A, NODE_A),
        )
        .differs(Differs::But(
            without_announcements,
            "GARP-4: the router defends its address",
        )),
        row(
            "a unicast request is answered",
            unresolved(),
            [(POD1, eth(POD1_MAC, A1_MAC) / arp_request(A1_MAC, A1, GW_A))],
        ),
        row(
            "a request to another station is not answered",
            unresolved(),
            [(
                POD1,
                eth(Mac([2, 0, 0, 0, 0, 0x55]), A1_MAC) / arp_request(A1_MAC, A1, GW_A),
            )],
        ),
        row(
            "the sender inside the packet is answered",
            unresolved(),
            [(
                POD1,
                eth(Mac::BROADCAST, A2_MAC) / arp_request(A1_MAC, A1, GW_A),
            )],
        ),
        row(
            "hardware type 2 is not answered",
            unresolved(),
            changed(1, 2),
        ),
        row("hardware type 6 is answered", unresolved(), changed(1, 6)),
        row(
            "another protocol is not answered",
            unresolved(),
            changed(3, 1),
        ),
        row(
            "a hardware length of 8 is not answered",
            unresolved(),
            changed(4, 8),
        ),
        row("operation 3 is not answered", unresolved(), changed(7, 3)),
        row(
            "a short packet is not answered",
            unresolved(),
            raw(&[
                0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 2, 1, 10, 244, 0, 2, 0, 0,
            ]),
        ),
        row(
            "a request makes the requester known",
            unresolved(),
            [
                (
                    POD1,
                    eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, A1, GW_A),
                ),
                (UPLINK, from_b() / ipv4(B1, A1).id(7) / udp(1, 2)),
            ],
        ),
        row(
            "an unsolicited reply makes nobody known",
            unresolved(),
            [
                (
                    POD1,
                    eth(POD1_MAC, A1_MAC) / arp_reply(A1_MAC, A1, POD1_MAC, GW_A),
                ),
                (UPLINK, from_b() / ipv4(B1, A1).id(7) / udp(1, 2)),
            ],
        ),
        row(
            "a gratuitous request makes nobody known",
            unresolved(),
            [
                (
                    POD1,
                    eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, A1, A1),
                ),
                (UPLINK, from_b() / ipv4(B1, A1).id(7) / udp(1, 2)),
            ],
        ),
        row(
            "the link-local gateway is answered by proxy",
            calico(),
            who_has(N1, [169, 254, 1, 1].into()),
        ),
        row(
            "another pod is answered by proxy",
            calico(),
            who_has(N1, N2),
        ),
        row("the world is answered by proxy", calico(), who_has(N1, X)),
        row(
            "a remote pod is answered by proxy",
            calico(),
            who_has(N1, [10, 244, 151, 1].into()),
        ),
        row(
            "the node's address is answered on a cali port",
            calico(),
            who_has(N1, NODE_A),
        ),
        row(
            "the pod's own address is not answered by proxy",
            calico(),
            who_has(N1, N1),
        ),
        row(
            "a blackholed address is not answered by proxy",
            calico(),
            who_has(N1, [10, 244, 205, 200].into()),
        ),
        row(
            "a probe is not answered by proxy",
            calico(),
            who_has(NOBODY, [169, 254, 1, 1].into()),
        ),
        row(
            "a forged sender is not answered on a strict port",
            calico(),
            who_has(N2, [169, 254, 1, 1].into()),
        ),
        row(
            "127.0.0.1 is not answered even with route_localnet",
            calico(),
            who_has(N1, Ipv4Addr::LOCALHOST),
        )
        .differs(Differs::LinuxAlone(
            "D7: with route_localnet Linux says that it has it",
        )),
        row(
            "without a default route the link-local gateway is not answered",
            {
                let mut node = calico();
                node.routes.retain(|r| r.dst.prefix_len() > 0);
                node
            },
            who_has(N1, [169, 254, 1, 1].into()),
        ),
    ]
}
