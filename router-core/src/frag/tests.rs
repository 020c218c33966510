//! The store against a slow one that keeps every datagram as a list and looks at every byte.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::addr::Mac;
use crate::frame::FramePool;
use crate::testing::packet::naive_checksum;
use crate::testing::{eth, ipv4};

const LIMIT: usize = 8;
const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A fragment as the test makes it: offset and length in bytes.
#[derive(Clone, Copy, Debug)]
struct Part {
    user: User,
    id: u16,
    start: usize,
    len: usize,
    more: bool,
    fill: u8,
}

/// What is to become of a fragment: the reasons for which frames are dropped, and the payload of a finished datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    dropped: Vec<DropReason>,
    complete: Option<Vec<u8>>,
}

#[derive(Debug)]
struct SlowDatagram {
    key: (u8, u16),
    since: Instant,
    parts: Vec<Part>,
}

/// Oldest first.
#[derive(Debug, Default)]
struct SlowStore(Vec<SlowDatagram>);

impl SlowStore {
    fn held(&self) -> usize {
        self.0.iter().map(|d| d.parts.len()).sum()
    }

    fn expire(&mut self, now: Instant) -> Vec<(u8, bool, usize)> {
        let (old, young): (Vec<_>, Vec<_>) = core::mem::take(&mut self.0)
            .into_iter()
            .partition(|d| now.since(d.since) >= Duration::from_secs(30));
        self.0 = young;
        old.iter()
            .map(|d| {
                let has_first = d.parts.iter().any(|p| p.start == 0);
                (d.key.0, has_first, d.parts.len())
            })
            .collect()
    }

    fn take(&mut self, now: Instant, part: Part) -> Outcome {
        let mut outcome = Outcome::default();
        let end = part.start + part.len;
        if part.len == 0 || (part.more && !part.len.is_multiple_of(8)) || 20 + end > 65535 {
            outcome.dropped.push(DropReason::FragmentInvalid);
            return outcome;
        }
        if self.held() >= LIMIT {
            while self.held() > LIMIT / 4 * 3 {
                let oldest = self.0.remove(0);
                let full = oldest.parts.iter().map(|_| DropReason::ReassemblyFull);
                outcome.dropped.extend(full);
            }
        }
        let key = (part.user.0, part.id);
        let at = self.0.iter().position(|d| d.key == key).unwrap_or_else(|| {
            self.0.push(SlowDatagram {
                key,
                since: now,
                parts: Vec::new(),
            });
            self.0.len() - 1
        });
        let parts = &mut self.0[at].parts;
        if parts
            .iter()
            .any(|p| (p.start, p.len) == (part.start, part.len))
        {
            outcome.dropped.push(DropReason::FragmentDuplicate);
            return outcome;
        }
        let mut owner = BTreeMap::new();
        let mut overlap = false;
        for p in parts.iter().chain([&part]) {
            for byte in p.start..p.start + p.len {
                overlap |= owner.insert(byte, p.fill).is_some();
            }
        }
        let ends: Vec<usize> = parts
            .iter()
            .chain([&part])
            .filter(|p| !p.more)
            .map(|p| p.start + p.len)
            .collect();
        let last_byte = owner.keys().max().copied().unwrap_or(0) + 1;
        let contradiction = match *ends.as_slice() {
            [] => false,
            [end] => last_byte > end,
            _ => true,
        };
        if overlap || contradiction {
            let reason = if overlap {
                DropReason::FragmentOverlap
            } else {
                DropReason::FragmentInvalid
            };
            outcome.dropped.extend(parts.iter().map(|_| reason));
            outcome.dropped.push(reason);
            self.0.remove(at);
            return outcome;
        }
        parts.push(part);
        if ends == [owner.len()] {
            self.0.remove(at);
            outcome.complete = Some(owner.into_values().collect());
        }
        outcome
    }
}

struct Bin<'a>(&'a mut FramePool, Vec<DropReason>);

impl Discard for Bin<'_> {
    fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.0.free(frame);
        self.1.push(reason);
    }
}

fn frame(pool: &mut FramePool, part: Part) -> Frame {
    let mut ip = ipv4(A, B)
        .id(part.id)
        .protocol(17)
        .offset(u16::try_from(part.start).unwrap());
    if part.more {
        ip = ip.mf();
    }
    let bytes = (eth(Mac::ZERO, Mac::ZERO) / ip / alloc::vec![part.fill; part.len]).bytes();
    let mut frame = pool.alloc().unwrap();
    assert!(frame.fill(&bytes));
    frame
}

