//! Superframes between members: lent, not copied, and given back.

use router_core::frame::{Gso, GsoKind, Offload, Partial, Tail};

use super::*;
use crate::tails::{Tails, stretch_of};

const SIZE: u16 = 1000;

const TCP: Offload = Offload {
    partial: Some(Partial {
        start: 34,
        offset: 16,
    }),
    gso: Some(Gso {
        kind: GsoKind::TcpV4,
        size: SIZE,
        ecn: false,
    }),
};

/// Payload number `n` of so many bytes.
fn payload(n: u8, len: usize) -> Vec<u8> {
    (n..=250).cycle().take(len).collect()
}

/// Ethernet, IPv4 and TCP headers in front of so many bytes.
fn headers(to: Mac, from: u32, len: usize) -> Vec<u8> {
    let mut bytes = to.0.to_vec();
    bytes.extend(mac(from).0);
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend(u16::try_from(40 + len).unwrap().to_be_bytes());
    bytes.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend([
        0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    bytes
}

impl Node {
    /// A superframe whose tail a device would have written into this node's memory.
    fn superframe(&mut self, to: Mac, payload: &[u8]) -> Frame {
        let tail = self.port.tails().take().expect("a free tail");
        self.superframe_with(to, payload, |p| tail.copied(&Tail::on_heap(p)))
    }

    fn superframe_with(
        &mut self,
        to: Mac,
        payload: &[u8],
        tail: impl FnOnce(&[u8]) -> Tail,
    ) -> Frame {
        let mut frame = self.pool.alloc().unwrap();
        assert!(frame.fill(&headers(to, self.id(), payload.len())));
        frame.set_offload(TCP);
        frame.set_tail(tail(payload));
        frame
    }

    fn transmit(&mut self, frame: Frame) {
        self.port.tx(&mut self.pool, frame).unwrap();
        self.port.flush(&mut self.pool).unwrap();
    }

    fn send_superframe(&mut self, to: Mac, payload: &[u8]) {
        let frame = self.superframe(to, payload);
        self.transmit(frame);
    }

    /// Waits for frames and keeps them: the pool misses them until they are given back.
    fn keep(&mut self, count: usize) -> Vec<Frame> {
        let start = Wall::now();
        let mut kept = Vec::new();
        let mut batch = Batch::new();
        while kept.len() < count {
            let more = self.port.rx(&mut self.pool, &mut batch, 32).unwrap();
            kept.extend(batch.drain());
            assert!(start.elapsed() < PATIENCE, "{} of {count}", kept.len());
            if more == Rx::Drained && kept.len() < count {
                self.sleep();
            }
        }
        kept
    }

    /// Receives, and throws away, until `done` says so; what is kept elsewhere stays kept.
    fn wait_for(&mut self, done: impl Fn(&FabricPort) -> bool) {
        let start = Wall::now();
        let mut batch = Batch::new();
        loop {
            let more = self.port.rx(&mut self.pool, &mut batch, 32).unwrap();
            batch.free_all(&mut self.pool);
            if done(&self.port) {
                return;
            }
            assert!(start.elapsed() < PATIENCE);
            if more == Rx::Drained {
                self.sleep();
            }
        }
    }

    fn free(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.pool.free(frame);
        }
    }

    /// Tails of this node that are free once everything returned was taken back.
    fn free_tails(&mut self) -> u32 {
        self.port.take_back();
        self.port.tails().free()
    }
}

fn content(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.len() - 54];
    frame.read(54, &mut bytes);
    bytes
}

fn linked(from: &mut Node, to: &mut Node) {
    pass(from, to, 0);
}

#[test]
fn a_superframe_is_read_where_its_sender_put_it_and_given_back() {
    let (_hub, mut a, mut b, _c) = three();
    linked(&mut a, &mut b);
    for n in 0..200 {
        let sent = payload(n, 60_000 + usize::from(n));
        a.send_superframe(mac(2), &sent);
        let got = b.keep(1);
        assert_eq!((got[0].offload(), got[0].head_len()), (TCP, 54));
        assert!(content(&got[0]) == sent, "payload {n}");
        let tail = got[0].tail().unwrap();
        assert_eq!(tail.index(), 0, "the same memory again and again");
        assert!(
            stretch_of(tail).is_some(),
            "a device can send it from there"
        );
        assert_eq!(a.free_tails(), 63);
        b.free(got);
        assert_eq!(a.free_tails(), 64);
    }
    assert_eq!(a.port.counters().tx_dropped, 0);
    assert!(b.port.counters().rx_bytes > 12_000_000);
}

#[test]
fn a_superframe_waits_for_its_link_as_others_do() {
    let (_hub, mut a, mut b, _c) = three();
    let sent = payload(1, 5000);
    a.send_superframe(mac(2), &sent);
    assert_eq!((a.port.pending(), a.free_tails()), (1, 63));
    a.until(|port, _| port.is_linked(MemberId(2)));
    let got = b.keep(1);
    assert!(content(&got[0]) == sent);
    assert_eq!(got[0].offload(), TCP);
    b.free(got);
    assert_eq!(a.free_tails(), 64);
}

#[test]
fn superframes_that_wait_for_links_leave_half_of_the_tails() {
    let (_hub, mut a, _b, _c) = three();
    for _ in 0..40 {
        a.send_superframe(mac(2), &payload(1, 3000));
    }
    let counters = a.port.fabric_counters();
    assert_eq!((a.port.pending(), counters.pending_overflow), (31, 9));
    assert_eq!(a.free_tails(), 33);
}

