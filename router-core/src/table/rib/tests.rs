//! The trie, asked by hand. Against a scan it is compared by the tables that stand on it.

use alloc::vec::Vec;

use super::*;

fn prefix(text: &str) -> Prefix<u32> {
    let net: ipnet::Ipv4Net = text.parse().unwrap();
    Prefix::new(net.network().into(), net.prefix_len())
}

#[test]
fn parent_is_the_longest_shorter_cover() {
    let mut rib = Rib::default();
    let nets = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "10.1.3.4/32",
    ];
    for (hop, net) in nets.iter().enumerate() {
        rib.insert(prefix(net), u16::try_from(hop).unwrap());
    }
    assert_eq!(rib.parent(prefix("10.1.2.128/25")), Some(3));
    assert_eq!(rib.parent(prefix("10.1.2.0/24")), Some(2));
    assert_eq!(rib.parent(prefix("10.1.4.0/24")), Some(2));
    assert_eq!(rib.parent(prefix("10.2.0.0/16")), Some(1));
    assert_eq!(rib.parent(prefix("11.0.0.0/8")), Some(0));
    assert_eq!(rib.parent(prefix("0.0.0.0/0")), None);
}

#[test]
fn gaps_are_what_longer_prefixes_leave() {
    let mut rib = Rib::default();
    for net in [
        "0.0.0.0/0",
        "0.0.0.0/8",
        "0.0.0.0/16",
        "9.0.0.0/8",
        "255.255.255.255/32",
    ] {
        rib.insert(prefix(net), 0);
    }
    let mut seen = Vec::new();
    rib.gaps(prefix("0.0.0.0/0"), LEVELS, |from, to| {
        seen.push((from, to));
        Ok::<(), ()>(())
    })
    .unwrap();
    assert_eq!(
        seen,
        [(0x0100_0000, 0x08ff_ffff), (0x0a00_0000, 0xffff_fffe)]
    );
}

#[test]
fn prefixes_come_by_address_then_length() {
    let mut rib = Rib::default();
    let sorted = [
        "0.0.0.0/0",
        "0.0.0.0/1",
        "0.0.0.0/32",
        "10.0.0.0/8",
        "10.0.0.0/9",
        "10.0.0.0/24",
        "10.0.0.4/30",
        "10.0.0.5/32",
        "10.64.0.0/10",
        "255.255.255.255/32",
    ];
    for net in sorted.iter().rev() {
        rib.insert(prefix(net), 3);
    }
    let seen: Vec<_> = rib.iter().map(|(prefix, _)| prefix).collect();
    assert_eq!(seen, sorted.map(prefix));
}

/// Whether the prefix is still there or not.
#[test]
fn what_comes_after_a_prefix_is_the_rest() {
    let sorted = [
        "0.0.0.0/0",
        "0.0.0.0/1",
        "0.0.0.0/32",
        "9.255.255.0/24",
        "10.0.0.0/8",
        "10.0.0.0/9",
        "10.0.0.0/24",
        "10.0.0.0/26",
        "10.0.0.4/30",
        "10.0.0.5/32",
        "10.64.0.0/10",
        "255.255.255.255/32",
    ]
    .map(prefix);
    let mut rib = Rib::default();
    for &prefix in &sorted {
        rib.insert(prefix, 3);
    }
    let after =
        |rib: &Rib<u32>, last| -> Vec<_> { rib.iter_after(Some(last)).map(|(p, _)| p).collect() };
    for (nth, &last) in sorted.iter().enumerate() {
        assert_eq!(after(&rib, last), sorted[nth + 1..]);
        rib.remove(last);
        assert_eq!(after(&rib, last), sorted[nth + 1..]);
        rib.insert(last, 3);
    }
    assert_eq!(after(&rib, prefix("10.0.0.0/25")), sorted[7..]);
    assert_eq!(after(&rib, prefix("11.2.3.4/32")), sorted[11..]);
}

#[test]
fn a_removed_prefix_leaves_no_node() {
    let mut rib = Rib::default();
    rib.insert(prefix("10.1.2.3/32"), 3);
    assert_eq!(rib.free.len(), 0);
    assert_eq!(rib.remove(prefix("10.1.2.2/31")), None);
    assert_eq!(rib.remove(prefix("10.1.2.3/32")), Some(3));
    assert_eq!(rib.free.len(), 3);
    assert_eq!(rib.len(), 0);
}
