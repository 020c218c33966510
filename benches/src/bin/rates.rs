//! `rates [-n TURNS] NAME..` measures loops of the router turn by turn, in CPU time of this thread, and prints the median
//! of each and its ratio to the first: on a busy machine only ratios of the same run say something. `rates` alone lists the
//! names.
//!
//! The loops of routers take batches of 256 frames of 60 or 64 bytes through one, copies into and out of the pool included;
//! those of tables look up keys that are there, 64 at a time where the table can.

use std::hint::black_box;
use std::time::Duration;

use benches::crowd::Crowd;
use benches::routes::{Mix, Table};
use benches::{Node, Random, cpu_time, udp_frame};
use core::net::Ipv4Addr;
use hashbrown::HashMap;
use router_core::arch::Kernel;
use router_core::table::flow::{FlowKey, FlowTable};
use router_core::table::lpm4::Lpm4;
use router_core::testing::crowd::Session;

const IN_FLIGHT: usize = 256;
/// Frames of one measurement of a crowd: so many that they are of two thirds of a million sessions.
const DRAWN: usize = 1 << 20;
/// CPU time of one turn.
const TURN: Duration = Duration::from_millis(120);

type Loop = Box<dyn FnMut() -> usize>;
type Maker = fn() -> Loop;

const NAMES: [(&str, Maker); 17] = [
    ("forward", || node(Node::new(1))),
    ("forward-1000-neighbours", || node(Node::new(1000))),
    ("masquerade", || node(Node::masquerading(1))),
    ("plain-1k", || crowd(Crowd::plain(), 1000, false)),
    ("plain-1M", || crowd(Crowd::plain(), 1_000_000, false)),
    ("requests-1k", || crowd(opened(1000), 1000, false)),
    ("replies-1k", || crowd(opened(1000), 1000, true)),
    ("requests-1M", || crowd(opened(1_000_000), 1_000_000, false)),
    ("replies-1M", || crowd(opened(1_000_000), 1_000_000, true)),
    ("flows-1M", || flows(1_000_000)),
    ("flows-10M", || flows(10_000_000)),
    ("hashbrown-1M", || hashbrown(1_000_000)),
    ("hashbrown-10M", || hashbrown(10_000_000)),
    ("routes-cluster", || routes(Table::Cluster, Kernel::best())),
    ("routes-cluster-portable", || {
        routes(Table::Cluster, Kernel::PORTABLE)
    }),
    ("routes-internet", || {
        routes(Table::Internet, Kernel::best())
    }),
    ("routes-internet-portable", || {
        routes(Table::Internet, Kernel::PORTABLE)
    }),
];

fn main() -> Result<(), String> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut turns = 5;
    if let Some(at) = words.iter().position(|w| w == "-n") {
        let n: Vec<String> = words.splice(at..(at + 2).min(words.len()), []).collect();
        turns = n
            .get(1)
            .and_then(|n| n.parse().ok())
            .ok_or("usage: rates [-n TURNS] NAME..")?;
    }
    if words.is_empty() {
        NAMES.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let mut loops = Vec::new();
    for word in words {
        let (name, make) = NAMES
            .iter()
            .find(|(name, _)| *name == word)
            .ok_or_else(|| format!("no loop {word}"))?;
        loops.push((*name, make(), Vec::new()));
    }
    for _ in 0..turns {
        for (_, run, times) in &mut loops {
            times.push(measure(run));
        }
    }
    let mut first = None;
    for (name, _, mut times) in loops {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let first = *first.get_or_insert(median);
        println!(
            "{name:24} {median:7.1} ns/packet   {:5.2} Mpps   rate to the first {:.2}",
            1e3 / median,
            first / median
        );
    }
    Ok(())
}

/// Nanoseconds per packet.
fn measure(run: &mut Loop) -> f64 {
    run();
    let begin = cpu_time();
    let mut packets = 0;
    loop {
        packets += run();
        let spent = cpu_time().saturating_sub(begin);
        if spent >= TURN {
            return spent.as_secs_f64() * 1e9 / packets as f64;
        }
    }
}

fn node(mut node: Node) -> Loop {
    let frames: Vec<Vec<u8>> = (0..256_u32)
        .map(|i| udp_frame(Ipv4Addr::from(0x0a00_0007 + ((i * 19) << 8)), 64))
        .collect();
    Box::new(move || (0..64).map(|_| node.pass(&frames)).sum())
}

/// Addresses that prefixes cover, each as often as any other.
fn routes(table: Table, kernel: Kernel) -> Loop {
    let routes = table.routes().expect("the table is there");
    let asked = Mix::Cov.destinations(&routes, 1 << 20);
    let lpm = Lpm4::from_routes(routes).expect("they fit");
    let mut hops = [0; 64];
    Box::new(move || {
        for addresses in asked.chunks(64) {
            lpm.lookup_batch_by(kernel, addresses, &mut hops);
            black_box(&hops);
        }
        asked.len()
    })
}

/// So many keys, and some of them in no order.
fn keys(count: usize) -> (Vec<FlowKey>, Vec<FlowKey>) {
    let mut random = Random(1);
    let mut word = || u64::from(random.next_u32()) << 32 | u64::from(random.next_u32());
    let there: Vec<_> = (0..count).map(|_| FlowKey([word(), word()])).collect();
    let mut random = Random(3);
    let asked = (0..1 << 20)
        .map(|_| there[random.next_u32() as usize % count])
        .collect();
    (there, asked)
}

fn flows(count: usize) -> Loop {
    let (there, asked) = keys(count);
    let mut table = FlowTable::new(count, 1);
    for (n, key) in (0..).zip(&there) {
        table.insert(*key, n).expect("within the capacity");
    }
    let mut values = [None; 64];
    Box::new(move || {
        let mut found = 0;
        for keys in asked.chunks(64) {
            table.get_batch(keys, &mut values);
            found += values.iter().flatten().count();
        }
        assert_eq!(found, asked.len());
        found
    })
}

fn hashbrown(count: usize) -> Loop {
    let (there, asked) = keys(count);
    let table: HashMap<FlowKey, u32> = there.iter().copied().zip(0..).collect();
    Box::new(move || {
        let found = asked.iter().filter(|key| table.contains_key(*key)).count();
        assert_eq!(found, asked.len());
        found
    })
}

fn opened(sessions: u32) -> Crowd {
    let mut crowd = Crowd::new(sessions);
    crowd.grow(sessions);
    crowd
}

fn crowd(mut crowd: Crowd, sessions: u32, replies: bool) -> Loop {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut draw = move || Session(random.next_u32() % sessions);
    let frames: Vec<_> = (0..DRAWN)
        .map(|_| match replies {
            false => crowd.request(draw()),
            true => crowd.reply(draw()),
        })
        .collect();
    let mut at = 0;
    Box::new(move || {
        let mut sent = 0;
        for _ in 0..64 {
            sent += crowd.pass(&frames[at..at + IN_FLIGHT]);
            at = (at + IN_FLIGHT) % DRAWN;
        }
        assert_eq!(sent, 64 * IN_FLIGHT, "nothing is lost");
        sent
    })
}
