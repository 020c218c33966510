//! What the packets of a known connection go through is what they would go through on the long way, which traced packets
//! take: the same frames come out, the same is counted, the same connections are there, with the same time to live.

use proptest::prelude::*;
use router_core::config::{PermanentNeighbour, RpFilter};
use router_core::{Filter, Mac};

use super::*;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const FIN_ACK: u8 = 0x11;
const SYN_ACK: u8 = 0x12;
const PSH_ACK: u8 = 0x18;

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// A pod out through the masquerade.
    Out,
    /// The answer to the node.
    Back,
    /// Pod to pod, untranslated.
    Across,
    Acrossback,
    /// To the node's mapped port, and the pod's answer.
    In,
    Inback,
    /// As out, by the other pod's port.
    Astray,
}

#[derive(Clone, Debug)]
enum What {
    Udp,
    Tcp { flags: u8, seq: u32, ack: u32 },
    Ping,
    Other,
}

#[derive(Clone, Debug)]
struct Sent {
    way: Way,
    what: What,
    port: u16,
    ttl: u8,
    len: usize,
    padding: usize,
    broken: bool,
    no_checksum: bool,
}

fn a_packet() -> impl Strategy<Value = Sent> {
    let way = prop::sample::select(vec![
        Way::Out,
        Way::Out,
        Way::Back,
        Way::Back,
        Way::Across,
        Way::Acrossback,
        Way::In,
        Way::Inback,
        Way::Astray,
    ]);
    let number = || prop::sample::select(vec![1_u32, 2, 3, 102, 70_000]);
    let flags = prop::sample::select(vec![SYN, SYN_ACK, ACK, ACK, PSH_ACK, FIN_ACK, RST]);
    let what = prop_oneof![
        6 => Just(What::Udp),
        5 => (flags, number(), number()).prop_map(|(flags, seq, ack)| What::Tcp { flags, seq, ack }),
        1 => Just(What::Ping),
        1 => Just(What::Other),
    ];
    (
        way,
        what,
        5000_u16..5003,
        prop_oneof![12 => Just(64_u8), 1 => 0_u8..3],
        prop_oneof![6 => 0_usize..40, 1 => 1460_usize..1480],
        prop_oneof![3 => Just(0_usize), 1 => 1_usize..20],
        prop::bool::weighted(0.04),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(way, what, port, ttl, len, padding, broken, no_checksum)| Sent {
                way,
                what,
                port,
                ttl,
                len,
                padding,
                broken,
                no_checksum,
            },
        )
}

impl Sent {
    fn frame(&self) -> (PortId, Vec<u8>) {
        let p = self.port;
        let (port, link, src, dst, sport, dport) = match self.way {
            Way::Out => (POD1, a1(), A1, X, p, 53),
            Way::Back => (UPLINK, r(), X, NODE_A, 53, p),
            Way::Across => (POD1, a1(), A1, A2, p, 80),
            Way::Acrossback => (POD2, a2(), A2, A1, 80, p),
            Way::In => (UPLINK, r(), X, NODE_A, p, 8080),
            Way::Inback => (POD2, a2(), A2, X, 80, p),
            Way::Astray => (POD2, a2(), A1, X, p, 53),
        };
        let ip = ipv4(src, dst).ttl(self.ttl);
        let data = vec![7; self.len];
        let packet = match self.what {
            What::Udp if self.no_checksum => link / ip / udp(sport, dport).checksum(0) / data,
            What::Udp => link / ip / udp(sport, dport) / data,
            What::Tcp { flags, seq, ack } => {
                link / ip / tcp(sport, dport, flags).seq(seq).ack(ack) / data
            }
            What::Ping => link / ip / echo_request(p, 1) / data,
            What::Other => link / ip.protocol(99) / data,
        };
        let mut bytes = packet.bytes();
        if self.broken {
            *bytes.last_mut().expect("a header at least") ^= 0x55;
        }
        bytes.resize(bytes.len() + self.padding, 0);
        (port, bytes)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Frames(Vec<Sent>),
    /// Three segments that open a connection of this port, and one of data.
    Open(u16),
    Wait(u64),
    Reconfigure(bool),
    Flush,
}

fn opening(port: u16) -> Vec<(PortId, Vec<u8>)> {
    let segment = |way, flags, seq, ack| Sent {
        way,
        what: What::Tcp { flags, seq, ack },
        port,
        ttl: 64,
        len: 0,
        padding: 0,
        broken: false,
        no_checksum: false,
    };
    [
        segment(Way::Out, SYN, 1, 0),
        segment(Way::Back, SYN_ACK, 1, 2),
        segment(Way::Out, ACK, 2, 2),
        segment(Way::Out, PSH_ACK, 2, 2),
        segment(Way::Back, ACK, 2, 2),
    ]
    .iter()
    .map(Sent::frame)
    .collect()
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => prop::collection::vec(a_packet(), 1..48).prop_map(Op::Frames),
        3 => (5000_u16..5003).prop_map(Op::Open),
        3 => prop_oneof![0_u64..3000, 20_000_u64..140_000].prop_map(Op::Wait),
        1 => any::<bool>().prop_map(Op::Reconfigure),
        1 => Just(Op::Flush),
    ]
}

