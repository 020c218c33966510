//! Any exchange of segments against a second formulation of the rules, after the order of Linux's `nf_conntrack_tcp_packet`
//! and `tcp_in_window`, with flags as booleans, the matrix as text and numbers as signed distances.
//!
//! Segments are drawn near the borders that the second formulation knows at that moment: what was sent, what may be sent,
//! what was acknowledged, each one off to both sides.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::tests::{KINDS, ORIGINAL, REPLY, STATES, cell};
use super::*;

#[derive(Clone, Copy, Debug, Default)]
struct SlowSide {
    end: u32,
    max_end: u32,
    max_win: u32,
    max_ack: Option<u32>,
    scale: u32,
    scales: bool,
    sacks: bool,
    closed: bool,
    liberal: bool,
    unacked: bool,
}

/// A segment without its bytes.
#[derive(Clone, Debug)]
struct Segment {
    flags: u8,
    seq: u32,
    ack: u32,
    win: u16,
    len: usize,
    /// Offers of a SYN, which count there alone.
    scale: Option<u8>,
    sack_ok: bool,
    /// Right edge of a block.
    sacked: Option<u32>,
}

impl Segment {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn kind(&self) -> usize {
        match () {
            () if self.has(RST) => 4,
            () if self.has(SYN) && self.has(ACK) => 1,
            () if self.has(SYN) => 0,
            () if self.has(FIN) => 2,
            () if self.has(ACK) => 3,
            () => 5,
        }
    }

    fn end(&self) -> u32 {
        let ghosts = usize::from(self.has(SYN)) + usize::from(self.has(FIN));
        self.seq
            .wrapping_add(u32::try_from(self.len + ghosts).unwrap())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(scale) = self.scale {
            options.extend([1, 3, 3, scale]);
        }
        if self.sack_ok {
            options.extend([4, 2, 1, 1]);
        }
        if let Some(right) = self.sacked {
            // The second block counts as well; the first is older.
            options.extend([1, 1, 5, 18]);
            for edge in [self.ack, self.ack, right.wrapping_sub(1), right] {
                options.extend(edge.to_be_bytes());
            }
        }
        let mut bytes = alloc::vec![0x0f, 0xa0, 0, 80];
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.push(u8::try_from(5 + options.len() / 4).unwrap() << 4);
        bytes.push(self.flags);
        bytes.extend(self.win.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.resize(bytes.len() + self.len, 0x55);
        bytes
    }
}

/// How far `a` is ahead of `b`.
fn ahead(a: u32, b: u32) -> i64 {
    i64::from(i32::from_ne_bytes(a.wrapping_sub(b).to_ne_bytes()))
}

#[derive(Debug, Default)]
struct Slow {
    sides: [SlowSide; 2],
    state: usize,
    last_kind: usize,
    last_dir: usize,
    /// seq, ack, end, window of the last acknowledgement or ignored segment.
    last: (u32, u32, u32, u32),
    /// Scale and SACK permission of a SYN that was ignored.
    offered: (u32, bool, bool),
    retrans: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    In,
    Ignored,
    Invalid,
}

const SYN_SENT: usize = 1;
const SYN_RECV: usize = 2;
const ESTABLISHED: usize = 3;
const FIN_WAIT: usize = 4;
const TIME_WAIT: usize = 7;
const CLOSE: usize = 8;

impl Slow {
    fn begin(s: &Segment, loose: bool) -> Option<Self> {
        let mut slow = Self {
            last_kind: 5,
            ..Self::default()
        };
        let win = u32::from(s.win).max(1);
        slow.sides[0].end = s.end();
        slow.sides[0].max_end = s.end();
        slow.sides[0].max_win = win;
        match s.kind() {
            0 => slow.sides[0] = slow.init(s, slow.sides[0]),
            3 if loose => {
                slow.sides[0].max_end = s.end().wrapping_add(win);
                for side in &mut slow.sides {
                    (side.sacks, side.liberal) = (true, true);
                }
            }
            _ => return None,
        }
        Some(slow)
    }

    fn init(&self, s: &Segment, old: SlowSide) -> SlowSide {
        let _ = self;
        SlowSide {
            end: s.end(),
            max_end: s.end(),
            max_win: u32::from(s.win).max(1),
            scale: s.scale.map_or(0, |scale| u32::from(scale.min(14))),
            scales: s.scale.is_some(),
            sacks: s.sack_ok,
            ..old
        }
    }

