mod offload;
mod queues;

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use router_core::{Batch, Frame, FramePool};

use super::*;
use crate::port::{Port as _, PortCounters, Rx};
use crate::sys::tun::testing::{new_netns, set_address, set_up};

/// A port on a datagram socket, which keeps frames apart as a TAP does and needs no privileges.
fn socket_port() -> (TapPort, UnixDatagram) {
    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    (TapPort::new(near.into(), "pod", 1500), far)
}

fn frame(pool: &mut FramePool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.fill(bytes));
    frame
}

#[test]
fn frames_are_read_whole_until_the_device_has_no_more() {
    let (mut port, far) = socket_port();
    let mut pool = FramePool::new(8);
    let mut batch = Batch::new();
    far.send(&[1; 60]).unwrap();
    far.send(&[2; 1984]).unwrap();
    assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::Drained);
    let got: Vec<_> = batch
        .as_slice()
        .iter()
        .map(|f| (f.bytes()[0], f.len()))
        .collect();
    assert_eq!(got, [(1, 60), (2, 1984)]);
    batch.free_all(&mut pool);
    assert_eq!(pool.missing(), 0);
}

/// A frame that no slot holds comes in as its beginning, with a word about that; one too short for a header as it is. The
/// router counts both.
#[test]
fn a_frame_of_any_length_is_handed_in_and_the_cut_one_says_so() {
    let (mut port, far) = socket_port();
    let mut pool = FramePool::new(8);
    let mut batch = Batch::new();
    for (tag, len) in [(1, 1985), (2, 9014), (3, 13), (4, 1984), (5, 14)] {
        far.send(&vec![tag; len]).unwrap();
    }
    assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::Drained);
    let got: Vec<_> = batch
        .as_slice()
        .iter()
        .map(|f| (f.bytes()[0], f.len(), f.is_cut()))
        .collect();
    let want = [
        (1, 1984, true),
        (2, 1984, true),
        (3, 13, false),
        (4, 1984, false),
        (5, 14, false),
    ];
    assert_eq!(got, want);
    let want = PortCounters {
        rx_frames: 5,
        rx_bytes: 3 * 1984 + 13 + 14,
        ..PortCounters::default()
    };
    assert_eq!(port.counters(), want);
    batch.free_all(&mut pool);
    assert_eq!(pool.missing(), 0);
    let frame = pool.alloc().unwrap();
    assert!(!frame.is_cut(), "a slot that comes back forgets it");
    pool.free(frame);
}

#[test]
fn budget_and_pool_bound_what_is_read() {
    let (mut port, far) = socket_port();
    let mut pool = FramePool::new(3);
    let mut batch = Batch::new();
    for tag in 0..5 {
        far.send(&[tag; 60]).unwrap();
    }
    assert_eq!(port.rx(&mut pool, &mut batch, 2).unwrap(), Rx::More);
    assert_eq!(batch.len(), 2);
    assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::More);
    assert_eq!((batch.len(), pool.available()), (3, 0));
    batch.free_all(&mut pool);
    assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::Drained);
    assert_eq!(batch.as_slice()[0].bytes()[0], 3);
    batch.free_all(&mut pool);
}

#[test]
fn a_full_device_drops_and_counts() {
    let (mut port, far) = socket_port();
    let mut pool = FramePool::new(1);
    let mut sent = 0;
    while port.counters().tx_dropped == 0 {
        let f = frame(&mut pool, &[1; 1000]);
        port.tx(&mut pool, f).unwrap();
        sent += 1;
    }
    assert_eq!(port.counters().tx_frames, sent - 1);
    assert_eq!(pool.missing(), 0);
    let mut buf = [0; 2000];
    assert_eq!(far.recv(&mut buf).unwrap(), 1000);
    let f = frame(&mut pool, &[1; 1000]);
    port.tx(&mut pool, f).unwrap();
    assert_eq!(port.counters().tx_frames, sent);
}

#[test]
fn names_that_linux_would_refuse_or_expand_are_refused() {
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "a:b",
        "tap%d",
        "a b",
        "sixteen-bytes-xx",
        "é",
    ] {
        let error = create(&TapConfig::named(name)).unwrap_err();
        assert!(matches!(error, TapError::Name { .. }), "{name}: {error}");
    }
    assert_eq!(checked_name("fifteen-bytes-x").unwrap(), "fifteen-bytes-x");
}

#[test]
fn a_device_that_is_absent_is_told_from_one_that_is_closed() {
    let config = TapConfig {
        device: Some("/nonexistent/tun".into()),
        ..TapConfig::named("pod0")
    };
    let error = create(&config).unwrap_err();
    assert!(error.is_absent() && !error.is_closed());
    assert_eq!(
        error.to_string(),
        "pod0: open /nonexistent/tun: No such file or directory (os error 2)"
    );
    let closed = open_error("pod0", Path::new(DEVICE), Errno::ACCESS.into());
    assert!(closed.is_closed() && !closed.is_absent());
}

