//! The neighbour table against a slow one written from Linux's state diagram (`Documentation/networking/neighbour.rst`,
//! RFC 4861 7.3 with ARP): any history of packets, ARP, time, and commands of the control plane.
//!
//! The oracle keeps a list, knows no hash and no deadline queue, and moves time a millisecond at a time. It says what the
//! router sends (packets, questions, probes, answers), what it drops and why, and which entries it shows. What is
//! random in Linux is an interval here: REACHABLE ends between 15 and 45 s. ICMP errors have tests of their own.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::VecDeque;

use proptest::prelude::*;
use router_core::config::{PermanentNeighbour, Snapshot};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Limits, Mac, NeighbourState, PortId};

use NeighbourState::{Delay, Failed, Incomplete, Permanent, Probe, Reachable, Stale};

/// Dynamic entries at most: fewer than there are neighbours, so that some must make room.
const ENTRIES: u16 = 4;
/// Packets that wait for one neighbour.
const QUEUE: usize = 3;

/// Next hops by port and address, each with the prefix behind it. Two have one address on two ports.
const NEIGHBOURS: [(PortId, Ipv4Addr); 7] = [
    (UPLINK, Ipv4Addr::new(172, 16, 30, 10)),
    (POD2, Ipv4Addr::new(172, 16, 30, 10)),
    (UPLINK, Ipv4Addr::new(172, 16, 30, 11)),
    (UPLINK, Ipv4Addr::new(172, 16, 30, 12)),
    (UPLINK, Ipv4Addr::new(172, 16, 30, 13)),
    (UPLINK, Ipv4Addr::new(172, 16, 30, 14)),
    (POD2, Ipv4Addr::new(172, 16, 30, 15)),
];

fn behind(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, u8::try_from(n).unwrap_or(u8::MAX), 1)
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 9, n])
}

/// MAC of the router, and the address that it asks from.
fn router_at(port: PortId) -> (Mac, Ipv4Addr) {
    if port == UPLINK {
        (UPLINK_MAC, NODE_A)
    } else {
        (POD2_MAC, GW_A)
    }
}

/// What a router should send.
#[derive(Clone, Debug)]
enum Sent {
    Packet { n: usize, to: Mac, mark: u16 },
    Question { n: usize, to: Mac },
    Answer { n: usize, to: Mac },
}

impl Sent {
    fn frame(&self) -> (PortId, Vec<u8>) {
        match *self {
            Self::Packet { n, to, mark } => {
                let (port, (own, _)) = (NEIGHBOURS[n].0, router_at(NEIGHBOURS[n].0));
                let packet = ipv4(A1, behind(n)).id(mark).ttl(63) / udp(1000, 53);
                (port, (eth(to, own) / packet).bytes())
            }
            Self::Question { n, to } => {
                let (port, target) = NEIGHBOURS[n];
                let (own, from) = router_at(port);
                (
                    port,
                    (eth(to, own) / arp_request(own, from, target)).bytes(),
                )
            }
            Self::Answer { n, to } => {
                let (port, asker) = NEIGHBOURS[n];
                let (own, ip) = router_at(port);
                (port, (eth(to, own) / arp_reply(own, ip, to, asker)).bytes())
            }
        }
    }
}

/// One entry, times in milliseconds.
#[derive(Clone, Debug)]
struct Slow {
    n: usize,
    state: NeighbourState,
    mac: Mac,
    /// Since when it is in its state, or was last confirmed.
    since: u64,
    updated: u64,
    used: u64,
    waiting: VecDeque<u16>,
}

impl Slow {
    fn knows(&self) -> bool {
        !matches!(self.state, Incomplete | Failed)
    }
}

#[derive(Debug, Default)]
struct SlowTable {
    now: u64,
    entries: Vec<Slow>,
    sent: Vec<Sent>,
    failed: u64,
    refused: u64,
    crowded: u64,
    flushed: u64,
}

impl SlowTable {
    fn at(&mut self, n: usize) -> Option<&mut Slow> {
        self.entries.iter_mut().find(|e| e.n == n)
    }

