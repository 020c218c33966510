//! What is for the node itself.

use router_core::{DropReason, Event};

use super::*;

/// FWD-50: with no host namespace the router resets, and acknowledges all the data of a superframe.
#[test]
fn a_superframe_to_a_closed_port_is_answered_with_one_reset() {
    let mut h = Harness::new(resolved(node_a()));
    let packet = a1() / ipv4(A1, GW_A) / tcp(4000, 80, 0x01).seq(100) / data(9_000);
    h.rx_offload(&[large(POD1, &packet, 1000)], MAX_FRAME);
    let reset = tcp(80, 4000, 0x14).ack(100 + 9_000 + 1);
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(GW_A, A1).any_id().df() / reset),
    );
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::ConnectionRefused.into(), 1),
        (Event::TcpResetSent.into(), 1),
    ]);
}

/// FWD-50: the port is unreachable, and the quoted datagram is complete.
#[test]
fn an_error_quotes_a_complete_checksum() {
    let mut h = Harness::new(resolved(node_a()));
    let packet = a1() / ipv4(A1, GW_A) / udp(4000, 80) / data(100);
    h.rx_offload(&[open(POD1, &packet)], MAX_FRAME);
    let quoted = quote(&packet);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / unreachable(3) / quoted;
    h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
    h.expect_silence();

    let packet = a1() / ipv4(A1, GW_A) / udp(4000, 80) / data(9_000);
    let frame = large(POD1, &packet, 700);
    let first = wire(std::slice::from_ref(&frame))[0].1.clone();
    h.rx_offload(&[frame], MAX_FRAME);
    assert_eq!(h.take(POD1)[42..], first[14..14 + 548]);
}

/// Decision 5: with a host namespace its kernel gets it, in one piece.
#[test]
fn the_host_namespace_gets_a_superframe_as_it_is() {
    let mut h = Harness::new(with_host(resolved(node_a())));
    let packet = a1() / ipv4(A1, NODE_A) / tcp(4000, 6443, PSH_ACK) / data(20_000);
    h.rx_offload(&[large(POD1, &packet, 1448)], MAX_FRAME);
    let left = h.take_uncut();
    assert_eq!((left.len(), left[0].0), (1, HOST));
    h.expect_counters(&[(Event::HostDelivered.into(), 1)]);

    // And what it sends is not answered for its TTL, and leaves in one piece.
    let host = eth(HOST_MAC, HOST_PEER_MAC) / ipv4(NODE_A, X) / tcp(1, 2, PSH_ACK) / data(30_000);
    h.take_all();
    h.rx_offload(&[large(HOST, &host, 1448)], MAX_FRAME);
    assert_eq!((h.take_uncut().len(), h.take_all().len()), (1, 21));
}

/// ICMP-1 and FWD-61: one error about a superframe whose TTL runs out.
#[test]
fn a_superframe_whose_ttl_runs_out_is_one_error() {
    let mut h = Harness::new(resolved(node_a()));
    let packet = a1() / ipv4(A1, B1).ttl(1) / tcp(1, 2, PSH_ACK) / data(4_000);
    let frame = large(POD1, &packet, 1000);
    let first = wire(std::slice::from_ref(&frame))[0].1.clone();
    h.rx_offload(&[frame], MAX_FRAME);
    assert_eq!(h.take(POD1)[42..], first[14..14 + 548]);
    h.expect_silence();
}