/// With one port that says which sources it believes.
fn strict(mut snapshot: Snapshot) -> Snapshot {
    for port in snapshot.ports.iter_mut().filter(|p| p.id == POD2) {
        port.rp_filter = RpFilter::Strict;
    }
    snapshot
}

fn mapped() -> Snapshot {
    let subnet = "10.244.0.3/24".parse().expect("a network");
    strict(host_port(node(), (17, 8080), (A2, 80), subnet))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_short_way_of_a_connection_changes_nothing(ops in prop::collection::vec(an_op(), 1..12)) {
        let mut short = Harness::new(mapped());
        let mut long = Harness::new(mapped());
        for op in &ops {
            long.trace(1);
            for h in [&mut short, &mut long] {
                match op {
                    Op::Frames(sent) => h.rx_bytes(&sent.iter().map(Sent::frame).collect::<Vec<_>>()),
                    Op::Open(port) => h.rx_bytes(&opening(*port)),
                    Op::Wait(ms) => h.advance(Duration::from_millis(*ms)),
                    Op::Reconfigure(same) => h.apply(if *same { mapped() } else { strict(node()) }),
                    Op::Flush => { h.router_mut().flush_sessions(&Filter::default()); }
                }
            }
            prop_assert_eq!(short.take_all(), long.take_all());
            prop_assert_eq!(short.router().stats(), long.router().stats());
            prop_assert_eq!(short.router().nat_counts(), long.router().nat_counts());
            prop_assert_eq!(sessions(&short), sessions(&long));
            prop_assert_eq!(short.router().poll_timeout(), long.router().poll_timeout());
        }
        prop_assert_eq!(long.router().passed_again(), 0);
    }
}

/// The short way is taken, or the test that compares it with the long way compares nothing: by what follows the first
/// packet of a direction, until the configuration changes.
#[test]
fn packets_of_a_known_connection_take_the_short_way() {
    let mut h = Harness::new(mapped());
    h.rx_bytes(&opening(5000));
    assert_eq!(h.take_all().len(), 5);
    assert_eq!(
        h.router().passed_again(),
        0,
        "nothing was known when the batch came"
    );
    h.rx_bytes(&opening(5000)[3..]);
    assert_eq!(h.router().passed_again(), 2);
    h.apply(mapped());
    h.rx_bytes(&opening(5000)[3..]);
    assert_eq!(
        h.router().passed_again(),
        2,
        "the configuration is another one"
    );
    h.rx_bytes(&opening(5000)[3..]);
    assert_eq!(h.router().passed_again(), 4);
    assert_eq!(h.router().stats().dropped(), 0);
}

