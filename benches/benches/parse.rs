//! Ethernet + IPv4 + UDP, addresses and ports read: ours with the header checksum verified, beside the usual crates.

mod common;

use std::hint::black_box;
use std::net::Ipv4Addr;

use benches::udp_frame;
use common::Stage;
use criterion::{Criterion, criterion_group, criterion_main};

type Fields = (Ipv4Addr, Ipv4Addr, u16, u16);

fn ours(frame: &[u8]) -> Option<Fields> {
    use router_core::wire::{ethernet, ipv4::Ipv4, udp::Udp};
    let (_, payload) = ethernet::parse(frame)?;
    let packet = Ipv4::parse(payload).ok()?;
    let udp = Udp::parse(packet.payload())?;
    Some((packet.src(), packet.dst(), udp.src_port(), udp.dst_port()))
}

fn smoltcp_checked(frame: &[u8]) -> Option<Fields> {
    use smoltcp::wire::{EthernetFrame, Ipv4Packet, UdpPacket};
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if !packet.verify_checksum() {
        return None;
    }
    let udp = UdpPacket::new_checked(packet.payload()).ok()?;
    Some((
        packet.src_addr(),
        packet.dst_addr(),
        udp.src_port(),
        udp.dst_port(),
    ))
}

/// No validation, no checksum: how fast it can be without either.
fn pnet_views(frame: &[u8]) -> Option<Fields> {
    use pnet::packet::Packet as _;
    use pnet::packet::{ethernet::EthernetPacket, ipv4::Ipv4Packet, udp::UdpPacket};
    let ethernet = EthernetPacket::new(frame)?;
    let packet = Ipv4Packet::new(ethernet.payload())?;
    let udp = UdpPacket::new(packet.payload())?;
    Some((
        packet.get_source(),
        packet.get_destination(),
        udp.get_source(),
        udp.get_destination(),
    ))
}

/// Lengths validated, checksum not.
fn etherparse_sliced(frame: &[u8]) -> Option<Fields> {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport)
    else {
        return None;
    };
    let header = ip.header();
    Some((
        header.source_addr(),
        header.destination_addr(),
        udp.source_port(),
        udp.destination_port(),
    ))
}

fn parse(c: &mut Criterion) {
    let frames: Vec<Vec<u8>> = (0..256_u32)
        .map(|i| udp_frame(Ipv4Addr::from(0x0a00_0001 + (i << 8)), 64))
        .collect();
    let mut stage = Stage::new(c, "parse");
    let round = |parser: fn(&[u8]) -> Option<Fields>| {
        for frame in &frames {
            black_box(parser(black_box(frame)));
        }
    };
    let expected = (
        Ipv4Addr::new(10, 255, 0, 2),
        Ipv4Addr::new(10, 0, 0, 1),
        9,
        9,
    );
    assert_eq!(ours(&frames[0]), Some(expected));
    stage.ours("router-core/64B", frames.len(), || round(ours));
    for (name, parser) in [
        ("smoltcp", smoltcp_checked as fn(&[u8]) -> Option<Fields>),
        ("pnet", pnet_views),
        ("etherparse", etherparse_sliced),
    ] {
        assert_eq!(parser(&frames[0]), Some(expected), "{name} reads the same");
        stage.measure(format!("{name}/64B"), frames.len(), || round(parser));
    }
}

criterion_group!(benches, parse);
criterion_main!(benches);