    /// The entry of `n`, made if there is room: what has failed makes room first, then what nobody has used for a minute,
    /// then what is being asked for, and of each the longest unused.
    fn at_or_new(&mut self, n: usize) -> Option<&mut Slow> {
        if self.at(n).is_none() {
            let dynamic = |e: &&Slow| e.state != Permanent;
            if self.entries.iter().filter(dynamic).count() == usize::from(ENTRIES) {
                let now = self.now;
                let kinds: [&dyn Fn(&Slow) -> bool; 3] = [
                    &|e| e.state == Failed,
                    &|e| e.knows() && e.state != Permanent && now - e.used >= 60_000,
                    &|e| e.state == Incomplete,
                ];
                let oldest = kinds.iter().find_map(|kind| {
                    let of_kind = self.entries.iter().filter(|e| kind(e));
                    of_kind.min_by_key(|e| e.used).map(|e| e.n)
                })?;
                let waiting = self.at(oldest).map_or(0, |e| e.waiting.len());
                self.refused += waiting as u64;
                self.entries.retain(|e| e.n != oldest);
            }
            self.entries.push(Slow {
                n,
                state: Failed,
                mac: Mac::ZERO,
                since: self.now,
                updated: self.now,
                used: self.now,
                waiting: VecDeque::new(),
            });
        }
        self.at(n)
    }

    fn packet(&mut self, n: usize, mark: u16) {
        let now = self.now;
        let Some(entry) = self.at_or_new(n) else {
            self.refused += 1;
            return;
        };
        entry.used = now;
        match entry.state {
            Incomplete | Failed => {
                entry.waiting.push_back(mark);
                let crowded = entry.waiting.len() > QUEUE;
                if crowded {
                    entry.waiting.pop_front();
                }
                if entry.state == Failed {
                    entry.state = Incomplete;
                    entry.since = now;
                    let to = Mac::BROADCAST;
                    self.sent.push(Sent::Question { n, to });
                }
                self.crowded += u64::from(crowded);
            }
            state => {
                if state == Stale {
                    entry.state = Delay;
                    entry.since = now;
                }
                let to = entry.mac;
                self.sent.push(Sent::Packet { n, to, mark });
            }
        }
    }

    fn arp(&mut self, n: usize, from: Mac, how: Arp) {
        self.learn(n, from, how);
        if how == Arp::Asks {
            self.sent.push(Sent::Answer { n, to: from });
        }
    }

    fn learn(&mut self, n: usize, from: Mac, how: Arp) {
        let now = self.now;
        let entry = if how == Arp::Asks {
            self.at_or_new(n)
        } else {
            self.at(n)
        };
        let Some(entry) = entry else { return };
        let new = if how == Arp::Answers {
            Reachable
        } else {
            Stale
        };
        let same = entry.mac == from;
        match entry.state {
            Permanent => return,
            // The first answer stands for a second, and a claim that says nothing new changes nothing.
            _ if entry.knows() && !same && now - entry.updated < 1000 => return,
            _ if entry.knows() && same && new == Stale => return,
            _ => {}
        }
        if entry.state != new || !same {
            entry.updated = now;
        }
        (entry.state, entry.mac, entry.since) = (new, from, now);
        self.release(n);
    }

    fn release(&mut self, n: usize) {
        let Some(entry) = self.at(n) else { return };
        for mark in std::mem::take(&mut entry.waiting) {
            self.packet(n, mark);
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            let waits =
                |e: &Slow| matches!(e.state, Incomplete | Delay | Probe) || !e.waiting.is_empty();
            if !self.entries.iter().any(waits) {
                self.now = end;
                return;
            }
            self.now += 1;
            for i in 0..self.entries.len() {
                self.tick(i);
            }
        }
    }

    /// What one millisecond brings to an entry; the end of REACHABLE is for [`SlowTable::adopt`].
    fn tick(&mut self, i: usize) {
        let now = self.now;
        let entry = &mut self.entries[i];
        let (n, age, known) = (entry.n, now - entry.since, entry.mac);
        match (entry.state, age) {
            (Permanent, _) => self.release(n),
            (Incomplete, 1000 | 2000) => {
                let to = Mac::BROADCAST;
                self.sent.push(Sent::Question { n, to });
            }
            (Probe, 1000 | 2000) => self.sent.push(Sent::Question { n, to: known }),
            (Incomplete | Probe, 3000) => {
                entry.state = Failed;
                let waiting = std::mem::take(&mut entry.waiting);
                self.failed += waiting.len() as u64;
            }
            (Delay, 5000) => {
                (entry.state, entry.since) = (Probe, now);
                self.sent.push(Sent::Question { n, to: known });
            }
            _ => {}
        }
    }

