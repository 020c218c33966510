//! What the most laborious update of a large table does.

use super::*;
use crate::table::work::most;

/// Prefixes of a table that is too large to be gone through at once, in a place of the address space.
fn many(place: u32) -> impl Iterator<Item = Ipv4Net> + Clone {
    (0..20_000_u32).map(move |n| {
        let address = place + ((n * 7 % 20_000) << 6);
        Ipv4Net::new(Ipv4Addr::from_bits(address), 26).unwrap()
    })
}

/// A large table never keeps an update waiting until all its prefixes were gone through, whichever way it changes: updates at
/// random, prefixes that go for others elsewhere, fewer and fewer, more and more. Its form follows all the same.
#[test]
fn no_update_goes_through_all_prefixes() {
    let (old, new) = (0x0af4_0000, 0xac10_0000);
    let mut lpm = Lpm4::from_routes(many(old).map(|net| (net, 1))).unwrap();
    let mut reader = lpm.reader();
    let first = lpm.table.window();
    let mut again = |lpm: &mut Lpm4, place| {
        most(many(place).cycle().step_by(3).take(60_000).map(|net| {
            lpm.remove(net).unwrap();
            lpm.insert(net, 2).unwrap();
            assert_eq!(reader.lookup(net.addr()), 2);
        }))
    };
    let at_random = again(&mut lpm, old);
    assert_eq!(lpm.table.window(), first);
    let moved = most(many(old).zip(many(new)).map(|(from, to)| {
        lpm.remove(from).unwrap();
        lpm.insert(to, 3).unwrap();
        assert_eq!(lpm.lookup(to.addr()), 3);
        assert_eq!(lpm.lookup(from.addr()), NO_ROUTE);
    }));
    let elsewhere = again(&mut lpm, new);
    let window = lpm.table.window();
    for net in many(new) {
        let address = u64::from(net.addr().to_bits());
        assert!(
            (window.first()..window.end()).contains(&address),
            "{window:?}"
        );
    }
    let more = most(many(old).map(|net| {
        lpm.insert(net, 4).unwrap();
    }));
    let fewer = most(many(old).chain(many(new)).map(|net| {
        lpm.remove(net).unwrap();
    }));
    for work in [at_random, moved, elsewhere, more, fewer] {
        // A stretch, or all prefixes of a table that has become small: to choose, to count groups, to build.
        assert!(work.prefixes <= 4 * 4_096, "{work:?}");
        // A copy with more room: outside of a window each /24 here is a group.
        assert!(work.cells <= 2_000_000, "{work:?}");
    }
    assert_eq!((at_random.prefixes, elsewhere.prefixes), (256, 256));
    assert!(lpm.memory().0 < 100_000, "{:?} bytes", lpm.memory());
}

/// The large form comes and goes with the number of prefixes. No update goes through them all; one makes it, empty.
#[test]
fn the_large_form_comes_and_goes_bit_by_bit() {
    let net = |n: u32| Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0000 + (n << 8)), 24).unwrap();
    let hop = |n: u32| u16::try_from(n % 1_000).unwrap();
    let mut lpm = Lpm4::from_routes((0..50_000).map(|n| (net(n), hop(n)))).unwrap();
    assert_ne!(lpm.table.window(), Window::DIR_24);
    let more = most((50_000..120_000).map(|n| {
        lpm.insert(net(n), hop(n)).unwrap();
    }));
    assert_eq!(lpm.table.window(), Window::DIR_24);
    assert!((0..120_000).all(|n| lpm.lookup(net(n).addr()) == hop(n)));
    let fewer = most((0..90_000).map(|n| {
        lpm.remove(net(n)).unwrap();
    }));
    assert_ne!(lpm.table.window(), Window::DIR_24);
    assert!((0..90_000).all(|n| lpm.lookup(net(n).addr()) == NO_ROUTE));
    assert!((90_000..120_000).all(|n| lpm.lookup(net(n).addr()) == hop(n)));
    assert_eq!((more.prefixes, fewer.prefixes), (256, 256));
    assert!(fewer.cells <= 1_000_000, "{fewer:?}");
}
