//! What a tunnel's end believes of ICMP errors, and what it counts (dataplane 3.4): the cases that `errors` leaves out.

use core::time::Duration;

use router_core::Event;
use router_core::testing::calico::*;
use router_core::testing::topology::{POD1, R, R_MAC, UPLINK};
use router_core::testing::*;

fn data(len: usize) -> Vec<u8> {
    vec![0x5a; len]
}

/// A packet of n3's to n2 that must not be cut.
fn long(total: usize) -> Packet {
    eth(CALI_MAC, N3_MAC) / ipv4(N3, N2).df() / udp(1, 2) / data(total - 28)
}

/// What R says about a packet of n3's, `total` bytes long, that was in the tunnel to K2.
fn report(message: Packet, total: usize) -> Packet {
    let inner = ipv4(N3, N2).id(7).ttl(63).df() / udp(4000, 53) / data(total - 48);
    let outer = (ipv4(K3, K2).id(1).ttl(5).df() / inner).bytes();
    ipv4(R, K3) / message / payload(&outer[..28])
}

fn from_r(packet: Packet) -> Packet {
    eth(K3_MAC, R_MAC) / packet
}

/// The MTU that n3 is told for packets to n2, if it is told one for this long a packet.
fn told(h: &mut Harness, total: usize) -> Option<u16> {
    h.rx(POD1, &long(total));
    let (port, sent) = h.take_all().remove(0);
    (port == POD1).then(|| u16::from_be_bytes([sent[40], sent[41]]))
}

/// IPIP-30: a way that has become narrower still counts; one that is said to be wider does not, until it is forgotten.
#[test]
fn the_narrowest_of_what_was_told_counts() {
    let mut h = Harness::new(node_k3());
    for (link, inner) in [(1400, 1380), (1300, 1280), (1350, 1280)] {
        h.rx(UPLINK, &from_r(report(fragmentation_needed(link), 1500)));
        assert_eq!(told(&mut h, 1480), Some(inner), "after {link}");
    }
}

/// IPIP-30: the ten minutes begin anew when it is told again.
#[test]
fn what_is_told_again_is_remembered_for_longer() {
    let mut h = Harness::new(node_k3());
    let say = from_r(report(fragmentation_needed(1400), 1500));
    h.rx(UPLINK, &say);
    h.advance(Duration::from_secs(300));
    h.rx(UPLINK, &say);
    h.advance(Duration::from_millis(599_999));
    assert_eq!(told(&mut h, 1480), Some(1380));
    h.advance(Duration::from_millis(1));
    assert_eq!(told(&mut h, 1480), None);
}

/// FWD-77: of an old router that tells no MTU, the next plateau below the packet's own length is tried.
#[test]
fn a_packet_as_long_as_a_plateau_tries_the_next_one() {
    for (total, inner) in [(1493, 1472), (1492, 986), (1006, 488)] {
        let mut h = Harness::new(node_k3());
        h.rx(UPLINK, &from_r(report(fragmentation_needed(0), total)));
        assert_eq!(told(&mut h, 1480), Some(inner), "{total}");
    }
}

/// IPIP-33: the same bytes in a packet of another protocol say nothing.
#[test]
fn only_icmp_reports() {
    let message = (report(fragmentation_needed(1400), 1500)).bytes();
    let mut h = Harness::new(node_k3());
    for protocol in [17, 6, 132] {
        h.rx(
            UPLINK,
            &from_r(ipv4(R, K3).protocol(protocol) / payload(&message[20..])),
        );
    }
    h.take_all();
    assert_eq!(told(&mut h, 1480), None);
}

/// ECN-4: marks outside that the inner packet does not know of are counted; those that it knows are not.
#[test]
fn marks_that_should_not_be_there_are_counted() {
    let mut h = Harness::new(node_k3());
    let mut odd = |outside, inside| {
        let inner = ipv4(N2, N3).id(9).tos(inside) / udp(1, 2);
        let outer = ipv4(K2, K3).id(500).tos(outside);
        let before = h.router().stats().events.get(Event::TunnelEcnOdd);
        h.rx(UPLINK, &(eth(K3_MAC, K2_MAC) / outer / inner));
        assert_eq!(h.take_all().len(), 1);
        h.router().stats().events.get(Event::TunnelEcnOdd) - before
    };
    assert_eq!([odd(1, 0), odd(2, 0)], [1, 1]);
    assert_eq!([odd(0, 0), odd(2, 2), odd(3, 2), odd(0, 3)], [0; 4]);
}
