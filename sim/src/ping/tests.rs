use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, send, socket_with,
    socketpair,
};
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Ipv4Packet};

use super::*;
use crate::control::proto::IcmpChannel;

const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 244, 9, 9);

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

/// A channel whose far end answers every request, except those to [`NOBODY`], until the channel is closed.
fn mirror() -> Channel {
    let (near, far) = pair();
    std::thread::spawn(move || {
        let mut buf = vec![0; MAX_PACKET];
        while let Ok((len @ 1.., _)) = recv(&far, &mut buf[..], RecvFlags::empty()) {
            let mut packet = Ipv4Packet::new_checked(&mut buf[..len]).unwrap();
            let dst = packet.dst_addr();
            if dst == NOBODY {
                continue;
            }
            packet.set_dst_addr(A);
            packet.set_src_addr(dst);
            packet.set_hop_limit(62);
            packet.fill_checksum();
            let mut icmp = Icmpv4Packet::new_unchecked(packet.payload_mut());
            icmp.set_msg_type(Icmpv4Message::EchoReply);
            icmp.fill_checksum();
            let _ = send(&far, &buf[..len], SendFlags::NOSIGNAL);
        }
    });
    Channel::new(near, IcmpChannel::StackChannel, A)
}

fn run(channel: &Channel, name: &str, dst: Ipv4Addr, options: &Options) -> (Statistics, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let stats = ping(channel, name, dst, options, None, &mut out, &mut err).unwrap();
    assert_eq!(String::from_utf8(err).unwrap(), "");
    (stats, String::from_utf8(out).unwrap())
}

/// Line by line, with the times replaced.
fn shape(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| match line.split_once("time=") {
            Some((before, _)) => format!("{before}time=T ms"),
            None => match line.split_once(", time ") {
                Some((before, _)) => format!("{before}, time T"),
                None if line.starts_with("rtt ") => "rtt T".to_owned(),
                None => line.to_owned(),
            },
        })
        .collect()
}

fn quick(count: u32) -> Options {
    Options {
        count: Some(count),
        interval: Duration::from_millis(1),
        timeout: Duration::from_millis(20),
        ..Options::default()
    }
}

/// The whole output of a ping through a stack channel.
#[test]
fn a_ping_prints_what_iputils_prints() {
    let (stats, text) = run(&mirror(), "b", B, &quick(2));
    assert_eq!((stats.transmitted, stats.received), (2, 2));
    assert_eq!(
        shape(&text),
        [
            "PING b (10.244.1.2) 56(84) bytes of data.",
            "64 bytes from 10.244.1.2: icmp_seq=1 ttl=62 time=T ms",
            "64 bytes from 10.244.1.2: icmp_seq=2 ttl=62 time=T ms",
            "",
            "--- b ping statistics ---",
            "2 packets transmitted, 2 received, 0% packet loss, time T",
            "rtt T",
        ]
    );
}

/// Quiet prints first line and statistics; the largest ping that exists comes back.
#[test]
fn a_quiet_ping_of_the_largest_size() {
    let options = Options {
        size: packet::MAX_PAYLOAD,
        quiet: true,
        ..quick(1)
    };
    let (stats, text) = run(&mirror(), "b", B, &options);
    assert_eq!(stats.received, 1);
    let lines = shape(&text);
    assert_eq!(lines[0], "PING b (10.244.1.2) 65507(65535) bytes of data.");
    assert_eq!(lines[2], "--- b ping statistics ---");
}

/// Nobody answers: the ping ends after its timeout and says so.
#[test]
fn a_ping_of_nobody_ends() {
    let (stats, text) = run(&mirror(), "x", NOBODY, &quick(2));
    assert_eq!((stats.transmitted, stats.received), (2, 0));
    assert!(text.contains("2 packets transmitted, 0 received, 100% packet loss"));
}

