//! Random flows: a superframe through the router and then cut is its segments cut first and then sent through the router.

use proptest::prelude::*;
use router_core::policy::{
    AddressRange, PolicyConfig, PolicyEndpoint, PolicyName, PolicyPeers, PolicyProgram, PolicyRule,
};
use router_core::testing::calico;

use super::*;

/// What the node does to the flow.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Forwards,
    Masquerades,
    Tunnels,
    Judges,
}

/// What one side sends at once.
#[derive(Clone, Copy, Debug)]
struct Burst {
    back: bool,
    len: usize,
    size: u16,
    push: bool,
    /// A packet with no payload behind it.
    bare: bool,
    options: bool,
}

fn burst() -> impl Strategy<Value = Burst> {
    let flags = any::<[bool; 4]>();
    (1_usize..15_000, 1_u16..1500, flags).prop_map(|(len, size, [back, push, bare, options])| {
        Burst {
            back,
            len,
            // Not too many of them.
            size: size.max(u16::try_from(len / 60).expect("few")),
            push,
            bare,
            options,
        }
    })
}

fn snapshot(node: Node, mtu: u16) -> Snapshot {
    let snapshot = match node {
        Node::Forwards => resolved(node_a()),
        Node::Masquerades => masquerading(resolved(node_a())),
        Node::Tunnels => calico::node_k3(),
        Node::Judges => {
            let mut snapshot = resolved(node_a());
            snapshot.policy = PolicyConfig {
                endpoints: vec![PolicyEndpoint {
                    port: POD1,
                    ip: A1,
                    ingress: Some(1),
                    egress: Some(0),
                }],
                programs: vec![
                    PolicyProgram {
                        policies: vec![0],
                        rules: vec![PolicyRule {
                            policy: 0,
                            number: 0,
                            peers: PolicyPeers::Set(0),
                            ports: Vec::new(),
                        }],
                    },
                    PolicyProgram {
                        policies: vec![0],
                        rules: Vec::new(),
                    },
                ],
                sets: vec![vec![AddressRange { first: X, last: X }]],
                policies: vec![PolicyName::default()],
                flush_on_change: false,
            };
            snapshot
        }
    };
    with_port(snapshot, UPLINK, |port| port.mtu = mtu)
}

/// The port that a packet of this direction comes by, and its headers down to IPv4.
fn headers(node: Node, back: bool, ident: u16, df: bool) -> (PortId, Packet) {
    let ip = |src, dst| {
        let ip = ipv4(src, dst).id(ident).ttl(60);
        if df { ip.df() } else { ip }
    };
    let k2 = || eth(calico::K3_MAC, calico::K2_MAC) / ipv4(calico::K2, calico::K3).id(ident ^ 9);
    match (node, back) {
        (Node::Tunnels, false) => {
            let link = eth(calico::CALI_MAC, calico::N3_MAC);
            (POD1, link / ip(calico::N3, calico::N2))
        }
        (Node::Tunnels, true) => (UPLINK, k2() / ip(calico::N2, calico::N3)),
        (_, false) => (POD1, a1() / ip(A1, X)),
        (Node::Masquerades, true) => (UPLINK, eth(UPLINK_MAC, R_MAC) / ip(X, NODE_A)),
        (_, true) => (UPLINK, eth(UPLINK_MAC, R_MAC) / ip(X, A1)),
    }
}

