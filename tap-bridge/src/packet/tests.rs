//! Packet sockets on a veth whose other end is a host of the kernel's.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use router_core::frame::{GsoKind, MAX_FRAME, Offload};
use router_core::{Batch, Frame, FramePool};
use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::port::{Port as _, PortCounters, Rx};
use crate::sys::ethtool;
use crate::sys::links::End;
use crate::sys::netlink::{Changes, RouteSocket, Scope};
use crate::sys::netns::{self, Namespace};
use crate::sys::tun::testing::set_udp_segment;
use crate::tails::Tails;

const POD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const POD_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// Index of both ends, each in its own namespace.
const INDEX: u32 = 4;
const ETHERNET: usize = 14;

/// Two namespaces with a veth between them, for a thread that is in the pod's.
struct Pair {
    pod: OwnedFd,
    far: OwnedFd,
}

impl Pair {
    fn make() -> io::Result<Self> {
        netns::isolate(&[Namespace::Net])?;
        let far = netns::current(Namespace::Net)?;
        netns::isolate(&[Namespace::Net])?;
        let pod = netns::current(Namespace::Net)?;
        let end = |name| End {
            name,
            index: Some(INDEX),
            mtu: 1500,
        };
        let mut changes = Changes::new();
        changes
            .veth_add(&end("eth0"), &end("vethpod"), far.as_fd())
            .link_identity(INDEX, POD_MAC, 1500)
            .link_without_ipv6_address(INDEX);
        let pair = Self { pod, far };
        apply(changes)?;
        pair.at_far_end(|| {
            let mut changes = Changes::new();
            changes.link_without_ipv6_address(INDEX).link_up(INDEX);
            apply(changes)
        })?;
        let mut changes = Changes::new();
        changes
            .link_up(INDEX)
            .address_add(
                INDEX,
                "192.0.2.1/24".parse().expect("a prefix"),
                None,
                Scope::Global,
            )
            .neighbour_permanent(INDEX, FAR, ROUTER_MAC);
        apply(changes)?;
        Ok(pair)
    }

    fn at_far_end<T>(&self, work: impl FnOnce() -> T) -> T {
        netns::enter(self.far.as_fd(), Namespace::Net).unwrap();
        let done = work();
        netns::enter(self.pod.as_fd(), Namespace::Net).unwrap();
        done
    }

    fn socket(&self, direct: bool) -> OwnedFd {
        let config = PacketConfig {
            ifindex: INDEX,
            mac: None,
            direct,
        };
        self.at_far_end(|| open(&config)).unwrap()
    }

    fn port(&self) -> PacketPort {
        let socket = self.socket(true);
        assert!(has_offloads(&socket));
        PacketPort::new(socket, "vethpod", 1500).with_offload(Tails::new().unwrap())
    }
}

fn apply(changes: Changes) -> io::Result<()> {
    let mut socket = RouteSocket::open()?;
    socket
        .apply(changes)
        .map_err(|error| io::Error::new(error.source.kind(), format!("{error}")))
}

