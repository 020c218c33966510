//! Captured files and filters, judged by others: the library `pcap-parser`, tcpdump and tshark.
//!
//! The programs are asked where they are installed; where they are missing the test says SKIPPED, and fails with
//! `PODWIRE_REQUIRE_ALL=1`.

#![expect(clippy::unwrap_used, reason = "the whole crate is a test")]

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use pcap_parser::pcapng::{Block, parse_block_le};
use router_core::Mac;
use router_core::testing::packet::{arp_request, echo_request, eth, fragments, ipv4, tcp, udp};
use tap_bridge::layer::capture::filter::Filter;
use tap_bridge::layer::capture::pcapng::{
    Direction, Interface, Packet, Statistics, interface, names, packet, section, statistics,
};

const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
const C: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 1);
const MA: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const MB: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

fn frames() -> Vec<Vec<u8>> {
    let datagram = eth(MB, MA) / ipv4(A, B) / udp(5000, 53) / &[7; 2000];
    let mut frames: Vec<Vec<u8>> = [
        eth(MB, MA) / ipv4(A, B) / echo_request(1, 1) / &[0; 56],
        eth(MB, MA) / ipv4(A, C) / tcp(40000, 80, 2),
        eth(MA, MB) / ipv4(B, A) / udp(53, 40000) / b"x",
        eth(MA, MB) / ipv4(B, A).options(&[1; 4]) / udp(9, 53) / b"x",
        eth(Mac::BROADCAST, MA) / arp_request(MA, A, B),
        eth(MB, MA) / ipv4(C, B) / ipv4(A, B) / udp(1, 53) / b"x",
    ]
    .iter()
    .map(router_core::testing::Packet::bytes)
    .collect();
    frames.extend(fragments(&datagram, 1500).iter().map(|piece| piece.bytes()));
    frames
}

/// A file with two interfaces, the frames on the first, and one that was dropped on the second.
fn file() -> Vec<u8> {
    let mut out = Vec::new();
    section(&mut out, "podwire");
    interface(
        &mut out,
        &Interface {
            name: "minikube/eth0",
            description: "the underlay",
            snaplen: 0,
            filter: "ip or arp",
        },
    );
    names(&mut out, [(A, "pod-a"), (B, "pod-b")]);
    for (n, bytes) in (0..).zip(&frames()) {
        packet(
            &mut out,
            &Packet {
                interface: 0,
                at: 1_700_000_000_123_456_789 + n,
                len: u32::try_from(bytes.len()).unwrap(),
                bytes,
                direction: Some(if n % 2 == 0 {
                    Direction::Rx
                } else {
                    Direction::Tx
                }),
                comment: "",
            },
        );
    }
    interface(
        &mut out,
        &Interface {
            name: "minikube/drop",
            ..Interface::default()
        },
    );
    packet(
        &mut out,
        &Packet {
            interface: 1,
            at: 1_700_000_001_000_000_000,
            len: 98,
            bytes: &frames()[0][..61],
            direction: None,
            comment: "dropped: no-route",
        },
    );
    let counts = Statistics {
        start: 1_700_000_000_000_000_000,
        end: 1_700_000_002_000_000_000,
        received: 20,
        accepted: 9,
        lost: 1,
    };
    statistics(&mut out, 0, &counts);
    out
}

