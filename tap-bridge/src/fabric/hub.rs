//! The hub of a segment: knows who is there, relays floods, makes the memory of links.
//!
//! Decides which members exist and which link between two of them is the current one. Doesn't see unicast traffic. Lives in
//! a thread of the daemon ([`Hub::spawn`]) and is steered through a [`HubHandle`]; tests drive it by [`Hub::turn`].
//!
//! Instead of queueing messages the hub remembers, per member and peer, what the member was told, and compares it with what
//! is true whenever the socket takes more ([`Hub::tell`]). So a member that doesn't read costs no memory, and each one that
//! does ends up knowing the present state whatever happened in between.
//!
//! Cost: idle it sleeps in epoll; a flood costs one system call per member.

mod handle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use router_core::{Instant, Mac};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::MemberId;
use super::link::RegionFds;
use super::message::{Flooded, MESSAGE_MAX, ToHub, ToMember};
use crate::sys::eventfd::Doorbell;
use crate::sys::{clock, scm, shm};
use crate::tails;

pub use handle::HubHandle;

/// Messages read from one member before the next one has its turn.
const MESSAGES_PER_TURN: usize = 64;

/// Least age of a link that a repeated `Connect` replaces. A younger one crossed the hub's answer on its way; an older one
/// says that the member could not use the link it was told of. Also bounds how often two members get a new link.
const LINK_AGE: Duration = Duration::from_millis(50);

/// Time after which the hub tries again to tell a member what it could not be told. Needed where no event says that the
/// kernel is willing again: it bounds the descriptors in flight per user (unix(7) ETOOMANYREFS).
const RETELL: Duration = Duration::from_millis(100);

/// What the hub has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Members now.
    pub members: u64,
    /// Links now.
    pub links: u64,
    /// Frames relayed, counted once per receiver.
    pub floods_relayed: u64,
    /// Frames not relayed because the receiver's socket was full, counted once per receiver.
    pub floods_dropped: u64,
    /// Members whose end of the socket was closed.
    pub members_lost: u64,
    /// Links that members called broken.
    pub links_broken: u64,
    /// Links for which there was no memory or no descriptor.
    pub links_failed: u64,
    /// Datagrams that were no message.
    pub malformed: u64,
}

/// What a member was told about a peer.
#[derive(Clone, Copy, Debug)]
struct Told {
    generation: u64,
    /// Link it knows of, 0 for none.
    link: u64,
}

#[derive(Debug)]
struct Member {
    generation: u64,
    mac: Mac,
    socket: OwnedFd,
    bell: Doorbell,
    /// Its tails, to be read by others.
    tails: OwnedFd,
    told: BTreeMap<MemberId, Told>,
    /// Peers about which it may have to be told something.
    untold: BTreeSet<MemberId>,
    /// The socket may have more.
    ready: bool,
}

/// The current link of a pair of members, the lower number first.
#[derive(Debug)]
struct Pair {
    /// Number of the link, 0 when it was broken.
    link: u64,
    made: Instant,
    /// Kept until both ends have got them.
    regions: Option<[RegionFds; 2]>,
}

/// The hub of one segment.
#[derive(Debug)]
pub struct Hub {
    poll: Poll,
    events: Events,
    members: BTreeMap<MemberId, Member>,
    pairs: BTreeMap<[MemberId; 2], Pair>,
    last_generation: u64,
    last_link: u64,
    counters: HubCounters,
    message: Vec<u8>,
    buffer: Box<[u8]>,
    descriptors: Vec<OwnedFd>,
    clock: fn() -> Instant,
}

