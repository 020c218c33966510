//! When things are due: a hierarchical timer wheel over small numbers.
//!
//! The wheel knows for each number (a place in the caller's array) one slot, not the deadline itself: that is the
//! caller's, who may put it off as often as it likes without telling the wheel. When a slot comes up its numbers are
//! handed out, and the caller looks at the true deadline: it is done with, or it is armed again. So a packet that
//! refreshes its connection writes a timestamp and nothing else.
//!
//! Seven levels of 64 slots; a tick is 2^27 ns (134 ms), a slot of level n is 64^n ticks wide. A number goes to the level
//! of the highest digit in which its tick and the present one differ, and comes up when its slot begins; so it is never
//! handed out too late by more than a tick, and never early from the lowest level.
//!
//! # Cost
//! Arm and disarm: a few loads and stores, O(1). Expiry: O(1) per number handed out, and a number is handed out at most
//! once per level and per time it was put off; no scan, also not after the clock has jumped. 8 bytes per number, and
//! 2 kB. Nothing allocates after [`Wheel::new`].

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::time::Instant;

const LEVELS: usize = 7;
const SLOTS: usize = 64;
/// The slot that is being handed out: one that has come up, moved here whole.
const COMING: usize = LEVELS * SLOTS;
/// Nanoseconds in a tick, as a power of two.
const TICK: u32 = 27;
/// No number.
const END: u32 = u32::MAX;
/// Set in `prev`: this is the first of a slot, whose number the other bits are.
const HEAD: u32 = 1 << 31;
/// In `prev`: not armed.
const IDLE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Links {
    next: u32,
    prev: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Wheel {
    /// The first number of each slot, and of the one that is being handed out.
    heads: Box<[u32; COMING + 1]>,
    /// Of each level, which slots have numbers.
    occupied: [u64; LEVELS],
    links: Vec<Links>,
    capacity: usize,
    /// The present tick: every slot that began by then is empty.
    now: u64,
}

impl Wheel {
    /// For the numbers below `capacity` (at most 2^31 - 1).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min((HEAD - 1) as usize);
        Self {
            heads: Box::new([END; COMING + 1]),
            occupied: [0; LEVELS],
            links: Vec::with_capacity(capacity),
            capacity,
            now: 0,
        }
    }

    /// Has `id` come up at `deadline`, instead of at any other time. A number beyond the capacity never does.
    pub fn arm(&mut self, id: u32, deadline: Instant) {
        let at = id as usize;
        if at >= self.capacity {
            return;
        }
        if at < self.links.len() {
            self.disarm(id);
        } else {
            let idle = Links {
                next: END,
                prev: IDLE,
            };
            self.links.resize(at + 1, idle);
        }
        // Up to the next tick, so that what comes up from the lowest level is due.
        let tick = (deadline.as_nanos() >> TICK) + 1;
        let tick = tick.max(self.now + 1);
        let level = ((63 - ((tick ^ self.now) | 1).leading_zeros()) / 6) as usize;
        let digit = (tick >> (6 * level) & 63) as usize;
        let (Some(occupied), slot) = (self.occupied.get_mut(level), level * SLOTS + digit) else {
            return;
        };
        *occupied |= 1 << digit;
        let Some(head) = self.heads.get_mut(slot) else {
            return;
        };
        let next = core::mem::replace(head, id);
        if let Some(links) = self.links.get_mut(next as usize) {
            links.prev = id;
        }
        if let Some(links) = self.links.get_mut(at) {
            #[expect(clippy::cast_possible_truncation, reason = "below 448")]
            let prev = HEAD | slot as u32;
            *links = Links { next, prev };
        }
    }

    /// Has `id` not come up.
    pub fn disarm(&mut self, id: u32) {
        let Some(links) = self.links.get_mut(id as usize) else {
            return;
        };
        let Links { next, prev } = *links;
        if prev == IDLE {
            return;
        }
        links.prev = IDLE;
        if let Some(links) = self.links.get_mut(next as usize) {
            links.prev = prev;
        }
        if prev & HEAD == 0 {
            if let Some(links) = self.links.get_mut(prev as usize) {
                links.next = next;
            }
            return;
        }
        let slot = (prev & !HEAD) as usize;
        if let Some(head) = self.heads.get_mut(slot) {
            *head = next;
        }
        if next == END
            && let Some(occupied) = self.occupied.get_mut(slot / SLOTS)
        {
            *occupied &= !(1 << (slot % SLOTS));
        }
    }

    /// A number that has come up by `now`, which is not armed any more: its deadline has come, or is to be looked at
    /// again. None when there is no more.
    pub fn due(&mut self, now: Instant) -> Option<u32> {
        let now = now.as_nanos() >> TICK;
        loop {
            let id = *self.heads.get(COMING)?;
            if id != END {
                self.disarm(id);
                return Some(id);
            }
            let Some((slot, begins)) = self.first_slot().filter(|&(_, begins)| begins <= now)
            else {
                self.now = self.now.max(now);
                return None;
            };
            // To its beginning and not beyond: what is armed again meanwhile belongs to the slots after it.
            self.now = self.now.max(begins);
            self.hand_out(slot);
        }
    }

    /// Moves a slot to [`COMING`], which is empty.
    fn hand_out(&mut self, slot: usize) {
        let Some(head) = self.heads.get_mut(slot) else {
            return;
        };
        let first = core::mem::replace(head, END);
        if let Some(occupied) = self.occupied.get_mut(slot / SLOTS) {
            *occupied &= !(1 << (slot % SLOTS));
        }
        if let Some(coming) = self.heads.get_mut(COMING) {
            *coming = first;
        }
        if let Some(links) = self.links.get_mut(first as usize) {
            #[expect(clippy::cast_possible_truncation, reason = "448")]
            let prev = HEAD | COMING as u32;
            links.prev = prev;
        }
    }

    /// When [`Wheel::due`] may have something next; none when nothing is armed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.heads.get(COMING).is_some_and(|&id| id != END) {
            return Some(Instant::from_nanos(self.now << TICK));
        }
        let (_, begins) = self.first_slot()?;
        Some(Instant::from_nanos(begins << TICK))
    }

    /// The slot that begins first, and the tick at which it does. All slots of a level lie within one slot of the next
    /// level, the present one: so the lowest level that has any has the first.
    fn first_slot(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let digit = self.occupied.get(level)?.trailing_zeros() as usize;
        let width = 6 * level;
        let above = self.now >> (width + 6) << (width + 6);
        Some((level * SLOTS + digit, above | (digit as u64) << width))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use core::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Arm(u32, u64),
        Disarm(u32),
        Advance(u64),
    }

    /// Milliseconds, from nothing to months.
    fn spans() -> impl Strategy<Value = u64> {
        prop_oneof![0_u64..1000, 0_u64..600_000, 0_u64..10_000_000_000]
    }

    proptest! {
        /// Against a map from number to deadline: what comes up early is armed again, as connections are; in the end
        /// each number is handed out when its deadline has come, at most a tick later, and no other.
        #[test]
        fn numbers_come_up_when_they_are_due(ops in prop::collection::vec(prop_oneof![
            4 => (0_u32..50, spans()).prop_map(|(id, ms)| Op::Arm(id, ms)),
            1 => (0_u32..50).prop_map(Op::Disarm),
            2 => spans().prop_map(Op::Advance),
        ], 0..300)) {
            let mut wheel = Wheel::new(50);
            let mut map: BTreeMap<u32, Instant> = BTreeMap::new();
            let mut now = Instant::ZERO;
            for op in ops {
                match op {
                    Op::Arm(id, ms) => {
                        let deadline = now + Duration::from_millis(ms);
                        wheel.arm(id, deadline);
                        map.insert(id, deadline);
                    }
                    Op::Disarm(id) => {
                        wheel.disarm(id);
                        map.remove(&id);
                    }
                    Op::Advance(ms) => {
                        let end = now + Duration::from_millis(ms);
                        while let Some(at) = wheel.next_deadline().filter(|&at| at <= end) {
                            now = now.max(at);
                            while let Some(id) = wheel.due(now) {
                                let deadline = map[&id];
                                if deadline <= now {
                                    map.remove(&id);
                                    let late = now.since(deadline);
                                    prop_assert!(late <= Duration::from_nanos(1 << TICK), "{late:?}");
                                } else {
                                    wheel.arm(id, deadline);
                                }
                            }
                        }
                        now = end;
                        prop_assert_eq!(wheel.due(now), None);
                        let tick = Duration::from_nanos(1 << TICK);
                        prop_assert!(map.values().all(|&d| d + tick > now));
                    }
                }
                prop_assert_eq!(wheel.next_deadline().is_none(), map.is_empty());
                let first = map.values().min().copied();
                prop_assert!(wheel.next_deadline().is_none_or(|at| first.is_some_and(|d| at <= d + Duration::from_nanos(1 << TICK))));
            }
        }
    }

    /// INV-8: a suspended machine wakes up years later, and everything is due at once.
    #[test]
    fn after_a_jump_of_the_clock_everything_is_due() {
        let mut wheel = Wheel::new(1000);
        for id in 0..1000 {
            wheel.arm(id, Instant::ZERO + Duration::from_secs(u64::from(id) * 432));
        }
        let now = Instant::from_nanos(u64::MAX);
        let mut due: Vec<u32> = core::iter::from_fn(|| wheel.due(now)).collect();
        due.sort_unstable();
        assert!(due.into_iter().eq(0..1000));
        wheel.arm(3, now);
        assert_eq!(
            wheel.next_deadline().map(|at| at <= now),
            Some(true),
            "not lost at the end of time"
        );
    }

    #[test]
    fn a_number_beyond_the_capacity_is_not_armed() {
        let mut wheel = Wheel::new(2);
        wheel.arm(2, Instant::ZERO);
        assert_eq!(
            (
                wheel.next_deadline(),
                wheel.due(Instant::from_nanos(u64::MAX))
            ),
            (None, None)
        );
    }
}
