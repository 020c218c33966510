//! The table under the interleavings of a writer and a reader: what is its own beside the protocol that it shares with IPv4
//! (`table/shared`, which has models of its own): narrow nodes that are replaced, and cells that change in place.
//!
//! Run as the models of [`lpm4`](super::super::lpm4) are.

use super::*;

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn table(routes: &[(&str, NextHop)]) -> Lpm6 {
    let mut lpm = Lpm6 {
        pinned: Some(Window::NONE),
        ..Lpm6::new()
    };
    for &(text, hop) in routes {
        lpm.rib.insert(prefix(net(text)), hop);
    }
    lpm.rebuild();
    lpm
}

/// A prefix goes with its node, and another one comes, for which that node may be taken: a reader gets the old answer or
/// the new one, and never what is another prefix's.
#[test]
fn loom_a_node_is_replaced() {
    loom::model(|| {
        let mut lpm = table(&[("2000::/8", 1), ("2001::/16", 2)]);
        let mut reader = lpm.reader();
        let reading = loom::thread::spawn(move || {
            let hop = reader.lookup("2001::1".parse().unwrap());
            assert!(hop == 2 || hop == 1, "{hop}");
        });
        lpm.remove(net("2001::/16"));
        lpm.insert(net("3001::/16"), 7).unwrap();
        reading.join().unwrap();
        assert_eq!(lpm.lookup("3001::1".parse().unwrap()), 7);
    });
}

/// What nodes below inherit changes by one store in each.
#[test]
fn loom_a_shorter_prefix_changes_under_a_longer_one() {
    loom::model(|| {
        let mut lpm = table(&[("2000::/8", 1), ("2001::/16", 2)]);
        let mut reader = lpm.reader();
        let reading = loom::thread::spawn(move || {
            let mut hops = [0; 2];
            let addresses = ["2001::1", "2002::1"].map(|text| {
                let address: Ipv6Addr = text.parse().unwrap();
                address.to_bits()
            });
            reader.lookup_batch(&addresses, &mut hops);
            assert_eq!(hops[0], 2);
            assert!(hops[1] == 1 || hops[1] == 3, "{hops:?}");
        });
        lpm.insert(net("2000::/8"), 3).unwrap();
        reading.join().unwrap();
        assert_eq!(lpm.lookup("2002::1".parse().unwrap()), 3);
    });
}
