//! The table in several windows against a scan over a list of prefixes.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::nodes::{Form, NODE};
use super::*;
use crate::table::MAX_NEXT_HOP;

/// The slowest and most obvious table.
#[derive(Default)]
struct Naive(Vec<(Ipv6Net, NextHop)>);

impl Naive {
    fn insert(&mut self, net: Ipv6Net, hop: NextHop) -> Option<NextHop> {
        let old = self.remove(net);
        self.0.push((net, hop));
        old
    }

    fn remove(&mut self, net: Ipv6Net) -> Option<NextHop> {
        let at = self.0.iter().position(|&(known, _)| known == net)?;
        Some(self.0.remove(at).1)
    }

    fn lookup(&self, address: Ipv6Addr) -> NextHop {
        let covers = self.0.iter().filter(|(net, _)| net.contains(&address));
        covers
            .max_by_key(|(net, _)| net.prefix_len())
            .map_or(NO_ROUTE, |&(_, hop)| hop)
    }

    /// The borders of every prefix, and the addresses next to them.
    fn borders(&self) -> Vec<u128> {
        let ends = self
            .0
            .iter()
            .flat_map(|(net, _)| [net.network(), net.broadcast()]);
        ends.map(Ipv6Addr::to_bits)
            .flat_map(|a| [a.wrapping_sub(1), a, a.wrapping_add(1)])
            .chain([0, 1, u128::MAX])
            .collect()
    }
}

/// The window that the prefixes ask for, and others whatever they are.
const WINDOWS: [Option<Window>; 8] = [
    None,
    Some(Window::NONE),
    Some(Window {
        level: 1,
        low: 0x20,
        cells: 13,
    }),
    Some(Window {
        level: 3,
        low: 0x20_0100,
        cells: 300,
    }),
    Some(Window {
        level: 6,
        low: 0xfd00_0010_0244,
        cells: 3,
    }),
    Some(Window {
        level: 7,
        low: 0xfd_0000_1002_4400,
        cells: 9,
    }),
    Some(Window {
        level: 8,
        low: 0xfd00_0010_0244_0000,
        cells: 0x200,
    }),
    // The last of all.
    Some(Window {
        level: 8,
        low: u64::MAX - 2,
        cells: 3,
    }),
];

fn in_window(window: Option<Window>) -> Lpm6 {
    let mut lpm = Lpm6 {
        pinned: window,
        ..Lpm6::new()
    };
    lpm.rebuild();
    lpm
}

/// Every way of looking up gives what the scan gives.
fn assert_same(lpm: &mut Lpm6, naive: &Naive, more: &[u128]) {
    let addresses: Vec<u128> = naive
        .borders()
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let expected: Vec<NextHop> = addresses
        .iter()
        .map(|&address| naive.lookup(Ipv6Addr::from_bits(address)))
        .collect();
    for kernel in Kernel::all() {
        lpm.kernel = kernel;
        for (&address, &hop) in addresses.iter().zip(&expected) {
            let address = Ipv6Addr::from_bits(address);
            assert_eq!(
                lpm.lookup(address),
                hop,
                "{address} in {:?}",
                lpm.table.window
            );
        }
        let mut hops = alloc::vec![0xa5a5; addresses.len()];
        lpm.lookup_batch(&addresses, &mut hops);
        assert_eq!(
            hops,
            expected,
            "{} in {:?}",
            kernel.name(),
            lpm.table.window
        );
    }
    // Neighbours go down together.
    let mut sorted: Vec<_> = addresses.into_iter().zip(expected).collect();
    sorted.sort_unstable();
    for few in [2, 3, 7].into_iter().flat_map(|n| sorted.chunks(n)) {
        let (addresses, expected): (Vec<u128>, Vec<NextHop>) = few.iter().copied().unzip();
        let mut hops = alloc::vec![0xa5a5; few.len()];
        lpm.lookup_batch(&addresses, &mut hops);
        assert_eq!(hops, expected, "{addresses:x?} in {:?}", lpm.table.window);
    }
    assert_eq!(lpm.len(), naive.0.len());
    for &(net, hop) in &naive.0 {
        assert_eq!(lpm.get(net), Some(hop));
    }
}

