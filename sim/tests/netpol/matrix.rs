//! The matrix of cyclonus: 230 cases, 256 steps, 123,669 probes with what its own evaluator expects.
//!
//! It lies beside the project; where it doesn't the test is SKIPPED, and the excerpt in `data/` (see its README) is what is left.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;

use flate2::read::GzDecoder;
use router_core::DropReason;
use router_core::config::{PortConfig, RouteTarget, Snapshot};
use router_core::testing::{Harness, Packet, eth, ipv4, payload, tcp, udp};
use router_core::{Mac, PortId};
use serde_json::Value;

use crate::naive::{Pod, Probe, World, judge};
use crate::subject::Compiled;

/// Every this many steps the probes are frames through a router as well.
const FRAMES_EVERY: usize = 8;

/// What was counted.
#[derive(Default)]
struct Tally {
    steps: usize,
    probes: usize,
    to_itself: usize,
    frames: usize,
}

fn world(step: &Value) -> World {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let labels = |value: &Value| -> BTreeMap<String, String> {
        let pairs = value.as_object().unwrap().iter();
        pairs
            .map(|(key, value)| (key.clone(), text(value)))
            .collect()
    };
    let served = || {
        ["TCP", "UDP", "SCTP"].into_iter().flat_map(|protocol| {
            [80, 81].map(|port| {
                let name = format!("serve-{port}-{}", protocol.to_lowercase());
                (name, port, protocol.to_owned())
            })
        })
    };
    World {
        namespaces: step["Namespaces"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), labels(value)))
            .collect(),
        pods: step["Pods"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| Pod {
                ns: text(&pod["Ns"]),
                name: text(&pod["Name"]),
                ip: pod["IP"].as_str().unwrap().parse().unwrap(),
                labels: labels(&pod["Labels"]),
                ports: served().collect(),
            })
            .collect(),
        policies: step["Policies"].as_array().cloned().unwrap_or_default(),
    }
}

fn check(cases: &Value) -> Tally {
    let mut tally = Tally::default();
    for case in cases.as_array().unwrap() {
        for (number, step) in case["Steps"].as_array().unwrap().iter().enumerate() {
            let title = format!("{} step {number}", case["Description"]);
            check_step(&title, step, &mut tally);
        }
    }
    tally
}

fn check_step(title: &str, step: &Value, tally: &mut Tally) {
    let world = world(step);
    let compiled = Compiled::new(&world, 3);
    let mut node = tally
        .steps
        .is_multiple_of(FRAMES_EVERY)
        .then(|| Node::new(&world));
    tally.steps += 1;
    let place = |key: &Value| {
        let (ns, name) = key.as_str().unwrap().split_once('/').unwrap();
        let pods = world.pods.iter();
        pods.clone()
            .position(|pod| pod.ns == ns && pod.name == name)
            .unwrap_or_else(|| panic!("{title}: no pod {ns}/{name}"))
    };
    for job in step["Jobs"].as_array().unwrap() {
        tally.probes += 1;
        let probe = Probe {
            from: place(&job["From"]),
            to: place(&job["To"]),
            protocol: job["Protocol"].as_str().unwrap(),
            port: u16::try_from(job["Port"].as_u64().unwrap()).unwrap(),
        };
        if probe.from == probe.to {
            // Its evaluator judges these; in Kubernetes a pod always reaches itself (NP-14).
            tally.to_itself += 1;
            continue;
        }
        let flag = |key: &str| job[key].as_bool().unwrap();
        let expected = (flag("Ingress"), flag("Egress"));
        assert_eq!(judge(&world, probe), expected, "{title}: naive, {job}");
        assert_eq!(
            compiled.judge(&world, probe),
            expected,
            "{title}: compiled, {job}"
        );
        if let Some(node) = &mut node {
            tally.frames += 1;
            node.probe(title, &world, probe, expected);
        }
    }
}

/// All pods on one node, whose router gets frames.
struct Node {
    harness: Harness,
    next_port: u16,
}

fn router_mac(pod: usize) -> Mac {
    Mac([2, 0, 0, 0, 1, u8::try_from(pod).unwrap()])
}

fn pod_mac(pod: usize) -> Mac {
    Mac([2, 0, 0, 0, 2, u8::try_from(pod).unwrap()])
}

