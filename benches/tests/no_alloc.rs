//! Law 2: no packet causes an allocation, in any of the loops that the benches measure. Everything else that can happen to a
//! packet is `router-core/tests/no_alloc.rs`'s.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use benches::allocations::{self, Counting};
use benches::crowd::Crowd;
use benches::family::Lpm;
use benches::flight::Flight;
use benches::routes::Mix;
use benches::{LEFT, Node, arp_request, shapes, udp_frame};
use router_core::Instant;
use router_core::arch::Kernel;
use router_core::table::flow::{FlowKey, FlowTable};
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;
use router_core::table::wheel::Wheel;
use router_core::testing::crowd::Session;
use router_core::wire::checksum::Sum;
use router_core::wire::{ethernet, ipv4::Ipv4, udp::Udp};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a round to come to what is made once, then another one.
#[track_caller]
fn assert_none<T>(what: &str, mut round: impl FnMut() -> T) {
    black_box(round());
    let allocations = allocations::of(|| {
        black_box(round());
    });
    assert_eq!(allocations, 0, "allocations of {what}");
}

/// As many peers' packets as a batch takes.
fn spread(len: usize) -> Vec<Vec<u8>> {
    (0..256_u32)
        .map(|i| udp_frame(Ipv4Addr::from(0x0a00_0007 + ((i * 19) << 8)), len))
        .collect()
}

#[test]
fn what_is_counted_is_counted() {
    assert_eq!(allocations::of(|| drop(black_box(vec![1_u8; 100]))), 1);
    assert_eq!(allocations::kept(|| vec![1_u8; 100]).0, 100);
    assert_eq!(allocations::of(|| ()), 0);
}

#[test]
fn no_parse_and_no_checksum_allocates() {
    let frames = spread(1500);
    assert_none("parse", || {
        for frame in &frames {
            let (_, payload) = ethernet::parse(frame).expect("a frame");
            let packet = Ipv4::parse(payload).expect("a packet");
            black_box(Udp::parse(packet.payload()).expect("a datagram").dst_port());
        }
    });
    assert_none("checksum", || {
        for frame in &frames {
            black_box(Sum::new().add_bytes(black_box(frame)).finish());
        }
    });
}

fn no_lookup_allocates<T: Lpm>() {
    let (_, routes) = T::tables()[0];
    let routes = routes().expect("it is made, not read");
    let mut lpm = T::of(&routes);
    let mut reader = lpm.reader();
    // Unlike addresses, ones that nothing covers, ones that go down together.
    for mix in [Mix::Cov, Mix::Miss, Mix::Hot] {
        let destinations = T::destinations(mix, &routes, 1_000);
        let what = |how: &str| format!("{} {} {how}", T::NAME, mix.name());
        let mut hops = [0; 64];
        assert_none(&what("one by one"), || {
            let hops = destinations.iter().map(|&dst| lpm.lookup(dst));
            hops.map(u64::from).sum::<u64>()
        });
        for kernel in Kernel::all() {
            assert_none(&what(kernel.name()), || {
                for some in destinations.chunks(hops.len()) {
                    lpm.lookup_batch_by(kernel, some, &mut hops);
                }
            });
        }
        assert_none(&what("by a reader"), || {
            for some in destinations.chunks(hops.len()) {
                T::read(&mut reader, some, &mut hops);
            }
        });
    }
}

#[test]
fn no_ipv4_lookup_allocates() {
    no_lookup_allocates::<Lpm4>();
}

#[test]
fn no_ipv6_lookup_allocates() {
    no_lookup_allocates::<Lpm6>();
}

#[test]
fn no_arp_request_allocates() {
    let mut node = Node::new(1);
    let frames = vec![arp_request(); 256];
    assert_none("arp", || assert_eq!(node.pass(&frames), 256));
}

