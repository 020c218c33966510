//! Every form of the table against a scan over a list of prefixes.

use alloc::vec::Vec;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::table::MAX_NEXT_HOP;

/// The slowest and most obvious table.
#[derive(Default)]
struct Naive(Vec<(Ipv4Net, NextHop)>);

impl Naive {
    fn insert(&mut self, net: Ipv4Net, hop: NextHop) -> Option<NextHop> {
        let old = self.remove(net);
        self.0.push((net, hop));
        old
    }

    fn remove(&mut self, net: Ipv4Net) -> Option<NextHop> {
        let at = self.0.iter().position(|&(known, _)| known == net)?;
        Some(self.0.remove(at).1)
    }

    fn lookup(&self, address: Ipv4Addr) -> NextHop {
        let covers = self.0.iter().filter(|(net, _)| net.contains(&address));
        covers
            .max_by_key(|(net, _)| net.prefix_len())
            .map_or(NO_ROUTE, |&(_, hop)| hop)
    }

    /// The borders of every prefix, and the addresses next to them.
    fn borders(&self) -> Vec<u32> {
        let ends = self
            .0
            .iter()
            .flat_map(|(net, _)| [net.network(), net.broadcast()]);
        ends.map(Ipv4Addr::to_bits)
            .flat_map(|a| [a.wrapping_sub(1), a, a.wrapping_add(1)])
            .chain([0, 1, u32::MAX])
            .collect()
    }
}

/// The form that the prefixes ask for, and every kind of form whatever they are.
const FORMS: [Option<Window>; 6] = [
    None,
    Some(Window::NONE),
    Some(Window {
        shift: 8,
        low: 0x000a_f400,
        cells: 300,
    }),
    Some(Window {
        shift: 2,
        low: 0x0af4_0010 >> 2,
        cells: 41,
    }),
    Some(Window {
        shift: 12,
        low: 0x000a_f4f0 >> 4,
        cells: (1 << 20) - (0x000a_f4f0 >> 4),
    }),
    Some(Window::DIR_16),
];

fn with_form(form: Option<Window>) -> Lpm4 {
    let mut lpm = Lpm4 {
        pinned: form,
        ..Lpm4::new()
    };
    lpm.rebuild().unwrap();
    lpm
}

/// Every way of looking up gives what the scan gives.
fn assert_same(lpm: &mut Lpm4, naive: &Naive, more: &[u32]) {
    let addresses: Vec<u32> = naive
        .borders()
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let expected: Vec<NextHop> = addresses
        .iter()
        .map(|&address| naive.lookup(Ipv4Addr::from_bits(address)))
        .collect();
    for (&address, &hop) in addresses.iter().zip(&expected) {
        let address = Ipv4Addr::from_bits(address);
        assert_eq!(
            lpm.lookup(address),
            hop,
            "{address} in {:?}",
            lpm.table.window()
        );
    }
    for kernel in Kernel::all() {
        lpm.kernel = kernel;
        let mut hops = alloc::vec![0xa5a5; addresses.len()];
        lpm.lookup_batch(&addresses, &mut hops);
        assert_eq!(
            hops,
            expected,
            "{} in {:?}",
            kernel.name(),
            lpm.table.window()
        );
    }
    assert_eq!(lpm.len(), naive.0.len());
    for &(net, hop) in &naive.0 {
        assert_eq!(lpm.get(net), Some(hop));
    }
}

/// Prefixes that nest and touch: few places, every length.
fn net() -> impl Strategy<Value = Ipv4Net> {
    let place = prop_oneof![
        4 => 0x0af4_0000_u32..0x0af4_0400,
        2 => 0x0af4_f000_u32..0x0af5_1000,
        1 => 0xac10_1e00_u32..0xac10_1f00,
        1 => any::<u32>(),
    ];
    (place, prop_oneof![1 => 0_u8..=32, 3 => 22_u8..=32]).prop_map(|(address, len)| {
        Ipv4Net::new(Ipv4Addr::from_bits(address), len)
            .unwrap()
            .trunc()
    })
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Ipv4Net, NextHop),
    /// Removes one of the prefixes that are there.
    Remove(prop::sample::Index),
    RemoveAbsent(Ipv4Net),
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (net(), prop_oneof![0..3_u16, 0..=MAX_NEXT_HOP]).prop_map(|(net, hop)| Op::Insert(net, hop)),
        5 => any::<prop::sample::Index>().prop_map(Op::Remove),
        1 => net().prop_map(Op::RemoveAbsent),
        1 => Just(Op::Rebuild),
    ]
}