impl Node {
    fn new(world: &World) -> Self {
        let compiled = Compiled::new(world, 1);
        let mut snapshot = Snapshot {
            forwarding: true,
            policy: compiled.configs[0].clone(),
            ..Snapshot::default()
        };
        for (n, pod) in world.pods.iter().enumerate() {
            let port = compiled.port_of[n];
            let config = PortConfig::ethernet(port.0, "pod", router_mac(n), 1500);
            snapshot.ports.push(config);
            snapshot.routes.push(router_core::config::Route {
                dst: pod.ip.into(),
                metric: 0,
                src: None,
                target: RouteTarget::Unicast(vec![router_core::config::NextHop {
                    port,
                    via: None,
                    weight: 1,
                }]),
            });
            snapshot
                .neighbours
                .push(router_core::config::PermanentNeighbour {
                    port,
                    ip: pod.ip,
                    mac: pod_mac(n),
                });
        }
        Self {
            harness: Harness::new(snapshot),
            next_port: 1024,
        }
    }

    fn probe(&mut self, title: &str, world: &World, probe: Probe<'_>, expected: (bool, bool)) {
        // A port of its own makes it a new connection.
        self.next_port += 1;
        let packet = |ttl: u8, dst: Mac, src: Mac| -> Packet {
            let ip = ipv4(world.pods[probe.from].ip, world.pods[probe.to].ip).ttl(ttl);
            let head = eth(dst, src);
            match probe.protocol {
                "TCP" => head / ip / tcp(self.next_port, probe.port, 2),
                "UDP" => head / ip / udp(self.next_port, probe.port),
                _ => head / ip.protocol(132) / payload(sctp_init(self.next_port, probe.port)),
            }
        };
        let port = |pod: usize| PortId(u16::try_from(pod + 1).unwrap());
        let harness = &mut self.harness;
        let before = harness.router().stats().clone();
        harness.rx(
            port(probe.from),
            &packet(64, router_mac(probe.from), pod_mac(probe.from)),
        );
        if expected == (true, true) {
            harness.expect_tx(
                port(probe.to),
                &packet(63, pod_mac(probe.to), router_mac(probe.to)),
            );
        } else {
            harness.expect_silence();
            let reason = if expected.1 {
                DropReason::PolicyIngress
            } else {
                DropReason::PolicyEgress
            };
            let drops = |stats: &router_core::Stats| stats.drops.get(reason);
            assert_eq!(
                drops(harness.router().stats()),
                drops(&before) + 1,
                "{title}: {probe:?} {reason}"
            );
        }
    }
}

/// SCTP INIT with a valid CRC-32C (RFC 9260 3.3.2 and appendix A).
fn sctp_init(src: u16, dst: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(src.to_be_bytes());
    packet.extend(dst.to_be_bytes());
    packet.extend([0; 8]);
    // INIT: tag 1, window 65536, 1 stream each way, TSN 1.
    packet.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let crc = packet.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            }
        })
    });
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet
}

/// NP-1, NP-2, NP-3, NP-5, NP-6, NP-7, NP-9, NP-24: every probe of the matrix, through the compiled matcher, a naive evaluator and,
/// every eighth step, a router with frames; no disagreement but the probes of a pod to itself.
#[test]
fn the_whole_matrix_is_judged_as_its_author_does() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/netpol-matrix.json.gz");
    if !path.is_file() {
        let reason = format!("{} is not here", path.display());
        // The data is not the project's: its absence is no failure of this machine.
        let _ = writeln!(std::io::stderr(), "SKIPPED the_whole_matrix: {reason}");
        return;
    }
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).expect("the file was found"))
        .read_to_string(&mut text)
        .expect("valid gzip");
    let tally = check(&serde_json::from_str(&text).expect("valid JSON"));
    assert_eq!((tally.steps, tally.probes), (256, 123_669));
    assert_eq!(tally.to_itself, 13_713);
    assert!(tally.frames > 10_000, "{} frames", tally.frames);
}

/// NP-1, NP-3, NP-5, NP-6, NP-7: the excerpt of the matrix that is part of the project.
#[test]
fn the_excerpt_of_the_matrix_is_judged_as_its_author_does() {
    let cases = serde_json::from_str(include_str!("data/matrix-excerpt.json")).expect("valid JSON");
    let tally = check(&cases);
    assert!(tally.probes > 1_000 && tally.frames > 200);
}
