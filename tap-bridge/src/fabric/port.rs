//! A member's end of the fabric: all links of one node, as one port.
//!
//! Decides by destination MAC where a frame goes (a link, the hub, or a queue until the link is there) and when to ask for
//! a link. The states of a peer and their transitions are in [`super`].
//!
//! Cost per frame: a binary search among the members' MACs and what the ring costs; per breath a look at each link.

mod peer;
mod receive;
mod sending;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use std::sync::Arc;

use router_core::frame::Tail;
use router_core::{Batch, Frame, FramePool, Instant, Mac};

use self::peer::{Peer, State};
use super::lend::Lent;
use super::link::{Link, LinkFds};
use super::message::{MESSAGE_MAX, ToMember};
use super::pace::Pace;
use super::ring::PushError;
use super::{MemberId, PENDING, UNKNOWN_PER_SECOND};
use crate::gather::Gather;
use crate::port::{Caps, Port, PortCounters, PortError, Rx};
use crate::sys::eventfd::Doorbell;
use crate::sys::{clock, scm};
use crate::tails::{TAILS, Tails};

/// Members that one port keeps track of. More are not reached by unicast links, only counted.
const MEMBERS_MAX: usize = 4096;

/// How long a sender lets a peer run that has too many of its tails. Losing a superframe costs TCP much more, and what comes
/// meanwhile waits in the devices. All such waits together take no more than a quarter of the time from other peers.
const BEHIND: Duration = Duration::from_millis(4);
const BEHIND_SHARE: u32 = 4;
const BEHIND_TURNS: u32 = 10_000;

/// [`Tails::free`] when none is in use.
const TAILS_ALL: u32 = 64;
const _: () = assert!(TAILS_ALL as usize == TAILS);

/// What has happened on the fabric besides frames that went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FabricCounters {
    /// Frames handed to the hub for all others.
    pub flooded: u64,
    /// Frames to unknown MACs that were dropped for exceeding [`UNKNOWN_PER_SECOND`]. Also in `tx_dropped`.
    pub unknown_dropped: u64,
    /// Frames dropped because too many waited for a link. Also in `tx_dropped`.
    pub pending_overflow: u64,
    /// Frames dropped because the ring was full. Also in `tx_dropped`.
    pub ring_full: u64,
    /// Superframes dropped because the peer holds as many tails as it may, or none was free. Also in `tx_dropped`.
    pub tails_full: u64,
    /// Frames that a peer had sent and that were lost with their link.
    pub unread_lost: u64,
    /// Links that came up.
    pub links_made: u64,
    /// Links given up because the peer broke the ring's rules.
    pub links_corrupt: u64,
    /// Messages of the hub that could not be used.
    pub bad_messages: u64,
}

/// The underlay port of a node.
///
/// Poll both [`FabricPort::descriptors`] for edges (EPOLLET), the first also for becoming writable, and never sleep without
/// [`FabricPort::prepare_sleep`]; [`EventLoop`](crate::event_loop::EventLoop) does.
#[derive(Debug)]
pub struct FabricPort {
    hub: OwnedFd,
    bell: Doorbell,
    id: MemberId,
    mac: Mac,
    mtu: u16,
    /// Its worker's number within the node.
    worker: usize,
    /// Where this node's devices put the tails of superframes.
    tails: Arc<Tails>,
    peers: Vec<Peer>,
    /// Index into `peers` by MAC, sorted.
    by_mac: Vec<(Mac, usize)>,
    /// Frames that wait for links come from here, so that the router's pool is not held up.
    stock: FramePool,
    unknown: Pace,
    /// Whose ring is read first next time.
    turn: usize,
    /// Frames of this breath that may go as one.
    gather: Gather,
    /// The hub's socket may have more.
    hub_ready: bool,
    /// A request to the hub could not be sent yet.
    requests_due: bool,
    asleep: bool,
    /// How long peers may be waited for, as of then.
    patience: Duration,
    waited_at: Instant,
    buffer: Box<[u8]>,
    descriptors: Vec<OwnedFd>,
    message: Vec<u8>,
    clock: fn() -> Instant,
    counters: PortCounters,
    fabric: FabricCounters,
}

