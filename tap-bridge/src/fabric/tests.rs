mod crowd;
mod gathered;
mod superframes;
mod workers;

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::Instant as Wall;

use router_core::{Batch, Frame, FramePool, Instant, Mac};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::port::{Port as _, Rx};

/// How long a test waits for what must come. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

fn mac(id: u32) -> Mac {
    let [_, b, c, d] = id.to_be_bytes();
    Mac([2, 0, 0, b, c, d])
}

/// An Ethernet frame with a number in its payload.
fn frame(to: Mac, from: u32, number: u32) -> Vec<u8> {
    let mut bytes = to.0.to_vec();
    bytes.extend(mac(from).0);
    bytes.extend([0x08, 0x00]);
    bytes.extend(number.to_be_bytes());
    bytes.resize(60, 0);
    bytes
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[14..18].try_into().unwrap())
}

/// A member as its process would hold it.
struct Node {
    port: FabricPort,
    pool: FramePool,
}

impl Node {
    fn join(hub: &HubHandle, id: u32) -> Self {
        let socket = hub.add_member(MemberId(id), mac(id)).unwrap();
        Self {
            port: FabricPort::new(socket, MemberId(id), mac(id)).unwrap(),
            pool: FramePool::new(64),
        }
    }

    fn id(&self) -> u32 {
        self.port.id().0
    }

    fn send(&mut self, to: Mac, number: u32) {
        let mut f = self.pool.alloc().unwrap();
        assert!(f.fill(&frame(to, self.id(), number)));
        self.port.tx(&mut self.pool, f).unwrap();
        self.port.flush(&mut self.pool).unwrap();
    }

    /// Takes what is there, without waiting: pairs of sender's last octet and number.
    fn receive(&mut self) -> Vec<(u8, u32)> {
        let mut got = Vec::new();
        let mut batch = Batch::new();
        loop {
            let more = self.port.rx(&mut self.pool, &mut batch, 32).unwrap();
            got.extend(
                batch
                    .as_slice()
                    .iter()
                    .map(Frame::bytes)
                    .map(|b| (b[11], number(b))),
            );
            batch.free_all(&mut self.pool);
            if more == Rx::Drained {
                assert_eq!(self.pool.missing(), 0);
                return got;
            }
        }
    }

    /// Sleeps as an event loop does, until something may have come.
    fn sleep(&mut self) {
        if self.port.prepare_sleep() {
            let [hub, bell] = self.port.descriptors();
            let mut fds = [
                PollFd::new(&hub, PollFlags::IN),
                PollFd::new(&bell, PollFlags::IN),
            ];
            let limit = Timespec::try_from(PATIENCE).unwrap();
            assert_ne!(poll(&mut fds, Some(&limit)), Ok(0), "nothing came");
            self.port.silence();
        }
        self.port.end_sleep();
    }

    /// Receives until `done` says so, sleeping in between.
    fn until(&mut self, done: impl Fn(&FabricPort, &[(u8, u32)]) -> bool) -> Vec<(u8, u32)> {
        let start = Wall::now();
        let mut got = Vec::new();
        loop {
            got.extend(self.receive());
            if done(&self.port, &got) {
                return got;
            }
            assert!(start.elapsed() < PATIENCE, "got {got:?}");
            self.sleep();
        }
    }

    fn receive_count(&mut self, count: usize) -> Vec<(u8, u32)> {
        self.until(|_, got| got.len() >= count)
    }

    fn knows(&mut self, count: usize) {
        let got = self.until(|port, _| port.members().count() == count);
        assert_eq!(got, []);
    }

    /// Serves the port on a thread of its own until told to stop, sending back every frame to where it came from.
    fn echo(mut self, frames: usize) -> JoinHandle<Self> {
        thread::spawn(move || {
            let mut seen = 0;
            while seen < frames {
                let got = self.receive();
                seen += got.len();
                for (from, number) in got {
                    self.send(mac(u32::from(from)), number);
                }
                if seen < frames {
                    self.sleep();
                }
            }
            self
        })
    }
}

fn segment(ids: &[u32]) -> (HubHandle, Vec<Node>) {
    let (hub, _thread) = Hub::spawn().unwrap();
    let mut nodes: Vec<_> = ids.iter().map(|&id| Node::join(&hub, id)).collect();
    for node in &mut nodes {
        node.knows(ids.len() - 1);
    }
    (hub, nodes)
}

