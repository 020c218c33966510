//! Fragments in any order, with gaps, copies, overlaps and ends that contradict each other, through a node that collects
//! them; beside it a model that keeps them in a list.
//!
//! Holds: a datagram leaves when its last piece has come, whole, in order of offset, in the sizes in which it came, with
//! DF clear and the marks of congestion joined; until then, and of what is no datagram, nothing leaves at all. And
//! everything that [`bench`](crate::bench) checks.

use core::time::Duration;

use router_core::{Limits, PortId};

use crate::bench::{Bench, ones_complement_sum};
use crate::input::Input;
use crate::node::{A, ETH0, POD_A, POD_MAC, ROUTER_MAC, snapshot};

/// Where the datagrams go: a pod of the peer node, whose MAC is known.
const DST: [u8; 4] = [10, 244, 1, 2];
/// Steps of an input: fewer fragments than the store has room for.
const STEPS: usize = 200;
/// Linux `ipfrag_time`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A fragment as it was sent.
#[derive(Clone, Debug)]
struct Piece {
    start: usize,
    end: usize,
    more: bool,
    tos: u8,
    payload: Vec<u8>,
}

/// What is known of a datagram.
#[derive(Debug)]
struct Datagram {
    id: u8,
    deadline: Duration,
    pieces: Vec<Piece>,
}

#[derive(Debug, Default)]
struct Model {
    datagrams: Vec<Datagram>,
}

impl Model {
    /// The pieces of the datagram that this one completes, in order.
    fn take(&mut self, now: Duration, id: u8, piece: Piece) -> Vec<Piece> {
        if piece.payload.is_empty()
            || (piece.more && !piece.end.is_multiple_of(8))
            || 20 + piece.end > 65535
        {
            return Vec::new();
        }
        self.datagrams.retain(|d| d.deadline > now);
        if !self.datagrams.iter().any(|d| d.id == id) {
            self.datagrams.push(Datagram {
                id,
                deadline: now + TIMEOUT,
                pieces: Vec::new(),
            });
        }
        let at = self
            .datagrams
            .iter()
            .position(|d| d.id == id)
            .expect("it was made above");
        let pieces = &mut self.datagrams[at].pieces;
        let same = |p: &Piece| (p.start, p.end) == (piece.start, piece.end);
        if pieces.iter().any(same) {
            return Vec::new();
        }
        let overlaps = pieces
            .iter()
            .any(|p| p.start < piece.end && piece.start < p.end);
        let total = pieces.iter().find(|p| !p.more).map(|p| p.end);
        let contradicts = match total {
            Some(total) => piece.end > total || !piece.more,
            None => !piece.more && pieces.iter().any(|p| p.end > piece.end),
        };
        if overlaps || contradicts {
            self.datagrams.remove(at);
            return Vec::new();
        }
        pieces.push(piece);
        let have: usize = pieces.iter().map(|p| p.end - p.start).sum();
        let total = pieces.iter().find(|p| !p.more).map(|p| p.end);
        if total != Some(have) {
            return Vec::new();
        }
        let mut pieces = self.datagrams.remove(at).pieces;
        pieces.sort_by_key(|p| p.start);
        let marks = |mark: u8| pieces.iter().any(|p| p.tos & 3 == mark);
        if marks(0) && (marks(1) || marks(2) || marks(3)) {
            return Vec::new();
        }
        let mut tos = pieces[0].tos;
        if marks(3) && (marks(1) || marks(2)) {
            tos |= 3;
        }
        for piece in &mut pieces {
            piece.tos = tos;
        }
        pieces
    }
}

/// A frame from the pod, or, `forwarded`, as it leaves the node.
fn frame(id: u8, piece: &Piece, df: bool, forwarded: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    let macs = if forwarded {
        [crate::node::PEER_MAC, ROUTER_MAC]
    } else {
        [ROUTER_MAC, POD_MAC]
    };
    for mac in macs {
        frame.extend(mac.0);
    }
    frame.extend([8, 0, 0x45, piece.tos]);
    let short = |n: usize| u16::try_from(n).expect("short").to_be_bytes();
    frame.extend(short(20 + piece.payload.len()));
    frame.extend([0, id]);
    let mut flags = short(piece.start / 8);
    flags[0] |= if piece.more { 0x20 } else { 0 } | if df { 0x40 } else { 0 };
    frame.extend(flags);
    frame.extend([64 - u8::from(forwarded), 17, 0, 0]);
    frame.extend(A.octets());
    frame.extend(DST);
    let sum = !ones_complement_sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(&piece.payload);
    frame
}

/// Steps of four bytes: which datagram, from where, how long, and what the bytes are; or time that passes.
pub fn run(bytes: &[u8]) {
    let _ = play(bytes);
}

/// [`run`], and how many datagrams came out.
#[must_use]
pub fn play(bytes: &[u8]) -> usize {
    let mut node = snapshot(&mut Input::new(&[0, 0b1100_0000, 8]));
    node.defragment = true;
    let mut bench = Bench::new(Limits::default(), node, true);
    let mut model = Model::default();
    let mut input = Input::new(bytes);
    let mut now = Duration::ZERO;
    let mut datagrams = 0;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let op = input.byte();
        if op >= 0xf0 {
            let by = Duration::from_millis(u64::from(input.word()));
            bench.advance(by);
            now += by;
            assert!(
                bench.take_sent().iter().all(|(port, _)| *port != ETH0),
                "time completes no datagram"
            );
            continue;
        }
        let id = op & 3;
        let more = op & 4 != 0;
        let df = op & 8 != 0;
        let start = usize::from(input.byte() & if op & 0x80 != 0 { 0xff } else { 7 })
            * if op & 0x40 != 0 { 256 } else { 8 };
        let len = input.byte();
        // Mostly whole units, so that something fits together.
        let len = usize::from(if op & 0x10 != 0 {
            len & 0x3f
        } else {
            (len & 7) * 8
        });
        let tos = input.byte();
        let piece = Piece {
            start,
            end: start + len,
            more,
            tos: if op & 0x20 != 0 { tos } else { 0 },
            payload: (0..=255_u8)
                .cycle()
                .take(len)
                .map(|i| tos.wrapping_add(i))
                .collect(),
        };
        // Offset 0 without MF is no fragment.
        if start == 0 && !more {
            continue;
        }
        bench.receive(POD_A, &frame(id, &piece, df, false));
        let sent: Vec<(PortId, Vec<u8>)> = bench.take_sent();
        let expected: Vec<(PortId, Vec<u8>)> = model
            .take(now, id, piece)
            .iter()
            .map(|piece| (ETH0, frame(id, piece, false, true)))
            .collect();
        datagrams += usize::from(!expected.is_empty());
        assert_eq!(sent, expected, "a datagram whole, or nothing");
    }
    datagrams
}

/// In order, in reverse, with a copy, with an overlap, and too late.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let first = [4, 0, 2, 1];
    let second = [4, 2, 3, 2];
    let last = [0x10, 5, 13, 3];
    let overlap = [4, 1, 2, 9];
    vec![
        [first, second, last].concat(),
        [last, second, first].concat(),
        [first, first, last, second].concat(),
        [first, overlap, second, last].concat(),
        [&first[..], &last, &[0xf0, 0x80, 0], &second].concat(),
        [[0x24, 0, 2, 1], [0x24, 2, 3, 3], [0x30, 5, 13, 2]].concat(),
        [[0x84, 0, 2, 1], [0x0c, 2, 3, 2], [0xd0, 255, 63, 3]].concat(),
    ]
}
