//! `podwire capture`, its files read back with pcap-parser.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use pcap_parser::pcapng::{Block, parse_block_le};
use rustix::process::Signal;

use crate::harness::{Background, Lab, Need, World, eventually, find_tool, kill, runs_here};

const LIMIT: Duration = Duration::from_secs(20);

fn two_pods<'w>(world: &'w World, backend: &str) -> Lab<'w> {
    let lab = world.up(&["--preset", "kindnet", "--nodes", "2", "--backend", backend]);
    lab.run_pod("a", "minikube");
    lab.run_pod("b", "minikube-m02");
    lab
}

/// One packet of a file.
#[derive(Debug)]
struct Packet {
    interface: String,
    at: u64,
    direction: Option<u32>,
    comment: Option<String>,
    data: Vec<u8>,
    len: u32,
}

/// What a file holds.
#[derive(Debug, Default)]
struct Captured {
    packets: Vec<Packet>,
    descriptions: BTreeMap<String, String>,
    /// Received, accepted, lost.
    counts: BTreeMap<String, (u64, u64, u64)>,
    names: Vec<u8>,
}

impl Captured {
    /// Reads a file, which must be whole.
    fn read(path: &std::path::Path) -> Self {
        let file = fs::read(path).expect("the capture was written");
        let mut captured = Self::default();
        let mut interfaces = Vec::new();
        let mut rest = &file[..];
        while !rest.is_empty() {
            let (after, block) = parse_block_le(rest).expect("a whole block");
            rest = after;
            match block {
                Block::SectionHeader(_) => {}
                Block::InterfaceDescription(block) => {
                    let text = |code: u16| {
                        let option = block.options.iter().find(|o| o.code.0 == code)?;
                        Some(option.as_str().expect("text").to_owned())
                    };
                    let name = text(2).expect("a name");
                    if let Some(description) = text(3) {
                        captured.descriptions.insert(name.clone(), description);
                    }
                    assert_eq!(block.if_tsresol, 9);
                    interfaces.push(name);
                }
                Block::NameResolution(block) => {
                    for record in &block.nr {
                        captured.names.extend(record.record_value);
                    }
                }
                Block::EnhancedPacket(block) => {
                    let option = |code: u16| block.options.iter().find(|o| o.code.0 == code);
                    let caplen = usize::try_from(block.caplen).expect("short");
                    captured.packets.push(Packet {
                        interface: interfaces[block.if_id as usize].clone(),
                        at: u64::from(block.ts_high) << 32 | u64::from(block.ts_low),
                        direction: option(2).map(|o| o.as_u32_le().expect("flags")),
                        comment: option(1).map(|o| o.as_str().expect("text").to_owned()),
                        data: block.data[..caplen].to_vec(),
                        len: block.origlen,
                    });
                }
                Block::InterfaceStatistics(block) => {
                    let counts = (
                        block.isb_ifrecv().expect("counted").expect("a number"),
                        block
                            .isb_filteraccept()
                            .expect("counted")
                            .expect("a number"),
                        block.isb_ifdrop().expect("counted").expect("a number"),
                    );
                    let name = interfaces[block.if_id as usize].clone();
                    captured.counts.insert(name, counts);
                }
                other => panic!("{other:?}"),
            }
        }
        captured
    }

    /// Echo requests, by interface and direction, in order.
    fn way_of_requests(&self) -> Vec<(String, Option<u32>)> {
        let requests = self
            .packets
            .iter()
            .filter(|p| p.data[12..14] == [8, 0] && p.data[23] == 1 && p.data[34] == 8);
        requests
            .map(|p| (p.interface.clone(), p.direction))
            .collect()
    }
}

fn start(lab: &Lab<'_>, args: &[&str]) -> Background {
    let words: Vec<&str> = ["capture"].iter().chain(args).copied().collect();
    let mut capture = lab.spawn(&words);
    capture.wait_for_line("capturing ");
    capture
}

/// Ctrl-C; what it said.
fn stop(capture: Background) -> String {
    capture.signal(Signal::INT);
    let (status, said) = capture.finish(LIMIT);
    assert!(status.success(), "{status}: {said}");
    said
}

