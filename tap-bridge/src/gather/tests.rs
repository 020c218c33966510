use std::cell::Cell;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use router_core::Mac;
use router_core::frame::GsoKind;
use router_core::testing::offload::{frame as offloaded, on_wire, partial, superframe};
use router_core::testing::{eth, ipv4, tcp, udp};
use rustix::io::Errno;

use super::*;
use crate::device::{Device, DevicePort, Got, ReadError, vnet};
use crate::offload::MAX_SUPERFRAME;
use crate::port::{Port as _, PortError};
use crate::sys::shm::{Stretch, StretchMut};
use crate::sys::vectored;
use crate::tails::Tails;
use crate::tap::TapPort;

const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1])];

fn content(number: u16, len: usize) -> Vec<u8> {
    let first = usize::from(number);
    (first..first + len)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect()
}

/// Datagram `number` of the flow from `port`.
fn datagram(port: u16, number: u16, len: usize) -> Vec<u8> {
    let headers = eth(MACS[0], MACS[1]) / ipv4(POD, FAR).id(number) / udp(port, 53);
    (headers / content(number, len)).bytes()
}

fn taken(gather: &mut Gather, pool: &mut FramePool, bytes: &[u8]) -> bool {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.fill(bytes));
    match gather.push(frame) {
        Ok(()) => true,
        Err(frame) => {
            pool.free(frame);
            false
        }
    }
}

/// Segment `number` of a TCP connection.
fn tcp_segment(number: u16, len: usize) -> Vec<u8> {
    let headers = eth(MACS[0], MACS[1]) / ipv4(POD, FAR).id(number);
    let tcp = tcp(7, 53, 0x10).seq(u32::from(number) * u32::try_from(len).unwrap());
    (headers / tcp / content(number, len)).bytes()
}

/// Of `count` datagrams of one flow, what is sent as one.
fn together(count: u16, len: usize, limit: usize) -> (usize, Option<(Vec<u8>, Offload)>) {
    of_those((0..count).map(|number| datagram(7, number, len)), limit)
}

/// Of these frames, how many are taken, and what is sent as one.
fn of_those(
    frames: impl Iterator<Item = Vec<u8>>,
    limit: usize,
) -> (usize, Option<(Vec<u8>, Offload)>) {
    let mut pool = FramePool::new(100);
    let mut gather = Gather::new(limit);
    let mut accepted = 0;
    for frame in frames {
        if !taken(&mut gather, &mut pool, &frame) {
            break;
        }
        accepted += 1;
    }
    let joined = gather.joined().map(|joined| {
        let mut bytes = joined.headers.to_vec();
        joined.payloads().for_each(|part| bytes.extend(part));
        (bytes, joined.offload)
    });
    gather.free_all(&mut pool);
    assert_eq!(pool.missing(), 0);
    (accepted, joined)
}

/// What a wire carries for the superframe is, byte for byte, what was put together.
#[test]
fn datagrams_of_one_flow_go_as_one() {
    for count in [8, 9, 63, 64] {
        let (accepted, joined) = together(count, 18, MAX_SUPERFRAME);
        let (bytes, offload) = joined.unwrap();
        assert_eq!(accepted, usize::from(count));
        assert_eq!(
            offload.gso.map(|gso| (gso.kind, gso.size)),
            Some((GsoKind::Udp, 18))
        );
        let sent: Vec<_> = (0..count).map(|number| datagram(7, number, 18)).collect();
        assert_eq!(on_wire(&bytes, offload), sent);
    }
}

#[test]
fn few_frames_go_as_they_came_and_no_more_than_the_limits_together() {
    assert_eq!(together(7, 18, MAX_SUPERFRAME), (7, None));
    assert_eq!(together(1, 18, MAX_SUPERFRAME), (1, None));
    assert_eq!(together(90, 18, MAX_SUPERFRAME).0, 64);
    assert_eq!(
        together(90, 1472, MAX_SUPERFRAME).0,
        44,
        "44 x 1472 + 42 bytes"
    );
    assert_eq!(together(90, 100, 1000).0, 9, "9 x 100 + 42 bytes");
    // Of TCP the kernel would take more, but so many have a place in one call.
    let (accepted, joined) = of_those((0..90).map(|n| tcp_segment(n, 18)), MAX_SUPERFRAME);
    let (bytes, offload) = joined.unwrap();
    assert_eq!(accepted, MOST);
    let sent: Vec<_> = (0..64).map(|number| tcp_segment(number, 18)).collect();
    assert_eq!(on_wire(&bytes, offload), sent);
}

