//! The tunnel's bytes beside those of an encoder that knows nothing of us: scapy. Where it is missing the test says
//! SKIPPED, and fails with `PODWIRE_REQUIRE_ALL=1`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use router_core::testing::calico::*;
use router_core::testing::topology::{POD1, UPLINK};
use router_core::testing::*;

/// Debian's: the one that has python3-scapy.
const PYTHON: &str = "/usr/bin/python3";

/// Prints, for each line of `tos df ttl id length` on its input, an inner packet as n3 sends it, the frame that K3 must send
/// to K2 (identification 0 as it is K3's to choose), the same inner packet in the tunnel from K2 to K3 with its outer TOS,
/// and what n3 must get of it, or `drop`: hexadecimal, by spaces.
const ENCODER: &str = r#"
import sys
from scapy.all import Ether, IP, UDP, Raw, raw
K2, K3, N2, N3 = "172.16.30.7", "172.16.30.8", "10.244.205.193", "10.244.151.1"
k2, k3, n3, cali = "02:00:00:00:00:07", "02:00:00:00:00:08", "02:00:00:00:02:01", "ee:ee:ee:ee:ee:ee"
for line in sys.stdin:
    tos, outer_tos, df, ttl, ident, length = map(int, line.split())
    flags = "DF" if df else 0
    payload = UDP(sport=1000, dport=53) / Raw(bytes(i % 256 for i in range(length)))
    inner = lambda src, dst, t, hop: IP(src=src, dst=dst, tos=t, ttl=hop, id=ident, flags=flags) / payload
    sent = Ether(dst=cali, src=n3) / inner(N3, N2, tos, ttl)
    ecn = {3: 2}.get(tos & 3, tos & 3)
    tunnelled = Ether(dst=k2, src=k3) / IP(src=K3, dst=K2, tos=ecn, ttl=ttl - 1, id=0, flags=flags) / inner(N3, N2, tos, ttl - 1)
    arriving = Ether(dst=k3, src=k2) / IP(src=K2, dst=K3, tos=outer_tos, ttl=ttl, id=ident, flags=flags) / inner(N2, N3, tos, ttl)
    if outer_tos & 3 == 3:
        joined = None if tos & 3 == 0 else tos | 3
    else:
        joined = tos
    got = "drop" if joined is None else raw(Ether(dst=n3, src=cali) / inner(N2, N3, joined, ttl - 1)).hex()
    print(raw(sent).hex(), raw(tunnelled).hex(), raw(arriving).hex(), got)
"#;

/// What scapy makes of these lines; none where it is not there.
fn encode(lines: &str) -> Option<Vec<Vec<String>>> {
    let mut child = Command::new(PYTHON)
        .args(["-c", ENCODER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child
        .stdin
        .take()
        .expect("it was asked for")
        .write_all(lines.as_bytes())
        .ok()?;
    let output = child.wait_with_output().expect("it ends with its input");
    let text = String::from_utf8(output.stdout).expect("hexadecimal");
    output.status.success().then(|| {
        text.lines()
            .map(|line| line.split(' ').map(str::to_owned).collect())
            .collect()
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// IPIP-1 to IPIP-4, IPIP-6 to IPIP-8, ECN-1 to ECN-5, FWD-65: every mark inside and outside, with DF and without.
#[test]
fn scapy_makes_the_same_tunnel_packets() {
    let mut lines = String::new();
    for tos in [0, 1, 2, 3, 0xb8, 0xba, 0x2f] {
        for outer in [0, 1, 2, 3, 0xbb] {
            for df in [0, 1] {
                for (ttl, length) in [(64, 56), (2, 0), (255, 1452)] {
                    lines.push_str(&format!("{tos} {outer} {df} {ttl} 4660 {length}\n"));
                }
            }
        }
    }
    let Some(packets) = encode(&lines) else {
        assert!(
            std::env::var_os("PODWIRE_REQUIRE_ALL").is_none_or(|v| v != "1"),
            "PODWIRE_REQUIRE_ALL=1, and {PYTHON} has no scapy"
        );
        let _ = writeln!(std::io::stderr(), "SKIPPED scapy: {PYTHON} has none");
        return;
    };
    assert_eq!(packets.len(), lines.lines().count());
    let mut h = Harness::new(node_k3());
    for (line, packet) in lines.lines().zip(packets) {
        let [sent, tunnelled, arriving, got] = &packet[..] else {
            panic!("four words: {packet:?}");
        };
        h.rx_bytes(&[(POD1, bytes(sent))]);
        let mut out = h.take(UPLINK);
        // The identification is the router's choice: 0, and the checksum without it.
        let sum = u16::from_be_bytes([out[24], out[25]]);
        let ident = u16::from_be_bytes([out[18], out[19]]);
        let (wide, carry) = sum.overflowing_add(ident);
        out[24..26].copy_from_slice(&(wide + u16::from(carry)).to_be_bytes());
        out[18..20].fill(0);
        assert_eq!(out, bytes(tunnelled), "into the tunnel: {line}");
        h.rx_bytes(&[(UPLINK, bytes(arriving))]);
        match got.as_str() {
            "drop" => h.expect_silence(),
            got => assert_eq!(h.take(POD1), bytes(got), "out of the tunnel: {line}"),
        }
    }
    h.expect_silence();
}