fn apply(lpm: &mut Lpm4, naive: &mut Naive, op: &Op) {
    match op {
        Op::Insert(net, hop) => {
            assert_eq!(lpm.insert(*net, *hop), Ok(naive.insert(*net, *hop)));
        }
        Op::Remove(_) if naive.0.is_empty() => {}
        Op::Remove(nth) => {
            let net = nth.get(&naive.0).0;
            assert_eq!(lpm.remove(net), naive.remove(net));
        }
        Op::RemoveAbsent(net) => assert_eq!(lpm.remove(*net), naive.remove(*net)),
        Op::Rebuild => lpm.rebuild().unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_form_answers_as_a_scan_does(
        ops in proptest::collection::vec(op(), 1..60),
        more in proptest::collection::vec(any::<u32>(), 70),
    ) {
        for form in FORMS {
            let (mut lpm, mut naive) = (with_form(form), Naive::default());
            for op in &ops {
                apply(&mut lpm, &mut naive, op);
                assert_same(&mut lpm, &naive, &[]);
            }
            assert_same(&mut lpm, &naive, &more);
        }
    }

    /// Removing in any order what was inserted in any order leaves an empty table, with every group given back.
    #[test]
    fn delete_is_the_reverse_of_insert(
        nets in proptest::collection::btree_set(net(), 1..80),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let mut nets: Vec<_> = nets.into_iter().collect();
        for form in FORMS {
            let mut lpm = with_form(form);
            for (hop, &net) in nets.iter().enumerate() {
                lpm.insert(net, u16::try_from(hop % 3).unwrap()).unwrap();
            }
            let turn = shuffled.index(nets.len());
            nets.rotate_left(turn);
            for &net in &nets {
                prop_assert!(lpm.remove(net).is_some());
            }
            prop_assert!(lpm.is_empty());
            prop_assert_eq!(lpm.groups.used(), 0, "in {:?}", lpm.table.window());
            assert_same(&mut lpm, &Naive::default(), &nets.iter().map(|n| n.addr().to_bits()).collect::<Vec<_>>());
        }
    }

    /// A table built at once answers as one that grew prefix by prefix, and takes as many groups.
    #[test]
    fn building_and_growing_come_to_the_same(nets in proptest::collection::vec((net(), 0..4_u16), 1..80)) {
        for form in FORMS {
            let (mut grown, mut naive) = (with_form(form), Naive::default());
            for &(net, hop) in &nets {
                grown.insert(net, hop).unwrap();
                naive.insert(net, hop);
            }
            let mut built = with_form(form);
            for &(net, hop) in &naive.0 {
                built.rib.insert(prefix(net), hop);
            }
            built.rebuild().unwrap();
            assert_same(&mut grown, &naive, &[]);
            assert_same(&mut built, &naive, &[]);
            if grown.table.window() == built.table.window() {
                let window = built.table.window();
                prop_assert_eq!(grown.groups.used(), built.groups.used(), "in {:?}", window);
            }
        }
    }
}

/// The large form is too large to be built for each of many cases.
#[test]
fn the_large_form_answers_as_a_scan_does() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let ops = proptest::collection::vec(op(), 400);
    let ops = ops.new_tree(&mut runner).unwrap().current();
    let (mut lpm, mut naive) = (with_form(Some(Window::DIR_24)), Naive::default());
    for op in ops.iter().filter(|op| !matches!(op, Op::Rebuild)) {
        apply(&mut lpm, &mut naive, op);
        assert_same(&mut lpm, &naive, &[]);
    }
    for (net, _) in core::mem::take(&mut naive.0) {
        lpm.remove(net);
    }
    assert_eq!(lpm.groups.used(), 0);
}

fn cluster() -> Vec<(Ipv4Net, NextHop)> {
    let nodes = (0..5_000_u32).map(|n| (0x0a00_0000 + (n << 8), 24, u16::try_from(n).unwrap()));
    let pods = (2..112_u32).map(|n| (0x0a01_0200 + n, 32, 5_000));
    let others = [(0, 0, 5_001), (0xac10_1e00, 24, 5_002)];
    nodes
        .chain(pods)
        .chain(others)
        .map(|(address, len, hop)| {
            (
                Ipv4Net::new(Ipv4Addr::from_bits(address), len).unwrap(),
                hop,
            )
        })
        .collect()
}

