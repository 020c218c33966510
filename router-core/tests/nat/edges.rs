//! Rules that only show where two of them meet: nested chains, marks, answers of the node itself, ways that change.

use super::tcp::with_window;
use super::*;
use router_core::config::RpFilter;
use router_core::config::nat::{
    Backend, Mark, Matches, NetMatch, PREROUTING, PortMatch, Rule, Target,
};
use router_core::{DropReason, Event, TcpState};

/// A service address.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

fn dnat(to: Ipv4Addr, port: u16) -> Target {
    let backend = Backend {
        addr: to,
        port: Some(port),
        weight: 1,
    };
    Target::Dnat {
        backends: vec![backend],
        affinity: None,
    }
}

fn to_vip() -> Matches {
    let net = "10.96.0.1/32".parse().expect("a prefix");
    Matches {
        dst: Some(NetMatch::within(net)),
        ..Matches::default()
    }
}

fn with_rules(rules: &[(&str, Target, Matches)]) -> Harness {
    let mut snapshot = resolved(node_a());
    for (chain, target, matches) in rules {
        let rule = Rule::new(target.clone()).when(matches.clone());
        snapshot.nat.append(chain, rule);
    }
    Harness::new(snapshot)
}

/// Where a1's packet to the service goes: port and address, if it goes to a2 at all.
fn led_to(h: &mut Harness) -> Option<u16> {
    h.rx(POD1, &(a1() / ipv4(A1, VIP) / udp(4000, 53)));
    let sent = h.take_all();
    let (_, frame) = sent.iter().find(|(port, _)| *port == POD2)?;
    Some(u16::from_be_bytes([frame[36], frame[37]]))
}

/// NAT-7: the end of a chain and RETURN lead behind the rule that jumped there, from any depth, more than once.
#[test]
fn chains_come_back_to_where_they_were_called() {
    let jump = |to: &str| Target::Jump(to.into());
    let all = Matches::default;
    let never = || Matches {
        protocol: Some(132),
        ..Matches::default()
    };
    // By ends alone: c, then b's second rule, then a's, then the hook's.
    let mut by_ends = with_rules(&[
        (PREROUTING, jump("a"), all()),
        (PREROUTING, dnat(A2, 1), to_vip()),
        ("a", jump("b"), all()),
        ("b", jump("c"), all()),
        ("b", Target::Drop, never()),
        ("c", Target::Drop, never()),
    ]);
    assert_eq!(led_to(&mut by_ends), Some(1));
    // The end of c is not that of b, which called it.
    let mut from_b = with_rules(&[
        (PREROUTING, jump("a"), all()),
        (PREROUTING, dnat(A2, 1), to_vip()),
        ("a", jump("b"), all()),
        ("b", jump("c"), all()),
        ("b", dnat(A2, 5), to_vip()),
        ("c", Target::Drop, never()),
    ]);
    assert_eq!(led_to(&mut from_b), Some(5));
    // RETURN leaves one chain, not all of them.
    let mut by_return = with_rules(&[
        (PREROUTING, jump("a"), all()),
        (PREROUTING, jump("a"), all()),
        (PREROUTING, dnat(A2, 1), to_vip()),
        ("a", jump("b"), all()),
        ("a", Target::Return, never()),
        ("a", dnat(A2, 2), never()),
        ("b", Target::Return, all()),
        ("b", dnat(A2, 3), to_vip()),
    ]);
    assert_eq!(led_to(&mut by_return), Some(1));
    let mut from_a = with_rules(&[
        (PREROUTING, jump("a"), all()),
        ("a", jump("b"), all()),
        ("a", dnat(A2, 2), to_vip()),
        ("b", Target::Return, all()),
    ]);
    assert_eq!(led_to(&mut from_a), Some(2));
    // In the hook's own chain the hook is done, after a chain that returned before as well.
    let mut done = with_rules(&[
        (PREROUTING, jump("a"), all()),
        (PREROUTING, Target::Return, all()),
        (PREROUTING, dnat(A2, 1), to_vip()),
        ("a", Target::Return, all()),
    ]);
    assert_eq!(led_to(&mut done), None);
}

/// KM-3 and its like: MARK changes the bits of its mask alone, and a match looks at those of its own alone.
#[test]
fn marks_are_set_and_compared_under_their_masks() {
    let mark = |value, mask| Mark { value, mask };
    let led = |marks: &[Mark], wanted: Mark| {
        let mut rules: Vec<_> = marks
            .iter()
            .map(|&m| (PREROUTING, Target::Mark(m), Matches::default()))
            .collect();
        let when = Matches {
            mark: Some(wanted),
            ..to_vip()
        };
        rules.push((PREROUTING, dnat(A2, 7), when));
        led_to(&mut with_rules(&rules)).is_some()
    };
    let (low, high) = (mark(0x0f, 0x0f), mark(0x50, 0xf0));
    assert!(led(&[low, high], mark(0x5f, 0xff)));
    assert!(led(&[low, high], mark(0x50, 0xf0)), "bits beyond the mask");
    assert!(!led(&[low, high], mark(0x40, 0xf0)));
    assert!(led(&[low, mark(0, 0x03)], mark(0x0c, 0xff)), "cleared");
    assert!(!led(&[low, mark(0, 0x03)], mark(0x0f, 0x0f)));
    assert!(
        led(&[mark(0xff, 0x0f)], mark(0x0f, 0xff)),
        "value beyond the mask"
    );
    assert!(
        led(&[mark(0x0f, 0x0f), mark(0x05, 0x0f)], mark(0x05, 0xff)),
        "replaced"
    );
    assert!(
        led(&[low], mark(0xff, 0x0f)),
        "value of a match beyond its mask"
    );
}