/// Timestamps, as Linux lays them out.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Plain, translated, tunnelled and judged: identical bytes in identical order, identifications included, and nothing
    /// is cut that need not be.
    #[test]
    fn a_superframe_through_the_router_is_its_segments_through_the_router(
        node in prop::sample::select(vec![Node::Forwards, Node::Masquerades, Node::Tunnels, Node::Judges]),
        is_tcp: bool, traced: bool, narrow in prop::option::of(600_u16..1500), head in 100_usize..=MAX_FRAME,
        bursts in prop::collection::vec(burst(), 1..8),
    ) {
        let mtu = narrow.unwrap_or(1500);
        let snapshot = snapshot(node, mtu);
        let mut devices = Harness::new(snapshot.clone());
        let mut wires = Harness::new(snapshot);
        if traced {
            devices.trace(1);
        }
        let mut exchange = |frames: &[Uncut]| {
            devices.rx_offload(frames, head);
            wires.rx_bytes(&wire(frames));
            let (got, expected) = (devices.take_all(), wires.take_all());
            let sent = expected.len();
            prop_assert_eq!(got.len(), sent);
            for ((port, got), (at, expected)) in got.iter().zip(&expected) {
                prop_assert_eq!(port, at);
                prop_assert!(got == expected, "{}", decode::diff(expected, got));
            }
            let (mine, theirs) = (devices.router().stats(), wires.router().stats());
            prop_assert_eq!(&mine.drops, &theirs.drops);
            prop_assert_eq!(mine.routes.total() > 0, theirs.routes.total() > 0);
            Ok((devices.take_uncut().len(), sent))
        };
        // Both sides open, so that either may send.
        let (mut seq, mut ident) = ([100_u32, 9_000], 0xfff0_u16);
        for (back, flags) in [(false, SYN), (true, SYN_ACK), (false, ACK)] {
            let (port, packet) = headers(node, back, 1, false);
            let [from, to] = if back { [80, 4000] } else { [4000, 80] };
            let at = usize::from(back);
            let transport = if is_tcp {
                let ack = if flags & ACK != 0 { seq[1 - at] } else { 0 };
                tcp(from, to, flags).seq(seq[at]).ack(ack).window(u16::MAX)
            } else {
                udp(from, to)
            };
            seq[at] += u32::from(is_tcp && flags & SYN != 0);
            let (_, sent) = exchange(&[open(port, &(packet / transport))])?;
            prop_assert_eq!(sent, 1);
        }
        for Burst { back, len, size, push, bare, options } in bursts {
            let [from, to] = if back { [80, 4000] } else { [4000, 80] };
            let tunnel = u16::from(node == Node::Tunnels) * 20;
            let longest = 20 + if is_tcp { 20 + u16::from(options) * 12 } else { 8 } + size.min(u16::try_from(len).unwrap());
            // What comes back leaves by the pod's link.
            let limit = if back { 1500 } else { mtu } - tunnel;
            let fits = longest <= limit;
            let at = usize::from(back);
            let transport = |flags: u8, seq: [u32; 2]| {
                if is_tcp {
                    let tcp = tcp(from, to, flags).seq(seq[at]).ack(seq[1 - at]).window(u16::MAX);
                    if options { tcp.options(&TIMESTAMPS) } else { tcp }
                } else {
                    udp(from, to)
                }
            };
            let (port, packet) = headers(node, back, ident, fits);
            let flags = if push { PSH_ACK } else { ACK };
            let mut frames = vec![large(port, &(packet / transport(flags, seq) / data(len)), size)];
            seq[at] = seq[at].wrapping_add(u32::try_from(len).unwrap());
            ident = ident.wrapping_add(100);
            if bare {
                let (port, packet) = headers(node, back, ident, false);
                frames.push(open(port, &(packet / transport(ACK, seq))));
            }
            // The other side acknowledges it, so that windows never close.
            let (port, packet) = headers(node, !back, 3, false);
            let ack = if is_tcp {
                tcp(to, from, ACK).seq(seq[1 - at]).ack(seq[at]).window(u16::MAX)
            } else {
                udp(to, from)
            };
            frames.push(open(port, &(packet / ack)));
            let (uncut, sent) = exchange(&frames)?;
            prop_assert!(sent >= len.div_ceil(size.into()), "nothing is lost");
            prop_assert_eq!(uncut == frames.len(), fits, "cut if it has to be");
        }
    }
}