#[test]
fn a_cluster_node_gets_a_window_of_a_few_kilobytes() {
    let lpm = Lpm4::from_routes(cluster()).unwrap();
    let window = Window {
        shift: 8,
        low: 0x000a_0000,
        cells: 5_000,
    };
    assert_eq!(lpm.table.window(), window);
    assert!(
        lpm.memory().0 <= 20_000 && lpm.memory().1 <= 20_000,
        "{:?} bytes",
        lpm.memory()
    );
    assert_eq!(lpm.lookup(Ipv4Addr::new(10, 1, 2, 3)), 5_000);
    assert_eq!(lpm.lookup(Ipv4Addr::new(10, 1, 3, 3)), 0x103);
    assert_eq!(lpm.lookup(Ipv4Addr::new(172, 16, 30, 9)), 5_002);
    assert_eq!(lpm.lookup(Ipv4Addr::new(8, 8, 8, 8)), 5_001);
}

/// A node routes to its own pods one by one and to its peers' by their podCIDRs: both lie in the window, which has few
/// kilobytes. With few nodes a cell answers for either, with many a group behind one cell has the node's own pods.
#[test]
fn own_pods_and_peers_lie_in_the_window_of_a_node() {
    for (nodes, pods, shift) in [
        (3_u32, 110, 0),
        (10, 110, 0),
        (24, 110, 8),
        // So many pods outweigh their peers, but lie in the same window behind a group.
        (30, 250, 8),
        (50, 110, 8),
        (1_000, 110, 8),
        (5_000, 110, 8),
    ] {
        let own = nodes / 2;
        let net = |address, len| Ipv4Net::new(Ipv4Addr::from_bits(address), len).unwrap();
        let cidr = |node: u32| 0x0af4_0000 + (node << 8);
        let peers = (0..nodes)
            .filter(|&n| n != own)
            .map(|n| (net(cidr(n), 24), 1));
        let pods = (2..2 + pods).map(|n| (net(cidr(own) + n, 32), 2));
        let others = [(net(0, 0), 3), (net(0xac12_0000, 16), 4)];
        let lpm = Lpm4::from_routes(peers.chain(pods).chain(others)).unwrap();
        let window = lpm.table.window();
        let (first, last) = (cidr(if own == 0 { 1 } else { 0 }), cidr(nodes - 1));
        assert!(window.first() <= first.into(), "{nodes}: {window:?}");
        assert!(u64::from(last) + 255 < window.end(), "{nodes}: {window:?}");
        assert_eq!(window.shift, shift, "{nodes}");
        assert!(
            lpm.memory().0 <= 20_000,
            "{nodes}: {:?} bytes",
            lpm.memory()
        );
    }
}

/// A prefix that begins and ends in the window lies in it with all its addresses, whatever longer ones it holds: a Calico node's
/// block, and the first pods in it.
#[test]
fn a_prefix_that_holds_others_lies_in_the_window_as_a_whole() {
    let net = |text: &str| text.parse().unwrap();
    let block = (net("10.244.7.64/26"), 1);
    let pods = (64..70).map(|n| (net(&format!("10.244.7.{n}/32")), 2));
    let lpm = Lpm4::from_routes(pods.chain([block])).unwrap();
    let window = lpm.table.window();
    assert_eq!((window.first(), window.end()), (0x0af4_0740, 0x0af4_0780));
}

/// Groups that were wanted once are no reason to keep the memory.
#[test]
fn a_table_in_the_same_window_becomes_smaller_again() {
    for count in [2_000, 20_000] {
        let net = |address: u32, len| Ipv4Net::new(Ipv4Addr::from_bits(address), len).unwrap();
        let inside = (0..count).map(|n| (net(0x0a00_0000 + (n << 8), 24), 1));
        // A group or two for each, far from everything else.
        let others = || (0..1_500).map(|n| net(0x4000_0000 + n * 0x0001_2300, 32));
        let mut lpm = Lpm4::from_routes(inside.clone()).unwrap();
        let (window, before) = (lpm.table.window(), lpm.memory().0);
        for net in others() {
            lpm.insert(net, 2).unwrap();
        }
        assert!(lpm.memory().0 > 10 * before);
        for net in others() {
            assert_eq!(lpm.remove(net), Some(2));
        }
        for (net, _) in inside.cycle().take(150_000) {
            lpm.insert(net, 1).unwrap();
            lpm.insert(net, 2).unwrap();
        }
        assert_eq!(lpm.table.window(), window);
        let after = lpm.memory().0;
        assert!(after < 4 * before, "{count}: {before}, then {after} bytes");
    }
}

