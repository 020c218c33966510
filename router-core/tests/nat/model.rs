//! Masquerading against a slow model of it: any history of flows of two pods, answers, strangers, errors and time.

use std::collections::BTreeMap;

use super::bench::Bench;
use super::tcp::sum16;
use super::*;
use proptest::prelude::*;
use router_core::Instant;

const PODS: [Ipv4Addr; 2] = [A1, A2];
const PEERS: [Ipv4Addr; 2] = [X, Y];
const SPORTS: [u16; 4] = [4000, 4001, 300, 700];
const DPORTS: [u16; 2] = [53, 80];
const PROTOCOLS: [u8; 3] = [1, 6, 17];

/// What an inside flow is: protocol, pod, source port or identifier, peer, its port.
type Inside = (u8, Ipv4Addr, u16, Ipv4Addr, u16);
/// The same from outside: protocol, peer, its port, port of the node.
type Outside = (u8, Ipv4Addr, u16, u16);

#[derive(Clone, Copy, Debug)]
struct Flow {
    port: u16,
    ends: Instant,
    stream_at: Instant,
    replied: bool,
    order: usize,
}

#[derive(Clone, Debug)]
enum Op {
    /// A pod sends.
    Send(Inside),
    /// A peer sends to the port of the flow of this number, alive or not.
    Answer(usize),
    /// A router on the way tells the pod of an error.
    Error(usize),
    /// A pod tells the peer of an error.
    Refuse(usize),
    /// Somebody else sends to the port of a flow.
    Stranger(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let pick = prop::sample::select::<Ipv4Addr>;
    let inside = (
        prop::sample::select(PROTOCOLS.to_vec()),
        pick(PODS.to_vec()),
        prop::sample::select(SPORTS.to_vec()),
        pick(PEERS.to_vec()),
        prop::sample::select(DPORTS.to_vec()),
    );
    prop_oneof![
        6 => inside.prop_map(|(protocol, pod, sport, peer, dport)| {
            let dport = if protocol == 1 { 0 } else { dport };
            Op::Send((protocol, pod, sport, peer, dport))
        }),
        5 => any::<usize>().prop_map(Op::Answer),
        1 => any::<usize>().prop_map(Op::Error),
        1 => any::<usize>().prop_map(Op::Refuse),
        1 => any::<usize>().prop_map(Op::Stranger),
        3 => (1_u64..40).prop_map(Op::Wait),
    ]
}

/// The first packet of a flow, or a later one of ICMP and UDP.
fn forth((protocol, src, sport, dst, dport): Inside) -> Packet {
    let ip = ipv4(src, dst);
    match protocol {
        1 => ip / echo_request(sport, 1) / b"data",
        6 => ip / tcp(sport, dport, 2).seq(9),
        _ => ip / udp(sport, dport) / b"data",
    }
}

/// Its answer.
fn back((protocol, dst, dport, src, sport): Inside) -> Packet {
    let ip = ipv4(src, dst);
    match protocol {
        1 => ip / echo_reply(dport, 1) / b"data",
        6 => ip / tcp(sport, dport, 0x12).seq(70).ack(10),
        _ => ip / udp(sport, dport) / b"data",
    }
}

fn quoted(packet: Packet) -> Packet {
    quote(&(r() / packet))
}

struct Model<B: Bench> {
    h: B,
    flows: BTreeMap<Inside, Flow>,
    /// What the node itself was sent: its ports are taken, too.
    own: BTreeMap<Outside, Instant>,
    made: usize,
}

impl<B: Bench> Model<B> {
    fn new(bench: B) -> Self {
        Self {
            h: bench,
            flows: BTreeMap::new(),
            own: BTreeMap::new(),
            made: 0,
        }
    }

    fn link(pod: Ipv4Addr) -> (PortId, Packet, Packet) {
        if pod == A1 {
            (POD1, a1(), to_a1())
        } else {
            (POD2, a2(), to_a2())
        }
    }

    /// What was sent. Nothing leaves by the uplink under an inside address (INV-5).
    fn sent(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let sent = self.h.take_all();
        for (port, frame) in &sent {
            assert!(*port != UPLINK || source_of(frame).0 == NODE_A, "leaked");
        }
        sent
    }

    fn expect(&mut self, port: PortId, expected: &Packet) {
        assert_eq!(self.sent(), [(port, expected.bytes())]);
    }

    fn alive(&self, inside: Inside) -> Option<Flow> {
        let flow = self.flows.get(&inside)?;
        (flow.ends > self.h.now()).then_some(*flow)
    }

    fn nth(&self, n: usize) -> Option<(Inside, Flow)> {
        let n = n.checked_rem(self.flows.len())?;
        self.flows.iter().nth(n).map(|(i, f)| (*i, *f))
    }