/// An endless ping ends when it is told to.
#[test]
fn a_stop_ends_an_endless_ping() {
    use std::os::fd::AsFd as _;
    let (stop, far) = pair();
    drop(far);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let options = Options::default();
    let channel = mirror();
    let stop = Some(stop.as_fd());
    let stats = ping(&channel, "b", B, &options, stop, &mut out, &mut err).unwrap();
    assert_eq!(stats.transmitted, 1);
    assert!(String::from_utf8(out).unwrap().contains("--- b ping"));
}

/// A channel that breaks ends the ping with an error.
#[test]
fn a_closed_channel_is_an_error() {
    let (near, far) = pair();
    drop(far);
    let channel = Channel::new(near, IcmpChannel::StackChannel, A);
    let result = ping(
        &channel,
        "b",
        B,
        &quick(1),
        None,
        &mut Vec::new(),
        &mut Vec::new(),
    );
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// Every pair of a matrix has its own outcome, in its place.
#[test]
fn a_matrix_knows_who_was_lost() {
    let channels: Vec<_> = (0..5).map(|_| mirror()).collect();
    let targets: Vec<_> = (1..=40)
        .map(|n| {
            if n == 7 {
                NOBODY
            } else {
                Ipv4Addr::new(10, 244, 1, n)
            }
        })
        .collect();
    let options = MatrixOptions {
        in_flight: 16,
        timeout: Duration::from_millis(300),
        ..MatrixOptions::default()
    };
    let rows = matrix(&channels, &targets, &options).unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert_eq!(row.len(), 40);
        for (n, outcome) in row.iter().enumerate() {
            if n == 6 {
                assert_eq!(*outcome, Outcome::Lost);
            } else {
                assert!(
                    matches!(outcome, Outcome::Reply { ttl: 62, .. }),
                    "{outcome:?}"
                );
            }
        }
    }
}

/// A broken channel loses its own pairs only, and the total deadline ends everything.
#[test]
fn a_broken_channel_loses_its_own_pairs_only() {
    let (near, far) = pair();
    drop(far);
    let channels = [Channel::new(near, IcmpChannel::StackChannel, A), mirror()];
    let options = MatrixOptions {
        timeout: Duration::from_millis(20),
        ..MatrixOptions::default()
    };
    let rows = matrix(&channels, &[B, B], &options).unwrap();
    assert!(rows[0].iter().all(|outcome| !outcome.is_reply()));
    assert!(rows[1].iter().all(Outcome::is_reply));
    let options = MatrixOptions {
        deadline: Duration::from_millis(10),
        in_flight: 1,
        ..MatrixOptions::default()
    };
    let rows = matrix(&channels[1..], &[NOBODY, B], &options).unwrap();
    assert_eq!(rows[0][0], Outcome::Lost);
    assert!(matches!(rows[0][1], Outcome::NotSent(_)));
}

/// A raw socket of this host pings loopback, and is told when a packet is too long.
#[test]
fn a_raw_socket_pings_loopback() {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let made = socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        flags,
        Some(ipproto::ICMP),
    );
    let fd = match made {
        Ok(fd) => fd,
        Err(error) => {
            assert!(
                std::env::var_os("PODWIRE_REQUIRE_ALL").is_none(),
                "raw sockets are required: {error}"
            );
            eprintln!("SKIPPED: no raw socket: {error}");
            return;
        }
    };
    let lo = Ipv4Addr::LOCALHOST;
    let channel = Channel::new(fd, IcmpChannel::RawSocket, lo);
    let (stats, text) = run(&channel, "localhost", lo, &quick(2));
    assert_eq!((stats.received, stats.duplicates), (2, 0), "{text}");
    assert!(text.contains("64 bytes from 127.0.0.1: icmp_seq=2 ttl=64 time="));
    let (stats, text) = run(
        &channel,
        "localhost",
        lo,
        &Options {
            ttl: 9,
            size: 3000,
            ..quick(1)
        },
    );
    assert_eq!(stats.received, 1, "{text}");
    let rows = matrix(&[channel], &[lo; 20], &MatrixOptions::default()).unwrap();
    assert!(rows[0].iter().all(Outcome::is_reply));
}