impl FabricPort {
    /// The port of member `id` with address `mac`, on the socket that [`HubHandle::add_member`](super::HubHandle) gave.
    ///
    /// # Errors
    /// `InvalidData` when the socket is not a member's, or another member's; else what reading it says.
    pub fn new(hub: OwnedFd, id: MemberId, mac: Mac) -> io::Result<Self> {
        let mut buffer = vec![0; MESSAGE_MAX + 1].into_boxed_slice();
        let mut descriptors = Vec::with_capacity(4);
        let len = scm::recv(hub.as_fd(), &mut buffer, &mut descriptors)?;
        let welcome = ToMember::parse(&buffer[..len]);
        let mut fds = descriptors.drain(..);
        let (Ok(ToMember::Welcome { member, .. }), Some(bell), Some(tails)) =
            (welcome, fds.next(), fds.next())
        else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no member's socket",
            ));
        };
        drop(fds);
        if member != id {
            let text = format!("the socket of member {}, not {}", member.0, id.0);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let tails = Tails::map(tails)?;
        let interval = Duration::from_secs(1) / UNKNOWN_PER_SECOND;
        Ok(Self {
            hub,
            tails,
            bell: Doorbell::from_fd(bell),
            id,
            mac,
            mtu: 1500,
            worker: 0,
            peers: Vec::new(),
            by_mac: Vec::new(),
            stock: FramePool::new(PENDING),
            unknown: Pace::new(interval, UNKNOWN_PER_SECOND / 10),
            turn: 0,
            gather: Gather::default(),
            hub_ready: true,
            requests_due: false,
            asleep: false,
            patience: BEHIND,
            waited_at: Instant::ZERO,
            buffer,
            descriptors,
            message: Vec::with_capacity(MESSAGE_MAX),
            clock: clock::monotonic,
            counters: PortCounters::default(),
            fabric: FabricCounters::default(),
        })
    }

    /// The same port with another MTU than 1500 in its [`Caps`].
    #[must_use]
    pub fn with_mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu;
        self
    }

    /// The same port as that of worker `worker` of its node, from 0 on: it sends to the worker of that number of other
    /// nodes, counted round where they have fewer.
    #[must_use]
    pub fn with_worker(mut self, worker: usize) -> Self {
        self.worker = worker;
        self
    }

    /// The member's number.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The member's address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Where devices of this node should put the tails of superframes: from there they go to other members uncopied.
    #[must_use]
    pub fn tails(&self) -> &Arc<Tails> {
        &self.tails
    }

    /// Frees tails that other members have returned. Once per breath, before devices want them.
    pub fn take_back(&mut self) {
        if self.tails.free() < TAILS_ALL {
            self.peers.iter_mut().for_each(Peer::take_back);
        }
    }

    /// What to poll: the socket to the hub, and the doorbell.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.hub.as_fd(), self.bell.as_fd()]
    }

    /// Has senders ring the doorbell from now on. False when frames are there already: receive instead of sleeping.
    pub fn prepare_sleep(&mut self) -> bool {
        self.asleep = true;
        for link in self.peers.iter_mut().filter_map(Peer::link_mut) {
            link.end.announce_sleep();
        }
        // R2 of the ring's proof, once for all links.
        fence(Ordering::SeqCst);
        !self.has_frames()
    }

    /// Ends what [`FabricPort::prepare_sleep`] began.
    pub fn end_sleep(&mut self) {
        if std::mem::take(&mut self.asleep) {
            for link in self.peers.iter_mut().filter_map(Peer::link_mut) {
                link.end.end_sleep();
            }
        }
    }

    /// True when [`Port::rx`] would find something in memory.
    #[must_use]
    pub fn has_frames(&self) -> bool {
        self.peers
            .iter()
            .filter_map(Peer::link)
            .any(|l| l.end.has_frames())
    }

    /// Frames that wait for a link now.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.stock.missing()
    }

    /// Members that the hub has announced, with their addresses.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, Mac)> + '_ {
        self.peers.iter().map(|p| (p.id, p.mac))
    }

    /// True when a link to this member is up.
    #[must_use]
    pub fn is_linked(&self, peer: MemberId) -> bool {
        self.peers
            .iter()
            .any(|p| p.id == peer && p.link().is_some())
    }

    /// What has happened besides frames that went through.
    #[must_use]
    pub fn fabric_counters(&self) -> FabricCounters {
        self.fabric
    }

    /// Hears the doorbell, for tests that poll it for its level.
    #[cfg(test)]
    pub(super) fn silence(&self) {
        self.bell.silence();
    }

    /// Stops the clock of this port at one time.
    #[cfg(test)]
    pub(super) fn set_clock(&mut self, clock: fn() -> Instant) {
        self.clock = clock;
    }

    /// Breaks the rules of the ring to `peer`.
    #[cfg(test)]
    pub(super) fn scribble(&mut self, peer: MemberId) {
        let peer = self.peers.iter_mut().find(|p| p.id == peer);
        if let Some(link) = peer.and_then(Peer::link_mut) {
            link.end.scribble();
        }
    }

    fn error(&self, operation: &'static str, source: io::Error) -> PortError {
        PortError {
            port: format!("fabric member {}", self.id.0),
            operation,
            source,
        }
    }

    fn handle(&mut self, message: ToMember<'_>) {
        match message {
            ToMember::Up {
                peer,
                generation,
                mac,
            } => self.add_peer(peer, generation, mac),
            ToMember::Down { peer, generation } => self.remove_peer(peer, generation),
            ToMember::Link { peer, link } => self.add_link(peer, link),
            ToMember::Unlink { peer, link } => {
                if let Some(index) = self.index_of(peer)
                    && self.peers[index].link().is_some_and(|l| l.number == link)
                {
                    self.unlink(index);
                }
            }
            // Said once, at the beginning, or handled by the caller.
            ToMember::Welcome { .. } | ToMember::Flood(_) => self.fabric.bad_messages += 1,
        }
    }

    fn index_of(&self, peer: MemberId) -> Option<usize> {
        self.peers.iter().position(|p| p.id == peer)
    }

    fn add_peer(&mut self, id: MemberId, generation: u64, mac: Mac) {
        if let Some(index) = self.index_of(id) {
            self.drop_peer(index);
            self.index_macs();
        }
        if self.peers.len() == MEMBERS_MAX || id == self.id {
            self.fabric.bad_messages += 1;
            return;
        }
        self.peers.push(Peer::new(id, generation, mac));
        // Everybody hears of everybody: sorting all of them each time would be felt in a crowd.
        match self.by_mac.binary_search_by_key(&mac, |entry| entry.0) {
            Err(place) if mac != self.mac => self.by_mac.insert(place, (mac, self.peers.len() - 1)),
            _ => self.index_macs(),
        }
    }

    fn remove_peer(&mut self, id: MemberId, generation: u64) {
        if let Some(index) = self.index_of(id)
            && self.peers[index].generation == generation
        {
            self.drop_peer(index);
            self.index_macs();
        }
    }

    fn drop_peer(&mut self, index: usize) {
        self.unlink(index);
        for frame in self.peers.swap_remove(index).pending.drain(..) {
            self.counters.tx_dropped += 1;
            self.stock.free(frame);
        }
    }

    /// The members of one address are a node's workers, in the order of their numbers.
    fn index_macs(&mut self) {
        let own = self.mac;
        let peers = self.peers.iter().enumerate();
        let others = peers.filter(|(_, peer)| peer.mac != own);
        let mut members: Vec<_> = others.map(|(n, peer)| (peer.mac, peer.id, n)).collect();
        members.sort_unstable();
        self.by_mac.clear();
        for workers in members.chunk_by(|a, b| a.0 == b.0) {
            let (mac, _, index) = workers[self.worker % workers.len()];
            self.by_mac.push((mac, index));
        }
    }

    fn add_link(&mut self, id: MemberId, number: u64) {
        let mut fds = self.descriptors.drain(..);
        let (Some(own), Some(peer), Some(bell), Some(tails)) =
            (fds.next(), fds.next(), fds.next(), fds.next())
        else {
            self.fabric.bad_messages += 1;
            return;
        };
        drop(fds);
        let fds = LinkFds {
            own,
            peer,
            bell,
            tails,
        };
        let Some(index) = self.index_of(id) else {
            self.fabric.bad_messages += 1;
            return;
        };
        self.unlink(index);
        let Ok(mut link) = Link::new(number, fds) else {
            // Out of memory, most likely. The hub is asked again after a while.
            self.fabric.bad_messages += 1;
            return;
        };
        if self.asleep {
            link.end.announce_sleep();
        }
        self.fabric.links_made += 1;
        let peer = &mut self.peers[index];
        peer.state = State::Linked(Box::new(link));
        while let Some(mut frame) = self.peers[index].pending.pop_front() {
            self.send(index, &mut frame);
            self.stock.free(frame);
        }
    }

    /// Drops the link, if there is one. What was not read yet is lost and counted.
    fn unlink(&mut self, index: usize) {
        if let State::Linked(link) =
            std::mem::replace(&mut self.peers[index].state, State::Unlinked)
        {
            self.fabric.unread_lost += link.end.waiting();
            self.peers[index].retired.extend(link.retire());
        }
    }

    /// Gives up a link whose peer broke the rules, and tells the hub.
    fn break_link(&mut self, index: usize) {
        self.fabric.links_corrupt += 1;
        let peer = &mut self.peers[index];
        if let Some(link) = peer.link() {
            peer.broken = Some(link.number);
            self.requests_due = true;
        }
        self.unlink(index);
    }

    /// Puts a frame into the ring of a linked peer, or counts it.
    fn send(&mut self, index: usize, frame: &mut Frame) {
        let len = frame.len() as u64;
        let tail = match frame.take_tail() {
            None => None,
            Some(tail) => match self.lendable(index, tail) {
                Some(tail) => Some(tail),
                None => {
                    self.counters.tx_dropped += 1;
                    self.fabric.tails_full += 1;
                    return;
                }
            },
        };
        let Some(link) = self.peers[index].link_mut() else {
            self.counters.tx_dropped += 1;
            return;
        };
        match link.push(frame, tail) {
            Ok(()) => {
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len;
            }
            Err(error) => {
                self.counters.tx_dropped += 1;
                match error {
                    PushError::Full => self.fabric.ring_full += 1,
                    PushError::Size => {}
                    PushError::Corrupt(_) => self.break_link(index),
                }
            }
        }
    }

    /// The tail as one of this member's own, if this peer may have another one. What came from elsewhere is copied.
    fn lendable(&mut self, index: usize, tail: Tail) -> Option<Tail> {
        if !self.may_lend(index) && !self.wait_for_tails(index) {
            return None;
        }
        let store: Option<&Tails> = tail.store().as_any().downcast_ref();
        if store.is_some_and(|store| std::ptr::eq(store, &raw const *self.tails)) {
            return Some(tail);
        }
        Some(self.tails.take()?.copied(&tail))
    }

    fn may_lend(&mut self, index: usize) -> bool {
        let peer = &mut self.peers[index];
        Lent::may_lend(peer.held(), self.tails.free()) || {
            peer.take_back();
            Lent::may_lend(peer.held(), self.tails.free())
        }
    }

    /// Lets a peer that is only behind run, for [`BEHIND`] at most. One that has returned nothing in that time is not waited
    /// for again until it does. False when it has not.
    fn wait_for_tails(&mut self, index: usize) -> bool {
        if self.peers[index].stalled {
            return false;
        }
        let start = (self.clock)();
        let saved = start.since(self.waited_at) / BEHIND_SHARE;
        let limit = BEHIND.min(self.patience + saved);
        self.waited_at = start;
        self.patience = Duration::ZERO;
        // A clock that stands still, as that of a test, must not keep us here.
        for _ in 0..BEHIND_TURNS {
            if let Some(link) = self.peers[index].link_mut() {
                link.flush();
            }
            rustix::thread::sched_yield();
            let waited = (self.clock)().since(start);
            if self.may_lend(index) {
                self.patience = limit.saturating_sub(waited);
                return true;
            }
            if waited >= limit {
                break;
            }
        }
        self.peers[index].stalled = true;
        false
    }

    /// Lets a frame wait for its link, and asks for the link if that is due.
    fn queue(&mut self, index: usize, frame: &mut Frame) {
        // Tails that wait are missing elsewhere.
        let has_room = frame.tail().is_none() || self.tails.free() > TAILS_ALL / 2;
        let peer = &mut self.peers[index];
        if peer.pending.len() < peer::PENDING_PER_PEER
            && has_room
            && let Some(mut copy) = self.stock.alloc()
        {
            // Both kinds of frame have room for MAX_FRAME bytes.
            if copy.fill(frame.bytes()) {
                copy.inherit(frame);
                if frame.is_offloaded() {
                    copy.set_offload(frame.offload());
                }
                if let Some(tail) = frame.take_tail() {
                    copy.set_tail(tail);
                }
                peer.pending.push_back(copy);
            } else {
                self.counters.tx_dropped += 1;
                self.stock.free(copy);
            }
        } else {
            self.counters.tx_dropped += 1;
            self.fabric.pending_overflow += 1;
        }
        let now = (self.clock)();
        if self.peers[index].wants_link(now) {
            self.requests_due = true;
        }
    }

    /// Sends the requests that are due, as far as the socket takes them.
    fn request(&mut self) -> Result<(), PortError> {
        if !std::mem::take(&mut self.requests_due) {
            return Ok(());
        }
        for peer in &mut self.peers {
            while let Some(request) = peer.request() {
                request.write(&mut self.message);
                match scm::send(self.hub.as_fd(), &self.message, &[]) {
                    Ok(_) => peer.requested(),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        self.requests_due = true;
                        return Ok(());
                    }
                    Err(e) => return Err(self.error("write to the hub", e)),
                }
            }
        }
        Ok(())
    }
}

impl Port for FabricPort {
    fn caps(&self) -> Caps {
        Caps {
            mtu: self.mtu,
            offload: true,
        }
    }

    fn rx(
        &mut self,
        pool: &mut FramePool,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<Rx, PortError> {
        self.hub_ready = true;
        // Half for floods at most, so that a broadcast storm doesn't starve the links.
        let mut floods = budget.div_ceil(2);
        let half = floods;
        self.serve_hub(pool, batch, &mut floods)?;
        let drained = self.serve_links(pool, batch, budget - (half - floods));
        self.wake()?;
        Ok(if drained && !self.hub_ready {
            Rx::Drained
        } else {
            Rx::More
        })
    }

    fn tx(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), PortError> {
        let Err(frame) = self.gather.push(frame) else {
            return Ok(());
        };
        let mut result = self.send_gathered(pool);
        // A superframe is nothing that others go with.
        if let Err(mut frame) = self.gather.push(frame) {
            result = result.and_then(|()| self.transmit(&mut frame));
            pool.free(frame);
        }
        if result.is_err() {
            self.gather.free_all(pool);
        }
        result
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        self.send_gathered(pool)?;
        self.wake()
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}