    fn free(&self, protocol: u8, peer: Ipv4Addr, dport: u16, port: u16) -> bool {
        let now = self.h.now();
        let of_pods = self.flows.iter().all(|(inside, flow)| {
            flow.ends <= now
                || (inside.0, inside.3, inside.4, flow.port) != (protocol, peer, dport, port)
        });
        let own = self.own.get(&(protocol, peer, dport, port));
        of_pods && own.is_none_or(|&ends| ends <= now)
    }

    /// Another worker may not have noticed yet that nobody has this port any more.
    fn lingers(&self, protocol: u8, peer: Ipv4Addr, dport: u16, port: u16) -> bool {
        let now = self.h.now();
        let just = |ends: Instant| ends <= now && now < ends + secs(2);
        let of_pods = self.flows.iter().any(|(inside, flow)| {
            just(flow.ends)
                && (inside.0, inside.3, inside.4, flow.port) == (protocol, peer, dport, port)
        });
        let own = self.own.get(&(protocol, peer, dport, port));
        of_pods || own.is_some_and(|&ends| just(ends))
    }

    /// NAT-11 to NAT-13: is this a port that a new flow may get?
    fn may_get(&self, inside: Inside, port: u16) -> bool {
        let (protocol, pod, sport, peer, dport) = inside;
        let free = |port| self.free(protocol, peer, dport, port);
        let now = self.h.now();
        let mut siblings: Vec<Flow> = self
            .flows
            .iter()
            .filter(|(i, _)| (i.0, i.1, i.2) == (protocol, pod, sport))
            .map(|(_, flow)| *flow)
            .filter(|flow| flow.ends + secs(1) > now)
            .collect();
        siblings.sort_by_key(|flow| core::cmp::Reverse(flow.order));
        // One that has just expired may or may not be forgotten yet.
        for flow in siblings {
            if free(flow.port) && flow.port == port {
                return true;
            }
            // Workers do not tell each other whose port a source had.
            if flow.ends > now && !self.h.is_shared() {
                if free(flow.port) {
                    return false;
                }
                break;
            }
        }
        let class = match (protocol, sport) {
            (1, _) => 0..=65535,
            (_, 0..512) => 1..=511,
            (_, 512..1024) => 600..=1023,
            _ => 1024..=65535,
        };
        if free(sport) && !(self.h.is_shared() && self.lingers(protocol, peer, dport, sport)) {
            port == sport
        } else {
            free(port) && class.contains(&port)
        }
    }

    fn lifetime(protocol: u8, flow: &Flow, now: Instant) -> Duration {
        match protocol {
            17 if flow.replied && now > flow.stream_at => secs(120),
            6 => secs(120),
            _ => secs(30),
        }
    }

    fn send(&mut self, inside: Inside) {
        let (protocol, pod, _, peer, dport) = inside;
        let now = self.h.now();
        let known = self.alive(inside);
        if protocol == 6 && known.is_some_and(|flow| flow.replied) {
            return;
        }
        let (port, from, _) = Self::link(pod);
        self.h.rx(port, &(from / forth(inside)));
        let sent = self.sent();
        assert_eq!(sent.len(), 1);
        let (addr, outside) = source_of(&sent[0].1);
        let flow = known.unwrap_or_else(|| {
            assert!(self.may_get(inside, outside), "{inside:?} got {outside}");
            self.made += 1;
            Flow {
                port: outside,
                ends: now,
                stream_at: now + secs(2),
                replied: false,
                order: self.made,
            }
        });
        assert_eq!((addr, outside), (NODE_A, flow.port));
        let mut expected = (to_r() / forth((protocol, NODE_A, outside, peer, dport))).bytes();
        lower_ttl(&mut expected);
        assert_eq!(sent, [(UPLINK, expected)]);
        // A SYN sent again does not make its connection live longer (Linux 5.18).
        let ends = match known {
            Some(flow) if protocol == 6 => flow.ends,
            _ => now + Self::lifetime(protocol, &flow, now),
        };
        self.flows.insert(inside, Flow { ends, ..flow });
    }

    /// Something comes from a peer to a port of the node.
    fn answer(&mut self, protocol: u8, peer: Ipv4Addr, dport: u16, port: u16) {
        let now = self.h.now();
        let owner = self.flows.iter().find(|(inside, flow)| {
            flow.ends > now
                && (inside.0, inside.3, inside.4, flow.port) == (protocol, peer, dport, port)
        });
        let owner = owner.map(|(inside, flow)| (*inside, *flow));
        if protocol == 6 && owner.is_some_and(|(_, flow)| flow.replied) {
            return;
        }
        let outside = (protocol, NODE_A, port, peer, dport);
        self.h.rx(UPLINK, &(r() / back(outside)));
        let Some((inside, flow)) = owner else {
            let sent = self.sent();
            assert!(sent.iter().all(|(port, _)| *port == UPLINK), "came in");
            if protocol == 17 {
                self.own
                    .insert((protocol, peer, dport, port), now + secs(30));
            }
            return;
        };
        let (link, _, to) = Self::link(inside.1);
        let mut expected = (to / back(inside)).bytes();
        lower_ttl(&mut expected);
        assert_eq!(self.sent(), [(link, expected)]);
        let life = match protocol {
            6 => secs(60),
            _ => Self::lifetime(protocol, &flow, now),
        };
        let (ends, replied) = (now + life, true);
        self.flows.insert(
            inside,
            Flow {
                ends,
                replied,
                ..flow
            },
        );
    }

