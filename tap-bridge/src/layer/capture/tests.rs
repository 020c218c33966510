//! Captures of one node: what comes out of the ring for what went through probes.

use std::os::fd::AsFd as _;

use router_core::{DropReason, Frame, FramePool, Instant, PortId};

use super::pcapng::Direction;
use super::record::{Record, decode};
use super::ring::{self, MIN_WORDS, Reader};
use super::*;
use crate::sys::eventfd::Doorbell;

const P0: PortId = PortId(0);
const P1: PortId = PortId(1);

struct Bench {
    captures: Captures,
    pool: FramePool,
    reader: Reader,
    bell: Doorbell,
}

fn bench(begin: impl FnOnce(&mut Begin)) -> Bench {
    let captures = Captures::default();
    captures.set_names([(P0, "eth0"), (P1, "veth1")].into_iter());
    let memory = ring::create(MIN_WORDS).unwrap();
    let bell = Doorbell::new().unwrap();
    let reader = Reader::new(&memory, MIN_WORDS).unwrap();
    let mut wanted = Begin {
        ring: memory,
        words: MIN_WORDS,
        bell: bell.as_fd().try_clone_to_owned().unwrap(),
        ports: Wanted::All,
        drops: true,
        filter: String::new(),
        snaplen: 0,
    };
    begin(&mut wanted);
    captures.begin(5, wanted).unwrap();
    Bench {
        captures,
        pool: FramePool::new(4),
        reader,
        bell,
    }
}

impl Bench {
    fn frame(&mut self, tag: u8, len: usize) -> Frame {
        let mut bytes = vec![tag; len];
        // IPv4, so that filters tell it from others by its tag.
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[23] = tag;
        let mut frame = self.pool.alloc().unwrap();
        assert!(frame.fill(&bytes));
        frame
    }

    fn rx(&mut self, port: PortId, at: u64, tag: u8) {
        let frame = self.frame(tag, 60);
        if let Some(probe) = self.captures.probe(port) {
            probe.rx(Instant::from_nanos(at), std::slice::from_ref(&frame));
        }
        self.pool.free(frame);
    }