fn three() -> (HubHandle, Node, Node, Node) {
    let (hub, nodes) = segment(&[1, 2, 3]);
    let Ok([a, b, c]) = <[Node; 3]>::try_from(nodes) else {
        unreachable!("three were asked for")
    };
    (hub, a, b, c)
}

/// Sends one frame and sees it arrive. Each end has its turn, as link set-up takes both.
fn pass(from: &mut Node, to: &mut Node, number: u32) {
    from.send(to.port.mac(), number);
    let id = to.port.id();
    assert_eq!(from.until(|port, _| port.is_linked(id)), []);
    let last_octet = from.port.mac().0[5];
    assert_eq!(to.receive_count(1), [(last_octet, number)]);
}

fn numbers(from: u8, range: std::ops::Range<u32>) -> Vec<(u8, u32)> {
    range.map(|n| (from, n)).collect()
}

#[test]
fn a_broadcast_reaches_all_others() {
    let (hub, mut a, mut b, mut c) = three();
    a.send(Mac::BROADCAST, 7);
    assert_eq!(b.receive_count(1), [(1, 7)]);
    assert_eq!(c.receive_count(1), [(1, 7)]);
    assert_eq!(a.receive(), []);
    assert_eq!(hub.counters().unwrap().floods_relayed, 2);
    assert_eq!(hub.counters().unwrap().links, 0);
}

#[test]
fn the_first_unicast_frames_wait_for_the_link_and_keep_their_order() {
    let (hub, mut a, mut b, mut c) = three();
    for n in 0..10 {
        a.send(mac(2), n);
    }
    assert_eq!(a.port.pending(), 10);
    a.until(|port, _| port.is_linked(MemberId(2)));
    assert_eq!(a.port.pending(), 0);
    for n in 10..20 {
        a.send(mac(2), n);
    }
    assert_eq!(b.receive_count(20), numbers(1, 0..20));
    assert_eq!(hub.counters().unwrap().links, 1);
    assert_eq!(c.receive(), []);
    assert_eq!(a.port.counters().tx_frames, 20);
    assert_eq!(b.port.counters().rx_frames, 20);
}

#[test]
fn a_frame_that_came_before_the_announcement_forbids_sleep() {
    let (_hub, mut a, mut b, _c) = three();
    pass(&mut a, &mut b, 0);
    // B is awake, so nobody rings.
    a.send(mac(2), 1);
    assert!(!b.port.prepare_sleep());
    b.port.end_sleep();
    assert_eq!(b.receive(), [(1, 1)]);
    assert!(b.port.prepare_sleep());
    b.port.end_sleep();
}

#[test]
fn both_ends_may_ask_for_the_link_at_once() {
    let (hub, mut a, mut b, _c) = three();
    a.send(mac(2), 1);
    b.send(mac(1), 2);
    let got = a.until(|port, _| port.is_linked(MemberId(2)));
    assert_eq!(got, []);
    assert_eq!(b.receive_count(1), [(1, 1)]);
    assert_eq!(a.receive_count(1), [(2, 2)]);
    assert_eq!(hub.counters().unwrap().links, 1);
    assert_eq!(a.port.fabric_counters().links_made, 1);
    assert_eq!(b.port.fabric_counters().links_made, 1);
}

#[test]
fn frames_go_round_between_sleeping_threads() {
    let (_hub, mut a, b, c) = three();
    let others = [b.echo(2000), c.echo(2000)];
    let (mut sent, mut got) = (0, BTreeMap::<u8, Vec<u32>>::new());
    let start = Wall::now();
    while got.values().map(Vec::len).sum::<usize>() < 4000 {
        // A window of 32 per peer never fills a ring or the queue before the link.
        let back = got
            .values()
            .map(Vec::len)
            .min()
            .filter(|_| got.len() == 2)
            .unwrap_or(0);
        while sent < 2000 && sent < back + 32 {
            for peer in [2, 3] {
                a.send(mac(peer), u32::try_from(sent).unwrap());
            }
            sent += 1;
        }
        let came = a.receive();
        if came.is_empty() {
            a.sleep();
        }
        for (from, number) in came {
            got.entry(from).or_default().push(number);
        }
        assert!(start.elapsed() < PATIENCE, "stuck at {sent}");
    }
    let all: Vec<u32> = (0..2000).collect();
    assert_eq!((&got[&2], &got[&3]), (&all, &all));
    for other in others {
        let node = other.join().unwrap();
        assert_eq!(node.port.counters().tx_dropped, 0);
        assert_eq!(node.pool.missing(), 0);
    }
    assert_eq!(a.port.counters().tx_dropped, 0);
}

