//! Records of several nodes in the order of their time.
//!
//! Decides when a record may go on: when every node has a later one, or when it is older than [`WINDOW`], by which time a
//! node that has something from before would have said so; or when too many bytes wait. Pure: time is an argument.
//!
//! Bounded by [`MAX_HELD`] bytes. Cost: a comparison per node and record.

use std::collections::VecDeque;
use std::time::Duration;

use router_core::Instant;

/// How long a record waits for older ones of other nodes.
pub const WINDOW: Duration = Duration::from_millis(50);

/// Bytes that may wait.
pub const MAX_HELD: usize = 64 << 20;

/// Something that happened at a time.
pub trait Timed {
    /// Nanoseconds of CLOCK_MONOTONIC.
    fn at(&self) -> u64;
    /// Its size in memory, bytes.
    fn size(&self) -> usize;
}

/// Queues that become one.
#[derive(Debug)]
pub struct Merge<T> {
    queues: Vec<VecDeque<T>>,
    held: usize,
}

impl<T: Timed> Merge<T> {
    /// So many empty queues.
    #[must_use]
    pub fn new(queues: usize) -> Self {
        Self {
            queues: (0..queues).map(|_| VecDeque::new()).collect(),
            held: 0,
        }
    }

    /// Appends to one of the queues, in the order of its node.
    pub fn push(&mut self, queue: usize, item: T) {
        self.held += item.size();
        self.queues[queue].push_back(item);
    }

    /// True when nothing should be pushed before something has been taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.held >= MAX_HELD
    }

    /// The next item and its queue, if it may go on at `now`; at the end, with none, any.
    pub fn pop(&mut self, now: Option<Instant>) -> Option<(usize, T)> {
        let fronts = self.queues.iter().enumerate();
        let fronts = fronts.filter_map(|(n, queue)| Some((queue.front()?.at(), n)));
        let (at, first) = fronts.min()?;
        let all_have = || self.queues.iter().all(|queue| !queue.is_empty());
        let old = |now: Instant| now.since(Instant::from_nanos(at)) >= WINDOW;
        if now.is_some_and(|now| !old(now)) && !self.is_full() && !all_have() {
            return None;
        }
        let item = self.queues[first].pop_front()?;
        self.held -= item.size();
        Some((first, item))
    }

    /// When the oldest item will be old enough, if there is any.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let fronts = self.queues.iter().filter_map(|queue| queue.front());
        let oldest = fronts.map(Timed::at).min()?;
        Some(Instant::from_nanos(oldest) + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for (u64, usize) {
        fn at(&self) -> u64 {
            self.0 * 1_000_000
        }

        fn size(&self) -> usize {
            self.1
        }
    }

    fn ms(ms: u64) -> Option<Instant> {
        Some(Instant::from_nanos(ms * 1_000_000))
    }

    #[test]
    fn the_oldest_goes_first_when_nothing_older_can_come() {
        let mut merge = Merge::new(2);
        merge.push(0, (10, 1));
        merge.push(0, (30, 1));
        assert_eq!(merge.pop(ms(59)), None, "the other may have an older one");
        assert_eq!(merge.deadline(), ms(60));
        merge.push(1, (20, 1));
        assert_eq!(merge.pop(ms(31)), Some((0, (10, 1))), "both have one");
        assert_eq!(merge.pop(ms(31)), Some((1, (20, 1))));
        assert_eq!(merge.pop(ms(79)), None);
        assert_eq!(
            merge.pop(ms(80)),
            Some((0, (30, 1))),
            "too old for an older one"
        );
        assert_eq!((merge.pop(ms(90)), merge.deadline()), (None, None));
    }

    #[test]
    fn one_node_never_waits_and_the_end_empties_all() {
        let mut merge = Merge::new(1);
        merge.push(0, (10, 1));
        assert_eq!(merge.pop(ms(10)), Some((0, (10, 1))));
        let mut merge = Merge::new(3);
        merge.push(1, (10, 1));
        merge.push(2, (5, 1));
        assert_eq!(merge.pop(None), Some((2, (5, 1))));
        assert_eq!(merge.pop(None), Some((1, (10, 1))));
        assert_eq!(merge.pop(None), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut merge = Merge::new(2);
        merge.push(0, (10, MAX_HELD - 1));
        assert!(!merge.is_full());
        assert_eq!(merge.pop(ms(10)), None);
        merge.push(0, (11, 1));
        assert!(merge.is_full());
        assert_eq!(merge.pop(ms(10)), Some((0, (10, MAX_HELD - 1))));
        assert_eq!(merge.pop(ms(10)), None);
    }
}
