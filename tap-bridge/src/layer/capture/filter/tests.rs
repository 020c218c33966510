//! Filters against frames of every kind that they tell apart.

use std::net::Ipv4Addr;

use router_core::Mac;
use router_core::testing::packet::{arp_request, echo_request, eth, fragments, ipv4, tcp, udp};

use super::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
const C: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 1);
const MA: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const MB: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

/// One frame of each kind, by the letter that the table below uses.
fn frames() -> Vec<(char, Vec<u8>)> {
    let datagram = eth(MB, MA) / ipv4(A, B) / udp(5000, 53) / &[7; 2000];
    let mut pieces = fragments(&datagram, 1500).into_iter();
    let mut ip6 = vec![0; 14 + 40 + 8];
    ip6[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    ip6[6..12].copy_from_slice(&MA.0);
    ip6[12..14].copy_from_slice(&[0x86, 0xdd]);
    ip6[14] = 0x60;
    ip6[14 + 6] = 17;
    ip6[14 + 42..14 + 44].copy_from_slice(&[0x14, 0xe9]);
    vec![
        (
            'i',
            (eth(MB, MA) / ipv4(A, B) / echo_request(1, 1) / &[0; 56]).bytes(),
        ),
        ('t', (eth(MB, MA) / ipv4(A, C) / tcp(40000, 80, 2)).bytes()),
        (
            'u',
            (eth(MA, MB) / ipv4(B, A) / udp(53, 40000) / b"x").bytes(),
        ),
        (
            'o',
            (eth(MA, MB) / ipv4(B, A).options(&[1; 4]) / udp(9, 53) / b"x").bytes(),
        ),
        ('f', pieces.next().unwrap().bytes()),
        ('g', pieces.next().unwrap().bytes()),
        (
            'a',
            (eth(Mac::BROADCAST, MA) / arp_request(MA, A, B)).bytes(),
        ),
        (
            'p',
            (eth(MB, MA) / ipv4(C, B) / ipv4(A, B) / udp(1, 53) / b"x").bytes(),
        ),
        ('6', ip6),
        ('s', vec![1, 2, 3]),
    ]
}

fn found(expression: &str) -> String {
    let filter = Filter::parse(expression).unwrap_or_else(|error| panic!("{error}"));
    let frames = frames();
    let found = frames.iter().filter(|(_, f)| filter.matches(f, f.len()));
    found.map(|(letter, _)| *letter).collect()
}

/// Expressions, and the letters of the frames that they let through. `tests/pcapng.rs` asks tcpdump the same.
const TABLE: &[(&str, &str)] = &[
    ("", "ituofgap6s"),
    ("ip", "ituofgp"),
    ("arp", "a"),
    ("ip6", "6"),
    ("icmp", "i"),
    ("tcp", "t"),
    ("udp", "uofg6"),
    ("ip proto 4", "p"),
    ("ip proto \\udp", "uofg"),
    ("host 10.244.0.2", "ituofga"),
    ("10.244.0.2", "ituofga"),
    ("src host 10.244.0.2", "itfga"),
    ("src 10.244.0.2", "itfga"),
    ("dst 10.244.0.2", "uo"),
    ("ip host 10.244.1.3", "iuofgp"),
    ("arp host 10.244.1.3", "a"),
    ("arp src host 10.244.1.3", ""),
    ("net 10.244.1.0/24", "iuofgap"),
    ("dst net 172.18", "t"),
    ("net 172.18.0.0 mask 255.255.0.0", "tp"),
    ("src net 0.0.0.0/0", "ituofgap"),
    ("port 53", "uof"),
    ("udp port 53", "uof"),
    ("tcp port 53", ""),
    ("dst port domain", "of"),
    ("src port 53 or dst port 80", "tu"),
    ("port 80 or 53", "tuof"),
    ("portrange 79-81", "t"),
    ("port 5353", "6"),
    ("ether src 02:00:00:00:00:0b", "uo"),
    ("ether host 02:00:00:00:00:0a", "ituofgap6"),
    ("ether broadcast", "a"),
    ("multicast", "a6s"),
    ("less 60", "tuoas"),
    ("greater 1000", "f"),
    ("not ip", "a6s"),
    ("! ip && !arp", "6s"),
    ("icmp or tcp and host 172.18.0.1", "t"),
    ("icmp or (tcp and host 172.18.0.1)", "it"),
    ("tcp and host 172.18.0.1 or icmp", "it"),
    ("not (icmp or tcp) and ip", "uofgp"),
    ("host 10.244.0.2 and not port 53", "itga"),
];

#[test]
fn every_expression_finds_its_frames() {
    for (expression, expected) in TABLE {
        assert_eq!(found(expression), *expected, "{expression}");
    }
}

#[test]
fn what_cannot_be_understood_is_named_with_its_place() {
    let cases = [
        ("tcp and", 7, "a test is missing here"),
        ("and tcp", 0, "a test is missing before this"),
        ("tcp udp", 4, "\"and\" or \"or\" is missing before \"udp\""),
        ("(tcp or udp", 11, "a parenthesis is not closed"),
        ("tcp)", 3, "no parenthesis is open here"),
        ("host web", 5, "\"web\" is not an IPv4 address"),
        ("host", 4, "an IPv4 address is missing here"),
        ("port 65536", 5, "\"65536\" is not a port (0 to 65535)"),
        (
            "portrange 9-1",
            10,
            "\"9-1\" is not two ports, the lower one first (8000-8080)",
        ),
        (
            "net 10.244.0.1/24",
            4,
            "10.244.0.1/24 has bits set behind its prefix length",
        ),
        (
            "net 10.0.0.0 mask 255.0.255.0",
            18,
            "a mask has its ones in front",
        ),
        (
            "net 1.2.3.4.5",
            4,
            "\"1.2.3.4.5\" is not an IPv4 network (10.244.0.0/16, 10.244)",
        ),
        (
            "icmp port 5",
            5,
            "\"and\" or \"or\" is missing before \"port\"",
        ),
        ("ip port 5", 8, "only tcp, udp and sctp have ports"),
        (
            "tcp host 1.2.3.4",
            9,
            "addresses stand behind ip, arp or nothing",
        ),
        (
            "ether",
            5,
            "\"ether\" wants src, dst, host, broadcast or multicast behind it",
        ),
        (
            "ether src x",
            10,
            "\"x\" is not a MAC address (02:00:00:00:00:01)",
        ),
        ("less x", 5, "\"x\" is not a number of bytes"),
        (
            "ip proto 256",
            9,
            "\"256\" is not a protocol (icmp, ipip, 0 to 255)",
        ),
    ];
    for (expression, at, message) in cases {
        let error = Filter::parse(expression).unwrap_err();
        assert_eq!(
            (error.at, error.message.as_str()),
            (at, message),
            "{expression}"
        );
    }
    let error = Filter::parse("tcp and hots 1.2.3.4").unwrap_err();
    assert!(
        error
            .message
            .starts_with("\"hots\" is unknown; known are icmp,")
    );
    let text = error.to_string();
    assert!(
        text.ends_with("\n  tcp and hots 1.2.3.4\n          ^"),
        "{text}"
    );
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!("{}tcp{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
    let error = Filter::parse(&deep).unwrap_err();
    assert_eq!(error.message, "more than 64 levels");
    let not = "not ".repeat(MAX_DEPTH - 1) + "tcp";
    assert!(Filter::parse(&not).is_ok());
    assert!(Filter::parse(&format!("not {not}")).is_err());
    // As long as may be: both reading and asking must bear it.
    let long = format!("{}tcp", "ip or ".repeat((MAX_LEN - 3) / 6));
    let filter = Filter::parse(&long).unwrap();
    let (_, frame) = &frames()[8];
    assert!(!filter.matches(frame, frame.len()));
    assert!(Filter::parse(&"x".repeat(MAX_LEN + 1)).is_err());
}

proptest::proptest! {
    /// Neither an expression nor a frame of any bytes makes it panic.
    #[test]
    fn nothing_makes_it_panic(text in "[a-z0-9 ()!&|/.:-]{0,60}|\\PC{0,40}", frame: Vec<u8>) {
        match Filter::parse(&text) {
            Ok(filter) => {
                let _ = filter.matches(&frame, frame.len());
            }
            Err(error) => {
                let _ = error.to_string();
            }
        }
        for (expression, _) in TABLE {
            let _ = Filter::parse(expression).unwrap().matches(&frame, frame.len());
        }
    }
}
