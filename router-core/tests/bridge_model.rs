//! A bridge and its node against a slow one that scans lists: any history of frames, time, plugging and unplugging.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use router_core::config::{PortConfig, Snapshot};
use router_core::testing::bridged::*;
use router_core::testing::*;
use router_core::{DropReason, Instant, Limits, Mac, PortId};

const LIMIT: u16 = 4;

/// What one frame should lead to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fate {
    ports: Vec<PortId>,
    node: bool,
}

/// IEEE 802.1D by the letter, with Linux's hairpin.
struct SlowBridge {
    snapshot: Snapshot,
    stations: Vec<(Mac, PortId, Instant)>,
}

impl SlowBridge {
    fn port(&self, id: PortId) -> &PortConfig {
        let found = self.snapshot.ports.iter().find(|p| p.id == id);
        found.expect("no port of the test is ever deleted")
    }

    fn alive(&self, id: PortId) -> bool {
        let p = self.port(id);
        p.up && p.carrier && p.bridge.is_some() && self.port(BRIDGE).up
    }

    fn own(&self, mac: Mac) -> bool {
        self.snapshot
            .ports
            .iter()
            .any(|p| p.mac == mac && (p.id == BRIDGE || p.bridge.is_some()))
    }

    fn apply(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        let kept: Vec<_> = self
            .stations
            .iter()
            .copied()
            .filter(|&(mac, port, _)| self.alive(port) && !self.own(mac))
            .collect();
        self.stations = kept;
    }

    fn frame(&mut self, now: Instant, from: PortId, bytes: &[u8]) -> Fate {
        let mac = |at: usize| Mac(core::array::from_fn(|n| bytes[at + n]));
        let (dst, src) = (mac(0), mac(6));
        let nowhere = Fate::default();
        if !self.alive(from) || src.0[0] & 1 == 1 || src == Mac::ZERO {
            return nowhere;
        }
        // PAUSE is the link's own affair: it teaches nothing (as Linux).
        let pause = dst.0 == [0x01, 0x80, 0xc2, 0, 0, 1];
        if !self.own(src) && !pause {
            let known = self.stations.iter().any(|s| s.0 == src);
            self.stations.retain(|s| s.0 != src);
            if !known && self.stations.len() == usize::from(LIMIT) {
                self.stations.remove(0);
            }
            self.stations.push((src, from, now));
        }
        let reserved = dst.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && (1..=15).contains(&dst.0[5]);
        if reserved {
            return nowhere;
        }
        if self.own(dst) {
            return Fate {
                ports: vec![],
                node: true,
            };
        }
        let known = self
            .stations
            .iter()
            .find(|s| s.0 == dst && now.since(s.2) < Duration::from_secs(300))
            .map(|s| s.1);
        let ports = PORTS
            .into_iter()
            .filter(|&p| self.alive(p))
            .filter(|&p| known.is_none_or(|known| known == p))
            .filter(|&p| p != from || self.port(p).bridge.is_some_and(|m| m.hairpin))
            .filter(|&p| bytes.len() - 14 <= usize::from(self.port(p).mtu))
            .collect();
        Fate {
            ports,
            node: dst.0[0] & 1 == 1,
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Frame {
        port: usize,
        dst: usize,
        src: usize,
        len: usize,
    },
    Pass(u64),
    Change {
        port: usize,
        up: bool,
        carrier: bool,
        hairpin: bool,
        mtu: u16,
        plugged: bool,
    },
    Bridge {
        up: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..3_usize, 0..14_usize, 0..14_usize, 0..200_usize)
            .prop_map(|(port, dst, src, len)| Op::Frame { port, dst, src, len }),
        2 => (0..301_u64).prop_map(Op::Pass),
        2 => (0..3_usize, prop::bool::weighted(0.8), prop::bool::weighted(0.8), any::<bool>(), 68..300_u16, prop::bool::weighted(0.8))
            .prop_map(|(port, up, carrier, hairpin, mtu, plugged)| Op::Change { port, up, carrier, hairpin, mtu, plugged }),
        1 => prop::bool::weighted(0.8).prop_map(|up| Op::Bridge { up }),
    ]
}

fn mac(n: usize) -> Mac {
    match n {
        0 => Mac::BROADCAST,
        1 => Mac([0x01, 0x80, 0xc2, 0, 0, 0]),
        2 => Mac([0x01, 0x80, 0xc2, 0, 0, 1]),
        3 => Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]),
        4 => BRIDGE_MAC,
        5 => PORT_MACS[0],
        6 => Mac::ZERO,
        n => Mac([2, 0, 0, 0, 0, u8::try_from(n).unwrap_or(u8::MAX)]),
    }
}