fn one_file_of_two_nodes(backend: &str) {
    let world = World::new();
    let lab = two_pods(&world, backend);
    let path = world.path("all.pcapng");
    let file = path.to_str().expect("plain");
    let capture = start(&lab, &["--all", "-w", file]);
    lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
    lab.cmd(&["ping", "a", "203.0.113.9", "-c", "1"])
        .fails(1, &[]);
    let said = stop(capture);
    assert!(said.contains("0 packets lost"), "{said}");

    let captured = Captured::read(&path);
    let way = captured.way_of_requests();
    let first = way[0].0.clone();
    let last = way[3].0.clone();
    assert_eq!(captured.descriptions[&first], "pod default/a");
    assert_eq!(captured.descriptions[&last], "pod default/b");
    let eth0 = |node: &str| format!("{node}/eth0");
    let (rx, tx) = (Some(1), Some(2));
    assert_eq!(
        way[..4],
        [
            (first, rx),
            (eth0("minikube"), tx),
            (eth0("minikube-m02"), rx),
            (last, tx)
        ]
    );
    let times: Vec<u64> = captured.packets.iter().map(|p| p.at).collect();
    assert!(times.is_sorted(), "{times:?}");
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_nanos();
    assert!(
        u128::from(times[0]).abs_diff(now) < 3600 * 1_000_000_000,
        "{times:?}"
    );
    let dropped = captured
        .packets
        .iter()
        .find(|p| p.interface == "gateway/drop" && p.data[23] == 1);
    let dropped = dropped.expect("nobody has that address");
    assert_eq!(dropped.direction, None);
    let comment = dropped.comment.as_deref().expect("the reason");
    assert!(comment.starts_with("dropped: no-route: "), "{comment}");
    for (interface, (received, accepted, lost)) in &captured.counts {
        let packets = captured
            .packets
            .iter()
            .filter(|p| p.interface == *interface)
            .count();
        assert_eq!(
            (*received, *accepted, *lost),
            (packets as u64, packets as u64, 0),
            "{interface}"
        );
    }
    let names = String::from_utf8_lossy(&captured.names);
    assert!(
        names.contains("a\0") && names.contains("minikube-m02\0"),
        "{names:?}"
    );
}

#[test]
fn a_capture_of_all_nodes_is_one_file_in_order_in_process() {
    one_file_of_two_nodes("inproc");
}

#[test]
fn a_capture_of_all_nodes_is_one_file_in_order_on_packet() {
    if runs_here(&[Need::Packet]) {
        one_file_of_two_nodes("packet");
    }
}

#[test]
fn a_capture_of_all_nodes_is_one_file_in_order_on_tap() {
    if runs_here(&[Need::Tap]) {
        one_file_of_two_nodes("tap");
    }
}

#[test]
fn a_filter_a_length_and_a_number_of_packets_are_obeyed() {
    let world = World::new();
    let lab = two_pods(&world, "inproc");
    let path = world.path("few.pcapng");
    let file = path.to_str().expect("plain");
    let args = [
        "a",
        "-w",
        file,
        "-f",
        "icmp and src host 10.244.1.2",
        "-s",
        "34",
        "-c",
        "2",
    ];
    let capture = start(&lab, &args);
    lab.cmd(&["ping", "a", "b", "-c", "3", "-i", "0.2"]).ok();
    let (status, said) = capture.finish(LIMIT);
    assert!(
        status.success() && said.contains("2 packets captured"),
        "{said}"
    );
    let captured = Captured::read(&path);
    let seen: Vec<_> = captured
        .packets
        .iter()
        .map(|p| (p.direction, p.data.len(), p.len))
        .collect();
    assert_eq!(seen, [(Some(2), 34, 98); 2]);
}