#[test]
fn the_form_follows_a_table_that_grows_and_shrinks() {
    let mut lpm = Lpm4::new();
    for (net, hop) in cluster() {
        lpm.insert(net, hop).unwrap();
    }
    assert_eq!(lpm.table.window().shift, 8);
    assert!(lpm.memory().0 <= 40_000, "{:?} bytes", lpm.memory());
    for (net, _) in cluster() {
        lpm.remove(net);
    }
    assert!(lpm.memory().0 <= 20_000, "{:?} bytes", lpm.memory());
    assert!(lpm.is_empty());
    // Seventy thousand /24, then half of them.
    let net = |n: u32| Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0000 + (n << 8)), 24).unwrap();
    let mut lpm = Lpm4::from_routes((0..70_000).map(|n| (net(n), 1))).unwrap();
    assert_eq!(lpm.table.window(), Window::DIR_24);
    for n in 0..36_000 {
        assert_eq!(lpm.remove(net(n)), Some(1));
    }
    assert!(lpm.memory().0 < 150_000, "{:?} bytes", lpm.memory());
    assert_eq!(lpm.lookup(net(35_999).addr()), NO_ROUTE);
    assert_eq!(lpm.lookup(net(36_000).addr()), 1);
}

/// A full table says so, stays as it was, and takes prefixes again when others are gone.
#[test]
fn a_full_table_refuses_and_stays_as_it_was() {
    // A /32 in each of many /24: a group for each.
    let host = |n: u32| Ipv4Net::new(Ipv4Addr::from_bits(n << 9 | 5), 32).unwrap();
    let most = u32::try_from(MAX_GROUPS - BORDERS).unwrap();
    let mut lpm = Lpm4 {
        pinned: Some(Window::DIR_24),
        ..Lpm4::new()
    };
    for n in 0..most {
        lpm.rib.insert(prefix(host(n)), 1);
    }
    lpm.rebuild().unwrap();
    assert_eq!(lpm.insert(host(most), 2), Err(Full));
    assert_eq!(lpm.len(), usize::try_from(most).unwrap());
    assert_eq!(lpm.lookup(host(most).addr()), NO_ROUTE);
    assert_eq!(lpm.get(host(most)), None);
    assert_eq!(lpm.insert(host(1), 2), Ok(Some(1)));
    assert_eq!(lpm.remove(host(0)), Some(1));
    assert_eq!(lpm.insert(host(most), 2), Ok(None));
    assert_eq!(lpm.lookup(host(most).addr()), 2);
    assert_eq!(lpm.lookup(host(0).addr()), NO_ROUTE);

    // A reader that stands still holds up the group that is left over: it is free in a copy.
    let mut reader = lpm.reader();
    assert_eq!(reader.lookup(host(1).addr()), 2);
    assert_eq!(lpm.remove(host(1)), Some(2));
    assert_eq!(lpm.insert(host(0), 3), Ok(None));
    assert_eq!(reader.lookup(host(0).addr()), 3);
    assert_eq!(reader.lookup(host(1).addr()), NO_ROUTE);
}

/// Where the groups of another form run out, the large one has more room.
#[test]
fn prefixes_that_fill_one_form_go_on_in_the_large_one() {
    // Two groups for each where the root stands for /16 or more, one where it stands for /24.
    let host = |n: u32| Ipv4Net::new(Ipv4Addr::from_bits(n << 16 | 5), 32).unwrap();
    let mut lpm = Lpm4::new();
    for n in 0..20_000 {
        assert_eq!(lpm.insert(host(n), 1), Ok(None), "{n}");
    }
    assert_eq!(lpm.table.window(), Window::DIR_24);
    assert!((0..20_000).all(|n| lpm.lookup(host(n).addr()) == 1));
}

/// What a refused prefix had taken on the way to the group that was missing is given back.
#[test]
fn a_refused_prefix_keeps_no_group() {
    // Two groups for a /32 in each of many /16; then there is one above the reserve.
    let host = |n: u32| Ipv4Net::new(Ipv4Addr::from_bits(n << 16 | 5), 32).unwrap();
    let most = u32::try_from((MAX_GROUPS - BORDERS - 1) / 2).unwrap();
    let mut lpm = Lpm4 {
        pinned: Some(Window::DIR_16),
        ..Lpm4::new()
    };
    for n in 0..most {
        lpm.rib.insert(prefix(host(n)), 1);
    }
    lpm.rebuild().unwrap();
    let used = lpm.groups.used();
    assert_eq!(used, MAX_GROUPS - BORDERS - 1);
    assert_eq!(lpm.insert(host(most), 2), Err(Full));
    assert_eq!(lpm.groups.used(), used);
    let half = Ipv4Net::new(host(most).addr(), 17).unwrap().trunc();
    assert_eq!(lpm.insert(half, 3), Ok(None));
    assert_eq!(lpm.lookup(host(most).addr()), 3);
}

