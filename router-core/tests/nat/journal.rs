//! A copy of the table of connections that is kept by its changes (decision 10).

use std::collections::BTreeMap;

use proptest::prelude::*;
use router_core::{Change, Filter, TcpState};

use super::*;

/// Whoever keeps a copy.
#[derive(Default)]
struct Copy(BTreeMap<u32, Session>);

impl Copy {
    /// Asks for at most `most` changes.
    fn ask(&mut self, h: &mut Harness, most: usize) {
        let now = h.now();
        h.router_mut()
            .take_changes(now, most, |change| match change {
                Change::Cleared => self.0.clear(),
                Change::Set(place, session) => {
                    self.0.insert(place, session);
                }
                Change::Gone(place) => {
                    assert!(self.0.remove(&place).is_some(), "nobody told of it before");
                }
            });
    }

    fn ask_all(&mut self, h: &mut Harness) {
        while h.router().has_changes() {
            self.ask(h, 100);
        }
    }
}

/// What a copy has to have: without the time that is left, which is no change.
fn essence(session: &Session) -> Session {
    Session {
        expires_in: Duration::ZERO,
        ..session.clone()
    }
}

fn worth_keeping(h: &Harness) -> Vec<Session> {
    let all = sessions(h);
    let kept = all
        .iter()
        .filter(|s| s.replied || s.source_translated() || s.destination_translated());
    kept.map(essence).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Udp(u8, bool),
    Answer(u8),
    Inside(u8),
    InsideAnswer(u8),
    Tcp(u8, u8),
    TcpAnswer(u8, u8),
    Wait(u64),
    Flush(u8),
    Forget,
    Ask(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0_u8..6;
    let flags = || {
        prop_oneof![
            Just(0x02_u8),
            Just(0x10),
            Just(0x11),
            Just(0x04),
            Just(0x12)
        ]
    };
    prop_oneof![
        4 => (n(), any::<bool>()).prop_map(|(n, second)| Op::Udp(n, second)),
        4 => n().prop_map(Op::Answer),
        2 => n().prop_map(Op::Inside),
        2 => n().prop_map(Op::InsideAnswer),
        6 => (n(), flags()).prop_map(|(n, f)| Op::Tcp(n, f)),
        6 => (n(), flags()).prop_map(|(n, f)| Op::TcpAnswer(n, f)),
        2 => prop_oneof![Just(1_u64), Just(10), Just(31), Just(130)].prop_map(Op::Wait),
        1 => n().prop_map(Op::Flush),
        1 => Just(Op::Forget),
        4 => (0_usize..4).prop_map(Op::Ask),
    ]
}

fn run(h: &mut Harness, copy: &mut Copy, op: &Op) {
    let sport = |n: u8| 4000 + u16::from(n);
    match *op {
        Op::Udp(n, second) => {
            let (port, frame, src) = if second {
                (POD2, a2(), A2)
            } else {
                (POD1, a1(), A1)
            };
            h.rx(port, &(frame / ipv4(src, X) / udp(sport(n), 53) / b"q"));
        }
        Op::Answer(n) => h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, sport(n)) / b"a")),
        Op::Inside(n) => h.rx(POD1, &(a1() / ipv4(A1, A2) / udp(sport(n), 53) / b"q")),
        Op::InsideAnswer(n) => h.rx(POD2, &(a2() / ipv4(A2, A1) / udp(53, sport(n)) / b"a")),
        Op::Tcp(n, flags) => h.rx(
            POD1,
            &(a1() / ipv4(A1, X) / tcp(sport(n), 80, flags).seq(9).ack(9)),
        ),
        Op::TcpAnswer(n, flags) => {
            h.rx(
                UPLINK,
                &(r() / ipv4(X, NODE_A) / tcp(80, sport(n), flags).seq(9).ack(10)),
            );
        }
        Op::Wait(seconds) => h.advance(secs(seconds)),
        Op::Flush(n) => {
            let filter = Filter {
                sport: Some(sport(n)),
                ..Filter::default()
            };
            h.router_mut().flush_sessions(&filter);
        }
        Op::Forget => {
            h.apply(resolved(node_a()));
            h.apply(node());
        }
        Op::Ask(most) => copy.ask(h, most),
    }
    h.take_all();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However seldom and however little is asked for, in the end the copy is the table.
    #[test]
    fn a_copy_follows_the_table(ops in prop::collection::vec(op(), 1..80), begun in 0_usize..40) {
        let mut h = harness();
        let mut copy = Copy::default();
        for (n, op) in ops.iter().enumerate() {
            if n == begun {
                h.router_mut().keep_journal();
            }
            run(&mut h, &mut copy, op);
        }
        if ops.len() <= begun {
            prop_assert!(!h.router().has_changes() && copy.0.is_empty());
            h.router_mut().keep_journal();
        }
        // Everything ends at a whole second; the timers are a tick late at most.
        h.advance(Duration::from_millis(500));
        copy.ask_all(&mut h);
        let mut kept: Vec<Session> = copy.0.values().map(essence).collect();
        kept.sort_by_key(|s| (s.original, s.reply));
        prop_assert_eq!(kept, worth_keeping(&h));
    }
}

