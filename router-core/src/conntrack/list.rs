//! Doubly linked lists through the array beside the connections: O(1) to join and to leave, no memory of their own.

use super::connection::Aside;

const END: u32 = u32::MAX;

/// A connection's neighbours in one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    pub(super) const NONE: Self = Self {
        prev: END,
        next: END,
    };
}

/// Which of a connection's links a list goes by.
type By = fn(&mut Aside) -> &mut Links;

pub(super) const UNASSURED: By = |aside| &mut aside.unassured;
pub(super) const SIBLINGS: By = |aside| &mut aside.siblings;

/// Both ends of a list. One that is known by its first alone does not know its last, and takes in at the front only.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        first: END,
        last: END,
    };

    /// The list that begins with this connection.
    pub(super) fn of(first: Option<u32>) -> Self {
        Self {
            first: first.unwrap_or(END),
            last: END,
        }
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != END).then_some(self.first)
    }

    fn link(asides: &mut [Aside], id: u32, by: By) -> Option<&mut Links> {
        asides.get_mut(id as usize).map(by)
    }

    pub(super) fn push_back(&mut self, asides: &mut [Aside], id: u32, by: By) {
        if let Some(links) = Self::link(asides, id, by) {
            *links = Links {
                prev: self.last,
                next: END,
            };
        }
        match Self::link(asides, self.last, by) {
            Some(links) => links.next = id,
            None => self.first = id,
        }
        self.last = id;
    }

    pub(super) fn push_front(&mut self, asides: &mut [Aside], id: u32, by: By) {
        if let Some(links) = Self::link(asides, id, by) {
            *links = Links {
                prev: END,
                next: self.first,
            };
        }
        match Self::link(asides, self.first, by) {
            Some(links) => links.prev = id,
            None => self.last = id,
        }
        self.first = id;
    }

    pub(super) fn remove(&mut self, asides: &mut [Aside], id: u32, by: By) {
        let Some(links) = Self::link(asides, id, by) else {
            return;
        };
        let Links { prev, next } = core::mem::replace(links, Links::NONE);
        match Self::link(asides, prev, by) {
            Some(links) => links.next = next,
            None => self.first = next,
        }
        match Self::link(asides, next, by) {
            Some(links) => links.prev = prev,
            None => self.last = prev,
        }
    }

    pub(super) fn pop_front(&mut self, asides: &mut [Aside], by: By) -> Option<u32> {
        let id = self.first()?;
        self.remove(asides, id, by);
        Some(id)
    }
}