    fn segment(
        &mut self,
        s: &Segment,
        dir: usize,
        replied: bool,
        assured: bool,
        config: &ConntrackConfig,
    ) -> Outcome {
        let kind = s.kind();
        let mut old = self.state;
        let matrix = [ORIGINAL, REPLY][dir];
        let text = matrix[kind].split(' ').nth(old).unwrap();
        let keep = Outcome::Valid {
            timeout: None,
            assured: false,
        };
        let mut ignored = text == "IG";
        if text == "IV" {
            return Outcome::Invalid;
        }
        if text == "SS" && old >= TIME_WAIT {
            let closed = self.sides[0].closed || self.sides[1].closed;
            if closed || (self.last_dir == dir && self.last_kind == 4) {
                return Outcome::Reopen;
            }
            ignored = true;
        }
        let mut new = old;
        if ignored {
            let (_, _, end, win) = self.last;
            if kind == 1 && self.last_kind == 0 && self.last_dir != dir && s.ack == end {
                let (scale, scales, sacks) = self.offered;
                self.sides[1 - dir] = SlowSide {
                    end,
                    max_end: end,
                    max_win: win.max(1),
                    scale,
                    scales,
                    sacks,
                    ..SlowSide::default()
                };
                self.sides[dir] = SlowSide::default();
                (old, new) = (SYN_SENT, SYN_RECV);
            } else {
                (self.last_kind, self.last_dir) = (kind, dir);
                self.last = (s.seq, self.last.1, s.end(), u32::from(s.win));
                if kind == 0 && dir == 0 {
                    let scale = s.scale.map_or(0, |scale| u32::from(scale.min(14)));
                    self.offered = (scale, s.scale.is_some(), s.sack_ok);
                }
                return keep;
            }
        } else if let Next::To(state) = cell(text) {
            new = STATES.iter().position(|&s| s == state).unwrap();
        }
        let mut judged = None;
        if new == CLOSE && kind == 4 {
            let closing = (FIN_WAIT..=CLOSE).contains(&old);
            if closing {
                judged = Some(Judged::In);
            } else {
                match self.reset(s, dir, replied, assured) {
                    None => return Outcome::Invalid,
                    Some((doubtful, unchecked)) => {
                        if unchecked {
                            judged = Some(Judged::In);
                        } else if doubtful {
                            new = old;
                        }
                    }
                }
            }
        }
        match judged.unwrap_or_else(|| self.window(s, dir, config.tcp_be_liberal)) {
            Judged::In => {}
            Judged::Ignored => return keep,
            Judged::Invalid => {
                let ends = |kind| kind == 4 || kind == 2;
                if assured && ends(kind) {
                    if self.last_dir != dir && ends(self.last_kind) {
                        return Outcome::InvalidShrink(config.timers.tcp_unacknowledged);
                    }
                    (self.last_kind, self.last_dir) = (kind, dir);
                }
                return Outcome::Invalid;
            }
        }
        (self.last_kind, self.last_dir, self.state) = (kind, dir, new);
        if old != new && new == FIN_WAIT {
            self.sides[dir].closed = true;
        }
        let t = &config.timers;
        let of_state = [
            t.tcp_syn_sent,
            t.tcp_syn_sent,
            t.tcp_syn_recv,
            t.tcp_established,
            t.tcp_fin_wait,
            t.tcp_close_wait,
            t.tcp_last_ack,
            t.tcp_time_wait,
            t.tcp_close,
            t.tcp_syn_sent,
        ][new];
        let mut timeout =
            if self.retrans >= u32::from(config.tcp_max_retrans) && of_state > t.tcp_max_retrans {
                t.tcp_max_retrans
            } else if kind == 4 {
                t.tcp_close
            } else if self.sides.iter().any(|s| s.unacked) && of_state > t.tcp_unacknowledged {
                t.tcp_unacknowledged
            } else if self.last.3 == 0 && of_state > t.tcp_max_retrans {
                t.tcp_max_retrans
            } else {
                of_state
            };
        if !replied {
            if kind == 4 {
                return Outcome::Kill;
            }
            if kind == 0 && old == SYN_SENT {
                return keep;
            }
            if new == ESTABLISHED {
                timeout = timeout.min(t.tcp_unacknowledged);
            }
        }
        Outcome::Valid {
            timeout: Some(timeout),
            assured: replied
                && !assured
                && new == ESTABLISHED
                && (old == SYN_RECV || old == ESTABLISHED),
        }
    }

