//! The plain path beside the long way, on frames that are plain but for a bit: each condition that makes a packet plain is
//! missed by as little as can be, with a header checksum that is right again or not. (Random traffic, in `conservation.rs`,
//! meets most of these edges hardly ever.)

use core::net::Ipv4Addr;
use core::time::Duration;

use proptest::prelude::*;
use router_core::config::RpFilter;
use router_core::frame::{Gso, MAX_FRAME, Offload, Partial};
use router_core::testing::offload::{partial, superframe};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{PortId, Snapshot};

/// Ethernet and IPv4.
const HEADERS: usize = 34;

/// What a device leaves undone, or says that it did.
#[derive(Clone, Copy, Debug)]
enum Undone {
    Nothing,
    Checksum,
    Cut(u16),
    /// A checksum at another place.
    Elsewhere,
    /// Segments without a checksum to complete.
    Bare(u16),
}

#[derive(Clone, Debug)]
struct Sent {
    from: (PortId, Ipv4Addr),
    to: Ipv4Addr,
    tcp: bool,
    len: usize,
    /// Bits of the headers that are turned: byte, bits.
    turned: Vec<(usize, u8)>,
    repaired: bool,
    missing: usize,
    padding: usize,
    undone: Undone,
}

fn own_mac(port: PortId) -> router_core::Mac {
    match port {
        UPLINK => UPLINK_MAC,
        POD1 => POD1_MAC,
        _ => POD2_MAC,
    }
}

impl Sent {
    /// Nothing about it keeps it from the plain path of a node where everything is resolved.
    fn is_ordinary(&self) -> bool {
        let ways = [(UPLINK, X), (POD1, A1), (POD2, A2)];
        ways.contains(&self.from)
            && [A1, A2, B1, X].contains(&self.to)
            && self.len <= 500
            && self.turned.is_empty()
            && self.missing == 0
            && matches!(
                self.undone,
                Undone::Nothing | Undone::Checksum | Undone::Cut(_)
            )
    }

    fn frame(&self) -> Uncut {
        let (port, src) = self.from;
        let head = eth(own_mac(port), A1_MAC) / ipv4(src, self.to).id(7);
        let data = vec![0x5a; self.len];
        let packet = if self.tcp {
            head / tcp(1, 2, 0x10) / data
        } else {
            head / udp(1, 2) / data
        };
        let packet = packet.bytes();
        let (mut bytes, offload) = match self.undone {
            Undone::Nothing => (packet, Offload::NONE),
            Undone::Checksum => partial(&packet),
            Undone::Cut(size) => superframe(&packet, size),
            Undone::Elsewhere => {
                let (bytes, offload) = partial(&packet);
                let moved = |p: Partial| Partial {
                    start: p.start + 1,
                    ..p
                };
                (
                    bytes,
                    Offload {
                        partial: offload.partial.map(moved),
                        ..offload
                    },
                )
            }
            Undone::Bare(size) => {
                let (bytes, offload) = superframe(&packet, size);
                let gso = offload.gso.map(|gso| Gso { size, ..gso });
                (bytes, Offload { partial: None, gso })
            }
        };
        for &(at, bits) in &self.turned {
            bytes[at] ^= bits;
        }
        if self.repaired {
            bytes[24..26].fill(0);
            let sum = naive_checksum(&bytes[14..HEADERS]);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        bytes.truncate(bytes.len().saturating_sub(self.missing));
        bytes.resize(bytes.len() + self.padding, 0xee);
        (port, bytes, offload)
    }
}

fn a_source() -> impl Strategy<Value = (PortId, Ipv4Addr)> {
    let odd = vec![
        GW_A,
        NODE_A,
        A2,
        Ipv4Addr::new(172, 16, 30, 255),
        Ipv4Addr::new(172, 17, 0, 1),
        Ipv4Addr::new(172, 17, 3, 3),
        Ipv4Addr::new(0, 0, 0, 1),
        Ipv4Addr::new(127, 0, 0, 1),
        Ipv4Addr::new(224, 0, 0, 5),
        Ipv4Addr::new(239, 255, 255, 255),
        Ipv4Addr::new(240, 0, 0, 1),
        Ipv4Addr::BROADCAST,
    ];
    let ports = vec![UPLINK, POD1, POD2];
    prop_oneof![
        3 => prop::sample::select(vec![(UPLINK, X), (UPLINK, B1), (POD1, A1), (POD2, A2)]),
        1 => (prop::sample::select(ports), prop::sample::select(odd)),
    ]
}

fn a_destination() -> impl Strategy<Value = Ipv4Addr> {
    let odd = vec![
        GW_A,
        NODE_B,
        Ipv4Addr::new(172, 16, 30, 77),
        Ipv4Addr::new(172, 16, 30, 255),
        Ipv4Addr::new(172, 17, 0, 9),
        Ipv4Addr::new(0, 1, 2, 3),
        Ipv4Addr::new(127, 0, 0, 1),
        Ipv4Addr::new(224, 0, 0, 5),
        Ipv4Addr::new(239, 255, 255, 255),
        Ipv4Addr::new(240, 0, 0, 1),
        Ipv4Addr::BROADCAST,
    ];
    prop_oneof![4 => prop::sample::select(vec![A1, A2, B1, X]), 1 => prop::sample::select(odd)]
}

fn sent() -> impl Strategy<Value = Sent> {
    let bits = prop_oneof![(0_u32..8).prop_map(|n| 1 << n), any::<u8>()];
    let turned = prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::collection::vec((0..HEADERS, bits), 1..3),
        // TTLs of 0 and 1, and of 2; a tunnel.
        1 => prop::sample::select(vec![(22, 64), (22, 65), (22, 66), (23, 17 ^ 4), (23, 6 ^ 4)]).prop_map(|one| vec![one]),
    ];
    let size = || prop_oneof![Just(0_u16), 1_u16..600];
    let undone = prop_oneof![
        6 => Just(Undone::Nothing),
        2 => Just(Undone::Checksum),
        2 => (1_u16..600).prop_map(Undone::Cut),
        1 => Just(Undone::Elsewhere),
        1 => size().prop_map(Undone::Bare),
    ];
    let len = prop_oneof![0_usize..20, 0_usize..600, 550_usize..590, 1440_usize..1500];
    let missing = prop_oneof![5 => Just(0_usize), 1 => 1_usize..50];
    let padding = prop_oneof![Just(0_usize), 0_usize..20];
    let rest = (
        len,
        any::<bool>(),
        prop::bool::weighted(0.7),
        missing,
        padding,
        undone,
    );
    (a_source(), a_destination(), turned, rest).prop_map(
        |(from, to, turned, (len, tcp, repaired, missing, padding, undone))| Sent {
            from,
            to,
            tcp,
            len,
            turned,
            repaired,
            missing,
            padding,
            undone,
        },
    )
}

