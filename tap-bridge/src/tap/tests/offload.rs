//! Frames with a virtio-net header, and the kernel's opinion of them.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use router_core::Mac;
use router_core::frame::{Gso, GsoKind, MAX_FRAME, Offload, Partial, Tail};

use super::*;
use crate::sys::netlink::{Changes, RouteSocket};
use crate::tails::{TAIL_BYTES, TAILS, Tails};

fn offload_port() -> (TapPort, UnixDatagram, Arc<Tails>) {
    let (port, far) = socket_port();
    let tails = Tails::new().unwrap();
    (port.with_offload(Arc::clone(&tails)), far, tails)
}

const TCP: Offload = Offload {
    partial: Some(Partial {
        start: 34,
        offset: 16,
    }),
    gso: Some(Gso {
        kind: GsoKind::TcpV4,
        size: 1448,
        ecn: false,
    }),
};

/// An Ethernet frame of so many bytes that says that it is IPv4, and counts.
fn counting(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes
}

fn with_header(offload: Offload, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vnet::write(offload, frame).to_vec();
    bytes.extend(frame);
    bytes
}

fn content(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.len()];
    frame.read(0, &mut bytes);
    bytes
}

#[test]
fn a_superframe_comes_in_and_goes_out_whole() {
    let (mut port, far, tails) = offload_port();
    assert!(port.caps().offload);
    let mut pool = FramePool::new(8);
    let mut batch = Batch::new();
    for len in [60, 1920, 1921, MAX_FRAME, MAX_FRAME + 1, 65_549] {
        let sent = with_header(TCP, &counting(len));
        far.send(&sent).unwrap();
        assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::Drained);
        let [got] = batch.as_slice() else {
            panic!("{} frames of {len} bytes", batch.len())
        };
        assert_eq!((got.offload(), got.is_cut()), (TCP, false), "{len}");
        assert_eq!(content(got), sent[vnet::HEADER..], "{len}");
        assert_eq!(got.tail().map(Tail::index), (len > 1920).then_some(0));
        assert!(got.head_len() <= 1920, "room for a tunnel's header");
        for frame in batch.drain() {
            port.tx(&mut pool, frame).unwrap();
            port.flush(&mut pool).unwrap();
        }
        let mut back = vec![0; 70_000];
        let back_len = far.recv(&mut back).unwrap();
        assert!(back[..back_len] == sent, "{len}: another frame came back");
        assert_eq!((pool.missing(), tails.free()), (0, 64));
    }
    let counters = port.counters();
    assert_eq!((counters.rx_bytes, counters.tx_bytes), (73_419, 73_419));
}

#[test]
fn a_frame_with_nothing_left_to_do_is_as_the_plain_device_would_give_it() {
    let (mut port, far, _) = offload_port();
    let mut pool = FramePool::new(8);
    let mut batch = Batch::new();
    far.send(&with_header(Offload::NONE, &counting(100)))
        .unwrap();
    port.rx(&mut pool, &mut batch, 64).unwrap();
    let frame = batch.drain().next().unwrap();
    assert_eq!(
        (frame.bytes(), frame.offload()),
        (&counting(100)[..], Offload::NONE)
    );
    port.tx(&mut pool, frame).unwrap();
    port.flush(&mut pool).unwrap();
    let mut back = [0xa5; 200];
    assert_eq!(far.recv(&mut back).unwrap(), 110);
    assert_eq!(back[..vnet::HEADER], [0; vnet::HEADER]);
}

#[test]
fn a_long_frame_that_cannot_be_cut_is_handed_in_as_its_beginning() {
    let (mut port, far, tails) = offload_port();
    let mut pool = FramePool::new(8);
    let mut batch = Batch::new();
    let partial = Offload { gso: None, ..TCP };
    far.send(&with_header(partial, &counting(9014))).unwrap();
    far.send(&with_header(Offload::NONE, &counting(1985)))
        .unwrap();
    // No frame is as long.
    far.send(&with_header(TCP, &counting(MAX_FRAME + TAIL_BYTES + 1)))
        .unwrap();
    assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::Drained);
    let got = batch.as_slice().iter().map(|f| (f.len(), f.is_cut()));
    assert_eq!(got.collect::<Vec<_>>(), [(MAX_FRAME, true); 3]);
    let beginning = batch.as_slice()[0].bytes();
    assert!(beginning == &counting(9014)[..MAX_FRAME]);
    batch.free_all(&mut pool);
    assert_eq!((tails.free(), port.counters().rx_errors), (64, 0));
}

