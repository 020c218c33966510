//! Connections looked up ahead of their packets' turn, a batch at a time, so that the loads of one packet wait beside those
//! of the others.
//!
//! What is found is a [`Guess`]: a packet before it in the batch may end the connection, or begin one in its place. It is
//! right as long as the connection in that place has the packet's tuple, which the table would have said then as well: a
//! tuple is in it once.
//!
//! Cost: passes over a group of packets, each of which asks for the lines that the next one reads: bucket, other bucket where
//! the key may be in that, connection. What is asked for of a whole group is asked for in a loop that does nothing else: a
//! prefetch waits for the address of its page and holds up what is behind it, and only if that is the next prefetch do
//! several wait together. With a million connections that is half of what they cost.

use super::{
    ASSURED, Action, CONFIRMED, ConnId, Connection, Conntrack, Dir, SEEN_REPLY, Seen, Tuple, entry,
    other, validate,
};
use crate::arch;
use crate::table::flow::FlowKey;
use crate::table::places::{Choices, First};
use crate::time::Instant;
use crate::wire::ipv4::{self, Ipv4, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};

/// A packet's key, and once it was looked up the connection and the direction that it most likely belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guess {
    key: FlowKey,
    /// Where the table would have it.
    choices: Choices,
    value: u32,
}

/// The value of no entry: places are fewer than 2^28.
const NOTHING: u32 = u32::MAX;
/// To be looked for in the other bucket.
const OTHER: u32 = u32::MAX - 1;

impl Guess {
    /// Of a packet without a key.
    pub(crate) const NONE: Self = Self {
        key: FlowKey([0; 2]),
        choices: Choices::NONE,
        value: NOTHING,
    };
}

impl Conntrack {
    /// Where the connection of a packet with this key is to be looked for.
    #[inline]
    pub(crate) fn look_for(&self, key: FlowKey) -> Guess {
        Guess {
            key,
            choices: self.table.choices_of(key),
            value: NOTHING,
        }
    }

    /// Asks for the buckets that will be looked at.
    pub(crate) fn ask(&self, guesses: &[Guess]) {
        for guess in guesses {
            self.table.prefetch(guess.choices);
        }
    }

    /// Looks up what was asked for, and asks for what packets of the connections look at.
    pub(crate) fn guess(&self, guesses: &mut [Guess]) {
        for guess in &mut *guesses {
            guess.value = match self.table.first_of(guess.choices) {
                First::Value(value) => value,
                First::Nothing => NOTHING,
                First::Other => OTHER,
            };
        }
        for guess in guesses.iter_mut().filter(|guess| guess.value == OTHER) {
            let value = self.table.second_of(guess.choices);
            guess.value = value.unwrap_or(NOTHING);
        }
        for guess in guesses {
            let at = entry(guess.value).0.0 as usize;
            if let Some(conn) = self.conns.get(at) {
                arch::prefetch(conn);
            }
            if matches!(Tuple::protocol_of(guess.key), PROTOCOL_TCP | PROTOCOL_SCTP)
                && let Some(proto) = self.protos.get(at)
            {
                arch::prefetch(proto);
            }
        }
    }

    /// The connection that was guessed, if it is that of the packet now, and the way that its packets of this direction
    /// took last.
    #[inline]
    pub(crate) fn confirmed(&self, now: Instant, guess: &Guess) -> Option<(ConnId, Dir, Action)> {
        let (id, dir) = entry(guess.value);
        let conn = self.get(id)?;
        let is = conn.status & CONFIRMED != 0 && conn.key(dir) == guess.key && conn.deadline > now;
        is.then_some((id, dir, conn.action(dir)))
    }

    /// [`track`](Self::track) for a packet from outside, in `packet` from its IPv4 header without options to its end, that
    /// belongs to the connection `id`, in direction `dir`.
    #[inline(never)]
    pub(crate) fn track_known(
        &mut self,
        now: Instant,
        packet: &[u8],
        check: bool,
        (id, dir): (ConnId, Dir),
    ) -> Seen {
        let (Some(ip), Some(conn)) = (Ipv4::peek(packet), self.get(id)) else {
            return Seen::Invalid;
        };
        if !validate::is_valid(&ip, check && self.config.checksum) {
            return Seen::Invalid;
        }
        let tuple = conn.tuple(dir);
        self.hint = None;
        self.continued(now, &ip, &tuple, id, dir)
    }

    /// [`track_known`](Self::track_known) of what most packets are: valid ones of UDP that change nothing but how long their
    /// connection lives, which this gives. None, and no change, of all others.
    #[inline]
    pub(crate) fn udp_goes_on(
        &mut self,
        now: Instant,
        packet: &[u8],
        check: bool,
        (id, dir): (ConnId, Dir),
    ) -> Option<&Connection> {
        if packet.get(ipv4::PROTOCOL_AT) != Some(&PROTOCOL_UDP)
            || !validate::is_valid_udp(packet, check && self.config.checksum)
        {
            return None;
        }
        let conn = self.conns.get_mut(id.0 as usize)?;
        let replied = conn.status & SEEN_REPLY != 0;
        let (timeout, stream) = other::udp(now, conn.stream_at, replied, &self.config.timers);
        if (dir == Dir::Reply && !replied) || (stream && conn.status & ASSURED == 0) {
            return None;
        }
        if dir == Dir::Original || self.config.inbound_refresh {
            let deadline = now + timeout;
            if deadline < conn.deadline {
                self.wheel.arm(id.0, deadline);
            }
            conn.deadline = deadline;
        }
        Some(conn)
    }
}