/// Runs `test` on a thread with a network namespace of its own, or says why not.
fn in_netns(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let result = scope.spawn(|| {
            let reason = match new_netns() {
                Err(e) => format!("no network namespace: {e}"),
                Ok(()) => match create(&TapConfig::named("probe")) {
                    Err(e) => format!("no TAP: {e}"),
                    Ok(_) => {
                        test();
                        return;
                    }
                },
            };
            assert!(
                std::env::var_os("PODWIRE_REQUIRE_ALL").is_none_or(|v| v != "1"),
                "PODWIRE_REQUIRE_ALL is set, but: {reason}"
            );
            println!("SKIPPED: {reason}");
        });
        if let Err(panic) = result.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ifindex(name: &str) -> Option<u32> {
    rustix::net::netdevice::name_to_index(
        rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::DGRAM,
            None,
        )
        .unwrap(),
        name,
    )
    .ok()
}

#[test]
fn an_interface_gets_its_name_and_index_and_goes_with_its_descriptor() {
    in_netns(|| {
        let plain = create(&TapConfig::named("plain0")).unwrap();
        assert!(ifindex("plain0").is_some());
        drop(plain);
        assert!(ifindex("plain0").is_none());

        let config = TapConfig {
            ifindex: Some(4711),
            ..TapConfig::named("eth0")
        };
        let fixed = create(&config).unwrap();
        assert_eq!(ifindex("eth0"), Some(4711));
        set_carrier(&fixed, false).unwrap();
        set_carrier(&fixed, true).unwrap();

        let taken = create(&TapConfig::named("eth0")).unwrap_err();
        assert!(matches!(taken, TapError::Attach { .. }), "{taken}");
        let taken = create(&TapConfig {
            ifindex: Some(4711),
            ..TapConfig::named("eth1")
        });
        assert!(matches!(taken.unwrap_err(), TapError::Attach { .. }));
    });
}

/// IPv4 + UDP from 192.0.2.2:9 to 192.0.2.1:`port` in a broadcast Ethernet frame.
fn udp_frame(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![0xff; 6];
    f.extend([2, 0, 0, 0, 0, 2, 8, 0]);
    let udp_len = u16::try_from(8 + payload.len()).unwrap();
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp_len).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1]);
    let mut sum: u32 = ip
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    let check = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    f.extend(ip);
    f.extend(9_u16.to_be_bytes());
    f.extend(port.to_be_bytes());
    f.extend(udp_len.to_be_bytes());
    f.extend([0, 0]); // no UDP checksum (RFC 768)
    f.extend(payload);
    f
}

#[test]
fn frames_pass_between_the_kernel_and_the_port() {
    in_netns(|| {
        let fd = create(&TapConfig::named("pod0")).unwrap();
        let mut port = TapPort::new(fd, "pod0", 1500);
        let mut pool = FramePool::new(64);
        let mut batch = Batch::new();

        // Down: what is sent is lost and counted, and there is nothing to read.
        let f = frame(&mut pool, &udp_frame(9, b"lost"));
        port.tx(&mut pool, f).unwrap();
        assert_eq!(port.counters().tx_dropped, 1);
        assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::Drained);

        set_address("pod0", [192, 0, 2, 1]).unwrap();
        set_up("pod0", true).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let local = socket.local_addr().unwrap().port();
        socket.set_broadcast(true).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();

        socket.send_to(b"out", "192.0.2.255:4242").unwrap();
        // The kernel's own neighbour discovery may be among the frames.
        assert_eq!(port.rx(&mut pool, &mut batch, 64).unwrap(), Rx::Drained);
        let sent = batch
            .as_slice()
            .iter()
            .find(|f| f.bytes().ends_with(b"out"));
        assert_eq!(sent.unwrap().bytes()[12..14], [8, 0]);
        batch.free_all(&mut pool);

        let f = frame(&mut pool, &udp_frame(local, b"in"));
        port.tx(&mut pool, f).unwrap();
        let mut buf = [0; 16];
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..len], from.port()), (&b"in"[..], 9));

        set_up("pod0", false).unwrap();
        let f = frame(&mut pool, &udp_frame(local, b"lost"));
        port.tx(&mut pool, f).unwrap();
        assert_eq!(
            (port.counters().tx_frames, port.counters().tx_dropped),
            (1, 2)
        );
        assert_eq!(pool.missing(), 0);
    });
}

#[test]
fn a_deleted_interface_is_an_error() {
    in_netns(|| {
        let fd = create(&TapConfig::named("pod0")).unwrap();
        // A descriptor attached to nothing is what remains when the namespace of the interface goes away.
        drop(fd);
        let unattached = tun::open(Path::new(DEVICE)).unwrap();
        let mut port = TapPort::new(unattached, "pod0", 1500);
        let mut pool = FramePool::new(4);
        let mut batch = Batch::new();
        let error = port.rx(&mut pool, &mut batch, 64).unwrap_err();
        assert_eq!(
            error.source.raw_os_error(),
            Some(Errno::BADFD.raw_os_error())
        );
        let f = frame(&mut pool, &udp_frame(9, b""));
        assert_eq!(port.tx(&mut pool, f).unwrap_err().operation, "write");
        assert_eq!(port.counters().tx_dropped, 1);
        assert_eq!(pool.missing(), 0);
    });
}