/// Prefixes that nest and touch: few places, every length.
fn net() -> impl Strategy<Value = Ipv6Net> {
    let near = |place: u128| (0_u128..0x400).prop_map(move |n| place + (n << 64));
    let place = prop_oneof![
        4 => near(0xfd00_0010_0244_0000 << 64),
        2 => near(0x2001_0100_0000_0000 << 64),
        2 => (0_u128..0x4_0000).prop_map(|n| (0x2001_0000 << 96) + (n << 90)),
        1 => (0_u128..600).prop_map(|n| (0xfd00_0010_0244_0007 << 64) + n),
        1 => any::<u128>(),
    ];
    let len = prop_oneof![1 => 0_u8..=128, 2 => 0_u8..=24, 4 => 24_u8..=72, 1 => 120_u8..=128];
    (place, len).prop_map(|(address, len)| {
        Ipv6Net::new(Ipv6Addr::from_bits(address), len)
            .unwrap()
            .trunc()
    })
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Ipv6Net, NextHop),
    /// Removes one of the prefixes that are there.
    Remove(prop::sample::Index),
    RemoveAbsent(Ipv6Net),
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

fn apply(lpm: &mut Lpm6, naive: &mut Naive, op: &Op) {
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
        Op::Rebuild => lpm.rebuild(),
    }
}

/// Lines that nothing leads to any more were all given back, and no node is larger than it may be.
fn assert_no_line_is_lost(lpm: &Lpm6) {
    fn used(table: &Table, slot: u32) -> usize {
        if slot & NODE == 0 {
            return 0;
        }
        let mut below: Vec<u32> = (0..256).map(|octet| table.slot(slot, octet)).collect();
        below.dedup();
        let runs = below.len();
        assert!(Form::of(slot) == Form::Wide || runs <= 12);
        let below = below.into_iter().map(|slot| used(table, slot));
        Form::of(slot).lines() + below.sum::<usize>()
    }
    let (table, lines) = (&lpm.table, &lpm.lines);
    let cells = 0..=table.window.cells as usize;
    let used: usize = cells.map(|cell| used(table, table.cell(cell))).sum();
    let free = lines.narrow.len() + lines.wide.len() * Form::Wide.lines();
    let all = lines.fresh - table.window.lines();
    assert_eq!(all - free, used, "in {:?}", table.window);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_window_answers_as_a_scan_does(
        ops in proptest::collection::vec(op(), 1..60),
        more in proptest::collection::vec(any::<u128>(), 70),
    ) {
        for window in WINDOWS {
            let (mut lpm, mut naive) = (in_window(window), Naive::default());
            for op in &ops {
                apply(&mut lpm, &mut naive, op);
                assert_same(&mut lpm, &naive, &[]);
                assert_no_line_is_lost(&lpm);
            }
            assert_same(&mut lpm, &naive, &more);
        }
    }

    /// Removing in any order what was inserted in any order leaves an empty table.
    #[test]
    fn delete_is_the_reverse_of_insert(
        nets in proptest::collection::btree_set(net(), 1..80),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let mut nets: Vec<_> = nets.into_iter().collect();
        for window in WINDOWS {
            let mut lpm = in_window(window);
            for (hop, &net) in nets.iter().enumerate() {
                lpm.insert(net, u16::try_from(hop % 3).unwrap()).unwrap();
            }
            let turn = shuffled.index(nets.len());
            nets.rotate_left(turn);
            for &net in &nets {
                prop_assert!(lpm.remove(net).is_some());
            }
            prop_assert!(lpm.is_empty());
            assert_no_line_is_lost(&lpm);
            assert_same(&mut lpm, &Naive::default(), &nets.iter().map(|n| n.addr().to_bits()).collect::<Vec<_>>());
        }
    }
}

/// 5,000 nodes with a /64 each, and pods with addresses of their own.
fn cluster() -> Vec<(Ipv6Net, NextHop)> {
    let net = |address, len| Ipv6Net::new(Ipv6Addr::from_bits(address), len).unwrap();
    let base = 0xfd00_0010_0244_0000_u128 << 64;
    let nodes = (0..5_000_u16).map(|n| (net(base + (u128::from(n) << 64), 64), n));
    let pods = (2..112_u16).map(|n| (net(base + (7 << 64) + u128::from(n), 128), 5_000 + n));
    nodes.chain(pods).chain([(net(0, 0), 9_999)]).collect()
}

#[test]
fn the_window_follows_a_table_that_grows_and_shrinks() {
    let mut lpm = Lpm6::new();
    for (net, hop) in cluster() {
        lpm.insert(net, hop).unwrap();
    }
    assert_eq!(lpm.table.window.level, 8);
    let (table, trie) = lpm.memory();
    assert!(table + trie <= 100_000, "{table} + {trie} bytes");
    assert_eq!(lpm.lookup("fd00:10:244:7::9".parse().unwrap()), 5_009);
    assert_eq!(lpm.lookup("fd00:10:244:7::1".parse().unwrap()), 7);
    assert_eq!(lpm.lookup("fd00:10:244:1387::1".parse().unwrap()), 0x1387);
    assert_eq!(lpm.lookup("2001:db8::1".parse().unwrap()), 9_999);
    for (net, _) in cluster() {
        assert!(lpm.remove(net).is_some());
    }
    assert!(lpm.is_empty());
    assert!(lpm.memory().0 < 10_000, "{:?} bytes", lpm.memory());
}