#[test]
fn without_a_free_tail_small_frames_pass_and_superframes_are_cut() {
    let (mut port, far, tails) = offload_port();
    let mut pool = FramePool::new(8);
    let mut batch = Batch::new();
    let all: Vec<_> = (0..TAILS).map(|_| tails.take().unwrap()).collect();
    far.send(&with_header(TCP, &counting(5000))).unwrap();
    far.send(&with_header(TCP, &counting(1500))).unwrap();
    port.rx(&mut pool, &mut batch, 64).unwrap();
    let got = batch.as_slice().iter().map(|f| (f.len(), f.is_cut()));
    assert_eq!(got.collect::<Vec<_>>(), [(MAX_FRAME, true), (1500, false)]);
    batch.free_all(&mut pool);
    drop(all);
    far.send(&with_header(TCP, &counting(5000))).unwrap();
    port.rx(&mut pool, &mut batch, 64).unwrap();
    assert_eq!(batch.as_slice()[0].len(), 5000);
    batch.free_all(&mut pool);
}

#[test]
fn a_header_that_cannot_be_true_is_an_error_of_the_port() {
    let (mut port, far, _) = offload_port();
    let mut pool = FramePool::new(8);
    let mut batch = Batch::new();
    let mut lie = with_header(TCP, &counting(100));
    lie[6..8].copy_from_slice(&99_u16.to_ne_bytes());
    far.send(&lie).unwrap();
    far.send(&lie[..9]).unwrap();
    far.send(&with_header(TCP, &counting(100))).unwrap();
    assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::Drained);
    let counters = port.counters();
    assert_eq!(
        (batch.len(), counters.rx_frames, counters.rx_errors),
        (1, 1, 2)
    );
    batch.free_all(&mut pool);
    assert_eq!(pool.missing(), 0);
}

#[test]
fn a_tail_in_private_memory_goes_out_as_well() {
    let (mut port, far, _) = offload_port();
    let mut pool = FramePool::new(8);
    let bytes = counting(3000);
    let mut frame = frame(&mut pool, &bytes[..1000]);
    frame.set_offload(TCP);
    frame.set_tail(Tail::on_heap(&bytes[1000..]));
    port.tx(&mut pool, frame).unwrap();
    port.flush(&mut pool).unwrap();
    let mut back = vec![0; 4000];
    let len = far.recv(&mut back).unwrap();
    assert_eq!(back[..len], with_header(TCP, &bytes));
}

#[test]
fn superframes_end_the_turn_of_a_port_by_their_bytes() {
    let (mut port, far, _) = offload_port();
    let mut pool = FramePool::new(64);
    let mut batch = Batch::new();
    port.turn = 10_000;
    let sent = with_header(TCP, &counting(4000));
    for _ in 0..7 {
        far.send(&sent).unwrap();
    }
    for (count, more) in [(3, Rx::More), (3, Rx::More), (1, Rx::Drained)] {
        assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), more);
        assert_eq!(batch.len(), count);
        batch.free_all(&mut pool);
    }
}

const POD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Lets the kernel cut what a socket sends into datagrams of so many bytes (udp(7) UDP_SEGMENT).
fn set_segment(socket: &UdpSocket, size: libc::c_int) -> io::Result<()> {
    tun::testing::set_udp_segment(socket.as_raw_fd(), size)
}