    /// Takes over that a REACHABLE entry has become STALE, if that may be so now.
    fn adopt(&mut self, n: usize, shown: NeighbourState) {
        let now = self.now;
        if let Some(entry) = self.at(n)
            && entry.state == Reachable
            && shown == Stale
        {
            let age = now - entry.since;
            assert!(age >= 15_000, "STALE after {age} ms");
            entry.state = Stale;
        }
    }

    fn set_permanent(&mut self, wanted: &[(usize, Mac)]) {
        let gone = |e: &Slow| e.state == Permanent && !wanted.iter().any(|w| w.0 == e.n);
        self.forget(gone);
        for &(n, mac) in wanted {
            // Room is made for these beside the dynamic ones.
            if self.at(n).is_none() {
                let now = self.now;
                self.entries.push(Slow {
                    n,
                    state: Permanent,
                    mac,
                    since: now,
                    updated: now,
                    used: now,
                    waiting: VecDeque::new(),
                });
            }
            if let Some(entry) = self.at(n) {
                (entry.state, entry.mac) = (Permanent, mac);
            }
        }
    }

    fn forget(&mut self, which: impl Fn(&Slow) -> bool) {
        let gone = self.entries.iter().filter(|e| which(e));
        self.flushed += gone.map(|e| e.waiting.len() as u64).sum::<u64>();
        self.entries.retain(|e| !which(e));
    }
}

/// What an ARP packet of a neighbour's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arp {
    /// A reply to the router alone.
    Answers,
    /// A reply to everybody.
    Tells,
    /// A request for the neighbour's own address.
    Announces,
    /// A request for the router's address.
    Asks,
}

#[derive(Clone, Debug)]
enum Op {
    Packet(usize),
    Arp(usize, u8, Arp),
    Pass(u64),
    Permanent(Vec<(usize, u8)>),
    Flush(Option<PortId>),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..NEIGHBOURS.len();
    let arp = prop_oneof![
        4 => Just(Arp::Answers),
        1 => Just(Arp::Tells),
        1 => Just(Arp::Announces),
        2 => Just(Arp::Asks)
    ];
    // The instant before, at and after each timeout, as one has passed before each step.
    let pass = prop_oneof![
        3 => prop::sample::select(vec![
            1, 998, 999, 1000, 1998, 1999, 2998, 2999, 3000, 4998, 4999, 14_998, 14_999, 45_000, 59_998, 59_999,
        ]),
        1 => 1..20_000_u64,
    ];
    prop_oneof![
        8 => n.clone().prop_map(Op::Packet),
        6 => (n.clone(), 0..3_u8, arp).prop_map(|(n, from, how)| Op::Arp(n, from, how)),
        6 => pass.prop_map(Op::Pass),
        1 => prop::collection::btree_map(n, 0..3_u8, 0..3)
            .prop_map(|wanted| Op::Permanent(wanted.into_iter().collect())),
        1 => prop::option::of(prop::sample::select(vec![UPLINK, POD2])).prop_map(Op::Flush),
    ]
}

/// Node A with a prefix behind each neighbour, a1 known for good, and these neighbours PERMANENT.
fn node(wanted: &[(usize, u8)]) -> Snapshot {
    let mut snapshot = node_a();
    for (n, (port, via)) in NEIGHBOURS.into_iter().enumerate() {
        let dst = format!("{}/32", behind(n));
        snapshot.routes.push(route(&dst, port, Some(via)));
    }
    let pinned = |port, ip, mac| PermanentNeighbour { port, ip, mac };
    snapshot.neighbours = vec![pinned(POD1, A1, A1_MAC)];
    let wanted = wanted.iter().map(|&(n, m)| {
        let (port, ip) = NEIGHBOURS[n];
        pinned(port, ip, mac(m))
    });
    snapshot.neighbours.extend(wanted);
    snapshot
}

fn arp_frame(n: usize, from: Mac, how: Arp) -> (PortId, Packet) {
    let (port, ip) = NEIGHBOURS[n];
    let (own, own_ip) = router_at(port);
    let packet = match how {
        Arp::Answers => eth(own, from) / arp_reply(from, ip, own, own_ip),
        Arp::Tells => eth(Mac::BROADCAST, from) / arp_reply(from, ip, own, own_ip),
        Arp::Announces => eth(Mac::BROADCAST, from) / arp_request(from, ip, ip),
        Arp::Asks => eth(Mac::BROADCAST, from) / arp_request(from, ip, own_ip),
    };
    (port, packet)
}