/// A connection that ends in a batch, and one that begins in its place, take effect on the packets behind them, though
/// these were looked up before.
#[test]
fn what_ends_in_a_batch_is_not_found_by_the_packets_behind_it() {
    let open = opening(5000);
    let of = |what, ttl| Sent {
        way: Way::Out,
        what,
        port: 5000,
        ttl,
        len: 0,
        padding: 0,
        broken: false,
        no_checksum: false,
    };
    let segment = |flags, seq, ack| What::Tcp { flags, seq, ack };
    let reset = of(segment(RST, 2, 2), 64).frame();
    // It opens what is over again, and gets no further itself.
    let again = of(segment(SYN, 900_000, 0), 1).frame();
    let batch = [again, of(What::Udp, 64).frame(), open[3].clone()];
    let mut together = harness();
    let mut one_by_one = harness();
    for h in [&mut together, &mut one_by_one] {
        h.rx_bytes(&open);
        h.rx_bytes(&open[3..]);
        h.rx_bytes(std::slice::from_ref(&reset));
    }
    together.rx_bytes(&batch);
    for frame in &batch {
        one_by_one.rx_bytes(std::slice::from_ref(frame));
    }
    assert_eq!(together.take_all(), one_by_one.take_all());
    assert_eq!(together.router().stats(), one_by_one.router().stats());
    assert_eq!(sessions(&together), sessions(&one_by_one));
}

/// A batch of many groups, in which some frames stop the others: each is judged by its own header, wherever it stands.
#[test]
fn a_full_batch_goes_as_its_frames_one_by_one() {
    let known = |n: u16| Sent {
        way: if n.is_multiple_of(3) {
            Way::Out
        } else {
            Way::Across
        },
        what: What::Udp,
        port: 5000 + n % 20,
        ttl: 64,
        len: usize::from(n % 40),
        padding: 0,
        broken: false,
        no_checksum: false,
    };
    let all: Vec<_> = (0..60).map(|n| known(n).frame()).collect();
    for stops in [
        &[][..],
        &[0],
        &[31],
        &[32],
        &[100, 101, 255],
        &[63, 64, 200],
    ] {
        let batch: Vec<_> = (0..256_u16)
            .map(|n| {
                let mut sent = known(n * 7);
                // The long way refuses it.
                sent.ttl = if stops.contains(&n) { 1 } else { 64 };
                sent.frame()
            })
            .collect();
        let mut together = harness();
        let mut one_by_one = harness();
        for h in [&mut together, &mut one_by_one] {
            all.iter()
                .for_each(|frame| h.rx_bytes(std::slice::from_ref(frame)));
            h.take_all();
        }
        together.rx_bytes(&batch);
        batch
            .iter()
            .for_each(|frame| one_by_one.rx_bytes(std::slice::from_ref(frame)));
        assert_eq!(together.take_all(), one_by_one.take_all(), "{stops:?}");
        assert_eq!(together.router().stats(), one_by_one.router().stats());
        let passed = 256 - u64::try_from(stops.len()).expect("few");
        assert!(together.router().passed_again() >= passed, "{stops:?}");
    }
}

/// More next hops than are remembered: whoever has another one's place is not taken for it.
#[test]
fn every_connection_leaves_for_its_own_neighbour() {
    let neighbour = |n: u8| (Ipv4Addr::new(172, 16, 30, 100 + n), Mac([2, 0, 0, 0, 1, n]));
    let mut snapshot = node();
    snapshot.neighbours.extend((0..100).map(|n| {
        let (ip, mac) = neighbour(n);
        PermanentNeighbour {
            port: UPLINK,
            ip,
            mac,
        }
    }));
    let mut h = Harness::new(snapshot);
    let batch: Vec<_> = (0..100_u8)
        .map(|n| {
            let (to, _) = neighbour(n);
            (POD1, (a1() / ipv4(A1, to) / udp(5000, 53)).bytes())
        })
        .collect();
    for round in 0..3 {
        h.rx_bytes(&batch);
        let sent: Vec<_> = h
            .take_all()
            .into_iter()
            .map(|(_, frame)| frame[..6].to_vec())
            .collect();
        let macs: Vec<_> = (0..100).map(|n| neighbour(n).1.0.to_vec()).collect();
        assert_eq!(sent, macs, "{round}");
    }
    assert!(h.router().passed_again() >= 100);
}
