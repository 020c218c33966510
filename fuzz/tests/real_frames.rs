//! Frames of real networks, many of them crash reproducers of other programs, through the parsers and the router.
//!
//! They lie beside the project and not in it; where they don't the test is SKIPPED.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use fuzz::bench::Bench;
use fuzz::targets::parse_frame;
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, traits::PcapReaderIterator as _};
use router_core::PortId;

/// A kindnet node, a Calico node, another with a tunnel that is too wide and that collects fragments, one with NAT, pods on a hairpin bridge, and a kindnet node with policies, as [`fuzz::node`] makes them.
const NODES: [[u8; 3]; 6] = [
    [0, 0b1100_0000, 0],
    [0x21, 0b1100_0000, 0],
    [0x51, 0b1100_0001, 8],
    [0x80, 0b1100_0000, 8],
    [6, 0b1100_0000, 8],
    [8, 0b1100_0000, 0x68],
];

/// The packets of a gzipped pcap file.
fn packets(path: &Path) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(path).expect("the file was found"))
        .read_to_end(&mut bytes)
        .expect("valid gzip");
    let mut reader = LegacyPcapReader::new(1 << 16, bytes.as_slice()).expect("a pcap header");
    let mut packets = Vec::new();
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                if let PcapBlockOwned::Legacy(packet) = block {
                    packets.push(packet.data.to_vec());
                }
                reader.consume(offset);
            }
            Err(PcapError::Eof) => return packets,
            Err(PcapError::Incomplete(_)) => reader.refill().expect("more of the file"),
            Err(error) => panic!("{}: {error:?}", path.display()),
        }
    }
}

fn frames(name: &str) -> Option<Vec<Vec<u8>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/frames")
        .join(name);
    if path.is_file() {
        return Some(packets(&path));
    }
    let reason = format!("{} is not here", path.display());
    // The data is not the project's: its absence is no failure of this machine.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
    None
}

#[test]
fn real_ethernet_frames_are_conserved() {
    let Some(frames) = frames("ethernet.pcap.gz") else {
        return;
    };
    assert!(frames.len() > 20_000);
    let mut benches = NODES.map(Bench::plain);
    for (i, frame) in frames.iter().enumerate() {
        parse_frame::run(frame);
        let port = PortId(u16::try_from(i % 5).expect("below 5"));
        for bench in &mut benches {
            bench.receive(port, frame);
            // And as if it had been sent to us, with a header that verifies.
            bench.receive_repaired(port, frame);
            if i % 64 == 0 {
                bench.advance(Duration::from_millis(700));
            }
        }
    }
}

#[test]
fn real_ip_packets_are_conserved() {
    let Some(packets) = frames("rawip.pcap.gz") else {
        return;
    };
    let mut benches = NODES.map(Bench::plain);
    for packet in packets {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend(&packet);
        parse_frame::run(&frame);
        for bench in &mut benches {
            bench.receive(PortId(1), &frame);
            bench.receive_repaired(PortId(0), &frame);
            bench.advance(Duration::from_millis(50));
        }
    }
}