/// Runs `test` with a pair, or says why not.
fn with_pair(test: impl FnOnce(&Pair) + Send) {
    thread::scope(|scope| {
        let result = scope.spawn(|| match Pair::make() {
            Ok(pair) => test(&pair),
            Err(reason) => {
                assert!(
                    std::env::var_os("PODWIRE_REQUIRE_ALL").is_none_or(|v| v != "1"),
                    "PODWIRE_REQUIRE_ALL is set, but: {reason}"
                );
                println!("SKIPPED: no veth between namespaces: {reason}");
            }
        });
        if let Err(panic) = result.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn content(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.len()];
    frame.read(0, &mut bytes);
    bytes
}

/// How long something may take that happens by itself, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the port hands in at once.
fn receive_now(port: &mut PacketPort, pool: &mut FramePool) -> Vec<Frame> {
    let mut batch = Batch::new();
    while port.rx(pool, &mut batch, 64).unwrap() == Rx::More {}
    batch.drain().collect()
}

/// What the port hands in once there is something. A veth hands on in another thread of the kernel's when much is going on.
fn receive(port: &mut PacketPort, pool: &mut FramePool) -> Vec<Frame> {
    let limit = PATIENCE.try_into().unwrap();
    let readable = poll(&mut [PollFd::new(port, PollFlags::IN)], Some(&limit));
    assert_eq!(readable, Ok(1), "nothing came");
    receive_now(port, pool)
}

/// A socket of the pod, connected to the far end.
fn client() -> UdpSocket {
    let socket = UdpSocket::bind((POD, 0)).unwrap();
    socket.connect((FAR, 4242)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a frame of UDP back to the socket that it came from: sums don't change when addresses and ports change places.
fn turn_round(frame: &mut Frame, port: u16) {
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&POD_MAC.0);
    bytes[6..12].copy_from_slice(&ROUTER_MAC.0);
    bytes[26..30].copy_from_slice(&FAR.octets());
    bytes[30..34].copy_from_slice(&POD.octets());
    bytes[34..36].copy_from_slice(&4242_u16.to_be_bytes());
    bytes[36..38].copy_from_slice(&port.to_be_bytes());
}

/// A socket of the pod's on its own end.
fn pod_side() -> PacketPort {
    let socket = open(&PacketConfig {
        ifindex: INDEX,
        mac: None,
        direct: true,
    })
    .unwrap();
    PacketPort::new(socket, "eth0", 1500).with_offload(Tails::new().unwrap())
}

fn frame_of(pool: &mut FramePool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.fill(bytes));
    frame
}

/// A broadcast frame that no protocol knows (IEEE 802.3 local experimental).
fn experimental(len: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend(ROUTER_MAC.0);
    bytes.extend([0x88, 0xb5]);
    bytes.extend((0..=250).cycle().take(len));
    bytes.truncate(len);
    bytes
}

/// FWD-78 as decision 15 supersedes it: a superframe of the kernel is taken whole, and given back it is whole again.
#[test]
fn superframes_pass_whole_in_both_directions() {
    with_pair(|pair| {
        let mut port = pair.port();
        assert!(port.caps().offload);
        let mut pool = FramePool::new(64);
        let socket = client();
        set_udp_segment(socket.as_raw_fd(), 1000).unwrap();
        let sent: Vec<u8> = (0..=250).cycle().take(20_500).collect();
        socket.send(&sent).unwrap();
        let mut frames = receive(&mut port, &mut pool);
        let mut frame = frames.pop().unwrap();
        assert!(frames.is_empty(), "one frame for all 21 datagrams");
        let gso = frame.offload().gso.unwrap();
        assert_eq!((gso.kind, gso.size), (GsoKind::Udp, 1000));
        assert_eq!(content(&frame)[ETHERNET + 28..], sent);

        turn_round(&mut frame, socket.local_addr().unwrap().port());
        port.tx(&mut pool, frame).unwrap();
        port.flush(&mut pool).unwrap();
        let mut buffer = [0; 2000];
        for want in sent.chunks(1000) {
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..len], *want);
        }
        assert_eq!((pool.missing(), port.counters().rx_errors), (0, 0));
        // Once again, cut, for a device that shall be given nothing else.
        socket.send(&sent).unwrap();
        let mut frame = receive(&mut port, &mut pool).pop().unwrap();
        turn_round(&mut frame, socket.local_addr().unwrap().port());
        let mut port = pair.port().sending_on_the_wire();
        port.tx(&mut pool, frame).unwrap();
        port.flush(&mut pool).unwrap();
        assert_eq!(
            (port.counters().tx_frames, port.caps().offload),
            (21, false)
        );
        for want in sent.chunks(1000) {
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..len], *want);
        }
    });
}

#[test]
fn a_checksum_that_the_pod_left_open_stays_open() {
    with_pair(|pair| {
        let mut port = pair.port();
        let mut pool = FramePool::new(64);
        let socket = client();
        socket.send(b"open").unwrap();
        let mut frame = receive(&mut port, &mut pool).pop().unwrap();
        let partial = frame.offload().partial.unwrap();
        assert_eq!((partial.start, partial.offset), (34, 6));
        turn_round(&mut frame, socket.local_addr().unwrap().port());
        port.tx(&mut pool, frame).unwrap();
        port.flush(&mut pool).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 4);

        // What the far end may not leave to us it does itself, and so does one without offload.
        restrict("eth0", true).unwrap();
        let tunnels = |name: &str| name == "tx-udp_tnl-segmentation" || name == "tx-checksum-sctp";
        assert_eq!(ethtool::switch_off("eth0", tunnels).unwrap(), [""; 0]);
        socket.send(b"open").unwrap();
        let frame = receive(&mut port, &mut pool).pop().unwrap();
        assert!(frame.offload().partial.is_some());
        pool.free(frame);
        // It may still leave datagrams together, for which the header has a word.
        set_udp_segment(socket.as_raw_fd(), 2).unwrap();
        socket.send(b"open").unwrap();
        let frame = receive(&mut port, &mut pool).pop().unwrap();
        assert!(frame.is_superframe());
        pool.free(frame);
        set_udp_segment(socket.as_raw_fd(), 0).unwrap();
        restrict("eth0", false).unwrap();
        socket.send(b"done").unwrap();
        let frame = receive(&mut port, &mut pool).pop().unwrap();
        assert_eq!(frame.offload(), Offload::NONE);
        pool.free(frame);
    });
}