#[test]
fn a_member_that_dies_is_forgotten_and_its_successor_is_reached() {
    let (hub, mut a, mut b, mut c) = three();
    pass(&mut a, &mut b, 0);
    a.send(mac(2), 1);
    // Dropped with a frame unread, as a killed process would leave it.
    drop(b);
    a.knows(1);
    c.knows(1);
    assert_eq!(hub.counters().unwrap().members_lost, 1);
    assert_eq!(hub.counters().unwrap().links, 0);
    // Unknown now: flooded, as a switch does.
    a.send(mac(2), 2);
    assert_eq!(c.receive_count(1), [(1, 2)]);

    let mut b = Node::join(&hub, 2);
    b.knows(2);
    a.knows(2);
    pass(&mut a, &mut b, 3);
    pass(&mut b, &mut a, 4);
    assert_eq!(a.port.fabric_counters().links_made, 2);
}

#[test]
fn a_member_that_is_replaced_before_it_is_noticed_gets_a_new_link() {
    let (hub, mut a, mut b, _c) = three();
    pass(&mut a, &mut b, 0);
    b.send(mac(1), 1);
    let mut successor = Node::join(&hub, 2);
    // A is told that it is gone and back in one go; what the old one had sent is lost and counted.
    let got = a.until(|port, _| port.fabric_counters().unread_lost == 1);
    assert_eq!(got, []);
    assert_eq!(a.port.members().count(), 2);
    assert!(!a.port.is_linked(MemberId(2)));
    pass(&mut a, &mut successor, 2);
    let mut batch = Batch::new();
    let gone = b.port.rx(&mut b.pool, &mut batch, 32).unwrap_err();
    assert_eq!(gone.source.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn waiting_frames_of_a_member_that_leaves_are_counted() {
    let (hub, mut a, _b, _c) = three();
    a.port.set_clock(|| Instant::ZERO);
    hub.remove_member(MemberId(2)).unwrap();
    // Not yet read: to this port the member is still there.
    for n in 0..3 {
        let mut f = a.pool.alloc().unwrap();
        assert!(f.fill(&frame(mac(2), 1, n)));
        a.port.tx(&mut a.pool, f).unwrap();
    }
    a.port.flush(&mut a.pool).unwrap();
    assert_eq!(a.port.pending(), 3);
    a.knows(1);
    assert_eq!((a.port.pending(), a.port.counters().tx_dropped), (0, 3));
}

#[test]
fn a_full_ring_drops_and_counts_and_a_member_that_never_reads_starves_only_itself() {
    let (_hub, mut a, mut b, mut c) = three();
    for (to, n) in [(2, 0), (3, 0)] {
        a.send(mac(to), n);
        a.until(|port, _| port.is_linked(MemberId(to)));
    }
    let room = u32::try_from(ring::SLOTS).unwrap();
    for n in 1..room + 10 {
        a.send(mac(2), n);
    }
    assert_eq!(a.port.counters().tx_dropped, 10);
    assert_eq!(a.port.fabric_counters().ring_full, 10);
    for n in 1..1000 {
        a.send(mac(3), n);
        if n % 50 == 0 {
            c.until(|_, got| got.last().is_some_and(|g| g.1 == n));
        }
    }
    assert_eq!(
        a.port.counters().tx_dropped,
        10,
        "the other peer lost nothing"
    );
    assert_eq!(b.receive_count(ring::SLOTS), numbers(1, 0..room));
    a.send(mac(2), 5000);
    assert_eq!(b.receive_count(1), [(1, 5000)]);
}

#[test]
fn a_member_that_never_reads_loses_floods_and_learns_the_rest_later() {
    let (hub, mut a, mut b, mut c) = three();
    // Enough to fill any socket buffer; the rest of the segment gets every one.
    for n in 0..3000 {
        a.send(Mac::BROADCAST, n);
        assert_eq!(c.receive_count(1), [(1, n)]);
    }
    assert!(hub.counters().unwrap().floods_dropped > 0);
    hub.remove_member(MemberId(3)).unwrap();
    a.knows(1);
    let d = Node::join(&hub, 4);
    a.send(mac(2), 9999);
    a.until(|port, _| port.is_linked(MemberId(2)));
    let got = b.until(|port, got| {
        let d_is_there = port.members().any(|m| m == (d.port.id(), d.port.mac()));
        d_is_there && port.members().count() == 2 && got.last() == Some(&(1, 9999))
    });
    assert!(got.len() < 3000);
    assert!(got.is_sorted(), "late, but in order");
}

#[test]
fn too_many_frames_for_one_link_to_come_are_counted() {
    let (_hub, mut a, _b, _c) = three();
    for n in 0..100 {
        a.send(mac(2), n);
    }
    let counters = a.port.fabric_counters();
    assert_eq!((a.port.pending(), counters.pending_overflow), (64, 36));
    for n in 0..100 {
        a.send(mac(3), n);
    }
    let counters = a.port.fabric_counters();
    assert_eq!((a.port.pending(), counters.pending_overflow), (PENDING, 72));
    assert_eq!(a.port.counters().tx_dropped, 72);
}

#[test]
fn frames_to_unknown_macs_are_flooded_at_a_bounded_rate() {
    let (_hub, mut a, mut b, _c) = three();
    a.port.set_clock(|| Instant::ZERO);
    for n in 0..150 {
        a.send(mac(77), n);
        if n < 100 {
            assert_eq!(b.receive_count(1), [(1, n)]);
        }
    }
    assert_eq!(a.port.fabric_counters().unknown_dropped, 50);
    assert_eq!(a.port.counters().tx_dropped, 50);
}

#[test]
fn a_corrupt_peer_costs_its_link_and_a_new_one_comes_at_a_bounded_rate() {
    let (hub, mut a, mut b, _c) = three();
    pass(&mut a, &mut b, 0);
    // A goes mad and announces frames that no ring can hold.
    a.port.scribble(MemberId(2));
    let start = Wall::now();
    b.until(|port, _| port.fabric_counters().links_corrupt == 1);
    assert_eq!(b.port.counters().rx_errors, 1);
    a.until(|port, _| !port.is_linked(MemberId(2)));
    assert_eq!(hub.counters().unwrap().links, 0);

    // Frames wait until a request is due again; each one is a chance to make it.
    let mut n = 2;
    let got = loop {
        b.send(mac(1), n);
        n += 1;
        assert_eq!(b.receive(), []);
        let got = a.receive();
        if !got.is_empty() {
            break got;
        }
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    };
    assert_eq!(got[0], (2, 2), "the first that waited comes first");
    assert_eq!(hub.counters().unwrap().links_broken, 1);
    assert_eq!(hub.counters().unwrap().links, 1);
}

#[test]
fn a_socket_of_someone_else_is_refused() {
    let (hub, _thread) = Hub::spawn().unwrap();
    let socket = hub.add_member(MemberId(1), mac(1)).unwrap();
    let error = FabricPort::new(socket, MemberId(2), mac(2)).unwrap_err();
    assert_eq!(error.to_string(), "the socket of member 1, not 2");
    let _socket = hub.add_member(MemberId(1), mac(1)).unwrap();
    let taken = hub.add_member(MemberId(9), mac(1)).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
    let group = hub.add_member(MemberId(9), Mac::BROADCAST).unwrap_err();
    assert_eq!(group.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn the_hub_ends_with_its_last_handle_and_members_notice() {
    let (hub, thread) = Hub::spawn().unwrap();
    let mut a = Node::join(&hub, 1);
    let second = hub.clone();
    drop(hub);
    assert_eq!(second.counters().unwrap().members, 1);
    drop(second);
    thread.join().unwrap().unwrap();
    let mut batch = Batch::new();
    assert!(a.port.rx(&mut a.pool, &mut batch, 32).is_err());
}