#[test]
fn what_does_not_go_on_is_given_back() {
    let first = datagram(7, 0, 18);
    let traced = |frame: &mut Frame| frame.set_mark(Mark::new(1));
    let tcp = (eth(MACS[0], MACS[1]) / ipv4(POD, FAR) / tcp(7, 53, 0x10)).bytes();
    let far_away =
        (eth(MACS[1], MACS[0]) / ipv4(POD, FAR).id(1) / udp(7, 53) / content(1, 18)).bytes();
    let ttl =
        (eth(MACS[0], MACS[1]) / ipv4(POD, FAR).id(1).ttl(3) / udp(7, 53) / content(1, 18)).bytes();
    let rows = [
        ("the next", datagram(7, 1, 18), true),
        ("shorter, so the last", datagram(7, 1, 17), true),
        ("another port", datagram(8, 1, 18), false),
        ("longer", datagram(7, 1, 19), false),
        ("another identification", datagram(7, 2, 18), false),
        ("another protocol", tcp, false),
        ("another station", far_away, false),
        ("another TTL", ttl, false),
        ("too short to tell", first[..20].to_vec(), false),
    ];
    for (name, second, want) in rows {
        let (mut pool, mut gather) = (FramePool::new(4), Gather::new(MAX_SUPERFRAME));
        assert!(taken(&mut gather, &mut pool, &first));
        assert_eq!(taken(&mut gather, &mut pool, &second), want, "{name}");
        gather.free_all(&mut pool);
        assert_eq!(pool.missing(), 0);
    }
    let (mut pool, mut gather) = (FramePool::new(1), Gather::new(MAX_SUPERFRAME));
    let mut frame = pool.alloc().unwrap();
    frame.fill(&first);
    traced(&mut frame);
    pool.free(gather.push(frame).expect_err("a traced frame goes alone"));
    let (bytes, offload) = superframe(&tcp_segment(0, 1000), 100);
    let frame = offloaded(&mut pool, &bytes, offload, 500);
    pool.free(gather.push(frame).expect_err("one that came as such too"));
}

#[test]
fn the_first_of_them_holds_all_where_a_head_is_enough() {
    let mut pool = FramePool::new(64);
    let mut gather = Gather::default();
    let mut sent = Vec::new();
    for number in 0..20 {
        let (bytes, offload) = partial(&datagram(7, number, 60));
        sent.push(datagram(7, number, 60));
        let mut frame = pool.alloc().unwrap();
        frame.fill(&bytes);
        frame.set_offload(offload);
        gather.push(frame).unwrap();
    }
    assert!(gather.join());
    let first = &gather.frames()[0];
    assert!(first.is_superframe() && first.tail().is_none());
    assert_eq!(on_wire(first.bytes(), first.offload()), sent);
    gather.free_all(&mut pool);
    assert_eq!(pool.missing(), 0);
}

/// A device that is a pair of sockets: what was written is what comes out, one message per write.
fn port() -> (TapPort, UnixDatagram) {
    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let port = TapPort::new(OwnedFd::from(near), "pair", 1500);
    (port.with_offload(Tails::new().unwrap()), far)
}

fn written(far: &UnixDatagram) -> Vec<(usize, Option<u16>)> {
    let mut buffer = vec![0; 70_000];
    let mut all = Vec::new();
    while let Ok(len) = far.recv(&mut buffer) {
        let header = buffer.first_chunk().unwrap();
        let offload = vnet::parse(header, &buffer[vnet::HEADER..len]).unwrap();
        all.push((len - vnet::HEADER, offload.gso.map(|gso| gso.size)));
    }
    all
}

