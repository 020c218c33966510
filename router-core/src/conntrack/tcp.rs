//! TCP as connection tracking sees it from the middle: states by flags, and whether a segment is within the windows
//! (NAT-33 to NAT-40).
//!
//! The states and the transitions are those of Linux (`nf_conntrack_proto_tcp`), the window arithmetic that of G. van
//! Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (2000), on which Linux's is based: an upper and a lower
//! bound for data and for acknowledgements, from what both sides have sent and offered. Sequence numbers are compared
//! modulo 2^32 (RFC 9293 3.4).
//!
//! Cost: one table look-up and some additions; options are read on SYN, and for SACK when it was agreed on.

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use core::time::Duration;

use super::Dir;
use crate::config::nat::ConntrackConfig;
use crate::wire::tcp::{ACK, FIN, RST, SYN, Tcp};

/// Linux's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
pub enum TcpState {
    /// Nothing yet.
    #[default]
    None,
    /// SYN seen.
    SynSent,
    /// SYN and SYN/ACK seen.
    SynRecv,
    /// Open.
    Established,
    /// FIN seen.
    FinWait,
    /// FIN acknowledged.
    CloseWait,
    /// FIN of both seen.
    LastAck,
    /// Both acknowledged.
    TimeWait,
    /// RST seen.
    Close,
    /// SYN of both seen: simultaneous open.
    SynSent2,
}

impl TcpState {
    /// As `conntrack -L` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }
}

/// What a segment is, by its flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    #[default]
    None,
}

const fn kind(flags: u8) -> Kind {
    if flags & RST != 0 {
        Kind::Rst
    } else if flags & SYN != 0 {
        if flags & ACK != 0 {
            Kind::SynAck
        } else {
            Kind::Syn
        }
    } else if flags & FIN != 0 {
        Kind::Fin
    } else if flags & ACK != 0 {
        Kind::Ack
    } else {
        Kind::None
    }
}

/// Where a segment leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    To(TcpState),
    /// Let through without a change: we may be out of step, and the other side will say so.
    Ignore,
    Invalid,
}

/// The transition of a segment of this kind in this direction.
#[expect(
    clippy::match_same_arms,
    reason = "one line for each state says more than the shortest match"
)]
const fn next(dir: Dir, kind: Kind, state: TcpState) -> Next {
    use Next::{Ignore, Invalid, To};
    use TcpState::{
        Close, CloseWait, Established, FinWait, LastAck, None, SynRecv, SynSent, SynSent2, TimeWait,
    };
    match (kind, dir, state) {
        // A SYN opens, opens again what is over (RFC 1122 4.2.2.13), or meets another one (simultaneous open).
        (Kind::Syn, Dir::Original, None | SynSent | TimeWait | Close) => To(SynSent),
        (Kind::Syn, Dir::Original, SynSent2) => To(SynSent2),
        (Kind::Syn, Dir::Original, _) => Ignore,
        (Kind::Syn, Dir::Reply, SynSent | SynSent2) => To(SynSent2),
        (Kind::Syn, Dir::Reply, TimeWait) => To(SynSent),
        (Kind::Syn, Dir::Reply, _) => Invalid,

        (Kind::SynAck, Dir::Original, SynRecv | SynSent2) => To(SynRecv),
        (Kind::SynAck, Dir::Original, _) => Invalid,
        (Kind::SynAck, Dir::Reply, SynSent | SynSent2) => To(SynRecv),
        (Kind::SynAck, Dir::Reply, None) => Invalid,
        (Kind::SynAck, Dir::Reply, _) => Ignore,

        (Kind::Fin, _, SynRecv | Established) => To(FinWait),
        (Kind::Fin, _, FinWait | CloseWait | LastAck) => To(LastAck),
        (Kind::Fin, _, TimeWait) => To(TimeWait),
        (Kind::Fin, _, Close) => To(Close),
        (Kind::Fin, _, None | SynSent | SynSent2) => Invalid,

        // An ACK without a connection picks one up, if that is allowed.
        (Kind::Ack, Dir::Original, None | SynRecv | Established) => To(Established),
        (Kind::Ack, Dir::Original, SynSent | SynSent2) => Invalid,
        (Kind::Ack, Dir::Reply, None) => Invalid,
        (Kind::Ack, Dir::Reply, SynSent | SynSent2) => Ignore,
        (Kind::Ack, Dir::Reply, SynRecv) => To(SynRecv),
        (Kind::Ack, Dir::Reply, Established) => To(Established),
        (Kind::Ack, _, FinWait | CloseWait) => To(CloseWait),
        (Kind::Ack, _, LastAck | TimeWait) => To(TimeWait),
        (Kind::Ack, _, Close) => To(Close),

        (Kind::Rst, _, None) => Invalid,
        (Kind::Rst, _, _) => To(Close),

        (Kind::None, _, _) => Invalid,
    }
}

