//! What the most laborious update of a large table does.

use alloc::vec::Vec;

use super::*;
use crate::table::work::{all, most};

/// Prefixes of a table that is too large to be gone through at once, in a place of the address space.
fn many(place: u128) -> impl Iterator<Item = Ipv6Net> + Clone {
    (0..20_000_u128).map(move |n| {
        let address = (place << 96) + ((n * 7 % 20_000) << 76);
        Ipv6Net::new(Ipv6Addr::from_bits(address), 52).unwrap()
    })
}

/// A large table never keeps an update waiting until all its prefixes were gone through, whichever way it changes: updates at
/// random, prefixes that go for others elsewhere, fewer and fewer, more and more. Its window follows all the same.
#[test]
fn no_update_goes_through_all_prefixes() {
    let (old, new) = (0x2001_0db8, 0xfd00_0010);
    let mut lpm = Lpm6::from_routes(many(old).map(|net| (net, 1))).unwrap();
    let mut reader = lpm.reader();
    let first = lpm.table.window;
    let mut again = |lpm: &mut Lpm6, place| {
        most(many(place).cycle().step_by(3).take(60_000).map(|net| {
            lpm.remove(net).unwrap();
            lpm.insert(net, 2).unwrap();
            assert_eq!(reader.lookup(net.addr()), 2);
        }))
    };
    let at_random = again(&mut lpm, old);
    assert_eq!(lpm.table.window, first);
    let moved = most(many(old).zip(many(new)).map(|(from, to)| {
        lpm.remove(from).unwrap();
        lpm.insert(to, 3).unwrap();
        assert_eq!(lpm.lookup(to.addr()), 3);
        assert_eq!(lpm.lookup(from.addr()), NO_ROUTE);
    }));
    let elsewhere = again(&mut lpm, new);
    for net in many(new) {
        assert!(
            lpm.table.window.contains(net.addr().to_bits()),
            "{:?}",
            lpm.table.window
        );
    }
    let more = most(many(old).map(|net| {
        lpm.insert(net, 4).unwrap();
    }));
    let fewer = most(many(old).chain(many(new)).map(|net| {
        lpm.remove(net).unwrap();
    }));
    for work in [at_random, moved, elsewhere, more, fewer] {
        // A stretch, or all prefixes of a table that has become small: once to choose, once to build.
        assert!(work.prefixes <= 3 * 4_096, "{work:?}");
        // A copy with more room.
        assert!(work.cells <= 20 * 40_000, "{work:?}");
    }
    assert_eq!((at_random.prefixes, elsewhere.prefixes), (256, 256));
    assert!(lpm.memory().0 < 100_000, "{:?} bytes", lpm.memory());
}

/// A table that grows from nothing in the order of its addresses, which always leaves its window behind, does not spend its time
/// with new windows: a prefix is looked at and filled in again a few times, in all.
#[test]
fn growing_goes_through_each_prefix_a_few_times() {
    let mut nets: Vec<_> = (0..6).flat_map(|n| many(0x2001_0000 + n)).collect();
    nets.sort();
    let mut lpm = Lpm6::new();
    let all = all(nets
        .iter()
        .map(|&net| assert_eq!(lpm.insert(net, 1), Ok(None))))
    .prefixes;
    assert!(nets.iter().all(|net| lpm.lookup(net.addr()) == 1));
    assert!(all < 4 * nets.len(), "{all} for {}", nets.len());
}
