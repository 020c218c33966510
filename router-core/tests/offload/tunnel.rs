//! IPIP with what devices leave open (decision 15): headers are put on and taken off superframes, and are each segment's.

use router_core::testing::calico::*;
use router_core::{DropReason, Event};

use super::*;

fn from_n3() -> Packet {
    eth(CALI_MAC, N3_MAC)
}

fn from_k2() -> Packet {
    eth(K3_MAC, K2_MAC)
}

fn out(len: usize) -> Packet {
    from_n3() / ipv4(N3, N2).id(500).df() / tcp(4000, 80, PSH_ACK).seq(7) / data(len)
}

/// Outer length and identification are per segment; so are those of the next packet.
#[test]
fn an_encapsulated_superframe_is_its_segments_encapsulated() {
    let steps = [
        vec![large(POD1, &out(30_000), 1388), open(POD1, &out(10))],
        vec![large(POD1, &out(1_388 * 2 + 1), 1388), open(POD1, &out(0))],
    ];
    let (mut h, _) = both(&node_k3(), &steps);
    assert_eq!(h.take_uncut().len(), 4, "none was cut, none completed");
    h.expect_counters(&[(Event::Encapsulated.into(), 4)]);
    let tunnel = h.router().stats().port(TUNL0).unwrap();
    assert_eq!((tunnel.tx_frames, tunnel.tx_segments), (4, 22 + 1 + 3 + 1));
}

/// 65,535 bytes of packet have no room for 20 more.
#[test]
fn a_superframe_that_a_second_header_would_make_too_long_is_cut_first() {
    let longest = 65_535 - 40;
    for (len, whole) in [
        (longest - 20, true),
        (longest - 19, false),
        (longest, false),
    ] {
        let (mut h, _) = both(&node_k3(), &[vec![large(POD1, &out(len), 1388)]]);
        assert_eq!(h.take_uncut().len(), usize::from(whole), "{len}");
        let cut = h.router().stats().events.get(Event::Segmented);
        assert_eq!(cut, u64::from(!whole), "{len}");
    }
}

/// IPIP-10: what the way carries is compared with a segment in its outer packet.
#[test]
fn the_tunnels_mtu_goes_by_segments() {
    let mtu = node_k3().ports.iter().find(|p| p.id == TUNL0).unwrap().mtu;
    let fits = mtu - 40;
    let mut h = Harness::new(node_k3());
    h.rx_offload(&[large(POD1, &out(20_000), fits)], MAX_FRAME);
    assert_eq!(h.take_uncut().len(), 1);
    h.take_all();
    h.rx_offload(&[large(POD1, &out(20_000), fits + 1)], MAX_FRAME);
    let error = h.take(POD1);
    assert_eq!((error[34], error[35]), (3, 4));
    assert_eq!(error[40..42], mtu.to_be_bytes());
    h.expect_silence();
}

/// What comes out of a tunnel is checked and routed as it is, with its checksum open.
#[test]
fn a_superframe_is_taken_out_of_its_tunnel() {
    let packet = |len| {
        let inner = ipv4(N2, N3).df().ttl(63) / tcp(80, 4000, PSH_ACK).seq(9) / data(len);
        from_k2() / ipv4(K2, K3).id(500).ttl(63) / inner
    };
    let frames = vec![
        large(UPLINK, &packet(30_000), 1388),
        open(UPLINK, &packet(10)),
    ];
    let (mut h, _) = both(&node_k3(), &[frames]);
    assert_eq!(h.take_uncut().len(), 2);
    h.expect_counters(&[(Event::Decapsulated.into(), 2)]);
    let tunnel = h.router().stats().port(TUNL0).unwrap();
    assert_eq!((tunnel.rx_frames, tunnel.rx_segments), (2, 23));
}

/// IPIP-16: trouble beyond the tunnel's first hop is told with a segment of the inner packet.
#[test]
fn an_error_about_what_was_tunnelled_quotes_a_segment_of_it() {
    let mut snapshot = node_k3();
    snapshot.neighbours.retain(|n| n.ip != K2);
    let mut h = Harness::new(snapshot);
    let frame = large(POD1, &out(9_000), 1000);
    h.rx_offload(&[frame], MAX_FRAME);
    h.advance(core::time::Duration::from_secs(4));
    let error = h.take(POD1);
    let sent = from_n3() / ipv4(N3, N2).id(500).df().ttl(63) / tcp(4000, 80, ACK).seq(7);
    assert_eq!(error[42..], (sent / data(1_000)).bytes()[14..14 + 548]);
    assert_eq!(h.router().stats().drops.get(DropReason::NeighbourFailed), 1);
}