const SCALE: u8 = 1;
const SACK: u8 = 2;
const CLOSE_INIT: u8 = 4;
const LIBERAL: u8 = 8;
const UNACKED: u8 = 16;
const ACK_SEEN: u8 = 32;

/// What one side has sent and offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Side {
    /// Behind the last octet it sent.
    end: u32,
    /// Behind the last octet it may send.
    max_end: u32,
    /// Largest window it offered.
    max_win: u32,
    /// Highest acknowledgement it sent.
    max_ack: u32,
    scale: u8,
    flags: u8,
}

/// A connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(super) struct TcpTrack {
    sides: [Side; 2],
    last_seq: u32,
    last_ack: u32,
    last_end: u32,
    last_win: u32,
    pub(super) state: TcpState,
    last_kind: Kind,
    last_dir: Dir,
    last_scale: u8,
    last_flags: u8,
    retrans: u8,
}

/// What a segment did to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It belongs to it, and keeps it for this long from now; `None`: as long as before.
    Valid {
        timeout: Option<Duration>,
        /// The connection is one by now.
        assured: bool,
    },
    /// It does not.
    Invalid,
    /// It does not, but says that the connection ends: keep it this long at most.
    InvalidShrink(Duration),
    /// It begins a new connection in place of one that is over.
    Reopen,
    /// It ends a connection that never was one.
    Kill,
}

const fn after(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) >> 31 != 0
}

const fn before(a: u32, b: u32) -> bool {
    after(b, a)
}

/// Behind the last octet of a segment; SYN and FIN count as one each.
fn end_of(tcp: &Tcp<'_>) -> u32 {
    let flags = tcp.flags();
    let len = u32::try_from(tcp.payload_len()).unwrap_or(0);
    let ghosts = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    tcp.seq().wrapping_add(len).wrapping_add(ghosts)
}

/// Iterates over options: kind and data.
fn options<'a>(tcp: &Tcp<'a>) -> impl Iterator<Item = (u8, &'a [u8])> {
    let mut rest = tcp.options();
    core::iter::from_fn(move || {
        loop {
            match *rest {
                [] | [0, ..] => return None,
                [1, ref tail @ ..] => rest = tail,
                [kind, len, ..] => {
                    let (option, tail) = rest.split_at_checked(usize::from(len))?;
                    rest = tail;
                    return Some((kind, option.get(2..)?));
                }
                [_] => return None,
            }
        }
    })
}

/// Scale and SACK permission that a SYN offers.
fn offered(tcp: &Tcp<'_>) -> (u8, u8) {
    let (mut scale, mut flags) = (0, 0);
    for (kind, data) in options(tcp) {
        match (kind, data) {
            // RFC 7323 2.3: more than 14 counts as 14.
            (3, &[shift]) => {
                scale = shift.min(14);
                flags |= SCALE;
            }
            (4, []) => flags |= SACK,
            _ => {}
        }
    }
    (scale, flags)
}

/// The highest octet that SACK blocks, or the acknowledgement itself, acknowledge (RFC 2018).
fn sacked(tcp: &Tcp<'_>) -> u32 {
    let mut highest = tcp.ack();
    for (kind, data) in options(tcp) {
        if kind == 5 {
            for block in data.chunks_exact(8) {
                if let [_, _, _, _, a, b, c, d] = *block {
                    let right = u32::from_be_bytes([a, b, c, d]);
                    if after(right, highest) {
                        highest = right;
                    }
                }
            }
        }
    }
    highest
}

impl TcpTrack {
    /// A connection that begins with this segment. None when it can't (NAT-33).
    pub(super) fn begin(tcp: &Tcp<'_>, loose: bool) -> Option<Self> {
        let mut track = Self::default();
        let Next::To(state) = next(Dir::Original, kind(tcp.flags()), TcpState::None) else {
            return None;
        };
        let win = u32::from(tcp.window()).max(1);
        let end = end_of(tcp);
        let [orig, reply] = &mut track.sides;
        orig.end = end;
        orig.max_win = win;
        if state == TcpState::SynSent {
            orig.max_end = end;
            (orig.scale, orig.flags) = offered(tcp);
        } else if loose {
            // In the middle, and its history is not known: neither the scale nor whether SACK was agreed on.
            orig.max_end = end.wrapping_add(win);
            orig.flags = SACK | LIBERAL;
            reply.flags = SACK | LIBERAL;
        } else {
            return None;
        }
        Some(track)
    }