#[test]
fn no_forwarded_frame_allocates() {
    for next_hops in [1, 1000] {
        for len in [64, 512, 1500] {
            let frames = spread(len);
            let mut node = Node::new(next_hops);
            let what = format!("{len} bytes to {next_hops} neighbours");
            assert_none(&what, || assert_eq!(node.pass(&frames), 256));
        }
    }
    for in_flight in [256, 4096, 16_384] {
        let mut flight = Flight::cluster(in_flight, 64);
        let what = format!("{in_flight} in flight");
        assert_none(&what, || assert_eq!(flight.pass(), in_flight));
    }
    for in_flight in [16, 256] {
        let mut flight = Flight::superframes(in_flight);
        let what = format!("{in_flight} superframes in flight");
        assert_none(&what, || assert_eq!(flight.pass(), in_flight));
    }
}

#[test]
fn no_translated_judged_or_tunnelled_frame_allocates() {
    let peers = spread(64);
    let features = [
        ("masquerade", shapes::masquerading()),
        ("1 policy", shapes::isolated(1)),
        ("100 policies", shapes::isolated(100)),
        ("10,000 policies", shapes::isolated(10_000)),
    ];
    for (what, snapshot) in features {
        let mut node = Node::of(snapshot);
        assert_none(what, || assert_eq!(node.pass_from(LEFT, &peers), 256));
    }
    for len in [64, 1480] {
        let (snapshot, ways) = shapes::tunnel_end(len);
        let mut node = Node::of(snapshot);
        for (port, frame) in ways {
            let what = format!("a tunnel, {len} bytes that come by port {}", port.0);
            let frames = vec![frame; 256];
            assert_none(&what, || assert_eq!(node.pass_from(port, &frames), 256));
        }
    }
}

/// New connections, and packets of those that there are, both ways.
#[test]
fn no_session_allocates() {
    const SESSIONS: u32 = 4_096;
    let mut crowd = Crowd::new(2 * SESSIONS);
    crowd.grow(SESSIONS);
    let all = (0..SESSIONS).map(Session);
    let requests: Vec<_> = all.clone().map(|s| crowd.request(s)).collect();
    let replies: Vec<_> = all.map(|s| crowd.reply(s)).collect();
    for (what, frames) in [("requests", &requests), ("replies", &replies)] {
        assert_none(what, || {
            let sent: usize = frames.chunks(256).map(|f| crowd.pass(f)).sum();
            assert_eq!(sent, frames.len());
        });
    }
    let mut new = (SESSIONS..2 * SESSIONS)
        .map(Session)
        .map(|s| (s.port(), s.request()));
    let new: Vec<Vec<_>> = (0..16).map(|_| new.by_ref().take(256).collect()).collect();
    let mut new = new.iter();
    assert_none("new sessions", || {
        let batch = new.next().expect("two rounds");
        assert_eq!(crowd.pass(batch), 256);
    });
}

#[test]
fn no_flow_and_no_timer_allocates() {
    let key = |n: u32| FlowKey([n.into(), u64::from(n) << 32 | 7]);
    let mut flows = FlowTable::new(10_000, 1);
    let keys: Vec<_> = (0..10_000).map(key).collect();
    let mut values = [None; 64];
    assert_none("the flow table", || {
        for (n, &key) in (0..).zip(&keys) {
            flows.insert(key, n).expect("within the capacity");
        }
        for keys in keys.chunks(64) {
            flows.get_batch(keys, &mut values[..keys.len()]);
        }
        let found = keys.iter().filter(|&&key| flows.get(key).is_some()).count();
        assert_eq!(found, keys.len());
        for &key in &keys {
            flows.remove(key);
        }
    });

    let mut wheel = Wheel::new(10_000);
    let mut now = Instant::ZERO;
    assert_none("the timer wheel", || {
        for id in 0..10_000 {
            wheel.arm(
                id,
                now + Duration::from_millis(u64::from(id) * 37 % 600_000),
            );
        }
        while let Some(next) = wheel.next_deadline() {
            now = next;
            while let Some(id) = wheel.due(now) {
                black_box(id);
            }
        }
    });
}
