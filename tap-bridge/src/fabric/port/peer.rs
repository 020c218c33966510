//! Another member, as this one sees it. States and transitions are in [`super::super`].

use std::collections::VecDeque;

use router_core::{Frame, Instant, Mac};

use super::super::lend::Retired;
use super::super::link::Link;
use super::super::message::ToHub;
use super::super::{MemberId, RETRY};

/// Frames that may wait for one peer's link.
pub(super) const PENDING_PER_PEER: usize = 64;

#[derive(Debug)]
pub(super) enum State {
    /// No link, and none on its way unless one was asked for less than [`RETRY`] ago.
    Unlinked,
    Linked(Box<Link>),
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: MemberId,
    pub(super) generation: u64,
    pub(super) mac: Mac,
    pub(super) state: State,
    /// Links that are gone, over which it still has tails of this member.
    pub(super) retired: Vec<Retired>,
    /// Frames that wait for the link, oldest first. From the port's own stock.
    pub(super) pending: VecDeque<Frame>,
    /// Number of a link that the hub must be told is broken.
    pub(super) broken: Option<u64>,
    /// It was waited for in vain, and has returned no tail since.
    pub(super) stalled: bool,
    /// A link must be asked for.
    connect: bool,
    /// When a link was last asked for.
    asked: Option<Instant>,
}

impl Peer {
    pub(super) fn new(id: MemberId, generation: u64, mac: Mac) -> Self {
        Self {
            id,
            generation,
            mac,
            state: State::Unlinked,
            retired: Vec::new(),
            // Most peers never have any: a thousand members with room for them would take a gigabyte together.
            pending: VecDeque::new(),
            broken: None,
            stalled: false,
            connect: false,
            asked: None,
        }
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match &self.state {
            State::Linked(link) => Some(link),
            State::Unlinked => None,
        }
    }

    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.state {
            State::Linked(link) => Some(link),
            State::Unlinked => None,
        }
    }

    /// Tails of this member that it holds.
    pub(super) fn held(&self) -> usize {
        let retired: usize = self.retired.iter().map(Retired::held).sum();
        retired + self.link().map_or(0, |link| link.lent.held())
    }

    /// Frees tails of this member that it has returned.
    pub(super) fn take_back(&mut self) {
        let held = self.held();
        if held == 0 {
            return;
        }
        if let State::Linked(link) = &mut self.state {
            link.take_back();
        }
        if !self.retired.is_empty() {
            self.retired.iter_mut().for_each(Retired::take_back);
            self.retired.retain(|retired| retired.held() > 0);
        }
        self.stalled &= self.held() == held;
    }

    /// Marks the link as wanted unless it was asked for less than [`RETRY`] ago. True when a request is due.
    pub(super) fn wants_link(&mut self, now: Instant) -> bool {
        if self.asked.is_none_or(|asked| now.since(asked) >= RETRY) {
            self.asked = Some(now);
            self.connect = true;
        }
        self.connect
    }

    /// What the hub must be told next about this peer.
    pub(super) fn request(&self) -> Option<ToHub<'static>> {
        let peer = self.id;
        match self.broken {
            Some(link) => Some(ToHub::Broken { peer, link }),
            None => self.connect.then_some(ToHub::Connect { peer }),
        }
    }

    /// [`Peer::request`] was sent.
    pub(super) fn requested(&mut self) {
        if self.broken.take().is_none() {
            self.connect = false;
        }
    }
}