    /// A connection whose history is lost but for its state: as one that is picked up in the middle.
    pub(super) fn restored(state: TcpState) -> Self {
        let mut track = Self {
            state,
            ..Self::default()
        };
        for side in &mut track.sides {
            side.flags = SACK | LIBERAL;
        }
        track
    }

    /// Takes a segment into account. `replied`: there was an answer before it; `assured`: the connection is one.
    pub(super) fn segment(
        &mut self,
        tcp: &Tcp<'_>,
        dir: Dir,
        replied: bool,
        assured: bool,
        config: &ConntrackConfig,
    ) -> Outcome {
        let kind = kind(tcp.flags());
        let mut old = self.state;
        let mut new = match next(dir, kind, old) {
            Next::Invalid => return Outcome::Invalid,
            Next::To(TcpState::SynSent) if old >= TcpState::TimeWait && self.is_over(dir) => {
                return Outcome::Reopen;
            }
            Next::To(TcpState::SynSent) if old >= TcpState::TimeWait => None,
            Next::Ignore => None,
            Next::To(state) => Some(state),
        };
        if new.is_none() {
            if self.agrees_with_ignored(tcp, dir, kind) {
                old = TcpState::SynSent;
                new = Some(TcpState::SynRecv);
            } else {
                self.remember_ignored(tcp, dir, kind);
                return Outcome::Valid {
                    timeout: None,
                    assured: false,
                };
            }
        }
        let mut new = new.unwrap_or(old);
        let mut check = true;
        if new == TcpState::Close && kind == Kind::Rst {
            match self.reset(tcp, dir, replied, assured) {
                Reset::Invalid => return Outcome::Invalid,
                Reset::Closes => {}
                Reset::Unchecked => check = false,
                Reset::Doubtful => new = old,
            }
        }
        if check {
            match self.within(tcp, dir, kind, config.tcp_be_liberal) {
                Within::Yes => {}
                Within::Late => {
                    return Outcome::Valid {
                        timeout: None,
                        assured: false,
                    };
                }
                Within::No => return self.refuse(dir, kind, assured, config),
            }
        }
        self.last_kind = kind;
        self.last_dir = dir;
        self.state = new;
        if old != new && new == TcpState::FinWait {
            self.side(dir).flags |= CLOSE_INIT;
        }
        let mut timeout = self.timeout(kind, config);
        let mut now_assured = false;
        if !replied {
            if kind == Kind::Rst {
                return Outcome::Kill;
            }
            if kind == Kind::Syn && old == TcpState::SynSent {
                // A SYN repeated does not keep what nobody answers.
                return Outcome::Valid {
                    timeout: None,
                    assured: false,
                };
            }
            if new == TcpState::Established {
                timeout = timeout.min(config.timers.tcp_unacknowledged);
            }
        } else if !assured && new == TcpState::Established {
            now_assured = matches!(old, TcpState::SynRecv | TcpState::Established);
        }
        Outcome::Valid {
            timeout: Some(timeout),
            assured: now_assured,
        }
    }

    fn side(&mut self, dir: Dir) -> &mut Side {
        &mut self.sides[dir.index()]
    }

    fn is_closing(&self) -> bool {
        matches!(
            self.state,
            TcpState::FinWait
                | TcpState::CloseWait
                | TcpState::LastAck
                | TcpState::TimeWait
                | TcpState::Close
        )
    }

    /// True when a SYN of this side may begin anew: one side had closed, or this one has just reset it.
    fn is_over(&self, dir: Dir) -> bool {
        self.sides.iter().any(|s| s.flags & CLOSE_INIT != 0)
            || (self.last_dir == dir && self.last_kind == Kind::Rst)
    }

    /// True when this SYN/ACK acknowledges a SYN that was ignored: the two ends agree, and we go by what they say.
    fn agrees_with_ignored(&mut self, tcp: &Tcp<'_>, dir: Dir, kind: Kind) -> bool {
        if kind != Kind::SynAck
            || self.last_kind != Kind::Syn
            || self.last_dir == dir
            || tcp.ack() != self.last_end
        {
            return false;
        }
        let (end, win) = (self.last_end, self.last_win.max(1));
        let (scale, flags) = (self.last_scale, self.last_flags);
        *self.side(dir.other()) = Side {
            end,
            max_end: end,
            max_win: win,
            max_ack: 0,
            scale,
            flags,
        };
        *self.side(dir) = Side::default();
        true
    }