    /// INV-4 for errors of either side.
    fn error(&mut self, inside: Inside, flow: Flow, from_pod: bool) {
        let (protocol, pod, _, peer, dport) = inside;
        let (link, from, to) = Self::link(pod);
        let outside = (protocol, NODE_A, flow.port, peer, dport);
        let alive = self.alive(inside).is_some();
        if from_pod {
            let error = |src| ipv4(src, peer) / unreachable(3);
            self.h.rx(link, &(from / error(pod) / quoted(back(inside))));
            if alive {
                let mut expected = (to_r() / error(NODE_A) / quoted(back(outside))).bytes();
                lower_ttl(&mut expected);
                assert_eq!(self.sent(), [(UPLINK, expected)]);
            }
        } else {
            let error = |dst| ipv4(R, dst) / time_exceeded();
            self.h
                .rx(UPLINK, &(r() / error(NODE_A) / quoted(forth(outside))));
            if alive {
                let expected = ipv4(R, pod).ttl(63) / time_exceeded() / quoted(forth(inside));
                self.expect(link, &(to / expected));
            }
        }
        // About what is no more nothing gets out; from outside it may be another flow's by now.
        let heard = self.sent();
        assert!(heard.is_empty() || (!alive && !from_pod), "{heard:?}");
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Send(inside) => self.send(inside),
            Op::Wait(n) => self.h.advance(secs(n)),
            Op::Answer(n) => {
                if let Some((inside, flow)) = self.nth(n) {
                    self.answer(inside.0, inside.3, inside.4, flow.port);
                }
            }
            Op::Stranger(n) => {
                if let Some((inside, flow)) = self.nth(n) {
                    let other = if inside.3 == X { Y } else { X };
                    self.answer(inside.0, other, inside.4, flow.port);
                }
            }
            Op::Error(n) | Op::Refuse(n) => {
                if let Some((inside, flow)) = self.nth(n) {
                    self.error(inside, flow, matches!(op, Op::Refuse(_)));
                }
            }
        }
    }

    /// The router lists what lives, and nothing else.
    fn compare(&self) {
        let now = self.h.now();
        let flows = self.flows.values().filter(|flow| flow.ends > now).count();
        let own = self.own.values().filter(|&&ends| ends > now).count();
        let sessions = self.h.sessions();
        assert_eq!(sessions.len(), flows + own);
        for session in sessions {
            let o = session.original;
            let dport = if o.protocol == 1 { 0 } else { o.dport };
            if let Some(flow) = self.flows.get(&(o.protocol, o.src, o.sport, o.dst, dport)) {
                assert_eq!(session.expires_in, flow.ends.since(now));
                assert_eq!((session.reply.dst, session.replied), (NODE_A, flow.replied));
            }
        }
    }
}

/// A TTL one lower, with its checksum.
fn lower_ttl(frame: &mut [u8]) {
    frame[22] -= 1;
    frame[24..26].fill(0);
    let sum = sum16(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// NAT-11, NAT-12, NAT-13, NAT-14, NAT-31, NAT-32, NAT-67, INV-4, INV-5: whatever comes when, ports are chosen by the
    /// rules, both directions and the errors about them undo each other, and what has ended is gone.
    #[test]
    fn masquerading_is_that_of_the_model(ops in prop::collection::vec(op(), 1..60)) {
        let mut model = Model::new(harness());
        for op in &ops {
            model.step(op);
            model.compare();
        }
    }
    /// NAT-11, NAT-12, NAT-14, NAT-31, NAT-32, NAT-67, INV-4, INV-5: the same of a node of several workers, by whatever queue
    /// of its device each packet comes in.
    #[test]
    fn masquerading_by_several_workers_is_that_of_the_model(
        ops in prop::collection::vec(op(), 1..60),
        of in 2_usize..5,
        queues in any::<u64>(),
    ) {
        let crew = Crew::new(of, &node(), Steering::Any(queues));
        let mut model = Model::new(crew);
        for op in &ops {
            model.step(op);
            model.compare();
        }
        let given: usize = model.h.router(0).share().unwrap().claims().len();
        let tuples = model.h.sessions().count();
        prop_assert!(given >= tuples, "a connection without a claim");
    }
}
