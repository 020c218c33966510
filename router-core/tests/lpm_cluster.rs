//! The tables of a cluster's nodes: how much memory they take (performance section 6). A thousand nodes may be on one
//! machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::config::{NextHop, PortConfig, Route, RouteTarget};
use router_core::fib::Fib;
use router_core::table::lpm4::Lpm4;
use router_core::{Mac, PortId, Snapshot};

const UPLINK: PortId = PortId(0);
const PODS: PortId = PortId(1);

/// Counts what a thread has allocated and not given back.
struct Counting;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: isize) {
    let bytes = isize::try_from(bytes).expect("no allocation is larger");
    // While a thread ends there is nothing to count in.
    let _gone = IN_USE.try_with(|n| n.set(n.get() + sign * bytes));
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps to this function's contract, which is that of the callee.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that `make` leaves allocated, and what it made.
fn measured<T>(make: impl FnOnce() -> T) -> (usize, T) {
    let before = IN_USE.with(Cell::get);
    let made = make();
    let kept = IN_USE.with(Cell::get) - before;
    (usize::try_from(kept).expect("it keeps something"), made)
}

/// Routes of node `n` among `nodes`: the podCIDRs of its peers, each through the node that has it, and its own pods.
fn cluster_node(n: u32, nodes: u32, pods: u32) -> Snapshot {
    let net = |addr: u32, len| Ipv4Net::new(Ipv4Addr::from_bits(addr), len).expect("a length");
    let to = |dst, port, via| Route {
        dst,
        metric: 0,
        src: None,
        target: RouteTarget::Unicast(vec![NextHop {
            port,
            via,
            weight: 1,
        }]),
    };
    let node = |peer: u32| Some(Ipv4Addr::from_bits(0xac10_0002 + peer));
    let cidr = |peer: u32| 0x0a00_0000 + (peer << 8);
    let peers = (0..nodes).filter(|&peer| peer != n);
    let peers = peers.map(|peer| to(net(cidr(peer), 24), UPLINK, node(peer)));
    let pods = (2..2 + pods).map(|pod| to(net(cidr(n) + pod, 32), PODS, None));
    Snapshot {
        forwarding: true,
        ports: vec![
            PortConfig::ethernet(UPLINK.0, "eth0", Mac([2, 0, 0, 0, 0, 1]), 1500),
            PortConfig::ethernet(PODS.0, "veth0", Mac([2, 0, 0, 0, 0, 2]), 1500),
        ],
        routes: peers.chain(pods).collect(),
        ..Snapshot::default()
    }
}

/// 5,110 routes with next hops that are numbers: what look-ups read, and all of it.
#[test]
fn the_table_of_a_node_with_5110_routes_takes_little_memory() {
    let routes: Vec<_> = cluster_node(17, 5_001, 110)
        .routes
        .into_iter()
        .zip(0_u16..)
        .map(|(route, n)| (route.dst, n % 255))
        .collect();
    assert_eq!(routes.len(), 5_110);
    let (bytes, lpm) = measured(|| Lpm4::from_routes(routes.iter().copied()).expect("they fit"));
    let (looked_up, updated) = lpm.memory();
    assert!(looked_up <= 30_000, "look-ups read {looked_up} bytes");
    assert!(
        looked_up + updated <= 100_000,
        "{looked_up} and {updated} bytes"
    );
    assert!(bytes <= 100_000, "{bytes} bytes in all");
}

/// A thousand nodes with 5,110 routes each, each route through another node.
#[test]
fn the_tables_of_a_thousand_nodes_fit() {
    let snapshot = cluster_node(17, 5_001, 110);
    let (bytes, fibs) = measured(|| {
        (0..1_000)
            .map(|_| Fib::new(&snapshot).expect("the routes fit"))
            .collect::<Vec<_>>()
    });
    assert_eq!(fibs.len(), 1_000);
    println!("{bytes} bytes in a thousand tables");
    assert!(bytes < 300_000_000, "{bytes} bytes");
}
