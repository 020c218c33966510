use proptest::prelude::*;

use super::look::{NO_HOST, Words};
use super::*;
use crate::martian;
use crate::wire::checksum::Sum;

/// As a look at a frame, and every table of routes, judge it.
fn is_host(address: u32) -> bool {
    NO_HOST[(address >> 24) as usize] == 0 && address != u32::MAX
}

proptest! {
    /// What is written for speed says what the stages say.
    #[test]
    fn the_branchless_checks_are_those_of_the_stages(
        address in prop_oneof![any::<u32>(), (0_u32..=255).prop_map(|a| a << 24), Just(u32::MAX), Just(u32::MAX - 1)],
        // Many bytes of ones, so that carries meet carries.
        headers in proptest::collection::vec(prop_oneof![2 => Just(0xff), 1 => Just(0), 2 => any::<u8>()], HEADERS),
        right in any::<bool>(),
    ) {
        prop_assert_eq!(is_host(address), martian::is_host(Ipv4Addr::from_bits(address)));

        let mut all: [u8; HEADERS] = headers.try_into().unwrap();
        if right {
            all[24..26].fill(0);
            let sum = Sum::new().add_bytes(&all[14..]).finish();
            all[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        // No other packet is looked at.
        prop_assume!(all[14..] != [0; 20]);
        prop_assert_eq!(Words::of(&all).verify(), Sum::new().add_bytes(&all[14..]).verifies());
        prop_assert!(!right || Words::of(&all).verify());
    }
}

#[test]
fn every_first_octet_is_judged_alike() {
    for octet in 0..=255_u8 {
        let address = Ipv4Addr::new(octet, 255, 255, 255);
        assert_eq!(
            is_host(address.to_bits()),
            martian::is_host(address),
            "{address}"
        );
    }
}

#[test]
fn a_filter_has_what_was_put_in() {
    let mut filter = Filter::default();
    assert!((0..10_000).all(|a| !filter.may_have(a)));
    for n in 0..300_u32 {
        filter.insert(Ipv4Addr::from_bits(n * 65_537));
    }
    assert!((0..300).all(|n| filter.may_have(n * 65_537)));
}