/// Order stays: what waits goes before what doesn't go on with it; and at the end of a breath nothing waits.
#[test]
fn a_device_gets_adjacent_frames_as_one_and_all_in_order() {
    let (mut port, far) = port();
    let mut pool = FramePool::new(64);
    let flows = [(7, 10, 18), (8, 3, 20), (7, 1, 22), (9, 8, 24)];
    let mut number = 0;
    for (flow, count, len) in flows {
        for _ in 0..count {
            let mut frame = pool.alloc().unwrap();
            frame.fill(&datagram(flow, number, len));
            number += 1;
            port.tx(&mut pool, frame).unwrap();
        }
    }
    assert_eq!(written(&far).len(), 1 + 3 + 1, "the last eight wait");
    port.flush(&mut pool).unwrap();
    assert_eq!(written(&far), [(42 + 8 * 24, Some(24))]);
    assert_eq!((port.counters().tx_frames, pool.missing()), (22, 0));
    port.flush(&mut pool).unwrap();
    assert_eq!(written(&far), []);
}

/// A device that knows no superframes of UDP, as before Linux 6.2; or that has just gone.
#[derive(Debug)]
struct Old {
    socket: UnixDatagram,
    is_gone: bool,
    /// How often it was asked.
    asked: Cell<usize>,
}

impl AsFd for Old {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Device for Old {
    fn read(
        &self,
        _: &mut [u8],
        _: &mut [u8],
        _: Option<StretchMut<'_>>,
        _: &mut [u8],
    ) -> Result<Got, Errno> {
        Err(Errno::AGAIN)
    }

    fn read_error(&self, _: Errno, _: bool) -> ReadError {
        ReadError::Nothing
    }

    fn write(&self, header: &[u8], head: &[u8], tail: Option<Stretch<'_>>) -> Result<usize, Errno> {
        if self.is_gone {
            return Err(Errno::BADF);
        }
        vectored::write(self.as_fd(), header, head, tail)
    }

    fn write_parts(&self, _: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.asked.set(self.asked.get() + 1);
        Err(Errno::INVAL)
    }

    fn is_gone(&self, _: Errno) -> bool {
        self.is_gone
    }
}

fn old(is_gone: bool) -> (DevicePort<Old>, UnixDatagram) {
    let (socket, far) = UnixDatagram::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let device = Old {
        socket,
        is_gone,
        asked: Cell::new(0),
    };
    let port = DevicePort::on(device, "old", 1500);
    (port.with_offload(Tails::new().unwrap()), far)
}

/// Nine datagrams of a flow in one breath.
fn send_nine(port: &mut DevicePort<Old>, pool: &mut FramePool) -> Result<(), PortError> {
    for number in 0..9 {
        let mut frame = pool.alloc().unwrap();
        frame.fill(&datagram(7, number, 18));
        port.tx(pool, frame).unwrap();
    }
    port.flush(pool)
}

#[test]
fn a_kernel_that_takes_no_such_superframes_gets_each_frame_and_is_not_asked_again() {
    let (mut port, far) = old(false);
    let mut pool = FramePool::new(16);
    for _ in 0..2 {
        send_nine(&mut port, &mut pool).unwrap();
        assert_eq!(written(&far), [(60, None); 9]);
    }
    assert_eq!(port.device().asked.get(), 1);
    assert_eq!((port.counters().tx_frames, pool.missing()), (18, 0));
}

/// What waited for a device that has gone is lost with it, and counted.
#[test]
fn frames_that_waited_for_a_device_that_has_gone_are_lost_and_counted() {
    let (mut port, _far) = old(true);
    let mut pool = FramePool::new(16);
    let error = send_nine(&mut port, &mut pool).unwrap_err();
    assert_eq!(error.operation, "write");
    let counters = port.counters();
    assert_eq!((counters.tx_frames, counters.tx_dropped), (0, 9));
    assert_eq!(pool.missing(), 0);
}

/// The device's header has no word for packets in a tunnel.
#[test]
fn packets_in_a_tunnel_go_to_a_device_one_by_one() {
    let (mut port, far) = port();
    let mut pool = FramePool::new(16);
    let mut sent = Vec::new();
    for number in 0..9 {
        let outer = eth(MACS[0], MACS[1]) / ipv4(POD, FAR).id(number);
        let inner = ipv4(FAR, POD).id(number) / udp(7, 53);
        let bytes = (outer / inner / content(number, 18)).bytes();
        let mut frame = pool.alloc().unwrap();
        frame.fill(&bytes);
        port.tx(&mut pool, frame).unwrap();
        sent.push((bytes.len(), None));
    }
    port.flush(&mut pool).unwrap();
    assert_eq!(written(&far), sent);
    assert_eq!((port.counters().tx_frames, pool.missing()), (9, 0));
}