#[test]
fn without_a_file_every_packet_is_a_line() {
    let world = World::new();
    let lab = two_pods(&world, "inproc");
    let capture = start(&lab, &["minikube:eth0", "-f", "icmp", "-c", "2"]);
    lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
    let (_, said) = capture.finish(LIMIT);
    let request = "minikube/eth0 Out IP 10.244.0.3 > 10.244.1.2: ICMP echo request, id ";
    let reply = "minikube/eth0 In  IP 10.244.1.2 > 10.244.0.3: ICMP echo reply, id ";
    assert!(said.contains(request) && said.contains(reply), "{said}");
}

#[test]
fn a_node_that_is_killed_goes_on_capturing_when_it_is_back() {
    let world = World::new();
    let lab = two_pods(&world, "inproc");
    let path = world.path("killed.pcapng");
    let file = path.to_str().expect("plain");
    let capture = start(&lab, &["minikube", "-w", file, "-f", "icmp"]);
    lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
    kill(lab.node_pid("minikube"), Signal::KILL);
    eventually(LIMIT, "the node is back", || {
        let ping = lab.cmd(&["ping", "a", "b", "-c", "1", "-W", "0.5"]);
        ping.status.success().then_some(())
    });
    stop(capture);
    let captured = Captured::read(&path);
    let out = captured.way_of_requests();
    let out = out
        .iter()
        .filter(|(name, direction)| name == "minikube/eth0" && *direction == Some(2));
    assert!(out.count() >= 2, "{:?}", captured.packets);
}

/// The pipe's reader decides when it is enough, also while nothing is captured.
#[test]
fn a_reader_that_goes_away_ends_a_capture() {
    let world = World::new();
    let lab = two_pods(&world, "inproc");
    let mut command = world.command(&lab.words(&["capture", "--all", "-w", "-"]));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut out = child.stdout.take().expect("piped");
    // The beginning of the file comes before any packet.
    let mut beginning = [0; 4];
    std::io::Read::read_exact(&mut out, &mut beginning).expect("a section header");
    assert_eq!(beginning, [0x0a, 0x0d, 0x0d, 0x0a]);
    drop(out);
    eventually(LIMIT, "it ends", || {
        child.try_wait().expect("a child of ours")
    });
}

#[test]
fn tshark_reads_the_pipe_while_packets_come() {
    let Some(tshark) = find_tool("tshark") else {
        return crate::harness::skipped("tshark is not installed");
    };
    let world = World::new();
    let lab = two_pods(&world, "inproc");
    let mut command =
        world.command(&lab.words(&["capture", "--all", "-f", "icmp", "-w", "-", "-q"]));
    let mut capture = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let pipe = capture.stdout.take().expect("piped");
    let mut reader = std::process::Command::new(tshark);
    reader
        .args(["-n", "-l", "-r", "-", "-Y", "icmp", "-c", "4"])
        .stdin(pipe);
    let reader = Background::start(reader);
    eventually(LIMIT, "four packets came", || {
        lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
        capture.try_wait().expect("a child of ours")
    });
    let (_, said) = reader.finish(LIMIT);
    assert!(said.contains("Echo (ping) request"), "{said}");
}

#[test]
fn what_cannot_be_captured_is_said_clearly() {
    let world = World::new();
    let lab = two_pods(&world, "inproc");
    lab.cmd(&["capture", "aa"])
        .fails(1, &["pod \"aa\" not found"]);
    lab.cmd(&["capture", "minikube:eth9"])
        .fails(1, &["has no port \"eth9\"", "did you mean \"eth0\""]);
    lab.cmd(&["capture", "minikube:lo"])
        .fails(1, &["nothing passes \"lo\""]);
    lab.cmd(&["capture", "link/veth"])
        .fails(1, &["link \"veth\" not found"]);
    lab.cmd(&["capture"]).fails(2, &["<TARGET>"]);
    let text = "the filter: \"hots\" is unknown";
    lab.cmd(&["capture", "a", "-f", "tcp and hots"])
        .fails(2, &[text, "\n          ^"]);
    let dir = world.path("none").join("x.pcapng");
    lab.cmd(&["capture", "a", "-w", dir.to_str().expect("plain")])
        .fails(1, &["No such file"]);
}
