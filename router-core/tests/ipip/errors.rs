//! What routers inside the tunnel say, and what the node makes of it.

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::testing::calico::*;
use router_core::testing::topology::{
    HOST, HOST_MAC, HOST_PEER_MAC, POD1, R, R_MAC, UPLINK, with_host,
};
use router_core::testing::*;
use router_core::{DropReason, Event};

use crate::common::*;

/// An ICMP error from R about the outer packet in front of `inner`, quoting `quoted` bytes of it.
fn report(message: Packet, outer: Packet, inner: Packet, quoted: usize) -> Packet {
    let bytes = (outer / inner).bytes();
    eth(K3_MAC, R_MAC) / ipv4(R, K3) / message / payload(&bytes[..bytes.len().min(20 + quoted)])
}

/// The packet of n3 that the reports are about, as it was in the tunnel.
fn reported(len: usize) -> Packet {
    ipv4(N3, N2).id(7).ttl(63).df() / udp(4000, 53) / data(len - 28)
}

fn outer_of_n3() -> Packet {
    ipv4(K3, K2).id(1).ttl(5).df()
}

/// IPIP-30, calico#7146: the MTU of the way less 20 is told from then on, and after 10 minutes the packet is tried again.
#[test]
fn the_mtu_of_the_way_is_remembered_for_ten_minutes() {
    let mut h = node();
    h.rx(
        UPLINK,
        &report(fragmentation_needed(1400), outer_of_n3(), reported(1480), 8),
    );
    h.expect_silence();
    h.expect_counters(&[(Event::TunnelMtuLearned.into(), 1)]);
    let long = |total: usize| from_n3() / ipv4(N3, N2).df() / udp(1, 2) / data(total - 28);
    h.rx(POD1, &long(1381));
    let error = ipv4(K3, N3).tos(0xc0).any_id() / fragmentation_needed(1380) / quote(&long(1381));
    h.expect_tx(POD1, &(to_n3() / error));
    h.expect_silence();
    h.rx(POD1, &long(1380));
    assert_eq!(h.take(UPLINK).len(), 14 + 1400);
    // Another end has a way of its own, and packets that may be cut are cut on theirs.
    let to_k1 = from_n3() / ipv4(N3, Ipv4Addr::new(10, 244, 120, 65)).df() / udp(1, 2) / data(1400);
    h.rx(POD1, &to_k1);
    assert_eq!(h.take(UPLINK).len(), 14 + 1448);
    h.rx(POD1, &(from_n3() / ipv4(N3, N2) / udp(1, 2) / data(1400)));
    assert_eq!(h.take(UPLINK).len(), 14 + 1448);
    h.advance(Duration::from_millis(599_999));
    h.rx(POD1, &long(1381));
    assert_eq!(h.take(POD1)[34..36], [3, 4]);
    h.advance(Duration::from_millis(1));
    h.rx(POD1, &long(1381));
    assert_eq!(h.take(UPLINK).len(), 14 + 1401);
}

/// IPIP-31: what routers in the tunnel say is passed on to the sender of the inner packet, translated.
#[test]
fn errors_about_the_outer_packet_are_relayed() {
    for (message, relayed) in [
        (time_exceeded(), Some(unreachable(1))),
        (unreachable(0), Some(unreachable(0))),
        (unreachable(1), Some(unreachable(1))),
        (unreachable(2), Some(unreachable(1))),
        (unreachable(3), Some(unreachable(1))),
        (fragmentation_needed(1400), Some(fragmentation_needed(1380))),
        (unreachable(5), None),
        (unreachable(13), None),
        (icmp(5, 1, [172, 16, 30, 1]), None),
        (icmp(4, 0, [0; 4]), None),
        (icmp(11, 1, [0; 4]), None),
        (parameter_problem(1), None),
    ] {
        let mut h = node();
        h.rx(UPLINK, &report(message, outer_of_n3(), reported(1480), 500));
        if let Some(relayed) = relayed {
            let quoted = payload(&reported(1480).bytes()[..500]);
            let error = ipv4(K3, N3).tos(0xc0).any_id() / relayed / quoted;
            h.expect_tx(POD1, &(to_n3() / error));
        }
        h.expect_silence();
    }
}

/// IPIP-31 for the node's own packets: the host hears of it.
#[test]
fn an_error_about_the_hosts_packet_reaches_the_host() {
    let mut h = Harness::new(with_host(node_k3()));
    let inner = ipv4(K3_TUNL0, N2).id(7) / udp(4000, 53) / data(100);
    h.rx(
        UPLINK,
        &report(unreachable(1), outer_of_n3(), inner.clone(), 500),
    );
    let error =
        ipv4(K3_TUNL0, K3_TUNL0).tos(0xc0).any_id() / unreachable(1) / payload(inner.bytes());
    h.expect_tx(HOST, &(eth(HOST_PEER_MAC, HOST_MAC) / error));
    h.expect_silence();
}

/// IPIP-32: with less than the inner header and 8 bytes nobody can be told.
#[test]
fn a_short_quotation_is_not_relayed() {
    for quoted in [0, 7, 8, 19, 20, 27] {
        let mut h = node();
        h.rx(
            UPLINK,
            &report(time_exceeded(), outer_of_n3(), reported(1480), quoted),
        );
        h.expect_silence();
        h.expect_counters(&[]);
    }
    let mut h = node();
    h.rx(
        UPLINK,
        &report(time_exceeded(), outer_of_n3(), reported(1480), 28),
    );
    h.take(POD1);
}

/// IPIP-33: not from this node, not to an end of the tunnel, not IPIP, broken.
#[test]
fn errors_about_packets_of_others_are_ignored() {
    for about in [
        ipv4(K1, K2).id(1).df(),
        ipv4(K3, R).id(1).df(),
        ipv4(K3_TUNL0, K2).id(1).df(),
        ipv4(K3, K2).id(1).df().protocol(17),
    ] {
        let mut h = node();
        let packet = report(fragmentation_needed(1400), about, reported(1480), 500);
        h.expect_silent_drop(UPLINK, &packet, DropReason::IcmpIgnored);
        h.rx(POD1, &(from_n3() / reported(1480)));
        assert_eq!(h.take(UPLINK).len(), 14 + 1500, "nothing was learned");
    }
    let mut h = node();
    let broken = report(
        fragmentation_needed(1400).checksum(0xbad0),
        outer_of_n3(),
        reported(1480),
        500,
    );
    h.expect_silent_drop(UPLINK, &broken, DropReason::IcmpMalformed);
}

/// FWD-77: an MTU below 68, or one that would have been enough, is no answer; 0 is an old router's, for which the next
/// plateau is tried. No error ever tells less than 68.
#[test]
fn impossible_mtus_are_not_believed() {
    let try_with = |told: u16| {
        let mut h = node();
        h.rx(
            UPLINK,
            &report(fragmentation_needed(told), outer_of_n3(), reported(1480), 8),
        );
        h.rx(POD1, &(from_n3() / reported(1480)));
        let (_, sent) = h.take_all().remove(0);
        (sent[23] == 1).then(|| u16::from_be_bytes([sent[40], sent[41]]))
    };
    assert_eq!(try_with(67), None);
    assert_eq!(try_with(1), None);
    assert_eq!(try_with(1500), None);
    assert_eq!(try_with(0), Some(1492 - 20));
    assert_eq!(try_with(1499), Some(1479));
    assert_eq!(try_with(68), Some(68));
}