/// A prefix that begins and ends in the window lies in it with all its addresses, whatever longer ones it holds.
#[test]
fn a_prefix_that_holds_others_lies_in_the_window_as_a_whole() {
    let net = |text: &str| text.parse().unwrap();
    let block = (net("fd00:10:244:700::/58"), 1);
    let pods = (0..6).map(|n| (net(&format!("fd00:10:244:70{n}::/64")), 2));
    let lpm = Lpm6::from_routes(pods.chain([block])).unwrap();
    let last: Ipv6Addr = "fd00:10:244:73f::1".parse().unwrap();
    assert!(
        lpm.table.window.contains(last.to_bits()),
        "{:?}",
        lpm.table.window
    );
}

/// The window may be the last there is.
#[test]
fn a_window_reaches_to_the_last_address() {
    let net = |n: u128| Ipv6Net::new(Ipv6Addr::from_bits(n << 64), 64).unwrap();
    let last = u128::from(u64::MAX);
    let nets: Vec<_> = (0..6_000).map(|n| net(last - n)).collect();
    let mut lpm = Lpm6::from_routes(nets.iter().map(|&net| (net, 1))).unwrap();
    assert!(
        lpm.table.window.contains(u128::MAX),
        "{:?}",
        lpm.table.window
    );
    // A large table comes to its next window through samples.
    for round in 2..6 {
        for &net in &nets {
            assert_eq!(lpm.insert(net, round), Ok(Some(round - 1)));
        }
    }
    for n in 6_000..20_000 {
        assert_eq!(lpm.insert(net(last - n), 7), Ok(None));
    }
    assert_eq!(lpm.lookup(Ipv6Addr::from_bits(u128::MAX)), 5);
    assert_eq!(lpm.lookup(net(last - 19_999).addr()), 7);
    assert_eq!(lpm.lookup(net(last - 20_000).addr()), NO_ROUTE);
}

/// Nodes become wide and narrow again under updates, and are the same to look-ups.
#[test]
fn nodes_change_their_form_as_prefixes_come_and_go() {
    let net = |octet: u128, len| {
        let address = (0x2001_0db8_u128 << 96) + (octet << 88);
        Ipv6Net::new(Ipv6Addr::from_bits(address), len).unwrap()
    };
    let window = Some(Window {
        level: 3,
        low: 0x20_010d,
        cells: 1,
    });
    let (mut lpm, mut naive) = (in_window(window), Naive::default());
    let mut forms = Vec::new();
    let mut then = |lpm: &mut Lpm6, naive: &Naive| {
        assert_same(lpm, naive, &[]);
        assert_no_line_is_lost(lpm);
        let above = lpm.table.cell(0);
        let node = (above & NODE != 0).then(|| lpm.table.slot(above, 0xb8));
        forms.push(node.filter(|node| node & NODE != 0).map(Form::of));
    };
    // Every other octet, one of them with a longer prefix below, then a shorter one that all others inherit.
    let nets: Vec<_> = (0..20)
        .map(|n| net(2 * n, 40))
        .chain([net(6, 56), net(0, 36), net(0, 28)])
        .collect();
    for (hop, &net) in (0..).zip(&nets) {
        assert_eq!(lpm.insert(net, hop), Ok(naive.insert(net, hop)));
        then(&mut lpm, &naive);
    }
    for &net in nets.iter().rev() {
        assert_eq!(lpm.remove(net), naive.remove(net));
        then(&mut lpm, &naive);
    }
    forms.dedup();
    let (narrow, wide) = (Some(Form::Narrow), Some(Form::Wide));
    assert_eq!(forms, [narrow, wide, narrow, None]);
}

#[test]
fn a_next_hop_beyond_the_largest_is_refused() {
    let mut lpm = Lpm6::new();
    let net: Ipv6Net = "fd00::/8".parse().unwrap();
    assert_eq!(lpm.insert(net, NO_ROUTE), Err(Full));
    assert_eq!(lpm.insert(net, MAX_NEXT_HOP), Ok(None));
    assert_eq!(lpm.lookup(net.addr()), MAX_NEXT_HOP);
}
