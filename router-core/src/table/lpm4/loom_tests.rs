//! The table under every interleaving of a writer and a reader that loom can think of.
//!
//! Groups resolve one bit here and wait for readers one by one, so that a few updates make one go through all of its life:
//! linked, taken out, used again for other addresses.
//!
//! Run with `.ci/run loom`.

use super::*;

/// 10.0.0.0/29: two cells of four addresses.
const WINDOW: Window = Window {
    shift: 2,
    low: 0x0a00_0000 >> 2,
    cells: 2,
};

fn net(last_octet: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, 0, 0, last_octet), len).unwrap()
}

fn table(routes: &[(Ipv4Net, NextHop)]) -> Lpm4 {
    let mut lpm = Lpm4 {
        pinned: Some(WINDOW),
        ..Lpm4::new()
    };
    for &(net, hop) in routes {
        lpm.rib.insert(prefix(net), hop);
    }
    lpm.rebuild().unwrap();
    lpm
}

/// A reader sees an update as a whole or not at all, never goes back, and never ends up in a group that serves other
/// addresses by now.
#[test]
fn loom_readers_get_old_or_new_answers() {
    loom::model(|| {
        let mut lpm = table(&[(net(0, 30), 1), (net(1, 32), 2), (net(4, 30), 5)]);
        let mut reader = lpm.reader();
        let reading = loom::thread::spawn(move || {
            let mut hops = [0; 2];
            reader.lookup_batch(&[0x0a00_0001, 0x0a00_0003], &mut hops);
            assert!(hops[0] == 2 || hops[0] == 1, "{hops:?}");
            assert_eq!(hops[1], 1);
            // It never goes back.
            let hop = reader.lookup(Ipv4Addr::new(10, 0, 0, 1));
            assert!(hop == 2 && hops[0] == 2 || hop == 1, "{hop} after {hops:?}");
        });
        // Frees the groups that lead to .1, and takes them for .6 if nobody can be there.
        lpm.remove(net(1, 32));
        lpm.insert(net(6, 32), 7).unwrap();
        reading.join().unwrap();
        assert_eq!(lpm.lookup(Ipv4Addr::new(10, 0, 0, 6)), 7);
    });
}

/// A reader that rested finds no group that was used again meanwhile, and one that sleeps holds up nothing.
#[test]
fn loom_a_reader_may_rest() {
    loom::model(|| {
        let mut lpm = table(&[(net(0, 30), 1), (net(1, 32), 2), (net(4, 30), 5)]);
        let mut reader = lpm.reader();
        let reading = loom::thread::spawn(move || {
            reader.rest();
            let hop = reader.lookup(Ipv4Addr::new(10, 0, 0, 1));
            assert!(hop == 2 || hop == 1, "{hop}");
        });
        lpm.remove(net(1, 32));
        lpm.insert(net(6, 32), 7).unwrap();
        reading.join().unwrap();
    });
}

/// A table that was built anew reaches a reader, whole.
#[test]
fn loom_readers_come_to_a_new_table() {
    loom::model(|| {
        let mut lpm = table(&[(net(0, 30), 1)]);
        let mut reader = lpm.reader();
        let reading = loom::thread::spawn(move || {
            let mut last = 1;
            for _ in 0..2 {
                let hop = reader.lookup(Ipv4Addr::new(10, 0, 0, 1));
                assert!(hop == last || hop == 2, "{hop} after {last}");
                last = hop;
            }
            reader
        });
        lpm.pinned = Some(Window { cells: 1, ..WINDOW });
        lpm.rebuild().unwrap();
        lpm.insert(net(1, 32), 2).unwrap();
        let mut reader = reading.join().unwrap();
        assert_eq!(reader.lookup(Ipv4Addr::new(10, 0, 0, 1)), 2);
    });
}