/// Prefixes around a window that go one after the other want groups along its borders for a moment, and a reader that stands
/// still holds up each of them: the table is copied in time.
#[test]
fn no_prefix_stays_because_readers_hold_up_groups() {
    let inside = 0x0a01_8007;
    let mut lpm = with_form(Some(Window {
        shift: 0,
        low: inside,
        cells: 1,
    }));
    let mut naive = Naive::default();
    let mut reader = lpm.reader();
    reader.lookup(Ipv4Addr::UNSPECIFIED);
    let nets: Vec<_> = (8..=24)
        .map(|len| {
            Ipv4Net::new(Ipv4Addr::from_bits(inside), len)
                .unwrap()
                .trunc()
        })
        .collect();
    let own = Ipv4Net::from(Ipv4Addr::from_bits(inside));
    assert_eq!(lpm.insert(own, 500), Ok(naive.insert(own, 500)));
    for (hop, &net) in (0..).zip(&nets) {
        assert_eq!(lpm.insert(net, hop), Ok(naive.insert(net, hop)));
    }
    for &net in nets.iter().rev() {
        assert_eq!(lpm.remove(net), naive.remove(net));
        assert_same(&mut lpm, &naive, &[inside - 1, inside, inside + 1]);
    }
    assert_eq!(reader.lookup(own.addr()), 500);
    assert_eq!(reader.lookup(nets[16].addr()), NO_ROUTE);
    assert_eq!(lpm.remove(own), naive.remove(own));
    assert_same(&mut lpm, &naive, &[inside]);
    assert_eq!(
        lpm.groups.used(),
        0,
        "groups that waited are there in a copy"
    );
}

#[test]
fn a_next_hop_beyond_the_largest_is_refused() {
    let mut lpm = Lpm4::new();
    let net: Ipv4Net = "10.0.0.0/8".parse().unwrap();
    assert_eq!(lpm.insert(net, NO_ROUTE), Err(Full));
    assert_eq!(lpm.insert(net, MAX_NEXT_HOP), Ok(None));
    assert_eq!(lpm.lookup(net.addr()), MAX_NEXT_HOP);
}

/// Host bits of a prefix say nothing.
#[test]
fn host_bits_are_ignored() {
    let mut lpm = Lpm4::new();
    lpm.insert("10.1.2.3/8".parse().unwrap(), 4).unwrap();
    assert_eq!(lpm.lookup(Ipv4Addr::new(10, 200, 0, 0)), 4);
    assert_eq!(lpm.remove("10.0.0.0/8".parse().unwrap()), Some(4));
}

/// Groups that a reader may be in are not used again; once it has looked at the table anew, they are.
#[test]
fn groups_wait_for_the_readers() {
    let host = |n: u32| Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0001 + (n << 8)), 32).unwrap();
    let window = Window {
        shift: 8,
        low: 0x000a_0000,
        cells: 300,
    };
    let mut lpm = with_form(Some(window));
    lpm.build(window, 400).unwrap();
    let cycle = |lpm: &mut Lpm4| {
        for n in 0..100 {
            lpm.insert(host(n), 1).unwrap();
            lpm.remove(host(n));
        }
    };
    cycle(&mut lpm);
    assert_eq!((lpm.groups.used(), lpm.groups.waiting()), (0, 0));
    let mut reader = lpm.reader();
    let mut other = lpm.reader();
    reader.lookup(Ipv4Addr::UNSPECIFIED);
    other.rest();
    cycle(&mut lpm);
    assert_eq!(
        lpm.groups.waiting(),
        100,
        "one reader is awake and has seen nothing since"
    );
    reader.lookup(Ipv4Addr::UNSPECIFIED);
    cycle(&mut lpm);
    assert!(lpm.groups.waiting() < 200, "{}", lpm.groups.waiting());
    drop(reader);
    cycle(&mut lpm);
    cycle(&mut lpm);
    assert!(lpm.groups.waiting() <= 128, "{}", lpm.groups.waiting());
    assert_eq!(other.lookup(host(3).addr()), NO_ROUTE);
}

/// A reader that never looks at the table holds up groups, not the writer.
#[test]
fn a_reader_that_stands_still_does_not_stop_the_writer() {
    let host = |n: u32| Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0001 + (n << 8)), 32).unwrap();
    let mut lpm = Lpm4::from_routes([(host(0), 7)]).unwrap();
    let mut reader = lpm.reader();
    for n in 1..5_000 {
        lpm.insert(host(n), 1).unwrap();
        assert_eq!(lpm.remove(host(n)), Some(1));
    }
    assert!(lpm.memory().0 < 100_000, "{:?} bytes", lpm.memory());
    lpm.insert(host(0), 8).unwrap();
    assert_eq!(reader.lookup(host(0).addr()), 8);
}
