//! The forwarding database against a list that is searched from end to end.

use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::fdb::{AGEING, Fdb, Learned, Place};
use crate::addr::Mac;
use crate::config::PortId;
use crate::time::Instant;

/// Newest last.
#[derive(Default)]
struct Slow {
    own: Vec<Mac>,
    learned: Vec<(Mac, PortId, Instant)>,
}

impl Slow {
    fn lookup(&self, now: Instant, mac: Mac) -> Option<Place> {
        if self.own.contains(&mac) {
            return Some(Place::Own);
        }
        let &(_, port, seen) = self.learned.iter().find(|e| e.0 == mac)?;
        (now.since(seen) < AGEING).then_some(Place::Port(port))
    }

    fn learn(&mut self, now: Instant, mac: Mac, port: PortId, limit: usize) -> Learned {
        let before = self.lookup(now, mac);
        if before == Some(Place::Own) {
            return Learned::Own;
        }
        let had = self.learned.len();
        self.learned.retain(|e| e.0 != mac);
        let mut evicted = false;
        if self.learned.len() == had && had == limit {
            let (_, _, seen) = self.learned.remove(0);
            evicted = now.since(seen) < AGEING;
        }
        self.learned.push((mac, port, now));
        match before {
            None => Learned::New { evicted },
            Some(place) if place == Place::Port(port) => Learned::Refreshed,
            Some(_) => Learned::Moved,
        }
    }

    fn configure(&mut self, own: Vec<Mac>, ports: u8) {
        self.learned
            .retain(|e| e.1.0 < u16::from(ports) && !own.contains(&e.0));
        self.own = own;
    }
}

#[derive(Clone, Debug)]
enum Op {
    Frame { from: u8, port: u8 },
    Pass { seconds: u16 },
    Configure { own: Vec<u8>, ports: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..24_u8, 0..4_u8).prop_map(|(from, port)| Op::Frame { from, port }),
        2 => (0..400_u16).prop_map(|seconds| Op::Pass { seconds }),
        1 => (proptest::collection::vec(0..24_u8, 0..3), 0..5_u8)
            .prop_map(|(own, ports)| Op::Configure { own, ports }),
    ]
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

proptest! {
    /// BR-1, BR-5, BR-10, BR-11: any history of frames, time and changes leaves what a list with the same limit has.
    #[test]
    fn any_history_finds_what_a_list_finds(
        limit in 1..8_u16,
        seed: u64,
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        let mut now = Instant::ZERO;
        let mut fdb = Fdb::new(limit, seed);
        let mut slow = Slow::default();
        for op in ops {
            match op {
                Op::Frame { from, port } => {
                    let port = PortId(port.into());
                    let expected = slow.learn(now, mac(from), port, limit.into());
                    prop_assert_eq!(fdb.learn(now, mac(from), port), expected);
                }
                Op::Pass { seconds } => now = now + Duration::from_secs(seconds.into()),
                Op::Configure { own, ports } => {
                    let own: Vec<Mac> = own.into_iter().map(mac).collect();
                    slow.configure(own.clone(), ports);
                    fdb.configure(own, |port| port.0 < u16::from(ports));
                }
            }
            for n in 0..24 {
                prop_assert_eq!(fdb.lookup(now, mac(n)), slow.lookup(now, mac(n)));
            }
            let listed: Vec<_> = fdb
                .iter(now)
                .filter(|(_, place, _)| *place != Place::Own)
                .collect();
            let expected: Vec<_> = slow
                .learned
                .iter()
                .rev()
                .map(|&(mac, port, seen)| (mac, Place::Port(port), now.since(seen)))
                .filter(|&(_, _, age)| age < AGEING)
                .collect();
            prop_assert_eq!(listed, expected);
        }
    }
}
