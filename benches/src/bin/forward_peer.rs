//! Our side of `benches/peers/forward.sh`: `forward_peer FRAMES [LEN]` prints its name, million packets a second of
//! processor time through a whole router, and how many were forwarded in the last pass.

use std::time::Duration;

use benches::flight::Flight;
use rustix::time::{ClockId, clock_gettime};

const TURN: Duration = Duration::from_millis(300);

fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    let part = |n: i64| u64::try_from(n).expect("a clock that began at zero");
    Duration::from_secs(part(t.tv_sec)) + Duration::from_nanos(part(t.tv_nsec))
}

fn main() -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize, default: Option<usize>| match words.get(n) {
        Some(word) => word.parse().map_err(|e| format!("{word}: {e}")),
        None => default.ok_or_else(|| "usage: forward_peer FRAMES [LEN]".into()),
    };
    let (frames, len) = (number(0, None)?, number(1, Some(60))?);
    let mut flight = Flight::cluster(frames, len);
    flight.pass();
    let began = cpu_time();
    let (mut packets, mut last) = (0, 0);
    let mut spent = Duration::ZERO;
    while spent < TURN {
        last = flight.pass();
        packets += last;
        spent = cpu_time().saturating_sub(began);
    }
    println!(
        "ours {:.2} {last}",
        packets as f64 / spent.as_secs_f64() / 1e6
    );
    Ok(())
}