    /// Whether the state stays for now, and whether the window is not looked at; none for a reset that is none.
    fn reset(&self, s: &Segment, dir: usize, replied: bool, assured: bool) -> Option<(bool, bool)> {
        let established = self.state == ESTABLISHED && assured;
        let mut doubtful = false;
        if let Some(max_ack) = self.sides[1 - dir].max_ack
            && self.last_kind != 0
        {
            if s.seq == 0 && !established {
                return Some((false, false));
            }
            if ahead(s.seq, max_ack) < 0 {
                return None;
            }
            let of_train = self.last_kind == 3 && self.last_dir == dir && s.seq == self.last.2;
            if !established || s.seq == max_ack || of_train {
                return Some((false, false));
            }
            doubtful = true;
        }
        let to_ignored = (replied && self.last_kind == 0) || (!assured && self.last_kind == 3);
        Some((doubtful, to_ignored && s.ack == self.last.2))
    }

    fn window(&mut self, s: &Segment, dir: usize, liberal: bool) -> Judged {
        let (mut sender, mut receiver) = (self.sides[dir], self.sides[1 - dir]);
        let judged = self.judge(s, dir, &mut sender, &mut receiver, liberal);
        self.sides[dir] = sender;
        self.sides[1 - dir] = receiver;
        judged
    }