/// Reasons for which the node itself drops a frame with an EtherType that it does not know.
const BY_NODE: [DropReason; 2] = [DropReason::UnknownEtherType, DropReason::OtherHost];

proptest! {
    /// BR-1 to BR-6, BR-8 to BR-11: who gets a frame is what a bridge that scans lists says, and frames are conserved.
    #[test]
    fn every_frame_goes_where_a_slow_bridge_sends_it(ops in proptest::collection::vec(op(), 1..120)) {
        let limits = Limits { fdb: LIMIT, ..Limits::default() };
        let mut h = Harness::with_limits(bridged_node(), limits, 16);
        let mut slow = SlowBridge { snapshot: bridged_node(), stations: Vec::new() };
        let node_drops = |h: &Harness| -> u64 {
            BY_NODE.iter().map(|&r| h.router().stats().drops.get(r)).sum()
        };
        for op in ops {
            match op {
                Op::Frame { port, dst, src, len } => {
                    let bytes = [&mac(dst).0[..], &mac(src).0, &[0x88, 0xb5], &vec![7; len]].concat();
                    let before = node_drops(&h);
                    let expected = slow.frame(h.now(), PORTS[port], &bytes);
                    h.rx_bytes(&[(PORTS[port], bytes.clone())]);
                    let sent = h.take_all();
                    prop_assert!(sent.iter().all(|(_, b)| *b == bytes));
                    let mut ports: Vec<PortId> = sent.into_iter().map(|(p, _)| p).collect();
                    ports.sort_unstable();
                    let routed = slow.port(PORTS[port]).bridge.is_none();
                    let node = node_drops(&h) > before && !routed;
                    prop_assert_eq!(Fate { ports, node }, expected);
                    h.check();
                }
                Op::Pass(seconds) => h.advance(Duration::from_secs(seconds)),
                Op::Change { port, up, carrier, hairpin, mtu, plugged } => {
                    let mut snapshot = slow.snapshot.clone();
                    let fresh = bridged_node();
                    let fresh = fresh.ports.iter().find(|p| p.id == PORTS[port]).unwrap();
                    for p in snapshot.ports.iter_mut().filter(|p| p.id == PORTS[port]) {
                        *p = PortConfig { up, carrier, mtu, ..fresh.clone() };
                        if plugged {
                            p.bridge.as_mut().unwrap().hairpin = hairpin;
                        } else {
                            p.bridge = None;
                        }
                    }
                    slow.apply(snapshot.clone());
                    h.apply(snapshot);
                }
                Op::Bridge { up } => {
                    let mut snapshot = slow.snapshot.clone();
                    for p in snapshot.ports.iter_mut().filter(|p| p.id == BRIDGE) {
                        p.up = up;
                    }
                    slow.apply(snapshot.clone());
                    h.apply(snapshot);
                }
            }
            let known: BTreeMap<Mac, PortId> = h
                .router()
                .fdb(h.now())
                .filter_map(|e| Some((e.mac, e.port?)))
                .collect();
            let expected: BTreeMap<Mac, PortId> = slow
                .stations
                .iter()
                .filter(|s| h.now().since(s.2) < Duration::from_secs(300))
                .map(|s| (s.0, s.1))
                .collect();
            prop_assert_eq!(known, expected);
        }
    }
}