/// FWD-78 as decision 15 supersedes it: a superframe of the kernel is taken whole, and given back it is whole again.
#[test]
fn the_kernel_gives_and_takes_superframes() {
    in_netns(|| {
        let config = TapConfig {
            offload: true,
            ..TapConfig::named("pod0")
        };
        let fd = create(&config).unwrap();
        assert!(has_offloads(&fd));
        set_address("pod0", POD.octets()).unwrap();
        set_up("pod0", true).unwrap();
        let mut changes = Changes::new();
        let index = ifindex("pod0").unwrap();
        changes.neighbour_permanent(index, FAR, Mac([2, 0, 0, 0, 0, 2]));
        RouteSocket::open().unwrap().apply(changes).unwrap();
        let mut port = TapPort::new(fd, "pod0", 1500).with_offload(Tails::new().unwrap());
        let mut pool = FramePool::new(64);
        let mut batch = Batch::new();

        let socket = UdpSocket::bind((POD, 0)).unwrap();
        let local = socket.local_addr().unwrap().port();
        socket.connect((FAR, 4242)).unwrap();
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).unwrap();
        set_segment(&socket, 1000).unwrap();
        let sent: Vec<u8> = (0..=250).cycle().take(20_500).collect();
        // It may come behind others: the kernel asks for routers when it likes.
        socket.send(&[1]).unwrap();
        socket.send(&sent).unwrap();
        port.rx(&mut pool, &mut batch, 64).unwrap();
        let is_it = |f: &Frame| f.len() > 14 + 28 + 20_000;
        let (wanted, others): (Vec<_>, Vec<_>) = batch.drain().partition(is_it);
        others.into_iter().for_each(|frame| pool.free(frame));
        let frame = wanted.into_iter().next();
        let mut frame = frame.expect("one frame for all 21 datagrams");
        let gso = frame.offload().gso.unwrap();
        assert_eq!((gso.kind, gso.size), (GsoKind::Udp, 1000));
        assert_eq!(content(&frame)[42..], sent);

        // Back to where it came from: sums don't change when addresses and ports change places.
        let bytes = frame.bytes_mut();
        bytes.copy_within(6..12, 0);
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        bytes[26..30].copy_from_slice(&FAR.octets());
        bytes[30..34].copy_from_slice(&POD.octets());
        bytes[34..36].copy_from_slice(&4242_u16.to_be_bytes());
        bytes[36..38].copy_from_slice(&local.to_be_bytes());
        port.tx(&mut pool, frame).unwrap();
        port.flush(&mut pool).unwrap();
        let mut buffer = [0; 2000];
        for want in sent.chunks(1000) {
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..len], *want);
        }
        assert_eq!(pool.missing(), 0);
        assert_eq!(port.counters().rx_errors, 0);
    });
}

#[test]
fn a_plain_device_says_that_it_is_one() {
    in_netns(|| {
        let plain = create(&TapConfig::named("pod0")).unwrap();
        assert!(!has_offloads(&plain));
        let config = TapConfig {
            offload: true,
            ifindex: Some(77),
            ..TapConfig::named("pod1")
        };
        let copy = create(&config).unwrap().try_clone().unwrap();
        assert!(has_offloads(&copy), "a duplicate knows it too");
        assert_eq!(ifindex("pod1"), Some(77));
    });
    let (near, _) = UnixDatagram::pair().unwrap();
    assert!(!has_offloads(&near));
}

/// A plain device gets what a wire would carry. What can't be completed or cut for it is lost, and counted.
#[test]
fn what_a_wire_could_not_carry_is_lost_and_counted() {
    let (mut port, far) = socket_port();
    far.set_nonblocking(true).unwrap();
    let mut pool = FramePool::new(2);
    let beyond = Offload {
        partial: Some(Partial {
            start: 34,
            offset: 60,
        }),
        gso: None,
    };
    for offload in [beyond, TCP] {
        let mut frame = frame(&mut pool, &[0; 60]);
        frame.set_offload(offload);
        port.tx(&mut pool, frame).unwrap();
        port.flush(&mut pool).unwrap();
    }
    let counters = port.counters();
    assert_eq!((counters.tx_frames, counters.tx_dropped), (0, 2));
    assert!(far.recv(&mut [0; 100]).is_err());
    assert_eq!(pool.missing(), 0);
}