/// A step of the control plane or of the wire, by both; what the time before it brings comes first.
fn step(h: &mut Harness, slow: &mut SlowTable, op: &Op, mark: u16) {
    match op {
        &Op::Packet(n) => {
            let packet = eth(POD1_MAC, A1_MAC) / ipv4(A1, behind(n)).id(mark) / udp(1000, 53);
            h.rx(POD1, &packet);
            slow.packet(n, mark);
        }
        &Op::Arp(n, from, how) => {
            let (port, packet) = arp_frame(n, mac(from), how);
            h.rx(port, &packet);
            slow.arp(n, mac(from), how);
        }
        &Op::Pass(ms) => {
            h.advance(Duration::from_millis(ms));
            slow.pass(ms);
        }
        Op::Permanent(wanted) => {
            h.apply(node(wanted));
            let wanted: Vec<_> = wanted.iter().map(|&(n, m)| (n, mac(m))).collect();
            slow.set_permanent(&wanted);
        }
        &Op::Flush(port) => {
            h.flush_neighbours(port);
            slow.forget(|e| {
                e.state != Permanent && port.is_none_or(|port| port == NEIGHBOURS[e.n].0)
            });
        }
    }
}

/// What was sent, without errors to a1; sorted where one instant may bring things of several entries in any order.
fn sent(h: &mut Harness, slow: &mut SlowTable, sort: bool) -> [Vec<(PortId, Vec<u8>)>; 2] {
    let mut got = h.take_all();
    got.retain(|(port, _)| *port != POD1);
    let mut want: Vec<_> = slow.sent.drain(..).map(|s| s.frame()).collect();
    if sort {
        got.sort();
        want.sort();
    }
    [got, want]
}

proptest! {
    /// NEI-1 to NEI-6, NEI-9 to NEI-11, GARP-1, GARP-2, GARP-5: frames, drops and entries are what a slow table says.
    #[test]
    fn neighbours_are_what_a_slow_table_says(ops in prop::collection::vec(op(), 1..60)) {
        let limits = Limits {
            neighbours: ENTRIES,
            held_per_neighbour: u16::try_from(QUEUE).unwrap(),
            ..Limits::default()
        };
        let mut h = Harness::with_limits(node(&[]), limits, 64);
        let mut slow = SlowTable::default();
        for (op, mark) in ops.iter().zip(1..) {
            for (op, in_order) in [(&Op::Pass(1), false), (op, !matches!(op, Op::Pass(_)))] {
                step(&mut h, &mut slow, op, mark);
                let shown: Vec<_> = h.router().neighbours().filter(|e| e.ip != A1).collect();
                for entry in &shown {
                    let at = NEIGHBOURS.iter().position(|&n| n == (entry.port, entry.ip));
                    slow.adopt(at.expect("one of the seven"), entry.state);
                }
                let [got, want] = sent(&mut h, &mut slow, !in_order);
                prop_assert_eq!(got, want, "{:?}", op);
                let mut got: Vec<_> = shown.iter().map(|e| (e.port, e.ip, e.state, e.mac)).collect();
                let mut want: Vec<_> = slow.entries.iter().map(|e| {
                    let (port, ip) = NEIGHBOURS[e.n];
                    (port, ip, e.state, e.knows().then_some(e.mac))
                }).collect();
                got.sort_by_key(|e| (e.0, e.1));
                want.sort_by_key(|e| (e.0, e.1));
                prop_assert_eq!(got, want, "{:?}", op);
                let late = slow.entries.iter().find(|e| e.state == Reachable && slow.now - e.since > 45_000);
                prop_assert!(late.is_none(), "REACHABLE for ever: {:?}", late);
                let drops = |reason| h.router().stats().drops.get(reason);
                let got = [DropReason::NeighbourFailed, DropReason::NeighbourTableFull, DropReason::HoldQueueFull, DropReason::NeighbourFlushed].map(drops);
                prop_assert_eq!(got, [slow.failed, slow.refused, slow.crowded, slow.flushed], "{:?}", op);
                let waiting: usize = slow.entries.iter().map(|e| e.waiting.len()).sum();
                prop_assert_eq!(h.router().held(), waiting);
                h.check();
            }
        }
    }
}