    fn remember_ignored(&mut self, tcp: &Tcp<'_>, dir: Dir, kind: Kind) {
        self.last_kind = kind;
        self.last_dir = dir;
        self.last_seq = tcp.seq();
        self.last_end = end_of(tcp);
        self.last_win = u32::from(tcp.window());
        if kind == Kind::Syn && dir == Dir::Original {
            (self.last_scale, self.last_flags) = offered(tcp);
        }
    }

    /// Judges a reset (RFC 5961 3.2; NAT-35).
    fn reset(&self, tcp: &Tcp<'_>, dir: Dir, replied: bool, assured: bool) -> Reset {
        let other = &self.sides[dir.other().index()];
        let seq = tcp.seq();
        let mut verdict = Reset::Closes;
        let established = self.state == TcpState::Established && assured;
        if self.is_closing() {
            // The ends may have begun anew with other numbers.
            return Reset::Unchecked;
        }
        if other.flags & ACK_SEEN != 0 && self.last_kind != Kind::Syn {
            if seq == 0 && !established {
                return Reset::Closes;
            }
            if before(seq, other.max_ack) {
                return Reset::Invalid;
            }
            if !established || seq == other.max_ack {
                return Reset::Closes;
            }
            if self.last_kind == Kind::Ack && self.last_dir == dir && seq == self.last_end {
                return Reset::Closes;
            }
            // In the window perhaps, but not what the receiver waits for: it may answer with a challenge ACK.
            verdict = Reset::Doubtful;
        }
        let answers_ignored =
            (replied && self.last_kind == Kind::Syn) || (!assured && self.last_kind == Kind::Ack);
        if answers_ignored && tcp.ack() == self.last_end {
            return Reset::Unchecked;
        }
        verdict
    }

    /// Window tracking; updates both sides when the segment is within.
    fn within(&mut self, tcp: &Tcp<'_>, dir: Dir, kind: Kind, liberal: bool) -> Within {
        let (state, flags) = (self.state, tcp.flags());
        let [orig, reply] = &mut self.sides;
        let (sender, receiver) = match dir {
            Dir::Original => (orig, reply),
            Dir::Reply => (reply, orig),
        };
        let (mut seq, mut end) = (tcp.seq(), end_of(tcp));
        let mut ack = tcp.ack();
        let mut sack = if receiver.flags & SACK != 0 {
            sacked(tcp)
        } else {
            ack
        };
        let raw_win = u32::from(tcp.window());
        let syn = flags & SYN != 0;
        if sender.max_win == 0 {
            if syn {
                // The other side's SYN.
                sender.end = end;
                sender.max_end = end;
                sender.max_win = raw_win.max(1);
                let (scale, offer) = offered(tcp);
                sender.scale = scale;
                sender.flags = sender.flags & !(SCALE | SACK) | offer;
                if sender.flags & receiver.flags & SCALE == 0 {
                    // Both or none (RFC 7323 2.2).
                    sender.scale = 0;
                    receiver.scale = 0;
                }
                if flags & ACK == 0 {
                    return Within::Yes;
                }
            } else {
                sender.end = end;
                sender.max_win = (raw_win << sender.scale).max(1);
                sender.max_end = end.wrapping_add(sender.max_win);
                if receiver.max_win == 0 {
                    receiver.end = sack;
                    receiver.max_end = sack;
                }
            }
        } else if after(end, sender.end)
            && ((state == TcpState::SynSent && dir == Dir::Original)
                || (state == TcpState::SynRecv && dir == Dir::Reply))
        {
            // Begun anew with a higher number, as RFC 9293 allows.
            sender.end = end;
            sender.max_end = end;
            sender.max_win = raw_win.max(1);
            let (scale, offer) = offered(tcp);
            sender.scale = scale;
            sender.flags = sender.flags & !(SCALE | SACK) | offer;
        }
        if flags & ACK == 0 || (flags & RST != 0 && ack == 0) {
            // As if it acknowledged everything.
            ack = receiver.end;
            sack = receiver.end;
        }
        if seq == end && (flags & RST == 0 || (seq == 0 && state == TcpState::SynSent)) {
            // No data: only the acknowledgement counts.
            seq = sender.end;
            end = sender.end;
        }

        let liberal = liberal || sender.flags & LIBERAL != 0;
        let no = if liberal { Within::Yes } else { Within::No };
        let in_receive_window = receiver.max_win == 0
            || after(
                end,
                sender.end.wrapping_sub(receiver.max_win).wrapping_sub(1),
            );
        // An acknowledgement may be as old as the largest window, and 66000 at least.
        let ack_window = sender.max_win.max(66_000);
        let ack_floor = receiver.end.wrapping_sub(ack_window).wrapping_sub(1);
        let ack_possible = before(sack, receiver.end.wrapping_add(1));
        if !before(seq, sender.max_end.wrapping_add(1)) {
            let overshot = end.wrapping_sub(sender.max_end).wrapping_add(1);
            if overshot <= receiver.max_win && ack_possible && after(sack, ack_floor) {
                // A little more than was offered: the peer may yet acknowledge it.
                sender.end = end;
                sender.flags |= UNACKED;
            }
            return no;
        }
        if !ack_possible {
            return no;
        }
        if !in_receive_window || !after(sack, ack_floor) {
            // Seen and acknowledged long ago: harmless.
            return if liberal { Within::Yes } else { Within::Late };
        }

        let win = if syn {
            raw_win
        } else {
            raw_win << sender.scale
        };
        let offered = win.wrapping_add(sack.wrapping_sub(ack));
        sender.max_win = sender.max_win.max(offered);
        if after(end, sender.end) {
            sender.end = end;
            sender.flags |= UNACKED;
        }
        if flags & ACK != 0 {
            if sender.flags & ACK_SEEN == 0 || after(ack, sender.max_ack) {
                sender.max_ack = ack;
            }
            sender.flags |= ACK_SEEN;
        }
        if receiver.max_win != 0 && after(end, sender.max_end) {
            receiver.max_win = receiver
                .max_win
                .wrapping_add(end.wrapping_sub(sender.max_end));
        }
        let may_send = sack.wrapping_add(win);
        if after(may_send, receiver.max_end.wrapping_sub(1)) {
            receiver.max_end = may_send.wrapping_add(u32::from(win == 0));
        }
        if ack == receiver.end {
            receiver.flags &= !UNACKED;
        }
        if kind == Kind::Ack {
            let this = (dir, seq, ack, end, win);
            let last = (
                self.last_dir,
                self.last_seq,
                self.last_ack,
                self.last_end,
                self.last_win,
            );
            if this == last {
                self.retrans = self.retrans.saturating_add(1);
            } else {
                (
                    self.last_dir,
                    self.last_seq,
                    self.last_ack,
                    self.last_end,
                    self.last_win,
                ) = this;
                self.retrans = 0;
            }
        }
        Within::Yes
    }