    /// What the reader gets, a line each.
    fn lines(&mut self) -> Vec<String> {
        let (mut words, mut bytes, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        while self.reader.pop(&mut words).unwrap() {
            lines.push(match decode(&words, &mut bytes).unwrap() {
                Record::Interface { place, name } => {
                    format!("{place:?} is {}", String::from_utf8_lossy(name))
                }
                Record::Packet {
                    place,
                    at,
                    direction,
                    reason,
                    len,
                    bytes,
                } => {
                    let way = match direction {
                        Some(Direction::Rx) => "rx",
                        Some(Direction::Tx) => "tx",
                        None => "-",
                    };
                    let why = reason.map_or_else(String::new, |reason| format!(" {reason}"));
                    format!(
                        "{place:?} {way} {at} {len} {:?} {}{why}",
                        bytes.first(),
                        bytes.len()
                    )
                }
            });
        }
        lines
    }
}

#[test]
fn what_passes_a_probe_comes_out_with_time_direction_and_the_names_of_its_places() {
    let mut b = bench(|_| {});
    b.rx(P0, 100, 6);
    let frame = b.frame(7, 80);
    b.captures
        .probe(P1)
        .unwrap()
        .tx(Instant::from_nanos(110), &frame);
    // Two more from one read, and a clock that was read before them.
    b.captures
        .dropped(Instant::from_nanos(105), &frame, DropReason::NoRoute);
    b.pool.free(frame);
    assert_eq!(
        b.lines(),
        [""; 0],
        "not visible before the end of the breath"
    );
    b.captures.flush();
    assert_eq!(
        b.lines(),
        [
            "Port(PortId(0)) is eth0",
            "Port(PortId(0)) rx 100 60 Some(6) 60",
            "Port(PortId(1)) is veth1",
            "Port(PortId(1)) tx 110 80 Some(7) 80",
            "Drop is drop",
            "Drop - 110 80 Some(7) 80 no-route",
        ]
    );
    assert!(!b.bell.silence(), "the reader was awake");
    assert!(b.reader.prepare_sleep());
    b.rx(P0, 120, 6);
    b.captures.flush();
    assert!(b.bell.silence());
    assert_eq!(b.lines(), ["Port(PortId(0)) rx 120 60 Some(6) 60"]);
    let one = Counts {
        received: 1,
        accepted: 1,
        lost: 0,
    };
    let two = Counts {
        received: 2,
        accepted: 2,
        lost: 0,
    };
    let counts = b.captures.end(5).unwrap();
    assert_eq!(
        counts,
        [
            (Place::Port(P0), two),
            (Place::Port(P1), one),
            (Place::Drop, one)
        ]
    );
    assert!(b.captures.probe(P0).is_none() && !b.captures.is_active());
    assert!(b.captures.end(5).is_none());
}

#[test]
fn only_wanted_ports_wanted_packets_and_wanted_bytes_are_copied() {
    let mut b = bench(|begin| {
        begin.ports = Wanted::Ports(vec![P1]);
        begin.drops = false;
        begin.filter = "udp".to_owned();
        begin.snaplen = 20;
    });
    assert!(b.captures.probe(P0).is_none());
    assert!(!b.captures.wants_drops());
    b.rx(P1, 1, 6);
    b.rx(P1, 2, 17);
    let frame = b.frame(17, 60);
    b.captures
        .dropped(Instant::from_nanos(3), &frame, DropReason::NoRoute);
    b.pool.free(frame);
    b.captures.flush();
    assert_eq!(
        b.lines(),
        [
            "Port(PortId(1)) is veth1",
            "Port(PortId(1)) rx 2 60 Some(17) 20"
        ]
    );
    let counts = Counts {
        received: 2,
        accepted: 1,
        lost: 0,
    };
    assert_eq!(b.captures.end(5).unwrap(), [(Place::Port(P1), counts)]);
}

#[test]
fn a_reader_that_does_not_read_loses_packets_and_they_are_counted() {
    let mut b = bench(|_| {});
    for n in 0..10_000 {
        b.rx(P0, n, 6);
    }
    b.captures.lose_dropped(3);
    b.captures.flush();
    let got = b.lines().len() as u64 - 1;
    // 60 bytes are 8 words, behind 4 of the head.
    assert_eq!(got, (MIN_WORDS as u64 - 3) / 12);
    assert_eq!(b.reader.lost(), 10_000 - got);
    // There is room again, and it goes on.
    b.rx(P0, 10_000, 6);
    b.captures.flush();
    assert_eq!(b.lines().len(), 1);
    let port = Counts {
        received: 10_001,
        accepted: 10_001,
        lost: 10_000 - got,
    };
    let drops = Counts {
        received: 3,
        accepted: 0,
        lost: 3,
    };
    assert_eq!(
        b.captures.end(5).unwrap(),
        [(Place::Port(P0), port), (Place::Drop, drops)]
    );
}

#[test]
fn a_port_that_is_another_now_is_named_anew() {
    let mut b = bench(|_| {});
    b.rx(P0, 1, 6);
    b.rx(P1, 2, 6);
    b.captures
        .set_names([(P0, "eth0"), (P1, "veth2")].into_iter());
    b.rx(P0, 3, 6);
    b.rx(P1, 4, 6);
    b.captures.flush();
    let lines = b.lines();
    let names: Vec<&String> = lines.iter().filter(|line| line.contains(" is ")).collect();
    assert_eq!(
        names,
        [
            "Port(PortId(0)) is eth0",
            "Port(PortId(1)) is veth1",
            "Port(PortId(1)) is veth2"
        ]
    );
}

#[test]
fn captures_are_bounded_and_a_refused_one_changes_nothing() {
    let b = bench(|_| {});
    let begin = |filter: &str| Begin {
        ring: ring::create(MIN_WORDS).unwrap(),
        words: MIN_WORDS,
        bell: b.bell.as_fd().try_clone_to_owned().unwrap(),
        ports: Wanted::All,
        drops: false,
        filter: filter.to_owned(),
        snaplen: 0,
    };
    let error = b.captures.begin(6, begin("tcp and")).unwrap_err();
    assert!(matches!(error, BeginError::Filter(_)), "{error}");
    for number in 6..5 + u32::try_from(MAX_CAPTURES).unwrap() {
        b.captures.begin(number, begin("")).unwrap();
    }
    let error = b.captures.begin(99, begin("")).unwrap_err();
    assert!(matches!(error, BeginError::TooMany), "{error}");
    // One that begins anew is no further one.
    b.captures.begin(6, begin("")).unwrap();
    assert!(b.captures.wants_drops());
    b.captures.end(5).unwrap();
    assert!(!b.captures.wants_drops());
}

/// What a device leaves to be done is done in a capture, as the slow oracle does it.
#[test]
fn superframes_are_shown_as_a_wire_would_carry_them() {
    use router_core::Mac;
    use router_core::testing::offload::{frame, on_wire, partial, superframe};
    use router_core::testing::packet::{eth, ipv4, tcp, udp};

    let (a, b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let link = || eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])) / ipv4(a, b);
    let payload: Vec<u8> = (0..20_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let long = (link() / tcp(1, 2, 0x18) / payload).bytes();
    let short = (link() / udp(1, 2) / b"hello").bytes();
    let cases = [
        superframe(&long, 1448),
        partial(&short),
        (short, Default::default()),
    ];
    for snaplen in [0, 60] {
        let mut bench = bench(|begin| begin.snaplen = snaplen);
        let mut got = Vec::new();
        for (bytes, offload) in &cases {
            let frame = frame(&mut bench.pool, bytes, *offload, 1500);
            let probe = bench.captures.probe(P0).unwrap();
            probe.rx(Instant::from_nanos(1), std::slice::from_ref(&frame));
            bench.pool.free(frame);
        }
        bench.captures.flush();
        let (mut words, mut bytes) = (Vec::new(), Vec::new());
        while bench.reader.pop(&mut words).unwrap() {
            if let Some(Record::Packet { bytes, len, .. }) = decode(&words, &mut bytes) {
                got.push((bytes.to_vec(), len));
            }
        }
        let wire = cases
            .iter()
            .flat_map(|(bytes, offload)| on_wire(bytes, *offload));
        let expected: Vec<(Vec<u8>, u32)> = wire
            .map(|mut bytes| {
                let len = u32::try_from(bytes.len()).unwrap();
                if snaplen != 0 {
                    bytes.truncate(60);
                }
                (bytes, len)
            })
            .collect();
        assert_eq!(expected.len(), 14 + 2);
        assert_eq!(got, expected);
    }
}

#[test]
fn of_a_few_ports_only_drops_that_came_by_them_are_shown() {
    let mut b = bench(|begin| begin.ports = Wanted::Ports(vec![P1]));
    for port in [P0, P1] {
        let mut frame = b.frame(6, 60);
        frame.set_port(port);
        b.captures.dropped(
            Instant::from_nanos(u64::from(port.0)),
            &frame,
            DropReason::NoRoute,
        );
        b.pool.free(frame);
    }
    b.captures.flush();
    assert_eq!(
        b.lines(),
        ["Drop is drop", "Drop - 1 60 Some(6) 60 no-route"]
    );
}
