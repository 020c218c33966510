//! `loops NAME ROUNDS` takes 256 frames through a router ROUNDS times, and does nothing else: for counting instructions
//! (`scripts/instructions`), which the time that a busy machine takes says nothing about. `loops` alone lists the names.

use core::net::Ipv4Addr;

use benches::{Node, arp_request, udp_frame};

const IN_FLIGHT: u32 = 256;
const NAMES: [&str; 5] = [
    "forward",
    "forward-1000-neighbours",
    "masquerade",
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
            let (mut node, frames) = scenario(name).ok_or_else(|| format!("no loop {name}"))?;
            for _ in 0..rounds {
                std::hint::black_box(node.pass(&frames));
            }
            Ok(())
        }
        _ => Err("usage: loops [NAME ROUNDS]".into()),
    }
}

fn scenario(name: &str) -> Option<(Node, Vec<Vec<u8>>)> {
    let spread = |first: u32| {
        (0..IN_FLIGHT)
            .map(|i| udp_frame(Ipv4Addr::from(first + ((i * 19) << 8)), 64))
            .collect::<Vec<_>>()
    };
    let peers = spread(0x0a00_0007);
    Some(match name {
        "forward" => (Node::new(1), peers),
        "forward-1000-neighbours" => (Node::new(1000), peers),
        "masquerade" => (Node::masquerading(1), peers),
        "arp" => (Node::new(1), vec![arp_request(); 256]),
        // Silence: what would be told of it is limited.
        "no-route" => (Node::new(1), spread(0xc612_0001)),
        _ => return None,
    })
}
