//! Threads look up in the routing tables while one thread updates them: each answer is the old or the new one.
//!
//! Run under the thread sanitizer as CONTRIBUTING says. The interleavings themselves are loom's to find
//! (`table/lpm4/loom_tests.rs`); here real processors and the large forms take part.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ipnet::{Ipv4Net, Ipv6Net};
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;
use router_core::table::{NO_ROUTE, NextHop};

/// Prefixes that come and go. Each has next hops of its own, so that a wrong way shows.
const PLACES: u16 = 64;
const ROUNDS: u16 = 40;
/// Next hop of what covers all of them and stays.
const COVER: NextHop = 0;
const READERS: usize = 3;

/// Next hop of a place in a round: rises with the rounds.
fn hop(place: u16, round: u16) -> NextHop {
    1 + place * ROUNDS + round
}

/// What a reader may see at a place after it saw `last`.
#[track_caller]
fn assert_follows(place: u16, last: &mut NextHop, seen: NextHop) {
    let own = hop(place, 0)..hop(place, ROUNDS);
    assert!(
        seen == COVER || own.contains(&seen),
        "{seen} at place {place}"
    );
    if seen != COVER {
        assert!(seen >= *last, "{seen} after {last} at place {place}");
        *last = seen;
    }
}

/// Lets `READERS` threads look while `write` runs. `look` checks one look at all places against what it saw before.
fn side_by_side<R: Send>(
    readers: Vec<R>,
    look: impl Fn(&mut R, &mut [NextHop]) + Sync,
    write: impl FnOnce(&AtomicU64),
) {
    let (done, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for mut reader in readers {
            let (done, looks, look) = (&done, &looks, &look);
            scope.spawn(move || {
                let mut last = vec![COVER; usize::from(PLACES)];
                while !done.load(Ordering::Acquire) {
                    look(&mut reader, &mut last);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        write(&looks);
        done.store(true, Ordering::Release);
    });
}

/// Where something comes and goes: hosts in /24s of their own, so that groups are taken, given back and used again.
fn host4(place: u16) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::from(0x0af4_0003 + (u32::from(place) << 8)), 32)
        .expect("a length up to 32")
}

fn updates4(mut lpm: Lpm4, outside: Ipv4Addr) {
    lpm.insert("10.0.0.0/8".parse().expect("a prefix"), COVER)
        .expect("it fits");
    let stays = lpm.lookup(outside);
    let readers = (0..READERS).map(|_| lpm.reader()).collect();
    let look = |reader: &mut router_core::table::lpm4::Lpm4Reader, last: &mut [NextHop]| {
        let mut addresses: Vec<u32> = (0..PLACES).map(|n| host4(n).addr().to_bits()).collect();
        // A neighbour of each, in the same group while there is one, and one that nobody touches.
        addresses.extend((0..PLACES).map(|n| host4(n).addr().to_bits() + 1));
        addresses.push(outside.to_bits());
        let mut hops = vec![NO_ROUTE; addresses.len()];
        reader.lookup_batch(&addresses, &mut hops);
        let (own, others) = hops.split_at(usize::from(PLACES));
        for (place, (last, &seen)) in (0..).zip(last.iter_mut().zip(own)) {
            assert_follows(place, last, seen);
        }
        assert!(
            others[..usize::from(PLACES)]
                .iter()
                .all(|&hop| hop == COVER)
        );
        assert_eq!(others.last(), Some(&stays));
        assert_eq!(reader.lookup(outside), stays);
    };
    side_by_side(readers, look, |looks| {
        for round in 0..ROUNDS {
            // Everybody gets a chance to be in the middle of it, on however few processors.
            let before = looks.load(Ordering::Relaxed);
            while looks.load(Ordering::Relaxed) == before {
                std::thread::yield_now();
            }
            for place in 0..PLACES {
                lpm.insert(host4(place), hop(place, round))
                    .expect("it fits");
            }
            for place in (0..PLACES).rev() {
                assert_eq!(lpm.remove(host4(place)), Some(hop(place, round)));
            }
        }
    });
}

#[test]
fn readers_of_a_small_table_get_old_or_new_answers() {
    let far = "192.0.2.0/24".parse().unwrap();
    let lpm = Lpm4::from_routes([(far, 7)]).unwrap();
    updates4(lpm, Ipv4Addr::new(192, 0, 2, 1));
}

#[test]
fn readers_of_a_large_table_get_old_or_new_answers() {
    let net = |n: u32| Ipv4Net::new(Ipv4Addr::from(0x4000_0000 + (n << 8)), 24).unwrap();
    let lpm = Lpm4::from_routes((0..70_000).map(|n| (net(n), 9))).unwrap();
    updates4(lpm, net(69_999).addr());
}

/// /48 of their own, with and without more of them around, so that nodes are replaced at all depths.
fn net6(place: u16) -> Ipv6Net {
    let place = u128::from(place);
    let address = (0x2001_0db8 << 96) + ((place * 37 % 256) << 88) + ((place % 3) << 80);
    Ipv6Net::new(Ipv6Addr::from(address), 48).expect("a length up to 128")
}

#[test]
fn readers_of_an_ipv6_table_get_old_or_new_answers() {
    let net = |n: u128| Ipv6Net::new(Ipv6Addr::from((0x2a00_0000 + n) << 96), 32).unwrap();
    let mut lpm = Lpm6::from_routes((0..2_000).map(|n| (net(n), 9))).unwrap();
    lpm.insert("2001:db8::/32".parse().unwrap(), COVER).unwrap();
    let readers = (0..READERS).map(|_| lpm.reader()).collect();
    let look = |reader: &mut router_core::table::lpm6::Lpm6Reader, last: &mut [NextHop]| {
        let mut addresses: Vec<u128> = (0..PLACES).map(|n| net6(n).addr().to_bits() + 5).collect();
        addresses.push(net(1_234).addr().to_bits());
        let mut hops = vec![NO_ROUTE; addresses.len()];
        reader.lookup_batch(&addresses, &mut hops);
        let (&stays, own) = hops.split_last().unwrap();
        for (place, (last, &seen)) in (0..).zip(last.iter_mut().zip(own)) {
            assert_follows(place, last, seen);
        }
        assert_eq!(stays, 9);
        assert_eq!(reader.lookup(net(7).addr()), 9);
    };
    side_by_side(readers, look, |looks| {
        for round in 0..ROUNDS {
            let before = looks.load(Ordering::Relaxed);
            while looks.load(Ordering::Relaxed) == before {
                std::thread::yield_now();
            }
            for place in 0..PLACES {
                lpm.insert(net6(place), hop(place, round)).unwrap();
            }
            for place in (0..PLACES).rev() {
                assert_eq!(lpm.remove(net6(place)), Some(hop(place, round)));
            }
        }
    });
}