/// A match by port of arrival looks at that port, negated at every other.
#[test]
fn a_rule_may_ask_for_the_port_of_arrival() {
    for (port, negate, led) in [
        (POD1, false, true),
        (POD2, false, false),
        (POD1, true, false),
        (UPLINK, true, true),
    ] {
        let when = Matches {
            in_port: Some(PortMatch { port, negate }),
            ..to_vip()
        };
        let mut h = with_rules(&[(PREROUTING, dnat(A2, 9), when)]);
        assert_eq!(led_to(&mut h).is_some(), led, "{port:?} {negate}");
    }
}

/// NAT-4, FWD-50: what the node itself answers to a translated packet comes from where that was sent to.
#[test]
fn the_nodes_own_answer_is_translated_back() {
    let mut h = with_rules(&[(PREROUTING, dnat(NODE_A, 8080), to_vip())]);
    h.rx(POD1, &(a1() / ipv4(A1, VIP) / tcp(4000, 80, 0x02).seq(7)));
    let reset = ipv4(VIP, A1).df().any_id() / tcp(80, 4000, 0x14).ack(8);
    h.expect_tx(POD1, &(to_a1() / reset));
    h.expect_silence();
    // An answer of a connection that is not translated stays as it is.
    h.rx(POD1, &(a1() / ipv4(A1, GW_A) / echo_request(5, 1)));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(GW_A, A1).any_id() / echo_reply(5, 1)),
    );
    h.expect_silence();
}

/// FWD-26: a known connection's packet that comes by another port than before is judged anew.
#[test]
fn a_known_packet_by_another_port_is_judged_as_any_other() {
    let mut h = Harness::new(with_port(node(), POD2, |p| p.rp_filter = RpFilter::Strict));
    for _ in 0..2 {
        h.rx(POD1, &(a1() / ipv4(A1, X) / udp(4000, 53)));
        h.take(UPLINK);
        h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, 4000)));
        h.take(POD1);
    }
    let elsewhere = a2() / ipv4(A1, X) / udp(4000, 53);
    h.expect_silent_drop(POD2, &elsewhere, DropReason::RpFilter);
}

/// NAT-12: the class of a port is not that of an echo's identifier, which may become any.
#[test]
fn a_moved_identifier_may_be_any() {
    let mut h = harness();
    let mut seen = Vec::new();
    for ident in 100..124 {
        for (port, link, src) in [(POD1, a1(), A1), (POD2, a2(), A2)] {
            h.rx(port, &(link / ipv4(src, X) / echo_request(ident, 1)));
        }
        let [first, second] = h.take_all().try_into().unwrap();
        assert_eq!(first.1[38..40], ident.to_be_bytes());
        assert_ne!(second.1[38..40], ident.to_be_bytes());
        seen.push(u16::from_be_bytes([second.1[38], second.1[39]]));
    }
    assert!(seen.iter().any(|&id| id > 1023), "{seen:?}");
}

/// NAT-30: a connection that ends sooner than its timer said leaves the table then, not at that time.
#[test]
fn a_reset_connection_leaves_the_table_in_seconds() {
    let mut h = harness();
    h.rx(POD1, &(a1() / ipv4(A1, X) / tcp(4000, 80, 0x02).seq(1)));
    h.rx(
        UPLINK,
        &(r() / ipv4(X, NODE_A) / tcp(80, 4000, 0x12).seq(9).ack(2)),
    );
    h.rx(
        POD1,
        &(a1() / ipv4(A1, X) / tcp(4000, 80, 0x10).seq(2).ack(10)),
    );
    h.rx(POD1, &(a1() / ipv4(A1, X) / tcp(4000, 80, 0x04).seq(2)));
    assert_eq!(h.take_all().len(), 4);
    assert_eq!(h.router().tracking().unwrap().connections, 1);
    h.advance(secs(12));
    assert_eq!(h.router().tracking().unwrap().connections, 0);
    h.expect_counters(&[]);
    assert_eq!(h.router().stats().events.get(Event::ConnectionEvicted), 0);
}