    /// A segment out of the window. One that would end the connection shortens its life: it may be right, and we wrong.
    fn refuse(&mut self, dir: Dir, kind: Kind, assured: bool, config: &ConntrackConfig) -> Outcome {
        let ends = |kind| matches!(kind, Kind::Rst | Kind::Fin);
        if !assured || !ends(kind) {
            return Outcome::Invalid;
        }
        if self.last_dir != dir && ends(self.last_kind) {
            return Outcome::InvalidShrink(config.timers.tcp_unacknowledged);
        }
        self.last_kind = kind;
        self.last_dir = dir;
        Outcome::Invalid
    }

    fn timeout(&self, kind: Kind, config: &ConntrackConfig) -> Duration {
        let t = &config.timers;
        let of_state = match self.state {
            TcpState::SynSent | TcpState::SynSent2 | TcpState::None => t.tcp_syn_sent,
            TcpState::SynRecv => t.tcp_syn_recv,
            TcpState::Established => t.tcp_established,
            TcpState::FinWait => t.tcp_fin_wait,
            TcpState::CloseWait => t.tcp_close_wait,
            TcpState::LastAck => t.tcp_last_ack,
            TcpState::TimeWait => t.tcp_time_wait,
            TcpState::Close => t.tcp_close,
        };
        let unacked = self.sides.iter().any(|s| s.flags & UNACKED != 0);
        if self.retrans >= config.tcp_max_retrans && of_state > t.tcp_max_retrans {
            t.tcp_max_retrans
        } else if kind == Kind::Rst {
            t.tcp_close
        } else if unacked && of_state > t.tcp_unacknowledged {
            t.tcp_unacknowledged
        } else if self.last_win == 0 && of_state > t.tcp_max_retrans {
            t.tcp_max_retrans
        } else {
            of_state
        }
    }
}

enum Reset {
    Closes,
    /// In place of a window check: it answers what was let through unseen.
    Unchecked,
    /// The state stays until it is confirmed.
    Doubtful,
    Invalid,
}

enum Within {
    Yes,
    /// Old: let through, nothing changes.
    Late,
    No,
}
