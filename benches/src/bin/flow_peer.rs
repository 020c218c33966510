//! Our side of `benches/peers/hash.sh`: `flow_peer KEYS` prints million look-ups a second of CPU time in a table of so many
//! connections, and the sum of what was found, which must be the peer's too.

use std::time::Duration;

use benches::cpu_time;
use router_core::table::flow::{FlowKey, FlowTable};

/// Measured at least so long.
const TIME: Duration = Duration::from_millis(300);
/// Look-ups of a round.
const ASKED: u64 = 1 << 20;
const BATCH: usize = 64;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (rate, sum) = match *words {
        [n] => flows(n.parse().map_err(|e| format!("{n}: {e}"))?),
        _ => return Err("usage: flow_peer KEYS".into()),
    };
    println!("ours {rate:.2} {sum}");
    Ok(())
}

/// Millions a second of what `round` does a number of.
fn rate(mut round: impl FnMut() -> u64) -> f64 {
    let begin = cpu_time();
    let mut done = 0;
    loop {
        done += round();
        let spent = cpu_time().saturating_sub(begin);
        if spent >= TIME {
            return done as f64 / spent.as_secs_f64() / 1e6;
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn flows(count: u32) -> (f64, u64) {
    let key = |n: u64| FlowKey([mixed(2 * n + 1), mixed(2 * n + 2)]);
    let mut table = FlowTable::new(count as usize, 1);
    for n in 0..count {
        table.insert(key(n.into()), n).expect("within the capacity");
    }
    let asked: Vec<FlowKey> = (0..ASKED)
        .map(|n| key(mixed(n ^ 0x5eed) % u64::from(count)))
        .collect();
    let mut values = [None; BATCH];
    let mut sum = 0;
    let rate = rate(|| {
        sum = 0;
        for keys in asked.chunks(BATCH) {
            table.get_batch(keys, &mut values);
            sum += values.iter().flatten().map(|&n| u64::from(n)).sum::<u64>();
        }
        ASKED
    });
    (rate, sum)
}