/// NAT-60: with checksums switched off only they are not looked at; what is no message of its protocol is INVALID still.
#[test]
fn without_checksums_the_rest_is_looked_at() {
    for (checksum, passes) in [(true, false), (false, true)] {
        let mut snapshot = node();
        snapshot.nat.conntrack.checksum = checksum;
        let mut h = Harness::new(snapshot);
        let mut sent = |packet: Packet| {
            h.rx(POD1, &(a1() / packet));
            !h.take_all().is_empty()
        };
        let echo = |kind| icmp(kind, 0, [0, 5, 0, 1]);
        assert_eq!(sent(ipv4(A1, X) / echo(8).checksum(0x0bad)), passes);
        assert_eq!(sent(ipv4(A1, X) / udp(4000, 53).checksum(0x0bad)), passes);
        assert_eq!(
            sent(ipv4(A1, X) / tcp(4000, 80, 0x02).checksum(0x0bad)),
            passes
        );
        assert!(sent(ipv4(A1, X) / echo(8)));
        // 18 is the last type that there is; 19 and a message without its whole header are none.
        assert!(!sent(ipv4(A1, X) / echo(19)));
        assert!(!sent(
            ipv4(A1, X).protocol(1) / payload([8, 0, 0xf7, 0xff, 0, 0, 0])
        ));
        assert!(!sent(ipv4(A1, X) / tcp(4000, 80, 0x03)), "SYN FIN");
        // An SCTP header without a chunk.
        assert!(!sent(ipv4(A1, X).protocol(132) / payload([0; 12])));
    }
}

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
const C: u32 = 1000;
const S: u32 = 90_000;

/// A segment of a1's connection to X, and what the connection is then; none when the segment did not pass.
fn segment(
    h: &mut Harness,
    from_a1: bool,
    flags: u8,
    (seq, ack): (u32, u32),
    len: usize,
) -> Option<TcpState> {
    let head = |src, dst| tcp(src, dst, flags).seq(seq).ack(ack) / vec![0; len];
    let (port, packet) = if from_a1 {
        (POD1, a1() / ipv4(A1, X) / head(4000, 80))
    } else {
        (UPLINK, r() / ipv4(X, NODE_A) / head(80, 4000))
    };
    h.rx_bytes(&[(port, with_window(packet.bytes(), 1000, &[]))]);
    let passed = !h.take_all().is_empty();
    sessions(h).first().filter(|_| passed).and_then(|s| s.tcp)
}

fn established() -> Harness {
    let mut h = harness();
    segment(&mut h, true, SYN, (C, 0), 0);
    segment(&mut h, false, SYN_ACK, (S, C + 1), 0);
    let state = segment(&mut h, true, ACK, (C + 1, S + 1), 0);
    assert_eq!(state, Some(TcpState::Established));
    h
}

/// NAT-36: a SYN on a connection that looks open passes and changes nothing, as its ends may know better; the SYN/ACK that
/// answers it says that they do, and one that answers something else does not.
#[test]
fn the_answer_to_a_syn_that_was_let_through_begins_anew() {
    for (acknowledged, state) in [
        (C + 5001, TcpState::SynRecv),
        (C + 5000, TcpState::Established),
        (C + 1, TcpState::Established),
    ] {
        let mut h = established();
        let syn = segment(&mut h, true, SYN, (C + 5000, 0), 0);
        assert_eq!(syn, Some(TcpState::Established));
        let answer = segment(&mut h, false, SYN_ACK, (S + 7000, acknowledged), 0);
        assert_eq!(answer, Some(state), "{acknowledged}");
    }
    let mut h = established();
    segment(&mut h, true, SYN, (C + 5000, 0), 0);
    segment(&mut h, false, SYN_ACK, (S + 7000, C + 5001), 0);
    let open = segment(&mut h, true, ACK, (C + 5001, S + 7001), 0);
    assert_eq!(open, Some(TcpState::Established));
    let data = segment(&mut h, false, ACK, (S + 7001, C + 5001), 100);
    assert_eq!(data, Some(TcpState::Established), "by the new numbers");
}

/// NAT-35: a reset right behind data that is not acknowledged yet belongs to it and closes; one a byte further only may.
#[test]
fn a_reset_behind_its_senders_own_data_closes() {
    for (seq, from_a1, state) in [
        (S + 101, false, TcpState::Close),
        (S + 102, false, TcpState::Established),
    ] {
        let mut h = established();
        segment(&mut h, false, ACK, (S + 1, C + 1), 0);
        segment(&mut h, true, ACK, (C + 1, S + 1), 0);
        segment(&mut h, false, ACK, (S + 1, C + 1), 100);
        assert_eq!(segment(&mut h, from_a1, RST, (seq, 0), 0), Some(state));
    }
    // What the other side sent last is no excuse.
    let mut h = established();
    segment(&mut h, false, ACK, (S + 1, C + 1), 100);
    segment(&mut h, true, ACK, (C + 1, S + 1), 0);
    let state = segment(&mut h, false, RST, (S + 101, 0), 0);
    assert_eq!(state, Some(TcpState::Established));
}