#[test]
fn a_member_that_returns_no_tail_starves_only_itself() {
    let (_hub, mut a, mut b, mut c) = three();
    linked(&mut a, &mut b);
    linked(&mut a, &mut c);
    for n in 0..40 {
        a.send_superframe(mac(2), &payload(n, 3000));
    }
    // It may hold as many as are free besides the one that is asked for.
    assert_eq!(a.port.fabric_counters().tails_full, 8);
    assert_eq!(a.port.counters().tx_dropped, 8);
    let hoard = b.keep(32);
    assert_eq!(a.free_tails(), 32);
    for n in 0..100 {
        a.send_superframe(mac(3), &payload(n, 3000));
        let got = c.keep(1);
        assert!(content(&got[0]) == payload(n, 3000));
        c.free(got);
    }
    assert_eq!(a.port.fabric_counters().tails_full, 8);
    for (n, frame) in (0..).zip(&hoard) {
        assert!(content(frame) == payload(n, 3000), "{n} was overwritten");
    }
    b.free(hoard);
    assert_eq!(a.free_tails(), 64);
}

#[test]
fn the_tails_of_a_member_that_died_are_read_on_and_what_it_had_is_free() {
    let (_hub, mut a, mut b, _c) = three();
    linked(&mut a, &mut b);
    a.send_superframe(mac(2), &payload(1, 9000));
    b.send_superframe(mac(1), &payload(2, 9000));
    let got = b.keep(1);
    drop(a);
    b.wait_for(|port| port.members().count() == 1);
    assert!(content(&got[0]) == payload(1, 9000));
    assert_eq!(b.free_tails(), 64, "the other one can't read it any more");
    b.free(got);
}

/// The kernel of a pod believes what it is told of a checksum: what goes to it must be what was sent.
#[test]
fn a_link_that_goes_takes_no_tail_away_from_who_still_reads_it() {
    let (hub, mut a, mut b, _c) = three();
    linked(&mut a, &mut b);
    a.send_superframe(mac(2), &payload(1, 9000));
    let got = b.keep(1);
    // The other direction breaks the rules, so that both give the link up.
    a.port.scribble(MemberId(2));
    b.wait_for(|port| port.fabric_counters().links_corrupt == 1);
    a.wait_for(|port| !port.is_linked(MemberId(2)));
    assert_eq!(hub.counters().unwrap().links, 0);
    assert_eq!(a.free_tails(), 63, "still read");
    assert!(content(&got[0]) == payload(1, 9000));
    b.free(got);
    assert_eq!(a.free_tails(), 64);
}

#[test]
fn a_tail_that_is_unread_when_the_link_goes_is_free_again() {
    let (_hub, mut a, mut b, _c) = three();
    linked(&mut a, &mut b);
    linked(&mut b, &mut a);
    b.send_superframe(mac(1), &payload(1, 9000));
    assert_eq!(b.free_tails(), 63);
    b.port.scribble(MemberId(1));
    a.wait_for(|port| port.fabric_counters().links_corrupt == 1);
    b.wait_for(|port| !port.is_linked(MemberId(1)));
    assert_eq!(b.free_tails(), 64);
}

#[test]
fn payload_from_elsewhere_is_copied_once() {
    let (_hub, mut a, mut b, mut c) = three();
    linked(&mut a, &mut b);
    linked(&mut b, &mut c);
    let sent = payload(3, 20_000);
    let frame = a.superframe_with(mac(2), &sent, Tail::on_heap);
    a.transmit(frame);
    // B passes it on.
    let mut got = b.keep(1).remove(0);
    assert!(content(&got) == sent);
    got.bytes_mut()[..6].copy_from_slice(&mac(3).0);
    b.transmit(got);
    assert_eq!(a.free_tails(), 64, "not held up by the third");
    let got = c.keep(1);
    assert!(content(&got[0]) == sent);
    assert_eq!(b.free_tails(), 63);
    c.free(got);
    assert_eq!((b.free_tails(), b.pool.missing()), (64, 0));
    let foreign = Tails::new().unwrap();
    let frame = a.superframe_with(mac(2), &sent, |p| {
        foreign.take().unwrap().copied(&Tail::on_heap(p))
    });
    a.transmit(frame);
    assert_eq!(foreign.free(), 64);
    let got = b.keep(1);
    assert!(content(&got[0]) == sent);
    b.free(got);
}

/// A wire's broadcast has no superframes, and no open checksums.
#[test]
fn a_flooded_superframe_is_cut_and_its_checksums_are_right() {
    let (_hub, mut a, mut b, mut c) = three();
    let sent = payload(9, 2500);
    a.send_superframe(Mac::BROADCAST, &sent);
    for node in [&mut b, &mut c] {
        let got = node.keep(3);
        let lens: Vec<_> = got.iter().map(Frame::len).collect();
        assert_eq!(lens, [1054, 1054, 554]);
        let all: Vec<u8> = got.iter().flat_map(content).collect();
        assert!(all == sent);
        for frame in &got {
            assert_eq!(frame.offload(), Offload::NONE);
            let bytes = frame.bytes();
            let mut pseudo = bytes[26..34].to_vec();
            pseudo.extend([0, 6]);
            pseudo.extend(u16::try_from(bytes.len() - 34).unwrap().to_be_bytes());
            pseudo.extend(&bytes[34..]);
            let sum: u64 = pseudo
                .chunks(2)
                .map(|w| u64::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)])))
                .sum();
            assert_eq!(sum % 0xffff, 0, "TCP checksum");
        }
        node.free(got);
    }
    assert_eq!(a.free_tails(), 64);
    assert_eq!(a.port.counters().tx_frames, 3);
}
