//! Many members on one segment.

use std::fs;

use super::*;

/// Members, unless `PODWIRE_CROWD` says how many; each takes some six descriptors.
const MEMBERS: u32 = 48;

/// Memory of this process that is in use, kB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().next());
    words.and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

/// Everybody knows everybody, a broadcast reaches all, and links cost something only where there is traffic.
#[test]
fn a_crowd_shares_a_segment_and_pays_for_the_links_it_uses() {
    let asked = std::env::var("PODWIRE_CROWD").ok();
    let members = asked.map_or(MEMBERS, |n| n.parse().expect("a number of members"));
    let count = usize::try_from(members).unwrap();
    let began = Wall::now();
    let (hub, _thread) = Hub::spawn().unwrap();
    let mut nodes: Vec<Node> = (1..=members).map(|id| Node::join(&hub, id)).collect();
    nodes.iter_mut().for_each(|node| node.knows(count - 1));
    let (joined, all_there) = (began.elapsed(), memory());
    nodes[0].send(Mac::BROADCAST, 7);
    for node in &mut nodes[1..] {
        assert_eq!(node.receive_count(1), [(1, 7)]);
    }
    // A ring of neighbours: each has two links, of as many as there are others.
    for n in 0..count {
        let next = (n + 1) % count;
        let to = nodes[next].id();
        nodes[n].send(mac(to), 9);
        // The hub makes the link while the sender listens to it.
        let linked = nodes[n].until(|port, _| port.is_linked(MemberId(to)));
        assert!(linked.iter().all(|&(_, number)| number == 9));
    }
    for (n, node) in nodes.iter_mut().enumerate() {
        let links = |port: &FabricPort| {
            (1..=members)
                .filter(|&id| port.is_linked(MemberId(id)))
                .count()
        };
        node.until(|port, _| links(port) == 2);
        assert_eq!(node.port.fabric_counters().links_made, 2, "member {n}");
    }
    eprintln!(
        "{members} members: {} ms until all know each other, {all_there} kB; {} kB with two links each",
        joined.as_millis(),
        memory()
    );
}