/// Packets that change nothing are no news, and neither is an untranslated connection that nobody answered.
#[test]
fn only_news_are_told() {
    let mut h = harness();
    let mut copy = Copy::default();
    h.router_mut().keep_journal();
    copy.ask_all(&mut h);
    h.rx(POD1, &(a1() / ipv4(A1, A2) / udp(1, 2) / b"x"));
    copy.ask_all(&mut h);
    assert!(copy.0.is_empty());
    h.rx(
        POD1,
        &(a1() / ipv4(A1, X) / tcp(4000, 80, 0x10).seq(10).ack(70)),
    );
    copy.ask_all(&mut h);
    assert_eq!(
        copy.0.values().next().and_then(|s| s.tcp),
        Some(TcpState::Established)
    );
    for _ in 0..3 {
        h.rx(
            POD1,
            &(a1() / ipv4(A1, X) / tcp(4000, 80, 0x10).seq(10).ack(70)),
        );
        h.rx(POD1, &(a1() / ipv4(A1, A2) / udp(1, 2) / b"x"));
        assert!(!h.router().has_changes());
    }
    h.take_all();
}

/// More changes than the list takes: the whole table is told instead, in pieces.
#[test]
fn a_flood_of_connections_is_told_in_pieces() {
    let mut h = harness();
    let mut copy = Copy::default();
    h.router_mut().keep_journal();
    copy.ask_all(&mut h);
    const FLOOD: usize = 17_000;
    for n in 0..FLOOD {
        let sport = 1024 + u16::try_from(n).expect("fewer than there are ports");
        h.rx(POD1, &(a1() / ipv4(A1, X) / udp(sport, 53) / b"q"));
        h.take_all();
    }
    copy.ask(&mut h, 1000);
    assert_eq!(copy.0.len(), 1000);
    copy.ask_all(&mut h);
    assert_eq!(copy.0.len(), FLOOD);
    h.router_mut().flush_sessions(&Filter::default());
    copy.ask_all(&mut h);
    assert!(copy.0.is_empty());
}

/// What was copied goes on elsewhere: a remapped connection keeps its port, also when the outside speaks first.
#[test]
fn a_copy_restores_what_was_remapped() {
    let mut old = harness();
    old.router_mut().keep_journal();
    for (port, frame, src) in [(POD1, a1(), A1), (POD2, a2(), A2)] {
        old.rx(
            port,
            &(frame / ipv4(src, X) / tcp(4000, 80, 0x10).seq(10).ack(70)),
        );
    }
    let remapped = source_of(&old.take_all()[1].1).1;
    assert_ne!(remapped, 4000);
    let mut copy = Copy::default();
    copy.ask_all(&mut old);
    let mut h = harness();
    for session in copy.0.values() {
        let now = h.now();
        assert!(h.router_mut().import_session(now, session));
    }
    h.rx(
        UPLINK,
        &(r() / ipv4(X, NODE_A) / tcp(80, remapped, 0x18).seq(70).ack(10) / b"data"),
    );
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(X, A2).ttl(63) / tcp(80, 4000, 0x18).seq(70).ack(10) / b"data"),
    );
    h.router_mut().lose_session();
    let events = &h.router().stats().events;
    let count = |event| events.get(event);
    assert_eq!(count(router_core::Event::ConnectionRestored), 2);
    assert_eq!(count(router_core::Event::ConnectionLost), 1);
}
