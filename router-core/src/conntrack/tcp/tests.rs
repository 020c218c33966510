//! The transitions against Linux's matrix, cell by cell.

use super::Kind::{Ack, Fin, None as Nothing, Rst, Syn, SynAck};
use super::Next::{Ignore, Invalid, To};
use super::TcpState::{
    Close, CloseWait, Established, FinWait, LastAck, None, SynRecv, SynSent, SynSent2, TimeWait,
};
use super::*;

/// As Linux's `tcp_conntracks` is written: a row for each kind, in it the next state from each state, in this order.
pub(super) const STATES: [TcpState; 10] = [
    None,
    SynSent,
    SynRecv,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
];
pub(super) const KINDS: [Kind; 6] = [Syn, SynAck, Fin, Ack, Rst, Nothing];
pub(super) const ORIGINAL: [&str; 6] = [
    "SS SS IG IG IG IG IG SS SS S2",
    "IV IV SR IV IV IV IV IV IV SR",
    "IV IV FW FW LA LA LA TW CL IV",
    "ES IV ES ES CW CW TW TW CL IV",
    "IV CL CL CL CL CL CL CL CL CL",
    "IV IV IV IV IV IV IV IV IV IV",
];
pub(super) const REPLY: [&str; 6] = [
    "IV S2 IV IV IV IV IV SS IV S2",
    "IV SR IG IG IG IG IG IG IG SR",
    "IV IV FW FW LA LA LA TW CL IV",
    "IV IG SR ES CW CW TW TW CL IG",
    "IV CL CL CL CL CL CL CL CL CL",
    "IV IV IV IV IV IV IV IV IV IV",
];

pub(super) fn cell(text: &str) -> Next {
    match text {
        "IG" => Ignore,
        "IV" => Invalid,
        "SS" => To(SynSent),
        "SR" => To(SynRecv),
        "ES" => To(Established),
        "FW" => To(FinWait),
        "CW" => To(CloseWait),
        "LA" => To(LastAck),
        "TW" => To(TimeWait),
        "CL" => To(Close),
        "S2" => To(SynSent2),
        other => panic!("{other} is no cell"),
    }
}

/// NAT-33, NAT-36, NAT-37: `net/netfilter/nf_conntrack_proto_tcp.c`.
#[test]
fn every_transition_is_linuxs() {
    for (dir, matrix) in [(Dir::Original, ORIGINAL), (Dir::Reply, REPLY)] {
        for (kind, row) in KINDS.into_iter().zip(matrix) {
            for (state, text) in STATES.into_iter().zip(row.split(' ')) {
                assert_eq!(
                    next(dir, kind, state),
                    cell(text),
                    "{dir:?} {kind:?} in {state:?}"
                );
            }
        }
    }
}

/// A reset counts first, then SYN, FIN and ACK; PSH, URG and the bits of ECN say nothing.
#[test]
fn a_segment_is_known_by_its_strongest_flag() {
    for flags in 0..=u8::MAX {
        let has = |flag| flags & flag != 0;
        let expected = match (has(RST), has(SYN), has(FIN), has(ACK)) {
            (true, ..) => Rst,
            (_, true, _, true) => SynAck,
            (_, true, ..) => Syn,
            (_, _, true, _) => Fin,
            (.., true) => Ack,
            _ => Nothing,
        };
        assert_eq!(kind(flags), expected, "{flags:#04x}");
    }
}

#[test]
fn states_have_the_names_that_conntrack_prints() {
    let names = STATES.map(TcpState::name);
    let expected =
        "NONE SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE SYN_SENT2";
    assert_eq!(names.join(" "), expected);
}

/// Numbers are compared around the circle: what lies less than half of it ahead is after.
#[test]
fn sequence_numbers_are_compared_modulo_their_size() {
    for base in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        for ahead in [1_u32, 2, 1000, 0x7fff_ffff] {
            let later = base.wrapping_add(ahead);
            assert!(after(later, base) && !after(base, later));
            assert!(before(base, later) && !before(later, base));
        }
        assert!(!after(base, base) && !before(base, base));
    }
}