    fn judge(
        &mut self,
        s: &Segment,
        dir: usize,
        sender: &mut SlowSide,
        receiver: &mut SlowSide,
        liberal: bool,
    ) -> Judged {
        let (mut seq, mut end, mut ack) = (s.seq, s.end(), s.ack);
        let mut sack = s.ack;
        if receiver.sacks
            && let Some(right) = s.sacked
            && ahead(right, sack) > 0
        {
            sack = right;
        }
        let raw = u32::from(s.win);
        if sender.max_win == 0 {
            if s.has(SYN) {
                *sender = self.init(s, *sender);
                if !(sender.scales && receiver.scales) {
                    (sender.scale, receiver.scale) = (0, 0);
                }
                if !s.has(ACK) {
                    return Judged::In;
                }
            } else {
                sender.end = end;
                sender.max_win = (raw << sender.scale).max(1);
                sender.max_end = end.wrapping_add(sender.max_win);
                if receiver.max_win == 0 {
                    (receiver.end, receiver.max_end) = (sack, sack);
                }
            }
        } else if ahead(end, sender.end) > 0
            && [(SYN_SENT, 0), (SYN_RECV, 1)].contains(&(self.state, dir))
        {
            *sender = self.init(s, *sender);
        }
        if !s.has(ACK) || (s.has(RST) && ack == 0) {
            (ack, sack) = (receiver.end, receiver.end);
        }
        let empty = seq == end;
        if empty && (!s.has(RST) || (seq == 0 && self.state == SYN_SENT)) {
            (seq, end) = (sender.end, sender.end);
        }
        let lenient = liberal || sender.liberal;
        let or = |judged| if lenient { Judged::In } else { judged };
        let reach = i64::from(sender.max_win.max(66_000));
        let acked_unsent = ahead(sack, receiver.end) > 0;
        let ack_too_old = ahead(sack, receiver.end) < -reach;
        if ahead(seq, sender.max_end) > 0 {
            let over = end.wrapping_sub(sender.max_end).wrapping_add(1);
            if over <= receiver.max_win && !acked_unsent && !ack_too_old {
                sender.end = end;
                sender.unacked = true;
            }
            return or(Judged::Invalid);
        }
        if acked_unsent {
            return or(Judged::Invalid);
        }
        let seen_long_ago =
            receiver.max_win != 0 && ahead(end, sender.end) < -i64::from(receiver.max_win);
        if seen_long_ago || ack_too_old {
            return or(Judged::Ignored);
        }
        let win = if s.has(SYN) { raw } else { raw << sender.scale };
        sender.max_win = sender.max_win.max(win.wrapping_add(sack.wrapping_sub(ack)));
        if ahead(end, sender.end) > 0 {
            sender.end = end;
            sender.unacked = true;
        }
        if s.has(ACK) && sender.max_ack.is_none_or(|max| ahead(ack, max) > 0) {
            sender.max_ack = Some(ack);
        }
        if receiver.max_win != 0 && ahead(end, sender.max_end) > 0 {
            receiver.max_win += end.wrapping_sub(sender.max_end);
        }
        if ahead(sack.wrapping_add(win), receiver.max_end) >= 0 {
            receiver.max_end = sack.wrapping_add(win.max(1));
        }
        if ack == receiver.end {
            receiver.unacked = false;
        }
        if s.kind() == 3 {
            let this = (seq, ack, end, win);
            if self.last_dir == dir && self.last == this {
                self.retrans += 1;
            } else {
                (self.last_dir, self.last, self.retrans) = (dir, this, 0);
            }
        }
        Judged::In
    }
}

/// Where a number is drawn from: one of the borders, and how far from it.
#[derive(Clone, Copy, Debug)]
struct Near(usize, i32);

impl Near {
    fn of(self, own: &SlowSide, other: &SlowSide, last: (u32, u32, u32, u32)) -> u32 {
        let reach = own.max_win.max(other.max_win);
        let border = match self.0 {
            0 => own.end,
            1 => own.max_end,
            2 => own.max_ack.unwrap_or(0),
            3 => own.end.wrapping_sub(other.max_win),
            4 => own.end.wrapping_sub(reach.max(66_000)),
            5 => other.max_ack.unwrap_or(own.end),
            6 => last.2,
            7 => last.0,
            8 => 0,
            _ => own.end.wrapping_add(2_000_000),
        };
        border.wrapping_add_signed(self.1)
    }
}

#[derive(Clone, Debug)]
struct Draw {
    reply: bool,
    flags: u8,
    seq: Near,
    ack: Near,
    win: u16,
    len: usize,
    scale: Option<u8>,
    sack_ok: bool,
    sacked: Option<Near>,
    again: bool,
}

fn near() -> impl Strategy<Value = Near> {
    let border = prop_oneof![6 => Just(0_usize), 6 => 0..10_usize];
    (
        border,
        prop_oneof![5 => Just(0), 2 => -2..3_i32, 1 => -1500..1500_i32],
    )
        .prop_map(|(b, n)| Near(b, n))
}

fn draw() -> impl Strategy<Value = Draw> {
    let flags = prop_oneof![
        8 => Just(ACK), 2 => Just(ACK | 0x08), 3 => Just(SYN), 3 => Just(SYN | ACK), 2 => Just(FIN | ACK),
        2 => Just(RST), 2 => Just(RST | ACK), 1 => Just(FIN), 1 => Just(0),
    ];
    let win = prop::sample::select(alloc::vec![0_u16, 1, 100, 1000, 30_000, u16::MAX]);
    let len = prop_oneof![4 => Just(0_usize), 1 => Just(1), 1 => Just(100), 1 => Just(1400)];
    let scale = prop::option::of(prop::sample::select(alloc::vec![0_u8, 2, 7, 14, 15, 255]));
    let of_segment = (
        flags,
        near(),
        near(),
        win,
        len,
        prop::option::weighted(0.2, near()),
    );
    (
        any::<bool>(),
        of_segment,
        scale,
        any::<bool>(),
        prop::bool::weighted(0.15),
    )
        .prop_map(
            |(reply, (flags, seq, ack, win, len, sacked), scale, sack_ok, again)| Draw {
                reply,
                flags,
                seq,
                ack,
                win,
                len,
                scale,
                sack_ok,
                sacked,
                again,
            },
        )
}

fn segment(d: &Draw, slow: &Slow) -> Segment {
    let dir = usize::from(d.reply);
    let (own, other) = (&slow.sides[dir], &slow.sides[1 - dir]);
    let syn = d.flags & SYN != 0;
    // Further away than half the circle less the largest window, before and after change places when it is added, and the
    // two formulations add it on different sides.
    let reach = i64::from(own.max_win.max(other.max_win).max(66_000));
    let within = |number, end| {
        if ahead(number, end).abs() + reach < (1 << 31) - (1 << 17) {
            number
        } else {
            end
        }
    };
    let ack = within(d.ack.of(other, own, slow.last), other.end);
    Segment {
        flags: d.flags,
        seq: within(d.seq.of(own, other, slow.last), own.end),
        ack,
        win: d.win,
        len: if syn { 0 } else { d.len },
        scale: d.scale.filter(|_| syn),
        sack_ok: d.sack_ok && syn,
        sacked: d
            .sacked
            .filter(|_| !syn)
            .map(|n| n.of(other, own, slow.last))
            // Windows end far below half of the circle, where before and after change places.
            .filter(|&right| ahead(right, ack).abs() < 1 << 29),
    }
}

/// A connection as three segments open it, or one that was found in the middle.
fn opening(found: bool, scale: Option<u8>, sack_ok: bool) -> Vec<(usize, Segment)> {
    let (c, s) = (u32::MAX - 300, 0x1fff_ff00);
    let segment = |flags, seq: u32, ack| Segment {
        flags,
        seq,
        ack,
        win: 1000,
        len: 0,
        scale: scale.filter(|_| flags & SYN != 0),
        sack_ok: sack_ok && flags & SYN != 0,
        sacked: None,
    };
    if found {
        return alloc::vec![(0, segment(ACK, c, s))];
    }
    alloc::vec![
        (0, segment(SYN, c, 0)),
        (1, segment(SYN | ACK, s, c.wrapping_add(1))),
        (0, segment(ACK, c.wrapping_add(1), s + 1)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 4, ..ProptestConfig::default() })]