impl Hub {
    /// A hub without members.
    ///
    /// # Errors
    /// When the system gives no epoll descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(256),
            members: BTreeMap::new(),
            pairs: BTreeMap::new(),
            last_generation: 0,
            last_link: 0,
            counters: HubCounters::default(),
            message: Vec::with_capacity(MESSAGE_MAX),
            buffer: vec![0; MESSAGE_MAX + 1].into_boxed_slice(),
            descriptors: Vec::new(),
            clock: clock::monotonic,
        })
    }

    /// Admits a member and returns its end of the socket, for [`FabricPort::new`](super::FabricPort::new) in its process. A
    /// member of the same number is removed before: the new one is another generation.
    ///
    /// # Errors
    /// `InvalidInput` for a MAC that is no station's, `AlreadyExists` for one that another member has; out of descriptors.
    pub fn add_member(&mut self, id: MemberId, mac: Mac) -> io::Result<OwnedFd> {
        if !mac.is_unicast() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.members.iter().any(|(&i, m)| i != id && m.mac == mac) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.admit(id, mac)
    }

    /// Admits a member with the address of another, `first`: one more worker of the same node. Floods reach the member with
    /// the lowest number among them.
    ///
    /// # Errors
    /// `NotFound` when there is no member `first`, `InvalidInput` when its number is not lower; out of descriptors.
    pub fn add_worker(&mut self, id: MemberId, first: MemberId) -> io::Result<OwnedFd> {
        if id <= first {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mac = self.members.get(&first).map(|member| member.mac);
        self.admit(id, mac.ok_or(io::ErrorKind::NotFound)?)
    }

    fn admit(&mut self, id: MemberId, mac: Mac) -> io::Result<OwnedFd> {
        self.remove_member(id);
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let bell = Doorbell::new()?;
        // Of this generation alone: what an earlier one lent out is not written any more (decision 16).
        let tails = tails::create()?;
        self.last_generation += 1;
        let generation = self.last_generation;
        ToMember::Welcome {
            member: id,
            generation,
        }
        .write(&mut self.message);
        scm::send(
            socket.as_fd(),
            &self.message,
            &[bell.as_fd(), tails.as_fd()],
        )?;
        let tails = shm::read_only(tails.as_fd())?;
        let token = Token(usize::try_from(id.0).unwrap_or(usize::MAX));
        self.poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            token,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let peers: BTreeSet<_> = self.members.keys().copied().collect();
        self.members.insert(
            id,
            Member {
                generation,
                mac,
                socket,
                bell,
                tails,
                told: BTreeMap::new(),
                untold: peers.clone(),
                ready: false,
            },
        );
        self.tell(id);
        for peer in peers {
            self.news(peer, id);
        }
        Ok(theirs)
    }

    /// Removes a member; the others are told, and drop what they have of it. Its own socket is closed. False when there is
    /// none of this number.
    pub fn remove_member(&mut self, id: MemberId) -> bool {
        let Some(member) = self.members.remove(&id) else {
            return false;
        };
        // It fails only for a descriptor that isn't registered, which is what is wanted.
        let _ = self
            .poll
            .registry()
            .deregister(&mut SourceFd(&member.socket.as_raw_fd()));
        drop(member);
        self.pairs.retain(|pair, _| !pair.contains(&id));
        let peers: Vec<_> = self.members.keys().copied().collect();
        for peer in peers {
            self.news(peer, id);
        }
        true
    }

    /// What the hub has done so far.
    #[must_use]
    pub fn counters(&self) -> HubCounters {
        HubCounters {
            members: self.members.len() as u64,
            links: self.pairs.values().filter(|p| p.link != 0).count() as u64,
            ..self.counters
        }
    }

    /// Serves members once: at once when one has something to say, else sleeps until one has, or `max_wait`.
    ///
    /// # Errors
    /// When epoll fails, which nothing that members do can cause.
    pub fn turn(&mut self, max_wait: Option<Duration>) -> io::Result<()> {
        let busy = self.members.values().any(|m| m.ready);
        let owing = self.members.values().any(|m| !m.untold.is_empty());
        let wait = match max_wait {
            _ if busy => Some(Duration::ZERO),
            Some(limit) if owing => Some(limit.min(RETELL)),
            None if owing => Some(RETELL),
            limit => limit,
        };
        match self.poll.poll(&mut self.events, wait) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(e),
        }
        for event in &self.events {
            let id = u32::try_from(event.token().0).map(MemberId);
            if let Ok(id) = id
                && let Some(member) = self.members.get_mut(&id)
            {
                member.ready = true;
            }
        }
        let due = |m: &Member| m.ready || !m.untold.is_empty();
        let ids = self.members.iter().filter(|(_, m)| due(m));
        let ids: Vec<_> = ids.map(|(&id, _)| id).collect();
        for id in ids {
            self.tell(id);
            self.serve(id);
        }
        Ok(())
    }

    /// Reads what a member has to say.
    fn serve(&mut self, id: MemberId) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..MESSAGES_PER_TURN {
            let Some(member) = self.members.get_mut(&id) else {
                break;
            };
            // No message of a member carries descriptors: any that come are closed.
            self.descriptors.clear();
            match scm::recv(member.socket.as_fd(), &mut buffer, &mut self.descriptors) {
                Ok(len) if len > 0 => match ToHub::parse(&buffer[..len]) {
                    Ok(ToHub::Flood(flooded)) => self.flood(id, flooded),
                    Ok(ToHub::Connect { peer }) => self.connect(id, peer),
                    Ok(ToHub::Broken { peer, link }) => self.disconnect(id, peer, link),
                    Err(_) => self.counters.malformed += 1,
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    member.ready = false;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::InvalidData => self.counters.malformed += 1,
                // Closed, by will or by death.
                _ => {
                    self.counters.members_lost += 1;
                    self.remove_member(id);
                    break;
                }
            }
        }
        self.descriptors.clear();
        self.buffer = buffer;
    }

    fn flood(&mut self, from: MemberId, flooded: Flooded<'_>) {
        ToMember::Flood(flooded).write(&mut self.message);
        let own = self.members.get(&from).map(|member| member.mac);
        let mut told = BTreeSet::from_iter(own);
        // By rising number, so that of a node with several workers it is the first.
        for member in self.members.values() {
            if !told.insert(member.mac) {
                continue;
            }
            // A socket that is closed is noticed when it is read.
            match scm::send(member.socket.as_fd(), &self.message, &[]) {
                Ok(_) => self.counters.floods_relayed += 1,
                Err(_) => self.counters.floods_dropped += 1,
            }
        }
    }

    fn connect(&mut self, from: MemberId, to: MemberId) {
        // A peer that is gone: the member will be, or has been, told so.
        if from == to || !self.members.contains_key(&to) {
            return;
        }
        let now = (self.clock)();
        let key = sorted(from, to);
        let young = |pair: &Pair| now.since(pair.made) < LINK_AGE;
        if self.pairs.get(&key).is_some_and(young) {
            return;
        }
        let regions = RegionFds::new().and_then(|low| Ok([low, RegionFds::new()?]));
        let Ok(regions) = regions else {
            self.counters.links_failed += 1;
            return;
        };
        self.last_link += 1;
        let pair = Pair {
            link: self.last_link,
            made: now,
            regions: Some(regions),
        };
        self.pairs.insert(key, pair);
        self.news(from, to);
        self.news(to, from);
    }

    fn disconnect(&mut self, from: MemberId, to: MemberId, link: u64) {
        if let Some(pair) = self.pairs.get_mut(&sorted(from, to))
            && pair.link == link
            && link != 0
        {
            self.counters.links_broken += 1;
            pair.link = 0;
            pair.regions = None;
            self.news(from, to);
            self.news(to, from);
        }
    }

    /// Something about `peer` has changed, which `id` has to be told.
    fn news(&mut self, id: MemberId, peer: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.untold.insert(peer);
            self.tell(id);
        }
    }

    /// Tells a member all that it doesn't know yet, as far as its socket takes it.
    fn tell(&mut self, id: MemberId) {
        while let Some(peer) = self
            .members
            .get(&id)
            .and_then(|m| m.untold.first().copied())
        {
            if !self.tell_about(id, peer) {
                return;
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.untold.remove(&peer);
            }
        }
    }

    /// Brings what `id` was told about `peer` up to what is true. False when its socket takes no more.
    fn tell_about(&mut self, id: MemberId, peer: MemberId) -> bool {
        let actual = self.members.get(&peer).map(|p| (p.generation, p.mac));
        let pair = self.pairs.get(&sorted(id, peer));
        let link = pair.map_or(0, |pair| pair.link);
        let Some(member) = self.members.get(&id) else {
            return true;
        };
        let mut told = member.told.get(&peer).copied();
        let mut say = |message: ToMember<'_>, fds: &[std::os::fd::BorrowedFd<'_>]| {
            message.write(&mut self.message);
            scm::send(member.socket.as_fd(), &self.message, fds).is_ok()
        };
        let mut complete = true;
        if let Some(Told { generation, .. }) = told
            && actual.is_none_or(|a| a.0 != generation)
        {
            complete &= say(ToMember::Down { peer, generation }, &[]);
            told = if complete { None } else { told };
        }
        if complete
            && told.is_none()
            && let Some((generation, mac)) = actual
        {
            let up = ToMember::Up {
                peer,
                generation,
                mac,
            };
            complete &= say(up, &[]);
            if complete {
                told = Some(Told {
                    generation,
                    link: 0,
                });
            }
        }
        if complete
            && let Some(told) = &mut told
            && told.link != link
        {
            complete &= match (
                link,
                pair.and_then(|p| p.regions.as_ref()),
                self.members.get(&peer),
            ) {
                (1.., Some([low, high]), Some(other)) => {
                    let (own, theirs) = if id < peer { (low, high) } else { (high, low) };
                    let fds = [
                        own.write.as_fd(),
                        theirs.read.as_fd(),
                        other.bell.as_fd(),
                        other.tails.as_fd(),
                    ];
                    say(ToMember::Link { peer, link }, &fds)
                }
                _ => say(
                    ToMember::Unlink {
                        peer,
                        link: told.link,
                    },
                    &[],
                ),
            };
            if complete {
                told.link = link;
            }
        }
        self.remember(id, peer, told);
        complete
    }

    /// Notes what `id` was told about `peer`, and closes the regions of a link that both ends know.
    fn remember(&mut self, id: MemberId, peer: MemberId, told: Option<Told>) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        match told {
            Some(told) => member.told.insert(peer, told),
            None => member.told.remove(&peer),
        };
        let link = told.map_or(0, |t| t.link);
        let knows = |m: &Member| m.told.get(&id).is_some_and(|t| t.link == link);
        if link != 0
            && self.members.get(&peer).is_some_and(knows)
            && let Some(pair) = self.pairs.get_mut(&sorted(id, peer))
        {
            pair.regions = None;
        }
    }
}

fn sorted(a: MemberId, b: MemberId) -> [MemberId; 2] {
    if a < b { [a, b] } else { [b, a] }
}