#[test]
fn a_library_reads_every_block_as_it_was_meant() {
    let file = file();
    let mut rest = &file[..];
    let mut packets = Vec::new();
    let mut interfaces = Vec::new();
    let mut kinds = String::new();
    while !rest.is_empty() {
        let (after, block) = parse_block_le(rest).expect("a whole block");
        rest = after;
        match block {
            Block::SectionHeader(header) => {
                kinds.push('S');
                assert_eq!((header.major_version, header.section_len), (1, -1));
                assert_eq!(header.options[0].as_bytes().unwrap(), b"podwire");
            }
            Block::InterfaceDescription(description) => {
                kinds.push('I');
                assert_eq!((description.linktype.0, description.if_tsresol), (1, 9));
                interfaces.push(description.options[0].as_bytes().unwrap().to_vec());
            }
            Block::NameResolution(names) => {
                kinds.push('N');
                let pairs: Vec<&[u8]> = names.nr.iter().map(|nr| nr.record_value).collect();
                let expected = [&b"\x0a\xf4\x00\x02pod-a\0"[..], b"\x0a\xf4\x01\x03pod-b\0"];
                // The library leaves the padding on.
                assert!(pairs[0].starts_with(expected[0]) && pairs[1].starts_with(expected[1]));
            }
            Block::EnhancedPacket(packet) => {
                kinds.push('P');
                let at = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let data = packet.data[..usize::try_from(packet.caplen).unwrap()].to_vec();
                let options: Vec<_> = packet
                    .options
                    .iter()
                    .map(|o| (o.code.0, o.as_bytes().unwrap().to_vec()))
                    .collect();
                packets.push((packet.if_id, at, packet.origlen, data, options));
            }
            Block::InterfaceStatistics(counts) => {
                kinds.push('C');
                assert_eq!(counts.if_id, 0);
                assert_eq!(counts.isb_ifrecv().unwrap().unwrap(), 20);
                assert_eq!(counts.isb_ifdrop().unwrap().unwrap(), 1);
                assert_eq!(counts.isb_filteraccept().unwrap().unwrap(), 9);
                let end = counts.isb_endtime().unwrap().unwrap();
                assert_eq!(
                    u64::from(end.0) << 32 | u64::from(end.1),
                    1_700_000_002_000_000_000
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kinds, "SINPPPPPPPPIPC");
    assert_eq!(
        interfaces,
        [b"minikube/eth0".to_vec(), b"minikube/drop".to_vec()]
    );
    for (n, (frame, packet)) in frames().iter().zip(&packets).enumerate() {
        let n = n as u64;
        let flags = if n.is_multiple_of(2) { 1_u32 } else { 2 };
        let options = vec![(2, flags.to_le_bytes().to_vec()), (0, Vec::new())];
        let len = u32::try_from(frame.len()).unwrap();
        let expected = (
            0,
            1_700_000_000_123_456_789 + n,
            len,
            frame.clone(),
            options,
        );
        assert_eq!(*packet, expected, "packet {n}");
    }
    let (of, _, len, bytes, options) = packets.last().unwrap();
    assert_eq!((*of, *len, bytes.len()), (1, 98, 61));
    assert_eq!(options[0], (1, b"dropped: no-route".to_vec()));
}

/// What a program prints for the file on its standard input; none, and SKIPPED, where it is not installed.
fn ask(program: &str, args: &[&str], input: &[u8]) -> Option<String> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        assert!(
            std::env::var_os("PODWIRE_REQUIRE_ALL").is_none_or(|v| v != "1"),
            "PODWIRE_REQUIRE_ALL=1 and {program} is not installed"
        );
        let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end before it has read all.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn tshark_shows_interfaces_directions_comments_and_names() {
    let fields = [
        "-r",
        "-",
        "-N",
        "n",
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
        "-e",
        "frame.packet_flags_direction",
        "-e",
        "frame.comment",
        "-e",
        "ip.src_host",
    ];
    let Some(text) = ask("tshark", &fields, &file()) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 9, "{text}");
    assert!(
        lines[0].starts_with("minikube/eth0\t0x00000001\t\tpod-a"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("minikube/eth0\t0x00000002\t\tpod-a"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("minikube/eth0\t0x00000001\t\tpod-b"),
        "{text}"
    );
    assert!(
        lines[8].starts_with("minikube/drop\t\tdropped: no-route\tpod-a"),
        "{text}"
    );
}

#[test]
fn tcpdump_finds_the_same_packets_with_the_same_expressions() {
    let expressions = [
        "",
        "ip",
        "arp",
        "icmp",
        "tcp",
        "udp",
        "ip6",
        "ip proto 4",
        "host 10.244.0.2",
        "src host 10.244.0.2",
        "dst 10.244.0.2",
        "ip host 10.244.1.3",
        "arp host 10.244.1.3",
        "arp src host 10.244.1.3",
        "net 10.244.1.0/24",
        "dst net 172.18",
        "net 172.18.0.0 mask 255.255.0.0",
        "src net 0.0.0.0/0",
        "port 53",
        "udp port 53",
        "tcp port 53",
        "dst port domain",
        "src port 53 or dst port 80",
        "port 80 or 53",
        "portrange 79-81",
        "ether src 02:00:00:00:00:0b",
        "ether host 02:00:00:00:00:0a",
        "ether broadcast",
        "multicast",
        "less 60",
        "greater 1000",
        "not ip",
        "! ip && !arp",
        "icmp or tcp and host 172.18.0.1",
        "icmp or (tcp and host 172.18.0.1)",
        "tcp and host 172.18.0.1 or icmp",
        "not (icmp or tcp) and ip",
        "not icmp and tcp",
        "host 10.244.0.2 and not port 53",
        "src host 10.244.1.3 or 172.18.0.1",
        "ip proto \\udp",
        "sctp or icmp",
        "udp src portrange 1-100",
    ];
    let mut file = Vec::new();
    section(&mut file, "");
    interface(&mut file, &Interface::default());
    let frames = frames();
    for (n, bytes) in (0..).zip(&frames) {
        packet(
            &mut file,
            &Packet {
                interface: 0,
                at: n * 1_000_000_000,
                len: u32::try_from(bytes.len()).unwrap(),
                bytes,
                direction: None,
                comment: "",
            },
        );
    }
    for expression in expressions {
        let args = ["-r", "-", "-n", "-tt", "-q", expression];
        let Some(text) = ask("tcpdump", &args, &file) else {
            return;
        };
        let theirs: Vec<usize> = text
            .lines()
            .filter_map(|line| line.split_once('.')?.0.parse().ok())
            .collect();
        let filter = Filter::parse(expression).unwrap_or_else(|error| panic!("{error}"));
        let found = frames
            .iter()
            .enumerate()
            .filter(|(_, f)| filter.matches(f, f.len()));
        let ours: Vec<usize> = found.map(|(n, _)| n).collect();
        assert_eq!(ours, theirs, "{expression}");
    }
}