#[derive(Clone, Debug)]
enum Op {
    Take(Part),
    Wait(u64),
}

fn an_op() -> impl Strategy<Value = Op> {
    let start = prop_oneof![20 => (0_usize..5).prop_map(|n| n * 8), 1 => Just(65_504_usize)];
    let len = prop_oneof![6 => Just(8_usize), 3 => Just(16), 1 => 0_usize..20];
    let part = (
        0_u8..2,
        0_u16..3,
        start,
        len,
        prop::bool::weighted(0.7),
        any::<u8>(),
    )
        .prop_map(|(user, id, start, len, more, fill)| {
            Op::Take(Part {
                user: User(user),
                id,
                start,
                len,
                more,
                fill,
            })
        });
    prop_oneof![12 => part, 1 => (0_u64..31_000).prop_map(Op::Wait)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// FWD-52, NAT-FRAG, NAT-65.
    #[test]
    fn the_store_does_what_the_slow_store_does(ops in prop::collection::vec(an_op(), 1..60)) {
        let mut pool = FramePool::new(LIMIT + 1);
        let mut store = Reassembly::new(u16::try_from(LIMIT).unwrap(), 1);
        let mut slow = SlowStore::default();
        let mut set = Fragments::new(u16::try_from(LIMIT).unwrap());
        let mut now = Instant::ZERO;
        for op in ops {
            match op {
                Op::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    let mut expired = Vec::new();
                    while let Some(e) = store.expire(now, &mut set) {
                        let frames = set.drain().map(|f| pool.free(f)).count();
                        expired.push((e.user.0, e.has_first, frames));
                    }
                    prop_assert_eq!(expired, slow.expire(now));
                }
                Op::Take(part) => {
                    let frame = frame(&mut pool, part);
                    let mut bin = Bin(&mut pool, Vec::new());
                    let taken = store.take(now, part.user, frame, &mut set, &mut bin);
                    let mut outcome = Outcome { dropped: bin.1, complete: None };
                    match taken {
                        Taken::Held => {}
                        Taken::Refused(frame, reason) => {
                            pool.free(frame);
                            outcome.dropped.push(reason);
                        }
                        Taken::Complete => {
                            let mut buffer = [0; 2048];
                            let whole = set.linearize(&mut buffer).unwrap();
                            let payload = Ipv4::parse(whole).unwrap().payload().to_vec();
                            prop_assert_eq!(set.payload_sum().finish(), naive_checksum(&payload));
                            outcome.complete = Some(payload);
                            set.drain().for_each(|f| pool.free(f));
                        }
                    }
                    prop_assert_eq!(outcome, slow.take(now, part));
                }
            }
            prop_assert_eq!(store.held(), slow.held());
            prop_assert_eq!(pool.missing(), store.held());
            let deadline = slow.0.first().map(|d| d.since + Duration::from_secs(30));
            prop_assert_eq!(store.next_deadline(), deadline);
        }
    }
}

/// Many fragments in the worst orders.
#[test]
fn a_datagram_of_many_small_fragments_comes_together_in_any_order() {
    const PIECES: usize = 1000;
    let mut pool = FramePool::new(PIECES);
    let mut store = Reassembly::new(1000, 1);
    let mut set = Fragments::new(1000);
    let forward: Vec<usize> = (0..PIECES).collect();
    let backward: Vec<usize> = (0..PIECES).rev().collect();
    let scattered: Vec<usize> = (0..PIECES).map(|n| n * 377 % PIECES).collect();
    for order in [forward, backward, scattered] {
        for (n, at) in order.iter().enumerate() {
            let part = Part {
                user: User::LOCAL,
                id: 1,
                start: at * 8,
                len: 8,
                more: at + 1 < PIECES,
                fill: u8::try_from(at % 251).unwrap(),
            };
            let frame = frame(&mut pool, part);
            let mut bin = Bin(&mut pool, Vec::new());
            let taken = store.take(Instant::ZERO, User::LOCAL, frame, &mut set, &mut bin);
            match taken {
                Taken::Held => assert!(n + 1 < PIECES),
                Taken::Complete => assert_eq!(n + 1, PIECES),
                Taken::Refused(_, reason) => panic!("{reason}"),
            }
        }
        let mut buffer = [0; 8192];
        let whole = set.linearize(&mut buffer).unwrap();
        let payload = whole[20..].chunks(8).enumerate();
        for (at, piece) in payload {
            assert_eq!(piece, [u8::try_from(at % 251).unwrap(); 8]);
        }
        set.drain().for_each(|f| pool.free(f));
    }
}
