//! Law 6: no allocation per packet, counted by an allocator of our own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::time::Duration;

use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::trace::STEPS_MAX;
use router_core::{Batch, Event, FramePool, Instant, Limits, Mac, Mark, PortId, Router, TxBatch};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call is passed on unchanged to `System`, which upholds the contract; counting touches a thread-local
// integer that needs neither initialisation nor destruction, so it cannot allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's guarantees for `layout` are those that `System.alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` with this layout, as all of this allocator's blocks do.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Everything that can happen to a packet: forwarded, cut, answered, refused, held, evicted, timed out, dropped. Without
/// marks, with marks that nobody armed, and with armed ones whose steps no longer fit.
#[test]
fn no_packet_causes_an_allocation() {
    for (mark, armed) in [
        (Mark::NONE, false),
        (Mark::new(7), false),
        (Mark::new(7), true),
    ] {
        run(mark, armed);
    }
}

fn run(mark: Mark, armed: bool) {
    let from_a1 = || eth(POD1_MAC, A1_MAC);
    let absent = |last| Ipv4Addr::new(172, 16, 30, last);
    let mut traffic: Vec<(PortId, Vec<u8>)> = [
        from_a1() / ipv4(A1, A2) / udp(1, 2) / vec![0; 1000],
        from_a1() / ipv4(A1, B1) / udp(1, 2) / vec![0; 1400],
        from_a1() / ipv4(A1, B1).df() / udp(1, 2) / vec![0; 1400],
        from_a1() / ipv4(A1, B1).ttl(1) / udp(1, 2),
        from_a1() / ipv4(A1, B1).options(&[7, 7, 4, 0, 0, 0, 0, 0]) / udp(1, 2),
        from_a1() / ipv4(A1, GW_A) / echo_request(1, 1) / vec![0; 500],
        from_a1() / ipv4(A1, NODE_A) / tcp(1, 2, 2),
        from_a1() / ipv4(A1, NODE_A) / udp(1, 2),
        from_a1() / ipv4(Ipv4Addr::LOCALHOST, B1) / udp(1, 2),
        from_a1() / arp_request(A1_MAC, A1, GW_A),
        from_a1() / vec![0xff; 40],
    ]
    .iter()
    .map(|p| (POD1, p.bytes()))
    .collect();
    let large = from_a1() / ipv4(A1, GW_A) / echo_request(1, 1) / vec![0; 3000];
    let never_whole = from_a1() / ipv4(A1, GW_A).id(1).mf() / echo_request(1, 1) / vec![0; 8];
    let pieces = fragments(&large, 600);
    let pieces = pieces.iter().chain([&never_whole]);
    traffic.extend(pieces.map(|p| (POD1, p.bytes())));
    traffic.extend((100..150).map(|last| {
        (
            POD1,
            (from_a1() / ipv4(A1, absent(last)) / udp(1, 2)).bytes(),
        )
    }));

    let mut pool = FramePool::new(512);
    let limits = Limits {
        neighbours: 32,
        held_per_neighbour: 4,
        held: 64,
        fragments: 64,
        ..Limits::default()
    };
    let mut router = Router::new(limits, 1);
    let mut snapshot = resolved(node_a());
    snapshot.ports[0].mtu = 600;
    router
        .apply(Instant::ZERO, snapshot, &mut pool)
        .expect("a consistent snapshot");
    if armed {
        router
            .trace_mut()
            .arm(mark.trace())
            .expect("the only trace");
    }
    let (mut rx, mut tx) = (Batch::new(), TxBatch::new(512));
    let mut now = Instant::ZERO;
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..50 {
        for (port, bytes) in &traffic {
            let mut frame = pool.alloc().expect("512 frames are enough");
            assert!(frame.fill(bytes));
            frame.set_port(*port);
            frame.set_mark(mark);
            assert!(rx.push(frame).is_ok());
        }
        router.process(now, &mut rx, &mut pool, &mut tx);
        tx.free_all(&mut pool);
        now = now + Duration::from_millis(700);
        router.handle_timeout(now, &mut pool, &mut tx);
        tx.free_all(&mut pool);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    let stats = router.stats();
    assert_eq!(stats.check_conservation(router.held()), Ok(()));
    assert!(stats.split > 0 && stats.generated > 0 && stats.dropped() > 0 && stats.tx > 0);
    let trace = router.trace().get(7);
    assert_eq!(
        trace.map(|t| (t.records.len(), t.lost > 0)),
        armed.then_some((STEPS_MAX, true))
    );
}

/// Floods, known stations, new ones that push out old ones, what the node sends itself, and an empty pool.
#[test]
fn no_bridged_frame_causes_an_allocation() {
    use router_core::testing::bridged::*;
    let limits = Limits {
        fdb: 16,
        ..Limits::default()
    };
    let mut pool = FramePool::new(64);
    let mut router = Router::new(limits, 1);
    let snapshot = with_hairpin(with_known_pods(bridged_node()));
    router.apply(Instant::ZERO, snapshot, &mut pool).unwrap();
    let (mut rx, mut tx) = (Batch::new(), TxBatch::new(64));
    let frames: Vec<(PortId, Vec<u8>)> = (0..200_u8)
        .map(|n| {
            let src = Mac([2, 0, 0, 0, 0, n]);
            let at = usize::from(n) % 3;
            let packet = match n % 4 {
                0 => eth(Mac::BROADCAST, src) / vec![n; 100],
                1 => eth(PODS[at], PODS[(at + 1) % 3]) / vec![n; 100],
                2 => eth(BRIDGE_MAC, PODS[at]) / ipv4(POD_IPS[at], GATEWAY) / echo_request(1, 1),
                _ => eth(src, PODS[at]) / vec![n; 100],
            };
            (PORTS[at], packet.bytes())
        })
        .collect();
    let before = ALLOCATIONS.with(Cell::get);
    for round in 0..20 {
        for (port, bytes) in &frames {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.fill(bytes));
            frame.set_port(*port);
            assert!(rx.push(frame).is_ok());
            if rx.len() == 40 {
                router.process(Instant::from_nanos(round), &mut rx, &mut pool, &mut tx);
                tx.free_all(&mut pool);
            }
        }
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    let stats = router.stats();
    assert_eq!(stats.check_conservation(router.held()), Ok(()));
    assert!(stats.cloned > 0 && stats.events.get(Event::FdbEvicted) > 0);
    assert!(stats.events.get(Event::NoFrame) > 0);
}

/// Connections of every protocol that begin, are answered, expire and are given up in a full table; destination NAT with
/// affinity; errors, fragments, and what is INVALID.
#[test]
fn no_translated_packet_causes_an_allocation() {
    use router_core::config::nat::Target;
    let subnet = "10.244.0.3/24".parse().unwrap();
    let mut snapshot = host_port(
        masquerading(resolved(node_a())),
        (17, 8080),
        (A2, 80),
        subnet,
    );
    snapshot.nat.conntrack.limit = 32;
    for rule in snapshot.nat.chains.iter_mut().flat_map(|c| &mut c.rules) {
        if let Target::Dnat { affinity, .. } = &mut rule.target {
            *affinity = Some(Duration::from_secs(5));
        }
    }
    let from_a1 = || eth(POD1_MAC, A1_MAC);
    let from_r = || eth(UPLINK_MAC, R_MAC);
    let mut traffic = Vec::new();
    for n in 0..50_u8 {
        let port = 4000 + u16::from(n);
        let peer = Ipv4Addr::new(9, 9, 9, n);
        let sent = ipv4(NODE_A, X) / udp(port, 53) / b"q";
        let error = time_exceeded() / quote(&(from_r() / sent));
        let large = from_a1() / ipv4(A1, X).id(n.into()) / udp(port, 9) / vec![0; 1800];
        traffic.extend([
            (
                POD1,
                (from_a1() / ipv4(A1, X) / udp(port, 53) / b"q").bytes(),
            ),
            (
                UPLINK,
                (from_r() / ipv4(X, NODE_A) / udp(53, port) / b"a").bytes(),
            ),
            (UPLINK, (from_r() / ipv4(R, NODE_A) / error).bytes()),
            (POD1, (from_a1() / ipv4(A1, X) / tcp(port, 80, 2)).bytes()),
            (POD1, (from_a1() / ipv4(A1, X) / tcp(port, 81, 1)).bytes()),
            (
                POD1,
                (from_a1() / ipv4(A1, peer) / echo_request(7, 7)).bytes(),
            ),
            (
                UPLINK,
                (from_r() / ipv4(peer, NODE_A) / udp(port, 8080) / b"h").bytes(),
            ),
        ]);
        traffic.extend(fragments(&large, 1000).iter().map(|p| (POD1, p.bytes())));
    }
    let mut pool = FramePool::new(256);
    let mut router = Router::new(Limits::default(), 1);
    router.apply(Instant::ZERO, snapshot, &mut pool).unwrap();
    let (mut rx, mut tx) = (Batch::new(), TxBatch::new(256));
    let mut now = Instant::ZERO;
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..4 {
        for batch in traffic.chunks(32) {
            for (port, bytes) in batch {
                let mut frame = pool.alloc().unwrap();
                assert!(frame.fill(bytes));
                frame.set_port(*port);
                assert!(rx.push(frame).is_ok());
            }
            router.process(now, &mut rx, &mut pool, &mut tx);
            tx.free_all(&mut pool);
        }
        now = now + Duration::from_secs(40);
        router.handle_timeout(now, &mut pool, &mut tx);
        tx.free_all(&mut pool);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    let stats = router.stats();
    assert_eq!(stats.check_conservation(router.held()), Ok(()));
    assert!(stats.events.get(Event::ConnectionEvicted) > 0);
    assert!(stats.events.get(Event::Reassembled) > 0);
    assert!(stats.drops.get(router_core::DropReason::ConntrackInvalid) > 0);
}

/// Superframes that go on as they are, plainly and translated, that are cut for a smaller MTU and for a tunnel, that are refused,
/// and that have no room to be cut in; and single frames whose checksum is open.
#[test]
fn no_superframe_causes_an_allocation() {
    use router_core::testing::calico::{CALI_MAC, N2, N3, N3_MAC, node_k3};
    use router_core::testing::offload::{frame, partial, superframe};
    let mut smaller = resolved(node_a());
    smaller.ports[0].mtu = 600;
    let pod = || eth(POD1_MAC, A1_MAC);
    let data = |len| tcp(1, 2, 16) / vec![7; len];
    let out = pod() / ipv4(A1, B1) / data(60_000);
    let not_to_be_cut = pod() / ipv4(A1, B1).df() / data(3_000);
    let tunnelled: Packet = eth(CALI_MAC, N3_MAC) / ipv4(N3, N2) / data(20_000);
    // Segments of 1,000 bytes have to be cut further for an MTU of 600.
    for (snapshot, packet, is_cut) in [
        (resolved(node_a()), &out, false),
        (masquerading(resolved(node_a())), &out, false),
        (smaller.clone(), &out, true),
        (smaller, &not_to_be_cut, false),
        (node_k3(), &tunnelled, false),
    ] {
        let mut pool = FramePool::new(512);
        let mut router = Router::new(Limits::default(), 1);
        router.apply(Instant::ZERO, snapshot, &mut pool).unwrap();
        let (mut rx, mut tx) = (Batch::new(), TxBatch::new(512));
        let mut allocations = 0;
        for round in 0..8 {
            for (bytes, offload) in [superframe(&packet.bytes(), 1_000), partial(&packet.bytes())] {
                if offload.gso.is_none() && bytes.len() > 1_500 {
                    continue;
                }
                for _ in 0..4 {
                    let mut frame = frame(&mut pool, &bytes, offload, 1_000);
                    frame.set_port(POD1);
                    assert!(rx.push(frame).is_ok());
                }
            }
            let before = ALLOCATIONS.with(Cell::get);
            router.process(Instant::from_nanos(round), &mut rx, &mut pool, &mut tx);
            tx.free_all(&mut pool);
            allocations += ALLOCATIONS.with(Cell::get) - before;
        }
        assert_eq!(allocations, 0);
        let stats = router.stats();
        assert_eq!(stats.check_conservation(router.held()), Ok(()));
        assert!(stats.split > 0 || !is_cut);
        assert!(stats.tx > 0);
    }
}