/// A node on which everything is known, and what may be otherwise about it.
fn a_node() -> impl Strategy<Value = Snapshot> {
    let filter = || prop::sample::select(vec![RpFilter::Off, RpFilter::Strict, RpFilter::Loose]);
    let flags = any::<[bool; 8]>();
    (filter(), filter(), flags).prop_map(
        |(uplink, pod1, [whole, tracks, narrow, no_arp, down, deny, no_default, many])| {
            let mut node = resolved(node_a());
            (node.ports[0].rp_filter, node.ports[1].rp_filter) = (uplink, pod1);
            node.defragment = whole;
            if narrow {
                node.ports[0].mtu = 600;
            }
            if no_arp {
                node.ports[2].arp = false;
            }
            if down {
                node.ports[2].carrier = false;
            }
            node.ports[1].deny_ipip = deny;
            if no_default {
                node.routes.retain(|route| route.dst.prefix_len() != 0);
            }
            if many {
                // No route is like another: places beyond the first few.
                node.routes.extend((0..200_u8).map(|n| {
                    route(
                        &format!("10.9.{n}.0/24"),
                        UPLINK,
                        Some(Ipv4Addr::new(172, 16, 30, n)),
                    )
                }));
            }
            if tracks { masquerading(node) } else { node }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Decision 14: a frame that is traced goes the long way. Same frames, same order, same counters, same deadlines.
    #[test]
    fn what_is_nearly_plain_ends_as_it_would_have_the_long_way(
        node in a_node(), batches in prop::collection::vec(prop::collection::vec(sent(), 1..80), 1..4),
    ) {
        let mut plain = Harness::new(node.clone());
        let mut traced = Harness::new(node);
        for batch in &batches {
            let frames: Vec<Uncut> = batch.iter().map(Sent::frame).collect();
            traced.trace(1);
            for h in [&mut plain, &mut traced] {
                h.rx_offload(&frames, MAX_FRAME);
                h.advance(Duration::from_millis(300));
            }
            prop_assert_eq!(plain.take_uncut(), traced.take_uncut());
            prop_assert_eq!(plain.take_all(), traced.take_all());
            prop_assert_eq!(plain.router().stats(), traced.router().stats());
            prop_assert_eq!(plain.router().poll_timeout(), traced.router().poll_timeout());
        }
        prop_assert_eq!(traced.router().forwarded_plainly(), 0);
    }

    /// And what is plain is seen to be, wherever in a batch it stands, or the comparison compares nothing.
    #[test]
    fn what_is_plain_takes_the_plain_path_whatever_is_beside_it(batch in prop::collection::vec(sent(), 1..150)) {
        let mut h = Harness::new(resolved(node_a()));
        let frames: Vec<Uncut> = batch.iter().map(Sent::frame).collect();
        let ordinary = batch.iter().filter(|sent| sent.is_ordinary()).count();
        h.rx_offload(&frames, MAX_FRAME);
        prop_assert!(h.router().forwarded_plainly() >= ordinary as u64);
        h.take_all();
    }
}