/// Linux takes tags out before packet sockets see a frame; the router has to know of them, to refuse or to bridge it.
#[test]
fn a_tag_that_the_kernel_took_out_is_put_back() {
    with_pair(|pair| {
        let mut port = pair.port();
        let mut pool = FramePool::new(64);
        // As the pod sends them.
        let mut sender = pod_side();
        for tag in [[0x81, 0x00, 0x20, 0x64], [0x88, 0xa8, 0x00, 0x01]] {
            let mut sent = experimental(100);
            sent.splice(12..12, tag);
            let frame = frame_of(&mut pool, &sent);
            sender.tx(&mut pool, frame).unwrap();
            sender.flush(&mut pool).unwrap();
            let got = receive(&mut port, &mut pool).pop().unwrap();
            assert_eq!(got.bytes(), sent, "{tag:?}");
            pool.free(got);
        }
        let plain = experimental(100);
        let frame = frame_of(&mut pool, &plain);
        sender.tx(&mut pool, frame).unwrap();
        sender.flush(&mut pool).unwrap();
        let got = receive(&mut port, &mut pool).pop().unwrap();
        assert_eq!(got.bytes(), plain);
        pool.free(got);
        assert_eq!(sender.counters().rx_frames, 0);
    });
}

#[test]
fn what_no_interface_takes_is_lost_and_counted() {
    with_pair(|pair| {
        let mut port = pair.port();
        let mut pool = FramePool::new(64);
        let mut send = |len: usize| {
            let frame = frame_of(&mut pool, &experimental(len));
            port.tx(&mut pool, frame).unwrap();
            port.flush(&mut pool).unwrap();
            (port.counters().tx_frames, port.counters().tx_dropped)
        };
        assert_eq!(send(ETHERNET - 1), (0, 1), "no Ethernet header");
        assert_eq!(send(ETHERNET), (1, 1));
        assert_eq!(send(ETHERNET + 1500), (2, 1), "as long as the MTU says");
        assert_eq!(send(ETHERNET + 1501), (2, 2), "longer");
        assert_eq!(send(MAX_FRAME), (2, 3));
    });
}

#[test]
fn an_interface_that_goes_down_comes_back_and_one_that_is_removed_does_not() {
    with_pair(|pair| {
        let mut port = pair.port();
        let mut pool = FramePool::new(64);
        let socket = client();
        let far = |change: &dyn Fn(&mut Changes)| {
            let mut changes = Changes::new();
            change(&mut changes);
            pair.at_far_end(|| apply(changes)).unwrap();
        };
        // A frame from before is still there.
        socket.send(b"before").unwrap();
        far(&|c| {
            c.link_down(INDEX);
        });
        assert!(matches!(
            port.device().read_error(Errno::NETDOWN, true),
            ReadError::Again
        ));
        assert!(!port.device().is_gone(Errno::NETDOWN));
        let frames = receive(&mut port, &mut pool);
        assert_eq!(frames.len(), 1);
        frames.into_iter().for_each(|frame| pool.free(frame));
        let lost = frame_of(&mut pool, &experimental(60));
        port.tx(&mut pool, lost).unwrap();
        port.flush(&mut pool).unwrap();
        assert_eq!(port.counters().tx_dropped, 1);

        far(&|c| {
            c.link_up(INDEX);
        });
        socket.send(b"after").unwrap();
        let frames = receive(&mut port, &mut pool);
        assert_eq!(frames.len(), 1);
        frames.into_iter().for_each(|frame| pool.free(frame));
        let sent = frame_of(&mut pool, &experimental(60));
        port.tx(&mut pool, sent).unwrap();
        port.flush(&mut pool).unwrap();
        assert_eq!(port.counters().tx_frames, 1);

        far(&|c| {
            c.link_group(INDEX, 7).group_delete(7).group_delete(7);
        });
        let mut batch = Batch::new();
        let gone = port.rx(&mut pool, &mut batch, 64).unwrap_err();
        let netdown = Errno::NETDOWN.raw_os_error();
        assert_eq!(gone.source.raw_os_error(), Some(netdown));
        let frame = frame_of(&mut pool, &experimental(60));
        port.tx(&mut pool, frame).unwrap();
        let gone = port.flush(&mut pool).unwrap_err();
        assert_eq!((gone.operation, pool.missing()), ("write", 0));
        assert!(port.device().is_gone(Errno::NETDOWN));
    });
}