    /// NAT-30, NAT-33 to NAT-37, NAT-39: state, verdict and timer of each segment are what the second formulation says.
    #[test]
    fn every_segment_is_judged_as_by_a_second_formulation(
        found in prop::bool::weighted(0.15),
        opened in 1..4_usize,
        scale in prop::option::of(prop::sample::select(alloc::vec![0_u8, 3, 14])),
        sack_ok in any::<bool>(),
        be_liberal in prop::bool::weighted(0.1),
        draws in prop::collection::vec(draw(), 1..16),
    ) {
        let config = ConntrackConfig { tcp_be_liberal: be_liberal, ..ConntrackConfig::default() };
        let opening = opening(found, scale, sack_ok);
        let (_, first) = &opening[0];
        let bytes = first.bytes();
        let mut track = TcpTrack::begin(&Tcp::parse(&bytes).unwrap(), true).unwrap();
        let mut slow = Slow::begin(first, true).unwrap();
        let (mut replied, mut assured) = (false, false);
        let mut last = first.clone();
        let first_three = opening.iter().take(opened).map(|(dir, s)| (Some((*dir, s.clone())), None));
        let drawn = draws.iter().map(|d| (None, Some(d)));
        for (given, drawn) in first_three.chain(drawn) {
            let (dir, s) = given.unwrap_or_else(|| {
                let d: &Draw = drawn.unwrap();
                let dir = usize::from(d.reply);
                (dir, if d.again { last.clone() } else { segment(d, &slow) })
            });
            let bytes = s.bytes();
            let tcp = Tcp::parse(&bytes).unwrap();
            let of_dir = [Dir::Original, Dir::Reply][dir];
            let got = track.segment(&tcp, of_dir, replied, assured, &config);
            let want = slow.segment(&s, dir, replied, assured, &config);
            prop_assert_eq!(got, want, "{:?} of {}", &s, dir);
            prop_assert_eq!(track.state, STATES[slow.state]);
            match got {
                Outcome::Valid { assured: now, .. } => {
                    replied |= dir == 1;
                    assured |= now;
                }
                Outcome::Reopen | Outcome::Kill => break,
                Outcome::Invalid | Outcome::InvalidShrink(_) => {}
            }
            last = s;
        }
    }

    /// NAT-33: what may begin a connection.
    #[test]
    fn a_connection_begins_as_by_a_second_formulation(d in draw(), loose in any::<bool>()) {
        let s = segment(&d, &Slow::default());
        let bytes = s.bytes();
        let begun = TcpTrack::begin(&Tcp::parse(&bytes).unwrap(), loose);
        prop_assert_eq!(begun.is_some(), Slow::begin(&s, loose).is_some());
    }
}

/// The kinds of the two formulations are numbered alike.
#[test]
fn kinds_are_numbered_as_the_matrix_is() {
    for flags in 0..=u8::MAX {
        let segment = Segment {
            flags,
            seq: 0,
            ack: 0,
            win: 0,
            len: 0,
            scale: None,
            sack_ok: false,
            sacked: None,
        };
        assert_eq!(KINDS[segment.kind()], kind(flags));
    }
}
