//! Frames that wait, for a neighbour's MAC or for their turn: many queues in one fixed store.
//!
//! A superframe takes as many places as frames would that carry its bytes: what waits is bounded in bytes, in the memory of
//! tails too.

use alloc::vec::Vec;

use super::{Frame, MAX_FRAME};

const END: u16 = u16::MAX;

#[derive(Debug)]
struct Place {
    frame: Option<Frame>,
    /// The next in its queue, or the next free one.
    next: u16,
}

/// A first-in-first-out queue within a [`HoldStore`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    first: u16,
    last: u16,
    len: u16,
    places: u16,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self {
        first: END,
        last: END,
        len: 0,
        places: 0,
    };

    /// Frames in it.
    pub(crate) const fn len(&self) -> u16 {
        self.len
    }

    /// Places that they take.
    pub(crate) const fn places(&self) -> u16 {
        self.places
    }
}

/// Places that a frame takes.
#[inline]
pub(crate) fn places(frame: &Frame) -> u16 {
    if frame.tail().is_none() {
        return 1;
    }
    u16::try_from(frame.len().div_ceil(MAX_FRAME)).unwrap_or(u16::MAX)
}

/// A fixed number of places shared by all queues. Push and pop are a few loads and stores.
#[derive(Debug)]
pub(crate) struct HoldStore {
    places: Vec<Place>,
    free: u16,
    held: usize,
    /// Places taken.
    taken: usize,
}

impl HoldStore {
    /// At most 65534 places.
    pub(crate) fn new(places: u16) -> Self {
        let places = places.min(END - 1);
        Self {
            places: (0..places)
                .map(|i| Place {
                    frame: None,
                    next: if i + 1 == places { END } else { i + 1 },
                })
                .collect(),
            free: if places == 0 { END } else { 0 },
            held: 0,
            taken: 0,
        }
    }

    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// Appends a frame; gives it back when there are fewer places left than it takes, unless nothing else waits.
    pub(crate) fn push(&mut self, queue: &mut Queue, frame: Frame) -> Result<(), Frame> {
        let at = self.free;
        let wanted = places(&frame);
        let taken = self.taken + usize::from(wanted);
        if taken > self.places.len() && self.held > 0 {
            return Err(frame);
        }
        let Some(place) = self.places.get_mut(usize::from(at)) else {
            return Err(frame);
        };
        self.free = place.next;
        *place = Place {
            frame: Some(frame),
            next: END,
        };
        match self.places.get_mut(usize::from(queue.last)) {
            Some(last) => last.next = at,
            None => queue.first = at,
        }
        queue.last = at;
        queue.len += 1;
        queue.places = queue.places.saturating_add(wanted);
        self.held += 1;
        self.taken = taken;
        Ok(())
    }

    /// Takes the oldest frame out.
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<Frame> {
        let at = queue.first;
        let place = self.places.get_mut(usize::from(at))?;
        let frame = place.frame.take();
        queue.first = place.next;
        if queue.first == END {
            queue.last = END;
        }
        place.next = self.free;
        self.free = at;
        queue.len -= 1;
        self.held -= 1;
        let given_back = frame.as_ref().map_or(0, places);
        queue.places -= given_back;
        self.taken -= usize::from(given_back);
        frame
    }

    /// The oldest frame.
    pub(crate) fn oldest(&self, queue: &Queue) -> Option<&Frame> {
        self.places.get(usize::from(queue.first))?.frame.as_ref()
    }

    /// The youngest frame.
    pub(crate) fn newest(&self, queue: &Queue) -> Option<&Frame> {
        self.places.get(usize::from(queue.last))?.frame.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FramePool, Tail};

    #[test]
    fn queues_keep_their_order_and_share_the_places() {
        let mut pool = FramePool::new(4);
        let mut store = HoldStore::new(3);
        let (mut a, mut b) = (Queue::EMPTY, Queue::EMPTY);
        let mut frame = |n: u8| {
            let mut f = pool.alloc().unwrap();
            f.fill(&[n]);
            f
        };
        store.push(&mut a, frame(1)).unwrap();
        store.push(&mut b, frame(2)).unwrap();
        store.push(&mut a, frame(3)).unwrap();
        let refused = store.push(&mut b, frame(4)).unwrap_err();
        assert_eq!(refused.bytes(), [4]);
        assert_eq!((store.held(), a.len(), b.len()), (3, 2, 1));
        assert_eq!(store.newest(&a).unwrap().bytes(), [3]);
        assert_eq!(store.oldest(&a).unwrap().bytes(), [1]);
        assert_eq!(store.pop(&mut a).unwrap().bytes(), [1]);
        store.push(&mut b, refused).unwrap();
        assert_eq!(store.pop(&mut a).unwrap().bytes(), [3]);
        assert!(store.pop(&mut a).is_none());
        assert!(store.newest(&a).is_none() && store.oldest(&a).is_none());
        assert_eq!(store.pop(&mut b).unwrap().bytes(), [2]);
        assert_eq!(store.pop(&mut b).unwrap().bytes(), [4]);
        assert_eq!(store.held(), 0);
    }

    #[test]
    fn a_superframe_takes_the_places_of_its_bytes() {
        let mut pool = FramePool::new(3);
        let mut store = HoldStore::new(4);
        let mut queue = Queue::EMPTY;
        let mut frame = |tail: usize| {
            let mut f = pool.alloc().unwrap();
            f.fill(&[0; MAX_FRAME]);
            f.set_tail(Tail::on_heap(&alloc::vec![0; tail]));
            f
        };
        store.push(&mut queue, frame(MAX_FRAME + 1)).unwrap();
        assert_eq!((queue.len(), queue.places(), store.held()), (1, 3, 1));
        let refused = store.push(&mut queue, frame(1)).unwrap_err();
        assert!(store.pop(&mut queue).is_some());
        assert_eq!((queue.places(), store.held()), (0, 0));
        store.push(&mut queue, refused).unwrap();
        assert!(store.pop(&mut queue).is_some());
        store.push(&mut queue, frame(60_000)).expect("alone");
        assert_eq!(queue.places(), 32);
        assert!(store.pop(&mut queue).is_some());
        assert_eq!(queue.places(), 0);
    }

    #[test]
    fn a_store_without_places_refuses() {
        let mut pool = FramePool::new(1);
        let mut queue = Queue::EMPTY;
        assert!(
            HoldStore::new(0)
                .push(&mut queue, pool.alloc().unwrap())
                .is_err()
        );
    }
}