#[test]
fn what_the_kernel_had_no_room_for_is_counted_once() {
    with_pair(|pair| {
        let socket = pair.socket(true);
        packet::set_buffers(socket.as_fd(), 64 << 10).unwrap();
        let mut port = PacketPort::new(socket, "vethpod", 1500).with_offload(Tails::new().unwrap());
        let mut pool = FramePool::new(64);
        let client = client();
        let mut sent = 0;
        while port.counters().rx_missed == 0 {
            client.send(&[0; 1000]).unwrap();
            sent += 1;
            assert!(sent < 100_000, "no socket holds as much");
        }
        let mut frames = 0;
        while frames + port.counters().rx_missed < sent {
            let got = receive(&mut port, &mut pool);
            frames += got.len() as u64;
            got.into_iter().for_each(|frame| pool.free(frame));
        }
        let missed = port.counters().rx_missed;
        assert_eq!(frames + missed, sent);
        assert_eq!(port.counters().rx_missed, missed);
    });
}

/// A frame that the kernel could not put into the header's words is gone, and the next one may come.
#[test]
fn a_frame_that_the_header_has_no_word_for_is_lost_alone() {
    with_pair(|pair| {
        let port = pair.port();
        let error = |errno, vnet| port.device().read_error(errno, vnet);
        assert_eq!(error(Errno::INVAL, true), ReadError::Malformed);
        assert_eq!(error(Errno::INVAL, false), ReadError::Gone);
        assert_eq!(error(Errno::AGAIN, true), ReadError::Nothing);
        assert_eq!(error(Errno::BADF, true), ReadError::Gone);
    });
}

/// A burst of superframes finds room: more than the host gives by itself, whatever its limits.
#[test]
fn a_socket_has_more_room_than_one_that_nobody_has_set_up() {
    with_pair(|pair| {
        let room = |fd: &OwnedFd| {
            use rustix::net::sockopt::{socket_recv_buffer_size, socket_send_buffer_size};
            let both = [socket_recv_buffer_size(fd), socket_send_buffer_size(fd)];
            both.map(Result::unwrap)
        };
        let plain = room(&packet::open().unwrap());
        let ours = room(&pair.socket(true));
        assert!(
            ours[0] > plain[0] && ours[1] > plain[1],
            "{ours:?} {plain:?}"
        );
    });
}

/// What the namespace of the far end sends itself is not ours, and a frame of ours doesn't come back.
#[test]
fn only_what_the_interface_receives_comes_in() {
    with_pair(|pair| {
        // Past the queueing discipline nobody sees what is sent: the other one goes by it.
        let other = PacketPort::new(pair.socket(false), "vethpod", 1500);
        let mut other = other.with_offload(Tails::new().unwrap());
        let mut port = pair.port();
        let mut pool = FramePool::new(64);
        // The kernel drops such frames without a word until it has put up the discipline of an interface that has just come up.
        let mut pod = pod_side();
        let until = Instant::now() + PATIENCE;
        let mut sent = 0;
        loop {
            let frame = frame_of(&mut pool, &experimental(60));
            other.tx(&mut pool, frame).unwrap();
            other.flush(&mut pool).unwrap();
            sent += 1;
            let arrived = receive_now(&mut pod, &mut pool);
            let is_there = !arrived.is_empty();
            arrived.into_iter().for_each(|frame| pool.free(frame));
            if is_there {
                break;
            }
            assert!(Instant::now() < until, "no frame of the other port");
            thread::yield_now();
        }
        let frame = frame_of(&mut pool, &experimental(60));
        port.tx(&mut pool, frame).unwrap();
        port.flush(&mut pool).unwrap();
        let socket = client();
        socket.send(b"pod").unwrap();
        for (port, sent) in [(&mut port, 1), (&mut other, sent)] {
            let frames = receive(port, &mut pool);
            assert_eq!(frames.len(), 1);
            assert!(frames[0].bytes().ends_with(b"pod"));
            frames.into_iter().for_each(|frame| pool.free(frame));
            let want = PortCounters {
                rx_frames: 1,
                rx_bytes: 45,
                tx_frames: sent,
                tx_bytes: 60 * sent,
                ..PortCounters::default()
            };
            assert_eq!(port.counters(), want);
        }
    });
}

#[test]
fn an_interface_that_is_not_there_is_told_from_one_that_is_closed() {
    with_pair(|_| {
        let error = open(&PacketConfig {
            ifindex: 4711,
            mac: Some(ROUTER_MAC),
            direct: false,
        })
        .unwrap_err();
        assert_eq!(error.operation, "PACKET_ADD_MEMBERSHIP");
        assert!(!error.is_permission(), "{error}");
    });
    let closed = PacketError {
        operation: "open",
        source: Errno::PERM.into(),
    };
    assert!(closed.is_permission());
    assert_eq!(
        closed.to_string(),
        "packet socket: open: Operation not permitted (os error 1)"
    );
}
