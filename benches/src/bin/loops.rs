//! `loops NAME ROUNDS` takes 256 frames through a router ROUNDS times, and does nothing else: for counting instructions
//! (`scripts/instructions`), which the time that a busy machine takes says nothing about. `loops` alone lists the names.

use core::net::Ipv4Addr;

use benches::crowd::Crowd;
use benches::flight::Flight;
use benches::{Node, arp_request, udp_frame};
use router_core::testing::crowd::Session;

const IN_FLIGHT: u32 = 256;
const NAMES: [&str; 8] = [
    "round",
    "forward",
    "forward-1000-neighbours",
    "masquerade",
    "requests",
    "replies",
    "arp",
    "no-route",
];

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        [] => {
            println!("{}", NAMES.join("\n"));
            Ok(())
        }
        [name, rounds] => {
            let rounds = rounds.parse().map_err(|e| format!("{rounds}: {e}"))?;
            let mut pass = scenario(name).ok_or_else(|| format!("no loop {name}"))?;
            for _ in 0..rounds {
                std::hint::black_box(pass());
            }
            Ok(())
        }
        _ => Err("usage: loops [NAME ROUNDS]".into()),
    }
}

/// A loop's one round, which gives the number of frames that were sent. `round` only moves handles; the others copy each
/// frame into the pool. `masquerade` has no UDP checksums and one port on either side, `requests` and `replies` have
/// checksums and the twenty ports of a crowd's clients on one side.
fn scenario(name: &str) -> Option<Box<dyn FnMut() -> usize>> {
    if name == "round" {
        let mut flight = Flight::cluster(IN_FLIGHT as usize, 60);
        return Some(Box::new(move || flight.pass()));
    }
    if matches!(name, "requests" | "replies") {
        let mut crowd = Crowd::new(IN_FLIGHT);
        crowd.grow(IN_FLIGHT);
        let all = (0..IN_FLIGHT).map(Session);
        let frames: Vec<_> = match name {
            "requests" => all.map(|session| crowd.request(session)).collect(),
            _ => all.map(|session| crowd.reply(session)).collect(),
        };
        return Some(Box::new(move || crowd.pass(&frames)));
    }
    let spread = |first: u32| {
        (0..IN_FLIGHT)
            .map(|i| udp_frame(Ipv4Addr::from(first + ((i * 19) << 8)), 64))
            .collect::<Vec<_>>()
    };
    let peers = spread(0x0a00_0007);
    let (mut node, frames) = match name {
        "forward" => (Node::new(1), peers),
        "forward-1000-neighbours" => (Node::new(1000), peers),
        "masquerade" => (Node::masquerading(1), peers),
        "arp" => (Node::new(1), vec![arp_request(); 256]),
        // Silence: what would be told of it is limited.
        "no-route" => (Node::new(1), spread(0xc612_0001)),
        _ => return None,
    };
    Some(Box::new(move || node.pass(&frames)))
}
