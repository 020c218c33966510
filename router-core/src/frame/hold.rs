//! Frames that wait, for a neighbour's MAC or for their turn: many queues in one fixed store.

use alloc::vec::Vec;

use super::Frame;

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
}

impl Queue {
    pub(crate) const EMPTY: Self = Self {
        first: END,
        last: END,
        len: 0,
    };

    pub(crate) const fn len(&self) -> u16 {
        self.len
    }
}

/// A fixed number of places shared by all queues. Push and pop are a few loads and stores.
#[derive(Debug)]
pub(crate) struct HoldStore {
    places: Vec<Place>,
    free: u16,
    held: usize,
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
        }
    }

    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// Appends a frame; gives it back when every place is taken.
    pub(crate) fn push(&mut self, queue: &mut Queue, frame: Frame) -> Result<(), Frame> {
        let at = self.free;
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
        self.held += 1;
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
    use crate::frame::FramePool;

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
