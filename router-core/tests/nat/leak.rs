//! What pods send, sound or not, never leaves under an inside address (INV-5).

use super::*;
use proptest::prelude::*;

fn packet() -> impl Strategy<Value = Packet> {
    let dst = prop::sample::select(vec![X, Y, NODE_B, Ipv4Addr::new(10, 88, 0, 2)]);
    let src = prop::sample::select(vec![A1, A2, Ipv4Addr::new(10, 244, 0, 77), B1]);
    let body = (0..5_u8, any::<[u8; 4]>(), any::<u8>());
    (src, dst, body, prop::collection::vec(any::<u8>(), 0..60)).prop_map(
        |(src, dst, (kind, [a, b, c, d], flags), data)| {
            let ip = ipv4(src, dst);
            let ports = (u16::from(a), u16::from(b));
            let quoted = quote(&(r() / ipv4(dst, src) / udp(ports.0, ports.1) / b"x"));
            let packet = match kind {
                0 => ip / udp(ports.0, ports.1),
                1 => ip / tcp(ports.0, ports.1, flags),
                2 => ip / icmp(flags % 20, 0, [a, b, c, d]),
                3 => ip / icmp(3, 1, [0; 4]) / quoted,
                _ => ip.protocol(flags),
            };
            a1() / packet / data
        },
    )
}

proptest! {
    /// INV-5, NAT-7: of any packets of a pod, with some bytes behind the addresses changed at random, whole or in pieces, what
    /// leaves by the uplink has the node's address.
    #[test]
    fn no_inside_source_leaves(
        packets in prop::collection::vec((packet(), prop::option::of((34_usize..80, any::<u8>())), any::<bool>()), 1..12),
    ) {
        let mut h = harness();
        for (packet, change, cut) in packets {
            let mut frames = if cut {
                fragments(&packet, 44).iter().map(Packet::bytes).collect()
            } else {
                vec![packet.bytes()]
            };
            for frame in &mut frames {
                if let Some((at, value)) = change && let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            let frames: Vec<_> = frames.into_iter().map(|frame| (POD1, frame)).collect();
            h.rx_bytes(&frames);
            for (port, frame) in h.take_all() {
                prop_assert!(port != UPLINK || frame[26..30] == NODE_A.octets());
            }
        }
    }
}
